package solver

import (
	"context"
	"errors"

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
	basis[[]float64] // V_1, V_2, ...; the last one is next to be multiplied
	rounding
	op     Operator
	starts []int      // of the blocks in the basis
	below  *mat.Dense // B_{j-1}, [b_j, b_{j-1}], of the last block; nil for the first
	latest float64    // largest norm of an image of the block before
}

// dependent is the norm, relative to the block's, below which a direction counts as dependent on the others. It is a
// few roundings of float64: with single-precision products what remains of a dependent direction is noise, which does
// no harm in the basis.
const dependent = 1e-14

// newBlockLanczos starts from the rows of g, of norm 1 or 0 and from the space, which it keeps. It returns C^T, [rows of g,
// b_1], and the norms of what C leaves of each row.
func newBlockLanczos(op Operator, g [][]float64, space long[[]float64]) (l *blockLanczos, start *mat.Dense, lost []float64) {
	l = &blockLanczos{op: op}
	l.space = space
	_, start, lost = l.extend(g, dependent)
	l.starts = []int{0}
	return l, start, lost
}

// step multiplies the last block by the operator and appends the next. It returns T_j, [b_j, b_j], and B_j, [b_{j+1},
// b_j]; B_j is nil when the space is invariant.
//
// Products lose first what the recurrence says that they have along the last two blocks, which is all but rounding, and then,
// by extend, what they have along any: the basis is read from memory twice, and not four times as by orthogonalising against
// all of it twice.
func (l *blockLanczos) step(ctx context.Context) (diagonal *mat.SymDense, below *mat.Dense, err error) {
	last := len(l.starts) - 1
	before := l.size()
	v := l.vectors[l.starts[last]:]
	b := len(v)
	w := l.space.take(b)
	sizes, err := l.multiply(ctx, l.op, w, v)
	if err != nil {
		return nil, nil, err
	}
	at := l.starts[last]
	if last > 0 {
		l.space.add(w, negated(l.below), l.vectors[l.starts[last-1]:at])
	}
	own := l.space.project(w, v)
	h, fresh, left := l.extend(w, dependent*l.scale)
	addTo(h, at, own)

	// What h has outside of a symmetric T_j is rounding.
	own = h.Slice(0, b, at, before).(*mat.Dense)
	diagonal = symmetric(own)
	own.Sub(own, diagonal)
	// The small matrices round as the larger of neighbouring blocks.
	size := floats.Max(sizes)
	for j := at; last > 0 && j > l.starts[last-1]; j-- {
		l.sizes[j-1] = max(l.sizes[j-1], size)
	}
	for i := range b {
		l.saw(max(size, l.latest), floats.Norm(h.RawRowView(i), 2), left[i])
	}
	l.latest = size
	if fresh == nil {
		return diagonal, nil, nil
	}
	l.starts = append(l.starts, before)
	l.below = mat.DenseCopyOf(fresh.T())
	return diagonal, l.below, nil
}

// addTo adds part to the columns of m that begin at one.
func addTo(m *mat.Dense, column int, part *mat.Dense) {
	rows, columns := part.Dims()
	target := m.Slice(0, rows, column, column+columns).(*mat.Dense)
	target.Add(target, part)
}

func square(x float64) float64 { return x * x }

// ErrNotFinite and ErrIndefinite are what is wrong with an operator whose products allow no solve at all.
var (
	ErrNotFinite  = errors.New("solver: a product with the metric is not finite")
	ErrIndefinite = errors.New("solver: the metric is not positive semidefinite")
)
