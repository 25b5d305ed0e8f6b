package network

import (
	"errors"
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

// Factor is sqrt(scale) J for the Jacobian J of the flattened output of a batch, [Rows, Dim], the factor of Metric: a solver.Factor by one
// program for J v and one for J^T u. Where it is linearised, the primal values that these read, the residuals, are computed once and stay
// on the backend; else each product computes them again.
//
// It belongs to the weights that were loaded when it was made: a product after another Load is an error. Close frees the residuals.
type Factor struct {
	image, adjoint *metric // no metrics themselves
	rows           int
	loads          int // of the network, when the factor was made
	residuals      []*tensors.Tensor
	bytes          int64
	recomputes     error
	closed         bool
}

var _ solver.Factor = (*Factor)(nil)

// Factor returns sqrt(scale) J over the batch x, linearised if its residuals take at most so many bytes: 0 for none, math.MaxInt64 for no
// limit. They are about as many as the primal values that a gradient keeps, and known before any is computed. That a model cannot be
// linearised is no error: see Recomputes. One that draws random numbers is linearised at one draw.
//
// The factor holds x and the further inputs, which must stay alive.
func (n *Network) Factor(x *tensors.Tensor, scale float64, most int64) (*Factor, error) {
	inputs, err := n.batch(x)
	if err != nil {
		return nil, err
	}
	if err := n.begin(); err != nil {
		return nil, err
	}
	f := &Factor{loads: n.loads}
	root := math.Sqrt(scale) // multiplies vectors of outputs, which are most often shorter than those of parameters
	f.image, f.adjoint = &metric{network: n, x: x, argument: 1, result: root}, &metric{network: n, x: x, argument: root, result: 1}
	l := n.linearisation(inputs)
	f.bytes, f.recomputes = l.prepare(most)
	var outputs []*tensors.Tensor
	if f.Linearised() {
		outputs, err = n.run(l.primal, x)
	} else {
		outputs, err = n.run(n.predict, x)
	}
	if err != nil {
		return nil, err
	}
	f.rows, f.residuals = outputs[0].Size(), outputs[1:]
	if f.Linearised() {
		f.image.exec, f.image.others = l.image.exec, l.image.pick(f.residuals)
		f.adjoint.exec, f.adjoint.others = l.adjoint.exec, l.adjoint.pick(f.residuals)
	} else {
		f.image.exec, f.adjoint.exec = n.tangent, n.cotangent
	}
	return f, outputs[0].FinalizeAll()
}

// Dim is the number of parameters.
func (f *Factor) Dim() int { return f.image.Dim() }

// Rows is the size of the batch's output.
func (f *Factor) Rows() int { return f.rows }

// Image writes the images of the rows of v, [k, Dim], to those of dst, [k, Rows].
func (f *Factor) Image(dst, v *mat.Dense) error { return f.apply(f.image, dst, v) }

// Adjoint writes the images of the rows of u, [k, Rows], under the adjoint to those of dst, [k, Dim].
func (f *Factor) Adjoint(dst, u *mat.Dense) error { return f.apply(f.adjoint, dst, u) }

// ImageOf writes the image of one vector in float32, of length Dim, to dst, of length Rows. A solver that keeps vectors so spares their conversion.
func (f *Factor) ImageOf(dst []float64, v []float32) error {
	if err := f.usable(); err != nil {
		return err
	}
	return multiply(f.image, dst, v)
}

// AdjointInto writes the image of u, of length Rows, under the adjoint to dst, of length Dim, in float32.
func (f *Factor) AdjointInto(dst []float32, u []float64) error {
	if err := f.usable(); err != nil {
		return err
	}
	return multiply(f.adjoint, dst, u)
}

// Apply writes the images of the rows of v, [k, Dim], under the metric to those of dst, [k, Dim].
func (f *Factor) Apply(dst, v *mat.Dense) error {
	k, _ := v.Dims()
	images := mat.NewDense(k, f.rows, nil)
	if err := f.Image(images, v); err != nil {
		return err
	}
	return f.Adjoint(dst, images)
}

func (f *Factor) apply(half *metric, dst, v *mat.Dense) error {
	if err := f.usable(); err != nil {
		return err
	}
	return half.Apply(dst, v)
}

func (f *Factor) usable() error {
	switch {
	case f.loads != f.image.network.loads:
		return fmt.Errorf("network: weights were loaded after the factor was made; make another")
	case f.closed:
		return fmt.Errorf("network: the factor is closed")
	}
	return nil
}

// Linearised reports whether the residuals are kept.
func (f *Factor) Linearised() bool { return f.recomputes == nil }

// Recomputes says why the factor is not linearised; nil if it is.
func (f *Factor) Recomputes() error { return f.recomputes }

// Bytes is the memory that the residuals take, or would take; 0 where it is not known, as none were allowed or the model cannot be
// linearised.
func (f *Factor) Bytes() int64 { return f.bytes }

// Close frees the residuals. A closed factor makes no products; to close it again is no error.
func (f *Factor) Close() error {
	var failed error
	for _, residual := range f.residuals {
		failed = errors.Join(failed, residual.FinalizeAll())
	}
	f.residuals, f.closed = nil, true
	return failed
}
