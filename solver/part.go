package solver

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// part is one block of right-hand sides, of norm 1, that are solved together.
type part struct {
	options  FormOptions
	rows     int       // the first of them, wanted with all
	members  []int     // which they are
	off      []float64 // how far each may be from the exact one
	deadline time.Time
	spent    int64 // products of the parts before
	limit    int64 // products of this one; 0 for none

	process process
	bounds  []bounds // by lambda
	tries   []try    // by lambda
	more    float64  // the rounding that the check has shown, as a multiple of what was assumed; at least 1

	products            int64
	iterations          int
	bytes               int64
	lambdaMax, residual float64
	endings             []ending // by lambda, when it is finished
}

// try is a multiplication of solutions that was in vain: the products until then, and the width found over that expected. The next is worth its
// price when the width expected is narrower by that, or, should that say too little, after a quarter more of products.
type try struct {
	products int64
	excess   float64
}

// solve calls progress after each step, and finish while there is still a space.
func (p *part) solve(ctx context.Context, progress func(), finish func() error) error {
	const excess = 1 / 0.9 // at first: a V that is not kept is not orthogonal to all digits
	for range p.options.Lambdas {
		p.tries = append(p.tries, try{excess: excess})
	}
	p.process.start()
	for {
		products, err := p.process.step(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = fmt.Errorf("solver: stopped after %d products: %w", p.spent+p.products, err)
			}
			return err
		}
		p.products += products
		p.bounds = p.process.bounds()
		if products > 0 {
			p.iterations++
			p.bytes = p.process.held()
			progress()
		}
		if err := p.multiplySolutions(ctx); err != nil {
			return err
		}
		if p.finished(products == 0) {
			break
		}
	}
	p.lambdaMax = p.process.largest()
	err := p.check()
	if err == nil {
		err = finish()
	}
	p.bytes = max(p.bytes, p.process.held())
	p.process.close()
	p.process = nil // bounds stay
	return err
}

// multiplySolutions finds bounds that need no allowance for the rounding of a whole space, where these would be narrow enough and those of
// the space are not.
func (p *part) multiplySolutions(ctx context.Context) error {
	m, ok := p.process.(multiplier)
	if !ok {
		return nil
	}
	k := int64(len(p.off))
	for l, b := range p.bounds {
		if b.direct == nil || b.gap == nil || p.width(l) <= p.options.Tolerance {
			continue
		}
		direct, before := part{options: p.options, rows: p.rows, bounds: []bounds{*b.direct}, off: p.off}, &p.tries[l]
		expected, again := direct.width(0), before.products > 0 && p.products >= before.products*5/4
		if expected > p.options.Tolerance || expected*before.excess > p.options.Tolerance && !again || p.limit > 0 && p.products+k+1 > p.limit {
			continue
		}
		found, products, err := m.multiplied(ctx, l)
		if err != nil {
			return err
		}
		p.products += products
		p.bounds[l] = *found
		if width := p.width(l); width > p.options.Tolerance {
			p.bounds[l], *before = b, try{p.products, width / expected}
			continue
		}
		m.settle(l, found)
	}
	return nil
}

func (p *part) form(l, i, j int) Interval { return p.bounds[l].form(i, j, p.off) }

func (p *part) cosine(l, i, j int) Interval {
	if left := p.form(l, i, i); i == j && left.Low > 0 {
		return Interval{1, 1, 1}
	}
	return Cosine(p.form(l, i, j), p.form(l, i, i), p.form(l, j, j))
}

// halfWidth is the largest of a wanted cosine, or of the form of a right-hand side with itself, relative to it; 1 where one of
// them is not certified, for a cosine lies in [-1, 1].
func (p *part) halfWidth(l int) float64 {
	widest := 0.0
	for i := range p.rows {
		for j := range p.bounds[l].sizes {
			widest = max(widest, min(1, p.cosine(l, i, j).HalfWidth()))
		}
	}
	for j := range p.bounds[l].sizes {
		self := p.form(l, j, j)
		if !(self.Low > 0) {
			return 1
		}
		widest = max(widest, self.HalfWidth()/self.Value)
	}
	return widest
}

// width is what the tolerance limits: halfWidth, and how far solutions that are asked for are from the exact ones.
func (p *part) width(l int) float64 {
	if p.options.Solution == nil {
		return p.halfWidth(l)
	}
	return max(p.halfWidth(l), p.bounds[l].apart())
}

