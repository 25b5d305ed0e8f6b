package models

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// layerOutput runs layer on x with the variables of store.
func layerOutput(t *testing.T, b compute.Backend, store *model.Store, x *tensors.Tensor, layer func(scope *model.Scope, x *graph.Node) *graph.Node) *tensors.Tensor {
	t.Helper()
	out, err := model.CallOnce(b, store, layer, x)
	require.NoError(t, err)
	return out
}

// setVariable gives a float64 variable random values, so that biases and gains are not at their neutral start.
func setVariable(t *testing.T, store *model.Store, path string, seed uint64, dimensions ...int) []float64 {
	t.Helper()
	value := normalTensor[float64](seed, dimensions...)
	flat := tensors.MustCopyFlatData[float64](value)
	_, err := store.CreateVariable(path, value)
	require.NoError(t, err)
	return flat
}

// standardized is (values - mean) / sqrt(variance + floor).
func standardized(values []float64) []float64 {
	mean, variance := 0.0, 0.0
	for _, value := range values {
		mean += value / float64(len(values))
	}
	for _, value := range values {
		variance += (value - mean) * (value - mean) / float64(len(values))
	}
	out := make([]float64, len(values))
	for i, value := range values {
		out[i] = (value - mean) / math.Sqrt(variance+varianceFloor)
	}
	return out
}

func TestGroupNormMatchesLoops(t *testing.T) {
	const batch, height, width, channels, groups = 2, 2, 3, 6, 2
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x, store := normalTensor[float64](1, batch, height, width, channels), model.NewStore()
		gain, bias := setVariable(t, store, "/gain", 2, channels), setVariable(t, store, "/bias", 3, channels)
		want := x.Value().([][][][]float64)
		for n := range want {
			for group := range groups {
				var values []float64
				var places []*float64
				var place []int
				for j := range height {
					for i := range width {
						for c := group * channels / groups; c < (group+1)*channels/groups; c++ {
							values = append(values, want[n][j][i][c])
							places = append(places, &want[n][j][i][c])
							place = append(place, c)
						}
					}
				}
				for k, value := range standardized(values) {
					*places[k] = value*gain[place[k]] + bias[place[k]]
				}
			}
		}
		got := layerOutput(t, b, store, x, func(scope *model.Scope, x *graph.Node) *graph.Node { return groupNorm(scope, x, groups) })
		require.True(t, got.InDelta(tensors.FromValue(want), 1e-12))
	})
}

func TestLayerNormMatchesLoops(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x, store := normalTensor[float64](1, 2, 3, 5), model.NewStore()
		gain, bias := setVariable(t, store, "/gain", 2, 5), setVariable(t, store, "/bias", 3, 5)
		want := x.Value().([][][]float64)
		for n := range want {
			for token := range want[n] {
				for c, value := range standardized(want[n][token]) {
					want[n][token][c] = value*gain[c] + bias[c]
				}
			}
		}
		require.True(t, layerOutput(t, b, store, x, layerNorm).InDelta(tensors.FromValue(want), 1e-12))
	})
}

func TestSelfAttentionMatchesLoops(t *testing.T) {
	const batch, tokens, channels, heads = 2, 3, 4, 2
	const perHead = channels / heads
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x, store := normalTensor[float64](1, batch, tokens, channels), model.NewStore()
		weights := setVariable(t, store, "/query_key_value/weights", 2, channels, 3*channels)
		biases := setVariable(t, store, "/query_key_value/biases", 3, 3*channels)
		outWeights := setVariable(t, store, "/output/weights", 4, channels, channels)
		outBiases := setVariable(t, store, "/output/biases", 5, channels)

		linear := func(x, weights, biases []float64) []float64 {
			out := make([]float64, len(biases))
			copy(out, biases)
			for i := range x {
				for o := range out {
					out[o] += x[i] * weights[i*len(biases)+o]
				}
			}
			return out
		}
		want := x.Value().([][][]float64)
		for n := range want {
			var projected [][]float64 // per token: queries, keys, values of all heads
			for token := range tokens {
				projected = append(projected, linear(want[n][token], weights, biases))
			}
			for to := range tokens {
				mixed := make([]float64, channels)
				for head := range heads {
					query := projected[to][head*perHead : (head+1)*perHead]
					var attention [tokens]float64
					total := 0.0
					for from := range tokens {
						score := 0.0
						for c := range perHead {
							score += query[c] * projected[from][channels+head*perHead+c]
						}
						attention[from] = math.Exp(score / math.Sqrt(perHead))
						total += attention[from]
					}
					for from := range tokens {
						for c := range perHead {
							mixed[head*perHead+c] += attention[from] / total * projected[from][2*channels+head*perHead+c]
						}
					}
				}
				want[n][to] = linear(mixed, outWeights, outBiases)
			}
		}
		got := layerOutput(t, b, store, x, func(scope *model.Scope, x *graph.Node) *graph.Node { return selfAttention(scope, x, heads) })
		require.True(t, got.InDelta(tensors.FromValue(want), 1e-12))
	})
}

