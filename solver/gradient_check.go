package solver

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/forward"
)

// GradientReport says whether reverse mode is the adjoint of forward mode, <u, J v> = <J^T u, v>, for a model.
type GradientReport struct {
	Error float64        // |<u, J v> - <J^T u, v>| / (||u|| ||J v||) for the whole model
	Limit float64        // the largest error that rounding explains
	Fault *GradientFault // the first operation at fault, in the order of the graph; searched for only if Error is above Limit
}

// OK reports whether the model's gradient can be trusted.
func (r GradientReport) OK() bool { return r.Error <= r.Limit }

// CheckGradient tests the gradient of the model on a batch x, float32 or float64, for the price of two products. If it fails, the
// model is cut after some of its operations, by bisection, to find the first whose gradient is wrong. Reverse mode is known to be
// wrong, without any error, for convolutions with an even kernel in GoMLX v0.28 whose input depends on parameters.
//
// With training the model is built as in training. Its running averages and random state in the network's copy then change: use a
// network that is for this alone.
//
// A model that computes in a lower precision than the network's, whatever its input, is an error: it rounds more than anyone counts.
func (n *Network) CheckGradient(x *tensors.Tensor, training bool) (GradientReport, error) {
	report := GradientReport{Limit: 1e-9}
	if n.dtype == dtypes.Float32 {
		report.Limit = 1e-3
	}
	measured, err := n.number(x, training, func(output *graph.Node) *graph.Node {
		n.refuseLowPrecision(output)
		return adjointError([]*graph.Node{output}, n.parametersIn(output.Graph()))
	})
	report.Error = measured
	if err != nil || report.OK() || math.IsNaN(report.Error) {
		return report, err
	}
	report.Fault, err = n.firstFault(x, training, report.Limit)
	return report, err
}

// CheckPrecision is an error if the model does not compute in the network's precision throughout, for a batch like x. Nothing is compiled.
func (n *Network) CheckPrecision(x *tensors.Tensor) error {
	return n.trace(x, false, n.refuseLowPrecision)
}

// TrainsAsItEvaluates reports whether the model is the same graph in training as in evaluation, on a batch like x: without dropout
// or batch statistics, for instance. Nothing is compiled.
func (n *Network) TrainsAsItEvaluates(x *tensors.Tensor) (same bool, err error) {
	var printed [2][]string
	for i, training := range []bool{false, true} {
		if err := n.trace(x, training, func(output *graph.Node) {
			for _, node := range ancestors(output) {
				printed[i] = append(printed[i], node.String())
			}
		}); err != nil {
			return false, err
		}
	}
	return slices.Equal(printed[0], printed[1]), nil
}

// StoppedGradients says how far the gradient of the model in training differs from the derivative of what it computes, because of
// StopGradient: ||J v - J' v|| / ||J' v|| for a v without structure, J' passing through them; and where they are. That is as it should
// be where the model means it. The network's copy changes as it does in CheckGradient.
func (n *Network) StoppedGradients(x *tensors.Tensor) (share float64, places []string, err error) {
	err = n.trace(x, true, func(output *graph.Node) { places = n.stops(output) })
	if err != nil || len(places) == 0 {
		return 0, nil, err
	}
	share, err = n.number(x, true, func(output *graph.Node) *graph.Node {
		parameters := n.parametersIn(output.Graph())
		v := waves(parameters, 0)
		through := forward.JVPThroughStops([]*graph.Node{output}, parameters, v)
		difference := graph.Sub(through[0], forward.JVP([]*graph.Node{output}, parameters, v)[0])
		return ratio(norm([]*graph.Node{difference}), norm(through))
	})
	return share, places, err
}

// trace builds the model for a batch like x and its further inputs, to be looked at, not run.
func (n *Network) trace(x *tensors.Tensor, training bool, look func(output *graph.Node)) error {
	g := graph.NewGraph(n.backend, "trace")
	defer g.Finalize()
	err := exceptions.TryCatch[error](func() {
		n.store.SetTraining(g, training)
		inputs := []*graph.Node{graph.Parameter(g, "x", shapes.Make(n.dtype, x.Shape().Dimensions...))}
		for i, further := range n.further {
			inputs = append(inputs, graph.Parameter(g, fmt.Sprint("further", i), further.Shape()))
		}
		look(n.build(n.store.RootScope(), inputs))
	})
	return cause.In("solver", cause.Of(err))
}

