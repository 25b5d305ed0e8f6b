package forward

import (
	"slices"

	"github.com/gomlx/gomlx/core/graph"
)

// batchNorm holds what both kinds of batch normalisation share: y = scale normal + offset with
// normal = (x - mean) / sqrt(variance + epsilon), the last four per place of the feature axis.
type batchNorm struct {
	normal  *graph.Node // shaped as x
	inverse *graph.Node // 1 / sqrt(variance + epsilon), broadcasts against x
	slope   *graph.Node // scale * inverse, likewise
	axes    []int       // all axes but the feature axis
	wide    func(vector *graph.Node) *graph.Node
}

// newBatchNorm takes mean and variance from the batch where they are nil.
func newBatchNorm(op, x, scale, mean, variance *graph.Node) batchNorm {
	feature := integers(op, "featureAxis")[0]
	var n batchNorm
	for axis := range x.Rank() {
		if axis != feature {
			n.axes = append(n.axes, axis)
		}
	}
	n.wide = func(vector *graph.Node) *graph.Node {
		dimensions := slices.Repeat([]int{1}, x.Rank())
		dimensions[feature] = x.Shape().Dimensions[feature]
		return graph.Reshape(vector, dimensions...)
	}
	if mean == nil {
		mean = graph.ReduceMean(x, n.axes...)
	}
	centred := graph.Sub(x, n.wide(mean))
	if variance == nil {
		variance = graph.ReduceMean(graph.Square(centred), n.axes...)
	}
	n.inverse = n.wide(graph.Reciprocal(graph.Sqrt(graph.AddScalar(variance, number(op, "epsilon", 32)))))
	n.slope = graph.Mul(n.wide(scale), n.inverse)
	n.normal = graph.Mul(centred, n.inverse)
	return n
}

// affine is the part of the tangent that comes from x, scale and offset.
func (n batchNorm) affine(dx, dScale, dOffset *graph.Node) *graph.Node {
	total := times(dx, n.slope)
	if dScale != nil {
		total = add(total, graph.Mul(n.normal, n.wide(dScale)))
	}
	if dOffset != nil {
		total = add(total, graph.BroadcastToShape(n.wide(dOffset), n.normal.Shape()))
	}
	return total
}

func batchNormForInference(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	n := newBatchNorm(node, inputs[0], inputs[1], inputs[3], inputs[4])
	total := n.affine(t[0], t[1], t[2])
	if t[3] != nil {
		total = add(total, graph.BroadcastToShape(graph.Neg(graph.Mul(n.slope, n.wide(t[3]))), node.Shape()))
	}
	if t[4] != nil {
		factor := graph.MulScalar(graph.Mul(graph.Mul(n.slope, n.inverse), n.wide(t[4])), -0.5)
		total = add(total, graph.Mul(n.normal, factor))
	}
	return total
}

// batchNormForTraining has the outputs normalised, batch mean and batch variance. What goes through mean and variance is
// dy = slope (dx - mean(dx) - normal mean(normal dx)).
func batchNormForTraining(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	op, index := source(node)
	n := newBatchNorm(op, inputs[0], inputs[1], nil, nil)
	var mean, correlation, dx *graph.Node
	if t[0] != nil {
		mean = graph.ReduceMean(t[0], n.axes...)
		correlation = graph.ReduceMean(graph.Mul(n.normal, t[0]), n.axes...)
		dx = graph.Sub(graph.Sub(t[0], n.wide(mean)), graph.Mul(n.normal, n.wide(correlation)))
	}
	switch index {
	case 0:
		return n.affine(dx, t[1], t[2])
	case 1:
		return mean
	}
	if t[0] == nil {
		return nil
	}
	inverse := graph.Reshape(n.inverse, node.Shape().Dimensions...)
	return graph.MulScalar(graph.Div(correlation, inverse), 2)
}
