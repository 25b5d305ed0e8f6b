package view

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// identity is the name of every group's identity element.
const identity = "e"

// data is what figures, tables and sentences are made from: the rows of all runs, as they are, and what is asked of them often.
type data struct {
	names     []string       // of the runs
	records   audit.Records  // of all runs
	coherence []coherenceRow // at the smallest damping of each audit
	series    []*series
	groups    []group
	time      string // what figures over time count: "epoch" or, where a run does not know it, "step"
}

// coherenceRow names the group as figures do: with the direction of its influence.
type coherenceRow struct {
	audit.CoherenceRow
	group string
}

// series is one trained model. It has one colour and one glyph throughout the report.
type series struct {
	label     string
	run       int // among the runs
	runID     string
	model     string
	seed      int64
	from      int32 // attempts [from, to), whose audits have the same settings
	to        int32
	style     Style
	step      int64 // of its last audit
	epoch     float64
	audited   bool
	evaluated []audit.EvaluationRow // of the last audit, as all that follows
	rollouts  []audit.RolloutRow
	errors    []audit.ErrorRow
	local     []audit.LocalErrorRow
	influence []influenceRow // at the smallest damping
	layers    []audit.LayerRow
	spectrum  []audit.SpectrumRow
	pictures  []audit.PictureRow
}

// influenceRow names the group as figures do.
type influenceRow struct {
	audit.InfluenceRow
	group string
}

func (s *series) wrote(moment audit.Moment) bool {
	return moment.Model == s.model && moment.Seed == s.seed && moment.RunID == s.runID && moment.Attempt >= s.from && moment.Attempt < s.to
}

// group of symmetries with a direction of influence.
type group struct {
	name      string   // "d4", or with another direction than the loss "d4, kernel"
	of        string   // the group alone: "d4"
	direction string   // of its influence; "" of the loss
	file      string   // part of the names of its figures' files
	elements  []string // in the order of the records
	others    int      // elements but the identity
	shifted   int      // those that are translations
	along     [3]bool  // the axes, x, y and z, that elements shift
}

// named is a group's name in figures: what it shows in another direction than the loss is called by both.
func named(name, direction string) string {
	if direction == "" || direction == audit.LossName {
		return name
	}
	return name + ", " + direction
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

func newData(runs []Run) *data {
	d := &data{time: "epoch"}
	for _, run := range runs {
		d.names = append(d.names, runName(run.Dir, runs))
		d.records.Add(&run.Records)
		if !knowsEpochs(&run.Records) {
			d.time = "step"
		}
	}
	d.findSeries(runs)
	d.findGroups()
	d.keepSmallestDampings()
	return d
}

// runName is the last folder of a run's path, or so many of them as tell it from the others.
func runName(dir string, runs []Run) string {
	parts := strings.Split(filepath.ToSlash(absolute(dir)), "/")
	for n := 1; n < len(parts); n++ {
		name := strings.Join(parts[len(parts)-n:], "/")
		alike := 0
		for _, other := range runs {
			if strings.HasSuffix("/"+filepath.ToSlash(absolute(other.Dir)), "/"+name) {
				alike++
			}
		}
		if alike <= 1 {
			return name
		}
	}
	return dir
}

// knowsEpochs reports whether a row says another epoch than 0, which all say where its length was not known.
func knowsEpochs(records *audit.Records) bool {
	return len(records.Training)+len(records.Coherence) == 0 ||
		slices.ContainsFunc(records.Training, func(row audit.TrainingRow) bool { return row.Epoch != 0 }) ||
		slices.ContainsFunc(records.Coherence, func(row audit.CoherenceRow) bool { return row.Epoch != 0 })
}

// when is a moment on the axis of time.
func (d *data) when(m audit.Moment) float64 {
	if d.time == "step" {
		return float64(m.Step)
	}
	return m.Epoch
}

func (d *data) findSeries(runs []Run) {
	find := func(m audit.Moment, audited bool) *series {
		at := slices.IndexFunc(d.series, func(s *series) bool { return s.wrote(m) })
		if at < 0 {
			at = len(d.series)
			of := max(0, slices.IndexFunc(runs, func(run Run) bool { return run.Info.RunID == m.RunID }))
			s := &series{run: of, runID: m.RunID, model: m.Model, seed: m.Seed, style: Style{Color: at, Glyph: at}}
			s.from, s.to = runs[of].Series(m)
			d.series = append(d.series, s)
		}
		s := d.series[at]
		if audited && (!s.audited || m.Step >= s.step) {
			s.audited, s.step, s.epoch = true, m.Step, m.Epoch
		}
		return s
	}
	r := &d.records
	for _, row := range r.Training {
		find(row.Moment, false)
	}
	for _, row := range r.Evaluation {
		find(row.Moment, true)
	}
	for _, row := range r.Errors {
		find(row.Moment, true)
	}
	for _, row := range r.Influence {
		find(row.Moment, true)
	}
	for _, row := range r.Coherence {
		find(row.Moment, true)
	}
	for _, s := range d.series {
		ours := func(m audit.Moment) bool { return s.step == m.Step && s.wrote(m) }
		s.evaluated = rowsOf(r.Evaluation, func(row audit.EvaluationRow) bool { return ours(row.Moment) })
		s.rollouts = rowsOf(r.Rollouts, func(row audit.RolloutRow) bool { return ours(row.Moment) })
		s.errors = rowsOf(r.Errors, func(row audit.ErrorRow) bool { return ours(row.Moment) })
		s.local = rowsOf(r.LocalErrors, func(row audit.LocalErrorRow) bool { return ours(row.Moment) })
		for _, row := range r.Influence {
			if ours(row.Moment) {
				s.influence = append(s.influence, influenceRow{row, named(row.GroupName, row.Direction)})
			}
		}
		s.layers = rowsOf(r.Layers, func(row audit.LayerRow) bool { return ours(row.Moment) })
		s.spectrum = rowsOf(r.Spectrum, func(row audit.SpectrumRow) bool { return ours(row.Moment) })
		s.pictures = rowsOf(r.Pictures, func(row audit.PictureRow) bool { return ours(row.Moment) })
	}
	d.label(len(runs) > 1)
}

func rowsOf[Row any](all []Row, ours func(Row) bool) (rows []Row) {
	for _, row := range all {
		if ours(row) {
			rows = append(rows, row)
		}
	}
	return rows
}

// label names the series. Of several runs, those of one model share a colour.
func (d *data) label(several bool) {
	var models []string
	for at, s := range d.series {
		alike := func(same func(other *series) bool) bool {
			return slices.ContainsFunc(d.series, func(other *series) bool {
				return other.model == s.model && other.run == s.run && same(other)
			})
		}
		s.label = s.model
		if alike(func(other *series) bool { return other.seed != s.seed }) {
			s.label = fmt.Sprintf("%s, seed %d", s.model, s.seed)
		}
		if alike(func(other *series) bool { return other.seed == s.seed && other.from != s.from }) {
			s.label += fmt.Sprintf(", from attempt %d", max(1, s.from)) // with other settings than the others
		}
		if !several && !d.seeded() {
			continue
		}
		if several {
			s.label = d.names[s.run] + ": " + s.label
		}
		if models = appendNew(models, s.model); len(models) > 1 || len(models) < len(d.series) {
			s.style.Color, s.style.Glyph = slices.Index(models, s.model), 0
			for _, other := range d.series[:at] {
				if other.model == s.model {
					s.style.Glyph++
				}
			}
		}
	}
}

func (d *data) findGroups() {
	add := func(of, direction, element string, by shift) {
		name := named(of, direction)
		at := slices.IndexFunc(d.groups, func(g group) bool { return g.name == name })
		if at < 0 {
			at = len(d.groups)
			if name == of {
				direction = ""
			}
			d.groups = append(d.groups, group{name: name, of: of, direction: direction})
		}
		g := &d.groups[at]
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
	for _, s := range d.series {
		for _, row := range s.errors {
			add(row.GroupName, "", row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ})
		}
	}
	for _, s := range d.series {
		for _, row := range s.influence {
			add(row.GroupName, row.Direction, row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ})
		}
	}
	for _, row := range d.records.Coherence {
		add(row.GroupName, row.Direction, row.Element, shift{row.ShiftX, row.ShiftY, row.ShiftZ})
	}
	nameFiles(d.groups)
}

