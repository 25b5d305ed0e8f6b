package forward_test

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/nn"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// Faults of GoMLX v0.28.3 that this package's users meet. Where one of these tests fails, an upgrade has mended the fault:
// drop the test and the warnings about it.

// GoMLX's reverse mode is wrong for undilated convolutions with an even kernel.
func TestEvenKernelGradientIsWrong(t *testing.T) {
	c := convolution("", 2, []int{2, 2, 2, 4}, func(c *graph.ConvolutionBuilder) *graph.ConvolutionBuilder {
		return c.NoPadding().Strides(2)
	})
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		e := run(t, b, func(g *graph.Graph) node { return c.errors(g) })
		require.Less(t, e[0], 1e-7, "forward mode agrees with finite differences")
		require.Greater(t, e[1], 1e-3, "reverse mode is no longer wrong")
	})
}

// The Go backend's reverse mode of overlapping slices is wrong.
func TestGatherSlicesGradientIsWrongOnGo(t *testing.T) {
	c := of("", func(x node) node {
		return graph.GatherSlices(x, []int{1}, graph.Const(x.Graph(), [][]int32{{0}, {2}}), []int{2}, true)
	})
	e := run(t, backendtest.Go(t), func(g *graph.Graph) node { return c.errors(g) })
	require.Less(t, e[0], 1e-7, "forward mode agrees with finite differences")
	require.Greater(t, e[1], 1e-3, "reverse mode is no longer wrong")
}

// The Go backend's fused layer norm takes an offset without a gain for the gain. Forward and reverse mode differentiate
// what it should be.
func TestFusedLayerNormWithoutGainIsWrong(t *testing.T) {
	fused := func(g *graph.Graph) node {
		return nn.LayerNorm(wave(g, f64, 1, 3, 4), []int{1}, 1e-3, nil, graph.Const(g, []float64{1, 2, 3, 4}), nil)
	}
	wrong := run(t, backendtest.Go(t), fused)
	t.Setenv(graph.FusionEnv, "0")
	require.Greater(t, math.Abs(run(t, backendtest.Go(t), fused)[1]-wrong[1]), 0.1)
}

// The Go backend's fused dense drops activations that it does not know. Forward mode differentiates what it computes,
// reverse mode what it should.
func TestFusedDenseDropsActivations(t *testing.T) {
	fused := func(g *graph.Graph) node {
		x, weights := wave(g, f64, 1, 3, 4), wave(g, f64, 2, 4, 2)
		y := nn.Dense(x, weights, nil, compute.DenseLayoutInputOutputs, activation.TypeSigmoid)
		return graph.Sub(y, graph.MatMul(x, weights))
	}
	require.InDelta(t, 0, run(t, backendtest.Go(t), fused)[0], 1e-12)
}
