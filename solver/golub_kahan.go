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
type golubKahan struct {
	factor  Factor
	lambdas []float64

	left, right side        // U in R^Rows, and V_+ in R^Dim
	keepsRight  bool        // V, beside U; else of V_+ there is the latest block alone
	first       [][]float64 // V_1
	start       *mat.Dense  // C, [b_1, k]
	lost        []float64   // norm of what V_1 C leaves of each right-hand side
	above       *mat.Dense  // S_{j-1}^T, [rows of U_{j-1}, b_j]; nil for the first
	ended       bool        // the space is invariant

	diagonals []*mat.Dense // A_j
	aboves    []*mat.Dense // S_j^T; nil for the last of an invariant space

	error   float64   // of a product of a vector of norm 1, relative to scale
	scale   float64   // ||A||, from above
	images  []float64 // by vector of V: norm of what should vanish of its image in U, and was left out of it
	backs   []float64 // by vector of U: norm of what should vanish of its image in what there is of V, and was left out of it
	drifts  []float64 // by vector of V but those of V_1: norm of V_1^T v; empty where V is kept
	defect  float64   // largest norm of what Image and Adjoint disagree by
	expects []float64 // images of the vectors of V that are to be multiplied, as expected

	quadratures []*bidiagonal
	settled     map[int]*bounds // by lambda, from solutions that were multiplied themselves
	residual    float64         // of the latest of those, the largest
	tried       int             // vectors of U when that was last done
}

// side is a growing set of orthonormal vectors, of which those before the latest block may have been given back.
type side struct {
	basis
	count int // vectors so far, there or not
	last  int // those of the latest block
}

func (s *side) block() [][]float64 { return s.vectors[s.size()-s.last:] }

// extend takes images w of the other side, from the arena, off what they have along the vectors there, and appends the directions that they
// have besides, longer than tolerance: w = expected (latest block) + fresh (new block), but for beyond, the coefficients of vectors
// there that were not expected, [rows of w, vectors there], and rows of the norms left. fresh is nil where there is no direction.
func (s *side) extend(w [][]float64, expected mat.Matrix, tolerance float64) (fresh, beyond *mat.Dense, left []float64) {
	before := s.size()
	if before > 0 {
		beyond = project(w, s.vectors)
	}
	again, fresh, left := s.basis.extend(w, tolerance)
	if before > 0 {
		beyond.Add(beyond, again)
		own := beyond.Slice(0, len(w), before-s.last, before).(*mat.Dense)
		own.Sub(own, expected)
	}
	s.last = s.size() - before
	s.count += s.last
	return fresh, beyond, left
}

// forget gives what came before the latest block back, but for the vectors of keep.
func (s *side) forget(keep [][]float64) {
	if old := s.vectors[:s.size()-s.last]; &old[0][0] != &keep[0][0] {
		s.arena.give(old)
	}
	s.vectors = slices.Clone(s.block())
}

// newGolubKahan starts from the rows of g, of norm 1 and from the arena, which it keeps.
func newGolubKahan(factor Factor, g [][]float64, memory *arena, options FormOptions, scale float64) *golubKahan {
	f := &golubKahan{factor: factor, lambdas: options.Lambdas, error: options.ProductError, scale: math.Sqrt(scale), settled: map[int]*bounds{}}
	f.keepsRight = DimensionsOf(factor).keepsRight()
	f.left.arena, f.right.arena = &arena{n: factor.Rows()}, memory
	transposed, _, lost := f.right.extend(g, nil, dependent)
	f.lost, f.start = lost, mat.DenseCopyOf(transposed.T())
	f.first = slices.Clone(f.right.vectors)
	for _, lambda := range options.Lambdas {
		f.quadratures = append(f.quadratures, &bidiagonal{quadrature: newQuadrature(lambda, f.start)})
	}
	return f
}

