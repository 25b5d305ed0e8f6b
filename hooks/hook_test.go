package hooks_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/gomlx/gomlx/ml/train/optimizer/cosineschedule"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
)

// attach fails the test where Attach does.
func attach(t *testing.T, builder *hooks.Builder, loop *train.Loop) *hooks.Hook {
	t.Helper()
	hook, err := builder.Attach(loop)
	require.NoError(t, err)
	return hook
}

func newLoop(t *testing.T) *train.Loop { return train.NewLoop(newTrainer(backendtest.Go(t))) }

func ptr[T any](value T) *T { return &value }

func TestScheduleUnderRunEpochs(t *testing.T) {
	sizes := []int{4, 4, 4, 1} // the last batch of an epoch is a partial one
	for _, test := range []struct {
		schedule hooks.Schedule
		steps    []int64
		epochs   []float64
	}{
		{hooks.EveryEpochs(1), []int64{4, 8, 12}, []float64{1, 2, 3}},
		{hooks.EveryEpochs(2), []int64{8, 12}, []float64{2, 3}}, // the last step is audited in any case
		{hooks.EveryEpochs(9), []int64{12}, []float64{3}},
		{hooks.EverySteps(3), []int64{3, 6, 9, 12}, []float64{0, 1.5, 2.25, 3}},
		{hooks.EverySteps(5), []int64{5, 10, 12}, []float64{1.25, 2.5, 3}},
	} {
		t.Run(test.schedule.String(), func(t *testing.T) {
			loop, auditor, data := newLoop(t), &script{}, newSamples(sizes...)
			hook := attach(t, hooks.New(auditor).WithSchedule(test.schedule), loop)
			_, err := loop.RunEpochs(hook.Dataset(data), 3)
			require.NoError(t, err)
			require.Equal(t, test.steps, auditor.steps())
			require.Equal(t, test.epochs, auditor.epochs())
			require.Len(t, data.yielded, 12)
		})
	}
}

func TestEpochAuditComesBeforeTheEpochsLastHooksAndOnEnd(t *testing.T) {
	loop, auditor := newLoop(t), &script{}
	var calls []string
	auditor.before = func() error { calls = append(calls, "audit"); return nil }
	loop.OnStep("first", 0, func(*train.Loop, []*tensors.Tensor) error { calls = append(calls, "step"); return nil })
	loop.OnStep("checkpoint", 100, func(*train.Loop, []*tensors.Tensor) error { calls = append(calls, "checkpoint"); return nil })
	loop.OnStep("last", 300, func(*train.Loop, []*tensors.Tensor) error { calls = append(calls, "last"); return nil })
	loop.OnEnd("end", 0, func(*train.Loop, []*tensors.Tensor) error { calls = append(calls, "end"); return nil })
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EveryEpochs(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/target_error", Mode: hooks.Minimize, Threshold: ptr(1.0)}), loop)
	_, err := loop.RunEpochs(hook.Dataset(newSamples(2, 2)), 2)
	require.NoError(t, err)
	require.Equal(t, []string{"step", "checkpoint", "last", "step", "audit", "checkpoint", "last", "end"}, calls)
}

func TestScheduleUnderRunSteps(t *testing.T) {
	for name, test := range map[string]struct {
		configure func(*hooks.Builder) *hooks.Builder
		steps     []int64
		epochs    []float64
	}{
		"steps": {
			func(b *hooks.Builder) *hooks.Builder { return b.WithSchedule(hooks.EverySteps(4)) },
			[]int64{4, 8, 10}, []float64{0, 0, 0},
		},
		"steps, epochs of 8": {
			func(b *hooks.Builder) *hooks.Builder { return b.WithSchedule(hooks.EverySteps(4)).WithStepsPerEpoch(8) },
			[]int64{4, 8, 10}, []float64{0.5, 1, 1.25},
		},
		"epochs of 3": {
			func(b *hooks.Builder) *hooks.Builder {
				return b.WithSchedule(hooks.EveryEpochs(1)).WithStepsPerEpoch(3)
			},
			[]int64{3, 6, 9, 10}, []float64{1, 2, 3, 3 + 1./3},
		},
		"every 2 epochs of 3": {
			func(b *hooks.Builder) *hooks.Builder {
				return b.WithSchedule(hooks.EveryEpochs(2)).WithStepsPerEpoch(3)
			},
			[]int64{6, 10}, []float64{2, 3 + 1./3},
		},
	} {
		for _, wrapped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/wrapped=%t", name, wrapped), func(t *testing.T) {
				loop, auditor, data := newLoop(t), &script{}, endless(2)
				hook := attach(t, test.configure(hooks.New(auditor)), loop)
				ds := train.Dataset(data)
				if wrapped {
					ds = hook.Dataset(data)
				}
				_, err := loop.RunSteps(ds, 10)
				require.NoError(t, err)
				require.Equal(t, test.steps, auditor.steps())
				require.InDeltaSlice(t, test.epochs, auditor.epochs(), 1e-12)
				require.Len(t, data.yielded, 10, "nothing is read ahead")
			})
		}
	}
}

