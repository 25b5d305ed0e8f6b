package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// runs are the ways to run a loop for at most 12 steps in epochs of 4.
var runs = map[string]func(loop *train.Loop, hook *hooks.Hook) (*samples, error){
	"RunSteps": func(loop *train.Loop, hook *hooks.Hook) (*samples, error) {
		data := endless(2)
		_, err := loop.RunSteps(data, 12)
		return data, err
	},
	"RunSteps, wrapped": func(loop *train.Loop, hook *hooks.Hook) (*samples, error) {
		data := endless(2)
		_, err := loop.RunSteps(hook.Dataset(data), 12)
		return data, err
	},
	"RunEpochs": func(loop *train.Loop, hook *hooks.Hook) (*samples, error) {
		data := newSamples(2, 2, 2, 2)
		_, err := loop.RunEpochs(hook.Dataset(data), 3)
		return data, err
	},
}

func TestStopRules(t *testing.T) {
	none := math.NaN()
	for name, test := range map[string]struct {
		coherence []float64
		rules     []hooks.StopRule
		audits    int // before the stop; 12 for none
		reason    string
	}{
		"threshold from below": {
			[]float64{0.1, 0.89, 0.9, 0}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: ptr(0.9)}},
			3, "d4/coherence is 0.9, threshold 0.9 (maximize), at step 3, epoch 0.75",
		},
		"threshold from above": {
			[]float64{0.5, 0.11, 0.1}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Minimize, Threshold: ptr(0.1)}},
			3, "d4/coherence is 0.1, threshold 0.1 (minimize), at step 3, epoch 0.75",
		},
		"patience": {
			[]float64{0.1, 0.2, 0.2, 0.3, 0.3, 0.25, 0.9}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2}},
			6, "d4/coherence is 0.25 and has not improved on 0.3 (maximize) in 2 audits, at step 6, epoch 1.5",
		},
		"patience, shrinking": {
			[]float64{0.5, 0.4, 0.4, 0.45}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Minimize, Patience: 2}},
			4, "d4/coherence is 0.45 and has not improved on 0.4 (minimize) in 2 audits, at step 4, epoch 1",
		},
		"small improvements are measured from the best": {
			[]float64{0.5, 0.5625, 0.625, 0.6875, 0.71875, 0.75}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3, MinDelta: 0.125}},
			7, "d4/coherence is 0.75 and has not improved on 0.6875 by more than 0.125 (maximize) in 3 audits, at step 7, epoch 1.75",
		},
		"small improvements, shrinking": {
			[]float64{0.75, 0.5, 0.4375, 0.40625}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Minimize, Patience: 2, MinDelta: 0.125}},
			4, "d4/coherence is 0.40625 and has not improved on 0.5 by more than 0.125 (minimize) in 2 audits",
		},
		"divergence": {
			[]float64{0.3, 0.1, 0.09}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Maximize, Divergence: ptr(0.1)}},
			3, "d4/coherence is 0.09, worse than 0.1 (maximize), at step 3, epoch 0.75",
		},
		"divergence, growing": {
			[]float64{0.3, 0.5, 0.6}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Minimize, Divergence: ptr(0.5), Threshold: ptr(0.)}},
			3, "d4/coherence is 0.6, worse than 0.5 (minimize), at step 3, epoch 0.75",
		},
		"a first step": {
			[]float64{0.9, 0.8, 0.1, 0.2, 0.15}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Maximize, Divergence: ptr(0.), Threshold: ptr(0.85), Patience: 1, FirstStep: 3}},
			5, "d4/coherence is 0.15 and has not improved on 0.2",
		},
		"no value is no improvement": {
			[]float64{0.5, none, none}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2, Threshold: ptr(0.6)}},
			3, "d4/coherence has no value and has not improved on 0.5",
		},
		"never a value": {
			[]float64{none}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Minimize, Patience: 4, Threshold: ptr(0.0)}},
			4, "d4/coherence has had no finite value in 4 audits, at step 4",
		},
		"the worst infinity is no value": {
			[]float64{math.Inf(1), math.Inf(1), 0.5}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Minimize, Patience: 2}},
			2, "d4/coherence has had no finite value in 2 audits",
		},
		"the worst infinity, growing, and then another": {
			[]float64{math.Inf(-1), 0.5, math.Inf(-1), 0.4}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2}},
			4, "d4/coherence is 0.4 and has not improved on 0.5",
		},
		"the first of two": {
			[]float64{0.1, 0.2, 0.3}, []hooks.StopRule{
				{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: ptr(0.9)},
				{Monitor: "d4/commutator_error", Mode: hooks.Minimize, Patience: 1},
			},
			2, "d4/commutator_error is 0.25 and has not improved on 0.25",
		},
		"none": {[]float64{0.5}, []hooks.StopRule{{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: ptr(0.9), Patience: 100}}, 12, ""},
	} {
		for how, run := range runs {
			t.Run(name+"/"+how, func(t *testing.T) {
				loop, auditor := newLoop(t), &script{coherence: test.coherence}
				steps, ends := 0, 0
				loop.OnStep("last", 1000, func(*train.Loop, []*tensors.Tensor) error { steps++; return nil })
				loop.OnEnd("end", 0, func(_ *train.Loop, metrics []*tensors.Tensor) error {
					require.True(t, metrics[0].Ok())
					ends++
					return nil
				})
				hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithStepsPerEpoch(4).WithStopRules(test.rules...), loop)
				data, err := run(loop, hook)
				require.NoError(t, err)
				require.Len(t, auditor.moments, test.audits)
				require.Equal(t, test.audits, steps, "every hook of the last step has run")
				require.Equal(t, 1, ends)
				data.requireNoneLost(t, steps)
				reason, stopped := hook.Stopped()
				require.Equal(t, test.reason != "", stopped)
				require.Contains(t, reason, test.reason)
			})
		}
	}
}

