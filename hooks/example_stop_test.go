package hooks_test

import (
	"fmt"
	"os"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// A threshold is passed when the whole interval is past it: 0.71 to within 0.02 may still be 0.69.
func ExampleStopRule() {
	threshold := 0.7
	stops(measured{1: 0.6, 2: 0.71, 3: 0.74, 4: 0.8}, hooks.StopRule{
		Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: &threshold,
	})
	// Output:
	// stopped: true at step 3
	// d4/coherence is 0.74 [0.72, 0.76], threshold 0.7 (maximize), at step 3, epoch 0
}

// Two audits in a row that are not better by more than 0.02, as far as intervals of that half-width tell.
func ExampleStopRule_patience() {
	stops(measured{1: 0.3, 2: 0.5, 3: 0.51, 4: 0.49, 5: 0.9}, hooks.StopRule{
		Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2, MinDelta: 0.02,
	})
	// Output:
	// stopped: true at step 4
	// d4/coherence is 0.49 [0.47, 0.51] and has not improved on 0.5 by more than 0.02 (maximize) in 2 audits, at step 4, epoch 0
}

// What the model has learned of the symmetry is lost for certain. Before step 3 it has learned too little to lose.
func ExampleStopRule_divergence() {
	divergence := 0.2
	stops(measured{1: 0.05, 2: 0.1, 3: 0.4, 4: 0.19, 5: 0.1}, hooks.StopRule{
		Monitor: "d4/coherence", Mode: hooks.Maximize, Divergence: &divergence, FirstStep: 3,
	})
	// Output:
	// stopped: true at step 5
	// d4/coherence is 0.1 [0.08, 0.12], worse than 0.2 (maximize), at step 5, epoch 0
}

// The first rule that is met stops the run.
func ExampleBuilder_WithStopRules() {
	enough, lost := 0.9, 0.2
	loop := exampleLoop()
	hook, err := hooks.New(measured{1: 0.4, 2: 0.7, 3: 0.95}).WithSchedule(hooks.EverySteps(1)).WithStopRules(
		hooks.StopRule{Monitor: "d4/target_error", Mode: hooks.Minimize, Patience: 5},
		hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: &enough, Divergence: &lost},
	).Attach(loop)
	if err != nil {
		panic(err)
	}
	if _, err := loop.RunSteps(endless(8), 100); err != nil {
		panic(err)
	}
	fmt.Println(hook.Stopped())
	// Output: d4/coherence is 0.95 [0.93, 0.97], threshold 0.9 (maximize), at step 3, epoch 0 true
}

// An error is better when it is smaller.
func ExampleMode() {
	threshold := 0.3
	rule := hooks.StopRule{Monitor: "d4/commutator_error", Mode: hooks.Minimize, Threshold: &threshold}
	fmt.Println(rule.Mode)
	stops(measured{}, rule) // with a commutator error of 0.25
	// Output:
	// minimize
	// stopped: true at step 1
	// d4/commutator_error is 0.25, threshold 0.3 (minimize), at step 1, epoch 0
}

func ExampleStopRule_Validate() {
	for _, rule := range []hooks.StopRule{
		{Monitor: "d4/loss", Mode: hooks.Minimize, Patience: 3},
		{Monitor: "d4/coherence", Patience: 3},
		{Monitor: "d4/coherence", Mode: hooks.Maximize},
		{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3},
	} {
		fmt.Println(rule.Validate())
	}
	// Output:
	// hooks: stop rule: the monitor is "d4/loss"; use <group>/coherence, <group>/<direction>/coherence, <group>/target_error or <group>/commutator_error, for instance d4/coherence
	// hooks: stop rule on d4/coherence: the mode is Mode(0); use hooks.Maximize or hooks.Minimize
	// hooks: stop rule on d4/coherence: it would never stop; set a threshold, a patience or a divergence
	// <nil>
}

// A process was killed between the audit that stopped its training and the end of its run.
func ExampleHook_Conclude() {
	history := []audit.CoherenceRow{{Moment: audit.Moment{Model: "model", Step: 100}, GroupName: "d4", Element: audit.AllElements, Median: new(0.9)}}
	hook, err := hooks.New(measured{}).WithHistory(history).WithSink(endings{}).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: new(0.8)}).Attach(loopAt(100))
	if err != nil {
		panic(err)
	}
	if _, stopped := hook.Stopped(); stopped { // before this process, which was then killed before it could say so
		fmt.Println(hook.Conclude())
	}
	// Output:
	// stopped: d4/coherence is 0.9, threshold 0.8 (maximize), at step 100, epoch 0
	// <nil>
}

// endings prints how trainings ended.
type endings struct{}

func (endings) Write(records *audit.Records) error {
	for _, row := range records.Decisions {
		fmt.Printf("%s: %s\n", row.Decision, *row.Explanation)
	}
	return nil
}

