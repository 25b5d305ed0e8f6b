package hooks_test

import (
	"errors"
	"iter"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// These tests pin what the hook relies on in GoMLX's train.Loop; they do not use the hook.

func TestLoopEndStepTellsHowItIsRun(t *testing.T) {
	loop := train.NewLoop(newTrainer(backendtest.Go(t)))
	var ends []int
	loop.OnStart("see", 0, func(loop *train.Loop, _ train.Dataset) error {
		ends = append(ends, loop.EndStep)
		return nil
	})
	_, err := loop.RunEpochs(newSamples(2, 2), 1)
	require.NoError(t, err)
	_, err = loop.RunSteps(endless(2), 3)
	require.NoError(t, err)
	_, err = loop.RunEpochs(newSamples(2, 2), 1)
	require.NoError(t, err)
	require.Equal(t, []int{-1, 5, -1}, ends)
}

func TestLoopCountsStepsBeforeTheOneUnderWay(t *testing.T) {
	trainer := newTrainer(backendtest.Go(t))
	loop := train.NewLoop(trainer)
	type counts struct {
		loop, end, epoch int
		global           int64
	}
	var steps []counts
	var names []string
	loop.OnStep("see", 0, func(loop *train.Loop, metrics []*tensors.Tensor) error {
		require.Len(t, metrics, len(loop.Trainer.TrainMetrics()))
		names = append(names, loop.Trainer.TrainMetrics()[0].Name())
		steps = append(steps, counts{loop.LoopStep, 0, loop.Epoch, trainer.GlobalStep()})
		return nil
	})
	loop.OnEnd("see", 0, func(loop *train.Loop, _ []*tensors.Tensor) error {
		steps = append(steps, counts{loop.LoopStep, loop.EndStep, loop.Epoch, trainer.GlobalStep()})
		return nil
	})
	_, err := loop.RunEpochs(newSamples(2, 2), 2)
	require.NoError(t, err)
	_, err = loop.RunSteps(endless(2), 1)
	require.NoError(t, err)
	require.Equal(t, []counts{
		{0, 0, 0, 1}, {1, 0, 0, 2}, {2, 0, 1, 3}, {3, 0, 1, 4}, {4, 4, 2, 4},
		{4, 0, 2, 5}, {5, 5, 2, 5},
	}, steps)
	require.Equal(t, "Loss", names[0])
}

func TestLoopEndStepEndsRunStepsCleanly(t *testing.T) {
	loop := train.NewLoop(newTrainer(backendtest.Go(t)))
	var calls []string
	loop.OnStep("stop", 0, func(loop *train.Loop, _ []*tensors.Tensor) error {
		calls = append(calls, "stop")
		if loop.LoopStep == 1 {
			loop.EndStep = loop.LoopStep + 1
		}
		return nil
	})
	loop.OnStep("later", 1, func(*train.Loop, []*tensors.Tensor) error { calls = append(calls, "later"); return nil })
	loop.OnEnd("end", 0, func(*train.Loop, []*tensors.Tensor) error { calls = append(calls, "end"); return nil })
	metrics, err := loop.RunSteps(endless(2), 5)
	require.NoError(t, err)
	require.NotEmpty(t, metrics)
	require.Equal(t, []string{"stop", "later", "stop", "later", "end"}, calls)
	require.Equal(t, 2, loop.LoopStep)
}

func TestLoopRunEpochsIgnoresEndStepAndEndsWithItsDataset(t *testing.T) {
	loop := train.NewLoop(newTrainer(backendtest.Go(t)))
	ds := &turnedOff{samples: newSamples(2, 2, 2)}
	steps, ends := 0, 0
	loop.OnStep("stop", 0, func(loop *train.Loop, _ []*tensors.Tensor) error {
		steps++
		loop.EndStep = loop.LoopStep + 1
		ds.off = steps == 4 // the first step of the second epoch of three
		return nil
	})
	loop.OnEnd("end", 0, func(_ *train.Loop, metrics []*tensors.Tensor) error {
		ends++
		require.NotEmpty(t, metrics)
		return nil
	})
	_, err := loop.RunEpochs(ds, 3)
	require.NoError(t, err)
	require.Equal(t, 4, steps)
	require.Equal(t, 1, ends)
	require.Equal(t, 3, loop.Epoch, "the loop goes through the epochs that are left, all empty")
}

type turnedOff struct {
	*samples
	off bool
}

func (d *turnedOff) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		if d.off {
			return
		}
		for batch, err := range d.samples.Iter() {
			if !yield(batch, err) || d.off {
				return
			}
		}
	}
}

func TestLoopHookErrorSkipsLaterHooksAndOnEnd(t *testing.T) {
	loop := train.NewLoop(newTrainer(backendtest.Go(t)))
	fault := errors.New("no")
	loop.OnStep("fault", 50, func(*train.Loop, []*tensors.Tensor) error { return fault })
	loop.OnStep("later", 100, func(*train.Loop, []*tensors.Tensor) error { t.Error("called"); return nil })
	loop.OnEnd("end", 0, func(*train.Loop, []*tensors.Tensor) error { t.Error("called"); return nil })
	_, err := loop.RunSteps(endless(2), 5)
	require.ErrorIs(t, err, fault)
}

func TestLoopPanicInHookEscapes(t *testing.T) {
	loop := train.NewLoop(newTrainer(backendtest.Go(t)))
	loop.OnStep("fault", 50, func(*train.Loop, []*tensors.Tensor) error { panic("no") })
	require.Panics(t, func() { _, _ = loop.RunSteps(endless(2), 5) })
}

func TestLoopFreesMetricsBeforeTheNextStep(t *testing.T) {
	loop := train.NewLoop(newTrainer(backendtest.Go(t)))
	var first *tensors.Tensor
	loop.OnStep("see", 0, func(_ *train.Loop, metrics []*tensors.Tensor) error {
		if first == nil {
			first = metrics[0]
			require.True(t, first.Ok())
		}
		return nil
	})
	_, err := loop.RunEpochs(newSamples(2, 2), 1)
	require.NoError(t, err)
	require.False(t, first.Ok())
}
