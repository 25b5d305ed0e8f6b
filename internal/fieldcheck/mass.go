package fieldcheck

import (
	"fmt"
	"math"
	"math/cmplx"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/orbits"
)

// A flow conserves its mass: d rho / dt + div m = 0, whatever else it obeys. So the density tells how the momentum lies in the arrays, also where waves cross
// many cells in a step and no law of a cell and its neighbours holds: of the lowest few Fourier modes of the density the change in a step is that of the
// momentum's divergence, in the mean of both ends, to a tenth or so. Each way to lay the components along the axes, either way round, is tried; the time
// between the states, over the size of a cell, is fitted to each, and must not be negative.

// laid is a way that the components of the momentum lie in arrays: component i along the axis order[i] (0: x), with or against the way its index grows.
type laid struct {
	order []int
	sign  []float64
}

const (
	lowest   = 2    // modes along an axis and direction
	explains = 0.5  // of the change at most left over, by squares, where the way is the right one
	byMass   = 4.0  // times more is left over by a wrong way
	still    = 1e-9 // a change of the density, relative to it, that is rounding
)

// judgeMass judges a field with conserved variables, on grids with as many cells along each axis. told is false where mass cannot tell, for the law of a cell
// to try.
func judgeMass(field orbits.Field, turns []Turn, before, after []float64, shape []int) (v Verdict, told bool) {
	grid := shape[1 : len(shape)-1]
	if field.Conserved == nil || slices.Max(grid) != slices.Min(grid) || len(field.Vectors) != 1 || len(field.Pseudovectors) > 0 || len(field.Conserved.Momentum) != len(grid) {
		return v, false
	}
	ways := ways(len(grid))
	left := leftOver(field, ways, before, after, shape)
	if left == nil {
		return v, false
	}
	declared := slices.IndexFunc(ways, func(w laid) bool { return w.of(field) })
	best, other := declared, -1 // the best of all, and of those that are not declared
	for w := range ways {
		if left[w] < left[best] {
			best = w
		}
		if w != declared && (other < 0 || left[w] < left[other]) {
			other = w
		}
	}
	switch {
	case left[best] > explains:
		return v, false
	case best == declared:
		return v, left[other] > byMass*left[declared]
	case left[declared] < byMass*left[best]:
		return v, false
	}
	right, remedy := ways[best].declare(field)
	if remedy == "" && action(right, turns) == action(field, turns) {
		return v, true // of no consequence to the group
	}
	if remedy == "" {
		v.Fields, remedy = []orbits.Field{right}, "Declare "+Describe(right)
	}
	v.Answer = Wrong
	v.Words = fmt.Sprintf("the divergence of the momentum explains %.0f %% of the change of the density's longest waves with %s, and %.0f %% with %s, as declared: mass is conserved. %s; or let the preflight warn, if the declared field is what you mean",
		100*(1-left[best]), ways[best].words(field), 100*max(0, 1-left[declared]), ways[declared].words(field), remedy)
	return v, true
}

// leftOver is, for each way, the share of the change of the density's lowest modes that the divergence does not explain, by squares; nil where they do not
// change.
func leftOver(field orbits.Field, ways []laid, before, after []float64, shape []int) []float64 {
	n, grid, channels := shape[0], shape[1:len(shape)-1], shape[len(shape)-1]
	size := len(before) / n
	c := field.Conserved
	along, squares := make([]float64, len(ways)), make([]float64, len(ways)) // of the change and of the divergence
	var change, whole float64
	for _, k := range lowModes(len(grid)) {
		wave := wave(k, grid)
		for i := range n {
			first, last := before[i*size:(i+1)*size], after[i*size:(i+1)*size]
			density := mode(wave, first, c.Density, channels)
			step := mode(wave, last, c.Density, channels) - density
			for w, way := range ways {
				var divergence complex128
				for component, axis := range way.order {
					momentum := mode(wave, first, c.Momentum[component], channels) + mode(wave, last, c.Momentum[component], channels)
					divergence += complex(0, float64(k[axis])*way.sign[component]) * momentum
				}
				along[w] -= real(step * cmplx.Conj(divergence))
				squares[w] += square(divergence)
			}
			change += square(step)
			whole += square(density)
		}
	}
	if change <= still*still*whole {
		return nil
	}
	left := make([]float64, len(ways))
	for w := range left {
		left[w] = 1
		if along[w] > 0 {
			left[w] -= along[w] * along[w] / squares[w] / change
		}
	}
	return left
}

