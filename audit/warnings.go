package audit

import (
	"math"

	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/orbits"
)

// warn says of which probes an audit can say little: those that no element changes, of which every model learns the same, and
// targets with a channel of nothing, whose SMSE is that of the prediction times a million.
func (o *orbit) warn(output orbits.Field, invariant bool, log zerolog.Logger) error {
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
	if invariant {
		return nil
	}
	targets, err := values(o.targets[0])
	if err != nil {
		return err
	}
	for c, name := range output.Channels {
		empty := 0
		for i := range o.samples {
			sample := targets[i*len(targets)/len(o.samples) : (i+1)*len(targets)/len(o.samples)]
			largest, channel := 0.0, 0.0
			for at, v := range sample {
				largest = max(largest, math.Abs(v))
				if at%len(output.Channels) == c {
					channel = max(channel, math.Abs(v))
				}
			}
			if channel <= 1e-6*largest {
				empty++
			}
		}
		if empty > 0 {
			log.Warn().Str("group", o.group.Name).Str("channel", name).Int("probes", empty).Int("of", len(o.samples)).
				Msg("a channel of these probes' targets is zero: their target error means nothing, nor does SMSE as a loss")
		}
	}
	return nil
}
