package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/gomlx/gomlx/ml/train/optimizer/cosineschedule"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/writers"
)

// session is the training of one model with one seed.
type session struct {
	config      Config
	options     Options
	data        *states
	model       Model
	seed        int64
	checkpoints checkpoints
	sinks       []audit.Sink // beside the run

	store     *model.Store
	modelFn   models.Fn // one step
	optimizer optimizer.Interface
	trainer   *train.Trainer
}

// open builds the model and its trainer, from the checkpoint of a step, or from the latest where there is one.
func (s *session) open(step *int64) (found bool, err error) {
	s.store = model.NewStore()
	s.store.SetParam(model.ParamInitialSeed, s.seed+1) // zero would be a seed that differs each time
	normalization, err := s.data.normalization()
	if err != nil {
		return false, err
	}
	s.modelFn = s.model.fn(s.data.Description, normalization, Training{})
	variables, err := s.variables()
	switch {
	case err != nil:
	case step == nil:
		found, err = s.checkpoints.LoadLatest(s.store, variables)
	default:
		found, err = true, s.checkpoints.Load(*step, s.store, variables)
	}
	if err != nil {
		return false, fmt.Errorf("trainer: %w", err)
	}
	if found {
		for v := range variables.IterVariables() {
			s.store.GetVariable(v.Path()).Trainable = v.Trainable
		}
	}
	err = exceptions.TryCatch[error](func() {
		s.optimizer = optimizer.Adam().LearningRate(s.config.Training.LearningRate).WeightDecay(s.config.Training.WeightDecay).Done()
		s.trainer = train.NewTrainer(s.options.Backend, s.store, s.predict(s.model.fn(s.data.Description, normalization, s.config.Training)), meanLoss, s.optimizer, nil, nil)
	})
	if err != nil {
		return false, fmt.Errorf("trainer: %w", err)
	}
	return found, nil
}

// load takes the model to another checkpoint of the same training.
func (s *session) load(step int64) error {
	if err := s.checkpoints.Load(step, s.store, nil); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	return nil
}

// predict is what is trained: the states after each of the steps that a prediction is carried on for.
func (s *session) predict(step models.Fn) func(scope *model.Scope, x *graph.Node) []*graph.Node {
	training := s.config.Training
	unroll := max(1, training.Unroll)
	period := s.config.stepsOf(s.data.Description)
	return func(scope *model.Scope, x *graph.Node) (all []*graph.Node) {
		if training.Rate == cosineRate {
			cosineschedule.New(scope, x.Graph(), x.DType()).LearningRate(training.LearningRate).PeriodSteps(period).Done()
		}
		for range unroll {
			if training.Recompute && unroll > 1 {
				x = step(scope, x.Checkpoint()).StopCheckpoint()
			} else {
				x = step(scope, x)
			}
			all = append(all, x)
		}
		return all
	}
}

// meanLoss is the SMSE of predictions, averaged over those of several steps.
func meanLoss(labels, predictions []*graph.Node) *graph.Node {
	loss := audit.Loss(labels[:1], predictions[:1])
	for i := 1; i < len(labels); i++ {
		loss = graph.Add(loss, audit.Loss(labels[i:i+1], predictions[i:i+1]))
	}
	return graph.DivScalar(loss, float64(len(labels)))
}

// variables is a store with the model's variables, which have shapes and no values.
func (s *session) variables() (*model.Store, error) {
	store := model.NewStore()
	shape := shapes.Make(dtypes.Float32, append([]int{1}, append(slices.Clone(s.data.Grid), len(s.data.Field.Channels))...)...)
	err := exceptions.TryCatch[error](func() {
		g := graph.NewGraph(s.options.Backend, "variables")
		defer g.Finalize()
		model.SetStore(g, store)
		s.modelFn(store.RootScope(), graph.Parameter(g, "x", shape))
	})
	return store, err
}

