package hooks_test

import (
	"maps"
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
	"github.com/symaudit/symaudit/solver/network/forward"
)

type (
	node   = graph.Node
	scope  = model.Scope
	lossFn = func(labels, predictions []*node) *node
)

// gomlxModel is a model of GoMLX's own layers, and what becomes of it under a hook: trained bit for bit as without, or refused after
// the first step by a sentence whose remedy works.
type gomlxModel struct {
	fn      train.ModelFn
	classes bool   // the output is invariant, and the labels classes; else states
	loss    lossFn // nil: mean square of states, cross-entropy of classes
	labels  []*tensors.Tensor
	// fn and loss as the audit takes them, where these are others.
	auditFn   train.ModelFn
	auditLoss lossFn
	seed      bool

	correctComplex bool // trained and audited after forward.CorrectComplexGradients

	refused     string // what the refusal says
	remedy      *gomlxModel
	onGo        string // what the refusal on the Go backend says, where XLA has the gradient or the operation
	untrainable string // what GoMLX says of the training itself on the Go backend
}

func states(fn func(s *scope, x *node) *node) train.ModelFn {
	return func(s *scope, _ any, inputs []*node) []*node { return []*node{fn(s, inputs[0])} }
}

// cells is a model of each cell's channels.
func cells(fn func(s *scope, x *node) *node) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		return graph.Reshape(fn(s, graph.Reshape(x, -1, x.Shape().Dimensions[3])), x.Shape().Dimensions...)
	})
}

// scores is a classifier by the mean over the grid.
func scores(fn func(s *scope, x *node) *node) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		return layers.Dense(s.In("scores"), graph.ReduceMean(fn(s, x), 1, 2), true, 3)
	})
}

// sequences is a model of rows as steps of a sequence.
func sequences(fn func(s *scope, x *node) *node) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		d := x.Shape().Dimensions
		y := fn(s, graph.Reshape(x, d[0], d[1], d[2]*d[3]))
		return graph.Reshape(layers.Dense(s.In("out"), y, true, d[2]*d[3]), d...)
	})
}

func conv(s *scope, name string, x *node, channels, kernel int) *node {
	return layers.Convolution(s.In("%s", name), x).Channels(channels).KernelSize(kernel).PadSame().Done()
}

// halved is a model that works on half the grid and comes back by interpolation.
func halved(interpolate func(*graph.InterpolationConfig) *graph.InterpolationConfig) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		d := x.Shape().Dimensions
		half := graph.MeanPool(activation.Swish(conv(s, "in", x, 2, 3))).Window(2).Done()
		return conv(s, "out", interpolate(graph.Interpolate(half, -1, d[1], d[2], -1)).Done(), 4, 3)
	})
}

// fourier is a Fourier layer along x whose weights multiply the modes as given.
func fourier(multiply func(f, re, im *node) *node) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		lifted := graph.TransposeAllAxes(layers.Dense(s.In("lift"), x, true, 2), 0, 1, 3, 2) // [n, y, channel, x]
		f := graph.RealFFT(lifted)
		weights := func(name string) *node {
			shape := shapes.Make(x.DType(), 2, f.Shape().Dimensions[3])
			return graph.BroadcastToShape(graph.ExpandLeftToRank(s.VariableWithShape(name, shape).NodeValue(x), 4), graph.Real(f).Shape())
		}
		y := graph.Add(lifted, graph.InverseRealFFT(multiply(f, weights("re"), weights("im"))))
		return layers.Dense(s.In("out"), activation.Gelu(graph.TransposeAllAxes(y, 0, 1, 3, 2)), true, 4)
	})
}

func plainFourier() train.ModelFn {
	return fourier(func(f, re, im *node) *node { return graph.Mul(f, graph.Complex(re, im)) })
}

const noFFT = `op "FFT" not implemented in the "go" backend`

