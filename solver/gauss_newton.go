package solver

import (
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/solver/forward"
)

// GaussNewton returns the generalised Gauss-Newton metric of a batch as an operator,
//
//	eta = scale * sum over samples of J_x^T H_x J_x,
//
// H_x the Hessian of a sample's loss with respect to its output, for the weights loaded at the time of each product. It
// holds x and y, which must stay alive; y is in the network's precision where it is of a float type.
//
// The loss must be the mean of losses of single samples. eta is positive semidefinite only if these are convex in the
// output, as SMSE and cross-entropy are: nothing checks that. Where the loss has a kink, the curvature is that beside it.
//
// Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, Neural Computation 14 (2002).
// Martens, New insights and perspectives on the natural gradient method, JMLR 21 (2020).
func (n *Network) GaussNewton(x, y *tensors.Tensor, scale float64) Operator {
	return &metric{network: n, exec: n.curvature, x: x, labels: []any{y}, scale: scale}
}

// gaussNewtonVector is the sum over the batch of J^T H J v for a flat vector v.
func (n *Network) gaussNewtonVector(scope *model.Scope, args []*graph.Node) *graph.Node {
	batch, v := last(args)
	inputs, y := last(batch)
	output := n.model(scope, inputs)
	// The loss is derived twice at a copy that is cut off from the model; Identity because GoMLX gives a StopGradient node
	// itself no gradient.
	leaf := graph.Identity(graph.StopGradient(output))
	loss := n.loss([]*graph.Node{y}, []*graph.Node{leaf})
	if !loss.IsScalar() {
		loss = graph.ReduceAllMean(loss)
	}
	slope := graph.Gradient(graph.MulScalar(loss, inputs[0].Shape().Dimensions[0]), leaf)[0]
	image := n.jacobianVector(output, v)
	curved := forward.JVP([]*graph.Node{slope}, []*graph.Node{leaf}, []*graph.Node{image})[0]
	return n.flatGradient(graph.ReduceAllSum(graph.Mul(output, graph.StopGradient(curved))))
}
