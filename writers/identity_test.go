package writers

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parquet-go/parquet-go"
	"github.com/symaudit/symaudit/audit"
)

// A run knows who writes to it, with what, and which audit a row is of.

func modelAt(model string, seed, step int64) *audit.Records {
	records := auditAt(step)
	moments(records, func(m *audit.Moment) { m.Model, m.Seed = model, seed })
	return records
}

func moments(records *audit.Records, f func(*audit.Moment)) {
	for i := range records.Training {
		f(&records.Training[i].Moment)
	}
	for i := range records.Errors {
		f(&records.Errors[i].Moment)
	}
	for i := range records.Influence {
		f(&records.Influence[i].Moment)
	}
	for i := range records.Solves {
		f(&records.Solves[i].Moment)
	}
	for i := range records.Coherence {
		f(&records.Coherence[i].Moment)
	}
}

var ours = map[string]string{"probes": "0123", "relative_lambda": "0.01"}

func TestTwoTrainingsOfOneNameAreRefused(t *testing.T) {
	run := openRun(t, t.TempDir())
	require.NoError(t, run.Enter("first", "model", 0, 0, ours))
	require.ErrorContains(t, run.Enter("second", "model", 0, 0, ours), `two trainings write to `+run.Dir()+` as model "model", seed 0; give each a name or seed of its own`)
	require.NoError(t, run.Enter("second", "model", 1, 0, ours), "another seed")
	require.NoError(t, run.Enter("third", "other", 0, 0, map[string]string{"probes": "4567"}), "another model, on other probes")
	require.NoError(t, run.Write(modelAt("model", 0, 6)))
	run.Leave("first", 6)
	require.ErrorContains(t, run.Enter("fourth", "model", 0, 0, ours), "was written to "+run.Dir()+" up to step 6, and a training that begins at step 0 is another")
	require.NoError(t, run.Enter("fourth", "model", 0, 6, ours), "it goes on")
	require.Equal(t, int32(1), run.Attempt())
}

// Whoever writes past the hooks is told that a step has its audit.
func TestAnAuditOfAStepIsWrittenOnce(t *testing.T) {
	run := openRun(t, t.TempDir())
	require.NoError(t, run.Write(modelAt("model", 0, 4)))
	require.NoError(t, run.Write(modelAt("model", 1, 4)))
	require.NoError(t, run.Write(modelAt("model", 0, 6)))
	require.ErrorContains(t, run.Write(modelAt("model", 0, 4)), `model "model", seed 0 was audited at step 4 already, in attempt 1 of `+run.Dir())
}

// A training that goes back to restored weights begins an attempt: (attempt, model, seed, step) stays unique, and what it has taken
// back is superseded.
func TestATrainingThatGoesBackBeginsAnAttempt(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Enter("a", "model", 0, 0, ours))
	require.NoError(t, run.Enter("b", "other", 0, 0, ours))
	for _, step := range []int64{2, 4, 6, 8} {
		require.NoError(t, run.Write(modelAt("model", 0, step)))
		require.NoError(t, run.Write(modelAt("other", 0, step)))
	}
	require.NoError(t, run.Enter("a", "model", 0, 4, ours)) // restored
	require.NoError(t, run.Write(modelAt("model", 0, 6)))
	require.Equal(t, int32(2), run.Attempt())
	require.NoError(t, run.Write(modelAt("other", 0, 10)))
	contents, err := Read(dir)
	require.NoError(t, err)
	attempts := map[string]map[int64]int32{"model": {}, "other": {}}
	for _, row := range contents.Records.Coherence {
		attempts[row.Model][row.Step] = row.Attempt
	}
	require.Equal(t, map[int64]int32{2: 1, 4: 1, 6: 2}, attempts["model"], "step 8 was taken back")
	require.Equal(t, map[int64]int32{2: 1, 4: 1, 6: 1, 8: 1, 10: 2}, attempts["other"])
	require.Len(t, contents.Resumes, 1)
	require.Equal(t, int64(4), contents.Training("model", 0).Step)
	require.Equal(t, int64(8), contents.Training("other", 0).Step)
	require.NoError(t, run.Close())
	require.Equal(t, int32(3), resumeRun(t, dir).Attempt())
}

