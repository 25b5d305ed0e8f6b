package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
)

// File is a checkpoint among those that GoMLX's own handler keeps in a folder.
type File struct {
	Step int64  // of the optimizer
	path string // without what the two files of a checkpoint end in
}

var named = regexp.MustCompile(`^checkpoint-n\d+-.*?(?:-step-(\d+)|-initial)$`)

// Files lists the checkpoints of GoMLX's handler in a folder, by step; of several of one step, as of a training that was resumed, the one saved last.
func Files(dir string) (all []File, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		var of *fs.PathError
		if errors.As(err, &of) {
			err = of.Err
		}
		return nil, fmt.Errorf("the folder of checkpoints %s cannot be read: %w", dir, err)
	}
	for _, entry := range entries { // sorted by name, which begins with a count
		base, found := strings.CutSuffix(entry.Name(), checkpoint.JsonNameSuffix)
		parts := named.FindStringSubmatch(base)
		if !found || parts == nil {
			continue
		}
		file := File{path: filepath.Join(dir, base)}
		if parts[1] != "" {
			if file.Step, err = strconv.ParseInt(parts[1], 10, 64); err != nil {
				continue
			}
		}
		all = slices.DeleteFunc(all, func(earlier File) bool { return earlier.Step == file.Step })
		all = append(all, file)
	}
	slices.SortFunc(all, func(a, b File) int { return cmp.Compare(a.Step, b.Step) })
	return all, nil
}

// Set gives a store's variables the values that they have in the checkpoint. One that lacks any of them is an error, and changes nothing. GoMLX's handler
// loads the latest of a folder: the checkpoint is shown to it alone in one.
func (f File) Set(store *model.Store) (err error) {
	alone, err := os.MkdirTemp("", "symaudit-checkpoint-*")
	if err != nil {
		return fmt.Errorf("checkpoint %s cannot be loaded: %w", f.path, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(alone)) }()
	for _, suffix := range []string{checkpoint.JsonNameSuffix, checkpoint.BinDataSuffix} {
		target, err := filepath.Abs(f.path + suffix)
		if err == nil {
			err = os.Symlink(target, filepath.Join(alone, filepath.Base(f.path)+suffix))
		}
		if err != nil {
			return fmt.Errorf("checkpoint %s cannot be loaded: %w", f.path, err)
		}
	}
	handler, err := load(alone)
	if err != nil {
		return fmt.Errorf("checkpoint %s%s: %w", f.path, checkpoint.JsonNameSuffix, err)
	}
	if err := compare(f.path, handler, store, false); err != nil {
		return err
	}
	return set(store, f.path, handler)
}
