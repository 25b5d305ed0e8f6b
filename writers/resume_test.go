package writers

import (
	"iter"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/checkpoint"
	"github.com/symaudit/symaudit/orbits"
)

// Two models with probes of their own train into one run, side by side, with real auditors and a stop rule each. The process is
// killed, and resumes from checkpoints that are older than the last audits. Rows, decisions and best weights are bit for bit those
// of the run that was not killed.
func TestTwoModelsInOneRunAreResumedFromOlderCheckpoints(t *testing.T) {
	const killed, every = 18, 10 // steps; checkpoints
	whole := newPair(t, t.TempDir())
	whole.run(0, 100)
	broken := newPair(t, t.TempDir())
	broken.run(0, killed)
	broken.run(killed/every*every, 100)
	require.Equal(t, whole.stopped, broken.stopped)
	require.Equal(t, whole.best, broken.best)
	require.Equal(t, whole.weights, broken.weights)
	for name, reason := range whole.stopped {
		require.NotEmpty(t, reason, "%s is stopped by its rule", name)
	}
	require.NotEqual(t, whole.stopped["a"], whole.stopped["b"])

	strip := func(records audit.Records) audit.Records {
		moments(&records, func(m *audit.Moment) { m.RunID, m.Attempt = "", 0 })
		for i := range records.Training {
			records.Training[i].StepSeconds = 0
		}
		for i := range records.Solves {
			records.Solves[i].Seconds = 0
		}
		return records
	}
	want, got := strip(readRecords(t, whole.dir)), strip(readRecords(t, broken.dir))
	require.Len(t, got.Coherence, len(want.Coherence))
	byModel := func(records audit.Records, name string) (mine audit.Records) {
		for _, row := range records.Training {
			if row.Model == name {
				mine.Training = append(mine.Training, row)
			}
		}
		for _, row := range records.Influence {
			if row.Model == name {
				mine.Influence = append(mine.Influence, row)
			}
		}
		for _, row := range records.Coherence {
			if row.Model == name {
				mine.Coherence = append(mine.Coherence, row)
			}
		}
		return mine
	}
	for _, name := range []string{"a", "b"} {
		requireSame(t, byModel(want, name), byModel(got, name))
	}
}

// pair is two trainings that write to one run, one step each in turn.
type pair struct {
	t   *testing.T
	dir string

	stopped map[string]string
	best    map[string]int64
	weights map[string]map[string]string
}

func newPair(t *testing.T, dir string) *pair {
	return &pair{t, dir, map[string]string{}, map[string]int64{}, map[string]map[string]string{}}
}

// run trains from the checkpoint of a step to another, or until the rules have stopped both.
func (p *pair) run(from, to int) {
	t := p.t
	sink, err := Parquet(p.dir).WithResume().Done()
	require.NoError(t, err)
	defer sink.Close()
	earlier, err := Read(p.dir)
	require.NoError(t, err)
	for i, name := range []string{"a", "b"} {
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(7+i))
		kept := checkpoint.Folder{Dir: filepath.Join(p.dir, "checkpoints", name), Keep: 100}
		if from > 0 {
			found, err := kept.LoadLatest(store, nil)
			require.NoError(t, err)
			require.True(t, found)
		}
		trainer := train.NewTrainer(backendtest.Go(t), store, dense, audit.Loss, optimizer.Adam().LearningRate(0.03).Done(), nil, nil)
		auditor, err := audit.New(trainer, dense, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), noise(uint64(100+i))).WithRelativeLambda(0.1, 0.5).Done()
		require.NoError(t, err)
		defer auditor.Close()
		loop := train.NewLoop(trainer)
		hook, err := hooks.New(auditor).WithSink(sink).WithModel(name, 7).WithSchedule(hooks.EverySteps(2)).WithHistory(earlier.Records.Coherence).
			WithBestCheckpoint(filepath.Join(p.dir, "best", name)).
			WithStopRules(hooks.StopRule{Monitor: "c4/target_error", Mode: hooks.Minimize, Patience: 3 + 2*i, MinDelta: 0.02}).Attach(loop)
		require.NoError(t, err)
		loop.OnStep("checkpoint", 100, func(*train.Loop, []*tensors.Tensor) error {
			if trainer.GlobalStep()%10 == 0 {
				return kept.Save(store)
			}
			return nil
		})
		_, err = loop.RunSteps(&noisy{from: from}, to-from)
		require.NoError(t, err)
		if to < 100 {
			continue // killed: nothing is closed
		}
		require.NoError(t, hook.Close())
		p.stopped[name], _ = hook.Stopped()
		p.best[name], _, _ = hook.Best()
		p.weights[name] = map[string]string{}
		for v := range store.IterVariables() {
			if strings.HasPrefix(v.Path(), "/metrics/") || strings.HasPrefix(v.Path(), "/#") {
				continue // running averages for people, and the state of chance, which this model never asks
			}
			require.NoError(t, v.MustValue().ConstBytes(func(data []byte) { p.weights[name][v.Path()] = string(data) }))
		}
	}
}

// noisy is a dataset whose batches depend on their step alone.
type noisy struct{ from int }

func (*noisy) Name() string { return "noisy" }

func (n *noisy) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		for step := n.from; ; step++ {
			p := noise(uint64(step))
			if !yield(train.Batch{Inputs: []*tensors.Tensor{p.Inputs}, Labels: []*tensors.Tensor{p.Targets}}, nil) {
				return
			}
		}
	}
}

// noise is random states, and these a little larger.
func noise(seed uint64) audit.Probes {
	before, after := flow(grid, grid, 4), flow(grid, grid, 4)
	tensors.MustMutableFlatData(before, func(x []float32) {
		tensors.MustMutableFlatData(after, func(y []float32) {
			state := seed*2654435761 + 1
			for i := range x {
				state = state*6364136223846793005 + 1442695040888963407
				x[i] += float32(state>>40) / (1 << 25)
				y[i] = 1.1*x[i] + float32(state>>50)/(1<<15)
			}
		})
	})
	return audit.Probes{Inputs: before, Targets: after}
}
