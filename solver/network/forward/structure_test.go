package forward_test

import (
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/symaudit/symaudit/internal/backendtest"
)

func TestShapes(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			of("Reshape", func(x node) node { return graph.Reshape(graph.Sin(x), 2, 6) }),
			of("Transpose", func(x node) node { return graph.Transpose(graph.Sin(x), 0, 1) }),
			of("BroadcastToDims", func(x node) node { return graph.BroadcastToDims(graph.Sin(x), 3, 4) }).at([]int{3, 1}),
			of("BroadcastPrefix", func(x node) node { return graph.BroadcastPrefix(graph.Sin(x), 2) }),
			of("Slice with strides", func(x node) node {
				return graph.Slice(graph.Sin(x), graph.AxisRange(1), graph.AxisRange(0, 4).Stride(2))
			}),
			of("Reverse", func(x node) node { return graph.Reverse(graph.Sin(x), 1) }).withoutAdjoint(),
			of("Pad", func(x node) node {
				return graph.Pad(graph.Sin(x), graph.Scalar(x.Graph(), x.DType(), 3), graph.PadAxis{Start: 1, Interior: 1}, graph.PadAxis{End: 2})
			}).withoutAdjoint(),
			ofTwo("Pad with a tangent", func(x, fill node) node {
				return graph.Pad(graph.Sin(x), fill, graph.PadAxis{Start: 1}, graph.PadAxis{Interior: 2})
			}).at([]int{3, 4}, nil).withoutAdjoint(),
			ofTwo("Concatenate", func(x, y node) node { return graph.Concatenate([]node{x, graph.Sin(y)}, 1) }),
			of("Concatenate with a constant", func(x node) node {
				return graph.Concatenate([]node{wave(x.Graph(), x.DType(), 1, 2, 4), graph.Sin(x)}, 0)
			}),
			ofTwo("Stack", func(x, y node) node { return graph.Stack([]node{x, graph.Sin(y)}, 1) }),
			of("TakeLowerTriangular", func(x node) node { return graph.TakeLowerTriangular(graph.Sin(x), 0) }),
			of("Shift", func(x node) node { return graph.Shift(graph.Sin(x), 1, graph.ShiftDirRight, 1) }),
		})
	})
}

// The Go backend has no dynamic slices.
func TestDynamicSlices(t *testing.T) {
	check(t, backendtest.XLA(t), []testCase{
		of("DynamicSlice", func(x node) node {
			start := []node{graph.Const(x.Graph(), int32(1)), graph.Const(x.Graph(), int32(2))}
			return graph.DynamicSlice(graph.Sin(x), start, []int{2, 2})
		}),
		ofTwo("DynamicUpdateSlice", func(x, update node) node {
			start := []node{graph.Const(x.Graph(), int32(1)), graph.Const(x.Graph(), int32(0))}
			return graph.DynamicUpdateSlice(graph.Sin(x), graph.Cos(update), start)
		}).at([]int{3, 4}, []int{2, 3}),
		ofTwo("DynamicUpdateSlice of a constant", func(_, update node) node {
			start := []node{graph.Const(update.Graph(), int32(1)), graph.Const(update.Graph(), int32(0))}
			return graph.DynamicUpdateSlice(wave(update.Graph(), update.DType(), 1, 3, 4), graph.Cos(update), start)
		}).at([]int{1}, []int{2, 3}),
	})
}

func TestReductions(t *testing.T) {
	cube := []int{3, 4, 5}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			of("ReduceSum", func(x node) node { return graph.ReduceSum(graph.Sin(x), 0, 2) }).at(cube),
			of("ReduceAllSum", func(x node) node { return graph.ReduceAllSum(graph.Sin(x)) }).at(cube),
			of("ReduceMean", func(x node) node { return graph.ReduceMean(graph.Sin(x), 1) }).at(cube),
			of("ReduceMax", func(x node) node { return graph.ReduceMax(graph.Sin(x), 0, 2) }).at(cube),
			of("ReduceMin", func(x node) node { return graph.ReduceMin(graph.Sin(x), 1) }).at(cube),
			of("ReduceAllMax", func(x node) node { return graph.ReduceAllMax(graph.Sin(x)) }).at(cube),
			of("ReduceMultiply", func(x node) node { return graph.ReduceMultiply(graph.Sin(x), 2) }).at(cube).withoutAdjoint(),
			of("ReduceMultiply of outer axes", func(x node) node { return graph.ReduceMultiply(graph.Exp(x), 0, 2) }).at(cube).withoutAdjoint(),
			of("ReduceAllMultiply", func(x node) node { return graph.ReduceAllMultiply(graph.Exp(x)) }).at(cube).withoutAdjoint(),
			of("ReduceMultiply with a zero", func(x node) node {
				return graph.ReduceMultiply(graph.Sub(x, graph.Slice(graph.StopGradient(x), graph.AxisRange(), graph.AxisElem(1))), 1)
			}).withoutAdjoint().withoutNumbers(),
			of("ReduceVariance", func(x node) node { return graph.ReduceVariance(x, 1) }).at(cube),
			of("CumSum", func(x node) node { return graph.CumSum(graph.Sin(x), 1) }).at(cube).withAdjointOnXLA(),
			of("L2Normalize", func(x node) node { return graph.L2Normalize(x, 1) }).at(cube),
			of("Softmax", func(x node) node { return graph.Softmax(graph.MulScalar(x, 3), 1) }).at(cube),
			of("Softmax of two axes", func(x node) node { return graph.Softmax(x, 1, 2) }).at(cube),
			of("LogSoftmax", func(x node) node { return graph.LogSoftmax(graph.MulScalar(x, 3), 1) }).at(cube),
			of("MaskedSoftmax", func(x node) node {
				return graph.MaskedSoftmax(x, graph.GreaterThan(x, graph.Scalar(x.Graph(), x.DType(), -0.5)), 1)
			}),
			of("Softplus", graph.Softplus),
			of("ArgMax", func(x node) node {
				return graph.Mul(x, graph.ReduceAllSum(graph.ConvertDType(graph.ArgMax(x, 1), x.DType())))
			}).withoutAdjoint(),
		})
	})
}

