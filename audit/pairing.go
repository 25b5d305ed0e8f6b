package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
)

// checkField asks the probes whether the field is declared as they behave, and warns where they do not tell.
func (a *Auditor) checkField(o *orbit) error {
	v, err := a.judgeField(o)
	switch {
	case err != nil:
		return err
	case v.answer == wrong:
		return fmt.Errorf("audit: the probes do not behave as the field says: %s", v.words)
	case v.answer == undecided:
		a.config.log.Warn().Str("group", o.group.Name).
			Msg("whether the field is declared as the probes behave cannot be told: " + v.words)
	}
	return nil
}

// verdict is what the probes say of the declared field.
type verdict struct {
	answer answer
	fields []orbits.Field // where it is wrong: the fields that may be right, which the probes do not tell apart
	words  string         // what is wrong and what is right, or why that cannot be told and what would help
}

type answer int

const (
	right answer = iota // or of no consequence to the group
	wrong
	undecided
)

func unknown(format string, args ...any) verdict {
	return verdict{answer: undecided, words: fmt.Sprintf(format, args...)}
}

// judgeField says nothing where the field is of no consequence: to groups without turns, and where there are no two channels to pair.
func (a *Auditor) judgeField(o *orbit) (verdict, error) {
	field, group, turns := a.config.field, o.group.Name, turnsOf(o.elements...)
	if slices.ContainsFunc(o.elements, func(e orbits.Element) bool { return strings.Contains(e.Name(), "boost(") }) {
		group, turns = orbits.D4Name, allTurns() // a boost depends on the components' order and on the orientation of rows, as turns do
	}
	channels := len(field.Channels)
	if a.config.output != nil {
		channels = max(channels, len(a.config.output.Channels))
	}
	switch {
	case len(turns) == 1 || channels == 1:
		return verdict{}, nil
	case a.config.invariant:
		return unknown("the output is declared invariant, and only steps from a state to a state have a law that could tell; check by hand which channels are vectors"), nil
	case a.config.output != nil:
		return unknown("the output has a field of its own, and only steps from a state to a state of the same field have a law that could tell; check by hand which channels of both are vectors"), nil
	}
	before, err := values(o.inputs[0])
	if err != nil {
		return verdict{}, err
	}
	after, err := values(o.targets[0])
	if err != nil {
		return verdict{}, err
	}
	return judgeSteps(field, group, turns, before, after, [4]int(o.inputs[0].Shape().Dimensions)), nil
}

// judgeSteps judges a field by steps from the states before to those after, of shape [n, height, width, channels].
func judgeSteps(field orbits.Field, group string, turns []turn, before, after []float64, shape [4]int) verdict {
	const mostChannels = 12 // more take minutes
	switch n, height, width, channels := shape[0], shape[1], shape[2], shape[3]; {
	case channels > mostChannels:
		return unknown("there are %d channels, and to compare the ways to pair more than %d would take too long; check by hand which are vectors", channels, mostChannels)
	case n < 2:
		return unknown("there is 1 probe, and a law that is fitted to one must be tested on others; use 4 or more")
	case height < 3 || width < 3:
		return unknown("the grid is %dx%d, and the law of a cell and its neighbours needs 3x3 cells or more", height, width)
	}
	s := newSteps(before, after, shape)
	if !slices.ContainsFunc(s.variances(), func(v float64) bool { return v > 0 }) {
		return unknown("no channel of the probes' targets differs from its input; use targets that are later states")
	}
	return newContest(s, field, group, turns).judge()
}

// values copies a tensor's.
func values(t *tensors.Tensor) ([]float64, error) {
	copied, err := solver.ConvertDType(t, dtypes.Float64)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	all, err := solver.Values(copied) // frees it
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return all, nil
}
