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
