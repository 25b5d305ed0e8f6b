package euler

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// small is a quick configuration.
func small() Config {
	c := Default()
	c.Resolution, c.Snapshots, c.Interval = 8, 3, 0.02
	return c
}

func generate(t *testing.T, b compute.Backend, c Config, family Family, count int, seed int64) []float32 {
	t.Helper()
	out, err := Generate(t.Context(), b, c, string(family), count, seed, nil)
	require.NoError(t, err)
	require.Equal(t, []int{count, c.Snapshots, c.Resolution, c.Resolution, Channels}, out.Shape().Dimensions)
	return tensors.MustCopyFlatData[float32](out)
}

func TestGenerateAdvancesEachSnapshot(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		c := small()
		c.Refinement = 1
		flat := generate(t, b, c, CurvedRiemann, 1, 1)
		state := drawn(t, CurvedRiemann, 8)
		for snapshot := range c.Snapshots {
			for i, value := range state.values {
				require.InDelta(t, value, flat[snapshot*len(state.values)+i], 1e-6, "snapshot %d", snapshot)
			}
			state = advance(t, b, c, state)[0]
		}
	})
}

func TestGenerateAveragesBlocks(t *testing.T) {
	c := small()
	c.Refinement = 3
	flat := generate(t, backendtest.Go(t), c, CurvedRiemann, 1, 1)
	fine := drawn(t, CurvedRiemann, 24)
	for j := range 8 {
		for i := range 8 {
			for channel := range Channels {
				mean := 0.0
				for dj := range 3 {
					for di := range 3 {
						mean += fine.at(3*j+dj, 3*i+di)[channel] / 9
					}
				}
				require.InDelta(t, mean, flat[(j*8+i)*Channels+channel], 1e-6)
			}
		}
	}
}

func TestTrajectoriesDependOnNothingElse(t *testing.T) {
	b, c := backendtest.Go(t), small()
	five := generate(t, b, c, PerturbedRiemann, 5, 3)
	size := len(five) / 5

	require.Equal(t, five[:2*size], generate(t, b, c, PerturbedRiemann, 2, 3), "count")
	for _, together := range []int{2, 3, 9} {
		c.Trajectories = together
		require.Equal(t, five, generate(t, b, c, PerturbedRiemann, 5, 3), "%d together", together)
	}
	c.Workers = 1
	require.Equal(t, five, generate(t, b, c, PerturbedRiemann, 5, 3), "workers")

	require.NotEqual(t, five[:size], five[size:2*size])
	require.NotEqual(t, five, generate(t, b, c, PerturbedRiemann, 5, 4), "another seed")
	require.NotEqual(t, five, generate(t, b, c, CurvedRiemann, 5, 3), "another family")
}

func TestInitialStatesStayInTheirRanges(t *testing.T) {
	for _, family := range Families() {
		initial, err := Default().initialState(family)
		require.NoError(t, err)
		lowest, highest, sum, squares := [4]float64{}, [4]float64{}, [4]float64{}, [4]float64{}
		for i := range lowest {
			lowest[i], highest[i] = math.Inf(1), math.Inf(-1)
		}
		const draws = 400
		for i := range draws {
			value := initial.draw(generator(5, family, i)).at(0.3, 0.8)
			for k, v := range value {
				lowest[k], highest[k] = min(lowest[k], v), max(highest[k], v)
				sum[k] += v / draws
				squares[k] += v * v / draws
			}
		}
		for k, r := range []Range{initial.Density, initial.Velocity, initial.Velocity, initial.Pressure} {
			width := r[1] - r[0]
			require.GreaterOrEqual(t, lowest[k], r[0])
			require.LessOrEqual(t, highest[k], r[1])
			require.InDelta(t, r[0], lowest[k], 0.03*width, "%s: variable %d reaches down", family, k)
			require.InDelta(t, r[1], highest[k], 0.03*width, "%s: variable %d reaches up", family, k)
			require.InDelta(t, (r[0]+r[1])/2, sum[k], 5*width/math.Sqrt(12*draws), "%s: variable %d, mean", family, k)
			require.InEpsilon(t, width*width/12, squares[k]-sum[k]*sum[k], 0.2, "%s: variable %d, variance", family, k)
		}
	}
}

func TestShapesOfTheFamilies(t *testing.T) {
	const n = 64
	different := func(g grid) (cells int) {
		seen := map[[4]float64]bool{}
		for j := range n {
			for i := range n {
				seen[[4]float64(g.at(j, i))] = true
			}
		}
		return len(seen)
	}
	quadrants := drawn(t, Riemann, n)
	require.Equal(t, 4, different(quadrants))
	require.Equal(t, quadrants.at(0, 0), quadrants.at(n/2-1, n/2-1))
	require.NotEqual(t, quadrants.at(0, 0), quadrants.at(0, n/2))
	require.NotEqual(t, quadrants.at(0, 0), quadrants.at(n/2, 0))
	require.Equal(t, 16, different(drawn(t, CurvedRiemann, n)))

	rippled := drawn(t, PerturbedRiemann, n)
	require.Equal(t, 4, different(rippled))
	straight := patches{cells: 2, values: Default().PerturbedRiemann.draw(generator(1, PerturbedRiemann, 0)).values}
	plain := grid{n, n, make([]float64, n*n*Channels)}
	straight.fill(plain.values, n, gamma)
	moved := 0
	for i := 0; i < len(plain.values); i += Channels {
		if plain.values[i] != rippled.values[i] {
			moved++
		}
	}
	require.Positive(t, moved)
	require.Less(t, moved, n*n/5, "ripples stay near the borders")
}

