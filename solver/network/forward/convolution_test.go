package forward_test

import (
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors/images"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/solver/network/forward"
)

func jvp(y, x node) node {
	return forward.JVP([]node{y}, []node{x}, []node{wave(x.Graph(), x.DType(), 7.1, x.Shape().Dimensions...)})[0]
}

// convolution makes a case of an image [2, 7, 8, channels] and a kernel.
func convolution(name string, channels int, kernel []int, options func(c *graph.ConvolutionBuilder) *graph.ConvolutionBuilder) testCase {
	return ofTwo(name, func(x, kernel node) node { return options(graph.Convolve(x, kernel)).Done() }).at([]int{2, 7, 8, channels}, kernel)
}

func TestConvolution(t *testing.T) {
	type builder = graph.ConvolutionBuilder
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			convolution("PadSame", 3, []int{3, 3, 3, 4}, func(c *builder) *builder { return c.PadSame() }),
			convolution("NoPadding", 3, []int{3, 3, 3, 4}, func(c *builder) *builder { return c.NoPadding() }),
			convolution("Strides", 2, []int{3, 3, 2, 4}, func(c *builder) *builder { return c.PadSame().Strides(2) }),
			convolution("Strides per axis", 2, []int{3, 1, 2, 4}, func(c *builder) *builder { return c.NoPadding().StridePerAxis(2, 1) }),
			convolution("Dilations", 2, []int{3, 3, 2, 4}, func(c *builder) *builder { return c.PadSame().Dilations(2) }),
			convolution("Even kernel with dilations", 2, []int{2, 2, 2, 4}, func(c *builder) *builder { return c.PadSame().Dilations(2) }),
			convolution("Even kernel", 2, []int{2, 2, 2, 4}, func(c *builder) *builder { return c.NoPadding().Strides(2) }).withoutAdjoint(),
			convolution("Uneven padding", 2, []int{3, 3, 2, 4}, func(c *builder) *builder { return c.PaddingPerDim([][2]int{{2, 0}, {0, 1}}) }),
			convolution("Channel groups", 4, []int{3, 3, 2, 6}, func(c *builder) *builder { return c.PadSame().ChannelGroupCount(2) }),
			convolution("Batch groups", 3, []int{3, 3, 3, 4}, func(c *builder) *builder { return c.PadSame().BatchGroupCount(2) }),
			convolution("Input dilations", 3, []int{3, 3, 3, 2}, func(c *builder) *builder { return c.PadSame().InputDilationPerAxis(2, 1) }).withoutAdjoint(),
			ofTwo("Channels first", func(x, kernel node) node {
				return graph.Convolve(x, kernel).ChannelsAxis(images.ChannelsFirst).PadSame().Done()
			}).at([]int{2, 3, 6, 5}, []int{4, 3, 3, 3}),
			ofTwo("One dimension", func(x, kernel node) node { return graph.Convolve(x, kernel).PadSame().Done() }).at([]int{2, 7, 3}, []int{5, 3, 2}),
			ofTwo("Kernel alone", func(_, kernel node) node {
				return graph.Convolve(wave(kernel.Graph(), kernel.DType(), 1, 2, 7, 8, 2), kernel).PadSame().Done()
			}).at([]int{1}, []int{3, 3, 2, 4}),
		})
	})
}

func TestPooling(t *testing.T) {
	image := []int{2, 7, 8, 3}
	sum, largest := compute.ReduceOpSum, compute.ReduceOpMax
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			of("MaxPool", func(x node) node { return graph.MaxPool(graph.Sin(x)).Window(2).Done() }).at(image),
			of("MaxPool overlapping and padded", func(x node) node { return graph.MaxPool(x).Window(3).Strides(2).PadSame().Done() }).at(image),
			of("MinPool", func(x node) node { return graph.MinPool(x).Window(3).Strides(2).PadSame().Done() }).at(image),
			of("SumPool", func(x node) node { return graph.SumPool(graph.Sin(x)).Window(3).Strides(2).PadSame().Done() }).at(image).withAdjointOnXLA(),
			of("MeanPool", func(x node) node { return graph.MeanPool(graph.Sin(x)).Window(2).Done() }).at(image),
			of("MeanPool padded", func(x node) node { return graph.MeanPool(graph.Sin(x)).Window(3).PadSame().Done() }).at(image).withAdjointOnXLA(),
			of("MaxPool channels first", func(x node) node {
				return graph.MaxPool(x).ChannelsAxis(images.ChannelsFirst).WindowPerAxis(2, 1).Done()
			}).at([]int{2, 3, 6, 5}),
			of("ReduceWindow with dilations", func(x node) node {
				return graph.BackendReduceWindow(x, largest, []int{2, 3}, []int{1, 1}, []int{2, 1}, []int{1, 2}, [][2]int{{1, 1}, {0, 2}})
			}).at([]int{4, 7}).withoutAdjoint(),
			of("ReduceWindow sum with dilations", func(x node) node {
				return graph.BackendReduceWindow(x, sum, []int{2, 3}, []int{1, 1}, []int{2, 1}, []int{1, 2}, nil)
			}).at([]int{4, 7}).withoutAdjoint(),
			of("ReduceWindow with default strides", func(x node) node {
				return graph.BackendReduceWindow(x, largest, []int{2, 3}, nil, nil, nil, nil)
			}).at([]int{4, 7}).withoutAdjoint(),
		})
	})
}

// The tangent of a gradient is a Hessian-vector product, so the operations of reverse mode have rules too.
func TestHessianProduct(t *testing.T) {
	gradient := func(f function) function {
		return func(in []node) node { return graph.Reshape(graph.Gradient(graph.ReduceAllSum(f(in)), in[0])[0], -1) }
	}
	network := func(in []node) node {
		y := graph.Sin(graph.Convolve(in[0], in[1]).PadSame().Strides(2).Done())
		return graph.Square(graph.MaxPool(y).Window(2).Done())
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		check(t, b, []testCase{
			{name: "convolution and max-pooling", inputs: [][]int{{1, 8, 8, 2}, {3, 3, 2, 3}}, f: gradient(network), noAdjoint: true},
			{name: "softmax", inputs: [][]int{{3, 4}}, f: gradient(func(in []node) node { return graph.Square(graph.Softmax(in[0], -1)) }), noAdjoint: true},
		})
	})
}

func TestTangentHasTheDTypeOfItsNode(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		run(t, b, func(g *graph.Graph) node {
			x := wave(g, dtypes.Float32, 1, 1, 5, 5, 2)
			tangent := jvp(graph.Convolve(x, wave(g, dtypes.Float32, 2, 3, 3, 2, 2)).Done(), x)
			require.Equal(t, dtypes.Float32, tangent.DType())
			return graph.ConvertDType(tangent, dtypes.Float64)
		})
	})
}
