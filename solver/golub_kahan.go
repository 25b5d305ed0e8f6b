package solver

import (
	"context"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Factor is a linear map A from R^Dim to R^Rows whose A^T A is a metric: a Jacobian, scaled. Where an Operator is one too, BilinearForms works
// on the factor, whose rounding costs a form only the root of what that of products with the metric costs.
type Factor interface {
	Operator
	// Rows is the length of images.
	Rows() int
	// Image writes A v into dst, for each row v; dst is k x Rows, v k x Dim.
	Image(dst, v *mat.Dense) error
	// Adjoint writes A^T u into dst, for each row u; dst is k x Dim, u k x Rows.
	Adjoint(dst, u *mat.Dense) error
}

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
// Only U is kept, and what is new is orthogonalised against all of it; of V there are V_1 and the latest block, and what it loses of
// orthogonality shows in U^T A V, where it is measured (docs/solver.md).
//
// Golub and Kahan 1965; Golub, Luk and Overton 1981 (blocks); Simon and Zha 2000 (one-sided reorthogonalisation).
type golubKahan struct {
	left    basis // U, in R^Rows
	factor  Factor
	lambdas []float64

	right *arena      // of V
	start *mat.Dense  // C, [b_1, k]
	lost  []float64   // norm of what V_1 C leaves of each right-hand side
	first [][]float64 // V_1
	block [][]float64 // V_j, the block to be multiplied; nil when the space is invariant
	above *mat.Dense  // S_{j-1}^T, [rows of U_{j-1}, b_j]; nil for the first

	diagonals []*mat.Dense // A_j
	aboves    []*mat.Dense // S_j^T; nil for the last of an invariant space

	error   float64   // of a product of a vector of norm 1, relative to scale
	scale   float64   // ||A||, from above
	images  []float64 // by vector of V: norm of what should vanish of its image in U, and was left out of it
	drifts  []float64 // by vector of V but those of V_1: norm of V_1^T v
	defect  float64   // largest norm of what Image and Adjoint disagree by
	backs   []float64 // by vector of U: norm of what was left out of its image in V
	expects []float64 // images of the vectors of V that are to be multiplied, as expected

	quadratures []*bidiagonal
	settled     map[int]*bounds // by lambda, from solutions that were multiplied themselves
	residual    float64         // of the latest of those, the largest
	tried       int             // vectors of U when that was last done
}

func newGolubKahan(factor Factor, g [][]float64, memory *arena, options FormOptions, scale float64) *golubKahan {
	f := &golubKahan{factor: factor, lambdas: options.Lambdas, error: options.ProductError, scale: math.Sqrt(scale)}
	f.left.arena = &arena{n: factor.Rows()}
	right := basis{arena: memory}
	var transposed *mat.Dense
	_, transposed, f.lost = right.extend(g, dependent)
	f.start = mat.DenseCopyOf(transposed.T())
	f.first, f.block, f.right = right.vectors, right.vectors, memory
	for _, lambda := range options.Lambdas {
		f.quadratures = append(f.quadratures, &bidiagonal{quadrature: newQuadrature(lambda, f.start)})
	}
	f.settled = map[int]*bounds{}
	return f
}

func (f *golubKahan) step(ctx context.Context) (products int64, err error) {
	v := f.block
	if v == nil {
		return 0, nil
	}
	b, before := len(v), f.left.size()
	w := f.left.arena.take(b)
	if err := f.apply(ctx, f.factor.Image, w, v); err != nil {
		return 0, err
	}
	for _, size := range norms(w) {
		f.scale = max(f.scale, size)
	}
	// A V_j along U; all but S_{j-1}^T should vanish.
	along := mat.NewDense(b, max(before, 1), nil)
	if before > 0 {
		along = project(w, f.left.vectors)
	}
	again, fresh, left := f.left.extend(w, f.product()) // what is shorter is noise
	if before > 0 {
		along.Add(along, again)
		if f.above != nil {
			expected := along.Slice(0, b, before-f.above.RawMatrix().Rows, before).(*mat.Dense)
			expected.Sub(expected, f.above.T())
		}
	}
	for i := range b {
		f.images = append(f.images, math.Hypot(floats.Norm(along.RawRowView(i), 2), left[i]))
	}
	f.expects = nil
	if fresh == nil {
		// U is invariant: A V_j lies in it.
		for _, q := range f.quadratures {
			q.addLast()
		}
		f.block = nil
		f.diagonals, f.aboves = append(f.diagonals, mat.NewDense(1, b, nil)), append(f.aboves, nil)
		return int64(b), nil
	}
	diagonal := mat.DenseCopyOf(fresh.T()) // A_j, [b', b]
	u := f.left.vectors[before:]
	z := f.right.take(len(u))
	if err := f.apply(ctx, f.factor.Adjoint, z, u); err != nil {
		return 0, err
	}
	add(z, negated(diagonal), v)
	// Image and Adjoint agree on U_j^T A V_j.
	f.defect = max(f.defect, mat.Norm(inner(z, v), 2))
	if before > 0 {
		f.right.give(v)
	}
	coefficients, lost := orthonormalise(z, f.product())
	rank := width(coefficients)
	if rank > 0 {
		change, more := orthonormalise(z[:rank], dependent)
		var product mat.Dense
		product.Mul(coefficients, change)
		coefficients = &product
		for _, length := range more {
			lost[0] += length * f.scale
		}
	}
	f.backs = append(f.backs, lost...)
	f.right.give(z[rank:])
	f.diagonals = append(f.diagonals, diagonal)
	var above *mat.Dense // S_j^T, [rows of U_j, b_{j+1}]
	if rank > 0 {
		above = coefficients
		f.block = z[:rank]
		first := inner(f.block, f.first)
		largest := f.product() + floats.Max(f.images)
		for i := range rank {
			f.drifts = append(f.drifts, floats.Norm(first.RawRowView(i), 2))
			// Of a direction that is short, errors are a larger share.
			f.expects = append(f.expects, math.Hypot(2*largest, f.scale*min(1, 2*largest/mat.Norm(above.ColView(i), math.Inf(1)))))
		}
	} else {
		f.block = nil
	}
	f.above, f.aboves = above, append(f.aboves, above)
	for _, q := range f.quadratures {
		q.addBlock(diagonal, above)
	}
	return int64(b), nil
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

// product bounds what a product of a vector of norm 1 loses, with the arithmetic of the host.
func (f *golubKahan) product() float64 { return (f.error + hostRoundoffs*unitRoundoff) * f.scale }

func (f *golubKahan) bounds() (all []bounds) {
	for l, q := range f.quadratures {
		if settled := f.settled[l]; settled != nil {
			all = append(all, *settled)
			continue
		}
		low, gap, x := q.radau()
		b := bounds{lambda: q.lambda, low: low, gap: gap, unreachable: q.broken}
		inside := q.solutions()
		f.complete(&b, inside, x)
		b.direct, b.closed = f.expected(&b, x), f.expected(&b, inside)
		b.closed.gap = mat.NewSymDense(len(f.lost), nil)
		if f.rounding().asymmetric() {
			b.gap, b.unreachable = nil, true
		}
		all = append(all, b)
	}
	return all
}

// expected is what multiplied would find for solutions of these coordinates.
func (f *golubKahan) expected(b *bounds, solutions *mat.Dense) *bounds {
	k := len(f.lost)
	sizes, images := make([]float64, k), make([]float64, k)
	for i := range k {
		x := solutions.RawRowView(i)
		sizes[i], images[i] = floats.Norm(x, 2), floats.Norm(f.coordinates(x), 2)
	}
	direct := &bounds{lambda: b.lambda, low: b.low, gap: b.gap}
	f.allow(direct, sizes, images)
	return direct
}

// allow adds to b what rounding may change in bounds from solutions and images of these lengths that were multiplied themselves: products of
// one vector for each, and no sums over the space.
func (f *golubKahan) allow(b *bounds, sizes, images []float64) {
	k, root := len(sizes), math.Sqrt(b.lambda)
	b.sizes, b.errors, b.lost, b.pairs = make([]float64, k), make([]float64, k), make([]float64, k), [][2][]float64{}
	for i := range k {
		b.sizes[i] = max(sizes[i], images[i]/root)
		b.lost[i] = f.product()*max(images[i], root*sizes[i]) + hostRoundoffs*unitRoundoff*(1+b.lambda*sizes[i])
	}
}

// multiplied bounds the forms at the l-th lambda by multiplying the solutions: with u in the span of U and x = (g - A^T u) / lambda, both found
// as long vectors, the bounds from below and above that hold for any u and x owe nothing to B or V. It takes a product for each right-hand side.
func (f *golubKahan) multiplied(ctx context.Context, l int, side func(dst []float64, i int)) (products int64, err error) {
	q := f.quadratures[l]
	_, _, all := q.radau()
	k, size := len(f.lost), f.left.size()
	w := mat.NewDense(k, size, nil)
	for i := range k {
		w.SetRow(i, f.coordinates(all.RawRowView(i))[:size])
	}
	u, images, x, g := f.left.arena.take(k), f.left.arena.take(k), f.right.take(k), f.right.take(k)
	defer func() {
		f.left.arena.give(u)
		f.left.arena.give(images)
		f.right.give(x)
		f.right.give(g)
	}()
	combine(u, w, f.left.vectors)
	if err := f.apply(ctx, f.factor.Adjoint, x, u); err != nil {
		return 0, err
	}
	for i := range k {
		side(g[i], i)
		for at, value := range g[i] {
			x[i][at] = (value - x[i][at]) / q.lambda
		}
	}
	if err := f.apply(ctx, f.factor.Image, images, x); err != nil {
		return 0, err
	}
	// 2 g^T x - ||A x||^2 - lambda ||x||^2 and ||u||^2 + lambda ||x||^2, as forms.
	b := &bounds{lambda: q.lambda, low: mat.NewSymDense(k, nil), gap: mat.NewSymDense(k, nil)}
	lengths := gram(x)
	lengths.Scale(q.lambda, lengths)
	mixed := inner(g, x)
	addSymmetric(b.low, 2, mixed)
	addSymmetric(b.low, -1, gram(images))
	addSymmetric(b.low, -1, lengths)
	addSymmetric(b.gap, 1, gram(u))
	addSymmetric(b.gap, 1, lengths)
	for i := range k {
		for j := i; j < k; j++ {
			b.gap.SetSym(i, j, b.gap.At(i, j)-b.low.At(i, j))
		}
	}
	f.allow(b, norms(x), slices.Collect(func(yield func(float64) bool) {
		other := norms(images)
		for i, length := range norms(u) {
			if !yield(max(length, other[i])) {
				return
			}
		}
	}))
	f.residual = 0
	for i := range k {
		b.gap.SetSym(i, i, max(0, b.gap.At(i, i))) // but for rounding
		f.residual = max(f.residual, f.scale*floats.Distance(images[i], u[i], 2))
	}
	f.settled[l], f.tried = b, size
	return int64(k), nil
}

// complete adds to b what rounding may change, by the coordinates of solutions, as rows: of both rules, of which the larger counts.
func (f *golubKahan) complete(b *bounds, solutions ...*mat.Dense) {
	const host = hostRoundoffs * unitRoundoff
	k, root := len(f.lost), math.Sqrt(b.lambda)
	b.sizes, b.errors, b.lost = make([]float64, k), make([]float64, k), make([]float64, k)
	half, drift, image, slant := make([]float64, k), make([]float64, k), make([]float64, k), make([]float64, k)
	for i := range k {
		half[i], b.lost[i] = 0.5, host
		for _, all := range solutions {
			x := all.RawRowView(i)
			w := f.coordinates(x)
			// By how much the small matrices miss A^T u and A x, and V its orthogonality.
			size, u := floats.Norm(x, 2), max(floats.Norm(w, 2), math.Sqrt(max(0, b.low.At(i, i))))
			back, front, drifted, slanted := 0.0, 0.0, 0.0, 0.0
			for j, value := range w[:f.left.size()] {
				back += (f.product() + f.backs[j]) * math.Abs(value)
			}
			for j, value := range x {
				value = math.Abs(value)
				front += (f.product() + host*root + f.image(j)) * value
				slanted += (f.product() + f.image(j)) * value
				if at := j - len(f.first); at >= 0 {
					drifted += f.drifts[at] * value
				}
			}
			b.sizes[i] = max(b.sizes[i], size, u/root)
			b.lost[i] = max(b.lost[i], 2*back+host, root*front)
			drift[i], image[i], slant[i] = max(drift[i], drifted), max(image[i], 0.5*u), max(slant[i], slanted)
		}
		b.lost[i] += f.lost[i]
	}
	b.pairs = [][2][]float64{{half, drift}, {image, slant}}
}

// image is that of the j-th vector of V_+, as measured or expected.
func (f *golubKahan) image(j int) float64 {
	if at := j - len(f.images); at >= 0 {
		return f.expects[at]
	}
	return f.images[j]
}

// coordinates are those in U of A x for the coordinates of x in V_+: w = B x.
func (f *golubKahan) coordinates(x []float64) []float64 {
	w := make([]float64, 0, f.left.size())
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
	return w
}

func (f *golubKahan) next() (products, vectors int) { return len(f.block), len(f.block) }

func (f *golubKahan) span() [][]float64 { return f.left.vectors }

// bytes counts U and what multiplied takes: in R^Rows two blocks more, in R^Dim the right-hand sides as given and as V_1, two blocks of V, and two.
func (f *golubKahan) bytes(k, more int) int64 {
	return 8*int64(f.factor.Rows())*int64(f.left.size()+more+2*k) + vectorBytes(k, f.factor.Dim(), 4*k)
}

func (f *golubKahan) rounding() *rounding {
	return &rounding{error: f.error, scale: square(f.scale), defect: f.defect * f.scale}
}

// solution and projection are not asked for: verify does without V, and there is no sketch.
func (f *golubKahan) solution() (int, []float64, []float64) { panic("solver: V is not kept") }
func (f *golubKahan) largest() float64                      { return square(f.scale) }
func (f *golubKahan) lowest() float64                       { return 0 }

// verify forms the solution whose gap is largest from its dual, x = (g - A^T u) / lambda, for which ||u||^2 + lambda ||x||^2 is a bound from above
// that owes nothing to V.
func (f *golubKahan) verify(side func(dst []float64, i int), b *bounds) (residual, more float64, products int64, err error) {
	q := f.quadratures[slices.Index(f.lambdas, slices.Min(f.lambdas))]
	low, gap, all := q.radau()
	column := 0
	for i := range f.lost {
		if gap != nil && gap.At(i, i) > gap.At(column, column) {
			column = i
		}
	}
	w := f.coordinates(all.RawRowView(column))[:f.left.size()]
	u := f.left.arena.take(2)
	defer f.left.arena.give(u)
	combine(u[:1], mat.NewDense(1, len(w), w), f.left.vectors)
	work := f.right.take(2)
	defer f.right.give(work)
	x, back := work[0], work[1]
	if err := f.apply(context.Background(), f.factor.Adjoint, [][]float64{back}, u[:1]); err != nil {
		return 0, 0, 0, err
	}
	side(x, column)
	floats.Sub(x, back)
	floats.Scale(1/q.lambda, x)
	if err := f.apply(context.Background(), f.factor.Image, u[1:], [][]float64{x}); err != nil {
		return 0, 0, 0, err
	}
	floats.Sub(u[1], u[0])
	residual = f.scale * floats.Norm(u[1], 2)
	if gap == nil {
		return residual, 0, 1, nil
	}
	direct := square(floats.Norm(u[0], 2)) + q.lambda*square(floats.Norm(x, 2))
	found := math.Abs(direct - low.At(column, column) - gap.At(column, column))
	explained := 2*b.sizes[column]*b.lost[column] + square(b.lost[column])/q.lambda + hostRoundoffs*unitRoundoff*direct
	for _, pair := range b.pairs {
		explained += 2 * pair[0][column] * pair[1][column]
	}
	return residual, 2 * found / explained, 1, nil
}

// bidiagonal is the quadrature of one lambda: the rows of the triangular factor R of [B; sqrt(lambda) I], R^T R = B^T B + lambda, block by block.
type bidiagonal struct {
	*quadrature
	carry *mat.Dense // what the elimination of the columns before leaves in the next; nil for nothing
}

// addBlock takes A_j, [b', b], and S_j^T, [b', b_{j+1}], nil where the space is invariant.
func (q *bidiagonal) addBlock(diagonal, above *mat.Dense) {
	_, b := diagonal.Dims()
	rows := stackAll(diagonal, q.damping(b), q.carry)
	columns := 0
	if above != nil {
		_, columns = above.Dims()
	}
	total, _ := rows.Dims()
	both := mat.NewDense(total, b+columns, nil)
	both.Slice(0, total, 0, b).(*mat.Dense).Copy(rows)
	if above != nil {
		n, _ := above.Dims()
		both.Slice(0, n, b, b+columns).(*mat.Dense).Copy(above)
	}
	reduced := orthogonalFactor(both)
	row := q.append(reduced.Slice(0, b, 0, b))
	q.carry, q.c = nil, mat.NewDense(1, q.low.SymmetricDim(), nil)
	if above != nil {
		row.x = mat.DenseCopyOf(reduced.Slice(0, b, b, b+columns))
		height, _ := reduced.Dims()
		if height > b {
			q.carry = mat.DenseCopyOf(reduced.Slice(b, height, b, b+columns))
		}
		q.c = &mat.Dense{}
		q.c.Mul(row.x.T(), row.z)
		q.c.Scale(-1, q.c)
	}
	q.rows[len(q.rows)-1] = row
}

// addLast takes a last block of V whose image lies in U.
func (q *bidiagonal) addLast() {
	b, _ := q.c.Dims()
	q.append(orthogonalFactor(stackAll(q.damping(b), q.carry)).Slice(0, b, 0, b))
	q.carry, q.c = nil, mat.NewDense(1, q.low.SymmetricDim(), nil)
}

func (q *bidiagonal) append(upper mat.Matrix) factorRow {
	l := upperTriangle(upper)
	row := factorRow{l: l, z: l.forward(q.c)}
	addGram(q.low, row.z)
	q.rows = append(q.rows, row)
	return row
}

// damping is sqrt(lambda) I.
func (q *bidiagonal) damping(n int) *mat.Dense {
	d := mat.NewDense(n, n, nil)
	for i := range n {
		d.Set(i, i, math.Sqrt(q.lambda))
	}
	return d
}

// radau returns both rules and the coordinates in V_+ of x = (B_+^T B_+ + lambda)^-1 E C, as rows.
func (q *bidiagonal) radau() (low, gap *mat.SymDense, x *mat.Dense) {
	k := q.low.SymmetricDim()
	gap = mat.NewSymDense(k, nil)
	extended := *q.quadrature
	if last := q.rows[len(q.rows)-1]; last.x != nil {
		_, b := last.x.Dims()
		l := upperTriangle(orthogonalFactor(stackAll(q.damping(b), q.carry)).Slice(0, b, 0, b))
		row := factorRow{l: l, z: l.forward(q.c)}
		addGram(gap, row.z)
		extended.rows = append(slices.Clone(q.rows), row)
	}
	return q.low, gap, extended.solutions()
}

// stackAll stacks matrices of equal width, of which some may be nil.
func stackAll(all ...*mat.Dense) *mat.Dense {
	var stacked *mat.Dense
	for _, m := range all {
		switch {
		case m == nil:
		case stacked == nil:
			stacked = mat.DenseCopyOf(m)
		default:
			var both mat.Dense
			both.Stack(stacked, m)
			stacked = &both
		}
	}
	return stacked
}

// orthogonalFactor is R of m = Q R, [min(rows, columns), columns], by Householder reflections.
func orthogonalFactor(m *mat.Dense) *mat.Dense {
	rows, columns := m.Dims()
	if rows < columns {
		m = stackAll(m, mat.NewDense(columns-rows, columns, nil))
	}
	var qr mat.QR
	qr.Factorize(m)
	var r mat.Dense
	qr.RTo(&r)
	return mat.DenseCopyOf(r.Slice(0, columns, 0, columns))
}
