// Package fieldcheck judges, from transitions of a system, whether a field is declared as they behave: which channels are the components
// of a vector, in which order, and which way rows grow. docs/design/0006 has the method and its measurements.
package fieldcheck

import (
	"fmt"
	"slices"

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

// Judge judges a field by steps from the states before to those after, of shape [n, height, width, channels].
func Judge(field orbits.Field, group string, turns []Turn, before, after []float64, shape [4]int) Verdict {
	const mostChannels = 12 // more take minutes
	switch n, height, width, channels := shape[0], shape[1], shape[2], shape[3]; {
	case channels > mostChannels:
		return Unknown("there are %d channels, and to compare the ways to pair more than %d would take too long; check by hand which are vectors", channels, mostChannels)
	case n < 2:
		return Unknown("there is 1 probe, and a law that is fitted to one must be tested on others; use 4 or more")
	case height < 3 || width < 3:
		return Unknown("the grid is %dx%d, and the law of a cell and its neighbours needs 3x3 cells or more", height, width)
	}
	s := newSteps(before, after, shape)
	if !slices.ContainsFunc(s.variances(), func(v float64) bool { return v > 0 }) {
		return Unknown("no channel of the probes' targets differs from its input; use targets that are later states")
	}
	if axis := unchanging(before, after, shape); axis != "" {
		return Unknown("the probes do not change along %s, so that turned copies of them are like no probe; use probes that vary along both axes", axis)
	}
	return newContest(s, field, group, turns).judge()
}

// unchanging is the axis along which states do not change, "" if they change along both.
func unchanging(before, after []float64, shape [4]int) string {
	n, height, width, channels := shape[0], shape[1], shape[2], shape[3]
	var alongX, alongY float64 // sums of squares of differences
	for _, states := range [][]float64{before, after} {
		for at := range n * height * width * channels {
			x, y := at/channels%width, at/channels/width%height
			if x > 0 {
				alongX += (states[at] - states[at-channels]) * (states[at] - states[at-channels])
			}
			if y > 0 {
				alongY += (states[at] - states[at-channels*width]) * (states[at] - states[at-channels*width])
			}
		}
	}
	const rounding = 1e-10
	switch {
	case alongY <= rounding*alongX:
		return "y, from row to row"
	case alongX <= rounding*alongY:
		return "x, from column to column"
	}
	return ""
}
