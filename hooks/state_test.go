package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
)

// The life of what a hook remembers, across resumes, runs of a loop, and restored weights.

func historyRow(model string, seed, step int64, attempt int32, coherence float64) audit.CoherenceRow {
	return audit.CoherenceRow{
		Moment:    audit.Moment{Model: model, Seed: seed, Step: step, Attempt: attempt},
		GroupName: "d4", Element: audit.AllElements, N: 1, Median: &coherence,
	}
}

func inRun(id string, row audit.CoherenceRow) audit.CoherenceRow { row.RunID = id; return row }

// Whatever rows of its run a resumed training is given, it stops where it would have stopped.
func TestHistoryIsWhatThisTrainingHasBehindIt(t *testing.T) {
	rule := hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 4}
	own := []audit.CoherenceRow{historyRow("model", 0, 2, 1, 0.5), historyRow("model", 0, 4, 1, 0.4)}
	for name, rows := range map[string][]audit.CoherenceRow{
		"alone":                   own,
		"after the resume":        append(slices.Clone(own), historyRow("model", 0, 6, 1, 0.4), historyRow("model", 0, 8, 1, 0.9)),
		"of another model":        append([]audit.CoherenceRow{historyRow("other", 0, 3, 1, 0.9)}, own...),
		"of another seed":         append([]audit.CoherenceRow{historyRow("model", 1, 3, 1, 0.9)}, own...),
		"in another order":        {own[1], own[0]},
		"measured twice":          append([]audit.CoherenceRow{historyRow("model", 0, 2, 0, 0.9), historyRow("model", 0, 4, 0, 0.8)}, own...),
		"of another run":          append([]audit.CoherenceRow{inRun("theirs", historyRow("model", 0, 3, 1, 0.9))}, own...),
		"superseded elsewhere":    append([]audit.CoherenceRow{historyRow("model", 0, 3, 0, 0.9), historyRow("model", 0, 5, 0, 0.8)}, own...),
		"of a series before this": append([]audit.CoherenceRow{historyRow("model", 0, 1, 0, 0.9)}, own...),
	} {
		t.Run(name, func(t *testing.T) {
			loop, auditor := loopAt(5), &script{coherence: []float64{0.4}}
			hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(2)).WithStopRules(rule).WithHistory(rows).
				WithSink(&described{began: 1}), loop)
			step, value, found := hook.Best()
			require.True(t, found)
			require.Equal(t, int64(2), step)
			require.Equal(t, 0.5, value)
			_, err := loop.RunSteps(endless(2), 20)
			require.NoError(t, err)
			require.Equal(t, []int64{6, 8, 10}, auditor.steps(), "the audit at step 4 is the first of four without an improvement")
		})
	}
}

// A checkpoint that is loaded after Attach counts: the history reaches up to its step.
func TestWeightsThatAreLoadedAfterAttach(t *testing.T) {
	loop := newLoop(t)
	rows := []audit.CoherenceRow{historyRow("model", 0, 2, 1, 0.5), historyRow("model", 0, 4, 1, 0.4), historyRow("model", 0, 6, 1, 0.9)}
	hook := attach(t, hooks.New(&script{coherence: []float64{0.4}}).WithSchedule(hooks.EverySteps(2)).WithHistory(rows).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3}), loop)
	_, _, found := hook.Best()
	require.False(t, found, "a training at its beginning has nothing behind it")
	setStep(loop.Trainer.Store(), 5)
	_, err := loop.RunSteps(endless(2), 20)
	require.NoError(t, err)
	reason, _ := hook.Stopped()
	require.Contains(t, reason, "has not improved on 0.5 (maximize) in 3 audits, at step 8")
}

func TestAnAuditorOfAnotherTrainingIsRefused(t *testing.T) {
	loop := newLoop(t)
	_, err := hooks.New(&bound{store: newLoop(t).Trainer.Store()}).Attach(loop)
	require.EqualError(t, err, "hooks: the auditor was made with another trainer than the loop's, so that its audits would be of another model; give audit.New the trainer of this loop")
	_, err = hooks.New(&bound{store: loop.Trainer.Store()}).Attach(loop)
	require.NoError(t, err)
}

// bound is an auditor of one store.
type bound struct {
	script
	store *model.Store
}

func (b *bound) Audits(store *model.Store) bool { return b.store == store }

