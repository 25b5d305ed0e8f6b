package models_test

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

func goBackend() compute.Backend {
	b, err := gobackend.New("ops_sequential")
	if err != nil {
		panic(err)
	}
	return b
}

// uniformGas is a batch of one state at rest.
func uniformGas(size int) *tensors.Tensor {
	values := make([]float32, size*size*4)
	for i := 0; i < len(values); i += 4 {
		values[i], values[i+3] = 1, 2.5
	}
	return tensors.FromFlatDataAndDimensions(values, 1, size, size, 4)
}

func ExampleUNet_Fn() {
	store := model.NewStore()
	store.RootScope().SetParam(model.ParamInitialSeed, int64(1))
	next, err := model.CallOnce(goBackend(), store, models.TinyUNet().Fn(), uniformGas(16))
	fmt.Println(next.Shape(), store.NumParameters(), err)
	// Output: (Float32)[1, 16, 16, 4] 5456 <nil>
}

func ExampleViT_Fn() {
	store := model.NewStore()
	vit := models.TinyViT()
	vit.NoPosition = true
	next, err := model.CallOnce(goBackend(), store, vit.Fn(), uniformGas(16))
	fmt.Println(next.Shape(), store.NumParameters(), err)
	// Output: (Float32)[1, 16, 16, 4] 6608 <nil>
}

func ExampleFNO_Fn() {
	store := model.NewStore()
	store.RootScope().SetParam(model.ParamInitialSeed, int64(1))
	next, err := model.CallOnce(goBackend(), store, models.TinyFNO().Fn(), uniformGas(16))
	fmt.Println(next.Shape(), store.NumParameters(), err)
	// Output: (Float32)[1, 16, 16, 4] 5584 <nil>
}

// The number of space axes is that of the state.
func ExampleFNO_Fn_oneDimension() {
	wave := tensors.FromScalarAndDimensions[float32](1, 8, 64, 2) // eight samples of two channels on 64 cells
	next, err := model.CallOnce(goBackend(), model.NewStore(), models.FNO{Width: 16, Modes: 12, Layers: 4}.Fn(), wave)
	fmt.Println(next.Shape(), err)
	// Output: (Float32)[8, 64, 2] <nil>
}

func ExampleUNet_Validate() {
	fmt.Println(models.TinyUNet().Validate(18, 18))
	// Output: models: unet: grid 18x18 is not a multiple of 4, which 3 widths need; use another grid or fewer widths
}

func ExampleSymmetrize() {
	elements, err := orbits.D4().Elements(16, 16)
	if err != nil {
		panic(err)
	}
	equivariant := models.Symmetrize(models.TinyViT().Fn(), orbits.EulerField(), elements)
	next, err := model.CallOnce(goBackend(), model.NewStore(), equivariant, uniformGas(16))
	fmt.Println(next.Shape(), err)
	// Output: (Float32)[1, 16, 16, 4] <nil>
}

func ExampleConv() {
	blur := func(scope *model.Scope, x *graph.Node) *graph.Node { return models.Conv(scope, x, 8, 3, 2) }
	out, err := model.CallOnce(goBackend(), model.NewStore(), blur, uniformGas(16))
	fmt.Println(out.Shape(), err)
	// Output: (Float32)[1, 8, 8, 8] <nil>
}

func ExampleFitNormalization() {
	states := tensors.FromValue([][]float32{{1, 3, 0, 2}, {3, 0, 3, 4}})
	n, err := models.FitNormalization(orbits.EulerField(), states)
	fmt.Printf("%.3g %.3g %v\n", n.Mean, n.Scale, err)
	// Output: [2 0 0 3] [1 2.12 2.12 1] <nil>
}