func TestRipplesFollowTheirFormula(t *testing.T) {
	initial := InitialState{Cells: 1, Modes: 3, ModeOffset: 8, Amplitude: 0.2}
	ripple := initial.drawRipple(generator(1, PerturbedRiemann, 0))
	require.Len(t, ripple, 9)
	const x, y = 0.37, 0.81
	sum, phases := 0.0, map[float64]bool{}
	for i := range 3 {
		for j := range 3 {
			s := ripple[3*i+j]
			require.LessOrEqual(t, math.Abs(s.amplitude), 0.2)
			require.True(t, s.phase >= 0 && s.phase < 1)
			phases[s.phase] = true
			sum += s.amplitude * math.Sin(2*math.Pi*(float64(i+9)*x+float64(j+9)*y)+s.phase)
		}
	}
	require.Len(t, phases, 9)
	require.InDelta(t, sum, ripple.at(x, y), 1e-14)
	require.InDelta(t, ripple.at(x, y), ripple.at(x+1, y-2), 1e-12, "periodic")
}

func TestLostPositivityIsLoud(t *testing.T) {
	c := small()
	c.Riemann.Velocity = Range{-100, 100}
	c.Riemann.Pressure = Range{1e-9, 1e-9}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		_, err := Generate(t.Context(), b, c, "riemann", 2, 1, nil)
		require.ErrorContains(t, err, "euler: family riemann, trajectory ")
		require.ErrorContains(t, err, "density or pressure stopped being positive; lower cfl (0.4)")
	})
}

func TestTooManyStepsAreLoud(t *testing.T) {
	c := small()
	c.MaxSubsteps, c.Interval = 1, 0.1
	_, err := Generate(t.Context(), backendtest.Go(t), c, "riemann", 1, 9, nil)
	require.ErrorContains(t, err, "euler: family riemann, trajectory 0, snapshot 1 (seed 9): time ")
	require.ErrorContains(t, err, "raise max_substeps")
}

// Trajectories are the same whichever are asked for beside them, and each is kept once.
func TestStreamOfSome(t *testing.T) {
	b, c := backendtest.Go(t), small()
	whole, err := Generate(t.Context(), b, c, "riemann", 8, 1, nil)
	require.NoError(t, err)
	all := tensors.MustCopyFlatData[float32](whole)
	for together := 1; together <= 4; together++ {
		c.Trajectories = together
		kept := map[int][]float32{}
		require.NoError(t, Stream(t.Context(), b, c, Riemann, []int{7, 2, 5}, 1, func(trajectory int, states []float32) error {
			require.NotContains(t, kept, trajectory)
			kept[trajectory] = slices.Clone(states)
			return nil
		}))
		require.Len(t, kept, 3)
		for _, trajectory := range []int{2, 5, 7} {
			n := len(kept[trajectory])
			require.Equal(t, all[trajectory*n:(trajectory+1)*n], kept[trajectory])
		}
	}
	full := errors.New("the disk is full")
	require.ErrorIs(t, Stream(t.Context(), b, c, Riemann, []int{0, 1, 2}, 1, func(int, []float32) error { return full }), full)
	require.NoError(t, Stream(t.Context(), b, c, Riemann, nil, 1, nil))
	need, err := Estimate(b, c, Riemann, 10, 1)
	require.NoError(t, err)
	require.Positive(t, need)
	c.MaxSubsteps, c.Interval = 1, 0.1
	_, err = Estimate(b, c, Riemann, 10, 1)
	require.ErrorContains(t, err, "raise max_substeps")
}

func TestProgressAndCancellation(t *testing.T) {
	b, c := backendtest.Go(t), small()
	c.Trajectories = 2
	var heard []int
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Generate(ctx, b, c, "riemann", 5, 1, func(done, total int) {
		require.Equal(t, 5, total)
		heard = append(heard, done)
	})
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3, 4, 5}, heard)

	_, err = Generate(ctx, b, c, "riemann", 100, 1, func(int, int) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "of 100 trajectories of family riemann")
}

func TestGenerateRefuses(t *testing.T) {
	b := backendtest.Go(t)
	_, err := Generate(t.Context(), b, small(), "sod", 1, 1, nil)
	require.EqualError(t, err, `euler: unknown family "sod"; use curved-riemann, perturbed-riemann, riemann`)
	_, err = Generate(t.Context(), b, small(), "riemann", 0, 1, nil)
	require.ErrorContains(t, err, "0 trajectories of family riemann were asked for")
	_, err = Generate(t.Context(), b, Config{}, "riemann", 1, 1, nil)
	require.ErrorContains(t, err, "resolution is 0")
}
