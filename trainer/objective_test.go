package trainer_test

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/trainer"
)

// tinyVit is one model of the tiny run.
func tinyVit(t *testing.T, change func(*trainer.Config)) trainer.Config {
	config := parse(t, tinySource)
	config.Models, config.Audit.Groups = config.Models[1:], config.Audit.Groups[:1]
	change(&config)
	require.NoError(t, config.Validate())
	return config
}

func losses(records audit.Records) (all []float64) {
	for _, row := range records.Training {
		all = append(all, row.Loss)
	}
	return all
}

func TestSeeds(t *testing.T) {
	b := backendtest.Go(t)
	config := tinyVit(t, func(c *trainer.Config) { c.Seeds, c.Training.Epochs = []int64{5, 2, 0}, 2 })
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	var heard []string
	options.Watcher.Audited = func(training string, _ *audit.Records) { heard = append(heard, training) }
	got := trainTiny(t, config, options)
	require.Equal(t, []string{"vit, seed 5", "vit, seed 5", "vit, seed 2", "vit, seed 2", "vit, seed 0", "vit, seed 0"}, heard)
	require.Equal(t, []string{"vit, seed 5", "vit, seed 2", "vit, seed 0"}, config.Trainings())
	require.Equal(t, []int64{5, 2, 0}, got.Info.Seeds)
	first := map[int64]float64{}
	for _, row := range got.Records.Training {
		if row.Step == 1 {
			first[row.Seed] = row.Loss
		}
	}
	require.Len(t, first, 3)
	require.NotEqual(t, first[5], first[2], "other weights and another order")
	require.DirExists(t, filepath.Join(options.Dir, "checkpoints", "vit", "seed-2"))

	// The seed of the data stays: a training with one of the seeds alone is the same.
	alone := config
	alone.Seeds = []int64{2}
	one := optionsFor(b, filepath.Join(t.TempDir(), "alone"))
	want := trainTiny(t, alone, one).Records
	var of []float64
	for _, row := range got.Records.Training {
		if row.Seed == 2 {
			of = append(of, row.Loss)
		}
	}
	require.Equal(t, losses(want), of)
	config.Seeds = []int64{1, 1}
	require.ErrorContains(t, config.Validate(), "seeds lists 1 twice; leave one out")
}

func TestSchedules(t *testing.T) {
	b := backendtest.Go(t)
	for schedule, want := range map[string][]int64{
		"every 2 steps":                     {2, 4, 6, 8, 9},
		"at doubling steps from 2":          {2, 4, 8, 9},
		"3 times":                           {3, 6, 9},
		"every 2 epochs or every 5 steps":   {5, 6, 9},
		"at doubling steps from 4 or every": nil,
	} {
		t.Run(schedule, func(t *testing.T) {
			config := parse(t, tinySource)
			config.Models, config.Audit.Groups, config.Audit.Schedule = config.Models[1:], config.Audit.Groups[:1], schedule
			if want == nil {
				require.ErrorContains(t, config.Validate(), `trainer: audit.schedule: "every" is no schedule`)
				return
			}
			got := trainTiny(t, config, optionsFor(b, filepath.Join(t.TempDir(), "run")))
			var steps []int64
			for _, row := range got.Records.Solves {
				if !slices.Contains(steps, row.Step) {
					steps = append(steps, row.Step)
				}
			}
			require.Equal(t, want, steps)
			require.InDelta(t, float64(want[0])/tinyEpoch, got.Records.Solves[0].Epoch, 1e-9)
		})
	}
	config := parse(t, tinySource)
	config.Audit.Schedule, config.Audit.EveryEpochs = "every 5 steps", 2
	require.ErrorContains(t, config.Validate(), `audit.schedule is "every 5 steps", and audit.every_epochs is 2: both say when to audit; leave one out`)
	config.Audit.Schedule, config.Audit.Budget = "", 1.5
	require.ErrorContains(t, config.Validate(), "audit.budget is 1.5; it must be a share of the time")
}

func TestCosineRate(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		config := tinyVit(t, func(c *trainer.Config) { c.Training.Rate, c.Audit.EveryEpochs = "cosine", 3 })
		got := trainTiny(t, config, optionsFor(b, filepath.Join(t.TempDir(), "run")))
		require.Len(t, got.Records.Training, 9)
		for i, row := range got.Records.Training {
			// The rate of step i, from 0 on, is that of the cosine at i of 9 steps; what is recorded after it may be that of the next.
			at := func(step int) float64 { return 0.01 * (1 + math.Cos(math.Pi*float64(step)/9)) / 2 }
			require.True(t, math.Abs(row.LearningRate-at(i)) < 1e-6 || math.Abs(row.LearningRate-at(i+1)) < 1e-6, "step %d: %g", i, row.LearningRate)
		}
		_, err := config.Extended(5)
		require.ErrorContains(t, err, "the learning rate of the run has been going to zero at epoch 3")
	})
}

