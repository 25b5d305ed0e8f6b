package solver

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// quadrature bounds the forms M = G (eta + lambda I)^-1 G^T for one lambda from the blocks of a Lanczos process, as they
// come. With T the block tridiagonal matrix so far, in exact arithmetic and in the order of symmetric matrices,
//
//	low = C^T (T + lambda)^-1 C  <=  M  <=  low + gap.
//
// low is the block Gauss rule. gap comes from the block Gauss-Radau rule whose fixed node is the lower end of the spectrum:
// it replaces eta by E = eta V (V^T eta V)^-1 V^T eta <= eta, which the small matrices also determine. Both follow from the
// block Cholesky recurrence of T + lambda,
//
//	D_{j+1} = T_{j+1} + lambda - B_j D_j^-1 B_j^T,   c_{j+1} = -B_j D_j^-1 c_j,   low = sum of c_j^T D_j^-1 c_j,
//	gap = c_{j+1}^T K_{j+1}^-1 c_{j+1},   K_{j+1} = lambda - shift + Y^T (K_j + K_j S_j^-1 K_j) Y,   Y = D_j^-1 B_j^T,
//
// where S_j is D_j with shift in place of lambda and K_j = D_j - S_j, which is found without that subtraction: both may be
// far larger. eta is positive semidefinite, but the computed T belongs to an operator that differs from it by rounding, of
// norm at most shift: the node is at -shift.
//
// Golub and Meurant, Matrices, Moments and Quadrature, chapter 6; block form: Zimmerling, Druskin and Simoncini,
// arXiv:2407.21505.
type quadrature struct {
	lambda, shift float64

	low     *mat.SymDense // [k, k]
	c, y    *mat.Dense    // c_j and D_j^-1 c_j, [b_j, k]
	factor  mat.Cholesky  // of D_j
	shifted mat.Cholesky  // of S_j
	apart   *mat.SymDense // K_j
	squares []float64     // ||x_i||^2 of the approximate solutions x = V (T + lambda)^-1 C, from d low / d lambda

	slope       *mat.Dense    // d c_j / d lambda
	factorSlope *mat.SymDense // d D_j / d lambda

	broken bool // D_j or S_j is not positive definite: rounding exceeds lambda
}

func newQuadrature(lambda, shift float64, c *mat.Dense) *quadrature {
	b, k := c.Dims()
	q := &quadrature{lambda: lambda, shift: shift, low: mat.NewSymDense(k, nil), squares: make([]float64, k)}
	q.c, q.slope, q.factorSlope = c, mat.NewDense(b, k, nil), identity(b)
	return q
}

func identity(n int) *mat.SymDense {
	m := mat.NewSymDense(n, nil)
	for i := range n {
		m.SetSym(i, i, 1)
	}
	return m
}

// add takes T_j, and B_{j-1} unless j is 1. It reports whether T + lambda is still positive definite; if not, nothing of
// the block is taken.
func (q *quadrature) add(diagonal *mat.SymDense, below *mat.Dense) bool {
	if q.broken {
		return false
	}
	damped, shifted := plus(diagonal, q.lambda), plus(diagonal, q.shift)
	apart := q.nextApart(below, diagonal.SymmetricDim())
	c, slope, factorSlope := q.c, q.slope, q.factorSlope
	if below != nil {
		b, _ := below.Dims()
		var next, nextSlope, inner mat.Dense
		next.Mul(below, q.y)
		next.Scale(-1, &next)
		c = &next
		// c' = -B (D^-1 c' - D^-1 D' D^-1 c).
		inner.Mul(q.factorSlope, q.y)
		inner.Sub(q.slope, &inner)
		solve(&inner, &q.factor)
		nextSlope.Mul(below, &inner)
		nextSlope.Scale(-1, &nextSlope)
		slope = &nextSlope
		// D' = I + B D^-1 D' D^-1 B^T.
		solved := mat.DenseCopyOf(below.T())
		subtractForm(damped, below, solved, &q.factor)
		var product, form mat.Dense
		product.Mul(q.factorSlope, solved)
		form.Mul(solved.T(), &product)
		factorSlope = identity(b)
		addSymmetric(factorSlope, 1, &form)
		subtractForm(shifted, below, mat.DenseCopyOf(below.T()), &q.shifted)
	}
	var factor, shiftedFactor mat.Cholesky
	if !factor.Factorize(damped) || !shiftedFactor.Factorize(shifted) {
		q.broken = true
		return false
	}
	q.c, q.slope, q.factorSlope, q.factor, q.shifted, q.apart = c, slope, factorSlope, factor, shiftedFactor, apart
	q.y = mat.DenseCopyOf(c)
	solve(q.y, &q.factor)
	var form mat.Dense
	form.Mul(c.T(), q.y)
	addSymmetric(q.low, 1, &form)
	// d low / d lambda = -x^T x = 2 c'^T y - y^T D' y.
	var bent mat.Dense
	bent.Mul(q.factorSlope, q.y)
	b, k := q.y.Dims()
	for i := range k {
		for r := range b {
			q.squares[i] -= q.y.At(r, i) * (2*q.slope.At(r, i) - bent.At(r, i))
		}
	}
	return true
}

