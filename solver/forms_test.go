package solver_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/solver"
)

// hardSides have norms from 1e-8 to 1e8, two equal rows, one that depends on others, and a zero.
func hardSides(random *rand.Rand, k, n int) *mat.Dense {
	rhs := oracle.Gaussian(random, k, n)
	for i := range k {
		floats.Scale(math.Pow(10, 16*random.Float64()-8), rhs.RawRowView(i))
	}
	if k >= 3 {
		rhs.SetRow(1, rhs.RawRowView(0))
		rhs.SetRow(2, make([]float64, n))
	}
	if k >= 5 {
		floats.AddScaledTo(rhs.RawRowView(3), rhs.RawRowView(0), -2e-3, rhs.RawRowView(4))
	}
	return rhs
}

// requireContained checks every wanted interval against the exact forms and returns the largest half-width of a cosine and
// the largest error of one.
func requireContained(t require.TestingT, forms *solver.Forms, l, rows int, exact *mat.Dense) (widest, worst float64) {
	k, _ := exact.Dims()
	for i := range rows {
		for j := range k {
			got, want := forms.Form(l, i, j), exact.At(i, j)
			require.LessOrEqual(t, got.Low, want, "form %d %d", i, j)
			require.GreaterOrEqual(t, got.High, want, "form %d %d", i, j)
			require.LessOrEqual(t, got.Low, got.Value)
			require.GreaterOrEqual(t, got.High, got.Value)
			cosine, ok := forms.Cosine(l, i, j)
			zero := exact.At(i, i) == 0 || exact.At(j, j) == 0
			if zero {
				require.False(t, ok)
				require.Zero(t, got)
				continue
			}
			if !ok {
				require.True(t, math.IsInf(got.Low, -1) && math.IsInf(got.High, 1), "only a form that is not certified can leave no cosine")
				widest = math.Inf(1)
				continue
			}
			want = min(1, max(-1, want/math.Sqrt(exact.At(i, i))/math.Sqrt(exact.At(j, j)))) // rounding in the reference
			require.LessOrEqual(t, cosine.Low, want+1e-15, "cosine %d %d", i, j)
			require.GreaterOrEqual(t, cosine.High, want-1e-15, "cosine %d %d", i, j)
			require.LessOrEqual(t, cosine.Low, cosine.Value)
			require.GreaterOrEqual(t, cosine.High, cosine.Value)
			widest = max(widest, cosine.HalfWidth())
			if i == j {
				widest = max(widest, got.HalfWidth()/got.Value)
			}
			worst = max(worst, math.Abs(cosine.Value-want))
		}
	}
	return widest, worst
}

// exactForms are G (matrix + lambda)^-1 G^T by Cholesky, each row scaled to norm 1 while solving.
func exactForms(t require.TestingT, matrix *mat.SymDense, lambda float64, rhs *mat.Dense) *mat.Dense {
	k, _ := rhs.Dims()
	scaled := mat.DenseCopyOf(rhs)
	norms := make([]float64, k)
	for i := range k {
		if norms[i] = floats.Norm(rhs.RawRowView(i), 2); norms[i] > 0 {
			floats.Scale(1/norms[i], scaled.RawRowView(i))
		}
	}
	solution, err := oracle.Cholesky(matrix, lambda, scaled)
	require.NoError(t, err)
	var forms mat.Dense
	forms.Mul(scaled, solution.T())
	forms.Apply(func(i, j int, v float64) float64 { return v * norms[i] * norms[j] }, &forms)
	return &forms
}

