package hooks_test

import (
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/dataset"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// A training on two devices, each with half of every batch.
func TestDistributedTrainingIsBitIdenticalWithTheHook(t *testing.T) {
	b := backendtest.XLA(t)
	require.GreaterOrEqual(t, b.NumDevices(), 2)
	const n, size = 4, 8
	states := func(seed int) *tensors.Tensor {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		values := make([]float32, n*size*size*4)
		for i := range values {
			values[i] = 1 + float32(0.2*random.NormFloat64())
		}
		return tensors.FromFlatDataAndDimensions(values, n, size, size, 4)
	}
	fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		x = graph.Tanh(layers.Dense(scope.In("hidden"), x, true, 4))
		return layers.Dense(scope.In("output"), x, true, 4)
	}
	run := func(attachTo func(loop *train.Loop, trainer *train.Trainer)) map[string]string {
		mesh, err := distributed.NewDeviceMesh([]int{2}, []string{"data"})
		require.NoError(t, err)
		sharded, err := distributed.NewShardingSpec(mesh, distributed.AxisSpec{"data"})
		require.NoError(t, err)
		specs := []*distributed.ShardingSpec{sharded}
		ds, err := dataset.NewDistributedAccumulator(b, &numbered{states}, distributed.AutoSharding, specs, specs, nil)
		require.NoError(t, err)
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(7))
		trainer := train.NewTrainer(b, store, fn, audit.Loss, optimizer.Adam().LearningRate(1e-2).Done(), nil, nil)
		loop := train.NewLoop(trainer)
		attachTo(loop, trainer)
		_, err = loop.RunSteps(ds, 4)
		require.NoError(t, err)
		return state(t, store)
	}
	plain := run(func(*train.Loop, *train.Trainer) {})
	var sink memory
	hooked := run(func(loop *train.Loop, trainer *train.Trainer) {
		auditor, err := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithRelativeLambda(1e-1).
			WithGroup(orbits.C4(), audit.Probes{Inputs: states(-1), Targets: states(-2), BatchSize: 2}).Done()
		require.NoError(t, err)
		t.Cleanup(auditor.Close)
		attach(t, hooks.New(auditor).WithSink(&sink).WithSchedule(hooks.EverySteps(2)), loop)
	})
	require.Len(t, sink.writes, 3, "two audits, and how the run ended")
	require.NotEmpty(t, sink.writes[1].Influence)
	require.NotEqual(t, sink.writes[0].Influence, sink.writes[1].Influence)
	require.Empty(t, cmp.Diff(plain, hooked))
}

// numbered is an endless dataset of batches that all differ: every device gets one of its own.
type numbered struct {
	states func(seed int) *tensors.Tensor
}

func (d *numbered) Name() string { return "numbered" }
func (d *numbered) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		for i := 0; ; i += 2 {
			if !yield(train.Batch{Inputs: []*tensors.Tensor{d.states(i)}, Labels: []*tensors.Tensor{d.states(i + 1)}}, nil) {
				return
			}
		}
	}
}
