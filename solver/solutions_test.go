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

	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/solver"
)

// solved is an operator of dimension 90 with right-hand sides of very different norms, of which some are zero, and one twice the other.
type solved struct {
	op  solver.Operator
	eta *mat.SymDense
	rhs *mat.Dense
}

func problems(single bool) map[string]solved {
	const dim, k = 90, 7
	all := map[string]solved{}
	for name, rows := range map[string]int{"V is kept": 60, "V is not kept": 15} {
		random := rand.New(rand.NewPCG(5, uint64(rows)))
		var values []float64
		for i := range rows {
			values = append(values, math.Pow(10, -float64(i)/8))
		}
		a := withSingularValues(random, values, rows, dim)
		eta := mat.NewSymDense(dim, nil)
		eta.SymOuterK(1, a.T())
		rhs := oracle.Gaussian(random, k, dim)
		var inside mat.Dense
		inside.Mul(oracle.Gaussian(random, k, rows), a)
		rhs.Scale(0.01, rhs)
		rhs.Add(rhs, &inside)
		for i, scale := range []float64{1, 1e-5, 3e4, 0, 1, 1, 1} {
			floats.Scale(scale, rhs.RawRowView(i))
		}
		floats.ScaleTo(rhs.RawRowView(5), 2, rhs.RawRowView(4))
		all[name] = solved{&jacobian{of: a, single: single}, eta, rhs}
		if !single {
			all["no factor, "+name] = solved{&oracle.Matrix{Of: eta}, eta, rhs}
		}
	}
	return all
}

// The distance of every solution from the exact one is within its bound, and within the tolerance where the solve has converged.
func TestSolutionsAreAsNearAsTheySay(t *testing.T) {
	for _, single := range []bool{false, true} {
		for name, p := range problems(single) {
			for _, limit := range []int64{0, 9} { // products of the whole block, or one of it
				t.Run(fmt.Sprintf("%s, single %v, %d products", name, single, limit), func(t *testing.T) {
					k, dim := p.rhs.Dims()
					options := solver.FormOptions{Lambdas: []float64{1e-2, 1e-4}, Rows: 2, Tolerance: 1e-3}
					if single {
						options.Roundoff = 0x1p-24
					}
					if limit > 0 {
						options.MaxProducts = limit + int64(k*3) + 12
					}
					var seen int
					options.Solution = func(l, i int, x []float64, apart float64) error {
						seen++
						exact, err := oracle.Cholesky(p.eta, options.Lambdas[l], p.rhs.Slice(i, i+1, 0, dim).(*mat.Dense))
						require.NoError(t, err)
						norm := energy(p.eta, options.Lambdas[l], exact.RawRowView(0))
						floats.Sub(exact.RawRowView(0), x)
						distance := energy(p.eta, options.Lambdas[l], exact.RawRowView(0))
						require.LessOrEqual(t, distance, apart+1e-11*norm, "right-hand side %d", i)
						if limit == 0 {
							require.LessOrEqual(t, apart, 2*options.Tolerance*norm)
						} else {
							require.LessOrEqual(t, apart, 1.5*norm)
						}
						return nil
					}
					forms, err := solver.BilinearForms(context.Background(), p.op, p.rhs, options)
					require.NoError(t, err)
					require.Equal(t, limit == 0, forms.Converged, forms.Explanation())
					require.Equal(t, (k-1)*len(options.Lambdas), seen, "all but the one that is zero")
					if limit > 0 {
						require.LessOrEqual(t, forms.Products, options.MaxProducts)
					}
				})
			}
		}
	}
}

// energy is the norm of x in the damped metric.
func energy(eta *mat.SymDense, lambda float64, x []float64) float64 {
	v := mat.NewVecDense(len(x), x)
	return math.Sqrt(mat.Inner(v, eta, v) + lambda*mat.Dot(v, v))
}

// Where the memory limit makes parts, every right-hand side still has one solution.
func TestPartsHandOutSolutionsOnce(t *testing.T) {
	p := problems(false)["no factor, V is kept"]
	_, dim := p.rhs.Dims()
	seen := map[int]int{}
	options := solver.FormOptions{Lambdas: []float64{0.1}, Rows: 1, MaxBytes: solver.DimensionsOf(p.op, 0).Bytes(3, 9), Solution: func(_, i int, x []float64, _ float64) error {
		seen[i]++
		require.Len(t, x, dim)
		return nil
	}}
	forms, err := solver.BilinearForms(context.Background(), p.op, p.rhs, options)
	require.NoError(t, err)
	require.Greater(t, forms.Parts, 1)
	require.Equal(t, map[int]int{0: 1, 1: 1, 2: 1, 4: 1, 5: 1, 6: 1}, seen)

	full := errors.New("the disk is full")
	options.Solution = func(_, _ int, _ []float64, _ float64) error { return full }
	_, err = solver.BilinearForms(context.Background(), p.op, p.rhs, options)
	require.ErrorIs(t, err, full)
}

// Of a factor that is zero the solution is the right-hand side over lambda.
func TestSolutionsOfNothing(t *testing.T) {
	for _, rows := range []int{2, 20} {
		rhs := oracle.Gaussian(rand.New(rand.NewPCG(1, 2)), 2, 12)
		seen := 0
		options := solver.FormOptions{Lambdas: []float64{0.5}, LambdaMax: 1, Spectrum: true, Solution: func(_, i int, x []float64, apart float64) error {
			seen++
			for j, v := range x {
				require.InDelta(t, 2*rhs.At(i, j), v, 1e-12)
			}
			require.Less(t, apart, 1e-10)
			return nil
		}}
		_, err := solver.BilinearForms(context.Background(), &jacobian{of: mat.NewDense(rows, 12, nil)}, rhs, options)
		require.NoError(t, err)
		require.Equal(t, 2, seen)
	}
}

// Weights are the squares of the right-hand sides' components: the moments of low degree are exact.
func TestSpectraHaveTheMomentsOfTheMetric(t *testing.T) {
	for name, p := range problems(false) {
		t.Run(name, func(t *testing.T) {
			forms, err := solver.BilinearForms(context.Background(), p.op, p.rhs, solver.FormOptions{Lambdas: []float64{1e-2}, Spectrum: true})
			require.NoError(t, err)
			require.Len(t, forms.Spectra(), 1)
			s := forms.Spectra()[0]
			require.Equal(t, []int{0, 1, 2, 4, 5, 6}, s.Sides)
			require.GreaterOrEqual(t, s.Values[0], 0.0)
			require.InDelta(t, 1, s.Values[len(s.Values)-1], 1e-6, "the largest eigenvalue")
			for row, side := range s.Sides {
				g := mat.NewVecDense(len(p.rhs.RawRowView(side)), p.rhs.RawRowView(side))
				image := mat.VecDenseCopyOf(g)
				for power := range 4 {
					want, found := mat.Dot(g, image), 0.0
					for k, value := range s.Values {
						found += s.Weights.At(row, k) * math.Pow(value, float64(power))
					}
					require.InEpsilon(t, want, found, 1e-9, "side %d, power %d", side, power)
					var next mat.VecDense
					next.MulVec(p.eta, image)
					image.CopyVec(&next)
				}
			}
		})
	}
}
