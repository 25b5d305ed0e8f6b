package solver

import (
	"context"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// rounding follows how far the operator may be from the one whose exact projections the small matrices hold.
type rounding struct {
	roundoff float64 // of a product, relative to scale
	sides    int     // right-hand sides
	scale    float64 // lambda_max, from below: as estimated before, or the largest norm of a product so far
	defect   float64 // largest Frobenius norm of what should vanish in a projection of products
	dropped  float64 // largest norm of a direction of a product that was left out
}

// norm bounds that of the difference: what the products lose by their own roundoff, twice what their projections show of
// it, and the directions left out.
func (r *rounding) norm() float64 {
	const products = 8 // roundoffs of the largest eigenvalue in a product
	return (products*r.roundoff+r.host())*r.scale + 2*r.defect + r.dropped
}

// asymmetric reports whether what should vanish is far more than any roundoff can leave: the operator is not symmetric.
func (r *rounding) asymmetric() bool {
	const roundoffs = 1e3 // of a product; float32 leaves 1e-4 of lambda_max then
	return r.defect > roundoffs*max(r.roundoff, 0x1p-53)*r.scale && r.defect > 1e-4*r.scale
}

// host is what float64 roundoffs in orthogonalising and in the small matrices may add up to.
func (r *rounding) host() float64 { return float64(32+16*r.sides) * 0x1p-53 }

// shift is how far below zero the nodes of the quadratures are put so as to lie below the spectrum, with some room.
func (r *rounding) shift(lambda float64) float64 { return 2 * (r.norm() + r.host()*lambda) }

// multiply writes the images of the rows of v into those of dst.
func (r *rounding) multiply(ctx context.Context, op Operator, dst, v [][]float64) error {
	for i := range v {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := op.Apply(mat.NewDense(1, len(dst[i]), dst[i]), mat.NewDense(1, len(v[i]), v[i])); err != nil {
			return err
		}
	}
	for _, norm := range norms(dst) {
		if math.IsNaN(norm) || math.IsInf(norm, 0) {
			return ErrNotFinite
		}
		r.scale = max(r.scale, norm)
	}
	return nil
}

// complete sets the floors of b, or takes its gap where rounding is of the size of lambda. squares are ||x_i||^2 of the
// approximate solutions, lost the norms of what the space leaves of the right-hand sides.
func (r *rounding) complete(b *bounds, squares, lost []float64) {
	norm := r.norm()
	// What is left of g counts as rounding too, for ||A^-1 g|| is at least 1 / (lambda_max + lambda); and so does the
	// arithmetic that sums up the form, which is at least lambda ||A^-1 g||^2.
	norm += 2*floats.Max(lost)*(2*r.scale+b.lambda) + r.host()*b.lambda
	b.floor, b.least = make([]float64, len(lost)), make([]float64, len(lost))
	if norm >= b.lambda {
		b.gap = nil
	}
	if b.gap == nil {
		return
	}
	// |g^T (A^-1 - A'^-1) h| <= norm ||A^-1 g|| ||A'^-1 h||, and A' >= A - norm.
	amplified := math.Sqrt(norm / (1 - norm/b.lambda))
	for i := range lost {
		// ||A^-1 g|| <= ||x|| + ||A^-1 r||, and ||A^-1 r||^2 <= r^T A^-1 r / lambda.
		x := math.Sqrt(max(0, squares[i]))
		b.least[i] = x * amplified
		b.floor[i] = (x + math.Sqrt(b.gap.At(i, i)/b.lambda)) * amplified
	}
}
