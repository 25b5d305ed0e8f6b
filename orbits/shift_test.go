package orbits_test

import (
	"fmt"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// normal is a state of standard normal values.
func normal[T float32 | float64](seed uint64, height, width, channels int) [][][][]T {
	random := rand.New(rand.NewPCG(seed, 0))
	state := numbered[T](1, height, width, channels)
	each(state, func(v *T) { *v = T(random.NormFloat64()) })
	return state
}

func each[T float32 | float64](state [][][][]T, do func(v *T)) {
	for n := range state {
		for j := range state[n] {
			for i := range state[n][j] {
				for c := range state[n][j][i] {
					do(&state[n][j][i][c])
				}
			}
		}
	}
}

// requireNear compares states value by value.
func requireNear[T float32 | float64](t require.TestingT, want, got [][][][]T, tolerance float64, name string) {
	var flat []T
	each(want, func(v *T) { flat = append(flat, *v) })
	each(got, func(v *T) {
		if difference := math.Abs(float64(*v - flat[0])); !(difference <= tolerance) {
			require.FailNow(t, fmt.Sprintf("%s: %g instead of %g, off by %.1g", name, *v, flat[0], difference))
		}
		flat = flat[1:]
	})
}

// translation is a shift by at least 0.01 pixels, or none, along each axis.
func translation(t require.TestingT, dy, dx float64) orbits.Element {
	element := orbits.Element{}
	for axis, d := range []float64{dx, dy} {
		if d == 0 {
			continue
		}
		size := int(math.Abs(d)) + 1 // there is one shift along each axis
		elements, err := orbits.Translations(math.Abs(d)).Elements(size, size)
		require.NoError(t, err)
		along := elements[1+axis*(len(elements)-1)/2]
		if d < 0 {
			along = along.Inverse()
		}
		element = along.Compose(element)
	}
	return element
}

// fourier moves periodic values by some distance: coefficient k turns by exp(-2 pi i k d / n), the highest of an even n,
// which stands for both signs of k, by the mean of both.
func fourier(values []float64, d float64) []float64 {
	n := len(values)
	moved := make([]float64, n)
	for k := -n / 2; k <= n/2; k++ {
		coefficient, weight := complex(0, 0), 1.0
		if n%2 == 0 && (k == n/2 || k == -n/2) {
			weight = 0.5
		}
		for j, v := range values {
			coefficient += complex(v*weight/float64(n), 0) * cmplx.Exp(complex(0, -2*math.Pi*float64(k*j)/float64(n)))
		}
		for j := range moved {
			moved[j] += real(coefficient * cmplx.Exp(complex(0, 2*math.Pi*float64(k)*(float64(j)-d)/float64(n))))
		}
	}
	return moved
}

func testFractionalShifts[T float32 | float64](t *testing.T, tolerance float64) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, size := range [][2]int{{5, 6}, {6, 5}} {
			for i, shift := range [][2]float64{{0.5, 0}, {0, -2.3}, {1.25, 8.7}} {
				for rowDown := range map[bool]bool{false: true, i == 2: true} {
					state := normal[T](1, size[0], size[1], 2)
					want := normal[T](1, size[0], size[1], 2)
					up := shift[0]
					if rowDown {
						up = -up
					}
					for c := range 2 {
						for j := range size[0] {
							row := make([]float64, size[1])
							for i := range row {
								row[i] = float64(want[0][j][i][c])
							}
							for i, v := range fourier(row, shift[1]) {
								want[0][j][i][c] = T(v)
							}
						}
						for i := range size[1] {
							column := make([]float64, size[0])
							for j := range column {
								column[j] = float64(want[0][j][i][c])
							}
							for j, v := range fourier(column, up) {
								want[0][j][i][c] = T(v)
							}
						}
					}
					field := orbits.Field{Channels: []string{"a", "b"}, RowDown: rowDown}
					element := translation(t, shift[0], shift[1])
					requireNear(t, want, apply(t, b, field, state, element), tolerance, fmt.Sprint(element, " on ", size))
				}
			}
		}
	})
}

