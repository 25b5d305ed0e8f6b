package models_test

import (
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

const rounding = 1e-11 // of float64, after a few dozen layers

func TestParameterCounts(t *testing.T) {
	for _, c := range []struct {
		name string
		fn   models.Fn
		size int
		want int
	}{
		{"TinyUNet", models.TinyUNet().Fn(), 16, 5456},
		{"TinyUNet at twice the resolution", models.TinyUNet().Fn(), 32, 5456},
		{"PaperUNet", models.PaperUNet().Fn(), 128, 12951964},
		{"TinyViT", models.TinyViT().Fn(), 16, 6864},
		{"TinyViT at twice the resolution", models.TinyViT().Fn(), 32, 7632},
		{"PaperViT(4)", models.PaperViT(4).Fn(), 128, 5034304},
		{"PaperViT(8)", models.PaperViT(8).Fn(), 128, 4936192},
	} {
		store := model.NewStore()
		buildGraph(backendtest.Go(t), store, c.fn, dtypes.Float32, 1, c.size, c.size, 4)
		require.Equal(t, c.want, store.NumParameters(), c.name)
	}
}

// The same function serves a float32 store and a float64 one.
func TestModelsFollowTheDType(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for name, fn := range smallModels() {
			for _, dtype := range []dtypes.DType{dtypes.Float32, dtypes.Float64} {
				store := model.NewStore()
				out, err := model.CallOnce(b, store, func(scope *model.Scope, x *graph.Node) *graph.Node {
					return fn(scope, graph.ConvertDType(x, dtype))
				}, random(1, 2, 4, 8, 4))
				require.NoError(t, err)
				require.Equal(t, dtype, out.DType(), name)
				require.Equal(t, []int{2, 4, 8, 4}, out.Shape().Dimensions, name)
				for v := range store.IterVariables() {
					if v.Trainable {
						require.Equal(t, dtype, v.DType(), v.Path())
					}
				}
			}
		}
	})
}

// values returns the variables of a fresh store by path, as fn's graph creates them.
func values(t *testing.T, b compute.Backend, fn models.Fn, seed int64, dtype dtypes.DType) map[string][]float64 {
	t.Helper()
	store := seededStore(seed)
	buildGraph(b, store, fn, dtype, 1, 4, 4, 4)
	all := map[string][]float64{}
	for v := range store.IterVariables() {
		if dtype == dtypes.Float64 {
			all[v.Path()] = tensors.MustCopyFlatData[float64](v.MustValue())
			continue
		}
		for _, value := range tensors.MustCopyFlatData[float32](v.MustValue()) {
			all[v.Path()] = append(all[v.Path()], float64(value))
		}
	}
	require.NotEmpty(t, all)
	return all
}

func TestInitialWeightsDependOnTheSeedOnly(t *testing.T) {
	onGo := backendtest.Go(t)
	for name, fn := range smallModels() {
		first := values(t, onGo, fn, 7, dtypes.Float64)
		backendtest.Each(t, func(t *testing.T, b compute.Backend) {
			require.Equal(t, first, values(t, b, fn, 7, dtypes.Float64), name)
		})
		require.Empty(t, cmp.Diff(first, values(t, onGo, fn, 7, dtypes.Float32), cmpopts.EquateApprox(1e-7, 0)), name)
		require.NotEqual(t, first, values(t, onGo, fn, 8, dtypes.Float64), name)
		require.NotEqual(t, values(t, onGo, fn, 0, dtypes.Float64), values(t, onGo, fn, 0, dtypes.Float64), "seed 0 is not reproducible")
	}
}

// Resetting a variable draws its initial value again, a gain of ones included.
func TestResetDrawsTheSameValues(t *testing.T) {
	b, fn, x := backendtest.Go(t), smallUNet().Fn(), random(1, 1, 4, 4, 4)
	store := seededStore(7)
	first := call(t, b, store, fn, x)
	for v := range store.IterVariables() {
		require.NoError(t, v.Reset())
	}
	require.NoError(t, store.InitializeVariables(b, nil))
	require.Zero(t, maxDifference(t, first, call(t, b, store, fn, x)))
}

