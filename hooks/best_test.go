package hooks_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

var patient = hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2}

// watch records the loop's state after each step, and what a checkpoint hook would save at the end.
func watch(t *testing.T, loop *train.Loop) (steps map[int64]map[string]string, saved *map[string]string) {
	steps, saved = map[int64]map[string]string{}, new(map[string]string)
	store := loop.Trainer.Store()
	loop.OnStep("watch", 100, func(*train.Loop, []*tensors.Tensor) error {
		steps[loop.Trainer.GlobalStep()] = state(t, store)
		return nil
	})
	loop.OnEnd("checkpoint", 100, func(*train.Loop, []*tensors.Tensor) error { *saved = state(t, store); return nil })
	return steps, saved
}

func TestAStoppedRunEndsWithItsBestWeights(t *testing.T) {
	for how, run := range runs {
		t.Run(how, func(t *testing.T) {
			loop, dir := newLoop(t), filepath.Join(t.TempDir(), "best")
			auditor := &script{coherence: []float64{0.1, 0.5, 0.2, 0.3, 0.9}}
			steps, saved := watch(t, loop)
			hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithStepsPerEpoch(4).WithStopRules(patient).WithBestCheckpoint(dir), loop)
			_, err := run(loop, hook)
			require.NoError(t, err)
			require.Empty(t, hook.Failures())
			require.Len(t, steps, 4)
			require.NotEqual(t, steps[2], steps[4])
			require.Equal(t, steps[2], *saved)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, 1)
			require.Equal(t, "step-000000002", entries[0].Name())
		})
	}
}

func TestARunThatNoRuleStopsKeepsItsLastWeights(t *testing.T) {
	loop := newLoop(t)
	steps, saved := watch(t, loop)
	attach(t, hooks.New(&script{coherence: []float64{0.5, 0.1}}).WithSchedule(hooks.EverySteps(1)).WithStopRules(patient).WithBestCheckpoint(t.TempDir()), loop)
	_, err := loop.RunSteps(endless(2), 2)
	require.NoError(t, err)
	require.Equal(t, steps[2], *saved)
}

// The best audit lies before an interruption: its checkpoint is still there, or somebody has removed it.
func TestTheBestWeightsSurviveAResume(t *testing.T) {
	for name, kept := range map[string]bool{"kept": true, "removed": false} {
		t.Run(name, func(t *testing.T) {
			dir, log, sink := t.TempDir(), &bytes.Buffer{}, &memory{}
			loop := newLoop(t)
			attachWith := func(coherence []float64, history []audit.CoherenceRow) *hooks.Hook {
				return attach(t, hooks.New(&script{coherence: coherence}).WithSink(sink).WithSchedule(hooks.EverySteps(1)).
					WithStopRules(patient).WithBestCheckpoint(dir).WithHistory(history).WithLogger(zerolog.New(log)), loop)
			}
			attachWith([]float64{0.5}, nil)
			steps, _ := watch(t, loop)
			_, err := loop.RunSteps(endless(2), 1)
			require.NoError(t, err)

			loop = train.NewLoop(loop.Trainer) // as after a checkpoint of step 1
			hook := attachWith([]float64{0.2}, sink.writes[0].Coherence)
			later, saved := watch(t, loop)
			if !kept {
				require.NoError(t, os.RemoveAll(dir))
			}
			_, err = loop.RunSteps(endless(2), 9)
			require.NoError(t, err)
			_, stopped := hook.Stopped()
			require.True(t, stopped)
			if kept {
				require.Empty(t, hook.Failures())
				require.Equal(t, steps[1], *saved)
				return
			}
			require.Equal(t, later[3], *saved)
			require.Len(t, hook.Failures(), 1)
			require.ErrorIs(t, hook.Close(), hook.Failures()[0])
			require.ErrorContains(t, hook.Failures()[0], dir+" has no checkpoint of step 1, where d4/coherence was best, 0.5; the model keeps the weights of step 3")
			require.Contains(t, log.String(), "has no checkpoint of step 1")
		})
	}
}

// The folder holds the best of an earlier training, at a later step; and the training goes on after it was stopped.
func TestAFolderAndALoopAreUsedAgain(t *testing.T) {
	const wait = time.Second
	dir := t.TempDir()
	run := func(coherence ...float64) (*train.Loop, *script, *hooks.Hook) {
		loop, auditor := newLoop(t), &script{coherence: coherence}
		clock, pause := newClock(), 2*wait // every step is due
		loop.OnStep("pause", 0, func(*train.Loop, []*tensors.Tensor) error { clock.advance(pause); return nil })
		hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EveryDuration(wait)).WithStopRules(patient).WithBestCheckpoint(dir).WithClock(clock.now), loop)
		_, err := loop.RunSteps(endless(2), 20)
		require.NoError(t, err)
		pause = 0
		require.Empty(t, hook.Failures())
		return loop, auditor, hook
	}
	run(0.1, 0.2, 0.3, 0.4, 0.5, 0, 0)
	loop, auditor, hook := run(0.1, 0.5, 0.2, 0.3, 0.9)
	require.EqualValues(t, 2, loop.Trainer.GlobalStep())
	step, value, found := hook.Best()
	require.True(t, found)
	require.EqualValues(t, 2, step)
	require.Equal(t, 0.5, value)
	require.Equal(t, []int64{1, 2, 3, 4}, auditor.steps())
	_, err := loop.RunSteps(endless(2), 2)
	require.NoError(t, err)
	again := auditor.steps()[4:]
	require.NotEmpty(t, again, "the last step is audited, though there was an audit of one with its number")
	require.EqualValues(t, 4, again[len(again)-1])
}

func TestABestCheckpointNeedsARule(t *testing.T) {
	_, err := hooks.New(&script{}).WithSchedule(hooks.EverySteps(1)).WithBestCheckpoint("best").Attach(newLoop(t))
	require.ErrorContains(t, err, "the best checkpoint is to be kept in best, but no stop rule says what is best")
}

func TestABestCheckpointThatCannotBeSaved(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "folder")
	loop := newLoop(t)
	attach(t, hooks.New(&script{coherence: []float64{0.5}}).WithSchedule(hooks.EverySteps(1)).WithStopRules(patient).WithBestCheckpoint(folder), loop)
	require.NoError(t, os.Remove(folder))
	require.NoError(t, os.WriteFile(folder, nil, 0o666))
	_, err := loop.RunSteps(endless(2), 9)
	require.ErrorContains(t, err, "hooks: cannot save checkpoint "+filepath.Join(folder, "step-000000001"))
}

// That a folder cannot be made is found out before the training.
func TestBestCheckpointNeedsAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o666))
	rule := hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 4}
	_, err := hooks.New(&script{coherence: []float64{0.4}}).WithStopRules(rule).WithBestCheckpoint(filepath.Join(file, "best")).Attach(loopAt(0))
	require.ErrorContains(t, err, "hooks: the best checkpoint cannot be kept in "+filepath.Join(file, "best")+": not a directory; choose another folder (WithBestCheckpoint)")
}