func TestFractionalShiftsMatchFourierSeries(t *testing.T) {
	t.Run("float64", func(t *testing.T) { testFractionalShifts[float64](t, 4e-14) })
	t.Run("float32", func(t *testing.T) { testFractionalShifts[float32](t, 1e-6) })
}

var single = orbits.Field{Channels: []string{"u"}}

// A wave that the grid resolves is moved as its formula says.
func TestFractionalShiftOfAWave(t *testing.T) {
	const height, width = 6, 8
	wave := func(dy, dx float64) [][][][]float64 {
		state := numbered[float64](1, height, width, 1)
		for j := range height {
			for i := range width {
				y, x := (float64(j)-dy)/height, (float64(i)-dx)/width
				state[0][j][i][0] = 1 + math.Sin(2*math.Pi*(3*x+0.2)) + math.Cos(2*math.Pi*(2*y-x))
			}
		}
		return state
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		requireNear(t, wave(0.75, -1.4), apply(t, b, single, wave(0, 0), translation(t, 0.75, -1.4)), 4e-14, "wave")
	})
}

// Odd sizes have no highest mode, and shifts of anything compose; on even ones that mode shrinks by cos(pi d).
func TestFractionalShiftsCompose(t *testing.T) {
	b := backendtest.Go(t)
	rapid.Check(t, func(t *rapid.T) {
		state := normal[float64](rapid.Uint64().Draw(t, "seed"), 5, 7, 1)
		eighths := rapid.IntRange(-72, 72)
		shift := func() orbits.Element {
			return translation(t, float64(eighths.Draw(t, "dy"))/8, float64(eighths.Draw(t, "dx"))/8)
		}
		g, h := shift(), shift()
		requireNear(t, apply(t, b, single, state, g.Compose(h)), apply(t, b, single, state, g, h), 1e-13, "composition")
		requireNear(t, state, apply(t, b, single, state, g.Inverse(), g), 1e-13, "inverse")
	})
	half := translation(t, 0, 0.5)
	require.Equal(t, translation(t, 0, 1), half.Compose(half))
	odd := normal[float64](1, 2, 7, 1)
	requireNear(t, apply(t, b, single, odd, translation(t, 0, 1)), apply(t, b, single, odd, half, half), 4e-14, "two halves")

	alternating := [][][][]float64{{{{1}, {-1}, {1}, {-1}}}}
	third := [][][][]float64{{{{0.5}, {-0.5}, {0.5}, {-0.5}}}}
	requireNear(t, third, apply(t, b, single, alternating, translation(t, 0, 1.0/3)), 1e-8, "highest mode")
	require.Equal(t, [][][][]float64{{{{-1}, {1}, {-1}, {1}}}}, apply(t, b, single, alternating, translation(t, 0, 1)))
}

// The reverse-mode gradient of <u, g x> is the shift the other way.
func TestGradientOfAFractionalShift(t *testing.T) {
	state, u := normal[float64](1, 5, 6, 1), normal[float64](2, 5, 6, 1)
	g := translation(t, 0.3, -1.7)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		out, err := graph.CallOnce(b, func(x, u *graph.Node) *graph.Node {
			return graph.Gradient(graph.ReduceAllSum(graph.Mul(u, g.Apply(single, x))), x)[0]
		}, state, u)
		require.NoError(t, err)
		requireNear(t, apply(t, b, single, u, g.Inverse()), out.Value().([][][][]float64), 1e-14, "gradient")
	})
}

func TestNamesOfFractionalShifts(t *testing.T) {
	elements, err := orbits.Translations(2.5).Elements(5, 8)
	require.NoError(t, err)
	require.Equal(t, "[e t(0,2.5) t(0,5) t(0,7.5) t(2.5,0)]", fmt.Sprint(elements))
	require.Equal(t, orbits.Vector{X: 7.5}, elements[3].Shift())
	elements, err = orbits.Translations(0.57).Elements(60, 60)
	require.NoError(t, err)
	require.Len(t, elements, 1+105+105)
	require.Equal(t, translation(t, 0, 57), elements[100], "0.57 * 100 is whole")
}
