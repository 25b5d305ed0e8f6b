package hooks_test

import (
	"iter"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
)

func TestDatasetReadsNoBatchBeforeTheStepBefore(t *testing.T) {
	loop, data := newLoop(t), newSamples(2, 2, 2)
	read := func(at *[]int) train.OnStepFn {
		return func(*train.Loop, []*tensors.Tensor) error { *at = append(*at, len(data.yielded)); return nil }
	}
	var early, late []int
	loop.OnStep("early", 0, read(&early))
	loop.OnStep("late", 300, read(&late))
	hook := attach(t, hooks.New(&script{}).WithSchedule(hooks.EveryEpochs(1)), loop)
	_, err := loop.RunEpochs(hook.Dataset(data), 2)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3, 4, 5, 6}, early)
	require.Equal(t, []int{2, 3, 3, 5, 6, 6}, late)
}

func TestDatasetErrorReachesTheLoop(t *testing.T) {
	loop, data, sink := newLoop(t), newSamples(2, 2, 2, 2), &memory{}
	data.fail = 3
	hook := attach(t, hooks.New(&script{}).WithSchedule(hooks.EveryEpochs(1)).WithSink(sink), loop)
	_, err := loop.RunEpochs(hook.Dataset(data), 2)
	require.ErrorContains(t, err, "disk on fire")
	require.Empty(t, sink.writes, "no epoch has ended")
	require.NoError(t, hook.Close())
	require.Len(t, sink.training(), 2)
}

// A hook may evaluate on the training data, in a step that is stopped too.
func TestDatasetCanBeReadWithinAStepAndAfterAStop(t *testing.T) {
	loop, data, auditor := newLoop(t), newSamples(2, 2), &script{coherence: []float64{0, 1}}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EveryEpochs(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: ptr(1.0)}), loop)
	ds := hook.Dataset(data)
	var counts []int
	count := func() {
		n := 0
		for batch, err := range ds.Iter() {
			require.NoError(t, err)
			require.NoError(t, batch.Finalize())
			n++
		}
		counts = append(counts, n)
	}
	for _, priority := range []train.Priority{0, 300} {
		loop.OnStep("evaluate", priority, func(*train.Loop, []*tensors.Tensor) error { count(); return nil })
	}
	loop.OnEnd("evaluate", -5, func(*train.Loop, []*tensors.Tensor) error { count(); return nil })
	_, err := loop.RunEpochs(ds, 5)
	require.NoError(t, err)
	count()
	require.Equal(t, []int64{2, 4}, auditor.steps())
	require.Equal(t, slices.Repeat([]int{2}, 4*2+2), counts)
}

func TestDatasetKeepsItsNames(t *testing.T) {
	hook := attach(t, hooks.New(&script{}).WithSchedule(hooks.EverySteps(1)), newLoop(t))
	ds := hook.Dataset(newSamples(2))
	require.Equal(t, "samples", ds.Name())
	require.Equal(t, "sam", ds.(train.HasShortName).ShortName())
	named := hook.Dataset(short{newSamples(2)})
	require.Equal(t, "smp", named.(train.HasShortName).ShortName())
}

type short struct{ *samples }

func (short) ShortName() string { return "smp" }

// spread has a distributed side, of which only that it is kept is tested.
type spread struct{ *samples }

func (spread) Strategy() distributed.Strategy                            { return distributed.AutoSharding }
func (spread) DeviceAssignment() []compute.DeviceNum                     { return []compute.DeviceNum{0} }
func (spread) DistributedIter() iter.Seq2[train.DistributedBatch, error] { return nil }

func TestDatasetStaysDistributed(t *testing.T) {
	loop, auditor := newLoop(t), &script{}
	hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EveryEpochs(1)), loop)
	ds := hook.Dataset(spread{newSamples(2, 2)})
	wrapped, ok := ds.(train.DistributedDataset)
	require.True(t, ok)
	require.Equal(t, distributed.AutoSharding, wrapped.Strategy())
	_, err := loop.RunEpochs(ds, 2)
	require.NoError(t, err)
	require.Equal(t, []int64{2, 4}, auditor.steps())
	_, plain := hook.Dataset(newSamples(2)).(train.DistributedDataset)
	require.False(t, plain, "GoMLX would try to distribute it")
}

// A training interrupted after any epoch audits, but for the end of the first process, what an uninterrupted one does.
func TestInterruptedTrainingAuditsTheSameSteps(t *testing.T) {
	backend := backendtest.Go(t)
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 3), 1, 4).Draw(t, "batch sizes")
		epochs := rapid.IntRange(2, 5).Draw(t, "epochs")
		interruption := rapid.IntRange(1, epochs-1).Draw(t, "epochs of the first process")
		every := rapid.IntRange(1, 4).Draw(t, "every")
		schedule := rapid.SampledFrom([]hooks.Schedule{hooks.EverySteps(every), hooks.EveryEpochs(every)}).Draw(t, "schedule")

		audited := func(parts ...int) (steps []int64) {
			trainer := newTrainer(backend)
			for _, n := range parts {
				loop, auditor := train.NewLoop(trainer), &script{}
				hook, err := hooks.New(auditor).WithSchedule(schedule).Attach(loop)
				require.NoError(t, err)
				_, err = loop.RunEpochs(hook.Dataset(newSamples(sizes...)), n)
				require.NoError(t, err)
				for _, at := range auditor.moments {
					if at.Step == trainer.GlobalStep() || schedule == hooks.EveryEpochs(every) {
						require.Equal(t, float64(at.Step)/float64(len(sizes)), at.Epoch)
					}
				}
				steps = append(steps, auditor.steps()...)
			}
			return steps
		}
		whole, resumed := audited(epochs), audited(interruption, epochs-interruption)
		end := int64(interruption * len(sizes))
		if !slices.Contains(whole, end) {
			resumed = slices.DeleteFunc(resumed, func(step int64) bool { return step == end })
		}
		require.Equal(t, whole, resumed)
	})
}
