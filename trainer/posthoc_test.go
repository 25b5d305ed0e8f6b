package trainer_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
)

// manyCheckpoints is a finished run with two seeds, all of whose checkpoints are kept.
func manyCheckpoints(t *testing.T) (trainer.Config, trainer.Options) {
	config, b := parse(t, tinySource), backendtest.Go(t)
	config.Seeds, config.Data.Probes, config.Training.Epochs, config.Training.KeepCheckpoints = []int64{3, 7}, 2, 2, 10
	config.Audit.Directions, config.Audit.Layers, config.Audit.Spectrum, config.Audit.LocalErrors = []string{"loss", "total_energy"}, true, true, true
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	trainTiny(t, config, options)
	return config, options
}

// Shards, put together, are the audit in one piece, whether one was killed in between or not.
func TestShardsAreTheWhole(t *testing.T) {
	config, options := manyCheckpoints(t)
	all, err := trainer.Select(config, options.Dir, trainer.Selection{Models: []string{"vit"}, Steps: &[2]int64{0, math.MaxInt64}})
	require.NoError(t, err)
	require.Equal(t, []trainer.Checkpoint{{Model: "vit", Seed: 3, Step: 3}, {Model: "vit", Seed: 3, Step: 6}, {Model: "vit", Seed: 7, Step: 3}, {Model: "vit", Seed: 7, Step: 6}}, all)
	whole := filepath.Join(t.TempDir(), "whole")
	require.NoError(t, trainer.AuditCheckpoints(context.Background(), config, options, all, trainer.Target{Dir: whole}))
	want := read(t, whole)
	require.Equal(t, 4*3, audits(want.Records), "in three directions: of the loss, of energy, and what a step on the loss does to energy")

	const shards = 3
	dir := func(i int) string { return filepath.Join(filepath.Dir(whole), fmt.Sprint("shard-", i)) }
	for i := range shards {
		to := trainer.Target{Dir: dir(i), Shard: trainer.Shard{Index: i, Of: shards}}
		if i == 0 { // what a process leaves that is killed before it has written anything
			require.NoError(t, os.MkdirAll(to.Dir, 0o777))
			require.NoError(t, os.WriteFile(filepath.Join(to.Dir, ".lock"), nil, 0o666))
			to.Resume = true
		}
		if i == 1 {
			ctx, cancel := context.WithCancelCause(context.Background())
			watched := options
			watched.Watcher.Audited = func(string, *audit.Records) { cancel(errors.New("interrupted")) }
			require.ErrorContains(t, trainer.AuditCheckpoints(ctx, config, watched, all, to), "interrupted")
			require.ErrorContains(t, trainer.Merge([]string{dir(0), dir(1)}, whole+"-2", nil), "shard 1/3 in "+dir(1)+" is not finished; go on with it by the command that began it, and --resume")
			var occupied *writers.OccupiedError
			require.ErrorAs(t, trainer.AuditCheckpoints(context.Background(), config, options, all, to), &occupied)
			to.Resume = true
		}
		require.NoError(t, trainer.AuditCheckpoints(context.Background(), config, options, all, to))
		to.Resume = true // once more: nothing is left to do
		before := read(t, dir(i)).Records
		require.NoError(t, trainer.AuditCheckpoints(context.Background(), config, options, all, to))
		require.Equal(t, before, read(t, dir(i)).Records)
		require.NotZero(t, len(before.Influence))
		require.Less(t, len(before.Influence), len(want.Records.Influence))
	}
	// What is gone on with is what was begun.
	changed := config
	changed.Audit.Tolerance = 0.2
	for want, refused := range map[string]func() error{
		`begun for another shard ("1/3", and now "2/3"); go on as they were begun`: func() error {
			return trainer.AuditCheckpoints(context.Background(), config, options, all, trainer.Target{Dir: dir(1), Resume: true, Shard: trainer.Shard{Index: 2, Of: shards}})
		},
		`begun for another configuration (audit.tolerance: 0.3, and now 0.2)`: func() error {
			return trainer.AuditCheckpoints(context.Background(), changed, options, all, trainer.Target{Dir: whole, Resume: true})
		},
		`begun for another list of checkpoints ("vit, seed 3, step 3", and now "vit, seed 3, step 6")`: func() error {
			return trainer.AuditCheckpoints(context.Background(), config, options, all[1:], trainer.Target{Dir: whole, Resume: true})
		},
		"begun for another training": func() error {
			_, other := manyCheckpoints(t) // which says more than that the configuration is another, too
			return trainer.AuditCheckpoints(context.Background(), changed, other, all, trainer.Target{Dir: whole, Resume: true})
		},
	} {
		require.ErrorContains(t, refused(), want)
	}
	merged := filepath.Join(filepath.Dir(whole), "merged")
	require.NoError(t, trainer.Merge([]string{dir(2), dir(0), dir(1)}, merged, []string{"merge"}))
	got := read(t, merged)
	requireSameRows(t, want.Records, got.Records)
	require.Equal(t, want.Info.Trainings[0].Settings, got.Info.Trainings[0].Settings)

	for _, refused := range []struct {
		dirs []string
		want string
	}{
		{[]string{dir(0)}, "of the 3 shards these are missing: 1/3, 2/3"},
		{[]string{dir(0), dir(1), dir(1), dir(2)}, "both hold shard 1/3; leave one out"},
		{[]string{dir(0), whole}, whole + " holds no shard of an audit"},
		{[]string{dir(0), filepath.Join(dir(0), "none")}, "holds no run"},
	} {
		require.ErrorContains(t, trainer.Merge(refused.dirs, merged+"-2", nil), refused.want)
		require.NoDirExists(t, merged+"-2")
	}
	other := config
	other.Audit.RelativeLambdas = []float64{0.2}
	to := trainer.Target{Dir: filepath.Join(filepath.Dir(whole), "other"), Shard: trainer.Shard{Index: 1, Of: shards}}
	require.NoError(t, trainer.AuditCheckpoints(context.Background(), other, options, all, to))
	require.ErrorContains(t, trainer.Merge([]string{dir(0), to.Dir, dir(2)}, merged+"-2", nil), `each has another configuration (audit.relative_lambdas: [0.1], and now [0.2])`)
}