func TestProducts(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			ofTwo("MatMul", graph.MatMul).at([]int{3, 4}, []int{4, 5}),
			ofTwo("Einsum", func(x, y node) node { return graph.Einsum("bij,bkj->bik", x, graph.Sin(y)) }).at([]int{2, 3, 4}, []int{2, 5, 4}),
			ofTwo("DotGeneral with a constant", func(x, _ node) node {
				return graph.Einsum("ij,jk->ki", graph.Sin(x), wave(x.Graph(), x.DType(), 1, 4, 2))
			}).at([]int{3, 4}, []int{1}),
			of("product with itself", func(x node) node { return graph.Einsum("ij,kj->ik", x, x) }),
		})
	})
}

func TestIndexing(t *testing.T) {
	indices := func(x node) node { return graph.Const(x.Graph(), [][]int32{{2}, {0}, {2}, {1}}) }
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			of("Gather", func(x node) node { return graph.Gather(graph.Sin(x), indices(x)) }),
			of("GatherSlices", func(x node) node {
				return graph.GatherSlices(graph.Sin(x), []int{1}, graph.Const(x.Graph(), [][]int32{{0}, {2}}), []int{2}, true)
			}).withAdjointOnXLA(),
			ofTwo("ScatterSum", func(x, updates node) node {
				return graph.ScatterSum(graph.Sin(x), indices(x), graph.Cos(updates), false, false)
			}).at([]int{3, 4}, []int{4, 4}),
			of("Scatter", func(updates node) node {
				return graph.Scatter(indices(updates), graph.Sin(updates), shapes.Make(updates.DType(), 3, 4), false, false)
			}).at([]int{4, 4}),
			ofTwo("ScatterSum to a tangent", func(x, _ node) node {
				return graph.ScatterSum(graph.Sin(x), indices(x), wave(x.Graph(), x.DType(), 1, 4, 4), false, false)
			}).at([]int{3, 4}, []int{1}),
			ofTwo("ScatterMax", func(x, updates node) node { return graph.ScatterMax(x, indices(x), updates, false, false) }).at([]int{3, 4}, []int{4, 4}),
			ofTwo("ScatterMin", func(x, updates node) node { return graph.ScatterMin(x, indices(x), updates, false, false) }).at([]int{3, 4}, []int{4, 4}),
			of("OneHot", func(x node) node {
				return graph.Mul(x, graph.OneHot(graph.ArgMax(x, 1), 4, x.DType()))
			}),
		})
	})
}

// Where elements tie, finite differences say nothing; forward mode does what reverse mode transposes.
func TestTies(t *testing.T) {
	rounded := func(x node) node {
		return graph.Add(graph.StopGradient(graph.Round(x)), graph.Sub(x, graph.StopGradient(x)))
	}
	pair := func(f func(a, b node) node) func(a, b node) node {
		return func(a, b node) node { return f(rounded(a), rounded(b)) }
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			ofTwo("Max", pair(graph.Max)).withoutNumbers(),
			ofTwo("Min", pair(graph.Min)).withoutNumbers(),
			of("Abs", func(x node) node { return graph.Abs(rounded(x)) }).withoutNumbers(),
			of("ReduceMax", func(x node) node { return graph.ReduceMax(rounded(x), 1) }).withoutNumbers(),
			of("ReduceMin", func(x node) node { return graph.ReduceMin(rounded(x), 1) }).withoutNumbers(),
			of("MaxPool", func(x node) node { return graph.MaxPool(rounded(x)).Window(3).Strides(2).PadSame().Done() }).at([]int{1, 7, 6, 2}).withoutNumbers(),
			of("MaxPool of zeros beside padding", func(x node) node {
				return graph.MaxPool(graph.Neg(graph.Abs(rounded(x)))).Window(3).Strides(2).PadSame().Done()
			}).at([]int{1, 7, 6, 2}).withoutNumbers(),
			of("MinPool", func(x node) node { return graph.MinPool(rounded(x)).Window(3).Strides(2).PadSame().Done() }).at([]int{1, 7, 6, 2}).withoutNumbers(),
		})
	})
}

func TestIntegersHaveNoTangent(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		values := run(t, b, func(g *graph.Graph) node {
			x := wave(g, dtypes.Float64, 1, 5)
			index := graph.ArgMax(x, 0)
			return graph.ConvertDType(jvp(index, x), dtypes.Float64)
		})
		for _, value := range values {
			if value != 0 {
				t.Fatalf("tangent of an index is %g", value)
			}
		}
	})
}
