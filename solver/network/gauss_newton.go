package network

import (
	"errors"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network/forward"
)

// GaussNewton is the generalised Gauss-Newton metric of a batch, a solver.Operator,
//
//	eta = scale * sum over samples of J_x^T H_x J_x,
//
// H_x the Hessian of a sample's loss with respect to its output.
type GaussNewton struct {
	factor  *Factor // sqrt(scale) J
	hessian *lossHessian
}

// GaussNewton returns the metric of the batch x with its labels, of weights loaded before; most is that of Factor. It holds x and the labels, which must
// stay alive; these are in the network's precision where they are of a float type.
//
// The loss must be the mean of losses of single samples. eta is positive semidefinite only if these are convex in the
// output, as SMSE and cross-entropy are: LossCurvature tells. Where the loss has a kink, the curvature is that beside it.
//
// Schraudolph, Fast curvature matrix-vector products for second-order gradient descent, Neural Computation 14 (2002).
// Martens, New insights and perspectives on the natural gradient method, JMLR 21 (2020).
func (n *Network) GaussNewton(x *tensors.Tensor, scale float64, most int64, labels ...*tensors.Tensor) (*GaussNewton, error) {
	output, err := n.Predict(x)
	if err != nil {
		return nil, err
	}
	factor, err := n.Factor(x, scale, most)
	if err != nil {
		return nil, errors.Join(err, output.FinalizeAll())
	}
	return &GaussNewton{factor, &lossHessian{network: n, output: output, labels: labels, scale: 1}}, nil
}

// Dim is the number of parameters.
func (g *GaussNewton) Dim() int { return g.factor.Dim() }

// Apply writes the images of the rows of v, [k, Dim], to those of dst, [k, Dim].
func (g *GaussNewton) Apply(dst, v *mat.Dense) error {
	k, _ := v.Dims()
	images, curved := mat.NewDense(k, g.factor.Rows(), nil), mat.NewDense(k, g.factor.Rows(), nil)
	if err := g.factor.Image(images, v); err != nil {
		return err
	}
	if err := g.hessian.Apply(curved, images); err != nil {
		return err
	}
	return g.factor.Adjoint(dst, curved)
}

// Linearised reports whether the residuals are kept.
func (g *GaussNewton) Linearised() bool { return g.factor.Linearised() }

// Bytes is the memory that the residuals take.
func (g *GaussNewton) Bytes() int64 { return g.factor.Bytes() }

// Close frees the residuals and the output.
func (g *GaussNewton) Close() error {
	return errors.Join(g.factor.Close(), g.hessian.output.FinalizeAll())
}

// hessianVector is the image of a direction in output space, shaped as the output of a batch, under the Hessian of the sum of its
// samples' losses.
func (n *Network) hessianVector(output *graph.Node, labels []*graph.Node, direction *graph.Node) *graph.Node {
	// The loss is differentiated twice at a copy that is cut off from the model; Identity because GoMLX gives a StopGradient
	// node itself no gradient.
	leaf := graph.Identity(graph.StopGradient(output))
	if n.outputs > 1 {
		exceptions.Panicf("the metric ggn needs a model with one output, this has %d: use ntk or fisher", n.outputs)
	}
	loss := n.scalarLoss(labels, []*graph.Node{leaf})
	slope := graph.Gradient(graph.MulScalar(loss, output.Shape().Dimensions[0]), leaf)[0]
	return forward.JVP([]*graph.Node{slope}, []*graph.Node{leaf}, []*graph.Node{direction})[0]
}

// LossCurvature estimates the smallest and the largest eigenvalue of the Hessian of a batch's loss in the model's outputs, both from
// within, by steps Lanczos steps each, which run the loss and not the network. A negative one says that the loss is not convex there
// and GaussNewton no metric; few steps can miss one that is near 0.
func (n *Network) LossCurvature(x *tensors.Tensor, steps int, labels ...*tensors.Tensor) (smallest, largest float64, err error) {
	output, err := n.Predict(x)
	if err != nil {
		return 0, 0, err
	}
	defer output.FinalizeAll() //nolint:errcheck // frees a result
	const seed = 1
	h := &lossHessian{network: n, output: output, labels: labels, scale: 1}
	if largest, _, err = solver.LargestEigenvalue(h, steps, seed); err != nil {
		return 0, 0, err
	}
	// Beside the largest, eigenvalues near 0 are hard to tell apart: all are moved so that the smallest is the one that stands out.
	h.scale, h.shift = -1, max(0, largest)
	if smallest, _, err = solver.LargestEigenvalue(h, steps, seed); err != nil {
		return 0, 0, err
	}
	return h.shift - smallest, largest, nil
}

// lossHessian is scale H + shift for the Hessian H of a batch's loss in its outputs.
type lossHessian struct {
	network      *Network
	output       *tensors.Tensor
	labels       []*tensors.Tensor
	scale, shift float64
}

func (h *lossHessian) Dim() int { return h.output.Size() }

func (h *lossHessian) Apply(dst, v *mat.Dense) error {
	rows, _ := v.Dims()
	for i := range rows {
		direction, err := argument(h.network, v.RawRowView(i), 1)
		if err != nil {
			return err
		}
		outputs, err := h.network.call(h.network.hessian, slices.Concat([]*tensors.Tensor{h.output}, h.labels, []*tensors.Tensor{direction})...)
		if err != nil {
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
