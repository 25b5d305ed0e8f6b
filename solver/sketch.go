package solver

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Sketch is a low-rank approximation U^T diag(theta) U of a metric, learned from the products of the solves it is given to.
// It makes the next solve with the same metric cheaper, or with one that has moved little: the metric of the same samples
// after some training steps.
//
// A sketch decides where a solve looks, so it changes how many products that takes; what the intervals promise never
// depends on it. It is not safe for concurrent use.
type Sketch struct {
	limit   int         // of the rank
	vectors [][]float64 // U, orthonormal
	values  []float64   // theta, descending
}

// NewSketch makes an empty sketch of at most maxRank vectors. A few hundred are enough; it must be at least 1.
func NewSketch(maxRank int) (*Sketch, error) {
	if maxRank < 1 {
		return nil, fmt.Errorf("solver: a sketch of rank %d holds nothing; use at least 1", maxRank)
	}
	return &Sketch{limit: maxRank}, nil
}

// Rank is the number of vectors held, each of the length of the parameters.
func (s *Sketch) Rank() int { return len(s.values) }

// bytes is the memory that vectors of length n take at most: those held, and while learning the new and both together.
func (s *Sketch) bytes(n int) int64 { return 8 * int64(n) * 4 * int64(s.limit) }

// precondition overwrites the rows of r with lambda P^-1 r, P = U^T diag(theta) U + lambda I.
func (s *Sketch) precondition(r [][]float64, lambda float64) {
	along := inner(r, s.vectors)
	along.Apply(func(_, j int, v float64) float64 { return -v * s.values[j] / (s.values[j] + lambda) }, along)
	add(r, along, s.vectors)
}

// learn makes the sketch agree with the products of a solve, S V = eta V, and otherwise keeps what it had:
//
//	S <- S - S V (V^T S V)^-1 V^T S + eta V (V^T eta V)^-1 V^T eta,
//
// the block BFGS update (Schnabel, Quasi-Newton methods using multiple secant equations, 1983), whose last term is the
// Nystroem approximation of eta in V. The largest eigenvalues of the result are kept. It takes no products.
func (s *Sketch) learn(p process) {
	basis, a, b := p.projection(s.limit)
	rounding := p.rounding()
	m, _ := a.Dims()
	var t mat.Dense
	t.Mul(b, a.T())
	values, turned := eigen(symmetric(&t))
	// Rows of fresh, in coordinates of the basis: fresh^T fresh is the Nystroem approximation.
	fresh := scaledRows(turned, values, rounding.norm(), m)
	if fresh == nil {
		return
	}
	var coordinates mat.Dense
	coordinates.Mul(fresh, b)
	rows, _ := coordinates.Dims()
	memory := &arena{n: len(basis[0])}
	every := memory.take(rows)
	combine(every, &coordinates, basis)
	every = append(every, s.without(basis, a)...)
	values, turned = eigen(symmetric(gram(every)))
	turn := scaledRows(turned, values, rounding.norm(), s.limit)
	if turn == nil {
		return
	}
	rank, _ := turn.Dims()
	s.vectors = memory.take(rank)
	combine(s.vectors, turn, every)
	s.values = make([]float64, rank)
	for i := range s.values {
		s.values[i] = values[len(values)-1-i]
	}
}

// without returns rows whose outer products sum up to S - S V (V^T S V)^-1 V^T S, V = a basis; nil for none.
func (s *Sketch) without(basis [][]float64, a *mat.Dense) [][]float64 {
	rank := s.Rank()
	if rank == 0 {
		return nil
	}
	var along mat.Dense // V factor^T, factor^T factor being S
	along.Mul(a, inner(basis, s.vectors))
	along.Apply(func(_, j int, v float64) float64 { return v * math.Sqrt(s.values[j]) }, &along)
	seen := rowSpace(&along, 1e-12*math.Sqrt(s.values[0]))
	// The factor's rows without their combinations that V sees.
	unseen := mat.DenseCopyOf(identity(rank))
	if len(seen) > 0 {
		projector := mat.NewDense(rank, rank, nil)
		for _, row := range seen {
			projector.RankOne(projector, -1, mat.NewVecDense(rank, row), mat.NewVecDense(rank, row))
		}
		unseen.Add(unseen, projector)
	}
	unseen.Apply(func(_, j int, v float64) float64 { return v * math.Sqrt(s.values[j]) }, unseen)
	factor := (&arena{n: len(s.vectors[0])}).take(rank)
	combine(factor, unseen, s.vectors)
	return factor
}

// rowSpace is an orthonormal basis of the rows of m that are longer than tolerance; m is overwritten.
func rowSpace(m *mat.Dense, tolerance float64) [][]float64 {
	space := basis{arena: &arena{}}
	space.extend(views(m), tolerance)
	return space.vectors
}

// symmetric is the symmetric part of a square matrix.
func symmetric(m *mat.Dense) *mat.SymDense {
	n, _ := m.Dims()
	s := mat.NewSymDense(n, nil)
	addSymmetric(s, 1, m)
	return s
}

// eigen returns the eigenvalues of m, ascending, and their vectors as columns. m is scaled to size 1 meanwhile, for gonum
// fails on entries that are tiny; values is nil if it fails all the same.
func eigen(m *mat.SymDense) (values []float64, vectors *mat.Dense) {
	size := mat.Max(m)
	size = max(size, -mat.Min(m))
	n := m.SymmetricDim()
	if size == 0 {
		return make([]float64, n), mat.DenseCopyOf(identity(n))
	}
	scaled := mat.NewSymDense(n, nil)
	scaled.ScaleSym(1/size, m)
	var factors mat.EigenSym
	if !factors.Factorize(scaled, true) {
		return nil, nil
	}
	vectors = &mat.Dense{}
	factors.VectorsTo(vectors)
	values = factors.Values(nil)
	for i := range values {
		values[i] *= size
	}
	return values, vectors
}

// scaledRows are the eigenvectors of the largest values as rows, descending, at most limit of them and only those of values
// above cutoff, each divided by the root of its value; nil for none.
func scaledRows(vectors *mat.Dense, values []float64, cutoff float64, limit int) *mat.Dense {
	n := len(values)
	count := 0
	for count < min(n, limit) && values[n-1-count] > cutoff {
		count++
	}
	if count == 0 {
		return nil
	}
	rows := mat.NewDense(count, n, nil)
	for i := range count {
		column := n - 1 - i
		factor := 1 / math.Sqrt(values[column])
		for j := range n {
			rows.Set(i, j, factor*vectors.At(j, column))
		}
	}
	return rows
}
