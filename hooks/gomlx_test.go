package hooks_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/layers/attention"
	"github.com/gomlx/gomlx/ml/layers/fnn"
	"github.com/gomlx/gomlx/ml/layers/kan"
	"github.com/gomlx/gomlx/ml/layers/lstm"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/layers/vnn"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

type (
	node  = graph.Node
	scope = model.Scope
	lossF = func(labels, predictions []*node) *node
)

// gomlxCase is a model of GoMLX's own layers and what becomes of it under a hook.
type gomlxCase struct {
	fn     train.ModelFn
	loss   lossF // nil: mean square
	refuse map[string]string // by backend: what the refusal says; "" is accepted
	remedy *gomlxCase        // what to do then, followed
	labels func(n int) []*tensors.Tensor // nil: states
	seed   bool
	output *int
}

const gomlxGrid = 8

// image is a model of states to states.
func image(fn func(s *scope, x *node) *node) train.ModelFn {
	return func(s *scope, _ any, inputs []*node) []*node { return []*node{fn(s, inputs[0])} }
}

func convolution(s *scope, x *node, name string, channels, kernel int) *node {
	return layers.Convolution(s.In("%s", name), x).Channels(channels).KernelSize(kernel).PadSame().Done()
}

// sequence makes of states [n, y, x, c] sequences [n, y, x*c] for a layer, and states again of what it returns.
func sequence(fn func(s *scope, x *node) *node) train.ModelFn {
	return image(func(s *scope, x *node) *node {
		d := x.Shape().Dimensions
		y := fn(s, graph.Reshape(x, d[0], d[1], d[2]*d[3]))
		return graph.Reshape(layers.Dense(s.In("out"), y, true, d[2]*d[3]), d...)
	})
}

func pointwise(fn func(s *scope, x *node) *node) train.ModelFn {
	return image(func(s *scope, x *node) *node {
		d := x.Shape().Dimensions
		y := fn(s, graph.Reshape(x, -1, d[3]))
		return graph.Reshape(y, d...)
	})
}

func classes(n int) []*tensors.Tensor {
	labels := make([]int32, n)
	for i := range labels {
		labels[i] = int32(i % 3)
	}
	return []*tensors.Tensor{tensors.FromFlatDataAndDimensions(labels, n, 1)}
}

func score(s *scope, x *node) *node {
	return layers.Dense(s.In("scores"), graph.ReduceMean(x, 1, 2), true, 3)
}