// Restored weights may be trained on by another hook of the process, from the step that the first left.
func TestAnotherHookGoesOnFromRestoredWeights(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Enter("a", "model", 0, 0, ours))
	require.NoError(t, run.Write(modelAt("model", 0, 4)))
	require.NoError(t, run.Write(modelAt("model", 0, 8)))
	run.Leave("a", 4)
	require.ErrorContains(t, run.Enter("b", "model", 0, 0, ours), "is another")
	require.NoError(t, run.Enter("b", "model", 0, 4, ours))
	require.NoError(t, run.Write(modelAt("model", 0, 6)))
	steps := map[int64]int32{}
	for _, row := range readRecords(t, dir).Coherence {
		steps[row.Step] = row.Attempt
	}
	require.Equal(t, map[int64]int32{4: 1, 6: 2}, steps)
}

// An initial audit of the step that the run before ended with is another audit of it.
func TestAnAuditAgainAfterEnteringBeginsAnAttempt(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Enter("a", "model", 0, 0, ours))
	require.NoError(t, run.Write(modelAt("model", 0, 4)))
	run.Leave("a", 4)
	require.NoError(t, run.Enter("b", "model", 0, 4, ours))
	require.NoError(t, run.Write(modelAt("model", 0, 4)))
	require.Equal(t, int32(2), run.Attempt())
	require.Len(t, readRecords(t, dir).Coherence, 2, "one audit, of two rows")
}

func TestOtherSettingsAreNoContinuation(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Enter("a", "unet", 7, 0, ours))
	require.NoError(t, run.Enter("b", "vit", 7, 0, map[string]string{"probes": "89"}))
	require.NoError(t, run.Write(auditAt(1)))
	require.NoError(t, run.Close())
	other := map[string]string{"probes": "4567", "relative_lambda": "0.01", "metric": "ggn"}

	resumed := resumeRun(t, dir)
	err := resumed.Enter("a", "unet", 7, 1, other)
	require.EqualError(t, err, "writers: "+dir+` has audits of model "unet", seed 7 with other settings: metric was none and is ggn, probes was 0123 and is 4567; use those of before, begin a new series (writers.Builder.WithNewSeries), or choose another directory`)
	require.NoError(t, resumed.Enter("b", "vit", 7, 0, map[string]string{"probes": "89"}), "each model has its own")
	require.Equal(t, int32(1), resumed.SeriesBegan("unet", 7))
	require.NoError(t, resumed.Close())
	void, err := Parquet(dir).WithResume().WithNewSeries().Done() // a series that has no row binds nobody
	require.NoError(t, err)
	require.NoError(t, void.Enter("a", "unet", 7, 1, other))
	require.NoError(t, void.Close())

	anew, err := Parquet(dir).WithResume().WithNewSeries().Done()
	require.NoError(t, err)
	require.NoError(t, anew.Enter("a", "unet", 7, 1, other))
	require.Equal(t, int32(4), anew.SeriesBegan("unet", 7))
	require.NoError(t, anew.Write(auditAt(2)))
	require.NoError(t, anew.Close())
	contents, err := Read(dir)
	require.NoError(t, err)
	require.Equal(t, int32(2), contents.Training("unet", 7).Series)
	require.Equal(t, other, contents.Training("unet", 7).Settings)
	require.ErrorContains(t, resumeRun(t, dir).Enter("a", "unet", 7, 2, ours), "metric was ggn and is none")
}

func TestARunOfAnotherKindIsNotResumed(t *testing.T) {
	dir := t.TempDir()
	run, err := Parquet(dir).WithInfo(Info{Kind: KindAudit}).Done()
	require.NoError(t, err)
	require.NoError(t, run.Write(auditAt(1)))
	require.NoError(t, run.Close())
	_, err = Parquet(dir).WithResume().WithInfo(Info{Kind: KindTraining}).Done()
	require.EqualError(t, err, "writers: "+dir+" holds a run of another kind: it was made by an audit, not by a training; choose another directory")
	require.Equal(t, int32(2), resumeRun(t, dir).Attempt(), "a program that does not say is no other kind")
}