func TestStopAtTheEndOfAnEpochBeginsNoOther(t *testing.T) {
	loop, auditor, data := newLoop(t), &script{coherence: []float64{0, 1}}, newSamples(2, 2, 1)
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EveryEpochs(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: ptr(1.0)}), loop)
	_, err := loop.RunEpochs(hook.Dataset(data), 5)
	require.NoError(t, err)
	require.Equal(t, []int64{3, 6}, auditor.steps())
	require.Len(t, data.yielded, 6)
	reason, _ := hook.Stopped()
	require.Contains(t, reason, "at step 6, epoch 2")
}

// A program that trains epoch by epoch asks after each; so the audit of a run's last step counts as any other.
func TestARuleMetByTheLastAuditIsTold(t *testing.T) {
	for every, audits := range map[int]int{1: 12, 4: 3, 100: 1} { // on schedule, or because it is the last
		for how, run := range runs {
			coherence := make([]float64, audits)
			coherence[audits-1] = 1
			loop, auditor := newLoop(t), &script{coherence: coherence}
			_, saved := watch(t, loop)
			hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(every)).WithStepsPerEpoch(4).WithBestCheckpoint(t.TempDir()).
				WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: ptr(1.0)}), loop)
			_, err := run(loop, hook)
			require.NoError(t, err)
			require.Len(t, auditor.moments, audits)
			reason, stopped := hook.Stopped()
			require.True(t, stopped, "%s, every %d", how, every)
			require.Contains(t, reason, "at step 12")
			require.EqualValues(t, 12, loop.Trainer.GlobalStep())
			require.NotEmpty(t, *saved)
		}
	}
}

func TestATrainingThatIsRunEpochByEpochIsStopped(t *testing.T) {
	loop, auditor := newLoop(t), &script{coherence: []float64{0.5, 0.9, 0.4, 0.3, 0.2}}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EveryEpochs(1)).WithBestCheckpoint(t.TempDir()).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2}), loop)
	data := hook.Dataset(newSamples(2, 2))
	epochs := 0
	for stopped := false; !stopped && epochs < 10; epochs++ {
		_, err := loop.RunEpochs(data, 1)
		require.NoError(t, err)
		_, stopped = hook.Stopped()
	}
	require.Equal(t, 4, epochs, "two after the best without an improvement")
	require.EqualValues(t, 4, loop.Trainer.GlobalStep(), "the best weights are restored")
}