// A shift by the coarsest cell or by a patch commutes; a shift by half of it does not, so the test can tell.
func TestModelsCommuteWithShifts(t *testing.T) {
	elements, err := orbits.Translations(1).Elements(8, 8)
	require.NoError(t, err)
	byOne, byTwoAndFour := elements[1], elements[2].Compose(elements[7+4])
	require.Equal(t, "t(4,2)", byTwoAndFour.Name())
	vit := smallViT()
	vit.NoPosition = true
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x := random(1, 1, 8, 8, 4)
		for name, fn := range map[string]models.Fn{"unet": smallUNet().Fn(), "vit": vit.Fn()} {
			errors := commutators(t, b, seededStore(1), fn, x, byTwoAndFour, byOne)
			require.Less(t, errors[0], rounding, name)
			require.Greater(t, errors[1], 1e-3, name)
		}
		errors := commutators(t, b, seededStore(1), smallViT().Fn(), x, byTwoAndFour)
		require.Greater(t, errors[0], 1e-3, "with a positional embedding")
	})
}

// The presets, where XLA would compile for longer than the test is worth.
func TestPresetsCommuteWithShifts(t *testing.T) {
	elements, err := orbits.Translations(4).Elements(16, 16)
	require.NoError(t, err)
	vit := models.TinyViT()
	vit.NoPosition = true
	for name, fn := range map[string]models.Fn{"unet": models.TinyUNet().Fn(), "vit": vit.Fn()} {
		errors := commutators(t, backendtest.Go(t), seededStore(1), fn, random(1, 1, 16, 16, 4), elements[3])
		require.Less(t, errors[0], rounding, name)
	}
}

func TestSymmetrizeMakesModelsEquivariant(t *testing.T) {
	elements, err := orbits.D4().Elements(4, 4)
	require.NoError(t, err)
	r, s := elements[1], elements[4] // they generate the group
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x := random(1, 2, 4, 4, 4)
		for name, fn := range smallModels() {
			symmetric := models.Symmetrize(fn, orbits.EulerField(), elements)
			errors := commutators(t, b, seededStore(1), symmetric, x, r, s)
			require.Less(t, max(errors[0], errors[1]), rounding, name)
		}
	})
	for name, fn := range smallModels() {
		errors := commutators(t, backendtest.Go(t), seededStore(1), fn, random(1, 2, 4, 4, 4), r, s)
		require.Greater(t, min(errors[0], errors[1]), 1e-3, "%s is not equivariant by itself", name)
	}
}

// Symmetrizing over the identity alone changes nothing, and over a subgroup it is the mean written out.
func TestSymmetrizeIsTheMeanOverElements(t *testing.T) {
	elements, err := orbits.D4().Elements(8, 8)
	require.NoError(t, err)
	field, fn, b := orbits.EulerField(), models.TinyUNet().Fn(), backendtest.Go(t)
	store, x := seededStore(1), random(1, 2, 8, 8, 4)
	require.Zero(t, maxDifference(t, call(t, b, store, fn, x), call(t, b, store, models.Symmetrize(fn, field, elements[:1]), x)))

	mean := call(t, b, store, func(scope *model.Scope, x *graph.Node) *graph.Node {
		turned := elements[3].Apply(field, fn(scope, elements[1].Apply(field, x)))
		return graph.MulScalar(graph.Add(fn(scope, x), turned), 0.5)
	}, x)
	require.Less(t, maxDifference(t, mean, call(t, b, store, models.Symmetrize(fn, field, elements[:2]), x)), rounding)
	require.ErrorContains(t, buildError(t, b, models.Symmetrize(fn, field, nil), 1, 8, 8, 4), "at least one group element")
}

