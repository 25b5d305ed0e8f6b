package solver

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// golubKahanMethod solves on a factor: it makes a golubKahan for each part of a solve, all in the same two spaces.
type golubKahanMethod[V any] struct {
	factor  ResidentFactor[V]
	left    long[[]float64]
	right   long[V]
	options FormOptions
}

func newGolubKahanMethod[V any](factor ResidentFactor[V], options FormOptions) method {
	return &golubKahanMethod[V]{factor, newHost[float64](factor.Rows()), long[V]{factor.Space()}, options}
}

func (m *golubKahanMethod[V]) begin(scale float64) process {
	f := &golubKahan[V]{factor: m.factor, lambdas: m.options.Lambdas, error: m.options.ProductError, scale: math.Sqrt(scale), settled: map[int]*bounds{}}
	f.dimensions = DimensionsOf(m.factor, m.options.Roundoff)
	f.keepsRight = f.dimensions.keepsRight()
	f.left.space, f.right.space = m.left, m.right
	f.stored = hostRoundoffs * unitRoundoff
	if s := m.right.Roundoff(); s > unitRoundoff {
		f.stored += storedRoundoffs * s
	}
	return f
}

// onHost keeps the parameter vectors of a factor on the host. scratch is one in float64.
func onHost[T float32 | float64](space long[[]T], factor Factor, options FormOptions, scratch []float64) method {
	return newGolubKahanMethod(&hostFactor[T]{factor, space, scratch}, options)
}

// singleFactor is a factor that takes vectors in float32 as they are.
type singleFactor interface {
	ImageOf(dst []float64, v []float32) error
	AdjointInto(dst []float32, u []float64) error
}

type hostFactor[T float32 | float64] struct {
	Factor
	space   Space[[]T]
	scratch []float64
}

func (f *hostFactor[T]) Space() Space[[]T] { return f.space }

func (f *hostFactor[T]) ImageOf(dst []float64, v []T) error {
	numbers, double := any(v).([]float64)
	if !double {
		single := any(v).([]float32)
		if direct, ok := f.Factor.(singleFactor); ok {
			return direct.ImageOf(dst, single)
		}
		numbers = f.scratch
		widen(numbers, single)
	}
	return f.Image(mat.NewDense(1, len(dst), dst), mat.NewDense(1, len(numbers), numbers))
}

func (f *hostFactor[T]) AdjointInto(dst []T, u []float64) error {
	numbers, double := any(dst).([]float64)
	if !double {
		single := any(dst).([]float32)
		if direct, ok := f.Factor.(singleFactor); ok {
			return direct.AdjointInto(single, u)
		}
		numbers = f.scratch
		defer narrow(single, numbers)
	}
	return f.Adjoint(mat.NewDense(1, len(numbers), numbers), mat.NewDense(1, len(u), u))
}
