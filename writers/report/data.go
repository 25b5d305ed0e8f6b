package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/quantile"
	"github.com/symaudit/symaudit/writers"
)

// identity is the name of every group's identity element.
const identity = "e"

// series is one trained model; it has one colour throughout the report.
type series struct {
	Label string
	model string
	seed  int64
	from  int32 // attempts [from, to), whose audits have the same settings
	to    int32
	index int   // in the palette
	Step  int64 // of its last audit
	Epoch float64
}

func (s series) wrote(moment audit.Moment) bool {
	return moment.Model == s.model && moment.Seed == s.seed && moment.Attempt >= s.from && moment.Attempt < s.to
}

// group of symmetries as the records name it.
type group struct {
	name      string
	direction string   // of its influence; "" of the loss
	file      string   // part of the names of its figures' files
	elements  []string // in the order of the records
	others    int      // elements but the identity
	shifted   int      // those that are translations
	along     [3]bool  // the axes, x, y and z, that elements shift
}

// shifts reports whether the group is of translations: not a product with others, whose elements differ at the same shift.
func (g group) shifts() bool { return g.shifted > 0 && g.shifted == g.others }

// label is short enough for a title in a figure.
func (g group) label() string {
	const most = 48
	if name := []rune(g.name); len(name) > most {
		return string(name[:most-1]) + "…"
	}
	return g.name
}

// caption names a group for people.
func (g group) caption() string {
	if of, control := strings.CutSuffix(g.name, "-grid-only"); control {
		return of + " on the grid only (negative control: vectors are left unturned, which is no symmetry)"
	}
	switch g.name {
	case "d4":
		return "D4 (quarter turns and reflections)"
	case "octahedral":
		return "octahedral (rotations and reflections of the cube)"
	case "boosts":
		return "Galilean boosts"
	}
	return g.name
}

// run is what the figures and tables are made from.
type run struct {
	*writers.Contents
	series []series
	groups []group
	damped []audit.CoherenceRow // at every damping; Records keeps the smallest alone
	time   string               // what Epoch of the moments counts: "epoch" or, where these are not known, "step"
}

func newRun(contents *writers.Contents) *run {
	r := &run{Contents: contents, time: "epoch"}
	records := &contents.Records
	renamed := nameDirections(records)
	r.countSteps()
	r.damped = slices.Clone(records.Coherence)
	r.dropLargerDampings()
	addGroup := func(name, element string, by shift) {
		at := slices.IndexFunc(r.groups, func(g group) bool { return g.name == name })
		if at < 0 {
			at = len(r.groups)
			r.groups = append(r.groups, group{name: name, direction: renamed[name]})
		}
		g := &r.groups[at]
		if element == audit.AllElements || slices.Contains(g.elements, element) {
			return
		}
		g.elements = append(g.elements, element)
		if element != identity {
			g.others++
		}
		if by != (shift{}) {
			g.shifted++
		}
		for axis, pixels := range by {
			g.along[axis] = g.along[axis] || pixels != 0
		}
	}
	for _, row := range records.Training {
		r.addSeries(row.Moment, false)
	}
	for _, row := range records.Errors {
		r.addSeries(row.Moment, true)
		addGroup(row.GroupName, row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ})
	}
	for _, row := range records.Influence {
		r.addSeries(row.Moment, true)
		addGroup(row.GroupName, row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ})
	}
	for _, row := range records.Coherence {
		r.addSeries(row.Moment, true)
		addGroup(row.GroupName, row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ})
	}
	nameFiles(r.groups)
	for i := range r.series {
		s := &r.series[i]
		s.Label = s.model
		if slices.ContainsFunc(r.series, func(other series) bool { return other.model == s.model && other.seed != s.seed }) {
			s.Label = fmt.Sprintf("%s, seed %d", s.model, s.seed)
		}
		if slices.ContainsFunc(r.series, func(other series) bool { return other.model == s.model && other.seed == s.seed && other.from != s.from }) {
			s.Label += fmt.Sprintf(", from attempt %d", max(1, s.from)) // with other settings than the others
		}
	}
	return r
}

// nameDirections makes what a group shows in another direction than the loss a group of its own, called by both, and returns their directions.
func nameDirections(records *audit.Records) (renamed map[string]string) {
	renamed = map[string]string{}
	rename := func(group *string, direction string) {
		if direction != "" && direction != audit.LossName {
			*group += ", " + direction
			renamed[*group] = direction
		}
	}
	for i := range records.Coherence {
		rename(&records.Coherence[i].GroupName, records.Coherence[i].Direction)
	}
	for i := range records.Influence {
		rename(&records.Influence[i].GroupName, records.Influence[i].Direction)
	}
	for i := range records.Solves {
		rename(&records.Solves[i].GroupName, records.Solves[i].Direction)
	}
	return renamed
}

// countSteps takes steps for epochs where all rows say epoch 0: their length was not known.
func (r *run) countSteps() {
	moments := r.Records.Moments()
	if slices.ContainsFunc(moments, func(m *audit.Moment) bool { return m.Epoch != 0 }) {
		return
	}
	r.time = "step"
	for _, m := range moments {
		m.Epoch = float64(m.Step)
	}
}

func (r *run) addSeries(moment audit.Moment, audited bool) {
	at := slices.IndexFunc(r.series, func(s series) bool { return s.wrote(moment) })
	if at < 0 {
		at = len(r.series)
		from, to := r.Series(moment)
		r.series = append(r.series, series{model: moment.Model, seed: moment.Seed, from: from, to: to, index: at})
	}
	if s := &r.series[at]; audited && moment.Step >= s.Step {
		s.Step, s.Epoch = moment.Step, moment.Epoch
	}
}

