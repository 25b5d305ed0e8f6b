// Package trainer trains reference surrogates of the Euler equations and audits them along the way: configuration,
// data, the training loop, checkpoints, and resuming a run that was killed.
//
// A run trains the models of a Config one after the other into one run directory:
//
//	runs/<run>/                       what package writers keeps: run.json and the tables
//	runs/<run>/checkpoints/<model>/step-<step>/   one after each epoch, in GoMLX's format
package trainer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/writers"
)

// Options are what a run needs besides its configuration.
type Options struct {
	Backend backend.Choice
	Dir     string   // run directory
	Command []string // for the run's description
	Resume  bool     // continue the run in Dir; the configuration must be the run's own, see RunConfig
	Log     zerolog.Logger
	Watcher Watcher
}

// Watcher is told how a run goes on. Each function may be nil; all are called from the training goroutine.
type Watcher struct {
	Generating func(done, total int)                      // trajectories
	Step       func(model string, done, total int)        // training steps of a model, those before a resume included
	AuditPart  func(model string, done, total int)        // parts of the audit going on
	Audited    func(model string, records *audit.Records) // written and safe
	Stopped    func(model, reason string)                 // a stop rule ended the model's training
}

// Result says how a run ended.
type Result struct {
	StoppedEarly bool // a stop rule ended the training of at least one model
}

// Train runs a configuration to its end, or until ctx is cancelled: then the step or audit going on is given up, what
// is written stays, and the run can be resumed. The error is then the context's cause.
func Train(ctx context.Context, config Config, options Options) (result Result, err error) {
	if err := config.Validate(); err != nil {
		return result, err
	}
	// Opened before anything slow: a directory that cannot be used is found out at once.
	builder := writers.Parquet(options.Dir).WithInfo(writers.Info{
		Command: options.Command, Config: config.String(), Seeds: []int64{config.Seed},
		Backend: options.Backend.Config, BackendReason: options.Backend.Reason,
	})
	if options.Resume {
		builder.WithResume()
	}
	run, err := builder.Done()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()

	data, err := loadStates(ctx, config, options)
	if err != nil {
		return result, err
	}
	for _, m := range config.Models {
		session := &session{config: config, options: options, run: run, data: data, model: m}
		stopped, err := session.train(ctx)
		if err != nil {
			return result, fmt.Errorf("model %q: %w", m.Name, err)
		}
		result.StoppedEarly = result.StoppedEarly || stopped
	}
	return result, nil
}

// RunConfig returns the configuration of the run in dir.
func RunConfig(dir string) (Config, error) {
	contents, err := writers.Read(dir)
	if err != nil {
		return Config{}, err
	}
	return ParseConfig([]byte(contents.Info.Config))
}

// AuditCheckpoint audits the latest checkpoint of a model of the run in dir, on the run's own probes, and returns the records
// without writing them.
func AuditCheckpoint(ctx context.Context, config Config, options Options, name string) (*audit.Records, error) {
	data, err := loadStates(ctx, config, options)
	if err != nil {
		return nil, err
	}
	for _, m := range config.Models {
		if m.Name != name {
			continue
		}
		session := &session{config: config, options: options, data: data, model: m}
		return session.auditCheckpoint(ctx)
	}
	var names []string
	for _, m := range config.Models {
		names = append(names, m.Name)
	}
	return nil, fmt.Errorf("trainer: the run has no model %q; it has %v", name, names)
}

func loadStates(ctx context.Context, config Config, options Options) (*states, error) {
	var all []Trajectories
	var err error
	if config.Data.Directory != "" {
		all, err = LoadData(config)
	} else {
		all, err = GenerateData(ctx, options.Backend.Backend, config, options.Watcher.Generating)
	}
	if err != nil {
		return nil, err
	}
	return newStates(config, all)
}

// session is the training of one model.
type session struct {
	config  Config
	options Options
	run     *writers.Run
	data    *states
	model   Model

	store       *model.Store
	modelFn     models.Fn
	trainer     *train.Trainer
	checkpoints checkpoints
}

// open builds the model and its trainer, from the latest checkpoint where there is one.
func (s *session) open() (found bool, err error) {
	s.store = model.NewStore()
	s.store.SetParam(model.ParamInitialSeed, s.config.Seed+1) // zero would be a seed that differs each time
	s.checkpoints = checkpoints{
		dir:  filepath.Join(s.options.Dir, "checkpoints", s.model.Name),
		keep: s.config.Training.KeepCheckpoints,
	}
	if found, err = s.checkpoints.loadLatest(s.store); err != nil {
		return false, err
	}
	normalization, err := s.data.normalization()
	if err != nil {
		return false, err
	}
	s.modelFn = s.model.fn(normalization)
	err = exceptions.TryCatch[error](func() {
		adam := optimizer.Adam().LearningRate(s.config.Training.LearningRate).WeightDecay(s.config.Training.WeightDecay).Done()
		s.trainer = train.NewTrainer(s.options.Backend.Backend, s.store, s.modelFn, audit.Loss, adam, nil, nil)
	})
	if err != nil {
		return false, fmt.Errorf("trainer: %w", err)
	}
	return found, nil
}

