package solver

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// DefaultResidual is the relative residual that is asked for when nothing else is.
const DefaultResidual = 1e-3

// Options bounds a solve.
type Options struct {
	// Tolerance is the largest accepted ||b - A x|| / ||b|| of any right-hand side, measured with a product of its own
	// at the end. Zero means 1e-3. It is a tolerance on the residual: the error of x may be larger by the condition
	// number lambda_max / lambda.
	Tolerance float64
	// MaxProducts limits the products with the operator. Zero means 1000 for each right-hand side.
	MaxProducts int64
	// Roundoff is the unit roundoff of the products. Zero means float64's, 2^-53. It is for the explanation alone.
	Roundoff float64
	// Progress, when set, is called after each iteration with the right-hand sides still open and the products done.
	Progress func(open int, products int64)
}

// Solution is what a solve found, converged or not.
type Solution struct {
	X          *mat.Dense // solutions as rows, in the order of the right-hand sides
	Residual   *mat.Dense // b - A x, recomputed from X: not the recurrence of the iteration
	Relative   []float64  // ||b - A x|| / ||b||; 0 for b = 0
	Iterations int        // of the right-hand side that took most
	Products   int64      // with the operator, the recomputed residuals included
	Largest    float64    // largest eigenvalue of the operator as the iteration saw it, from below; 0 if it made no step
	Converged  bool       // every relative residual is within the tolerance

	ending
}

// Explanation says what was not reached and what to do; "" if the solve converged.
func (s *Solution) Explanation() string { return s.explanation }

// Statistics are what the solve took and how it ended, at its lambda.
func (s *Solution) Statistics(lambda float64) Statistics {
	residual := s.MaxRelative()
	all := Statistics{
		Lambda: lambda, LambdaMax: s.Largest, BlockSize: 1, Iterations: int32(s.Iterations), Products: s.Products, MaxTrueResidual: &residual,
	}
	s.writeTo(&all)
	return all
}

// MaxRelative is the largest relative residual.
func (s *Solution) MaxRelative() float64 {
	largest := 0.0
	for _, r := range s.Relative {
		largest = max(largest, r)
	}
	return largest
}

// ConjugateGradient solves (op + lambda I) x = b for each row b of rhs. lambda must be positive.
//
// Each right-hand side runs its own recurrence and stops by its own norm, so that sides of very different size are all
// solved to the same relative residual; the products of an iteration are asked for together. Where the recurrence's
// residual has drifted from the true one, the iteration is restarted on the true residual as long as that helps.
//
// An error means that nothing can be trusted (bad arguments, a cancelled context, a product that failed or is not
// finite); running into the limit is no error but a Solution with Converged false.
//
// Hestenes and Stiefel 1952; the largest Ritz value from the coefficients: Golub and Van Loan, section 11.3.
func ConjugateGradient(ctx context.Context, op Operator, lambda float64, rhs *mat.Dense, options Options) (*Solution, error) {
	k, n := rhs.Dims()
	switch {
	case n != op.Dim():
		return nil, fmt.Errorf("solver: right-hand sides have length %d, the operator has dimension %d", n, op.Dim())
	case !(lambda > 0) || math.IsInf(lambda, 0):
		return nil, fmt.Errorf("solver: lambda is %g; it must be positive, for eta alone has no inverse", lambda)
	case options.Tolerance < 0 || math.IsNaN(options.Tolerance):
		return nil, fmt.Errorf("solver: tolerance is %g; it must be positive (0 means 1e-3)", options.Tolerance)
	}
	if options.Tolerance == 0 {
		options.Tolerance = DefaultResidual
	}
	if options.MaxProducts == 0 {
		options.MaxProducts = 1000 * int64(k)
	}
	cg := &conjugateGradient{
		op: op, lambda: lambda, options: options,
		x: mat.NewDense(k, n, nil), residual: mat.DenseCopyOf(rhs), direction: mat.NewDense(k, n, nil),
		squared: make([]float64, k), target: make([]float64, k), iterations: make([]int, k),
	}
	for i := range k {
		norm := floats.Norm(rhs.RawRowView(i), 2)
		if math.IsNaN(norm) || math.IsInf(norm, 0) {
			return nil, fmt.Errorf("solver: right-hand side %d is not finite", i)
		}
		cg.target[i] = options.Tolerance * norm
	}

	open := all(k)
	for worst := math.Inf(1); ; {
		if err := cg.run(ctx, open); err != nil {
			return nil, err
		}
		if err := cg.recomputeResidual(ctx, rhs, open); err != nil {
			return nil, err
		}
		open = cg.above(open)
		now := 0.0
		for _, i := range open {
			now = max(now, cg.norm(i)/cg.target[i])
		}
		// A restart must at least halve the worst residual, or rounding has the last word.
		if len(open) == 0 || now > worst/2 || cg.products >= options.MaxProducts {
			break
		}
		worst = now
	}
	return cg.solution(rhs, open), nil
}

type conjugateGradient struct {
	op      Operator
	lambda  float64
	options Options

	x, residual, direction *mat.Dense
	squared                []float64 // ||residual||^2 by the recurrence
	target                 []float64 // tolerance times ||b||
	iterations             []int
	products               int64
	largest                float64
}