func gomlxCases() map[string]gomlxCase {
	cases := map[string]gomlxCase{}
	add := func(name string, c gomlxCase) { cases[name] = c }
	add("dense", gomlxCase{fn: image(func(s *scope, x *node) *node { return layers.Dense(s.In("dense"), x, true, 4) })})
	add("mnist", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = activation.Relu(convolution(s, x, "conv", 3, 3))
		x = graph.MaxPool(x).Window(2).Done()
		x = layers.DropoutStatic(s, convolution(s, x, "conv2", 3, 3), 0.3)
		return score(s, x)
	}), loss: loss.SparseCategoricalCrossEntropyLogits, labels: classes})
	add("cifar", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = norm.BatchNorm(s.In("norm"), convolution(s, x, "conv", 3, 3), -1).Done()
		return score(s, activation.Relu(x))
	}), loss: loss.SparseCategoricalCrossEntropyLogits, labels: classes})
	add("batch norm without backend", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = norm.BatchNorm(s.In("norm"), convolution(s, x, "conv", 3, 3), -1).UseBackendInference(false).Done()
		return score(s, activation.Relu(x))
	}), loss: loss.SparseCategoricalCrossEntropyLogits, labels: classes})
	add("inception", gomlxCase{fn: image(func(s *scope, x *node) *node {
		a, b := convolution(s, x, "a", 2, 1), convolution(s, convolution(s, x, "b1", 2, 1), "b2", 2, 3)
		c := convolution(s, graph.MaxPool(x).Window(3).Strides(1).PadSame().Done(), "c", 2, 1)
		x = norm.LayerNorm(s.In("norm"), graph.Concatenate([]*node{a, b, c}, -1), -1).Done()
		return convolution(s, x, "out", 4, 1)
	})})
	add("mean pool", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = graph.MeanPool(convolution(s, x, "conv", 3, 3)).Window(2).Done()
		return score(s, x)
	}), loss: loss.SparseCategoricalCrossEntropyLogits, labels: classes})
	add("sum pool", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = graph.SumPool(convolution(s, x, "conv", 3, 3)).Window(2).Done()
		return score(s, x)
	}), loss: loss.SparseCategoricalCrossEntropyLogits, labels: classes})
	add("min pool", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = graph.MinPool(convolution(s, x, "conv", 3, 3)).Window(2).Done()
		return score(s, x)
	}), loss: loss.SparseCategoricalCrossEntropyLogits, labels: classes})
	add("concat pool", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = graph.ConcatPool(convolution(s, x, "conv", 3, 3)).Window(2).Done()
		return score(s, x)
	}), loss: loss.SparseCategoricalCrossEntropyLogits, labels: classes})
	add("nearest", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = graph.MaxPool(convolution(s, x, "conv", 3, 3)).Window(2).Done()
		return convolution(s, graph.Interpolate(x, -1, 8, 8, -1).Nearest().Done(), "out", 4, 3)
	})})
	add("bilinear", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = graph.MaxPool(convolution(s, x, "conv", 3, 3)).Window(2).Done()
		return convolution(s, graph.Interpolate(x, -1, 8, 8, -1).Bilinear().Done(), "out", 4, 3)
	})})
	add("even kernel", gomlxCase{fn: image(func(s *scope, x *node) *node {
		return convolution(s, convolution(s, x, "conv", 3, 3), "out", 4, 2)
	})})
	add("strided", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = layers.Convolution(s.In("down"), convolution(s, x, "conv", 3, 3)).Channels(3).KernelSize(3).Strides(2).PadSame().Done()
		return score(s, x)
	}), loss: loss.SparseCategoricalCrossEntropyLogits, labels: classes})
	add("dilated even kernel", gomlxCase{fn: image(func(s *scope, x *node) *node {
		return layers.Convolution(s.In("out"), convolution(s, x, "conv", 3, 3)).Channels(4).KernelSize(2).Dilations(2).PadSame().Done()
	})})
	add("grouped", gomlxCase{fn: image(func(s *scope, x *node) *node {
		return layers.Convolution(s.In("out"), convolution(s, x, "conv", 4, 3)).Channels(4).KernelSize(3).ChannelGroupCount(2).PadSame().Done()
	})})
	fourier := func(transform, back func(*node, ...int) *node) train.ModelFn {
		return image(func(s *scope, x *node) *node {
			x = convolution(s, x, "lift", 3, 1)
			x = graph.Transpose(x, 3, 2)
			x = graph.Transpose(x, 2, 1)
			_ = transform
			return x
		})
	}
	_ = fourier
	add("fno", gomlxCase{fn: image(func(s *scope, x *node) *node {
		lifted := layers.Dense(s.In("lift"), x, true, 3)
		y := graph.TransposeAllAxes(lifted, 0, 1, 3, 2) // [n, y, c, x]
		f := graph.RealFFT(y)
		modes := f.Shape().Dimensions[3]
		re := s.VariableWithShape("re", shapes.Make(x.DType(), 3, modes)).NodeValue(x)
		im := s.VariableWithShape("im", shapes.Make(x.DType(), 3, modes)).NodeValue(x)
		f = graph.Mul(f, graph.ExpandLeftToRank(graph.Complex(re, im), 4))
		y = graph.InverseRealFFT(f)
		return layers.Dense(s.In("out"), activation.Gelu(graph.Add(lifted, graph.TransposeAllAxes(y, 0, 1, 3, 2))), true, 4)
	})})
	add("fno2", gomlxCase{fn: image(func(s *scope, x *node) *node {
		lifted := layers.Dense(s.In("lift"), x, true, 3)
		y := graph.TransposeAllAxes(lifted, 0, 1, 3, 2) // [n, y, c, x]
		f := graph.RealFFT(y)
		modes := f.Shape().Dimensions[3]
		re := graph.ExpandLeftToRank(s.VariableWithShape("re", shapes.Make(x.DType(), 3, modes)).NodeValue(x), 4)
		im := graph.ExpandLeftToRank(s.VariableWithShape("im", shapes.Make(x.DType(), 3, modes)).NodeValue(x), 4)
		a, b := graph.Real(f), graph.Imag(f)
		f = graph.Complex(graph.Sub(graph.Mul(a, re), graph.Mul(b, im)), graph.Add(graph.Mul(a, im), graph.Mul(b, re)))
		y = graph.InverseRealFFT(f)
		return layers.Dense(s.In("out"), activation.Gelu(graph.Add(lifted, graph.TransposeAllAxes(y, 0, 1, 3, 2))), true, 4)
	})})
	add("rfft", gomlxCase{fn: image(func(s *scope, x *node) *node {
		lifted := layers.Dense(s.In("lift"), x, true, 3)
		f := graph.RealFFT(graph.TransposeAllAxes(lifted, 0, 1, 3, 2))
		return layers.Dense(s.In("out"), graph.Slice(graph.TransposeAllAxes(graph.Concatenate([]*node{graph.Real(f), graph.Imag(f)}, -1), 0, 1, 3, 2), graph.AxisRange(), graph.AxisRange(), graph.AxisRange(0, 8)), true, 4)
	})})
	add("irfft", gomlxCase{fn: image(func(s *scope, x *node) *node {
		lifted := layers.Dense(s.In("lift"), x, true, 3)
		y := graph.TransposeAllAxes(lifted, 0, 1, 3, 2)
		f := graph.Slice(graph.Complex(y, graph.Sin(y)), graph.AxisRange(), graph.AxisRange(), graph.AxisRange(), graph.AxisRange(0, 5))
		return layers.Dense(s.In("out"), graph.TransposeAllAxes(graph.InverseRealFFT(f), 0, 1, 3, 2), true, 4)
	})})
	add("fft", gomlxCase{fn: image(func(s *scope, x *node) *node {
		lifted := layers.Dense(s.In("lift"), x, true, 3)
		y := graph.TransposeAllAxes(lifted, 0, 1, 3, 2)
		f := graph.FFT(graph.Complex(y, graph.ZerosLike(y)))
		y = graph.Real(graph.InverseFFT(graph.Mul(f, graph.Conj(f))))
		return layers.Dense(s.In("out"), graph.TransposeAllAxes(y, 0, 1, 3, 2), true, 4)
	})})
	for name, kind := range map[string]func(*kan.Config) *kan.Config{"bspline": (*kan.Config).BSpline, "rational": (*kan.Config).Rational, "piecewise": (*kan.Config).PiecewiseLinear, "discrete": (*kan.Config).Discrete} {
		add("kan "+name, gomlxCase{fn: pointwise(func(s *scope, x *node) *node { return kind(kan.New(s.In("kan"), x, 4).NumHiddenLayers(1, 3)).Done() })})
	}
	add("lstm", gomlxCase{fn: sequence(func(s *scope, x *node) *node {
		all, _, _ := lstm.New(s.In("lstm"), x, 3).Done()
		d := x.Shape().Dimensions
		return graph.Reshape(graph.TransposeAllDims(all, 2, 0, 1, 3), d[0], d[1], -1)
	})})
	add("attention", gomlxCase{fn: sequence(func(s *scope, x *node) *node {
		x = norm.RMSNorm(s.In("norm"), x).Done()
		return attention.SelfAttention(s.In("attention"), x, 2, 4).Done()
	})})
	add("fnn", gomlxCase{fn: pointwise(func(s *scope, x *node) *node {
		return fnn.New(s.In("fnn"), x, 4).NumHiddenLayers(2, 5).Activation(activation.TypeSwish).Residual(true).Normalization("layer").Dropout(0.2).Done()
	})})
	add("vnn", gomlxCase{fn: image(func(s *scope, x *node) *node {
		d := x.Shape().Dimensions
		v := graph.Reshape(graph.Concatenate([]*node{x, graph.Slice(x, graph.AxisRange(), graph.AxisRange(), graph.AxisRange(), graph.AxisRange(0, 2))}, -1), -1, 2, 3)
		v = vnn.New(s.In("vnn"), v, 2).NumHiddenLayers(1, 3).Done()
		return layers.Dense(s.In("out"), graph.Reshape(v, d[0], d[1], d[2], 6), true, 4)
	})})
	add("dynamic tanh", gomlxCase{fn: image(func(s *scope, x *node) *node {
		return convolution(s, norm.DynamicTanh(s.In("norm"), convolution(s, x, "conv", 3, 3)).Done(), "out", 4, 3)
	})})
	add("dropblock", gomlxCase{fn: image(func(s *scope, x *node) *node {
		x = layers.DropBlock(s, convolution(s, x, "conv", 3, 3)).WithDropoutProbability(0.2).WithBlockSize(3).Done()
		return convolution(s, x, "out", 4, 3)
	})})
	add("piecewise calibration", gomlxCase{fn: pointwise(func(s *scope, x *node) *node {
		g := x.Graph()
		y := graph.Reshape(layers.Dense(s.In("in"), x, true, 1), -1)
		y = layers.PieceWiseLinearCalibration(s.In("pwl"), y, graph.ConstAsDType(g, x.DType(), []float64{-1, 0, 0.5, 2}), true)
		return layers.Dense(s.In("out"), graph.Reshape(y, -1, 1), true, 4)
	})})
	for _, a := range activation.TypeValues() {
		add("activation "+a.String(), gomlxCase{fn: image(func(s *scope, x *node) *node {
			return layers.Dense(s.In("out"), activation.Apply(a, layers.Dense(s.In("in"), x, true, 6)), true, 4)
		})})
	}
	add("custom gradient", gomlxCase{fn: image(func(s *scope, x *node) *node {
		y := layers.Dense(s.In("in"), x, true, 3)
		y = graph.IdentityWithCustomGradient(y, func(_, v *node) *node { return graph.ClipScalar(v, -1e-3, 1e-3) })
		return layers.Dense(s.In("out"), y, true, 4)
	})})
	add("clip", gomlxCase{fn: image(func(s *scope, x *node) *node {
		return layers.Dense(s.In("out"), graph.ClipScalar(layers.Dense(s.In("in"), x, true, 3), -1, 1), true, 4)
	})})
	add("total order", gomlxCase{fn: image(func(s *scope, x *node) *node {
		y := layers.Dense(s.In("in"), x, true, 4)
		return graph.Where(graph.LessThanTotalOrder(y, graph.ZerosLike(y)), graph.MulScalar(y, 0.1), y)
	})})
	add("stop", gomlxCase{fn: image(func(s *scope, x *node) *node {
		y := layers.Dense(s.In("in"), x, true, 3)
		return layers.Dense(s.In("out"), graph.Add(y, graph.StopGradient(graph.Sin(y))), true, 4)
	})})
	add("moving averages", gomlxCase{fn: image(func(s *scope, x *node) *node {
		w := s.VariableWithValue("w", shapes.CastAsDType([]float64{1, 2, 3, 4}, x.DType()))
		average := s.VariableWithValue("average", shapes.CastAsDType([]float64{1, 2, 3, 4}, x.DType())).SetTrainable(false)
		use := average.NodeValue(x.Graph())
		if s.IsTraining(x.Graph()) {
			use = w.NodeValue(x.Graph())
			average.SetNodeValue(graph.Add(graph.MulScalar(average.NodeValue(x.Graph()), 0.9), graph.MulScalar(use, 0.1)))
		}
		return graph.Mul(x, graph.ExpandLeftToRank(use, 4))
	})})
	add("triplet", gomlxCase{fn: image(func(s *scope, x *node) *node { return score(s, x) }), loss: func(labels, predictions []*node) *node {
		return loss.TripletLoss(labels, predictions, loss.TripletMiningStrategyAll, 1, loss.PairwiseDistanceMetricL2)
	}, labels: classes})
	add("contrast", gomlxCase{fn: image(func(s *scope, x *node) *node { return score(s, x) }), loss: func(_, predictions []*node) *node {
		p := graph.L2Normalize(predictions[0], -1)
		all := graph.Einsum("ac,bc->ab", p, p)
		return graph.Neg(graph.ReduceAllMean(graph.ReduceSum(graph.Mul(graph.OneHot(graph.Iota(p.Graph(), shapes.Make(dtypes.Int32, p.Shape().Dimensions[0]), 0), p.Shape().Dimensions[0], p.DType()), graph.LogSoftmax(all)), -1)))
	}, labels: classes})
	add("diffusion", gomlxCase{fn: image(func(s *scope, x *node) *node {
		noise := s.RandomNormal(x.Graph(), x.Shape())
		y := graph.Add(x, graph.MulScalar(noise, 0.3))
		y = activation.Swish(convolution(s, y, "in", 3, 3))
		down := graph.MeanPool(y).Window(2).Done()
		down = activation.Swish(convolution(s, down, "mid", 3, 3))
		return convolution(s, graph.Concatenate([]*node{y, graph.Interpolate(down, -1, 8, 8, -1).Nearest().Done()}, -1), "out", 4, 3)
	}), seed: true})
	return cases
}

