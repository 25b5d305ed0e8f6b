package trainer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/checkpoint"
)

// checkpoints are a model's, one after each epoch, and beside them a file once its training has ended.
type checkpoints struct{ checkpoint.Folder }

const (
	endName  = "finished" // holds the reason where a stop rule ended the training
	bestName = "best"     // folder of the checkpoint of the best audit, where that is to be restored
)

func newCheckpoints(config Config, runDir, model string) checkpoints {
	return checkpoints{checkpoint.Folder{Dir: filepath.Join(runDir, "checkpoints", model), Keep: config.Training.KeepCheckpoints}}
}

// best holds the checkpoint of the best audit.
func (c checkpoints) best() checkpoint.Folder {
	return checkpoint.Folder{Dir: filepath.Join(c.Dir, bestName), Keep: 1}
}

// finish marks the model's training as ended, so that a resume leaves it alone. The reason is a stop rule's, or "".
func (c checkpoints) finish(reason string) error {
	if err := atomicfile.Write(atomicfile.OS{}, filepath.Join(c.Dir, endName), []byte(reason)); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	return nil
}

// finished reports whether the model's training has ended, and why if a stop rule ended it.
func (c checkpoints) finished() (reason string, finished bool, err error) {
	text, err := os.ReadFile(filepath.Join(c.Dir, endName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("trainer: %w; restore %s from a copy", err, c.Dir)
	}
	return string(text), true, nil
}