// A prediction that is carried on for several steps is compared after each.
func TestUnrolledPrediction(t *testing.T) {
	b := backendtest.Go(t)
	one := tinyVit(t, func(c *trainer.Config) { c.Training.Epochs = 1 })
	two := tinyVit(t, func(c *trainer.Config) { c.Training.Epochs, c.Training.Unroll, c.Training.BatchSize = 1, 2, 4 })
	recomputed := two
	recomputed.Training.Recompute = true
	got := map[string]audit.Records{}
	for name, config := range map[string]trainer.Config{"one": one, "two": two, "recomputed": recomputed} {
		got[name] = trainTiny(t, config, optionsFor(b, filepath.Join(t.TempDir(), name))).Records
	}
	require.Len(t, got["one"].Training, 3, "12 transitions in batches of 5")
	require.Len(t, got["two"].Training, 2, "8 pairs of transitions in batches of 4: none crosses the end of a trajectory")
	require.Greater(t, got["two"].Training[0].Loss, got["one"].Training[0].Loss, "two steps are farther than one")
	require.InEpsilonSlice(t, losses(got["two"]), losses(got["recomputed"]), 1e-6)
	one.Training.Unroll = 4
	require.ErrorContains(t, one.Validate(), "training.unroll is 4; it must be between 1 and the 3 steps of a trajectory, or 0 for 1")
}

func TestAugmentedTraining(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		plain := tinyVit(t, func(c *trainer.Config) { c.Training.Epochs, c.Audit.EveryEpochs = 2, 2 })
		augmented := plain
		augmented.Training.Augment = &trainer.Group{Name: "d4"}
		require.NoError(t, augmented.Validate())
		whole := optionsFor(b, filepath.Join(t.TempDir(), "whole"))
		want := trainTiny(t, augmented, whole)
		require.NotEqual(t, losses(trainTiny(t, plain, optionsFor(b, filepath.Join(t.TempDir(), "plain"))).Records), losses(want.Records))
		// Resumed it draws what it would have drawn.
		resumed := optionsFor(b, filepath.Join(t.TempDir(), "resumed"))
		require.Error(t, trainUntil(t, augmented, resumed, func(event, _ string, done int) bool { return event == "step" && done == tinyEpoch+1 }))
		resumed.Resume = true
		requireSameRun(t, whole.Dir, resumed.Dir, want.Records, trainTiny(t, augmented, resumed).Records)
	})
	config := parse(t, tinySource)
	config.Training.Augment = &trainer.Group{Name: "octahedral"}
	require.ErrorContains(t, config.Validate(), "trainer: training.augment: octahedral is of states with three axes of space, and these have 2; use d4")
	config.Training.Augment, config.Training.Unroll = &trainer.Group{Name: "boosts", Velocities: nil}, 2
	require.ErrorContains(t, config.Validate(), "training.augment")
}

// Checkpoints within an epoch are gone on from, too.
func TestResumedWithinAnEpoch(t *testing.T) {
	b := backendtest.Go(t)
	config := tinyVit(t, func(c *trainer.Config) { c.Training.SaveEvery, c.Training.KeepCheckpoints = 2, 20 })
	whole, killed := optionsFor(b, filepath.Join(t.TempDir(), "whole")), optionsFor(b, filepath.Join(t.TempDir(), "killed"))
	want := trainTiny(t, config, whole)
	steps, err := filepath.Glob(filepath.Join(whole.Dir, "checkpoints", "vit", "step-*"))
	require.NoError(t, err)
	require.Len(t, steps, 6, "2, 3, 4, 6, 8 and 9")
	require.Error(t, trainUntil(t, config, killed, func(event, _ string, done int) bool { return event == "step" && done == tinyEpoch+2 }))
	var from int
	killed.Resume = true
	killed.Watcher.Step = func(_ string, done, _ int) {
		if from == 0 {
			from = done
		}
	}
	got := trainTiny(t, config, killed)
	require.Equal(t, tinyEpoch+2, from, "the first after the checkpoint of step 4")
	require.Len(t, got.Records.Training, 9, "no step is missing")
	requireSameRun(t, whole.Dir, killed.Dir, want.Records, got.Records)
}

