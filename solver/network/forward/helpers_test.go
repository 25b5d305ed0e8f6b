package forward_test

import (
	"errors"
	"flag"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/solver/network/forward"
	"github.com/symaudit/symaudit/solver/network/partial"
)

// TestMain has XLA compile without optimising, which takes half the time; benchmarks are compiled as usual.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" && os.Getenv("XLA_FLAGS") == "" {
		if err := os.Setenv("XLA_FLAGS", "--xla_backend_optimization_level=0"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

type node = *graph.Node

// function is what a case differentiates, of float inputs of any precision.
type function = func(in []node) node

// testCase checks one operation or layer at inputs without structure in [-1, 1].
type testCase struct {
	name       string
	inputs     [][]int // dimensions
	f          function
	noAdjoint  bool // GoMLX has no gradient of it, or a wrong one
	xlaAdjoint bool // the same, but for XLA
	noNumbers  bool // the derivative differs from finite differences on purpose
}

// wave fills a shape with values in [-1, 1] that look random and are the same each time. No two are near each other.
func wave(g *graph.Graph, dtype dtypes.DType, phase float64, dimensions ...int) node {
	shape := shapes.Make(dtypes.Float64, dimensions...)
	index := graph.IotaFull(g, shapes.Make(dtypes.Float64, shape.Size()))
	values := graph.Sin(graph.AddScalar(graph.MulScalar(index, 12.9898), phase))
	return graph.ConvertDType(graph.Reshape(values, dimensions...), dtype)
}

func inner(a, b node) node { return graph.ReduceAllSum(graph.Mul(a, b)) }

func size(a node) node { return graph.Sqrt(inner(a, a)) }

// relative is ||a - b|| / ||b||.
func relative(a, b node) node {
	return graph.Div(size(graph.Sub(a, b)), graph.MaxScalar(size(b), 1e-300))
}

// realized makes a real vector of a complex one.
func realized(y node) node {
	if y.DType().IsComplex() {
		return graph.Concatenate([]node{graph.Reshape(graph.Real(y), -1), graph.Reshape(graph.Imag(y), -1)}, 0)
	}
	return y
}

// derivative returns f and its directional derivative at the inputs of a case, in a precision.
func (c testCase) derivative(g *graph.Graph, dtype dtypes.DType) (inputs, tangents []node, y, dy node) {
	for i, dimensions := range c.inputs {
		inputs = append(inputs, wave(g, dtype, 0.5+float64(i), dimensions...))
		tangents = append(tangents, wave(g, dtype, 7.1+float64(i), dimensions...))
	}
	y = realized(c.f(inputs))
	return inputs, tangents, y, forward.JVP([]node{y}, inputs, tangents)[0]
}

// along is f at the inputs moved by step times the tangents.
func (c testCase) along(inputs, tangents []node, step float64) node {
	moved := make([]node, len(inputs))
	for i := range inputs {
		moved[i] = graph.Add(inputs[i], graph.MulScalar(tangents[i], step))
	}
	return realized(c.f(moved))
}

// errors of the derivative in float64: against central differences, against reverse mode, and of float32 against it.
func (c testCase) errors(g *graph.Graph) node {
	errors, _ := c.measured(g)
	return errors
}

// measured also splits both derivatives in two stages.
func (c testCase) measured(g *graph.Graph) (errors node, linear stages) {
	inputs, tangents, y, dy := c.derivative(g, dtypes.Float64)
	linear = stages{inputs: inputs, tangents: tangents, outputs: []node{dy}}
	zero := graph.ScalarZero(g, dtypes.Float64)
	numbers, adjoint := zero, zero
	if !c.noNumbers {
		const step = 1e-5 // truncation and rounding are both about 1e-10
		difference := graph.Sub(c.along(inputs, tangents, step), c.along(inputs, tangents, -step))
		numbers = relative(dy, graph.DivScalar(difference, 2*step))
	}
	if !c.noAdjoint {
		u := wave(g, dtypes.Float64, 3.3, y.Shape().Dimensions...)
		products := zero
		gradients := graph.Gradient(inner(u, y), inputs...)
		linear.cotangent, linear.outputs = u, append(linear.outputs, gradients...)
		for i, gradient := range gradients {
			products = graph.Add(products, inner(gradient, tangents[i]))
		}
		adjoint = graph.Div(graph.Abs(graph.Sub(products, inner(u, dy))), graph.Mul(size(u), size(dy)))
	}
	_, _, _, single := c.derivative(g, dtypes.Float32)
	linear.split = partial.New(linear.outputs, linear.unknown(), inputs)
	return graph.Stack([]node{numbers, adjoint, relative(graph.ConvertDType(single, dtypes.Float64), dy), size(dy)}, 0), linear
}

// stages are the derivative of a case and its gradients, [outputs], in two stages.
type stages struct {
	inputs, tangents []node
	cotangent        node // nil without gradients
	outputs          []node
	split            *partial.Split
}

func (s stages) unknown() []node {
	if s.cotangent == nil {
		return s.tangents
	}
	return append(slices.Clone(s.tangents), s.cotangent)
}

// results are what the second stage should give, and what it takes.
func (s stages) results() []node { return slices.Concat(s.outputs, s.split.Residuals) }

// errors of the second stage, given the results.
func (s stages) errors(results []node) node {
	g := results[0].Graph()
	values := map[graph.NodeId]node{}
	fill := func(nodes []node, phase float64) {
		for i, node := range nodes {
			values[node.Id()] = wave(g, node.DType(), phase+float64(i), node.Shape().Dimensions...)
		}
	}
	fill(s.inputs, 0.5)
	fill(s.tangents, 7.1)
	if s.cotangent != nil {
		fill([]node{s.cotangent}, 3.3)
	}
	expected, residuals := results[:len(s.outputs)], results[len(s.outputs):]
	for i, node := range s.split.Residuals {
		values[node.Id()] = residuals[i]
	}
	worst := graph.ScalarZero(g, dtypes.Float64)
	for i, y := range s.split.Emit(g, s.outputs, func(node *graph.Node) *graph.Node { return values[node.Id()] }) {
		worst = graph.Max(worst, relative(y, expected[i]))
	}
	return worst
}

// secondErrors are those of the second stages of cases, in a program of its own that takes the results of the first.
func secondErrors(t *testing.T, b compute.Backend, cases []stages, results []*tensors.Tensor) []float64 {
	t.Helper()
	var errors []float64
	failed := exceptions.TryCatch[error](func() {
		exec := graph.MustNewExec(b, func(args []node) node {
			worst := make([]node, len(cases))
			for i, c := range cases {
				count := len(c.results())
				worst[i], args = c.errors(args[:count]), args[count:]
			}
			return graph.Stack(worst, 0)
		})
		defer exec.Finalize()
		errors = tensors.MustCopyFlatData[float64](exec.MustCall(results)[0])
	})
	require.NoError(t, failed)
	return errors
}

// check runs cases on a backend as one program, which XLA compiles faster than one each, and reports each as a subtest.
func check(t *testing.T, b compute.Backend, cases []testCase) {
	var building string
	linear := make([]stages, len(cases))
	var results []*tensors.Tensor
	var second []float64
	err := exceptions.TryCatch[error](func() {
		exec := graph.MustNewExec(b, func(g *graph.Graph) []node {
			errors := make([]node, len(cases))
			for i, c := range cases {
				building = c.name
				c.noAdjoint = c.noAdjoint || c.xlaAdjoint && b == backendtest.Go(t)
				errors[i], linear[i] = c.measured(g)
			}
			return append(errors, allResults(linear)...)
		})
		defer exec.Finalize()
		results = exec.MustCall()
		second = secondErrors(t, b, linear, results[len(cases):])
	})
	require.NoErrorf(t, err, "last built: %s", building)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) { requireSmall(t, results[i], second[i]) })
	}
}