// number builds the model on a batch of float32 or float64, and a program of its output whose result is a scalar, and runs it once.
func (n *Network) number(x *tensors.Tensor, training bool, build func(output *graph.Node) *graph.Node) (value float64, err error) {
	x, err = ConvertDType(x, n.dtype)
	if err != nil {
		return 0, err
	}
	defer x.FinalizeAll() //nolint:errcheck // frees a copy
	exec := program(n, func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
		n.store.SetTraining(inputs[0].Graph(), training)
		return build(n.build(scope, inputs))
	})
	defer exec.Finalize()
	outputs, err := n.run(exec, x)
	if err != nil {
		return 0, err
	}
	var scalar [1]float64
	err = drain(scalar[:], outputs[0])
	return scalar[0], err
}

// parametersIn are the nodes of the parameters that a graph uses.
func (n *Network) parametersIn(g *graph.Graph) (nodes []*graph.Node) {
	for _, p := range n.params {
		if p.InUseByGraph(g) {
			nodes = append(nodes, p.NodeValue(g))
		}
	}
	return nodes
}

// firstFault cuts the model after k of its operations: what has been computed by then and is still needed is the output of a
// smaller model. The fault is the operation with which the gradient of these becomes wrong.
func (n *Network) firstFault(x *tensors.Tensor, training bool, limit float64) (*GradientFault, error) {
	var fault GradientFault
	var count int
	wrongAfter := func(k int) (bool, error) {
		found, err := n.number(x, training, func(output *graph.Node) *graph.Node {
			order := ancestors(output)
			count = len(order)
			k := min(k, count)
			fault = n.describe(order[k-1])
			return adjointError(cut(order, k, output), n.parametersIn(output.Graph()))
		})
		return err == nil && !(found <= limit), err
	}
	if wrong, err := wrongAfter(math.MaxInt); err != nil || !wrong {
		return nil, err
	}
	var failed error
	first := 1 + sort.Search(count, func(i int) bool {
		wrong, err := wrongAfter(i + 1)
		failed = cmp.Or(failed, err)
		return wrong
	})
	if failed != nil {
		return nil, failed
	}
	_, err := wrongAfter(first) // describes it
	return &fault, err
}

// cut lists what the first k nodes of an order hand on to the others, or are the output, as far as it can be differentiated:
// real and imaginary parts of what is complex, and the parts of what has several outputs once they are split.
func cut(order []*graph.Node, k int, output *graph.Node) (live []*graph.Node) {
	needed := map[graph.NodeId]bool{output.Id(): true}
	for _, node := range order[k:] {
		for _, input := range node.Inputs() {
			needed[input.Id()] = true
		}
	}
	for _, node := range order[:k] {
		switch {
		case !needed[node.Id()] || node.NumOutputs() != 1:
		case node.DType().IsComplex():
			live = append(live, graph.Real(node), graph.Imag(node))
		case node.DType().IsFloat():
			live = append(live, node)
		}
	}
	return live
}

// adjointError is |<u, J v> - <J^T u, v>| / (||u|| ||J v||) for fixed u and v without structure, over all outputs together.
func adjointError(outputs, inputs []*graph.Node) *graph.Node {
	v, u := waves(inputs, 0), waves(outputs, len(inputs))
	images := forward.JVP(outputs, inputs, v)
	gradients := graph.Gradient(dot(u, outputs), inputs...)
	difference := graph.Sub(dot(u, images), dot(gradients, v))
	return ratio(graph.Abs(difference), graph.Mul(norm(u), norm(images)))
}

func ratio(part, whole *graph.Node) *graph.Node {
	const tiny = 1e-30 // a derivative that is 0 has no error
	return graph.Div(part, graph.MaxScalar(whole, tiny))
}

// dot is the inner product of two lists of nodes, in the precision of the first.
func dot(a, b []*graph.Node) *graph.Node {
	sum := graph.ReduceAllSum(graph.Mul(a[0], b[0]))
	for i := 1; i < len(a); i++ {
		term := graph.ReduceAllSum(graph.Mul(a[i], b[i]))
		sum = graph.Add(sum, graph.ConvertDType(term, sum.DType()))
	}
	return sum
}

func norm(a []*graph.Node) *graph.Node { return graph.Sqrt(dot(a, a)) }

// waves fill the shapes of nodes with values in [-1, 1] that look random and are the same each time.
func waves(like []*graph.Node, phase int) []*graph.Node {
	filled := make([]*graph.Node, len(like))
	for i, node := range like {
		index := graph.IotaFull(node.Graph(), shapes.Make(node.DType(), node.Shape().Size()))
		wave := graph.Sin(graph.AddScalar(graph.MulScalar(index, 12.9898), float64(phase+i)))
		filled[i] = graph.Reshape(wave, node.Shape().Dimensions...)
	}
	return filled
}

// ancestors lists the nodes that outputs depend on and themselves, inputs before their users.
func ancestors(outputs ...*graph.Node) []*graph.Node {
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
	for _, output := range outputs {
		visit(output)
	}
	return ordered
}
