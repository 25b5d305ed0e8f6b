package solver

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gonum.org/v1/gonum/mat"
)

// The long vectors of a solve are rows of float64 on the host, each a slice of its own, and all work on them is done by the
// functions of this file: everything else is small matrices. There are few vectors and each is longer than any cache, so they
// are taken piece by piece: all vectors of a piece while it stays in the cache, pieces on all cores.

const (
	pieceLength = 512 // elements: a piece of a block stays in the nearest cache, one of the basis in the next
	mostStrips  = 64  // of pieces that follow each other: more than there are cores, which then end together
)

// strips is how many strips the pieces of n elements are dealt out to.
func strips(n int) int { return min((n+pieceLength-1)/pieceLength, mostStrips) }

// inPieces calls work for the pieces of [0, n), those of one strip one after the other on the same core. Which core takes which
// strip is left to their pace; a sum over the strips in their order does not depend on it, nor on how many cores there are.
func inPieces(n int, work func(strip, from, to int)) {
	pieces, strips := (n+pieceLength-1)/pieceLength, strips(n)
	var next atomic.Int64
	worker := func() {
		for {
			strip := int(next.Add(1)) - 1
			if strip >= strips {
				return
			}
			for piece := strip * pieces / strips; piece < (strip+1)*pieces/strips; piece++ {
				work(strip, piece*pieceLength, min((piece+1)*pieceLength, n))
			}
		}
	}
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), strips) - 1 {
		group.Go(worker)
	}
	worker()
	group.Wait()
}

// tile holds the inner products a0 b0, a0 b1, a1 b0 and a1 b1 of two rows with two, each as four numbers to be added up.
type tile [4][4]float64

// tiles adds up a number of tiles over the pieces of [0, n), to which work adds those of one piece.
func tiles(n, count int, work func(t []tile, from, to int)) []tile {
	all := make([]tile, strips(n)*count)
	inPieces(n, func(strip, from, to int) { work(all[strip*count:(strip+1)*count], from, to) })
	total := all[:count]
	for at := range all[count:] {
		for i, sums := range all[count+at] {
			for j, v := range sums {
				total[at%count][i][j] += v
			}
		}
	}
	return total
}

// at is the inner product of row i of two with row j of two.
func (t *tile) at(i, j int) float64 {
	s := &t[2*i+j]
	return (s[0] + s[1]) + (s[2] + s[3])
}

// pair is the i-th piece of two rows: of the last one twice where it has no second.
func pair(rows [][]float64, i, from, to int) (first, second []float64) {
	return rows[2*i][from:to], rows[min(2*i+1, len(rows)-1)][from:to]
}

// inner is a b^T: the inner products of the rows of a with those of b.
func inner(a, b [][]float64) *mat.Dense { return products(a, b, false) }

// gram is a a^T.
func gram(a [][]float64) *mat.Dense { return products(a, a, true) }

func products(a, b [][]float64, symmetric bool) *mat.Dense {
	down, across := (len(a)+1)/2, (len(b)+1)/2
	sums := tiles(len(a[0]), down*across, func(t []tile, from, to int) {
		for j := range across {
			b0, b1 := pair(b, j, from, to)
			for i := range down {
				if !symmetric || i <= j {
					a0, a1 := pair(a, i, from, to)
					dots(&t[i*across+j], a0, a1, b0, b1)
				}
			}
		}
	})
	h := mat.NewDense(len(a), len(b), nil)
	for r := range a {
		for c := range b {
			i, j := r, c
			if symmetric {
				i, j = min(r, c), max(r, c)
			}
			h.Set(r, c, sums[i/2*across+j/2].at(i%2, j%2))
		}
	}
	return h
}

// norms are the Euclidean norms of rows.
func norms(rows [][]float64) []float64 {
	sums := tiles(len(rows[0]), (len(rows)+1)/2, func(t []tile, from, to int) {
		for i := range t {
			a0, a1 := pair(rows, i, from, to)
			dots(&t[i], a0, a1, a0, a1)
		}
	})
	lengths := make([]float64, len(rows))
	for i := range lengths {
		lengths[i] = math.Sqrt(sums[i/2].at(i%2, i%2))
	}
	return lengths
}