// finished says whether to stop, and how each lambda ended if so.
func (p *part) finished(stalled bool) bool {
	widest, open := 0.0, false // of the lambdas that can be certified
	for l, b := range p.bounds {
		if b.unreachable {
			continue
		}
		width := p.width(l)
		widest = max(widest, width)
		open = open || width > p.options.Tolerance && !p.roundingDominates(l, width)
	}
	rounding := p.process.rounding()
	next, vectors := p.process.next()
	var status Status
	why := ""
	switch {
	case widest <= p.options.Tolerance:
	case !open || stalled || next == 0:
		status = Rounding
		why = fmt.Sprintf("rounding in the products, %.1g where lambda_max is %.2g, allows no narrower: use %sa larger lambda", rounding.norm(), rounding.scale, orDouble(p.options.Roundoff))
		if off := floats.Max(p.off); off > p.options.Tolerance/10 {
			why = fmt.Sprintf("the right-hand sides are known to %.1g of their norm, which allows no narrower", off)
		}
	case p.limit > 0 && p.products+int64(next)+1 > p.limit:
		status, why = ProductLimit, "the product limit was reached: raise it, lambda or the tolerance"
	case !p.deadline.IsZero() && time.Now().After(p.deadline):
		status, why = TimeLimit, "the time limit was reached: raise it, lambda or the tolerance"
	case p.process.bytes(vectors) > p.options.MaxBytes:
		status, why = MemoryLimit, fmt.Sprintf("the memory limit of %.3g MiB was reached: raise it, lambda or the tolerance", float64(p.options.MaxBytes)/(1<<20))
	default:
		return false
	}
	p.endings = nil
	negative := 0.0
	if slices.ContainsFunc(p.bounds, func(b bounds) bool { return b.unreachable }) {
		negative = p.process.lowest()
	}
	for l, b := range p.bounds {
		width := p.width(l)
		what := "the widest interval of a cosine is"
		if width > p.halfWidth(l) {
			what = "a solution is known, relative to its norm in the metric, to"
		}
		switch {
		case rounding.asymmetric():
			p.endings = append(p.endings, ending{Asymmetric, fmt.Sprintf("nothing is certified at lambda = %.2g: products with the metric are not symmetric, by %.1g where lambda_max is %.2g; is the model's gradient right, and its evaluation free of chance?",
				b.lambda, rounding.defect, rounding.scale)})
		case b.unreachable && negative < -rounding.norm():
			p.endings = append(p.endings, ending{Indefinite, fmt.Sprintf("nothing is certified at lambda = %.2g: a product with the metric has the curvature %.2g where lambda_max is %.2g, and rounding explains %.1g of it: the metric is not positive semidefinite",
				b.lambda, negative, rounding.scale, rounding.norm())})
		case b.unreachable:
			p.endings = append(p.endings, ending{Rounding, fmt.Sprintf("nothing is certified at lambda = %.2g: rounding in the products, %.1g where lambda_max is %.2g, is of its size; use %slambda above %.1g",
				b.lambda, rounding.norm(), rounding.scale, orDouble(p.options.Roundoff), 100*rounding.norm())})
		case width <= p.options.Tolerance:
			p.endings = append(p.endings, ending{status: Converged})
		default:
			p.endings = append(p.endings, ending{status, fmt.Sprintf("%s ±%.2g after %d products, above the tolerance %g; %s",
				what, width, p.spent+p.products, p.options.Tolerance, why)})
		}
	}
	return true
}

// orDouble begins a remedy for rounding; products in float64 have no better precision to go to.
func orDouble(roundoff float64) string {
	if roundoff > 0x1p-53 {
		return "float64 or "
	}
	return ""
}

// roundingDominates reports whether a lambda that is above the tolerance would stay so without a gap, and its gap is already
// the smaller share of its width.
func (p *part) roundingDominates(l int, width float64) bool {
	b := p.bounds[l]
	if b.gap == nil {
		return false
	}
	if b.closed != nil {
		b = *b.closed
	} else {
		b.gap = mat.NewSymDense(len(b.sizes), nil)
	}
	bare := part{rows: p.rows, bounds: []bounds{b}, off: p.off}
	alone := bare.halfWidth(0)
	return alone > p.options.Tolerance && width <= 2*alone
}

// check widens all bounds to twice what a product has shown that rounding has done, if they allow for less.
func (p *part) check() error {
	smallest := slices.Index(p.options.Lambdas, slices.Min(p.options.Lambdas))
	residual, more, products, err := p.process.check(&p.bounds[smallest])
	p.residual, p.products = residual, p.products+products
	if err == nil {
		p.widen(more)
	}
	return err
}

// widen allows for more times the rounding that was assumed, if that is more than it was.
func (p *part) widen(more float64) {
	p.more = max(1, more)
	if p.more == 1 {
		return
	}
	for _, b := range p.bounds {
		floats.Scale(more, b.errors)
		floats.Scale(more, b.lost)
		for _, pair := range b.pairs {
			floats.Scale(more, pair[1])
		}
	}
	for l := range p.bounds {
		if width := p.halfWidth(l); p.endings[l].status == Converged && width > p.options.Tolerance {
			p.endings[l] = ending{Inconsistent, fmt.Sprintf("products with the metric contradict each other: a solution is off by %.2g times what rounding explains; does the metric change from one evaluation to the next, or is its rounding more than was assumed?", more/2)}
		}
	}
}