func TestIntervalsContainTheExactForms(t *testing.T) {
	for name, shape := range oracle.Spectra {
		for _, single := range []bool{false, true} {
			precision := map[bool]string{false: "float64", true: "float32"}[single]
			t.Run(name+"/"+precision, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					n := rapid.IntRange(1, 60).Draw(t, "n")
					k := rapid.IntRange(1, 7).Draw(t, "k")
					rows := rapid.IntRange(1, k).Draw(t, "rows")
					lambda := math.Pow(10, rapid.Float64Range(-9, 0).Draw(t, "log lambda"))
					tolerance := math.Pow(10, rapid.Float64Range(-6, -1).Draw(t, "log tolerance"))
					random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
					values := make([]float64, n)
					for i := range values {
						values[i] = shape(i, n)
					}
					op := &oracle.Matrix{Of: oracle.WithSpectrum(random, values), Single: single}
					rhs := hardSides(random, k, n)
					options := solver.FormOptions{Lambdas: []float64{lambda, 10 * lambda}, Rows: rows, Tolerance: tolerance}
					if single {
						options.Roundoff = 0x1p-24
					}
					forms, err := solver.BilinearForms(context.Background(), op, rhs, options)
					require.NoError(t, err)
					require.EqualValues(t, op.Products, forms.Products+forms.Setup)
					require.LessOrEqual(t, forms.Products, int64(n+1), "the space is full, and one product checks the residual")
					for l, damping := range options.Lambdas {
						widest, worst := requireContained(t, forms, l, rows, exactForms(t, op.Of, damping, rhs))
						require.GreaterOrEqual(t, forms.HalfWidth(l)*(1+1e-6)+1e-14, min(1, widest))
						require.LessOrEqual(t, worst, 2*widest+1e-14)
						if forms.Converged {
							require.LessOrEqual(t, widest, tolerance)
						}
					}
					if !single && lambda > 1e-6 && tolerance > 1e-5 {
						require.True(t, forms.Converged, forms.Explanation())
					}
				})
			})
		}
	}
}

// decaying is a problem of 200 dimensions with eigenvalues from 1 to 1e-6, and right-hand sides.
func decaying(k int) (*oracle.Matrix, *mat.Dense) {
	random := rand.New(rand.NewPCG(3, 4))
	values := make([]float64, 200)
	for i := range values {
		values[i] = math.Pow(10, -6*float64(i)/199)
	}
	return &oracle.Matrix{Of: oracle.WithSpectrum(random, values)}, oracle.Gaussian(random, k, 200)
}

func TestFormsTakeFewerProductsThanConjugateGradients(t *testing.T) {
	const lambda = 1e-6
	op, rhs := decaying(6)
	forms, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{lambda}, Tolerance: 1e-2})
	require.NoError(t, err)
	require.True(t, forms.Converged, forms.Explanation())
	require.LessOrEqual(t, forms.Products, int64(201))
	_, worst := requireContained(t, forms, 0, 6, exactForms(t, op.Of, lambda, rhs))
	require.LessOrEqual(t, worst, 1e-2)

	op.Products = 0
	_, err = solver.ConjugateGradient(context.Background(), op, lambda, rhs, solver.Options{Tolerance: 5e-3})
	require.NoError(t, err)
	require.Greater(t, op.Products, 5*int(forms.Products))
}

func TestManyLambdasShareOneSpace(t *testing.T) {
	op, rhs := decaying(4)
	all := []float64{1e-4, 1e-2, 1e-3}
	together, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: all})
	require.NoError(t, err)
	alone, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: all[:1]})
	require.NoError(t, err)
	require.Equal(t, alone.Products, together.Products, "the smallest decides")
	for l, lambda := range all {
		requireContained(t, together, l, 4, exactForms(t, op.Of, lambda, rhs))
		require.LessOrEqual(t, together.HalfWidth(l), solver.DefaultTolerance)
	}
	require.Equal(t, alone.Form(0, 1, 2), together.Form(0, 1, 2))
}

func TestAMemoryLimitSplitsTheBlock(t *testing.T) {
	op, rhs := decaying(10)
	options := solver.FormOptions{Lambdas: []float64{1e-3}, Rows: 2, Tolerance: 3e-2}
	whole, err := solver.BilinearForms(context.Background(), op, rhs, options)
	require.NoError(t, err)
	require.Equal(t, 10, whole.BlockSize)
	options.MaxBytes = 8 * 200 * 91
	split, err := solver.BilinearForms(context.Background(), op, rhs, options)
	require.NoError(t, err)
	require.True(t, split.Converged, split.Explanation())
	require.Less(t, split.BlockSize, 10)
	require.Equal(t, 2, split.Parts)
	require.LessOrEqual(t, split.Bytes, options.MaxBytes)
	require.Less(t, split.Bytes, whole.Bytes)
	exact := exactForms(t, op.Of, 1e-3, rhs)
	requireContained(t, whole, 0, 2, exact)
	requireContained(t, split, 0, 2, exact)
	require.Panics(t, func() { split.Form(0, 3, 4) }, "a pair that was not asked for")
}