// A resumed training whose first audit is of the weights that its history ends with has seen nothing new.
func TestAnAuditOfTheSameStepCountsOnce(t *testing.T) {
	rows := []audit.CoherenceRow{{Moment: audit.Moment{Model: "model"}, GroupName: "d4", Element: audit.AllElements, N: 1, Median: ptr(0.5)}} // at step 0
	loop, auditor := newLoop(t), &script{coherence: []float64{0.5, 0.4, 0.6, 0.6}}
	_, err := loop.Trainer.EvalStep(newSamples().batch(2)) // makes the weights
	require.NoError(t, err)
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithInitialAudit().WithHistory(rows).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2}), loop)
	_, err = loop.RunSteps(endless(2), 3)
	require.NoError(t, err)
	require.Equal(t, []int64{0, 1, 2, 3}, auditor.steps())
	_, stopped := hook.Stopped()
	require.False(t, stopped)
}

func TestAnotherRunAfterAStop(t *testing.T) {
	loop, auditor, data := newLoop(t), &script{coherence: []float64{1, 0}}, newSamples(2, 2)
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: ptr(1.0)}), loop)
	ds := hook.Dataset(data)
	for range 2 {
		_, err := loop.RunEpochs(ds, 1)
		require.NoError(t, err)
	}
	require.Equal(t, []int64{1, 2, 3}, auditor.steps())
	_, stopped := hook.Stopped()
	require.False(t, stopped)
}

func TestHistoryOfAResumedTraining(t *testing.T) {
	coherence := []float64{0.3, 0.5, 0.4, 0.4, 0.4, 0.4}
	rule := hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3}
	sink := &memory{}
	attachAt := func(audits int, rows []audit.CoherenceRow) (*train.Loop, *script, *hooks.Hook) {
		loop, auditor := loopAt(int64(audits)), &script{coherence: coherence[audits:]}
		hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithSink(sink).WithStopRules(rule).WithHistory(rows), loop)
		return loop, auditor, hook
	}
	rows := func() (rows []audit.CoherenceRow) {
		for _, records := range sink.writes {
			rows = append(rows, records.Coherence...)
		}
		return rows
	}
	loop, _, hook := attachAt(0, nil)
	_, err := loop.RunSteps(endless(2), 3)
	require.NoError(t, err)
	_, stopped := hook.Stopped()
	require.False(t, stopped)

	loop, auditor, hook := attachAt(3, rows())
	_, err = loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	require.Len(t, auditor.moments, 2, "one audit without an improvement lies before the resume")
	reason, _ := hook.Stopped()
	require.Contains(t, reason, "has not improved on 0.5 (maximize) in 3 audits")

	sink.writes = sink.writes[:3]
	all := rows()
	for i := range all {
		all[i].Step, all[i].Median = int64(i/3), ptr(0.5) // three rows an audit
	}
	_, _, hook = attachAt(3, append(all, audit.CoherenceRow{
		Moment: audit.Moment{Model: "model", Step: 3}, GroupName: "d4", Element: audit.AllElements, Median: ptr(0.4),
	}))
	reason, stopped = hook.Stopped()
	require.True(t, stopped, "the history has met the rule")
	require.Contains(t, reason, "at step 3")
}

func TestUnknownMonitorIsFoundByTheFirstAudit(t *testing.T) {
	loop, sink := newLoop(t), &memory{}
	attach(t, hooks.New(&script{}).WithSchedule(hooks.EverySteps(2)).WithSink(sink).
		WithStopRules(hooks.StopRule{Monitor: "D4/coherence", Mode: hooks.Maximize, Patience: 1}), loop)
	_, err := loop.RunSteps(endless(2), 9)
	require.ErrorContains(t, err, `hooks: stop rule: no audit has monitor "D4/coherence"; known monitors: d4/coherence, d4/target_error, d4/commutator_error`)
	require.Len(t, sink.writes, 1, "the audit itself is kept")
}

