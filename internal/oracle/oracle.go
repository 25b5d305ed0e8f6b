// Package oracle has what tests compare the solver with, and what they try it on: dense references for small models, and operators of
// known spectra.
package oracle

import (
	"fmt"

	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

// Dense forms the matrix of op, Dim products of one basis vector each, and returns its symmetric part with the largest
// asymmetry |M - M^T| found. For small models: it takes 8 Dim^2 bytes.
func Dense(op solver.Operator) (matrix *mat.SymDense, asymmetry float64, err error) {
	n := op.Dim()
	image := mat.NewDense(n, n, nil)
	const chunk = 64
	for from := 0; from < n; from += chunk {
		to := min(from+chunk, n)
		basis := mat.NewDense(to-from, n, nil)
		for i := from; i < to; i++ {
			basis.Set(i-from, i, 1)
		}
		if err := op.Apply(image.Slice(from, to, 0, n).(*mat.Dense), basis); err != nil {
			return nil, 0, err
		}
	}
	matrix = mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			a, b := image.At(i, j), image.At(j, i)
			asymmetry = max(asymmetry, a-b, b-a)
			matrix.SetSym(i, j, (a+b)/2)
		}
	}
	return matrix, asymmetry, nil
}

// Cholesky solves (eta + lambda I) x = b for each row b of rhs by factorising the dense matrix: the reference for small
// models. Solutions are rows.
func Cholesky(eta *mat.SymDense, lambda float64, rhs *mat.Dense) (*mat.Dense, error) {
	n := eta.SymmetricDim()
	damped := mat.NewSymDense(n, nil)
	damped.CopySym(eta)
	for i := range n {
		damped.SetSym(i, i, damped.At(i, i)+lambda)
	}
	return solveSymmetric(damped, rhs)
}

// Woodbury solves (scale J^T J + lambda I) x = b for each row b of rhs in the space of outputs,
//
//	x = (b - scale J^T (lambda I + scale J J^T)^-1 J b) / lambda,
//
// from the Jacobian alone: a second reference that shares no reverse-mode product with the first. Solutions are rows.
func Woodbury(jacobian *mat.Dense, scale, lambda float64, rhs *mat.Dense) (*mat.Dense, error) {
	m, _ := jacobian.Dims()
	gram := mat.NewSymDense(m, nil)
	gram.SymOuterK(scale, jacobian)
	for i := range m {
		gram.SetSym(i, i, gram.At(i, i)+lambda)
	}
	var outputs mat.Dense // rows J b
	outputs.Mul(rhs, jacobian.T())
	weights, err := solveSymmetric(gram, &outputs)
	if err != nil {
		return nil, err
	}
	var x mat.Dense
	x.Mul(weights, jacobian)
	x.Scale(-scale, &x)
	x.Add(rhs, &x)
	x.Scale(1/lambda, &x)
	return &x, nil
}

func solveSymmetric(matrix *mat.SymDense, rhs *mat.Dense) (*mat.Dense, error) {
	var factors mat.Cholesky
	if !factors.Factorize(matrix) {
		return nil, fmt.Errorf("oracle: the damped matrix of dimension %d is not positive definite; raise lambda", matrix.SymmetricDim())
	}
	var columns mat.Dense
	if err := factors.SolveTo(&columns, rhs.T()); err != nil {
		return nil, fmt.Errorf("oracle: %w", err)
	}
	return mat.DenseCopyOf(columns.T()), nil
}
