package hooks

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/audit"
)

// Hook is an auditor attached to a loop. Like the loop it is not safe for concurrent use.
type Hook struct {
	config Builder
	clock  clock
	rules  []*progress
	closed bool

	// The run under way.
	runEpochs    bool     // RunEpochs, not RunSteps
	dataset      *dataset // the loop's, if it is one of ours
	epoch        int      // loop.Epoch at the step before
	step         int64    // optimizer steps done at the loop's step before
	stepped      bool     // the run has made a step
	auditedStep  int64    // the latest audit's; -1 before the first
	reason       string   // why a rule stops the run; "" while none does
	cut          bool     // steps were left when it did
	learningRate *model.Variable
	rateless     bool // no learning rate was found, and that has been said

	// Time, for step_seconds.
	since time.Time     // end of the step before
	spent time.Duration // of it on audits

	// Time of this run, for schedules and the budget.
	started, lastAudit time.Time
	auditing, latest   time.Duration // in all audits and the preflight, in the latest audit or as predicted for the first
	audits             int

	failures   []error
	unrestored error                     // of restoring the best checkpoint
	checked    bool                      // by preflight
	newest     atomic.Pointer[[]reading] // of the latest audit

	// Records that the sink does not have yet. Their last rows of training steps may still lack the epoch.
	pending audit.Records
	undated []int // batches done at each of those rows
}

// Stopped reports whether a stop rule ended the latest run before its end, and which one, with its value, threshold, step and epoch.
// Before the first run it speaks of the history; see Builder.WithHistory.
func (h *Hook) Stopped() (reason string, stopped bool) { return h.reason, h.reason != "" }

// Close writes the training steps recorded since the last audit, those of a run that ended with an error for instance. It
// also returns the error of restoring the best checkpoint. It leaves auditor and sink open. Calls after the first do nothing.
func (h *Hook) Close() error {
	if h.closed {
		return nil
	}
	h.closed = true
	return errors.Join(h.unrestored, h.flush())
}

func (h *Hook) onStart(loop *train.Loop, ds train.Dataset) error {
	if h.closed {
		return errors.New("hooks: the hook is closed; close it after the last run of its loop")
	}
	h.runEpochs = loop.EndStep < 0
	h.dataset = h.own(ds)
	h.reason, h.cut = "", false
	h.epoch, h.step, h.stepped = loop.Epoch, loop.Trainer.GlobalStep(), false
	h.learningRate = nil
	if err := h.checkRun(ds); err != nil {
		return err
	}
	if err := h.failed(h.flush()); err != nil { // of a run that ended with an error
		return err
	}
	if h.dataset != nil {
		h.dataset.stopped = false
	}
	h.started = time.Now()
	h.lastAudit, h.auditing, h.audits = h.started, 0, 0
	h.clock.start(loop.LoopStep, h.runEpochs)
	if h.clock.length == 0 && !h.runEpochs {
		h.config.log.Info().Msg("the length of an epoch is not known, every row will say epoch 0; WithStepsPerEpoch tells it")
	}
	if err := h.preflight(loop); err != nil {
		return err
	}
	if h.config.initial && h.auditedStep != h.step {
		if !hasWeights(loop.Trainer.Store()) {
			return errors.New("hooks: there are no weights to audit before the first step, GoMLX makes those of a new model in it; load or initialise the model first, or leave WithInitialAudit out")
		}
		if err := h.audit(loop, h.moment(loop.LoopStep)); err != nil {
			return err
		}
	}
	h.since, h.spent = time.Now(), 0
	return nil
}

// Best is the step and value of the audit that is best by the first stop rule; false before there is one.
func (h *Hook) Best() (step int64, value float64, found bool) {
	if len(h.rules) == 0 || h.rules[0].best == nil {
		return 0, 0, false
	}
	return h.rules[0].bestStep, *h.rules[0].best, true
}

// Failures are the errors that CarryOn has kept from the training, and that of restoring the best checkpoint, oldest first.
func (h *Hook) Failures() []error { return slices.Clone(h.failures) }

