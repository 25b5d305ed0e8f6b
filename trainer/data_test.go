package trainer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
	"github.com/symaudit/symaudit/trainer/euler"
)

// numbered are data whose every value tells where it belongs: 10000 family + 100 trajectory + time.
func numbered(t *testing.T, config Config) *states {
	description := config.Data.generated(config.Seed, "")
	writer, err := dataset.InMemory(description)
	require.NoError(t, err)
	for f := range config.Data.Families {
		for trajectory := range description.Trajectories {
			var values []float32
			for time := range description.Snapshots {
				values = append(values, slices.Repeat([]float32{float32(10000*f + 100*trajectory + time)}, perState)...)
			}
			require.NoError(t, writer.Put(f, trajectory, values))
		}
	}
	set, err := writer.Finish()
	require.NoError(t, err)
	return newStates(config, set)
}

const perState = 4 * 4 * euler.Channels

func smallConfig() Config {
	config := Default()
	config.Data.Trajectories, config.Data.Probes = 3, 2
	config.Data.Euler.Resolution, config.Data.Euler.Refinement, config.Data.Euler.Snapshots = 4, 1, 5
	config.Training.BatchSize = 7
	config.Models = []Model{{Name: "unet", UNet: &models.UNet{Widths: []int{4}, Blocks: 1, Groups: 2}}}
	config.Audit.Groups = config.Audit.Groups[:1]
	return config
}

