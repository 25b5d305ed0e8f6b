package forward_test

import (
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/layers/attention"
	"github.com/gomlx/gomlx/ml/layers/attention/pos"
	"github.com/gomlx/gomlx/ml/layers/fnn"
	"github.com/gomlx/gomlx/ml/layers/lstm"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// layerCase differentiates a layer in its input and its trainable variables.
type layerCase struct {
	testCase
	build    func(scope *model.Scope, x node) node
	training bool
}

func layer(name string, dimensions []int, build func(scope *model.Scope, x node) node) layerCase {
	return layerCase{testCase: testCase{name: name, inputs: [][]int{dimensions}}, build: build}
}

// inScope makes the variables of a layer and returns its case.
func (c layerCase) inScope(root *model.Scope, g *graph.Graph) testCase {
	scopes := map[dtypes.DType]*model.Scope{}
	trainable := map[dtypes.DType][]*model.Variable{}
	fixed := map[*model.Variable]node{} // random state and running averages, which a run may change
	for _, dtype := range []dtypes.DType{f64, dtypes.Float32} {
		scope := root.In("%s", dtype)
		scopes[dtype] = scope
		c.build(scope, wave(g, dtype, 0, c.inputs[0]...))
		for v := range scope.IterVariables() {
			if v.Trainable && v.DType().IsFloat() {
				trainable[dtype] = append(trainable[dtype], v)
			}
		}
	}
	for v := range root.Store().IterVariables() {
		if !v.Trainable || !v.DType().IsFloat() {
			fixed[v] = v.NodeValue(g)
		}
	}
	for _, v := range trainable[f64] {
		c.inputs = append(c.inputs, v.Shape().Dimensions)
	}
	c.f = func(in []node) node {
		dtype := in[0].DType()
		for v, value := range fixed {
			v.SetNodeValue(value)
		}
		for i, v := range trainable[dtype] {
			v.SetNodeValue(in[i+1])
		}
		return c.build(scopes[dtype].ResetVisited(), in[0])
	}
	return c.testCase
}

func checkLayers(t *testing.T, b compute.Backend, cases []layerCase) {
	t.Helper()
	store := model.NewStore()
	defer store.Finalize()
	store.SetParam(model.ParamInitialSeed, int64(1))
	var building string
	linear := make([]stages, len(cases))
	var results []*tensors.Tensor
	var second []float64
	err := exceptions.TryCatch[error](func() {
		exec := model.MustNewExec(b, store, func(scope *model.Scope, x node) []node {
			g := x.Graph()
			errors := make([]node, len(cases))
			for i, c := range cases {
				building = c.name
				scope.Store().SetTraining(g, c.training)
				c.noAdjoint = c.noAdjoint || c.xlaAdjoint && b == backendtest.Go(t)
				errors[i], linear[i] = c.inScope(scope.In("case%d", i), g).measured(g)
			}
			return append(errors, allResults(linear)...)
		})
		defer exec.Finalize()
		results = exec.MustCall(0.0)
		second = secondErrors(t, b, linear, results[len(cases):])
	})
	require.NoErrorf(t, err, "last built: %s", building)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) { requireSmall(t, results[i], second[i]) })
	}
}

func (c layerCase) withoutNumbers() layerCase { c.noNumbers = true; return c }

func (c layerCase) inTraining() layerCase { c.training = true; return c }

