package forward

import (
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
)

// GoMLX v0.28 has no reverse-mode derivative of batch normalisation in evaluation mode, where mean and variance are given, so that a
// model trained with norm.BatchNorm could not be differentiated as it is evaluated. With normal = (x - mean) inverse and slope =
// scale inverse, y = scale normal + offset. A later GoMLX's own rule is left alone.
func init() {
	if graph.VJPRegistration[graph.NodeTypeBatchNormForInference] == nil {
		graph.VJPRegistration[graph.NodeTypeBatchNormForInference] = batchNormForInferenceGradient
	}
}

func batchNormForInferenceGradient(node *graph.Node, v []*graph.Node, _ shapes.Shape) []*graph.Node {
	inputs := node.Inputs()
	n := newBatchNorm(node, inputs[0], inputs[1], inputs[3], inputs[4])
	perFeature := func(x *graph.Node, of int) *graph.Node {
		return graph.Reshape(graph.ReduceSum(x, n.axes...), inputs[of].Shape().Dimensions...)
	}
	x := graph.Mul(v[0], n.slope)
	return []*graph.Node{
		x,
		perFeature(graph.Mul(v[0], n.normal), 1),
		perFeature(v[0], 2),
		perFeature(graph.Neg(x), 3),
		perFeature(graph.MulScalar(graph.Mul(graph.Mul(x, n.normal), n.inverse), -0.5), 4),
	}
}
