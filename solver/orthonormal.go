package solver

import (
	"math"
	"runtime"
	"sync"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// orthonormal is a growing set of orthonormal vectors, in blocks of rows.
type orthonormal struct {
	blocks []*mat.Dense
}

// size is the number of vectors.
func (o *orthonormal) size() (vectors int) {
	for _, block := range o.blocks {
		vectors += block.RawMatrix().Rows
	}
	return vectors
}

// project subtracts from the rows of w their parts along the vectors and returns the coefficients, by block: [rows of w,
// rows of the block].
func (o *orthonormal) project(w *mat.Dense) (coefficients []*mat.Dense) {
	rows, columns := w.Dims()
	for _, block := range o.blocks {
		coefficients = append(coefficients, mat.NewDense(rows, block.RawMatrix().Rows, nil))
	}
	// Vectors are long and few: matrix products on pieces of them that stay in the cache, on all cores. The order of the
	// sums must not depend on the cores' pace.
	pieces := (columns + pieceLength - 1) / pieceLength
	workers := min(runtime.GOMAXPROCS(0), pieces)
	partial, space := make([][]*mat.Dense, workers), make([][]float64, workers)
	inPieces := func(work func(worker int, cut func(*mat.Dense) *mat.Dense)) {
		var group sync.WaitGroup
		for worker := range workers {
			group.Go(func() {
				for piece := worker; piece < pieces; piece += workers {
					from, to := piece*pieceLength, min((piece+1)*pieceLength, columns)
					work(worker, func(m *mat.Dense) *mat.Dense { return m.Slice(0, m.RawMatrix().Rows, from, to).(*mat.Dense) })
				}
			})
		}
		group.Wait()
	}
	inPieces(func(worker int, cut func(*mat.Dense) *mat.Dense) {
		if partial[worker] == nil {
			for _, h := range coefficients {
				partial[worker] = append(partial[worker], mat.NewDense(h.RawMatrix().Rows, h.RawMatrix().Cols, nil))
			}
		}
		left := cut(w)
		for j, block := range o.blocks {
			var h mat.Dense
			h.Mul(left, cut(block).T())
			partial[worker][j].Add(partial[worker][j], &h)
		}
	})
	for _, parts := range partial {
		for j, h := range parts {
			coefficients[j].Add(coefficients[j], h)
		}
	}
	inPieces(func(worker int, cut func(*mat.Dense) *mat.Dense) {
		left := cut(w)
		along := reuse(&space[worker], rows, left.RawMatrix().Cols)
		for j, block := range o.blocks {
			along.Mul(coefficients[j], cut(block))
			left.Sub(left, along)
		}
	})
	return coefficients
}

// pieceLength is that of the pieces of vectors: a few dozen are a megabyte or two.
const pieceLength = 4096

// extend appends a block that spans the rows of w, which project has been over, up to norm tolerance. It returns the
// coefficients of w in it, or nil if nothing was left, and the largest norm of what is in neither. w is overwritten.
//
// The new block is orthogonalised against the others once more: what project leaves along them is small against w, but not
// against a direction that is short itself. A direction that loses most of its length was noise and is left out.
func (o *orthonormal) extend(w *mat.Dense, tolerance float64) (coefficients *mat.Dense, dropped float64) {
	const noise = 0.5
	block, coefficients := orthonormalise(w, tolerance)
	for i := range w.RawMatrix().Rows {
		dropped = max(dropped, floats.Norm(w.RawRowView(i), 2))
	}
	if block == nil {
		return nil, dropped
	}
	o.project(block)
	refined, change := orthonormalise(block, noise)
	for i := range block.RawMatrix().Rows {
		if left := floats.Norm(block.RawRowView(i), 2); left > 0 {
			dropped = max(dropped, floats.Norm(mat.Col(nil, i, coefficients), 2))
		}
	}
	if refined == nil {
		return nil, dropped
	}
	o.blocks = append(o.blocks, refined)
	var product mat.Dense
	product.Mul(coefficients, change)
	return &product, dropped
}

// reuse makes a matrix of space that is kept.
func reuse(space *[]float64, rows, columns int) *mat.Dense {
	if len(*space) < rows*columns {
		*space = make([]float64, rows*columns)
	}
	return mat.NewDense(rows, columns, (*space)[:rows*columns])
}

// orthonormalise returns orthonormal rows q and coefficients c with w = c q, up to rows of norm at most tolerance, by
// Gram and Schmidt's method with pivoting, each direction orthogonalised twice. w is overwritten with what is left of its
// rows. q is nil if no row is longer than tolerance.
func orthonormalise(w *mat.Dense, tolerance float64) (q, c *mat.Dense) {
	b, n := w.Dims()
	c = mat.NewDense(b, b, nil)
	directions := mat.NewDense(b, n, nil)
	open := all(b)
	rank := 0
	for len(open) > 0 {
		pivot, largest := 0, -1.0
		for at, i := range open {
			if length := norm(w.RawRowView(i)); length > largest {
				pivot, largest = at, length
			}
		}
		if largest <= tolerance {
			break
		}
		i := open[pivot]
		open = append(open[:pivot], open[pivot+1:]...)
		direction := directions.RawRowView(rank)
		copy(direction, w.RawRowView(i))
		for j := range rank {
			along := floats.Dot(directions.RawRowView(j), direction)
			c.Set(i, j, c.At(i, j)+along)
			floats.AddScaled(direction, -along, directions.RawRowView(j))
		}
		length := norm(direction)
		if length <= tolerance {
			copy(w.RawRowView(i), direction)
			continue
		}
		floats.Scale(1/length, direction)
		c.Set(i, rank, length)
		clear(w.RawRowView(i))
		for _, k := range open {
			along := floats.Dot(direction, w.RawRowView(k))
			c.Set(k, rank, along)
			floats.AddScaled(w.RawRowView(k), -along, direction)
		}
		rank++
	}
	if rank == 0 {
		return nil, c
	}
	return directions.Slice(0, rank, 0, n).(*mat.Dense), mat.DenseCopyOf(c.Slice(0, b, 0, rank))
}

// norm is the Euclidean norm of a vector whose squares neither overflow nor vanish; floats.Norm takes care of those, and
// three times as long.
func norm(v []float64) float64 { return math.Sqrt(floats.Dot(v, v)) }
