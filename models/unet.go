package models

import (
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// UNet is a convolutional network over several resolutions (Ronneberger et al. 2015) with pre-activation residual
// blocks, laid out as in denoising diffusion (Ho et al. 2020): every block of the way down feeds one of the way up. All
// convolutions are circular and nothing depends on position, so shifts by multiples of 2^(len(Widths)-1) pixels commute
// with it exactly.
type UNet struct {
	// Widths holds the channels of each resolution, finest first. Each further one halves the grid.
	Widths []int `yaml:"widths"`
	// Blocks is the number of residual blocks at each resolution on the way down; on the way up there is one more.
	Blocks int `yaml:"blocks"`
	// Groups is the number of groups of channels normalised together; it must divide every width. With one channel a
	// group the biases before a normalisation have no effect.
	Groups int `yaml:"groups"`
	// Heads is the number of attention heads between the two residual blocks of the coarsest resolution; zero leaves
	// attention out. It must divide the last width.
	Heads int `yaml:"heads"`
	// Direct predicts the next state itself. By default the increment is predicted: x + f(x).
	Direct bool `yaml:"direct"`
	// Recompute computes each residual block once more in the backward pass of a training, whose values then need not be kept until then: less memory for
	// about a third more time. Outputs and gradients are the same up to rounding.
	Recompute bool `yaml:"-"`
	// DType is what the network computes in, by default that of the states. dtypes.BFloat16 is for float32 states; weights, and sums over many cells, stay in
	// float32. What the layers hand on then takes half the memory, and products are faster on devices with units for them. An audit refuses such a
	// network: give it the same one without DType.
	DType dtypes.DType `yaml:"-"`
	// Normalization of the states; by default none. It is fitted to data, not configured.
	Normalization Normalization `yaml:"-"`
}

// TinyUNet has 5,456 parameters for four channels and is for grids whose sizes are multiples of 4, such as 16x16.
func TinyUNet() UNet { return UNet{Widths: []int{4, 4, 4}, Blocks: 1, Groups: 2} }

// PaperUNet has 12,951,964 parameters for four channels, four down-samplings and attention on the coarsest grid; it is
// for 128x128. Grid sizes must be multiples of 16.
func PaperUNet() UNet {
	return UNet{Widths: []int{24, 48, 96, 192, 192}, Blocks: 2, Groups: 8, Heads: 1}
}

// Validate returns an error unless the configuration is consistent and suits a grid of these sizes, one for each space axis.
func (c UNet) Validate(sizes ...int) error {
	if err := grid(sizes).validate("unet"); err != nil {
		return err
	}
	if len(c.Widths) == 0 || c.Blocks <= 0 || c.Groups <= 0 || c.Heads < 0 {
		return errorf("unet", "widths %v, blocks %d, groups %d, heads %d; need at least one width, one block and one group, and no negative heads",
			c.Widths, c.Blocks, c.Groups, c.Heads)
	}
	for _, channels := range c.Widths {
		if channels <= 0 || channels%c.Groups != 0 {
			return errorf("unet", "width %d is not a positive multiple of the %d groups", channels, c.Groups)
		}
	}
	if last := c.Widths[len(c.Widths)-1]; c.Heads > 0 && last%c.Heads != 0 {
		return errorf("unet", "%d heads do not divide the last width %d", c.Heads, last)
	}
	if factor := c.reduction(); !divides(factor, sizes) {
		return errorf("unet", "grid %s is not a multiple of %d, which %d widths need; use another grid or fewer widths",
			grid(sizes), factor, len(c.Widths))
	}
	return c.Normalization.validateValues()
}

// reduction is the ratio of the finest grid to the coarsest.
func (c UNet) reduction() int { return 1 << (len(c.Widths) - 1) }

// Fn returns the model. It panics, as graph building does, where Validate would return an error.
func (c UNet) Fn() Fn {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		requireState("unet", x)
		if err := c.Validate(gridOf(x)...); err != nil {
			panic(err)
		}
		scope = scope.At("unet")
		return advance(x, c.Normalization, c.Direct, c.DType, func(x *graph.Node) *graph.Node { return c.network(scope, x) })
	}
}

func (c UNet) network(scope *model.Scope, x *graph.Node) *graph.Node {
	channels := channelsOf(x)
	x = Conv(scope.In("input"), x, c.Widths[0], 3, 1)
	skipped := []*graph.Node{x}
	last := len(c.Widths) - 1
	for level, width := range c.Widths {
		down := scope.In("down_%d", level)
		for block := range c.Blocks {
			x = c.residual(down.In("block_%d", block), x, width)
			skipped = append(skipped, x)
		}
		if level < last {
			x = Conv(down.In("coarsen"), x, width, 3, 2)
			skipped = append(skipped, x)
		}
	}

	middle := scope.In("middle")
	x = c.residual(middle.In("block_0"), x, c.Widths[last])
	if c.Heads > 0 {
		x = c.attention(middle.In("attention"), x)
	}
	x = c.residual(middle.In("block_1"), x, c.Widths[last])

	for level := last; level >= 0; level-- {
		up := scope.In("up_%d", level)
		for block := range c.Blocks + 1 {
			skip := skipped[len(skipped)-1]
			skipped = skipped[:len(skipped)-1]
			x = graph.Concatenate([]*graph.Node{x, skip}, -1)
			x = c.residual(up.In("block_%d", block), x, c.Widths[level])
		}
		if level > 0 {
			x = Conv(up.In("refine"), doubleGrid(x), c.Widths[level], 3, 1)
		}
	}
	output := scope.In("output")
	return scaledConv(output, silu(groupNorm(output.In("norm"), x, c.Groups)), channels, 3, 1, outputInitialScale)
}

// residual is x + f(x) with twice normalisation, activation, convolution in f (He et al. 2016), and a linear map of x
// where the number of channels changes.
func (c UNet) residual(scope *model.Scope, x *graph.Node, width int) *graph.Node {
	return recomputed(c.Recompute, x, func(x *graph.Node) *graph.Node {
		y := Conv(scope.In("conv_0"), silu(groupNorm(scope.In("norm_0"), x, c.Groups)), width, 3, 1)
		y = Conv(scope.In("conv_1"), silu(groupNorm(scope.In("norm_1"), y, c.Groups)), width, 3, 1)
		if channelsOf(x) != width {
			x = Conv(scope.In("shortcut"), x, width, 1, 1)
		}
		return graph.Add(x, y)
	})
}

func (c UNet) attention(scope *model.Scope, x *graph.Node) *graph.Node {
	dimensions := x.Shape().Dimensions
	tokens := graph.Reshape(groupNorm(scope.In("norm"), x, c.Groups), dimensions[0], -1, channelsOf(x))
	tokens = selfAttention(scope, tokens, c.Heads)
	return graph.Add(x, graph.Reshape(tokens, dimensions...))
}

// doubleGrid repeats every cell of x [batch, space..., channel] twice along each space axis.
func doubleGrid(x *graph.Node) *graph.Node {
	batch, channels := x.Shape().Dimensions[0], channelsOf(x)
	split, repeated, doubled := []int{batch}, []int{batch}, []int{batch}
	for _, size := range gridOf(x) {
		split, repeated, doubled = append(split, size, 1), append(repeated, size, 2), append(doubled, 2*size)
	}
	x = graph.BroadcastToDims(graph.Reshape(x, append(split, channels)...), append(repeated, channels)...)
	return graph.Reshape(x, append(doubled, channels)...)
}