func (f *golubKahan) step(ctx context.Context) (products int64, err error) {
	if f.ended {
		return 0, nil
	}
	v := f.right.block()
	b := len(v)
	w := f.left.arena.take(b)
	if err := f.apply(ctx, f.factor.Image, w, v); err != nil {
		return 0, err
	}
	for _, size := range norms(w) {
		f.scale = max(f.scale, size)
	}
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
	z := f.right.arena.take(len(u))
	if err := f.apply(ctx, f.factor.Adjoint, z, u); err != nil {
		return 0, err
	}
	fresh, beyond, left = f.right.extend(z, diagonal, f.product())
	for i := range u {
		f.backs = append(f.backs, math.Hypot(rowNorm(beyond, i), left[i]))
	}
	// Image and Adjoint agree on U_j^T A V_j.
	_, end := beyond.Dims()
	f.defect = max(f.defect, mat.Norm(beyond.Slice(0, len(u), end-b, end), 2))
	var above *mat.Dense // S_j^T, [rows of U_j, b_{j+1}]
	if fresh != nil {
		above = fresh
		if !f.keepsRight {
			f.right.forget(f.first)
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
func (f *golubKahan) expect(above *mat.Dense) {
	if f.keepsRight {
		f.expects = slices.Repeat([]float64{2 * (f.product() + floats.Max(f.images))}, f.right.last)
		return
	}
	along := inner(f.right.block(), f.first)
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

// apply writes the images of the rows of v into those of dst.
func (f *golubKahan) apply(ctx context.Context, of func(dst, v *mat.Dense) error, dst, v [][]float64) error {
	for i := range v {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := of(mat.NewDense(1, len(dst[i]), dst[i]), mat.NewDense(1, len(v[i]), v[i])); err != nil {
			return err
		}
	}
	for _, size := range norms(dst) {
		if math.IsNaN(size) || math.IsInf(size, 0) {
			return ErrNotFinite
		}
	}
	return nil
}

// coordinates are those in U of A x for the coordinates of x in V_+: w = B_+ x.
func (f *golubKahan) coordinates(x []float64) []float64 {
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
type solutions struct{ u, x, images [][]float64 }

// multiply forms the solutions of right-hand sides that have these coordinates in V_+. The caller releases them.
func (f *golubKahan) multiply(ctx context.Context, coordinates *mat.Dense, sides []int, lambda float64) (s solutions, err error) {
	k := len(sides)
	w := mat.NewDense(k, f.left.count, nil)
	for i := range k {
		w.SetRow(i, f.coordinates(coordinates.RawRowView(i)))
	}
	s = solutions{u: f.left.arena.take(k), x: f.right.arena.take(k), images: f.left.arena.take(k)}
	combine(s.u, w, f.left.vectors)
	if err := f.apply(ctx, f.factor.Adjoint, s.x, s.u); err != nil {
		return s, err
	}
	scaleAll(s.x, -1/lambda)
	given := f.given(sides)
	given.Scale(1/lambda, given)
	add(s.x, given, f.first)
	return s, f.apply(ctx, f.factor.Image, s.images, s.x)
}

func (f *golubKahan) release(s solutions) {
	f.left.arena.give(s.u)
	f.right.arena.give(s.x)
	f.left.arena.give(s.images)
}

// given are the coordinates of some right-hand sides in V_1, as rows.
func (f *golubKahan) given(sides []int) *mat.Dense {
	c := mat.NewDense(len(sides), len(f.first), nil)
	for i, side := range sides {
		c.SetRow(i, mat.Col(nil, side, f.start))
	}
	return c
}

func (f *golubKahan) bytes(more int) int64 {
	return DimensionsOf(f.factor).bytes(len(f.lost), f.left.count+more)
}

func (f *golubKahan) held() int64 { return f.left.arena.bytes() + f.right.arena.bytes() }

func (f *golubKahan) next() (products, vectors int) {
	if f.ended {
		return 0, 0
	}
	return f.right.last, f.right.last
}

func (f *golubKahan) largest() float64 { return square(f.scale) }
func (f *golubKahan) lowest() float64  { return 0 }
