package models

import (
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/orbits"
)

// Symmetrize returns the mean over elements g of g^-1 fn(g x), a model with fn's variables. Where elements are a whole
// group, as those of orbits.D4 and orbits.Octahedral are and those of orbits.Translations are not, it is exactly equivariant under them, whatever
// the weights: the positive control of an audit.
//
// It calls fn once, on a batch that is len(elements) times as large; fn must treat the samples of a batch independently.
func Symmetrize(fn Fn, field orbits.Field, elements []orbits.Element) Fn {
	elements = slices.Clone(elements)
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		if len(elements) == 0 {
			exceptions.Panicf("models: symmetrize needs at least one group element")
		}
		moved := make([]*graph.Node, len(elements))
		for i, g := range elements {
			moved[i] = g.Apply(field, x)
		}
		parts := graph.Split(fn(scope, graph.Concatenate(moved, 0)), 0, len(elements))
		var sum *graph.Node
		for i, g := range elements {
			back := g.Inverse().ApplyOutput(field, parts[i])
			if sum == nil {
				sum = back
			} else {
				sum = graph.Add(sum, back)
			}
		}
		return graph.MulScalar(sum, 1/float64(len(elements)))
	}
}