func TestFormsAtTheirLimits(t *testing.T) {
	op, rhs := decaying(4)
	for name, test := range map[string]struct {
		options solver.FormOptions
		status  solver.Status
		want    string
	}{
		"products": {solver.FormOptions{Lambdas: []float64{1e-6}, MaxProducts: 40}, solver.ProductLimit, "the product limit was reached"},
		"time":     {solver.FormOptions{Lambdas: []float64{1e-6}, MaxTime: 1}, solver.TimeLimit, "the time limit was reached"},
		"memory":   {solver.FormOptions{Lambdas: []float64{1e-6}, MaxBytes: 8 * 200 * 60}, solver.MemoryLimit, "the memory limit of 0.0916 MiB"},
		"rounding": {solver.FormOptions{Lambdas: []float64{1e-7}, Roundoff: 0x1p-24, Tolerance: 1e-2}, solver.Rounding, "nothing is certified at lambda = 1e-07: rounding in the products"},
		"floor":    {solver.FormOptions{Lambdas: []float64{1e-4}, Roundoff: 0x1p-24, Tolerance: 1e-4}, solver.Rounding, "allows no narrower: use float64 or a larger lambda"},
	} {
		t.Run(name, func(t *testing.T) {
			op.Products = 0
			forms, err := solver.BilinearForms(context.Background(), op, rhs, test.options)
			require.NoError(t, err)
			require.False(t, forms.Converged)
			require.Contains(t, forms.Explanation(), test.want)
			require.Equal(t, test.status, forms.Statistics(0).Status)
			require.EqualValues(t, op.Products, forms.Products+forms.Setup)
			if limit := test.options.MaxProducts; limit > 0 {
				require.LessOrEqual(t, forms.Products+forms.Setup, limit)
			}
			requireContained(t, forms, 0, 4, exactForms(t, op.Of, test.options.Lambdas[0], rhs))
		})
	}
}

func TestFormsReportTheTrueResidual(t *testing.T) {
	op, rhs := decaying(1)
	const lambda = 1e-3
	forms, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{lambda}, MaxProducts: 30})
	require.NoError(t, err)
	cg, err := solver.ConjugateGradient(context.Background(), op, lambda, rhs, solver.Options{Tolerance: 1e-12, MaxProducts: forms.Products - 1})
	require.NoError(t, err)
	// For a single right-hand side the space is that of conjugate gradients, whose iterate is the Galerkin solution.
	require.InEpsilon(t, cg.MaxRelative(), forms.Residual, 1e-6)
	require.InEpsilon(t, 1, forms.LambdaMax, 1e-3)
}

func TestFormsRefuse(t *testing.T) {
	op, rhs := decaying(2)
	solve := func(ctx context.Context, op solver.Operator, rhs *mat.Dense, options solver.FormOptions) error {
		_, err := solver.BilinearForms(ctx, op, rhs, options)
		return err
	}
	one := []float64{1}
	require.ErrorContains(t, solve(context.Background(), op, oracle.Gaussian(rand.New(rand.NewPCG(1, 1)), 2, 3), solver.FormOptions{Lambdas: one}), "have length 3, the operator has dimension 200")
	require.ErrorContains(t, solve(context.Background(), op, rhs, solver.FormOptions{}), "no lambda is given")
	require.ErrorContains(t, solve(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{1, 0}}), "lambda is 0; it must be positive")
	require.ErrorContains(t, solve(context.Background(), op, rhs, solver.FormOptions{Lambdas: one, Tolerance: -1}), "tolerance is -1")
	require.ErrorContains(t, solve(context.Background(), op, rhs, solver.FormOptions{Lambdas: one, Rows: 3}), "the first 3 of 2")
	require.ErrorContains(t, solve(context.Background(), op, rhs, solver.FormOptions{Lambdas: one, MaxBytes: -1}), "a limit is negative")
	require.ErrorContains(t, solve(context.Background(), op, rhs, solver.FormOptions{Lambdas: one, MaxProducts: 7}), "the limit of 7 products is below the 15 that")
	require.ErrorContains(t, solve(context.Background(), op, rhs, solver.FormOptions{Lambdas: one, Roundoff: math.NaN()}), "roundoff is NaN")
	require.ErrorContains(t, solve(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{1e300}}), "lambda is 1e+300; scale the operator")
	tiny := &diagonal{entries: []float64{1e-160, 1e-170}, random: rand.New(rand.NewPCG(1, 1))}
	require.ErrorContains(t, solve(context.Background(), tiny, mat.NewDense(1, 2, []float64{1, 1}), solver.FormOptions{Lambdas: one}), "the largest eigenvalue is about 1e-160")
	require.ErrorContains(t, solve(context.Background(), op, mat.NewDense(1, 200, append(make([]float64, 199), 1e160)), solver.FormOptions{Lambdas: one}), "right-hand side 0 has norm 1e+160; scale it to within 1e100")
	_, err := solver.BilinearFormsOf(context.Background(), op, 1, func([]float64, int) (float64, error) { return -1, nil }, solver.FormOptions{Lambdas: one})
	require.ErrorContains(t, err, "right-hand side 0 is said to be off by -1")
	bad := mat.DenseCopyOf(rhs)
	bad.Set(1, 3, math.NaN())
	require.ErrorContains(t, solve(context.Background(), op, bad, solver.FormOptions{Lambdas: one}), "right-hand side 1 is not finite")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, solve(ctx, op, rhs, solver.FormOptions{Lambdas: one}), context.Canceled)
	require.ErrorContains(t, solve(context.Background(), notFinite{}, rhs, solver.FormOptions{Lambdas: one}), "a product with the metric is not finite")
}

