package audit

import (
	"math"

	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/orbits"
)

// manyGradients are those of an audit from which on its cost is said before there is one.
const manyGradients = 1000

// warnOfCost says what an audit of many gradients takes, and of which group most are.
func (a *Auditor) warnOfCost() {
	gradients, largest := 0, a.orbits[0]
	for _, o := range a.orbits {
		for d := range a.config.directions {
			gradients += len(o.elements) * len(o.samples) * o.draws(&a.config.directions[d])
		}
		if len(o.elements)*len(o.samples) > len(largest.elements)*len(largest.samples) {
			largest = o
		}
	}
	if a.config.forward || gradients < manyGradients {
		return
	}
	a.config.log.Warn().Int("gradients", gradients).Int("products_at_least", 2*gradients).
		Str("group", largest.group.Name).Int("elements", len(largest.elements)).Int("probes", len(largest.samples)).
		Msg("each audit will take very many gradients and products: use a group of fewer elements, with a larger stride for instance, or fewer probes")
}

// warn says of how many probes an audit can say little: those that no element changes, of which every model learns the same.
func (o *orbit) warn(log zerolog.Logger) error {
	all := make([][]float64, len(o.elements))
	for e := range all {
		var err error
		if all[e], err = values(o.inputs[e]); err != nil {
			return err
		}
	}
	size, still := len(all[0])/len(o.samples), 0
	for i := range o.samples {
		largest, change := 0.0, 0.0
		for at, v := range all[0][i*size : (i+1)*size] {
			largest = max(largest, math.Abs(v))
			for e := range all {
				change = max(change, math.Abs(all[e][i*size+at]-v))
			}
		}
		if change <= 1e-5*largest {
			still++
		}
	}
	if still > 0 {
		log.Warn().Str("group", o.group.Name).Int("probes", still).Int("of", len(o.samples)).
			Msg("no element changes these probes: their coherence is 1 whatever the model has learned")
	}
	return nil
}

// warnOfZeros names the channels that are zero in a target, of which SMSE is then that of the prediction times a million.
func (o *orbit) warnOfZeros(targets, units []float64, output orbits.Field, log zerolog.Logger) {
	size := len(targets) / len(o.samples)
	for c, name := range output.Channels {
		empty := 0
		for i := range o.samples {
			largest := 0.0
			for at := c; at < size; at += len(units) {
				largest = max(largest, math.Abs(targets[i*size+at]))
			}
			if largest <= smseFloor*units[c] {
				empty++
			}
		}
		if empty > 0 {
			log.Warn().Str("group", o.group.Name).Str("channel", name).Int("probes", empty).Int("of", len(o.samples)).
				Msg("a channel of these probes' targets is zero: their target error means nothing, nor does SMSE as a loss")
		}
	}
}
