package trainer

import (
	"context"
	"errors"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/network"
	"github.com/symaudit/symaudit/trainer/dataset"
)

// evaluating is an auditor whose audits have rows of table evaluation, too.
type evaluating struct {
	*audit.Auditor
	evaluation *evaluation
}

func (a evaluating) Audit(ctx context.Context, at audit.Moment) (*audit.Records, error) {
	records, err := a.Auditor.Audit(ctx, at)
	if err != nil {
		return nil, err
	}
	if records.Evaluation, err = a.evaluation.measure(ctx, at); err != nil {
		return nil, cause.In("trainer", err)
	}
	return records, nil
}

// evaluation tells how well a model predicts trajectories that it is not trained on. It works on a copy of the weights, in the precision that they are trained
// in, so that nothing of the training is touched.
type evaluation struct {
	states    *states
	batchSize int          // trajectories that are predicted together at most
	source    *model.Store // of the training
	network   *network.Network
	distances *graph.Exec // from the true states: of those predicted from the true ones before, of these, of those of a rollout and of the initial ones
}

func (s *session) newEvaluation() (*evaluation, error) {
	net, err := network.New(s.options.Backend, s.modelFn, audit.Loss, dtypes.Float32)
	if err != nil {
		return nil, cause.In("trainer", err)
	}
	distances, err := graph.NewExec(s.options.Backend, func(after, predicted, before, rolled, initial *graph.Node) *graph.Node {
		return graph.Stack([]*graph.Node{audit.SMSE(after, predicted), audit.SMSE(after, before), audit.SMSE(after, rolled), audit.SMSE(after, initial)}, 0)
	})
	if err != nil {
		net.Close()
		return nil, cause.In("trainer", err)
	}
	return &evaluation{states: s.data, batchSize: s.config.Training.BatchSize, source: s.store, network: net, distances: distances}, nil
}

func (e *evaluation) close() {
	e.network.Close()
	e.distances.Finalize()
}

// measure has a row for each state of the held-out trajectories but the initial ones, by family, trajectory and time.
func (e *evaluation) measure(ctx context.Context, at audit.Moment) (rows []audit.EvaluationRow, err error) {
	if err := e.network.Load(e.source); err != nil {
		return nil, err
	}
	var initial []dataset.Snapshot
	for _, family := range e.states.families {
		for i := range e.states.heldOut.Count {
			initial = append(initial, dataset.Snapshot{Family: family, Trajectory: e.states.heldOut.First + i})
		}
	}
	for of := range slices.Chunk(initial, e.batchSize) {
		found, err := e.errors(ctx, of)
		if err != nil {
			return nil, err
		}
		for i, trajectory := range of {
			sample := int32(len(rows) / e.states.steps)
			for t, errors := range found {
				rows = append(rows, audit.EvaluationRow{
					Moment: at, Split: e.states.heldOut.Name, Sample: sample, Class: e.states.Families[trajectory.Family].Label, Trajectory: int64(trajectory.Trajectory), TimeIndex: int32(t + 1),
					OneStepError: errors[0][i], OneStepPersistenceError: errors[1][i], RolloutError: errors[2][i], RolloutPersistenceError: errors[3][i],
				})
			}
		}
	}
	return rows, nil
}

// errors predicts the trajectories that begin with some states, in both ways: by time, then the distances in their order, then by trajectory.
func (e *evaluation) errors(ctx context.Context, of []dataset.Snapshot) (all [][4][]float64, err error) {
	held := map[*tensors.Tensor]bool{}
	defer func() {
		for tensor := range held {
			err = errors.Join(err, tensor.FinalizeAll())
		}
	}()
	hold := func(tensor *tensors.Tensor, err error) (*tensors.Tensor, error) {
		if err == nil {
			held[tensor] = true
		}
		return tensor, err
	}
	initial, err := hold(e.states.Batch(of))
	if err != nil {
		return nil, err
	}
	at := slices.Clone(of)
	before, rolled := initial, initial
	for range e.states.steps {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		for i := range at {
			at[i].Time++
		}
		after, err := hold(e.states.Batch(at))
		if err != nil {
			return nil, err
		}
		predicted, err := hold(e.network.Predict(before))
		if err != nil {
			return nil, err
		}
		carried := predicted // the first step of a rollout is one from the data
		if rolled != initial {
			if carried, err = hold(e.network.Predict(rolled)); err != nil {
				return nil, err
			}
		}
		distances, err := e.compare(after, predicted, before, carried, initial)
		if err != nil {
			return nil, err
		}
		all = append(all, distances)
		before, rolled = after, carried
		for tensor := range held {
			if tensor != initial && tensor != before && tensor != rolled {
				delete(held, tensor)
				if err := tensor.FinalizeAll(); err != nil {
					return nil, err
				}
			}
		}
	}
	return all, nil
}

// compare returns the distances of each trajectory's states.
func (e *evaluation) compare(after, predicted, before, rolled, initial *tensors.Tensor) (distances [4][]float64, err error) {
	var outputs []*tensors.Tensor
	if err := exceptions.TryCatch[error](func() { outputs = e.distances.MustCall(after, predicted, before, rolled, initial) }); err != nil {
		return distances, err
	}
	values, err := network.Values(outputs[0])
	if err != nil {
		return distances, err
	}
	n := len(values) / len(distances)
	for i := range distances {
		distances[i] = values[i*n : (i+1)*n]
	}
	return distances, nil
}
