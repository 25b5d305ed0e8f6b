package trainer

import (
	"context"
	"errors"
	"time"

	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/trainer/dataset"
)

// Cost is what a configuration will take on this machine, as far as can be told beforehand.
type Cost struct {
	Data   dataset.Description // of all of them
	Models []ModelCost
}

// ModelCost is that of one training of a model.
type ModelCost struct {
	Name         string
	Parameters   int
	StepsAnEpoch int
	Steps        int           // of the optimizer
	Step         time.Duration // of one, measured
	Audits       int           // -1 where the schedule does not tell
	Audit        audit.Forecast
}

// Training is how long the steps take.
func (c ModelCost) Training() time.Duration { return time.Duration(c.Steps) * c.Step }

// AuditAtLeast is how long one audit takes at least: how many products it needs is known when its intervals are narrow.
func (c ModelCost) AuditAtLeast() time.Duration {
	return time.Duration(c.Audit.Products) * c.Audit.ProductTime
}

// DryRun trains each model of a configuration for three steps and makes the preflight of its audits, on as much of the data as these take, and says what all of
// it will cost. Nothing is written.
func DryRun(ctx context.Context, config Config, options Options) (cost Cost, err error) {
	if err := config.Validate(); err != nil {
		return cost, err
	}
	if cost.Data, err = config.Data.describe(); err != nil {
		return cost, err
	}
	steps := config.stepsOf(cost.Data)
	small := config
	if config.Data.Directory == "" { // one batch of what would be generated
		each := len(config.Data.Families) * (config.Data.steps(cost.Data) - max(1, config.Training.Unroll) + 1)
		small.Data.Trajectories = min(config.Data.Trajectories, (config.Training.BatchSize+each-1)/each)
	}
	data, err := openData(ctx, small, options)
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	for _, m := range config.Models {
		s := &session{config: small, options: options, data: data, model: m, seed: config.seeds()[0]}
		of, err := s.cost(ctx)
		if err != nil {
			return cost, cause.Say("trainer: model "+m.Name+": "+cause.Plain(err), err)
		}
		of.Steps, of.StepsAnEpoch = steps, steps/config.Training.Epochs
		of.Audits = -1
		if config.Audit.Schedule == "" {
			of.Audits = (config.Training.Epochs + config.Audit.EveryEpochs - 1) / config.Audit.EveryEpochs
		}
		cost.Models = append(cost.Models, of)
	}
	return cost, nil
}

// cost tries three steps of training and the preflight.
func (s *session) cost(ctx context.Context) (of ModelCost, err error) {
	of.Name = s.model.Name
	if _, err := s.open(nil); err != nil {
		return of, err
	}
	defer s.store.Finalize()
	tried := 0
	s.config.Training.Devices = 0 // GoMLX's loop alone deals batches out
	for batch, err := range s.data.batches(s.config, s.seed, 0).Iter() {
		if err != nil {
			return of, err
		}
		if err := context.Cause(ctx); err != nil {
			return of, cause.In("trainer", err)
		}
		begun := time.Now()
		var failed error
		if panicked := exceptions.TryCatch[error](func() { _, failed = s.trainer.TrainStep(batch) }); panicked != nil {
			failed = panicked
		}
		if failed != nil {
			return of, s.explain(cause.Of(failed))
		}
		of.Step = time.Since(begun) // of the last: before the first GoMLX compiles the step, and before the second once more
		if tried++; tried == 3 {
			break
		}
	}
	for v := range s.store.IterVariables() {
		if v.Trainable && v.Shape().DType.IsFloat() {
			of.Parameters += v.Shape().Size()
		}
	}
	auditor, err := s.newAuditor()
	if err != nil {
		return of, s.explain(err)
	}
	defer auditor.Close()
	of.Audit, err = auditor.Preflight(ctx)
	return of, s.explain(err)
}