func TestResumedTrainingCountsOn(t *testing.T) {
	declared := func(b *hooks.Builder) *hooks.Builder { return b.WithStepsPerEpoch(4) }
	found := func(b *hooks.Builder) *hooks.Builder { return b }
	for name, configure := range map[string]func(*hooks.Builder) *hooks.Builder{"declared": declared, "found": found} {
		t.Run(name, func(t *testing.T) {
			trainer := newTrainer(backendtest.Go(t))
			_, err := train.NewLoop(trainer).RunEpochs(newSamples(2, 2, 2, 2), 3) // an earlier process: 12 steps
			require.NoError(t, err)

			loop, auditor, sink := train.NewLoop(trainer), &script{}, &memory{}
			hook := attach(t, configure(hooks.New(auditor).WithSchedule(hooks.EveryEpochs(2)).WithSink(sink)), loop)
			_, err = loop.RunEpochs(hook.Dataset(newSamples(2, 2, 2, 2)), 2)
			require.NoError(t, err)
			require.Equal(t, []int64{16, 20}, auditor.steps())
			require.Equal(t, []float64{4, 5}, auditor.epochs())
			var epochs []float64
			for i, row := range sink.training() {
				require.EqualValues(t, 13+i, row.Step)
				epochs = append(epochs, row.Epoch)
			}
			require.Equal(t, []float64{3.25, 3.5, 3.75, 4, 4.25, 4.5, 4.75, 5}, epochs)
		})
	}
}

func TestRunsOfOneLoopAddUp(t *testing.T) {
	loop, auditor, sink := newLoop(t), &script{}, &memory{}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(4)).WithSink(sink).WithStepsPerEpoch(5), loop)
	for range 3 {
		_, err := loop.RunSteps(endless(2), 6)
		require.NoError(t, err)
	}
	require.NoError(t, hook.Close())
	require.Equal(t, []int64{4, 6, 8, 12, 16, 18}, auditor.steps())
	require.InDeltaSlice(t, []float64{0.8, 1.2, 1.6, 2.4, 3.2, 3.6}, auditor.epochs(), 1e-12)
	require.Len(t, sink.training(), 18)
}

func TestGradientAccumulationCountsOptimizerSteps(t *testing.T) {
	trainer := newTrainer(backendtest.Go(t))
	require.NoError(t, trainer.AccumulateGradients(3))
	loop, auditor, sink := train.NewLoop(trainer), &script{}, &memory{}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(2)).WithSink(sink).WithStepsPerEpoch(6), loop)
	_, err := loop.RunSteps(endless(2), 14)
	require.NoError(t, err)
	require.NoError(t, hook.Close())
	require.Equal(t, []int64{2, 4}, auditor.steps(), "of 14 batches 12 made 4 steps, the other two none")
	require.Equal(t, []float64{1, 2}, auditor.epochs())
	require.Len(t, sink.training(), 14)
}

