package solver

import (
	"fmt"
	"math"
	"path"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/solver/forward"
)

// GradientReport says whether reverse mode is the adjoint of forward mode, <u, J v> = <J^T u, v>, for a model.
type GradientReport struct {
	Error  float64         // |<u, J v> - <J^T u, v>| / (||u|| ||J v||) for the whole model
	Limit  float64         // the largest error that rounding explains
	Faults []GradientFault // the operations at fault, in the order of the graph; searched for only if Error is above Limit
}

// OK reports whether the model's gradient can be trusted.
func (r GradientReport) OK() bool { return r.Error <= r.Limit }

// FaultsString names the operations at fault in one line, with what is known to help.
func (r GradientReport) FaultsString() string {
	if len(r.Faults) == 0 {
		return "no single operation is at fault"
	}
	var faults []string
	for _, fault := range r.Faults {
		faults = append(faults, fault.String())
	}
	if advice := r.Faults[0].Advice(); advice != "" {
		faults = append(faults, advice)
	}
	return strings.Join(faults, "; ")
}

// GradientFault is an operation whose reverse-mode gradient is not the adjoint of its derivative.
type GradientFault struct {
	Layer     string  // scope of the variables that enter the operation, "" if none is near
	Operation string  // GoMLX's name for it
	Error     float64 // as in GradientReport, of this operation alone
}

// Advice is what to do about a fault that is known; "" for one that is not.
func (f GradientFault) Advice() string {
	if f.Operation == graph.NodeTypeConvGeneral.String() {
		return "GoMLX v0.28 has no right gradient for convolutions with an even kernel: use an odd one"
	}
	return ""
}

func (f GradientFault) String() string {
	layer := f.Layer
	if layer == "" {
		layer = "(a layer without variables)"
	}
	return fmt.Sprintf("%s in layer %s, off by %.2g", f.Operation, layer, f.Error)
}

// CheckGradient tests the gradient of the model on a batch x, float32 or float64, for the price of two products; if it
// fails, each operation is tested alone to find the layer at fault. Reverse mode is known to be wrong, without any error,
// for convolutions with an even kernel in GoMLX v0.28 whose input depends on parameters.
func (n *Network) CheckGradient(x *tensors.Tensor) (GradientReport, error) {
	x, err := ConvertDType(x, n.dtype)
	if err != nil {
		return GradientReport{}, err
	}
	defer x.FinalizeAll() //nolint:errcheck // frees a copy
	report := GradientReport{Limit: 1e-9}
	if n.dtype == dtypes.Float32 {
		report.Limit = 1e-3
	}
	whole := model.MustNewExec(n.backend, n.store, func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
		output := n.model(scope, inputs)
		var nodes []*graph.Node
		for _, p := range n.params {
			if p.InUseByGraph(output.Graph()) {
				nodes = append(nodes, p.NodeValue(output))
			}
		}
		return adjointError(output, nodes)
	})
	defer whole.Finalize()
	errs, err := n.numbers(whole, x)
	if err != nil {
		return report, err
	}
	report.Error = errs[0]
	if report.OK() {
		return report, nil
	}

	var candidates []GradientFault
	each := model.MustNewExec(n.backend, n.store, func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
		var alone []*graph.Node
		candidates, alone = n.operations(n.model(scope, inputs))
		return graph.Stack(alone, 0)
	})
	defer each.Finalize()
	if errs, err = n.numbers(each, x); err != nil {
		return report, err
	}
	for i, candidate := range candidates {
		if errs[i] > report.Limit || math.IsNaN(errs[i]) {
			candidate.Error = errs[i]
			report.Faults = append(report.Faults, candidate)
		}
	}
	return report, nil
}

// numbers runs a program of a batch whose result is a vector or a scalar.
func (n *Network) numbers(exec *model.Exec, x *tensors.Tensor) ([]float64, error) {
	outputs, err := n.run(exec, x)
	if err != nil {
		return nil, err
	}
	values := make([]float64, outputs[0].Size())
	return values, drain(values, outputs[0])
}

