package trainer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"
)

// storeAt is a store after some steps, with a weight of the same value.
func storeAt(t *testing.T, step int64) *model.Store {
	t.Helper()
	store := model.NewStore()
	require.NoError(t, optimizer.GetGlobalStepVar(store).SetValue(tensors.FromScalar(step)))
	store.RootScope().In("layer").VariableWithValue("weight", float64(step))
	return store
}

func TestCheckpoints(t *testing.T) {
	c := checkpoints{dir: filepath.Join(t.TempDir(), "checkpoints", "vit"), keep: 2}
	found, err := c.loadLatest(model.NewStore())
	require.NoError(t, err)
	require.False(t, found)
	for _, step := range []int64{9, 10, 100} {
		require.NoError(t, c.save(storeAt(t, step)))
	}
	entries, err := os.ReadDir(c.dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "the latest, and nothing beside them")

	// What a process leaves that is killed while it saves.
	broken := filepath.Join(c.dir, ".step-000000200.inprogress")
	require.NoError(t, os.Mkdir(broken, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(broken, "checkpoint-n0000000-20260101-000000-step-00000200.json"), []byte(`{"vari`), 0o666))
	steps, err := c.steps()
	require.NoError(t, err)
	require.Len(t, steps, 2, "it does not count")
	store := model.NewStore()
	found, err = c.loadLatest(store)
	require.NoError(t, err)
	require.True(t, found)
	require.EqualValues(t, 100, optimizer.GetGlobalStep(store))
	weight := store.RootScope().In("layer").VariableWithValue("weight", float64(0))
	require.Equal(t, 100.0, weight.MustValue().Value())

	require.NoError(t, c.save(storeAt(t, 200)))
	require.NoDirExists(t, broken)
	require.NoError(t, c.save(storeAt(t, 200)), "an earlier attempt's is replaced")

	// A checkpoint that somebody damaged is an error that names it.
	steps, err = c.steps()
	require.NoError(t, err)
	require.Len(t, steps, 2)
	files, err := filepath.Glob(filepath.Join(steps[1], "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.WriteFile(files[0], []byte(`{"vari`), 0o666))
	_, err = c.loadLatest(model.NewStore())
	require.ErrorContains(t, err, "trainer: cannot load checkpoint "+steps[1])
}

func TestEndOfTraining(t *testing.T) {
	c := checkpoints{dir: t.TempDir(), keep: 1}
	_, finished, err := c.finished()
	require.NoError(t, err)
	require.False(t, finished)
	for _, want := range []string{"", "a rule"} {
		require.NoError(t, c.finish(want))
		reason, finished, err := c.finished()
		require.NoError(t, err)
		require.True(t, finished)
		require.Equal(t, want, reason)
	}
	steps, err := c.steps()
	require.NoError(t, err)
	require.Empty(t, steps)
}