func (s *session) newAuditor() (*audit.Auditor, error) {
	settings := s.config.Audit
	builder := settings.configure(audit.New(s.trainer, s.modelFn, audit.Loss).WithField(s.data.Field), s.data.Field.Channels).
		WithLogger(s.options.Log).
		WithProgress(func(done, total int) {
			if report := s.options.Watcher.AuditPart; report != nil {
				report(s.name(), done, total)
			}
		})
	if settings.Metric == string(audit.MetricOptimizer) {
		builder.WithOptimizer(s.optimizer)
	}
	var metrics []*audit.MetricStates
	var err error
	if settings.MetricOver == overTrajectories {
		if metrics, err = s.data.metricStates(); err != nil {
			return nil, cause.In("trainer", err)
		}
	}
	for _, g := range settings.Groups {
		group, err := g.group(s.data.Description)
		if err != nil {
			return nil, cause.In("trainer", err)
		}
		probes, err := s.data.probesFor(group, metrics)
		if err != nil {
			return nil, cause.In("trainer", err)
		}
		builder.WithGroup(group, probes)
	}
	return builder.Done()
}

// explain is an error of the hook, the auditor or the run in the words of a configuration.
func (s *session) explain(err error) error {
	var preflight *hooks.PreflightFault
	if errors.As(err, &preflight) {
		err = cause.Say("trainer: audits of this model would fail or mean nothing: "+cause.Plain(preflight.Err), err)
	}
	var other *writers.OtherSettingsError
	if !errors.As(err, &other) {
		return byKey(err)
	}
	var all []string
	for _, d := range other.Differences {
		all = append(all, d.String())
	}
	remedy := "resume it with the version and the configuration that began it, or choose another directory"
	if slices.ContainsFunc(other.Differences, func(d writers.Difference) bool { return strings.HasPrefix(d.Setting, audit.SettingProbes) }) {
		remedy = fmt.Sprintf("the data are not those of before: they differ by rounding where they are generated on another backend (--backend; this is %s), and with another seed", s.options.backendName())
	}
	return cause.Say(fmt.Sprintf("trainer: %s has audits of model %q with other settings: %s; %s", other.Dir, other.Model, strings.Join(all, ", "), remedy), err)
}

// train runs the epochs that are left. The reason is a stop rule's, if one ended them early. history are the audits of
// earlier attempts.
func (s *session) train(ctx context.Context, run *writers.Run, history *audit.Records) (reason string, err error) {
	resumed, err := s.open(nil)
	if err != nil {
		return "", err
	}
	defer s.store.Finalize()
	auditor, err := s.newAuditor()
	if err != nil {
		return "", s.explain(err)
	}
	defer auditor.Close()
	audits := hooks.Auditor(auditor)
	if s.config.Training.Evaluate {
		evaluation, err := s.newEvaluation()
		if err != nil {
			return "", err
		}
		defer evaluation.close()
		audits = evaluating{auditor, evaluation, s.config.Audit.Pictures}
	}
	loop := train.NewLoop(s.trainer)
	hook, err := s.attach(ctx, loop, audits, run, history.Coherence)
	if err != nil {
		return "", s.explain(err)
	}
	defer func() { err = errors.Join(err, hook.Close()) }()

	batches := s.data.batches(s.config, s.seed, loop.LoopStep)
	if asked := s.config.Training.BatchSize; asked > batches.batchSize {
		s.options.Log.Warn().Str("model", s.model.Name).Int("batch_size", asked).Int("transitions", batches.batchSize).
			Msg("training.batch_size is larger than the training data: every batch holds all of them")
	}
	if group := s.config.Training.Augment; group != nil {
		if batches.augment, err = s.augmentation(*group); err != nil {
			return "", err
		}
		defer batches.augment.close()
	}
	total := s.config.stepsOf(s.data.Description)
	if resumed {
		s.options.Log.Info().Str("model", s.model.Name).Int64("seed", s.seed).Int("step", loop.LoopStep).Msg("resuming from a checkpoint")
	}
	s.keepCheckpoints(ctx, loop, hook, batches.stepsPerEpoch(), total)
	_, stopped := hook.Stopped() // in an earlier attempt that was killed before it could finish
	decided := slices.ContainsFunc(history.Decisions, func(row audit.DecisionRow) bool {
		return row.Model == s.model.Name && row.Seed == s.seed && row.Decision == audit.Stopped
	})
	if stopped && !decided {
		if err := hook.Conclude(); err != nil {
			return "", s.explain(err)
		}
	}
	if !stopped && loop.LoopStep < total {
		dealt, err := batches.onDevices(s.options.Backend)
		if err != nil {
			return "", err
		}
		_, err = loop.RunSteps(dealt, total-loop.LoopStep)
		if err = cause.Of(err); err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			err = s.explain(err)
			return "", cause.Say(fmt.Sprintf("trainer: stopped at step %d of %d: %s", s.trainer.GlobalStep(), total, cause.Plain(err)), err)
		}
	}
	reason, stopped = hook.Stopped()
	if !stopped {
		return "", nil
	}
	if best, _, _ := hook.Best(); s.config.Audit.RestoreBest {
		found, err := s.checkpoints.Promote(s.checkpoints.best(), best)
		if err != nil {
			return "", fmt.Errorf("trainer: %w", err)
		}
		if !found {
			s.options.Log.Warn().Str("model", s.model.Name).Int64("step", best).Msg("the checkpoint of the best audit is not there: the latest stays")
		}
	}
	if loop.LoopStep == total {
		return "", nil // the rule was met by the audit of the last step: nothing was left to stop
	}
	if report := s.options.Watcher.Stopped; report != nil {
		report(s.name(), reason)
	}
	return reason, nil
}

