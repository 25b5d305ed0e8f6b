package models

import (
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// positionDeviation is the standard deviation of the initial positional embedding.
const positionDeviation = 0.02

// ViT is a vision transformer (Dosovitskiy et al. 2021) with pre-norm blocks from which every token's patch of the next
// state is read off. Without its positional embedding, shifts by multiples of Patch pixels commute with it exactly.
type ViT struct {
	Patch  int `yaml:"patch"`  // cells along each side of a token's interval, square or cube; must divide the grid
	Width  int `yaml:"width"`  // channels of a token
	Layers int `yaml:"layers"` // transformer blocks
	Heads  int `yaml:"heads"`  // attention heads; must divide Width
	// Expansion is the ratio of the hidden channels of a block's perceptron to Width.
	Expansion int `yaml:"expansion"`
	// NoPosition leaves out the learned positional embedding, which ties the weights to one grid.
	NoPosition bool `yaml:"no_position"`
	// Direct predicts the next state itself. By default the increment is predicted: x + f(x).
	Direct bool `yaml:"direct"`
	// Recompute computes each block once more in the backward pass of a training, whose values then need not be kept until then: less memory for
	// about a third more time. Outputs and gradients are the same up to rounding.
	Recompute bool `yaml:"-"`
	// DType is what the network computes in, by default that of the states. dtypes.BFloat16 is for float32 states; weights, and sums over many cells, stay in
	// float32. What the layers hand on then takes half the memory, and products are faster on devices with units for them. An audit refuses such a
	// network: give it the same one without DType.
	DType dtypes.DType `yaml:"-"`
	// Normalization of the states; by default none. It is fitted to data, not configured.
	Normalization Normalization `yaml:"-"`
}

// TinyViT has 6,864 parameters for four channels on a 16x16 grid (16 tokens) and 7,632 on 32x32.
func TinyViT() ViT { return ViT{Patch: 4, Width: 16, Layers: 2, Heads: 4, Expansion: 2} }

// PaperViT has, for four channels on a 128x128 grid, 5,034,304 parameters with patch 4 and 4,936,192 with patch 8.
func PaperViT(patch int) ViT {
	return ViT{Patch: patch, Width: 256, Layers: 6, Heads: 8, Expansion: 4}
}

// Validate returns an error unless the configuration is consistent and suits a grid of these sizes, one for each space axis.
func (c ViT) Validate(sizes ...int) error {
	if err := grid(sizes).validate("vit"); err != nil {
		return err
	}
	if c.Patch <= 0 || c.Width <= 0 || c.Layers <= 0 || c.Heads <= 0 || c.Expansion <= 0 {
		return errorf("vit", "patch %d, width %d, layers %d, heads %d, expansion %d; all must be positive",
			c.Patch, c.Width, c.Layers, c.Heads, c.Expansion)
	}
	if c.Width%c.Heads != 0 {
		return errorf("vit", "%d heads do not divide width %d", c.Heads, c.Width)
	}
	if !divides(c.Patch, sizes) {
		return errorf("vit", "patch %d does not divide grid %s; use another patch or grid", c.Patch, grid(sizes))
	}
	return c.Normalization.validateValues()
}

// Fn returns the model. It panics, as graph building does, where Validate would return an error.
func (c ViT) Fn() Fn {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		requireState("vit", x)
		if err := c.Validate(gridOf(x)...); err != nil {
			panic(err)
		}
		scope = scope.At("vit")
		return advance(x, c.Normalization, c.Direct, c.DType, func(x *graph.Node) *graph.Node { return c.network(scope, x) })
	}
}

func (c ViT) network(scope *model.Scope, x *graph.Node) *graph.Node {
	patches := patchify(x, c.Patch)
	tokens := dense(scope.In("input"), patches, c.Width, 1)
	if !c.NoPosition {
		place := variable(scope.In("position"), tokens, "embedding", normal(positionDeviation), tokens.Shape().Dimensions[1], c.Width)
		tokens = graph.Add(tokens, graph.InsertAxes(place, 0))
	}
	for layer := range c.Layers {
		block := scope.In("block_%d", layer)
		tokens = recomputed(c.Recompute, tokens, func(tokens *graph.Node) *graph.Node {
			tokens = graph.Add(tokens, selfAttention(block.In("attention"), layerNorm(block.In("norm_0"), tokens), c.Heads))
			hidden := gelu(dense(block.In("expand"), layerNorm(block.In("norm_1"), tokens), c.Expansion*c.Width, 1))
			return graph.Add(tokens, dense(block.In("contract"), hidden, c.Width, 1))
		})
	}
	output := scope.In("output")
	tokens = dense(output, layerNorm(output.In("norm"), tokens), channelsOf(patches), outputInitialScale)
	return unpatchify(tokens, c.Patch, gridOf(x))
}

// patchify cuts x [batch, space..., channel] into cubes, in the order of its cells: [batch, token, patch^n channel] for n
// space axes.
func patchify(x *graph.Node, patch int) *graph.Node {
	batch, channels, g := x.Shape().Dimensions[0], channelsOf(x), gridOf(x)
	split, values := []int{batch}, channels // of a cube
	for _, size := range g {
		split, values = append(split, size/patch, patch), values*patch
	}
	x = graph.TransposeAllAxes(graph.Reshape(x, append(split, channels)...), cubesFirst(len(g))...)
	return graph.Reshape(x, batch, -1, values)
}

// unpatchify undoes patchify: every cube returns to where it was cut out.
func unpatchify(tokens *graph.Node, patch int, g grid) *graph.Node {
	batch := []int{tokens.Shape().Dimensions[0]}
	var cubes, within []int
	for _, size := range g {
		cubes, within = append(cubes, size/patch), append(within, patch)
	}
	x := graph.Reshape(tokens, slices.Concat(batch, cubes, within, []int{-1})...)
	back := make([]int, x.Rank())
	for to, from := range cubesFirst(len(g)) {
		back[from] = to
	}
	return graph.Reshape(graph.TransposeAllAxes(x, back...), slices.Concat(batch, g, []int{-1})...)
}

// cubesFirst orders the axes [batch, cube, within, cube, within, ..., channel] as [batch, cube..., within..., channel].
func cubesFirst(axes int) []int {
	order := make([]int, 2*axes+2)
	for axis := range axes {
		order[1+axis], order[1+axes+axis] = 1+2*axis, 2+2*axis
	}
	order[2*axes+1] = 2*axes + 1
	return order
}
