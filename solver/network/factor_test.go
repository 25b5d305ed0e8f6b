package network_test

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/solver/network"
)

// wavy fills a tensor with values in [-1, 1] without structure.
func wavy(dimensions ...int) *tensors.Tensor {
	t := tensors.FromShape(shapes.Make(dtypes.Float64, dimensions...))
	tensors.MustMutableFlatData(t, func(flat []float64) {
		for i := range flat {
			flat[i] = math.Sin(12.9898*float64(i) + 1)
		}
	})
	return t
}

func wavyMatrix(columns int) *mat.Dense {
	return mat.NewDense(2, columns, tensors.MustCopyFlatData[float64](wavy(2*columns)))
}

// networkOf returns a network of fn with weights that a first run on the inputs has made.
func networkOf(t *testing.T, b compute.Backend, fn func(scope *model.Scope, inputs []*graph.Node) []*graph.Node, inputs ...*tensors.Tensor) (*network.Network, *model.Store) {
	t.Helper()
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(5))
	args := make([]any, len(inputs))
	for i, input := range inputs {
		args[i] = input
	}
	_, err := model.MustNewExec(b, store, fn).Exec(args...)
	require.NoError(t, err)
	net, err := network.New(b, fn, meanSquare, dtypes.Float64)
	require.NoError(t, err)
	t.Cleanup(net.Close)
	require.NoError(t, net.Load(store))
	return net, store
}

func affine(scope *model.Scope, x *graph.Node, width int) *graph.Node {
	return layers.Dense(scope, x, true, width)
}