func TestCheckMakesNothing(t *testing.T) {
	require.EqualError(t, Parquet("").Check(), "writers: the run directory has no name; give one, such as runs/first")
	dir := filepath.Join(t.TempDir(), "a")
	require.NoError(t, Parquet(dir).Check())
	require.NoDirExists(t, dir)
	require.NoError(t, os.WriteFile(dir, nil, 0o666))
	require.Error(t, Parquet(dir).Check())
}

// What a process has left that wrote nothing blocks nobody.
func TestARunWithoutARowIsBegunAnew(t *testing.T) {
	dir := t.TempDir()
	empty := openRun(t, dir)
	require.NoError(t, empty.Close())
	require.NoError(t, resumeRun(t, dir).Close())
	run := openRun(t, dir)
	require.NotEqual(t, empty.ID(), run.ID())
	require.Equal(t, int32(1), run.Attempt())
	require.NoError(t, run.Write(auditAt(1)))
	contents, err := Read(dir)
	require.NoError(t, err)
	require.Empty(t, contents.Resumes)
}

func TestTextThatIsNotUTF8IsRefused(t *testing.T) {
	run := openRun(t, t.TempDir())
	records := auditAt(1)
	records.Influence[0].ColClass = "Stra\xdfe"
	require.ErrorContains(t, run.Write(records), `table influence: ColClass is "Stra\xdfe", which is not UTF-8`)
	require.ErrorContains(t, run.Enter("a", "Stra\xdfe", 0, 0, nil), `the model's name, "Stra\xdfe", is not UTF-8`)
	_, err := Parquet(t.TempDir()).WithInfo(Info{Config: "Stra\xdfe"}).Done()
	require.ErrorContains(t, err, `the configuration, "Stra\xdfe", is not UTF-8`)
	require.NoError(t, run.Write(auditAt(1)), "nothing of the refused records is there")
}

// The description of an attempt is lost: its number must not be given again.
func TestALostDescriptionIsNamed(t *testing.T) {
	dir := t.TempDir()
	for step := range int64(3) {
		run := resumeRun(t, dir)
		require.NoError(t, run.Write(auditAt(step)))
		require.NoError(t, run.Close())
	}
	lost := filepath.Join(dir, "run-attempt-3.json")
	require.NoError(t, os.Remove(lost))
	_, err := Read(dir)
	require.ErrorContains(t, err, lost+" is missing")
	_, err = Parquet(dir).WithResume().Done()
	require.ErrorContains(t, err, lost+" is missing: there are parts of attempt 3; restore it from a copy")
}

// A part says of itself which trainings it may be of, with the settings of their audits, to whoever gets it without the run's description.
func TestPartsSayWithWhatSettingsTheyWereMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	run := openRun(t, dir)
	settings := map[string]string{"field": "u v; vectors (u, v)", "metric": "ggn"}
	require.NoError(t, run.Enter("a", "unet", 7, 0, settings))
	require.NoError(t, run.Write(soundAudit(1)))
	require.NoError(t, run.Close())
	compacted := filepath.Join(t.TempDir(), "compact")
	require.NoError(t, Compact(dir, compacted))
	for _, of := range []string{dir, compacted} {
		for _, table := range tables {
			require.NoError(t, withPart(directory{path: of}.visible(table.name(), 0), func(part *parquet.File, _ []byte) error {
				text, found := part.Lookup(keyTrainings)
				require.True(t, found)
				var trainings []Training
				require.NoError(t, json.Unmarshal([]byte(text), &trainings))
				require.Equal(t, []Training{{Model: "unet", Seed: 7, Series: 1, Settings: settings}}, trainings)
				return nil
			}))
		}
	}
}