// diagonal is an operator whose exact forms are plain sums, with Gaussian noise of norm roundoff times its largest entry in
// every product.
type diagonal struct {
	entries  []float64
	roundoff float64
	random   *rand.Rand
}

func (d *diagonal) Dim() int { return len(d.entries) }

func (d *diagonal) Apply(dst, v *mat.Dense) error {
	rows, n := v.Dims()
	for i := range rows {
		size := d.roundoff * floats.Max(d.entries) * floats.Norm(v.RawRowView(i), 2) / math.Sqrt(float64(n))
		for j, entry := range d.entries {
			dst.Set(i, j, entry*v.At(i, j)+size*d.random.NormFloat64())
		}
	}
	return nil
}

func (d *diagonal) forms(lambda float64, rhs *mat.Dense) *mat.Dense {
	scaled := mat.DenseCopyOf(rhs)
	scaled.Apply(func(_, j int, value float64) float64 { return value / (d.entries[j] + lambda) }, scaled)
	var exact mat.Dense
	exact.Mul(scaled, rhs.T())
	return &exact
}

// Right-hand sides that hardly touch the leading eigenvectors say nothing about the size of rounding in products, and
// metrics of low rank leave a gap that is a small difference of large numbers.
func TestIntervalsHoldAgainstAdversaries(t *testing.T) {
	for name, roundoff := range map[string]float64{"float64": 0x1p-53, "float32": 0x1p-24} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.IntRange(2, 40).Draw(t, "n")
				k := rapid.IntRange(1, 8).Draw(t, "k")
				rank := rapid.IntRange(1, n).Draw(t, "rank")
				decay := rapid.Float64Range(0, 12).Draw(t, "decay")
				avoid := math.Pow(10, rapid.Float64Range(-17, 0).Draw(t, "log of what touches the leading half"))
				lambda := math.Pow(10, rapid.Float64Range(-12, 2).Draw(t, "log lambda"))
				random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
				op := &diagonal{entries: make([]float64, n), roundoff: roundoff, random: random}
				for i := range rank {
					op.entries[i] = math.Pow(10, -decay*float64(i)/float64(n))
				}
				rhs := oracle.Gaussian(random, k, n)
				rhs.Apply(func(_, j int, value float64) float64 {
					if 2*j < rank {
						return value * avoid
					}
					return value
				}, rhs)
				forms, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{
					Lambdas: []float64{lambda}, Roundoff: roundoff, MaxProducts: int64(rapid.IntRange(0, 3).Draw(t, "steps") * (k + 13)),
				})
				require.NoError(t, err)
				exact := op.forms(lambda, rhs)
				requireContained(t, forms, 0, k, exact)
			})
		})
	}
}

// skew is an operator that is not symmetric, as that of a model with a wrong gradient.
type skew struct{ *oracle.Matrix }

func (s skew) Apply(dst, v *mat.Dense) error {
	if err := s.Matrix.Apply(dst, v); err != nil {
		return err
	}
	rows, n := v.Dims()
	for i := range rows {
		for j := range n {
			dst.Set(i, j, dst.At(i, j)+0.01*v.At(i, (j+1)%n))
		}
	}
	return nil
}

func TestAnAsymmetricOperatorIsNotCalledRounding(t *testing.T) {
	op, rhs := decaying(3)
	forms, err := solver.BilinearForms(context.Background(), skew{op}, rhs, solver.FormOptions{Lambdas: []float64{1e-3}, Roundoff: 0x1p-24})
	require.NoError(t, err)
	require.False(t, forms.Converged)
	require.Contains(t, forms.Explanation(), "nothing is certified at lambda = 0.001: products with the metric are not symmetric")
}

