package models

import (
	"math"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
)

// xlaName is what go-xla's backend calls itself; importing it for the constant would require a C compiler.
const xlaName = "xla"

// Conv convolves x [batch, space..., channel], of one to three space axes, on the periodic grid with a kernel of the same
// size along each, adds a bias, and keeps every stride-th cell of each axis: [batch, space/stride..., outChannels]. Shifts
// of x by multiples of stride commute with it exactly.
//
// Its variables in scope are "weights" [kernel..., channel, outChannels] and "biases" [outChannels], on every
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
	requireState("convolution", x, dtypes.BFloat16)
	grid, inChannels := gridOf(x), channelsOf(x)
	if !divides(stride, grid) {
		exceptions.Panicf("models: convolution in %q: stride %d does not divide the grid %s", scope.Scope(), stride, grid)
	}
	if kernel/2 > slices.Min(grid) {
		exceptions.Panicf("models: convolution in %q: kernel %d is too large for the grid %s", scope.Scope(), kernel, grid)
	}
	var dimensions []int
	inputs := inChannels // of an output cell
	for range grid {
		dimensions, inputs = append(dimensions, kernel), inputs*kernel
	}
	deviation := math.Sqrt(2 / float64(inputs)) // for half-open activations (He et al. 2015)
	weights := variable(scope, x, "weights", normal(scale*deviation), append(dimensions, inChannels, outChannels)...)
	lower := convolveAsProduct
	if x.Graph().Backend().Name() == xlaName {
		lower = convolveStock
	}
	return addBiases(scope, lower(x, weights, stride))
}

// convolveStock is the circular convolution by GoMLX's own operation.
func convolveStock(x, weights *graph.Node, stride int) *graph.Node {
	margin := weights.Shape().Dimensions[0] / 2
	for axis := range gridOf(x) {
		x = padCircular(x, 1+axis, margin)
	}
	return graph.Convolve(x, weights).NoPadding().Strides(stride).Done()
}

// convolveAsProduct is the circular convolution as one matrix product: every output cell's neighbourhood is laid out
// along the channel axis, one space axis after the other, the last first, which copies in two dimensions 2 kernel slices
// instead of kernel^2.
func convolveAsProduct(x, weights *graph.Node, stride int) *graph.Node {
	kernel := weights.Shape().Dimensions[0]
	for axis := len(gridOf(x)); axis >= 1; axis-- {
		x = gatherNeighbours(x, axis, kernel, stride)
	}
	return product(x, graph.Reshape(weights, channelsOf(x), channelsOf(weights)))
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
	return graph.Concatenate(neighbours, -1)
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
