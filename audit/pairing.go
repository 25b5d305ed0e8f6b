package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/internal/fieldcheck"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// checkField asks the probes whether the field is declared as they behave, and warns where they do not tell.
func (a *Auditor) checkField(o *orbit) error {
	v, err := a.judgeField(o)
	switch {
	case err != nil:
		return err
	case v.Answer == fieldcheck.Wrong:
		return fmt.Errorf("audit: the probes do not behave as the field says: %s", v.Words)
	case v.Answer == fieldcheck.Undecided:
		a.config.log.Warn().Str("group", o.group.Name).
			Msg("whether the field is declared as the probes behave cannot be told: " + v.Words)
	}
	return nil
}

// judgeField says nothing where the field is of no consequence: to groups without turns, and where there are too few channels for a vector. On a
// line one channel is enough.
func (a *Auditor) judgeField(o *orbit) (fieldcheck.Verdict, error) {
	field, group, turns := a.config.field, o.group.Name, fieldcheck.TurnsOf(o.elements...)
	grid := gridOf(o.inputs[0])
	space := len(grid)
	boosted := slices.ContainsFunc(o.elements, func(e orbits.Element) bool { return strings.Contains(e.Name(), "boost(") })
	if boosted && space >= 1 && space <= 3 { // a boost depends on the components' order and on the orientation of rows, as turns do
		all := fieldcheck.GroupOf(space)
		elements, err := all.Elements(grid...)
		if err != nil {
			return fieldcheck.Verdict{}, cause.In("audit", err)
		}
		group, turns = all.Name, fieldcheck.TurnsOf(elements...)
	}
	channels := len(field.Channels)
	if a.config.output != nil {
		channels = max(channels, len(a.config.output.Channels))
	}
	switch {
	case len(turns) == 1 || channels < space:
		return fieldcheck.Verdict{}, nil
	case a.config.invariant:
		return fieldcheck.Unknown("the output is declared invariant, and only steps from a state to a state have a law that could tell; check by hand which channels are vectors"), nil
	case a.config.output != nil:
		return fieldcheck.Unknown("the output has a field of its own, and only steps from a state to a state of the same field have a law that could tell; check by hand which channels of both are vectors"), nil
	}
	before, err := values(o.inputs[0])
	if err != nil {
		return fieldcheck.Verdict{}, err
	}
	after, err := values(o.targets[0])
	if err != nil {
		return fieldcheck.Verdict{}, err
	}
	return fieldcheck.Judge(field, group, turns, before, after, o.inputs[0].Shape().Dimensions), nil
}

// values copies a tensor's.
func values(t *tensors.Tensor) ([]float64, error) {
	copied, err := network.ConvertDType(t, dtypes.Float64)
	if err != nil {
		return nil, cause.In("audit", err)
	}
	all, err := network.Values(copied) // frees it
	if err != nil {
		return nil, cause.In("audit", err)
	}
	return all, nil
}