func TestRunEpochsWithoutTheWrapper(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rule := hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 1}
	for name, test := range map[string]struct {
		builder *hooks.Builder
		want    string
	}{
		"epochs":    {hooks.New(&script{}).WithSchedule(hooks.EveryEpochs(2)), "an audit every 2 epochs cannot work"},
		"stop rule": {hooks.New(&script{}).WithSchedule(hooks.EverySteps(1)).WithStopRules(rule), "a stop rule cannot work"},
		"context":   {hooks.New(&script{}).WithSchedule(hooks.EverySteps(1)).WithContext(ctx), "a context cannot work"},
	} {
		t.Run(name, func(t *testing.T) {
			loop := newLoop(t)
			hook := attach(t, test.builder, loop)
			other := attach(t, hooks.New(&script{}).WithSchedule(hooks.EverySteps(1)), newLoop(t))
			for _, ds := range []train.Dataset{newSamples(2), struct{ train.Dataset }{hook.Dataset(newSamples(2))}} {
				_, err := loop.RunEpochs(ds, 1)
				require.ErrorContains(t, err, test.want)
				require.ErrorContains(t, err, `with dataset "samples" as it is`)
				require.ErrorContains(t, err, "use RunEpochs(hook.Dataset(ds), epochs)")
			}
			for _, ds := range []train.Dataset{other.Dataset(newSamples(2)), other.Dataset(hook.Dataset(newSamples(2)))} {
				_, err := loop.RunEpochs(ds, 1)
				require.ErrorContains(t, err, test.want+`: the loop is given the Dataset of another hook, that of model "model", and under RunEpochs no other learns when an epoch ends; give it this hook's, or where the loop has both hooks use RunSteps`)
			}
			_, err := loop.RunEpochs(hook.Dataset(newSamples(2)), 1)
			require.NoError(t, err)
		})
	}

	t.Run("steps", func(t *testing.T) {
		loop, auditor, sink := newLoop(t), &script{}, &memory{}
		attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(5)).WithSink(sink), loop)
		_, err := loop.RunEpochs(newSamples(2, 2, 2, 2), 3)
		require.NoError(t, err)
		require.Equal(t, []float64{1.25, 2.5, 3}, auditor.epochs())
		require.Equal(t, []int64{5, 10, 12}, auditor.steps())
		for _, row := range sink.training() {
			require.Equal(t, float64(row.Step)/4, row.Epoch, "the first epoch's rows were dated when it had ended")
		}
	})
}

func TestEpochScheduleUnderRunStepsNeedsTheLengthOfAnEpoch(t *testing.T) {
	loop := newLoop(t)
	attach(t, hooks.New(&script{}).WithSchedule(hooks.EveryEpochs(1)), loop)
	_, err := loop.RunSteps(endless(2), 3)
	require.ErrorContains(t, err, "use WithStepsPerEpoch(n), or RunEpochs(hook.Dataset(ds), epochs)")
}

func TestInitialAudit(t *testing.T) {
	loop, auditor := newLoop(t), &script{}
	attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(2)).WithInitialAudit(), loop)
	_, err := loop.RunSteps(endless(2), 3)
	require.ErrorContains(t, err, "no weights to audit before the first step")

	trainer := newTrainer(backendtest.Go(t))
	_, err = train.NewLoop(trainer).RunSteps(endless(2), 3)
	require.NoError(t, err)
	loop = train.NewLoop(trainer)
	attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(2)).WithInitialAudit(), loop)
	for range 2 {
		_, err = loop.RunSteps(endless(2), 2)
		require.NoError(t, err)
	}
	require.Equal(t, []int64{3, 4, 5, 6, 7}, auditor.steps(), "the second run begins where the first was audited")
}

func TestTrainingRows(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		loop, auditor, sink := train.NewLoop(newTrainer(b)), &script{}, &memory{}
		var losses []float64
		loop.OnStep("see", 0, func(_ *train.Loop, metrics []*tensors.Tensor) error {
			losses = append(losses, float64(tensors.ToScalar[float32](metrics[0])))
			return nil
		})
		hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(3)).WithSink(sink).
			WithStepsPerEpoch(10).WithModel("unet", 5), loop)
		_, err := loop.RunSteps(endless(2), 5)
		require.NoError(t, err)
		require.NoError(t, hook.Close())
		require.Len(t, sink.writes, 3)
		require.Len(t, sink.writes[0].Training, 3)
		require.Len(t, sink.writes[1].Training, 2)
		require.Equal(t, audit.Records{Decisions: sink.writes[2].Decisions}, sink.writes[2])
		for i, row := range sink.training() {
			require.Equal(t, audit.Moment{Model: "unet", Seed: 5, Step: int64(i + 1), Epoch: float64(i+1) / 10}, row.Moment)
			require.Equal(t, losses[i], row.Loss)
			require.InDelta(t, learningRate, row.LearningRate, 1e-8)
			require.Positive(t, row.StepSeconds)
		}
		require.Equal(t, sink.writes[1].Coherence[0].Moment, sink.training()[4].Moment)
	})
}

func TestTrainingRowsEveryFewSteps(t *testing.T) {
	loop, sink := newLoop(t), &memory{}
	attach(t, hooks.New(&script{}).WithSchedule(hooks.EverySteps(100)).WithSink(sink).WithTrainingEvery(4), loop)
	_, err := loop.RunSteps(endless(2), 10)
	require.NoError(t, err)
	require.Len(t, sink.training(), 2)
	require.EqualValues(t, 4, sink.training()[0].Step)
	require.EqualValues(t, 8, sink.training()[1].Step)
}