func TestNoPairCrossesTrajectories(t *testing.T) {
	config := smallConfig()
	s := numbered(t, config)
	seen := map[float32]int{}
	data := s.batches(config, 0, 0)
	steps := 0
	for batch, err := range data.Iter() {
		if steps == data.stepsPerEpoch() {
			break
		}
		require.NoError(t, err)
		steps++
		x, y := tensors.MustCopyFlatData[float32](batch.Inputs[0]), tensors.MustCopyFlatData[float32](batch.Labels[0])
		require.Equal(t, len(x), len(y))
		for i := range x {
			require.Equal(t, x[i]+1, y[i], "the next snapshot of the same trajectory")
		}
		for i := 0; i < len(x); i += perState {
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
	s := numbered(t, config)
	order := func(seed int64, from, steps int) []float32 {
		var first []float32
		for batch := range s.batches(config, seed, from).Iter() {
			if steps--; steps < 0 {
				break
			}
			x := tensors.MustCopyFlatData[float32](batch.Inputs[0])
			for i := 0; i < len(x); i += perState {
				first = append(first, x[i])
			}
		}
		return first
	}
	const perEpoch, samples = 6, 36
	require.Equal(t, perEpoch, s.batches(config, 0, 0).stepsPerEpoch())
	all := order(0, 0, 3*perEpoch)
	for epoch := range 3 {
		require.ElementsMatch(t, all[:samples], all[epoch*samples:(epoch+1)*samples], "each sample once")
	}
	require.NotEqual(t, all[:samples], all[samples:2*samples])
	require.Equal(t, all[2*samples:], order(0, 2*perEpoch, perEpoch), "a resumed run sees the same epoch")
	require.Equal(t, all[samples+2*config.Training.BatchSize:], order(0, perEpoch+2, 2*perEpoch-2), "and goes on within one")
	require.NotEqual(t, all[:samples], order(1, 0, perEpoch))
}

func TestProbesAreHeldOut(t *testing.T) {
	config := smallConfig()
	s := numbered(t, config)
	for name, time := range map[string]float32{orbits.D4Name: 0, orbits.D4GridOnlyName: 0, orbits.TranslationsName: 2} {
		p, err := s.probesFor(orbits.Group{Name: name}, nil)
		require.NoError(t, err)
		require.Equal(t, 3, p.BatchSize)
		x := tensors.MustCopyFlatData[float32](p.Inputs)
		var got []float32
		for i := 0; i < len(x); i += perState {
			got = append(got, x[i])
		}
		// Trajectories 3 and 4; one of each family in a batch.
		require.Equal(t, []float32{300 + time, 10300 + time, 20300 + time, 400 + time, 10400 + time, 20400 + time}, got, name)
		require.Equal(t, "CE-CRP", p.Samples[1].Class)
		require.EqualValues(t, 4, p.Samples[5].Trajectory)
		require.EqualValues(t, time, p.Samples[5].TimeIndex)
	}
	// The metric of a batch is over all steps of its trajectories.
	metrics, err := s.metricStates()
	require.NoError(t, err)
	require.Len(t, metrics, 2)
	require.Equal(t, []int{3 * (s.Snapshots - 1), 4, 4, euler.Channels}, metrics[1].Inputs.Shape().Dimensions)
	x, y := tensors.MustCopyFlatData[float32](metrics[1].Inputs), tensors.MustCopyFlatData[float32](metrics[1].Targets)
	last := len(x) - perState
	require.Equal(t, []float32{400, 401, 20400 + float32(s.Snapshots) - 2, 20400 + float32(s.Snapshots) - 1}, []float32{x[0], y[0], x[last], y[last]})
}

// Steps says how many steps of each trajectory count, for training, probes and metric alike.
func TestStepsOfATrajectory(t *testing.T) {
	config := smallConfig()
	config.Data.Steps = 2
	s := numbered(t, config)
	require.Len(t, s.trainingTransitions(), 3*3*2)
	for _, at := range s.trainingTransitions() {
		require.Less(t, at.Time, 2)
	}
	p, err := s.probesFor(orbits.Group{Name: orbits.TranslationsName}, nil)
	require.NoError(t, err)
	require.Zero(t, p.Samples[0].TimeIndex, "the last that does not touch the end of what is trained on")
	metrics, err := s.metricStates()
	require.NoError(t, err)
	require.Equal(t, 3*2, metrics[0].Inputs.Shape().Dimensions[0])
}

func TestDataDirectory(t *testing.T) {
	config := smallConfig()
	dir := filepath.Join(t.TempDir(), "made", "data")
	ctx, cancel := context.WithCancelCause(context.Background())
	b := backendtest.Go(t)
	_, err := GenerateData(ctx, b, "go", config, dir, false, func(done, _ int) {
		if done == 7 {
			cancel(errors.New("interrupted"))
		}
	})
	require.ErrorContains(t, err, "interrupted")
	_, err = PlanData("go", config, dir, false)
	require.ErrorContains(t, err, "go on with it by --resume")
	other := config
	other.Seed++
	_, err = PlanData("go", other, dir, true)
	require.ErrorContains(t, err, `it says "seed": 0, and now it is "seed": 1`)
	plan, err := PlanData("go", config, dir, true)
	require.NoError(t, err)
	require.Equal(t, []int{15, 15 * 5 * perState * 4}, []int{plan.Total, int(plan.Bytes)})
	require.LessOrEqual(t, plan.Missing, 15-7)
	need, err := plan.Estimate(b)
	require.NoError(t, err)
	require.Positive(t, need)
	again := config
	again.Data.Euler.Workers, again.Data.Euler.Trajectories = 1, 2
	set, err := GenerateData(context.Background(), b, "go", again, dir, true, nil)
	require.NoError(t, err)
	require.NoError(t, set.Verify(nil))

	held, err := openData(context.Background(), config, Options{Backend: b, BackendConfig: "go"})
	require.NoError(t, err)
	require.Equal(t, held.Hash(), set.Hash(), "the same as in one go")
	require.NoError(t, set.Close())
	config.Data.Directory = dir
	require.NoError(t, config.Validate(), "what is said twice is the same")
	require.NotContains(t, parsed(t, "data: {directory: "+dir+"}").String(), "euler", "of which the data tell")
	opened, err := openData(context.Background(), config, Options{Backend: b})
	require.NoError(t, err)
	defer opened.Close()
	require.Equal(t, held.trainingTransitions(), opened.trainingTransitions())

	_, err = GenerateData(context.Background(), b, "go", config, dir, false, nil)
	require.ErrorContains(t, err, "exists already; choose another directory")
	entries, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside it")
	for name, change := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"too few":      {func(c *Config) { c.Data.Trajectories = 30 }, "trainer: data.trajectories is 30, and the data in " + dir + ` have 3 trajectories of each family in their split "train"`},
		"other probes": {func(c *Config) { c.Data.Probes = 3 }, `in their split "test"`},
		"validation":   {func(c *Config) { c.Data.Validation = 1 }, "trainer: data.validation is 1, and the data in " + dir + ` have 0 trajectories of each family in their split "validation"`},
		"family":       {func(c *Config) { c.Data.Families[1] = "kelvin-helmholtz" }, `trainer: data.families has "kelvin-helmholtz", and the data in ` + dir},
		"twice":        {func(c *Config) { c.Data.Families[1] = c.Data.Families[0] }, `lists "riemann" twice`},
		"resolution":   {func(c *Config) { c.Data.Euler.Resolution = 8 }, "data.euler.resolution is 8, and that of the data in " + dir + " is 4; leave data.euler out"},
		"steps":        {func(c *Config) { c.Data.Steps = 5 }, "data.steps is 5, and the trajectories have 4"},
		"missing":      {func(c *Config) { c.Data.Directory += "-none" }, "name a directory of `symaudit data generate`"},
	} {
		t.Run(name, func(t *testing.T) {
			edited := config
			edited.Data.Families = slices.Clone(config.Data.Families)
			change.edit(&edited)
			require.ErrorContains(t, edited.Validate(), change.want)
		})
	}
}

func parsed(t *testing.T, source string) Config {
	config, err := ParseConfig([]byte(source))
	require.NoError(t, err)
	again, err := ParseConfig([]byte(config.String()))
	require.NoError(t, err)
	require.Equal(t, config.Data, again.Data)
	return config
}
