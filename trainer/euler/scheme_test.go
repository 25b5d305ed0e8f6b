package euler

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

func TestAdvectedWaveIsSecondOrder(t *testing.T) {
	b, c := backendtest.Go(t), Default()
	c.Interval = 0.2
	// Constant velocity and pressure carry any density along unchanged.
	meanError := func(n int) float64 {
		wave := func(time float64) grid {
			mean := math.Pow(math.Sin(math.Pi/float64(n))/(math.Pi/float64(n)), 2) // over a cell, of its centre value
			return newGrid(n, n, func(x, y float64) [4]float64 {
				return [4]float64{1 + 0.2*mean*math.Sin(2*math.Pi*(x+y-1.5*time)), 1, 0.5, 1}
			})
		}
		end, exact := advance(t, b, c, wave(0))[0], wave(c.Interval)
		sum := 0.0
		for i := 0; i < len(end.values); i += Channels {
			sum += math.Abs(end.values[i] - exact.values[i])
		}
		return sum / float64(n*n)
	}
	coarse, fine := meanError(32), meanError(64)
	t.Logf("mean density error %.3g at 32x32, %.3g at 64x64: order %.2f", coarse, fine, math.Log2(coarse/fine))
	require.Greater(t, math.Log2(coarse/fine), 1.8)
	require.Less(t, fine, 1e-3)
}

// vortexOn is the isentropic vortex of Shu, on [0, size]^2 mapped to the unit square, after a time in units of the square:
// beta = 5, carried by the velocity (1, 0.5). It is periodic up to 1e-5 with size 10, and to rounding with 20.
func vortexOn(size float64, n int, time float64) grid {
	wrap := func(d float64) float64 { return size * (d - math.Round(d)) }
	return newGrid(n, n, func(x, y float64) [4]float64 {
		dx, dy := wrap(x-0.5-time), wrap(y-0.5-time/2)
		swirl := 5 / (2 * math.Pi) * math.Exp((1-dx*dx-dy*dy)/2)
		temperature := 1 - (gamma-1)/(2*gamma)*swirl*swirl
		return [4]float64{
			math.Pow(temperature, 1/(gamma-1)), 1 - swirl*dy, 0.5 + swirl*dx, math.Pow(temperature, gamma/(gamma-1)),
		}
	})
}

func TestIsentropicVortexIsSecondOrder(t *testing.T) {
	b, c := backendtest.Go(t), Default()
	c.Interval = 0.1
	meanError := func(n int) float64 {
		end, exact := advance(t, b, c, vortexOn(10, n, 0))[0], vortexOn(10, n, c.Interval)
		sum := 0.0
		for i := range end.values {
			sum += math.Abs(end.values[i] - exact.values[i])
		}
		return sum / float64(len(end.values))
	}
	coarse, fine := meanError(40), meanError(80)
	t.Logf("mean error %.3g at 40x40, %.3g at 80x80: order %.2f", coarse, fine, math.Log2(coarse/fine))
	require.Greater(t, math.Log2(coarse/fine), 1.7)
}

func TestConservation(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		start := drawn(t, CurvedRiemann, 16)
		end := advance(t, b, Default(), start)[0]
		for channel := range Channels {
			var before, after, size float64
			for i := channel; i < len(start.values); i += Channels {
				before, after = before+start.values[i], after+end.values[i]
				size += math.Abs(start.values[i])
			}
			require.InDelta(t, before, after, 1e-13*size, "channel %d", channel)
		}
	})
}

func TestUniformFlowStaysAsItIs(t *testing.T) {
	start := newGrid(8, 12, func(_, _ float64) [4]float64 { return [4]float64{1, 0.5, -0.25, 0.5} })
	require.Equal(t, start, advance(t, backendtest.Go(t), Default(), start)[0])
}

func TestSamplesAreIndependent(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		first, second := drawn(t, Riemann, 16), drawn(t, CurvedRiemann, 16)
		together := advanceTogether(t, b, Default(), first, second)
		require.Equal(t, advance(t, b, Default(), first)[0], together[0])
		require.Equal(t, advance(t, b, Default(), second)[0], together[1])
	})
}

func TestFailureTurnsOneSampleToNaN(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		good := drawn(t, Riemann, 16)
		for name, spoil := range map[string]func(u []float64){
			"pressure": func(u []float64) { u[energy] = 0.5 * (u[alongX]*u[alongX] + u[alongY]*u[alongY]) / u[density] * 0.9 },
			"density":  func(u []float64) { u[density] = -u[density] },
			"nan":      func(u []float64) { u[alongX] = math.NaN() },
		} {
			bad := good.mapped(16, 16, good.at)
			spoil(bad.at(5, 7))
			both := advanceTogether(t, b, Default(), bad, good)
			for _, value := range both[0].values {
				require.True(t, math.IsNaN(value), "%s: %g", name, value)
			}
			require.Equal(t, advance(t, b, Default(), good)[0], both[1], name)
		}
	})
}

func TestTooManyStepsTurnToNaN(t *testing.T) {
	c := Default()
	c.MaxSubsteps = 2
	end := advance(t, backendtest.Go(t), c, drawn(t, Riemann, 32))[0]
	require.True(t, math.IsNaN(end.values[0]))
}

// Reductions and scalars of the graph around it must not meet those of the solver's loop.
func TestAdvanceInsideALargerGraph(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		c := Default()
		start := drawn(t, Riemann, 8)
		in := tensors.FromFlatDataAndDimensions(start.values, 1, 8, 8, Channels)
		out, err := graph.CallOnceN(b, func(u *graph.Node) []*graph.Node {
			before := graph.ReduceAllMax(graph.MulScalar(u, 0.5))
			twice := c.Advance(graph.MulScalar(c.Advance(u), 1))
			return []*graph.Node{twice, before, graph.ReduceAllMin(graph.MaxScalar(twice, 0)), graph.ReduceAllMax(twice)}
		}, in)
		require.NoError(t, err)
		want := advance(t, b, c, advance(t, b, c, start)[0])[0].values
		require.InDeltaSlice(t, want, tensors.MustCopyFlatData[float64](out[0]), 1e-13)
	})
}

func TestSinglePrecisionFollowsDouble(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		c, start := Default(), drawn(t, Riemann, 16)
		in := tensors.FromFlatDataAndDimensions(start.values, 1, 16, 16, Channels)
		out, err := graph.CallOnce(b, func(u *graph.Node) *graph.Node {
			return graph.ConvertDType(c.Advance(graph.ConvertDType(u, dtypes.Float32)), dtypes.Float64)
		}, in)
		require.NoError(t, err)
		require.InDeltaSlice(t, advance(t, b, c, start)[0].values, tensors.MustCopyFlatData[float64](out), 1e-5)
	})
}

func TestAdvanceRefusesOtherShapes(t *testing.T) {
	for _, in := range []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(make([]float64, 60), 1, 4, 5, 3),
		tensors.FromFlatDataAndDimensions(make([]float64, 80), 4, 5, 4),
		tensors.FromFlatDataAndDimensions(make([]int32, 80), 1, 4, 5, 4),
	} {
		_, err := graph.CallOnce(backendtest.Go(t), Default().Advance, in)
		require.ErrorContains(t, err, "euler: a state is floating point [batch, y, x, 4]")
	}
}
