package solver

import "gonum.org/v1/gonum/mat"

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

// Weighted is a Factor into a space with the inner product w^T H w', H symmetric and positive semidefinite: the metric is A^T H A. Its images are
// pairs, H w after w, of which Rows is the length together, and so is what Adjoint gets, of which it writes A^T (H w).
//
// That is a factor of the metric without a root of H: of the generalised Gauss-Newton matrix, H the Hessian of the loss in the outputs.
type Weighted interface {
	Factor
	Weighted()
}

func isWeighted(factor Factor) bool {
	_, yes := factor.(Weighted)
	return yes
}
