package solver

import (
	"context"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// lanczosForms bounds forms from scratch: a block Lanczos process whose small matrices feed one quadrature for each lambda.
type lanczosForms struct {
	lambdas     []float64
	lanczos     *blockLanczos
	diagonals   []*mat.SymDense // T_j
	belows      []*mat.Dense    // B_j; nil for the last block of an invariant space
	start       *mat.Dense      // C, [b_1, k]
	lost        []float64       // norm of what V_1 C leaves of each right-hand side
	shift       float64         // bound on rounding in the operator that the quadratures use
	quadratures []*quadrature   // by lambda
}

func newLanczosForms(op Operator, g [][]float64, memory *arena, options FormOptions, scale float64) *lanczosForms {
	lanczos, transposed, lost := newBlockLanczos(op, g, memory)
	lanczos.roundoff, lanczos.scale = options.Roundoff, scale
	return &lanczosForms{lambdas: options.Lambdas, lanczos: lanczos, start: mat.DenseCopyOf(transposed.T()), lost: lost}
}

func (f *lanczosForms) step(ctx context.Context) (products int64, err error) {
	var between *mat.Dense // B_{j-1}
	if len(f.belows) > 0 {
		between = f.belows[len(f.belows)-1]
	}
	diagonal, below, err := f.lanczos.step(ctx)
	if err != nil {
		return 0, err
	}
	f.diagonals, f.belows = append(f.diagonals, diagonal), append(f.belows, below)
	if f.lanczos.norm() > f.shift || f.quadratures == nil {
		// The nodes must lie below the spectrum by the rounding seen: begin again with some room. This is rare, and costs
		// small matrices only.
		f.shift = f.lanczos.shift(slices.Min(f.lambdas))
		f.quadratures = nil
		for _, lambda := range f.lambdas {
			q := newQuadrature(lambda, f.shift, f.start)
			for j, t := range f.diagonals {
				if j == 0 {
					q.add(t, nil)
				} else {
					q.add(t, f.belows[j-1])
				}
			}
			f.quadratures = append(f.quadratures, q)
		}
	} else {
		for _, q := range f.quadratures {
			q.add(diagonal, between)
		}
	}
	return int64(diagonal.SymmetricDim()), nil
}

func (f *lanczosForms) bounds() (all []bounds) {
	below := f.belows[len(f.belows)-1]
	for _, q := range f.quadratures {
		b := bounds{lambda: q.lambda, low: q.low, gap: q.gap(below), unreachable: q.broken || f.shift >= q.lambda}
		f.lanczos.complete(&b, q.squares, f.lost)
		all = append(all, b)
	}
	return all
}

func (f *lanczosForms) next() (products, vectors int) {
	if below := f.belows[len(f.belows)-1]; below != nil {
		products, _ = below.Dims()
	}
	return products, products
}

func (f *lanczosForms) span() [][]float64 { return f.lanczos.vectors }

func (f *lanczosForms) rounding() *rounding { return &f.lanczos.rounding }

// largest is that of the leading part of T, where it settles first.
func (f *lanczosForms) largest() float64 {
	if values := f.eigenvalues(200); values != nil {
		return values[len(values)-1]
	}
	return f.lanczos.scale
}

func (f *lanczosForms) lowest() float64 {
	if values := f.eigenvalues(math.MaxInt); values != nil {
		return values[0]
	}
	return 0
}

// eigenvalues are those of the leading part of T with the first blocks that have enough vectors, ascending; nil where they are not
// found.
func (f *lanczosForms) eigenvalues(enough int) []float64 {
	n, blocks := 0, 0
	for blocks < len(f.diagonals) && (blocks == 0 || n < enough) {
		n += f.diagonals[blocks].SymmetricDim()
		blocks++
	}
	t := mat.NewSymDense(n, nil)
	at := 0
	for j := range blocks {
		b := f.diagonals[j].SymmetricDim()
		for r := range b {
			for c := r; c < b; c++ {
				t.SetSym(at+r, at+c, f.diagonals[j].At(r, c))
			}
			if j+1 < blocks {
				for c := range f.belows[j].RawMatrix().Rows {
					t.SetSym(at+r, at+b+c, f.belows[j].At(c, r))
				}
			}
		}
		at += b
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(t, false) {
		return nil
	}
	return eigen.Values(nil)
}

// solution takes residuals from the recurrence.
func (f *lanczosForms) solution() (column int, coordinates []float64) {
	q := f.quadratures[slices.Index(f.lambdas, slices.Min(f.lambdas))]
	if below := f.belows[len(f.belows)-1]; below != nil && !q.broken {
		var residual mat.Dense
		residual.Mul(below, q.y)
		largest := 0.0
		for i := range f.lost {
			if norm := floats.Norm(mat.Col(nil, i, &residual), 2); norm > largest {
				column, largest = i, norm
			}
		}
	}
	return column, f.solve(q.lambda, column)
}

// solve returns (T + lambda)^-1 c for a right-hand side, the coordinates of the solution in the basis.
func (f *lanczosForms) solve(lambda float64, column int) []float64 {
	// Block Cholesky, down for the blocks of L^-1 c and up for the solution.
	blocks := len(f.diagonals)
	factors := make([]mat.Cholesky, blocks)
	forward := make([]*mat.VecDense, blocks)
	c := mat.VecDenseCopyOf(f.start.ColView(column))
	used := 0
	for j := range blocks {
		d := plus(f.diagonals[j], lambda)
		if j > 0 {
			subtractForm(d, f.belows[j-1], mat.DenseCopyOf(f.belows[j-1].T()), &factors[j-1])
			solved := mat.NewVecDense(forward[j-1].Len(), nil)
			_ = factors[j-1].SolveVecTo(solved, forward[j-1]) // see solve
			c = mat.NewVecDense(d.SymmetricDim(), nil)
			c.MulVec(f.belows[j-1], solved)
			c.ScaleVec(-1, c)
		}
		if !factors[j].Factorize(d) {
			break // rounding exceeds lambda: the solution of the blocks before
		}
		forward[j] = c
		used++
	}
	x := make([]float64, f.lanczos.size())
	var y *mat.VecDense // of the block after
	for j := used - 1; j >= 0; j-- {
		right := mat.VecDenseCopyOf(forward[j])
		if y != nil {
			var coupling mat.VecDense
			coupling.MulVec(f.belows[j].T(), y)
			right.SubVec(right, &coupling)
		}
		y = mat.NewVecDense(right.Len(), nil)
		_ = factors[j].SolveVecTo(y, right)
		copy(x[f.lanczos.starts[j]:], y.RawVector().Data)
	}
	return x
}

// projection holds the blocks T_j and B_j: the basis is the space and the block after it.
func (f *lanczosForms) projection(limit int) (basis [][]float64, a, b *mat.Dense) {
	m, blocks := 0, 0
	for blocks < len(f.diagonals) && (blocks == 0 || m+f.diagonals[blocks].SymmetricDim() <= limit) {
		m += f.diagonals[blocks].SymmetricDim()
		blocks++
	}
	p := m
	if below := f.belows[blocks-1]; below != nil {
		p += below.RawMatrix().Rows
	}
	a, b = mat.NewDense(m, p, nil), mat.NewDense(m, p, nil)
	at := 0
	for j := range blocks {
		size := f.diagonals[j].SymmetricDim()
		for r := range size {
			a.Set(at+r, at+r, 1)
			for c := range size {
				b.Set(at+r, at+c, f.diagonals[j].At(r, c))
			}
		}
		if below := f.belows[j]; below != nil {
			for r := range below.RawMatrix().Rows {
				for c := range size {
					b.Set(at+c, at+size+r, below.At(r, c))
					if j+1 < blocks {
						b.Set(at+size+r, at+c, below.At(r, c))
					}
				}
			}
		}
		at += size
	}
	return f.lanczos.vectors[:p], a, b
}
