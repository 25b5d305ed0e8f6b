package models

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

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

// convolveByLoops is the definition: out[j, i] = sum over the kernel of w[ky, kx] x[stride j + ky - k/2, ...] on the torus.
func convolveByLoops(x, w [][][][]float64, stride int) [][][][]float64 {
	height, width, kernel := len(x[0]), len(x[0][0]), len(w)
	out := make([][][][]float64, len(x))
	for n := range x {
		for j := 0; j < height; j += stride {
			var row [][]float64
			for i := 0; i < width; i += stride {
				cell := make([]float64, len(w[0][0][0]))
				for ky := range kernel {
					for kx := range kernel {
						source := x[n][(j+ky-kernel/2+height)%height][(i+kx-kernel/2+width)%width]
						for in := range source {
							for o := range cell {
								cell[o] += source[in] * w[ky][kx][in][o]
							}
						}
					}
				}
				row = append(row, cell)
			}
			out[n] = append(out[n], row)
		}
	}
	return out
}

func TestBothLoweringsAreTheCircularConvolution(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, c := range []struct{ height, width, kernel, stride int }{
			{4, 6, 3, 1}, {4, 6, 3, 2}, {6, 4, 5, 2}, {5, 5, 1, 1}, {4, 4, 1, 2}, {1, 2, 3, 1},
		} {
			x, w := normalTensor[float64](1, 2, c.height, c.width, 3), normalTensor[float64](2, c.kernel, c.kernel, 3, 5)
			want := tensors.FromValue(convolveByLoops(x.Value().([][][][]float64), w.Value().([][][][]float64), c.stride))
			for name, lower := range map[string]lowering{"product": convolveAsProduct, "stock": convolveStock} {
				got, err := graph.CallOnce(b, func(x, w *graph.Node) *graph.Node { return lower(x, w, c.stride) }, x, w)
				require.NoError(t, err)
				require.True(t, got.InDelta(want, 1e-12), "%s %+v", name, c)
			}
		}
	})
}

func TestBothLoweringsHaveTheSameGradient(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x, w := normalTensor[float64](1, 2, 6, 4, 3), normalTensor[float64](2, 3, 3, 3, 5)
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
				require.True(t, product[i].InDelta(stock[i], 1e-11), "stride %d, input %d", stride, i)
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
		x := normalTensor[float64](1, 2, 6, 9, 2)
		out, err := graph.CallOnceN(b, func(x *graph.Node) (patches, again *graph.Node) {
			patches = patchify(x, 3)
			return patches, unpatchify(patches, 3, grid{6, 9})
		}, x)
		require.NoError(t, err)
		require.Equal(t, x.Value(), out[1].Value())

		// Token 4 of 2x3 is the square in the second row of squares and the second column.
		state, token := x.Value().([][][][]float64), out[0].Value().([][][]float64)[1][4]
		for row := range 3 {
			for column := range 3 {
				require.Equal(t, state[1][3+row][3+column], token[2*(3*row+column):2*(3*row+column)+2])
			}
		}
	})
}

func TestDoubleGridRepeatsCells(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x := normalTensor[float64](1, 1, 2, 3, 2)
		out, err := graph.CallOnce(b, doubleGrid, x)
		require.NoError(t, err)
		state, doubled := x.Value().([][][][]float64), out.Value().([][][][]float64)
		for j := range 4 {
			for i := range 6 {
				require.Equal(t, state[0][j/2][i/2], doubled[0][j][i])
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