// add adds c b to the rows of a.
func add(a [][]float64, c mat.Matrix, b [][]float64) {
	coefficients := make([][]float64, len(a))
	for i := range a {
		coefficients[i] = mat.Row(nil, i, c)
	}
	inPieces(len(a[0]), func(_, from, to int) {
		for i := 0; i+1 < len(a); i += 2 {
			addPiece(a[i][from:to], a[i+1][from:to], coefficients[i], coefficients[i+1], b, from, to)
		}
		if i := len(a) - 1; i%2 == 0 {
			addPiece(a[i][from:to], nil, coefficients[i], nil, b, from, to)
		}
	})
}

// substitute turns the leading rows of w into L^-1 w and takes their part out of the others, for a lower trapezoidal matrix L
// whose leading square part is of size rank.
func substitute(w [][]float64, l *mat.Dense, rank int) {
	negative := negated(l)
	inPieces(len(w[0]), func(_, from, to int) {
		for i, row := range w {
			known := min(i, rank)
			addPiece(row[from:to], nil, negative.RawRowView(i)[:known], nil, w[:known], from, to)
			if i < rank {
				scale(row[from:to], 1/l.At(i, i))
			}
		}
	})
}

// addPiece adds combinations of pieces of the rows of b to two vectors, or to one where second is nil, four rows at a time so
// that what is read and written is used for more. The last four are filled up with zero times the last.
func addPiece(first, second, c, d []float64, b [][]float64, from, to int) {
	for j := 0; j < len(b); j += 4 {
		var factors [2][4]float64
		var rows [4][]float64
		copy(factors[0][:], c[j:])
		if second != nil {
			copy(factors[1][:], d[j:])
		}
		for k := range rows {
			rows[k] = b[min(j+k, len(b)-1)][from:to]
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

// normalise scales rows to norm 1, but for those of norm 0, and returns what their norms were.
func normalise(rows [][]float64) (lengths []float64) {
	lengths = norms(rows)
	inPieces(len(rows[0]), func(_, from, to int) {
		for i, row := range rows {
			if lengths[i] > 0 {
				scale(row[from:to], 1/lengths[i])
			}
		}
	})
	return lengths
}

// scaleAll multiplies rows by a number.
func scaleAll(rows [][]float64, by float64) {
	inPieces(len(rows[0]), func(_, from, to int) {
		for _, row := range rows {
			scale(row[from:to], by)
		}
	})
}

func scale(v []float64, by float64) {
	for i := range v {
		v[i] *= by
	}
}

// combine overwrites dst with the combination of vectors with some coefficients.
func combine(dst [][]float64, coefficients mat.Matrix, vectors [][]float64) {
	for _, row := range dst {
		clear(row)
	}
	add(dst, coefficients, vectors)
}

// views are the rows of a matrix, not copied.
func views(m *mat.Dense) [][]float64 {
	rows := make([][]float64, m.RawMatrix().Rows)
	for i := range rows {
		rows[i] = m.RawRowView(i)
	}
	return rows
}

// arena lends vectors of length n and takes them back, so that a solve in parts and steps asks the system for each only once:
// left to the garbage collector, those of the part before would stay while the next one's are made.
type arena struct {
	n         int
	all, free [][]float64
}

// take lends vectors, of any content.
func (a *arena) take(count int) [][]float64 {
	for len(a.free) < count {
		v := make([]float64, a.n)
		a.all, a.free = append(a.all, v), append(a.free, v)
	}
	rest := len(a.free) - count
	rows := a.free[rest:]
	a.free = a.free[:rest:rest]
	return rows
}

func (a *arena) give(rows [][]float64) { a.free = append(a.free, rows...) }

// reset takes all vectors back.
func (a *arena) reset() { a.free = slices.Clone(a.all) }

// bytes is the memory of all vectors, lent or not.
func (a *arena) bytes() int64 { return 8 * int64(a.n) * int64(len(a.all)) }
