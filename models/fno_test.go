package models

import (
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// Checkpoints hold these.
func TestVariablesOfFNO(t *testing.T) {
	for axes, modes := range []int{2, 5, 14} { // with 2 modes along an axis: (3^n + 1) / 2
		store := model.NewStore()
		x := normalTensor[float64](1, slices.Concat([]int{1}, repeated(4, axes+1), []int{5})...)
		layerOutput(t, backendtest.Go(t), store, x, FNO{Width: 3, Modes: 2, Layers: 1}.Fn())
		got := map[string][]int{}
		for v := range store.IterVariables() {
			if v.Trainable {
				got[v.Path()] = v.Shape().Dimensions
			}
		}
		require.Equal(t, map[string][]int{
			"/fno/input/weights": {5, 3}, "/fno/input/biases": {3},
			"/fno/layer_0/cell/weights": {3, 3}, "/fno/layer_0/cell/biases": {3},
			"/fno/layer_0/spectral/real": {modes, 3, 3}, "/fno/layer_0/spectral/imaginary": {modes - 1, 3, 3},
			"/fno/expand/weights": {3, 6}, "/fno/expand/biases": {6},
			"/fno/output/weights": {6, 5}, "/fno/output/biases": {5},
		}, got)
	}
}

// Without weights of modes, an FNO is a perceptron of each cell, whose last layer has no activation.
func TestFNOWithoutModesIsAPerceptron(t *testing.T) {
	c := FNO{Width: 3, Modes: 2, Layers: 2}
	b, x, store := backendtest.Go(t), normalTensor[float64](1, 1, 4, 4, 4), model.NewStore()
	store.RootScope().SetParam(model.ParamInitialSeed, int64(1))
	for _, layer := range []string{"layer_0", "layer_1"} {
		for part, count := range map[string]int{"real": 5, "imaginary": 4} {
			_, err := store.CreateVariable("/fno/"+layer+"/spectral/"+part, tensors.FromScalarAndDimensions(0.0, count, 3, 3))
			require.NoError(t, err)
		}
	}
	got := layerOutput(t, b, store, x, c.Fn())
	want := layerOutput(t, b, store, x, func(scope *model.Scope, x *graph.Node) *graph.Node {
		scope = scope.At("fno")
		y := gelu(dense(scope.At("layer_0").In("cell"), dense(scope.In("input"), x, 3, 1), 3, 1))
		y = gelu(dense(scope.In("expand"), dense(scope.At("layer_1").In("cell"), y, 3, 1), 6, 1))
		return graph.Add(x, dense(scope.In("output"), y, 4, outputInitialScale))
	})
	require.True(t, got.InDelta(want, 1e-14))
	require.False(t, got.InDelta(x, 1e-3))
}
