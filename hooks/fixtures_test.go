package hooks_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
)

const learningRate = 0.01

// modelFn has dropout, so that training draws random numbers at every step.
func modelFn(scope *model.Scope, x *graph.Node) *graph.Node {
	x = layers.Dense(scope.In("hidden"), x, true, 4)
	x = activation.Relu(x)
	x = layers.DropoutStatic(scope, x, 0.3)
	return layers.Dense(scope.In("output"), x, true, 1)
}

func newTrainer(b compute.Backend) *train.Trainer {
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(7))
	return train.NewTrainer(b, store, modelFn, loss.MeanSquaredError,
		optimizer.Adam().LearningRate(learningRate).Done(), nil, nil)
}

// samples is a dataset of random batches of the given sizes; each epoch draws from the same generator where the one
// before stopped, so that a batch read too much changes all that follow.
type samples struct {
	sizes   []int
	forever bool
	fail    int // yields an error in place of this batch of each epoch, counted from 1
	random  *rand.Rand
	yielded []train.Batch
}

func newSamples(sizes ...int) *samples {
	return &samples{sizes: sizes, random: rand.New(rand.NewPCG(1, 2))}
}

// endless is for RunSteps.
func endless(sizes ...int) *samples {
	s := newSamples(sizes...)
	s.forever = true
	return s
}

func (s *samples) Name() string { return "samples" }

func (s *samples) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		for {
			for i, size := range s.sizes {
				if i+1 == s.fail {
					yield(train.Batch{}, fmt.Errorf("disk on fire"))
					return
				}
				if !yield(s.batch(size), nil) {
					return
				}
			}
			if !s.forever {
				return
			}
		}
	}
}

func (s *samples) batch(size int) train.Batch {
	x, y := make([]float32, 3*size), make([]float32, size)
	for i := range x {
		x[i] = float32(s.random.NormFloat64())
		y[i/3] += x[i] * x[i]
	}
	batch := train.Batch{
		Inputs: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, size, 3)},
		Labels: []*tensors.Tensor{tensors.FromFlatDataAndDimensions(y, size, 1)},
	}
	s.yielded = append(s.yielded, batch)
	return batch
}

// requireNoneLost checks that at most one batch was read that was not trained on, and that it was freed. What becomes of
// the others is GoMLX's business.
func (s *samples) requireNoneLost(t *testing.T, trained int) {
	t.Helper()
	require.LessOrEqual(t, len(s.yielded), trained+1)
	for _, batch := range s.yielded[trained:] {
		require.False(t, batch.Inputs[0].Ok())
		require.False(t, batch.Labels[0].Ok())
	}
}

// script is an auditor that says what it is told to, audit by audit; the last coherence repeats. NaN stands for none.
type script struct {
	coherence []float64
	before    func() error // runs within each audit
	moments   []audit.Moment
}

func (s *script) Audit(_ context.Context, at audit.Moment) (*audit.Records, error) {
	if s.before != nil {
		if err := s.before(); err != nil {
			return nil, err
		}
	}
	s.moments = append(s.moments, at)
	row := audit.CoherenceRow{
		Moment: at, GroupName: "d4", Element: audit.AllElements, N: 8, RelativeLambda: ptr(0.01),
		NErrors: 8, NFiniteTargetErrors: 8, NFiniteCommutatorErrors: 8, MedianTargetError: ptr(0.5), MedianCommutatorError: ptr(0.25),
	}
	if n := len(s.coherence); n > 0 {
		if value := s.coherence[min(len(s.moments), n)-1]; value == value {
			row.Median = &value
		}
	}
	other := row
	other.Element = "r"
	// At a larger lambda, which nothing should look at.
	damped, wrong := row, 77.0
	damped.RelativeLambda, damped.Median, damped.MedianTargetError, damped.MedianCommutatorError = ptr(1.0), &wrong, &wrong, &wrong
	return &audit.Records{
		Coherence: []audit.CoherenceRow{other, row, damped},
		Errors:    []audit.ErrorRow{{Moment: at, GroupName: "d4", Element: "r"}},
		Solves:    []audit.SolveRow{{Moment: at, Products: 40, SetupProducts: 2, Status: solver.Converged}},
	}, nil
}

func (s *script) steps() []int64 {
	var steps []int64
	for _, at := range s.moments {
		steps = append(steps, at.Step)
	}
	return steps
}

func (s *script) epochs() []float64 {
	var epochs []float64
	for _, at := range s.moments {
		epochs = append(epochs, at.Epoch)
	}
	return epochs
}

// ticking is a clock that moves when it is told to.
type ticking struct{ time time.Time }

func newClock() *ticking { return &ticking{time.Unix(1e9, 0)} }

func (c *ticking) now() time.Time           { return c.time }
func (c *ticking) advance(by time.Duration) { c.time = c.time.Add(by) }
func (c *ticking) takes(t time.Duration) func() error {
	return func() error { c.advance(t); return nil }
}

// memory is a sink; it fails while fail is set.
type memory struct {
	writes []audit.Records
	fail   error
}

func (m *memory) Write(records *audit.Records) error {
	if m.fail != nil {
		return m.fail
	}
	m.writes = append(m.writes, *records)
	return nil
}

func (m *memory) training() []audit.TrainingRow {
	var rows []audit.TrainingRow
	for _, records := range m.writes {
		rows = append(rows, records.Training...)
	}
	return rows
}

func (m *memory) decisions() []audit.DecisionRow {
	var rows []audit.DecisionRow
	for _, records := range m.writes {
		rows = append(rows, records.Decisions...)
	}
	return rows
}
