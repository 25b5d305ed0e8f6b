package trainer

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/euler"
)

// numbered makes trajectories whose every value tells where it belongs: 10000 family + 100 trajectory + time.
func numbered(config Config, size int) []Trajectories {
	each, snapshots := config.Data.Trajectories+config.Data.Probes, config.Data.Euler.Snapshots
	var all []Trajectories
	for f, family := range config.Data.Families {
		var values []float32
		for trajectory := range each {
			for time := range snapshots {
				for range size * size * euler.Channels {
					values = append(values, float32(10000*f+100*trajectory+time))
				}
			}
		}
		all = append(all, Trajectories{family, tensors.FromFlatDataAndDimensions(values, each, snapshots, size, size, euler.Channels)})
	}
	return all
}

func smallConfig() Config {
	config := Default()
	config.Data.Trajectories, config.Data.Probes = 3, 2
	config.Data.Euler.Resolution, config.Data.Euler.Refinement, config.Data.Euler.Snapshots = 4, 1, 5
	config.Training.BatchSize = 7
	return config
}

func TestNoPairCrossesTrajectories(t *testing.T) {
	config := smallConfig()
	s, err := newStates(config, numbered(config, 2))
	require.NoError(t, err)
	seen := map[float32]int{}
	data := s.dataset(config, 0)
	steps := 0
	for batch, err := range data.Iter() {
		require.NoError(t, err)
		steps++
		x, y := tensors.MustCopyFlatData[float32](batch.Inputs[0]), tensors.MustCopyFlatData[float32](batch.Labels[0])
		require.Equal(t, len(x), len(y))
		for i := range x {
			require.Equal(t, x[i]+1, y[i], "the next snapshot of the same trajectory")
		}
		for i := 0; i < len(x); i += 2 * 2 * euler.Channels {
			seen[x[i]]++
			require.Less(t, int(x[i])%10000/100, config.Data.Trajectories, "a probe must not be trained on")
		}
	}
	require.Equal(t, data.stepsPerEpoch(), steps)
	require.Len(t, seen, 3*3*4, "every transition")
	for value, times := range seen {
		require.Equal(t, 1, times, "transition %v", value)
	}
}

func TestOrderDependsOnSeedAndEpochOnly(t *testing.T) {
	config := smallConfig()
	s, err := newStates(config, numbered(config, 2))
	require.NoError(t, err)
	order := func(ds train.Dataset) []float32 {
		var first []float32
		for batch := range ds.Iter() {
			x := tensors.MustCopyFlatData[float32](batch.Inputs[0])
			for i := 0; i < len(x); i += 2 * 2 * euler.Channels {
				first = append(first, x[i])
			}
		}
		return first
	}
	running := s.dataset(config, 0)
	epochs := [][]float32{order(running), order(running), order(running)}
	require.NotEqual(t, epochs[0], epochs[1])
	require.Equal(t, epochs[2], order(s.dataset(config, 2)), "a resumed run sees the same epoch")
	config.Seed++
	require.NotEqual(t, epochs[0], order(s.dataset(config, 0)))
}

func TestProbesAreHeldOut(t *testing.T) {
	config := smallConfig()
	s, err := newStates(config, numbered(config, 2))
	require.NoError(t, err)
	for name, time := range map[string]float32{orbits.D4Name: 0, orbits.D4GridOnlyName: 0, orbits.TranslationsName: 2} {
		p := s.probesFor(orbits.Group{Name: name})
		require.Equal(t, 3, p.BatchSize)
		x := tensors.MustCopyFlatData[float32](p.Inputs)
		var got []float32
		for i := 0; i < len(x); i += 2 * 2 * euler.Channels {
			got = append(got, x[i])
		}
		// Trajectories 3 and 4; one of each family in a batch.
		require.Equal(t, []float32{300 + time, 10300 + time, 20300 + time, 400 + time, 10400 + time, 20400 + time}, got, name)
		require.Equal(t, "CE-CRP", p.Samples[1].Class)
		require.EqualValues(t, 4, p.Samples[5].Trajectory)
		require.EqualValues(t, time, p.Samples[5].TimeIndex)
	}
}

func TestDataDirectory(t *testing.T) {
	config := smallConfig()
	all, err := GenerateData(context.Background(), backendtest.Go(t), config, nil)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "made", "data")
	require.NoError(t, SaveData(dir, config, "go", all))
	config.Data.Directory = dir
	loaded, err := LoadData(config)
	require.NoError(t, err)
	require.Len(t, loaded, 3)
	for i := range all {
		require.Equal(t, all[i].Family, loaded[i].Family)
		require.True(t, all[i].States.Equal(loaded[i].States))
	}

	require.ErrorContains(t, SaveData(dir, config, "go", all), "exists already; choose another directory")
	entries, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside it")
	for name, change := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"resolution": {func(c *Config) { c.Data.Euler.Resolution = 8 }, "are 5 snapshots at 4x4, the configuration says 5 at 8x8"},
		"too few":    {func(c *Config) { c.Data.Trajectories = 30 }, "has 5 trajectories of each family"},
		"missing":    {func(c *Config) { c.Data.Directory += "-none" }, "make some with `symaudit data generate`"},
	} {
		t.Run(name, func(t *testing.T) {
			edited := config
			edited.Data.Families = slices.Clone(config.Data.Families)
			change.edit(&edited)
			_, err := LoadData(edited)
			require.ErrorContains(t, err, change.want)
		})
	}
}
