package network

import (
	"fmt"
	"reflect"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/support/exceptions"
)

// ModelFn is the usual signature of a model: one input, one output. Functions here take every other that GoMLX's trainer does.
type ModelFn = func(scope *model.Scope, x *graph.Node) *graph.Node

// LossFn is GoMLX's loss.LossFn; a result that is not a scalar is averaged, as GoMLX's trainer does.
type LossFn = func(labels, predictions []*graph.Node) *graph.Node

// Signature says how many inputs and outputs a model function has, -1 for any number, of a slice, and whether it takes a spec.
type Signature struct {
	Inputs, Outputs int
	Spec            bool
}

// Canonical returns a model of any signature that GoMLX's trainer takes as its train.ModelFn, which panics, as graph building
// does, when it gets another number of inputs than the model takes. A model without an input, or without an output, is an error.
func Canonical[F train.ModelFnCompatible](modelFn F) (canonical train.ModelFn, signature Signature, err error) {
	fn := reflect.ValueOf(modelFn)
	of := fn.Type()
	first := 1 // of the inputs, after the scope
	withSpec := of.In(1) == reflect.TypeFor[any]()
	if withSpec {
		first = 2
	}
	switch {
	case of.In(first) == reflect.TypeFor[*graph.Graph]():
		return nil, signature, fmt.Errorf("the model is a %s, which takes no input; it must take the states", of)
	case of.NumOut() == 0:
		return nil, signature, fmt.Errorf("the model is a %s, which returns no output; it must return its predictions", of)
	}
	slice := reflect.TypeFor[[]*graph.Node]()
	signature = Signature{of.NumIn() - first, of.NumOut(), withSpec}
	if of.In(first) == slice {
		signature.Inputs = -1
	}
	if of.Out(0) == slice {
		signature.Outputs = -1
	}
	return func(scope *model.Scope, spec any, inputs []*graph.Node) []*graph.Node {
		args := []reflect.Value{reflect.ValueOf(scope)}
		if withSpec {
			args = append(args, reflect.ValueOf(&spec).Elem())
		}
		switch {
		case signature.Inputs < 0:
			args = append(args, reflect.ValueOf(inputs))
		case signature.Inputs != len(inputs):
			exceptions.Panicf("the model takes %d inputs and was given %d", signature.Inputs, len(inputs))
		default:
			for _, input := range inputs {
				args = append(args, reflect.ValueOf(input))
			}
		}
		results := fn.Call(args)
		if signature.Outputs < 0 {
			return results[0].Interface().([]*graph.Node)
		}
		predictions := make([]*graph.Node, len(results))
		for i, result := range results {
			predictions[i] = result.Interface().(*graph.Node)
		}
		return predictions
	}, signature, nil
}
