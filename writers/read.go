package writers

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// Contents is what a run directory holds.
type Contents struct {
	Info    Info   // of the process that began the run
	Resumes []Info // of those that resumed it
	Records audit.Records
}

// Training is what the run knows of one, from the latest attempt at it; nil where it knows nothing.
func (c *Contents) Training(model string, seed int64) *Training {
	return latestTraining(append([]Info{c.Info}, c.Resumes...), identity{model, seed})
}

// Series are the attempts [from, to) at the training of a row whose audits have its settings; those of others are another series,
// and no line joins the two (Builder.WithNewSeries).
func (c *Contents) Series(of audit.Moment) (from, to int32) {
	from, to = 0, math.MaxInt32
	series := int32(0)
	for _, info := range append([]Info{c.Info}, c.Resumes...) {
		for _, t := range info.Trainings {
			if t.identity() != (identity{of.Model, of.Seed}) || t.Series == series {
				continue
			}
			if info.Attempt > of.Attempt {
				return from, info.Attempt
			}
			if series > 0 { // the first is of all rows before
				from = info.Attempt
			}
			series = t.Series
		}
	}
	return from, to
}

// Read returns the whole parts of the run in dir, in the order in which they were written: of the tables that are named, such as
// "coherence", or of all where none is and in runs of schema version 1. It may run while another process writes.
//
// A resumed process measures some steps again. Of a table's rows of one model and seed, those of an attempt are left out from
// the first step on that a later attempt has. Runs of schema version 1 are converted. A part that is being written, or that a
// crash left unfinished, is left out; a file that is damaged or gone is an error that names it.
func Read(dir string, tableNamed ...string) (*Contents, error) {
	for _, name := range tableNamed {
		if !slices.Contains(tableNames(), name) {
			return nil, fmt.Errorf("writers: there is no table %q; use some of %s", name, strings.Join(tableNames(), ", "))
		}
	}
	r, err := open(dir)
	if err != nil {
		return nil, err
	}
	wanted := func(table string) bool {
		return len(tableNamed) == 0 || r.version() == 1 || slices.Contains(tableNamed, table) // to convert takes the others
	}
	for _, number := range numbersOf(r.parts) {
		part, err := r.part(number, wanted, nil)
		if err != nil {
			return nil, err
		}
		r.contents.Records.Add(part)
	}
	return r.current(), nil
}

// ReadLatest is Read without the tables that are long, but for the latest audit of each series of a training: of rollouts, errors, local_errors, influence,
// layers, spectrum and pictures there are no other rows. Files with none of these are not opened, so that it takes little time and memory where Read takes much; what is damaged in them
// is for Check to find. Runs of schema version 1 are read whole.
func ReadLatest(dir string) (*Contents, error) {
	r, err := open(dir)
	if err != nil {
		return nil, err
	}
	if r.version() == 1 {
		return Read(dir)
	}
	short := func(table string) bool {
		return slices.Contains([]string{"training", "decisions", "evaluation", "solves", "coherence"}, table)
	}
	audits := map[int][]audit.CoherenceRow{} // by part
	for _, number := range numbersOf(r.parts) {
		part, err := r.part(number, short, nil)
		if err != nil {
			return nil, err
		}
		audits[number] = part.Coherence
		r.contents.Records.Add(part)
	}
	contents := r.current()
	latest := latestAudits(contents)
	isLatest := func(m *audit.Moment) bool { return latest[whichAudit(m)] }
	for _, number := range numbersOf(r.parts) {
		if !slices.ContainsFunc(audits[number], func(row audit.CoherenceRow) bool { return isLatest(&row.Moment) }) {
			continue
		}
		part, err := r.part(number, func(table string) bool { return !short(table) }, isLatest)
		if err != nil {
			return nil, err
		}
		contents.Records.Add(part)
	}
	return contents, nil
}

// auditKey tells the audits of a run apart.
type auditKey struct {
	identity
	attempt int32
	step    int64
}

func whichAudit(m *audit.Moment) auditKey {
	return auditKey{identity{m.Model, m.Seed}, m.Attempt, m.Step}
}

// latestAudits are those of each series of a training.
func latestAudits(contents *Contents) map[auditKey]bool {
	type series struct {
		identity
		from int32
	}
	last := map[series]*audit.Moment{}
	for i := range contents.Records.Coherence {
		m := &contents.Records.Coherence[i].Moment
		from, _ := contents.Series(*m)
		of := series{identity{m.Model, m.Seed}, from}
		if known := last[of]; known == nil || m.Step >= known.Step {
			last[of] = m
		}
	}
	latest := map[auditKey]bool{}
	for _, m := range last {
		latest[whichAudit(m)] = true
	}
	return latest
}

// reading is a run that is being read.
type reading struct {
	run      directory
	parts    map[string][]int // the numbers of the whole ones, by table
	contents *Contents
}

func open(dir string) (*reading, error) {
	infos, err := readInfos(dir)
	if err != nil {
		return nil, err
	}
	if len(infos) == 0 {
		return nil, fmt.Errorf("writers: %s holds no run: it has no %s; name a run's own directory, such as runs/a", dir, firstInfoName)
	}
	r := &reading{run: directory{path: dir}, contents: &Contents{Info: infos[0], Resumes: infos[1:]}}
	r.parts, err = r.run.wholeParts()
	return r, err
}

// version is that of the run's schema.
func (r *reading) version() int { return r.contents.Info.SchemaVersion }

// part reads tables of one.
func (r *reading) part(number int, wanted func(table string) bool, keep keep) (*audit.Records, error) {
	part, version := &audit.Records{}, 0
	for _, table := range tables {
		if _, found := slices.BinarySearch(r.parts[table.name()], number); !found || !wanted(table.name()) {
			continue
		}
		path := r.run.visible(table.name(), number)
		var err error
		if version, err = table.decode(path, keep, part); err != nil {
			return nil, err
		}
		for _, m := range part.Moments() {
			if int(m.Attempt) > len(r.contents.Resumes)+1 {
				return nil, fmt.Errorf("writers: %s is missing: %s is of attempt %d; restore it from a copy", filepath.Join(r.run.path, infoName(m.Attempt)), path, m.Attempt)
			}
			if m.RunID != r.contents.Info.RunID {
				return nil, fmt.Errorf("writers: %s is of run %q, and %s of run %q; move all files of its number away, or restore the description from a copy", path, m.RunID, filepath.Join(r.run.path, firstInfoName), r.contents.Info.RunID)
			}
		}
	}
	if version == 1 {
		completeVersion1(part)
	}
	return part, nil
}

// current are the contents without superseded rows.
func (r *reading) current() *Contents {
	for _, table := range tables {
		table.keepCurrent(&r.contents.Records)
	}
	return r.contents
}

// numbersOf are those of all parts, ascending.
func numbersOf(parts map[string][]int) (numbers []int) {
	for _, ofTable := range parts {
		numbers = append(numbers, ofTable...)
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}
