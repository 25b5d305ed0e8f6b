package models

import (
	"slices"

	"github.com/gomlx/compute/dtypes"
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
	// Recompute computes each layer once more in the backward pass of a training, whose values then need not be kept until then: less memory for
	// about a third more time. Outputs and gradients are the same up to rounding.
	Recompute bool `yaml:"-"`
	// DType is what the network computes in, by default that of the states. dtypes.BFloat16 is for float32 states; weights, and sums over many cells, stay in
	// float32. What the layers hand on then takes half the memory, and products are faster on devices with units for them. An audit refuses such a
	// network: give it the same one without DType.
	DType dtypes.DType `yaml:"-"`
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
		return advance(x, c.Normalization, c.Direct, c.DType, func(x *graph.Node) *graph.Node { return c.network(scope, x) })
	}
}

func (c FNO) network(scope *model.Scope, x *graph.Node) *graph.Node {
	channels := channelsOf(x)
	x = dense(scope.In("input"), x, c.Width, 1)
	for i := range c.Layers {
		layer := scope.In("layer_%d", i)
		x = recomputed(c.Recompute, x, func(x *graph.Node) *graph.Node {
			x = graph.Add(dense(layer.In("cell"), x, c.Width, 1), spectral(layer.In("spectral"), x, c.Modes))
			if i < c.Layers-1 {
				x = gelu(x)
			}
			return x
		})
	}
	hidden := gelu(dense(scope.In("expand"), x, 2*c.Width, 1))
	return dense(scope.In("output"), hidden, channels, outputInitialScale)
}
