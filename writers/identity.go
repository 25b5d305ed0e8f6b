package writers

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/symaudit/symaudit/audit"
)

// Training is what one process knows of a training that writes to a run. Run, model and seed identify it.
type Training struct {
	Model string `json:"model"`
	Seed  int64  `json:"seed"`
	Step  int64  `json:"step"` // optimizer steps done when this attempt at it began
	// Series is 1 at first, and one more each time that the user has begun a new one with other settings (Builder.WithNewSeries).
	Series   int32             `json:"series"`
	Settings map[string]string `json:"settings,omitempty"` // of its audits, by name; see audit.Auditor.Settings
}

// identity tells the trainings of a run apart.
type identity struct {
	model string
	seed  int64
}

func (id identity) String() string { return fmt.Sprintf("%q, seed %d", id.model, id.seed) }

func (t Training) identity() identity { return identity{t.Model, t.Seed} }

// presence is what a run remembers, in this process, of a training that writes to it.
type presence struct {
	writer  any            // whose Enter was the latest; nil after Leave
	last    int64          // highest step written
	audited map[int64]bool // steps of audits written in this attempt
	entered bool           // since the latest write: an audit of the same step again begins a new attempt
}

// Enter tells the run that a training writes to it, from a step on, with audits of these settings. A hook calls it when it is
// attached, and when a run of its loop begins; writer is the hook.
//
// It refuses a training with the name and seed of another, and one whose audits have other settings than those that the run has
// of it: their values would be one series by the files. Where the training goes back to an earlier step than it has written, a
// new attempt begins, so that attempt, model, seed and step say which audit a row is of.
func (r *Run) Enter(writer any, model string, seed, step int64, settings map[string]string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil {
		return r.closed
	}
	id := identity{model, seed}
	if err := validText("the model's name", model); err != nil {
		return err
	}
	now := r.present[id]
	switch {
	case now == nil:
	case now.writer != nil && now.writer != writer:
		return fmt.Errorf("writers: two trainings write to %s as model %s; give each a name or seed of its own (hooks.Builder.WithModel)", r.Dir(), id)
	case now.writer == nil && step < now.last:
		return fmt.Errorf("writers: model %s was written to %s up to step %d, and a training that begins at step %d is another; give it a name or seed of its own (hooks.Builder.WithModel), or resume the run (WithResume) where it is to be the same", id, r.Dir(), now.last, step)
	}
	training := Training{Model: model, Seed: seed, Step: step, Series: 1, Settings: settings}
	if before := r.latest(id); before != nil {
		training.Series = before.Series
		if differ := differences(before.Settings, settings); differ != nil {
			if !r.newSeries {
				return &OtherSettingsError{Dir: r.Dir(), Model: model, Seed: seed, Differences: differ}
			}
			training.Series++
		}
	}
	if now == nil {
		now = &presence{audited: map[int64]bool{}}
		r.present[id] = now
	}
	now.writer, now.entered = writer, true
	if step < now.last {
		return r.beginAttempt(training)
	}
	return r.note(training)
}

// Leave tells the run that a writer has ended: another may go on with its training, from where it is.
func (r *Run) Leave(writer any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, now := range r.present {
		if now.writer == writer {
			now.writer = nil
		}
	}
}

// SeriesBegan is the first attempt of the series of audits that a training goes on with: of those before it the settings were
// others.
func (r *Run) SeriesBegan(model string, seed int64) (attempt int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	series, attempt := int32(0), int32(0)
	for _, info := range append(slices.Clone(r.earlier), r.info) {
		for _, t := range info.Trainings {
			if t.identity() == (identity{model, seed}) && t.Series > series {
				series, attempt = t.Series, info.Attempt
			}
		}
	}
	return attempt
}

// latest is what the run knows of a training: of this attempt, or of the latest before it.
func (r *Run) latest(id identity) *Training {
	return latestTraining(append(slices.Clone(r.earlier), r.info), id)
}

func latestTraining(attempts []Info, id identity) *Training {
	for _, info := range slices.Backward(attempts) {
		for i := range info.Trainings {
			if info.Trainings[i].identity() == id {
				return &info.Trainings[i]
			}
		}
	}
	return nil
}

