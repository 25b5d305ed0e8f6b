package solver

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// part is one block of right-hand sides, of norm 1, that are solved together.
type part struct {
	options  FormOptions
	rows     int // the first of them, wanted with all
	deadline time.Time
	spent    int64 // products of the parts before
	limit    int64 // products of this one; 0 for none

	lanczos     *blockLanczos
	diagonals   []*mat.SymDense // T_j
	belows      []*mat.Dense    // B_j; nil for the last block of an invariant space
	start       *mat.Dense      // C, [b_1, k]
	lost        []float64       // norm of what V_1 C leaves of each right-hand side
	shift       float64         // bound on rounding in the operator that the quadratures use
	quadratures []*quadrature   // by lambda

	bounds              []bounds // by lambda
	products            int64
	iterations          int
	bytes               int64
	lambdaMax, residual float64
	status              string // empty when converged
}

// bounds are what the forms of right-hand sides of norm 1 are read from: M - low is positive semidefinite and at most gap,
// entry by entry up to floor.
type bounds struct {
	low   *mat.SymDense
	gap   *mat.SymDense // nil: nothing is certified
	floor []float64     // rounding lets M[i, j] differ by floor[i] floor[j]
	least []float64     // what floor will be when the gap is closed, or more
}

func (p *part) solve(ctx context.Context, op Operator, g *mat.Dense, scale float64, progress func()) error {
	k, n := g.Dims()
	var transposed *mat.Dense
	p.lanczos, transposed, p.lost = newBlockLanczos(op, g)
	p.start = mat.DenseCopyOf(transposed.T())
	p.lanczos.scale = scale
	for {
		if err := p.step(ctx); err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("solver: stopped after %d products: %w", p.spent+p.products, err)
			}
			return err
		}
		p.bytes = vectorBytes(k, n, p.lanczos.size())
		progress()
		if p.finished(k, n) {
			break
		}
	}
	p.lambdaMax = p.largestRitz()
	return p.measureResidual(op, g)
}

// step multiplies one more block and updates the bounds.
func (p *part) step(ctx context.Context) error {
	var between *mat.Dense // B_{j-1}
	if len(p.belows) > 0 {
		between = p.belows[len(p.belows)-1]
	}
	diagonal, below, err := p.lanczos.step(ctx)
	if err != nil {
		return err
	}
	p.products += int64(diagonal.SymmetricDim())
	p.iterations++
	p.diagonals, p.belows = append(p.diagonals, diagonal), append(p.belows, below)
	if rounding := p.rounding(); rounding > p.shift || p.quadratures == nil {
		// The nodes must lie below the spectrum by the rounding seen: begin again with some room. This is rare, and costs
		// small matrices only.
		p.shift = 2 * (rounding + p.host()*slices.Min(p.options.Lambdas))
		p.quadratures = nil
		for _, lambda := range p.options.Lambdas {
			q := newQuadrature(lambda, p.shift, p.start)
			for j, t := range p.diagonals {
				if j == 0 {
					q.add(t, nil)
				} else {
					q.add(t, p.belows[j-1])
				}
			}
			p.quadratures = append(p.quadratures, q)
		}
	} else {
		for _, q := range p.quadratures {
			q.add(diagonal, between)
		}
	}
	p.bounds = p.bounds[:0]
	for _, q := range p.quadratures {
		p.bounds = append(p.bounds, p.boundsOf(q, below))
	}
	return nil
}

// rounding bounds the norm of the difference between the operator and the one whose exact Lanczos process this is: what
// the products lose by their own roundoff, twice what their projections show of it, and the directions left out.
func (p *part) rounding() float64 {
	const products = 8 // roundoffs of the largest eigenvalue in a product
	return (products*p.options.Roundoff+p.host())*p.lanczos.scale + 2*p.lanczos.defect + p.lanczos.dropped
}

// host is what float64 roundoffs in orthogonalising and in the small matrices may add up to.
func (p *part) host() float64 { return float64(32+16*len(p.lost)) * 0x1p-53 }

func (p *part) boundsOf(q *quadrature, below *mat.Dense) bounds {
	gap, residual := q.gap(below)
	b := bounds{low: q.low, gap: gap, floor: make([]float64, len(p.lost)), least: make([]float64, len(p.lost))}
	rounding := p.rounding()
	// What V_1 C leaves of g counts as rounding too, for ||A^-1 g|| is at least 1 / (lambda_max + lambda); and so does the
	// arithmetic that sums up the form, which is at least lambda ||A^-1 g||^2.
	rounding += 2*slices.Max(p.lost)*(2*p.lanczos.scale+q.lambda) + p.host()*q.lambda
	for i := range b.floor {
		// ||A^-1 g|| <= ||x|| + ||A^-1 r||, and ||A^-1 r||^2 <= r^T A^-1 r / lambda.
		norm := math.Sqrt(max(0, q.squares[i]))
		// |g^T (A^-1 - A'^-1) h| <= rounding ||A^-1 g|| ||A'^-1 h||, and A' >= A - rounding.
		amplified := math.Sqrt(rounding / (1 - rounding/q.lambda))
		b.least[i] = norm * amplified
		switch {
		case gap != nil:
			norm += math.Sqrt(gap.At(i, i) / q.lambda)
		case residual != nil:
			column := mat.Col(nil, i, residual)
			norm += floats.Norm(column, 2) / q.lambda
		}
		b.floor[i] = norm * amplified
	}
	if gap != nil && rounding >= q.lambda {
		b.gap = nil
	}
	return b
}