// planeFourier drops the high frequencies of both axes, which are transformed at once or one after the other.
func planeFourier(atOnce bool) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		d := x.Shape().Dimensions
		lifted := graph.TransposeAllAxes(layers.Dense(s.In("lift"), x, true, 2), 0, 3, 1, 2) // [n, channel, y, x]
		keep := func(f *node, axis int) *node {
			low := graph.LessThan(graph.Iota(f.Graph(), shapes.Make(dtypes.Int32, f.Shape().Dimensions...), axis), graph.Const(f.Graph(), int32(3)))
			return graph.Where(low, f, graph.ZerosLike(f))
		}
		var y *node
		if atOnce {
			y = graph.InverseRealFFT(keep(keep(graph.RealFFT(lifted, d[1], d[2]), 2), 3), d[1], d[2])
		} else {
			turned := func(f *node) *node { return graph.TransposeAllAxes(f, 0, 1, 3, 2) }
			f := graph.FFT(turned(keep(graph.RealFFT(lifted), 3)))
			y = graph.InverseRealFFT(turned(graph.InverseFFT(keep(f, 3))))
		}
		return layers.Dense(s.In("out"), activation.Gelu(graph.TransposeAllAxes(y, 0, 2, 3, 1)), true, 4)
	})
}

func normalised(fn func(s *scope, x *node) *node) gomlxModel {
	return gomlxModel{classes: true, fn: scores(func(s *scope, x *node) *node {
		return graph.Tanh(fn(s, conv(s, "conv", x, 2, 3)))
	})}
}

func of(m gomlxModel) *gomlxModel { return &m }

func kernel(size int) train.ModelFn {
	return states(func(s *scope, x *node) *node { return conv(s, "out", conv(s, "in", x, 2, 3), 4, size) })
}

func pooled(pool func(x *node) *node) gomlxModel {
	return gomlxModel{classes: true, fn: scores(func(s *scope, x *node) *node { return pool(conv(s, "conv", x, 2, 3)) })}
}

func kans(kind func(*kan.Config) *kan.Config) gomlxModel {
	return gomlxModel{fn: cells(func(s *scope, x *node) *node { return kind(kan.New(s.In("kan"), x, 4)).Done() })}
}

// clippedAt has a gradient of its own, in training or always.
func clippedAt(limit float64, always bool) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		y := layers.Dense(s.In("in"), x, true, 3)
		if always || s.IsTraining(x.Graph()) {
			y = graph.IdentityWithCustomGradient(y, func(_, v *node) *node { return graph.ClipScalar(v, -limit, limit) })
		}
		return layers.Dense(s.In("out"), y, true, 4)
	})
}

// rounded weighs a layer by whole numbers that another makes.
func rounded(stop func(*node) *node) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		y := layers.Dense(s.In("in"), x, true, 3)
		whole := graph.ConvertDType(graph.ConvertDType(graph.MulScalar(y, 10), dtypes.Int32), x.DType())
		return layers.Dense(s.In("out"), graph.Add(y, graph.Mul(stop(whole), graph.Sin(y))), true, 4)
	})
}

func normed(gain bool) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		return conv(s, "out", norm.LayerNorm(s.In("norm"), conv(s, "in", x, 4, 3), -1).LearnedGain(gain).Done(), 4, 3)
	})
}

// averaged evaluates on a moving average of its weights, or on the weights themselves.
func averaged(inEvaluation bool) train.ModelFn {
	return states(func(s *scope, x *node) *node {
		g, ones := x.Graph(), shapes.CastAsDType([]float64{1, 1, 1, 1}, x.DType())
		weights, average := s.VariableWithValue("weights", ones), s.VariableWithValue("average", ones).SetTrainable(false)
		use := weights.NodeValue(g)
		switch {
		case s.IsTraining(g):
			average.SetNodeValue(graph.Add(graph.MulScalar(average.NodeValue(g), 0.9), graph.MulScalar(use, 0.1)))
		case inEvaluation:
			use = average.NodeValue(g)
		}
		return graph.Mul(x, graph.ExpandLeftToRank(use, 4))
	})
}

