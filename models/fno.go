package models

import (
	"math"
	"slices"

	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// FNO is a Fourier neural operator (Li et al. 2021): layers that multiply the lowest Fourier modes of their input by learned
// matrices and add a map of each cell's channels. Nothing depends on position, so shifts by whole cells commute with it exactly;
// with what multiplies the modes, shifts by fractions of a cell do, too. Its weights serve grids of any size that has the modes.
//
// No complex number occurs: the few modes that are kept are found by products with matrices of cosines and sines, along one axis
// after the other. So it runs on every backend, those without an FFT included, and GoMLX's gradients of it are right.
type FNO struct {
	Width int `yaml:"width"` // channels of a layer
	// Modes is the number of frequencies along an axis, 0 to Modes-1 cycles over the grid: all wave vectors k with |k| < Modes along
	// each axis are kept, (2 Modes - 1)^n of them on n axes, of which k and -k make one mode of real states. An axis must have at
	// least 2 Modes - 1 cells, so that the mode that changes its sign from cell to cell, which has no phase to be shifted, is left out.
	Modes  int `yaml:"modes"`
	Layers int `yaml:"layers"` // Fourier layers
	// Direct predicts the next state itself. By default the increment is predicted: x + f(x).
	Direct bool `yaml:"direct"`
	// Normalization of the states; by default none. It is fitted to data, not configured.
	Normalization Normalization `yaml:"-"`
}

// TinyFNO has 5,584 parameters for four channels in two dimensions, whatever the grid; it needs 7 cells along each axis.
func TinyFNO() FNO { return FNO{Width: 6, Modes: 4, Layers: 3} }

// PaperFNO has the width, modes and layers of Li et al. (2021) for flows in two dimensions, there through Darcy's porous medium:
// 2,173,540 parameters for four channels. It is meant for 128x128, and needs 23 cells along each axis.
func PaperFNO() FNO { return FNO{Width: 32, Modes: 12, Layers: 4} }

// Validate returns an error unless the configuration is consistent and suits a grid of these sizes, one for each space axis.
func (c FNO) Validate(sizes ...int) error {
	if err := grid(sizes).validate("fno"); err != nil {
		return err
	}
	if c.Width <= 0 || c.Layers <= 0 || c.Modes < 2 {
		return errorf("fno", "width %d, modes %d, layers %d; width and layers must be positive, and modes at least 2, for one is the mean alone",
			c.Width, c.Modes, c.Layers)
	}
	if least := slices.Min(sizes); c.Modes > (least+1)/2 {
		return errorf("fno", "modes %d do not fit grid %s: an axis of %d cells has %d; use fewer modes or a finer grid",
			c.Modes, grid(sizes), least, (least+1)/2)
	}
	return c.Normalization.validateValues()
}

// Fn returns the model. It panics, as graph building does, where Validate would return an error.
func (c FNO) Fn() Fn {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		requireState("fno", x)
		if err := c.Validate(gridOf(x)...); err != nil {
			panic(err)
		}
		scope = scope.At("fno")
		return advance(x, c.Normalization, c.Direct, func(x *graph.Node) *graph.Node { return c.network(scope, x) })
	}
}

func (c FNO) network(scope *model.Scope, x *graph.Node) *graph.Node {
	channels := channelsOf(x)
	x = dense(scope.In("input"), x, c.Width, 1)
	for i := range c.Layers {
		layer := scope.In("layer_%d", i)
		x = graph.Add(dense(layer.In("cell"), x, c.Width, 1), spectral(layer.In("spectral"), x, c.Modes))
		if i < c.Layers-1 {
			x = gelu(x)
		}
	}
	hidden := gelu(dense(scope.In("expand"), x, 2*c.Width, 1))
	return dense(scope.In("output"), hidden, channels, outputInitialScale)
}

// spectral multiplies each mode of x [batch, space..., channel] by a matrix of its own, a complex one, and drops all others: a
// convolution with a periodic kernel whose spectrum is learned.
//
// Its variables in scope are "real" [mode, channel, channel] and "imaginary", the same without mode 0, whose amplitude is real. Of k
// and -k the one is a mode whose last component that is not 0 is positive; modes are ordered by the last component, then the one
// before.
func spectral(scope *model.Scope, x *graph.Node, modes int) *graph.Node {
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
	// Products leave the axes of space that are left before the channels, and put those of frequencies behind them.
	along := func(axis int) func(z, wave *graph.Node) *graph.Node {
		return func(z, wave *graph.Node) *graph.Node {
			return graph.DotGeneral(z, []int{axis}, nil, wave, []int{0}, nil)
		}
	}
	last := len(g)
	wave := waves(x, g, last, modes, -1)
	parts := graph.Split(along(last)(x, graph.Concatenate([]*graph.Node{wave.re, wave.im}, 1)), -1, 2) // x is real: one product
	z := complexNode{parts[0], parts[1]}
	for axis := last - 1; axis >= 1; axis-- {
		z = z.times(waves(x, g, axis, modes, -1), along(axis))
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
	// Products take the last axis of frequencies, that of the first axis of space that is left, and put the latter behind.
	last := len(g)
	along := func(axis int) func(z, wave *graph.Node) *graph.Node {
		return func(z, wave *graph.Node) *graph.Node {
			return graph.DotGeneral(z, []int{2 + last - axis}, nil, wave, []int{1}, nil)
		}
	}
	for axis := 1; axis < last; axis++ {
		z = z.times(waves(z.re, g, axis, modes, 1), along(axis))
	}
	wave := waves(z.re, g, last, modes, 1) // the result is real: one product
	x := along(last)(graph.Concatenate([]*graph.Node{z.re, z.im}, 2), graph.Concatenate([]*graph.Node{wave.re, graph.Neg(wave.im)}, 1))
	return graph.TransposeAllAxes(x, append(append([]int{0}, []int{2, 3, 4}[:last]...), 1)...)
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
