package solver

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

func random(seed uint64, rows, n int) *mat.Dense {
	source := rand.New(rand.NewPCG(seed, 1))
	m := mat.NewDense(rows, n, nil)
	m.Apply(func(_, _ int, _ float64) float64 { return source.NormFloat64() }, m)
	return m
}

// lengths are shorter and longer than a chunk, a piece and a strip, and mostly no multiples of them.
var lengths = []int{1, 3, 16, 17, 511, 512, 513, 1030, mostStrips*pieceLength + 5, 3*mostStrips*pieceLength - 1}

func TestVectorsAgainstGonum(t *testing.T) {
	for _, n := range lengths {
		for _, shape := range [][2]int{{1, 1}, {1, 4}, {2, 3}, {3, 2}, {5, 7}, {8, 9}} {
			t.Run(fmt.Sprint(n, shape), func(t *testing.T) {
				a, b := random(1, shape[0], n), random(2, shape[1], n)
				tolerance := 1e-13 * float64(n)
				var want mat.Dense
				want.Mul(a, b.T())
				require.True(t, mat.EqualApprox(&want, inner(views(a), views(b)), tolerance))
				want.Reset()
				want.Mul(a, a.T())
				require.True(t, mat.EqualApprox(&want, gram(views(a)), tolerance))
				for i, norm := range norms(views(a)) {
					require.InEpsilon(t, floats.Norm(a.RawRowView(i), 2), norm, 1e-14)
				}

				c := random(3, shape[0], shape[1])
				want.Reset()
				want.Mul(c, b)
				sum := mat.DenseCopyOf(a)
				combine(views(sum), c, views(b))
				require.True(t, mat.EqualApprox(&want, sum, 1e-13))
				want.Add(&want, a)
				sum.Copy(a)
				add(views(sum), c, views(b))
				require.True(t, mat.EqualApprox(&want, sum, 1e-13))

				rank := (shape[0] + 1) / 2
				l := mat.NewDense(shape[0], shape[0], nil)
				for i := range shape[0] {
					for j := range min(i+1, rank) {
						l.Set(i, j, c.At(i, 0)+2)
					}
				}
				solved := mat.DenseCopyOf(a)
				substitute(views(solved), l, rank)
				for i := rank; i < shape[0]; i++ {
					l.Set(i, i, 1) // what is left of the others is added to their part
				}
				want.Reset()
				want.Mul(l, solved)
				require.True(t, mat.EqualApprox(a, &want, 1e-11))
			})
		}
	}
}

// Neither the number of cores nor their pace may show in a result.
func TestVectorsDoNotDependOnTheCores(t *testing.T) {
	a, b := random(1, 5, 300_001), random(2, 7, 300_001)
	cores := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(cores)
	want := inner(views(a), views(b))
	for _, count := range []int{1, 2, 3, 8} {
		runtime.GOMAXPROCS(count)
		for range 5 {
			require.Equal(t, want, inner(views(a), views(b)))
		}
	}
}

func TestKernelsAgreeWithPlainOnes(t *testing.T) {
	for n := range 70 {
		v := views(random(1, 6, n+1))
		var got, want tile
		dots(&got, v[0], v[1], v[2], v[3])
		plainDots(&want, v[0], v[1], v[2], v[3])
		for i := range 2 {
			for j := range 2 {
				require.InDelta(t, want.at(i, j), got.at(i, j), 1e-13)
			}
		}
		factors, rows := [2][4]float64{{1, -2, 3, -4}, {5, 6, -7, 8}}, [4][]float64{v[2], v[3], v[4], v[5]}
		first, second := append([]float64{}, v[0]...), append([]float64{}, v[1]...)
		addScaled(v[0], v[1], &factors, &rows)
		plainAddScaled(first, second, &factors, &rows)
		require.InDeltaSlice(t, first, v[0], 1e-13)
		require.InDeltaSlice(t, second, v[1], 1e-13)
		addScaled(v[0], nil, &factors, &rows)
		plainAddScaled(first, nil, &factors, &rows)
		require.InDeltaSlice(t, first, v[0], 1e-13)
	}
}

func requireOrthonormal(t *testing.T, vectors [][]float64) {
	t.Helper()
	g := gram(vectors)
	require.True(t, mat.EqualApprox(identity(len(vectors)), g, 5e-15*math.Sqrt(float64(len(vectors)))), "%v", mat.Formatted(g))
}

