package models

import (
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// positionDeviation is the standard deviation of the initial positional embedding.
const positionDeviation = 0.02

// ViT is a vision transformer (Dosovitskiy et al. 2021) with pre-norm blocks from which every token's patch of the next
// state is read off. Without its positional embedding, shifts by multiples of Patch pixels commute with it exactly.
type ViT struct {
	Patch  int `yaml:"patch"`  // pixels along each side of a token's square; must divide the grid
	Width  int `yaml:"width"`  // channels of a token
	Layers int `yaml:"layers"` // transformer blocks
	Heads  int `yaml:"heads"`  // attention heads; must divide Width
	// Expansion is the ratio of the hidden channels of a block's perceptron to Width.
	Expansion int `yaml:"expansion"`
	// NoPosition leaves out the learned positional embedding, which ties the weights to one grid.
	NoPosition bool `yaml:"no_position"`
	// Direct predicts the next state itself. By default the increment is predicted: x + f(x).
	Direct bool `yaml:"direct"`
	// Normalization of the states; by default none. It is fitted to data, not configured.
	Normalization Normalization `yaml:"-"`
}

// TinyViT has 6,864 parameters for four channels on a 16x16 grid (16 tokens) and 7,632 on 32x32.
func TinyViT() ViT { return ViT{Patch: 4, Width: 16, Layers: 2, Heads: 4, Expansion: 2} }

// PaperViT has, for four channels on a 128x128 grid, 5,034,304 parameters with patch 4 and 4,936,192 with patch 8.
func PaperViT(patch int) ViT {
	return ViT{Patch: patch, Width: 256, Layers: 6, Heads: 8, Expansion: 4}
}

// Validate returns an error unless the configuration is consistent and suits a grid of height rows and width columns.
func (c ViT) Validate(height, width int) error {
	if c.Patch <= 0 || c.Width <= 0 || c.Layers <= 0 || c.Heads <= 0 || c.Expansion <= 0 {
		return errorf("vit", "patch %d, width %d, layers %d, heads %d, expansion %d; all must be positive",
			c.Patch, c.Width, c.Layers, c.Heads, c.Expansion)
	}
	if c.Width%c.Heads != 0 {
		return errorf("vit", "%d heads do not divide width %d", c.Heads, c.Width)
	}
	if height <= 0 || width <= 0 || height%c.Patch != 0 || width%c.Patch != 0 {
		return errorf("vit", "patch %d does not divide grid %dx%d; use another patch or grid", c.Patch, height, width)
	}
	return c.Normalization.validateValues()
}

// Fn returns the model. It panics, as graph building does, where Validate would return an error.
func (c ViT) Fn() Fn {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		requireState("vit", x)
		_, height, width, _ := sizes(x)
		if err := c.Validate(height, width); err != nil {
			panic(err)
		}
		scope = scope.At("vit")
		return advance(x, c.Normalization, c.Direct, func(x *graph.Node) *graph.Node { return c.network(scope, x) })
	}
}

func (c ViT) network(scope *model.Scope, x *graph.Node) *graph.Node {
	_, height, width, channels := sizes(x)
	tokens := dense(scope.In("input"), patchify(x, c.Patch), c.Width, 1)
	if !c.NoPosition {
		place := variable(scope.In("position"), tokens, "embedding", normal(positionDeviation), tokens.Shape().Dimensions[1], c.Width)
		tokens = graph.Add(tokens, graph.InsertAxes(place, 0))
	}
	for layer := range c.Layers {
		block := scope.In("block_%d", layer)
		tokens = graph.Add(tokens, selfAttention(block.In("attention"), layerNorm(block.In("norm_0"), tokens), c.Heads))
		hidden := gelu(dense(block.In("expand"), layerNorm(block.In("norm_1"), tokens), c.Expansion*c.Width, 1))
		tokens = graph.Add(tokens, dense(block.In("contract"), hidden, c.Width, 1))
	}
	output := scope.In("output")
	tokens = dense(output, layerNorm(output.In("norm"), tokens), c.Patch*c.Patch*channels, outputInitialScale)
	return unpatchify(tokens, c.Patch, height, width)
}

// patchify cuts x [batch, y, x, channel] into squares, row by row: [batch, token, patch*patch*channel].
func patchify(x *graph.Node, patch int) *graph.Node {
	batch, height, width, channels := sizes(x)
	x = graph.Reshape(x, batch, height/patch, patch, width/patch, patch, channels)
	x = graph.TransposeAllAxes(x, 0, 1, 3, 2, 4, 5)
	return graph.Reshape(x, batch, (height/patch)*(width/patch), patch*patch*channels)
}

// unpatchify undoes patchify: every square returns to where it was cut out.
func unpatchify(tokens *graph.Node, patch, height, width int) *graph.Node {
	batch, channels := tokens.Shape().Dimensions[0], tokens.Shape().Dimensions[2]/(patch*patch)
	x := graph.Reshape(tokens, batch, height/patch, width/patch, patch, patch, channels)
	x = graph.TransposeAllAxes(x, 0, 1, 3, 2, 4, 5)
	return graph.Reshape(x, batch, height, width, channels)
}