// gap bounds M - low from above once B_j is known, in the order of symmetric matrices. Where rounding leaves no bound it
// is nil. Without B_j the space is invariant and nothing is missing.
func (q *quadrature) gap(below *mat.Dense) *mat.SymDense {
	if q.broken {
		return nil
	}
	gap := mat.NewSymDense(q.low.SymmetricDim(), nil)
	if below == nil {
		return gap
	}
	b, _ := below.Dims()
	var residual mat.Dense
	residual.Mul(below, q.y) // up to its sign
	if q.shift >= q.lambda {
		return nil
	}
	var factor mat.Cholesky
	if !factor.Factorize(q.nextApart(below, b)) {
		return nil
	}
	solved := mat.DenseCopyOf(&residual)
	solve(solved, &factor)
	var form mat.Dense
	form.Mul(residual.T(), solved)
	addSymmetric(gap, 1, &form)
	for i := range q.low.SymmetricDim() {
		if !(gap.At(i, i) >= 0) || math.IsInf(gap.At(i, i), 0) {
			return nil
		}
	}
	return gap
}

// nextApart is K_{j+1}, of n rows, from B_j; below is nil for the first.
func (q *quadrature) nextApart(below *mat.Dense, n int) *mat.SymDense {
	next := plus(mat.NewSymDense(n, nil), q.lambda-q.shift)
	if below == nil {
		return next
	}
	y := mat.DenseCopyOf(below.T())
	solve(y, &q.factor)
	var stretched, form mat.Dense
	stretched.Mul(q.apart, y)
	form.Mul(y.T(), &stretched)
	addSymmetric(next, 1, &form)
	solved := mat.DenseCopyOf(&stretched)
	solve(solved, &q.shifted)
	form.Mul(stretched.T(), solved)
	addSymmetric(next, 1, &form)
	return next
}

// solve overwrites m with the solution of factor x = m.
func solve(m *mat.Dense, factor *mat.Cholesky) {
	// The error only says that the matrix is ill-conditioned; the bounds allow for rounding.
	_ = factor.SolveTo(m, m)
}

// subtractForm is target -= below factor^-1 below^T. work holds below^T and ends as factor^-1 below^T.
func subtractForm(target *mat.SymDense, below, work *mat.Dense, factor *mat.Cholesky) {
	solve(work, factor)
	var form mat.Dense
	form.Mul(below, work)
	addSymmetric(target, -1, &form)
}

// addSymmetric is target += scale times the symmetric part of form.
func addSymmetric(target *mat.SymDense, scale float64, form *mat.Dense) {
	n := target.SymmetricDim()
	for r := range n {
		for c := r; c < n; c++ {
			target.SetSym(r, c, target.At(r, c)+scale*(form.At(r, c)+form.At(c, r))/2)
		}
	}
}

// plus is m + shift I.
func plus(m *mat.SymDense, shift float64) *mat.SymDense {
	sum := mat.NewSymDense(m.SymmetricDim(), nil)
	sum.CopySym(m)
	for i := range m.SymmetricDim() {
		sum.SetSym(i, i, sum.At(i, i)+shift)
	}
	return sum
}
