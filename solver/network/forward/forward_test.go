package forward_test

import (
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/solver/network/forward"
)

const f64 = dtypes.Float64

func TestIndependentOutputIsZero(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		require.Equal(t, []float64{0, 0, 0}, run(t, b, func(g *graph.Graph) node {
			return jvp(graph.Sin(wave(g, f64, 2, 3)), wave(g, f64, 1, 3))
		}))
		require.Equal(t, []float64{0, 0, 0}, run(t, b, func(g *graph.Graph) node {
			x := wave(g, f64, 1, 3)
			return jvp(graph.Sin(graph.StopGradient(x)), x)
		}))
		require.Equal(t, []float64{0, 0, 0}, run(t, b, func(g *graph.Graph) node {
			x := wave(g, f64, 1, 3)
			return forward.JVP([]node{graph.Sin(x)}, []node{x}, []node{nil})[0]
		}))
	})
}

func TestSeveralOutputsAndInputs(t *testing.T) {
	b := backendtest.Go(t)
	require.InDeltaSlice(t, []float64{2*10 + 3*100, 100, 1}, run(t, b, func(g *graph.Graph) node {
		x, y := graph.Const(g, 3.0), graph.Const(g, 2.0)
		dx, dy := graph.Const(g, 10.0), graph.Const(g, 100.0)
		tangents := forward.JVP([]node{graph.Mul(x, y), y, graph.Div(x, x)}, []node{x, y}, []node{dx, dy})
		return graph.Stack([]node{tangents[0], tangents[1], graph.AddScalar(tangents[2], 1)}, 0)
	}), 1e-12)
}

// An input is a cut: what it is computed from reaches the output only by other ways.
func TestIntermediateInput(t *testing.T) {
	b := backendtest.Go(t)
	require.Equal(t, []float64{7 * 3}, run(t, b, func(g *graph.Graph) node {
		x := graph.Const(g, 3.0)
		y := graph.Sin(x)
		return forward.JVP([]node{graph.Mul(x, y)}, []node{y}, []node{graph.Const(g, 7.0)})[0]
	}))
	require.InDeltaSlice(t, []float64{5}, run(t, b, func(g *graph.Graph) node {
		x := graph.Const(g, 3.0)
		y := graph.StopGradient(graph.Square(x))
		z := graph.Add(y, graph.MulScalar(x, 0))
		return forward.JVP([]node{z}, []node{x, y}, []node{graph.Const(g, 1.0), graph.Const(g, 5.0)})[0]
	}), 1e-12, "a stop on an input itself does not matter")
}

// Nodes that no tangent reaches are not cloned: the bias of a layer costs nothing where only the kernel moves.
func TestZeroTangentsCostNothing(t *testing.T) {
	run(t, backendtest.Go(t), func(g *graph.Graph) node {
		x, w := wave(g, f64, 1, 4, 3), wave(g, f64, 2, 3, 2)
		constant := graph.Exp(graph.Sin(wave(g, f64, 3, 4, 2)))
		y := graph.Add(graph.Mul(graph.MatMul(x, w), constant), constant)
		tangent := wave(g, f64, 4, 3, 2)
		before := int(g.LastNode().Id())
		dy := forward.JVP([]node{y}, []node{w}, []node{tangent})[0]
		require.LessOrEqual(t, int(g.LastNode().Id())-before, 2, "a product and a factor")
		return dy
	})
}

func TestWrongArguments(t *testing.T) {
	g := func(build func(x, integer node)) func(g *graph.Graph) node {
		return func(g *graph.Graph) node {
			build(wave(g, f64, 1, 3), graph.Const(g, []int32{1, 2, 3}))
			return graph.ScalarZero(g, f64)
		}
	}
	for message, build := range map[string]func(x, integer node){
		"forward: 1 inputs and 2 tangents": func(x, _ node) { forward.JVP([]node{x}, []node{x}, []node{x, x}) },
		"and its tangent":                  func(x, _ node) { forward.JVP([]node{x}, []node{x}, []node{graph.ReduceAllSum(x)}) },
		"is given twice":                   func(x, _ node) { forward.JVP([]node{x}, []node{x, x}, []node{x, x}) },
		"has no tangent":                   func(x, i node) { forward.JVP([]node{x}, []node{i}, []node{i}) },
	} {
		require.ErrorContains(t, failure(backendtest.Go(t), g(build)), message)
	}
}