func stock() []layerCase {
	sequence := []int{2, 5, 6}
	image := []int{2, 6, 6, 4}
	cases := []layerCase{
		layer("Dense", sequence, func(s *model.Scope, x node) node { return layers.Dense(s, x, true, 3) }),
		layer("Dense without bias", []int{2, 6}, func(s *model.Scope, x node) node { return layers.Dense(s, x, false, 3) }),
		layer("Dense of two dimensions", sequence, func(s *model.Scope, x node) node { return layers.Dense(s, x, true, 2, 3) }),
		layer("Dense transposed", sequence, func(s *model.Scope, x node) node {
			return layers.DenseWithLayout(s, x, compute.DenseLayoutOutputsInput, true, 3)
		}),
		layer("LayerNorm", sequence, func(s *model.Scope, x node) node { return norm.LayerNorm(s, x, -1).Done() }),
		layer("LayerNorm of two axes", image, func(s *model.Scope, x node) node { return norm.LayerNorm(s, x, 1, 2).Done() }),
		layer("LayerNorm without scale and offset", sequence, func(s *model.Scope, x node) node {
			return norm.LayerNorm(s, x, -1).LearnedGain(false).LearnedOffset(false).Done()
		}),
		layer("LayerNorm without gain", sequence, func(s *model.Scope, x node) node { return norm.LayerNorm(s, x, -1).LearnedGain(false).Done() }).withoutNumbers(), // TestFusedLayerNormWithoutGainIsWrong
		layer("LayerNorm centred only", sequence, func(s *model.Scope, x node) node { return norm.LayerNorm(s, x, -1).ScaleNormalization(false).Done() }),
		layer("RMSNorm", sequence, func(s *model.Scope, x node) node { return norm.RMSNorm(s, x).Done() }),
		layer("DynamicTanh", sequence, func(s *model.Scope, x node) node { return norm.DynamicTanh(s, x).Done() }),
		layer("group norm", image, groupNorm),
		layer("Convolution", image, func(s *model.Scope, x node) node {
			return layers.Convolution(s, x).Channels(3).KernelSize(3).PadSame().Strides(2).Done()
		}),
		layer("BatchNorm in evaluation, by hand", image, func(s *model.Scope, x node) node {
			return norm.BatchNorm(s, x, -1).UseBackendInference(false).Done()
		}),
		layer("Dropout", sequence, func(s *model.Scope, x node) node { return layers.DropoutStatic(s, graph.Sin(x), 0.4) }).inTraining(),
		layer("Embedding", []int{5, 3}, func(s *model.Scope, x node) node {
			return graph.Mul(x, layers.Embedding(s, graph.Const(x.Graph(), [][]int32{{3}, {0}, {3}, {1}, {2}}), x.DType(), 4, 3))
		}),
		layer("PieceWiseLinearCalibration", []int{7, 1}, func(s *model.Scope, x node) node {
			return layers.PieceWiseLinearCalibration(s, x, graph.ConstAs(x, []float64{-1, 0.1, 1}), true)
		}),
	}
	for _, kind := range activation.TypeValues() {
		cases = append(cases, layer("activation "+kind.String(), sequence, func(_ *model.Scope, x node) node {
			return activation.Apply(kind, graph.MulScalar(x, 4))
		}))
	}
	return cases
}

// groupNorm normalises groups of channels over space, from the parts a user has: GoMLX has no layer for it.
func groupNorm(scope *model.Scope, x node) node {
	const groups = 2
	dimensions := x.Shape().Dimensions
	channels := dimensions[3]
	grouped := graph.Reshape(x, dimensions[0], dimensions[1], dimensions[2], groups, channels/groups)
	grouped = norm.LayerNorm(scope, grouped, 1, 2, 4).LearnedGain(false).LearnedOffset(false).Done()
	gain := scope.VariableWithShape("gain", shapes.Make(x.DType(), 1, 1, 1, channels)).NodeValue(x)
	return graph.Mul(graph.Reshape(grouped, dimensions...), gain)
}

