package solver

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// SubspaceForms are the forms of the rows of rhs at each lambda when the metric is restricted to the span of the first
// rows of them: g_i^T S (S^T (eta + lambda I) S)^-1 S^T g_j for an orthonormal basis S of the span.
//
// It takes one product for each row of the span and looks like an exact method, but is a single step of block Lanczos:
// forms are too small by an amount that nothing reports, often most of them (docs/solver.md). It is here for comparison.
// The statistics are by lambda. Their residual is the largest of the solutions in the span, relative, and their LambdaMax the
// largest eigenvalue there, below that of the operator, and no estimate of it.
func SubspaceForms(op Operator, lambdas []float64, rhs *mat.Dense, rows int) (forms []*mat.Dense, statistics []Statistics, err error) {
	forms, residual, largest, err := subspaceForms(op, lambdas, rhs, rows)
	if err != nil {
		return nil, nil, err
	}
	smallest := slices.Index(lambdas, slices.Min(lambdas))
	for l, lambda := range lambdas {
		s := Statistics{Lambda: lambda, LambdaMax: largest, BlockSize: int32(rows), Iterations: 1}
		if l == smallest {
			s.Products, s.MaxTrueResidual = int64(rows), &residual
		}
		ending{Uncertified, "the metric was restricted to the span of the batch's gradients, which leaves an error that nothing measures: use estimator block"}.writeTo(&s)
		statistics = append(statistics, s)
	}
	return forms, statistics, nil
}

func subspaceForms(op Operator, lambdas []float64, rhs *mat.Dense, rows int) (forms []*mat.Dense, residual, largest float64, err error) {
	k, n := rhs.Dims()
	if n != op.Dim() || rows < 1 || rows > k {
		return nil, 0, 0, fmt.Errorf("solver: a span of %d of %d right-hand sides of length %d does not suit an operator of dimension %d", rows, k, n, op.Dim())
	}
	span := basis[[]float64]{space: newHost[float64](n)}
	space := span.space
	starts := space.take(rows)
	for i, row := range starts {
		copy(row, rhs.RawRowView(i))
		if norm := floats.Norm(row, 2); norm > 0 {
			floats.Scale(1/norm, row)
		}
	}
	span.extend(starts, dependent)
	b := span.size()
	if b == 0 {
		for range lambdas {
			forms = append(forms, mat.NewDense(k, k, nil))
		}
		return forms, 0, 0, nil
	}
	images := space.take(b)
	for i, v := range span.vectors {
		if err := op.Apply(mat.NewDense(1, n, images[i]), mat.NewDense(1, n, v)); err != nil {
			return nil, 0, 0, err
		}
	}
	t := symmetric(space.inner(images, span.vectors))
	along := space.inner(span.vectors, views(rhs)) // S^T g_j as columns
	var eigen mat.EigenSym
	if eigen.Factorize(t, false) {
		largest = eigen.Values(nil)[b-1]
	}
	smallest := math.Inf(1)
	for _, lambda := range lambdas {
		factor, ok := cholesky(plus(t, lambda))
		if !ok {
			return nil, 0, 0, fmt.Errorf("%w: not even with lambda = %g added to it", ErrIndefinite, lambda)
		}
		coordinates := factor.forward(along)
		form := mat.NewDense(k, k, nil)
		form.Mul(coordinates.T(), coordinates)
		forms = append(forms, form)
		factor.backward(coordinates)
		if lambda >= smallest {
			continue
		}
		smallest, residual = lambda, 0
		for i := range k {
			// (eta + lambda) x - g
			left := space.combine(coordinates.ColView(i).T(), images)
			damped := mat.DenseCopyOf(coordinates.ColView(i).T())
			damped.Scale(lambda, damped)
			space.add(left, damped, span.vectors)
			if norm := floats.Norm(rhs.RawRowView(i), 2); norm > 0 {
				residual = max(residual, floats.Distance(left[0], rhs.RawRowView(i), 2)/norm)
			}
			space.Free(left)
		}
	}
	return forms, residual, largest, nil
}
