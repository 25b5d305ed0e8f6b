// Package forward differentiates GoMLX graphs in forward mode: Jacobian-vector products, which GoMLX itself does not
// offer (differentiating twice in reverse mode fails for convolutions).
//
// # Specification
//
// JVP walks the nodes between some inputs and some outputs in the order of the graph and gives each a tangent by the rule
// of its operation. It uses GoMLX's public API only: an operation that is linear in an input is cloned with the tangent in
// that input's place, a bilinear one is cloned twice, an elementwise one is multiplied by its derivative. The tangents
// share the graph of the primal values with each other and with a reverse pass, so J^T(J v) costs about 1.5 gradients.
// A zero tangent is not computed with.
//
// Every operation of GoMLX has a rule, has a derivative that is zero wherever it exists, or is refused: JVP then panics
// with an *UnsupportedError. Refused are control flow (While, If, Call), Sort, quantised and distributed operations. A rule
// relies on nothing that GoMLX does not print or export; where an upgrade takes that away, the operation is refused too.
//
// What may be surprising:
//
//   - StopGradient cuts tangents as it cuts gradients, so that what a model declares constant is constant here.
//   - A custom gradient is ignored: the tangent is the true derivative of what the node computes, from which such a
//     gradient differs on purpose.
//   - A fused operation (dense, GELU, layer norm, softmax, query-key-value projection: the Go backend emits each as one
//     node) is differentiated as the composition it stands for. Fused attention, which cuDNN has in half precision, is
//     refused.
//   - Where operands tie, Max and Min of two follow the first and the second, ReduceMax and ReduceMin sum over all elements
//     that tie, and max-pooling follows the first in its window: what GoMLX's reverse mode transposes. At zero Abs
//     has slope 1 for the same reason.
//   - Complex tangents are those of real and imaginary part: analytic functions are multiplied by their complex derivative.
//   - If may read any node that precedes it, without GoMLX showing which. It is therefore refused wherever it could depend
//     on an input; put StopGradient around its result if it does not.
//   - A derivative of a derivative (a Hessian-vector product is the JVP of a gradient) works as far as the operations of
//     the reverse pass have rules, which those of convolutions and max-pooling do.
package forward

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// UnsupportedError says that an operation between inputs and outputs has no forward derivative here. JVP panics with it,
// as graph-building functions do; errors.As finds it after exceptions.TryCatch.
type UnsupportedError struct {
	Op     string // GoMLX's name of the operation
	Node   string // the node as GoMLX prints it, with its number in the graph
	Reason string // why not, and the remedy if there is one
}

