package audit_test

import (
	"context"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// scores of three classes for images of one channel, from what D4 does not change or from every pixel.
func scores(invariant bool) func(scope *model.Scope, x *graph.Node) *graph.Node {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		if invariant {
			x = graph.Concatenate([]*graph.Node{graph.ReduceMean(x, 1, 2), graph.ReduceMax(x, 1, 2)}, -1)
		} else {
			x = graph.Reshape(x, x.Shape().Dimensions[0], -1)
		}
		return layers.Dense(scope.In("out"), graph.Tanh(layers.Dense(scope.In("hidden"), x, true, 5)), true, 3)
	}
}

func TestInvariantOutput(t *testing.T) {
	const n, size = 4, 6
	pixels := make([]float32, n*size*size)
	for i := range pixels {
		pixels[i] = float32((i*i*7)%13) / 13
	}
	// A step of a trainer frees what it gets, and backends share no tensor.
	newImages := func() *tensors.Tensor { return tensors.FromFlatDataAndDimensions(pixels, n, size, size, 1) }
	newLabels := func() *tensors.Tensor { return tensors.FromFlatDataAndDimensions([]int32{0, 2, 1, 2}, n, 1) }
	newBatch := func() train.Batch {
		return train.Batch{Inputs: []*tensors.Tensor{newImages()}, Labels: []*tensors.Tensor{newLabels()}}
	}
	grey := orbits.Field{Channels: []string{"grey"}}
	for name, invariant := range map[string]bool{"invariant": true, "pixels": false} {
		t.Run(name, func(t *testing.T) {
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				fn := scores(invariant)
				store := model.NewStore()
				store.SetParam(model.ParamInitialSeed, int64(3))
				trainer := train.NewTrainer(b, store, fn, loss.SparseCategoricalCrossEntropyLogits, optimizer.Adam().Done(), nil, nil)
				metrics, err := trainer.TrainStep(newBatch())
				require.NoError(t, err)
				require.NotEmpty(t, metrics)
				for _, metric := range []audit.Metric{audit.MetricNTK, audit.MetricGGN} {
					auditor, err := audit.New(trainer, fn, loss.SparseCategoricalCrossEntropyLogits).WithField(grey).WithInvariantOutput().
						WithGroup(orbits.D4(), audit.Probes{Inputs: newImages(), Targets: newLabels(), BatchSize: 2}).
						WithMetric(metric).WithRelativeLambda(1e-2).WithTolerance(1e-3).WithDType(dtypes.Float32).Done()
					require.NoError(t, err)
					defer auditor.Close()
					records, err := auditor.Audit(context.Background(), audit.Moment{})
					require.NoError(t, err)
					mean := 0.0
					for _, row := range records.Errors {
						require.Nil(t, row.PersistenceError)
						if row.Element == "e" {
							require.Zero(t, row.CommutatorError)
							require.Equal(t, row.IdentityError, row.TargetError)
							mean += row.TargetError / n
						}
						if invariant {
							require.InDelta(t, row.IdentityError, row.TargetError, 1e-6)
							require.Less(t, row.CommutatorError, 1e-10)
						}
					}
					evaluated, err := trainer.EvalStep(newBatch())
					require.NoError(t, err)
					require.InDelta(t, float64(tensors.ToScalar[float32](evaluated[0])), mean, 1e-5, "the mean target error is the loss")
					for _, row := range records.Coherence {
						if row.Element != audit.AllElements {
							continue
						}
						if invariant {
							require.Greater(t, *row.MedianLow, 0.995)
						} else {
							require.Less(t, *row.MedianHigh, 0.995)
							require.Greater(t, *row.MedianCommutatorError, 1e-4)
						}
					}
				}
			})
		})
	}
}

func TestInvariantOutputRefuses(t *testing.T) {
	images := tensors.FromFlatDataAndDimensions(make([]float32, 2*16), 2, 4, 4, 1)
	labels := tensors.FromFlatDataAndDimensions([]int32{1, 0, 1}, 3, 1)
	builder := func() *audit.Builder {
		return audit.New(source{backendtest.Go(t), model.NewStore()}, scores(false), nil).WithField(orbits.Field{Channels: []string{"grey"}}).
			WithGroup(orbits.D4(), audit.Probes{Inputs: images, Targets: labels})
	}
	_, err := builder().WithInvariantOutput().Done()
	require.ErrorContains(t, err, "there must be a target for each")
	labels = tensors.FromFlatDataAndDimensions([]int32{1, 0}, 2, 1)
	_, err = builder().WithInvariantOutput().Done()
	require.ErrorContains(t, err, "the targets of group d4 are (Int32)[2, 1], and the loss that is taken where none is given, SMSE, is of states [n, ..., channel]; give audit.New the loss of the training")
	_, err = builder().Done()
	require.ErrorContains(t, err, "unless the output is invariant (audit.Builder.WithInvariantOutput)")
}
