package hooks

import (
	"cmp"
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
	"github.com/symaudit/symaudit/internal/monitor"
)

// Hook is an auditor attached to a loop. Like the loop it is not safe for concurrent use.
//
// What it remembers has one of three lives. For good: the configuration, failures, what each rule has seen, records that a sink
// did not take. For one run of the loop, from onStart to onEnd: why a rule stops it, its times, its dataset. And of the step
// before: its number, epoch and end. A run that begins at an earlier step than the one before ended with, from weights that
// were restored, goes on with the rules' best and without the records of the steps that it takes back.
type Hook struct {
	config Builder // as Attach has checked it; never changes
	clock  epochClock
	rules  []*progress
	sinks  []*outlet // the one that leads first
	closed bool      // no run begins any more

	// The run under way, or the latest.
	runEpochs bool     // RunEpochs, not RunSteps
	dataset   *dataset // the loop's, if it is one of ours
	stepped   bool     // the run has made a step
	reason    string   // why a rule stops the run; "" while none is met
	asked     string   // why the run was asked to end after its latest step: reason, or that the context is done

	// The step before. step is never behind the trainer's while a run is under way.
	epoch       int   // loop.Epoch
	step        int64 // optimizer steps done
	auditedStep int64 // the latest audit's; -1 where none is of these weights or earlier ones. Equal to step: nothing new to audit
	atBest      bool  // the weights are those of the best audit

	learningRate *model.Variable // found once in each run; nil before
	rateless     bool            // no learning rate was found, and that has been said

	// Time, for step_seconds: what the audits within a step take is none of the step's.
	since time.Time     // end of the step before
	spent time.Duration // since then, on audits

	// Time of this run, for schedules and the budget.
	started, lastAudit time.Time
	auditing           time.Duration // in all audits and the preflight
	latest             time.Duration // in the latest audit, or as predicted for the first; 0 while neither is known
	audits             int

	failures   []error                           // that the training has survived
	unrestored error                             // of restoring the best checkpoint
	checked    bool                              // by preflight, which runs once
	newest     atomic.Pointer[[]monitor.Reading] // of the latest audit; read from other goroutines
	replayed   int64                             // step of the trainer when the rules were shown the history
	concluded  audit.Moment                      // of the latest audit in the history

	// Records that no sink has yet, in the order of their steps. The last training rows may still lack their epoch.
	pending audit.Records
	undated []int // batches done at each of those rows, which are the last of pending.Training
}

// Stopped reports whether a stop rule was met in the latest run, which then ended, and which one, with its value, threshold, step
// and epoch. It may have been met by the audit of the run's last step: a program that calls RunEpochs for one epoch after the other
// asks here whether to go on. Before the first run it speaks of the history; see Builder.WithHistory.
func (h *Hook) Stopped() (reason string, stopped bool) { return h.reason, h.reason != "" }

// Close writes the training steps recorded since the last audit, those of a run that ended with an error for instance. It
// also returns the error of restoring the best checkpoint. It leaves auditor and sink open. Calls after the first do nothing.
func (h *Hook) Close() error {
	if h.closed {
		return nil
	}
	h.closed = true
	defer h.leave()
	return errors.Join(h.unrestored, h.flush())
}

// Flush writes the training steps that were recorded since the last audit. A program that saves checkpoints between audits calls it before each: of a
// training that is killed and goes on from a checkpoint, no step before that is then missing in the table.
func (h *Hook) Flush() error { return h.settle("a sink failed", h.flush()) }

func (h *Hook) onStart(loop *train.Loop, ds train.Dataset) error {
	if h.closed {
		return errors.New("hooks: the hook is closed; close it after the last run of its loop")
	}
	if err := h.begin(loop.Trainer.GlobalStep()); err != nil {
		return err
	}
	h.runEpochs = loop.EndStep < 0
	h.dataset = h.wrappedHere(ds)
	h.reason, h.asked = "", ""
	h.epoch, h.stepped = loop.Epoch, false
	h.learningRate = nil
	if err := h.checkRun(ds); err != nil {
		return err
	}
	if err := h.settle("a sink failed", h.flush()); err != nil { // of a run that ended with an error
		return err
	}
	if h.dataset != nil {
		h.dataset.stopped = false
	}
	h.started = h.config.now()
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
			if loop.Trainer.Store().Loader() != nil {
				return errors.New("hooks: there are no weights to audit before the first step, GoMLX takes those of a checkpoint when the model first uses them; load them at once (checkpoint.Config.Immediate), or leave WithInitialAudit out")
			}
			return errors.New("hooks: there are no weights to audit before the first step, GoMLX makes those of a new model in it; load or initialise the model first, or leave WithInitialAudit out")
		}
		if err := h.audit(loop, h.moment(loop.LoopStep)); err != nil {
			return err
		}
	}
	h.since, h.spent = h.config.now(), 0
	return nil
}

