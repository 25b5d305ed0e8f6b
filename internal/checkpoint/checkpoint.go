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
	"strings"

	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/internal/atomicfile"
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

// LoadLatest makes the newest checkpoint, if there is one, the source of the store's variables: each is read when the
// model or the optimizer first asks for it, and so is marked trainable or not by whom it belongs to.
func (f Folder) LoadLatest(store *model.Store) (found bool, err error) {
	paths, err := f.paths()
	if err != nil || len(paths) == 0 {
		return false, err
	}
	return true, load(store, paths[len(paths)-1])
}

// Matches checks that the newest checkpoint holds the trainable variables of a store, with their shapes. GoMLX initialises those
// that it does not find, without a word.
func (f Folder) Matches(like *model.Store) error {
	paths, err := f.paths()
	if err != nil || len(paths) == 0 {
		return err
	}
	return matches(like, paths[len(paths)-1])
}

func matches(like *model.Store, path string) error {
	var handler *checkpoint.Handler
	err := exceptions.TryCatch[error](func() {
		handler = checkpoint.Load(model.NewStore()).Dir(path).ExcludeAllParams().MustDone()
	})
	if err != nil {
		return fmt.Errorf("cannot load checkpoint %s: %w", path, err)
	}
	held := map[string]string{}
	var names []string // of the weights, without what optimizers and metrics keep
	for key, value := range handler.LoadedVariables() {
		name := key[strings.Index(key, "/"):]
		held[name] = value.Shape().String()
		if !strings.HasPrefix(name, "/AdamOptimizer/") && !strings.HasPrefix(name, "/metrics/") && !strings.HasPrefix(name, "/optimizers/") && !strings.HasPrefix(name, "/#") {
			names = append(names, name)
		}
		value.MustFinalizeAll()
	}
	var wrong []string
	for v := range like.IterVariables() {
		switch shape, found := held[v.Path()]; {
		case !v.Trainable:
		case !found:
			wrong = append(wrong, v.Path())
		case shape != v.Shape().String():
			wrong = append(wrong, fmt.Sprintf("%s, which is %s there and %s here", v.Path(), shape, v.Shape()))
		}
	}
	if wrong == nil {
		return nil
	}
	slices.Sort(wrong)
	slices.Sort(names)
	return fmt.Errorf("checkpoint %s is of another model: of the variables of this one it lacks %s; it holds %s", path, some(wrong), some(names))
}

// some are the first of many.
func some(all []string) string {
	const most = 3
	if len(all) <= most {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
}

// Restore sets the variables that the store has to what they were at a step, if there is a checkpoint of it. One that lacks a
// trainable variable of the store is an error: this variable would keep its value.
func (f Folder) Restore(store *model.Store, step int64) (found bool, err error) {
	paths, err := f.paths()
	if err != nil || !slices.Contains(paths, f.path(step)) {
		return false, err
	}
	if err := matches(store, f.path(step)); err != nil {
		return true, err
	}
	return true, keepingLoader(store, func() error { return load(store, f.path(step)) })
}

// load also sets the variables that exist already.
func load(store *model.Store, path string) (err error) {
	panicked := exceptions.TryCatch[error](func() {
		_, err = checkpoint.Load(store).Dir(path).ExcludeAllParams().Done()
	})
	if panicked != nil {
		err = panicked
	}
	if err != nil {
		return fmt.Errorf("cannot load checkpoint %s: %w", path, err)
	}
	return nil
}

// keepingLoader undoes that a handler attaches itself to the store as a loader.
func keepingLoader(store *model.Store, f func() error) error {
	loader := store.Loader()
	defer store.SetLoader(loader)
	return f()
}
