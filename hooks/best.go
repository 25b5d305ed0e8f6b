package hooks

import (
	"fmt"

	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/internal/checkpoint"
)

// keepBest saves the weights if the audit just made is the best by the first rule.
func (h *Hook) keepBest(store *model.Store) error {
	if h.config.best == "" || !h.atBest {
		return nil
	}
	if err := h.bestCheckpoint().Save(store); err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	return nil
}

// restoreBest takes the model back to the best audit when a rule has stopped its training.
func (h *Hook) restoreBest(store *model.Store) error {
	if h.config.best == "" || h.reason == "" || h.rules[0].best == nil || h.atBest {
		return nil
	}
	best := h.rules[0]
	found, err := h.bestCheckpoint().Restore(store, best.bestStep)
	if err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	if !found {
		return fmt.Errorf("hooks: %s has no checkpoint of step %d, where %s was best, %.6g; the model keeps the weights of step %d", h.config.best, best.bestStep, best.Monitor, *best.best, h.step)
	}
	h.auditedStep, h.step, h.atBest = best.bestStep, best.bestStep, true
	h.config.log.Info().Int64("step", best.bestStep).Float64(best.Monitor, short(*best.best)).Msg("the weights of the best audit are restored")
	return nil
}

func (h *Hook) bestCheckpoint() checkpoint.Folder {
	return checkpoint.Folder{Dir: h.config.best, Keep: 1}
}
