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
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/writers"
)

// session is the training of one model.
type session struct {
	config      Config
	options     Options
	data        *states
	model       Model
	checkpoints checkpoints
	sinks       []audit.Sink // beside the run

	store     *model.Store
	modelFn   models.Fn
	optimizer optimizer.Interface
	trainer   *train.Trainer
}

// open builds the model and its trainer, from the latest checkpoint where there is one.
func (s *session) open() (found bool, err error) {
	s.store = model.NewStore()
	s.store.SetParam(model.ParamInitialSeed, s.config.Seed+1) // zero would be a seed that differs each time
	normalization, err := s.data.normalization()
	if err != nil {
		return false, err
	}
	s.modelFn = s.model.fn(normalization)
	variables, err := s.variables()
	if err == nil {
		found, err = s.checkpoints.LoadLatest(s.store, variables)
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
		s.trainer = train.NewTrainer(s.options.Backend, s.store, s.modelFn, audit.Loss, s.optimizer, nil, nil)
	})
	if err != nil {
		return false, fmt.Errorf("trainer: %w", err)
	}
	return found, nil
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
				report(s.model.Name, done, total)
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
	resumed, err := s.open()
	if err != nil {
		return "", err
	}
	defer s.store.Finalize()
	auditor, err := s.newAuditor()
	if err != nil {
		return "", s.explain(err)
	}
	defer auditor.Close()
	loop := train.NewLoop(s.trainer)
	hook, err := s.attach(ctx, loop, auditor, run, history.Coherence)
	if err != nil {
		return "", s.explain(err)
	}
	defer func() { err = errors.Join(err, hook.Close()) }()

	batches := s.data.batches(s.config, 0)
	if asked := s.config.Training.BatchSize; asked > batches.batchSize {
		s.options.Log.Warn().Str("model", s.model.Name).Int("batch_size", asked).Int("transitions", batches.batchSize).
			Msg("training.batch_size is larger than the training data: every batch holds all of them")
	}
	epochs, perEpoch := s.config.Training.Epochs, batches.stepsPerEpoch()
	batches.epoch = loop.LoopStep / perEpoch // checkpoints are of whole epochs
	if resumed {
		s.options.Log.Info().Str("model", s.model.Name).Int("epoch", batches.epoch).Msg("resuming from a checkpoint")
	}
	s.keepCheckpoints(ctx, loop, perEpoch*epochs)
	_, stopped := hook.Stopped() // in an earlier attempt that was killed before it could finish
	decided := slices.ContainsFunc(history.Decisions, func(row audit.DecisionRow) bool {
		return row.Model == s.model.Name && row.Seed == s.config.Seed && row.Decision == audit.Stopped
	})
	if stopped && !decided {
		if err := hook.Conclude(); err != nil {
			return "", s.explain(err)
		}
	}
	if !stopped && batches.epoch < epochs {
		_, err := loop.RunEpochs(hook.Dataset(batches), epochs-batches.epoch)
		if err = cause.Of(err); err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			err = s.explain(err)
			return "", cause.Say(fmt.Sprintf("trainer: stopped at step %d of %d: %s", s.trainer.GlobalStep(), perEpoch*epochs, cause.Plain(err)), err)
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
	if loop.LoopStep == perEpoch*epochs {
		return "", nil // the rule was met by the audit of the last step: nothing was left to stop
	}
	if report := s.options.Watcher.Stopped; report != nil {
		report(s.model.Name, reason)
	}
	return reason, nil
}

func (s *session) attach(ctx context.Context, loop *train.Loop, auditor *audit.Auditor, run *writers.Run, history []audit.CoherenceRow) (*hooks.Hook, error) {
	rules, err := s.config.Audit.stopRules()
	if err != nil {
		return nil, err
	}
	builder := hooks.New(auditor).
		WithSink(append([]audit.Sink{run}, s.sinks...)...).
		WithModel(s.model.Name, s.config.Seed).
		WithStepsPerEpoch(s.data.batches(s.config, 0).stepsPerEpoch()).
		WithSchedule(hooks.EveryEpochs(s.config.Audit.EveryEpochs)).
		WithStopRules(rules...).
		WithHistory(history).
		WithLogger(s.options.Log).
		WithContext(ctx).
		WithOnAudit(func(records *audit.Records) {
			if report := s.options.Watcher.Audited; report != nil {
				report(s.model.Name, records)
			}
		})
	if s.config.Audit.RestoreBest {
		builder.WithBestCheckpoint(s.checkpoints.best().Dir)
	}
	return builder.Attach(loop)
}

// keepCheckpoints saves one after each epoch, and after its audit: an epoch whose audit was given up, or is still to
// come as the last one's may be, is trained again on resuming.
func (s *session) keepCheckpoints(ctx context.Context, loop *train.Loop, total int) {
	const afterAudit = 100
	perEpoch := total / s.config.Training.Epochs
	save := func() error {
		if ctx.Err() != nil {
			return nil
		}
		if err := s.checkpoints.Save(s.store); err != nil {
			return fmt.Errorf("trainer: %w", err)
		}
		return nil
	}
	loop.OnStep("symaudit checkpoint", afterAudit, func(*train.Loop, []*tensors.Tensor) error {
		step := int(s.trainer.GlobalStep())
		if report := s.options.Watcher.Step; report != nil {
			report(s.model.Name, step, total)
		}
		if step%perEpoch != 0 || step == total {
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

// auditCheckpoint audits the weights of the latest checkpoint on the probes that the training was audited on, which same tells, by a method
// of the auditor. It returns the settings too.
func (s *session) auditCheckpoint(same func(*audit.Auditor) bool, by func(*audit.Auditor, audit.Moment) (*audit.Records, error)) (records *audit.Records, settings map[string]string, err error) {
	found, err := s.open()
	if err != nil {
		return nil, nil, err
	}
	defer s.store.Finalize()
	if !found {
		return nil, nil, s.noCheckpoint()
	}
	auditor, err := s.newAuditor()
	if err != nil {
		return nil, nil, s.explain(err)
	}
	defer auditor.Close()
	if !same(auditor) {
		return nil, nil, fmt.Errorf("trainer: the probes are not those that %s was audited on: has its configuration or data been changed, or are the data generated on another backend (--backend; this is %s)? Put them back", s.options.Dir, s.options.backendName())
	}
	step := s.trainer.GlobalStep()
	perEpoch := s.data.batches(s.config, 0).stepsPerEpoch()
	records, err = by(auditor, audit.Moment{
		Model: s.model.Name, Seed: s.config.Seed, Step: step, Epoch: float64(step) / float64(perEpoch),
	})
	return records, auditor.Settings(), s.explain(err)
}

func (s *session) noCheckpoint() error {
	return fmt.Errorf("trainer: %s has no checkpoint of model %q; train it for at least one epoch", s.options.Dir, s.model.Name)
}