// grouped also tells its groups.
type grouped struct{ script }

func (*grouped) Groups() []string { return []string{"c4", "translations"} }

func TestUnknownMonitorIsFoundWhenAttached(t *testing.T) {
	_, err := hooks.New(&grouped{}).WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 1}).Attach(newLoop(t))
	require.ErrorContains(t, err, `hooks: stop rule: no audit has monitor "d4/coherence"; known monitors: c4/coherence, c4/target_error, c4/commutator_error, translations/coherence`)
	_, err = hooks.New(&grouped{}).WithStopRules(hooks.StopRule{Monitor: "c4/coherence", Mode: hooks.Maximize, Patience: 1}).Attach(newLoop(t))
	require.NoError(t, err)
}

// directed audits in two directions.
type directed struct{ grouped }

func (*directed) Directions() []string { return []string{"loss", "kernel"} }

func (d *directed) Audit(ctx context.Context, at audit.Moment) (*audit.Records, error) {
	records, err := d.script.Audit(ctx, at)
	kernel := records.Coherence[len(records.Coherence)-1]
	kernel.Direction = "kernel"
	kernel.Median = ptr(0.125)
	for i := range records.Coherence {
		records.Coherence[i].Direction = "loss"
	}
	records.Coherence = append(records.Coherence, kernel)
	for i := range records.Coherence {
		records.Coherence[i].GroupName = "c4"
	}
	return records, err
}

// A coherence is monitored in each direction; that of the loss by two names.
func TestDirectionsAreMonitored(t *testing.T) {
	_, err := hooks.New(&directed{}).WithStopRules(hooks.StopRule{Monitor: "c4/energy/coherence", Mode: hooks.Maximize, Patience: 1}).Attach(newLoop(t))
	require.ErrorContains(t, err, `no audit has monitor "c4/energy/coherence"; known monitors: c4/coherence, c4/kernel/coherence, c4/target_error`)
	_, err = hooks.New(&grouped{}).WithStopRules(hooks.StopRule{Monitor: "c4/kernel/coherence", Mode: hooks.Maximize, Patience: 1}).Attach(newLoop(t))
	require.ErrorContains(t, err, `no audit has monitor "c4/kernel/coherence"`)
	for monitor, want := range map[string]string{
		"c4/kernel/coherence": "c4/kernel/coherence is 0.125, threshold 0.125",
		"c4/loss/coherence":   "c4/coherence is 0.5, threshold 0.5",
		"c4/coherence":        "c4/coherence is 0.5, threshold 0.5",
	} {
		threshold := 0.125
		if !strings.Contains(monitor, "kernel") {
			threshold = 0.5
		}
		loop := newLoop(t)
		hook := attach(t, hooks.New(&directed{grouped{script{coherence: []float64{0.5}}}}).WithSchedule(hooks.EverySteps(2)).
			WithStopRules(hooks.StopRule{Monitor: monitor, Mode: hooks.Maximize, Threshold: &threshold}), loop)
		_, err = loop.RunSteps(endless(2), 9)
		require.NoError(t, err)
		reason, stopped := hook.Stopped()
		require.True(t, stopped, monitor)
		require.Contains(t, reason, want)
		_, value := hook.Metric(monitor)()
		require.Equal(t, fmt.Sprint(threshold), value)
	}
}

// vanishing audits a group once and then no more.
type vanishing struct{ script }

func (v *vanishing) Audit(ctx context.Context, at audit.Moment) (*audit.Records, error) {
	records, err := v.script.Audit(ctx, at)
	if len(v.moments) > 1 {
		records.Coherence = nil
	}
	return records, err
}