// under trains the model six steps, twice, without a hook and with one, and compares what training leaves.
func (c gomlxCase) under(t *testing.T, b compute.Backend) error {
	const n = 4
	random := rand.New(rand.NewPCG(1, 1))
	states := func() *tensors.Tensor {
		values := make([]float32, n*gomlxGrid*gomlxGrid*4)
		for i := range values {
			values[i] = 1 + float32(0.2*random.NormFloat64())
		}
		return tensors.FromFlatDataAndDimensions(values, n, gomlxGrid, gomlxGrid, 4)
	}
	x := states()
	labels := []*tensors.Tensor{states()}
	if c.labels != nil {
		labels = c.labels(n)
	}
	lossFn := c.loss
	if lossFn == nil {
		lossFn = loss.MeanSquaredError
	}
	run := func(attachTo func(loop *train.Loop, trainer *train.Trainer)) (map[string]string, error) {
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(7))
		trainer := train.NewTrainer(b, store, c.fn, lossFn, optimizer.Adam().LearningRate(1e-2).Done(), nil, nil)
		loop := train.NewLoop(trainer)
		attachTo(loop, trainer)
		_, err := loop.RunSteps(&repeated{train.Batch{Inputs: []*tensors.Tensor{x}, Labels: labels}}, 4)
		if err != nil {
			return nil, err
		}
		return state(t, store), nil
	}
	var sink memory
	hooked, err := run(func(loop *train.Loop, trainer *train.Trainer) {
		builder := audit.New(trainer, c.fn, lossFn).WithField(orbits.EulerField()).WithRelativeLambda(1e-1).WithDType(dtypes.Float64).
			WithGroup(orbits.Custom("turn", must(orbits.C4().Elements(8, 8))[1]), audit.Probes{Inputs: x, Targets: labels[0], Labels: labels[1:]})
		if c.labels != nil {
			builder.WithInvariantOutput()
		}
		if c.seed {
			builder.WithSeed(1)
		}
		auditor, err := builder.Done()
		require.NoError(t, err)
		t.Cleanup(auditor.Close)
		attach(t, hooks.New(auditor).WithSink(&sink).WithSchedule(hooks.EverySteps(2)), loop)
	})
	if err != nil {
		return err
	}
	plain, err := run(func(*train.Loop, *train.Trainer) {})
	require.NoError(t, err)
	require.NotEmpty(t, sink.writes)
	require.NotEmpty(t, sink.writes[0].Influence)
	require.Empty(t, cmp.Diff(plain, hooked))
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestGoMLXModels(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for name, c := range gomlxCases() {
			t.Run(name, func(t *testing.T) {
				t.Logf("RESULT %s: %q", name, fmt.Sprint(c.under(t, b)))
			})
		}
	})
}
