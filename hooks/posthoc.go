package hooks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/checkpoint"
)

// AuditCheckpoints audits checkpoints of a training that has ended, in the place of Attach: those that GoMLX's checkpoint handler has left in the folder dir,
// of the optimizer steps given, or without any of all, the oldest first. A handler keeps one unless told otherwise (Keep).
//
// The store is that of the auditor's trainer, with its variables: take a training step, or load the latest checkpoint, before. It holds the weights of each
// checkpoint in turn, and what it held before in the end.
//
// Of the configuration the sinks, the model's name and seed, the steps of an epoch, the time limit, WithOnAudit, the logger and the context count. What is
// audited is written at once. The first failure ends it; the error names the step.
func (b *Builder) AuditCheckpoints(store *model.Store, dir string, steps ...int64) (err error) {
	config := *b
	files, err := checkpoint.Files(dir)
	if err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	if len(steps) > 0 {
		all := files
		files = nil
		for _, step := range slices.Sorted(slices.Values(steps)) {
			i := slices.IndexFunc(all, func(f checkpoint.File) bool { return f.Step == step })
			if i < 0 {
				return fmt.Errorf("hooks: %s has no checkpoint of step %d; it has those of %v", dir, step, stepsOf(all))
			}
			files = append(files, all[i])
		}
	}
	if len(files) == 0 {
		return fmt.Errorf("hooks: %s holds no checkpoint; name the folder that GoMLX's checkpoint handler saves to (checkpoint.Build(store).Dir)", dir)
	}
	if store.NumVariables() == 0 {
		return errors.New("hooks: the store has no variables, to which checkpoints could be loaded; take a training step, or load the latest checkpoint, before")
	}
	sinks, err := config.outlets()
	if err != nil {
		return err
	}
	h := &Hook{config: config, sinks: sinks}
	before, err := valuesOf(store)
	if err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	defer func() { err = errors.Join(err, before.putBack(store)) }()
	defer h.leave()
	for _, file := range files {
		if err := context.Cause(config.ctx); err != nil {
			return fmt.Errorf("hooks: stopped before step %d: %w", file.Step, err)
		}
		if err := file.Set(store); err != nil {
			return fmt.Errorf("hooks: %w", err)
		}
		h.step = file.Step
		if err := h.enter(file.Step); err != nil {
			return err
		}
		at := audit.Moment{Model: config.model, Seed: config.seed, Step: file.Step}
		if config.stepsPerEpoch != nil {
			at.Epoch = float64(file.Step) / float64(*config.stepsPerEpoch)
		}
		records, err := h.measure(at)
		if err != nil {
			return says(err, "audit at step %d failed", file.Step)
		}
		complete := *records
		h.pending.Add(records)
		if err := h.flush(); err != nil {
			return err
		}
		if config.onAudit != nil {
			if err := guard(func() error { config.onAudit(&complete); return nil }); err != nil {
				return says(err, "the function given to WithOnAudit failed at step %d; the audit is kept", file.Step)
			}
		}
	}
	return nil
}

func stepsOf(files []checkpoint.File) (steps []int64) {
	for _, f := range files {
		steps = append(steps, f.Step)
	}
	return steps
}

// held are the values of variables, by path.
type held map[string]*tensors.Tensor

func valuesOf(store *model.Store) (held, error) {
	all := held{}
	for v := range store.IterVariables() {
		value, err := v.Value()
		if err == nil {
			value, err = value.LocalClone()
		}
		if err != nil {
			return nil, fmt.Errorf("the variable %s cannot be kept: %w", v.Path(), err)
		}
		all[v.Path()] = value
	}
	return all, nil
}

func (all held) putBack(store *model.Store) (err error) {
	for v := range store.IterVariables() {
		if value := all[v.Path()]; value != nil {
			if failed := v.SetValue(value); failed != nil {
				err = errors.Join(err, fmt.Errorf("hooks: the variable %s cannot be put back: %w", v.Path(), failed))
			}
		}
	}
	return err
}
