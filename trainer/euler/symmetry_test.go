package euler

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// squareSymmetries are the eight symmetries g of the square as (gU)(p) = M U(g^-1 p): r a quarter turn counter-clockwise,
// s the reflection of x, "sr" r first. source gives the cell that arrives at (j, i).
var squareSymmetries = []struct {
	name     string
	momentum func(x, y float64) (float64, float64)
	source   func(n, j, i int) (int, int)
}{
	{"e", func(x, y float64) (float64, float64) { return x, y }, func(n, j, i int) (int, int) { return j, i }},
	{"r", func(x, y float64) (float64, float64) { return -y, x }, func(n, j, i int) (int, int) { return n - 1 - i, j }},
	{"r2", func(x, y float64) (float64, float64) { return -x, -y }, func(n, j, i int) (int, int) { return n - 1 - j, n - 1 - i }},
	{"r3", func(x, y float64) (float64, float64) { return y, -x }, func(n, j, i int) (int, int) { return i, n - 1 - j }},
	{"s", func(x, y float64) (float64, float64) { return -x, y }, func(n, j, i int) (int, int) { return j, n - 1 - i }},
	{"sr", func(x, y float64) (float64, float64) { return y, x }, func(n, j, i int) (int, int) { return i, j }},
	{"sr2", func(x, y float64) (float64, float64) { return x, -y }, func(n, j, i int) (int, int) { return n - 1 - j, i }},
	{"sr3", func(x, y float64) (float64, float64) { return -y, -x }, func(n, j, i int) (int, int) { return n - 1 - i, n - 1 - j }},
}

// transformed applies symmetry number s to a square grid; with turnMomentum false it moves cells only, which is not a
// symmetry of the equations.
func (g grid) transformed(s int, turnMomentum bool) grid {
	symmetry := squareSymmetries[s]
	return g.mapped(g.height, g.width, func(j, i int) []float64 {
		u := g.at(symmetry.source(g.height, j, i))
		if !turnMomentum {
			return u
		}
		x, y := symmetry.momentum(u[alongX], u[alongY])
		return []float64{u[density], x, y, u[energy]}
	})
}

// rolled moves the grid up by dy and right by dx cells.
func (g grid) rolled(dy, dx int) grid {
	return g.mapped(g.height, g.width, func(j, i int) []float64 {
		return g.at((j-dy+g.height)%g.height, (i-dx+g.width)%g.width)
	})
}

// requireSame compares number by number, to the last bit; 0 equals -0.
func requireSame(t require.TestingT, want, got grid, name string) {
	for i, value := range want.values {
		if value != got.values[i] {
			require.FailNow(t, fmt.Sprintf("%s: value %d is %v, want %v (difference %g)", name, i, got.values[i], value, got.values[i]-value))
		}
	}
}

func TestSymmetriesAreExact(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, family := range Families() {
			start := drawn(t, family, 16)
			var states []grid
			for s := range squareSymmetries {
				states = append(states, start.transformed(s, true))
			}
			shifts := [][2]int{{1, 0}, {0, 1}, {7, 12}}
			for _, shift := range shifts {
				states = append(states, start.rolled(shift[0], shift[1]))
			}
			ends := advance(t, b, Default(), states...)
			for s, symmetry := range squareSymmetries {
				requireSame(t, ends[0].transformed(s, true), ends[s], symmetry.name)
			}
			for s, shift := range shifts {
				requireSame(t, ends[0].rolled(shift[0], shift[1]), ends[len(squareSymmetries)+s], fmt.Sprint("shift ", shift))
			}
		}
	})
}

// XLA compiles larger grids otherwise: up to 100 cells a direction the two directions happen to round alike anyway.
func TestSwapOfXAndYIsExactOnLargeGrids(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, n := range []int{128, 200} {
			start, c := drawn(t, Riemann, n), Default()
			c.Interval = 0.02
			ends := advance(t, b, c, start, start.transformed(5, true))
			requireSame(t, ends[0].transformed(5, true), ends[1], fmt.Sprint(n))
		}
	})
}