// dropLargerDampings keeps, of an audit at several dampings, the smallest in figures and tables: it is the nearest to the
// undamped metric. Only the figure against damping shows the others.
func (r *run) dropLargerDampings() {
	type audited struct {
		moment audit.Moment
		group  string
	}
	smallest := map[audited]float64{}
	observe := func(key audited, damping float64) {
		if known, ok := smallest[key]; !ok || damping < known {
			smallest[key] = damping
		}
	}
	records := &r.Records
	for _, row := range records.Influence {
		observe(audited{row.Moment, row.GroupName}, damping(row.RelativeLambda, &row.Lambda))
	}
	for _, row := range records.Coherence {
		observe(audited{row.Moment, row.GroupName}, damping(row.RelativeLambda, row.Lambda))
	}
	records.Influence = slices.DeleteFunc(records.Influence, func(row audit.InfluenceRow) bool {
		return damping(row.RelativeLambda, &row.Lambda) > smallest[audited{row.Moment, row.GroupName}]
	})
	records.Coherence = slices.DeleteFunc(records.Coherence, func(row audit.CoherenceRow) bool {
		return damping(row.RelativeLambda, row.Lambda) > smallest[audited{row.Moment, row.GroupName}]
	})
}

// damping orders the rows of one audit: by the multiple of lambda_max that was asked for, as each batch has a lambda of its
// own then, or by lambda. It is 0 in an audit of outputs alone.
func damping(relative, lambda *float64) float64 {
	switch {
	case relative != nil:
		return *relative
	case lambda != nil:
		return *lambda
	}
	return 0
}

// quantity is something measured on a sample under an element, for the last audit of a series.
type quantity struct {
	label string // of an axis
	short string // in a caption
	log   bool
	all   func(r *run, s series, keep filter) []sample // those that are not finite too
}

// filter chooses rows by what they were measured under.
type filter func(groupName, element string, by shift) bool

// shift is that of an element along x, y and z, in pixels.
type shift [3]float64

// along is a shift's component along an axis; alone says that there is no other.
func (by shift) along(axis int) (pixels float64, alone bool) {
	pixels, by[axis] = by[axis], 0
	return pixels, by == shift{}
}

// samples that a figure can show.
func (q quantity) samples(r *run, s series, keep filter) []sample {
	return slices.DeleteFunc(q.all(r, s, keep), func(one sample) bool { return !finite(one.value) })
}

// notFinite says how many samples a figure cannot show; empty where it shows all.
func (q quantity) notFinite(r *run, s series, keep filter) string {
	all, shown := len(q.all(r, s, keep)), len(q.samples(r, s, keep))
	if shown == all {
		return ""
	}
	return fmt.Sprintf("%s: %s of its %ss are not finite and not drawn.", s.Label, outOf(all-shown, all), q.short)
}

func outOf(n, all int) string { return fmt.Sprintf("%d of %d", n, all) }

// values of the samples without their bounds.
func (q quantity) values(r *run, s series, keep filter) []float64 {
	return valuesOf(q.samples(r, s, keep))
}

// at takes the samples under an element.
func (q quantity) at(r *run, s series, g group, element string) []sample {
	return q.samples(r, s, func(groupName, e string, _ shift) bool { return groupName == g.name && e == element })
}

// sample is one value; bounds enclose the exact one, nil where nothing is certified.
type sample struct {
	value  float64
	bounds *bounds
}

func valuesOf(samples []sample) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = s.value
	}
	return values
}

func boundsOf(samples []sample) []*bounds {
	all := make([]*bounds, len(samples))
	for i, s := range samples {
		all[i] = s.bounds
	}
	return all
}

func ofErrors(value func(audit.ErrorRow) float64) func(*run, series, filter) []sample {
	return func(r *run, s series, keep filter) (samples []sample) {
		for _, row := range r.Records.Errors {
			if s.wrote(row.Moment) && row.Step == s.Step && keep(row.GroupName, row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ}) {
				samples = append(samples, sample{value: value(row)})
			}
		}
		return samples
	}
}

// ofInfluence takes the pairs of a sample with its own transform.
func ofInfluence(of func(audit.InfluenceRow) (value *float64, certified *bounds)) func(*run, series, filter) []sample {
	return func(r *run, s series, keep filter) (samples []sample) {
		for _, row := range r.Records.Influence {
			value, certified := of(row)
			if s.wrote(row.Moment) && row.Step == s.Step && row.RowSample == row.ColSample && value != nil &&
				keep(row.GroupName, row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ}) {
				samples = append(samples, sample{*value, certified})
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
		all: func(r *run, s series, keep filter) []sample {
			return ofErrors(func(row audit.ErrorRow) float64 { return row.CommutatorError })(r, s,
				func(groupName, element string, by shift) bool {
					return element != identity && keep(groupName, element, by)
				})
		}}
	scaledInfluence = quantity{label: "influence (Frobenius-scaled)", short: "influence",
		all: ofInfluence(func(row audit.InfluenceRow) (*float64, *bounds) {
			return row.FrobeniusScaled, between(row.FrobeniusScaledLow, row.FrobeniusScaledHigh)
		})}
	cosine = quantity{label: "cosine of x and g.x", short: "cosine",
		all: ofInfluence(func(row audit.InfluenceRow) (*float64, *bounds) {
			return row.Cosine, between(row.CosineLow, row.CosineHigh)
		})}
)

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// summary of a sample of values.
type summary struct {
	n                          int
	q05, q25, median, q75, q95 float64
	bounds                     *bounds // of the median; nil where nothing is certified
}

func summarise(values []float64) summary {
	if len(values) == 0 {
		return summary{}
	}
	at := func(level float64) float64 { return quantile.Of(values, level) }
	return summary{n: len(values), q05: at(0.05), q25: at(0.25), median: at(0.5), q75: at(0.75), q95: at(0.95)}
}