// A finished run that is given more epochs is the run that had as many from the beginning.
func TestExtendedRun(t *testing.T) {
	b := backendtest.Go(t)
	long := tinyVit(t, func(c *trainer.Config) { c.Training.Epochs = 4 })
	whole, grown := optionsFor(b, filepath.Join(t.TempDir(), "whole")), optionsFor(b, filepath.Join(t.TempDir(), "grown"))
	want := trainTiny(t, long, whole)
	short := long
	short.Training.Epochs = 2
	trainTiny(t, short, grown)
	grown.Resume = true
	_, err := short.Extended(1)
	require.ErrorContains(t, err, "training.epochs is 1, and the run was begun for 2; it can be given more, not fewer")
	extended, err := short.Extended(4)
	require.NoError(t, err)
	got := trainTiny(t, extended, grown)
	got.Records.Decisions = slices.DeleteFunc(got.Records.Decisions, func(row audit.DecisionRow) bool { return row.Step == 2*tinyEpoch })
	requireSameRun(t, whole.Dir, grown.Dir, want.Records, got.Records)
	config, _, err := trainer.RunConfig(grown.Dir)
	require.NoError(t, err)
	require.Equal(t, 4, config.Training.Epochs, "a killed extension is gone on with")

	var events int
	grown.Watcher.Step = func(string, int, int) { events++ }
	trainTiny(t, extended, grown)
	require.Zero(t, events, "nothing is left to do")
}

// A symmetrized model commutes with the group, and what it learns from a state it learns from all of its orbit; the one that it is made of does not.
func TestSymmetrizedModel(t *testing.T) {
	config := tinyVit(t, func(c *trainer.Config) { c.Training.Epochs, c.Models[0].Symmetrize = 1, "c4" })
	require.NoError(t, config.Validate())
	records := trainTiny(t, config, optionsFor(backendtest.Go(t), filepath.Join(t.TempDir(), "run"))).Records
	for _, row := range records.Errors {
		if slices.Contains([]string{"e", "r", "r2", "r3"}, row.Element) {
			require.Less(t, row.CommutatorError, 1e-11, row.Element)
		} else if row.GroupName == "d4" {
			require.Greater(t, row.CommutatorError, 1e-11, row.Element)
		}
	}
	for _, row := range records.Coherence {
		if row.GroupName == "d4" && row.Element == "r" {
			require.InDelta(t, 1, *row.Median, 1e-3)
		}
	}
}

// A training in bfloat16 is another one by a little, and its audits do not use bfloat16: made again from its weights by a run that is not, they are the same.
func TestTrainingInBfloat16(t *testing.T) {
	b := backendtest.Go(t)
	plain := tinyVit(t, func(c *trainer.Config) { c.Training.Epochs = 2 })
	half := plain
	half.Training.DType = "bfloat16"
	options := optionsFor(b, filepath.Join(t.TempDir(), "half"))
	got := trainTiny(t, half, options)
	want := trainTiny(t, plain, optionsFor(b, filepath.Join(t.TempDir(), "plain")))
	require.InEpsilonSlice(t, losses(want.Records), losses(got.Records), 0.05)
	require.NotEqual(t, losses(want.Records), losses(got.Records))
	last := got.Records.At("vit", plain.Seed, 2*tinyEpoch)
	all, err := trainer.Select(plain, options.Dir, trainer.Selection{})
	require.NoError(t, err)
	again := filepath.Join(t.TempDir(), "again")
	require.NoError(t, trainer.AuditCheckpoints(context.Background(), plain, options, all, trainer.Target{Dir: again}))
	require.NotEmpty(t, last.Influence)
	requireSameRows(t, audit.Records{Influence: last.Influence, Errors: last.Errors}, audit.Records{Influence: read(t, again).Records.Influence, Errors: read(t, again).Records.Errors})
}

// Steps before a checkpoint are in the table when it is saved: a process that is killed then leaves no gap.
func TestStepsBeforeACheckpointAreKept(t *testing.T) {
	config := tinyVit(t, func(c *trainer.Config) { c.Training.SaveEvery, c.Audit.EveryEpochs = 2, 3 })
	options := optionsFor(backendtest.Go(t), filepath.Join(t.TempDir(), "run"))
	written := map[int]int{}
	options.Watcher.Step = func(_ string, done, _ int) { written[done] = len(read(t, options.Dir).Records.Training) }
	trainTiny(t, config, options)
	require.Equal(t, map[int]int{1: 0, 2: 0, 3: 2, 4: 3, 5: 4, 6: 4, 7: 6, 8: 6, 9: 9}, written, "checkpoints are of steps 2, 3, 4, 6 and 8, and are saved when a step has been reported; the audit is before that")
}
