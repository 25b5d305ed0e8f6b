package models

import (
	"fmt"
	"math"
	"math/cmplx"
	"slices"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/solver/network/forward"
)

// vectors lists all integer vectors with low[i] <= v[i] < high[i], the last component running fastest.
func vectors(low, high []int) (all [][]int) {
	all = [][]int{nil}
	for axis := range low {
		var longer [][]int
		for _, v := range all {
			for i := low[axis]; i < high[axis]; i++ {
				longer = append(longer, append(slices.Clone(v), i))
			}
		}
		all = longer
	}
	return all
}

func repeated(value, count int) []int { return slices.Repeat([]int{value}, count) }

// wave is exp(i k x), in cells x of a grid.
func wave(k []int, x []float64, g grid) complex128 {
	turns := 0.0
	for axis, size := range g {
		turns += float64(k[axis]) * x[axis] / float64(size)
	}
	return cmplx.Exp(complex(0, 2*math.Pi*turns))
}

func position(cell []int) []float64 {
	x := make([]float64, len(cell))
	for axis, i := range cell {
		x[axis] = float64(i)
	}
	return x
}

// halfOfModes lists one of each k and -k as spectral's variables order them.
func halfOfModes(axes, modes int) (half [][]int) {
	for _, k := range vectors(repeated(1-modes, axes), repeated(modes, axes)) {
		slices.Reverse(k) // the last axis counts first
		for axis := axes - 1; axis >= 0; axis-- {
			if k[axis] != 0 || axis == 0 {
				if k[axis] >= 0 {
					half = append(half, k)
				}
				break
			}
		}
	}
	return half
}

// spectralByDFT is the definition: the sum over all kept k of W(k) X(k) exp(i k x) with X(k) the mean of x exp(-i k x), and
// W(-k) = conj W(k). States are [cell][channel].
func spectralByDFT(states [][]float64, re, im [][][]float64, g grid, modes int) [][]float64 {
	cells := vectors(repeated(0, len(g)), g)
	channels := len(states[0])
	out := make([][]float64, len(cells))
	for i := range out {
		out[i] = make([]float64, channels)
	}
	for mode, k := range halfOfModes(len(g), modes) {
		amplitude := make([]complex128, channels)
		for i, cell := range cells {
			for c := range channels {
				amplitude[c] += complex(states[i][c]/float64(len(cells)), 0) * cmplx.Conj(wave(k, position(cell), g))
			}
		}
		count := 2.0 // k and -k
		if mode == 0 {
			count = 1
		}
		for i, cell := range cells {
			for from := range channels {
				for to := range channels {
					weight := complex(re[mode][from][to], 0)
					if mode > 0 {
						weight = complex(re[mode][from][to], im[mode-1][from][to])
					}
					out[i][to] += count * real(weight*amplitude[from]*wave(k, position(cell), g))
				}
			}
		}
	}
	return out
}

// spectralGrids have odd and even sizes; along one the modes are as many as it has.
var spectralGrids = []struct {
	grid  grid
	modes int
}{{grid{8}, 4}, {grid{5, 8}, 3}, {grid{6, 4}, 2}, {grid{3, 4, 5}, 2}}

func TestSpectralLayerIsTheDFT(t *testing.T) {
	const batch, channels = 2, 3
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, c := range spectralGrids {
			count := len(halfOfModes(len(c.grid), c.modes))
			store := model.NewStore()
			setVariable(t, store, "/real", 2, count, channels, channels)
			setVariable(t, store, "/imaginary", 3, count-1, channels, channels)
			re := store.GetVariable("/real").MustValue().Value().([][][]float64)
			im := store.GetVariable("/imaginary").MustValue().Value().([][][]float64)
			x := normalTensor[float64](1, slices.Concat([]int{batch}, c.grid, []int{channels})...)
			got := layerOutput(t, b, store, x, func(scope *model.Scope, x *graph.Node) *graph.Node { return spectral(scope, x, c.modes) })
			values, results := tensors.MustCopyFlatData[float64](x), tensors.MustCopyFlatData[float64](got)
			for sample := range slices.Chunk(values, len(values)/batch) {
				states := slices.Collect(slices.Chunk(sample, channels))
				want := slices.Concat(spectralByDFT(states, re, im, c.grid, c.modes)...)
				require.InDeltaSlice(t, want, results[:len(want)], 1e-13, "%+v", c)
				results = results[len(want):]
			}
		}
	})
}

// A state whose cells are samples of its Fourier series can be shifted by any fraction of a cell.
func TestSpectralLayerCommutesWithAnyShift(t *testing.T) {
	const channels = 2
	shift := []float64{0.3, -1.25, 2.6}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, c := range spectralGrids {
			store := model.NewStore()
			store.RootScope().SetParam(model.ParamInitialSeed, int64(1))
			dimensions := slices.Concat([]int{1}, c.grid, []int{channels})
			layer := func(values []float64) []float64 {
				x := tensors.FromFlatDataAndDimensions(values, dimensions...)
				y := layerOutput(t, b, store, x, func(scope *model.Scope, x *graph.Node) *graph.Node { return spectral(scope, x, c.modes) })
				return tensors.MustCopyFlatData[float64](y)
			}
			x := tensors.MustCopyFlatData[float64](normalTensor[float64](1, dimensions...))
			still := layer(shifted(x, make([]float64, 3), c.grid, channels))
			moved := layer(shifted(x, shift, c.grid, channels))
			require.InDeltaSlice(t, shifted(still, shift, c.grid, channels), moved, 1e-13, "%+v", c)
			require.Greater(t, floats.Distance(still, moved, math.Inf(1)), 0.1)
		}
	})
}

