package trainer

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
)

// checkpoints keeps a model's checkpoints, each a folder of GoMLX's own format that is renamed into place when it is
// complete: GoMLX writes the files where they stay, and a process killed then leaves one that cannot be loaded.
type checkpoints struct {
	dir  string
	keep int
}

const (
	checkpointPrefix = "step-"
	endName          = "finished" // file beside the checkpoints; holds the reason where a stop rule ended the training
)

func newCheckpoints(config Config, runDir, model string) checkpoints {
	return checkpoints{dir: filepath.Join(runDir, "checkpoints", model), keep: config.Training.KeepCheckpoints}
}

// finish marks the model's training as ended, so that a resume leaves it alone. The reason is a stop rule's, or "".
func (c checkpoints) finish(reason string) error {
	work := filepath.Join(c.dir, "."+endName+".inprogress")
	err := os.WriteFile(work, []byte(reason), 0o666)
	if err == nil {
		err = publish(work, filepath.Join(c.dir, endName))
	}
	if err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	return nil
}

// finished reports whether the model's training has ended, and why if a stop rule ended it.
func (c checkpoints) finished() (reason string, finished bool, err error) {
	text, err := os.ReadFile(filepath.Join(c.dir, endName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("trainer: %w", err)
	}
	return string(text), true, nil
}

// save writes the store's variables, the optimizer's included, as the checkpoint of its global step.
func (c checkpoints) save(store *model.Store) error {
	step := optimizer.GetGlobalStep(store)
	final := filepath.Join(c.dir, fmt.Sprintf("%s%09d", checkpointPrefix, step))
	work := filepath.Join(c.dir, fmt.Sprintf(".%s%09d.inprogress", checkpointPrefix, step))
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	if err := os.MkdirAll(work, 0o777); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	loader := store.Loader()
	defer store.SetLoader(loader) // the handler attaches itself as a loader
	handler, err := checkpoint.Build(store).Dir(work).Keep(-1).ExcludeAllParams().Done()
	if err == nil {
		err = handler.Save()
	}
	if err == nil {
		err = os.RemoveAll(final) // of an earlier attempt at the same step
	}
	if err == nil {
		err = publish(work, final)
	}
	if err != nil {
		return fmt.Errorf("trainer: cannot save checkpoint %s: %w", final, err)
	}
	steps, err := c.steps()
	if err != nil {
		return err
	}
	for len(steps) > c.keep {
		if err := os.RemoveAll(steps[0]); err != nil {
			return fmt.Errorf("trainer: cannot remove old checkpoint: %w", err)
		}
		steps = steps[1:]
	}
	return nil
}

// steps lists the complete checkpoints, oldest first.
func (c checkpoints) steps() ([]string, error) {
	entries, err := os.ReadDir(c.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("trainer: %w", err)
	}
	var paths []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), checkpointPrefix) {
			paths = append(paths, filepath.Join(c.dir, entry.Name()))
		}
	}
	slices.Sort(paths)
	return paths, nil
}

// loadLatest makes the newest checkpoint, if there is one, the source of the store's variables: each is read when the
// model or the optimizer first asks for it, and so is marked trainable or not by whom it belongs to.
func (c checkpoints) loadLatest(store *model.Store) (found bool, err error) {
	paths, err := c.steps()
	if err != nil || len(paths) == 0 {
		return false, err
	}
	latest := paths[len(paths)-1]
	panicked := exceptions.TryCatch[error](func() {
		_, err = checkpoint.Load(store).Dir(latest).ExcludeAllParams().Done()
	})
	if panicked != nil {
		err = panicked
	}
	if err != nil {
		return false, fmt.Errorf("trainer: cannot load checkpoint %s: %w", latest, err)
	}
	return true, nil
}
