// Package partial evaluates a graph in two stages, as JAX does to linearise: once what does not depend on some unknown nodes, and then,
// for each value of these, only what does.
//
// A derivative along a tangent, or the gradient that belongs to a cotangent, is built on the graph of the primal values, by whatever rules
// its operations have. With the tangent and the cotangent unknown, what depends on them is linear in them; Split finds the residuals, the
// primal values that it reads, and copies it to a graph that has those as parameters.
package partial

import (
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Split is a graph in two stages: the known nodes, of which the residuals are the last that count, and those that depend on unknown ones.
type Split struct {
	// Residuals are the known nodes whose values the second stage takes, in the order of the graph. Neither is one of those that are at hand.
	Residuals []*graph.Node

	leaves  map[graph.NodeId]bool // whose values Emit is given
	unknown map[graph.NodeId]bool // and what depends on them
}

// New splits the graph of some outputs. The unknown nodes stand for values that only the second stage has, whatever they are in the
// first; nodes at hand have the same value in both stages, such as parameters of the graph. Values that cost little to compute again from
// others are no residuals if that makes them smaller in all.
//
// It panics, as graph-building functions do, where control flow follows the first unknown node: it may read any node without showing it.
func New(outputs, unknown, atHand []*graph.Node) *Split {
	s := &Split{leaves: map[graph.NodeId]bool{}, unknown: map[graph.NodeId]bool{}}
	for _, node := range atHand {
		s.leaves[node.Id()] = true
	}
	first := outputs[0].Graph().LastNode().Id()
	for _, node := range unknown {
		s.leaves[node.Id()], s.unknown[node.Id()] = true, true
		first = min(first, node.Id())
	}
	nodes := s.reached(outputs)
	read := map[graph.NodeId]*graph.Node{} // known nodes that the second stage reads
	isKnown := func(node *graph.Node) bool { return !s.unknown[node.Id()] }
	for _, node := range nodes {
		if hidesInputs(node) && node.Id() > first {
			exceptions.Panicf("partial: %s follows an unknown node and may read it", node)
		}
		if isKnown(node) && !slices.ContainsFunc(node.Inputs(), func(input *graph.Node) bool { return !isKnown(input) }) {
			continue
		}
		s.unknown[node.Id()] = true
		if s.leaves[node.Id()] {
			continue
		}
		for _, input := range node.Inputs() {
			if isKnown(input) {
				read[input.Id()] = input
			}
		}
	}
	for _, output := range outputs {
		if isKnown(output) {
			read[output.Id()] = output
		}
	}
	s.choose(nodes, read)
	return s
}

// choose makes residuals of the nodes that are read, or of what they are computed from cheaply. It goes from the last node to the first, so
// that chains are seen through.
func (s *Split) choose(nodes []*graph.Node, read map[graph.NodeId]*graph.Node) {
	for _, node := range slices.Backward(nodes) {
		if read[node.Id()] == nil || s.leaves[node.Id()] || isConstant(node) {
			continue
		}
		if isCheap(node) {
			var more int64
			added := map[graph.NodeId]*graph.Node{}
			for _, input := range node.Inputs() {
				if read[input.Id()] == nil && added[input.Id()] == nil {
					added[input.Id()] = input
					if !s.leaves[input.Id()] && !isConstant(input) {
						more += input.Shape().ByteSize()
					}
				}
			}
			if more < node.Shape().ByteSize() || more == node.Shape().ByteSize() && isElementwise(node) {
				for id, input := range added {
					read[id] = input
				}
				continue
			}
		}
		s.Residuals = append(s.Residuals, node)
		s.leaves[node.Id()] = true
	}
	slices.Reverse(s.Residuals)
}

// Bytes is the memory that the residuals take.
func Bytes(nodes []*graph.Node) (total int64) {
	for _, node := range nodes {
		total += node.Shape().ByteSize()
	}
	return total
}

// ResidualsOf lists the residuals that some of the outputs need.
func (s *Split) ResidualsOf(outputs []*graph.Node) []*graph.Node {
	needed := map[graph.NodeId]bool{}
	for _, node := range s.reached(outputs) {
		needed[node.Id()] = true
	}
	return slices.DeleteFunc(slices.Clone(s.Residuals), func(node *graph.Node) bool { return !needed[node.Id()] })
}

// Emit builds the second stage of some of the outputs in another graph of the same backend and returns them. There, value has the node for
// each unknown node, each at hand and each residual; it is called once for each that is needed, in the order of the graph.
//
// It panics where an operation cannot be copied.
func (s *Split) Emit(g *graph.Graph, outputs []*graph.Node, value func(node *graph.Node) *graph.Node) []*graph.Node {
	copies := map[graph.NodeId]*graph.Node{}
	for _, node := range s.reached(outputs) {
		switch {
		case s.leaves[node.Id()]:
			copies[node.Id()] = value(node)
		case isConstant(node):
			copies[node.Id()] = graph.ConstTensor(g, node.ConstantValue())
		default:
			copies[node.Id()] = clone(node, copies)
		}
		if node.NumOutputs() == 1 && !copies[node.Id()].Shape().Equal(node.Shape()) {
			exceptions.Panicf("partial: %s became %s", node, copies[node.Id()])
		}
	}
	emitted := make([]*graph.Node, len(outputs))
	for i, output := range outputs {
		emitted[i] = copies[output.Id()]
	}
	return emitted
}

func clone(node *graph.Node, copies map[graph.NodeId]*graph.Node) *graph.Node {
	// Iota has no input that tells GoMLX of another graph, and control flow is closures of the first.
	if len(node.Inputs()) == 0 || hidesInputs(node) {
		exceptions.Panicf("partial: %s cannot be copied", node)
	}
	inputs := make([]*graph.Node, len(node.Inputs()))
	for i, input := range node.Inputs() {
		inputs[i] = copies[input.Id()]
	}
	return node.CloneWithInputs(inputs...)
}

// reached lists the nodes that outputs depend on, and themselves, as far as the leaves, in the order of the graph.
func (s *Split) reached(outputs []*graph.Node) []*graph.Node {
	var nodes []*graph.Node
	visited := map[graph.NodeId]bool{}
	for stack := slices.Clone(outputs); len(stack) > 0; {
		node := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if visited[node.Id()] {
			continue
		}
		visited[node.Id()] = true
		nodes = append(nodes, node)
		if !s.leaves[node.Id()] {
			stack = append(stack, node.Inputs()...)
		}
	}
	slices.SortFunc(nodes, func(a, b *graph.Node) int { return int(a.Id()) - int(b.Id()) })
	return nodes
}

// isConstant is about constants that GoMLX keeps the value of: small ones.
func isConstant(node *graph.Node) bool { return node.ConstantValue() != nil }

func hidesInputs(node *graph.Node) bool {
	switch node.Type() {
	case graph.NodeTypeIf, graph.NodeTypeWhile, graph.NodeTypeCall, graph.NodeTypeSort,
		graph.NodeTypeFusedScaledDotProductAttention, graph.NodeTypeFusedScaledDotProductAttentionVJP:
		return true
	}
	return false
}

// isCheap is about operations that cost no more than to read their inputs.
func isCheap(node *graph.Node) bool {
	switch node.Type() {
	case graph.NodeTypeTranspose, graph.NodeTypeReverse, graph.NodeTypeBroadcastInDim:
		return true
	}
	return isElementwise(node)
}

// isElementwise is about cheap operations that a compiler can do as their result is read.
func isElementwise(node *graph.Node) bool {
	switch node.Type() {
	case graph.NodeTypeReshape, graph.NodeTypeIdentity, graph.NodeTypeConvertDType,
		graph.NodeTypeAdd, graph.NodeTypeSub, graph.NodeTypeMul, graph.NodeTypeNeg, graph.NodeTypeAbs, graph.NodeTypeSign,
		graph.NodeTypeMax, graph.NodeTypeMin, graph.NodeTypeClamp, graph.NodeTypeWhere,
		graph.NodeTypeEqual, graph.NodeTypeNotEqual, graph.NodeTypeGreaterThan, graph.NodeTypeGreaterOrEqual,
		graph.NodeTypeLessThan, graph.NodeTypeLessOrEqual, graph.NodeTypeLogicalAnd, graph.NodeTypeLogicalNot, graph.NodeTypeLogicalOr:
		return true
	}
	return false
}
