package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
)

// evaluationOf is of the model that maps x to factor * x + offset, on numbered data.
func evaluationOf(t *testing.T, b compute.Backend, config Config, factor, offset float32) *evaluation {
	t.Helper()
	s := &session{config: config, options: Options{Backend: b}, data: numbered(t, config), store: model.NewStore()}
	_, err := s.store.CreateVariable("/factor", tensors.FromValue(factor))
	require.NoError(t, err)
	s.modelFn = func(scope *model.Scope, x *graph.Node) *graph.Node {
		return graph.AddScalar(graph.Mul(scope.VariableWithValue("factor", factor).NodeValue(x.Graph()), x), offset)
	}
	e, err := s.newEvaluation()
	require.NoError(t, err)
	t.Cleanup(e.close)
	return e
}

// A state of numbered data is all of one value v, and the next v + 1. The model x + 3 is 2 off after a step from the data, and 2 t after t steps of its own; no change is
// 1 off, and t. An SMSE is the square of that over the state's value.
func TestEvaluationByHand(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, batchSize := range []int{1, 4, 100} { // of 6 trajectories
			config := smallConfig()
			config.Training.BatchSize = batchSize
			e := evaluationOf(t, b, config, 1, 3)
			at := audit.Moment{Model: "known", Seed: 2, Step: 7, Epoch: 0.5}
			rows, err := e.measure(context.Background(), at)
			require.NoError(t, err)
			require.Len(t, rows, 3*2*4)
			for i, row := range rows {
				family, trajectory, steps := i/8, 3+i/4%2, 1+i%4
				state := float64(10000*family + 100*trajectory + steps)
				close := func(off int, got float64) {
					t.Helper()
					require.InEpsilon(t, math.Pow(float64(off)/state, 2), got, 1e-3, "row %d", i)
				}
				close(2, row.OneStepError)
				close(1, row.OneStepPersistenceError)
				close(2*steps, row.RolloutError)
				close(steps, row.RolloutPersistenceError)
				row.OneStepError, row.OneStepPersistenceError, row.RolloutError, row.RolloutPersistenceError = 0, 0, 0, 0
				require.Equal(t, audit.EvaluationRow{
					Moment: at, Split: "test", Sample: int32(i / 4), Class: []string{"CE-RP", "CE-CRP", "CE-RPUI"}[family], Trajectory: int64(trajectory), TimeIndex: int32(steps),
				}, row)
			}
		}
	})
}

// The factor is the variable's of the training, as it is at each evaluation.
func TestEvaluationIsOfTheWeightsThereAre(t *testing.T) {
	config := smallConfig()
	e := evaluationOf(t, backendtest.Go(t), config, 2, 0)
	for _, factor := range []float64{2, 0.5} {
		require.NoError(t, e.source.GetVariable("/factor").SetValue(tensors.FromValue(float32(factor))))
		rows, err := e.measure(context.Background(), audit.Moment{})
		require.NoError(t, err)
		for steps := 1.0; steps <= 4; steps++ { // of trajectory 3 of the first family, which begins with 300
			row := rows[int(steps)-1]
			require.InEpsilon(t, math.Pow((factor*(299+steps)-300-steps)/(300+steps), 2), row.OneStepError, 1e-3)
			require.InEpsilon(t, math.Pow((math.Pow(factor, steps)*300-300-steps)/(300+steps), 2), row.RolloutError, 1e-3)
		}
	}
	require.Equal(t, 1, e.source.NumVariables())
}

func TestValidationComesBeforeProbes(t *testing.T) {
	config := smallConfig()
	config.Data.Validation, config.Data.Steps = 1, 2
	e := evaluationOf(t, backendtest.Go(t), config, 1, 1)
	rows, err := e.measure(context.Background(), audit.Moment{})
	require.NoError(t, err)
	require.Len(t, rows, 3*1*2)
	for _, row := range rows {
		require.Equal(t, "validation", row.Split)
		require.EqualValues(t, 3, row.Trajectory)
		require.Zero(t, row.OneStepError, "x + 1 is the next state, exactly")
		require.Zero(t, row.RolloutError)
	}
	require.Equal(t, 4, e.states.tests.First)
	require.Equal(t, 3+1+2, e.states.Trajectories)
}

