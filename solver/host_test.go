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

// in makes vectors of the rows of a matrix.
func in[V any](space long[V], rows *mat.Dense) []V {
	vectors := space.take(rows.RawMatrix().Rows)
	for i, v := range vectors {
		space.put(v, rows.RawRowView(i))
	}
	return vectors
}

// out is the matrix of some vectors on the host.
func out[T float32 | float64](vectors [][]T) *mat.Dense {
	m := mat.NewDense(len(vectors), len(vectors[0]), nil)
	m.Apply(func(i, j int, _ float64) float64 { return float64(vectors[i][j]) }, m)
	return m
}

func TestHostAgainstGonum(t *testing.T) {
	t.Run("float64", testHostAgainstGonum[float64])
	t.Run("float32", testHostAgainstGonum[float32])
}

func testHostAgainstGonum[T float32 | float64](t *testing.T) {
	for _, n := range lengths {
		for _, shape := range [][2]int{{1, 1}, {1, 4}, {2, 3}, {3, 2}, {5, 7}, {8, 9}} {
			t.Run(fmt.Sprint(n, shape), func(t *testing.T) {
				space := newHost[T](n)
				first, second := in(space, random(1, shape[0], n)), in(space, random(2, shape[1], n))
				a, b := out(first), out(second)
				var want mat.Dense
				want.Mul(a, b.T())
				require.True(t, mat.EqualApprox(&want, space.inner(first, second), 1e-13*float64(n)))
				want.Reset()
				want.Mul(a, a.T())
				require.True(t, mat.EqualApprox(&want, space.gram(first), 1e-13*float64(n)))

				stored := 1e-13 + 10*space.Roundoff()
				c := random(3, shape[0], shape[1])
				want.Reset()
				want.Mul(c, b)
				require.True(t, mat.EqualApprox(&want, out(space.combine(c, second)), stored))
				want.Add(&want, a)
				space.add(first, c, second)
				require.True(t, mat.EqualApprox(&want, out(first), stored))

				a = out(first)
				triangle := mat.NewTriDense(shape[0], mat.Lower, nil)
				triangle.Copy(random(4, shape[0], shape[0]))
				for _, c := range []*mat.TriDense{triangle, scaled(2, shape[0])} {
					want.Reset()
					want.Mul(c, a)
					space.transform(first, c)
					require.True(t, mat.EqualApprox(&want, out(first), 10*stored))
					a = out(first)
				}
				space.Free(first)
				for _, v := range space.take(shape[0] + 1) {
					require.Equal(t, make([]T, n), v, "lent again, and zero")
				}
			})
		}
	}
}

// Neither the number of cores nor their pace may show in a result.
func TestHostDoesNotDependOnTheCores(t *testing.T) {
	const n = 300_001
	space := newHost[float32](n)
	a, b := in(space, random(1, 5, n)), in(space, random(2, 7, n))
	cores := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(cores)
	want := space.inner(a, b)
	for _, count := range []int{1, 2, 3, 8} {
		runtime.GOMAXPROCS(count)
		for range 5 {
			require.Equal(t, want, space.inner(a, b))
		}
	}
}

func TestKernelsAgreeWithPlainOnes(t *testing.T) {
	for n := range 70 {
		v := views(random(1, 6, n+1))
		var got, want tile
		rows := [4][]float64{v[2], v[3], v[4], v[5]}
		dots(&got, v[0], v[1], &rows)
		plainDots(&want, v[0], v[1], &rows)
		for i := range 2 {
			for j := range 4 {
				require.InDelta(t, want.at(i, j), got.at(i, j), 1e-13)
			}
		}
		factors := [2][4]float64{{1, -2, 3, -4}, {5, 6, -7, 8}}
		first, second := append([]float64{}, v[0]...), append([]float64{}, v[1]...)
		addScaled(v[0], v[1], &factors, &rows)
		plainAddScaled(first, second, &factors, &rows)
		require.InDeltaSlice(t, first, v[0], 1e-13)
		require.InDeltaSlice(t, second, v[1], 1e-13)
		addScaled(v[0], nil, &factors, &rows)
		plainAddScaled(first, nil, &factors, &rows)
		require.InDeltaSlice(t, first, v[0], 1e-13)
		single, plain := make([]float32, n+1), make([]float32, n+1)
		narrow(single, first)
		plainNarrow(plain, first)
		require.Equal(t, plain, single)
		widen(first, single)
		plainWiden(second, plain)
		require.Equal(t, second, first)
	}
}

