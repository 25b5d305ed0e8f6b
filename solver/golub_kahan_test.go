package solver_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/solver"
)

// jacobian is a dense matrix as a factor, whose products are rounded, or off by a vector of norm noise in a fixed direction.
type jacobian struct {
	of     *mat.Dense // [rows, dim]
	single bool
	noise  float64
	lie    float64 // of the adjoint, relative
}

func (j *jacobian) Dim() int  { return j.of.RawMatrix().Cols }
func (j *jacobian) Rows() int { return j.of.RawMatrix().Rows }

func (j *jacobian) multiply(dst, v *mat.Dense, by mat.Matrix) {
	round := func(m *mat.Dense) {
		if j.single {
			m.Apply(func(_, _ int, v float64) float64 { return float64(float32(v)) }, m)
		}
	}
	given := mat.DenseCopyOf(v)
	round(given)
	dst.Mul(given, by)
	round(dst)
	rows, n := dst.Dims()
	for i := range rows {
		for c := range n {
			dst.Set(i, c, dst.At(i, c)+j.noise*mat.Norm(v.RowView(i), 2)/math.Sqrt(float64(n)))
		}
	}
}

func (j *jacobian) Image(dst, v *mat.Dense) error {
	j.multiply(dst, v, j.of.T())
	return nil
}

func (j *jacobian) Adjoint(dst, u *mat.Dense) error {
	j.multiply(dst, u, j.of)
	dst.Scale(1+j.lie, dst)
	return nil
}

func (j *jacobian) Apply(dst, v *mat.Dense) error {
	rows, _ := v.Dims()
	image := mat.NewDense(rows, j.Rows(), nil)
	if err := j.Image(image, v); err != nil {
		return err
	}
	return j.Adjoint(dst, image)
}

// withSingularValues is a random matrix of these.
func withSingularValues(random *rand.Rand, values []float64, rows, dim int) *mat.Dense {
	orthogonal := func(n int) *mat.Dense {
		var qr mat.QR
		qr.Factorize(oracle.Gaussian(random, n, n))
		var q mat.Dense
		qr.QTo(&q)
		return &q
	}
	middle := mat.NewDense(rows, dim, nil)
	for i := range min(rows, dim, len(values)) {
		middle.Set(i, i, values[i])
	}
	var product mat.Dense
	product.Product(orthogonal(rows), middle, orthogonal(dim))
	return &product
}

func TestGolubKahanIntervalsHold(t *testing.T) {
	entries := entriesWanted(t) / 5
	for name, noise := range map[string]float64{"float64": 0, "float32": 0x1p-30, "as much as is assumed": 7 * 0x1p-24} {
		for exponent := -1; exponent >= -9; exponent -= 2 {
			t.Run(fmt.Sprintf("%s/1e%d", name, exponent), func(t *testing.T) {
				single := noise > 0
				random := rand.New(rand.NewPCG(uint64(-exponent), 17))
				lambda := math.Pow(10, float64(exponent))
				var found tally
				statuses := map[solver.Status]int{}
				for found.entries < entries {
					rows, dim, k := 4+random.IntN(40), 4+random.IntN(40), 1+random.IntN(5) // either side is the shorter one
					if random.IntN(3) == 0 {
						rows = 4 + random.IntN(8)
						dim = 5 * rows // V is not kept
					}
					values := make([]float64, min(rows, dim))
					for i := range values {
						values[i] = math.Pow(lambda/100, random.Float64()/2)
						if random.IntN(8) == 0 {
							values[i] = 0
						}
					}
					values[0] = 1
					a := withSingularValues(random, values, rows, dim)
					rhs := oracle.Gaussian(random, k, dim)
					if random.IntN(2) == 0 {
						rhs.Mul(oracle.Gaussian(random, k, rows), a)
					}
					options := solver.FormOptions{Lambdas: []float64{lambda}}
					if single {
						options.Roundoff = 0x1p-24
					}
					forms, err := solver.BilinearForms(context.Background(), &jacobian{of: a, single: single, noise: noise}, rhs, options)
					require.NoError(t, err)
					statuses[forms.Statistics(0).Status]++
					found.count(forms, 0, extendedFactorForms(t, a, lambda, rhs))
				}
				t.Log(found.String(), statuses)
				require.Zero(t, found.missed, found.String())
				if !single {
					require.Equal(t, found.solves, found.converged)
				}
			})
		}
	}
}