// shifted moves a state [cell, channel] by its Fourier series without the mode that changes its sign from cell to cell.
func shifted(values, shift []float64, g grid, channels int) []float64 {
	cells := vectors(repeated(0, len(g)), g)
	var low, high []int
	for _, size := range g {
		low, high = append(low, -(size-1)/2), append(high, (size-1)/2+1)
	}
	out := make([]float64, len(values))
	for _, k := range vectors(low, high) {
		for channel := range channels {
			var amplitude complex128
			for i, cell := range cells {
				amplitude += complex(values[i*channels+channel]/float64(len(cells)), 0) * cmplx.Conj(wave(k, position(cell), g))
			}
			for i, cell := range cells {
				x := position(cell)
				for axis := range x {
					x[axis] -= shift[axis]
				}
				out[i*channels+channel] += real(amplitude * wave(k, x, g))
			}
		}
	}
	return out
}

// BenchmarkSpectral compares the layer of PaperFNO on 128x128 with one by XLA's FFT, forward and with both gradients.
func BenchmarkSpectral(b *testing.B) {
	c := PaperFNO()
	forward.CorrectComplexGradients() // for the FFT's
	for name, layer := range map[string]Fn{
		"products": func(scope *model.Scope, x *graph.Node) *graph.Node { return spectral(scope, x, c.Modes) },
		"fft":      func(scope *model.Scope, x *graph.Node) *graph.Node { return spectralByFFT(scope, x, c.Modes) },
	} {
		for _, gradients := range []bool{false, true} {
			for on, backend := range map[string]compute.Backend{"go": backendtest.Go(b), "xla": backendtest.XLA(b)} {
				if name == "fft" && on == "go" {
					continue // it has none
				}
				b.Run(fmt.Sprintf("%s/gradients=%v/%s", name, gradients, on), func(b *testing.B) {
					x, store := normalTensor[float32](1, 4, 128, 128, c.Width), model.NewStore()
					exec, err := model.NewExec(backend, store, func(scope *model.Scope, x *graph.Node) []*graph.Node {
						y := layer(scope, x)
						if !gradients {
							return []*graph.Node{y}
						}
						re, im := store.GetVariable("/real").NodeValue(x), store.GetVariable("/imaginary").NodeValue(x)
						return graph.Gradient(graph.ReduceAllSum(graph.Mul(y, y)), x, re, im)
					})
					require.NoError(b, err)
					defer exec.Finalize()
					shortest := time.Duration(math.MaxInt64) // what else the machine does only ever adds
					for b.Loop() {
						start := time.Now()
						out, err := exec.Call(x)
						require.NoError(b, err)
						for _, tensor := range out {
							require.NoError(b, tensor.FinalizeAll())
						}
						shortest = min(shortest, time.Since(start))
					}
					b.ReportMetric(float64(shortest.Microseconds())/1e3, "shortest-ms")
				})
			}
		}
	}
}

// spectralByFFT is a layer in two dimensions as it is usually written, with a weight for each k and -k along the first axis.
func spectralByFFT(scope *model.Scope, x *graph.Node, modes int) *graph.Node {
	g, width := gridOf(x), channelsOf(x)
	f := graph.RealFFT(graph.TransposeAllAxes(x, 0, 3, 1, 2), g...)
	all := graph.AxisRange()
	low := graph.Concatenate([]*graph.Node{
		graph.Slice(f, all, all, graph.AxisRange(0, modes), graph.AxisRange(0, modes)),
		graph.Slice(f, all, all, graph.AxisRange(g[0]-modes+1, g[0]), graph.AxisRange(0, modes)),
	}, 2)
	weights := func(name string) *graph.Node {
		return variable(scope, x, name, normal(0.1), 2*modes-1, modes, width, width)
	}
	low = graph.Einsum("bckl,klcd->bdkl", low, graph.Complex(weights("real"), weights("imaginary")))
	zeros := func(rows, columns int) *graph.Node {
		return graph.Zeros(x.Graph(), shapes.Make(f.DType(), f.Shape().Dimensions[0], width, rows, columns))
	}
	f = graph.Concatenate([]*graph.Node{
		graph.Slice(low, all, all, graph.AxisRange(0, modes)), zeros(g[0]-2*modes+1, modes), graph.Slice(low, all, all, graph.AxisRangeToEnd(modes)),
	}, 2)
	f = graph.Concatenate([]*graph.Node{f, zeros(g[0], g[1]/2+1-modes)}, 3)
	return graph.TransposeAllAxes(graph.InverseRealFFT(f, g...), 0, 2, 3, 1)
}
