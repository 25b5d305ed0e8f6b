package hooks

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/monitor"
)

// Auditor audits a model with the weights it has now: an *audit.Auditor is one. It must leave the training's variables
// as they are. When ctx is cancelled it gives up with an error that wraps the context's.
type Auditor interface {
	Audit(ctx context.Context, at audit.Moment) (*audit.Records, error)
}

// Builder configures a Hook. Its methods return it; Attach checks everything.
type Builder struct {
	auditor       Auditor
	sinks         []audit.Sink
	schedules     []Schedule
	initial       bool
	rules         []StopRule
	history       []audit.CoherenceRow
	best          string
	model         string
	seed          int64
	stepsPerEpoch *int
	trainingEvery int
	ctx           context.Context
	onAudit       func(*audit.Records)
	budget        *float64
	timeLimit     time.Duration
	failures      FailurePolicy
	preflight     PreflightLevel
	log           zerolog.Logger
	now           func() time.Time // the clock; tests set another
}

// FailurePolicy is what becomes of the training when an audit or a sink fails.
type FailurePolicy int

const (
	// EndTraining ends it with the error. What is written stays.
	EndTraining FailurePolicy = iota
	// CarryOn logs the error, keeps it for Hook.Failures, and trains on. Records that a sink did not take are offered to it again
	// with the next audit and by Close; if those fail too, Close returns the error.
	CarryOn
)

// PreflightLevel is what becomes of the faults that are found before the first audit.
type PreflightLevel int

const (
	PreflightError   PreflightLevel = iota // they end the training
	PreflightWarning                       // they are logged
	PreflightOff                           // the check is skipped
)

// preflighter is an auditor that can check itself; an *audit.Auditor can.
type preflighter interface {
	Preflight(ctx context.Context) (audit.Forecast, error)
}

// New starts the configuration of a hook that runs auditor.
func New(auditor Auditor) *Builder {
	return &Builder{auditor: auditor, model: "model", trainingEvery: 1, ctx: context.Background(), log: zerolog.Nop(), now: time.Now}
}

// WithSink streams the records to each of the sinks, one Write for each audit, with the training steps since the audit before it.
// The first that describes its run, as a *writers.Run does, leads, wherever it stands in the list, and without one the first: the
// others get what it has, with its run_id and attempt where it describes a run. One that fails keeps the others from nothing unless it
// leads, and what it lacks is offered to it alone when they are next written to, and by Close; see WithFailures. The default is no sink:
// records go to the stop rules and to WithOnAudit only.
func (b *Builder) WithSink(sinks ...audit.Sink) *Builder { b.sinks = sinks; return b }

// DefaultBudget is the share of a run's time that audits may take where neither a schedule nor a budget is given.
const DefaultBudget = 0.05

// WithSchedule says when to audit: whenever one of the schedules says so. Without a schedule it is as often as the budget
// allows. Besides, there is always an audit of the last step of a run.
func (b *Builder) WithSchedule(schedules ...Schedule) *Builder { b.schedules = schedules; return b }

// WithBudget limits the share of a run's time that audits take, 0.05 for five percent: an audit that is due is left out while
// it and the one of the last step would break the limit if they took as long as the one before, or, before the first, as long
// as the preflight predicts. The audit of the last step is never left out: a run shorter than it allows is over the budget.
// Probes and tolerance are not touched, or audits could not be compared. The log says at the end what share audits took.
// Without a schedule the budget is DefaultBudget; with one there is none unless it is set here.
func (b *Builder) WithBudget(share float64) *Builder { b.budget = &share; return b }

// WithTimeLimit gives up an audit that takes longer; that is a failure, see WithFailures. audit.Builder.WithMaxTime ends
// a solve without one, with wider intervals. The default is no limit.
func (b *Builder) WithTimeLimit(limit time.Duration) *Builder { b.timeLimit = limit; return b }

// WithPreflight says what becomes of the faults that an auditor's Preflight finds, before the first step where the model has its
// weights already, and after it otherwise. The default is PreflightError: they end the training before its time is lost.
func (b *Builder) WithPreflight(level PreflightLevel) *Builder { b.preflight = level; return b }