func TestActivations(t *testing.T) {
	points := []float64{-30, -2, -0.5, 0, 0.5, 2, 30}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		out, err := graph.CallOnceN(b, func(x *graph.Node) (s, g *graph.Node) { return silu(x), gelu(x) }, points)
		require.NoError(t, err)
		for i, x := range points {
			require.InDelta(t, x/(1+math.Exp(-x)), out[0].Value().([]float64)[i], 1e-12)
			require.InDelta(t, x*math.Erfc(-x/math.Sqrt2)/2, out[1].Value().([]float64)[i], 1e-12)
		}
	})
}

func TestSoftmaxOfLargeValuesIsFinite(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		out, err := graph.CallOnce(b, softmax, [][]float32{{1000, 1000}, {-1000, 0}})
		require.NoError(t, err)
		require.Equal(t, [][]float32{{0.5, 0.5}, {0, 1}}, out.Value())
	})
}

// With its last map at zero, a residual block is the identity, so a whole ViT is a map of each patch.
func TestTransformerBlocksAreResidual(t *testing.T) {
	c := ViT{Patch: 2, Width: 6, Layers: 2, Heads: 2, Expansion: 2}
	b, x, store := backendtest.Go(t), normalTensor[float64](1, 1, 4, 4, 4), model.NewStore()
	for _, path := range []string{"block_0/attention/output", "block_1/attention/output", "block_0/contract", "block_1/contract"} {
		inputs := 6
		if path[8:] == "contract" {
			inputs = 12
		}
		_, err := store.CreateVariable("/vit/"+path+"/weights", tensors.FromScalarAndDimensions(0.0, inputs, 6))
		require.NoError(t, err)
	}
	got := layerOutput(t, b, store, x, c.Fn())
	want := layerOutput(t, b, store, x, func(scope *model.Scope, x *graph.Node) *graph.Node {
		scope = scope.At("vit")
		tokens := dense(scope.In("input"), patchify(x, 2), 6, 1)
		place := variable(scope.In("position"), tokens, "embedding", constant(0), 4, 6)
		tokens = graph.Add(tokens, graph.InsertAxes(place, 0))
		tokens = dense(scope.In("output"), layerNorm(scope.At("output").In("norm"), tokens), 16, 1)
		return graph.Add(x, unpatchify(tokens, 2, grid{4, 4}))
	})
	require.True(t, got.InDelta(want, 1e-12))
	require.False(t, got.InDelta(x, 1e-3))
}

func TestConvolutionBlocksAreResidual(t *testing.T) {
	c := UNet{Groups: 2}
	b, x := backendtest.Go(t), normalTensor[float64](1, 1, 4, 4, 4)
	for _, width := range []int{4, 6} {
		store := model.NewStore()
		_, err := store.CreateVariable("/conv_1/weights", tensors.FromScalarAndDimensions(0.0, 3, 3, width, width))
		require.NoError(t, err)
		got := layerOutput(t, b, store, x, func(scope *model.Scope, x *graph.Node) *graph.Node { return c.residual(scope, x, width) })
		want := x
		if width != 4 {
			want = layerOutput(t, b, store, x, func(scope *model.Scope, x *graph.Node) *graph.Node {
				return Conv(scope.In("shortcut"), x, width, 1, 1)
			})
		}
		require.True(t, got.InDelta(want, 1e-12), "width %d", width)
	}
}

func TestAttentionOfUNetIsResidual(t *testing.T) {
	c := UNet{Groups: 2, Heads: 2}
	x, store := normalTensor[float64](1, 1, 4, 4, 4), model.NewStore()
	_, err := store.CreateVariable("/output/weights", tensors.FromScalarAndDimensions(0.0, 4, 4))
	require.NoError(t, err)
	require.True(t, layerOutput(t, backendtest.Go(t), store, x, c.attention).Equal(x))
}

func TestVariablesOfDifferentPathsDiffer(t *testing.T) {
	store := model.NewStore()
	store.RootScope().SetParam(model.ParamInitialSeed, int64(1))
	layerOutput(t, backendtest.Go(t), store, normalTensor[float64](1, 1, 2, 2, 4), func(scope *model.Scope, x *graph.Node) *graph.Node {
		return Conv(scope.In("second"), Conv(scope.In("first"), x, 4, 3, 1), 4, 3, 1)
	})
	first, second := store.GetVariable("/first/weights"), store.GetVariable("/second/weights")
	require.Equal(t, dtypes.Float64, first.DType())
	require.False(t, first.MustValue().Equal(second.MustValue()))
}
