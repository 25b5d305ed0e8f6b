package network_test

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/solver/network"
)

// TestMain has XLA compile without optimising, which takes half the time.
func TestMain(m *testing.M) {
	if os.Getenv("XLA_FLAGS") == "" {
		if err := os.Setenv("XLA_FLAGS", "--xla_backend_optimization_level=0"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// twoLayers is tanh(x A) B with a bias that is not used in the output and a frozen scale, in the dtype of x.
func twoLayers(scope *model.Scope, x *graph.Node) *graph.Node {
	variable := func(name string, values []float32, dimensions ...int) *model.Variable {
		value, err := network.ConvertDType(tensors.FromFlatDataAndDimensions(values, dimensions...), x.DType())
		if err != nil {
			panic(err)
		}
		return scope.VariableWithValue(name, value)
	}
	a := variable("a", []float32{0.3, -0.2, 0.5, 0.1, 0.7, -0.4}, 2, 3)
	b := variable("b", []float32{1, 0.5, -0.6, 0.2, 0.3, -1}, 3, 2)
	variable("unused", []float32{1, 2}, 2)
	frozen := variable("frozen", []float32{1.5}, 1).SetTrainable(false)
	y := graph.Dot(x, a.NodeValue(x)).MatMul()
	y = graph.Dot(graph.Tanh(y), b.NodeValue(x)).MatMul()
	return graph.Mul(y, graph.ExpandLeftToRank(frozen.NodeValue(x), 2))
}

func meanSquare(labels, predictions []*graph.Node) *graph.Node {
	return graph.ReduceAllMean(graph.Square(graph.Sub(predictions[0], labels[0])))
}

// loaded returns a network of fn whose weights a first run on x has made.
func loaded(t testing.TB, b compute.Backend, fn network.ModelFn, x any, dtype dtypes.DType) (*network.Network, *model.Store) {
	t.Helper()
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(5))
	_, err := model.MustNewExec(b, store, fn).Exec(x)
	require.NoError(t, err)
	net, err := network.New(b, fn, meanSquare, dtype)
	require.NoError(t, err)
	t.Cleanup(net.Close)
	require.NoError(t, net.Load(store))
	return net, store
}

func TestNetworkAgainstFiniteDifferences(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x32 := [][]float32{{0.2, -0.9}, {1.1, 0.4}}
		x := tensors.FromValue([][]float64{{0.2, -0.9}, {1.1, 0.4}})
		y := tensors.FromValue([][]float64{{0.1, 0.2}, {-0.3, 0.5}})
		net, store := loaded(t, b, twoLayers, x32, dtypes.Float64)
		require.Equal(t, 6+6+2, net.Dim(), "two matrices and the unused bias; the frozen scale is no parameter")

		outputs := func(direction []float64, step float64) []float64 {
			moved := model.NewStore()
			offset := 0
			for _, path := range []string{"/a", "/b", "/frozen", "/unused"} {
				value, err := network.ConvertDType(store.GetVariable(path).MustValue(), dtypes.Float64)
				require.NoError(t, err)
				if path != "/frozen" {
					tensors.MustMutableFlatData(value, func(flat []float64) {
						floats.AddScaled(flat, step, direction[offset:offset+len(flat)])
						offset += len(flat)
					})
				}
				v, err := moved.CreateVariable(path, value)
				require.NoError(t, err)
				v.Trainable = path != "/frozen"
			}
			probe, err := network.New(b, twoLayers, meanSquare, dtypes.Float64)
			require.NoError(t, err)
			defer probe.Close()
			require.NoError(t, probe.Load(moved))
			output, err := probe.Predict(x)
			require.NoError(t, err)
			return tensors.MustCopyFlatData[float64](output)
		}
		random := rand.New(rand.NewPCG(1, 1))
		direction := make([]float64, net.Dim())
		for i := range direction {
			direction[i] = random.NormFloat64()
		}
		const h = 1e-5
		plus, minus, here := outputs(direction, h), outputs(direction, -h), outputs(direction, 0)
		derivative := make([]float64, len(plus))
		floats.SubTo(derivative, plus, minus)
		floats.Scale(1/(2*h), derivative)

		jacobian, err := net.Jacobian(x)
		require.NoError(t, err)
		var product mat.Dense
		product.Mul(jacobian, mat.NewDense(net.Dim(), 1, direction))
		require.InDeltaSlice(t, derivative, mat.Col(nil, 0, &product), 1e-8)

		factor, err := net.Factor(x, 0.25, math.MaxInt64)
		require.NoError(t, err)
		require.Equal(t, 4, factor.Rows())
		half, back := mat.NewDense(1, 4, nil), mat.NewDense(1, net.Dim(), nil)
		require.NoError(t, factor.Image(half, mat.NewDense(1, net.Dim(), direction)))
		require.NoError(t, factor.Adjoint(back, half))
		var image, adjoint, whole mat.Dense
		image.Scale(0.5, &product)
		require.InDeltaSlice(t, mat.Col(nil, 0, &image), half.RawRowView(0), 1e-12)
		adjoint.Mul(image.T(), jacobian)
		adjoint.Scale(0.5, &adjoint)
		require.InDeltaSlice(t, adjoint.RawRowView(0), back.RawRowView(0), 1e-12)
		whole.ReuseAs(1, net.Dim())
		require.NoError(t, net.Metric(x, 0.25).Apply(&whole, mat.NewDense(1, net.Dim(), direction)))
		require.InDeltaSlice(t, whole.RawRowView(0), back.RawRowView(0), 1e-12)

		gradient := make([]float64, net.Dim())
		loss, err := net.Gradient(gradient, x, y)
		require.NoError(t, err)
		labels := tensors.MustCopyFlatData[float64](y)
		wantLoss, wantSlope := 0.0, 0.0
		for i := range here {
			wantLoss += (here[i] - labels[i]) * (here[i] - labels[i]) / 4
			wantSlope += 2 * (here[i] - labels[i]) * derivative[i] / 4
		}
		require.InDelta(t, wantLoss, loss, 1e-12)
		require.InDelta(t, wantSlope, floats.Dot(gradient, direction), 1e-8)
		require.Equal(t, []float64{0, 0}, gradient[12:], "the unused bias")

		eta := mat.NewDense(1, net.Dim(), nil)
		require.NoError(t, net.Metric(x, 0.25).Apply(eta, mat.NewDense(1, net.Dim(), direction)))
		var want mat.Dense
		want.Mul(jacobian.T(), &product)
		want.Scale(0.25, &want)
		require.InDeltaSlice(t, mat.Col(nil, 0, &want), eta.RawRowView(0), 1e-12)
	})
}

