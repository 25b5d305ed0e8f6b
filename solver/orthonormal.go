package solver

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// basis is a growing set of orthonormal vectors.
type basis[V any] struct {
	vectors []V
	space   long[V] // that of the vectors
}

func (o *basis[V]) size() int { return len(o.vectors) }

// extend appends vectors that, with those already there, span the vectors of w up to norm tolerance:
//
//	w = along (vectors before) + fresh (vectors appended),
//
// up to vectors of the norms left. Those of w become the new vectors or are given back. along is nil where there were no vectors, fresh where
// nothing was left.
//
// The vectors of w should have been over project, or be nearly orthogonal to those there for another reason. A direction is
// orthogonalised once it has norm 1, so that one that is short against its vector comes out as orthogonal as the others. If
// that takes most of its length it is orthogonalised again, and if it loses most of that too it was noise and is left out.
func (o *basis[V]) extend(w []V, tolerance float64) (along, fresh *mat.Dense, left []float64) {
	const noise = 0.5
	if o.size() > 0 {
		along = mat.NewDense(len(w), o.size(), nil)
	}
	fresh, left = orthonormalise(o.space, w, tolerance)
	rank := width(fresh)
	for least := dependent; rank > 0; least = noise {
		if o.size() > 0 {
			h := o.space.project(w[:rank], o.vectors)
			var part mat.Dense
			part.Mul(fresh, h)
			along.Add(along, &part)
		}
		change, lost := orthonormalise(o.space, w[:rank], least)
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
	o.space.Free(w[rank:])
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

// orthonormalise turns leading vectors of w into orthonormal ones, q, with w = c q up to vectors of norm at most tolerance. c is nil
// if none is longer than tolerance; the norms of what is left of the vectors are in the order they had.
//
// Rounds of Cholesky's method on the matrix of inner products, with pivoting. A round goes on as long as rounding in that
// matrix, which the squares of the norms lose digits to, leaves half of them; so that what is short against its vector waits
// for a round of its own. Vectors come out orthogonal to about ten digits, and to all by doing it twice (Yamamoto,
// Nakatsukasa, Yanagisawa and Fukaya 2015), which extend does.
func orthonormalise[V any](space long[V], w []V, tolerance float64) (c *mat.Dense, left []float64) {
	const reach = 1e-3 // of a vector's norm
	b := len(w)
	rank, left := 0, make([]float64, b)
	// Vectors are exchanged with all that belongs to them. In the order that they have now, those that came are c times those there are.
	c = mat.DenseCopyOf(scaled(1, b))
	for rank < b {
		products := space.gram(w)
		if sum := mat.Sum(products); math.IsNaN(sum) || math.IsInf(sum, 0) {
			must(ErrNotFinite)
		}
		l := mat.DenseCopyOf(scaled(1, b))
		lengths := make([]float64, b) // squared, of what is left of each vector
		for i := range b {
			lengths[i] = products.At(i, i)
		}
		taken := 0
		for ; taken < b; taken++ {
			pivot := taken
			if taken >= rank { // those before are orthonormal but for rounding
				pivot += floats.MaxIdx(lengths[taken:])
			}
			length := lengths[pivot]
			if taken >= rank && (!(length > square(tolerance)) || length < square(reach)*products.At(pivot, pivot)) {
				break
			}
			if pivot != taken {
				exchange(products, taken, pivot)
				lengths[taken], lengths[pivot] = lengths[pivot], lengths[taken]
				w[taken], w[pivot] = w[pivot], w[taken]
				swap(l.RawRowView(taken)[:taken], l.RawRowView(pivot)[:taken])
				for i := range b {
					row := c.RawRowView(i)
					row[taken], row[pivot] = row[pivot], row[taken]
				}
			}
			l.Set(taken, taken, math.Sqrt(length))
			for i := taken + 1; i < b; i++ {
				along := (products.At(i, taken) - floats.Dot(l.RawRowView(i)[:taken], l.RawRowView(taken)[:taken])) / l.At(taken, taken)
				l.Set(i, taken, along)
				lengths[i] -= square(along)
			}
		}
		if taken == rank {
			for i := range b {
				for j := rank; j < b; j++ {
					left[i] += math.Abs(c.At(i, j)) * math.Sqrt(max(0, products.At(j, j)))
				}
			}
			break
		}
		space.transform(w, inverse(l))
		var product mat.Dense
		product.Mul(c, l)
		c, rank = &product, taken
	}
	if rank == 0 {
		return nil, left
	}
	return mat.DenseCopyOf(c.Slice(0, b, 0, rank)), left
}

// inverse is that of a lower triangular matrix.
func inverse(l *mat.Dense) *mat.TriDense {
	n, _ := l.Dims()
	triangle := mat.NewTriDense(n, mat.Lower, nil)
	for i := range n {
		for j := range i + 1 {
			triangle.SetTri(i, j, l.At(i, j))
		}
	}
	must(triangle.InverseTri(triangle))
	return triangle
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
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}