func (s *session) attach(ctx context.Context, loop *train.Loop, auditor hooks.Auditor, run *writers.Run, history []audit.CoherenceRow) (*hooks.Hook, error) {
	rules, err := s.config.Audit.stopRules()
	if err != nil {
		return nil, err
	}
	schedules, err := s.config.Audit.schedules()
	if err != nil {
		return nil, err
	}
	builder := hooks.New(auditor).
		WithSink(append([]audit.Sink{run}, s.sinks...)...).
		WithModel(s.model.Name, s.seed).
		WithStepsPerEpoch(s.data.batches(s.config, s.seed, 0).stepsPerEpoch()).
		WithSchedule(schedules...).
		WithStopRules(rules...).
		WithHistory(history).
		WithLogger(s.options.Log).
		WithContext(ctx).
		WithOnAudit(func(records *audit.Records) {
			if report := s.options.Watcher.Audited; report != nil {
				report(s.name(), records)
			}
		})
	if budget := s.config.Audit.Budget; budget > 0 {
		builder.WithBudget(budget)
	}
	if s.config.Audit.RestoreBest {
		builder.WithBestCheckpoint(s.checkpoints.best().Dir)
	}
	return builder.Attach(loop)
}

// augmentation is that of the training, by a group of a configuration that is valid.
func (s *session) augmentation(of Group) (*augmentation, error) {
	group, err := of.group(s.data.Description)
	if err != nil {
		return nil, cause.In("trainer", err)
	}
	return newAugmentation(group, s.data.Description, s.options.Backend)
}

// keepCheckpoints saves one after each epoch and as often within it as the configuration says, and after the audit of the step: one that was given up, or
// is still to come as the last step's may be, is made when the steps before it are trained again on resuming.
func (s *session) keepCheckpoints(ctx context.Context, loop *train.Loop, hook *hooks.Hook, perEpoch, total int) {
	const afterAudit = 100
	save := func() error {
		if ctx.Err() != nil {
			return nil
		}
		if err := hook.Flush(); err != nil {
			return err
		}
		if err := s.checkpoints.Save(s.store); err != nil {
			return fmt.Errorf("trainer: %w", err)
		}
		return nil
	}
	every := s.config.Training.SaveEvery
	loop.OnStep("symaudit checkpoint", afterAudit, func(*train.Loop, []*tensors.Tensor) error {
		step := int(s.trainer.GlobalStep())
		if report := s.options.Watcher.Step; report != nil {
			report(s.name(), step, total)
		}
		if step == total || step%perEpoch != 0 && (every == 0 || step%every != 0) {
			return nil
		}
		return save()
	})
	loop.OnEnd("symaudit checkpoint", afterAudit, func(*train.Loop, []*tensors.Tensor) error {
		if int(s.trainer.GlobalStep()) != total {
			return nil
		}
		return save()
	})
}

// name is what a Watcher hears.
func (s *session) name() string { return s.config.training(s.model.Name, s.seed) }
