// Package checkpoint keeps checkpoints in GoMLX's format that are there whole or not at all: each is a folder that is renamed
// into place when it is complete. GoMLX writes the files where they stay, and a process killed then leaves some that cannot
// be loaded.
package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/cause"
)

// Folder holds checkpoints of one model, each named by its optimizer step.
type Folder struct {
	Dir  string
	Keep int // the one saved last and the latest of the others; the rest is removed
}

const prefix = "step-"

func (f Folder) path(step int64) string {
	return filepath.Join(f.Dir, fmt.Sprintf("%s%09d", prefix, step))
}

// Save writes the store's variables, the optimizer's and the random state included, as the checkpoint of its global step.
// Hyperparameters are left out.
func (f Folder) Save(store *model.Store) error {
	final := f.path(optimizer.GetGlobalStep(store))
	work := filepath.Join(f.Dir, "."+filepath.Base(final)+".inprogress")
	err := f.sweep()
	if err == nil {
		err = os.MkdirAll(work, 0o777)
	}
	if err == nil {
		err = keepingLoader(store, func() error {
			handler, err := checkpoint.Build(store).Dir(work).Keep(-1).ExcludeAllParams().Done()
			if err == nil {
				err = handler.Save()
			}
			return err
		})
	}
	if err == nil {
		err = remove(final) // of an earlier attempt at the same step
	}
	if err == nil {
		err = atomicfile.Publish(work, final)
	}
	if err != nil {
		return fmt.Errorf("cannot save checkpoint %s: %w", final, err)
	}
	paths, err := f.paths()
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(paths, func(path string) bool { return path == final })
	return remove(others[:max(0, len(others)-f.Keep+1)]...)
}

// Promote copies the checkpoint of a step from another folder, if it has that, and removes those of later steps.
func (f Folder) Promote(from Folder, step int64) (found bool, err error) {
	paths, err := from.paths()
	best := from.path(step)
	if err != nil || !slices.Contains(paths, best) {
		return false, err
	}
	final := filepath.Join(f.Dir, filepath.Base(best))
	work := filepath.Join(f.Dir, "."+filepath.Base(best)+".inprogress")
	if err = os.RemoveAll(work); err == nil {
		err = os.CopyFS(work, os.DirFS(best))
	}
	if err == nil {
		err = remove(final)
	}
	if err == nil {
		err = atomicfile.Publish(work, final)
	}
	if err != nil {
		return false, fmt.Errorf("cannot copy checkpoint %s: %w", best, err)
	}
	if paths, err = f.paths(); err != nil {
		return false, err
	}
	return true, remove(slices.DeleteFunc(paths, func(path string) bool { return path <= final })...)
}

// remove removes checkpoints that may be there. Each vanishes at once and is then taken apart.
func remove(paths ...string) error {
	for _, path := range paths {
		hidden := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".removed")
		err := os.RemoveAll(hidden)
		if err == nil {
			err = os.Rename(path, hidden)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.RemoveAll(hidden)
		}
		if err != nil {
			return fmt.Errorf("cannot remove old checkpoint: %w", err)
		}
	}
	return nil
}

// sweep removes what processes have left that were killed while they saved or removed a checkpoint.
func (f Folder) sweep() error {
	entries, err := os.ReadDir(f.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "."+prefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(f.Dir, entry.Name())))
		}
	}
	return err
}