// composite lists layers of many operations, which take XLA seconds to compile.
func composite() []layerCase {
	sequence := []int{2, 5, 6}
	type builder = attention.MultiHeadAttentionBuilder
	self := func(name string, options func(b *builder, x node) *builder) layerCase {
		return layer("attention "+name, sequence, func(s *model.Scope, x node) node {
			return options(attention.SelfAttention(s, x, 2, 4), x).Done()
		})
	}
	return []layerCase{
		layer("FNN", []int{3, 4}, func(s *model.Scope, x node) node {
			return fnn.New(s, x, 2).NumHiddenLayers(2, 4).Activation(activation.TypeSwish).Normalization("layer").Residual(true).Done()
		}),
		layer("BatchNorm in training, by hand", []int{2, 6, 6, 4}, func(s *model.Scope, x node) node {
			return norm.BatchNorm(s, x, -1).UseBackendInference(false).Done()
		}).inTraining().withoutNumbers(), // GoMLX stops gradients of mean and variance
		layer("LSTM", []int{2, 3, 4}, func(s *model.Scope, x node) node {
			_, last, _ := lstm.New(s, x, 3).Done()
			return last
		}),
		self("plain", func(b *builder, _ node) *builder { return b }),
		self("causal", func(b *builder, _ node) *builder { return b.WithCausalMask(true) }),
		self("with one projection", func(b *builder, _ node) *builder { return b.UseQKVProjection() }),
		self("with grouped queries", func(b *builder, _ node) *builder { return b.WithNumKVHeads(1) }),
		self("as wide as long, with grouped queries", func(b *builder, _ node) *builder { return b.WithNumKVHeads(1).WithValueHeadDim(5) }),
		self("with position", func(b *builder, _ node) *builder { return b.WithPositionalEncoder(pos.NewRoPE(100)) }),
		self("with normalised keys", func(b *builder, _ node) *builder { return b.WithQKRMSNorm(1e-5) }),
		self("with a mask", func(b *builder, x node) *builder {
			return b.WithKeyMask(graph.Const(x.Graph(), [][]bool{{true, true, false, true, true}, {true, true, true, true, false}}))
		}),
		self("with a bias that has a tangent", func(b *builder, x node) *builder {
			bias := graph.Sin(graph.Einsum("bqd,bkd->bqk", x, x))
			return b.WithAttentionBias(graph.BroadcastToDims(graph.InsertAxes(bias, 1), 2, 2, 5, 5))
		}),
		layer("attention where only the bias has a tangent", []int{2, 5, 6}, func(_ *model.Scope, x node) node {
			constant := func(phase float64) node { return wave(x.Graph(), x.DType(), phase, 2, 5, 3, 4) }
			bias := graph.Sin(graph.Einsum("bqd,bkd->bqk", x, x))
			y, _ := attention.Core(constant(1), constant(2), constant(3), attention.LayoutBSHD, attention.CoreOptions{
				AttentionBias: graph.BroadcastToDims(graph.InsertAxes(bias, 1), 2, 3, 5, 5),
			})
			return y
		}),
		self("with capped scores", func(b *builder, _ node) *builder { return b.WithScoreSoftCap(2) }),
	}
}

func TestLayers(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) { checkLayers(t, b, stock()) })
}

func TestCompositeLayers(t *testing.T) {
	checkLayers(t, backendtest.Go(t), composite())
	checkLayers(t, backendtest.XLA(t), composite()[2:3])
}

// Without fused operations the Go backend has the graphs that XLA has.
func TestLayersUnfused(t *testing.T) {
	t.Setenv(graph.FusionEnv, "0")
	checkLayers(t, backendtest.Go(t), append(stock(), composite()...))
}

// The Go backend has no batch normalisation of its own, so these layers exist on XLA alone.
func TestBatchNorm(t *testing.T) {
	image := []int{2, 4, 3, 3}
	b := backendtest.XLA(t)
	checkLayers(t, b, []layerCase{
		layer("in training", image, func(s *model.Scope, x node) node { return norm.BatchNorm(s, x, -1).Done() }).inTraining(),
		layer("of another axis", image, func(s *model.Scope, x node) node { return norm.BatchNorm(s, x, 1).Done() }).inTraining(),
		layer("as it comes, in evaluation", image, func(s *model.Scope, x node) node { return norm.BatchNorm(s, x, -1).Done() }),
		layer("of another axis, in evaluation", image, func(s *model.Scope, x node) node { return norm.BatchNorm(s, x, 1).Done() }),
	})
	vector := []int{3}
	check(t, b, []testCase{
		{name: "in evaluation", inputs: [][]int{image, vector, vector, vector, vector}, f: func(in []node) node {
			return graph.InternalBatchNormForInference(in[0], in[1], in[2], in[3], positive(in[4]), 1e-3, -1)
		}},
		{name: "mean and variance of the batch", inputs: [][]int{image, vector, vector}, noAdjoint: true, f: func(in []node) node {
			_, mean, variance := graph.InternalBatchNormForTraining(in[0], in[1], in[2], 1e-3, -1)
			return graph.Concatenate([]node{mean, variance}, 0)
		}},
		{name: "in training, of scale alone", inputs: [][]int{vector}, f: func(in []node) node {
			x := wave(in[0].Graph(), in[0].DType(), 1, image...)
			y, _, _ := graph.InternalBatchNormForTraining(x, in[0], graph.ZerosLike(in[0]), 1e-3, -1)
			return y
		}},
	})
}