func TestMonitorThatVanishesIsLoggedAndNoImprovement(t *testing.T) {
	loop, log, auditor := newLoop(t), &bytes.Buffer{}, &vanishing{}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithLogger(zerolog.New(log)).
		WithStopRules(hooks.StopRule{Monitor: "d4/target_error", Mode: hooks.Minimize, Patience: 3}), loop)
	_, err := loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	require.Len(t, auditor.moments, 4)
	_, stopped := hook.Stopped()
	require.True(t, stopped)
	require.Equal(t, 3, strings.Count(log.String(), "has no value in this audit"))
}

func TestStopRuleRefuses(t *testing.T) {
	valid := hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 1}
	for name, test := range map[string]struct {
		change func(*hooks.StopRule)
		want   string
	}{
		"no group":     {func(r *hooks.StopRule) { r.Monitor = "/coherence" }, `the monitor is "/coherence"; use <group>/coherence`},
		"no slash":     {func(r *hooks.StopRule) { r.Monitor = "coherence" }, `the monitor is "coherence"`},
		"quantity":     {func(r *hooks.StopRule) { r.Monitor = "d4/coherense" }, `the monitor is "d4/coherense"`},
		"mode":         {func(r *hooks.StopRule) { r.Mode = 0 }, "the mode is Mode(0); use hooks.Maximize or hooks.Minimize"},
		"no criterion": {func(r *hooks.StopRule) { r.Patience = 0 }, "set a threshold, a patience or a divergence"},
		"threshold":    {func(r *hooks.StopRule) { r.Threshold = ptr(math.NaN()) }, "the threshold is not a number"},
		"divergence":   {func(r *hooks.StopRule) { r.Divergence = ptr(math.NaN()) }, "the divergence is not a number"},
		"contradiction": {func(r *hooks.StopRule) { r.Threshold, r.Divergence = ptr(0.5), ptr(0.5) },
			"the threshold 0.5 is no better than the divergence 0.5 (maximize)"},
		"first step":      {func(r *hooks.StopRule) { r.FirstStep = -1 }, "the first step is -1"},
		"patience":        {func(r *hooks.StopRule) { r.Patience = -1 }, "the patience is -1 audits"},
		"delta":           {func(r *hooks.StopRule) { r.MinDelta = -0.5 }, "the min delta is -0.5"},
		"delta, infinite": {func(r *hooks.StopRule) { r.MinDelta = math.Inf(1) }, "the min delta is +Inf"},
		"delta alone": {func(r *hooks.StopRule) { r.MinDelta, r.Patience, r.Threshold = 0.5, 0, ptr(1.0) },
			"the min delta is 0.5, the improvement that patience asks for, and there is no patience"},
	} {
		t.Run(name, func(t *testing.T) {
			rule := valid
			test.change(&rule)
			_, err := hooks.New(&script{}).WithSchedule(hooks.EverySteps(1)).WithStopRules(valid, rule).Attach(newLoop(t))
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err := hooks.New(&script{}).WithSchedule(hooks.EverySteps(1)).WithStopRules(valid).Attach(newLoop(t))
	require.NoError(t, err)
}

func TestContextEndsTheRunCleanly(t *testing.T) {
	for how, run := range runs {
		t.Run(how+"/between audits", func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			loop, auditor, sink := newLoop(t), &script{}, &memory{}
			steps, ends := 0, 0
			loop.OnStep("interrupt", 0, func(*train.Loop, []*tensors.Tensor) error {
				if steps++; steps == 6 {
					cancel()
				}
				return nil
			})
			loop.OnEnd("end", 0, func(*train.Loop, []*tensors.Tensor) error { ends++; return nil })
			hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(3)).WithContext(ctx).WithSink(sink), loop)
			data, err := run(loop, hook)
			require.NoError(t, err)
			require.Equal(t, 6, steps)
			require.Equal(t, 1, ends)
			require.Equal(t, []int64{3}, auditor.steps(), "no audit begins after the cancellation")
			require.Len(t, sink.training(), 6)
			data.requireNoneLost(t, steps)
			_, stopped := hook.Stopped()
			require.False(t, stopped, "no rule did it")
		})
		t.Run(how+"/within an audit", func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			interrupt := errors.New("interrupted")
			loop, auditor, sink := newLoop(t), &script{}, &memory{}
			auditor.before = func() error {
				if len(auditor.moments) == 1 {
					cancel(interrupt)
					return fmt.Errorf("audit: %w", context.Cause(ctx))
				}
				return nil
			}
			steps := 0
			loop.OnStep("last", 1000, func(*train.Loop, []*tensors.Tensor) error { steps++; return nil })
			hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(3)).WithContext(ctx).WithSink(sink), loop)
			_, err := run(loop, hook)
			require.NoError(t, err)
			require.Equal(t, 6, steps)
			require.Len(t, sink.writes, 2, "the finished audit, and the training steps after it")
			require.Empty(t, sink.writes[1].Coherence)
			require.Len(t, sink.training(), 6)
		})
	}
}

func TestAnotherErrorIsNotHiddenByACancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	broken := errors.New("broken")
	loop := newLoop(t)
	attach(t, hooks.New(&script{before: func() error { cancel(); return broken }}).
		WithSchedule(hooks.EverySteps(1)).WithContext(ctx), loop)
	_, err := loop.RunSteps(endless(2), 3)
	require.ErrorIs(t, err, broken)
}

// It is neither the best nor good enough, whatever number stands in its middle.
func TestACosineThatMayBeAnythingIsNoValue(t *testing.T) {
	all := &intervals{low: []float64{0.4, -1, -1, -1}, value: []float64{0.5, 0.9, 0.9, 0.9}, high: []float64{0.6, 1, 1, 1}}
	loop := newLoop(t)
	hook := attach(t, hooks.New(all).WithSchedule(hooks.EverySteps(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3}), loop)
	metric := hook.Metric("d4/coherence")
	_, err := loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	reason, _ := hook.Stopped()
	require.Equal(t, "d4/coherence has no value and has not improved on 0.5 (maximize) in 3 audits, at step 4, epoch 0", reason)
	_, shown := metric()
	require.Equal(t, "no value", shown)
	_, shown = hook.Metric("d4/coherense")()
	require.Equal(t, "unknown; there are d4/coherence, d4/target_error, d4/commutator_error", shown)
}

// described is a sink that keeps a description of the run, of its second attempt.
type described struct {
	memory
	probes string
	began  int32 // attempt of the series
}

func (d *described) Attempt() int32 { return 2 }

func (d *described) Enter(_ any, model string, seed, step int64, settings map[string]string) error {
	if probes := settings[audit.SettingProbes]; d.probes != "" && d.probes != probes {
		return fmt.Errorf("%s, seed %d at step %d: audited on probes %s, not %s", model, seed, step, d.probes, probes)
	}
	d.probes = settings[audit.SettingProbes]
	return nil
}

func (d *described) Leave(any, int64) {}

func (d *described) ID() string { return "ours" }

func (d *described) SeriesBegan(string, int64) int32 { return d.began }

type set struct{ script }

func (*set) Settings() map[string]string { return map[string]string{audit.SettingProbes: "4567"} }

func TestTheSinkIsToldWhatIsAudited(t *testing.T) {
	log := &bytes.Buffer{}
	sink := &described{}
	builder := func() *hooks.Builder {
		return hooks.New(&set{}).WithSink(sink).WithLogger(zerolog.New(log)).
			WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3})
	}
	attach(t, builder(), newLoop(t))
	require.Equal(t, "4567", sink.probes)
	require.Contains(t, log.String(), "stop rules begin anew")
	log.Reset()
	attach(t, builder().WithHistory(nil), newLoop(t))
	require.Empty(t, log.String(), "there was none")
	sink.probes = "0123"
	_, err := builder().Attach(newLoop(t))
	require.EqualError(t, err, "hooks: model, seed 0 at step 0: audited on probes 0123, not 4567")
}
