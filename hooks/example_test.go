package hooks_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// growing stands for an *audit.Auditor of a model that becomes more coherent.
type growing struct{ coherence float64 }

func (g *growing) Audit(_ context.Context, at audit.Moment) (*audit.Records, error) {
	g.coherence += 0.25
	return &audit.Records{Coherence: []audit.CoherenceRow{{
		Moment: at, GroupName: "d4", Element: audit.AllElements, Median: &g.coherence,
	}}}, nil
}

func Example() {
	// A training loop, and its data: three batches an epoch.
	backend, err := compute.NewWithConfig("go")
	if err != nil {
		fmt.Println(err)
		return
	}
	trainer := train.NewTrainer(backend, model.NewStore(), modelFn, loss.MeanSquaredError, optimizer.Adam().Done(), nil, nil)
	loop := train.NewLoop(trainer)
	trainDS := newSamples(8, 8, 5)

	// The hook.
	threshold := 0.7
	hook, err := hooks.New(&growing{}).
		WithSchedule(hooks.EveryEpochs(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: &threshold}).
		WithOnAudit(func(records *audit.Records) {
			row := records.Coherence[0]
			fmt.Printf("epoch %.0f, step %d: coherence %.2f\n", row.Epoch, row.Step, *row.Median)
		}).
		Attach(loop)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = loop.RunEpochs(hook.Dataset(trainDS), 10)
	if err := errors.Join(err, hook.Close()); err != nil {
		fmt.Println(err)
		return
	}
	if reason, stopped := hook.Stopped(); stopped {
		fmt.Println(reason)
	}
	// Output:
	// epoch 1, step 3: coherence 0.25
	// epoch 2, step 6: coherence 0.50
	// epoch 3, step 9: coherence 0.75
	// d4/coherence is 0.75, threshold 0.7 (maximize), at step 9, epoch 3
}