// The best is the best that was seen; patience asks for more than MinDelta.
func TestTheBestIsTheBestThatWasSeen(t *testing.T) {
	loop, auditor, dir := newLoop(t), &script{coherence: []float64{0.5, 0.519, 0.51, 0.5}}, t.TempDir()
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithBestCheckpoint(dir).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3, MinDelta: 0.05}), loop)
	_, err := loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	step, value, _ := hook.Best()
	require.EqualValues(t, 2, step)
	require.Equal(t, 0.519, value)
	reason, stopped := hook.Stopped()
	require.True(t, stopped)
	require.Contains(t, reason, "has not improved on 0.5 by more than 0.05 (maximize) in 3 audits, at step 4")
	require.EqualValues(t, 2, loop.Trainer.GlobalStep(), "these weights are restored")
}

// A run after one that patience has stopped has patience again; what is best stays.
func TestPatienceBeginsAnewAfterAStop(t *testing.T) {
	loop, auditor := newLoop(t), &script{coherence: []float64{0.5, 0.4, 0.3, 0.4, 0.4, 0.6, 0.4}}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2}), loop)
	for _, want := range [][]int64{{1, 2, 3}, {1, 2, 3, 4, 5}, {1, 2, 3, 4, 5, 6, 7, 8}} {
		_, err := loop.RunSteps(endless(2), 9)
		require.NoError(t, err)
		require.Equal(t, want, auditor.steps())
		_, stopped := hook.Stopped()
		require.True(t, stopped)
	}
}

// What other hooks read is of the latest audit, or is not there.
func TestAValueThatHasCeasedToExistIsTakenAway(t *testing.T) {
	const key = hooks.SharedPrefix + "d4/coherence"
	failing := false
	auditor := &script{coherence: []float64{0.9, math.NaN(), 0.8}}
	auditor.before = func() error {
		if failing {
			return errors.New("no")
		}
		return nil
	}
	loop := newLoop(t)
	loop.SharedData["mine"] = 1
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithFailures(hooks.CarryOn), loop)
	var seen []any
	loop.OnStep("read", 100, func(loop *train.Loop, _ []*tensors.Tensor) error {
		seen = append(seen, loop.SharedData[key])
		failing = len(seen) == 3
		return nil
	})
	_, err := loop.RunSteps(endless(2), 4)
	require.NoError(t, err)
	require.Equal(t, []any{0.9, nil, 0.8, nil}, seen)
	require.Equal(t, 1, loop.SharedData["mine"])
	_, shown := hook.Metric("d4/coherence")()
	require.Equal(t, "no value", shown, "the latest audit failed")
}

// The log and Stopped say the same, whether steps were left or not.
func TestTheLogSaysStoppedWhereTheHookDoes(t *testing.T) {
	for _, steps := range []int{1, 2, 3} {
		for how, run := range map[string]func(*train.Loop, *hooks.Hook) error{
			"RunSteps": func(loop *train.Loop, _ *hooks.Hook) error { _, err := loop.RunSteps(endless(2), steps); return err },
			"RunEpochs": func(loop *train.Loop, hook *hooks.Hook) error {
				_, err := loop.RunEpochs(hook.Dataset(newSamples(2)), steps)
				return err
			},
		} {
			loop, log := newLoop(t), &bytes.Buffer{}
			hook := attach(t, hooks.New(&script{coherence: []float64{0, 1}}).WithSchedule(hooks.EverySteps(1)).WithLogger(zerolog.New(log)).
				WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: ptr(1.0)}), loop)
			require.NoError(t, run(loop, hook))
			_, stopped := hook.Stopped()
			require.Equal(t, steps > 1, stopped, how)
			require.Equal(t, stopped, bytes.Contains(log.Bytes(), []byte("stopped the training")), "%s: %s", how, log)
		}
	}
}

// After time went back, an audit of a step number that was best before is not the best: its weights are others.
func TestTheBestWeightsOutliveAStepOfTheSameNumber(t *testing.T) {
	dir := t.TempDir()
	loop, auditor := newLoop(t), &script{coherence: []float64{0.1, 0.9, 0.2, 0.1, 0.1}}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithBestCheckpoint(dir).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3}), loop)
	steps, saved := watch(t, loop)
	_, err := loop.RunSteps(endless(2), 2)
	require.NoError(t, err)
	best := steps[2]
	setStep(loop.Trainer.Store(), 1) // as restoring a checkpoint does
	_, err = loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	_, value, _ := hook.Best()
	require.Equal(t, 0.9, value)
	require.Equal(t, best, *saved, "the weights that were best")
}

