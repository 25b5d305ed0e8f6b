package audit

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

const spectrumSeed = 3 // of the draws: audits of a series use the same

// spectrumDraws is the number of random vectors that the spectrum of a metric is read from: an effective dimension of 50 is then known to about 30 %, but for
// solver.Failure, and one of 1,000 to 6 %.
const spectrumDraws = 16

// spectrum is what was found of a metric's.
type spectrum struct {
	rows       []SpectrumRow
	dimensions []solver.Interval // effective, by lambda
	products   int64
}

// spectrumOf reads the spectrum of eta = A^T A from the right-hand sides A^T z, for independent standard normal z of the length of all outputs: stochastic
// Lanczos quadrature (Ubaru, Chen and Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix Anal. Appl. 38, 2017).
func (a *Auditor) spectrumOf(ctx context.Context, eta solver.Factor, largest float64, lambdas []float64, productError float64) (s spectrum, err error) {
	perProduct := max(productError, solver.ProductRoundoffs*roundoff(a.network.DType()))
	draw := func(dst []float64, i int) (off float64, err error) {
		random, z := rand.New(rand.NewPCG(spectrumSeed, uint64(i))), mat.NewDense(1, eta.Rows(), nil)
		for j := range eta.Rows() {
			z.Set(0, j, random.NormFloat64())
		}
		return perProduct * math.Sqrt(largest) * mat.Norm(z, 2), eta.Adjoint(mat.NewDense(1, len(dst), dst), z)
	}
	forms, err := a.block(ctx, problem{eta: eta, largest: largest, lambdas: lambdas, count: spectrumDraws, samples: 1, gradient: draw, productError: productError, spectrum: true})
	if err != nil {
		return s, err
	}
	s.products = forms.Products + spectrumDraws
	for l := range lambdas {
		var mean solver.Interval // of z^T A (eta + lambda)^-1 A^T z
		for k := range spectrumDraws {
			form := forms.Form(l, k, k)
			mean = plus(mean, solver.Interval{Value: form.Value / spectrumDraws, Low: form.Low / spectrumDraws, High: form.High / spectrumDraws})
		}
		dimension := ofTrace(mean, spectrumDraws)
		dimension.High = min(dimension.High, float64(min(eta.Rows(), eta.Dim())))
		s.dimensions = append(s.dimensions, dimension)
	}
	for _, part := range forms.Spectra() {
		for k, value := range part.Values {
			if value > perProduct*largest { // what is less is rounding
				s.rows = append(s.rows, SpectrumRow{RitzValue: value, Multiplicity: floats.Sum(mat.Col(nil, k, part.Weights)) / value / spectrumDraws})
			}
		}
	}
	slices.SortFunc(s.rows, func(a, b SpectrumRow) int { return cmp.Compare(b.RitzValue, a.RitzValue) })
	return s, nil
}

// ofTrace encloses, but for the probability solver.Failure, the trace of a matrix whose eigenvalues lie between 0 and 1, by the mean of its forms with so many
// independent standard normal vectors, which is known to be in an interval. By Laurent and Massart (Adaptive estimation of a quadratic functional by
// model selection, Annals of Statistics 28, 2000, lemma 1) the mean is within 2 sqrt(d t / n) below and 2 sqrt(d t / n) + 2 t / n above a trace of d but for exp(-t) each, as the
// sum of squares of the eigenvalues is at most d.
func ofTrace(mean solver.Interval, n float64) solver.Interval {
	t := math.Log(2/solver.Failure) / n
	low, high := max(0, math.Sqrt(max(0, mean.Low-t))-math.Sqrt(t)), math.Sqrt(t)+math.Sqrt(t+mean.High)
	return solver.Interval{Value: mean.Value, Low: low * low, High: high * high}
}
