package forward

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// Every operation of GoMLX has a rule, if only one that refuses. If this fails, an upgrade brought a new one.
func TestEveryOperationHasARule(t *testing.T) {
	operations := append(graph.NodeTypeValues(), graph.NodeTypeCall, graph.NodeTypeSort, graph.NodeTypeWhile, graph.NodeTypeIf)
	for _, operation := range operations {
		require.NotNilf(t, ruleOf(operation), "no rule for %s", operationName(operation))
	}
	require.Nil(t, ruleOf(graph.NodeType(len(graph.NodeTypeValues()))), "the enumeration ends here")
	require.Nil(t, ruleOf(graph.NodeTypeIf+1), "operations outside the enumeration end here")
}

// Fused operations that nothing built a composition for.
func TestFusedOperationsAlone(t *testing.T) {
	for name, fused := range map[string]func(x *graph.Node) (fused, plain *graph.Node){
		"softmax": func(x *graph.Node) (fused, plain *graph.Node) {
			return graph.BackendFusedSoftmax(x, 0), graph.Div(graph.Exp(x), graph.ReduceAndKeep(graph.Exp(x), graph.ReduceSum, 0))
		},
		"GELU": func(x *graph.Node) (fused, plain *graph.Node) {
			return graph.BackendFusedGelu(x, true), graph.Mul(x, graph.MulScalar(graph.OnePlus(graph.Erf(graph.DivScalar(x, math.Sqrt2))), 0.5))
		},
		"approximate GELU": func(x *graph.Node) (fused, plain *graph.Node) {
			return graph.BackendFusedGelu(x, false), activation.GeluApproximate(x)
		},
		"dense": func(x *graph.Node) (fused, plain *graph.Node) {
			fused = graph.BackendFusedDense(x, x, nil, compute.DenseConfig{Activation: compute.ActivationSilu, WeightLayout: compute.DenseLayoutOutputsInput})
			return fused, activation.Swish(graph.Einsum("ij,kj->ik", x, x))
		},
	} {
		exec := graph.MustNewExec(backendtest.Go(t), func(g *graph.Graph) []*graph.Node {
			x := graph.Sin(graph.IotaFull(g, shapes.Make(dtypes.Float64, 3, 3)))
			f, p := fused(x)
			return JVP([]*graph.Node{f, p}, []*graph.Node{x}, []*graph.Node{graph.Cos(graph.MulScalar(x, 5))})
		})
		tangents := exec.MustCall()
		require.InDeltaSlice(t, tensors.MustCopyFlatData[float64](tangents[1]), tensors.MustCopyFlatData[float64](tangents[0]), 1e-12, name)
		exec.Finalize()
	}
}

func TestSettings(t *testing.T) {
	exec := graph.MustNewExec(backendtest.Go(t), func(g *graph.Graph) *graph.Node {
		x := graph.IotaFull(g, shapes.Make(dtypes.Float64, 2, 4, 4, 1))
		y := graph.MaxPool(x).Window(2).PaddingPerDim([][2]int{{0, 1}, {2, 0}}).Done()
		require.Equal(t, []int{1, 2, 2, 1}, integers(y, "windowDimensions"))
		require.Equal(t, []int{0, 0, 0, 1, 2, 0, 0, 0}, integers(y, "paddings"))
		require.Empty(t, integers(y, "windowDilations"))
		require.Equal(t, "ReduceOpMax", "ReduceOp"+setting(y, "reductionType"))
		require.PanicsWithError(t, (&UnsupportedError{Op: "ReduceWindow", Node: y.String(), Reason: "GoMLX no longer prints its colour"}).Error(),
			func() { setting(y, "colour") })
		return y
	})
	defer exec.Finalize()
	exec.MustCall()
}