// note adds a training to the attempt's description.
func (r *Run) note(training Training) error {
	at := slices.IndexFunc(r.info.Trainings, func(t Training) bool { return t.identity() == training.identity() })
	if at >= 0 && r.info.Trainings[at].Series == training.Series {
		return nil // it goes on
	}
	info := r.info
	info.Trainings = slices.Clone(info.Trainings)
	if at >= 0 {
		info.Trainings = slices.Delete(info.Trainings, at, at+1)
	}
	info.Trainings = append(info.Trainings, training)
	return r.describe(info)
}

// beginAttempt begins one in the midst of a process, for a training that goes back. The others go on in it, from where they are.
func (r *Run) beginAttempt(back Training) error {
	info := r.info.again()
	info.Trainings = nil
	for _, t := range r.info.Trainings {
		if t.identity() == back.identity() {
			continue
		}
		if now := r.present[t.identity()]; now != nil {
			t.Step = now.last
		}
		info.Trainings = append(info.Trainings, t)
	}
	info.Trainings = append(info.Trainings, back)
	before := r.info
	if err := r.describe(info); err != nil {
		return err
	}
	r.earlier = append(r.earlier, before)
	for _, now := range r.present {
		now.audited = map[int64]bool{}
	}
	r.present[back.identity()].last = back.Step
	return nil
}

// admit checks that records are no second audit of a step in one attempt; one that an Enter announced begins a new attempt.
func (r *Run) admit(records *audit.Records) error {
	for _, row := range records.Coherence {
		id := identity{row.Model, row.Seed}
		now := r.present[id]
		if now == nil || !now.audited[row.Step] {
			continue
		}
		if !now.entered {
			return fmt.Errorf("writers: model %s was audited at step %d already, in attempt %d of %s; give each training a name or seed of its own (hooks.Builder.WithModel)", id, row.Step, r.info.Attempt, r.Dir())
		}
		training := Training{Model: row.Model, Seed: row.Seed, Step: row.Step, Series: 1}
		if known := r.latest(id); known != nil {
			training.Series, training.Settings = known.Series, known.Settings
		}
		return r.beginAttempt(training)
	}
	return nil
}

// wrote notes what is written.
func (r *Run) wrote(records *audit.Records) {
	see := func(m audit.Moment) *presence {
		id := identity{m.Model, m.Seed}
		if r.present[id] == nil {
			r.present[id] = &presence{audited: map[int64]bool{}}
		}
		now := r.present[id]
		now.last, now.entered = max(now.last, m.Step), false
		return now
	}
	for _, row := range records.Training {
		see(row.Moment)
	}
	for _, row := range records.Coherence {
		see(row.Moment).audited[row.Step] = true
	}
}

// OtherSettingsError says that a run has audits of a training with other settings.
type OtherSettingsError struct {
	Dir         string
	Model       string
	Seed        int64
	Differences []Difference // by name
}

// Difference is a setting of audits that has changed; "none" stands for one that is not there.
type Difference struct{ Setting, Was, Is string }

func (d Difference) String() string {
	return fmt.Sprintf("%s was %s and is %s", d.Setting, d.Was, d.Is)
}

// Error lists the differences, and what a program can do about them.
func (e *OtherSettingsError) Error() string {
	var all []string
	for _, d := range e.Differences {
		all = append(all, d.String())
	}
	return fmt.Sprintf("writers: %s has audits of model %s with other settings: %s; use those of before, begin a new series (writers.Builder.WithNewSeries), or choose another directory",
		e.Dir, identity{e.Model, e.Seed}, strings.Join(all, ", "))
}

// differences lists the settings that differ; none where nothing is known of one side.
func differences(before, now map[string]string) (all []Difference) {
	if len(before) == 0 || len(now) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(before))
	for name := range now {
		if _, known := before[name]; !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	word := func(settings map[string]string, name string) string {
		if value, ok := settings[name]; ok {
			return value
		}
		return "none"
	}
	for _, name := range names {
		if was, is := word(before, name), word(now, name); was != is {
			all = append(all, Difference{name, was, is})
		}
	}
	return all
}

// validText refuses what Parquet's strings, which are UTF-8, cannot hold and readers would stumble over.
func validText(what, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("writers: %s, %q, is not UTF-8, which is all that tables can hold; convert it", what, text)
	}
	return nil
}
