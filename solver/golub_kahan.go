package solver

import (
	"context"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// golubKahan bounds forms by block Golub-Kahan bidiagonalisation of the factor A, started from the right-hand sides G = V_1 C:
//
//	A V_j = U_{j-1} S_{j-1}^T + U_j A_j,   A^T U_j = V_j A_j^T + V_{j+1} S_j.
//
// With B upper block bidiagonal, of diagonal A_j and above it S_j^T, A V = U B, and A^T U = V_+ B_+^T with one block column more. For every x
// and every u the form of g with itself lies between
//
//	2 g^T x - ||A x||^2 - lambda ||x||^2   and   ||u||^2 + ||g - A^T u||^2 / lambda,
//
// and the best x in the span of V and u in that of U make of them the block Gauss and Gauss-Radau rules,
//
//	low = C^T E^T (B^T B + lambda)^-1 E C   and   the same with B_+:
//
// no shift, and nothing is subtracted. They are evaluated by the orthogonal factorisation of [B; sqrt(lambda) I], never from B^T B.
//
// U is kept, and what is new in it is orthogonalised against all of it. So is V where its vectors are not much longer than those of U. Of a longer
// one there are V_1 and the latest block, and what it loses of orthogonality shows in U^T A V, where it is measured (docs/solver.md).
//
// Golub and Kahan 1965; Golub, Luk and Overton 1981 (blocks); Simon and Zha 2000 (one-sided reorthogonalisation).
type golubKahan[V any] struct {
	factor  ResidentFactor[V]
	lambdas []float64
	sides   []V // right-hand sides, before the start

	left       side[[]float64] // U in R^Rows, on the host
	right      side[V]         // V_+ in R^Dim
	dimensions Dimensions
	keepsRight bool       // V, beside U; else of V_+ there is the latest block alone
	first      []V        // V_1
	starts     *mat.Dense // C, [b_1, k]
	stored     float64    // what arithmetic and storage lose of a vector of V, of norm 1
	lost       []float64  // norm of what V_1 C leaves of each right-hand side
	above      *mat.Dense // S_{j-1}^T, [rows of U_{j-1}, b_j]; nil for the first
	ended      bool       // the space is invariant

	diagonals []*mat.Dense // A_j
	aboves    []*mat.Dense // S_j^T; nil for the last of an invariant space

	error   float64   // of a product of a vector of norm 1, relative to scale
	scale   float64   // ||A||, from above
	images  []float64 // by vector of V: norm of what should vanish of its image in U, and was left out of it
	backs   []float64 // by vector of U: norm of what should vanish of its image in what there is of V, and was left out of it
	drifts  []float64 // by vector of V but those of V_1: norm of V_1^T v; empty where V is kept
	defect  float64   // largest norm of what Image and Adjoint disagree by
	expects []float64 // images of the vectors of V that are to be multiplied, as expected

	garbage     garbage
	quadratures []*bidiagonal
	settled     map[int]*bounds // by lambda, from solutions that were multiplied themselves
	residual    float64         // of the latest of those, the largest
}

// side is a growing set of orthonormal vectors, of which those before the latest block may have been given back.
type side[V any] struct {
	basis[V]
	count int // vectors so far, there or not
	last  int // those of the latest block
}

func (s *side[V]) block() []V { return s.vectors[s.size()-s.last:] }

// extend takes images w of the other side off what they have along the vectors there, and appends the directions that they
// have besides, longer than tolerance: w = expected (latest block) + fresh (new block), but for beyond, the coefficients of vectors
// there that were not expected, [rows of w, vectors there], and rows of the norms left. fresh is nil where there is no direction.
//
// What is expected is subtracted first, without a look at what there is: the rest is rounding, and basis.extend takes it off.
func (s *side[V]) extend(w []V, expected mat.Matrix, tolerance float64) (fresh, beyond *mat.Dense, left []float64) {
	before := s.size()
	if before > 0 {
		s.space.add(w, negated(expected), s.block())
	}
	beyond, fresh, left = s.basis.extend(w, tolerance)
	s.last = s.size() - before
	s.count += s.last
	return fresh, beyond, left
}

// forget gives what came before the latest block back, but for V_1.
func (f *golubKahan[V]) forget() {
	s := &f.right
	if s.count > len(f.first)+s.last {
		s.space.Free(s.vectors[:s.size()-s.last])
	}
	s.vectors = slices.Clone(s.block())
}

func (f *golubKahan[V]) take(g []float64) {
	side := f.right.space.take(1)
	f.right.space.put(side[0], g)
	f.sides = append(f.sides, side[0])
}

func (f *golubKahan[V]) start() {
	transposed, _, lost := f.right.extend(f.sides, nil, max(dependent, storedRoundoffs*f.right.space.Roundoff()))
	f.sides, f.lost, f.starts = nil, lost, mat.DenseCopyOf(transposed.T())
	f.first = slices.Clone(f.right.vectors)
	for _, lambda := range f.lambdas {
		f.quadratures = append(f.quadratures, &bidiagonal{quadrature: newQuadrature(lambda, f.starts)})
	}
}

func (f *golubKahan[V]) close() {
	if f.right.count > f.right.size() && !f.keepsRight {
		f.right.space.Free(f.first)
	}
	f.right.space.Free(f.right.vectors)
	f.left.space.Free(f.left.vectors)
}

func (f *golubKahan[V]) step(ctx context.Context) (products int64, err error) {
	if f.ended {
		return 0, nil
	}
	v := f.right.block()
	b := len(v)
	w := f.left.space.take(b)
	sizes, err := f.image(ctx, w, v)
	if err != nil {
		return 0, err
	}
	f.scale = max(f.scale, floats.Max(sizes))
	var expected mat.Matrix
	if f.above != nil {
		expected = f.above.T()
	}
	fresh, beyond, left := f.left.extend(w, expected, f.product()) // what is shorter is noise
	for i := range b {
		f.images = append(f.images, math.Hypot(rowNorm(beyond, i), left[i]))
	}
	f.expects = nil
	if fresh == nil {
		// U is invariant: A V_j lies in it.
		for _, q := range f.quadratures {
			q.addLast()
		}
		f.ended = true
		f.diagonals, f.aboves = append(f.diagonals, mat.NewDense(1, b, nil)), append(f.aboves, nil)
		return int64(b), nil
	}
	diagonal := mat.DenseCopyOf(fresh.T()) // A_j, [b', b]
	u := f.left.block()
	z := f.right.space.take(len(u))
	if err := f.adjoint(ctx, z, u); err != nil {
		return 0, err
	}
	fresh, beyond, left = f.right.extend(z, diagonal, f.product())
	for i := range u {
		f.backs = append(f.backs, math.Hypot(rowNorm(beyond, i), left[i])+f.stored*rowNorm(fresh, i))
	}
	// Image and Adjoint agree on U_j^T A V_j.
	_, end := beyond.Dims()
	f.defect = max(f.defect, mat.Norm(beyond.Slice(0, len(u), end-b, end), 2))
	var above *mat.Dense // S_j^T, [rows of U_j, b_{j+1}]
	if fresh != nil {
		above = fresh
		if !f.keepsRight {
			f.forget()
		}
		f.expect(above)
	} else {
		f.ended = true
	}
	f.diagonals, f.above, f.aboves = append(f.diagonals, diagonal), above, append(f.aboves, above)
	for _, q := range f.quadratures {
		q.addBlock(diagonal, above)
	}
	return int64(b), nil
}

// expect says what the images of V_{j+1} are likely to have beyond what is expected, and measures what it has along V_1.
func (f *golubKahan[V]) expect(above *mat.Dense) {
	if f.keepsRight {
		f.expects = slices.Repeat([]float64{2 * (f.product() + floats.Max(f.images))}, f.right.last)
		return
	}
	along := f.right.space.inner(f.right.block(), f.first)
	largest := f.product() + floats.Max(f.images)
	for i := range f.right.last {
		f.drifts = append(f.drifts, floats.Norm(along.RawRowView(i), 2))
		// Of a direction that is short, errors are a larger share.
		f.expects = append(f.expects, math.Hypot(2*largest, f.scale*min(1, 2*largest/mat.Norm(above.ColView(i), math.Inf(1)))))
	}
}

// rowNorm is that of a row, 0 of no matrix.
func rowNorm(m *mat.Dense, i int) float64 {
	if m == nil {
		return 0
	}
	return floats.Norm(m.RawRowView(i), 2)
}

// image writes the images of vectors of the parameters' space, and returns their norms.
func (f *golubKahan[V]) image(ctx context.Context, dst [][]float64, v []V) (sizes []float64, err error) {
	for i := range v {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := f.factor.ImageOf(dst[i], v[i]); err != nil {
			return nil, err
		}
		f.garbage.product(f.factor.Dim())
	}
	sizes = norms(dst)
	if sum := floats.Sum(sizes); math.IsNaN(sum) || math.IsInf(sum, 0) {
		return nil, ErrNotFinite
	}
	return sizes, nil
}

// adjoint writes those of vectors of U under the adjoint.
func (f *golubKahan[V]) adjoint(ctx context.Context, dst []V, u [][]float64) error {
	for i := range u {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := f.factor.AdjointInto(dst[i], u[i]); err != nil {
			return err
		}
		f.garbage.product(f.factor.Dim())
	}
	return nil
}

// coordinates are those in U of A x for the coordinates of x in V_+: w = B_+ x.
func (f *golubKahan[V]) coordinates(x []float64) []float64 {
	w := make([]float64, 0, f.left.count)
	at := 0
	for j, diagonal := range f.diagonals {
		rows, columns := diagonal.Dims()
		part := mat.NewVecDense(rows, nil)
		part.MulVec(diagonal, mat.NewVecDense(columns, x[at:at+columns]))
		at += columns
		if above := f.aboves[j]; above != nil && at < len(x) {
			var more mat.VecDense
			more.MulVec(above, mat.NewVecDense(above.RawMatrix().Cols, x[at:at+above.RawMatrix().Cols]))
			part.AddVec(part, &more)
		}
		w = append(w, part.RawVector().Data...)
	}
	return w[:f.left.count]
}

// solutions are the dual and primal solutions u = U w and x = (g - A^T u) / lambda of some right-hand sides as long vectors, and A x.
type solutions[V any] struct {
	u, images [][]float64
	x         []V
}

// multiply forms the solutions of right-hand sides that have these coordinates in V_+. The caller releases them.
func (f *golubKahan[V]) multiply(ctx context.Context, coordinates *mat.Dense, sides []int, lambda float64) (s solutions[V], err error) {
	k := len(sides)
	s = solutions[V]{u: f.left.space.take(k), x: f.right.space.take(k), images: f.left.space.take(k)}
	if f.left.count > 0 { // not of a factor that is zero
		w := mat.NewDense(k, f.left.count, nil)
		for i := range k {
			w.SetRow(i, f.coordinates(coordinates.RawRowView(i)))
		}
		f.left.space.add(s.u, w, f.left.vectors)
	}
	if err := f.adjoint(ctx, s.x, s.u); err != nil {
		return s, err
	}
	f.right.space.transform(s.x, scaled(-1/lambda, k))
	given := f.given(sides)
	given.Scale(1/lambda, given)
	f.right.space.add(s.x, given, f.first)
	_, err = f.image(ctx, s.images, s.x)
	return s, err
}

func (f *golubKahan[V]) release(s solutions[V]) {
	f.left.space.Free(append(s.u, s.images...))
	f.right.space.Free(s.x)
}

// given are the coordinates of some right-hand sides in V_1, as rows.
func (f *golubKahan[V]) given(sides []int) *mat.Dense {
	c := mat.NewDense(len(sides), len(f.first), nil)
	for i, side := range sides {
		c.SetRow(i, mat.Col(nil, side, f.starts))
	}
	return c
}

func (f *golubKahan[V]) bytes(more int) int64 {
	return f.dimensions.bytes(len(f.lost), f.left.count+more)
}

func (f *golubKahan[V]) held() int64 { return f.left.space.Bytes() + f.right.space.Bytes() }

func (f *golubKahan[V]) next() (products, vectors int) {
	if f.ended {
		return 0, 0
	}
	return f.right.last, f.right.last
}

func (f *golubKahan[V]) largest() float64 { return square(f.scale) }
func (f *golubKahan[V]) lowest() float64  { return 0 }
