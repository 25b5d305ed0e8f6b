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
	op    Operator
	basis []*mat.Dense // V_j, [b_j, N]; the last one is next to be multiplied
	below *mat.Dense   // B_{j-1}, [b_j, b_{j-1}], of the last block; nil for the first

	image, projection []float64 // space for blocks that are not kept: they would pile up until the next garbage collection

	scale   float64 // lambda_max, from below: as estimated before, or the largest norm of a product so far
	defect  float64 // largest Frobenius norm of what should vanish in the projection of a product block: rounding in products
	dropped float64 // largest norm of a direction of a product block that was left out
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
	if first != nil {
		l.basis = []*mat.Dense{first}
	}
	return l, start, lost
}

// step multiplies the last block by the operator and appends the next. It returns T_j, [b_j, b_j], and B_j, [b_{j+1},
// b_j]; B_j is nil when the space is invariant.
func (l *blockLanczos) step(ctx context.Context) (diagonal *mat.SymDense, below *mat.Dense, err error) {
	last := len(l.basis) - 1
	v := l.basis[last]
	b, n := v.Dims()
	w := reuse(&l.image, b, n)
	const patience = 4 // products, after which to look whether anybody still waits
	for from := 0; from < b; from += patience {
		if err := context.Cause(ctx); err != nil {
			return nil, nil, err
		}
		to := min(from+patience, b)
		if err := l.op.Apply(w.Slice(from, to, 0, n).(*mat.Dense), v.Slice(from, to, 0, n).(*mat.Dense)); err != nil {
			return nil, nil, err
		}
	}
	for i := range b {
		norm := floats.Norm(w.RawRowView(i), 2)
		if math.IsNaN(norm) || math.IsInf(norm, 0) {
			return nil, nil, errNotFinite
		}
		l.scale = max(l.scale, norm)
	}
	defect := 0.0
	for j, block := range l.basis {
		var h mat.Dense // h[r, c] = <w_r, block_c>
		h.Mul(w, block.T())
		l.subtractProduct(w, &h, block)
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
			difference.Sub(&h, l.below)
			defect += square(mat.Norm(&difference, 2))
		default:
			defect += square(mat.Norm(&h, 2))
		}
	}
	l.defect = max(l.defect, math.Sqrt(defect))
	tolerance := dependent * l.scale
	next, coefficients := orthonormalise(w, tolerance)
	for i := range b {
		l.dropped = max(l.dropped, floats.Norm(w.RawRowView(i), 2))
	}
	if next != nil {
		next, coefficients = l.refine(next, coefficients)
	}
	if next == nil {
		return diagonal, nil, nil
	}
	l.basis = append(l.basis, next)
	l.below = mat.DenseCopyOf(coefficients.T())
	return diagonal, l.below, nil
}

// refine orthogonalises a new block of norm 1 against the basis once more: what the first pass left along it is small
// against the product but not against a direction that is short itself. A direction that loses most of its length was
// noise and is left out.
func (l *blockLanczos) refine(block, coefficients *mat.Dense) (next, product *mat.Dense) {
	const noise = 0.5
	for _, earlier := range l.basis {
		var h mat.Dense
		h.Mul(block, earlier.T())
		l.subtractProduct(block, &h, earlier)
	}
	next, change := orthonormalise(block, noise)
	rows, _ := block.Dims()
	for i := range rows {
		if left := floats.Norm(block.RawRowView(i), 2); left > 0 {
			l.dropped = max(l.dropped, floats.Norm(mat.Col(nil, i, coefficients), 2))
		}
	}
	if next == nil {
		return nil, nil
	}
	product = &mat.Dense{}
	product.Mul(coefficients, change)
	return next, product
}

func square(x float64) float64 { return x * x }

// size is the number of vectors in the basis.
func (l *blockLanczos) size() (vectors int) {
	for _, block := range l.basis {
		vectors += block.RawMatrix().Rows
	}
	return vectors
}

// reuse makes a matrix of space that is kept.
func reuse(space *[]float64, rows, columns int) *mat.Dense {
	if len(*space) < rows*columns {
		*space = make([]float64, rows*columns)
	}
	return mat.NewDense(rows, columns, (*space)[:rows*columns])
}

// subtractProduct is w -= h block.
func (l *blockLanczos) subtractProduct(w, h, block *mat.Dense) {
	rows, columns := w.Dims()
	product := reuse(&l.projection, rows, columns)
	product.Mul(h, block)
	w.Sub(w, product)
}

// orthonormalise returns orthonormal rows q and coefficients c with w = c q, up to rows of norm at most tolerance, by
// Gram and Schmidt's method with pivoting, each direction orthogonalised twice. w is overwritten with what is left of its
// rows. q is nil if no row is longer than tolerance.
func orthonormalise(w *mat.Dense, tolerance float64) (q, c *mat.Dense) {
	b, n := w.Dims()
	c = mat.NewDense(b, b, nil)
	directions := mat.NewDense(b, n, nil)
	open := all(b)
	rank := 0
	for len(open) > 0 {
		pivot, largest := 0, -1.0
		for at, i := range open {
			if norm := floats.Norm(w.RawRowView(i), 2); norm > largest {
				pivot, largest = at, norm
			}
		}
		if largest <= tolerance {
			break
		}
		i := open[pivot]
		open = append(open[:pivot], open[pivot+1:]...)
		direction := directions.RawRowView(rank)
		copy(direction, w.RawRowView(i))
		for j := range rank {
			along := floats.Dot(directions.RawRowView(j), direction)
			c.Set(i, j, c.At(i, j)+along)
			floats.AddScaled(direction, -along, directions.RawRowView(j))
		}
		norm := floats.Norm(direction, 2)
		if norm <= tolerance {
			copy(w.RawRowView(i), direction)
			continue
		}
		floats.Scale(1/norm, direction)
		c.Set(i, rank, norm)
		clear(w.RawRowView(i))
		for _, k := range open {
			along := floats.Dot(direction, w.RawRowView(k))
			c.Set(k, rank, along)
			floats.AddScaled(w.RawRowView(k), -along, direction)
		}
		rank++
	}
	if rank == 0 {
		return nil, c
	}
	return directions.Slice(0, rank, 0, n).(*mat.Dense), mat.DenseCopyOf(c.Slice(0, b, 0, rank))
}

var errNotFinite = errors.New("solver: a product with the metric is not finite: are the weights or the inputs finite?")
