package audit_test

import (
	"bytes"
	"context"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/initializer"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

func TestPreflight(t *testing.T) {
	dense := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return layers.Dense(scope.In("dense"), x, true, 4)
	}
	for name, test := range map[string]struct {
		fn   func(scope *model.Scope, x *graph.Node) *graph.Node
		want string
	}{
		"sound": {smallUNet.Fn(), ""},
		"gradient": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			return layers.Convolution(scope.In("even"), dense(scope, x)).Channels(4).KernelSize(2).PadSame().Done()
		}, "the model's gradient is wrong"},
		"random": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.Add(dense(scope, x), scope.RandomUniform(x.Graph(), shapes.Make(x.DType(), x.Shape().Dimensions...)))
		}, "two evaluations of the same states differ"},
		"batch statistics": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.Sub(dense(scope, x), graph.ReduceAndKeep(x, graph.ReduceMean, 0, 1, 2))
		}, "with the others of its batch: the model mixes samples"},
		"shift along the batch": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			y := dense(scope, x)
			return graph.Add(y, graph.ShiftWithScalar(y, 0, graph.ShiftDirRight, 1, 0))
		}, "the output of sample 1 changes by"},
		"number of samples": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.DivScalar(dense(scope, x), float64(x.Shape().Dimensions[0]))
		}, "the output of sample 0 changes by 3 of itself"},
		"one size of batch": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			if n := x.Shape().Dimensions[0]; n == 1 {
				panic("a batch of 1")
			}
			return dense(scope, x)
		}, "audit: the model fails on a single sample, though not on 4; audits evaluate single samples, so make it take batches of any size: panic: a batch of 1"},
		"operation": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.Add(x, graph.Sort(dense(scope, x), -1, true))
		}, "forward"},
		"shape": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			return layers.Dense(scope.In("dense"), x, true, 3)
		}, "to 768 values and its targets are (Float32)[4, 8, 8, 4]; it must return these"},
		"not finite": {func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.MulScalar(dense(scope, x), math.Inf(1))
		}, "outputs on the probes are not finite"},
	} {
		t.Run(name, func(t *testing.T) {
			store := model.NewStore()
			store.SetParam(model.ParamInitialSeed, int64(7))
			b := backendtest.Go(t)
			// The model makes its weights when it is first run.
			model.MustNewExec(b, store, test.fn).MustCall(batch(flow(1, 2)))
			auditor, err := audit.New(source{b, store}, test.fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(4, 2)).WithDType(dtypes.Float32).Done()
			require.NoError(t, err)
			defer auditor.Close()
			cost, err := auditor.Preflight(context.Background())
			if test.want != "" {
				require.ErrorContains(t, err, test.want)
				return
			}
			require.NoError(t, err)
			require.EqualValues(t, 8*4, cost.Gradients)
			require.EqualValues(t, 2*20+2*8*4, cost.Products, "two batches have a metric each")
			require.Positive(t, cost.ProductTime)
			require.Positive(t, cost.Bytes)
			records, err := auditor.Audit(context.Background(), audit.Moment{})
			require.NoError(t, err)
			products := int64(0)
			for _, solve := range records.Solves {
				products += solve.Products + solve.SetupProducts
			}
			require.GreaterOrEqual(t, products, cost.Products)
		})
	}
}

// After a step a last layer that began at zero lets so little through that the fault before it is less than the rounding of
// single precision.
// The preflight runs the loss as audits will.
func TestPreflightRunsTheLoss(t *testing.T) {
	b := backendtest.Go(t)
	type lossFn = func(labels, predictions []*graph.Node) *graph.Node
	for name, test := range map[string]struct {
		loss      lossFn
		want, log string
	}{
		"sum": {func(labels, predictions []*graph.Node) *graph.Node {
			return graph.ReduceAllSum(graph.Square(graph.Sub(predictions[0], labels[0])))
		}, "", ""},
		"mask": {func(labels, predictions []*graph.Node) *graph.Node {
			return graph.ReduceAllMean(graph.Mul(labels[1], graph.Square(graph.Sub(predictions[0], labels[0]))))
		}, "audit: the loss fails on the probes (index out of range [1] with length 1); it gets Probes.Targets and then Probes.Labels, of one sample each, here (Float32)[4, 8, 8, 4], and the model's outputs", ""},
		"moved": {func(labels, predictions []*graph.Node) *graph.Node {
			rising := graph.Sub(graph.Slice(labels[0], graph.AxisRange(), graph.AxisRange(0, 1), graph.AxisRange(0, 1)), graph.Slice(labels[0], graph.AxisRange(), graph.AxisRange(1, 2), graph.AxisRange(0, 1)))
			return graph.ReduceAllMean(graph.Add(graph.MulScalar(predictions[0], 1), graph.ReduceAllMean(graph.Log(rising))))
		}, "the loss at probe ", ""},
		"coupled": {func(labels, predictions []*graph.Node) *graph.Node {
			n := float64(predictions[0].Shape().Dimensions[0])
			return graph.MulScalar(graph.ReduceAllMean(graph.Square(predictions[0])), n*n)
		}, "", "the loss of a batch is not that of its samples"},
		"contrast": {func(labels, predictions []*graph.Node) *graph.Node {
			all := graph.ReduceMean(predictions[0], 1, 2, 3)
			return graph.ReduceAllMean(graph.Square(graph.Sub(all, graph.ReduceAllMean(all))))
		}, "the gradient of the loss is zero at every sample of a batch", "the loss of a batch is not that of its samples"},
	} {
		t.Run(name, func(t *testing.T) {
			log := &bytes.Buffer{}
			auditor, err := audit.New(trained(t, b, smallViT.Fn()), smallViT.Fn(), test.loss).WithField(orbits.EulerField()).
				WithGroup(orbits.D4(), probes(4, 2)).WithDType(dtypes.Float32).WithLogger(zerolog.New(log)).Done()
			require.NoError(t, err)
			defer auditor.Close()
			_, err = auditor.Preflight(context.Background())
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
			}
			if test.log == "" {
				require.NotContains(t, log.String(), "loss")
			} else {
				require.Contains(t, log.String(), test.log)
			}
		})
	}
}