func TestNetworkInSinglePrecision(t *testing.T) {
	x := [][]float32{{0.2, -0.9}}
	net, _ := loaded(t, backendtest.Go(t), twoLayers, x, dtypes.Float32)
	double, _ := loaded(t, backendtest.Go(t), twoLayers, x, dtypes.Float64)
	v := mat.NewDense(1, net.Dim(), nil)
	v.Set(0, 3, 1)
	single, reference := mat.NewDense(1, net.Dim(), nil), mat.NewDense(1, net.Dim(), nil)
	require.NoError(t, net.Metric(tensors.FromValue(x), 1).Apply(single, v))
	x64, err := network.ConvertDType(tensors.FromValue(x), dtypes.Float64)
	require.NoError(t, err)
	require.NoError(t, double.Metric(x64, 1).Apply(reference, v))
	require.InDeltaSlice(t, reference.RawRowView(0), single.RawRowView(0), 1e-6)
	require.NotEqual(t, reference.RawRowView(0), single.RawRowView(0))
}

func TestLoadFollowsTheWeights(t *testing.T) {
	b := backendtest.Go(t)
	x := tensors.FromValue([][]float64{{0.2, -0.9}})
	net, store := loaded(t, b, twoLayers, [][]float32{{0.2, -0.9}}, dtypes.Float64)
	predict := func() []float64 {
		output, err := net.Predict(x)
		require.NoError(t, err)
		return tensors.MustCopyFlatData[float64](output)
	}
	before := predict()
	scaled := store.GetVariable("/frozen")
	require.NoError(t, scaled.SetValue(tensors.FromValue([]float32{3})))
	require.Equal(t, before, predict(), "the network has a copy")
	require.NoError(t, net.Load(store))
	floats.Scale(2, before)
	require.InDeltaSlice(t, before, predict(), 1e-15)

	store.GetVariable("/a").SetTrainable(false)
	require.ErrorContains(t, net.Load(store), "had 3 trainable variables and now has 2")
}

func TestNetworkRefuses(t *testing.T) {
	b := backendtest.Go(t)
	fixed := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return graph.Mul(graph.ConvertDType(x, dtypes.Float32), scope.VariableWithValue("w", [][]float32{{1, 2}}).NodeValue(x))
	}
	double, _ := loaded(t, b, fixed, [][]float32{{1, 2}}, dtypes.Float64)
	_, err := double.Predict(tensors.FromValue([][]float64{{1, 2}}))
	require.ErrorContains(t, err, "and the audit is in float64: audit it in float32 (WithDType)")
	_, err = network.New(b, twoLayers, meanSquare, dtypes.BFloat16)
	require.ErrorContains(t, err, "use float32 or float64")
	net, err := network.New(b, twoLayers, meanSquare, dtypes.Float64)
	require.NoError(t, err)
	defer net.Close()
	_, err = net.Predict(tensors.FromValue([][]float64{{1, 2}}))
	require.ErrorContains(t, err, "call Load first")
}