// form is M[i, j] for right-hand sides of norm 1. With 0 <= M - low <= gap in the order of symmetric matrices, M - low -
// gap/2 lies between -gap/2 and gap/2, so that each entry is within sqrt(gap[i, i] gap[j, j]) / 2 of low + gap/2.
func (p *part) form(l, i, j int) Interval {
	b := p.bounds[l]
	value := b.low.At(i, j)
	if b.gap == nil {
		return Interval{value, math.Inf(-1), math.Inf(1)}
	}
	floor := b.floor[i] * b.floor[j]
	value += b.gap.At(i, j) / 2
	half := math.Sqrt(b.gap.At(i, i))*math.Sqrt(b.gap.At(j, j))/2 + floor
	return Interval{value, value - half, value + half}
}

func (p *part) cosine(l, i, j int) Interval {
	form, left, right := p.form(l, i, j), p.form(l, i, i), p.form(l, j, j)
	value := form.Value / math.Sqrt(left.Value) / math.Sqrt(right.Value)
	c := Interval{min(1, max(-1, value)), -1, 1}
	if math.IsNaN(value) {
		c.Value = 0 // rounding has left nothing of a form
	}
	if !(left.Low > 0 && right.Low > 0) {
		return c
	}
	if i == j {
		return Interval{1, 1, 1}
	}
	least, most := math.Sqrt(left.Low)*math.Sqrt(right.Low), math.Sqrt(left.High)*math.Sqrt(right.High)
	quotient := func(form, positive, negative float64) float64 {
		if form > 0 {
			return form / positive
		}
		return form / negative
	}
	c.Low = max(-1, quotient(form.Low, most, least))
	c.High = min(1, quotient(form.High, least, most))
	return c
}

// halfWidth is the largest of a wanted cosine, or of the form of a right-hand side with itself, relative to it.
func (p *part) halfWidth(l int) float64 {
	widest := 0.0
	for i := range p.rows {
		for j := range p.lost {
			widest = max(widest, p.cosine(l, i, j).HalfWidth())
		}
	}
	for j := range p.lost {
		self := p.form(l, j, j)
		if !(self.Low > 0) {
			return 1
		}
		widest = max(widest, self.HalfWidth()/self.Value)
	}
	return widest
}

// finished says whether to stop, and sets the status if something is not within the tolerance.
func (p *part) finished(k, n int) bool {
	widest, hopeless, open := 0.0, 0.0, false
	for l, q := range p.quadratures {
		if q.broken || p.shift >= q.lambda {
			hopeless = max(hopeless, q.lambda) // no bound will come
			continue
		}
		width := p.halfWidth(l)
		widest = max(widest, width)
		open = open || width > p.options.Tolerance && !p.roundingDominates(l, width)
	}
	if hopeless > 0 {
		p.status = fmt.Sprintf("nothing is certified at lambda = %.2g and below: rounding in the products, %.1g where lambda_max is %.2g, is of its size; use float64 or lambda above %.1g",
			hopeless, p.rounding(), p.lanczos.scale, 100*p.rounding())
	}
	if widest <= p.options.Tolerance {
		return true
	}
	next := 0
	if below := p.belows[len(p.belows)-1]; below != nil {
		next, _ = below.Dims()
	}
	why := ""
	switch {
	case !open || next == 0:
		why = fmt.Sprintf("rounding in the products, %.1g where lambda_max is %.2g, allows no narrower: use float64 or a larger lambda", p.rounding(), p.lanczos.scale)
	case p.limit > 0 && p.products+int64(next)+1 > p.limit:
		why = "the product limit was reached: raise it, lambda or the tolerance"
	case !p.deadline.IsZero() && time.Now().After(p.deadline):
		why = "the time limit was reached: raise it, lambda or the tolerance"
	case vectorBytes(k, n, p.lanczos.size()+next) > p.options.MaxBytes:
		why = fmt.Sprintf("the memory limit of %d bytes was reached: raise it, lambda or the tolerance", p.options.MaxBytes)
	default:
		return false
	}
	if p.status == "" {
		p.status = fmt.Sprintf("the widest interval of a cosine is ±%.2g after %d products, above the tolerance %g; %s", widest, p.spent+p.products, p.options.Tolerance, why)
	}
	return true
}

