package solver

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// quadrature bounds the forms M = G (eta + lambda I)^-1 G^T for one lambda from the blocks of a Lanczos process, as they
// come. With T the block tridiagonal matrix so far, in exact arithmetic and in the order of symmetric matrices,
//
//	low = C^T (T + lambda)^-1 C  <=  M  <=  low + gap.
//
// low is the block Gauss rule, from the rows of the block Cholesky factor of T + lambda:
//
//	L_j L_j^T = D_j,   X_j = L_j^-1 B_j^T,   D_{j+1} = T_{j+1} + lambda - X_j^T X_j,
//	z_1 = L_1^-1 C,    z_{j+1} = -L_{j+1}^-1 X_j^T z_j,   low = sum of z_j^T z_j.
//
// gap comes from the block Gauss-Radau rule (radau) and is what that adds:
//
//	gap = (X_j^T z_j)^T K^-1 (X_j^T z_j),   K = Omega + lambda - X_j^T X_j.
//
// An inverse is only ever applied by its triangular factor, and forms are sums of squares: the error of
// B_j (D_j^-1 B_j^T) would grow with the condition of D_j.
//
// Golub and Meurant, Matrices, Moments and Quadrature, chapter 6; block form: Zimmerling, Druskin and Simoncini,
// arXiv:2407.21505.
type quadrature struct {
	lambda float64
	low    *mat.SymDense // [k, k]
	rows   []factorRow   // of the Cholesky factor
	c      *mat.Dense    // right-hand side of the next block, [b, k]
	broken bool          // D_j is not positive definite: rounding exceeds lambda
}

// factorRow is one block of a block Cholesky factor, and of what it makes of the right-hand sides.
type factorRow struct {
	l triangle   // L_j, [b_j, b_j]
	x *mat.Dense // X_j, [b_j, b_{j+1}]; nil where the space is invariant
	z *mat.Dense // z_j, [b_j, k]
}

func newQuadrature(lambda float64, c *mat.Dense) *quadrature {
	_, k := c.Dims()
	return &quadrature{lambda: lambda, low: mat.NewSymDense(k, nil), c: c}
}

// add takes T_j, and B_j, nil where the space is invariant. Nothing of a block is taken where T + lambda is no longer positive definite.
func (q *quadrature) add(diagonal *mat.SymDense, below *mat.Dense) {
	if q.broken {
		return
	}
	damped := plus(diagonal, q.lambda)
	if last := len(q.rows) - 1; last >= 0 {
		subtractGram(damped, q.rows[last].x)
	}
	l, ok := cholesky(damped)
	if q.broken = !ok; q.broken {
		return
	}
	row := factorRow{l: l, z: l.forward(q.c)}
	addGram(q.low, row.z)
	if below != nil {
		row.x = l.forward(below.T())
		q.c = &mat.Dense{}
		q.c.Mul(row.x.T(), row.z)
		q.c.Scale(-1, q.c)
	} else {
		q.c = mat.NewDense(1, q.low.SymmetricDim(), nil) // zero
	}
	q.rows = append(q.rows, row)
}

// gap bounds M - low from above in the order of symmetric matrices, by the Radau rule of the same blocks. Where rounding leaves no bound
// it is nil.
func (q *quadrature) gap(node *radau) *mat.SymDense {
	if q.broken || node.broken {
		return nil
	}
	gap := mat.NewSymDense(q.low.SymmetricDim(), nil)
	last := q.rows[len(q.rows)-1]
	if last.x == nil {
		return gap // the space is invariant, and nothing is missing
	}
	k := plus(node.omega, q.lambda)
	subtractGram(k, last.x)
	l, ok := cholesky(k)
	if !ok {
		return nil
	}
	addGram(gap, l.forward(q.c))
	for i := range gap.SymmetricDim() {
		if math.IsNaN(gap.At(i, i)) || math.IsInf(gap.At(i, i), 0) {
			return nil
		}
	}
	return gap
}

// solutions are (T + lambda)^-1 C, transposed: the coordinates of the approximate solutions in V, [k, m], of the blocks taken.
func (q *quadrature) solutions() *mat.Dense {
	k, end := q.low.SymmetricDim(), 0
	for _, row := range q.rows {
		end += row.l.size()
	}
	all := mat.NewDense(k, max(end, 1), nil)
	var after *mat.Dense // y_{j+1}
	for j := len(q.rows) - 1; j >= 0; j-- {
		row := q.rows[j]
		y := mat.DenseCopyOf(row.z)
		if after != nil {
			var coupling mat.Dense
			coupling.Mul(row.x, after)
			y.Sub(y, &coupling)
		}
		row.l.backward(y)
		all.Slice(0, k, end-row.l.size(), end).(*mat.Dense).Copy(y.T())
		end -= row.l.size()
		after = y
	}
	return all
}