// Of a step that was audited in weights that were taken back nothing is known.
func TestAnInitialAuditAfterGoingBack(t *testing.T) {
	loop, auditor := newLoop(t), &script{coherence: []float64{0.5}}
	attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(8)).WithInitialAudit(), loopWithWeights(t, loop))
	_, err := loop.RunSteps(endless(2), 8)
	require.NoError(t, err)
	setStep(loop.Trainer.Store(), 5)
	_, err = loop.RunSteps(endless(2), 1)
	require.NoError(t, err)
	require.Equal(t, []int64{0, 8, 5, 6}, auditor.steps())
}

func loopWithWeights(t *testing.T, loop *train.Loop) *train.Loop {
	t.Helper()
	_, err := loop.Trainer.EvalStep(newSamples().batch(2))
	require.NoError(t, err)
	return loop
}

// A model that is NaN at some probes has no median error: it is not the best, and a threshold is not met.
func TestErrorsThatAreNotFiniteAreNoImprovement(t *testing.T) {
	log := &bytes.Buffer{}
	auditor := &partial{}
	loop := newLoop(t)
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithLogger(zerolog.New(log)).
		WithStopRules(hooks.StopRule{Monitor: "d4/target_error", Mode: hooks.Minimize, Threshold: ptr(0.4), Patience: 3}), loop)
	_, err := loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	step, value, _ := hook.Best()
	require.EqualValues(t, 1, step)
	require.Equal(t, 0.5, value)
	reason, _ := hook.Stopped()
	require.Contains(t, reason, "d4/target_error has no value and has not improved on 0.5")
	require.Contains(t, log.String(), `"because":"3 of 8 values are not finite"`)
}

// partial has a target error at the first audit alone.
type partial struct{ script }

func (p *partial) Audit(ctx context.Context, at audit.Moment) (*audit.Records, error) {
	records, err := p.script.Audit(ctx, at)
	if row := records.Summary("d4"); at.Step > 1 {
		row.NFiniteTargetErrors, row.MedianTargetError = 5, nil
	}
	return records, err
}

func TestNamesThatTablesCannotHoldAreRefused(t *testing.T) {
	for _, name := range []string{"", "Stra\xdfe"} {
		_, err := hooks.New(&script{}).WithModel(name, 0).Attach(newLoop(t))
		require.ErrorContains(t, err, "its name must be text in UTF-8")
	}
}

// Of a training that the preflight refuses nothing is written, so that the corrected one finds its place free.
func TestARefusedTrainingWritesNothing(t *testing.T) {
	loop, sink := newLoop(t), &memory{}
	auditor := &checked{err: errors.New("the kernel of /even is even"), loop: loop}
	hook := attach(t, hooks.New(auditor).WithSink(sink).WithSchedule(hooks.EverySteps(1)), loop)
	_, err := loop.RunSteps(endless(2), 4)
	require.Error(t, err)
	require.NoError(t, hook.Close())
	require.Empty(t, sink.writes)
}

// GoMLX takes the weights of a checkpoint when the model first uses them. The error says so, and its remedy works.
func TestInitialAuditOfACheckpoint(t *testing.T) {
	dir := t.TempDir()
	written := newTrainer(backendtest.Go(t))
	handler, err := checkpoint.Build(written.Store()).Dir(dir).Done()
	require.NoError(t, err)
	_, err = train.NewLoop(written).RunSteps(endless(4), 2)
	require.NoError(t, err)
	require.NoError(t, handler.Save())
	for _, immediate := range []bool{false, true} {
		trainer := newTrainer(backendtest.Go(t))
		config := checkpoint.Load(trainer.Store()).Dir(dir)
		if immediate {
			config.Immediate()
		}
		_, err := config.Done()
		require.NoError(t, err)
		loop, auditor := train.NewLoop(trainer), &script{coherence: []float64{0.4}}
		attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(100)).WithInitialAudit(), loop)
		_, err = loop.RunSteps(endless(4), 1)
		if !immediate {
			require.ErrorContains(t, err, "GoMLX takes those of a checkpoint when the model first uses them; load them at once (checkpoint.Config.Immediate), or leave WithInitialAudit out")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []int64{2, 3}, auditor.steps())
	}
}
