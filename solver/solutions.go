package solver

import (
	"context"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// solutions gives those of a part's right-hand sides, from the first-th on, to FormOptions.Solution, at all lambdas at which something is
// certified.
func (p *part) solutions(ctx context.Context, dim, first int, norms []float64) error {
	x := make([]float64, dim)
	for l := range p.bounds {
		b := &p.bounds[l]
		if b.gap == nil {
			continue
		}
		products, err := p.process.solutions(ctx, l, first, x, func(i int, apart, rounding float64) error {
			apart += p.more*rounding + p.off[i]/math.Sqrt(b.lambda)
			side := p.members[i]
			floats.Scale(norms[side], x)
			return p.options.Solution(l, side, x, apart*norms[side])
		})
		p.products += products
		if err != nil {
			return err
		}
	}
	return nil
}

// apart bounds how far solutions are from the exact ones in the norm of the damped metric, relative to these: the square of it is what the
// gap leaves open of a form. It is 1 where nothing is known.
func (b *bounds) apart() float64 {
	if b.gap == nil {
		return 1
	}
	widest := 0.0
	for i := range b.sizes {
		widest = max(widest, min(1, math.Sqrt(b.gap.At(i, i)/b.low.At(i, i))))
	}
	return widest
}

// solutions multiplies each, x = (g - A^T u) / lambda, and its image: with d the distance to the exact solution, d^T (A^T A + lambda) d is at most
// ||u - A x||^2, for the residual is A^T (u - A x).
func (f *golubKahan[V]) solutions(ctx context.Context, l, first int, x []float64, found func(i int, apart, rounding float64) error) (products int64, err error) {
	q := f.quadratures[l]
	_, _, coordinates := q.radau()
	for i := first; i < len(f.lost); i++ {
		apart, rounding, err := f.solution(ctx, q.lambda, rowOf(coordinates, i), i, x)
		if err != nil {
			return products, err
		}
		products++
		if err := found(i, apart, rounding); err != nil {
			return products, err
		}
	}
	return products, nil
}

// solution writes that of the i-th right-hand side to x.
func (f *golubKahan[V]) solution(ctx context.Context, lambda float64, coordinates *mat.Dense, i int, x []float64) (apart, rounding float64, err error) {
	s, err := f.multiply(ctx, coordinates, []int{i}, lambda)
	defer f.release(s)
	if err != nil {
		return 0, 0, err
	}
	f.right.space.get(x, s.x[0])
	size, root := floats.Norm(x, 2), math.Sqrt(lambda)
	lost := f.product()*max(norms(s.u)[0], root*size) + f.stored*(1+lambda*size) + f.lost[i]
	f.left.space.add(s.u, scaled(-1, 1), s.images)
	return norms(s.u)[0], f.product()*size + lost/root, nil
}

// solutions are sums of the vectors of the space.
func (f *lanczosForms) solutions(ctx context.Context, l, first int, x []float64, found func(i int, apart, rounding float64) error) (products int64, err error) {
	b, coordinates, space := f.bounds()[l], f.quadratures[l].solutions(), f.lanczos.space
	_, end := coordinates.Dims()
	for i := first; i < len(f.lost); i++ {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		solution := space.combine(rowOf(coordinates, i), f.lanczos.vectors[:end])
		space.get(x, solution[0])
		space.Free(solution)
		if err := found(i, math.Sqrt(b.gap.At(i, i)), (b.errors[i]+b.lost[i])/math.Sqrt(b.lambda)); err != nil {
			return 0, err
		}
	}
	return 0, nil
}
