package models

import (
	"math"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
)

const (
	rowAxis     = 1
	columnAxis  = 2
	channelAxis = 3
)

// xlaName is what go-xla's backend calls itself; importing it for the constant would require a C compiler.
const xlaName = "xla"

// Conv convolves x [batch, y, x, channel] on the periodic grid with a square kernel, adds a bias, and keeps every
// stride-th row and column: [batch, y/stride, x/stride, outChannels]. Shifts of x by multiples of stride commute with
// it exactly.
//
// Its variables in scope are "weights" [kernel, kernel, channel, outChannels] and "biases" [outChannels], on every
// backend alike. XLA runs GoMLX's own convolution. On other backends the convolution becomes one matrix product, on the
// pure Go one many times faster. Both agree to rounding.
//
// It panics for an even kernel, because GoMLX's reverse-mode gradient of such a convolution is wrong, for a grid that
// stride does not divide, and for a kernel that wraps around the grid more than once.
func Conv(scope *model.Scope, x *graph.Node, outChannels, kernel, stride int) *graph.Node {
	return scaledConv(scope, x, outChannels, kernel, stride, 1)
}

// scaledConv is Conv with initial weights times scale.
func scaledConv(scope *model.Scope, x *graph.Node, outChannels, kernel, stride int, scale float64) *graph.Node {
	if kernel <= 0 || kernel%2 == 0 {
		exceptions.Panicf("models: convolution in %q: kernel %d is not odd and positive; GoMLX's gradient of an even kernel is wrong, use 1, 3 or 5",
			scope.Scope(), kernel)
	}
	requireState("convolution", x)
	_, height, width, inChannels := sizes(x)
	if stride <= 0 || height%stride != 0 || width%stride != 0 {
		exceptions.Panicf("models: convolution in %q: stride %d does not divide the grid %dx%d", scope.Scope(), stride, height, width)
	}
	if kernel/2 > min(height, width) {
		exceptions.Panicf("models: convolution in %q: kernel %d is too large for the grid %dx%d", scope.Scope(), kernel, height, width)
	}
	deviation := math.Sqrt(2 / float64(kernel*kernel*inChannels)) // for half-open activations (He et al. 2015)
	weights := variable(scope, x, "weights", normal(scale*deviation), kernel, kernel, inChannels, outChannels)
	lower := convolveAsProduct
	if x.Graph().Backend().Name() == xlaName {
		lower = convolveStock
	}
	y := lower(x, weights, stride)
	return graph.Add(y, alongChannels(variable(scope, x, "biases", constant(0), outChannels), y))
}

// convolveStock is the circular convolution by GoMLX's own operation.
func convolveStock(x, weights *graph.Node, stride int) *graph.Node {
	margin := weights.Shape().Dimensions[0] / 2
	x = padCircular(padCircular(x, rowAxis, margin), columnAxis, margin)
	return graph.Convolve(x, weights).NoPadding().Strides(stride).Done()
}

// convolveAsProduct is the circular convolution as one matrix product: every output cell's neighbourhood is laid out
// along the channel axis, first along its row, then across rows, which copies 2 kernel slices instead of kernel^2.
func convolveAsProduct(x, weights *graph.Node, stride int) *graph.Node {
	kernel := weights.Shape().Dimensions[0]
	x = gatherNeighbours(x, columnAxis, kernel, stride)
	x = gatherNeighbours(x, rowAxis, kernel, stride)
	inputs, outputs := x.Shape().Dimensions[channelAxis], weights.Shape().Dimensions[3]
	return product(x, graph.Reshape(weights, inputs, outputs))
}

// gatherNeighbours stacks, for every stride-th cell along axis, the kernel cells centred on it along the channel axis.
func gatherNeighbours(x *graph.Node, axis, kernel, stride int) *graph.Node {
	if kernel == 1 && stride == 1 {
		return x
	}
	size := x.Shape().Dimensions[axis]
	padded := padCircular(x, axis, kernel/2)
	neighbours := make([]*graph.Node, kernel)
	for k := range neighbours {
		neighbours[k] = graph.SliceAxis(padded, axis, graph.AxisRange(k, k+size).Stride(stride))
	}
	if kernel == 1 {
		return neighbours[0]
	}
	return graph.Concatenate(neighbours, channelAxis)
}

// padCircular extends axis by margin cells at both ends with those from the other end.
func padCircular(x *graph.Node, axis, margin int) *graph.Node {
	if margin == 0 {
		return x
	}
	size := x.Shape().Dimensions[axis]
	before := graph.SliceAxis(x, axis, graph.AxisRange(size-margin, size))
	after := graph.SliceAxis(x, axis, graph.AxisRange(0, margin))
	return graph.Concatenate([]*graph.Node{before, x, after}, axis)
}

// alongChannels reshapes a vector so that it broadcasts over x, whose last axis is the channels.
func alongChannels(vector, x *graph.Node) *graph.Node {
	dimensions := make([]int, x.Rank())
	for axis := range dimensions {
		dimensions[axis] = 1
	}
	dimensions[x.Rank()-1] = vector.Shape().Size()
	return graph.Reshape(vector, dimensions...)
}

// product multiplies the last axis of x by a matrix [in, out].
func product(x, matrix *graph.Node) *graph.Node {
	dimensions := x.Shape().Clone().Dimensions
	last := len(dimensions) - 1
	flat := graph.Reshape(x, x.Shape().Size()/dimensions[last], dimensions[last])
	dimensions[last] = matrix.Shape().Dimensions[1]
	return graph.Reshape(graph.DotProduct(flat, matrix), dimensions...)
}
