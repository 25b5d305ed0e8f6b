package audit

import (
	"math"

	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/orbits"
)

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
