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
	"github.com/symaudit/symaudit/solver/network"
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
		{"TinyFNO", models.TinyFNO().Fn(), 16, 5584},
		{"TinyFNO at twice the resolution", models.TinyFNO().Fn(), 32, 5584},
		{"PaperFNO", models.PaperFNO().Fn(), 128, 2173540},
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

// In bfloat16 outputs and gradients are those of float32 to about the 8 bits that it has, and weights, states and gradients are float32.
func TestModelsInBfloat16(t *testing.T) {
	const most, least = 2e-2, 1e-5 // of the relative difference
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		unet, vit, fno := models.UNet{Widths: []int{4, 8}, Blocks: 1, Groups: 2, Heads: 2}, models.ViT{Patch: 4, Width: 8, Layers: 1, Heads: 2, Expansion: 2}, models.FNO{Width: 4, Modes: 3, Layers: 2}
		single := map[string]models.Fn{"unet": unet.Fn(), "vit": vit.Fn(), "fno": fno.Fn()}
		unet.DType, vit.DType, fno.DType = dtypes.BFloat16, dtypes.BFloat16, dtypes.BFloat16
		x := random(1, 2, 8, 8, 4)
		for name, half := range map[string]models.Fn{"unet": unet.Fn(), "vit": vit.Fn(), "fno": fno.Fn()} {
			// The increment, and the gradient of its sum of squares by each variable.
			of := func(b compute.Backend, fn models.Fn) (all [][]float64) {
				store := model.NewStore()
				store.SetParam(model.ParamInitialSeed, int64(7))
				var paths []string
				exec, err := model.NewExec(b, store, func(scope *model.Scope, x *graph.Node) []*graph.Node {
					y := fn(scope, x)
					require.Equal(t, dtypes.Float32, y.DType())
					increment := graph.Sub(y, x)
					var weights []*graph.Node
					for v := range store.IterVariables() {
						if v.Trainable {
							require.Equal(t, dtypes.Float32, v.DType(), v.Path())
							weights, paths = append(weights, v.NodeValue(x)), append(paths, v.Path())
						}
					}
					return append([]*graph.Node{increment}, graph.Gradient(graph.ReduceAllSum(graph.Square(increment)), weights...)...)
				})
				require.NoError(t, err)
				defer exec.Finalize()
				x, err := network.ConvertDType(x, dtypes.Float32)
				require.NoError(t, err)
				for _, out := range exec.MustCall(x) {
					require.Equal(t, dtypes.Float32, out.DType())
					values, err := network.Values(out)
					require.NoError(t, err)
					all = append(all, values)
				}
				return all
			}
			want, got := of(backendtest.Go(t), single[name]), of(b, half)
			require.Less(t, floats.Distance(got[0], want[0], 2), most*floats.Norm(want[0], 2), name)
			require.Greater(t, floats.Distance(got[0], want[0], 2), least*floats.Norm(want[0], 2), "%s: the network computes in float32", name)
			gotAll, wantAll := slices.Concat(got[1:]...), slices.Concat(want[1:]...)
			require.Less(t, floats.Distance(gotAll, wantAll, 2), most*floats.Norm(wantAll, 2), name)
		}
		_, err := model.CallOnce(b, model.NewStore(), vit.Fn(), x)
		require.ErrorContains(t, err, "models: DType BFloat16 on states of Float64; leave it out, and the network computes in the type of its states, as audits need it")
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
		require.Less(t, commutators(t, b, seededStore(1), smallFNO().Fn(), x, byOne)[0], rounding, "an FNO has neither cells nor patches")
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
	for name, fn := range map[string]models.Fn{"unet": models.TinyUNet().Fn(), "vit": vit.Fn(), "fno": models.TinyFNO().Fn()} {
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
// differences. On XLA, which compiles slowly, other dimensions than two are left to TestBothLoweringsHaveTheSameGradient: there they
// matter to convolutions alone.
func TestParameterGradientMatchesFiniteDifferences(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for c := range smallModelsInSpaces() {
			if b.Name() == "xla" && len(c.grid) != 2 {
				continue
			}
			x, weights := state(1, 2, c.grid), state(2, 2, c.grid)
			store := seededStore(1)
			buildGraph(b, store, c.fn, dtypes.Float64, x.Shape().Dimensions...)
			variables := slices.Collect(store.IterVariables())
			var start, direction [][]float64
			for i, v := range variables {
				start = append(start, tensors.MustCopyFlatData[float64](v.MustValue()))
				direction = append(direction, tensors.MustCopyFlatData[float64](random(uint64(3+i), v.Shape().Dimensions...)))
			}
			exec, err := model.NewExec(b, store, func(scope *model.Scope, x, weights *graph.Node) []*graph.Node {
				output := c.fn(scope, x)
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
			require.InEpsilon(t, (above-below)/(2*step), slope, 1e-5, c.name)
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
	for c := range smallModelsInSpaces() {
		store := seededStore(1)
		first := call(t, backendtest.Go(t), store, c.fn, state(1, 1, c.grid))
		moved := model.NewStore()
		for v := range store.IterVariables() {
			value, err := v.MustValue().LocalClone()
			require.NoError(t, err)
			_, err = moved.CreateVariable(v.Path(), value)
			require.NoError(t, err)
		}
		require.Less(t, maxDifference(t, first, call(t, backendtest.XLA(t), moved, c.fn, state(1, 1, c.grid))), rounding, c.name)
	}
}

// In any number of dimensions, a shift along all axes by the coarsest cell or a patch commutes; one by less only with an FNO.
func TestModelsCommuteWithShiftsInAllDimensions(t *testing.T) {
	for c := range smallModelsInSpaces() {
		apart := func(cells int) float64 {
			moved := func(x *graph.Node) *graph.Node {
				for axis, size := range c.grid {
					last := graph.SliceAxis(x, 1+axis, graph.AxisRange(size-cells, size))
					x = graph.Concatenate([]*graph.Node{last, graph.SliceAxis(x, 1+axis, graph.AxisRange(0, size-cells))}, 1+axis)
				}
				return x
			}
			difference := call(t, backendtest.Go(t), seededStore(1), func(scope *model.Scope, x *graph.Node) *graph.Node {
				return graph.ReduceAllMax(graph.Abs(graph.Sub(c.fn(scope, moved(x)), moved(c.fn(scope, x)))))
			}, state(1, 1, c.grid))
			return difference.Value().(float64)
		}
		require.Less(t, apart(2), rounding, c.name)
		if c.model == "fno" {
			require.Less(t, apart(1), rounding, c.name)
		} else {
			require.Greater(t, apart(1), 1e-3, c.name)
		}
	}
}

// By default a model predicts the increment of the state; with Direct, the state itself.
func TestDirectLeavesTheInputOut(t *testing.T) {
	x := random(1, 1, 8, 8, 4)
	unet, vit, fno := models.TinyUNet(), models.TinyViT(), models.TinyFNO()
	directUNet, directViT, directFNO := unet, vit, fno
	directUNet.Direct, directViT.Direct, directFNO.Direct = true, true, true
	b := backendtest.Go(t)
	for _, pair := range [][2]models.Fn{{unet.Fn(), directUNet.Fn()}, {vit.Fn(), directViT.Fn()}, {fno.Fn(), directFNO.Fn()}} {
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
	withFNO := func(change func(*models.FNO)) models.FNO {
		c := models.TinyFNO()
		change(&c)
		return c
	}
	withViT := func(change func(*models.ViT)) models.ViT {
		c := models.TinyViT()
		change(&c)
		return c
	}
	for _, c := range []struct {
		config validator
		grid   []int
		want   string // empty: valid
	}{
		{models.TinyUNet(), []int{16, 32}, ""},
		{models.PaperUNet(), []int{128, 128}, ""},
		{models.TinyUNet(), []int{16, 18}, "models: unet: grid 16x18 is not a multiple of 4, which 3 widths need; use another grid or fewer widths"},
		{models.TinyUNet(), []int{0, 16}, "models: unet: grid 0x16 has an axis without cells; every axis needs some"},
		{models.UNet{}, []int{16, 16}, "models: unet: widths [], blocks 0, groups 0, heads 0; need at least one"},
		{with(func(c *models.UNet) { c.Groups = 3 }), []int{16, 16}, "models: unet: width 4 is not a positive multiple of the 3 groups"},
		{with(func(c *models.UNet) { c.Heads = 3 }), []int{16, 16}, "models: unet: 3 heads do not divide the last width 4"},
		{with(func(c *models.UNet) { c.Normalization.Scale = []float64{1, 1, 0, 1} }), []int{16, 16}, "models: normalization: scale 0; scales must be positive and finite"},
		{models.TinyViT(), []int{16, 32}, ""},
		{models.PaperViT(8), []int{128, 128}, ""},
		{models.TinyViT(), []int{16, 18}, "models: vit: patch 4 does not divide grid 16x18; use another patch or grid"},
		{models.ViT{}, []int{16, 16}, "models: vit: patch 0, width 0, layers 0, heads 0, expansion 0; all must be positive"},
		{withViT(func(c *models.ViT) { c.Heads = 3 }), []int{16, 16}, "models: vit: 3 heads do not divide width 16"},
		{models.TinyFNO(), []int{7, 16}, ""},
		{models.PaperFNO(), []int{128, 128}, ""},
		{models.TinyFNO(), []int{16, 6}, "models: fno: modes 4 do not fit grid 16x6: an axis of 6 cells has 3; use fewer modes or a finer grid"},
		{models.FNO{}, []int{16, 16}, "models: fno: width 0, modes 0, layers 0; width and layers must be positive, and modes at least 2"},
		{withFNO(func(c *models.FNO) { c.Modes = 1 }), []int{16, 16}, "models: fno: width 6, modes 1, layers 3; width and layers must be positive, and modes at least 2"},
		{withFNO(func(c *models.FNO) { c.Normalization.Scale = []float64{-1} }), []int{16, 16}, "models: normalization: scale -1"},
		// Other dimensions.
		{models.TinyUNet(), []int{12}, ""},
		{models.TinyUNet(), []int{8, 4, 12}, ""},
		{models.TinyUNet(), []int{18}, "models: unet: grid 18 is not a multiple of 4, which 3 widths need; use another grid or fewer widths"},
		{models.TinyUNet(), []int{16, 16, 6}, "models: unet: grid 16x16x6 is not a multiple of 4, which 3 widths need; use another grid or fewer widths"},
		{models.TinyViT(), []int{16, 16, 6}, "models: vit: patch 4 does not divide grid 16x16x6; use another patch or grid"},
		{models.TinyFNO(), []int{6}, "models: fno: modes 4 do not fit grid 6: an axis of 6 cells has 3; use fewer modes or a finer grid"},
		{models.TinyFNO(), nil, "models: fno: the grid has 0 space axes; give it one, two or three"},
		{models.TinyViT(), []int{4, 4, 4, 4}, "models: vit: the grid has 4 space axes; give it one, two or three"},
		{models.TinyUNet(), []int{4, 4, 0}, "models: unet: grid 4x4x0 has an axis without cells; every axis needs some"},
	} {
		err := c.config.Validate(c.grid...)
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
	require.ErrorContains(t, buildError(t, b, models.TinyFNO().Fn(), 1, 6, 16, 4), "modes 4 do not fit grid 6x16")
	require.ErrorContains(t, buildError(t, b, models.TinyUNet().Fn(), 1, 16, 16, 16, 16, 4), "models: unet: input must be [batch, space..., channel]")
	require.ErrorContains(t, buildError(t, b, models.TinyViT().Fn(), 16, 4), "models: vit: input must be [batch, space..., channel] of float32 or float64 with one to three space axes")
	normalized := models.TinyUNet()
	normalized.Normalization.Mean = []float64{1, 2}
	require.ErrorContains(t, buildError(t, b, normalized.Fn(), 1, 16, 16, 4), "models: normalization: 2 values for the 4 channels")
}
