package hooks_test

import (
	"context"
	"errors"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// A run that ends says how, at its last step: one that is stopped by a rule, with the weights of the best audit or without, one that makes
// all its steps, and one whose context ends it.
func TestARunSaysHowItEnded(t *testing.T) {
	loop, sink := newLoop(t), &memory{}
	hook := attach(t, hooks.New(&script{coherence: []float64{0.1, 0.5, 0.2, 0.3}}).WithSink(sink).WithSchedule(hooks.EverySteps(1)).
		WithStepsPerEpoch(4).WithStopRules(patient).WithBestCheckpoint(t.TempDir()).WithModel("unet", 5), loop)
	_, err := loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	reason, _ := hook.Stopped()
	require.Contains(t, reason, "has not improved on 0.5")
	stopped := audit.DecisionRow{Moment: audit.Moment{Model: "unet", Seed: 5, Step: 4, Epoch: 1}, Decision: audit.Stopped, Explanation: &reason,
		Monitor: ptr("d4/coherence"), BestStep: ptr(int64(2)), BestValue: ptr(0.5), KeptStep: 2}
	require.Equal(t, []audit.DecisionRow{stopped}, sink.decisions())

	// From step 2 on again, whose value stays the best.
	_, err = loop.RunSteps(endless(2), 1)
	require.NoError(t, err)
	require.Len(t, sink.decisions(), 2)
	finished := stopped
	finished.Decision, finished.Explanation, finished.Step, finished.Epoch, finished.KeptStep = audit.Finished, nil, 3, sink.decisions()[1].Epoch, 3
	require.Equal(t, finished, sink.decisions()[1])
	require.Equal(t, stopped, sink.decisions()[0])
}

func TestAnInterruptedRunSaysSo(t *testing.T) {
	loop, sink := newLoop(t), &memory{}
	ctx, cancel := context.WithCancelCause(context.Background())
	loop.OnStep("interrupt", 0, func(*train.Loop, []*tensors.Tensor) error {
		cancel(errors.New("the power is needed elsewhere"))
		return nil
	})
	attach(t, hooks.New(&script{}).WithSink(sink).WithSchedule(hooks.EverySteps(100)).WithContext(ctx).WithModel("vit", 0), loop)
	_, err := loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	require.Equal(t, []audit.DecisionRow{{Moment: audit.Moment{Model: "vit", Step: 1}, Decision: audit.Interrupted,
		Explanation: ptr("the power is needed elsewhere"), KeptStep: 1}}, sink.decisions())
}

// A failure of the training is no decision.
func TestARunThatFailsHasNoDecision(t *testing.T) {
	loop, sink := newLoop(t), &memory{}
	hook := attach(t, hooks.New(&script{}).WithSink(sink).WithSchedule(hooks.EverySteps(1)), loop)
	ds := endless(2)
	ds.fail, ds.sizes = 2, []int{2, 2}
	_, err := loop.RunSteps(ds, 9)
	require.ErrorContains(t, err, "disk on fire")
	require.NoError(t, hook.Close())
	require.Len(t, sink.training(), 1)
	require.Empty(t, sink.decisions())
}

// A process was killed between the audit that met the rule and the end of its run: the next one, which has nothing left to train, says how the training ended.
func TestAKilledRunIsConcluded(t *testing.T) {
	for name, best := range map[string]string{"kept": "", "restored": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			whole, sink := &memory{}, &memory{}
			builder := func(sink audit.Sink) *hooks.Builder {
				b := hooks.New(&script{coherence: []float64{0.1, 0.5, 0.2, 0.3}}).WithSink(sink).WithSchedule(hooks.EverySteps(1)).WithStepsPerEpoch(4).WithStopRules(patient)
				if best != "" {
					b.WithBestCheckpoint(best)
				}
				return b
			}
			loop := newLoop(t)
			attach(t, builder(whole), loop)
			_, err := loop.RunSteps(endless(2), 9)
			require.NoError(t, err)
			var history []audit.CoherenceRow
			for _, records := range whole.writes {
				history = append(history, records.Coherence...)
			}
			at := newLoop(t)
			_, err = at.RunSteps(endless(2), 4)
			require.NoError(t, err)
			hook := attach(t, builder(sink).WithHistory(history), at)
			require.NoError(t, hook.Conclude())
			require.Equal(t, whole.decisions(), sink.decisions())

			hook = attach(t, builder(sink).WithHistory(history[:3]), newLoop(t))
			require.NoError(t, hook.Conclude())
			require.Len(t, sink.decisions(), 1, "no rule has stopped this one")
		})
	}
}
