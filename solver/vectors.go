package solver

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// The long vectors of a solve are rows of float64 on the host, each a slice of its own, and all work on them is done by the
// three functions below: every other matrix is small. There are few vectors and each is longer than any cache, so what
// counts is how often they are read from memory. Work goes piece by piece, all vectors of a piece together while it stays
// in the cache, on all cores.

const (
	pieceLength = 1024 // elements: a few dozen vectors of a piece are some hundred kilobytes
	mostStrips  = 64   // parts of a sum; more than there are cores, so that none waits long for another
)

// inPieces calls work for the pieces of [0, n). Pieces of one strip follow each other on one core; which core takes which
// strip is left to their pace, and results that are added up by strip in order do not depend on it.
func inPieces(n int, work func(strip, from, to int)) {
	pieces := (n + pieceLength - 1) / pieceLength
	strips := min(pieces, mostStrips)
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

// sum adds up size numbers over the pieces of [0, n), to which work adds those of one.
func sum(n, size int, work func(sums []float64, from, to int)) []float64 {
	strips := make([]float64, mostStrips*size)
	inPieces(n, func(strip, from, to int) { work(strips[strip*size:(strip+1)*size], from, to) })
	total := strips[:size]
	for from := size; from < len(strips); from += size {
		floats.Add(total, strips[from:from+size])
	}
	return total
}

// inner is a b^T: the inner products of the rows of a with those of b.
func inner(a, b [][]float64) *mat.Dense {
	columns := len(b)
	return mat.NewDense(len(a), columns, sum(len(a[0]), len(a)*columns, func(sums []float64, from, to int) {
		// Two rows by two, so that what is read is used twice. A last row without a second is paired with itself.
		for j := 0; j < columns; j += 2 {
			right := min(j+1, columns-1)
			for i := 0; i < len(a); i += 2 {
				below := min(i+1, len(a)-1)
				s := dots(a[i][from:to], a[below][from:to], b[j][from:to], b[right][from:to])
				sums[i*columns+j] += s[0]
				if right > j {
					sums[i*columns+right] += s[1]
				}
				if below > i {
					sums[below*columns+j] += s[2]
				}
				if below > i && right > j {
					sums[below*columns+right] += s[3]
				}
			}
		}
	}))
}

// add adds c b to the rows of a.
func add(a [][]float64, c mat.Matrix, b [][]float64) {
	rows := make([][]float64, len(a))
	for i := range rows {
		rows[i] = mat.Row(nil, i, c)
	}
	inPieces(len(a[0]), func(_, from, to int) {
		for i, row := range a {
			addPiece(row, rows[i], b, from, to)
		}
	})
}

// addPiece adds the combination of the rows of b with coefficients c to a piece of a row, four at a time: a is then read and
// written a quarter as often. The last four are filled up with zero times the last.
func addPiece(a, c []float64, b [][]float64, from, to int) {
	for j := 0; j < len(b); j += 4 {
		var factors [4]float64
		var rows [4][]float64
		copy(factors[:], c[j:])
		for k := range rows {
			rows[k] = b[min(j+k, len(b)-1)][from:to]
		}
		addScaled(a[from:to], &factors, &rows)
	}
}

// substitute turns the leading rows of w into L^-1 w and takes their part out of the others, for a lower trapezoidal matrix L
// whose leading square part is of size rank.
func substitute(w [][]float64, l *mat.Dense, rank int) {
	negative := negated(l)
	inPieces(len(w[0]), func(_, from, to int) {
		for i, row := range w {
			known := min(i, rank)
			if known > 0 {
				addPiece(row, negative.RawRowView(i)[:known], w[:known], from, to)
			}
			if i < rank {
				scale(row[from:to], 1/l.At(i, i))
			}
		}
	})
}

// norms are the Euclidean norms of rows.
func norms(rows [][]float64) []float64 {
	squares := sum(len(rows[0]), len(rows), func(sums []float64, from, to int) {
		for i := 0; i < len(rows); i += 2 {
			a, b := rows[i][from:to], rows[min(i+1, len(rows)-1)][from:to]
			s := dots(a, b, a, b)
			sums[i] += s[0]
			if i+1 < len(rows) {
				sums[i+1] += s[3]
			}
		}
	})
	for i, v := range squares {
		squares[i] = math.Sqrt(v)
	}
	return squares
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