// checkRun refuses what cannot work with the way the loop is run.
func (h *Hook) checkRun(ds train.Dataset) error {
	if !h.runEpochs {
		if byEpoch := h.scheduled(epochs); byEpoch != "" && h.clock.length == 0 {
			return fmt.Errorf("hooks: an audit %s needs to know how many steps an epoch has, and RunSteps does not; use WithStepsPerEpoch(n), or RunEpochs(hook.Dataset(ds), epochs)", byEpoch)
		}
		return nil
	}
	if spread := h.scheduled(times); spread != "" {
		return fmt.Errorf("hooks: audits %s need to know how many steps the run has, and RunEpochs does not; use RunSteps, or EveryEpochs", spread)
	}
	if h.dataset != nil {
		return nil
	}
	var needs []string
	if byEpoch := h.scheduled(epochs); byEpoch != "" {
		needs = append(needs, "an audit "+byEpoch)
	}
	if len(h.rules) > 0 {
		needs = append(needs, "a stop rule")
	}
	if h.config.ctx.Done() != nil {
		needs = append(needs, "a context")
	}
	if needs == nil {
		return nil
	}
	return fmt.Errorf("hooks: %s cannot work with dataset %q as it is, for RunEpochs neither tells the end of an epoch nor stops before its dataset does; use RunEpochs(hook.Dataset(ds), epochs), or RunSteps",
		strings.Join(needs, " and "), ds.Name())
}

// scheduled is the first schedule of a kind in words, or "".
func (h *Hook) scheduled(k kind) string {
	for _, schedule := range h.config.schedules {
		if schedule.kind == k {
			return schedule.String()
		}
	}
	return ""
}

// overBudget reports whether another audit and that of the last step, as long as the latest, would take more than the budget of
// the run's time.
func (h *Hook) overBudget(at time.Time) bool {
	if h.config.budget == nil || h.latest == 0 {
		return false
	}
	audits := h.auditing + 2*h.latest
	return audits.Seconds() > *h.config.budget*(at.Sub(h.started)+2*h.latest).Seconds()
}

// onStep records the step and audits it when it is due.
func (h *Hook) onStep(loop *train.Loop, metrics []*tensors.Tensor) error {
	ended := time.Now()
	seconds := (ended.Sub(h.since) - h.spent).Seconds()
	h.since, h.spent = ended, 0

	batches := loop.LoopStep + 1
	step := loop.Trainer.GlobalStep()
	advanced := step != h.step // not while gradients are only accumulated
	h.step, h.stepped = step, true
	epochEnded := h.followEpochs(loop, batches)
	if err := h.preflight(loop); err != nil {
		return err
	}
	at := h.moment(batches)
	loss := shapes.ConvertTo[float64](metrics[0].Value()) // GoMLX's trainer puts the batch loss first
	if h.step%int64(h.config.trainingEvery) == 0 {
		rate, err := h.rate(loop.Trainer.Store(), advanced)
		if err = h.failed(err); err != nil {
			return err
		}
		h.pending.Training = append(h.pending.Training, audit.TrainingRow{
			Moment: at, Loss: loss, LearningRate: rate, StepSeconds: seconds,
		})
		if h.clock.length == 0 {
			h.undated = append(h.undated, batches)
		}
	}
	here := now{
		step: h.step, advanced: advanced, epochs: h.clock.epochs, epochEnded: epochEnded,
		since: ended.Sub(h.lastAudit), done: batches - loop.StartStep, all: max(0, loop.EndStep-loop.StartStep),
	}
	due := slices.ContainsFunc(h.config.schedules, func(s Schedule) bool { return s.due(here) })
	if !due || h.overBudget(ended) || h.config.ctx.Err() != nil || math.IsNaN(loss) || math.IsInf(loss, 0) {
		return nil // of a loss that is not finite the loop itself makes an error, after the hooks
	}
	return h.audit(loop, at)
}

// onStepStop ends the run after this step, when a rule or the context says so.
func (h *Hook) onStepStop(loop *train.Loop, _ []*tensors.Tensor) error {
	why := h.reason
	if err := context.Cause(h.config.ctx); why == "" && err != nil {
		why = err.Error()
	}
	if why == "" {
		return nil
	}
	h.config.log.Info().Int64("step", h.step).Str("reason", why).Msg("stopping the training")
	if h.dataset != nil {
		h.dataset.stopped = true
	}
	if !h.runEpochs {
		h.cut = loop.LoopStep+1 < loop.EndStep
		loop.EndStep = loop.LoopStep + 1
	}
	return nil
}

// onEndRelease lets the hooks after it, and whoever comes after the run, read the dataset again.
func (h *Hook) onEndRelease(*train.Loop, []*tensors.Tensor) error {
	if h.dataset != nil {
		h.dataset.stopped = false
	}
	return nil
}

