package solver

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// galerkin bounds forms in a space that a sketch of the operator leads to: it begins with P^-1 G and goes on with P^-1 R, R
// the residuals so far, for P = sketch + lambda I. If the sketch is good that is close to the solutions at once. If it is
// not, which the first step shows, it goes on with R itself and takes what it would take from scratch. Of several lambdas
// each step serves the one that is furthest from being solved.
//
// The space is no Krylov space of eta, so the images of its vectors lie outside of it in as many directions as they are. An
// orthonormal basis B holds all: the right-hand sides G = c B, the vectors V = a B, themselves orthonormal, and their images
// eta V = b B. (Vectors are rows.) Everything else is a small matrix. With T = b a^T and the part of the images outside of
// the space, o = b - T a, in exact arithmetic and in the order of symmetric matrices,
//
//	low = C (T + lambda)^-1 C^T  <=  M  <=  low + gap,   C = c a^T,
//	gap = r (lambda + o^T (T^-1 - (T + lambda)^-1) o)^-1 r^T,   r = c - C (T + lambda)^-1 (b + lambda a).
//
// It is what the Gauss and Gauss-Radau rules of quadrature are for a Krylov space: eta is replaced by E = eta V (V^T eta V)^-1
// V^T eta <= eta, and gap is the form of the residual with the inverse of E + lambda, of which r, orthogonal to the space,
// sees the Schur complement. As there, the shift for rounding stands in T^-1 and is taken off lambda.
type galerkin struct {
	basis    // B
	errors   rounding
	op       Operator
	sketch   *Sketch
	lambdas  []float64
	smallest float64

	a, b, c *mat.Dense // coordinates of V, eta V and G
	lost    []float64  // norm of what c leaves of each right-hand side
	left    []float64  // norm of what b leaves of each image

	guess *mat.Dense // coordinates of P^-1 G, the solutions if the sketch is right
	stale bool       // it is not, and no longer used

	states []galerkinState // by lambda
}

// staleResidual is the median over right-hand sides of ||g - (eta + lambda) P^-1 g|| / ||g|| above which the sketch is not used
// after the first step. Metrics of a UNet before and after training steps: at 9 preconditioned residuals still save some
// products, at 16 they cost some (docs/design/0004-recycling.md).
const staleResidual = 10

// galerkinState is what is known at one lambda.
type galerkinState struct {
	bounds
	y, residual *mat.Dense // coordinates of the solutions in V and of the residuals in B
}

func newGalerkin(op Operator, g [][]float64, memory *arena, sketch *Sketch, options FormOptions, scale float64) *galerkin {
	f := &galerkin{op: op, sketch: sketch, lambdas: options.Lambdas, smallest: slices.Min(options.Lambdas)}
	f.errors = rounding{error: options.ProductError, scale: scale}
	f.arena, f.a, f.b = memory, &mat.Dense{}, &mat.Dense{}
	_, f.c, f.lost = f.extend(g, dependent) // norms are 1, so something is left
	return f
}

func (f *galerkin) step(ctx context.Context) (products int64, err error) {
	residual, lambda := f.c, f.smallest
	if f.states != nil {
		residual, lambda = f.widest()
	}
	directions := f.directions(residual, lambda, !f.stale)
	if directions == nil && !f.stale {
		directions = f.directions(residual, lambda, false) // the preconditioner leads nowhere new
	}
	if directions == nil {
		return 0, nil
	}
	rows, _ := directions.Dims()
	multiplied, images := f.arena.take(rows), f.arena.take(rows)
	combine(multiplied, directions, f.vectors)
	if _, err := f.errors.multiply(ctx, f.op, images, multiplied); err != nil {
		return 0, err
	}
	f.arena.give(multiplied)
	coordinates, left := f.add(images, dependent*f.errors.scale)
	f.left = append(f.left, left...)
	f.a = stack(f.a, directions, f.size())
	f.b = stack(f.b, coordinates, f.size())
	if err := f.update(); err != nil {
		return 0, err
	}
	if f.guess != nil {
		f.stale = f.guessResidual() > staleResidual
		f.guess = nil
	}
	return int64(rows), nil
}

// widest returns the residuals at the lambda that is furthest from being solved.
func (f *galerkin) widest() (residual *mat.Dense, lambda float64) {
	most := -1.0
	for _, s := range f.states {
		width := 0.0
		for i := range f.lost {
			switch {
			case s.gap != nil:
				width = max(width, s.gap.At(i, i)/(s.low.At(i, i)+s.gap.At(i, i)))
			case !s.unreachable:
				width = 1
			}
		}
		if width > most || residual == nil {
			residual, lambda, most = s.residual, s.lambda, width
		}
	}
	return residual, lambda
}