// The derivative of a scalar of the output along a random direction of all parameters, by reverse mode and by central
// differences.
func TestParameterGradientMatchesFiniteDifferences(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x, weights := random(1, 2, 4, 4, 4), random(2, 2, 4, 4, 4)
		for name, fn := range smallModels() {
			store := seededStore(1)
			buildGraph(b, store, fn, dtypes.Float64, 1, 4, 4, 4)
			variables := slices.Collect(store.IterVariables())
			var start, direction [][]float64
			for i, v := range variables {
				start = append(start, tensors.MustCopyFlatData[float64](v.MustValue()))
				direction = append(direction, tensors.MustCopyFlatData[float64](random(uint64(3+i), v.Shape().Dimensions...)))
			}
			exec, err := model.NewExec(b, store, func(scope *model.Scope, x, weights *graph.Node) []*graph.Node {
				output := fn(scope, x)
				loss := graph.ReduceAllSum(graph.Mul(weights, graph.Mul(output, output)))
				var nodes []*graph.Node
				for _, v := range variables {
					nodes = append(nodes, v.NodeValue(x))
				}
				return append(graph.Gradient(loss, nodes...), loss)
			})
			require.NoError(t, err)
			// at returns the loss at start + step direction, and its derivative along direction.
			at := func(step float64) (loss, slope float64) {
				for i, v := range variables {
					moved := slices.Clone(start[i])
					floats.AddScaled(moved, step, direction[i])
					require.NoError(t, v.SetValue(tensors.FromFlatDataAndDimensions(moved, v.Shape().Dimensions...)))
				}
				out, err := exec.Call(x, weights)
				require.NoError(t, err)
				for i := range variables {
					slope += floats.Dot(direction[i], tensors.MustCopyFlatData[float64](out[i]))
				}
				return out[len(variables)].Value().(float64), slope
			}
			const step = 1e-5
			above, _ := at(step)
			below, _ := at(-step)
			_, slope := at(0)
			require.NotZero(t, slope)
			require.InEpsilon(t, (above-below)/(2*step), slope, 1e-5, name)
		}
	})
}

func TestGradientsReachEveryVariable(t *testing.T) {
	b, x := backendtest.Go(t), random(1, 2, 4, 4, 4)
	for name, fn := range smallModels() {
		store := seededStore(1)
		call(t, b, store, fn, x)
		var paths []string
		norms, err := model.CallOnceN(b, store, func(scope *model.Scope, x *graph.Node) []*graph.Node {
			output := fn(scope, x)
			var variables []*graph.Node
			for v := range store.IterVariables() {
				if v.Trainable {
					paths = append(paths, v.Path())
					variables = append(variables, v.NodeValue(x))
				}
			}
			gradients := graph.Gradient(graph.ReduceAllSum(graph.Mul(output, output)), variables...)
			for i := range gradients {
				gradients[i] = graph.ReduceAllMax(graph.Abs(gradients[i]))
			}
			return gradients
		}, x)
		require.NoError(t, err)
		for i, norm := range norms {
			require.Greater(t, norm.Value().(float64), 1e-9, "%s %s", name, paths[i])
		}
	}
}

// A checkpoint moves between backends: the variables of one give the same outputs on the other.
func TestWeightsMoveBetweenBackends(t *testing.T) {
	for name, fn := range smallModels() {
		store := seededStore(1)
		first := call(t, backendtest.Go(t), store, fn, random(1, 1, 4, 4, 4))
		moved := model.NewStore()
		for v := range store.IterVariables() {
			value, err := v.MustValue().LocalClone()
			require.NoError(t, err)
			_, err = moved.CreateVariable(v.Path(), value)
			require.NoError(t, err)
		}
		require.Less(t, maxDifference(t, first, call(t, backendtest.XLA(t), moved, fn, random(1, 1, 4, 4, 4))), rounding, name)
	}
}