// onEnd audits the last step, unless that is done, and writes what is left.
func (h *Hook) onEnd(loop *train.Loop, _ []*tensors.Tensor) error {
	if h.runEpochs && h.dataset == nil && loop.Epoch > h.epoch {
		h.endEpoch(loop.LoopStep)
	}
	if h.stepped && h.auditedStep != h.step && h.config.ctx.Err() == nil {
		reason := h.reason
		err := h.audit(loop, h.moment(loop.LoopStep))
		h.reason = reason // a rule met now has not stopped anything
		if err != nil {
			return err
		}
	}
	if total := time.Since(h.started); h.config.budget != nil && h.audits > 0 {
		h.config.log.Info().Int("audits", h.audits).Float64("share", short(h.auditing.Seconds()/total.Seconds())).
			Float64("budget", *h.config.budget).Msg("time spent on audits")
	}
	for _, rule := range h.rules {
		if h.audits > 0 && h.audits <= rule.Patience && h.config.history == nil {
			h.config.log.Warn().Str("monitor", rule.Monitor).Int("patience", rule.Patience).Int("audits", h.audits).
				Msg("the run had too few audits for the patience of a stop rule: train longer, audit more often, or raise the budget")
		}
	}
	if h.reason != "" && !h.cut {
		h.reason = "" // a rule met by the audit of the last step has stopped nothing
	}
	if err := h.restoreBest(loop.Trainer.Store()); err != nil {
		h.keep(err) // returned here, it would keep the hooks after this one from saving what there is
		h.unrestored = err
	}
	return h.failed(h.flush())
}

// followEpochs reports whether the step just done was the last of an epoch.
func (h *Hook) followEpochs(loop *train.Loop, batches int) (ended bool) {
	switch {
	case !h.runEpochs:
		ended = h.clock.length > 0 && batches-h.clock.boundary == h.clock.length
	case h.dataset != nil:
		ended = h.dataset.exhausted()
	case loop.Epoch > h.epoch: // the epoch ended with the step before
		h.epoch = loop.Epoch
		h.endEpoch(batches - 1)
	}
	if ended {
		h.endEpoch(batches)
	}
	return ended
}

// endEpoch moves the clock on, and dates the rows that had to wait for the length of an epoch.
func (h *Hook) endEpoch(batches int) {
	h.clock.observe(batches)
	rows := h.pending.Training[len(h.pending.Training)-len(h.undated):]
	for i, at := range h.undated {
		rows[i].Epoch = h.clock.at(at)
	}
	h.undated = nil
	h.clock.advance(batches)
}

func (h *Hook) moment(batches int) audit.Moment {
	return audit.Moment{Model: h.config.model, Seed: h.config.seed, Step: h.step, Epoch: h.clock.at(batches)}
}

// rate is the learning rate of the step just done: the variable that GoMLX's optimizers read it from and its schedules
// write it to, else the hyperparameter, else 0. The variable exists once the optimizer has advanced.
func (h *Hook) rate(store *model.Store, advanced bool) (float64, error) {
	path := model.JoinPath("/", optimizer.Scope, optimizer.ParamLearningRate)
	if h.learningRate == nil {
		// Asking the store by name could create the variable from a checkpoint.
		for v := range store.IterVariables() {
			if v.Path() == path {
				h.learningRate = v
			}
		}
	}
	if h.learningRate != nil {
		value, err := h.learningRate.Value()
		if err != nil {
			return 0, fmt.Errorf("hooks: learning rate: %w", err)
		}
		return shapes.ConvertTo[float64](value.Value()), nil
	}
	parameter, _ := store.GetParam(optimizer.ParamLearningRate)
	rate, found := parameter.(float64)
	if !found && advanced && !h.rateless {
		h.rateless = true
		h.config.log.Warn().Msgf("the optimizer has no variable %s and the store no float64 parameter %q: learning_rate is recorded as 0; set the parameter to have it recorded", path, optimizer.ParamLearningRate)
	}
	return rate, nil
}

// hasWeights reports whether the model has been initialised or loaded.
func hasWeights(store *model.Store) bool {
	for v := range store.IterVariables() {
		if v.Trainable && v.HasValue() {
			return true
		}
	}
	return false
}

// guard runs f and turns a panic into an error.
func guard(f func() error) (err error) {
	panicked := exceptions.Try(func() { err = f() })
	if panicked == nil {
		return err
	}
	if cause, ok := panicked.(error); ok {
		return fmt.Errorf("panic: %w", cause)
	}
	return fmt.Errorf("panic: %v", panicked)
}