// add extends the basis by the rows of w and returns their coordinates, and the norms of what is not in it.
func (f *galerkin) add(w [][]float64, tolerance float64) (coordinates *mat.Dense, left []float64) {
	rows, before := len(w), f.size()
	first := project(w, f.vectors)
	second, fresh, left := f.extend(w, tolerance)
	coordinates = mat.NewDense(rows, f.size(), nil)
	addTo(coordinates, 0, first)
	addTo(coordinates, 0, second)
	if fresh != nil {
		addTo(coordinates, before, fresh)
	}
	return coordinates, left
}

// directions are orthonormal coordinates, orthogonal to the space, of residuals with or without the preconditioner; nil if
// they show nothing new.
func (f *galerkin) directions(residual *mat.Dense, lambda float64, preconditioned bool) *mat.Dense {
	const fresh = 1e-6 // of a vector's norm, outside of the space or of the other vectors: less is left to a later step
	rows, _ := residual.Dims()
	z := widen(residual, f.size())
	if preconditioned {
		w := f.arena.take(rows)
		combine(w, normalised(z, 0), f.vectors)
		f.sketch.precondition(w, lambda)
		lengths := normalise(w)
		z, _ = f.add(w, dependent)
		if f.a.IsEmpty() {
			f.guess = mat.DenseCopyOf(z)
			for i, length := range lengths {
				floats.Scale(length/f.smallest, f.guess.RawRowView(i))
			}
		}
	}
	space := basis{arena: &arena{}}
	if !f.a.IsEmpty() {
		f.a = widen(f.a, f.size())
		space.vectors = views(f.a)
	}
	before := space.size()
	z = normalised(z, 0)
	if before > 0 {
		project(views(z), space.vectors)
		z = normalised(z, fresh)
		project(views(z), space.vectors)
	}
	space.extend(views(z), fresh)
	if space.size() == before {
		return nil
	}
	directions := mat.NewDense(space.size()-before, f.size(), nil)
	for i, row := range space.vectors[before:] {
		directions.SetRow(i, row)
	}
	return directions
}

// guessResidual is the median of ||g - (eta + lambda) P^-1 g|| after the first step, which multiplied P^-1 g.
func (f *galerkin) guessResidual() float64 {
	var inside, image mat.Dense
	inside.Mul(widen(f.guess, f.size()), f.a.T())
	image.Mul(&inside, f.b)
	var damping mat.Dense
	damping.Mul(&inside, f.a)
	damping.Scale(f.smallest, &damping)
	image.Add(&image, &damping)
	image.Sub(f.c, &image)
	k, _ := f.c.Dims()
	norms := make([]float64, k)
	for i := range norms {
		norms[i] = floats.Norm(image.RawRowView(i), 2)
	}
	slices.Sort(norms)
	return norms[k/2]
}

// update finds bounds from a, b and c.
func (f *galerkin) update() error {
	p := f.size()
	f.a, f.b, f.c = widen(f.a, p), widen(f.b, p), widen(f.c, p)
	k, _ := f.c.Dims()
	m, _ := f.a.Dims()
	var t, skew, inside mat.Dense
	t.Mul(f.b, f.a.T())
	skew.Sub(&t, t.T())
	f.errors.seen, f.errors.sizes = nil, nil
	for i, left := range f.left {
		f.errors.saw(f.errors.scale, floats.Norm(skew.RawRowView(i), 2)/2, left)
	}
	values, vectors := eigen(symmetric(&t))
	if values == nil {
		return fmt.Errorf("%w: its projection has no eigenvalues", ErrNotFinite)
	}
	shift := f.errors.shift(f.smallest)
	inside.Mul(f.c, f.a.T())
	// In the eigenvectors of T: right-hand sides, and the images outside of the space.
	var turned, outside mat.Dense
	turned.Mul(&inside, vectors)
	outside.Mul(vectors.T(), f.b)
	for range 2 { // as in orthogonalising: what is left along the space is rounding
		var along, part mat.Dense
		along.Mul(&outside, f.a.T())
		part.Mul(&along, f.a)
		outside.Sub(&outside, &part)
	}
	f.states = f.states[:0]
	for _, lambda := range f.lambdas {
		s := galerkinState{}
		s.lambda = lambda
		s.low = mat.NewSymDense(k, nil)
		s.unreachable = values[0] <= -shift
		y := mat.DenseCopyOf(&turned)
		for i := range k {
			for j := range m {
				y.Set(i, j, y.At(i, j)/(max(values[j], 0)+s.lambda))
			}
		}
		var low mat.Dense
		low.Mul(y, turned.T())
		addSymmetric(s.low, 1, &low)
		// r is c without its part along the space, less the images' parts outside of it.
		var along, part, residual mat.Dense
		along.Mul(f.c, f.a.T())
		part.Mul(&along, f.a)
		residual.Sub(f.c, &part)
		part.Mul(y, &outside)
		residual.Sub(&residual, &part)
		s.residual = &residual
		s.y = &mat.Dense{}
		s.y.Mul(y, vectors.T())
		if !s.unreachable && shift < s.lambda {
			s.gap = f.gap(s.lambda, shift, values, &outside, &residual)
		}
		lengths := make([]float64, k)
		for i := range lengths {
			lengths[i] = floats.Norm(residual.RawRowView(i), 2)
		}
		f.errors.complete(&s.bounds, shift, s.y, lengths, f.lost)
		f.states = append(f.states, s)
	}
	return nil
}

