// Package models holds the surrogates an audit is tried on: a UNet, a vision transformer (ViT) and a Fourier neural operator
// (FNO) that advance a state [batch, space..., channel] of a periodic grid by one step, and Symmetrize, which makes any model
// exactly equivariant. Grids have one, two or three space axes: [batch, x, channel], [batch, y, x, channel] or
// [batch, z, y, x, channel].
//
// Models are configuration structs; Fn turns one into the function that GoMLX trains. They follow the dtype of their
// input, float32 or float64, so the same function works on a float32 store and on a float64 copy of it. With DType
// bfloat16 a network computes in that, on float32 weights. Variables are laid out alike on every backend, so a checkpoint
// moves between backends. Initial weights follow the hyperparameter model.ParamInitialSeed and, up to rounding, depend
// neither on backend nor on dtype. A scope may be visited any number of times; the weights are then shared.
//
// All operations have simple derivatives, forward and reverse: there is no pooling, no convolution with an even kernel and no
// complex number, whose reverse-mode gradients GoMLX gets wrong.
package models

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Fn maps a state [batch, space..., channel] to one of the same shape. train.NewTrainer accepts it as a model.
type Fn = func(scope *model.Scope, x *graph.Node) *graph.Node

// outputInitialScale shrinks the initial weights of an output layer: a fresh model then predicts little, so that training
// starts near persistence, yet gradients reach every weight below, which zeros would prevent.
const outputInitialScale = 0.1

// advance is the frame of every model: it calls network on the normalised state, in dtype if that is set, and makes of its result the next state.
func advance(x *graph.Node, n Normalization, direct bool, dtype dtypes.DType, network func(x *graph.Node) *graph.Node) *graph.Node {
	y := n.apply(x)
	if dtype != dtypes.InvalidDType {
		if dtype != dtypes.BFloat16 || x.DType() != dtypes.Float32 {
			exceptions.Panicf("models: DType %s on states of %s; leave it out, and the network computes in the type of its states, as audits need it; the one other type is bfloat16, on states of float32", dtype, x.DType())
		}
		y = graph.ConvertDType(y, dtype)
	}
	y = graph.ConvertDType(network(y), x.DType())
	if direct {
		return n.undo(y)
	}
	return graph.Add(x, n.rescale(y))
}

// recomputed is block(x), of which nothing but x is kept for the backward pass of a training, if so asked: it is computed there once more.
func recomputed(asked bool, x *graph.Node, block func(x *graph.Node) *graph.Node) *graph.Node {
	if !asked {
		return block(x)
	}
	return block(x.Checkpoint()).StopCheckpoint()
}

// inFloat32 is f(x), which sums over more than bfloat16 can: its 8 bits end at a sum of 256 ones. Computed in float32 where x is of bfloat16, then rounded; its
// gradient likewise.
func inFloat32(x *graph.Node, f func(x *graph.Node) *graph.Node) *graph.Node {
	if x.DType() != dtypes.BFloat16 {
		return f(x)
	}
	return graph.ConvertDType(f(graph.ConvertDType(x, dtypes.Float32)), x.DType())
}

// requireState panics unless x is a state or, of bfloat16 too, a feature map.
func requireState(user string, x *graph.Node, also ...dtypes.DType) {
	if x.Rank() < 3 || x.Rank() > 5 || !slices.Contains(append(also, dtypes.Float32, dtypes.Float64), x.DType()) {
		exceptions.Panicf("models: %s: input must be [batch, space..., channel] of float32 or float64 with one to three space axes, got %s",
			user, x.Shape())
	}
}

// grid holds the sizes of the space axes of a state.
type grid []int

// gridOf returns the space axes of a state or feature map [batch, space..., channel].
func gridOf(x *graph.Node) grid {
	dimensions := x.Shape().Dimensions
	return slices.Clone(dimensions[1 : len(dimensions)-1])
}

// String is "16x32".
func (g grid) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]int(g)), " ", "x"), "[]")
}

// validate returns an error unless models of states on this grid exist.
func (g grid) validate(model string) error {
	if len(g) < 1 || len(g) > 3 {
		return errorf(model, "the grid has %d space axes; give it one, two or three", len(g))
	}
	if slices.Min(g) <= 0 {
		return errorf(model, "grid %s has an axis without cells; every axis needs some", g)
	}
	return nil
}

// divides reports whether a positive number divides every axis of a grid.
func divides(number int, g grid) bool {
	return number > 0 && !slices.ContainsFunc(g, func(size int) bool { return size%number != 0 })
}

// channelsOf is the size of the last axis.
func channelsOf(x *graph.Node) int { return x.Shape().Dimensions[x.Rank()-1] }

func errorf(model, format string, args ...any) error {
	return fmt.Errorf("models: %s: %s", model, fmt.Sprintf(format, args...))
}
