package models

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat"

	"github.com/symaudit/symaudit/internal/backendtest"
)

type lowering = func(x, weights *graph.Node, stride int) *graph.Node

func normalTensor[T float32 | float64](seed uint64, dimensions ...int) *tensors.Tensor {
	source := rand.New(rand.NewPCG(seed, 0))
	size := 1
	for _, dimension := range dimensions {
		size *= dimension
	}
	values := make([]T, size)
	for i := range values {
		values[i] = T(source.NormFloat64())
	}
	return tensors.FromFlatDataAndDimensions(values, dimensions...)
}

// convolveByLoops is the definition, on a torus: out[j] = sum over offsets k of w[k] x[stride j + k - kernel/2].
func convolveByLoops(x, w *tensors.Tensor, g grid, stride int) *tensors.Tensor {
	values, weights := tensors.MustCopyFlatData[float64](x), tensors.MustCopyFlatData[float64](w)
	batch, kernel := x.Shape().Dimensions[0], w.Shape().Dimensions[0]
	inputs, outputs := w.Shape().Dimensions[len(g)], w.Shape().Dimensions[len(g)+1]
	coarse := make(grid, len(g))
	for axis, size := range g {
		coarse[axis] = size / stride
	}
	var out []float64
	for n := range batch {
		for _, j := range vectors(repeated(0, len(g)), coarse) {
			cell := make([]float64, outputs)
			for place, k := range vectors(repeated(0, len(g)), repeated(kernel, len(g))) {
				source := n
				for axis, size := range g {
					source = source*size + (stride*j[axis]+k[axis]-kernel/2+size)%size
				}
				for in := range inputs {
					for o := range outputs {
						cell[o] += values[source*inputs+in] * weights[(place*inputs+in)*outputs+o]
					}
				}
			}
			out = append(out, cell...)
		}
	}
	return tensors.FromFlatDataAndDimensions(out, slices.Concat([]int{batch}, coarse, []int{outputs})...)
}

// operands are a batch on a grid and a kernel.
func operands(g grid, kernel int) (x, w *tensors.Tensor) {
	return normalTensor[float64](1, slices.Concat([]int{2}, g, []int{3})...),
		normalTensor[float64](2, append(repeated(kernel, len(g)), 3, 5)...)
}

func TestBothLoweringsAreTheCircularConvolution(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, c := range []struct {
			grid           grid
			kernel, stride int
		}{
			{grid{4, 6}, 3, 1}, {grid{4, 6}, 3, 2}, {grid{6, 4}, 5, 2}, {grid{5, 5}, 1, 1}, {grid{4, 4}, 1, 2}, {grid{1, 2}, 3, 1},
			{grid{6}, 3, 1}, {grid{6}, 5, 2}, {grid{4, 2, 6}, 3, 1}, {grid{4, 2, 6}, 3, 2},
		} {
			x, w := operands(c.grid, c.kernel)
			want := convolveByLoops(x, w, c.grid, c.stride)
			for name, lower := range map[string]lowering{"product": convolveAsProduct, "stock": convolveStock} {
				got, err := graph.CallOnce(b, func(x, w *graph.Node) *graph.Node { return lower(x, w, c.stride) }, x, w)
				require.NoError(t, err)
				require.True(t, got.InDelta(want, 1e-12), "%s %+v", name, c)
			}
		}
	})
}

// One lowering is slices and a product, so that both gradients are right if they are the same.
func TestBothLoweringsHaveTheSameGradient(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, g := range []grid{{6}, {6, 4}, {4, 2, 6}} {
			x, w := operands(g, 3)
			for _, stride := range []int{1, 2} {
				gradients := func(lower lowering) []*tensors.Tensor {
					out, err := graph.CallOnceN(b, func(x, w *graph.Node) []*graph.Node {
						return graph.Gradient(graph.ReduceAllSum(graph.Sin(lower(x, w, stride))), x, w)
					}, x, w)
					require.NoError(t, err)
					return out
				}
				product, stock := gradients(convolveAsProduct), gradients(convolveStock)
				for i := range product {
					require.True(t, product[i].InDelta(stock[i], 1e-11), "grid %s, stride %d, input %d", g, stride, i)
				}
			}
		}
	})
}

func TestConvIsLoweredByBackend(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		var stock int
		_, err := model.CallOnce(b, model.NewStore(), func(scope *model.Scope, x *graph.Node) *graph.Node {
			y := Conv(scope, x, 2, 3, 1)
			for _, node := range x.Graph().Nodes() {
				if node.Type() == graph.NodeTypeConvGeneral {
					stock++
				}
			}
			return y
		}, normalTensor[float64](1, 1, 4, 6, 3))
		require.NoError(t, err)
		require.Equal(t, b.Name() == "xla", stock == 1, "%d stock convolutions", stock)
	})
}