// WithFailures says what becomes of the training when an audit, or a sink, fails. The default is EndTraining.
func (b *Builder) WithFailures(policy FailurePolicy) *Builder { b.failures = policy; return b }

// WithInitialAudit audits before the first step of each run, too. The model must have its weights by then; GoMLX makes
// those of a new model only in the first step. The default is no such audit.
func (b *Builder) WithInitialAudit() *Builder { b.initial = true; return b }

// WithStopRules ends the training when one of the rules is met. The default is none.
func (b *Builder) WithStopRules(rules ...StopRule) *Builder { b.rules = rules; return b }

// WithBestCheckpoint keeps in the folder dir a checkpoint, in GoMLX's format, of the audit that is best by the first stop rule,
// and when a rule stops the training, sets all variables back to it: weights, optimizer, step and random state. A checkpoint
// hook that saves at the end of the run (its priority above 50) then saves the best model. Resuming needs WithHistory, too. Where
// it cannot be restored the model stays as it is, and Close says so. Attach makes the folder. By default none is kept.
func (b *Builder) WithBestCheckpoint(dir string) *Builder { b.best = dir; return b }

// WithHistory shows the stop rules the audits that a resumed training has behind it, so that it stops where it would have
// stopped uninterrupted: the coherence rows of its run, all of them. Those of other models, seeds and series are left out, and
// those after the step that the training resumes from, for these audits are still to come. If the history has met a rule
// already, Hook.Stopped says so after Attach. By default the rules begin anew.
func (b *Builder) WithHistory(rows []audit.CoherenceRow) *Builder {
	b.history = append([]audit.CoherenceRow{}, rows...) // not nil, though there be none
	return b
}

// WithModel names the model and the seed of its training in the records: with the run they are what tells one training's rows from
// another's, so that each training that writes to a run needs its own. The default is "model", 0.
func (b *Builder) WithModel(name string, seed int64) *Builder { b.model, b.seed = name, seed; return b }

// WithStepsPerEpoch declares how many steps of the loop, one batch each, make an epoch. Under RunSteps an epoch schedule
// needs it, and without it every row says epoch 0. Under RunEpochs the length is found out when the first epoch ends;
// without this, audits before that count only the whole epochs of this process.
func (b *Builder) WithStepsPerEpoch(n int) *Builder { b.stepsPerEpoch = &n; return b }

// WithTrainingEvery records each k-th training step. The default is 1, every step.
func (b *Builder) WithTrainingEvery(k int) *Builder { b.trainingEvery = k; return b }

// WithContext ends the training cleanly after the current step when ctx is cancelled. An audit under way is given up;
// those finished are kept. The loop then returns no error: ask the context. The default is one that never ends.
func (b *Builder) WithContext(ctx context.Context) *Builder { b.ctx = ctx; return b }

// WithOnAudit calls f after each audit, when its records are safe in the sinks. The records must not be changed. By default nobody is
// told.
func (b *Builder) WithOnAudit(f func(*audit.Records)) *Builder { b.onAudit = f; return b }

// WithLogger logs a line for each audit, and when and why the training is stopped. By default nothing is logged.
func (b *Builder) WithLogger(log zerolog.Logger) *Builder { b.log = log; return b }

