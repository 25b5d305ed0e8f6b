package hooks_test

import (
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// Real models under a real auditor: random numbers, batch statistics, and gradients of several batches.
func TestTrainingOfModelsIsBitIdenticalWithTheHook(t *testing.T) {
	const n, size = 4, 8
	random := rand.New(rand.NewPCG(1, 1))
	field := func(channels int) *tensors.Tensor {
		values := make([]float32, n*size*size*channels)
		for i := range values {
			values[i] = 1 + float32(0.2*random.NormFloat64())
		}
		return tensors.FromFlatDataAndDimensions(values, n, size, size, channels)
	}
	unet := models.UNet{Widths: []int{2, 2}, Blocks: 1, Groups: 1}.Fn()
	vit := models.ViT{Patch: 4, Width: 4, Layers: 1, Heads: 2, Expansion: 1}.Fn()
	fno := models.FNO{Width: 3, Modes: 2, Layers: 2}.Fn()
	classifier := func(scope *model.Scope, x *graph.Node) *graph.Node {
		x = layers.Convolution(scope.In("conv"), x).Channels(3).KernelSize(3).PadSame().Done()
		x = graph.Tanh(norm.LayerNorm(scope.In("norm"), x, -1).Done())
		return layers.Dense(scope.In("scores"), graph.ReduceMean(x, 1, 2), true, 3)
	}
	states, after, images := field(4), field(4), field(1)
	labels := tensors.FromFlatDataAndDimensions([]int32{0, 1, 2, 1}, n, 1)
	for name, test := range map[string]struct {
		fn         func(scope *model.Scope, x *graph.Node) *graph.Node
		loss       func(labels, predictions []*graph.Node) *graph.Node
		x, y       *tensors.Tensor
		accumulate int
	}{
		"unet with dropout": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			return unet(scope, layers.DropoutStatic(scope, x, 0.2))
		}, audit.Loss, states, after, 1},
		"vit, gradients of two batches": {vit, audit.Loss, states, after, 2},
		"fno":                           {fno, audit.Loss, states, after, 1},
		"classifier":                    {classifier, loss.SparseCategoricalCrossEntropyLogits, images, labels, 1},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				run := func(attachTo func(loop *train.Loop, trainer *train.Trainer)) map[string]string {
					store := model.NewStore()
					store.SetParam(model.ParamInitialSeed, int64(7))
					trainer := train.NewTrainer(b, store, test.fn, test.loss, optimizer.Adam().LearningRate(1e-2).Done(), nil, nil)
					if test.accumulate > 1 {
						require.NoError(t, trainer.AccumulateGradients(test.accumulate))
					}
					loop := train.NewLoop(trainer)
					attachTo(loop, trainer)
					_, err := loop.RunSteps(&repeated{train.Batch{Inputs: []*tensors.Tensor{test.x}, Labels: []*tensors.Tensor{test.y}}}, 6)
					require.NoError(t, err)
					return state(t, store)
				}
				plain := run(func(*train.Loop, *train.Trainer) {})
				var sink memory
				hooked := run(func(loop *train.Loop, trainer *train.Trainer) {
					builder := audit.New(trainer, test.fn, test.loss).WithField(orbits.EulerField()).WithRelativeLambda(1e-1).
						WithGroup(orbits.C4(), audit.Probes{Inputs: test.x, Targets: test.y, BatchSize: 2})
					if test.y == labels {
						builder.WithField(orbits.Field{Channels: []string{"grey"}}).WithInvariantOutput()
					}
					auditor, err := builder.Done()
					require.NoError(t, err)
					t.Cleanup(auditor.Close)
					attach(t, hooks.New(auditor).WithSink(&sink).WithSchedule(hooks.EverySteps(2)), loop)
				})
				require.NotEmpty(t, sink.writes)
				require.NotEmpty(t, sink.writes[0].Influence)
				require.Empty(t, cmp.Diff(plain, hooked))
			})
		})
	}
}

// repeated is a dataset of one batch, for ever.
type repeated struct{ batch train.Batch }

func (r *repeated) Name() string { return "repeated" }
func (r *repeated) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		for {
			var copied train.Batch // the loop frees what it gets
			for _, side := range []struct{ from, to *[]*tensors.Tensor }{{&r.batch.Inputs, &copied.Inputs}, {&r.batch.Labels, &copied.Labels}} {
				for _, tensor := range *side.from {
					clone, err := tensor.LocalClone()
					if err != nil {
						yield(train.Batch{}, err)
						return
					}
					*side.to = append(*side.to, clone)
				}
			}
			if !yield(copied, nil) {
				return
			}
		}
	}
}
