package trainer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/checkpoint"
)

// checkpoints are a model's, one after each epoch, and beside them a file once its training has ended.
type checkpoints struct{ checkpoint.Folder }

const (
	endName  = "finished" // holds the reason where a stop rule ended the training, and the step
	bestName = "best"     // folder of the checkpoint of the best audit, where that is to be restored
)

func newCheckpoints(config Config, runDir, model string, seed int64) checkpoints {
	dir := filepath.Join(runDir, "checkpoints", model)
	if len(config.Seeds) > 0 {
		dir = filepath.Join(dir, fmt.Sprintf("seed-%d", seed))
	}
	return checkpoints{checkpoint.Folder{Dir: dir, Keep: config.Training.KeepCheckpoints}}
}

// best holds the checkpoint of the best audit.
func (c checkpoints) best() checkpoint.Folder {
	return checkpoint.Folder{Dir: filepath.Join(c.Dir, bestName), Keep: 1}
}

// finish marks the model's training as ended at a step, so that a resume leaves it alone. The reason is a stop rule's, or "".
func (c checkpoints) finish(reason string, step int) error {
	if err := atomicfile.Write(atomicfile.OS{}, filepath.Join(c.Dir, endName), fmt.Appendf(nil, "%s\n%d", reason, step)); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	return nil
}

// finished reports whether the model's training has ended, and why if a stop rule ended it. One that came to the end of its steps has not where there are
// to be more now.
func (c checkpoints) finished(steps int) (reason string, finished bool, err error) {
	path := filepath.Join(c.Dir, endName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("trainer: %w; restore %s from a copy", err, c.Dir)
	}
	reason, at, found := strings.Cut(string(text), "\n")
	if !found || reason != "" { // earlier versions wrote the reason alone
		return reason, true, nil
	}
	step, err := strconv.Atoi(at)
	if err != nil {
		return "", false, fmt.Errorf("trainer: %s says that the training ended at step %q; restore it from a copy, or remove it", path, at)
	}
	return "", step >= steps, nil
}