// Attach checks the configuration and adds the hook to a loop. What depends on how the loop is run is checked when it
// starts. Close the hook after the training.
func (b *Builder) Attach(loop *train.Loop) (*Hook, error) {
	switch {
	case isNil(b.auditor):
		return nil, errors.New("hooks: there is no auditor: hooks.New got nil; give it that of audit.Builder.Done, and look at Done's error first")
	case loop == nil || loop.Trainer == nil:
		return nil, errors.New("hooks: there is no loop: Attach got nil, or a loop without a trainer; give it the train.NewLoop of the trainer that is audited")
	}
	sinks, err := b.outlets()
	if err != nil {
		return nil, err
	}
	config := *b
	if len(b.schedules) == 0 {
		config.schedules = []Schedule{EverySteps(1)}
		if share := DefaultBudget; b.budget == nil {
			config.budget = &share
		}
	}
	for _, schedule := range config.schedules {
		if err := schedule.validate(); err != nil {
			return nil, err
		}
	}
	if b.preflight < PreflightError || b.preflight > PreflightOff {
		return nil, fmt.Errorf("hooks: unknown preflight level %d; use hooks.PreflightError, hooks.PreflightWarning or hooks.PreflightOff", b.preflight)
	}
	if b.budget != nil && !(*b.budget > 0 && *b.budget <= 1) {
		return nil, fmt.Errorf("hooks: the budget of audits is %g of the time; use a share above 0 and at most 1", *b.budget)
	}
	if b.timeLimit < 0 {
		return nil, fmt.Errorf("hooks: the time limit of an audit is %v; it must be positive, or 0 for none", b.timeLimit)
	}
	if b.failures != EndTraining && b.failures != CarryOn {
		return nil, fmt.Errorf("hooks: unknown failure policy %d; use hooks.EndTraining or hooks.CarryOn", b.failures)
	}
	if b.stepsPerEpoch != nil && *b.stepsPerEpoch < 1 {
		return nil, fmt.Errorf("hooks: %d steps per epoch; an epoch has at least 1", *b.stepsPerEpoch)
	}
	if b.trainingEvery < 1 {
		return nil, fmt.Errorf("hooks: every %d-th training step is to be recorded; use 1 for each", b.trainingEvery)
	}
	if b.ctx == nil {
		return nil, errors.New("hooks: the context is nil; leave WithContext out")
	}
	if b.model == "" || !utf8.ValidString(b.model) || strings.ContainsFunc(b.model, unicode.IsControl) {
		return nil, fmt.Errorf("hooks: the model is called %q; its name must be text in UTF-8 without control characters, for it stands in every row (WithModel)", b.model)
	}
	if of, ok := b.auditor.(interface{ Audits(*model.Store) bool }); ok && !of.Audits(loop.Trainer.Store()) {
		return nil, errors.New("hooks: the auditor was made with another trainer than the loop's, so that its audits would be of another model; give audit.New the trainer of this loop")
	}
	h := &Hook{config: config, sinks: sinks, auditedStep: -1}
	for _, rule := range b.rules {
		if err := rule.Validate(); err != nil {
			return nil, err
		}
		rule.Monitor = monitor.Canonical(rule.Monitor)
		if err := rule.checkMonitor(b.auditor); err != nil {
			return nil, err
		}
		h.rules = append(h.rules, &progress{StopRule: rule})
	}
	if b.best != "" && len(h.rules) == 0 {
		return nil, fmt.Errorf("hooks: the best checkpoint is to be kept in %s, but no stop rule says what is best; add one with WithStopRules", b.best)
	}
	if b.best != "" {
		if err := os.MkdirAll(b.best, 0o777); err != nil {
			return nil, fmt.Errorf("hooks: the best checkpoint cannot be kept in %s: %w; choose another folder (WithBestCheckpoint)", b.best, errors.Unwrap(err))
		}
	}
	if b.stepsPerEpoch != nil {
		h.clock.length = *b.stepsPerEpoch
	}
	h.step = loop.Trainer.GlobalStep()
	if err := h.replay(h.step); err != nil {
		return nil, err
	}
	if err := h.enter(h.step); err != nil {
		return nil, err
	}
	if run := h.keeper(); run != nil && run.Attempt() > 1 && len(b.rules) > 0 && b.history == nil {
		b.log.Warn().Int32("attempt", run.Attempt()).Msg("stop rules begin anew, for they were not shown the audits before the resume: pass those to WithHistory")
	}
	const name = "symaudit"
	loop.OnStart(name, auditPriority, h.onStart)
	loop.OnStep(name, auditPriority, h.onStep)
	loop.OnStep(name+" stop", stopPriority, h.onStepStop)
	loop.OnEnd(name+" release", math.MinInt, h.onEndRelease)
	loop.OnEnd(name, auditPriority, h.onEnd)
	return h, nil
}

// isNil reports whether an interface holds nothing, or a pointer that is nil.
func isNil(x any) bool {
	v := reflect.ValueOf(x)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// Between the two a checkpoint hook at priority 100 saves the weights that were audited.
const (
	auditPriority train.Priority = 50
	stopPriority  train.Priority = 200
)