func TestSymmetriesOfRectangles(t *testing.T) {
	b := backendtest.Go(t)
	start := newGrid(6, 10, func(x, y float64) [4]float64 {
		return [4]float64{1 + x*y, math.Sin(7 * x), math.Cos(5*y) * x, 0.5 + y*y}
	})
	mirror := func(g grid) grid {
		return g.mapped(g.height, g.width, func(j, i int) []float64 {
			u := g.at(j, g.width-1-i)
			return []float64{u[density], -u[alongX], u[alongY], u[energy]}
		})
	}
	upright := func(g grid) grid {
		return g.mapped(g.width, g.height, func(j, i int) []float64 {
			u := g.at(i, j)
			return []float64{u[density], u[alongY], u[alongX], u[energy]}
		})
	}
	end := advance(t, b, Default(), start)[0]
	requireSame(t, mirror(end), advance(t, b, Default(), mirror(start))[0], "mirror")
	requireSame(t, end.rolled(2, 3), advance(t, b, Default(), start.rolled(2, 3))[0], "shift")
	requireSame(t, upright(end), advance(t, b, Default(), upright(start))[0], "swap of x and y")
}

func TestHomogeneousOfDegreeOne(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		start := drawn(t, CurvedRiemann, 16)
		scale := func(g grid, factor float64) grid {
			out := g.mapped(g.height, g.width, g.at)
			for i := range out.values {
				out.values[i] *= factor
			}
			return out
		}
		ends := advance(t, b, Default(), start, scale(start, 8), scale(start, 0.25), scale(start, 3))
		requireSame(t, scale(ends[0], 8), ends[1], "8")
		requireSame(t, scale(ends[0], 0.25), ends[2], "1/4")
		require.InDeltaSlice(t, scale(ends[0], 3).values, ends[3].values, 1e-12, "3 is not a power of two")
	})
}

// Configuration 3 of Lax and Liu (SIAM J. Sci. Comput. 19, 1998) is symmetric under exchange of x and y.
func TestLaxLiuConfiguration3(t *testing.T) {
	c := Default()
	c.Interval = 0.1
	start := newGrid(32, 32, func(x, y float64) [4]float64 {
		switch {
		case x > 0.5 && y > 0.5:
			return [4]float64{1.5, 0, 0, 1.5}
		case y > 0.5:
			return [4]float64{0.5323, 1.206, 0, 0.3}
		case x > 0.5:
			return [4]float64{0.5323, 0, 1.206, 0.3}
		}
		return [4]float64{0.138, 1.206, 1.206, 0.029}
	})
	end := advance(t, backendtest.Go(t), c, start)[0]
	requireFinite(t, end)
	requireSame(t, end.transformed(5, true), end, "swap of x and y")
}

// commutatorError is the SMSE of f(gx) against g f(x): mean over channels and cells of the squared difference over the
// channel's mean square.
func commutatorError(got, want grid) float64 {
	sum := 0.0
	for channel := range Channels {
		var difference, square float64
		for i := channel; i < len(want.values); i += Channels {
			difference += (got.values[i] - want.values[i]) * (got.values[i] - want.values[i])
			square += want.values[i] * want.values[i]
		}
		sum += difference / square / Channels
	}
	return sum
}

// An audit of the solver in place of a model: it must find the symmetry, and must not find one where momenta stay behind.
func TestAuditOfTheSolver(t *testing.T) {
	start := drawn(t, Riemann, 16)
	var states []grid
	for _, turn := range []bool{true, false} {
		for s := range squareSymmetries {
			states = append(states, start.transformed(s, turn))
		}
	}
	ends := advance(t, backendtest.Go(t), Default(), states...)
	for s, symmetry := range squareSymmetries {
		right := commutatorError(ends[s], ends[0].transformed(s, true))
		wrong := commutatorError(ends[len(squareSymmetries)+s], ends[0].transformed(s, false))
		require.Less(t, right, 1e-28, symmetry.name)
		if symmetry.name != "e" {
			require.Greater(t, wrong, 1e-3, symmetry.name)
		}
	}
}

func TestSymmetriesOfRandomStates(t *testing.T) {
	b := backendtest.Go(t)
	rapid.Check(t, func(rt *rapid.T) {
		const n = 6
		positive := rapid.Float64Range(0.2, 3)
		velocity := rapid.Float64Range(-1, 1)
		start := newGrid(n, n, func(_, _ float64) [4]float64 {
			return [4]float64{positive.Draw(rt, "density"), velocity.Draw(rt, "vx"), velocity.Draw(rt, "vy"), positive.Draw(rt, "pressure")}
		})
		s := rapid.IntRange(1, 7).Draw(rt, "symmetry")
		dy, dx := rapid.IntRange(0, n-1).Draw(rt, "dy"), rapid.IntRange(0, n-1).Draw(rt, "dx")
		ends := advance(t, b, Default(), start, start.transformed(s, true).rolled(dy, dx))
		requireFinite(rt, ends[0])
		requireSame(rt, ends[0].transformed(s, true).rolled(dy, dx), ends[1], squareSymmetries[s].name)
	})
}
