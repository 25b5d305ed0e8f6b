package forward_test

import (
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// of makes a case of a function of one matrix.
func of(name string, f func(x node) node) testCase {
	return testCase{name: name, inputs: [][]int{{3, 4}}, f: func(in []node) node { return f(in[0]) }}
}

// ofTwo makes a case of a function of two matrices.
func ofTwo(name string, f func(a, b node) node) testCase {
	return testCase{name: name, inputs: [][]int{{3, 4}, {3, 4}}, f: func(in []node) node { return f(in[0], in[1]) }}
}

func (c testCase) withoutAdjoint() testCase { c.noAdjoint = true; return c }

func (c testCase) withAdjointOnXLA() testCase { c.xlaAdjoint = true; return c }

func (c testCase) withoutNumbers() testCase { c.noNumbers = true; return c }

func (c testCase) at(dimensions ...[]int) testCase { c.inputs = dimensions; return c }

// positive maps to (0.37, 2.72).
func positive(x node) node { return graph.Exp(x) }

func TestUnary(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			of("Abs", graph.Abs),
			of("Neg", graph.Neg),
			of("Exp", graph.Exp),
			of("Expm1", graph.Expm1).withoutAdjoint(),
			of("Log", func(x node) node { return graph.Log(graph.AddScalar(x, 1.5)) }),
			of("Log1p", func(x node) node { return graph.Log1p(graph.MulScalar(x, 0.5)) }),
			of("Sin", graph.Sin),
			of("Cos", graph.Cos),
			of("Tanh", graph.Tanh),
			of("Sqrt", func(x node) node { return graph.Sqrt(positive(x)) }),
			of("Rsqrt", func(x node) node { return graph.Rsqrt(positive(x)) }).withoutAdjoint(),
			of("Erf", graph.Erf),
			of("Logistic", graph.Sigmoid),
			of("Square", graph.Square),
			of("Identity", graph.Identity).withoutAdjoint(),
			of("CustomGradient", func(x node) node {
				return graph.Sin(graph.IdentityWithCustomGradient(x, func(_, v node) node { return graph.MulScalar(v, 3) }))
			}).withoutAdjoint(),
			of("Floor and Ceil and Round and Sign", func(x node) node {
				constant := graph.Add(graph.Floor(x), graph.Add(graph.Ceil(x), graph.Add(graph.Round(x), graph.Sign(x))))
				return graph.Add(x, constant)
			}).withoutAdjoint(),
			of("ConvertDType", func(x node) node {
				if x.DType() == dtypes.Float32 {
					return graph.ConvertDType(graph.Sin(graph.ConvertDType(x, dtypes.Float64)), dtypes.Float32)
				}
				return graph.ConvertDType(graph.Sin(x), dtypes.Float64)
			}),
			of("ConvertDType through integers", func(x node) node {
				whole := graph.ConvertDType(graph.ConvertDType(graph.MulScalar(x, 10), dtypes.Int32), x.DType())
				return graph.Mul(x, whole)
			}).withoutAdjoint(),
			of("OptimizationBarrier", func(x node) node { return graph.Sin(graph.OptimizationBarrier(x)) }),
			of("Checkpoint", func(x node) node { return graph.Sin(graph.Tanh(x.Checkpoint()).StopCheckpoint()) }),
			of("SchedulingBarrier", func(x node) node { return graph.Mul(x, graph.SchedulingBarrier(graph.Sin(x), x)) }),
		})
	})
}

