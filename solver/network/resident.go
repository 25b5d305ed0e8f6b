package network

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver"
)

// Resident returns the factor with vectors of parameters that stay on the network's backend, in its precision: of a solve only images travel,
// of the size of the batch's output, and matrices as small as the numbers of vectors.
func (f *Factor) Resident() (solver.Factor, error) {
	n := f.image.network
	if n.resident == nil {
		var err error
		if n.resident, err = newResident(n); err != nil {
			return nil, err
		}
	}
	return solver.Resident(residentFactor{f}), nil
}

type residentFactor struct{ *Factor }

func (f residentFactor) Space() solver.Space[*vector] {
	space := f.image.network.resident
	space.Free(slices.Collect(maps.Keys(space.lent))) // of a solve that failed
	space.most = 0
	return space
}

func (f residentFactor) ImageOf(dst []float64, v *vector) error {
	if err := f.usable(); err != nil {
		return err
	}
	image, err := f.image.along(v.tensor)
	if err != nil {
		return err
	}
	return drainScaled(dst, image, f.image.result)
}

func (f residentFactor) AdjointInto(dst *vector, u []float64) error {
	if err := f.usable(); err != nil {
		return err
	}
	direction, err := argument(f.adjoint.network, u, f.adjoint.argument)
	if err != nil {
		return err
	}
	gradient, err := f.adjoint.along(direction)
	if err != nil {
		return err
	}
	return dst.set(gradient)
}

// resident is a solver.Space of vectors that stay on a network's backend, each a tensor of its own. A tensor is never changed: programs take vectors
// and make others of them. They work on few at a time, so that they are few themselves: inner products on eight and eight, sums on eight vectors and
// as many terms as there are.
//
// Products and sums are in float64 whatever vectors are stored in, and without the backend's matrix multiplication, which on GPUs may take fewer
// digits than its numbers have.
type resident struct {
	network    *Network
	zero       *tensors.Tensor
	inner, sum *graph.Exec
	lent       map[*vector]bool
	most       int // lent at once
}

// vector is a handle of a tensor, that of the zero vector at first.
type vector struct{ tensor, zero *tensors.Tensor }

// set takes a tensor in place of the one before.
func (v *vector) set(tensor *tensors.Tensor) error {
	before := v.tensor
	v.tensor = tensor
	if before == v.zero {
		return nil
	}
	return before.FinalizeAll()
}

const together = 8 // vectors that a program works on

// newResident makes the programs, which are compiled for the vectors that they are given.
func newResident(n *Network) (r *resident, err error) {
	r = &resident{network: n, lent: map[*vector]bool{}}
	double := func(x *graph.Node) *graph.Node { return graph.ConvertDType(x, dtypes.Float64) }
	// Of eight vectors and eight others.
	r.inner, err = graph.NewExec(n.backend, func(vectors []*graph.Node) *graph.Node {
		var products []*graph.Node
		for _, a := range vectors[:together] {
			for _, b := range vectors[together:] {
				products = append(products, graph.ReduceAllSum(graph.Mul(double(a), double(b))))
			}
		}
		return graph.Stack(products, 0)
	})
	if err != nil {
		return nil, err
	}
	// Of coefficients, [8, terms], eight vectors and the terms.
	r.sum, err = graph.NewExec(n.backend, func(args []*graph.Node) (sums []*graph.Node) {
		coefficients, vectors, terms := args[0], args[1:1+together], args[1+together:]
		for i, v := range vectors {
			sum := double(v)
			for j, term := range terms {
				factor := graph.Reshape(graph.Slice(coefficients, graph.AxisElem(i), graph.AxisElem(j)))
				sum = graph.Add(sum, graph.Mul(factor, double(term)))
			}
			sums = append(sums, graph.ConvertDType(sum, v.DType()))
		}
		return sums
	})
	if err != nil {
		return nil, err
	}
	r.sum.SetMaxCache(-1) // no limit: they are as many as blocks have sizes
	r.zero = tensors.FromShape(shapes.Make(n.dtype, n.dim))
	return r, nil
}

func (r *resident) close() {
	r.Free(slices.Collect(maps.Keys(r.lent)))
	r.inner.Finalize()
	r.sum.Finalize()
	r.zero.MustFinalizeAll()
}

func (r *resident) New(count int) (vectors []*vector, err error) {
	for range count {
		v := &vector{r.zero, r.zero}
		vectors, r.lent[v] = append(vectors, v), true
	}
	r.most = max(r.most, len(r.lent))
	return vectors, nil
}

