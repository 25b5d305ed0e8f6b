package solver_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/solver"
)

// matrixOperator is a dense matrix as an operator; it counts products and can round them.
type matrixOperator struct {
	matrix   *mat.SymDense
	products int
	single   bool // round products to float32
}

func (o *matrixOperator) Dim() int { return o.matrix.SymmetricDim() }

func (o *matrixOperator) Apply(dst, v *mat.Dense) error {
	rows, _ := v.Dims()
	o.products += rows
	dst.Mul(v, o.matrix)
	if o.single {
		dst.Apply(func(_, _ int, x float64) float64 { return float64(float32(x)) }, dst)
	}
	return nil
}

// withSpectrum is Q diag(values) Q^T for a random orthogonal Q.
func withSpectrum(random *rand.Rand, values []float64) *mat.SymDense {
	n := len(values)
	var qr mat.QR
	qr.Factorize(gaussian(random, n, n))
	var q mat.Dense
	qr.QTo(&q)
	scaled := mat.DenseCopyOf(&q)
	for j, value := range values {
		for i := range n {
			scaled.Set(i, j, scaled.At(i, j)*value)
		}
	}
	var product mat.Dense
	product.Mul(scaled, q.T())
	symmetric := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			symmetric.SetSym(i, j, (product.At(i, j)+product.At(j, i))/2)
		}
	}
	return symmetric
}

func gaussian(random *rand.Rand, rows, cols int) *mat.Dense {
	m := mat.NewDense(rows, cols, nil)
	m.Apply(func(_, _ int, _ float64) float64 { return random.NormFloat64() }, m)
	return m
}

// spectra are shapes that network metrics take, largest eigenvalue 1.
var spectra = map[string]func(i, n int) float64{
	"decaying":       func(i, n int) float64 { return math.Exp(-12 * float64(i) / float64(n)) },
	"stepped":        func(i, n int) float64 { return math.Pow(10, -3*math.Floor(4*float64(i)/float64(n))) },
	"clustered":      func(i, _ int) float64 { return []float64{1, 0.5, 1e-3}[i%3] },
	"rank-deficient": func(i, n int) float64 { return max(0, 1-3*float64(i)/float64(n)) },
	"zero":           func(int, int) float64 { return 0 },
}

func TestConjugateGradientAgainstCholesky(t *testing.T) {
	for name, shape := range spectra {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.IntRange(1, 40).Draw(t, "n")
				lambda := math.Pow(10, rapid.Float64Range(-4, 0).Draw(t, "log lambda"))
				random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
				values := make([]float64, n)
				for i := range values {
					values[i] = shape(i, n)
				}
				op := &matrixOperator{matrix: withSpectrum(random, values)}
				// Norms from 1e-8 to 1e8, a duplicate and a zero, in one call.
				rhs := gaussian(random, 5, n)
				floats.Scale(1e-8, rhs.RawRowView(0))
				floats.Scale(1e8, rhs.RawRowView(1))
				rhs.SetRow(3, rhs.RawRowView(2))
				rhs.SetRow(4, make([]float64, n))

				got, err := solver.ConjugateGradient(context.Background(), op, lambda, rhs, solver.Options{Tolerance: 1e-9})
				require.NoError(t, err)
				require.True(t, got.Converged, got.Explanation())
				require.EqualValues(t, op.products, got.Products)
				want, err := solver.Cholesky(op.matrix, lambda, rhs)
				require.NoError(t, err)
				for i := range 5 {
					require.LessOrEqual(t, got.Relative[i], 1e-9)
					// ||x - x*|| <= ||r|| / lambda_min, and lambda_min >= lambda.
					bound := 1.1e-9*floats.Norm(rhs.RawRowView(i), 2)/lambda + 1e-13*floats.Norm(want.RawRowView(i), 2)/lambda
					require.LessOrEqual(t, floats.Distance(got.X.RawRowView(i), want.RawRowView(i), 2), bound, "right-hand side %d", i)
				}
			})
		})
	}
}

func TestConjugateGradientReportsTheTrueResidual(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	op := &matrixOperator{matrix: withSpectrum(random, []float64{1, 0.3, 0.1, 1e-2, 1e-3, 1e-4}), single: true}
	rhs := gaussian(random, 2, 6)
	got, err := solver.ConjugateGradient(context.Background(), op, 1e-5, rhs, solver.Options{Tolerance: 1e-12, Roundoff: 0x1p-24})
	require.NoError(t, err)
	require.False(t, got.Converged, "products rounded to float32 cannot give a residual of 1e-12")
	require.Contains(t, got.Explanation(), "use float64 or a larger lambda")
	for i := range 2 {
		image := mat.NewDense(1, 6, nil)
		require.NoError(t, op.Apply(image, mat.NewDense(1, 6, got.X.RawRowView(i))))
		residual := make([]float64, 6)
		floats.SubTo(residual, rhs.RawRowView(i), image.RawRowView(0))
		floats.AddScaled(residual, -1e-5, got.X.RawRowView(i))
		require.InDelta(t, floats.Norm(residual, 2)/floats.Norm(rhs.RawRowView(i), 2), got.Relative[i], 1e-15)
	}
}