// residual are the coordinates of G - (eta + lambda) x for a solution, in the block V_{m+1} that the next step multiplies.
func (q *quadrature) residual(column int) []float64 { return mat.Col(nil, column, q.c) }

// residuals are the norms of those.
func (q *quadrature) residuals() []float64 {
	norms := make([]float64, q.low.SymmetricDim())
	for i := range norms {
		norms[i] = floats.Norm(q.residual(i), 2)
	}
	return norms
}

// radau is the block Gauss-Radau rule whose fixed node is at -shift, below the spectrum of eta: it extends T by a block Omega so that the
// smallest eigenvalue is there,
//
//	S_{j+1} = T_{j+1} + shift - B_j S_j^-1 B_j^T,   Omega = B_j S_j^-1 B_j^T - shift,
//
// which replaces eta by E = eta V (V^T eta V)^-1 V^T eta <= eta (for shift 0). eta is positive semidefinite, but the computed T belongs to
// an operator that differs from it by rounding. It is the same for all lambda.
type radau struct {
	shift  float64
	x      *mat.Dense    // L_j^-1 B_j^T, L_j L_j^T = S_j
	omega  *mat.SymDense // nil where the space is invariant
	broken bool          // S_j is not positive definite: eta has an eigenvalue below -shift
}

// add takes T_j and B_j as quadrature.add.
func (r *radau) add(diagonal *mat.SymDense, below *mat.Dense) {
	if r.broken {
		return
	}
	shifted := plus(diagonal, r.shift)
	if r.x != nil {
		subtractGram(shifted, r.x)
	}
	l, ok := cholesky(shifted)
	if r.broken = !ok; r.broken {
		return
	}
	if r.x, r.omega = nil, nil; below != nil {
		r.x = l.forward(below.T())
		_, b := r.x.Dims()
		r.omega = plus(mat.NewSymDense(b, nil), -r.shift)
		addGram(r.omega, r.x)
	}
}

// triangle is the lower triangular factor L of a positive definite matrix L L^T. It is stored as L^T.
type triangle struct{ transposed blas64.Triangular }

// cholesky factorises m, which it overwrites; ok is false where m is not positive definite.
func cholesky(m *mat.SymDense) (l triangle, ok bool) {
	l.transposed, ok = lapack64.Potrf(m.RawSymmetric())
	return l, ok
}

// upperTriangle is the factor L = R^T of a square upper triangular R.
func upperTriangle(r mat.Matrix) triangle {
	m := mat.DenseCopyOf(r).RawMatrix()
	return triangle{blas64.Triangular{Uplo: blas.Upper, Diag: blas.NonUnit, N: m.Rows, Data: m.Data, Stride: m.Stride}}
}

func (l triangle) size() int { return l.transposed.N }

// forward is L^-1 m.
func (l triangle) forward(m mat.Matrix) *mat.Dense {
	solved := mat.DenseCopyOf(m)
	blas64.Trsm(blas.Left, blas.Trans, 1, l.transposed, solved.RawMatrix())
	return solved
}

// backward overwrites m with L^-T m.
func (l triangle) backward(m *mat.Dense) {
	blas64.Trsm(blas.Left, blas.NoTrans, 1, l.transposed, m.RawMatrix())
}

// addGram is target += m^T m.
func addGram(target *mat.SymDense, m *mat.Dense) { accumulate(target, 1, m) }

// subtractGram is target -= m^T m.
func subtractGram(target *mat.SymDense, m *mat.Dense) { accumulate(target, -1, m) }

func accumulate(target *mat.SymDense, by float64, m *mat.Dense) {
	blas64.Syrk(blas.Trans, by, m.RawMatrix(), 1, target.RawSymmetric())
}

// addSymmetric is target += scale times the symmetric part of form.
func addSymmetric(target *mat.SymDense, scale float64, form *mat.Dense) {
	n := target.SymmetricDim()
	for r := range n {
		for c := r; c < n; c++ {
			target.SetSym(r, c, target.At(r, c)+scale*(form.At(r, c)+form.At(c, r))/2)
		}
	}
}

// plus is m + shift I.
func plus(m *mat.SymDense, shift float64) *mat.SymDense {
	sum := mat.NewSymDense(m.SymmetricDim(), nil)
	sum.CopySym(m)
	for i := range m.SymmetricDim() {
		sum.SetSym(i, i, sum.At(i, i)+shift)
	}
	return sum
}

func identity(n int) *mat.SymDense { return plus(mat.NewSymDense(n, nil), 1) }

// symmetric is the symmetric part of a square matrix.
func symmetric(m *mat.Dense) *mat.SymDense {
	n, _ := m.Dims()
	s := mat.NewSymDense(n, nil)
	addSymmetric(s, 1, m)
	return s
}
