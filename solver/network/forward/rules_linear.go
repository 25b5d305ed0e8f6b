package forward

import (
	"github.com/gomlx/gomlx/core/graph"
)

func zero(node *graph.Node, _, _ []*graph.Node) *graph.Node {
	if node.DType().IsComplex() {
		unsupported(node, "of complex numbers") // Sign is not constant there
	}
	return nil
}

func same(_ *graph.Node, _, t []*graph.Node) *graph.Node { return t[0] }

// sameIndex is for operations that return each of their inputs.
func sameIndex(node *graph.Node, _, t []*graph.Node) *graph.Node {
	_, index := source(node)
	return t[index]
}

// add sums tangents, nil being zero.
func add(a, b *graph.Node) *graph.Node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return graph.Add(a, b)
}

// times is a tangent times a factor, nil being zero.
func times(t, factor *graph.Node) *graph.Node {
	if t == nil {
		return nil
	}
	return graph.Mul(t, factor)
}

// expanded undoes that binary operations broadcast scalars and axes of size 1.
func expanded(t, node *graph.Node) *graph.Node {
	if t == nil || t.Shape().Equal(node.Shape()) {
		return t
	}
	return graph.BroadcastToShape(t, node.Shape())
}

func sum(node *graph.Node, _, t []*graph.Node) *graph.Node {
	return expanded(add(t[0], t[1]), node)
}

func difference(node *graph.Node, _, t []*graph.Node) *graph.Node {
	switch {
	case t[0] == nil:
		return expanded(graph.Neg(t[1]), node)
	case t[1] == nil:
		return expanded(t[0], node)
	}
	return graph.Sub(t[0], t[1])
}

// linear clones an operation that is linear in its first inputs, taken together; those after are indices.
func linear(node *graph.Node, inputs, t []*graph.Node, count int) *graph.Node {
	replaced := make([]*graph.Node, len(inputs))
	some := false
	for i, input := range inputs {
		switch {
		case i >= count:
			replaced[i] = input
		case t[i] == nil:
			replaced[i] = graph.ZerosLike(input)
		default:
			replaced[i], some = t[i], true
		}
	}
	if !some {
		return nil
	}
	return node.CloneWithInputs(replaced...)
}

func linearInAll(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	return linear(node, inputs, t, len(inputs))
}

func linearInFirst(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	return linear(node, inputs, t, 1)
}

func linearInFirstTwo(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	return linear(node, inputs, t, 2)
}

// scatterSum is linear in the operand and the updates, the first and the last input.
func scatterSum(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	operand, updates := t[0], t[2]
	switch {
	case updates == nil:
		return operand
	case operand == nil:
		operand = graph.ZerosLike(inputs[0])
	}
	return node.CloneWithInputs(operand, inputs[1], updates)
}

// selectAndScatter is linear in its second input; the first says where to.
func selectAndScatter(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	if t[1] == nil {
		return nil
	}
	return node.CloneWithInputs(inputs[0], t[1])
}

func where(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	sides := []*graph.Node{t[1], t[2]}
	for i, side := range sides {
		if side != nil {
			continue
		}
		if sides[1-i].Shape().Equal(node.Shape()) {
			sides[i] = graph.ScalarZero(node.Graph(), node.DType())
		} else {
			sides[i] = graph.ZerosLike(inputs[i+1])
		}
	}
	return node.CloneWithInputs(inputs[0], sides[0], sides[1])
}

// bilinear is d f(a, b) = f(da, b) + f(a, db).
func bilinear(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	var left, right *graph.Node
	if t[0] != nil {
		left = node.CloneWithInputs(t[0], inputs[1])
	}
	if t[1] != nil {
		right = node.CloneWithInputs(inputs[0], t[1])
	}
	return add(left, right)
}