// keepSmallestDampings keeps, of an audit at several dampings, the smallest: it is the nearest to the undamped metric. Only
// the figure against damping shows the others.
func (d *data) keepSmallestDampings() {
	type audited struct {
		moment audit.Moment
		group  string
	}
	smallest := map[audited]float64{}
	for _, row := range d.records.Coherence {
		key := audited{row.Moment, named(row.GroupName, row.Direction)}
		value := damping(row.RelativeLambda, row.Lambda)
		if known, ok := smallest[key]; !ok || value < known {
			smallest[key] = value
		}
	}
	for _, row := range d.records.Coherence {
		name := named(row.GroupName, row.Direction)
		if damping(row.RelativeLambda, row.Lambda) <= smallest[audited{row.Moment, name}] {
			d.coherence = append(d.coherence, coherenceRow{row, name})
		}
	}
	for _, s := range d.series {
		smallest := map[string]float64{}
		for _, row := range s.influence {
			value := damping(row.RelativeLambda, &row.Lambda)
			if known, ok := smallest[row.group]; !ok || value < known {
				smallest[row.group] = value
			}
		}
		s.influence = slices.DeleteFunc(s.influence, func(row influenceRow) bool {
			return row.RelativeLambda != nil && *row.RelativeLambda > smallest[row.group] || row.RelativeLambda == nil && row.Lambda > smallest[row.group]
		})
	}
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

var unsafe = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// nameFiles gives each group a name for its files that keeps within the folder, is short enough for any file system, and
// unlike the others' even where upper and lower case are the same.
func nameFiles(groups []group) {
	const longest = 80
	plain := func(g group) string { return unsafe.ReplaceAllString(g.name, "-") }
	for i := range groups {
		g := &groups[i]
		g.file = plain(*g)
		alike := func(other group) bool { return other.name != g.name && strings.EqualFold(plain(other), g.file) }
		if len(g.file) > longest || slices.ContainsFunc(groups, alike) {
			hash := sha256.Sum256([]byte(g.name))
			g.file = fmt.Sprintf("%s-%x", g.file[:min(len(g.file), longest)], hash[:4])
		}
	}
}

func appendNew[T comparable](known []T, one T) []T {
	if slices.Contains(known, one) {
		return known
	}
	return append(known, one)
}
