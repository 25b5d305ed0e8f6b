package hooks_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/writers"
)

// looking is an auditor that notes the weights it is given.
type looking struct {
	t     *testing.T
	store *model.Store
	seen  map[int64]map[string]string
	fails int64
}

func (l *looking) Audit(_ context.Context, at audit.Moment) (*audit.Records, error) {
	if at.Step == l.fails {
		return nil, errors.New("no audit here")
	}
	l.seen[at.Step] = state(l.t, l.store)
	coherence := float64(at.Step) / 10
	return &audit.Records{Coherence: []audit.CoherenceRow{{Moment: at, GroupName: "d4", Element: audit.AllElements, Median: &coherence}}}, nil
}

// checkpointed trains six steps with a checkpoint of GoMLX's handler after every second.
func checkpointed(t *testing.T) (loop *train.Loop, dir string, steps map[int64]map[string]string) {
	loop, dir = newLoop(t), t.TempDir()
	store := loop.Trainer.Store()
	handler, err := checkpoint.Build(store).Dir(dir).Keep(-1).Done()
	require.NoError(t, err)
	steps = map[int64]map[string]string{}
	loop.OnStep("save", 100, func(*train.Loop, []*tensors.Tensor) error {
		step := loop.Trainer.GlobalStep()
		if step%2 != 0 {
			return nil
		}
		steps[step] = state(t, store)
		return handler.Save()
	})
	_, err = loop.RunSteps(endless(6), 7)
	require.NoError(t, err)
	return loop, dir, steps
}

func TestCheckpointsAreAuditedAfterTheTraining(t *testing.T) {
	loop, dir, steps := checkpointed(t)
	store := loop.Trainer.Store()
	last := state(t, store)
	auditor := &looking{t, store, map[int64]map[string]string{}, -1}
	out := filepath.Join(t.TempDir(), "run")
	run, err := writers.Parquet(out).Done()
	require.NoError(t, err)
	var told []int64
	builder := hooks.New(auditor).WithSink(run).WithModel("net", 3).WithStepsPerEpoch(4).
		WithOnAudit(func(r *audit.Records) { told = append(told, r.Coherence[0].Step) })
	require.NoError(t, builder.AuditCheckpoints(store, dir))
	require.NoError(t, run.Close())
	require.Equal(t, steps, auditor.seen, "the weights of each checkpoint")
	require.Equal(t, []int64{2, 4, 6}, told)
	require.Equal(t, last, state(t, store), "the store is as before")
	contents, err := writers.Read(out)
	require.NoError(t, err)
	require.Len(t, contents.Records.Coherence, 3)
	at := contents.Records.Coherence[1].Moment
	require.Equal(t, []any{"net", int64(3), int64(4), 1.0}, []any{at.Model, at.Seed, at.Step, at.Epoch})

	auditor.seen = map[int64]map[string]string{}
	require.NoError(t, hooks.New(auditor).AuditCheckpoints(store, dir, 6, 2))
	require.Len(t, auditor.seen, 2)
	auditor.fails = 4
	require.EqualError(t, hooks.New(auditor).AuditCheckpoints(store, dir), "hooks: audit at step 4 failed: no audit here")
	require.Equal(t, last, state(t, store))
}

func TestCheckpointsThatCannotBeAudited(t *testing.T) {
	loop, dir, _ := checkpointed(t)
	store := loop.Trainer.Store()
	builder := hooks.New(&looking{t, store, map[int64]map[string]string{}, -1})
	require.EqualError(t, builder.AuditCheckpoints(store, dir, 3), "hooks: "+dir+" has no checkpoint of step 3; it has those of [2 4 6]")
	empty := t.TempDir()
	require.ErrorContains(t, builder.AuditCheckpoints(store, empty), "holds no checkpoint; name the folder that GoMLX's checkpoint handler saves to")
	require.ErrorContains(t, builder.AuditCheckpoints(store, filepath.Join(empty, "none")), "cannot be read: no such file or directory")
	require.ErrorContains(t, builder.AuditCheckpoints(model.NewStore(), dir), "the store has no variables")
	damaged, err := filepath.Glob(filepath.Join(dir, "*-step-00000004.bin"))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(damaged[0], 10))
	before := state(t, store)
	require.ErrorContains(t, builder.AuditCheckpoints(store, dir), "step-00000004.json: ")
	require.Equal(t, before, state(t, store))
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("interrupted"))
	require.EqualError(t, builder.WithContext(ctx).AuditCheckpoints(store, dir), "hooks: stopped before step 2: interrupted")
}
