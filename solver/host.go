package solver

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// host is a Space of slices, of float64 or of float32 at half the memory. There are few vectors and each is longer than any cache, so they are taken
// piece by piece: all vectors of a piece while it stays in the cache, pieces on all cores. The arithmetic is in float64 in either case, as pieces of
// float32 are converted in the cache.
//
// Vectors that are given back are lent again: left to the garbage collector, those of the part before would stay while the next one's are made.
type host[T float32 | float64] struct {
	n         int // length of vectors
	all, free [][]T
	rooms     []room[T] // by core
}

const (
	pieceLength = 512 // elements: a piece of a block stays in the nearest cache, one of the basis in the next
	mostStrips  = 64  // of pieces that follow each other: more than there are cores, which then end together
)

// newHost is a Space of vectors of length n on the host.
func newHost[T float32 | float64](n int) long[[]T] { return long[[]T]{&host[T]{n: n}} }

func (h *host[T]) New(count int) ([][]T, error) {
	for _, v := range h.free[max(0, len(h.free)-count):] {
		clear(v)
	}
	for len(h.free) < count {
		v := make([]T, h.n)
		h.all, h.free = append(h.all, v), append(h.free, v)
	}
	rest := len(h.free) - count
	lent := h.free[rest:]
	h.free = h.free[:rest:rest]
	return lent, nil
}

func (h *host[T]) Free(vectors [][]T) { h.free = append(h.free, vectors...) }

func (h *host[T]) Bytes() int64 { return size[T]() * int64(h.n) * int64(len(h.all)) }

func (h *host[T]) Roundoff() float64 {
	if size[T]() == 4 {
		return 0x1p-24
	}
	return unitRoundoff
}

// size is that of a number in bytes.
func size[T any]() int64 {
	var number T
	return int64(unsafe.Sizeof(number))
}

func (h *host[T]) Put(v []T, numbers []float64) error {
	for i, number := range numbers {
		v[i] = T(number)
	}
	return nil
}

func (h *host[T]) Get(numbers []float64, v []T) error {
	for i, number := range v {
		numbers[i] = float64(number)
	}
	return nil
}

func (h *host[T]) Inner(a, b [][]T) (*mat.Dense, error) {
	symmetric := len(a) == len(b) && &a[0] == &b[0]
	down, across := (len(a)+1)/2, (len(b)+3)/4
	sums := make([]tile, h.strips()*down*across)
	h.inPieces(func(room *room[T], strip, from, to int) {
		left := room[0].of(a, from, to)
		right := left
		if !symmetric {
			right = room[1].of(b, from, to)
		}
		for j := range across {
			var columns [4][]float64
			for c := range columns {
				columns[c] = right[min(4*j+c, len(right)-1)]
			}
			for i := range down {
				if !symmetric || 2*i <= 4*j+3 {
					dots(&sums[(strip*down+i)*across+j], left[2*i], left[min(2*i+1, len(left)-1)], &columns)
				}
			}
		}
	})
	products := mat.NewDense(len(a), len(b), nil)
	for r := range a {
		for c := range b {
			i, j := r, c
			if symmetric {
				i, j = min(r, c), max(r, c)
			}
			total := 0.0
			for strip := range h.strips() {
				total += sums[(strip*down+i/2)*across+j/4].at(i%2, j%4)
			}
			products.Set(r, c, total)
		}
	}
	return products, nil
}

func (h *host[T]) Add(a [][]T, c mat.Matrix, b [][]T) error {
	coefficients := make([][]float64, len(a))
	for i := range a {
		coefficients[i] = mat.Row(nil, i, c)
	}
	h.inPieces(func(room *room[T], _, from, to int) {
		sum, term := room[0].of(a, from, to), room[1].of(b, from, to)
		for i := 0; i+1 < len(a); i += 2 {
			addPiece(sum[i], sum[i+1], coefficients[i], coefficients[i+1], term)
		}
		if i := len(a) - 1; i%2 == 0 {
			addPiece(sum[i], nil, coefficients[i], nil, term)
		}
		room[0].store(a, from, to)
	})
	return nil
}

// Transform goes from the last vector to the first, which those before are not needed for any more.
func (h *host[T]) Transform(a [][]T, c *mat.TriDense) error {
	coefficients := make([][]float64, len(a))
	for i := range a {
		coefficients[i] = mat.Row(nil, i, c)
	}
	h.inPieces(func(room *room[T], _, from, to int) {
		rows := room[0].of(a, from, to)
		for i := len(a) - 1; i >= 0; i -= 2 {
			c := coefficients[i]
			floats.Scale(c[i], rows[i])
			if i == 0 {
				break
			}
			floats.AddScaled(rows[i], c[i-1], rows[i-1])
			floats.Scale(coefficients[i-1][i-1], rows[i-1])
			addPiece(rows[i-1], rows[i], coefficients[i-1][:i-1], c[:i-1], rows[:i-1])
		}
		room[0].store(a, from, to)
	})
	return nil
}

