package solver

import (
	"context"
	"math"

	"gonum.org/v1/gonum/mat"
)

// method makes the processes of a solve, one for each of its parts, which use the same memory one after the other.
type method interface {
	// begin makes a process of an operator whose largest eigenvalue is at most scale.
	begin(scale float64) process
}

// methodOf is that of a solve: block Golub-Kahan on the factor where there is one, else block Lanczos. scratch is a vector that it may
// overwrite.
func methodOf(op Operator, options FormOptions, scratch []float64) method {
	factor, ok := op.(Factor)
	if !ok {
		return &lanczosMethod{op: op, space: newHost[float64](op.Dim()), options: options}
	}
	sizes := DimensionsOf(op, options.Roundoff)
	if resident, ok := op.(interface{ method(FormOptions) method }); ok && !sizes.keepsRight() {
		return resident.method(options)
	}
	if sizes.single() {
		return onHost(newHost[float32](op.Dim()), factor, options, scratch)
	}
	return onHost(newHost[float64](op.Dim()), factor, options, scratch)
}

// process builds a space, multiplies it block by block, and bounds the forms of all right-hand sides by what the products
// show.
type process interface {
	// take adds a right-hand side, of norm 1, which it copies.
	take(g []float64)
	// start makes the first block of those taken.
	start()
	// step multiplies the next block. It returns the products made: 0 when nothing is left to multiply.
	step(ctx context.Context) (products int64, err error)
	// bounds are those of the forms after the latest step, by lambda.
	bounds() []bounds
	// next is how many products the next step takes at most, and how many vectors it adds.
	next() (products, vectors int)
	// held is the memory of the vectors now, and bytes that when the space has some more.
	held() int64
	bytes(more int) int64
	// rounding is that of the products so far.
	rounding() *rounding
	// largest and lowest are the extreme eigenvalues of the operator in the space.
	largest() float64
	lowest() float64
	// check multiplies a solution at the smallest lambda, whose bounds are b, for the price of one product: an end to end check of basis, small
	// matrices and bounds. It returns its residual, and what the product differs by from the small matrices as a multiple of half of what
	// rounding explains.
	check(b *bounds) (residual, more float64, products int64, err error)
	// compressed is the operator in the space of the vectors that are multiplied, and starts the right-hand sides in its first block, as columns.
	compressed() (t *mat.SymDense, starts *mat.Dense)
	// solutions writes the solutions of right-hand sides at the l-th lambda to x, from the first-th on, and calls found after each: their distance from
	// the exact ones in the norm of the damped operator is at most the sum of apart and rounding.
	solutions(ctx context.Context, l, first int, x []float64, found func(i int, apart, rounding float64) error) (products int64, err error)
	// close gives all vectors back.
	close()
}

// multiplier is a process that can do without its space: it bounds forms by solutions that are multiplied themselves.
type multiplier interface {
	// multiplied returns such bounds of the forms at the l-th lambda, for a product of each right-hand side.
	multiplied(ctx context.Context, l int) (b *bounds, products int64, err error)
	// settle makes them the bounds from now on.
	settle(l int, b *bounds)
}

// bounds are what the forms of right-hand sides of norm 1 are read from: but for rounding M - low is positive semidefinite and at most
// gap.
type bounds struct {
	lambda      float64
	low         *mat.SymDense
	gap         *mat.SymDense  // nil: nothing is certified
	sizes       []float64      // ||x_i|| of the approximate solutions
	errors      []float64      // at most that rounding of products is off by in (eta + lambda) x_i
	lost        []float64      // at most that the solve was for another right-hand side
	pairs       [][2][]float64 // rounding lets M[i, j] differ by the sum of a[i] b[j] + a[j] b[i] besides
	direct      *bounds        // what multiplying the solutions would find; nil where that is not done
	closed      *bounds        // with the gap closed; nil where that changes nothing else
	unreachable bool           // rounding is of the size of lambda: no gap will come
}

// slack is what keeps an interval of M[i, j] within reach of those of M[i, i] and M[j, j] where errors are known of forms of one right-hand
// side alone: if all forms of a combination with coefficients c are known to gap / 2 and sums of 2 a b, a and b at most the sums of |c[i]| a[i] and
// |c[i]| b[i], then M[i, j] is to half of the root of (gap[i, i] + slack(i)) (gap[j, j] + slack(j)) and sums of a[i] b[j] + a[j] b[i]
// (docs/solver.md).
func (b *bounds) slack(i int, off []float64) float64 {
	if b.pairs == nil {
		return 0
	}
	lost := b.lost[i] + off[i]
	total := b.sizes[i]*lost + lost*lost/b.lambda
	for _, pair := range b.pairs {
		total += pair[0][i] * pair[1][i]
	}
	return 4 * total
}

// form is M[i, j] for right-hand sides of norm 1 that are themselves off by at most off[i] and off[j]. With x the approximate solutions and r
// the residuals,
//
//	M[i, j] = g_i^T x_j + x_i^T r_j + r_i^T (eta + lambda)^-1 r_j,
//
// where the first term is low, the second vanishes but for rounding, and the third is between 0 and gap, in the order of symmetric matrices,
// but for rounding in r: each entry of it is within sqrt(gap[i, i] gap[j, j]) / 2 of gap / 2.
func (b *bounds) form(i, j int, off []float64) Interval {
	if b.gap == nil {
		return Interval{b.low.At(i, j), math.Inf(-1), math.Inf(1)}
	}
	value := b.low.At(i, j) + b.gap.At(i, j)/2
	gapI, gapJ := math.Sqrt(b.gap.At(i, i)), math.Sqrt(b.gap.At(j, j))
	if i != j {
		gapI, gapJ = math.Sqrt(b.gap.At(i, i)+b.slack(i, off)), math.Sqrt(b.gap.At(j, j)+b.slack(j, off))
	}
	lostI, lostJ := b.lost[i]+off[i], b.lost[j]+off[j]
	errorI, errorJ := (b.errors[i]+lostI)/math.Sqrt(b.lambda), (b.errors[j]+lostJ)/math.Sqrt(b.lambda)
	half := gapI*gapJ/2 +
		min(b.sizes[i]*b.errors[j], b.sizes[j]*b.errors[i]) + b.sizes[i]*lostJ + b.sizes[j]*lostI +
		gapI*errorJ + gapJ*errorI + errorI*errorJ
	for _, pair := range b.pairs {
		half += pair[0][i]*pair[1][j] + pair[0][j]*pair[1][i]
	}
	return Interval{value, value - half, value + half}
}
