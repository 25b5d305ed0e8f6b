package solver

import (
	"errors"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

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
// output, as SMSE and cross-entropy are: LossCurvature tells. Where the loss has a kink, the curvature is that beside it.
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
	curved := n.hessianVector(output, y, n.jacobianVector(output, v))
	return n.flatGradient(graph.ReduceAllSum(graph.Mul(output, graph.StopGradient(curved))))
}

// hessianVector is the image of a direction in output space, shaped as the output of a batch, under the Hessian of the sum of its
// samples' losses.
func (n *Network) hessianVector(output, y, direction *graph.Node) *graph.Node {
	// The loss is differentiated twice at a copy that is cut off from the model; Identity because GoMLX gives a StopGradient
	// node itself no gradient.
	leaf := graph.Identity(graph.StopGradient(output))
	loss := n.loss([]*graph.Node{y}, []*graph.Node{leaf})
	if !loss.IsScalar() {
		loss = graph.ReduceAllMean(loss)
	}
	slope := graph.Gradient(graph.MulScalar(loss, output.Shape().Dimensions[0]), leaf)[0]
	return forward.JVP([]*graph.Node{slope}, []*graph.Node{leaf}, []*graph.Node{direction})[0]
}

// LossCurvature estimates the smallest and the largest eigenvalue of the Hessian of a batch's loss in the model's outputs, both from
// within, by steps Lanczos steps each, which run the loss and not the network. A negative one says that the loss is not convex there
// and GaussNewton no metric; few steps can miss one that is near 0.
func (n *Network) LossCurvature(x, y *tensors.Tensor, steps int) (smallest, largest float64, err error) {
	output, err := n.Predict(x)
	if err != nil {
		return 0, 0, err
	}
	defer output.FinalizeAll() //nolint:errcheck // frees a result
	const seed = 1
	h := &lossHessian{network: n, output: output, y: y, scale: 1}
	if largest, _, err = LargestEigenvalue(h, steps, seed); err != nil {
		return 0, 0, err
	}
	// Beside the largest, eigenvalues near 0 are hard to tell apart: all are moved so that the smallest is the one that stands out.
	h.scale, h.shift = -1, max(0, largest)
	if smallest, _, err = LargestEigenvalue(h, steps, seed); err != nil {
		return 0, 0, err
	}
	return h.shift - smallest, largest, nil
}

// lossHessian is scale H + shift for the Hessian H of a batch's loss in its outputs.
type lossHessian struct {
	network      *Network
	output, y    *tensors.Tensor
	scale, shift float64
}

func (h *lossHessian) Dim() int { return h.output.Size() }

func (h *lossHessian) Apply(dst, v *mat.Dense) error {
	rows, _ := v.Dims()
	alone := h.network.With() // the loss takes no further input of the model
	for i := range rows {
		direction := alone.vector(v.RawRowView(i))
		outputs, err := alone.run(alone.hessian, h.output, h.y, direction)
		if err = errors.Join(err, direction.FinalizeAll()); err != nil {
			return err
		}
		if err := drain(dst.RawRowView(i), outputs[0]); err != nil {
			return err
		}
	}
	dst.Scale(h.scale, dst)
	for i := range rows {
		floats.AddScaled(dst.RawRowView(i), h.shift, v.RawRowView(i))
	}
	return nil
}
