package checkpoint

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
	c := Folder{filepath.Join(t.TempDir(), "checkpoints", "vit"), 2}
	found, err := c.LoadLatest(model.NewStore(), nil)
	require.NoError(t, err)
	require.False(t, found)
	for _, step := range []int64{9, 10, 100} {
		require.NoError(t, c.Save(storeAt(t, step)))
	}
	entries, err := os.ReadDir(c.Dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "the latest, and nothing beside them")

	// What a process leaves that is killed while it saves.
	broken := filepath.Join(c.Dir, ".step-000000200.inprogress")
	require.NoError(t, os.Mkdir(broken, 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(broken, "checkpoint-n0000000-20260101-000000-step-00000200.json"), []byte(`{"vari`), 0o666))
	steps, err := c.paths()
	require.NoError(t, err)
	require.Len(t, steps, 2, "it does not count")
	store := model.NewStore()
	found, err = c.LoadLatest(store, nil)
	require.NoError(t, err)
	require.True(t, found)
	require.EqualValues(t, 100, optimizer.GetGlobalStep(store))
	weight := store.RootScope().In("layer").VariableWithValue("weight", float64(0))
	require.Equal(t, 100.0, weight.MustValue().Value())

	require.NoError(t, c.Save(storeAt(t, 200)))
	require.NoDirExists(t, broken)
	require.NoError(t, c.Save(storeAt(t, 200)), "an earlier attempt's is replaced")

	// A checkpoint that somebody damaged is an error that names it.
	steps, err = c.paths()
	require.NoError(t, err)
	require.Len(t, steps, 2)
	files, err := filepath.Glob(filepath.Join(steps[1], "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, os.WriteFile(files[0], []byte(`{"vari`), 0o666))
	_, err = c.LoadLatest(model.NewStore(), nil)
	require.ErrorContains(t, err, "checkpoint "+steps[1]+" is damaged: ")
}

func TestRestoring(t *testing.T) {
	c := Folder{t.TempDir(), 3}
	for _, step := range []int64{9, 10, 100} {
		require.NoError(t, c.Save(storeAt(t, step)))
	}
	store := storeAt(t, 120)
	found, err := c.Restore(store, 11)
	require.NoError(t, err)
	require.False(t, found)
	require.EqualValues(t, 120, optimizer.GetGlobalStep(store))
	found, err = c.Restore(store, 10)
	require.NoError(t, err)
	require.True(t, found)
	require.EqualValues(t, 10, optimizer.GetGlobalStep(store))
	require.Equal(t, 10.0, store.GetVariable("/layer/weight").MustValue().Value())
	require.Nil(t, store.Loader(), "variables that are made later must not come from the checkpoint")

	for range 2 { // it may be interrupted and done again
		best := Folder{filepath.Join(c.Dir, "best"), 1}
		require.NoError(t, best.Save(store))
		found, err := c.Promote(best, 10)
		require.NoError(t, err)
		require.True(t, found)
		latest := model.NewStore()
		_, err = c.LoadLatest(latest, nil)
		require.NoError(t, err)
		require.EqualValues(t, 10, optimizer.GetGlobalStep(latest))
	}
	for _, from := range []string{"nothing", "best"} {
		found, err = c.Promote(Folder{filepath.Join(c.Dir, from), 1}, 11)
		require.NoError(t, err)
		require.False(t, found)
	}
	paths, err := c.paths()
	require.NoError(t, err)
	require.Len(t, paths, 2, "steps 9 and 10")
}

// A folder may hold a later step already, of an earlier training: what is saved stays.
func TestTheOneSavedLastIsKept(t *testing.T) {
	c := Folder{t.TempDir(), 1}
	for _, step := range []int64{9, 4} {
		require.NoError(t, c.Save(storeAt(t, step)))
		paths, err := c.paths()
		require.NoError(t, err)
		require.Equal(t, []string{c.path(step)}, paths)
	}
	entries, err := os.ReadDir(c.Dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing hidden")
}

// GoMLX initialises what a checkpoint lacks, and leaves what a store has and a checkpoint lacks as it is.
func TestACheckpointOfAnotherModelIsRefused(t *testing.T) {
	c := Folder{t.TempDir(), 1}
	saved := storeAt(t, 7)
	saved.RootScope().In("layer").VariableWithValue("bias", []float32{1, 2})
	saved.RootScope().In("metrics").In("loss_of_this_process").VariableWithValue("mean", 1.0)
	require.NoError(t, c.Save(saved))
	storeOf := func(build func(layer, other *model.Scope)) *model.Store {
		store := storeAt(t, 9)
		build(store.RootScope().In("layer"), store.RootScope().In("other"))
		return store
	}
	for name, change := range map[string]struct {
		of          *model.Store
		want        string
		isAlsoExtra bool // more than the store has, which restoring does not mind
	}{
		"lacks": {storeOf(func(layer, other *model.Scope) {
			layer.VariableWithValue("bias", []float32{0, 0})
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				other.VariableWithValue(name, 1.0)
			}
		}), "it lacks /other/a, lacks /other/b, lacks /other/c and 2 more;", false},
		"shape": {storeOf(func(layer, _ *model.Scope) { layer.VariableWithValue("bias", []float32{0, 0, 0}) }),
			"it has /layer/bias as (Float32)[2] instead of (Float32)[3]", false},
		"type": {storeOf(func(layer, _ *model.Scope) { layer.VariableWithValue("bias", []float64{0, 0}) }),
			"it has /layer/bias as (Float32)[2] instead of (Float64)[2]", false},
		"more": {storeOf(func(_, _ *model.Scope) {}), "it has /layer/bias, which the model does not have", true},
	} {
		t.Run(name, func(t *testing.T) {
			into := model.NewStore()
			_, err := c.LoadLatest(into, change.of)
			require.ErrorContains(t, err, c.path(7)+" is of another model: "+change.want)
			require.Nil(t, into.Loader())
			found, err := c.Restore(change.of, 7)
			if change.isAlsoExtra {
				require.NoError(t, err)
				require.True(t, found)
				return
			}
			require.ErrorContains(t, err, change.want)
			require.EqualValues(t, 9, optimizer.GetGlobalStep(change.of), "nothing is restored in part")
		})
	}
	same := storeOf(func(layer, _ *model.Scope) { layer.VariableWithValue("bias", []float32{0, 0}) })
	same.RootScope().In("metrics").In("loss_of_another").VariableWithValue("mean", 5.0)
	_, err := c.LoadLatest(model.NewStore(), same)
	require.NoError(t, err)
	_, err = c.Restore(same, 7)
	require.NoError(t, err)
	require.Equal(t, []float32{1, 2}, same.GetVariable("/layer/bias").MustValue().Value())
	require.Equal(t, 5.0, same.GetVariable("/metrics/loss_of_another/mean").MustValue().Value())
}