func (e *UnsupportedError) Error() string {
	text := fmt.Sprintf("forward: operation %s has no forward derivative, at %s", e.Op, e.Node)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

func unsupported(node *graph.Node, reason string) {
	panic(error(&UnsupportedError{Op: operationName(node.Type()), Node: node.String(), Reason: reason}))
}

// operationName also knows the types that GoMLX defines outside its enumeration.
func operationName(t graph.NodeType) string {
	switch t {
	case graph.NodeTypeCall:
		return "Call"
	case graph.NodeTypeSort:
		return "Sort"
	case graph.NodeTypeWhile:
		return "While"
	case graph.NodeTypeIf:
		return "If"
	}
	return t.String()
}

// JVP returns, for each output, its directional derivative along the tangents of all inputs together, shaped and typed
// as the output; zeros where it does not depend on them.
//
// Inputs are float or complex nodes of the graph, each given once: parameters, the value nodes of variables, or
// intermediate results. Each tangent has the shape and dtype of its input, nil standing for zeros. An input is a cut: what
// it is computed from gets no tangent through it, and a StopGradient on it does not matter.
//
// It is a graph-building function: it panics where arguments do not fit, and with an error that joins an *UnsupportedError
// for each operation between inputs and outputs that has no rule.
func JVP(outputs, inputs, tangents []*graph.Node) []*graph.Node {
	return jvp(pass{tangents: map[graph.NodeId]*graph.Node{}}, outputs, inputs, tangents)
}

// JVPThroughStops is JVP of what the outputs compute, whatever the model declares constant: it passes through StopGradient.
func JVPThroughStops(outputs, inputs, tangents []*graph.Node) []*graph.Node {
	return jvp(pass{tangents: map[graph.NodeId]*graph.Node{}, throughStops: true}, outputs, inputs, tangents)
}

func jvp(p pass, outputs, inputs, tangents []*graph.Node) []*graph.Node {
	if len(inputs) != len(tangents) {
		exceptions.Panicf("forward: %d inputs and %d tangents; each input needs one, nil if it is zero", len(inputs), len(tangents))
	}
	for i, input := range inputs {
		if _, twice := p.tangents[input.Id()]; twice {
			exceptions.Panicf("forward: input %d, %s, is given twice; add its tangents", i, input)
		}
		if tangents[i] != nil {
			if !tangents[i].Shape().Equal(input.Shape()) {
				exceptions.Panicf("forward: input %d is %s and its tangent %s; they must be the same", i, input.Shape(), tangents[i].Shape())
			}
			if !differentiable(input.DType()) {
				exceptions.Panicf("forward: input %d is %s, which has no tangent; give nil", i, input.Shape())
			}
		}
		p.tangents[input.Id()] = tangents[i]
	}
	derivatives := make([]*graph.Node, len(outputs))
	var faults []error
	known := map[string]bool{}
	for i, output := range outputs {
		for _, node := range p.pending(output) {
			fault := exceptions.TryCatch[*UnsupportedError](func() { p.tangents[node.Id()] = p.tangent(node) })
			if fault == nil {
				continue
			}
			p.tangents[node.Id()] = graph.OnesLike(node) // anything, to see what else has no rule
			if !known[fault.Op+fault.Reason] {
				known[fault.Op+fault.Reason] = true
				faults = append(faults, fault)
			}
		}
		if derivatives[i] = p.tangents[output.Id()]; derivatives[i] == nil {
			derivatives[i] = graph.ZerosLike(output)
		}
	}
	if len(faults) > 0 {
		panic(errors.Join(faults...))
	}
	return derivatives
}

// pass holds the tangents found so far; nil is zero.
type pass struct {
	tangents     map[graph.NodeId]*graph.Node
	throughStops bool
}

// pending lists the nodes without a tangent so far that output depends on, and itself, inputs before their users.
func (p pass) pending(output *graph.Node) []*graph.Node {
	var nodes []*graph.Node
	visited := map[graph.NodeId]bool{}
	for stack := []*graph.Node{output}; len(stack) > 0; {
		node := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if _, done := p.tangents[node.Id()]; done || visited[node.Id()] {
			continue
		}
		visited[node.Id()] = true
		nodes = append(nodes, node)
		stack = append(stack, p.dependencies(node)...)
	}
	slices.SortFunc(nodes, func(a, b *graph.Node) int { return int(a.Id()) - int(b.Id()) })
	return nodes
}

// dependencies lists the nodes whose tangents make up that of node.
func (p pass) dependencies(node *graph.Node) []*graph.Node {
	if node.StopGradient() && !p.throughStops || !differentiable(node.DType()) {
		return nil
	}
	op, _ := source(node)
	switch op.Type() {
	case graph.NodeTypeIf:
		p.refuseHidden(op, "its branches may read the inputs; if they do not, put StopGradient around its result")
	case graph.NodeTypeFusedScaledDotProductAttention:
		p.refuseHidden(op, fusedAttention)
	}
	return op.Inputs()
}

// refuseHidden panics if an operation that does not show all that it reads could read a node with a tangent.
func (p pass) refuseHidden(op *graph.Node, reason string) {
	for id, tangent := range p.tangents {
		if tangent != nil && id < op.Id() {
			unsupported(op, reason)
		}
	}
}

// tangent applies the rule of a node whose dependencies have their tangents.
func (p pass) tangent(node *graph.Node) *graph.Node {
	inputs := p.dependencies(node)
	tangents := make([]*graph.Node, len(inputs))
	for i, input := range inputs {
		tangents[i] = p.tangents[input.Id()]
	}
	if !slices.ContainsFunc(tangents, func(t *graph.Node) bool { return t != nil }) {
		return nil
	}
	op, _ := source(node)
	apply := ruleOf(op.Type())
	if apply == nil {
		unsupported(op, "")
	}
	t := apply(node, inputs, tangents)
	if t != nil && !t.Shape().Equal(node.Shape()) {
		exceptions.Panicf("forward: the tangent of %s came out as %s", node, t.Shape())
	}
	return t
}

func differentiable(dtype dtypes.DType) bool { return dtype.IsFloat() || dtype.IsComplex() }
