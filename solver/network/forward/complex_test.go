package forward_test

import (
	"maps"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/solver/network/forward"
)

// complexCases are of operations on complex numbers, which the Go backend does not have. Those of which GoMLX has no gradient, or a
// wrong one, are without adjoint.
func complexCases() []testCase {
	matrices, cubes := [][]int{{3, 4}, {3, 4}}, [][]int{{2, 3, 4}, {2, 3, 4}}
	complexOf := func(in []node) node { return graph.Complex(in[0], in[1]) }
	swapped := func(in []node) node { return graph.Complex(in[1], positive(in[0])) }
	unary := func(name string, f func(z node) node) testCase {
		return testCase{name: name, inputs: matrices, f: func(in []node) node { return f(complexOf(in)) }}
	}
	binary := func(name string, f func(z, w node) node) testCase {
		return testCase{name: name, inputs: matrices, f: func(in []node) node { return f(complexOf(in), swapped(in)) }}
	}
	return []testCase{
		unary("Complex", func(z node) node { return z }),
		unary("Conj", graph.Conj),
		unary("Abs", graph.Abs),
		unary("ConvertDType", func(z node) node { return graph.ConvertDType(graph.Real(z), z.DType()) }),
		binary("Add and Sub", func(z, w node) node { return graph.Sub(graph.Add(z, w), graph.Conj(w)) }),
		binary("Mul", graph.Mul).withoutAdjoint(),
		unary("Mul by itself", graph.Square).withoutAdjoint(),
		ofTwo("Mul of a row", func(x, row node) node {
			return graph.Mul(graph.Complex(x, graph.Sin(x)), graph.Complex(row, graph.Cos(row)))
		}).at([]int{3, 4}, []int{1, 4}).withoutAdjoint(),
		binary("Mul by a real number", func(z, w node) node { return graph.Mul(z, graph.ConvertDType(graph.Real(w), z.DType())) }).withoutAdjoint(),
		binary("Div", graph.Div).withoutAdjoint(),
		binary("Pow", func(z, w node) node { return graph.Pow(graph.AddScalar(z, 3), w) }).withoutAdjoint(),
		binary("Einsum", func(z, w node) node { return graph.Einsum("ij,kj->ik", z, w) }).withoutAdjoint(),
		ofTwo("convolution", func(x, kernel node) node {
			return graph.Convolve(graph.Complex(x, graph.Sin(x)), graph.Complex(kernel, graph.Cos(kernel))).NoPadding().Done()
		}).at([]int{2, 5, 2}, []int{3, 2, 2}).withoutAdjoint(),
		unary("Exp", graph.Exp).withoutAdjoint(),
		unary("Log", func(z node) node { return graph.Log(graph.AddScalar(z, 3)) }).withoutAdjoint(),
		unary("Log1p", func(z node) node { return graph.Log1p(graph.AddScalar(z, 1.5)) }).withoutAdjoint(),
		unary("Sqrt", func(z node) node { return graph.Sqrt(graph.AddScalar(z, 3)) }).withoutAdjoint(),
		unary("FFT", func(z node) node { return graph.FFT(z) }),
		unary("InverseFFT", func(z node) node { return graph.InverseFFT(z) }),
		of("RealFFT", func(x node) node { return graph.RealFFT(x) }),
		of("RealFFT of an odd number", func(x node) node { return graph.RealFFT(x) }).at([]int{3, 5}),
		unary("InverseRealFFT", func(z node) node { return graph.InverseRealFFT(z) }),
		unary("InverseRealFFT to an odd number", func(z node) node { return graph.InverseRealFFT(z, 7) }),
		unary("FFT of two axes", func(z node) node { return graph.FFT(z, 3, 4) }).at(cubes...).withoutAdjoint(),
		unary("InverseFFT of two axes", func(z node) node { return graph.InverseFFT(z, 3, 4) }).at(cubes...).withoutAdjoint(),
		of("RealFFT of two axes", func(x node) node { return graph.RealFFT(x, 3, 4) }).at(cubes[0]).withoutAdjoint(),
		of("RealFFT of two axes, an odd number", func(x node) node { return graph.RealFFT(x, 4, 3) }).at([]int{2, 4, 3}).withoutAdjoint(),
		unary("InverseRealFFT of two axes", func(z node) node { return graph.InverseRealFFT(z, 3, 6) }).at(cubes...).withoutAdjoint(),
		unary("InverseRealFFT of two axes to an odd number", func(z node) node { return graph.InverseRealFFT(z, 3, 7) }).at(cubes...).withoutAdjoint(),
		unary("InverseRealFFT of three axes", func(z node) node { return graph.InverseRealFFT(z, 2, 3, 6) }).at(cubes...).withoutAdjoint(),
		of("power spectrum", func(x node) node { return graph.Square(graph.Abs(graph.RealFFT(x))) }),
	}
}