// requireSameRows compares all that audits have found, but for the times and the run.
func requireSameRows(t *testing.T, want, got audit.Records) {
	t.Helper()
	require.Empty(t, cmp.Diff(want, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty(),
		cmpopts.IgnoreFields(audit.Moment{}, "RunID", "Attempt"),
		cmpopts.IgnoreFields(audit.SolveRow{}, "Seconds")))
}

func TestSelect(t *testing.T) {
	config, options := manyCheckpoints(t)
	for name, c := range map[string]struct {
		of   trainer.Selection
		want []trainer.Checkpoint
	}{
		"the latest of each":  {trainer.Selection{}, []trainer.Checkpoint{{"unet", 3, 6}, {"vit", 3, 6}, {"unet", 7, 6}, {"vit", 7, 6}}},
		"of a seed":           {trainer.Selection{Seeds: []int64{7}}, []trainer.Checkpoint{{"unet", 7, 6}, {"vit", 7, 6}}},
		"a range":             {trainer.Selection{Models: []string{"unet"}, Steps: &[2]int64{1, 5}}, []trainer.Checkpoint{{"unet", 3, 3}, {"unet", 7, 3}}},
		"one of a model only": {trainer.Selection{Models: []string{"vit"}, Seeds: []int64{3}, Steps: &[2]int64{3, 3}}, []trainer.Checkpoint{{"vit", 3, 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := trainer.Select(config, options.Dir, c.of)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	for want, of := range map[string]trainer.Selection{
		`has no model "fno"; it has unet, vit`:                  {Models: []string{"fno"}},
		"has no training with seed 5; it has those of [3 7]":    {Seeds: []int64{5}},
		"there is no checkpoint from step 4 to 5: the checkpoi": {Steps: &[2]int64{4, 5}},
	} {
		_, err := trainer.Select(config, options.Dir, of)
		require.ErrorContains(t, err, want)
	}
}

// Other groups and more probes than the training was audited on.
func TestAuditOfOtherGroupsAndProbes(t *testing.T) {
	config, b := parse(t, tinySource), backendtest.Go(t)
	config.Models, config.Training.Epochs = config.Models[1:], 1
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	trainTiny(t, config, options)
	other := config
	var err error
	other.Audit.Groups, err = trainer.ParseGroups("reflections, translations", config.Audit.Groups)
	require.NoError(t, err)
	require.Equal(t, 4.0, other.Audit.Groups[1].Stride, "as in the run")
	other.Data.Probes = 3
	records, err := auditLatest(other, options, "vit", filepath.Join(t.TempDir(), "other"))
	require.NoError(t, err)
	require.EqualValues(t, "reflections", records.Errors[0].GroupName)
	batches := map[int32]bool{}
	for _, row := range records.Solves {
		batches[row.Batch] = true
	}
	require.Len(t, batches, 3)
	groups, err := trainer.ParseGroups("[{name: translations, stride: 2}]", nil)
	require.NoError(t, err)
	require.Equal(t, []trainer.Group{{Name: "translations", Stride: 2}}, groups)
	_, err = trainer.ParseGroups("[{nam: d4}]", nil)
	require.ErrorContains(t, err, `unknown key "nam"; did you mean "name"?`)
}

// An auditor goes from checkpoint to checkpoint with all that belongs to each: with weights, and with the state of the optimizer.
func TestCheckpointsOneAfterTheOther(t *testing.T) {
	base, options := manyCheckpoints(t)
	base.Audit.Directions, base.Audit.Layers, base.Audit.Spectrum, base.Audit.LocalErrors, base.Audit.Groups = nil, false, false, false, base.Audit.Groups[:1]
	all, err := trainer.Select(base, options.Dir, trainer.Selection{Models: []string{"vit"}, Seeds: []int64{7}, Steps: &[2]int64{0, math.MaxInt64}})
	require.NoError(t, err)
	require.Len(t, all, 2)
	for _, metric := range []string{"ntk", "optimizer"} {
		config := base
		config.Audit.Metric = metric
		together := filepath.Join(t.TempDir(), "together")
		require.NoError(t, trainer.AuditCheckpoints(context.Background(), config, options, all, trainer.Target{Dir: together}))
		want := read(t, together).Records
		var alone audit.Records
		for i, at := range all {
			dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
			require.NoError(t, trainer.AuditCheckpoints(context.Background(), config, options, []trainer.Checkpoint{at}, trainer.Target{Dir: dir}))
			alone.Add(&read(t, dir).Records)
		}
		requireSameRows(t, alone, want)
		require.NotEqual(t, *want.Influence[1].Cosine, *want.Influence[len(want.Influence)/2+1].Cosine)
	}
}
