// Package solver applies and inverts the damped metric of a network's parameters,
//
//	chi = (eta + lambda I)^-1,   eta = scale * sum over a batch of J_x^T J_x,
//
// where J_x is the Jacobian of the model's output at x with respect to all trainable parameters.
//
// The metric is an Operator, and where it can be a Factor; package network makes those of GoMLX models, and this package knows no model.
// BilinearForms bounds the forms of right-hand sides. The way from these to intervals:
//
//   - forms.go deals the right-hand sides out to parts that fit into the memory, and keeps what the parts find;
//   - part.go lets a process take one step after the other until the intervals of its part are narrow enough, or a limit is reached;
//   - golub_kahan.go is the process on a Factor: a step multiplies a block, orthogonalises the images (orthonormal.go) and leaves two small matrices;
//   - bidiagonal.go makes of these the bounds below and above of all forms at one lambda;
//   - golub_kahan_bounds.go says what rounding may have changed in them, and process.go makes intervals of both;
//   - solutions.go multiplies out solutions, and spectrum.go reads off Ritz values, where they are asked for.
//
// Long vectors are in a Space (space.go): on the host (host.go), or where a ResidentFactor has them, on a GPU for instance.
//
// lanczos.go and lanczos_forms.go are the process on an Operator that is no Factor, with quadrature.go and rounding.go.
//
// ConjugateGradient and SubspaceForms are what others do, for comparison. The dense references that all are tested against are in
// internal/oracle.
//
// What goes into an Operator and comes out of it is a gonum matrix with one vector per row, in float64 whatever the precision of the products.
package solver

import (
	"math"
	"math/rand/v2"
	"runtime"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Operator is a symmetric positive semidefinite linear map of R^Dim.
type Operator interface {
	// Dim is the length of the vectors.
	Dim() int
	// Apply writes the image of each row of v into the same row of dst. Both are k x Dim; they do not overlap.
	Apply(dst, v *mat.Dense) error
}

// garbage counts the bytes that products leave, copies of long vectors above all, and frees them before they are many: by itself it would wait for
// the heap to double.
type garbage int64

// product counts one of a vector of length n.
func (g *garbage) product(n int) {
	if *g += garbage(8 * n); *g > 256<<20 {
		runtime.GC()
		*g = 0
	}
}

// LargestEigenvalue estimates the largest eigenvalue of op from below by steps Lanczos steps (as many products, or fewer
// where the space becomes invariant), from a start vector drawn with the seed. Twenty steps give two digits on the spectra
// of network metrics, which decay fast; LargestEigenvalueExcess says what is certain.
//
// Golub and Van Loan, Matrix Computations, 4th ed., section 10.1.
func LargestEigenvalue(op Operator, steps int, seed uint64) (largest float64, products int64, err error) {
	n := op.Dim()
	steps = min(steps, n)
	block, image := mat.NewDense(1, n, nil), mat.NewDense(1, n, nil)
	v, w, previous := block.RawRowView(0), image.RawRowView(0), make([]float64, n)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range v {
		v[i] = random.NormFloat64()
	}
	floats.Scale(1/floats.Norm(v, 2), v)

	var diagonal, offDiagonal []float64
	for range steps {
		if err := op.Apply(image, block); err != nil {
			return 0, 0, err
		}
		products++
		a := floats.Dot(w, v)
		if math.IsNaN(a) || math.IsInf(a, 0) {
			return 0, 0, ErrNotFinite
		}
		diagonal = append(diagonal, a)
		floats.AddScaled(w, -a, v)
		if len(offDiagonal) > 0 {
			floats.AddScaled(w, -offDiagonal[len(offDiagonal)-1], previous)
		}
		b := floats.Norm(w, 2)
		if b <= 1e-14*math.Abs(a) {
			break // an invariant subspace: the Ritz values are exact
		}
		offDiagonal = append(offDiagonal, b)
		copy(previous, v)
		floats.ScaleTo(v, 1/b, w)
	}
	return largestOfTridiagonal(diagonal, offDiagonal), products, nil
}

// Failure is the probability, over start vectors, with which the largest eigenvalue exceeds what LargestEigenvalue found by more than
// LargestEigenvalueExcess.
const Failure = 1e-6

// LargestEigenvalueExcess is a factor of what LargestEigenvalue found with this many steps in this many dimensions: but for the
// probability Failure the largest eigenvalue of a positive semidefinite operator, whatever its spectrum, is not above the product.
//
// For k steps and a start b whose component along the leading eigenvector is c, the estimate is above (1 - e) lambda_max unless
// |c| < 1 / cosh((2k - 1) artanh(sqrt(e))), which has a probability of at most sqrt(2n / pi) times the right-hand side (docs/solver.md).
// Simplified, that is the bound 1.648 sqrt(n) exp(-sqrt(e) (2k - 1)) of Kuczynski and Wozniakowski, Estimating the largest eigenvalue by the
// power and Lanczos algorithms with a random start, SIAM J. Matrix Anal. Appl. 13 (1992).
func LargestEigenvalueExcess(dim, steps int) float64 {
	if steps >= dim {
		return 1.01 // the space is all there is
	}
	angle := math.Acosh(math.Sqrt(2*float64(dim)/math.Pi)/Failure) / float64(2*steps-1)
	return square(math.Cosh(angle))
}

// largestOfTridiagonal is the largest eigenvalue of the symmetric tridiagonal matrix; surplus off-diagonals are ignored.
func largestOfTridiagonal(diagonal, offDiagonal []float64) float64 {
	k := len(diagonal)
	if k == 0 {
		return 0
	}
	// Divided by its size, for gonum's eigenvalues fail on entries that are tiny.
	size := 0.0
	for i, d := range diagonal {
		size = max(size, math.Abs(d))
		if i+1 < k {
			size = max(size, math.Abs(offDiagonal[i]))
		}
	}
	if size == 0 {
		return 0
	}
	t := mat.NewSymDense(k, nil)
	for i, d := range diagonal {
		t.SetSym(i, i, d/size)
		if i+1 < k {
			t.SetSym(i, i+1, offDiagonal[i]/size)
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(t, false) {
		return math.NaN()
	}
	return eigen.Values(nil)[k-1] * size
}

// OuterProducts returns eta = scale * sum of r r^T over the rows r as an operator. It holds rows.
func OuterProducts(rows *mat.Dense, scale float64) Operator {
	return outerProducts{rows, scale}
}

type outerProducts struct {
	rows  *mat.Dense
	scale float64
}

func (o outerProducts) Dim() int { return o.rows.RawMatrix().Cols }

func (o outerProducts) Apply(dst, v *mat.Dense) error {
	var along mat.Dense
	along.Mul(v, o.rows.T())
	along.Scale(o.scale, &along)
	dst.Mul(&along, o.rows)
	return nil
}

// Zero returns the operator of dimension n that maps every vector to zero: the metric that ignores the network.
func Zero(n int) Operator { return zero(n) }

type zero int

func (z zero) Dim() int { return int(z) }

func (z zero) Apply(dst, _ *mat.Dense) error {
	dst.Zero()
	return nil
}
