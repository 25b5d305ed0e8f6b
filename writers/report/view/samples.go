package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/quantile"
)

// Sample is one value; bounds enclose the exact one, nil where nothing is certified.
type Sample struct {
	Value  float64
	Bounds *Bounds
}

// Summary of samples: quantiles, with bounds of the median, nil where nothing is certified.
type Summary struct {
	N                          int
	Q05, Q25, Median, Q75, Q95 float64
	Bounds                     *Bounds
}

// Summarise returns the summary of samples, without bounds; of none that with N = 0.
func Summarise(samples []Sample) Summary { return summarise(valuesOf(samples)) }

func summarise(values []float64) Summary {
	if len(values) == 0 {
		return Summary{}
	}
	at := func(level float64) float64 { return quantile.Of(values, level) }
	return Summary{N: len(values), Q05: at(0.05), Q25: at(0.25), Median: at(0.5), Q75: at(0.75), Q95: at(0.95)}
}

func valuesOf(samples []Sample) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = s.Value
	}
	return values
}

func boundsOf(samples []Sample) []*Bounds {
	all := make([]*Bounds, len(samples))
	for i, s := range samples {
		all[i] = s.Bounds
	}
	return all
}

// Bounds enclose an exact value: what an estimator certifies.
type Bounds struct{ Low, High float64 }

// between is nil where a bound is missing: an error bar with one end says nothing.
func between(low, high *float64) *Bounds {
	if low == nil || high == nil || !finite(*low) || !finite(*high) {
		return nil
	}
	return &Bounds{*low, *high}
}

// ofMedian bounds the median of samples as table coherence does: by the medians of the lower and of the upper bounds.
func ofMedian(samples []Sample) *Bounds {
	lows, highs := make([]float64, len(samples)), make([]float64, len(samples))
	for i, s := range samples {
		if s.Bounds == nil {
			return nil
		}
		lows[i], highs[i] = s.Bounds.Low, s.Bounds.High
	}
	if len(samples) == 0 {
		return nil
	}
	return &Bounds{summarise(lows).Median, summarise(highs).Median}
}

// certainty collects how far from the values drawn the exact ones can lie.
type certainty struct {
	certified, open int // values with and without bounds
	worst           float64
}

func (c *certainty) add(value float64, b *Bounds) {
	if b == nil {
		c.open++
		return
	}
	c.certified++
	c.worst = max(c.worst, reach(value, b))
}

// reach is the farthest that the exact value can lie from the value drawn, which need not be midway.
func reach(value float64, b *Bounds) float64 { return max(value-b.Low, b.High-value) }

// within reads "±0.012".
func (c certainty) within() string { return "±" + Number(roundedUp(c.worst, 2)) }

// uncertified says of how many values nothing is certified; empty where of none, or of all, as then no bounds are spoken of.
func (c certainty) uncertified(plural string) string {
	if c.open == 0 || c.certified == 0 {
		return ""
	}
	return fmt.Sprintf("Nothing is certified for %d of %d %s.", c.open, c.open+c.certified, plural)
}

// quantity is something measured on a sample under an element.
type quantity struct {
	label string // of an axis
	short string // in a caption
	log   bool
	all   func(s *series, g group, keep filter) []Sample // in the last audit, those that are not finite too
}

// filter chooses rows by what they were measured under.
type filter func(element string, by shift) bool

func everything(string, shift) bool { return true }

func under(wanted string) filter {
	return func(element string, _ shift) bool { return element == wanted }
}

// shift is that of an element along x, y and z, in pixels.
type shift [3]float64

// along is a shift's component along an axis; alone says that there is no other.
func (by shift) along(axis int) (pixels float64, alone bool) {
	pixels, by[axis] = by[axis], 0
	return pixels, by == shift{}
}

// samples that a figure can show.
func (q quantity) samples(s *series, g group, keep filter) []Sample {
	return slices.DeleteFunc(q.all(s, g, keep), func(one Sample) bool { return !finite(one.Value) })
}

// notFinite says how many samples a figure cannot show; empty where it shows all.
func (q quantity) notFinite(s *series, g group) string {
	all, shown := len(q.all(s, g, everything)), len(q.samples(s, g, everything))
	if shown == all {
		return ""
	}
	return fmt.Sprintf("%s: %s of its %ss are not finite and not drawn.", s.label, outOf(all-shown, all), q.short)
}