// Rows that are short, equal, dependent on others or on the vectors there, or zero.
func TestExtendLosesNothing(t *testing.T) {
	for _, n := range []int{40, 1000, 5001} {
		memory := &arena{n: n}
		space := basis{arena: memory}
		deficient := func(seed uint64) *mat.Dense {
			w := random(seed, 9, n)
			floats.Scale(1e-7, w.RawRowView(1))
			w.SetRow(2, w.RawRowView(0))
			w.SetRow(3, make([]float64, n))
			floats.AddScaledTo(w.RawRowView(4), w.RawRowView(0), 1e-6, w.RawRowView(4)) // at a small angle to another
			floats.AddScaledTo(w.RawRowView(6), w.RawRowView(7), -3e3, w.RawRowView(8))
			return w
		}
		for round := range 3 {
			w := deficient(uint64(round))
			before := space.size()
			for i := range before { // what extend is promised not to get, and copes with
				floats.AddScaled(w.RawRowView(0), 1, space.vectors[i])
				floats.AddScaled(w.RawRowView(1), 1e-3, space.vectors[i])
			}
			w.SetRow(2, w.RawRowView(0))
			rows := memory.take(9)
			for i, row := range rows {
				copy(row, w.RawRowView(i))
			}
			along, fresh, left := space.extend(rows, dependent)
			require.Equal(t, before+6, space.size(), "nine rows, of which one is zero, one equal and one dependent")
			requireOrthonormal(t, space.vectors)
			if before > 0 {
				whole := mat.NewDense(9, space.size(), nil)
				addTo(whole, 0, along)
				addTo(whole, before, fresh)
				fresh = whole
			}
			combined := mat.NewDense(9, n, nil)
			combine(views(combined), fresh, space.vectors)
			for i := range 9 {
				size := max(1, floats.Norm(w.RawRowView(i), 2))
				require.LessOrEqual(t, floats.Distance(w.RawRowView(i), combined.RawRowView(i), 2), left[i]+1e-14*size, "row %d", i)
				require.LessOrEqual(t, left[i], 1e-14*size)
			}
		}
		require.Len(t, memory.all, space.size()+len(memory.free), "every vector is in the basis or free")
	}
}

// What a product with little precision leaves of a direction within the space is noise, and noise in a full space is nothing.
func TestExtendLeavesNoiseOut(t *testing.T) {
	memory := &arena{n: 6}
	space := basis{arena: memory}
	take := func(m *mat.Dense) [][]float64 {
		rows := memory.take(m.RawMatrix().Rows)
		for i, row := range rows {
			copy(row, m.RawRowView(i))
		}
		return rows
	}
	space.extend(take(random(1, 6, 6)), dependent)
	require.Equal(t, 6, space.size())
	along, fresh, left := space.extend(take(random(2, 2, 6)), dependent)
	require.Nil(t, fresh)
	require.Equal(t, 6, space.size())
	require.LessOrEqual(t, floats.Max(left), 1e-14)
	require.InEpsilon(t, floats.Norm(random(2, 2, 6).RawRowView(0), 2), floats.Norm(along.RawRowView(0), 2), 1e-14)
	require.Len(t, memory.free, 2)
}

// noisy is diagonal with entries from 1 to 1e-6, and products in single precision.
type noisy int

func (d noisy) Dim() int { return int(d) }

func (d noisy) Apply(dst, v *mat.Dense) error {
	for j, value := range v.RawRowView(0) {
		dst.Set(0, j, float64(float32(value)*float32(math.Pow(10, -6*float64(j)/float64(d)))))
	}
	return nil
}

// Single precision leaves more along the blocks before than the recurrence knows of, and the basis stays orthonormal.
func TestTheLanczosBasisIsOrthonormal(t *testing.T) {
	const n, k = 2000, 4
	memory := &arena{n: n}
	g := memory.take(k)
	for i, row := range g {
		copy(row, random(5, k, n).RawRowView(i))
	}
	normalise(g)
	l, _, _ := newBlockLanczos(noisy(n), g, memory)
	l.scale = 1
	for range 40 {
		_, below, err := l.step(context.Background())
		require.NoError(t, err)
		require.NotNil(t, below)
	}
	require.Equal(t, 41*k, l.size())
	requireOrthonormal(t, l.vectors)
	require.Greater(t, l.defect, 1e-9, "the rounding of the products shows")
	require.Less(t, l.defect, 1e-6)
	require.Len(t, memory.all, l.size())
}
