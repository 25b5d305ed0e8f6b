package bench

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// BenchmarkBudget trains the demo's ViT on the Go backend without a hook, with one that never audits but at the end, and with one
// as it comes, which audits within the default budget, and prints what share of its time the last one spent on audits. The
// demo itself trains for a few seconds, in which a budget of 5 % has no room for the one audit that there always is.
func BenchmarkBudget(b *testing.B) {
	const (
		resolution, batchSize = 16, 16
		short, long           = 200, 6000 // steps
		tolerated             = 1.1 * hooks.DefaultBudget
	)
	on := backends(b)["go"]
	before, after := flow(b, on, resolution, 8)
	size := resolution * resolution * 4
	ds := &batches{before: before, after: after, size: size, resolution: resolution, n: batchSize}
	b.ReportMetric(0, "ns/op")

	trainer, fn := trained(b, on, vit(models.TinyViT()), before[:batchSize*size], after[:batchSize*size], resolution, 1)
	run := func(steps int, configure func(*hooks.Builder)) (took, audits time.Duration, count int) {
		auditor, err := audit.New(trainer, fn, audit.Loss).WithField(orbits.EulerField()).WithRelativeLambda(1e-2).
			WithGroup(orbits.D4(), audit.Probes{Inputs: states(before[:3*size], resolution), Targets: states(after[:3*size], resolution)}).Done()
		must(b, err)
		defer auditor.Close()
		loop := train.NewLoop(trainer)
		timed := &timedAuditor{Auditor: auditor}
		if configure != nil {
			builder := hooks.New(timed)
			configure(builder)
			_, err := builder.Attach(loop)
			must(b, err)
		}
		start := time.Now()
		_, err = loop.RunSteps(ds, steps)
		must(b, err)
		return time.Since(start), timed.spent, timed.count
	}
	var plain, idle []float64
	for range 3 {
		took, _, _ := run(short, nil)
		plain = append(plain, took.Seconds())
		took, audits, _ := run(short, func(h *hooks.Builder) { h.WithSchedule(hooks.EverySteps(1 << 40)).WithPreflight(hooks.PreflightOff) })
		idle = append(idle, (took - audits).Seconds())
	}
	took, audits, count := run(long, func(*hooks.Builder) {})
	share := audits.Seconds() / took.Seconds()
	fmt.Printf("hook without audits: %.3f x the time of none over %d steps; with the default budget of %.0f %%: %d audits, %.1f %% of the time of %d steps\n",
		slices.Min(idle)/slices.Min(plain), short, 100*hooks.DefaultBudget, count, 100*share, long)
	b.ReportMetric(100*share, "%_audits")
	if share > tolerated {
		b.Errorf("audits took %.1f %% of the time, the budget is %.0f %%", 100*share, 100*hooks.DefaultBudget)
	}
}

// timedAuditor adds up the time of audits.
type timedAuditor struct {
	*audit.Auditor
	spent time.Duration
	count int
}

func (t *timedAuditor) Audit(ctx context.Context, at audit.Moment) (*audit.Records, error) {
	start := time.Now()
	defer func() { t.spent += time.Since(start); t.count++ }()
	return t.Auditor.Audit(ctx, at)
}

// batches yields transitions in order, for ever.
type batches struct {
	before, after       []float32
	size, resolution, n int
}

func (d *batches) Name() string { return "transitions" }
func (d *batches) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		for at := 0; ; at += d.n * d.size {
			if at+d.n*d.size > len(d.before) {
				at = 0
			}
			if !yield(train.Batch{
				Inputs: []*tensors.Tensor{states(slices.Clone(d.before[at:at+d.n*d.size]), d.resolution)},
				Labels: []*tensors.Tensor{states(slices.Clone(d.after[at:at+d.n*d.size]), d.resolution)},
			}, nil) {
				return
			}
		}
	}
}