func allResults(cases []stages) (all []node) {
	for _, c := range cases {
		all = append(all, c.results()...)
	}
	return all
}

// requireSmall judges what testCase.errors returns, and the error of the second stage.
func requireSmall(t *testing.T, result *tensors.Tensor, second float64) {
	t.Helper()
	errors := tensors.MustCopyFlatData[float64](result)
	require.Falsef(t, math.IsNaN(errors[0]+errors[1]+errors[2]+errors[3]), "%v", errors)
	require.Greater(t, errors[3], 0.0, "a case with a zero derivative tests nothing")
	require.Less(t, errors[0], 1e-7, "against finite differences")
	require.Less(t, errors[1], 1e-12, "against reverse mode")
	require.Less(t, errors[2], 2e-4, "in float32")
	require.Less(t, second, 1e-12, "in two stages")
}

// run executes a graph without inputs and returns its result, flattened.
func run(t testing.TB, b compute.Backend, build func(g *graph.Graph) node) []float64 {
	t.Helper()
	var result []float64
	err := exceptions.TryCatch[error](func() {
		exec := graph.MustNewExec(b, build)
		defer exec.Finalize()
		result = tensors.MustCopyFlatData[float64](exec.MustCall()[0])
	})
	require.NoError(t, err)
	return result
}

// failure builds a graph that must not build.
func failure(b compute.Backend, build func(g *graph.Graph) node) error {
	return exceptions.TryCatch[error](func() {
		exec := graph.MustNewExec(b, build)
		defer exec.Finalize()
		exec.MustCall()
	})
}

// refusal is the failure that JVP panics with where it has no rule.
func refusal(t testing.TB, b compute.Backend, build func(g *graph.Graph) node) *forward.UnsupportedError {
	t.Helper()
	err := failure(b, build)
	var refused *forward.UnsupportedError
	require.Truef(t, errors.As(err, &refused), "%v", err)
	return refused
}
