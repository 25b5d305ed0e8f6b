package network

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
)

// GradientFault is an operation whose reverse-mode gradient is not the adjoint of its derivative.
type GradientFault struct {
	Operation string // GoMLX's name for it, or "a custom gradient"
	Layer     string // "in layer /down/conv" where it takes the layer's own variables, "after layer /down/conv" where its input comes from there; "" if no variable is near
	Advice    string // what to do about a fault that is known; "" for one that is not
	// Deliberate is true of a gradient of the model's own (IdentityWithCustomGradient), which differs from the derivative on purpose.
	Deliberate bool
}

func (f GradientFault) String() string {
	words := f.Operation
	if f.Layer != "" {
		words += " " + f.Layer
	}
	if f.Advice != "" {
		words += "; " + f.Advice
	}
	return words
}

// describe names an operation and what is known of its gradient.
func (n *Network) describe(node *graph.Node) GradientFault {
	if node.Type() == graph.NodeTypeSplitNode {
		node = node.Inputs()[0]
	}
	fault := GradientFault{Operation: node.Type().String(), Layer: n.place(node)}
	operation := node.Type()
	switch {
	case node.CustomGradient() != nil:
		fault.Operation, fault.Deliberate = "a custom gradient", true
		fault.Advice = "it differs from the derivative on purpose, and influence needs the derivative: set custom gradients in training only (scope.IsTraining), or audit a function without them"
	case operation == graph.NodeTypeConvGeneral && hasEvenKernel(node):
		fault.Advice = "GoMLX v0.28 has no right gradient for convolutions with an even kernel, nor for pooling by one: use an odd one"
	case isComplex(node):
		fault.Operation += " of complex numbers"
		fault.Advice = "GoMLX v0.28 leaves the conjugate out of its gradient: call forward.CorrectComplexGradients (solver/network/forward) before the model is built, or compute with real and imaginary parts (Real, Imag, Complex)"
		if operation == graph.NodeTypeFFT {
			fault.Advice = "GoMLX v0.28 has no right gradient of a transform over several axes at once: call forward.CorrectComplexGradients (solver/network/forward) before the model is built, or transform one axis after the other"
		}
	case operation == graph.NodeTypeConvertDType && !node.Inputs()[0].DType().IsFloat():
		fault.Operation = "the conversion from integers (ConvertDType)"
		fault.Advice = "GoMLX v0.28 passes gradients through it, though its derivative is 0: put StopGradient around it"
	case operation == graph.NodeTypeGather && n.backend.String() == "go":
		fault.Advice = "the gradient of this Gather, which interpolation uses, is wrong on GoMLX's Go backend and right on XLA: train and audit on that; up-sampling by Reshape and BroadcastToShape needs none"
	}
	return fault
}

// isComplex reports whether an operation multiplies, or does something else than move, complex numbers.
func isComplex(node *graph.Node) bool {
	return slices.ContainsFunc(append(slices.Clone(node.Inputs()), node), func(n *graph.Node) bool { return n.DType().IsComplex() })
}

var kernelAxes = regexp.MustCompile(`KernelSpatial:\[([0-9 ]+)\]`)

// hasEvenKernel reads which axes of a convolution's kernel are those of the grid from how GoMLX prints it, the only place that shows
// them.
func hasEvenKernel(node *graph.Node) bool {
	found := kernelAxes.FindStringSubmatch(node.String())
	if found == nil {
		return false
	}
	kernel := node.Inputs()[1].Shape().Dimensions
	return slices.ContainsFunc(strings.Fields(found[1]), func(text string) bool {
		axis, err := strconv.Atoi(text)
		return err == nil && axis < len(kernel) && kernel[axis]%2 == 0
	})
}

// place searches for the variables nearest above a node, breadth first: a layer's own are closer than those before it.
func (n *Network) place(node *graph.Node) string {
	layers := n.layers(node.Graph())
	within := "in"
	seen := map[graph.NodeId]bool{}
	for level := node.Inputs(); len(level) > 0; {
		var above []*graph.Node
		for _, input := range level {
			if layer, found := layers[input.Id()]; found {
				return within + " " + layer
			}
			if !seen[input.Id()] {
				seen[input.Id()] = true
				above = append(above, input.Inputs()...)
			}
		}
		if slices.ContainsFunc(level, func(input *graph.Node) bool { return !changesShape(input) && len(input.Inputs()) > 0 }) {
			within = "after"
		}
		level = above
	}
	return ""
}

