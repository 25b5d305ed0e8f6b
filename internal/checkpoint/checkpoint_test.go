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
	found, err := c.LoadLatest(model.NewStore())
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
	found, err = c.LoadLatest(store)
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
	_, err = c.LoadLatest(model.NewStore())
	require.ErrorContains(t, err, "cannot load checkpoint "+steps[1])
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
		_, err = c.LoadLatest(latest)
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

// A checkpoint that lacks a variable would leave it as it was initialised.
func TestACheckpointOfAnotherModelIsNamed(t *testing.T) {
	c := Folder{t.TempDir(), 1}
	require.NoError(t, c.Matches(storeAt(t, 9)), "there is none")
	require.NoError(t, c.Save(storeAt(t, 9)))
	require.NoError(t, c.Matches(storeAt(t, 10)))

	other := model.NewStore()
	for _, name := range []string{"a", "b", "c", "d"} {
		other.RootScope().In("vit").VariableWithValue(name, float64(0))
	}
	require.EqualError(t, c.Matches(other), "checkpoint "+c.path(9)+" is of another model: of the variables of this one it lacks /vit/a, /vit/b, /vit/c and 1 more; it holds /global_step, /layer/weight")
	wider := model.NewStore()
	wider.RootScope().In("layer").VariableWithValue("weight", []float64{1, 2})
	require.ErrorContains(t, c.Matches(wider), "lacks /layer/weight, which is (Float64) there and (Float64)[2] here; it holds")

	before := wider.GetVariable("/layer/weight").MustValue().Value()
	_, err := c.Restore(wider, 9)
	require.ErrorContains(t, err, "is of another model")
	require.Equal(t, before, wider.GetVariable("/layer/weight").MustValue().Value(), "nothing is restored in part")
}
