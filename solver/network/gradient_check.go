package network

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/network/forward"
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
	report.Fault = n.firstFault(x, training, report.Limit)
	return report, nil
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

// CheckDerivative compares the derivative of the model on a batch x with finite differences of what it computes, along one direction
// without structure, and returns how far they are apart, relative to the derivative: the least over three step sizes, for a kink or a jump
// may lie within a step. StopGradient is passed through. It needs a network in double precision, whose weights it moves and puts back.
//
// It finds operations that compute something else than they stand for, as a fused layer norm of GoMLX v0.28's Go backend does.
func (n *Network) CheckDerivative(x *tensors.Tensor) (apart float64, err error) {
	random := rand.New(rand.NewPCG(1, 1))
	v, weights := make([]float64, n.dim), make([]float64, 0, n.dim)
	for i := range v {
		v[i] = random.NormFloat64()
	}
	for _, p := range n.params {
		value, err := p.Value()
		if err != nil {
			return 0, fmt.Errorf("network: %w", err)
		}
		weights = append(weights, tensors.MustCopyFlatData[float64](value)...)
	}
	floats.Scale((floats.Norm(weights, 2)+1e-3)/floats.Norm(v, 2), v)
	exec := program(n, func(scope *model.Scope, args []*graph.Node) *graph.Node {
		inputs, v := last(args)
		return n.directional(forward.JVPThroughStops, n.build(scope, inputs), v)
	})
	defer exec.Finalize()
	image, err := n.along(exec, v, x)
	if err != nil {
		return 0, err
	}
	derivative, err := Values(image)
	if err != nil {
		return 0, err
	}
	at := func(step float64) ([]float64, error) {
		moved := slices.Clone(weights)
		floats.AddScaled(moved, step, v)
		if err := n.setWeights(moved); err != nil {
			return nil, err
		}
		output, err := n.Predict(x)
		if err != nil {
			return nil, err
		}
		return Values(output)
	}
	apart = math.Inf(1)
	for _, step := range []float64{1e-5, 1e-6, 1e-7} {
		above, err := at(step)
		if err != nil {
			return 0, err
		}
		below, err := at(-step)
		if err != nil {
			return 0, err
		}
		floats.Sub(above, below)
		floats.Scale(1/(2*step), above)
		apart = min(apart, floats.Distance(above, derivative, 2)/math.Max(floats.Norm(derivative, 2), 1e-30))
	}
	return apart, n.setWeights(weights)
}

// setWeights replaces the parameters, in double precision.
func (n *Network) setWeights(flat []float64) error {
	for _, p := range n.params {
		size := p.Shape().Size()
		if err := p.SetValue(tensors.FromFlatDataAndDimensions(slices.Clone(flat[:size]), p.Shape().Dimensions...)); err != nil {
			return fmt.Errorf("network: %w", err)
		}
		flat = flat[size:]
	}
	return nil
}

// HasFusedNorm reports whether the model, on a batch like x, has a fused layer norm with an offset and without a gain.
func (n *Network) HasFusedNorm(x *tensors.Tensor) (found bool, err error) {
	err = n.trace(x, false, func(output *graph.Node) {
		found = slices.ContainsFunc(ancestors(output), func(node *graph.Node) bool {
			return node.Type() == graph.NodeTypeFusedLayerNorm && len(node.Inputs()) == 2
		})
	})
	return found, err
}

// StoppedGradients says how far the gradient of the model in training differs from the derivative of what it computes, because of
// StopGradient: ||J v - J' v|| / ||J' v|| for a v without structure, J' passing through them; and where they are. That is as it should
// be where the model means it. The network's copy changes as it does in CheckGradient.
func (n *Network) StoppedGradients(x *tensors.Tensor) (share float64, stops []Stop, err error) {
	err = n.trace(x, true, func(output *graph.Node) { stops = n.stops(output) })
	if err != nil || len(stops) == 0 {
		return 0, nil, err
	}
	share, err = n.number(x, true, func(output *graph.Node) *graph.Node {
		parameters := n.parametersIn(output.Graph())
		v := waves(parameters, 0)
		through := forward.JVPThroughStops([]*graph.Node{output}, parameters, v)
		difference := graph.Sub(through[0], forward.JVP([]*graph.Node{output}, parameters, v)[0])
		return ratio(norm([]*graph.Node{difference}), norm(through))
	})
	return share, stops, err
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
	return cause.In("network", cause.Of(err))
}

// number builds the model on a batch of float32 or float64, and a program of its output whose result is a scalar, nil for 0, and runs
// it once.
func (n *Network) number(x *tensors.Tensor, training bool, build func(output *graph.Node) *graph.Node) (value float64, err error) {
	x, err = ConvertDType(x, n.dtype)
	if err != nil {
		return 0, err
	}
	defer x.FinalizeAll() //nolint:errcheck // frees a copy
	exec := program(n, func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
		n.store.SetTraining(inputs[0].Graph(), training)
		output := n.build(scope, inputs)
		if built := build(output); built != nil {
			return built
		}
		return graph.ScalarZero(output.Graph(), n.dtype)
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
// smaller model. The fault is the operation with which the gradient of these becomes wrong; nil where that cannot be found.
func (n *Network) firstFault(x *tensors.Tensor, training bool, limit float64) *GradientFault {
	var fault GradientFault
	var count int
	failed := false
	wrongAfter := func(k int) bool {
		found, err := n.number(x, training, func(output *graph.Node) *graph.Node {
			order := ancestors(output)
			count = len(order)
			k := min(k, count)
			fault = n.describe(order[k-1])
			return adjointError(cut(order, k, output), n.parametersIn(output.Graph()))
		})
		failed = failed || err != nil
		return !(found <= limit)
	}
	if !wrongAfter(math.MaxInt) || failed {
		return nil
	}
	first := 1 + sort.Search(count, func(i int) bool { return wrongAfter(i + 1) })
	if !wrongAfter(first) || failed { // describes it
		return nil
	}
	return &fault
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

// adjointError is |<u, J v> - <J^T u, v>| / (||u|| ||J v||) for fixed u and v without structure, over all outputs together; nil, for 0,
// where there is nothing to compare. u has entries of 1e-3 to 1e3, for a gradient that depends on their size, as one that is clipped
// does, is right for some.
func adjointError(outputs, inputs []*graph.Node) *graph.Node {
	if len(outputs) == 0 || len(inputs) == 0 {
		return nil
	}
	v, u := waves(inputs, 0), waves(outputs, len(inputs))
	for i := range u {
		u[i] = graph.Mul(u[i], graph.Exp(graph.MulScalar(waves(outputs[i:i+1], -i-1)[0], math.Log(1e3))))
	}
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
