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
	method  *lanczosMethod
	sides   [][]float64 // before the start
	scale   float64     // lambda_max, from above, before it
	lambdas []float64

	lanczos     *blockLanczos
	diagonals   []*mat.SymDense // T_j
	belows      []*mat.Dense    // B_j; nil for the last block of an invariant space
	given       *mat.Dense      // C, [b_1, k]
	lost        []float64       // norm of what V_1 C leaves of each right-hand side
	node        *radau
	quadratures []*quadrature // by lambda
}

// lanczosMethod bounds by block Lanczos, for operators without a factor.
type lanczosMethod struct {
	op      Operator
	space   long[[]float64]
	options FormOptions
}

func (m *lanczosMethod) begin(scale float64) process {
	return &lanczosForms{method: m, lambdas: m.options.Lambdas, scale: scale}
}

func (f *lanczosForms) take(g []float64) {
	side := f.method.space.take(1)
	f.method.space.put(side[0], g)
	f.sides = append(f.sides, side[0])
}

func (f *lanczosForms) start() {
	lanczos, transposed, lost := newBlockLanczos(f.method.op, f.sides, f.method.space)
	lanczos.error, lanczos.scale = f.method.options.ProductError, f.scale
	f.lanczos, f.given, f.lost, f.sides = lanczos, mat.DenseCopyOf(transposed.T()), lost, nil
}

func (f *lanczosForms) close() { f.lanczos.space.Free(f.lanczos.vectors) }

func (f *lanczosForms) step(ctx context.Context) (products int64, err error) {
	diagonal, below, err := f.lanczos.step(ctx)
	if err != nil {
		return 0, err
	}
	f.diagonals, f.belows = append(f.diagonals, diagonal), append(f.belows, below)
	if f.quadratures == nil {
		for _, lambda := range f.lambdas {
			f.quadratures = append(f.quadratures, newQuadrature(lambda, f.given))
		}
	}
	for _, q := range f.quadratures {
		q.add(diagonal, below)
	}
	if norm := f.lanczos.norm(); f.node == nil || norm > f.node.shift {
		// The node must lie below the spectrum by the rounding seen: begin again with some room. This is rare, and costs small matrices
		// only.
		f.node = &radau{shift: f.lanczos.shift(slices.Min(f.lambdas))}
		for j := range f.diagonals {
			f.node.add(f.diagonals[j], f.belows[j])
		}
	} else {
		f.node.add(diagonal, below)
	}
	return int64(diagonal.SymmetricDim()), nil
}

func (f *lanczosForms) bounds() (all []bounds) {
	for _, q := range f.quadratures {
		b := bounds{lambda: q.lambda, low: q.low, gap: q.gap(f.node), unreachable: q.broken || f.node.broken}
		f.lanczos.complete(&b, f.node.shift, q.solutions(), q.residuals(), f.lost)
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

func (f *lanczosForms) held() int64 { return f.lanczos.space.Bytes() }

func (f *lanczosForms) bytes(more int) int64 {
	return Dimensions{Dim: f.lanczos.op.Dim()}.bytes(len(f.lost), f.lanczos.size()+more)
}

func (f *lanczosForms) rounding() *rounding { return &f.lanczos.rounding }

// largest is that of the leading part of T, where it settles first.
func (f *lanczosForms) largest() float64 {
	if values, _ := eigenvalues(f.tridiagonal(200), false); values != nil {
		return values[len(values)-1]
	}
	return f.lanczos.scale
}

func (f *lanczosForms) lowest() float64 {
	if values, _ := eigenvalues(f.tridiagonal(math.MaxInt), false); values != nil {
		return values[0]
	}
	return 0
}

// tridiagonal is the leading part of T with the first blocks that have enough vectors.
func (f *lanczosForms) tridiagonal(enough int) *mat.SymDense {
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
	return t
}

// check takes the solution whose residual is largest by the recurrence, and compares it with the measured one.
func (f *lanczosForms) check(b *bounds) (measured, more float64, products int64, err error) {
	q := f.quadratures[slices.Index(f.lambdas, slices.Min(f.lambdas))]
	column := floats.MaxIdx(q.residuals())
	x := rowOf(q.solutions(), column)
	vectors, end := f.lanczos.vectors, x.RawMatrix().Cols
	space := f.lanczos.space
	solution := space.combine(x, vectors[:end])
	residual := space.take(1)
	defer func() { space.Free(append(solution, residual...)) }()
	if _, err := f.lanczos.multiply(context.Background(), f.lanczos.op, residual, solution); err != nil {
		return 0, 0, 0, err
	}
	space.add(residual, scaled(b.lambda, 1), solution)
	space.transform(residual, scaled(-1, 1))
	given := mat.NewDense(1, f.given.RawMatrix().Rows, mat.Col(nil, column, f.given))
	space.add(residual, given, vectors[:given.RawMatrix().Cols])
	measured = norms(residual)[0]
	known := q.residual(column)
	known = known[:min(len(known), len(vectors)-end)]
	if len(known) > 0 {
		space.add(residual, negated(mat.NewDense(1, len(known), known)), vectors[end:end+len(known)])
	}
	found := norms(residual)[0]
	explained := b.errors[column] + b.lost[column] + (f.lanczos.product()+hostRoundoffs*unitRoundoff*b.lambda)*norms(solution)[0]
	return measured, 2 * found / explained, 1, nil
}
