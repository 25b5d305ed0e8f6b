package solver

import (
	"context"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// product bounds what a product of a vector of norm 1 loses, with the arithmetic of the host.
func (f *golubKahan[V]) product() float64 { return (f.error + hostRoundoffs*unitRoundoff) * f.scale }

func (f *golubKahan[V]) rounding() *rounding {
	return &rounding{error: f.error, scale: square(f.scale), defect: f.defect * f.scale}
}

func (f *golubKahan[V]) bounds() (all []bounds) {
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

// complete adds to b what rounding may change, by the coordinates of solutions, as rows: of both rules, of which the larger counts.
func (f *golubKahan[V]) complete(b *bounds, solutions ...*mat.Dense) {
	k, root := len(f.lost), math.Sqrt(b.lambda)
	b.sizes, b.errors, b.lost = make([]float64, k), make([]float64, k), make([]float64, k)
	half, drift, image, slant := make([]float64, k), make([]float64, k), make([]float64, k), make([]float64, k)
	for i := range k {
		half[i], b.lost[i] = 0.5, f.stored
		for _, all := range solutions {
			x := all.RawRowView(i)
			w := f.coordinates(x)
			// By how much the small matrices miss A^T u and A x, and the side that is not kept its orthogonality.
			size, u := floats.Norm(x, 2), max(floats.Norm(w, 2), math.Sqrt(max(0, b.low.At(i, i))))
			back, front, drifted, slanted := 0.0, 0.0, 0.0, 0.0
			for j, value := range w {
				back += (f.product() + f.backs[j]) * math.Abs(value)
			}
			for j, value := range x {
				value = math.Abs(value)
				front += (f.product() + f.stored*root + f.imageOff(j)) * value
				slanted += (f.product() + f.imageOff(j)) * value
				if at := j - len(f.first); at >= 0 && !f.keepsRight {
					drifted += f.drifts[at] * value
				}
			}
			b.sizes[i] = max(b.sizes[i], size, u/root)
			b.lost[i] = max(b.lost[i], 2*back+f.stored, root*front)
			drift[i], image[i], slant[i] = max(drift[i], drifted), max(image[i], 0.5*u), max(slant[i], slanted)
		}
		b.lost[i] += f.lost[i]
	}
	b.pairs = [][2][]float64{{half, drift}, {image, slant}}
}

// imageOff is what was left out of the image of the j-th vector of V_+, as measured or expected.
func (f *golubKahan[V]) imageOff(j int) float64 {
	if at := j - len(f.images); at >= 0 {
		return f.expects[at]
	}
	return f.images[j]
}

// expected is what multiplied would find for solutions of these coordinates.
func (f *golubKahan[V]) expected(b *bounds, solutions *mat.Dense) *bounds {
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
func (f *golubKahan[V]) allow(b *bounds, sizes, images []float64) {
	k, root := len(sizes), math.Sqrt(b.lambda)
	b.sizes, b.errors, b.lost, b.pairs = make([]float64, k), make([]float64, k), make([]float64, k), [][2][]float64{}
	for i := range k {
		b.sizes[i] = max(sizes[i], images[i]/root)
		b.lost[i] = f.product()*max(images[i], root*sizes[i]) + f.stored*(1+b.lambda*sizes[i])
	}
}

// multiplied bounds the forms at the l-th lambda by multiplying the solutions: the bounds from below and above that hold for any x and u owe
// nothing to the small matrices, nor to what V has lost of orthogonality. It takes a product for each right-hand side.
func (f *golubKahan[V]) multiplied(ctx context.Context, l int) (b *bounds, products int64, err error) {
	q := f.quadratures[l]
	k := len(f.lost)
	_, _, coordinates := q.radau()
	s, err := f.multiply(ctx, coordinates, all(k), q.lambda)
	defer f.release(s)
	if err != nil {
		return nil, 0, err
	}
	// 2 g^T x - ||A x||^2 - lambda ||x||^2 and ||u||^2 + lambda ||x||^2, as forms.
	b = &bounds{lambda: q.lambda, low: mat.NewSymDense(k, nil), gap: mat.NewSymDense(k, nil)}
	mixed, lengths := mat.NewDense(k, k, nil), f.right.space.gram(s.x)
	mixed.Mul(f.starts.T(), f.right.space.inner(f.first, s.x))
	addSymmetric(b.low, 2, mixed)
	addSymmetric(b.low, -1, f.left.space.gram(s.images))
	addSymmetric(b.low, -q.lambda, lengths)
	addSymmetric(b.gap, 1, f.left.space.gram(s.u))
	addSymmetric(b.gap, q.lambda, lengths)
	for i := range k {
		for j := i; j < k; j++ {
			b.gap.SetSym(i, j, b.gap.At(i, j)-b.low.At(i, j))
		}
	}
	images := norms(s.images)
	for i, length := range norms(s.u) {
		images[i] = max(images[i], length)
	}
	f.allow(b, roots(lengths), images)
	for i := range k {
		b.gap.SetSym(i, i, max(0, b.gap.At(i, i))) // but for rounding
	}
	f.residual = f.missing(s)
	return b, int64(k), nil
}

func (f *golubKahan[V]) settle(l int, b *bounds) { f.settled[l] = b }

// roots are those of a diagonal.
func roots(m *mat.Dense) (all []float64) {
	for i := range m.RawMatrix().Rows {
		all = append(all, math.Sqrt(m.At(i, i)))
	}
	return all
}

// missing bounds the largest ||g - (A^T A + lambda) x|| = ||A^T (u - A x)|| of solutions, of which it makes u - A x.
func (f *golubKahan[V]) missing(s solutions[V]) float64 {
	f.left.space.add(s.u, scaled(-1, len(s.u)), s.images)
	return f.scale * floats.Max(norms(s.u))
}

// check multiplies the solution whose gap is largest, at the smallest lambda, and compares its bound from above with that of the small matrices.
func (f *golubKahan[V]) check(b *bounds) (residual, more float64, products int64, err error) {
	l := slices.Index(f.lambdas, slices.Min(f.lambdas))
	if f.settled[l] != nil {
		return f.residual, 0, 0, nil
	}
	q := f.quadratures[l]
	low, gap, coordinates := q.radau()
	column := 0
	for i := range f.lost {
		if gap.At(i, i) > gap.At(column, column) {
			column = i
		}
	}
	s, err := f.multiply(context.Background(), rowOf(coordinates, column), []int{column}, q.lambda)
	defer f.release(s)
	if err != nil {
		return 0, 0, 0, err
	}
	upper := square(norms(s.u)[0]) + q.lambda*f.right.space.gram(s.x).At(0, 0)
	found := math.Abs(upper - low.At(column, column) - gap.At(column, column))
	explained := 2*b.sizes[column]*b.lost[column] + square(b.lost[column])/q.lambda + f.stored*upper
	for _, pair := range b.pairs {
		explained += 2 * pair[0][column] * pair[1][column]
	}
	return f.missing(s), 2 * found / explained, 1, nil
}

// rowOf is one row of a matrix, as a matrix.
func rowOf(m *mat.Dense, i int) *mat.Dense {
	return mat.NewDense(1, m.RawMatrix().Cols, m.RawRowView(i))
}
