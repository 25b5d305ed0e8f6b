package solver

import "gonum.org/v1/gonum/mat"

// Space is where long vectors are, and does all work on them: V is one, or a handle of it. On the host they are slices; a network has one whose
// vectors stay on its backend. Only matrices as small as the numbers of vectors leave a Space.
//
// Sums of products are in float64, or as good, whatever a vector is stored in.
type Space[V any] interface {
	// New lends zero vectors, which Free takes back.
	New(count int) ([]V, error)
	Free(vectors []V)
	// Put makes v of numbers, of the length of a vector.
	Put(v V, numbers []float64) error
	// Get writes the numbers of v.
	Get(numbers []float64, v V) error
	// Inner returns the inner products of the vectors of a with those of b, [len(a), len(b)].
	Inner(a, b []V) (*mat.Dense, error)
	// Add adds c b to the vectors of a, c [len(a), len(b)].
	Add(a []V, c mat.Matrix, b []V) error
	// Transform replaces the vectors of a by c a, for a lower triangular c.
	Transform(a []V, c *mat.TriDense) error
	// Roundoff is the unit roundoff of a stored number, of which Add and Transform cost one.
	Roundoff() float64
	// Bytes is the memory of all vectors, lent or not.
	Bytes() int64
}

// ResidentFactor is a Factor whose parameter vectors stay in a Space of its own. Images, of which all are kept, are on the host.
type ResidentFactor[V any] interface {
	Factor
	// Space returns a new one.
	Space() Space[V]
	// ImageOf writes A v into dst, of length Rows.
	ImageOf(dst []float64, v V) error
	// AdjointInto writes A^T u into dst, for u of length Rows.
	AdjointInto(dst V, u []float64) error
}

// Resident returns a Factor which BilinearForms solves with parameter vectors in the factor's own Space, where they are not all kept: those that are
// kept are short, and a Space may have to prepare for every number of them.
func Resident[V any](factor ResidentFactor[V]) Factor { return resident[V]{factor} }

type resident[V any] struct{ ResidentFactor[V] }

func (r resident[V]) method(options FormOptions) method {
	return newGolubKahanMethod(r.ResidentFactor, options)
}

// long is a Space for the numerics, which have no use for its errors: it panics with a failure, which failed makes an error again.
type long[V any] struct{ Space[V] }

type failure struct{ err error }

func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// failed, deferred, sets err to what a Space has failed with.
func failed(err *error) {
	switch reason := recover().(type) {
	case nil:
	case failure:
		*err = reason.err
	default:
		panic(reason)
	}
}

func (s long[V]) take(count int) []V {
	vectors, err := s.New(count)
	must(err)
	return vectors
}

func (s long[V]) put(v V, numbers []float64) { must(s.Put(v, numbers)) }

func (s long[V]) get(numbers []float64, v V) { must(s.Get(numbers, v)) }

func (s long[V]) inner(a, b []V) *mat.Dense {
	products, err := s.Inner(a, b)
	must(err)
	return products
}

func (s long[V]) gram(a []V) *mat.Dense { return s.inner(a, a) }

func (s long[V]) add(a []V, c mat.Matrix, b []V) { must(s.Add(a, c, b)) }

func (s long[V]) transform(a []V, c *mat.TriDense) { must(s.Transform(a, c)) }

// combine returns c of.
func (s long[V]) combine(c mat.Matrix, of []V) []V {
	rows, _ := c.Dims()
	sum := s.take(rows)
	s.add(sum, c, of)
	return sum
}

// project subtracts from the vectors of w their parts along some orthonormal vectors and returns the coefficients.
func (s long[V]) project(w, vectors []V) (coefficients *mat.Dense) {
	coefficients = s.inner(w, vectors)
	s.add(w, negated(coefficients), vectors)
	return coefficients
}
