package models

import (
	"math"
	"slices"

	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// spectral multiplies each mode of x [batch, space..., channel] by a matrix of its own, a complex one, and drops all others: a
// convolution with a periodic kernel whose spectrum is learned.
//
// Its variables in scope are "real" [mode, channel, channel] and "imaginary", the same without mode 0, whose amplitude is real. Of k
// and -k the one is a mode whose last component that is not 0 is positive; modes are ordered by the last component, then the one
// before. An amplitude is a sum over all cells.
func spectral(scope *model.Scope, x *graph.Node, modes int) *graph.Node {
	return inFloat32(x, func(x *graph.Node) *graph.Node { return spectralOf(scope, x, modes) })
}

func spectralOf(scope *model.Scope, x *graph.Node, modes int) *graph.Node {
	width, z := channelsOf(x), toModes(x, modes)
	count := z.re.Shape().Dimensions[2]
	initial := normal(1 / math.Sqrt(2*float64(width))) // keeps the variance of a mode
	re := variable(scope, x, "real", initial, count, width, width)
	im := variable(scope, x, "imaginary", initial, count-1, width, width)
	ofZero := graph.Zeros(x.Graph(), shapes.Make(x.DType(), 1, width, width))
	weights := complexNode{re, graph.Concatenate([]*graph.Node{ofZero, im}, 0)}
	z = z.times(weights, func(z, weights *graph.Node) *graph.Node {
		return graph.TransposeAllAxes(graph.DotGeneral(z, []int{1}, []int{2}, weights, []int{1}, []int{0}), 1, 2, 0)
	})
	return fromModes(z, gridOf(x), modes)
}

// toModes returns the amplitudes [batch, channel, mode] of the modes of x [batch, space..., channel]: without its other modes, x is the
// sum of Re(amplitude exp(i k x)).
func toModes(x *graph.Node, modes int) complexNode {
	g, cells := gridOf(x), 1
	for _, size := range g {
		cells *= size
	}
	// What is left of the space axes stays before the channels; those of frequencies come behind, the last axis's first.
	last := len(g)
	wave := waves(x, g, last, modes, -1)
	parts := graph.Split(sumOver(last, 0)(x, graph.Concatenate([]*graph.Node{wave.re, wave.im}, 1)), -1, 2) // x is real: one product
	z := complexNode{parts[0], parts[1]}
	for axis := last - 1; axis >= 1; axis-- {
		z = z.times(waves(x, g, axis, modes, -1), sumOver(axis, 0))
	}
	zero := modeZero(g, modes)
	half := func(z *graph.Node) *graph.Node {
		z = graph.SliceAxis(graph.Reshape(z, x.Shape().Dimensions[0], channelsOf(x), -1), 2, graph.AxisRangeToEnd(zero))
		scale := slices.Repeat([]float64{2 / float64(cells)}, z.Shape().Dimensions[2]) // for k and -k
		scale[0] /= 2
		return graph.Mul(z, alongChannels(graph.ConstAs(x, scale), z))
	}
	return complexNode{half(z.re), half(z.im)}
}

// fromModes undoes toModes on the states that have no other modes.
func fromModes(z complexNode, g grid, modes int) *graph.Node {
	batch, channels := z.re.Shape().Dimensions[0], z.re.Shape().Dimensions[1]
	full := []int{batch, channels}
	for axis := len(g); axis >= 1; axis-- {
		full = append(full, modes-lowest(g, axis, modes))
	}
	if zero := modeZero(g, modes); zero > 0 {
		nothing := graph.Zeros(z.re.Graph(), shapes.Make(z.re.DType(), batch, channels, zero))
		z.re = graph.Concatenate([]*graph.Node{nothing, z.re}, 2)
		z.im = graph.Concatenate([]*graph.Node{nothing, z.im}, 2)
	}
	z.re, z.im = graph.Reshape(z.re, full...), graph.Reshape(z.im, full...)
	// The first space axis's frequencies are the last axis but for those of space that are done.
	last := len(g)
	for axis := 1; axis < last; axis++ {
		z = z.times(waves(z.re, g, axis, modes, 1), sumOver(2+last-axis, 1))
	}
	wave := waves(z.re, g, last, modes, 1) // the result is real: one product
	x := sumOver(2, 1)(graph.Concatenate([]*graph.Node{z.re, z.im}, 2), graph.Concatenate([]*graph.Node{wave.re, graph.Neg(wave.im)}, 1))
	return graph.TransposeAllAxes(x, append(append([]int{0}, []int{2, 3, 4}[:last]...), 1)...)
}

// sumOver multiplies by a matrix and sums over an axis of z and one of the matrix, whose other one becomes the last of the result.
func sumOver(axis, ofMatrix int) func(z, matrix *graph.Node) *graph.Node {
	return func(z, matrix *graph.Node) *graph.Node {
		return graph.DotGeneral(z, []int{axis}, nil, matrix, []int{ofMatrix}, nil)
	}
}

// lowest is the first frequency that is kept along a space axis, counted from 1. Of k and -k one is enough: the last axis has none
// below 0.
func lowest(g grid, axis, modes int) int {
	if axis == len(g) {
		return 0
	}
	return 1 - modes
}

// modeZero is the place of k = 0 among the frequencies of all axes, the last axis's counted first: those before it are each -k of one
// behind it.
func modeZero(g grid, modes int) int {
	others := 1
	for range g[1:] {
		others *= 2*modes - 1
	}
	return (others - 1) / 2
}

// waves is exp(sign 2 pi i k j / size) [size, frequency] in the cells j of a space axis, for the frequencies k that are kept along it.
func waves(like *graph.Node, g grid, axis, modes, sign int) complexNode {
	size := g[axis-1]
	re, im := make([][]float64, size), make([][]float64, size)
	for j := range size {
		for k := lowest(g, axis, modes); k < modes; k++ {
			sin, cos := math.Sincos(2 * math.Pi * float64(sign*k*j%size) / float64(size)) // as exact for many turns as for one
			re[j], im[j] = append(re[j], cos), append(im[j], sin)
		}
	}
	return complexNode{graph.ConstAs(like, re), graph.ConstAs(like, im)}
}

// complexNode is a complex number in two real nodes.
type complexNode struct{ re, im *graph.Node }

// times multiplies complex numbers by a product of real ones.
func (a complexNode) times(b complexNode, product func(a, b *graph.Node) *graph.Node) complexNode {
	return complexNode{
		graph.Sub(product(a.re, b.re), product(a.im, b.im)),
		graph.Add(product(a.re, b.im), product(a.im, b.re)),
	}
}