// gap is r (lambda - shift + o^T (T_s^-1 - (T + lambda)^-1) o)^-1 r^T with T_s = T + shift, in the eigenvectors of T; nil where
// rounding leaves none.
func (f *galerkin) gap(lambda, shift float64, values []float64, outside, residual *mat.Dense) *mat.SymDense {
	k, p := residual.Dims()
	weighted := mat.DenseCopyOf(outside)
	for j, value := range values {
		row := weighted.RawRowView(j)
		floats.Scale(math.Sqrt((lambda-shift)/((value+shift)*(value+lambda))), row)
	}
	var complement mat.Dense
	complement.Mul(weighted.T(), weighted)
	schur := mat.NewSymDense(p, nil)
	addSymmetric(schur, 1, &complement)
	factor, ok := cholesky(plus(schur, lambda-shift))
	if !ok {
		return nil
	}
	gap := mat.NewSymDense(k, nil)
	addGram(gap, factor.forward(residual.T()))
	for i := range k {
		if !(gap.At(i, i) >= 0) || math.IsInf(gap.At(i, i), 0) {
			return nil
		}
	}
	return gap
}

func (f *galerkin) bounds() (all []bounds) {
	for _, s := range f.states {
		all = append(all, s.bounds)
	}
	return all
}

func (f *galerkin) next() (products, vectors int) {
	k, _ := f.c.Dims()
	return k, 2 * k
}

func (f *galerkin) rounding() *rounding { return &f.errors }

func (f *galerkin) largest() float64 {
	if values := f.eigenvalues(); values != nil {
		return max(values[len(values)-1], 0)
	}
	return f.errors.scale
}

func (f *galerkin) lowest() float64 {
	if values := f.eigenvalues(); values != nil {
		return values[0]
	}
	return 0
}

func (f *galerkin) eigenvalues() []float64 {
	var t mat.Dense
	t.Mul(f.b, f.a.T())
	values, _ := eigen(symmetric(&t))
	return values
}

func (f *galerkin) solution() (column int, x, residual []float64) {
	s := f.states[slices.Index(f.lambdas, f.smallest)]
	largest := -1.0
	k, _ := f.c.Dims()
	for i := range k {
		if norm := floats.Norm(s.residual.RawRowView(i), 2); norm > largest {
			column, largest = i, norm
		}
	}
	var coordinates mat.Dense
	coordinates.Mul(s.y.Slice(column, column+1, 0, s.y.RawMatrix().Cols), f.a)
	return column, coordinates.RawRowView(0), s.residual.RawRowView(column)
}

func (f *galerkin) span() [][]float64 { return f.vectors }

func (f *galerkin) bytes(k, more int) int64 { return vectorBytes(k, f.op.Dim(), f.size()+more) }

func (f *galerkin) projection(int) (basis [][]float64, a, b *mat.Dense) { return f.vectors, f.a, f.b }

// widen appends columns of zeros.
func widen(m *mat.Dense, columns int) *mat.Dense {
	if m.IsEmpty() || m.RawMatrix().Cols == columns {
		return m
	}
	rows, size := m.Dims()
	wide := mat.NewDense(rows, columns, nil)
	wide.Slice(0, rows, 0, size).(*mat.Dense).Copy(m)
	return wide
}

// stack appends the rows of below to those of above, both widened.
func stack(above, below *mat.Dense, columns int) *mat.Dense {
	below = widen(below, columns)
	if above.IsEmpty() {
		return mat.DenseCopyOf(below)
	}
	var stacked mat.Dense
	stacked.Stack(widen(above, columns), below)
	return &stacked
}

// normalised returns the rows scaled to norm 1, or to 0 where their norm is at most least.
func normalised(m *mat.Dense, least float64) *mat.Dense {
	n := mat.DenseCopyOf(m)
	for i := range n.RawMatrix().Rows {
		row := n.RawRowView(i)
		if norm := floats.Norm(row, 2); norm > least {
			floats.Scale(1/norm, row)
		} else {
			clear(row)
		}
	}
	return n
}