// begin takes a run up at a step: that of the run before, or an earlier one whose weights were restored. A rule that has stopped
// the run before begins to count its patience anew; what is best so far stays.
func (h *Hook) begin(step int64) error {
	if h.replayed != step && h.audits == 0 && !h.stepped && h.auditedStep < 0 {
		// The weights were loaded after Attach: the history counts up to here.
		if err := h.replay(step); err != nil {
			return err
		}
	}
	h.dropAfter(step)
	if h.auditedStep > step {
		h.auditedStep = -1 // of other weights than these, if of any
	}
	h.atBest = h.atBest && step == h.step
	if h.reason != "" && h.stepped { // not by the history alone
		for _, rule := range h.rules {
			rule.stale = 0
		}
	}
	for _, rule := range h.rules {
		if rule.latest > step+1 {
			rule.latest = 0 // the steps after this one are of other weights now
		}
	}
	h.step = step
	return h.enter(step)
}

// dropAfter forgets records that no sink has taken, of steps that the training has taken back.
func (h *Hook) dropAfter(step int64) {
	before := len(h.pending.Training)
	h.pending.DropAfter(step)
	h.undated = h.undated[:max(0, len(h.undated)-(before-len(h.pending.Training)))]
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
	if other := wrapper(ds); other != nil {
		return fmt.Errorf("hooks: %s cannot work: the loop is given the Dataset of another hook, that of model %q, and under RunEpochs no other learns when an epoch ends; give it this hook's, or where the loop has both hooks use RunSteps with WithStepsPerEpoch, or a single hook with an auditor of all groups",
			strings.Join(needs, " and "), other.hook.config.model)
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
	ended := h.config.now()
	seconds := (ended.Sub(h.since) - h.spent).Seconds()
	h.since, h.spent = ended, 0

	batches := loop.LoopStep + 1
	step := loop.Trainer.GlobalStep()
	advanced := step != h.step // not while gradients are only accumulated
	h.step, h.stepped, h.atBest = step, true, false
	epochEnded := h.followEpochs(loop, batches)
	if err := h.preflight(loop); err != nil {
		return err
	}
	at := h.moment(batches)
	loss := shapes.ConvertTo[float64](metrics[0].Value()) // GoMLX's trainer puts the batch loss first
	if h.step%int64(h.config.trainingEvery) == 0 {
		rate, err := h.rate(loop.Trainer.Store(), advanced)
		if err = h.settle("the learning rate cannot be read", err); err != nil {
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
	h.asked = h.reason
	if err := context.Cause(h.config.ctx); h.asked == "" && err != nil {
		h.asked = err.Error()
	}
	if h.asked == "" {
		return nil
	}
	if h.dataset != nil {
		h.dataset.stopped = true
	}
	if !h.runEpochs {
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
		err := h.audit(loop, h.moment(loop.LoopStep))
		if err != nil {
			return err
		}
	}
	if total := h.config.now().Sub(h.started); h.config.budget != nil && h.audits > 0 {
		h.config.log.Info().Int("audits", h.audits).Float64("share", short(h.auditing.Seconds()/total.Seconds())).
			Float64("budget", *h.config.budget).Msg("time spent on audits")
	}
	for _, rule := range h.rules {
		if h.audits > 0 && h.audits <= rule.Patience && h.config.history == nil {
			h.config.log.Warn().Str("monitor", rule.Monitor).Int("patience", rule.Patience).Int("audits", h.audits).
				Msg("the run had too few audits for the patience of a stop rule: train longer, audit more often, or raise the budget")
		}
	}
	if why := cmp.Or(h.reason, h.asked); why != "" {
		h.config.log.Info().Int64("step", h.step).Str("reason", why).Msg("stopped the training")
	}
	at := h.moment(loop.LoopStep)
	if err := h.restoreBest(loop.Trainer.Store()); err != nil {
		h.note("the best weights cannot be restored", err) // returned here, it would keep the hooks after this one from saving what there is
		h.unrestored = err
	}
	if h.stepped {
		h.pending.Decisions = append(h.pending.Decisions, h.decision(at))
	}
	return h.settle("a sink failed", h.flush())
}

// Conclude records how a training ended that the history says a rule has stopped, in the place of a process that was killed after that audit and before
// the end of its run. It does nothing where no rule has, and once a run has begun. Whether the sink has that decision already is for the caller to know.
func (h *Hook) Conclude() error {
	if h.reason == "" || h.stepped || h.closed {
		return nil
	}
	row := h.decision(h.concluded)
	row.KeptStep = h.concluded.Step
	if h.config.best != "" {
		row.KeptStep, _, _ = h.Best()
	}
	h.pending.Decisions = append(h.pending.Decisions, row)
	return h.flush()
}

// decision is how the run ended.
func (h *Hook) decision(at audit.Moment) audit.DecisionRow {
	row := audit.DecisionRow{Moment: at, Decision: audit.Finished, KeptStep: h.step}
	if why := cmp.Or(h.reason, h.asked); why != "" {
		row.Decision, row.Explanation = audit.Interrupted, &why
	}
	if h.reason != "" {
		row.Decision = audit.Stopped
	}
	if len(h.rules) > 0 {
		row.Monitor = &h.rules[0].Monitor
	}
	if step, value, found := h.Best(); found {
		row.BestStep, row.BestValue = &step, &value
	}
	return row
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
