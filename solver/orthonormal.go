package solver

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// basis is a growing set of orthonormal vectors.
type basis struct {
	vectors [][]float64
	arena   *arena // that of the vectors
}

func (o *basis) size() int { return len(o.vectors) }

// project subtracts from the rows of w their parts along some orthonormal vectors and returns the coefficients.
func project(w, vectors [][]float64) (coefficients *mat.Dense) {
	coefficients = inner(w, vectors)
	add(w, negated(coefficients), vectors)
	return coefficients
}

// extend appends vectors that, with those already there, span the rows of w up to norm tolerance:
//
//	w = along (vectors before) + fresh (vectors appended),
//
// up to rows of the norms left. The rows of w, from the arena, become the new vectors or go back to it. along is nil where
// there were no vectors, fresh where nothing was left.
//
// The rows should have been over project, or be nearly orthogonal to the vectors for another reason. A direction is
// orthogonalised once it has norm 1, so that one that is short against its row comes out as orthogonal as the others. If
// that takes most of its length it is orthogonalised again, and if it loses most of that too it was noise and is left out.
func (o *basis) extend(w [][]float64, tolerance float64) (along, fresh *mat.Dense, left []float64) {
	const noise = 0.5
	if o.size() > 0 {
		along = mat.NewDense(len(w), o.size(), nil)
	}
	fresh, left = orthonormalise(w, tolerance)
	rank := width(fresh)
	for least := dependent; rank > 0; least = noise {
		if o.size() > 0 {
			h := project(w[:rank], o.vectors)
			var part mat.Dense
			part.Mul(fresh, h)
			along.Add(along, &part)
		}
		change, lost := orthonormalise(w[:rank], least)
		for i, length := range lost {
			for r := range left {
				left[r] += length * math.Abs(fresh.At(r, i))
			}
		}
		shortest := 1.0
		if rank = width(change); rank > 0 {
			for i := range rank {
				shortest = min(shortest, mat.Norm(change.ColView(i), math.Inf(1))) // the pivot
			}
			var product mat.Dense
			product.Mul(fresh, change)
			fresh = &product
		}
		if shortest > noise || least == noise {
			break
		}
	}
	o.vectors = append(o.vectors, w[:rank]...)
	o.arena.give(w[rank:])
	if rank == 0 {
		fresh = nil
	}
	return along, fresh, left
}

// width is the number of columns, 0 for nil.
func width(m *mat.Dense) int {
	if m == nil {
		return 0
	}
	return m.RawMatrix().Cols
}

// orthonormalise turns leading rows of w into orthonormal ones, q, with w = c q up to rows of norm at most tolerance. c is nil
// if no row is longer than tolerance; the norms of what is left of the rows are in the order they had.
//
// Rounds of Cholesky's method on the matrix of inner products, with pivoting. A round goes on as long as rounding in that
// matrix, which the squares of the norms lose digits to, leaves half of them; so that what is short against its row waits
// for a round of its own. Vectors come out orthogonal to about ten digits, and to all by doing it twice (Yamamoto,
// Nakatsukasa, Yanagisawa and Fukaya 2015), which extend does.
func orthonormalise(w [][]float64, tolerance float64) (c *mat.Dense, left []float64) {
	const reach = 1e-3 // of a row's norm
	b := len(w)
	order, rank := all(b), 0
	left = make([]float64, b)
	c = mat.NewDense(b, b, nil)
	for rank < b {
		open := w[rank:]
		if rank > 0 {
			h := project(open, w[:rank])
			for i := range open {
				floats.Add(c.RawRowView(order[rank+i])[:rank], h.RawRowView(i))
			}
		}
		products := gram(open)
		taken := 0
		l := mat.NewDense(len(open), len(open), nil)
		lengths := make([]float64, len(open)) // squared, of what is left of each row
		for i := range open {
			lengths[i] = products.At(i, i)
		}
		// Rows are exchanged with all that belongs to them; the products are symmetric.
		for taken < len(open) {
			pivot := taken + floats.MaxIdx(lengths[taken:])
			length := lengths[pivot]
			if !(length > square(tolerance)) || length < square(reach)*products.At(pivot, pivot) {
				break
			}
			exchange(products, taken, pivot)
			lengths[taken], lengths[pivot] = lengths[pivot], lengths[taken]
			open[taken], open[pivot] = open[pivot], open[taken]
			order[rank+taken], order[rank+pivot] = order[rank+pivot], order[rank+taken]
			swap(l.RawRowView(taken), l.RawRowView(pivot))
			l.Set(taken, taken, math.Sqrt(length))
			for i := taken + 1; i < len(open); i++ {
				along := (products.At(i, taken) - floats.Dot(l.RawRowView(i)[:taken], l.RawRowView(taken)[:taken])) / l.At(taken, taken)
				l.Set(i, taken, along)
				lengths[i] -= square(along)
			}
			taken++
		}
		if taken == 0 {
			for i := range open {
				left[order[rank+i]] = math.Sqrt(products.At(i, i))
			}
			break
		}
		substitute(open, l, taken)
		for i := range open {
			copy(c.RawRowView(order[rank+i])[rank:], l.RawRowView(i)[:min(i+1, taken)])
		}
		rank += taken
	}
	if rank == 0 {
		return nil, left
	}
	return mat.DenseCopyOf(c.Slice(0, b, 0, rank)), left
}

// exchange swaps two rows and columns of a square matrix.
func exchange(m *mat.Dense, i, j int) {
	swap(m.RawRowView(i), m.RawRowView(j))
	for r := range m.RawMatrix().Rows {
		row := m.RawRowView(r)
		row[i], row[j] = row[j], row[i]
	}
}

func swap(a, b []float64) {
	if &a[0] == &b[0] {
		return
	}
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}