// contrast is InfoNCE: it compares the samples of a batch, and is constant for one.
func contrast(_, predictions []*node) *node {
	p := graph.L2Normalize(predictions[0], -1)
	n := p.Shape().Dimensions[0]
	own := graph.OneHot(graph.Iota(p.Graph(), shapes.Make(dtypes.Int32, n), 0), n, p.DType())
	return graph.Neg(graph.ReduceAllMean(graph.ReduceSum(graph.Mul(own, graph.LogSoftmax(graph.Einsum("ac,bc->ab", p, p))), -1)))
}

func triplet(labels, predictions []*node) *node {
	return loss.TripletLoss(labels, predictions, loss.TripletMiningStrategyAll, 1, loss.PairwiseDistanceMetricL2)
}

func size(_, predictions []*node) *node { return graph.ReduceAllMean(graph.Square(predictions[0])) }

func gomlxModels() map[string]gomlxModel {
	plain := scores(func(_ *scope, x *node) *node { return x })
	mask := tensors.FromValue([]bool{true, false, true, true})
	return map[string]gomlxModel{
		"convolutions, pooling, dropout": {classes: true, fn: scores(func(s *scope, x *node) *node {
			x = graph.MaxPool(activation.Relu(conv(s, "in", x, 2, 3))).Window(2).Done()
			return layers.DropoutStatic(s, conv(s, "out", x, 2, 3), 0.3)
		})},
		"inception": {fn: states(func(s *scope, x *node) *node {
			a, b := conv(s, "a", x, 2, 1), conv(s, "b2", conv(s, "b1", x, 2, 1), 2, 3)
			c := conv(s, "c", graph.MaxPool(x).Window(3).Strides(1).PadSame().Done(), 2, 1)
			return conv(s, "out", norm.LayerNorm(s.In("norm"), graph.Concatenate([]*node{a, b, c}, -1), -1).Done(), 4, 1)
		})},
		"every activation": {fn: states(func(s *scope, x *node) *node {
			y := layers.Dense(s.In("in"), x, true, 4)
			for _, a := range activation.TypeValues() {
				if a != activation.TypeSwiGLU { // which halves the channels
					y = graph.Add(y, graph.MulScalar(activation.Apply(a, y), 0.1))
				}
			}
			return layers.Dense(s.In("out"), activation.Apply(activation.TypeSwiGLU, y), true, 4)
		})},
		"residual network with dropout": {fn: cells(func(s *scope, x *node) *node {
			return fnn.New(s.In("fnn"), x, 4).NumHiddenLayers(2, 4).Residual(true).Normalization("layer").Dropout(0.2).Done()
		})},
		"attention": {fn: sequences(func(s *scope, x *node) *node {
			return attention.SelfAttention(s.In("attention"), norm.RMSNorm(s.In("norm"), x).Done(), 2, 2).Done()
		})},
		"LSTM": {fn: sequences(func(s *scope, x *node) *node {
			all, _, _ := lstm.New(s.In("lstm"), x, 2).Done()
			return graph.Reshape(graph.TransposeAllAxes(all, 2, 0, 1, 3), x.Shape().Dimensions[0], x.Shape().Dimensions[1], -1)
		})},
		"vector neurons": {fn: states(func(s *scope, x *node) *node {
			d := x.Shape().Dimensions
			v := vnn.New(s.In("vnn"), graph.Reshape(graph.Slice(x, graph.AxisRange(), graph.AxisRange(), graph.AxisRange(), graph.AxisRange(0, 3)), -1, 1, 3), 2).NumHiddenLayers(1, 2).Done()
			return layers.Dense(s.In("out"), graph.Reshape(v, d[0], d[1], d[2], 6), true, 4)
		})},
		"KAN of B-splines": kans((*kan.Config).BSpline),
		"KAN of rationals": kans((*kan.Config).Rational),
		"KAN piecewise":    kans((*kan.Config).PiecewiseLinear),
		"KAN discrete":     {fn: kans((*kan.Config).Discrete).fn, onGo: "GoMLX's backend go does not implement the operation LessThanTotalOrder; use XLA"},
		"calibration": {fn: cells(func(s *scope, x *node) *node {
			y := graph.Reshape(layers.Dense(s.In("in"), x, true, 1), -1)
			y = layers.PieceWiseLinearCalibration(s.In("calibration"), y, graph.ConstAsDType(x.Graph(), x.DType(), []float64{-1, 0, 0.5, 2}), true)
			return layers.Dense(s.In("out"), graph.Reshape(y, -1, 1), true, 4)
		})},
		"dynamic tanh": normalised(func(s *scope, x *node) *node { return norm.DynamicTanh(s.In("norm"), x).Done() }),
		"batch norm": {classes: true, fn: normalised(func(s *scope, x *node) *node { return norm.BatchNorm(s.In("norm"), x, -1).Done() }).fn,
			untrainable: `op "BatchNormForTraining" not implemented in the "go" backend`},
		"batch norm that stops gradients": {classes: true, fn: normalised(func(s *scope, x *node) *node {
			return norm.BatchNorm(s.In("norm"), x, -1).UseBackendInference(false).Done()
		}).fn, refused: "training stops gradients at the mean and variance of a batch, before layer /norm/batch_normalization",
			remedy: of(normalised(func(s *scope, x *node) *node { return norm.LayerNorm(s.In("norm"), x, -1).Done() }))},
		"batch norm that stops gradients, in the scope of its layer": {classes: true, fn: normalised(func(s *scope, x *node) *node {
			return norm.BatchNorm(s.In("norm"), x, -1).CurrentScope().Center(false).Scale(false).UseBackendInference(false).Done()
		}).fn, refused: "training stops gradients at the mean and variance of a batch",
			remedy: of(normalised(func(s *scope, x *node) *node { return norm.LayerNorm(s.In("norm"), x, -1).Done() }))},
		"drop block": {fn: states(func(s *scope, x *node) *node {
			return conv(s, "out", layers.DropBlock(s, conv(s, "in", x, 2, 3)).WithDropoutProbability(0.2).WithBlockSize(3).Done(), 4, 3)
		}), untrainable: "dtype Bool not supported by reduceWindowMinDTypeMap"},
		"mean pooling": pooled(func(x *node) *node { return graph.MeanPool(x).Window(2).Done() }),
		"sum pooling":  pooled(func(x *node) *node { return graph.SumPool(x).Window(2).Done() }),
		"min pooling":  pooled(func(x *node) *node { return graph.MinPool(x).Window(2).Done() }),
		"concatenated pooling": {classes: true, fn: pooled(func(x *node) *node { return graph.ConcatPool(x).Window(2).Done() }).fn,
			refused: "ConvGeneral after layer /conv/conv; GoMLX v0.28 has no right gradient for convolutions with an even kernel, nor for pooling by one: use an odd one",
			remedy:  of(pooled(func(x *node) *node { return graph.ConcatPool(x).Window(3).Done() }))},
		"even kernel": {fn: kernel(2), refused: "ConvGeneral in layer /out/conv; GoMLX v0.28 has no right gradient for convolutions with an even kernel",
			remedy: &gomlxModel{fn: kernel(3)}},
		"dilated even kernel": {fn: states(func(s *scope, x *node) *node {
			return layers.Convolution(s.In("out"), conv(s, "in", x, 2, 3)).Channels(4).KernelSize(2).Dilations(2).PadSame().Done()
		})},
		"strides": {classes: true, fn: scores(func(s *scope, x *node) *node {
			return layers.Convolution(s.In("down"), conv(s, "in", x, 2, 3)).Channels(2).KernelSize(3).Strides(2).PadSame().Done()
		})},
		"nearest up-sampling":  {fn: halved((*graph.InterpolationConfig).Nearest), onGo: "Gather after layer /in/conv; the gradient of this Gather, which interpolation uses, is wrong on GoMLX's Go backend and right on XLA"},
		"bilinear up-sampling": {fn: halved((*graph.InterpolationConfig).Bilinear), onGo: "Gather after layer /in/conv; the gradient of this Gather, which interpolation uses, is wrong on GoMLX's Go backend and right on XLA"},
		"Fourier layer": {fn: plainFourier(), untrainable: noFFT,
			refused: "Mul of complex numbers after the variables of the outermost scope; GoMLX v0.28 leaves the conjugate out of its gradient: call forward.CorrectComplexGradients (solver/network/forward) before the model is built, or compute with real and imaginary parts (Real, Imag, Complex)",
			remedy: &gomlxModel{fn: fourier(func(f, re, im *node) *node {
				a, b := graph.Real(f), graph.Imag(f)
				return graph.Complex(graph.Sub(graph.Mul(a, re), graph.Mul(b, im)), graph.Add(graph.Mul(a, im), graph.Mul(b, re)))
			})}},
		"Fourier layer, corrected": {fn: plainFourier(), untrainable: noFFT, correctComplex: true},
		"Fourier layer of two axes": {fn: planeFourier(true), untrainable: noFFT,
			refused: "FFT of complex numbers after layer /lift/dense; GoMLX v0.28 has no right gradient of a transform over several axes at once: call forward.CorrectComplexGradients (solver/network/forward) before the model is built, or transform one axis after the other",
			remedy:  &gomlxModel{fn: planeFourier(false)}},
		"Fourier layer of two axes, corrected": {fn: planeFourier(true), untrainable: noFFT, correctComplex: true},
		"a gradient of its own": {fn: clippedAt(1e-3, true), refused: "a custom gradient after layer /in/dense; it differs from the derivative on purpose",
			remedy: &gomlxModel{fn: clippedAt(1e-3, false)}},
		"a large gradient of its own": {fn: clippedAt(5, true), refused: "a custom gradient after layer /in/dense; it differs from the derivative on purpose",
			remedy: &gomlxModel{fn: clippedAt(5, false)}},
		"integers": {fn: rounded(func(x *node) *node { return x }),
			refused: "the conversion from integers (ConvertDType) after layer /in/dense; GoMLX v0.28 passes gradients through it, though its derivative is 0: put StopGradient around it",
			remedy:  &gomlxModel{fn: rounded(graph.StopGradient)}},
		"layer norm without a gain": {fn: normed(false), onGo: "a layer norm without a gain takes its offset for one there; give it a gain (LearnedGain(true)), or set GOMLX_FUSION=0"},
		"layer norm":                {fn: normed(true)},
		"clipping":                  {fn: states(func(s *scope, x *node) *node { return graph.ClipScalar(layers.Dense(s.In("dense"), x, true, 4), -1, 1) })},
		"a stopped gradient": {fn: states(func(s *scope, x *node) *node {
			y := layers.Dense(s.In("in"), x, true, 3)
			return layers.Dense(s.In("out"), graph.Add(y, graph.StopGradient(graph.Sin(y))), true, 4)
		})},
		"moving averages": {fn: averaged(true), refused: "in evaluation the model uses none of its trainable variables (/weights)",
			remedy: &gomlxModel{fn: averaged(true), auditFn: averaged(false)}},
		"noise in evaluation": {seed: true, fn: states(func(s *scope, x *node) *node {
			return conv(s, "out", graph.Add(x, graph.MulScalar(s.RandomNormal(x.Graph(), x.Shape()), 0.3)), 4, 3)
		})},
		"masked loss": {fn: kernel(3), labels: []*tensors.Tensor{mask}},
		"contrastive loss": {classes: true, fn: plain, loss: contrast, refused: "the gradient of the loss is zero at every sample of a batch",
			remedy: &gomlxModel{classes: true, fn: plain, loss: contrast, auditLoss: size}},
		"triplet loss": {classes: true, fn: plain, loss: triplet, refused: "the loss of a single sample fails, though that of a batch does not",
			remedy: &gomlxModel{classes: true, fn: plain, loss: triplet, auditLoss: size}},
	}
}