func ofErrors(value func(audit.ErrorRow) float64) func(*series, group, filter) []Sample {
	return func(s *series, g group, keep filter) (samples []Sample) {
		for _, row := range s.errors {
			if row.GroupName == g.of && keep(row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ}) {
				samples = append(samples, Sample{Value: value(row)})
			}
		}
		return samples
	}
}

// ofInfluence takes the pairs of a sample with its own transform.
func ofInfluence(of func(influenceRow) (value *float64, certified *Bounds)) func(*series, group, filter) []Sample {
	return func(s *series, g group, keep filter) (samples []Sample) {
		for _, row := range s.influence {
			value, certified := of(row)
			if row.group == g.name && row.RowSample == row.ColSample && value != nil && keep(row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ}) {
				samples = append(samples, Sample{*value, certified})
			}
		}
		return samples
	}
}

var (
	targetError = quantity{label: "target error", short: "target error", log: true,
		all: ofErrors(func(row audit.ErrorRow) float64 { return row.TargetError })}
	// The identity commutes exactly: it has no place on a logarithmic axis.
	commutatorError = quantity{label: "commutator error", short: "commutator error", log: true,
		all: func(s *series, g group, keep filter) []Sample {
			return ofErrors(func(row audit.ErrorRow) float64 { return row.CommutatorError })(s, g,
				func(element string, by shift) bool { return element != identity && keep(element, by) })
		}}
	scaledInfluence = quantity{label: "influence (Frobenius-scaled)", short: "influence",
		all: ofInfluence(func(row influenceRow) (*float64, *Bounds) {
			return row.FrobeniusScaled, between(row.FrobeniusScaledLow, row.FrobeniusScaledHigh)
		})}
	cosine = quantity{label: "cosine of x and g.x", short: "cosine",
		all: ofInfluence(func(row influenceRow) (*float64, *Bounds) {
			return row.Cosine, between(row.CosineLow, row.CosineHigh)
		})}
)

// states says which probe states the last audits of a group are of: how many, of which classes, at which snapshots.
func (d *data) states(g group) string {
	type key struct {
		sample int32
		class  string
		time   int32
	}
	var classes []string
	lowest, highest, most := int32(0), int32(0), 0
	for _, s := range d.series {
		seen := map[key]bool{}
		note := func(group string, at key) {
			if group != g.of || seen[at] {
				return
			}
			if most == 0 && len(seen) == 0 {
				lowest, highest = at.time, at.time
			}
			seen[at] = true
			lowest, highest = min(lowest, at.time), max(highest, at.time)
			if at.class != "" {
				classes = appendNew(classes, at.class)
			}
		}
		for _, row := range s.errors {
			note(row.GroupName, key{row.Sample, row.Class, row.TimeIndex})
		}
		for _, row := range s.influence {
			note(row.GroupName, key{row.RowSample, row.RowClass, row.RowTimeIndex})
		}
		most = max(most, len(seen))
	}
	if most == 0 {
		return ""
	}
	said := plural(most, "probe state")
	if len(classes) > 0 {
		said += " of " + listed(classes)
	}
	if lowest == highest {
		return fmt.Sprintf("%s, snapshot %d", said, lowest)
	}
	return fmt.Sprintf("%s, snapshots %d to %d", said, lowest, highest)
}

// lastOf says which audits a figure of the last ones is of, and of what states.
func (d *data) lastOf(g group) string {
	said := fmt.Sprintf("last audit of each model (%s)", d.lastAudits())
	if states := d.states(g); states != "" {
		said += ", " + states
	}
	return said
}

// lastAudits reads "unet at epoch 6, vit at epoch 6"; of several models with the same, "all at epoch 6".
func (d *data) lastAudits() string {
	var all, when []string
	for _, s := range d.series {
		if s.audited {
			at := fmt.Sprintf("%s %s", d.time, Number(d.when(audit.Moment{Epoch: s.epoch, Step: s.step})))
			all, when = append(all, s.label+" at "+at), appendNew(when, at)
		}
	}
	if len(all) > 2 && len(when) == 1 {
		return "all at " + when[0]
	}
	return strings.Join(all, ", ")
}