// strided halves the grid by a convolution with the given kernel, between two layers.
func strided(kernel int) network.ModelFn {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		y := layers.Convolution(scope.In("stem"), x).Channels(3).KernelSize(3).PadSame().Done()
		y = layers.Convolution(scope.In("down"), graph.Tanh(y)).Channels(3).KernelSize(kernel).Strides(2).PadSame().Done()
		return layers.Convolution(scope.In("head"), graph.Tanh(y)).Channels(2).KernelSize(3).PadSame().Done()
	}
}

func TestCheckGradientNamesTheLayer(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x := tensors.FromShape(shapes.Make(dtypes.Float64, 2, 8, 8, 2))
		tensors.MustMutableFlatData(x, func(flat []float64) {
			random := rand.New(rand.NewPCG(2, 2))
			for i := range flat {
				flat[i] = random.NormFloat64()
			}
		})
		odd, _ := loaded(t, b, strided(3), x, dtypes.Float64)
		single, err := network.ConvertDType(x, dtypes.Float32)
		require.NoError(t, err)
		report, err := odd.CheckGradient(single, false)
		require.NoError(t, err)
		require.True(t, report.OK(), "adjoint error %g", report.Error)
		require.Nil(t, report.Fault)

		// If this fails after an upgrade of GoMLX, its gradient of even kernels may have been mended: say so in the docs.
		even, _ := loaded(t, b, strided(2), x, dtypes.Float64)
		report, err = even.CheckGradient(x, false)
		require.NoError(t, err)
		require.False(t, report.OK())
		require.Greater(t, report.Error, 1e-3)
		require.NotNil(t, report.Fault)
		require.Equal(t, "ConvGeneral in layer /down/conv; GoMLX v0.28 has no right gradient for convolutions with an even kernel, nor for pooling by one: use an odd one", report.Fault.String())
	})
}

// Weights in half precision are audited as the numbers they are, in a precision that shows what follows from them.
func TestWeightsInHalfPrecision(t *testing.T) {
	for _, dtype := range []dtypes.DType{dtypes.Float16, dtypes.BFloat16} {
		half := func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.Mul(x, graph.ExpandLeftToRank(scope.VariableWithShape("weight", shapes.Make(x.DType(), 2)).NodeValue(x), 2))
		}
		b := backendtest.Go(t)
		store := model.NewStore()
		x := tensors.FromValue([][]float64{{1, 2}, {3, 4}})
		store.RootScope().VariableWithValue("weight", shapes.CastAsDType([]float64{0.5, -1.25}, dtype))
		net, err := network.New(b, half, meanSquare, dtypes.Float64)
		require.NoError(t, err)
		require.NoError(t, net.Load(store))
		output, err := net.Predict(x)
		require.NoError(t, err)
		require.Equal(t, [][]float64{{0.5, -2.5}, {1.5, -5}}, output.Value())
		jacobian, err := net.Jacobian(x)
		require.NoError(t, err)
		require.Equal(t, []float64{1, 0, 0, 2, 3, 0, 0, 4}, jacobian.RawMatrix().Data)
		net.Close()
	}
}

// Views share what is loaded, whoever loads it and whenever they were made.
func TestNetworksWithFurtherInputsShareTheirWeights(t *testing.T) {
	b := backendtest.Go(t)
	scaled := func(scope *model.Scope, x, factor *graph.Node) *graph.Node {
		return graph.Mul(twoLayers(scope, x), factor)
	}
	x := tensors.FromValue([][]float64{{1, 2}})
	_, store := loaded(t, b, twoLayers, x, dtypes.Float64)
	net, err := network.New(b, scaled, meanSquare, dtypes.Float64)
	require.NoError(t, err)
	defer net.Close()
	once, twice := net.With(tensors.FromValue([][]float64{{1}})), net.With(tensors.FromValue([][]float64{{2}}))
	require.NoError(t, twice.Load(store))
	require.Equal(t, net.Dim(), once.Dim())
	one, err := once.Jacobian(x)
	require.NoError(t, err)
	two, err := twice.Jacobian(x)
	require.NoError(t, err)
	require.Positive(t, mat.Norm(one, 2))
	one.Scale(2, one)
	require.True(t, mat.EqualApprox(one, two, 1e-12))
}
