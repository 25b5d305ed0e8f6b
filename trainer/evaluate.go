package trainer

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/internal/picture"
	"github.com/symaudit/symaudit/solver/network"
	"github.com/symaudit/symaudit/trainer/dataset"
)

// evaluating is an auditor whose audits have rows of table evaluation, too, and of rollouts where pictures are asked for.
type evaluating struct {
	*audit.Auditor
	evaluation *evaluation
	pictures   bool
}

func (a evaluating) Audit(ctx context.Context, at audit.Moment) (*audit.Records, error) {
	records, err := a.Auditor.Audit(ctx, at)
	if err != nil {
		return nil, err
	}
	if records.Evaluation, err = a.evaluation.measure(ctx, at); err != nil {
		return nil, cause.In("trainer", err)
	}
	if a.pictures {
		if records.Rollouts, err = a.evaluation.pictures(ctx, records.Evaluation); err != nil {
			return nil, cause.In("trainer", err)
		}
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
	for of := range e.batches() {
		found, err := e.errors(ctx, of, func(int, *tensors.Tensor, *tensors.Tensor) error { return nil })
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

// mostTimes is how many times of a trajectory are pictured besides the initial one.
const mostTimes = 4

// pictures are those of the trajectories whose rollouts end with the smallest, the middle and the largest error, by batch, time and channel; of states on a plane alone. rows
// are what measure has found, whose weights the network still has. The batches of these trajectories are predicted again: which ones they are is known when all
// have been, and to keep the states of all until then would take memory in proportion to the data.
func (e *evaluation) pictures(ctx context.Context, rows []audit.EvaluationRow) (all []audit.RolloutRow, err error) {
	steps := e.states.steps
	if len(e.states.Grid) != 2 {
		return nil, nil
	}
	var ends []float64
	for last := steps - 1; last < len(rows); last += steps {
		ends = append(ends, rows[last].RolloutError)
	}
	times := []int{0}
	for n, i := min(mostTimes, steps), 1; i <= n; i++ {
		times = append(times, (i*steps+n/2)/n)
	}
	chosen, first := picture.Choose(ends), 0 // of the batch's trajectories
	for of := range e.batches() {
		ours := slices.DeleteFunc(slices.Clone(chosen), func(c picture.Choice) bool { return c.Sample < first || c.Sample >= first+len(of) })
		if len(ours) > 0 {
			_, err := e.errors(ctx, of, func(time int, truth, prediction *tensors.Tensor) error {
				if !slices.Contains(times, time) {
					return nil
				}
				drawn, err := e.draw(rows, ours, first, time, truth, prediction)
				all = append(all, drawn...)
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		first += len(of)
	}
	return all, nil
}

// draw pictures the states of some trajectories at a time, all channels. first is the trajectory that the batch begins with.
func (e *evaluation) draw(rows []audit.EvaluationRow, chosen []picture.Choice, first, time int, truth, prediction *tensors.Tensor) (all []audit.RolloutRow, err error) {
	var values [2][]float64
	for i, states := range []*tensors.Tensor{truth, prediction} {
		copied, err := states.LocalClone()
		if err != nil {
			return nil, err
		}
		if values[i], err = network.Values(copied); err != nil {
			return nil, err
		}
	}
	channels := e.states.Field.Channels
	height, width := e.states.Grid[0], e.states.Grid[1]
	size := height * width * len(channels)
	for _, choice := range chosen {
		evaluated, rolloutError := rows[choice.Sample*e.states.steps], 0.0
		if time > 0 {
			rolloutError = rows[choice.Sample*e.states.steps+time-1].RolloutError
		}
		at := (choice.Sample - first) * size
		for c, channel := range channels {
			row := audit.RolloutRow{Moment: evaluated.Moment, Split: evaluated.Split, Sample: evaluated.Sample, Class: evaluated.Class, Trajectory: evaluated.Trajectory, TimeIndex: int32(time),
				Rank: choice.Rank, RolloutError: rolloutError, Channel: channel}
			row.Height, row.Width, row.Truth = picture.Of(values[0][at:at+size], height, width, len(channels), c)
			_, _, row.Prediction = picture.Of(values[1][at:at+size], height, width, len(channels), c)
			all = append(all, row)
		}
	}
	return all, nil
}

// batches are the initial states of the held-out trajectories, so many at once as are predicted together.
func (e *evaluation) batches() iter.Seq[[]dataset.Snapshot] {
	var initial []dataset.Snapshot
	for _, family := range e.states.families {
		for i := range e.states.heldOut.Count {
			initial = append(initial, dataset.Snapshot{Family: family, Trajectory: e.states.heldOut.First + i})
		}
	}
	return slices.Chunk(initial, e.batchSize)
}

// errors predicts the trajectories that begin with some states, in both ways: by time, then the distances in their order, then by trajectory. see is shown the true states and
// those of the rollouts, from the initial ones on, where they are the same; they are freed afterwards.
func (e *evaluation) errors(ctx context.Context, of []dataset.Snapshot, see func(time int, truth, prediction *tensors.Tensor) error) (all [][4][]float64, err error) {
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
	for time := 0; ; time++ {
		if err := see(time, before, rolled); err != nil || time == e.states.steps {
			return all, err
		}
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