// A training that is resumed stops where it would have stopped uninterrupted, or is told that it had stopped already.
func ExampleBuilder_WithHistory() {
	rule := hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2}
	var history []audit.CoherenceRow // writers.Read has it in Records.Coherence
	for i, coherence := range []float64{0.5, 0.4, 0.3} {
		history = append(history, audit.CoherenceRow{
			Moment:    audit.Moment{Model: "model", Step: int64(100 * (i + 1))},
			GroupName: "d4", Element: audit.AllElements, Median: &coherence,
		})
	}
	for _, step := range []int64{250, 300} { // of the checkpoint that the training resumes from
		hook, err := hooks.New(measured{}).WithStopRules(rule).WithHistory(history).Attach(loopAt(step))
		if err != nil {
			panic(err)
		}
		reason, stopped := hook.Stopped()
		fmt.Printf("from step %d: %t %q\n", step, stopped, reason)
	}
	// Output:
	// from step 250: false ""
	// from step 300: true "d4/coherence is 0.3 and has not improved on 0.5 (maximize) in 2 audits, at step 300, epoch 0"
}

// After the second audit coherence only falls. The run ends with the weights of that audit, which a checkpoint hook then saves.
func ExampleBuilder_WithBestCheckpoint() {
	dir, err := os.MkdirTemp("", "best")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	loop := exampleLoop()
	hook, err := hooks.New(measured{1: 0.3, 2: 0.6, 3: 0.5, 4: 0.4}).WithSchedule(hooks.EverySteps(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 2}).
		WithBestCheckpoint(dir).Attach(loop)
	if err != nil {
		panic(err)
	}
	loop.OnEnd("checkpoint", 100, func(loop *train.Loop, _ []*tensors.Tensor) error {
		fmt.Println("saved at the end: step", loop.Trainer.GlobalStep())
		return nil
	})
	_, err = loop.RunSteps(endless(8), 100)
	fmt.Println(err, hook.Failures())
	reason, _ := hook.Stopped()
	fmt.Println(reason)
	step, value, _ := hook.Best()
	entries, _ := os.ReadDir(dir)
	fmt.Println(step, value, entries)
	// Output:
	// saved at the end: step 2
	// <nil> []
	// d4/coherence is 0.4 [0.38, 0.42] and has not improved on 0.6 (maximize) in 2 audits, at step 4, epoch 0
	// 2 0.6 [d step-000000002/]
}

// stops trains with an audit at each step and says when, and why, a rule stops it.
func stops(auditor hooks.Auditor, rule hooks.StopRule) {
	loop := exampleLoop()
	hook, err := hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithStopRules(rule).Attach(loop)
	if err != nil {
		panic(err)
	}
	if _, err := loop.RunSteps(endless(8), 10); err != nil {
		panic(err)
	}
	reason, stopped := hook.Stopped()
	fmt.Println("stopped:", stopped, "at step", loop.Trainer.GlobalStep())
	fmt.Println(reason)
}

// The checkpoints that a training has left are audited after its end. They are those of GoMLX's handler, which keeps as many as Keep says.
func ExampleBuilder_AuditCheckpoints() {
	dir, err := os.MkdirTemp("", "checkpoints")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	loop := exampleLoop()
	handler, err := checkpoint.Build(loop.Trainer.Store()).Dir(dir).Keep(-1).Done()
	if err != nil {
		panic(err)
	}
	train.EveryNSteps(loop, 2, "save", 100, handler.SaveOnStepFn)
	if _, err := loop.RunSteps(endless(8), 6); err != nil {
		panic(err)
	}

	auditor := measured{2: 0.25, 4: 0.5, 6: 0.75} // stands for an *audit.Auditor
	err = hooks.New(auditor).WithStepsPerEpoch(2).WithOnAudit(printAudit).AuditCheckpoints(loop.Trainer.Store(), dir)
	if err != nil {
		panic(err)
	}
	// Output:
	// audited at step 2
	// audited at step 4
	// audited at step 6
}

// A checkpoint between audits: the training steps before it are written first.
func ExampleHook_Flush() {
	loop := exampleLoop()
	hook, err := hooks.New(measured{4: 0.5}).WithSink(counting{}).WithSchedule(hooks.EverySteps(4)).Attach(loop)
	if err != nil {
		panic(err)
	}
	train.EveryNSteps(loop, 2, "save", 100, func(loop *train.Loop, _ []*tensors.Tensor) error {
		err := hook.Flush()
		fmt.Printf("a checkpoint of step %d\n", loop.Trainer.GlobalStep())
		return err
	})
	if _, err := loop.RunSteps(endless(8), 4); err != nil {
		panic(err)
	}
	if err := hook.Close(); err != nil {
		panic(err)
	}
	// Output:
	// 2 steps written
	// a checkpoint of step 2
	// 2 steps written
	// a checkpoint of step 4
}

// counting is a sink that says how many training steps it was given.
type counting struct{}

func (counting) Write(r *audit.Records) error {
	if len(r.Training) > 0 {
		fmt.Printf("%d steps written\n", len(r.Training))
	}
	return nil
}