// room is what a core has the pieces of at most two blocks in.
type room[T float32 | float64] [2]pieces[T]

// pieces are those of some vectors in float64: themselves, or converted.
type pieces[T float32 | float64] struct {
	rows      [][]float64
	converted []float64
}

func (p *pieces[T]) of(vectors [][]T, from, to int) [][]float64 {
	p.rows = p.rows[:0]
	if doubles, ok := any(vectors).([][]float64); ok {
		for _, v := range doubles {
			p.rows = append(p.rows, v[from:to])
		}
		return p.rows
	}
	if len(p.converted) < len(vectors)*pieceLength {
		p.converted = make([]float64, len(vectors)*pieceLength)
	}
	for i, v := range any(vectors).([][]float32) {
		row := p.converted[i*pieceLength:][:to-from]
		widen(row, v[from:to])
		p.rows = append(p.rows, row)
	}
	return p.rows
}

// store rounds what was converted back.
func (p *pieces[T]) store(vectors [][]T, from, to int) {
	if singles, ok := any(vectors).([][]float32); ok {
		for i, v := range singles {
			narrow(v[from:to], p.rows[i])
		}
	}
}

// strips is how many strips the pieces are dealt out to.
func (h *host[T]) strips() int { return min((h.n+pieceLength-1)/pieceLength, mostStrips) }

// inPieces calls work for all pieces, those of one strip one after the other on the same core, in its room. Which core takes which strip is left to
// their pace; a sum over the strips in their order does not depend on it, nor on how many cores there are.
func (h *host[T]) inPieces(work func(room *room[T], strip, from, to int)) {
	pieces, strips := (h.n+pieceLength-1)/pieceLength, h.strips()
	cores := min(runtime.GOMAXPROCS(0), strips)
	for len(h.rooms) < cores {
		h.rooms = append(h.rooms, room[T]{})
	}
	var next atomic.Int64
	run := func(room *room[T]) {
		for {
			strip := int(next.Add(1)) - 1
			if strip >= strips {
				return
			}
			for piece := strip * pieces / strips; piece < (strip+1)*pieces/strips; piece++ {
				work(room, strip, piece*pieceLength, min((piece+1)*pieceLength, h.n))
			}
		}
	}
	var group sync.WaitGroup
	for core := 1; core < cores; core++ {
		group.Go(func() { run(&h.rooms[core]) })
	}
	run(&h.rooms[0])
	group.Wait()
}

// tile holds the inner products of two rows with four, each as four numbers to be added up: as many sums at once as keep a core busy.
type tile [8][4]float64

// at is the inner product of row i of two with row j of four.
func (t *tile) at(i, j int) float64 {
	s := &t[4*i+j]
	return (s[0] + s[1]) + (s[2] + s[3])
}

// norms are the Euclidean norms of rows.
func norms(rows [][]float64) []float64 {
	lengths := make([]float64, len(rows))
	for i, row := range rows {
		lengths[i] = floats.Norm(row, 2)
	}
	return lengths
}

// addPiece adds combinations of the pieces of b to two pieces, or to one where second is nil, four at a time so that what is read and written
// is used for more. The last four are filled up with zero times the last.
func addPiece(first, second, c, d []float64, b [][]float64) {
	for j := 0; j < len(b); j += 4 {
		var factors [2][4]float64
		var rows [4][]float64
		copy(factors[0][:], c[j:])
		if second != nil {
			copy(factors[1][:], d[j:])
		}
		for k := range rows {
			rows[k] = b[min(j+k, len(b)-1)]
		}
		addScaled(first, second, &factors, &rows)
	}
}

// negated is -m.
func negated(m mat.Matrix) *mat.Dense {
	n := mat.DenseCopyOf(m)
	n.Scale(-1, n)
	return n
}

// scaled is a multiple of the identity of size n.
func scaled(by float64, n int) *mat.TriDense {
	m := mat.NewTriDense(n, mat.Lower, nil)
	for i := range n {
		m.SetTri(i, i, by)
	}
	return m
}

// views are the rows of a matrix, not copied.
func views(m *mat.Dense) [][]float64 {
	rows := make([][]float64, m.RawMatrix().Rows)
	for i := range rows {
		rows[i] = m.RawRowView(i)
	}
	return rows
}
