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
	training Training       // as the latest Enter had it; described when it first writes, so that what never wrote binds nobody
	writer   any            // whose Enter was the latest; nil after Leave
	left     int64          // step at which it left
	last     int64          // highest step written
	audited  map[int64]bool // steps of the audits written in this attempt
	entered  bool           // since the latest write: an audit of the same step again begins a new attempt
	back     bool           // it entered at an earlier step than it has written: its next write begins a new attempt
}

// Enter tells the run that a training writes to it, from a step on, with audits of these settings. A hook calls it when it is
// attached, and when a run of its loop begins; writer is the hook.
//
// It refuses a training with the name and seed of another, and one whose audits have other settings than those that the run has
// of it: their values would be one series by the files. Where the training has gone back to an earlier step than it has written,
// its next write begins an attempt, so that attempt, model, seed and step say which audit a row is of.
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
	now := r.of(id)
	switch {
	case now.writer != nil && now.writer != writer:
		return fmt.Errorf("writers: two trainings write to %s as model %s; give each a name or seed of its own (hooks.Builder.WithModel), or close the first hook if it is the same training", r.Dir(), id)
	case now.writer == nil && step < min(now.last, now.left):
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
	now.training, now.writer, now.entered, now.back = training, writer, true, step < now.last
	return nil
}

// of is what is remembered of a training.
func (r *Run) of(id identity) *presence {
	if r.present[id] == nil {
		r.present[id] = &presence{training: Training{Model: id.model, Seed: id.seed, Series: 1}, audited: map[int64]bool{}}
	}
	return r.present[id]
}

// Leave tells the run that a writer has ended, with its training at a step: another may go on with that, from there.
func (r *Run) Leave(writer any, step int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, now := range r.present {
		if now.writer == writer {
			now.writer, now.left = nil, step
		}
	}
}

// SeriesBegan is the first attempt of the series of audits that a training goes on with: of those before it the settings were
// others.
func (r *Run) SeriesBegan(model string, seed int64) (attempt int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := identity{model, seed}
	series := int32(0)
	for _, info := range r.attempts() {
		for _, t := range info.Trainings {
			if t.identity() == id && t.Series > series {
				series, attempt = t.Series, info.Attempt
			}
		}
	}
	if r.of(id).training.Series > series {
		attempt = r.info.Attempt // it is about to begin
	}
	return attempt
}

// attempts are all, oldest first.
func (r *Run) attempts() []Info { return append(slices.Clone(r.earlier), r.info) }

// latest is what the run knows of a training: of this attempt, or of the latest before it.
func (r *Run) latest(id identity) *Training {
	return latestTraining(r.attempts(), id)
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

// admit prepares the run for records: a training that writes for the first time in this attempt is described, and where one has gone
// back a new attempt begins. It refuses a second audit of a step, unless an Enter has announced that the training went back.
func (r *Run) admit(records *audit.Records) error {
	again := false
	var ids []identity
	for _, at := range writtenIn(records) {
		id := identity{at.moment.Model, at.moment.Seed}
		now := r.of(id)
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		repeated := at.audit && now.audited[at.moment.Step]
		switch {
		case now.back || now.entered && repeated:
			again = true
		case repeated:
			return fmt.Errorf("writers: model %s was audited at step %d already, in attempt %d of %s; give each training a name or seed of its own (hooks.Builder.WithModel)", id, at.moment.Step, r.info.Attempt, r.Dir())
		}
	}
	info := r.info
	info.Trainings = slices.Clone(info.Trainings)
	if again {
		info = info.again()
		info.Trainings = nil
	}
	for _, id := range ids {
		known := func(t Training) bool { return t.identity() == id }
		if !slices.ContainsFunc(info.Trainings, known) {
			info.Trainings = append(info.Trainings, r.of(id).training)
		}
	}
	if !again && len(info.Trainings) == len(r.info.Trainings) {
		return nil
	}
	before := r.info
	if err := r.describe(info); err != nil {
		return err
	}
	if again {
		r.earlier = append(r.earlier, before)
		for _, now := range r.present {
			now.audited, now.training.Step = map[int64]bool{}, now.last // those that did not go back go on from where they are
		}
	}
	return nil
}

// wrote notes what is written.
func (r *Run) wrote(records *audit.Records) {
	for _, at := range writtenIn(records) {
		now := r.of(identity{at.moment.Model, at.moment.Seed})
		if now.back {
			now.last = 0
		}
		now.entered, now.back = false, false
		now.last = max(now.last, at.moment.Step)
		if at.audit {
			now.audited[at.moment.Step] = true
		}
	}
}

// written is the moment of a row, of an audit or of a training step.
type written struct {
	moment audit.Moment
	audit  bool
}

func writtenIn(records *audit.Records) (all []written) {
	for _, row := range records.Training {
		all = append(all, written{row.Moment, false})
	}
	for _, row := range records.Decisions {
		all = append(all, written{row.Moment, false})
	}
	for _, row := range records.Solves { // of a part of an audit, which has no coherence yet
		all = append(all, written{row.Moment, true})
	}
	for _, row := range records.Coherence {
		all = append(all, written{row.Moment, true})
	}
	return all
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
	if strings.HasPrefix(d.Setting, audit.SettingProbes) { // the whole digests say no more
		return fmt.Sprintf("%s were %.8s and are %.8s", d.Setting, d.Was, d.Is)
	}
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
