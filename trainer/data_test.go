package trainer

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
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
		p := s.probesFor(orbits.Group{Name: name}, nil)
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
	// The metric of a batch is over all steps of its trajectories.
	metrics := s.metricStates()
	require.Len(t, metrics, 2)
	require.Equal(t, []int{3 * (s.snapshots - 1), 2, 2, euler.Channels}, metrics[1].Inputs.Shape().Dimensions)
	x, y := tensors.MustCopyFlatData[float32](metrics[1].Inputs), tensors.MustCopyFlatData[float32](metrics[1].Targets)
	last := len(x) - 2*2*euler.Channels
	require.Equal(t, []float32{400, 401, 20400 + float32(s.snapshots) - 2, 20400 + float32(s.snapshots) - 1}, []float32{x[0], y[0], x[last], y[last]})
}

func TestDataDirectory(t *testing.T) {
	config := smallConfig()
	all, err := GenerateData(context.Background(), backendtest.Go(t), config, nil)
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "made", "data")
	require.NoError(t, SaveData(dir, config, "go", all))
	config.Data.Directory = dir
	loaded, err := loadData(config)
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
		"missing":    {func(c *Config) { c.Data.Directory += "-none" }, "name a directory of `symaudit data generate`"},
	} {
		t.Run(name, func(t *testing.T) {
			edited := config
			edited.Data.Families = slices.Clone(config.Data.Families)
			change.edit(&edited)
			_, err := loadData(edited)
			require.ErrorContains(t, err, change.want)
		})
	}
}

// Whatever a data directory says of itself, loading it is an error that names the file, or gives arrays of the shape that
// the configuration asks for.
func TestDamagedDataAreRefused(t *testing.T) {
	config := smallConfig()
	dir := filepath.Join(t.TempDir(), "data")
	config.Data.Euler.Resolution = 4
	whole := numbered(config, 4)
	require.NoError(t, SaveData(dir, config, "go", whole))
	config.Data.Directory = dir
	array := filepath.Join(dir, string(config.Data.Families[1])+".npy")
	for name, damage := range map[string]struct {
		file, old, new, want string
	}{
		"more trajectories":  {array, "(5, 5,", "(9, 5,", "'shape': (9, 5, 4, 4, 4)"},
		"enormous":           {array, "4, 4, 4), }", "4,4,4444),}", "its header says"},
		"another type":       {array, "<f4", "<f8", "'descr': '<f8'"},
		"column by column":   {array, "False", "True ", "'fortran_order': True"},
		"not NumPy":          {array, "NUMPY", "NUMPI", "not a NumPy file"},
		"data.json cut":      {filepath.Join(dir, dataInfoName), "\n}", "", "does not describe data"},
		"no trajectories":    {filepath.Join(dir, dataInfoName), `"trajectories": 5`, `"trajectories": -5`, "-5 trajectories"},
		"other trajectories": {filepath.Join(dir, dataInfoName), `"trajectories": 5`, `"trajectories": 1000000000000`, "its header says"},
		"other channels":     {filepath.Join(dir, dataInfoName), `"momentum_y"`, `"momentum_z"`, "momentum_z"},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := os.ReadFile(damage.file)
			require.NoError(t, err)
			require.Contains(t, string(before), damage.old)
			require.NoError(t, os.WriteFile(damage.file, []byte(strings.Replace(string(before), damage.old, damage.new, 1)), 0o666))
			defer func() { require.NoError(t, os.WriteFile(damage.file, before, 0o666)) }()
			_, err = loadData(config)
			require.ErrorContains(t, err, damage.want)
			require.ErrorContains(t, err, dir)
		})
	}
	t.Run("at random", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 1000 {
			path := []string{array, filepath.Join(dir, dataInfoName)}[i%2]
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			changed := slices.Clone(before)
			for range 1 + random.IntN(4) {
				changed[random.IntN(min(128, len(changed)))] = byte(random.Uint32())
			}
			if i%8 > 5 {
				changed = changed[:random.IntN(len(changed))]
			}
			require.NoError(t, os.WriteFile(path, changed, 0o666))
			var memory [2]runtime.MemStats
			runtime.ReadMemStats(&memory[0])
			loaded, err := loadData(config)
			runtime.ReadMemStats(&memory[1])
			require.Less(t, memory[1].TotalAlloc-memory[0].TotalAlloc, uint64(16<<20))
			if err != nil {
				require.ErrorContains(t, err, dir)
			}
			for j, got := range loaded {
				require.Equal(t, whole[j].States.Shape(), got.States.Shape())
			}
			require.NoError(t, os.WriteFile(path, before, 0o666))
		}
	})
	t.Run("description without end", func(t *testing.T) {
		require.NoError(t, os.Truncate(filepath.Join(dir, dataInfoName), 1<<40)) // sparse
		_, err := loadData(config)
		require.ErrorContains(t, err, "has more than 1048576 bytes")
	})
}

func TestCheckDataDirectory(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, CheckDataDirectory(filepath.Join(dir, "new", "data")))
	require.ErrorContains(t, CheckDataDirectory(dir), dir+" exists already")
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o666))
	require.ErrorContains(t, CheckDataDirectory(filepath.Join(file, "data")), "cannot be made")
	require.ErrorContains(t, CheckDataDirectory(filepath.Join(file, "deep", "data")), "cannot be made")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left")
}