func TestLinearisedFactorMakesTheSameProducts(t *testing.T) {
	type nodes = []*graph.Node
	square, image := []int{3, 4}, []int{2, 8, 8, 4}
	cases := map[string]struct {
		inputs [][]int
		build  func(scope *model.Scope, in nodes) nodes
		output int
		onXLA  bool // alone
	}{
		"frozen and unused parameters": {inputs: [][]int{{3, 2}}, build: func(scope *model.Scope, in nodes) nodes {
			return nodes{twoLayers(scope, in[0])}
		}},
		"a parameter used twice": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			w := scope.VariableWithShape("w", shapes.Make(in[0].DType(), 4, 4)).NodeValue(in[0])
			return nodes{graph.MatMul(graph.Tanh(graph.MatMul(in[0], w)), graph.Exp(w))}
		}},
		"no residuals": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			return nodes{affine(scope, in[0], 3)}
		}},
		"an output that is a parameter": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			return nodes{scope.VariableWithShape("w", in[0].Shape()).NodeValue(in[0])}
		}},
		"an output without parameters": {inputs: [][]int{square}, output: 1, build: func(scope *model.Scope, in nodes) nodes {
			return nodes{affine(scope, in[0], 3), graph.Sin(in[0])}
		}},
		"stopped gradients": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			hidden := graph.Tanh(affine(scope.In("first"), in[0], 4))
			return nodes{affine(scope.In("second"), graph.Mul(hidden, graph.StopGradient(graph.Exp(hidden))), 2)}
		}},
		"checkpoints": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			hidden := graph.Tanh(affine(scope.In("first"), in[0], 4)).Checkpoint()
			hidden = graph.Tanh(affine(scope.In("second"), hidden, 4)).StopCheckpoint()
			return nodes{affine(scope.In("third"), hidden, 2)}
		}},
		"further inputs and outputs": {inputs: [][]int{square, {3, 2}}, output: 1, build: func(scope *model.Scope, in nodes) nodes {
			y := affine(scope, graph.Concatenate(in, 1), 3)
			return nodes{y, graph.Mul(graph.Sin(y), graph.ReduceAndKeep(in[1], graph.ReduceSum, 1))}
		}},
		"random numbers": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			y := graph.Sin(affine(scope.In("first"), in[0], 4))
			noise := scope.RandomNormal(in[0].Graph(), y.Shape())
			return nodes{affine(scope.In("second"), graph.Tanh(graph.Mul(y, noise)), 2)}
		}},
		"batch normalisation": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			y := norm.BatchNorm(scope.In("norm"), graph.Sin(affine(scope.In("first"), in[0], 4)), -1).UseBackendInference(false).Done()
			return nodes{affine(scope.In("second"), graph.Tanh(y), 2)}
		}},
		"batch normalisation of the backend": {inputs: [][]int{image}, onXLA: true, build: func(scope *model.Scope, in nodes) nodes {
			y := norm.BatchNorm(scope.In("norm"), graph.Sin(affine(scope.In("first"), in[0], 4)), -1).Done()
			return nodes{affine(scope.In("second"), graph.Tanh(y), 2)}
		}},
		"indices and large constants": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			g := in[0].Graph()
			y := graph.Tanh(affine(scope, in[0], 40))
			large := graph.ConstTensor(g, wavy(40))
			return nodes{graph.Mul(graph.Mul(y, graph.ExpandLeftToRank(large, 2)), graph.Iota(g, y.Shape(), 1))}
		}},
		"a custom gradient that bends": {inputs: [][]int{square}, build: func(scope *model.Scope, in nodes) nodes {
			bent := graph.IdentityWithCustomGradient(affine(scope.In("first"), in[0], 4), func(x, v *graph.Node) *graph.Node {
				return graph.ClipScalar(graph.Mul(v, graph.Cos(x)), -0.1, 0.1)
			})
			return nodes{affine(scope.In("second"), bent, 2)}
		}},
		"unet": {inputs: [][]int{image}, build: func(scope *model.Scope, in nodes) nodes {
			return nodes{models.UNet{Widths: []int{4, 4}, Blocks: 1, Groups: 2, Heads: 1}.Fn()(scope, in[0])}
		}},
		"vit": {inputs: [][]int{image}, build: func(scope *model.Scope, in nodes) nodes {
			return nodes{models.ViT{Patch: 4, Width: 8, Layers: 1, Heads: 2, Expansion: 2}.Fn()(scope, in[0])}
		}},
		"fno": {inputs: [][]int{image}, build: func(scope *model.Scope, in nodes) nodes {
			return nodes{models.FNO{Width: 4, Modes: 2, Layers: 2}.Fn()(scope, in[0])}
		}},
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for name, c := range cases {
			if c.onXLA && b == backendtest.Go(t) {
				continue // it has no such operation
			}
			t.Run(name, func(t *testing.T) {
				var inputs []*tensors.Tensor
				for _, dimensions := range c.inputs {
					inputs = append(inputs, wavy(dimensions...))
				}
				net, _ := networkOf(t, b, c.build, inputs...)
				net = net.WithOutput(c.output).WithSeed(3).With(inputs[1:]...)
				again, err := net.Factor(inputs[0], 0.25, 0)
				require.NoError(t, err)
				require.False(t, again.Linearised())
				factor, err := net.Factor(inputs[0], 0.25, math.MaxInt64)
				require.NoError(t, err)
				defer factor.Close() //nolint:errcheck // frees memory
				require.NoError(t, factor.Recomputes())
				require.Equal(t, name != "no residuals" && name != "an output that is a parameter" && name != "an output without parameters", factor.Bytes() > 0)
				require.Equal(t, again.Rows(), factor.Rows())
				require.Equal(t, net.Dim(), factor.Dim())

				v, u := wavyMatrix(factor.Dim()), wavyMatrix(factor.Rows())
				for range 2 { // products leave the residuals alone
					requireSame(t, again.Image, factor.Image, v, factor.Rows())
					requireSame(t, again.Adjoint, factor.Adjoint, u, factor.Dim())
					requireSame(t, again.Apply, factor.Apply, v, factor.Dim())
				}
			})
		}
	})
}