// What grows beyond all bounds is recorded as it is; the other errors of the state stay.
func TestEvaluationOfARolloutThatOverflows(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		e := evaluationOf(t, b, smallConfig(), 1e15, 0)
		rows, err := e.measure(context.Background(), audit.Moment{})
		require.NoError(t, err)
		for _, row := range rows {
			require.InEpsilon(t, 1e30, row.OneStepError, 0.02)
			require.InDelta(t, 0, row.RolloutPersistenceError, 1e-3)
			if row.TimeIndex == 1 {
				require.Equal(t, row.OneStepError, row.RolloutError)
				continue
			}
			require.False(t, row.RolloutError <= math.MaxFloat64, "%g", row.RolloutError)
		}
	})
}

func TestEvaluationIsGivenUp(t *testing.T) {
	e := evaluationOf(t, backendtest.Go(t), smallConfig(), 1, 0)
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(reason)
	_, err := e.measure(ctx, audit.Moment{})
	require.ErrorIs(t, err, reason)
}

// Of the model x + 3 the error falls with the value of a trajectory. Which trajectories are predicted together makes no difference.
func TestRolloutPicturesByHand(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, batchSize := range []int{1, 4, 100} { // of 6 trajectories
			config := smallConfig()
			config.Training.BatchSize = batchSize
			e := evaluationOf(t, b, config, 1, 3)
			at := audit.Moment{Model: "known", Seed: 2, Step: 7, Epoch: 0.5}
			evaluated, err := e.measure(context.Background(), at)
			require.NoError(t, err)
			rows, err := e.pictures(context.Background(), evaluated)
			require.NoError(t, err)
			channels := e.states.Field.Channels
			require.Len(t, rows, 3*5*len(channels), "trajectories, times, channels")
			seen := map[string]bool{}
			for _, row := range rows {
				seen[fmt.Sprint(row.Rank, row.TimeIndex, row.Channel)] = true
				sample := map[string]int{"best": 5, "median": 2, "worst": 0}[row.Rank]
				value, steps := float64(10000*(sample/2)+300+100*(sample%2)), int(row.TimeIndex)
				truth, prediction := row.Cells()
				require.Len(t, truth, 4)
				require.Len(t, prediction, 4)
				for y := range truth {
					require.Equal(t, slices.Repeat([]float64{value + float64(steps)}, 4), truth[y], "%v", row)
					require.Equal(t, slices.Repeat([]float64{value + 3*float64(steps)}, 4), prediction[y], "%v", row)
				}
				if steps > 0 {
					require.Equal(t, evaluated[4*sample+steps-1].RolloutError, row.RolloutError)
				} else {
					require.Zero(t, row.RolloutError)
				}
				row.Rank, row.RolloutError, row.Channel, row.Truth, row.Prediction = "", 0, "", nil, nil
				require.Equal(t, audit.RolloutRow{Moment: at, Split: "test", Sample: int32(sample), Class: []string{"CE-RP", "CE-CRP", "CE-RPUI"}[sample/2], Trajectory: int64(3 + sample%2),
					TimeIndex: int32(steps), Height: 4, Width: 4}, row)
			}
			require.Len(t, seen, len(rows))
		}
	})
}

// Of many times a few are pictured, the first and the last among them. The last error decides which trajectory is the worst, and NaN is worst. States on a line have no pictures.
func TestTimesOfRolloutPictures(t *testing.T) {
	for snapshots, want := range map[int][]int32{2: {0, 1}, 3: {0, 1, 2}, 11: {0, 3, 5, 8, 10}, 21: {0, 5, 10, 15, 20}} {
		config := smallConfig()
		config.Data.Euler.Snapshots = snapshots
		e := evaluationOf(t, backendtest.Go(t), config, 1, 3)
		evaluated, err := e.measure(context.Background(), audit.Moment{})
		require.NoError(t, err)
		steps := snapshots - 1
		evaluated[3*steps+steps-1].RolloutError = math.NaN()
		rows, err := e.pictures(context.Background(), evaluated)
		require.NoError(t, err)
		var times []int32
		for _, row := range rows {
			if row.Rank == "worst" && row.Channel == "density" {
				require.EqualValues(t, 3, row.Sample)
				times = append(times, row.TimeIndex)
			}
		}
		require.Equal(t, want, times)
		e.states.Grid = e.states.Grid[:1]
		rows, err = e.pictures(context.Background(), evaluated)
		require.NoError(t, err)
		require.Empty(t, rows)
	}
}