// changesShape reports whether an operation does no more to a variable than to bring it into the form that a layer needs.
func changesShape(node *graph.Node) bool {
	switch node.Type() {
	case graph.NodeTypeReshape, graph.NodeTypeTranspose, graph.NodeTypeBroadcastInDim, graph.NodeTypeConvertDType, graph.NodeTypeIdentity:
		return true
	}
	return false
}

// layers are the scopes of the parameters that a graph uses, by node.
func (n *Network) layers(g *graph.Graph) map[graph.NodeId]string {
	scopes := map[graph.NodeId]string{}
	for _, p := range n.params {
		if p.InUseByGraph(g) {
			scope := "layer " + path.Dir(p.Path())
			if path.Dir(p.Path()) == model.ScopeSeparator {
				scope = "the variables of the outermost scope"
			}
			scopes[p.NodeValue(g).Id()] = scope
		}
	}
	return scopes
}

// refuseLowPrecision panics if an output depends on parameters by way of a lower precision than the network's.
func (n *Network) refuseLowPrecision(output *graph.Node) {
	depends := n.dependents(output)
	for _, node := range ancestors(output) {
		if dtype := node.DType(); depends[node.Id()] && dtype.IsFloat() && dtype.Size() < n.dtype.Size() {
			remedy := "let it compute in that, of which audits are float32 or float64"
			if dtype == dtypes.Float32 {
				remedy = "audit it in float32 (WithDType), or let it compute in that"
			}
			exceptions.Panicf("the model computes in %s %s, whatever the precision of its input: %s", strings.ToLower(dtype.String()), n.place(node), remedy)
		}
	}
}

// dependents are the nodes of an output's graph that depend on parameters.
func (n *Network) dependents(output *graph.Node) map[graph.NodeId]bool {
	depends := map[graph.NodeId]bool{}
	for id := range n.layers(output.Graph()) {
		depends[id] = true
	}
	for _, node := range ancestors(output) {
		if slices.ContainsFunc(node.Inputs(), func(input *graph.Node) bool { return depends[input.Id()] }) {
			depends[node.Id()] = true
		}
	}
	return depends
}

// Stop is where a model stops gradients on their way to parameters.
type Stop struct {
	Place          string // the layer whose variables meet what was stopped next, or that it comes from: "before layer /norm"
	BatchStatistic bool   // what was stopped is a sum over the samples of a batch, such as a mean or a variance
}

// stops lists the stops of an output's graph.
func (n *Network) stops(output *graph.Node) (stops []Stop) {
	depends, layers := n.dependents(output), n.layers(output.Graph())
	order := ancestors(output)
	users := map[graph.NodeId][]*graph.Node{}
	for _, node := range order {
		for _, input := range node.Inputs() {
			users[input.Id()] = append(users[input.Id()], node)
		}
	}
	next := func(node *graph.Node) string {
		seen := map[graph.NodeId]bool{}
		for level := users[node.Id()]; len(level) > 0; {
			var below []*graph.Node
			for _, user := range level {
				for _, input := range user.Inputs() {
					for changesShape(input) && len(input.Inputs()) == 1 {
						input = input.Inputs()[0]
					}
					if layer, found := layers[input.Id()]; found {
						return "before " + layer
					}
				}
				if !seen[user.Id()] {
					seen[user.Id()] = true
					below = append(below, users[user.Id()]...)
				}
			}
			level = below
		}
		return n.place(node)
	}
	for _, node := range order {
		if node.StopGradient() && depends[node.Id()] && node.DType().IsFloat() {
			if stop := (Stop{next(node), isBatchStatistic(node)}); !slices.Contains(stops, stop) {
				stops = append(stops, stop)
			}
		}
	}
	return stops
}

var reducedAxes = regexp.MustCompile(`axes=\[([0-9 ]*)\]`)

// isBatchStatistic looks behind the divisions and changes of shape that make a mean of a sum.
func isBatchStatistic(node *graph.Node) bool {
	for {
		switch inputs := node.Inputs(); {
		case node.Type() == graph.NodeTypeReduceSum:
			axes := reducedAxes.FindStringSubmatch(node.String())
			return axes != nil && slices.Contains(strings.Fields(axes[1]), "0")
		case changesShape(node), node.Type() == graph.NodeTypeDiv, node.Type() == graph.NodeTypeMul:
			node = inputs[0]
		default:
			return false
		}
	}
}
