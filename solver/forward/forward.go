// Package forward differentiates GoMLX graphs in forward mode: Jacobian-vector products, which GoMLX itself does not
// offer (differentiating twice in reverse mode fails for convolutions).
//
// JVP walks the nodes between some inputs and some outputs in the order of the graph and gives each a tangent by a rule
// for its operation. It uses GoMLX's public API only: an operation that is linear in an input is cloned with the tangent
// in that input's place, a bilinear one is cloned twice, an elementwise one is multiplied by its derivative.
//
// What it is not for: higher derivatives, and control flow (While, If), which is refused by name.
//
// Rules that need a word:
//
//   - StopGradient cuts tangents as it cuts gradients. A custom gradient is ignored: the tangent is the true derivative of
//     what the node computes, so reverse mode then differs on purpose.
//   - Max and Min, of two operands or of an axis, pass tangents as GoMLX's reverse mode does where operands tie: to the
//     first operand, and to every element that ties. Max-pooling follows the first element of its window that ties.
//   - A fused operation (GELU, layer norm, softmax, dense, attention, which the Go backend emits as one node) is
//     differentiated through the decomposition that GoMLX builds beside it for its own reverse mode.
//   - Integers, booleans and what is constant almost everywhere (Floor, Sign, comparisons, ArgMax) have no tangent.
package forward

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// UnsupportedError says that an operation between inputs and outputs has no forward derivative here. JVP panics with it,
// as graph-building functions do; errors.As finds it after exceptions.TryCatch.
type UnsupportedError struct {
	Operation string // GoMLX's name of the operation
	Node      string // the node as GoMLX prints it, with its number in the graph
	Reason    string // why not, where there is more to say
}

func (e *UnsupportedError) Error() string {
	text := fmt.Sprintf("forward: operation %s has no forward derivative, at %s", e.Operation, e.Node)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

func unsupported(node *graph.Node, reason string) {
	panic(error(&UnsupportedError{Operation: node.Type().String(), Node: node.String(), Reason: reason}))
}

// JVP returns, for each output, its directional derivative along the tangents of all inputs together, shaped and typed
// as the output; zeros where it does not depend on them.
//
// Inputs are any float or complex nodes of the graph, parameters and variables among them; each tangent has the shape
// and dtype of its input, nil standing for zeros. An input is a cut: what it is computed from gets no tangent through it.
func JVP(outputs, inputs, tangents []*graph.Node) []*graph.Node {
	if len(inputs) != len(tangents) {
		exceptions.Panicf("forward: %d inputs and %d tangents; each input needs one", len(inputs), len(tangents))
	}
	p := &pass{tangents: map[graph.NodeId]*graph.Node{}, done: map[graph.NodeId]bool{}, active: map[graph.NodeId]bool{}}
	for i, input := range inputs {
		if tangents[i] != nil && !tangents[i].Shape().Equal(input.Shape()) {
			exceptions.Panicf("forward: input %d is %s and its tangent %s; they must be the same", i, input.Shape(), tangents[i].Shape())
		}
		p.tangents[input.Id()], p.done[input.Id()], p.active[input.Id()] = tangents[i], true, tangents[i] != nil
	}
	derivatives := make([]*graph.Node, len(outputs))
	for i, output := range outputs {
		if derivatives[i] = p.tangent(output); derivatives[i] == nil {
			derivatives[i] = graph.ZerosLike(output)
		}
	}
	return derivatives
}

// pass holds the tangents found so far; nil is zero.
type pass struct {
	tangents map[graph.NodeId]*graph.Node
	done     map[graph.NodeId]bool
	active   map[graph.NodeId]bool // whether a node depends on an input with a tangent; absent: not yet known
}

// tangent returns the tangent of a node after those of all nodes it depends on.
func (p *pass) tangent(output *graph.Node) *graph.Node {
	for _, node := range p.pending(output) {
		if p.done[node.Id()] {
			continue
		}
		p.done[node.Id()] = true
		if t := p.rule(node); t != nil {
			if !t.Shape().Equal(node.Shape()) {
				exceptions.Panicf("forward: the tangent of %s came out as %s", node, t.Shape())
			}
			p.tangents[node.Id()] = t
		}
	}
	return p.tangents[output.Id()]
}

// pending lists the nodes that output depends on and that may have a tangent, inputs before their users.
func (p *pass) pending(output *graph.Node) []*graph.Node {
	var nodes []*graph.Node
	stack := []*graph.Node{output}
	visited := map[graph.NodeId]bool{}
	for len(stack) > 0 {
		node := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if visited[node.Id()] || p.done[node.Id()] {
			continue
		}
		visited[node.Id()] = true
		nodes = append(nodes, node)
		stack = append(stack, node.Inputs()...)
	}
	slices.SortFunc(nodes, func(a, b *graph.Node) int { return int(a.Id()) - int(b.Id()) })
	return slices.DeleteFunc(nodes, func(node *graph.Node) bool {
		if !p.active[node.Id()] {
			p.active[node.Id()] = slices.ContainsFunc(node.Inputs(), func(input *graph.Node) bool { return p.active[input.Id()] })
		}
		return !p.active[node.Id()]
	})
}

// of returns the tangents of a node's inputs and whether there is any.
func (p *pass) of(node *graph.Node) (tangents []*graph.Node, some bool) {
	for _, input := range node.Inputs() {
		t := p.tangents[input.Id()]
		tangents = append(tangents, t)
		some = some || t != nil
	}
	return tangents, some
}