// Weights begin with the deviation of He et al., whatever the dimension.
func TestInitialWeightsOfConv(t *testing.T) {
	const inputs, outputs = 8, 64
	for _, g := range []grid{{4}, {4, 4}, {4, 4, 4}} {
		store := model.NewStore()
		store.RootScope().SetParam(model.ParamInitialSeed, int64(1))
		layerOutput(t, backendtest.Go(t), store, normalTensor[float64](1, slices.Concat([]int{1}, []int(g), []int{inputs})...),
			func(scope *model.Scope, x *graph.Node) *graph.Node { return Conv(scope, x, outputs, 3, 1) })
		weights := store.GetVariable("/weights")
		require.Equal(t, append(repeated(3, len(g)), inputs, outputs), weights.Shape().Dimensions)
		want := math.Sqrt(2 / (inputs * math.Pow(3, float64(len(g)))))
		require.InEpsilon(t, want, stat.StdDev(tensors.MustCopyFlatData[float64](weights.MustValue()), nil), 0.05, g)
	}
}

func TestConvRefuses(t *testing.T) {
	b := backendtest.Go(t)
	for _, c := range []struct {
		kernel, stride int
		want           string
	}{
		{2, 1, `models: convolution in "/": kernel 2 is not odd and positive; GoMLX's gradient of an even kernel is wrong, use 1, 3 or 5`},
		{0, 1, `models: convolution in "/": kernel 0 is not odd`},
		{3, 3, `models: convolution in "/": stride 3 does not divide the grid 4x6`},
		{3, 0, `models: convolution in "/": stride 0 does not divide the grid 4x6`},
		{11, 1, `models: convolution in "/": kernel 11 is too large for the grid 4x6`},
	} {
		_, err := model.CallOnce(b, model.NewStore(), func(scope *model.Scope, x *graph.Node) *graph.Node {
			return Conv(scope, x, 2, c.kernel, c.stride)
		}, normalTensor[float64](1, 1, 4, 6, 3))
		require.ErrorContains(t, err, c.want)
	}
}

func TestPatchesReturnToTheirPlace(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, g := range []grid{{6}, {6, 9}, {3, 6, 9}} {
			const channels = 2
			x := normalTensor[float64](1, slices.Concat([]int{2}, g, []int{channels})...)
			out, err := graph.CallOnceN(b, func(x *graph.Node) (patches, again *graph.Node) {
				patches = patchify(x, 3)
				return patches, unpatchify(patches, 3, g)
			}, x)
			require.NoError(t, err)
			require.Equal(t, x.Value(), out[1].Value())

			// Tokens are in the order of their cubes, and the values of each in that of its cells; the second sample's are looked at.
			values, tokens := tensors.MustCopyFlatData[float64](x), tensors.MustCopyFlatData[float64](out[0])
			values, tokens = values[len(values)/2:], tokens[len(tokens)/2:]
			cubes := make(grid, len(g))
			for axis, size := range g {
				cubes[axis] = size / 3
			}
			for _, cube := range vectors(repeated(0, len(g)), cubes) {
				for _, within := range vectors(repeated(0, len(g)), repeated(3, len(g))) {
					cell := 0
					for axis, size := range g {
						cell = cell*size + 3*cube[axis] + within[axis]
					}
					require.Equal(t, values[channels*cell:channels*cell+channels], tokens[:channels], "cell %v of cube %v of %s", within, cube, g)
					tokens = tokens[channels:]
				}
			}
		}
	})
}

func TestDoubleGridRepeatsCells(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, g := range []grid{{3}, {2, 3}, {2, 3, 1}} {
			const channels = 2
			x := normalTensor[float64](1, slices.Concat([]int{1}, g, []int{channels})...)
			out, err := graph.CallOnce(b, doubleGrid, x)
			require.NoError(t, err)
			fine := make(grid, len(g))
			for axis, size := range g {
				fine[axis] = 2 * size
			}
			require.Equal(t, slices.Concat([]int{1}, []int(fine), []int{channels}), out.Shape().Dimensions)
			state, doubled := tensors.MustCopyFlatData[float64](x), tensors.MustCopyFlatData[float64](out)
			for i, place := range vectors(repeated(0, len(g)), fine) {
				cell := 0
				for axis, size := range g {
					cell = cell*size + place[axis]/2
				}
				require.Equal(t, state[channels*cell:channels*cell+channels], doubled[channels*i:channels*i+channels])
			}
		}
	})
}

// BenchmarkConv compares the two lowerings on each backend, forward and with both gradients.
func BenchmarkConv(b *testing.B) {
	for name, backend := range map[string]compute.Backend{"go": backendtest.Go(b), "xla": backendtest.XLA(b)} {
		for _, size := range []struct{ grid, channels int }{{16, 4}, {32, 24}, {16, 96}} {
			x := normalTensor[float32](1, 4, size.grid, size.grid, size.channels)
			w := normalTensor[float32](2, 3, 3, size.channels, size.channels)
			for lowered, lower := range map[string]lowering{"product": convolveAsProduct, "stock": convolveStock} {
				b.Run(fmt.Sprintf("%s/%dx%dx%d/%s", name, size.grid, size.grid, size.channels, lowered), func(b *testing.B) {
					exec, err := graph.NewExec(backend, func(x, w *graph.Node) []*graph.Node {
						y := lower(x, w, 1)
						return graph.Gradient(graph.ReduceAllSum(graph.Mul(y, y)), x, w)
					})
					require.NoError(b, err)
					defer exec.Finalize()
					for b.Loop() {
						out, err := exec.Call(x, w)
						require.NoError(b, err)
						for _, tensor := range out {
							require.NoError(b, tensor.FinalizeAll())
						}
					}
				})
			}
		}
	}
}
