package hooks_test

import (
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
	if b.NumDevices() < 2 {
		t.Skip("the plugin has one device")
	}
	const n, size = 4, 8
	values := make([]float32, n*size*size*4)
	for i := range values {
		values[i] = 1 + 0.1*float32(i%11)
	}
	states := func() *tensors.Tensor { return tensors.FromFlatDataAndDimensions(values, n, size, size, 4) }
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
		half := &repeated{train.Batch{Inputs: []*tensors.Tensor{states()}, Labels: []*tensors.Tensor{states()}}}
		ds, err := dataset.NewDistributedAccumulator(b, half, distributed.AutoSharding, specs, specs, nil)
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
		auditor, err := audit.New(trainer, fn, nil).WithRelativeLambda(1e-1).
			WithGroup(orbits.C4(), audit.Probes{Inputs: states(), Targets: states(), BatchSize: 2}).Done()
		require.NoError(t, err)
		t.Cleanup(auditor.Close)
		attach(t, hooks.New(auditor).WithSink(&sink).WithSchedule(hooks.EverySteps(2)), loop)
	})
	require.Len(t, sink.writes, 2)
	require.NotEmpty(t, sink.writes[1].Influence)
	require.NotEqual(t, sink.writes[0].Influence, sink.writes[1].Influence)
	require.Empty(t, cmp.Diff(plain, hooked))
}
