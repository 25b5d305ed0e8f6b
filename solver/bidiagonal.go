package solver

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// bidiagonal is the quadrature of one lambda: the rows of the triangular factor R of [B; sqrt(lambda) I], R^T R = B^T B + lambda, block by block.
type bidiagonal struct {
	*quadrature
	carry *mat.Dense // what the elimination of the columns before leaves in the next; nil for nothing
}

// addBlock takes A_j, [b', b], and S_j^T, [b', b_{j+1}], nil where the space is invariant.
func (q *bidiagonal) addBlock(diagonal, above *mat.Dense) {
	_, b := diagonal.Dims()
	rows := stackAll(diagonal, mat.DenseCopyOf(scaled(math.Sqrt(q.lambda), b)), q.carry)
	columns := 0
	if above != nil {
		_, columns = above.Dims()
	}
	total, _ := rows.Dims()
	both := mat.NewDense(total, b+columns, nil)
	both.Slice(0, total, 0, b).(*mat.Dense).Copy(rows)
	if above != nil {
		n, _ := above.Dims()
		both.Slice(0, n, b, b+columns).(*mat.Dense).Copy(above)
	}
	reduced := orthogonalFactor(both)
	row := q.append(reduced.Slice(0, b, 0, b))
	q.carry, q.c = nil, mat.NewDense(1, q.low.SymmetricDim(), nil)
	if above != nil {
		row.x = mat.DenseCopyOf(reduced.Slice(0, b, b, b+columns))
		height, _ := reduced.Dims()
		if height > b {
			q.carry = mat.DenseCopyOf(reduced.Slice(b, height, b, b+columns))
		}
		q.c = &mat.Dense{}
		q.c.Mul(row.x.T(), row.z)
		q.c.Scale(-1, q.c)
	}
	q.rows[len(q.rows)-1] = row
}

// addLast takes a last block of V whose image lies in U.
func (q *bidiagonal) addLast() {
	b, _ := q.c.Dims()
	q.append(orthogonalFactor(stackAll(mat.DenseCopyOf(scaled(math.Sqrt(q.lambda), b)), q.carry)).Slice(0, b, 0, b))
	q.carry, q.c = nil, mat.NewDense(1, q.low.SymmetricDim(), nil)
}

func (q *bidiagonal) append(upper mat.Matrix) factorRow {
	l := upperTriangle(upper)
	row := factorRow{l: l, z: l.forward(q.c)}
	addGram(q.low, row.z)
	q.rows = append(q.rows, row)
	return row
}

// radau returns both rules and the coordinates in V_+ of x = (B_+^T B_+ + lambda)^-1 E C, as rows.
func (q *bidiagonal) radau() (low, gap *mat.SymDense, x *mat.Dense) {
	k := q.low.SymmetricDim()
	gap = mat.NewSymDense(k, nil)
	extended := *q.quadrature
	if last := q.rows[len(q.rows)-1]; last.x != nil {
		_, b := last.x.Dims()
		l := upperTriangle(orthogonalFactor(stackAll(mat.DenseCopyOf(scaled(math.Sqrt(q.lambda), b)), q.carry)).Slice(0, b, 0, b))
		row := factorRow{l: l, z: l.forward(q.c)}
		addGram(gap, row.z)
		extended.rows = append(slices.Clone(q.rows), row)
	}
	return q.low, gap, extended.solutions()
}

// stackAll stacks matrices of equal width, of which some may be nil.
func stackAll(all ...*mat.Dense) *mat.Dense {
	var stacked *mat.Dense
	for _, m := range all {
		switch {
		case m == nil:
		case stacked == nil:
			stacked = mat.DenseCopyOf(m)
		default:
			var both mat.Dense
			both.Stack(stacked, m)
			stacked = &both
		}
	}
	return stacked
}

// orthogonalFactor is R of m = Q R, [min(rows, columns), columns], by Householder reflections.
func orthogonalFactor(m *mat.Dense) *mat.Dense {
	rows, columns := m.Dims()
	if rows < columns {
		m = stackAll(m, mat.NewDense(columns-rows, columns, nil))
	}
	var qr mat.QR
	qr.Factorize(m)
	var r mat.Dense
	qr.RTo(&r)
	return mat.DenseCopyOf(r.Slice(0, columns, 0, columns))
}
