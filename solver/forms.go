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

// FormOptions says which forms are wanted, how precisely, and at what cost at most.
type FormOptions struct {
	// Lambdas are the dampings, in the units of eta; positive, at least one. All are served by one Krylov space, which the
	// smallest decides the size of.
	Lambdas []float64
	// Rows limits the pairs wanted to those of the first Rows right-hand sides with any other. Zero means all pairs.
	Rows int
	// Tolerance is the largest accepted half-width of the interval of a cosine, and of the form of a right-hand side with
	// itself relative to it. Zero means 0.02.
	Tolerance float64
	// MaxProducts limits the products with the operator, those of the set-up included. Zero means no limit but the
	// dimension, at which the space is full.
	MaxProducts int64
	// MaxTime limits the wall-clock time; it is looked at after each product of the whole block. Zero means no limit.
	MaxTime time.Duration
	// MaxBytes limits the memory for vectors, the right-hand sides included. Where it leaves no room for eight products of
	// the block, they are solved in parts, each with the first Rows of them; a part that fills it stops with wider
	// intervals. Zero means 4 GiB.
	MaxBytes int64
	// Roundoff is the unit roundoff of the products. Zero means float64's, 2^-53. With float32's, 2^-24, parameter vectors that are not all kept are
	// stored in float32.
	Roundoff float64
	// ProductError is how far a product of a vector of norm 1 may be off, in whatever direction: relative to the largest eigenvalue, and products
	// with a Factor and its adjoint relative to the factor's norm, the root of that. Less than eight of Roundoff, and zero, means these.
	ProductError float64
	// LambdaMax is a bound from above on the largest eigenvalue of the operator where one is known already; it scales Roundoff. Zero
	// means that setupProducts products find one, as LargestEigenvalue does, and that it fails with the probability Failure.
	LambdaMax float64
	// Progress, when set, is called after each block with what is known so far; it must not keep it. Intervals of
	// right-hand sides that are not solved yet are infinite.
	Progress func(soFar *Forms)
	// Solution, when set, is called with the approximate solution x of (eta + lambda I) x = g_i for each right-hand side, but those that are zero or
	// noise, at the l-th lambda; the next solution overwrites x, and an error ends the solve. apart bounds the distance d of x from the exact
	// solution in the norm of the damped metric, sqrt(d^T (eta + lambda I) d), and so what is made of x: p^T x is within apart ||p|| / sqrt(lambda) of its
	// exact value for every p. The solve goes on until apart is within Tolerance of the solution's norm, which takes about twice the products that
	// forms take, for their error is the square of it. On a Factor each solution takes another product.
	Solution func(l, i int, x []float64, apart float64) error
	// Spectrum asks for Forms.Spectrum.
	Spectrum bool
}

// DefaultTolerance is the half-width of cosines that is asked for when nothing else is.
const DefaultTolerance = 0.02

// DefaultMaxBytes is the memory limit when no other is given.
const DefaultMaxBytes = 4 << 30

const (
	setupProducts = 12 // to bound the largest eigenvalue: to a factor of 2 in 1e4 dimensions
	leastSteps    = 8  // products of the block that a part must have room for
)

// Interval is an estimate with bounds on the exact value. Bounds are infinite where nothing can be certified.
type Interval struct{ Value, Low, High float64 }

// HalfWidth is half the distance of the bounds.
func (i Interval) HalfWidth() float64 { return (i.High - i.Low) / 2 }

