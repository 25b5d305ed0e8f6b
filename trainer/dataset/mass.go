package dataset

import (
	"fmt"
	"math"
	"math/cmplx"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/orbits"
)

// A flow conserves its mass: d rho / dt + div m = 0 whatever else it obeys. So the momentum tells how it lies in the array, which no law that is
// fitted to a cell and its neighbours can where waves cross many cells in a step: of the few lowest Fourier modes of the density the change in a step is
// the divergence of the momentum's, in the mean of both ends, to a tenth or so. Each way to lay the components along the axes, either way round, is
// tried.

// laid is a way that components of the momentum lie in an array: component i along the axis order[i] (0: x), with or against the way its index grows.
type laid struct {
	order []int
	sign  []float64
}

const (
	lowest   = 2    // modes along an axis and direction
	explains = 0.5  // of the change at most left over, by squares, where the way is the right one
	clearly  = 4.0  // times more is left over by a wrong way
	still    = 1e-9 // a change of the density, relative to it, that is rounding
)

// judgeMass is what conservation of mass says of the declared field, from steps between states [n, ..., channel]: an error where another way to lay the
// momentum is right, and where it cannot tell, why.
func (d Description) judgeMass(before, after []float64, n int) (doubt string, err error) {
	ways := ways(len(d.Grid))
	left := d.leftOver(ways, before, after, n)
	if left == nil {
		return "the density does not change", nil
	}
	declared := slices.IndexFunc(ways, d.declares)
	best, other := declared, -1 // the best of all, and of those that are not declared
	for w := range ways {
		if left[w] < left[best] {
			best = w
		}
		if w != declared && (other < 0 || left[w] < left[other]) {
			other = w
		}
	}
	says := func(w int) string {
		return fmt.Sprintf("%s (%.2g of the change of the density is left over)", ways[w].words(d.Field), left[w])
	}
	switch {
	case left[best] > explains:
		return fmt.Sprintf("the divergence of the momentum explains %.0f %% of the change of the density at best: are these channels conserved variables, and is the interval %g?", 100*max(0, 1-left[best]), d.Interval), nil
	case best == declared && left[other] > clearly*left[declared]:
		return "", nil
	case best != declared && left[declared] > clearly*left[best]:
		return "", fmt.Errorf("dataset: the momentum does not lie in the arrays as the field says: mass is conserved with %s and not with %s, as declared; correct the field or turn the arrays", says(best), says(declared))
	}
	return fmt.Sprintf("mass is conserved about as well with %s as with %s", says(declared), says(other)), nil
}

// leftOver is, for each way, the share of the change of the density's lowest modes that the divergence does not explain, by squares; nil where they do not
// change.
func (d Description) leftOver(ways []laid, before, after []float64, n int) []float64 {
	axes, size := len(d.Grid), d.values()
	left := make([]float64, len(ways))
	var change, whole float64
	for _, k := range lowModes(axes) {
		wave := d.wave(k)
		for i := range n {
			first, last := before[i*size:(i+1)*size], after[i*size:(i+1)*size]
			density := d.mode(wave, first, d.Field.Conserved.Density)
			step := d.mode(wave, last, d.Field.Conserved.Density) - density
			momentum := make([]complex128, axes)
			for c, channel := range d.Field.Conserved.Momentum {
				momentum[c] = (d.mode(wave, first, channel) + d.mode(wave, last, channel)) / 2
			}
			for w, way := range ways {
				var divergence complex128
				for c, axis := range way.order {
					divergence += complex(0, 2*math.Pi*float64(k[axis])*way.sign[c]) * momentum[c]
				}
				left[w] += square(step + complex(d.Interval, 0)*divergence)
			}
			change += square(step)
			whole += square(density)
		}
	}
	if change <= still*still*whole {
		return nil
	}
	for w := range left {
		left[w] /= change
	}
	return left
}

// declares tells the way that the field says.
func (d Description) declares(w laid) bool {
	for c, axis := range w.order {
		up := axis != 1 || !d.Field.RowDown
		if axis != c || (w.sign[c] > 0) != up {
			return false
		}
	}
	return true
}

// ways are all, for arrays of some axes.
func ways(axes int) (all []laid) {
	for _, order := range permutations(axes) {
		for signs := range 1 << axes {
			w := laid{order: order}
			for c := range axes {
				w.sign = append(w.sign, float64(1-2*(signs>>c&1)))
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
func (d Description) wave(k []int) []complex128 {
	cells := d.values() / len(d.Field.Channels)
	wave := make([]complex128, cells)
	for cell := range wave {
		phase, rest := 0.0, cell
		for axis := range k { // x has the fastest index
			n := d.Grid[len(d.Grid)-1-axis]
			phase += float64(k[axis]) * float64(rest%n) / float64(n)
			rest /= n
		}
		wave[cell] = cmplx.Exp(complex(0, -2*math.Pi*phase))
	}
	return wave
}

func (d Description) mode(wave []complex128, state []float64, channel int) (sum complex128) {
	for cell, w := range wave {
		sum += w * complex(state[cell*len(d.Field.Channels)+channel], 0)
	}
	return sum
}

func square(z complex128) float64 { return real(z)*real(z) + imag(z)*imag(z) }

// words says how the momentum lies: "momentum_x along x, momentum_y along y with rows that run down".
func (w laid) words(field orbits.Field) string {
	var parts []string
	for c, channel := range field.Conserved.Momentum {
		axis := string("xyz"[w.order[c]])
		part := field.Channels[channel] + " along " + axis
		switch {
		case w.sign[c] > 0:
		case w.order[c] == 1:
			part += " with rows that run down"
		default:
			part += " against the way its index grows"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}