func TestConjugateGradientStopsEachSideByItsOwnNorm(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	n := 60
	values := make([]float64, n)
	for i := range values {
		values[i] = spectra["decaying"](i, n)
	}
	matrix := withSpectrum(random, values)
	hard := gaussian(random, 1, n)
	easy := mat.NewDense(1, n, nil) // an eigenvector: one step
	var eigen mat.EigenSym
	require.True(t, eigen.Factorize(matrix, true))
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	easy.SetRow(0, mat.Col(nil, n-1, &vectors))
	solve := func(rhs *mat.Dense) int64 {
		got, err := solver.ConjugateGradient(context.Background(), &matrixOperator{matrix: matrix}, 1e-4, rhs, solver.Options{Tolerance: 1e-6})
		require.NoError(t, err)
		require.True(t, got.Converged, got.Explanation())
		return got.Products
	}
	both := mat.NewDense(2, n, nil)
	both.SetRow(0, easy.RawRowView(0))
	both.SetRow(1, hard.RawRowView(0))
	require.LessOrEqual(t, solve(easy), int64(4))
	require.Equal(t, solve(easy)+solve(hard), solve(both), "sides do not disturb one another")
}

func TestConjugateGradientLimit(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	n := 50
	values := make([]float64, n)
	for i := range values {
		values[i] = spectra["decaying"](i, n)
	}
	op := &matrixOperator{matrix: withSpectrum(random, values)}
	rhs := gaussian(random, 3, n)
	got, err := solver.ConjugateGradient(context.Background(), op, 1e-6, rhs, solver.Options{Tolerance: 1e-10, MaxProducts: 12})
	require.NoError(t, err)
	require.False(t, got.Converged)
	require.Contains(t, got.Explanation(), "3 of 3 right-hand sides are above the tolerance 1e-10")
	require.Contains(t, got.Explanation(), "the product limit was reached")
	want, err := solver.Cholesky(op.matrix, 1e-6, rhs)
	require.NoError(t, err)
	require.Greater(t, floats.Distance(got.X.RawRowView(0), want.RawRowView(0), 2), 0.1*floats.Norm(want.RawRowView(0), 2),
		"a solve cut short must not pass for the solution")
}

func TestConjugateGradientLargestEigenvalue(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	n := 80
	values := make([]float64, n)
	for i := range values {
		values[i] = 63 * spectra["decaying"](i, n)
	}
	op := &matrixOperator{matrix: withSpectrum(random, values)}
	got, err := solver.ConjugateGradient(context.Background(), op, 1e-2, gaussian(random, 1, n), solver.Options{})
	require.NoError(t, err)
	require.InEpsilon(t, 63, got.Largest, 1e-3)
	lanczos, _, err := solver.LargestEigenvalue(op, 20, 1)
	require.NoError(t, err)
	require.InEpsilon(t, 63, lanczos, 1e-3)
	require.LessOrEqual(t, lanczos, 63*(1+1e-12))
}

func TestConjugateGradientRefuses(t *testing.T) {
	op := &matrixOperator{matrix: mat.NewSymDense(2, []float64{1, 0, 0, 1})}
	one := mat.NewDense(1, 2, []float64{1, 2})
	cancelled, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stop")
	cancel(stop)
	for name, test := range map[string]struct {
		ctx    context.Context
		op     solver.Operator
		lambda float64
		rhs    *mat.Dense
		want   string
	}{
		"length":    {context.Background(), op, 1, mat.NewDense(1, 3, nil), "length 3, the operator has dimension 2"},
		"lambda":    {context.Background(), op, 0, one, "lambda is 0; it must be positive"},
		"nan side":  {context.Background(), op, 1, mat.NewDense(1, 2, []float64{1, math.NaN()}), "right-hand side 0 is not finite"},
		"negative":  {context.Background(), &matrixOperator{matrix: mat.NewSymDense(2, []float64{-3, 0, 0, -3})}, 1, one, "the metric is not positive semidefinite: after 1 products a direction has the curvature -2 at lambda = 1"},
		"nan":       {context.Background(), &matrixOperator{matrix: mat.NewSymDense(2, []float64{math.NaN(), 0, 0, 1})}, 1, one, "not finite"},
		"cancelled": {cancelled, op, 1, one, "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := solver.ConjugateGradient(test.ctx, test.op, test.lambda, test.rhs, solver.Options{})
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestWoodburyAgainstCholesky(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	jacobian := gaussian(random, 7, 12)
	eta := mat.NewSymDense(12, nil)
	eta.SymOuterK(0.3, jacobian.T())
	rhs := gaussian(random, 3, 12)
	primal, err := solver.Cholesky(eta, 1e-3, rhs)
	require.NoError(t, err)
	dual, err := solver.Woodbury(jacobian, 0.3, 1e-3, rhs)
	require.NoError(t, err)
	require.True(t, mat.EqualApprox(primal, dual, 1e-8*mat.Norm(primal, 2)))
	matrix, asymmetry, err := solver.Dense(&matrixOperator{matrix: eta})
	require.NoError(t, err)
	require.Zero(t, asymmetry)
	require.True(t, mat.Equal(eta, matrix))
}

func ExampleConjugateGradient() {
	eta := &matrixOperator{matrix: mat.NewSymDense(2, []float64{3, 0, 0, 0})} // singular: lambda makes it solvable
	rhs := mat.NewDense(1, 2, []float64{4, 5})
	solution, err := solver.ConjugateGradient(context.Background(), eta, 1, rhs, solver.Options{Tolerance: 1e-10})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.3f %s\n", solution.X.RawRowView(0), solution.Statistics(1).Status)
	// Output: [1.000 5.000] converged
}