// One part in 1e9 is seen in float64, and chance in the products.
func TestProductsThatContradictEachOtherAreNamed(t *testing.T) {
	op, rhs := decaying(3)
	asymmetry := make([]float64, 200)
	for i := range asymmetry {
		asymmetry[i] = 1
	}
	for _, lambda := range []float64{1e-1, 1e-4} {
		turned := &noisy{entries: asymmetry, noise: 1e-9, kind: "linear", random: rand.New(rand.NewPCG(1, 2))}
		forms, err := solver.BilinearForms(context.Background(), sum{op, turned, -1}, rhs, solver.FormOptions{Lambdas: []float64{lambda}})
		require.NoError(t, err)
		require.Equal(t, solver.Asymmetric, forms.Statistics(0).Status)
		require.Nil(t, forms.Statistics(0).MaxHalfWidth)
	}
	for _, noise := range []float64{1e-10, 1e-5} {
		entries := make([]float64, 3000)
		for i := range entries {
			entries[i] = math.Pow(10, -3*float64(i)/3000)
		}
		random := rand.New(rand.NewPCG(1, 2))
		forms, err := solver.BilinearForms(context.Background(), &noisy{entries, noise, "random", random}, oracle.Gaussian(random, 2, 3000), solver.FormOptions{Lambdas: []float64{1e-2}, Tolerance: 1e-8})
		require.NoError(t, err)
		require.Contains(t, []solver.Status{solver.Inconsistent, solver.Asymmetric}, forms.Statistics(0).Status)
	}
}

// sum is one operator plus another, less some of the identity.
type sum struct {
	solver.Operator
	other    solver.Operator
	identity float64
}

func (s sum) Apply(dst, v *mat.Dense) error {
	var other mat.Dense
	rows, n := v.Dims()
	other.ReuseAs(rows, n)
	if err := errors.Join(s.Operator.Apply(dst, v), s.other.Apply(&other, v)); err != nil {
		return err
	}
	dst.Add(dst, &other)
	other.Scale(s.identity, v)
	dst.Add(dst, &other)
	return nil
}

// Neither rounding nor float64 has anything to do with it.
func TestAnIndefiniteOperatorIsNotCalledRounding(t *testing.T) {
	matrix := mat.NewSymDense(4, []float64{1, 0, 0, 0, 0, 0.1, 0, 0, 0, 0, 0.02, 0, 0, 0, 0, -0.3})
	rhs := mat.NewDense(1, 4, []float64{1, 1, 1, 1})
	forms, err := solver.BilinearForms(context.Background(), &oracle.Matrix{Of: matrix}, rhs, solver.FormOptions{Lambdas: []float64{1e-2}})
	require.NoError(t, err)
	require.Equal(t, solver.Indefinite, forms.Statistics(0).Status)
	require.Regexp(t, `^nothing is certified at lambda = 0.01: a product with the metric has the curvature -0\.\d+ where lambda_max is 1, and rounding explains 3e-15 of it`, forms.Explanation())
	require.NotContains(t, forms.Explanation(), "float64")
	require.Nil(t, forms.Statistics(0).MaxHalfWidth)
}

func TestAHopelessLambdaDoesNotSpoilTheOthers(t *testing.T) {
	op, rhs := decaying(3)
	op.Single = true
	lambdas := []float64{1e-9, 1e-2}
	forms, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: lambdas, Roundoff: 0x1p-24})
	require.NoError(t, err)
	require.False(t, forms.Converged)
	require.Contains(t, forms.Explanation(), "nothing is certified at lambda = 1e-09: rounding")
	require.LessOrEqual(t, forms.HalfWidth(1), solver.DefaultTolerance)
	require.Equal(t, solver.Rounding, forms.Statistics(0).Status)
	require.Nil(t, forms.Statistics(0).MaxHalfWidth)
	require.Equal(t, solver.Converged, forms.Statistics(1).Status)
	require.Nil(t, forms.Statistics(1).Explanation)
	requireContained(t, forms, 0, 3, exactForms(t, op.Of, lambdas[0], rhs))
	requireContained(t, forms, 1, 3, exactForms(t, op.Of, lambdas[1], rhs))
	// Just above the rounding no bound can come either, and no products are wasted on it.
	forms, err = solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{6e-7}, Roundoff: 0x1p-24})
	require.NoError(t, err)
	require.False(t, forms.Converged)
	require.Less(t, forms.Products, int64(20))
}