// paths lists the complete checkpoints, oldest first.
func (f Folder) paths() ([]string, error) {
	entries, err := os.ReadDir(f.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			paths = append(paths, filepath.Join(f.Dir, entry.Name()))
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// Steps lists those of the complete checkpoints, oldest first.
func (f Folder) Steps() (steps []int64, err error) {
	paths, err := f.paths()
	for _, path := range paths {
		step, failed := strconv.ParseInt(strings.TrimPrefix(filepath.Base(path), prefix), 10, 64)
		if failed == nil {
			steps = append(steps, step)
		}
	}
	return steps, err
}

// LoadLatest is Load of the newest checkpoint, if there is one.
func (f Folder) LoadLatest(store, of *model.Store) (found bool, err error) {
	steps, err := f.Steps()
	if err != nil || len(steps) == 0 {
		return false, err
	}
	return true, f.Load(steps[len(steps)-1], store, of)
}

// Load makes the checkpoint of a step, which must be there, the source of the store's variables: each is read when the
// model or the optimizer first asks for it, and so is marked trainable or not by whom it belongs to.
//
// A store with the variables that the model will ask for, built without a checkpoint, makes sure that they are these: GoMLX
// initialises at random, without a word, what a checkpoint lacks. It may be nil.
func (f Folder) Load(step int64, store, of *model.Store) error {
	path := f.path(step)
	handler, err := load(path)
	if err == nil && of != nil {
		err = compare(path, handler, of, true)
	}
	if err == nil {
		err = set(store, path, handler)
	}
	if err != nil {
		return err
	}
	store.SetLoader(handler)
	return nil
}

// Restore sets the variables that the store has to what they were at a step, if there is a checkpoint of it. One that
// lacks any of them is an error, and changes nothing.
func (f Folder) Restore(store *model.Store, step int64) (found bool, err error) {
	paths, err := f.paths()
	path := f.path(step)
	if err != nil || !slices.Contains(paths, path) {
		return false, err
	}
	handler, err := load(path)
	if err == nil {
		err = compare(path, handler, store, false)
	}
	if err == nil {
		err = set(store, path, handler)
	}
	return err == nil, err
}

// load reads a checkpoint without giving it to a store.
func load(path string) (handler *checkpoint.Handler, err error) {
	panicked := exceptions.TryCatch[error](func() {
		handler, err = checkpoint.Load(model.NewStore()).Dir(path).ExcludeAllParams().Done()
	})
	if panicked != nil {
		err = panicked
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s is damaged: %w; restore it from a copy, or remove it: then the one before counts", path, cause.Of(err))
	}
	return handler, nil
}

// set gives the store's variables the values that the checkpoint has of them.
func set(store *model.Store, path string, handler *checkpoint.Handler) error {
	for v := range store.IterVariables() {
		value, found := handler.LoadVariable(store, v.Path())
		if !found {
			continue
		}
		if err := v.SetValue(value); err != nil {
			return fmt.Errorf("cannot load %s from checkpoint %s: %w", v.Path(), path, err)
		}
	}
	return nil
}

// compare refuses a checkpoint that lacks a variable of a store or has it in another shape or type; strictly, also one
// that has more of the same model, as one with a further layer has.
func compare(path string, handler *checkpoint.Handler, store *model.Store, strictly bool) error {
	const variable = "var:"            // begins the keys of LoadedVariables
	noPart := func(path string) bool { // of a model: metrics, named at random by each process, and the random state
		return strings.HasPrefix(path, "/metrics/") || path == "/"+model.RNGStateVariableName
	}
	held := handler.LoadedVariables()
	scope := func(path string) string { return strings.Split(path, "/")[1] }
	needed, scopes := map[string]bool{}, map[string]bool{}
	var differences, others []string
	for v := range store.IterVariables() {
		if noPart(v.Path()) {
			continue
		}
		needed[v.Path()] = true
		scopes[scope(v.Path())] = true
		value, found := held[variable+v.Path()]
		switch {
		case !found:
			differences = append(differences, "lacks "+v.Path())
		case !value.Shape().Equal(v.Shape()):
			differences = append(differences, fmt.Sprintf("has %s as %s instead of %s", v.Path(), value.Shape(), v.Shape()))
		}
	}
	for key := range held {
		if name := strings.TrimPrefix(key, variable); !needed[name] && !noPart(name) {
			others = append(others, name)
			if strictly && scopes[scope(name)] {
				differences = append(differences, "has "+name+", which the model does not have")
			}
		}
	}
	if len(differences) == 0 {
		return nil
	}
	instead := ""
	if len(others) > 0 {
		instead = "; beside the model's variables it holds " + firstFew(others)
	}
	return fmt.Errorf("checkpoint %s is of another model: it %s%s; use the checkpoint with the configuration that it was trained with",
		path, firstFew(differences), instead)
}

func firstFew(all []string) string {
	const few = 3
	slices.Sort(all)
	if len(all) <= few {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:few], ", "), len(all)-few)
}

// keepingLoader undoes that a handler attaches itself to the store as a loader.
func keepingLoader(store *model.Store, f func() error) error {
	loader := store.Loader()
	defer store.SetLoader(loader)
	return f()
}