func requireSame(t *testing.T, want, got func(dst, v *mat.Dense) error, v *mat.Dense, columns int) {
	t.Helper()
	a, b := mat.NewDense(2, columns, nil), mat.NewDense(2, columns, nil)
	require.NoError(t, want(a, v))
	require.NoError(t, got(b, v))
	scale := mat.Norm(a, 2)
	b.Sub(b, a)
	require.LessOrEqual(t, mat.Norm(b, 2), 1e-13*scale)
}

func TestFactorOfLimitedMemory(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x := wavy(3, 2)
		net, store := networkOf(t, b, func(scope *model.Scope, in []*graph.Node) []*graph.Node {
			return []*graph.Node{twoLayers(scope, in[0])}
		}, x)
		allowing := func(most int64) *network.Factor {
			factor, err := net.Factor(x, 1, most)
			require.NoError(t, err)
			return factor
		}
		none := allowing(0)
		require.False(t, none.Linearised())
		require.ErrorContains(t, none.Recomputes(), "no residuals are allowed")
		require.Zero(t, none.Bytes())

		const need = 3 * 3 * 8 // tanh(x A), [3, 3], from which its slope follows
		small := allowing(need - 1)
		require.False(t, small.Linearised())
		require.ErrorContains(t, small.Recomputes(), "the residuals take 72 bytes, more than 71")
		require.EqualValues(t, need, small.Bytes())
		factor := allowing(need)
		require.NoError(t, factor.Recomputes())
		require.EqualValues(t, need, factor.Bytes())
		require.False(t, allowing(need-1).Linearised(), "the programs are there, the memory is not")
		before := backendtest.LiveBuffers()
		second := allowing(need)
		require.True(t, second.Linearised())
		if b != backendtest.Go(t) {
			require.EqualValues(t, 1, backendtest.LiveBuffers()-before)
		}

		v, image := wavyMatrix(net.Dim()), mat.NewDense(2, factor.Rows(), nil)
		require.NoError(t, factor.Close())
		require.NoError(t, factor.Close())
		require.ErrorContains(t, factor.Image(image, v), "closed")
		require.NoError(t, second.Image(image, v), "each has its own residuals")
		require.NoError(t, net.Load(store))
		require.ErrorContains(t, second.Image(image, v), "weights were loaded after the factor was made")
		require.NoError(t, second.Close())
		require.LessOrEqual(t, backendtest.LiveBuffers(), before)
		require.True(t, allowing(need).Linearised())
	})
}

// What follows the unknown in control flow may depend on it unseen.
func TestFactorOfAModelThatCannotBeLinearised(t *testing.T) {
	b := backendtest.Go(t)
	x := wavy(3, 4)
	net, _ := networkOf(t, b, func(scope *model.Scope, in []*graph.Node) []*graph.Node {
		y := graph.IdentityWithCustomGradient(affine(scope, in[0], 2), func(_, v *graph.Node) *graph.Node {
			g := v.Graph()
			twice := graph.NewClosure(g, func(*graph.Graph) []*graph.Node { return []*graph.Node{graph.Add(v, v)} })
			once := graph.NewClosure(g, func(*graph.Graph) []*graph.Node { return []*graph.Node{v} })
			return graph.If(graph.Const(g, true), twice, once)[0]
		})
		return []*graph.Node{y}
	}, x)
	factor, err := net.Factor(x, 1, math.MaxInt64)
	require.NoError(t, err)
	require.False(t, factor.Linearised())
	require.ErrorContains(t, factor.Recomputes(), "follows an unknown node and may read it")
	gradient := mat.NewDense(2, net.Dim(), nil)
	require.NoError(t, factor.Adjoint(gradient, wavyMatrix(factor.Rows())))
	require.NotZero(t, mat.Norm(gradient, 2))

	net, _ = networkOf(t, b, func(scope *model.Scope, in []*graph.Node) []*graph.Node {
		return []*graph.Node{graph.Sort(affine(scope, in[0], 2), 1, true)}
	}, x)
	factor, err = net.Factor(x, 1, math.MaxInt64)
	require.NoError(t, err, "its gradient has no program either")
	require.ErrorContains(t, factor.Recomputes(), "Sort")
}
