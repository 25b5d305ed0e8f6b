package solver_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/solver"
)

func newSketch(t require.TestingT, rank int) *solver.Sketch {
	sketch, err := solver.NewSketch(rank)
	require.NoError(t, err)
	return sketch
}

// moved is the operator plus a positive semidefinite matrix of a norm relative to its own, of which it keeps only a part.
func moved(random *rand.Rand, op *oracle.Matrix, by float64) *oracle.Matrix {
	n := op.Dim()
	values := make([]float64, n)
	for i := range values {
		values[i] = random.Float64() * by * math.Pow(10, -4*float64(i)/float64(n)) * mat.Norm(op.Of, 2) / math.Sqrt(float64(n))
	}
	sum := mat.NewSymDense(n, nil)
	sum.ScaleSym(1/(1+by), op.Of)
	sum.AddSym(sum, oracle.WithSpectrum(random, values))
	return &oracle.Matrix{Of: sum, Single: op.Single}
}

// A sketch may be right, stale, or of another operator altogether, small or large: intervals hold, and what is learned on the
// way is used again.
func TestIntervalsHoldWithASketch(t *testing.T) {
	for name, shape := range oracle.Spectra {
		for _, single := range []bool{false, true} {
			precision := map[bool]string{false: "float64", true: "float32"}[single]
			t.Run(name+"/"+precision, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					n := rapid.IntRange(1, 60).Draw(t, "n")
					k := rapid.IntRange(1, 7).Draw(t, "k")
					lambda := math.Pow(10, rapid.Float64Range(-9, 0).Draw(t, "log lambda"))
					tolerance := math.Pow(10, rapid.Float64Range(-6, -1).Draw(t, "log tolerance"))
					by := math.Pow(10, rapid.Float64Range(-5, 1).Draw(t, "log of the move"))
					random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
					values := make([]float64, n)
					for i := range values {
						values[i] = shape(i, n)
					}
					op := &oracle.Matrix{Of: oracle.WithSpectrum(random, values), Single: single}
					sketch := newSketch(t, rapid.IntRange(1, 2*n).Draw(t, "rank"))
					options := solver.FormOptions{Lambdas: []float64{lambda, 10 * lambda}, Rows: rapid.IntRange(1, k).Draw(t, "rows"), Tolerance: tolerance, Sketch: sketch}
					if single {
						options.Roundoff = 0x1p-24
					}
					for range 3 {
						rhs := hardSides(random, k, n)
						forms, err := solver.BilinearForms(context.Background(), op, rhs, options)
						require.NoError(t, err)
						require.EqualValues(t, op.Products, forms.Products+forms.Setup)
						require.LessOrEqual(t, forms.Products, int64(n+1), "the space is full, and one product checks the residual")
						for l, damping := range options.Lambdas {
							widest, _ := requireContained(t, forms, l, options.Rows, exactForms(t, op.Of, damping, rhs))
							if forms.Converged {
								require.LessOrEqual(t, widest, tolerance)
							}
						}
						if !single && lambda > 1e-6 && tolerance > 1e-5 {
							require.True(t, forms.Converged, forms.Explanation())
						}
						op = moved(random, op, by)
					}
				})
			})
		}
	}
}

func TestASketchSavesProducts(t *testing.T) {
	solve := func(op *oracle.Matrix, rhs *mat.Dense, sketch *solver.Sketch) *solver.Forms {
		forms, err := solver.BilinearForms(context.Background(), op, rhs, solver.FormOptions{Lambdas: []float64{1e-3}, Sketch: sketch})
		require.NoError(t, err)
		require.True(t, forms.Converged, forms.Explanation())
		_, worst := requireContained(t, forms, 0, 6, exactForms(t, op.Of, 1e-3, rhs))
		require.LessOrEqual(t, worst, solver.DefaultTolerance)
		return forms
	}
	op, rhs := decaying(6)
	random := rand.New(rand.NewPCG(5, 6))
	sketch := newSketch(t, 100)
	first := solve(op, rhs, sketch)
	require.Zero(t, first.SketchRank)
	require.Positive(t, sketch.Rank())
	again := solve(op, rhs, sketch)
	require.LessOrEqual(t, 4*again.Products, first.Products, "the same once more")
	near := moved(random, op, 0.01)
	scratch := solve(near, rhs, nil)
	recycled := solve(near, rhs, sketch)
	require.Positive(t, recycled.SketchRank)
	require.LessOrEqual(t, 2*recycled.Products, scratch.Products)

	// What is of no use costs no more than the first step.
	for _, by := range []float64{0.3, 1, 3} {
		far := moved(random, op, by)
		require.LessOrEqual(t, solve(far, rhs, sketch).Products, solve(far, rhs, nil).Products+6)
	}
	other := &oracle.Matrix{Of: oracle.WithSpectrum(random, func() []float64 {
		values := make([]float64, 200)
		for i := range values {
			values[i] = math.Pow(10, -6*float64(i)/199)
		}
		return values
	}())}
	require.LessOrEqual(t, solve(other, rhs, sketch).Products, solve(other, rhs, nil).Products+6)
}

func TestSketchesRefuse(t *testing.T) {
	_, err := solver.NewSketch(0)
	require.ErrorContains(t, err, "a sketch of rank 0 holds nothing")
	op, rhs := decaying(2)
	sketch := newSketch(t, 10)
	options := solver.FormOptions{Lambdas: []float64{1e-2}, Sketch: sketch}
	_, err = solver.BilinearForms(context.Background(), op, rhs, options)
	require.NoError(t, err)
	require.Equal(t, 10, sketch.Rank())
	small := options
	small.MaxBytes = 8 * 200 * 40
	_, err = solver.BilinearForms(context.Background(), op, rhs, small)
	require.ErrorContains(t, err, "the sketch needs 64000 bytes and leaves nothing of the limit of 64000")
	_, err = solver.BilinearForms(context.Background(), solver.Zero(3), mat.NewDense(1, 3, []float64{1, 2, 3}), options)
	require.ErrorContains(t, err, "the sketch is of dimension 200, the operator of 3")
}