func TestAMemoryLimitThatAProductBreaksIsRefused(t *testing.T) {
	op, rhs := decaying(4)
	_, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{1e-3}, MaxBytes: 8 * 200 * 9})
	require.ErrorContains(t, err, "solver: a product of 4 right-hand sides takes ")
	require.ErrorContains(t, err, "raise it, or take fewer samples in a batch")
}

func TestFormsTellTheirProgress(t *testing.T) {
	op, rhs := decaying(10)
	calls, last := 0, math.Inf(1)
	_, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{
		Lambdas: []float64{1e-3}, Rows: 2, MaxBytes: 8 * 200 * 91,
		Progress: func(f *solver.Forms) {
			calls++
			require.False(t, f.Converged, "not before the end")
			if f.Parts == 1 {
				require.True(t, math.IsInf(f.Form(0, 0, 9).High, 1), "a part that is to come")
				require.LessOrEqual(t, f.Form(0, 0, 1).HalfWidth(), last)
				last = f.Form(0, 0, 1).HalfWidth()
			}
		},
	})
	require.NoError(t, err)
	require.Greater(t, calls, 5)
	require.False(t, math.IsInf(last, 1))
}

type notFinite struct{}

func (notFinite) Dim() int { return 200 }
func (notFinite) Apply(dst, v *mat.Dense) error {
	dst.Apply(func(_, _ int, _ float64) float64 { return math.NaN() }, dst)
	return nil
}

// Long vectors are multiplied in pieces, on all cores.
func TestFormsOfLongVectors(t *testing.T) {
	const n, k = 10_001, 3
	random := rand.New(rand.NewPCG(7, 8))
	op := &diagonal{entries: make([]float64, n), random: random}
	for i := range op.entries {
		op.entries[i] = math.Pow(10, -4*float64(i)/n)
	}
	rhs := oracle.Gaussian(random, k, n)
	forms, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{1e-2}, Tolerance: 1e-3})
	require.NoError(t, err)
	require.True(t, forms.Converged, forms.Explanation())
	require.Less(t, forms.Products, int64(300))
	requireContained(t, forms, 0, k, op.forms(1e-2, rhs))
}

// The parts of a solve use the same vectors, and no others are made.
func TestPartsTakeTheMemoryThatIsCounted(t *testing.T) {
	const n, k, rows = 200_003, 14, 2
	random := rand.New(rand.NewPCG(9, 10))
	op := &diagonal{entries: make([]float64, n), random: random}
	for i := range op.entries {
		op.entries[i] = math.Pow(10, -4*float64(i)/n)
	}
	rhs := oracle.Gaussian(random, k, n)
	options := solver.FormOptions{Lambdas: []float64{1e-1}, Rows: rows, MaxBytes: solver.DimensionsOf(op, 0).Bytes(6, 8), LambdaMax: 1}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	forms, err := solver.BilinearForms(context.Background(), op, rhs, options)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.True(t, forms.Converged, forms.Explanation())
	require.Equal(t, 3, forms.Parts)
	require.Equal(t, 6, forms.BlockSize)
	allocated := int64(after.TotalAlloc - before.TotalAlloc)
	require.LessOrEqual(t, allocated, forms.Bytes+forms.Bytes/8, "with small matrices")
	require.LessOrEqual(t, forms.Bytes, solver.DimensionsOf(op, 0).Bytes(forms.BlockSize, forms.Iterations))
	require.LessOrEqual(t, solver.DimensionsOf(op, 0).Bytes(forms.BlockSize, forms.Iterations), forms.Bytes*5/4)
	requireContained(t, forms, 0, rows, op.forms(1e-1, rhs))
}

// What the memory of a solve grows by with each product is the vectors that are kept: those of images, and those of parameters where they are not much longer.
func TestWhichVectorsASolveKeeps(t *testing.T) {
	const rows, k = 1000, 10
	for _, c := range []struct {
		dim      int
		roundoff float64
		grows    int64 // numbers a product
	}{
		{rows, 0x1p-53, 2 * rows}, {rows + 1, 0x1p-53, rows}, {rows, 0x1p-24, 2 * rows}, {4 * rows, 0x1p-24, 5 * rows}, {4*rows + 1, 0x1p-24, rows},
	} {
		d := solver.Dimensions{Dim: c.dim, Rows: rows, Roundoff: c.roundoff}
		require.Equal(t, c.grows, (d.Bytes(k, 11)-d.Bytes(k, 10))/k/8, c)
	}
}