// scalarParts are complex numbers with one part for all, whose gradient GoMLX fails to build.
func scalarParts() []testCase {
	return []testCase{
		of("Complex of one part", func(x node) node { return graph.Complex(x, graph.Scalar(x.Graph(), x.DType(), 2)) }),
		ofTwo("Complex of a scalar", graph.Complex).at(nil, []int{3, 4}),
	}
}

func TestComplex(t *testing.T) {
	correctComplexGradients(t)
	forward.CorrectComplexGradients() // changes nothing
	cases := append(complexCases(), scalarParts()...)
	for i := range cases {
		cases[i].noAdjoint = false
	}
	check(t, backendtest.XLA(t), cases)
}

// GoMLX's own gradients of what is corrected are wrong or fail, and all others are right. Where this fails, an upgrade has mended a
// fault: CorrectComplexGradients must leave it out.
func TestComplexGradientsAreWrong(t *testing.T) {
	cases := complexCases()
	errors := run(t, backendtest.XLA(t), func(g *graph.Graph) node {
		all := make([]node, len(cases))
		for i, c := range cases {
			c.noAdjoint, c.noNumbers = false, true
			all[i] = c.errors(g)
		}
		return graph.Stack(all, 0)
	})
	for i, c := range cases {
		if adjoint := errors[4*i+1]; c.noAdjoint {
			require.Greater(t, adjoint, 1e-3, c.name)
		} else {
			require.Less(t, adjoint, 1e-12, c.name)
		}
	}
	for _, c := range scalarParts() {
		require.ErrorContains(t, failure(backendtest.XLA(t), func(g *graph.Graph) node { return c.errors(g) }), "invalid shape", c.name)
	}
}

// The gradient of a program of real numbers is the same graph, node by node.
func TestRealNumbersKeepTheirGradients(t *testing.T) {
	printed := func() (text []string) {
		run(t, backendtest.Go(t), func(g *graph.Graph) node {
			x := wave(g, dtypes.Float64, 1, 3, 4)
			y := graph.Einsum("ij,kj->ik", graph.Div(graph.Exp(x), graph.AddScalar(graph.Square(x), 2)), graph.Log1p(graph.Abs(x)))
			y = graph.Sqrt(graph.AddScalar(graph.Pow(graph.Abs(y), graph.Abs(y)), 1))
			gradient := graph.Gradient(graph.ReduceAllSum(y), x)[0]
			for _, node := range g.Nodes() {
				text = append(text, node.String())
			}
			return gradient
		})
		return text
	}
	own := printed()
	correctComplexGradients(t)
	require.Equal(t, own, printed())
}

// correctComplexGradients does so until the end of a test.
func correctComplexGradients(t *testing.T) {
	before := maps.Clone(graph.VJPRegistration)
	t.Cleanup(func() { maps.Copy(graph.VJPRegistration, before) })
	forward.CorrectComplexGradients()
}