// By default a model predicts the increment of the state; with Direct, the state itself.
func TestDirectLeavesTheInputOut(t *testing.T) {
	x := random(1, 1, 8, 8, 4)
	unet, vit := models.TinyUNet(), models.TinyViT()
	directUNet, directViT := unet, vit
	directUNet.Direct, directViT.Direct = true, true
	b := backendtest.Go(t)
	for _, pair := range [][2]models.Fn{{unet.Fn(), directUNet.Fn()}, {vit.Fn(), directViT.Fn()}} {
		store := seededStore(1)
		increment := call(t, b, store, pair[0], x)
		direct := tensors.MustCopyFlatData[float64](call(t, b, store, pair[1], x))
		for i, value := range tensors.MustCopyFlatData[float64](x) {
			direct[i] += value
		}
		require.Zero(t, maxDifference(t, increment, tensors.FromFlatDataAndDimensions(direct, 1, 8, 8, 4)))
	}
}

func TestValidate(t *testing.T) {
	type validator interface{ Validate(grid ...int) error }
	with := func(change func(*models.UNet)) models.UNet {
		c := models.TinyUNet()
		change(&c)
		return c
	}
	withViT := func(change func(*models.ViT)) models.ViT {
		c := models.TinyViT()
		change(&c)
		return c
	}
	for _, c := range []struct {
		config        validator
		height, width int
		want          string // empty: valid
	}{
		{models.TinyUNet(), 16, 32, ""},
		{models.PaperUNet(), 128, 128, ""},
		{models.TinyUNet(), 16, 18, "models: unet: grid 16x18 is not a multiple of 4, which 3 widths need; use another grid or fewer widths"},
		{models.TinyUNet(), 0, 16, "models: unet: grid 0x16 has an axis without cells; every axis needs some"},
		{models.UNet{}, 16, 16, "models: unet: widths [], blocks 0, groups 0, heads 0; need at least one"},
		{with(func(c *models.UNet) { c.Groups = 3 }), 16, 16, "models: unet: width 4 is not a positive multiple of the 3 groups"},
		{with(func(c *models.UNet) { c.Heads = 3 }), 16, 16, "models: unet: 3 heads do not divide the last width 4"},
		{with(func(c *models.UNet) { c.Normalization.Scale = []float64{1, 1, 0, 1} }), 16, 16, "models: normalization: scale 0; scales must be positive and finite"},
		{models.TinyViT(), 16, 32, ""},
		{models.PaperViT(8), 128, 128, ""},
		{models.TinyViT(), 16, 18, "models: vit: patch 4 does not divide grid 16x18; use another patch or grid"},
		{models.ViT{}, 16, 16, "models: vit: patch 0, width 0, layers 0, heads 0, expansion 0; all must be positive"},
		{withViT(func(c *models.ViT) { c.Heads = 3 }), 16, 16, "models: vit: 3 heads do not divide width 16"},
	} {
		err := c.config.Validate(c.height, c.width)
		if c.want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.want)
		}
	}
}

func TestModelsRefuseWhatValidateRefuses(t *testing.T) {
	b := backendtest.Go(t)
	require.ErrorContains(t, buildError(t, b, models.TinyUNet().Fn(), 1, 16, 18, 4), "grid 16x18 is not a multiple of 4")
	require.ErrorContains(t, buildError(t, b, models.TinyViT().Fn(), 1, 16, 18, 4), "patch 4 does not divide grid 16x18")
	require.ErrorContains(t, buildError(t, b, models.TinyViT().Fn(), 16, 4), "models: vit: input must be [batch, space..., channel] of float32 or float64 with one to three space axes")
	normalized := models.TinyUNet()
	normalized.Normalization.Mean = []float64{1, 2}
	require.ErrorContains(t, buildError(t, b, normalized.Fn(), 1, 16, 16, 4), "models: normalization: 2 values for the 4 channels")
}