// slow is a factor like those of networks, decaying, and right-hand sides that lie nearly in its range.
func slow(random *rand.Rand, rows, dim int) (*jacobian, *mat.Dense) {
	const k = 12
	values := make([]float64, rows)
	for i := range values {
		values[i] = math.Pow(float64(i+1), -1.5)
	}
	a := withSingularValues(random, values, rows, dim)
	var rhs mat.Dense
	rhs.Mul(oracle.Gaussian(random, k, rows), a)
	noise := oracle.Gaussian(random, k, dim)
	noise.Scale(1e-3, noise)
	rhs.Add(&rhs, noise)
	return &jacobian{of: a}, &rhs
}

// metricOf hides the factor.
type metricOf struct{ solver.Operator }

// In float64 the factor takes as many products as its metric; in float32 it goes on where the metric's rounding ends.
func TestTheFactorTakesNoMoreProductsAndRoundsLess(t *testing.T) {
	t.Run("of like sides", func(t *testing.T) { testTheFactor(t, 300, 400) })
	t.Run("V in float32", func(t *testing.T) { testTheFactor(t, 200, 1000) })
}

func testTheFactor(t *testing.T, rows, dim int) {
	factor, rhs := slow(rand.New(rand.NewPCG(1, 2)), rows, dim)
	for _, exponent := range []int{-2, -4, -5, -6} {
		lambda := math.Pow(10, float64(exponent))
		solve := func(op solver.Operator, roundoff float64) *solver.Forms {
			forms, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{lambda}, Rows: 3, Roundoff: roundoff})
			require.NoError(t, err)
			return forms
		}
		factor.single = false
		metric, double := solve(metricOf{factor}, 0), solve(factor, 0)
		require.True(t, double.Converged, double.Explanation())
		require.LessOrEqual(t, double.Products, metric.Products)
		requireContained(t, double, 0, 3, exactForms(t, metricMatrix(factor.of), lambda, rhs))
		factor.single = true
		forms := solve(factor, 0x1p-24)
		t.Logf("1e%d: metric %d and factor %d products in float64, factor %d in float32", exponent, metric.Products, double.Products, forms.Products)
		require.True(t, forms.Converged, forms.Explanation())
		require.LessOrEqual(t, forms.Products, 2*double.Products, "what rounding takes of the tolerance, and the solutions multiplied")
		requireContained(t, forms, 0, 3, exactForms(t, metricMatrix(factor.of), lambda, rhs))
		require.Equal(t, exponent >= -3, solve(metricOf{factor}, 0x1p-24).Converged)
	}
}

func metricMatrix(a *mat.Dense) *mat.SymDense {
	m := mat.NewSymDense(a.RawMatrix().Cols, nil)
	m.SymOuterK(1, a.T())
	return m
}

// An adjoint that is none is seen.
func TestAFactorWhoseHalvesDisagreeIsNamed(t *testing.T) {
	factor, rhs := slow(rand.New(rand.NewPCG(3, 4)), 300, 400)
	factor.lie = 1e-9
	forms, err := solver.BilinearForms(context.Background(), factor, rhs, solver.FormOptions{Lambdas: []float64{1e-3}})
	require.NoError(t, err)
	require.Equal(t, solver.Asymmetric, forms.Statistics(0).Status)
	require.Nil(t, forms.Statistics(0).MaxHalfWidth)
}
