package partial_test

import (
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/solver/network/partial"
)

// That the second stage of derivatives is right is tested with the rules, in package forward, and with whole models, in package network.

type node = *graph.Node

// inGraph runs build in a graph of the Go backend, with x a parameter [4, 5] and v an unknown.
func inGraph(t *testing.T, build func(x, v node)) error {
	return exceptions.TryCatch[error](func() {
		g := graph.NewGraph(backendtest.Go(t), t.Name())
		defer g.Finalize()
		shape := shapes.Make(dtypes.Float64, 4, 5)
		x := graph.Parameter(g, "x", shape)
		build(x, graph.Zeros(g, shape))
	})
}

func TestResidualsAreFewAndSmall(t *testing.T) {
	for name, c := range map[string]struct {
		f         func(x, v node) node
		residuals []graph.NodeType
		bytes     int64
	}{
		"what is at hand": {func(x, v node) node { return graph.Mul(graph.AddScalar(graph.Mul(x, x), 2), v) }, nil, 0},
		"one for a value and its slope": {func(x, v node) node {
			y := graph.Tanh(x)
			return graph.Mul(graph.Mul(v, y), graph.OneMinus(graph.Square(y)))
		}, []graph.NodeType{graph.NodeTypeTanh}, 160},
		"before it is broadcast": {func(x, v node) node {
			mean := graph.ReduceAndKeep(x, graph.ReduceSum, 0)
			return graph.Mul(v, graph.BroadcastToShape(graph.MulScalar(mean, 0.5), v.Shape()))
		}, []graph.NodeType{graph.NodeTypeReduceSum}, 40},
		"two become one": {func(x, v node) node {
			return graph.Mul(v, graph.Mul(graph.Sin(x), graph.Cos(x)))
		}, []graph.NodeType{graph.NodeTypeMul}, 160},
		"not twice for a transposition": {func(x, v node) node {
			y := graph.Sin(x)
			return graph.MatMul(graph.Mul(v, y), graph.Transpose(y, 0, 1))
		}, []graph.NodeType{graph.NodeTypeSin}, 160},
		"a known output": {func(x, _ node) node { return graph.Exp(x) }, []graph.NodeType{graph.NodeTypeExp}, 160},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, inGraph(t, func(x, v node) {
				s := partial.New([]node{c.f(x, v)}, []node{v}, []node{x})
				var types []graph.NodeType
				for _, residual := range s.Residuals {
					types = append(types, residual.Type())
				}
				require.Equal(t, c.residuals, types)
				require.Equal(t, c.bytes, partial.Bytes(s.Residuals))
			}))
		})
	}
}

func TestSecondStageInAnotherGraph(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		var s *partial.Split
		var outputs []node
		var x, v node
		first := graph.MustNewExec(b, func(in node) []node {
			x, v = in, graph.Zeros(in.Graph(), in.Shape())
			outputs = []node{graph.Mul(graph.Exp(x), v), graph.Add(graph.Sin(v), graph.Log(x))}
			s = partial.New(outputs, []node{v}, []node{x})
			return s.Residuals
		})
		defer first.Finalize()
		residuals := first.MustCall([]float64{1, 2})
		require.Len(t, residuals, 2)
		require.Equal(t, s.Residuals[:1], s.ResidualsOf(outputs[:1]))
		require.Equal(t, s.Residuals[1:], s.ResidualsOf(outputs[1:]))
		for i, want := range [][]float64{{2.718281828459045 * 3, 7.38905609893065 * 4}, {0.1411200080598672, 0.6931471805599453 - 0.7568024953079282}} {
			second := graph.MustNewExec(b, func(residual, direction node) node {
				return s.Emit(residual.Graph(), outputs[i:i+1], func(node *graph.Node) *graph.Node {
					if node == v {
						return direction
					}
					require.Equal(t, s.Residuals[i], node)
					return residual
				})[0]
			})
			require.InDeltaSlice(t, want, tensors.MustCopyFlatData[float64](second.MustCall(residuals[i], []float64{3, 4})[0]), 1e-14)
			second.Finalize()
		}
	})
}

func TestRefusals(t *testing.T) {
	branch := func(x node) node {
		closure := graph.NewClosure(x.Graph(), func(g *graph.Graph) []node { return []node{graph.Const(g, 1.0)} })
		return graph.If(graph.Const(x.Graph(), true), closure, closure)[0]
	}
	require.ErrorContains(t, inGraph(t, func(x, v node) {
		partial.New([]node{graph.Mul(v, branch(x))}, []node{v}, []node{x})
	}), "follows an unknown node and may read it")
	require.NoError(t, inGraph(t, func(x, _ node) {
		before := branch(x)
		v := graph.Zeros(x.Graph(), x.Shape())
		require.Len(t, partial.New([]node{graph.Mul(v, before)}, []node{v}, []node{x}).Residuals, 1)
	}))
}
