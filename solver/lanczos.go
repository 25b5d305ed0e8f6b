package solver

import (
	"context"
	"errors"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// blockLanczos builds an orthonormal basis V of the block Krylov space of eta and a block of vectors G, in which eta is
// block tridiagonal with diagonal blocks T_j and, below them, B_j:
//
//	eta V_j = V_{j-1} B_{j-1}^T + V_j T_j + V_{j+1} B_j,   G = V_1 C.
//
// Each new block is orthogonalised against the whole basis: without that, eigenvectors that have converged come back and
// cost products again. Directions that depend on the others are left out, so blocks shrink and G may be rank deficient.
//
// Vectors are rows here, as everywhere in this package, and the formulas are transposed accordingly.
//
// Golub and Underwood 1977; Golub and Van Loan, Matrix Computations, 4th ed., section 10.3.6.
type blockLanczos struct {
	orthonormal // V_1, V_2, ...; the last one is next to be multiplied
	rounding
	op    Operator
	below *mat.Dense // B_{j-1}, [b_j, b_{j-1}], of the last block; nil for the first
	image []float64  // space for a block that is not kept: they would pile up until the next garbage collection
}

// dependent is the norm, relative to the block's, below which a direction counts as dependent on the others. It is a
// few roundings of float64: with single-precision products what remains of a dependent direction is noise, which does
// no harm in the basis.
const dependent = 1e-14

// newBlockLanczos starts from the rows of g, of norm 1 or 0. It returns C^T, [rows of g, b_1], and the norms of what C
// leaves of each row.
func newBlockLanczos(op Operator, g *mat.Dense) (l *blockLanczos, start *mat.Dense, lost []float64) {
	work := mat.DenseCopyOf(g)
	first, start := orthonormalise(work, dependent)
	lost = make([]float64, start.RawMatrix().Rows)
	for i := range lost {
		lost[i] = floats.Norm(work.RawRowView(i), 2)
	}
	l = &blockLanczos{op: op}
	l.sides = len(lost)
	if first != nil {
		l.blocks = []*mat.Dense{first}
	}
	return l, start, lost
}

// step multiplies the last block by the operator and appends the next. It returns T_j, [b_j, b_j], and B_j, [b_{j+1},
// b_j]; B_j is nil when the space is invariant.
func (l *blockLanczos) step(ctx context.Context) (diagonal *mat.SymDense, below *mat.Dense, err error) {
	last := len(l.blocks) - 1
	v := l.blocks[last]
	b, n := v.Dims()
	w := reuse(&l.image, b, n)
	if err := l.multiply(ctx, l.op, w, v); err != nil {
		return nil, nil, err
	}
	defect := 0.0
	for j, h := range l.project(w) {
		switch j {
		case last:
			diagonal = mat.NewSymDense(b, nil)
			for r := range b {
				for c := r; c < b; c++ {
					diagonal.SetSym(r, c, (h.At(r, c)+h.At(c, r))/2)
					half := (h.At(r, c) - h.At(c, r)) / 2
					defect += 2 * half * half
				}
			}
		case last - 1:
			var difference mat.Dense
			difference.Sub(h, l.below)
			defect += square(mat.Norm(&difference, 2))
		default:
			defect += square(mat.Norm(h, 2))
		}
	}
	l.defect = max(l.defect, math.Sqrt(defect))
	coefficients, dropped := l.extend(w, dependent*l.scale)
	l.dropped = max(l.dropped, dropped)
	if coefficients == nil {
		return diagonal, nil, nil
	}
	l.below = mat.DenseCopyOf(coefficients.T())
	return diagonal, l.below, nil
}

func square(x float64) float64 { return x * x }

var errNotFinite = errors.New("solver: a product with the metric is not finite: are the weights or the inputs finite?")