func requireOrthonormal[V any](t *testing.T, space long[V], vectors []V) {
	t.Helper()
	g := space.gram(vectors)
	allowed := (5e-15 + 2*(space.Roundoff()-unitRoundoff)) * math.Sqrt(float64(len(vectors)))
	require.True(t, mat.EqualApprox(identity(len(vectors)), g, allowed), "%v", mat.Formatted(g))
}

// Rows that are short, equal, dependent on others or on the vectors there, or zero.
func TestExtendLosesNothing(t *testing.T) {
	t.Run("float64", func(t *testing.T) { testExtendLosesNothing[float64](t, 3e3, dependent) })
	t.Run("float32", func(t *testing.T) { testExtendLosesNothing[float32](t, 3, 8*0x1p-24) })
}

func testExtendLosesNothing[T float32 | float64](t *testing.T, multiple, tolerance float64) {
	for _, n := range []int{40, 1000, 5001} {
		space := basis[[]T]{space: newHost[T](n)}
		deficient := func(seed uint64) *mat.Dense {
			w := random(seed, 9, n)
			floats.Scale(1e-4, w.RawRowView(1))
			w.SetRow(2, w.RawRowView(0))
			w.SetRow(3, make([]float64, n))
			floats.AddScaledTo(w.RawRowView(4), w.RawRowView(0), 1e-4, w.RawRowView(4)) // at a small angle to another
			floats.AddScaledTo(w.RawRowView(6), w.RawRowView(7), multiple, w.RawRowView(8))
			return w
		}
		for round := range 3 {
			w := deficient(uint64(round))
			before := space.size()
			for i := range before { // what extend is promised not to get, and copes with
				floats.Add(w.RawRowView(0), out(space.vectors[i:i+1]).RawRowView(0))
				floats.AddScaled(w.RawRowView(1), 1e-3, out(space.vectors[i:i+1]).RawRowView(0))
			}
			w.SetRow(2, w.RawRowView(0))
			stored := in(space.space, w)
			w = out(stored)
			size := mat.Norm(w, 2)
			along, fresh, left := space.extend(stored, tolerance*size)
			require.Equal(t, before+6, space.size(), "nine rows, of which one is zero, one equal and one dependent")
			requireOrthonormal(t, space.space, space.vectors)
			if before > 0 {
				whole := mat.NewDense(9, space.size(), nil)
				addTo(whole, 0, along)
				addTo(whole, before, fresh)
				fresh = whole
			}
			combined := out(space.space.combine(fresh, space.vectors))
			for i := range 9 {
				require.LessOrEqual(t, floats.Distance(w.RawRowView(i), combined.RawRowView(i), 2), left[i]+tolerance*size, "row %d", i)
				require.LessOrEqual(t, left[i], tolerance*size)
			}
		}
		memory := space.space.Space.(*host[T])
		require.Len(t, memory.all, space.size()+len(memory.free)+3*9, "every vector is in the basis, free, or one of the combinations")
	}
}

// What a product with little precision leaves of a direction within the space is noise, and noise in a full space is nothing.
func TestExtendLeavesNoiseOut(t *testing.T) {
	space := basis[[]float64]{space: newHost[float64](6)}
	space.extend(in(space.space, random(1, 6, 6)), dependent)
	require.Equal(t, 6, space.size())
	along, fresh, left := space.extend(in(space.space, random(2, 2, 6)), dependent)
	require.Nil(t, fresh)
	require.Equal(t, 6, space.size())
	require.LessOrEqual(t, floats.Max(left), 1e-14)
	require.InEpsilon(t, floats.Norm(random(2, 2, 6).RawRowView(0), 2), floats.Norm(along.RawRowView(0), 2), 1e-14)
	require.Len(t, space.space.Space.(*host[float64]).free, 2)
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
	space := newHost[float64](n)
	g := random(5, k, n)
	for i, norm := range norms(views(g)) {
		floats.Scale(1/norm, g.RawRowView(i))
	}
	l, _, _ := newBlockLanczos(noisy(n), in(space, g), space)
	l.scale = 1
	for range 40 {
		_, below, err := l.step(context.Background())
		require.NoError(t, err)
		require.NotNil(t, below)
	}
	require.Equal(t, 41*k, l.size())
	requireOrthonormal(t, space, l.vectors)
	require.Greater(t, l.defect, 1e-9, "the rounding of the products shows")
	require.Less(t, l.defect, 1e-6)
	require.Len(t, space.Space.(*host[float64]).all, l.size())
}