// GoMLX's own models, small, on both backends: each is trained bit for bit as without a hook, or is refused after the first step with
// the operation at fault and a remedy, which the test follows.
func TestGoMLXModels(t *testing.T) {
	for name, m := range gomlxModels() {
		t.Run(name, func(t *testing.T) {
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				isGo := b.String() == "go"
				switch err := m.under(t, b); {
				case isGo && m.untrainable != "":
					require.ErrorContains(t, err, m.untrainable)
				case isGo && m.onGo != "":
					require.ErrorContains(t, err, m.onGo) // and the same model is accepted on XLA
				case m.refused != "":
					require.ErrorContains(t, err, "failed TrainStep(LoopStep=0)")
					require.ErrorContains(t, err, m.refused)
					require.NoError(t, m.remedy.under(t, b), "the remedy")
				default:
					require.NoError(t, err)
				}
			})
		})
	}
}

// under trains the model four steps, with a hook and without, and compares what these leave. The error is the training's.
func (m gomlxModel) under(t *testing.T, b compute.Backend) error {
	t.Helper()
	if m.correctComplex {
		own := maps.Clone(graph.VJPRegistration)
		defer maps.Copy(graph.VJPRegistration, own)
		forward.CorrectComplexGradients()
	}
	const n, grid = 4, 8
	random := rand.New(rand.NewPCG(1, 1))
	states := func() *tensors.Tensor {
		values := make([]float32, n*grid*grid*4)
		for i := range values {
			values[i] = 1 + float32(0.2*random.NormFloat64())
		}
		return tensors.FromFlatDataAndDimensions(values, n, grid, grid, 4)
	}
	x, target, lossOf := states(), states(), lossFn(loss.MeanSquaredError)
	if m.classes {
		target, lossOf = tensors.FromValue([][]int32{{0}, {1}, {2}, {1}}), loss.SparseCategoricalCrossEntropyLogits
	}
	if m.loss != nil {
		lossOf = m.loss
	}
	labels := append([]*tensors.Tensor{target}, m.labels...)
	auditFn, auditLoss := m.auditFn, m.auditLoss
	if auditFn == nil {
		auditFn = m.fn
	}
	if auditLoss == nil {
		auditLoss = lossOf
	}
	run := func(attachTo func(loop *train.Loop, trainer *train.Trainer)) (map[string]string, error) {
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(7))
		trainer := train.NewTrainer(b, store, m.fn, lossOf, optimizer.Adam().LearningRate(1e-2).Done(), nil, nil)
		loop := train.NewLoop(trainer)
		attachTo(loop, trainer)
		if _, err := loop.RunSteps(&repeated{train.Batch{Inputs: []*tensors.Tensor{x}, Labels: labels}}, 4); err != nil {
			return nil, err
		}
		return state(t, store), nil
	}
	var sink memory
	hooked, err := run(func(loop *train.Loop, trainer *train.Trainer) {
		turns, err := orbits.C4().Elements(grid, grid)
		require.NoError(t, err)
		builder := audit.New(trainer, auditFn, auditLoss).WithField(orbits.EulerField()).WithRelativeLambda(1e-1).WithDType(dtypes.Float64).
			WithGroup(orbits.Custom("turn", turns[1]), audit.Probes{Inputs: x, Targets: target, Labels: m.labels})
		if m.classes {
			builder.WithInvariantOutput()
		}
		if m.seed {
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
