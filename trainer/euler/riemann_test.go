package euler

import (
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

const gamma = 1.4

// gas is a state of the one-dimensional Riemann problem.
type gas struct{ density, velocity, pressure float64 }

func (g gas) sound() float64 { return math.Sqrt(gamma * g.pressure / g.density) }

// star solves the Riemann problem exactly for the pressure and velocity between the outer waves: Toro (2009), chapter 4.
func star(left, right gas) (pressure, velocity float64) {
	jump := func(p float64, side gas) float64 { // (4.6), (4.7)
		if p > side.pressure {
			a, b := 2/((gamma+1)*side.density), (gamma-1)/(gamma+1)*side.pressure
			return (p - side.pressure) * math.Sqrt(a/(p+b))
		}
		return 2 * side.sound() / (gamma - 1) * (math.Pow(p/side.pressure, (gamma-1)/(2*gamma)) - 1)
	}
	low, high := 0.0, 1e6
	for range 200 { // the sum of jumps grows with p
		pressure = (low + high) / 2
		if jump(pressure, left)+jump(pressure, right)+right.velocity-left.velocity > 0 {
			high = pressure
		} else {
			low = pressure
		}
	}
	return pressure, (left.velocity+right.velocity)/2 + (jump(pressure, right)-jump(pressure, left))/2
}

// riemann samples the exact solution at speed x/t: Toro (2009), section 4.5.
func riemann(left, right gas, speed float64) gas {
	p, u := star(left, right)
	if speed > u { // the mirror image has the point on its left
		mirror := func(g gas) gas { return gas{g.density, -g.velocity, g.pressure} }
		return mirror(riemann(mirror(right), mirror(left), -speed))
	}
	ratio, c := p/left.pressure, left.sound()
	if ratio > 1 {
		shock := left.velocity - c*math.Sqrt((gamma+1)/(2*gamma)*ratio+(gamma-1)/(2*gamma))
		if speed < shock {
			return left
		}
		k := (gamma - 1) / (gamma + 1)
		return gas{left.density * (ratio + k) / (k*ratio + 1), u, p}
	}
	switch starSound := c * math.Pow(ratio, (gamma-1)/(2*gamma)); {
	case speed < left.velocity-c:
		return left
	case speed > u-starSound:
		return gas{left.density * math.Pow(ratio, 1/gamma), u, p}
	}
	fan := 2/(gamma+1) + (gamma-1)/((gamma+1)*c)*(left.velocity-speed)
	return gas{
		left.density * math.Pow(fan, 2/(gamma-1)),
		2 / (gamma + 1) * (c + (gamma-1)/2*left.velocity + speed),
		left.pressure * math.Pow(fan, 2*gamma/(gamma-1)),
	}
}

// tube is a Riemann problem of the literature, laid out with its diaphragm at 1/4 and its mirror image behind 1/2.
type tube struct {
	name        string
	left, right gas
	pressure    float64 // between the outer waves
	velocity    float64
	time        float64    // when to compare
	window      [2]float64 // where no wave from the mirrors at 0 and 1/2 has come
	bound       float64    // of the mean density error at 200 cells
}

var shockTubes = []tube{
	{"sod", gas{1, 0, 1}, gas{0.125, 0, 0.1}, 0.30313, 0.927453, 0.1, [2]float64{0, 0.5}, 0.01},
	{"toro 1", gas{1, 0.75, 1}, gas{0.125, 0, 0.1}, 0.466294, 1.36091, 0.08, [2]float64{0.16, 0.5}, 0.01},
	{"toro 2", gas{1, -2, 0.4}, gas{1, 2, 0.4}, 0.00189387, 0, 0.05, [2]float64{0.05, 0.45}, 0.01},
}

// strongTubes are problems 3 and 4 of Toro (2009), table 4.1.
var strongTubes = []tube{
	{"toro 3", gas{1, 0, 1000}, gas{1, 0, 0.01}, 460.894, 19.5975, 0.006, [2]float64{0, 0.5}, 0},
	{"toro 4", gas{5.99924, 19.5975, 460.894}, gas{5.99242, -6.19633, 46.0950}, 1691.65, 8.68977, 0.008, [2]float64{0.242, 0.42}, 0},
}

func TestExactStarStates(t *testing.T) {
	for _, tube := range slices.Concat(shockTubes, strongTubes) {
		p, u := star(tube.left, tube.right)
		require.InEpsilon(t, tube.pressure, p, 2e-5, tube.name)
		require.InDelta(t, tube.velocity, u, 2e-5*max(1, tube.velocity), tube.name)
	}
}

// tubeStart is a shock tube with its diaphragm at 1/4 and its mirror image behind 1/2, along x or y.
func tubeStart(left, right gas, cells int, vertical bool) grid {
	initial := func(x float64) (density, velocity, pressure float64) {
		side, sign := left, 1.0
		if x > 0.5 {
			x, sign = 1-x, -1
		}
		if x > 0.25 {
			side = right
		}
		return side.density, sign * side.velocity, side.pressure
	}
	if vertical {
		return newGrid(cells, 1, func(_, y float64) [4]float64 {
			d, v, p := initial(y)
			return [4]float64{d, 0, v, p}
		})
	}
	return newGrid(1, cells, func(x, _ float64) [4]float64 {
		d, v, p := initial(x)
		return [4]float64{d, v, 0, p}
	})
}

// tubeError runs a shock tube of the given cells with its diaphragm at 1/4 and its mirror image behind 1/2, along x or y,
// and returns the mean density error in the tube's window.
func tubeError(t *testing.T, b compute.Backend, left, right gas, time float64, window [2]float64, cells int, vertical bool) float64 {
	state := tubeStart(left, right, cells, vertical)
	c := Default()
	c.Interval = time
	end := advance(t, b, c, state)[0]
	requireFinite(t, end)
	sum, n := 0.0, 0
	for i := range cells {
		x := (float64(i) + 0.5) / float64(cells)
		if x < window[0] || x > window[1] {
			continue
		}
		exact := riemann(left, right, (x-0.25)/time)
		sum += math.Abs(end.values[i*Channels] - exact.density)
		n++
	}
	return sum / float64(n)
}

func TestShockTubes(t *testing.T) {
	b := backendtest.Go(t)
	for _, tube := range shockTubes {
		t.Run(tube.name, func(t *testing.T) {
			var errors []float64
			for _, cells := range []int{100, 200, 400} {
				errors = append(errors, tubeError(t, b, tube.left, tube.right, tube.time, tube.window, cells, false))
			}
			t.Logf("mean density error at 100, 200, 400 cells: %.3g", errors)
			require.Less(t, errors[1], tube.bound)
			require.Greater(t, math.Log2(errors[0]/errors[2])/2, 0.7, "order of convergence")
			upright := tubeError(t, b, tube.left, tube.right, tube.time, tube.window, 100, true)
			require.Equal(t, errors[0], upright, "along y as along x")
		})
	}
}

func TestShockTubeOnEachBackend(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		tube := shockTubes[0]
		require.Less(t, tubeError(t, b, tube.left, tube.right, tube.time, tube.window, 128, false), 0.02)
	})
}
