package oracle

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"
)

// Matrix is a dense matrix as an operator; it counts products and can round them.
type Matrix struct {
	Of       *mat.SymDense
	Products int
	Single   bool // round products to float32
}

// Dim is the order of the matrix.
func (o *Matrix) Dim() int { return o.Of.SymmetricDim() }

// Apply multiplies each row of v.
func (o *Matrix) Apply(dst, v *mat.Dense) error {
	rows, _ := v.Dims()
	o.Products += rows
	dst.Mul(v, o.Of)
	if o.Single {
		dst.Apply(func(_, _ int, x float64) float64 { return float64(float32(x)) }, dst)
	}
	return nil
}

// WithSpectrum is Q diag(values) Q^T for a random orthogonal Q.
func WithSpectrum(random *rand.Rand, values []float64) *mat.SymDense {
	n := len(values)
	var qr mat.QR
	qr.Factorize(Gaussian(random, n, n))
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

// Gaussian is a matrix of standard normal numbers.
func Gaussian(random *rand.Rand, rows, cols int) *mat.Dense {
	m := mat.NewDense(rows, cols, nil)
	m.Apply(func(_, _ int, _ float64) float64 { return random.NormFloat64() }, m)
	return m
}

// Spectra are shapes that network metrics take, largest eigenvalue 1.
var Spectra = map[string]func(i, n int) float64{
	"decaying":       func(i, n int) float64 { return math.Exp(-12 * float64(i) / float64(n)) },
	"stepped":        func(i, n int) float64 { return math.Pow(10, -3*math.Floor(4*float64(i)/float64(n))) },
	"clustered":      func(i, _ int) float64 { return []float64{1, 0.5, 1e-3}[i%3] },
	"rank-deficient": func(i, n int) float64 { return max(0, 1-3*float64(i)/float64(n)) },
	"zero":           func(int, int) float64 { return 0 },
}