// Cosine is form / sqrt(left * right), of the forms of two right-hand sides with each other, of the one with itself and of the other with
// itself, or of sums of such. Its bounds are infinite where nothing more is certified than that it lies in [-1, 1], and it is NaN where a
// form of one with itself is not positive.
func Cosine(form, left, right Interval) Interval {
	value := form.Value / math.Sqrt(left.Value) / math.Sqrt(right.Value)
	c := Interval{min(1, max(-1, value)), math.Inf(-1), math.Inf(1)}
	if !(left.Low > 0 && right.Low > 0) {
		return c
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
	if c.Low == -1 && c.High == 1 {
		c.Low, c.High = math.Inf(-1), math.Inf(1)
	}
	return c
}

// Forms are the bilinear forms of the rows g_i of the right-hand sides,
//
//	M[i, j] = g_i^T (eta + lambda I)^-1 g_j,
//
// and what it took to find them. Index l is that of a lambda in FormOptions.
type Forms struct {
	Products   int64 // of the solves, the one of each part that measures a residual included
	Setup      int64 // products to find the largest eigenvalue
	Iterations int   // products of whole blocks, the longest of the parts
	BlockSize  int   // right-hand sides solved together
	Parts      int   // blocks that the memory limit made of them
	Bytes      int64 // most memory held in vectors
	// LambdaMax is the largest eigenvalue of eta, from below.
	LambdaMax float64
	// Residual is the largest relative residual ||g - (eta + lambda I) x|| / ||g|| of the solutions that belong to the
	// forms at the smallest lambda, measured with a product of its own.
	Residual  float64
	Converged bool // all intervals are within the tolerance, at every lambda

	rows    int
	lambdas []float64
	product float64 // FormOptions.ProductError
	norms   []float64
	off     []float64 // how far right-hand sides may be from the exact ones
	loaded  []bool
	parts   []*part
	places  []place // by right-hand side
	spectra []Spectrum
}

// place is where a right-hand side was solved.
type place struct{ part, at int }

// BilinearForms bounds the forms of the rows of rhs.
//
// All rows are solved as one block by block Lanczos with full reorthogonalisation; they may be of very different norms,
// linearly dependent, or zero; a Factor by block Golub-Kahan. Every form and cosine comes with an interval that encloses solver and rounding
// error: the exact value is that of a positive semidefinite operator whose products op computes up to ProductError. The method stops when the intervals of all cosines wanted are
// narrow enough, not when a residual is small: a residual says little about a form where lambda is far below the largest
// eigenvalue. docs/solver.md derives the bounds.
//
// An error means that nothing can be trusted: bad arguments, a cancelled context, a product that failed or is not finite.
// Running into a limit is no error but Forms with Converged false and intervals that hold.
func BilinearForms(ctx context.Context, op Operator, rhs *mat.Dense, options FormOptions) (*Forms, error) {
	k, n := rhs.Dims()
	if n != op.Dim() {
		return nil, fmt.Errorf("solver: right-hand sides have length %d, the operator has dimension %d", n, op.Dim())
	}
	return BilinearFormsOf(ctx, op, k, func(dst []float64, i int) (float64, error) {
		copy(dst, rhs.RawRowView(i))
		return 0, nil
	}, options)
}

// BilinearFormsOf is BilinearForms for k right-hand sides, of which load writes one to dst, of the operator's dimension, when it is needed: where
// the memory limit makes parts of them, no more are held than those of a part, and those wanted with all are loaded for each.
//
// load also returns how far the right-hand side may be off, in the Euclidean norm: intervals are those of the exact ones. One that is no
// longer than that is noise, and has no cosine.
func BilinearFormsOf(ctx context.Context, op Operator, k int, load func(dst []float64, i int) (off float64, err error), options FormOptions) (forms *Forms, err error) {
	defer failed(&err)
	if err := options.complete(k); err != nil {
		return nil, err
	}
	f := &Forms{rows: options.Rows, lambdas: options.Lambdas, product: options.ProductError, norms: make([]float64, k), off: make([]float64, k), loaded: make([]bool, k), places: make([]place, k)}
	for i := range f.places {
		f.places[i].part = -1
	}
	scale, err := f.largest(op, options.LambdaMax)
	if err != nil {
		return nil, err
	}
	sizes := DimensionsOf(op, options.Roundoff)
	if need := sizes.LeastBytes(k, options.Rows); need > options.MaxBytes {
		return nil, fmt.Errorf("solver: a product of %d right-hand sides takes %.3g MiB of vectors, and the limit is %.3g MiB; raise it, or take fewer samples in a batch", min(k, options.Rows+1), float64(need)/(1<<20), float64(options.MaxBytes)/(1<<20))
	}
	blocks := split(k, options.Rows, options.MaxBytes, sizes)
	reserved := int64(0) // for a product of each block to come and its residual
	cost := func(members []int) int64 {
		if options.Solution == nil {
			return int64(len(members)) + 1
		}
		return int64(len(members))*int64(1+len(options.Lambdas)) + 1
	}
	for _, members := range blocks {
		reserved += cost(members)
	}
	if limit := options.MaxProducts; limit > 0 && f.Setup+reserved > limit {
		return nil, fmt.Errorf("solver: the limit of %d products is below the %d that one product of every right-hand side takes; raise it", limit, f.Setup+reserved)
	}
	scratch := make([]float64, op.Dim())
	method := methodOf(op, options, scratch)
	deadline := time.Time{}
	if options.MaxTime > 0 {
		deadline = time.Now().Add(options.MaxTime)
	}
	for at, members := range blocks {
		reserved -= cost(members)
		p := &part{options: options, process: method.begin(scale), deadline: deadline, spent: f.Products}
		if options.MaxProducts > 0 {
			p.limit = options.MaxProducts - f.Setup - f.Products - reserved - (cost(members) - int64(len(members)) - 1)
		}
		for _, i := range members {
			if err := f.add(p, i, load, scratch); err != nil {
				return nil, err
			}
		}
		if len(p.off) == 0 {
			continue // all are zero or noise
		}
		finish := func() error {
			if options.Spectrum {
				f.spectra = append(f.spectra, p.spectrum(f.norms))
			}
			if options.Solution == nil {
				return nil
			}
			return p.solutions(ctx, op.Dim(), min(at, 1)*p.rows, f.norms) // those wanted with all are in every part
		}
		f.parts = append(f.parts, p)
		f.Parts, f.BlockSize = len(f.parts), max(f.BlockSize, len(p.off))
		err := p.solve(ctx, func() {
			f.Products = p.spent + p.products
			f.Iterations = max(f.Iterations, p.iterations)
			f.Bytes = max(f.Bytes, p.bytes+sizes.scratch())
			if options.Progress != nil {
				options.Progress(f)
			}
		}, finish)
		if err != nil {
			return nil, err
		}
		f.Products = p.spent + p.products // with the one that measures the residual
		f.Bytes = max(f.Bytes, p.bytes+sizes.scratch())
		f.LambdaMax = max(f.LambdaMax, p.lambdaMax)
		f.Residual = max(f.Residual, p.residual)
	}
	f.Converged = f.Explanation() == ""
	return f, nil
}

// add loads a right-hand side into a part, unless it is zero or noise.
func (f *Forms) add(p *part, i int, load func(dst []float64, i int) (float64, error), side []float64) error {
	off, err := load(side, i)
	if err != nil {
		return err
	}
	norm := floats.Norm(side, 2)
	switch {
	case math.IsNaN(norm) || math.IsInf(norm, 0):
		return fmt.Errorf("solver: right-hand side %d is not finite", i)
	case norm > mostScale:
		return fmt.Errorf("solver: right-hand side %d has norm %.3g; scale it to within 1e100", i, norm)
	case !(off >= 0):
		return fmt.Errorf("solver: right-hand side %d is said to be off by %g; that must be a norm", i, off)
	}
	f.norms[i], f.off[i], f.loaded[i] = norm, off, true
	if f.negligible(i) {
		return nil
	}
	if f.places[i].part < 0 {
		f.places[i] = place{len(f.parts), len(p.off)}
	}
	if i < f.rows {
		p.rows++
	}
	floats.Scale(1/norm, side)
	p.process.take(side)
	p.members, p.off = append(p.members, i), append(p.off, off/norm)
	return nil
}

// negligible reports whether a right-hand side is zero, or nothing but noise, or too short to be scaled.
func (f *Forms) negligible(i int) bool { return f.norms[i] <= f.off[i] || f.norms[i] < 1/mostScale }

// ending is that of the first part that did not converge at the l-th lambda.
func (f *Forms) ending(l int) ending {
	for _, p := range f.parts {
		if e := p.endings[l]; e.status != Converged {
			return e
		}
	}
	return ending{status: Converged}
}

// Statistics are what the solve took and how it ended at the l-th lambda.
func (f *Forms) Statistics(l int) Statistics {
	s := Statistics{
		Lambda: f.lambdas[l], LambdaMax: f.LambdaMax, BlockSize: int32(f.BlockSize), Iterations: int32(f.Iterations),
		ProductError: &f.product,
	}
	if certified := func(p *part) bool { return p.bounds[l].gap != nil }; len(f.parts) == 0 || slices.ContainsFunc(f.parts, certified) {
		width := f.HalfWidth(l)
		s.MaxHalfWidth = &width
	}
	if l == slices.Index(f.lambdas, slices.Min(f.lambdas)) {
		s.Products, s.SetupProducts, s.MaxTrueResidual = f.Products, f.Setup, &f.Residual
	}
	f.ending(l).writeTo(&s)
	return s
}

// Explanation is that of the first lambda at which the solve did not converge; "" if it did.
func (f *Forms) Explanation() string {
	for l := range f.lambdas {
		if e := f.ending(l); e.status != Converged {
			return e.explanation
		}
	}
	return ""
}

// largest bounds the largest eigenvalue from above, which the rounding of products is relative to, without the right-hand sides: they may
// hardly touch the leading eigenvectors.
func (f *Forms) largest(op Operator, known float64) (float64, error) {
	scale, excess := known, 1.0
	if known == 0 {
		var err error
		if f.LambdaMax, f.Setup, err = LargestEigenvalue(op, setupProducts, 1); err != nil {
			return 0, err
		}
		scale, excess = f.LambdaMax, LargestEigenvalueExcess(op.Dim(), setupProducts)
	}
	if scale > mostScale || scale > 0 && scale < 1/mostScale {
		return 0, fmt.Errorf("solver: the largest eigenvalue is about %.3g; scale the operator and lambda to within 1e-100 and 1e100", scale)
	}
	return scale * excess, nil
}

// mostScale keeps squares and products of small matrices, and forms with right-hand sides of this length, within the range of float64.
const mostScale = 1e100

func (o *FormOptions) complete(k int) error {
	if len(o.Lambdas) == 0 {
		return fmt.Errorf("solver: no lambda is given; name at least one")
	}
	for _, lambda := range o.Lambdas {
		if !(lambda > 0) {
			return fmt.Errorf("solver: lambda is %g; it must be positive, for eta alone has no inverse", lambda)
		}
		if lambda > mostScale || lambda < 1/mostScale {
			return fmt.Errorf("solver: lambda is %.3g; scale the operator and lambda to within 1e-100 and 1e100", lambda)
		}
	}
	if o.Tolerance < 0 || math.IsNaN(o.Tolerance) {
		return fmt.Errorf("solver: tolerance is %g; it must be positive (0 means %g)", o.Tolerance, DefaultTolerance)
	}
	if o.Rows < 0 || o.Rows > k {
		return fmt.Errorf("solver: forms of the first %d of %d right-hand sides are wanted; at most all can be", o.Rows, k)
	}
	if o.MaxProducts < 0 || o.MaxTime < 0 || o.MaxBytes < 0 {
		return fmt.Errorf("solver: a limit is negative (products %d, time %v, bytes %d)", o.MaxProducts, o.MaxTime, o.MaxBytes)
	}
	if !(o.Roundoff >= 0 && o.Roundoff < 1) || !(o.LambdaMax >= 0) || !(o.ProductError >= 0) {
		return fmt.Errorf("solver: roundoff is %g, the error of products %g and the largest eigenvalue %g; none may be negative, nor a roundoff 1 or more", o.Roundoff, o.ProductError, o.LambdaMax)
	}
	if o.Tolerance == 0 {
		o.Tolerance = DefaultTolerance
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Rows == 0 {
		o.Rows = k
	}
	o.Roundoff = max(o.Roundoff, unitRoundoff)
	o.ProductError = max(o.ProductError, ProductRoundoffs*o.Roundoff)
	return nil
}

// Dimensions are the lengths of the vectors of a solve.
type Dimensions struct {
	Dim      int     // of the operator
	Rows     int     // of the images of its factor; 0 where it has none
	Roundoff float64 // of products: FormOptions.Roundoff
}

// DimensionsOf are those of a solve with op.
func DimensionsOf(op Operator, roundoff float64) Dimensions {
	if factor, ok := op.(Factor); ok {
		return Dimensions{op.Dim(), factor.Rows(), roundoff}
	}
	return Dimensions{Dim: op.Dim()}
}

// Bytes is the memory for the vectors of a solve for k right-hand sides after some products of the whole block.
func (d Dimensions) Bytes(k, steps int) int64 { return d.bytes(k, steps*k) }

// LeastBytes is the memory for vectors below which BilinearForms refuses a solve for k right-hand sides, of which the first rows are wanted
// with all: that of one product of the smallest part.
func (d Dimensions) LeastBytes(k, rows int) int64 {
	least := min(k, rows+1)
	return d.bytes(least, least)
}

// bytes is the memory for the vectors of a block of k right-hand sides with a space of so many. Without a factor: the space, the products
// under way, and two to measure a residual.
//
// With one, the space of images and two blocks, for solutions that are multiplied have dual ones and images; of the parameters' space as much,
// or three blocks, which are V_1, the latest and the products under way.
func (d Dimensions) bytes(k, space int) int64 {
	const double, single = 8, 4
	switch k, space, images := int64(k), int64(space), int64(d.Rows); {
	case d.Rows == 0:
		return double*int64(d.Dim)*(space+k+2) + d.scratch()
	case d.keepsRight():
		return double*(images+int64(d.Dim))*(space+2*k) + d.scratch()
	case d.single():
		return double*images*(space+2*k) + single*int64(d.Dim)*3*k + d.scratch()
	default:
		return double*(images*(space+2*k)+int64(d.Dim)*3*k) + d.scratch()
	}
}

// scratch is the memory of the one vector of float64 beside the spaces, that right-hand sides are loaded into.
func (d Dimensions) scratch() int64 { return 8 * int64(d.Dim) }

// keepsRight reports whether the space of parameters is kept beside that of images. In float64 it is where its vectors are not longer than those of images,
// for longer ones take the same products without. In float32, where up to a third more products were needed without, vectors four times as long are kept.
func (d Dimensions) keepsRight() bool {
	return d.Dim <= d.Rows || d.Roundoff >= 0x1p-24 && d.Dim <= 4*d.Rows
}

// single reports whether those of parameters are stored in float32, at half the memory: where they are not kept, and products in float32 lose as
// much of them.
func (d Dimensions) single() bool { return !d.keepsRight() && d.Roundoff >= 0x1p-24 }

// split deals the right-hand sides out to blocks that leave room for leastSteps in the limit, each with all wanted rows;
// a block has at least one other.
func split(k, rows int, limit int64, d Dimensions) [][]int {
	fits := func(k int) bool { return d.bytes(k, leastSteps*k) <= limit }
	first, others := all(k)[:rows], all(k)[rows:]
	if k == 0 {
		return nil
	}
	if fits(k) || len(others) == 0 {
		return [][]int{all(k)}
	}
	size := 1
	for size < len(others) && fits(len(first)+size+1) {
		size++
	}
	parts := (len(others) + size - 1) / size
	size = (len(others) + parts - 1) / parts // parts of like size
	var blocks [][]int
	for chunk := range slices.Chunk(others, size) {
		blocks = append(blocks, append(slices.Clone(first), chunk...))
	}
	return blocks
}

// Norm is the Euclidean norm of the i-th right-hand side, as far as it is known.
func (f *Forms) Norm(i int) Interval {
	return Interval{f.norms[i], max(0, f.norms[i]-f.off[i]), f.norms[i] + f.off[i]}
}

// Form is M[i, j] at the l-th lambda, for i below FormOptions.Rows or i = j.
func (f *Forms) Form(l, i, j int) Interval {
	p, a, b := f.find(i, j)
	if p == nil {
		most := f.most(l, i, j)
		return Interval{0, -most, most}
	}
	if len(p.bounds) == 0 {
		return Interval{0, math.Inf(-1), math.Inf(1)}
	}
	form := p.form(l, a, b)
	scale := f.norms[i] * f.norms[j]
	return Interval{form.Value * scale, form.Low * scale, form.High * scale}
}

// most bounds the size of M[i, j] at the l-th lambda by the lengths of the right-hand sides; it is 0 only if one is zero.
func (f *Forms) most(l, i, j int) float64 {
	left, right := f.norms[i]+f.off[i], f.norms[j]+f.off[j]
	if left == 0 || right == 0 {
		return 0
	}
	return math.Nextafter(left*right/f.lambdas[l]*(1+0x1p-50), math.Inf(1))
}

// Cosine is M[i, j] / sqrt(M[i, i] M[j, j]) at the l-th lambda, for i below FormOptions.Rows or i = j. Its bounds are infinite
// where nothing more is certified than that it lies in [-1, 1]; ok is false if one of the right-hand sides is zero or noise, or
// rounding has left nothing of its form with itself.
func (f *Forms) Cosine(l, i, j int) (cosine Interval, ok bool) {
	p, a, b := f.find(i, j)
	if p == nil {
		return Interval{}, false
	}
	if len(p.bounds) == 0 {
		return Interval{0, math.Inf(-1), math.Inf(1)}, true
	}
	cosine = p.cosine(l, a, b)
	return cosine, !math.IsNaN(cosine.Value)
}

// HalfWidth is the largest half-width at the l-th lambda of what FormOptions.Tolerance limits; 1 where something is not
// certified, for a cosine lies in [-1, 1].
func (f *Forms) HalfWidth(l int) float64 {
	widest := 0.0
	for _, p := range f.parts {
		widest = max(widest, p.halfWidth(l))
	}
	return widest
}

// find returns the part that has both right-hand sides.
func (f *Forms) find(i, j int) (p *part, a, b int) {
	if i >= f.rows && i != j {
		panic(fmt.Sprintf("solver: form [%d, %d] was not asked for: only the first %d rows were", i, j, f.rows))
	}
	for _, side := range []int{i, j} {
		if f.places[side].part < 0 {
			if f.loaded[side] {
				return nil, 0, 0 // it is zero or noise
			}
			return &part{}, 0, 0 // not solved yet
		}
	}
	// The wanted rows are in every part, at the same place.
	return f.parts[f.places[j].part], f.places[i].at, f.places[j].at
}