func TestLearningRateFollowsItsSchedule(t *testing.T) {
	scheduled := func(scope *model.Scope, x *graph.Node) *graph.Node {
		cosineschedule.New(scope, x.Graph(), x.DType()).PeriodSteps(4).LearningRate(0.05).Done()
		return modelFn(scope, x)
	}
	store := model.NewStore()
	trainer := train.NewTrainer(backendtest.Go(t), store, scheduled, squares, optimizer.StochasticGradientDescent().Done(), nil, nil)
	loop, sink := train.NewLoop(trainer), &memory{}
	attach(t, hooks.New(&script{}).WithSchedule(hooks.EverySteps(100)).WithSink(sink), loop)
	_, err := loop.RunSteps(endless(2), 4)
	require.NoError(t, err)
	for i, row := range sink.training() {
		require.InDelta(t, 0.025*(1+math.Cos(math.Pi*float64(i)/4)), row.LearningRate, 1e-6, "step %d", i+1)
	}
}

// still is an optimizer that makes no learning rate variable.
type still struct{ optimizer.Interface }

func (still) UpdateGraph(_ *model.Scope, g *graph.Graph, _ *graph.Node) {
	optimizer.IncrementGlobalStep(g, 0+graph.Const(g, int64(0)).DType())
}

func squares(labels, predictions []*graph.Node) *graph.Node {
	return graph.ReduceAllMean(graph.Square(graph.Sub(labels[0], predictions[0])))
}

func TestOptimizerWithoutALearningRateVariable(t *testing.T) {
	for name, test := range map[string]struct {
		parameter any
		want      float64
		warnings  int
	}{"hyperparameter": {0.25, 0.25, 0}, "nothing": {nil, 0, 1}} {
		t.Run(name, func(t *testing.T) {
			store := model.NewStore()
			if test.parameter != nil {
				store.SetParam(optimizer.ParamLearningRate, test.parameter)
			}
			loop, sink, log := train.NewLoop(train.NewTrainer(backendtest.Go(t), store, modelFn, squares, still{}, nil, nil)), &memory{}, &bytes.Buffer{}
			attach(t, hooks.New(&script{}).WithSchedule(hooks.EverySteps(100)).WithSink(sink).WithLogger(zerolog.New(log)), loop)
			_, err := loop.RunSteps(endless(2), 3)
			require.NoError(t, err)
			for _, row := range sink.training() {
				require.Equal(t, test.want, row.LearningRate)
			}
			require.Equal(t, test.warnings, strings.Count(log.String(), "learning_rate is recorded as 0"))
		})
	}
}

func TestSinkFailureEndsTheRunAndLosesNothing(t *testing.T) {
	loop, auditor := newLoop(t), &script{}
	full := errors.New("no space left on device")
	sink := &memory{fail: full}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(3)).WithSink(sink), loop)
	_, err := loop.RunSteps(endless(2), 10)
	require.ErrorIs(t, err, full)
	require.ErrorContains(t, err, "hooks: the records up to step 3 are not written")
	require.Equal(t, []int64{3}, auditor.steps(), "the run has ended")

	sink.fail = nil
	require.NoError(t, hook.Close())
	require.Len(t, sink.writes, 1)
	require.Len(t, sink.writes[0].Training, 3)
	require.Len(t, sink.writes[0].Coherence, 3)
	require.NoError(t, hook.Close())
	require.Len(t, sink.writes, 1)
	_, err = loop.RunSteps(endless(2), 1)
	require.ErrorContains(t, err, "the hook is closed")
}

func TestAuditorFaults(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		before func() error
		want   string
	}{
		"error":         {func() error { return broken }, "hooks: audit at step 2 failed: broken"},
		"panic":         {func() error { panic("boom") }, "hooks: audit at step 2 failed: panic: boom"},
		"graph panic":   {func() error { panic(broken) }, "hooks: audit at step 2 failed: panic: broken"},
		"runtime panic": {func() error { var none []int; _ = none[0]; return nil }, "index out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			loop, sink := newLoop(t), &memory{}
			hook := attach(t, hooks.New(&script{before: test.before}).WithSchedule(hooks.EveryEpochs(1)).WithSink(sink), loop)
			data := newSamples(2, 2)
			_, err := loop.RunEpochs(hook.Dataset(data), 5)
			require.ErrorContains(t, err, test.want)
			data.requireNoneLost(t, 2)
			require.Empty(t, sink.writes)
			require.NoError(t, hook.Close())
			require.Len(t, sink.training(), 2)
			require.Equal(t, 1.0, sink.training()[1].Epoch)
		})
	}
}

