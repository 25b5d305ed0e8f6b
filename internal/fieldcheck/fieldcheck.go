// Package fieldcheck judges, from transitions of a system, whether a field is declared as they behave: which channels are the components
// of a vector, in which order, and which way rows grow. docs/design/0006 has the method and its measurements.
package fieldcheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/orbits"
)

// Verdict is what the probes say of the declared field.
type Verdict struct {
	Answer Answer
	Fields []orbits.Field // where it is wrong: the fields that may be right, which the probes do not tell apart
	Words  string         // what is wrong and what is right, or why that cannot be told and what would help
}

// Answer is one of three.
type Answer int

const (
	Right Answer = iota // or of no consequence to the group
	Wrong
	Undecided
)

// Unknown is a verdict that the probes do not tell, with the reason.
func Unknown(format string, args ...any) Verdict {
	return Verdict{Answer: Undecided, Words: fmt.Sprintf(format, args...)}
}

// Judge judges a field by steps from the states before to those after, of shape [n, x, channels], [n, y, x, channels] or [n, z, y, x, channels].
func Judge(field orbits.Field, group string, turns []Turn, before, after []float64, shape []int) Verdict {
	n, grid, channels := shape[0], shape[1:len(shape)-1], shape[len(shape)-1]
	if verdict, told := judgeMass(field, turns, before, after, shape); told {
		return verdict
	}
	mostChannels := []int{12, 12, 8}[len(grid)-1] // more take minutes
	switch {
	case channels > mostChannels:
		return Unknown("there are %d channels, and to compare the ways to pair more than %d would take too long; check by hand which are vectors", channels, mostChannels)
	case n < 2:
		return Unknown("there is 1 probe, and a law that is fitted to one must be tested on others; use 4 or more")
	case slices.Min(grid) < 3:
		return Unknown("the grid is %s, and the law of a cell and its neighbours needs %s cells or more", times(grid), times([]int{3, 3, 3}[:len(grid)]))
	}
	s := newSteps(before, after, shape)
	if !slices.ContainsFunc(s.variances(), func(v float64) bool { return v > 0 }) {
		return Unknown("no channel of the probes' targets differs from its input; use targets that are later states")
	}
	if axis := unchanging(before, after, shape); axis != "" {
		return Unknown("the probes do not change along %s, so that turned copies of them are like no probe; use probes that vary along %s", axis, []string{"it", "both axes", "all axes"}[len(grid)-1])
	}
	if len(grid) == 1 { // where a pseudoscalar is a vector
		field.Vectors = slices.Clone(field.Vectors)
		for _, c := range field.Pseudoscalars {
			field.Vectors = append(field.Vectors, []int{c})
		}
		field.Pseudoscalars = nil
	}
	return newContest(s, field, group, turns).judge()
}

// times is "8x16" of a grid of 8 rows and 16 columns.
func times(grid []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(grid), " ", "x"), "[]")
}

// unchanging is the axis along which states do not change, "" if they change along each.
func unchanging(before, after []float64, shape []int) string {
	channels, sizes := shape[len(shape)-1], sizesOf(shape)
	var along [3]float64 // sums of squares of differences
	for _, states := range [][]float64{before, after} {
		stride := channels
		for axis, size := range sizes {
			for at := range states {
				if at/stride%size > 0 {
					along[axis] += (states[at] - states[at-stride]) * (states[at] - states[at-stride])
				}
			}
			stride *= size
		}
	}
	const rounding = 1e-10
	for _, axis := range []int{1, 0, 2}[:max(2, len(shape)-2)] {
		if axis < len(shape)-2 && along[axis] <= rounding*slices.Max(along[:]) {
			return []string{"x, from column to column", "y, from row to row", "z"}[axis]
		}
	}
	return ""
}
