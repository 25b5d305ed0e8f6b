package solver

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// Spectrum is what a Krylov space has seen of the metric's spectrum from its right-hand sides g_i: the Gauss rule
//
//	g_i^T f(eta) g_i = sum over k of Weights[i, k] f(Values[k]),
//
// exact for polynomials f of a degree up to twice the number of steps. Values are the Ritz values, ascending, which are between the extreme
// eigenvalues of eta and settle at the largest first; the weights of a right-hand side sum to the square of its norm.
//
// Golub and Meurant, Matrices, Moments and Quadrature, chapter 6.
type Spectrum struct {
	Sides   []int      // right-hand sides that are not zero or noise: the rows of Weights; none where LAPACK finds no eigenvalues
	Values  []float64  // of eta
	Weights *mat.Dense // [len(Sides), len(Values)]
}

// Spectra are those of the parts, where FormOptions.Spectrum asked for them: one, unless the memory limit made parts of the right-hand sides.
func (f *Forms) Spectra() []Spectrum { return f.spectra }

// spectrum is that of a part, of right-hand sides of these norms.
func (p *part) spectrum(norms []float64) Spectrum {
	compressed, starts := p.process.compressed()
	values, vectors := eigenvalues(compressed, true)
	if values == nil {
		return Spectrum{}
	}
	s := Spectrum{Sides: p.members, Values: values, Weights: mat.NewDense(len(p.members), len(values), nil)}
	first, _ := starts.Dims()
	var components mat.Dense // of the right-hand sides along the Ritz vectors
	components.Mul(starts.T(), vectors.Slice(0, first, 0, len(values)))
	for i, side := range p.members {
		for k := range values {
			s.Weights.Set(i, k, square(components.At(i, k)*norms[side]))
		}
	}
	for k := range values {
		values[k] = max(0, values[k]) // but for rounding
	}
	return s
}

// compressed is V^T A^T A V = B^T B, of the blocks that are multiplied.
func (f *golubKahan[V]) compressed() (t *mat.SymDense, starts *mat.Dense) {
	n := len(f.images)
	b := mat.NewDense(max(1, f.left.count), n, nil)
	for k := range n {
		unit := make([]float64, n)
		unit[k] = 1
		if column := f.coordinates(unit); len(column) > 0 {
			b.SetCol(k, column)
		}
	}
	t = mat.NewSymDense(n, nil)
	t.SymOuterK(1, b.T())
	return t, f.starts
}

func (f *lanczosForms) compressed() (t *mat.SymDense, starts *mat.Dense) {
	return f.tridiagonal(math.MaxInt), f.given
}

// eigenvalues are those of a symmetric matrix, ascending, and its eigenvectors as columns where they are asked for; nil where they are not found.
func eigenvalues(t *mat.SymDense, wantVectors bool) (values []float64, vectors *mat.Dense) {
	var eigen mat.EigenSym
	if !eigen.Factorize(t, wantVectors) {
		return nil, nil
	}
	if wantVectors {
		vectors = &mat.Dense{}
		eigen.VectorsTo(vectors)
	}
	return eigen.Values(nil), vectors
}