func (r *resident) Free(vectors []*vector) {
	for _, v := range vectors {
		_ = v.set(r.zero) // of what cannot be freed there is nothing to be done
		delete(r.lent, v)
	}
}

func (r *resident) Put(v *vector, numbers []float64) error {
	tensor := tensors.FromShape(shapes.Make(r.network.dtype, len(numbers)))
	return errors.Join(fill(tensor, numbers, 1), v.set(tensor), tensor.ToDevice(r.network.backend, 0))
}

func (r *resident) Get(numbers []float64, v *vector) error {
	copied, err := v.tensor.LocalClone()
	if err != nil {
		return err
	}
	return drain(numbers, copied)
}

func (r *resident) Inner(a, b []*vector) (*mat.Dense, error) {
	products := mat.NewDense(len(a), len(b), nil)
	symmetric := len(a) == len(b) && &a[0] == &b[0]
	var values [together * together]float64
	for i := 0; i < len(a); i += together {
		for j := 0; j < len(b); j += together {
			if symmetric && j < i {
				continue
			}
			var args []any
			for _, side := range [][]*vector{a[i:min(i+together, len(a))], b[j:min(j+together, len(b))]} {
				for at := range together {
					args = append(args, side[min(at, len(side)-1)].tensor) // products of the last repeated are not read
				}
			}
			outputs, err := r.execute(r.inner, args)
			if err != nil {
				return nil, err
			}
			if err := drain(values[:], outputs[0]); err != nil {
				return nil, err
			}
			for at, value := range values {
				if row, column := i+at/together, j+at%together; row < len(a) && column < len(b) {
					products.Set(row, column, value)
					if symmetric {
						products.Set(column, row, value)
					}
				}
			}
		}
	}
	return products, nil
}

func (r *resident) Add(a []*vector, c mat.Matrix, b []*vector) error {
	for i := 0; i < len(a); i += together {
		some := a[i:min(i+together, len(a))]
		var before []*tensors.Tensor
		for _, v := range some {
			before = append(before, v.tensor)
		}
		after, err := r.sums(before, c, i, b)
		if err != nil {
			return err
		}
		for at, v := range some {
			if err := v.set(after[at]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Transform goes from the last vectors to the first, which those before are not needed for any more.
func (r *resident) Transform(a []*vector, c *mat.TriDense) error {
	for i := (len(a) - 1) / together * together; i >= 0; i -= together {
		end := min(i+together, len(a))
		after, err := r.sums(slices.Repeat([]*tensors.Tensor{r.zero}, end-i), c, i, a[:end])
		if err != nil {
			return err
		}
		for at, v := range a[i:end] {
			if err := v.set(after[at]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sums adds rows of c b, from the i-th on, to at most eight tensors.
func (r *resident) sums(to []*tensors.Tensor, c mat.Matrix, i int, b []*vector) ([]*tensors.Tensor, error) {
	coefficients := make([]float64, together*len(b))
	for row := range to {
		for j := range b {
			coefficients[row*len(b)+j] = c.At(i+row, j)
		}
	}
	factors := tensors.FromFlatDataAndDimensions(coefficients, together, len(b))
	args := []any{factors}
	for at := range together {
		if at < len(to) {
			args = append(args, to[at])
		} else {
			args = append(args, r.zero)
		}
	}
	for _, term := range b {
		args = append(args, term.tensor)
	}
	outputs, err := r.execute(r.sum, args)
	if err := errors.Join(err, factors.FinalizeAll()); err != nil {
		return nil, err
	}
	for _, unused := range outputs[len(to):] {
		if err := unused.FinalizeAll(); err != nil {
			return nil, err
		}
	}
	return outputs[:len(to)], nil
}

// execute runs a program, whose graph may be built now and panic for it.
func (r *resident) execute(exec *graph.Exec, args []any) (outputs []*tensors.Tensor, err error) {
	if panicked := exceptions.TryCatch[error](func() { outputs, err = exec.Call(args...) }); panicked != nil {
		err = panicked
	}
	if err != nil {
		return nil, fmt.Errorf("network: vectors on the backend: %w", cause.Of(err))
	}
	return outputs, nil
}

// Roundoff is that of one sum, which is rounded once.
func (r *resident) Roundoff() float64 {
	if r.network.dtype == dtypes.Float32 {
		return 0x1p-24
	}
	return 0x1p-53
}

func (r *resident) Bytes() int64 { return int64(r.most) * int64(r.zero.Shape().ByteSize()) }
