package trainer

import (
	"context"
	"errors"
	"math"
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
