package models_test

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// smallUNet, smallViT and smallFNO are the smallest nets with every kind of layer; their grid is a multiple of 2, of at least 3.
func smallUNet() models.UNet {
	return models.UNet{Widths: []int{4, 6}, Blocks: 1, Groups: 2, Heads: 2}
}

func smallViT() models.ViT {
	return models.ViT{Patch: 2, Width: 6, Layers: 1, Heads: 2, Expansion: 2}
}

func smallFNO() models.FNO { return models.FNO{Width: 3, Modes: 2, Layers: 2} }

func smallModels() map[string]models.Fn {
	return map[string]models.Fn{"unet": smallUNet().Fn(), "vit": smallViT().Fn(), "fno": smallFNO().Fn()}
}

// spaces are grids of each number of axes that small models suit.
var spaces = [][]int{{8}, {4, 4}, {4, 6, 4}}

type modelInSpace struct {
	name, model string
	fn          models.Fn
	grid        []int
}

// smallModelsInSpaces yields every small model in one, two and three dimensions.
func smallModelsInSpaces() iter.Seq[modelInSpace] {
	return func(yield func(modelInSpace) bool) {
		noPosition := smallViT()
		noPosition.NoPosition = true
		for name, fn := range map[string]models.Fn{"unet": smallUNet().Fn(), "vit": noPosition.Fn(), "fno": smallFNO().Fn()} {
			for _, grid := range spaces {
				if !yield(modelInSpace{fmt.Sprint(name, " on ", grid), name, fn, grid}) {
					return
				}
			}
		}
	}
}

// state returns a random batch on a grid.
func state(seed uint64, batch int, grid []int) *tensors.Tensor {
	return random(seed, slices.Concat([]int{batch}, grid, []int{4})...)
}

// random returns a float64 tensor of standard normal values that depend on the seed only.
func random(seed uint64, dimensions ...int) *tensors.Tensor {
	source := rand.New(rand.NewPCG(seed, 0))
	values := make([]float64, shapes.Make(dtypes.Float64, dimensions...).Size())
	for i := range values {
		values[i] = source.NormFloat64()
	}
	return tensors.FromFlatDataAndDimensions(values, dimensions...)
}

func seededStore(seed int64) *model.Store {
	store := model.NewStore()
	store.RootScope().SetParam(model.ParamInitialSeed, seed)
	return store
}

// call runs fn on x with the variables of store, which it creates where they are missing.
func call(t require.TestingT, b compute.Backend, store *model.Store, fn models.Fn, x *tensors.Tensor) *tensors.Tensor {
	out, err := model.CallOnce(b, store, fn, x)
	require.NoError(t, err)
	return out
}

// buildError is what building fn's graph on a float64 [1, height, width, channels] panics with.
func buildError(t *testing.T, b compute.Backend, fn models.Fn, dimensions ...int) error {
	t.Helper()
	_, err := model.CallOnce(b, model.NewStore(), fn, random(1, dimensions...))
	return err
}

// buildGraph creates fn's variables in store by building its graph; nothing is compiled or run.
func buildGraph(b compute.Backend, store *model.Store, fn models.Fn, dtype dtypes.DType, dimensions ...int) {
	g := graph.NewGraph(b, "variables only")
	defer g.Finalize()
	model.SetStore(g, store)
	fn(store.RootScope(), graph.Parameter(g, "x", shapes.Make(dtype, dimensions...)))
}

// commutators returns, for each element g, the largest difference of f(gx) from g f(x), relative to the largest change f
// makes to x. It calls f once, on all gx as one batch, because XLA compiles a net for seconds.
func commutators(t *testing.T, b compute.Backend, store *model.Store, fn models.Fn, x *tensors.Tensor, elements ...orbits.Element) []float64 {
	t.Helper()
	field := orbits.EulerField()
	out, err := model.CallOnceN(b, store, func(scope *model.Scope, x *graph.Node) (differences, change *graph.Node) {
		batch := []*graph.Node{x}
		for _, g := range elements {
			batch = append(batch, g.Apply(field, x))
		}
		y := graph.Split(fn(scope, graph.Concatenate(batch, 0)), 0, len(batch))
		largest := make([]*graph.Node, len(elements))
		for i, g := range elements {
			largest[i] = graph.ReduceAllMax(graph.Abs(graph.Sub(y[i+1], g.Apply(field, y[0]))))
		}
		return graph.Stack(largest, 0), graph.ReduceAllMax(graph.Abs(graph.Sub(y[0], x)))
	}, x)
	require.NoError(t, err)
	change := out[1].Value().(float64)
	require.NotZero(t, change, "the model is the identity: its symmetry says nothing")
	relative := out[0].Value().([]float64)
	for i := range relative {
		relative[i] /= change
	}
	return relative
}

func maxDifference(t require.TestingT, a, b *tensors.Tensor) float64 {
	require.True(t, a.Shape().Equal(b.Shape()), "%s against %s", a.Shape(), b.Shape())
	x, y := tensors.MustCopyFlatData[float64](a), tensors.MustCopyFlatData[float64](b)
	largest := 0.0
	for i := range x {
		largest = max(largest, math.Abs(x[i]-y[i]))
	}
	return largest
}

// apply returns gx.
func apply(t require.TestingT, b compute.Backend, field orbits.Field, g orbits.Element, x *tensors.Tensor) *tensors.Tensor {
	out, err := graph.CallOnce(b, func(x *graph.Node) *graph.Node { return g.Apply(field, x) }, x)
	require.NoError(t, err)
	return out
}
