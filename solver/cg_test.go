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

	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/solver"
)

func TestConjugateGradientAgainstCholesky(t *testing.T) {
	for name, shape := range oracle.Spectra {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.IntRange(1, 40).Draw(t, "n")
				lambda := math.Pow(10, rapid.Float64Range(-4, 0).Draw(t, "log lambda"))
				random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
				values := make([]float64, n)
				for i := range values {
					values[i] = shape(i, n)
				}
				op := &oracle.Matrix{Of: oracle.WithSpectrum(random, values)}
				// Norms from 1e-8 to 1e8, a duplicate and a zero, in one call.
				rhs := oracle.Gaussian(random, 5, n)
				floats.Scale(1e-8, rhs.RawRowView(0))
				floats.Scale(1e8, rhs.RawRowView(1))
				rhs.SetRow(3, rhs.RawRowView(2))
				rhs.SetRow(4, make([]float64, n))

				got, err := solver.ConjugateGradient(context.Background(), op, lambda, rhs, solver.Options{Tolerance: 1e-9})
				require.NoError(t, err)
				require.True(t, got.Converged, got.Explanation())
				require.EqualValues(t, op.Products, got.Products)
				want, err := oracle.Cholesky(op.Of, lambda, rhs)
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
	op := &oracle.Matrix{Of: oracle.WithSpectrum(random, []float64{1, 0.3, 0.1, 1e-2, 1e-3, 1e-4}), Single: true}
	rhs := oracle.Gaussian(random, 2, 6)
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
		values[i] = oracle.Spectra["decaying"](i, n)
	}
	matrix := oracle.WithSpectrum(random, values)
	hard := oracle.Gaussian(random, 1, n)
	easy := mat.NewDense(1, n, nil) // an eigenvector: one step
	var eigen mat.EigenSym
	require.True(t, eigen.Factorize(matrix, true))
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	easy.SetRow(0, mat.Col(nil, n-1, &vectors))
	solve := func(rhs *mat.Dense) int64 {
		got, err := solver.ConjugateGradient(context.Background(), &oracle.Matrix{Of: matrix}, 1e-4, rhs, solver.Options{Tolerance: 1e-6})
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
		values[i] = oracle.Spectra["decaying"](i, n)
	}
	op := &oracle.Matrix{Of: oracle.WithSpectrum(random, values)}
	rhs := oracle.Gaussian(random, 3, n)
	got, err := solver.ConjugateGradient(context.Background(), op, 1e-6, rhs, solver.Options{Tolerance: 1e-10, MaxProducts: 12})
	require.NoError(t, err)
	require.False(t, got.Converged)
	require.Contains(t, got.Explanation(), "3 of 3 right-hand sides are above the tolerance 1e-10")
	require.Contains(t, got.Explanation(), "the product limit was reached")
	want, err := oracle.Cholesky(op.Of, 1e-6, rhs)
	require.NoError(t, err)
	require.Greater(t, floats.Distance(got.X.RawRowView(0), want.RawRowView(0), 2), 0.1*floats.Norm(want.RawRowView(0), 2),
		"a solve cut short must not pass for the solution")
}

func TestConjugateGradientLargestEigenvalue(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	n := 80
	values := make([]float64, n)
	for i := range values {
		values[i] = 63 * oracle.Spectra["decaying"](i, n)
	}
	op := &oracle.Matrix{Of: oracle.WithSpectrum(random, values)}
	got, err := solver.ConjugateGradient(context.Background(), op, 1e-2, oracle.Gaussian(random, 1, n), solver.Options{})
	require.NoError(t, err)
	require.InEpsilon(t, 63, got.Largest, 1e-3)
	lanczos, _, err := solver.LargestEigenvalue(op, 20, 1)
	require.NoError(t, err)
	require.InEpsilon(t, 63, lanczos, 1e-3)
	require.LessOrEqual(t, lanczos, 63*(1+1e-12))
}

func TestConjugateGradientRefuses(t *testing.T) {
	op := &oracle.Matrix{Of: mat.NewSymDense(2, []float64{1, 0, 0, 1})}
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
		"negative":  {context.Background(), &oracle.Matrix{Of: mat.NewSymDense(2, []float64{-3, 0, 0, -3})}, 1, one, "the metric is not positive semidefinite: after 1 products a direction has the curvature -2 at lambda = 1"},
		"nan":       {context.Background(), &oracle.Matrix{Of: mat.NewSymDense(2, []float64{math.NaN(), 0, 0, 1})}, 1, one, "not finite"},
		"cancelled": {cancelled, op, 1, one, "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := solver.ConjugateGradient(test.ctx, test.op, test.lambda, test.rhs, solver.Options{})
			require.ErrorContains(t, err, test.want)
		})
	}
}

func ExampleConjugateGradient() {
	eta := &oracle.Matrix{Of: mat.NewSymDense(2, []float64{3, 0, 0, 0})} // singular: lambda makes it solvable
	rhs := mat.NewDense(1, 2, []float64{4, 5})
	solution, err := solver.ConjugateGradient(context.Background(), eta, 1, rhs, solver.Options{Tolerance: 1e-10})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.3f %s\n", solution.X.RawRowView(0), solution.Statistics(1).Status)
	// Output: [1.000 5.000] converged
}

// The largest eigenvalue is bounded from above whatever the spectrum, also where the start hardly touches its eigenvector.
func TestLargestEigenvalueIsBoundedFromAbove(t *testing.T) {
	const steps, n = 12, 500
	lowest := 1.0
	for name, value := range map[string]func(i int) float64{
		"one above many":  func(i int) float64 { return []float64{1, 0.2}[min(i, 1)] },
		"close to others": func(i int) float64 { return 1 - 0.5*float64(i)/n },
		"even":            func(i int) float64 { return 1 - float64(i)/n },
		"decaying":        func(i int) float64 { return math.Pow(10, -6*float64(i)/n) },
		"few":             func(i int) float64 { return []float64{1, 0.7, 0.1, 0}[min(i, 3)] },
	} {
		entries := make([]float64, n)
		for i := range entries {
			entries[i] = value(i)
		}
		for seed := range uint64(300) {
			for _, k := range []int{1, 3, 5, steps} {
				largest, _, err := solver.LargestEigenvalue(&diagonal{entries: entries, random: rand.New(rand.NewPCG(1, 1))}, k, seed)
				require.NoError(t, err)
				require.LessOrEqual(t, largest, 1+1e-12)
				require.GreaterOrEqual(t, largest*solver.LargestEigenvalueExcess(n, k), 1.0, "%s, seed %d, %d steps", name, seed, k)
				lowest = min(lowest, largest)
			}
		}
	}
	require.Less(t, lowest, 0.5, "the bare estimate is no bound")

	// As Kuczynski and Wozniakowski state it, and never looser.
	for _, k := range []int{12, 20, 60} {
		e := square(math.Log(1.648*math.Sqrt(n)/solver.Failure) / float64(2*k-1))
		require.LessOrEqual(t, solver.LargestEigenvalueExcess(n, k), 1/(1-e))
		require.Less(t, solver.LargestEigenvalueExcess(1e7, k), 2.5)
	}
}

func square(x float64) float64 { return x * x }