type nothing struct{}

func (nothing) Audit(context.Context, audit.Moment) (*audit.Records, error) { return nil, nil }

func TestAuditorWithoutRecords(t *testing.T) {
	loop := newLoop(t)
	attach(t, hooks.New(nothing{}).WithSchedule(hooks.EverySteps(1)), loop)
	_, err := loop.RunSteps(endless(2), 1)
	require.ErrorContains(t, err, "the auditor returned no records")
}

func TestLossThatIsNotFiniteIsTheLoopsToReport(t *testing.T) {
	notANumber := func(labels, predictions []*graph.Node) *graph.Node {
		return graph.Sqrt(graph.AddScalar(graph.MulScalar(squares(labels, predictions), 0), -1))
	}
	trainer := train.NewTrainer(backendtest.Go(t), model.NewStore(), modelFn, notANumber, optimizer.Adam().Done(), nil, nil)
	loop, auditor := train.NewLoop(trainer), &script{}
	attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)), loop)
	_, err := loop.RunSteps(endless(2), 3)
	require.ErrorContains(t, err, "batch loss is NaN")
	require.Empty(t, auditor.moments)
}

func TestAuditIsLogged(t *testing.T) {
	loop, log := newLoop(t), &bytes.Buffer{}
	var shown []*audit.Records
	hook := attach(t, hooks.New(&script{coherence: []float64{0.75}}).WithSchedule(hooks.EveryEpochs(1)).WithModel("vit", 1).
		WithLogger(zerolog.New(log)).WithOnAudit(func(records *audit.Records) { shown = append(shown, records) }), loop)
	_, err := loop.RunEpochs(hook.Dataset(newSamples(2, 2)), 2)
	require.NoError(t, err)

	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.Len(t, lines, 2)
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &line))
	for key, want := range map[string]any{
		"level": "info", "message": "audit", "model": "vit", "step": 4.0, "epoch": 2.0, "products": 42.0,
		"d4/coherence": 0.75, "d4/target_error": 0.5, "d4/commutator_error": 0.25,
	} {
		require.Equal(t, want, line[key], key)
	}
	require.Contains(t, line, "seconds")
	require.Contains(t, line, "loss")
	require.Len(t, shown, 2)
	require.Len(t, shown[1].Training, 2)
	require.Len(t, shown[1].Coherence, 3)
}

func TestAttachRefuses(t *testing.T) {
	steps := hooks.EverySteps(1)
	for name, test := range map[string]struct {
		builder *hooks.Builder
		want    string
	}{
		"auditor":         {hooks.New(nil).WithSchedule(steps), "there is no auditor: hooks.New got nil"},
		"a nil auditor":   {hooks.New((*audit.Auditor)(nil)), "there is no auditor: hooks.New got nil"},
		"a nil sink":      {hooks.New(&script{}).WithSink((*memory)(nil)), "there is no sink: WithSink got nil"},
		"preflight":       {hooks.New(&script{}).WithPreflight(7), "unknown preflight level 7"},
		"no schedule":     {hooks.New(&script{}).WithSchedule(hooks.Schedule{}), "there is an empty schedule; make one with EverySteps"},
		"schedule":        {hooks.New(&script{}).WithSchedule(hooks.EveryEpochs(0)), `the schedule is "every 0 epochs"`},
		"steps per epoch": {hooks.New(&script{}).WithSchedule(steps).WithStepsPerEpoch(0), "0 steps per epoch"},
		"training rows":   {hooks.New(&script{}).WithSchedule(steps).WithTrainingEvery(0), "every 0-th training step"},
		"stop rule":       {hooks.New(&script{}).WithSchedule(steps).WithStopRules(hooks.StopRule{}), `the monitor is ""`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.builder.Attach(newLoop(t))
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err := hooks.New(&script{}).WithSchedule(steps).Attach(nil)
	require.ErrorContains(t, err, "there is no loop: Attach got nil")
	_, err = hooks.New(&script{}).Attach(&train.Loop{})
	require.ErrorContains(t, err, "or a loop without a trainer")
}