// operations repeats every operation that output depends on with inputs of its own, and returns its adjoint error.
func (n *Network) operations(output *graph.Node) (candidates []GradientFault, alone []*graph.Node) {
	layers := map[graph.NodeId]string{}
	for _, p := range n.params {
		if p.InUseByGraph(output.Graph()) {
			layers[p.NodeValue(output).Id()] = path.Dir(p.Path())
		}
	}
	for _, node := range ancestors(output) {
		if node.NumOutputs() != 1 || !node.DType().IsFloat() || len(node.Inputs()) == 0 {
			continue
		}
		var errorNode *graph.Node
		// What cannot be repeated or derived alone is left out: the search is for operations that derive wrongly.
		_ = exceptions.TryCatch[error](func() {
			inputs, leaves := make([]*graph.Node, len(node.Inputs())), []*graph.Node(nil)
			for i, input := range node.Inputs() {
				inputs[i] = input
				if input.NumOutputs() == 1 && input.DType().IsFloat() {
					inputs[i] = graph.Identity(graph.StopGradient(input))
					leaves = append(leaves, inputs[i])
				}
			}
			if len(leaves) > 0 {
				errorNode = adjointError(node.CloneWithInputs(inputs...), leaves)
			}
		})
		if errorNode != nil {
			candidates = append(candidates, GradientFault{Layer: nearestLayer(node, layers), Operation: node.Type().String()})
			alone = append(alone, errorNode)
		}
	}
	return candidates, alone
}

// adjointError is |<u, J v> - <J^T u, v>| / (||u|| ||J v||) for fixed u and v without structure.
func adjointError(output *graph.Node, inputs []*graph.Node) *graph.Node {
	u := wave(output.Graph(), output.Shape(), 0)
	tangents := make([]*graph.Node, len(inputs))
	for i, input := range inputs {
		tangents[i] = wave(output.Graph(), input.Shape(), i+1)
	}
	image := forward.JVP([]*graph.Node{output}, inputs, tangents)[0]
	difference := graph.ReduceAllSum(graph.Mul(u, image))
	for i, gradient := range graph.Gradient(graph.ReduceAllSum(graph.Mul(output, u)), inputs...) {
		difference = graph.Sub(difference, graph.ReduceAllSum(graph.Mul(gradient, tangents[i])))
	}
	size := graph.Sqrt(graph.Mul(graph.ReduceAllSum(graph.Square(u)), graph.ReduceAllSum(graph.Square(image))))
	return graph.Div(graph.Abs(difference), graph.MaxScalar(size, 1e-30))
}

// wave fills a shape with values in [-1, 1] that look random and are the same each time.
func wave(g *graph.Graph, shape shapes.Shape, phase int) *graph.Node {
	index := graph.IotaFull(g, shapes.Make(shape.DType, shape.Size()))
	return graph.Reshape(graph.Sin(graph.AddScalar(graph.MulScalar(index, 12.9898), float64(phase))), shape.Dimensions...)
}

// ancestors lists the nodes that output depends on and itself, inputs before their users.
func ancestors(output *graph.Node) []*graph.Node {
	var ordered []*graph.Node
	seen := map[graph.NodeId]bool{}
	var visit func(node *graph.Node)
	visit = func(node *graph.Node) {
		if seen[node.Id()] {
			return
		}
		seen[node.Id()] = true
		for _, input := range node.Inputs() {
			visit(input)
		}
		ordered = append(ordered, node)
	}
	visit(output)
	return ordered
}

// nearestLayer searches breadth first for a variable above a node: a layer's weights are closer than those before it.
func nearestLayer(node *graph.Node, layers map[graph.NodeId]string) string {
	seen := map[graph.NodeId]bool{}
	for level := node.Inputs(); len(level) > 0; {
		var above []*graph.Node
		for _, input := range level {
			if layer, found := layers[input.Id()]; found {
				return layer
			}
			if !seen[input.Id()] {
				seen[input.Id()] = true
				above = append(above, input.Inputs()...)
			}
		}
		level = above
	}
	return ""
}
