package trainer_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/trainer"
)

func parametersOf(records audit.Records, model string) *int64 {
	for _, row := range records.Solves {
		if row.Model == model {
			return row.Parameters
		}
	}
	return nil
}

// A dry run counts what the run then makes, and makes nothing.
func TestDryRun(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	config.Audit.EveryEpochs = 2
	dir := t.TempDir()
	t.Chdir(dir)
	options := optionsFor(b, "")
	generated := 0
	options.Watcher.Generating = func(_, total int) { generated = total }
	cost, err := trainer.DryRun(t.Context(), config, options)
	require.NoError(t, err)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Equal(t, 2*(1+1), generated, "a trajectory of each family has the transitions of a batch, and one is a probe")
	require.Equal(t, 3, cost.Data.Trajectories, "all of them are counted")

	options.Dir = filepath.Join(dir, "run")
	got := trainTiny(t, config, options)
	for i, m := range cost.Models {
		require.Equal(t, config.Models[i].Name, m.Name)
		require.Equal(t, []int{tinyEpoch, tinyEpoch * tinyEpochs, 2}, []int{m.StepsAnEpoch, m.Steps, m.Audits})
		require.EqualValues(t, *parametersOf(got.Records, m.Name), m.Parameters)
		require.Positive(t, m.Step)
		require.Equal(t, 9*m.Step, m.Training())
		require.Positive(t, m.AuditAtLeast())
		require.Positive(t, m.Audit.Bytes)
	}
	config.Audit.EveryEpochs, config.Audit.Schedule = 1, "every 5 steps"
	cost, err = trainer.DryRun(t.Context(), config, options)
	require.NoError(t, err)
	require.Equal(t, -1, cost.Models[0].Audits)
}