// run iterates the open right-hand sides until each is below its target by its recurrence or the products are spent.
func (cg *conjugateGradient) run(ctx context.Context, open []int) error {
	n := cg.op.Dim()
	ritz := make(map[int]*lanczosCoefficients, len(open))
	for _, i := range open {
		copy(cg.direction.RawRowView(i), cg.residual.RawRowView(i))
		cg.squared[i] = floats.Dot(cg.residual.RawRowView(i), cg.residual.RawRowView(i))
		ritz[i] = &lanczosCoefficients{}
	}
	open = cg.above(open)
	for len(open) > 0 && cg.products+int64(len(open)) <= cg.options.MaxProducts {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("solver: stopped after %d products: %w", cg.products, err)
		}
		block, image := mat.NewDense(len(open), n, nil), mat.NewDense(len(open), n, nil)
		for at, i := range open {
			copy(block.RawRowView(at), cg.direction.RawRowView(i))
		}
		if err := cg.op.Apply(image, block); err != nil {
			return err
		}
		cg.products += int64(len(open))
		for at, i := range open {
			floats.AddScaled(image.RawRowView(at), cg.lambda, block.RawRowView(at))
			curvature := floats.Dot(block.RawRowView(at), image.RawRowView(at))
			if !(curvature > 0) || math.IsInf(curvature, 0) {
				if math.IsNaN(curvature) || math.IsInf(curvature, 0) {
					return ErrNotFinite
				}
				length := floats.Norm(block.RawRowView(at), 2)
				return fmt.Errorf("%w: after %d products a direction has the curvature %.2g at lambda = %.2g", ErrIndefinite, cg.products, curvature/length/length, cg.lambda)
			}
			step := cg.squared[i] / curvature
			floats.AddScaled(cg.x.RawRowView(i), step, block.RawRowView(at))
			floats.AddScaled(cg.residual.RawRowView(i), -step, image.RawRowView(at))
			squared := floats.Dot(cg.residual.RawRowView(i), cg.residual.RawRowView(i))
			ratio := squared / cg.squared[i]
			ritz[i].add(step, ratio)
			direction := cg.direction.RawRowView(i)
			floats.AddScaledTo(direction, cg.residual.RawRowView(i), ratio, direction)
			cg.squared[i] = squared
			cg.iterations[i]++
		}
		open = cg.above(open)
		if cg.options.Progress != nil {
			cg.options.Progress(len(open), cg.products)
		}
	}
	for _, coefficients := range ritz {
		cg.largest = max(cg.largest, coefficients.largest()-cg.lambda)
	}
	return nil
}

// recomputeResidual replaces the recurrence's residuals of some right-hand sides by b - A x.
func (cg *conjugateGradient) recomputeResidual(ctx context.Context, rhs *mat.Dense, rows []int) error {
	if len(rows) == 0 {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("solver: stopped after %d products: %w", cg.products, err)
	}
	n := cg.op.Dim()
	block, image := mat.NewDense(len(rows), n, nil), mat.NewDense(len(rows), n, nil)
	for at, i := range rows {
		copy(block.RawRowView(at), cg.x.RawRowView(i))
	}
	if err := cg.op.Apply(image, block); err != nil {
		return err
	}
	cg.products += int64(len(rows))
	for at, i := range rows {
		residual := cg.residual.RawRowView(i)
		copy(residual, rhs.RawRowView(i))
		floats.AddScaled(residual, -1, image.RawRowView(at))
		floats.AddScaled(residual, -cg.lambda, block.RawRowView(at))
		cg.squared[i] = floats.Dot(cg.residual.RawRowView(i), cg.residual.RawRowView(i))
	}
	return nil
}

func (cg *conjugateGradient) norm(i int) float64 { return math.Sqrt(cg.squared[i]) }

func (cg *conjugateGradient) above(rows []int) []int {
	var above []int
	for _, i := range rows {
		if cg.norm(i) > cg.target[i] {
			above = append(above, i)
		}
	}
	return above
}

func (cg *conjugateGradient) solution(rhs *mat.Dense, open []int) *Solution {
	k, _ := rhs.Dims()
	s := &Solution{
		X: cg.x, Residual: cg.residual, Relative: make([]float64, k),
		Products: cg.products, Largest: cg.largest, Converged: len(open) == 0, ending: ending{status: Converged},
	}
	for i := range k {
		if norm := floats.Norm(rhs.RawRowView(i), 2); norm > 0 {
			s.Relative[i] = cg.norm(i) / norm
		}
		s.Iterations = max(s.Iterations, cg.iterations[i])
	}
	if !s.Converged {
		status, cause := Rounding, "rounding stops it there: use "+orDouble(cg.options.Roundoff)+"a larger lambda"
		if cg.products+int64(len(open)) > cg.options.MaxProducts {
			status, cause = ProductLimit, "the product limit was reached: raise it, or lambda"
		}
		s.ending = ending{status, fmt.Sprintf("%d of %d right-hand sides are above the tolerance %g, the worst at %.2g, after %d products; %s",
			len(open), k, cg.options.Tolerance, s.MaxRelative(), cg.products, cause)}
	}
	return s
}

// lanczosCoefficients collects the tridiagonal matrix that conjugate gradients build implicitly.
type lanczosCoefficients struct {
	diagonal, offDiagonal []float64
	step, ratio           float64 // of the step before
}

// maxRitz bounds the tridiagonal matrix: the largest eigenvalue settles in the first few dozen steps.
const maxRitz = 64

func (l *lanczosCoefficients) add(step, ratio float64) {
	if len(l.diagonal) == maxRitz {
		return
	}
	d := 1 / step
	if l.step > 0 {
		d += l.ratio / l.step
	}
	l.diagonal = append(l.diagonal, d)
	l.offDiagonal = append(l.offDiagonal, math.Sqrt(ratio)/step)
	l.step, l.ratio = step, ratio
}

func (l *lanczosCoefficients) largest() float64 {
	return largestOfTridiagonal(l.diagonal, l.offDiagonal)
}

func all(k int) []int {
	indices := make([]int, k)
	for i := range indices {
		indices[i] = i
	}
	return indices
}
