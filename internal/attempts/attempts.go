// Package attempts says which rows of a training count where it was gone back to an earlier step, and how it ended: the one rule of readers, stop rules
// and reports.
package attempts

import (
	"slices"

	"github.com/symaudit/symaudit/audit"
)

// Current leaves out the superseded rows of a table: of the rows of one run, model and seed, those of an attempt from the first step on
// that a later attempt has. It changes rows.
func Current[Row any](rows []Row, moment func(*Row) *audit.Moment) []Row {
	type training struct {
		run, model string
		seed       int64
	}
	first := map[training]map[int32]int64{} // step, by attempt
	of := func(m *audit.Moment) training { return training{m.RunID, m.Model, m.Seed} }
	for i := range rows {
		m := moment(&rows[i])
		steps := first[of(m)]
		if steps == nil {
			steps = map[int32]int64{}
			first[of(m)] = steps
		}
		if step, known := steps[m.Attempt]; !known || m.Step < step {
			steps[m.Attempt] = m.Step
		}
	}
	return slices.DeleteFunc(rows, func(row Row) bool {
		m := moment(&row)
		for attempt, step := range first[of(m)] {
			if attempt > m.Attempt && step <= m.Step {
				return true
			}
		}
		return false
	})
}

// Ending is how a training ended: its latest decision, nil where it has none, or has gone on since. ours tells its moments.
func Ending(records *audit.Records, ours func(*audit.Moment) bool) (latest *audit.DecisionRow) {
	for i := range records.Decisions {
		if row := &records.Decisions[i]; ours(&row.Moment) && (latest == nil || !Later(&latest.Moment, &row.Moment)) {
			latest = row
		}
	}
	if latest == nil {
		return nil
	}
	for i := range records.Training {
		if m := &records.Training[i].Moment; Later(m, &latest.Moment) && ours(m) {
			return nil
		}
	}
	for i := range records.Coherence {
		if m := &records.Coherence[i].Moment; Later(m, &latest.Moment) && ours(m) {
			return nil
		}
	}
	return latest
}

// Later reports whether a was measured after b, of one training.
func Later(a, b *audit.Moment) bool {
	return a.Attempt > b.Attempt || a.Attempt == b.Attempt && a.Step > b.Step
}