// of tells the way that a field says.
func (w laid) of(field orbits.Field) bool {
	for component, axis := range w.order {
		up := axis != 1 || !field.RowDown
		if axis != component || (w.sign[component] > 0) != up {
			return false
		}
	}
	return true
}

// declare is the field that says the way. The remedy is another where none does.
func (w laid) declare(field orbits.Field) (right orbits.Field, remedy string) {
	right = field
	momentum := make([]int, len(w.order))
	for component, axis := range w.order {
		momentum[axis] = field.Conserved.Momentum[component]
		switch {
		case axis == 1:
			right.RowDown = w.sign[component] < 0
		case w.sign[component] < 0:
			remedy = fmt.Sprintf("Turn the arrays round along %s, or the sign of that component", axisNames[axis:axis+1])
		}
	}
	right.Vectors = [][]int{momentum}
	conserved := *field.Conserved
	conserved.Momentum = momentum
	right.Conserved = &conserved
	return right, remedy
}

const axisNames = "xyz"

// words says how the momentum lies: "momentum_x along x, momentum_y along y, rows downwards".
func (w laid) words(field orbits.Field) string {
	var parts []string
	rows := ""
	for component, axis := range w.order {
		part := field.Channels[field.Conserved.Momentum[component]] + " along " + axisNames[axis:axis+1]
		switch {
		case axis == 1:
			rows = map[bool]string{true: "rows upwards", false: "rows downwards"}[w.sign[component] > 0]
		case w.sign[component] < 0:
			part += " against the way its index grows"
		}
		parts = append(parts, part)
	}
	if rows != "" {
		parts = append(parts, rows)
	}
	return strings.Join(parts, ", ")
}

// ways are all, for arrays of some axes.
func ways(axes int) (all []laid) {
	for _, order := range permutations(axes) {
		for signs := range 1 << axes {
			w := laid{order: order}
			for component := range axes {
				w.sign = append(w.sign, float64(1-2*(signs>>component&1)))
			}
			all = append(all, w)
		}
	}
	return all
}

func permutations(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, shorter := range permutations(n - 1) {
		for at := range n {
			all = append(all, slices.Insert(slices.Clone(shorter), at, n-1))
		}
	}
	return all
}

// lowModes are wave vectors, along x, y and z, without one of k and -k, which say the same of real fields.
func lowModes(axes int) (all [][]int) {
	all = [][]int{nil}
	for range axes {
		var longer [][]int
		for _, k := range all {
			for along := -lowest; along <= lowest; along++ {
				longer = append(longer, append(slices.Clone(k), along))
			}
		}
		all = longer
	}
	return all[:len(all)/2] // the mode of nothing is in the middle
}

// wave is exp(-2 pi i k x) in each cell, where x grows with the index along each axis.
func wave(k, grid []int) []complex128 {
	cells := 1
	for _, n := range grid {
		cells *= n
	}
	wave := make([]complex128, cells)
	for cell := range wave {
		phase, rest := 0.0, cell
		for axis := range k { // x has the fastest index
			n := grid[len(grid)-1-axis]
			phase += float64(k[axis]) * float64(rest%n) / float64(n)
			rest /= n
		}
		wave[cell] = cmplx.Exp(complex(0, -2*math.Pi*phase))
	}
	return wave
}

func mode(wave []complex128, state []float64, channel, channels int) (sum complex128) {
	for cell, w := range wave {
		sum += w * complex(state[cell*channels+channel], 0)
	}
	return sum
}

func square(z complex128) float64 { return real(z)*real(z) + imag(z)*imag(z) }
