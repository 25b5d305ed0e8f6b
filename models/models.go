// Package models holds the surrogates an audit is tried on: a UNet and a vision transformer (ViT) that advance a state
// [batch, y, x, channel] of a periodic grid by one step, and Symmetrize, which makes any model exactly equivariant.
//
// Models are configuration structs; Fn turns one into the function that GoMLX trains. They follow the dtype of their
// input, float32 or float64, so the same function works on a float32 store and on a float64 copy of it, and their
// variables are laid out alike on every backend, so a checkpoint moves between backends. Initial weights follow the
// hyperparameter model.ParamInitialSeed and, up to rounding, depend neither on backend nor on dtype. A scope may be
// visited any number of times; the weights are then shared.
//
// All operations have simple derivatives, forward and reverse: there is no pooling and no convolution with an even
// kernel, whose reverse-mode gradient GoMLX gets wrong.
package models

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Fn maps a state [batch, y, x, channel] to one of the same shape. train.NewTrainer accepts it as a model.
type Fn = func(scope *model.Scope, x *graph.Node) *graph.Node

// outputInitialScale shrinks the initial weights of an output layer: a fresh model then predicts little, so that training
// starts near persistence, yet gradients reach every weight below, which zeros would prevent.
const outputInitialScale = 0.1

// advance is the frame of every model: it calls network on the normalised state and makes of its result the next state.
func advance(x *graph.Node, n Normalization, direct bool, network func(x *graph.Node) *graph.Node) *graph.Node {
	y := network(n.apply(x))
	if direct {
		return n.undo(y)
	}
	return graph.Add(x, n.rescale(y))
}

// requireState panics unless x is a state or feature map.
func requireState(user string, x *graph.Node) {
	if x.Rank() != 4 || (x.DType() != dtypes.Float32 && x.DType() != dtypes.Float64) {
		exceptions.Panicf("models: %s: input must be [batch, y, x, channel] of float32 or float64, got %s", user, x.Shape())
	}
}

// sizes returns the dimensions of a state or feature map [batch, y, x, channel].
func sizes(x *graph.Node) (batch, height, width, channels int) {
	dimensions := x.Shape().Dimensions
	return dimensions[0], dimensions[rowAxis], dimensions[columnAxis], dimensions[channelAxis]
}

func errorf(model, format string, args ...any) error {
	return fmt.Errorf("models: %s: %s", model, fmt.Sprintf(format, args...))
}
