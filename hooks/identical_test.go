package hooks_test

import (
	"context"
	"math/rand"
	"regexp"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	gomlxdataset "github.com/gomlx/gomlx/ml/dataset"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
)

// evaluator audits by running the model in evaluation mode on a copy of its weights.
type evaluator struct {
	script
	trainer *train.Trainer
}

func (e *evaluator) Audit(ctx context.Context, at audit.Moment) (*audit.Records, error) {
	store, err := e.trainer.Store().Clone()
	if err != nil {
		return nil, err
	}
	defer store.Finalize()
	exec, err := model.NewExec(e.trainer.Backend(), store, modelFn)
	if err != nil {
		return nil, err
	}
	defer exec.Finalize()
	outputs, err := exec.Call([][]float32{{1, 2, 3}})
	if err != nil {
		return nil, err
	}
	defer outputs[0].MustFinalizeAll()
	value := float64(outputs[0].Value().([][]float32)[0][0])
	e.coherence = append(e.coherence, value)
	return e.script.Audit(ctx, at)
}

// instance is what tells a metric's variables from those of the same metric in another trainer, at random.
var instance = regexp.MustCompile(`_uuid_[0-9a-f-]+`)

// state is every variable of a store, byte for byte: weights, optimizer, random state, metrics and counters.
func state(t *testing.T, store *model.Store) map[string]string {
	t.Helper()
	values := map[string]string{}
	for v := range store.IterVariables() {
		require.NoError(t, v.MustValue().ConstBytes(func(data []byte) {
			values[instance.ReplaceAllString(v.Path(), "")] = string(data)
		}))
	}
	return values
}

func TestTrainingIsBitIdenticalWithTheHook(t *testing.T) {
	type run func(t *testing.T, loop *train.Loop, wrap func(train.Dataset) train.Dataset)
	steps := func(t *testing.T, loop *train.Loop, wrap func(train.Dataset) train.Dataset) {
		data := newSamples(4, 4, 4, 1)
		data.forever = true
		ds := wrap(data)
		for _, n := range []int{7, 6} { // a batch read too much in the first run would be missing in the second
			_, err := loop.RunSteps(ds, n)
			require.NoError(t, err)
		}
	}
	epochs := func(t *testing.T, loop *train.Loop, wrap func(train.Dataset) train.Dataset) {
		ds := wrap(newSamples(4, 4, 4, 1))
		for _, n := range []int{2, 1} {
			_, err := loop.RunEpochs(ds, n)
			require.NoError(t, err)
		}
	}
	shuffled := func(t *testing.T, loop *train.Loop, wrap func(train.Dataset) train.Dataset) {
		x, y := make([]float32, 3*13), make([]float32, 13)
		random := rand.New(rand.NewSource(3))
		for i := range x {
			x[i] = float32(random.NormFloat64())
			y[i/3] += x[i]
		}
		inMemory, err := gomlxdataset.InMemoryFromData(loop.Trainer.Backend(), "shuffled",
			[]any{tensors.FromFlatDataAndDimensions(x, 13, 3)}, []any{tensors.FromFlatDataAndDimensions(y, 13, 1)})
		require.NoError(t, err)
		_, err = loop.RunEpochs(wrap(inMemory.BatchSize(4, false).Shuffle().WithRand(random)), 3)
		require.NoError(t, err)
	}
	accumulated := func(t *testing.T, loop *train.Loop, wrap func(train.Dataset) train.Dataset) {
		require.NoError(t, loop.Trainer.AccumulateGradients(2))
		epochs(t, loop, wrap)
	}

	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for name, run := range map[string]run{"steps": steps, "epochs": epochs, "shuffled epochs": shuffled, "accumulated gradients": accumulated} {
			t.Run(name, func(t *testing.T) {
				plain := newTrainer(b)
				run(t, train.NewLoop(plain), func(ds train.Dataset) train.Dataset { return ds })

				hooked := newTrainer(b)
				loop, auditor := train.NewLoop(hooked), &evaluator{trainer: hooked}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithSink(&memory{}).WithContext(ctx).
					WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 1000}), loop)
				run(t, loop, hook.Dataset)
				require.NoError(t, hook.Close())

				want := state(t, plain.Store())
				require.Contains(t, want, "/"+model.RNGStateVariableName)
				require.Greater(t, len(want), 12, "weights and both moments of four variables, at least")
				require.NotEqual(t, auditor.coherence[0], auditor.coherence[len(auditor.coherence)-1], "the model has learned")
				require.Empty(t, cmp.Diff(want, state(t, hooked.Store())))
			})
		}
	})
}
