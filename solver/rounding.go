package solver

import (
	"context"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// rounding follows by how much the small matrices miss the products of the operator, vector by vector of the space V:
//
//	eta V = V T + V_+ B + R,   ||R e_j|| <= column(j).
//
// What solutions x = V y lose by it is at most the sum of column(j) |y_j|, whatever the errors of the products have in common, and the
// operator that T belongs to exactly differs from eta by at most norm (docs/solver.md).
type rounding struct {
	error  float64   // of a product of a vector of norm 1, relative to scale
	scale  float64   // lambda_max, from above: a bound, or the largest norm of a product so far
	seen   []float64 // by vector: twice the norm of what should vanish in the projection of its image, and what was left out of that
	sizes  []float64 // by vector: the norm of images there, which the arithmetic in float64 is relative to
	defect float64   // largest norm of what should vanish in the projection of an image

	garbage garbage
}

// ProductRoundoffs are those that a product of a vector of norm 1 may be off by where no more is said, FormOptions.ProductError in units of Roundoff.
const ProductRoundoffs = 8

const (
	hostRoundoffs   = 16 // of orthogonalising a vector and of the small matrices, in units of the norm of its image
	storedRoundoffs = 8  // of a vector that is orthogonalised and stored in less than float64: each time that it is written
)

const unitRoundoff = 0x1p-53 // of float64

// product bounds what a product of a vector of norm 1 loses.
func (r *rounding) product() float64 { return r.error * r.scale }

// column bounds the j-th column of R.
func (r *rounding) column(j int) float64 {
	return r.product() + r.seen[j] + hostRoundoffs*unitRoundoff*r.sizes[j]
}

// norm bounds that of R.
func (r *rounding) norm() float64 {
	total := 0.0
	for j := range r.seen {
		total = math.Hypot(total, r.column(j))
	}
	return max(total, r.product())
}

// saw takes a vector whose image has the norm size, and what should vanish in its projection the norm defect; left has been left out.
func (r *rounding) saw(size, defect, left float64) {
	r.seen, r.sizes = append(r.seen, 2*defect+left), append(r.sizes, size)
	r.defect = max(r.defect, defect)
}

// asymmetric reports whether what should vanish is far more than rounding leaves, which of networks is up to 400 times as much as is
// assumed where it is not measured: the operator is not symmetric.
func (r *rounding) asymmetric() bool {
	const far = 500
	return r.defect > far*r.product()
}

// shift is how far below zero the node of the Radau rule is put so as to lie below the spectrum, with room for errors to come.
func (r *rounding) shift(lambda float64) float64 {
	return 1.25*r.norm() + hostRoundoffs*unitRoundoff*lambda
}

// multiply writes the images of the rows of v into those of dst and returns their norms.
func (r *rounding) multiply(ctx context.Context, op Operator, dst, v [][]float64) (sizes []float64, err error) {
	for i := range v {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := op.Apply(mat.NewDense(1, len(dst[i]), dst[i]), mat.NewDense(1, len(v[i]), v[i])); err != nil {
			return nil, err
		}
		r.garbage.product(len(v[i]))
	}
	sizes = norms(dst)
	for _, size := range sizes {
		if math.IsNaN(size) || math.IsInf(size, 0) {
			return nil, ErrNotFinite
		}
		r.scale = max(r.scale, size)
	}
	return sizes, nil
}

// complete adds to low and gap of b what rounding may change. y are the coordinates of the solutions in V as rows, residuals the norms
// of theirs, lost those of what the space leaves of the right-hand sides, and shift is that of the Radau node.
func (r *rounding) complete(b *bounds, shift float64, y *mat.Dense, residuals, lost []float64) {
	const host = hostRoundoffs * unitRoundoff
	k := len(lost)
	b.sizes, b.errors, b.lost = make([]float64, k), make([]float64, k), make([]float64, k)
	for i := range k {
		row := y.RawRowView(i)
		b.sizes[i] = floats.Norm(row, 2)
		for j, value := range row {
			b.errors[i] += (r.column(j) + host*b.lambda) * math.Abs(value)
		}
		// V is orthonormal, and orthogonal to the residuals, but for rounding.
		b.lost[i] = lost[i] + host*(1+residuals[i])
	}
	norm := r.norm()
	b.unreachable = b.unreachable || shift+norm >= b.lambda || r.asymmetric()
	if b.unreachable {
		b.gap = nil
	}
	if b.gap != nil {
		// The rule is that of an operator >= lambda - shift which is at most norm above eta + lambda.
		b.gap.ScaleSym((b.lambda-shift)/(b.lambda-shift-norm), b.gap)
	}
}
