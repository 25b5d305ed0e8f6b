// Command stopped-at says at which audit stop rules end a training: bench/peers/stops.py compares that with other programs' callbacks.
//
//	go run ./scripts/stopped-at < questions.jsonl
//
// A line of its input is a rule and what it monitors, a reading for each audit. For each it prints the number of the audit that stopped the training, counted from 1,
// or 0. The trainings are real, of a model of one weight with an audit at each step; only the auditor is a stand-in, which says what it is told to.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"strconv"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backend"
)

// question is a stop rule on a coherence. Values are words, for JSON has no NaN and no infinity; "" is an audit without a value. Low and High, the ends of the
// intervals, may be left out.
type question struct {
	Mode                  string // min or max
	Patience              int
	MinDelta              float64
	Threshold, Divergence *float64
	FirstStep             int64
	Values, Low, High     []string
}

// Audit reports what the question says of the audit at this step.
func (q *question) Audit(_ context.Context, at audit.Moment) (*audit.Records, error) {
	row := audit.CoherenceRow{Moment: at, GroupName: "d4", Element: audit.AllElements, N: 1}
	for _, end := range []struct {
		words []string
		is    **float64
	}{{q.Values, &row.Median}, {q.Low, &row.MedianLow}, {q.High, &row.MedianHigh}} {
		if end.words == nil || end.words[at.Step-1] == "" {
			continue
		}
		value, err := strconv.ParseFloat(end.words[at.Step-1], 64)
		if err != nil {
			return nil, err
		}
		*end.is = &value
	}
	return &audit.Records{Coherence: []audit.CoherenceRow{row}}, nil
}

// batches are all the same, without end.
type batches struct{}

func (batches) Name() string { return "batches" }

func (batches) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		states := func() []*tensors.Tensor {
			return []*tensors.Tensor{tensors.FromFlatDataAndDimensions([]float32{1}, 1, 1)}
		}
		for yield(train.Batch{Inputs: states(), Labels: states()}, nil) {
		}
	}
}

func (q *question) stoppedAt(on compute.Backend) (int64, error) {
	network := func(scope *model.Scope, x *graph.Node) *graph.Node { return layers.Dense(scope, x, false, 1) }
	trainer := train.NewTrainer(on, model.NewStore(), network, loss.MeanSquaredError, optimizer.StochasticGradientDescent().Done(), nil, nil)
	loop := train.NewLoop(trainer)
	rule := hooks.StopRule{
		Monitor: "d4/coherence", Mode: map[string]hooks.Mode{"min": hooks.Minimize, "max": hooks.Maximize}[q.Mode], Patience: q.Patience, MinDelta: q.MinDelta,
		Threshold: q.Threshold, Divergence: q.Divergence, FirstStep: q.FirstStep,
	}
	hook, err := hooks.New(q).WithSchedule(hooks.EverySteps(1)).WithStopRules(rule).Attach(loop)
	if err != nil {
		return 0, err
	}
	if _, err := loop.RunSteps(batches{}, len(q.Values)); err != nil {
		return 0, err
	}
	if _, stopped := hook.Stopped(); !stopped {
		return 0, hook.Close()
	}
	return trainer.GlobalStep(), hook.Close()
}

func run() error {
	on, err := backend.Open("go")
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		at, err := q.stoppedAt(on.Backend)
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Bytes(), err)
		}
		fmt.Println(at)
	}
	return lines.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "stopped-at: %v\n", err)
		os.Exit(1)
	}
}
