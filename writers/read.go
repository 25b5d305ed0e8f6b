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
	infos, err := readInfos(dir)
	if err != nil {
		return nil, err
	}
	if len(infos) == 0 {
		return nil, fmt.Errorf("writers: %s holds no run: it has no %s; name a run's own directory, such as runs/a", dir, firstInfoName)
	}
	if infos[0].SchemaVersion == 1 {
		tableNamed = nil // to convert one takes the others
	}
	contents := &Contents{Info: infos[0], Resumes: infos[1:]}
	run := directory{path: dir}
	parts, err := run.wholeParts()
	if err != nil {
		return nil, err
	}
	for _, number := range numbersOf(parts) {
		part, version := &audit.Records{}, 0
		for _, table := range tables {
			_, found := slices.BinarySearch(parts[table.name()], number)
			if !found || len(tableNamed) > 0 && !slices.Contains(tableNamed, table.name()) {
				continue
			}
			path := run.visible(table.name(), number)
			if version, err = table.decode(path, part); err != nil {
				return nil, err
			}
			for _, m := range part.Moments() {
				if int(m.Attempt) > len(infos) {
					return nil, fmt.Errorf("writers: %s is missing: %s is of attempt %d; restore it from a copy", filepath.Join(dir, infoName(m.Attempt)), path, m.Attempt)
				}
				if m.RunID != contents.Info.RunID {
					return nil, fmt.Errorf("writers: %s is of run %q, and %s of run %q; move all files of its number away, or restore the description from a copy", path, m.RunID, filepath.Join(dir, firstInfoName), contents.Info.RunID)
				}
			}
		}
		if version == 1 {
			completeVersion1(part)
		}
		contents.Records.Add(part)
	}
	for _, table := range tables {
		table.keepCurrent(&contents.Records)
	}
	return contents, nil
}

// numbersOf are those of all parts, ascending.
func numbersOf(parts map[string][]int) (numbers []int) {
	for _, ofTable := range parts {
		numbers = append(numbers, ofTable...)
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}