func TestRefusals(t *testing.T) {
	// Within closures only graph.Const makes constants: others are shared with the enclosing function, which fails.
	scalar := func(g *graph.Graph) node { return graph.ReduceAllSum(wave(g, f64, 1, 3)) }
	constant := func(g *graph.Graph, value float64) *graph.Function {
		return graph.NewClosure(g, func(g *graph.Graph) []node { return []node{graph.Const(g, value)} })
	}
	branch := func(x node) node {
		g := x.Graph()
		return graph.If(graph.LessThan(x, graph.Const(g, 1e3)), constant(g, 1), constant(g, 2))[0]
	}
	loop := func(x node) node {
		g := x.Graph()
		state := shapes.Make(f64)
		condition := graph.NewClosure(g, func(g *graph.Graph) []node {
			return []node{graph.LessThan(graph.Parameter(g, "x", state), graph.Const(g, 10.0))}
		})
		body := graph.NewClosure(g, func(g *graph.Graph) []node {
			return []node{graph.Add(graph.Parameter(g, "x", state), graph.Const(g, 1.0))}
		})
		return graph.While(condition, body, x)[0]
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for op, build := range map[string]func(g *graph.Graph) node{
			"If":    func(g *graph.Graph) node { x := scalar(g); return jvp(branch(x), x) },
			"While": func(g *graph.Graph) node { x := scalar(g); return jvp(loop(x), x) },
			"Sort":  func(g *graph.Graph) node { x := wave(g, f64, 1, 3); return jvp(graph.Sort(x, 0, true), x) },
			"Call": func(g *graph.Graph) node {
				square := graph.NewFunction(g, "square", func(g *graph.Graph) []node {
					return []node{graph.Square(graph.Parameter(g, "x", shapes.Make(f64)))}
				})
				x := scalar(g)
				return jvp(square.Call(x)[0], x)
			},
			"ReduceWindow": func(g *graph.Graph) node {
				x := wave(g, f64, 1, 4)
				return jvp(graph.BackendReduceWindow(x, compute.ReduceOpProduct, []int{2}, []int{1}, nil, nil, nil), x)
			},
		} {
			refused := refusal(t, b, build)
			require.Equal(t, op, refused.Op)
			require.Contains(t, refused.Node, "Node #")
			require.Contains(t, refused.Error(), "forward: operation "+op+" has no forward derivative, at Node #")
			require.NotEmpty(t, refused.Reason)
		}

		// All of them are named, each kind once.
		err := failure(b, func(g *graph.Graph) node {
			x := wave(g, f64, 1, 4)
			y := graph.Sort(graph.Sin(graph.Sort(x, 0, true)), 0, true)
			return jvp(graph.BackendReduceWindow(y, compute.ReduceOpProduct, []int{2}, []int{1}, nil, nil, nil), x)
		})
		require.Equal(t, 2, strings.Count(err.Error(), "has no forward derivative"))
		require.ErrorContains(t, err, "operation Sort")
		require.ErrorContains(t, err, "operation ReduceWindow")

		// What no tangent reaches is not refused.
		require.InDeltaSlice(t, []float64{10}, run(t, b, func(g *graph.Graph) node {
			before := branch(graph.Const(g, 1.0)) // is 1, and cannot have read x
			x, constant := graph.Const(g, 3.0), graph.Const(g, 9.5)
			y := graph.Add(graph.Mul(graph.Mul(x, before), loop(constant)), graph.StopGradient(branch(x)))
			return forward.JVP([]node{y}, []node{x}, []node{graph.DivScalar(graph.ScalarOne(g, f64), 1.05)})[0]
		}), 1e-12)
		require.Equal(t, []float64{0}, run(t, b, func(g *graph.Graph) node {
			x := graph.Const(g, 3.0)
			return forward.JVP([]node{loop(graph.Exp(x))}, []node{x}, []node{nil})[0]
		}))
	})
}