func TestBinary(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		var cases []testCase
		operations := map[string]func(a, b node) node{
			"Add":   graph.Add,
			"Sub":   graph.Sub,
			"Mul":   graph.Mul,
			"Div":   func(a, b node) node { return graph.Div(a, positive(b)) },
			"Pow":   func(a, b node) node { return graph.Pow(positive(a), b) },
			"Max":   graph.Max,
			"Min":   graph.Min,
			"Rem":   func(a, b node) node { return graph.Mod(graph.MulScalar(a, 5), positive(b)) },
			"Atan2": graph.Atan2,
			"Where": func(a, b node) node { return graph.Where(graph.GreaterThan(a, b), graph.Sin(a), graph.Cos(b)) },
		}
		for name, f := range operations {
			noAdjoint := name == "Rem" || name == "Atan2" // GoMLX has no gradients of these
			left := func(a, b node) node { return f(a, graph.StopGradient(b)) }
			right := func(a, b node) node { return f(graph.StopGradient(a), b) }
			both := []testCase{
				ofTwo(name, f),
				ofTwo(name+" of its first input", func(a, b node) node { return left(a, wave(a.Graph(), a.DType(), 2, 3, 4)) }),
				ofTwo(name+" of its second input", func(a, b node) node { return right(wave(a.Graph(), a.DType(), 2, 3, 4), b) }),
			}
			// XLA compiles these slowly; how operands broadcast does not depend on the operation.
			if name != "Where" && (b == backendtest.Go(t) || name == "Sub" || name == "Div" || name == "Min") {
				both = append(both,
					ofTwo(name+" with a scalar first", f).at(nil, []int{3, 4}),
					ofTwo(name+" with a scalar second", f).at([]int{3, 4}, nil),
					ofTwo(name+" with a row", f).at([]int{3, 4}, []int{1, 4}),
					ofTwo(name+" with a column", f).at([]int{3, 1}, []int{3, 4}),
					ofTwo(name+" of a column and a constant", func(a, b node) node { return f(a, wave(a.Graph(), a.DType(), 2, 3, 4)) }).at([]int{3, 1}, []int{1}),
					ofTwo(name+" of a constant and a row", func(a, b node) node { return f(wave(a.Graph(), a.DType(), 2, 3, 4), b) }).at([]int{1}, []int{1, 4}),
				)
			}
			for _, c := range both {
				c.noAdjoint = noAdjoint
				cases = append(cases, c)
			}
		}
		check(t, b, append(cases,
			of("PowScalar", func(x node) node { return graph.PowScalar(x, 3) }),
			ofTwo("Clamp", func(a, b node) node { return graph.Clip(graph.MulScalar(a, 3), graph.Neg(positive(b)), positive(b)) }).withoutAdjoint(),
			ofTwo("Clamp to scalars", func(a, b node) node { return graph.Clip(a, graph.MulScalar(b, -0.5), graph.MulScalar(b, 0.5)) }).at([]int{3, 4}, nil).withoutAdjoint(),
			of("ClipScalar", func(x node) node { return graph.ClipScalar(x, -0.5, 0.5) }),
			of("Where with scalars", func(x node) node {
				return graph.Where(graph.GreaterThan(x, graph.ScalarZero(x.Graph(), x.DType())), graph.ReduceAllSum(x), graph.ScalarOne(x.Graph(), x.DType()))
			}).withoutAdjoint(),
			of("Where against a scalar", func(x node) node {
				return graph.Where(graph.GreaterThan(x, graph.ScalarZero(x.Graph(), x.DType())), x, graph.ReduceAllSum(x))
			}),
		))
	})
}

// Of 4,096 of them XLA's CPU plugin makes Inf where it leaves sums to the library YNNPACK; see package sums.
func TestNormalisationOfManyValues(t *testing.T) {
	tangents := func(g *graph.Graph) node {
		x := wave(g, dtypes.Float32, 1, 4, 1024, 32)
		centred := graph.Sub(x, graph.ReduceAndKeep(x, graph.ReduceMean, -1))
		variance := graph.ReduceAndKeep(graph.Mul(centred, centred), graph.ReduceMean, -1)
		tangent := jvp(graph.Div(centred, graph.Sqrt(graph.AddScalar(variance, 1e-5))), x)
		return graph.ConvertDType(graph.ReduceSum(graph.Mul(tangent, tangent), -1), f64)
	}
	want := run(t, backendtest.Go(t), tangents)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		require.InEpsilonSlice(t, want, run(t, b, tangents), 1e-3)
	})
}