func (s *session) newAuditor() (*audit.Auditor, error) {
	dtype, err := s.config.Audit.dtype()
	if err != nil {
		return nil, err
	}
	builder := audit.New(s.trainer, s.modelFn, audit.Loss).
		WithDType(dtype).
		WithRelativeLambda(s.config.Audit.RelativeLambda).
		WithTolerance(s.config.Audit.Tolerance).
		WithMaxProducts(s.config.Audit.MaxProducts).
		WithLogger(s.options.Log).
		WithProgress(func(done, total int) {
			if report := s.options.Watcher.AuditPart; report != nil {
				report(s.model.Name, done, total)
			}
		})
	for _, g := range s.config.Audit.Groups {
		group, err := g.group()
		if err != nil {
			return nil, fmt.Errorf("trainer: %w", err)
		}
		builder.WithGroup(group, s.data.probesFor(group))
	}
	return builder.Done()
}

// train runs the epochs that are left and reports whether a stop rule ended them.
func (s *session) train(ctx context.Context) (stopped bool, err error) {
	resumed, err := s.open()
	if err != nil {
		return false, err
	}
	defer s.store.Finalize()
	perEpoch := s.data.dataset(s.config, 0).stepsPerEpoch()
	total := perEpoch * s.config.Training.Epochs
	epoch := int(s.trainer.GlobalStep()) / perEpoch // checkpoints are saved at the end of an epoch
	if s.finished() {
		epoch = s.config.Training.Epochs
	}
	if resumed {
		s.options.Log.Info().Str("model", s.model.Name).Int("epoch", epoch).Msg("resuming from checkpoint")
	}
	if epoch >= s.config.Training.Epochs {
		return false, nil
	}
	auditor, err := s.newAuditor()
	if err != nil {
		return false, err
	}
	defer auditor.Close()
	rules, err := s.config.Audit.stopRules()
	if err != nil {
		return false, err
	}

	loop := train.NewLoop(s.trainer)
	hook, err := hooks.New(auditor).
		WithSink(s.run).
		WithModel(s.model.Name, s.config.Seed).
		WithStepsPerEpoch(perEpoch).
		WithSchedule(hooks.EveryEpochs(s.config.Audit.EveryEpochs)).
		WithStopRules(rules...).
		WithLogger(s.options.Log).
		WithContext(ctx).
		WithOnAudit(func(records *audit.Records) {
			if report := s.options.Watcher.Audited; report != nil {
				report(s.model.Name, records)
			}
		}).
		Attach(loop)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, hook.Close()) }()
	loop.OnStep("symaudit checkpoint", 100, func(loop *train.Loop, _ []*tensors.Tensor) error {
		step := int(s.trainer.GlobalStep())
		if report := s.options.Watcher.Step; report != nil {
			report(s.model.Name, step, total)
		}
		if step%perEpoch != 0 {
			return nil
		}
		return s.checkpoints.save(s.store)
	})
	dataset := hook.Dataset(s.data.dataset(s.config, epoch))
	if _, err := loop.RunEpochs(dataset, s.config.Training.Epochs-epoch); err != nil {
		return false, err
	}
	if err := context.Cause(ctx); err != nil {
		return false, fmt.Errorf("trainer: stopped at step %d; resume with --resume: %w", s.trainer.GlobalStep(), err)
	}
	reason, stopped := hook.Stopped()
	if stopped && s.options.Watcher.Stopped != nil {
		s.options.Watcher.Stopped(s.model.Name, reason)
	}
	return stopped, s.finish()
}

// finishedName marks a model whose training has ended, by a stop rule perhaps, so that a resume leaves it alone.
const finishedName = "finished"

func (s *session) finished() bool {
	_, err := os.Stat(filepath.Join(s.checkpoints.dir, finishedName))
	return err == nil
}

func (s *session) finish() error {
	path := filepath.Join(s.checkpoints.dir, finishedName)
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	return syncPath(s.checkpoints.dir)
}

// auditCheckpoint audits the weights of the latest checkpoint.
func (s *session) auditCheckpoint(ctx context.Context) (*audit.Records, error) {
	found, err := s.open()
	if err != nil {
		return nil, err
	}
	defer s.store.Finalize()
	if !found {
		return nil, fmt.Errorf("trainer: %s has no checkpoint of model %q; train it for at least one epoch", s.options.Dir, s.model.Name)
	}
	// The model's variables, and only they, are read from the checkpoint when the model is first run.
	x, _ := s.data.batch([]transition{{}})
	err = exceptions.TryCatch[error](func() {
		model.MustNewExec(s.options.Backend.Backend, s.store, func(scope *model.Scope, x *graph.Node) *graph.Node {
			return s.modelFn(scope, x)
		}).MustExec(x)
	})
	if err != nil {
		return nil, fmt.Errorf("trainer: %w", err)
	}
	auditor, err := s.newAuditor()
	if err != nil {
		return nil, err
	}
	defer auditor.Close()
	step := s.trainer.GlobalStep()
	perEpoch := s.data.dataset(s.config, 0).stepsPerEpoch()
	return auditor.Audit(ctx, audit.Moment{
		Model: s.model.Name, Seed: s.config.Seed, Step: step, Epoch: float64(step) / float64(perEpoch),
	})
}