// roundingDominates reports whether a lambda that is above the tolerance would stay so without a gap, and its gap is already
// the smaller share of its width.
func (p *part) roundingDominates(l int, width float64) bool {
	b := p.bounds[l]
	if b.gap == nil {
		return false
	}
	bare := part{rows: p.rows, lost: p.lost, bounds: []bounds{{low: b.low, gap: mat.NewSymDense(len(p.lost), nil), floor: b.least}}}
	alone := bare.halfWidth(0)
	return alone > p.options.Tolerance && width <= 2*alone
}

// largestRitz is the largest eigenvalue of the leading part of T, where it settles first.
func (p *part) largestRitz() float64 {
	const enough = 200
	n, blocks := 0, 0
	for blocks < len(p.diagonals) && (blocks == 0 || n < enough) {
		n += p.diagonals[blocks].SymmetricDim()
		blocks++
	}
	t := mat.NewSymDense(n, nil)
	at := 0
	for j := range blocks {
		b := p.diagonals[j].SymmetricDim()
		for r := range b {
			for c := r; c < b; c++ {
				t.SetSym(at+r, at+c, p.diagonals[j].At(r, c))
			}
			if j+1 < blocks {
				for c := range p.belows[j].RawMatrix().Rows {
					t.SetSym(at+r, at+b+c, p.belows[j].At(c, r))
				}
			}
		}
		at += b
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(t, false) {
		return p.lanczos.scale
	}
	return eigen.Values(nil)[n-1]
}

// measureResidual forms the solution whose residual is largest by the recurrence, at the smallest lambda, and multiplies
// it: an end to end check of basis, blocks and bounds for the price of one product.
func (p *part) measureResidual(op Operator, g *mat.Dense) error {
	k, n := g.Dims()
	lowest := slices.Index(p.options.Lambdas, slices.Min(p.options.Lambdas))
	q := p.quadratures[lowest]
	worst := 0
	if below := p.belows[len(p.belows)-1]; below != nil && !q.broken {
		var residual mat.Dense
		residual.Mul(below, q.y)
		largest := 0.0
		for i := range k {
			if norm := floats.Norm(mat.Col(nil, i, &residual), 2); norm > largest {
				worst, largest = i, norm
			}
		}
	}
	solution, image := mat.NewDense(1, n, p.solution(q.lambda, worst)), mat.NewDense(1, n, nil)
	if err := op.Apply(image, solution); err != nil {
		return err
	}
	p.products++
	residual := image.RawRowView(0)
	floats.AddScaled(residual, q.lambda, solution.RawRowView(0))
	floats.SubTo(residual, g.RawRowView(worst), residual)
	p.residual = floats.Norm(residual, 2)
	if math.IsNaN(p.residual) {
		return errNotFinite
	}
	return nil
}

// solution is x = V (T + lambda)^-1 c for a right-hand side.
func (p *part) solution(lambda float64, column int) []float64 {
	// Block Cholesky, down for the blocks of L^-1 c and up for the solution.
	blocks := len(p.diagonals)
	factors := make([]mat.Cholesky, blocks)
	forward := make([]*mat.VecDense, blocks)
	c := mat.VecDenseCopyOf(p.start.ColView(column))
	used := 0
	for j := range blocks {
		d := plus(p.diagonals[j], lambda)
		if j > 0 {
			subtractForm(d, p.belows[j-1], mat.DenseCopyOf(p.belows[j-1].T()), &factors[j-1])
			solved := mat.NewVecDense(forward[j-1].Len(), nil)
			_ = factors[j-1].SolveVecTo(solved, forward[j-1]) // see solve
			c = mat.NewVecDense(d.SymmetricDim(), nil)
			c.MulVec(p.belows[j-1], solved)
			c.ScaleVec(-1, c)
		}
		if !factors[j].Factorize(d) {
			break // rounding exceeds lambda: the solution of the blocks before
		}
		forward[j] = c
		used++
	}
	x := make([]float64, p.lanczos.op.Dim())
	var y *mat.VecDense // of the block after
	for j := used - 1; j >= 0; j-- {
		right := mat.VecDenseCopyOf(forward[j])
		if y != nil {
			var coupling mat.VecDense
			coupling.MulVec(p.belows[j].T(), y)
			right.SubVec(right, &coupling)
		}
		y = mat.NewVecDense(right.Len(), nil)
		_ = factors[j].SolveVecTo(y, right)
		for r := range y.Len() {
			floats.AddScaled(x, y.AtVec(r), p.lanczos.basis[j].RawRowView(r))
		}
	}
	return x
}
