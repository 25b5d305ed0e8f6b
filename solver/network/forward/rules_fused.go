package forward

import (
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/layers/activation"
)

// through is the tangent of a composition that is built here from the inputs of a fused operation. What of its primal
// values GoMLX's own composition has as well, the Go backend computes once.
func through(composition *graph.Node, inputs, t []*graph.Node) *graph.Node {
	var distinct, tangents []*graph.Node
	known := map[graph.NodeId]bool{}
	for i, input := range inputs {
		if !known[input.Id()] {
			known[input.Id()] = true
			distinct, tangents = append(distinct, input), append(tangents, t[i])
		}
	}
	return JVP([]*graph.Node{composition}, distinct, tangents)[0]
}

// fusedSoftmax is ds = s (dx - sum(s dx)).
func fusedSoftmax(node *graph.Node, _, t []*graph.Node) *graph.Node {
	axis := integers(node, "axis")[0]
	weighted := graph.Mul(node, t[0])
	return graph.Sub(weighted, graph.Mul(node, graph.ReduceAndKeep(weighted, graph.ReduceSum, axis)))
}

func fusedGelu(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	x := inputs[0]
	var distribution *graph.Node
	if setting(node, "exact") == "true" {
		distribution = graph.Erf(graph.DivScalar(x, math.Sqrt2))
	} else { // Hendrycks and Gimpel 2016, section 2
		cubic := graph.Add(x, graph.MulScalar(graph.PowScalar(x, 3), 0.044715))
		distribution = graph.Tanh(graph.MulScalar(cubic, math.Sqrt(2/math.Pi)))
	}
	return through(graph.Mul(x, graph.MulScalar(graph.AddScalar(distribution, 1), 0.5)), inputs, t)
}

func fusedLayerNorm(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	x, axes := inputs[0], integers(node, "axes")
	centred := graph.Sub(x, graph.ReduceAndKeep(x, graph.ReduceMean, axes...))
	variance := graph.ReduceAndKeep(graph.Square(centred), graph.ReduceMean, axes...)
	y := graph.Div(centred, graph.Sqrt(graph.AddScalar(variance, number(node, "epsilon", 64))))
	affine := optional(node, inputs, 1, "gamma", "beta")
	if gamma := affine[0]; gamma != nil {
		y = graph.Mul(y, graph.ExpandLeftToRank(gamma, y.Rank()))
	}
	if beta := affine[1]; beta != nil {
		y = graph.Add(y, graph.ExpandLeftToRank(beta, y.Rank()))
	}
	return through(y, inputs, t)
}

func fusedDense(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	x, weights := inputs[0], inputs[1]
	axis := 0
	if setting(node, "WeightLayout") == "OutputsInput" {
		axis = weights.Rank() - 1
	}
	y := graph.DotGeneral(x, []int{x.Rank() - 1}, nil, weights, []int{axis}, nil)
	if len(inputs) > 2 {
		y = graph.Add(y, graph.ExpandLeftToRank(inputs[2], y.Rank()))
	}
	switch name := setting(node, "Activation"); name {
	case "none":
	case "gelu":
		y = activation.Gelu(y)
	case "relu":
		y = activation.Relu(y)
	case "silu":
		y = activation.Swish(y)
	case "hard_swish":
		y = activation.HardSwish(y)
	case "tanh":
		y = graph.Tanh(y)
	default:
		unsupported(node, fmt.Sprintf("its activation %s is not known", name))
	}
	return through(y, inputs, t)
}

// fusedProjection is one of query, key and value = x W[:, columns] + bias.
func fusedProjection(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	op, index := source(node)
	x, weights := inputs[0], inputs[1]
	query, keyValue := integers(op, "queryDim")[0], integers(op, "keyValueDim")[0]
	from := []int{0, query, query + keyValue}[index]
	to := []int{query, query + keyValue, query + 2*keyValue}[index]
	columns := graph.Slice(weights, graph.AxisRange(), graph.AxisRange(from, to))
	y := graph.DotGeneral(x, []int{x.Rank() - 1}, nil, columns, []int{0}, nil)
	if bias := optional(op, inputs, 2, "biasQ", "biasK", "biasV")[index]; bias != nil {
		y = graph.Add(y, graph.ExpandLeftToRank(bias, y.Rank()))
	}
	return through(y, inputs, t)
}