// A function with variables that the trainer has not is another model's, whatever GoMLX makes for it.
func TestPreflightRefusesTheFunctionOfAnotherModel(t *testing.T) {
	other := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return layers.Dense(scope.In("other"), x, true, 4)
	}
	auditor, err := audit.New(trained(t, backendtest.Go(t), smallViT.Fn()), other, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(4, 2)).Done()
	require.NoError(t, err)
	defer auditor.Close()
	_, err = auditor.Preflight(context.Background())
	require.ErrorContains(t, err, "audit: the model has variables that are not in the trainer's store (/other/dense/biases, /other/dense/weights): give audit.New the function that the trainer was made with")
}

// The metric ggn is tried on the losses that it cannot be made of, before an audit is.
func TestPreflightTriesTheMetric(t *testing.T) {
	b := backendtest.Go(t)
	type lossFn = func(labels, predictions []*graph.Node) *graph.Node
	difference := func(labels, predictions []*graph.Node) *graph.Node { return graph.Sub(predictions[0], labels[0]) }
	for name, test := range map[string]struct {
		loss lossFn
		want string
	}{
		"not convex": {func(labels, predictions []*graph.Node) *graph.Node {
			return graph.ReduceAllMean(graph.Log1P(graph.MulScalar(graph.Square(difference(labels, predictions)), 9)))
		}, "audit: WithMetric is ggn, which needs a loss that is convex in the model's outputs"},
		"no curvature": {func(labels, predictions []*graph.Node) *graph.Node {
			return graph.ReduceAllMean(graph.Abs(difference(labels, predictions)))
		}, "audit: WithMetric is ggn, and the loss has no second derivative in the model's outputs, so that this metric is 0; use ntk or fisher"},
	} {
		t.Run(name, func(t *testing.T) {
			auditor, err := audit.New(trained(t, b, smallViT.Fn()), smallViT.Fn(), test.loss).WithField(orbits.EulerField()).
				WithGroup(orbits.D4(), probes(4, 2)).WithMetric(audit.MetricGGN).Done()
			require.NoError(t, err)
			defer auditor.Close()
			_, err = auditor.Preflight(context.Background())
			require.ErrorContains(t, err, test.want)
		})
	}
	auditor, err := audit.New(trained(t, b, smallViT.Fn()), smallViT.Fn(), nil).WithField(orbits.EulerField()).
		WithGroup(orbits.D4(), probes(4, 2)).WithMaxBytes(10).Done()
	require.NoError(t, err)
	defer auditor.Close()
	_, err = auditor.Preflight(context.Background())
	require.ErrorContains(t, err, "audit: WithMaxBytes is 10, and one product of the smallest part of group d4, batch 0 takes ")
}

func TestPreflightFindsAFaultBehindAClosedLayer(t *testing.T) {
	for kernel, want := range map[int]string{2: "/even/conv", 3: ""} {
		fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
			y := graph.Tanh(layers.Convolution(scope.In("stem"), x).Channels(4).KernelSize(3).PadSame().Done())
			y = graph.Tanh(layers.Convolution(scope.In("even"), y).Channels(4).KernelSize(kernel).PadSame().Done())
			closed := scope.In("closed").WithInitializer(initializer.Zero)
			return graph.Add(x, layers.Convolution(closed, y).Channels(4).KernelSize(3).PadSame().Done())
		}
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(7))
		b := backendtest.Go(t)
		trainer := train.NewTrainer(b, store, fn, audit.Loss, optimizer.Adam().LearningRate(1e-4).Done(), nil, nil)
		p := probes(4, 2)
		_, err := trainer.TrainStep(train.Batch{Inputs: []*tensors.Tensor{batch(flow(1, 4))}, Labels: []*tensors.Tensor{batch(flow(2, 4))}})
		require.NoError(t, err)
		auditor, err := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).WithDType(dtypes.Float32).Done()
		require.NoError(t, err)
		_, err = auditor.Preflight(context.Background())
		auditor.Close()
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, "the model's gradient is wrong")
		require.ErrorContains(t, err, want)
	}
}

func TestPreflightRefusesAPluginThatComputesWrongly(t *testing.T) {
	backendtest.WithWrongSums(t, func(t *testing.T, b compute.Backend) {
		store := model.NewStore()
		model.MustNewExec(b, store, smallUNet.Fn()).MustCall(batch(flow(1, 2)))
		auditor, err := audit.New(source{b, store}, smallUNet.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(4, 2)).Done()
		require.NoError(t, err)
		defer auditor.Close()
		_, err = auditor.Preflight(context.Background())
		require.ErrorContains(t, err, "audit: the backend xla computes derivatives of normalisations wrongly")
	})
}
