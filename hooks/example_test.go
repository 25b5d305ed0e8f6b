package hooks_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

func Example() {
	// A training loop, and its data: three batches an epoch.
	backend, err := compute.NewWithConfig("go:ops_sequential")
	if err != nil {
		panic(err)
	}
	trainer := train.NewTrainer(backend, model.NewStore(), modelFn, loss.MeanSquaredError, optimizer.Adam().Done(), nil, nil)
	loop := train.NewLoop(trainer)
	trainDS := newSamples(8, 8, 5)

	// The hook.
	auditor := measured{3: 0.25, 6: 0.5, 9: 0.75} // stands for an *audit.Auditor
	threshold := 0.7
	hook, err := hooks.New(auditor).
		WithSchedule(hooks.EveryEpochs(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: &threshold}).
		WithOnAudit(func(records *audit.Records) {
			row := records.Coherence[0]
			fmt.Printf("epoch %.0f, step %d: coherence %.2f\n", row.Epoch, row.Step, *row.Median)
		}).
		Attach(loop)
	if err != nil {
		panic(err)
	}
	_, err = loop.RunEpochs(hook.Dataset(trainDS), 10)
	if err := errors.Join(err, hook.Close()); err != nil {
		panic(err)
	}
	if reason, stopped := hook.Stopped(); stopped {
		fmt.Println(reason)
	}
	// Output:
	// epoch 1, step 3: coherence 0.25
	// epoch 2, step 6: coherence 0.50
	// epoch 3, step 9: coherence 0.75
	// d4/coherence is 0.75 [0.73, 0.77], threshold 0.7 (maximize), at step 9, epoch 3
}

// Another hook of the loop reads the latest values.
func Example_sharedData() {
	loop := exampleLoop()
	auditor := measured{2: 0.4, 4: 0.6}
	if _, err := hooks.New(auditor).WithSchedule(hooks.EverySteps(2)).Attach(loop); err != nil {
		panic(err)
	}
	loop.OnStep("mine", 100, func(loop *train.Loop, _ []*tensors.Tensor) error {
		coherence, audited := loop.SharedData[hooks.SharedPrefix+"d4/coherence"]
		fmt.Println(loop.LoopStep+1, coherence, audited)
		return nil
	})
	if _, err := loop.RunSteps(endless(8), 4); err != nil {
		panic(err)
	}
	// Output:
	// 1 <nil> false
	// 2 0.4 true
	// 3 0.4 true
	// 4 0.6 true
}

// What cannot work is said before the training, where it can be known.
func ExampleBuilder_Attach() {
	loop := exampleLoop()
	for _, builder := range []*hooks.Builder{
		hooks.New(nil),
		hooks.New(measured{}).WithSchedule(hooks.EverySteps(0)),
		hooks.New(measured{}).WithBudget(5),
		hooks.New(measured{}).WithBestCheckpoint("runs/best"),
	} {
		_, err := builder.Attach(loop)
		fmt.Println(err)
	}
	// Output:
	// hooks: there is no auditor: hooks.New got nil; give it that of audit.Builder.Done, and look at Done's error first
	// hooks: the schedule is "every 0 steps"; its number must be at least 1
	// hooks: the budget of audits is 5 of the time; use a share above 0 and at most 1
	// hooks: the best checkpoint is to be kept in runs/best, but no stop rule says what is best; add one with WithStopRules
}

// A sink of one's own gets the records of each audit with the training steps since the one before. writers.Parquet makes one that
// keeps them on the disk.
func ExampleBuilder_WithSink() {
	loop := exampleLoop()
	hook, err := hooks.New(measured{4: 0.5}).
		WithSink(printed{}).
		WithModel("unet", 3).
		WithSchedule(hooks.EverySteps(4)).
		WithTrainingEvery(2). // of the training steps, only the even ones
		WithStepsPerEpoch(8).
		Attach(loop)
	if err != nil {
		panic(err)
	}
	if _, err := loop.RunSteps(endless(8), 8); err != nil {
		panic(err)
	}
	if err := hook.Close(); err != nil {
		panic(err)
	}
	// Output:
	// unet-3 trained, step 2, epoch 0.25
	// unet-3 trained, step 4, epoch 0.50
	// unet-3 audited, step 4, epoch 0.50: d4 0.50
	// unet-3 trained, step 6, epoch 0.75
	// unet-3 trained, step 8, epoch 1.00
	// unet-3 audited, step 8, epoch 1.00: d4 0.10
}

// Several sinks have the same rows. Of one that fails the others know nothing, and it is offered again what it lacks.
func ExampleBuilder_WithSink_several() {
	loop := exampleLoop()
	full := &failing{} // takes nothing, until it is emptied
	hook, err := hooks.New(measured{4: 0.5}).
		WithSink(printed{}, full).
		WithFailures(hooks.CarryOn).
		WithSchedule(hooks.EverySteps(2)).
		WithTrainingEvery(4).
		Attach(loop)
	if err != nil {
		panic(err)
	}
	if _, err := loop.RunSteps(endless(8), 4); err != nil {
		panic(err)
	}
	fmt.Println(hook.Failures()[0])
	full.sink = printed{}
	fmt.Println("closing:", hook.Close())
	// Output:
	// model-0 audited, step 2, epoch 0.00: d4 0.10
	// model-0 trained, step 4, epoch 0.00
	// model-0 audited, step 4, epoch 0.00: d4 0.50
	// hooks: the records up to step 2 are not written to sink 2 of 2 (*hooks_test.failing): no space left on device
	// model-0 trained, step 4, epoch 0.00
	// model-0 audited, step 2, epoch 0.00: d4 0.10
	// model-0 audited, step 4, epoch 0.00: d4 0.50
	// closing: <nil>
}

// failing is a sink that fails until it has another behind it.
type failing struct{ sink audit.Sink }

func (f *failing) Write(records *audit.Records) error {
	if f.sink == nil {
		return errors.New("no space left on device")
	}
	return f.sink.Write(records)
}

// A run whose data end in an error has training steps that no audit took along. Close writes them.
func ExampleHook_Close() {
	loop := exampleLoop()
	hook, err := hooks.New(measured{}).WithSink(printed{}).WithSchedule(hooks.EverySteps(2)).Attach(loop)
	if err != nil {
		panic(err)
	}
	data := newSamples(8, 8, 8, 8)
	data.fail = 4
	_, err = loop.RunEpochs(hook.Dataset(data), 1)
	fmt.Println(err)
	fmt.Println(hook.Close())
	// Output:
	// model-0 trained, step 1, epoch 0.00
	// model-0 trained, step 2, epoch 0.00
	// model-0 audited, step 2, epoch 0.00: d4 0.10
	// Loop.RunEpochs(epoch 0 of 1): failed reading from Dataset: disk on fire
	// model-0 trained, step 3, epoch 0.00
	// <nil>
}

// RunEpochs does not say when an epoch ends, and ends only when its dataset does: it must be the hook's.
func ExampleHook_Dataset() {
	loop := exampleLoop()
	hook, err := hooks.New(measured{}).WithSchedule(hooks.EveryEpochs(1)).WithOnAudit(printAudit).Attach(loop)
	if err != nil {
		panic(err)
	}
	data := newSamples(8, 8, 8)
	_, err = loop.RunEpochs(data, 2)
	fmt.Println(err)
	_, err = loop.RunEpochs(hook.Dataset(data), 2)
	fmt.Println(err)
	// Output:
	// OnStart(hook "symaudit"): hooks: an audit every epoch cannot work with dataset "samples" as it is, for RunEpochs neither tells the end of an epoch nor stops before its dataset does; use RunEpochs(hook.Dataset(ds), epochs), or RunSteps
	// audited at step 3
	// audited at step 6
	// <nil>
}

// A function for GoMLX's progress bar: commandline.AttachProgressBar(loop, hook.Metric("d4/coherence")).
func ExampleHook_Metric() {
	loop := exampleLoop()
	hook, err := hooks.New(measured{2: 0.4}).WithSchedule(hooks.EverySteps(2)).Attach(loop)
	if err != nil {
		panic(err)
	}
	metric := hook.Metric("d4/coherence")
	fmt.Println(metric())
	if _, err := loop.RunSteps(endless(8), 2); err != nil {
		panic(err)
	}
	fmt.Println(metric())
	// Output:
	// d4/coherence not audited yet
	// d4/coherence 0.4 [0.38, 0.42]
}

// Audits that would take an hour each are left out, but for that of the last step.
func ExampleBuilder_WithBudget() {
	auditor := preflighted{predicted: audit.Forecast{Products: 3600, ProductTime: time.Second}}
	for _, share := range []float64{0.05, 1} {
		loop := exampleLoop()
		_, err := hooks.New(auditor).WithBudget(share).WithSchedule(hooks.EverySteps(2)).WithOnAudit(printAudit).Attach(loop)
		if err != nil {
			panic(err)
		}
		fmt.Printf("share %g:\n", share)
		if _, err := loop.RunSteps(endless(8), 6); err != nil {
			panic(err)
		}
	}
	// Output:
	// share 0.05:
	// audited at step 6
	// share 1:
	// audited at step 2
	// audited at step 4
	// audited at step 6
}

// Faults that the preflight finds end the training after its first step, when the model has weights; or they are logged.
func ExampleBuilder_WithPreflight() {
	auditor := preflighted{fault: errors.New("the model mixes samples")}
	for _, level := range []hooks.PreflightLevel{hooks.PreflightError, hooks.PreflightWarning, hooks.PreflightOff} {
		loop := exampleLoop()
		_, err := hooks.New(auditor).WithPreflight(level).WithSchedule(hooks.EverySteps(1)).WithStepsPerEpoch(10).WithLogger(exampleLogger()).Attach(loop)
		if err != nil {
			panic(err)
		}
		_, err = loop.RunSteps(endless(8), 1)
		fmt.Println("training:", err)
	}
	// Output:
	// training: Loop.RunSteps(1): failed TrainStep(LoopStep=0): train.Loop.OnStep(hook "symaudit"): hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): the model mixes samples
	// WRN audits of this model will fail or mean nothing error="the model mixes samples"
	// INF audit d4/coherence=0.1 d4/commutator_error=0.25 d4/target_error=0.5 epoch=0.1 model=model products=60 step=1
	// training: <nil>
	// INF audit d4/coherence=0.1 d4/commutator_error=0.25 d4/target_error=0.5 epoch=0.1 model=model products=60 step=1
	// training: <nil>
}

// The second run of a loop, or a model that was loaded, has weights to audit before its first step. A new one has none.
func ExampleBuilder_WithInitialAudit() {
	loop := exampleLoop()
	if _, err := loop.RunSteps(endless(8), 3); err != nil {
		panic(err)
	}
	if _, err := hooks.New(measured{}).WithInitialAudit().WithSchedule(hooks.EverySteps(4)).WithOnAudit(printAudit).Attach(loop); err != nil {
		panic(err)
	}
	if _, err := loop.RunSteps(endless(8), 5); err != nil {
		panic(err)
	}

	loop = exampleLoop()
	if _, err := hooks.New(measured{}).WithInitialAudit().Attach(loop); err != nil {
		panic(err)
	}
	_, err := loop.RunSteps(endless(8), 5)
	fmt.Println(err)
	// Output:
	// audited at step 3
	// audited at step 4
	// audited at step 8
	// OnStart(hook "symaudit"): hooks: there are no weights to audit before the first step, GoMLX makes those of a new model in it; load or initialise the model first, or leave WithInitialAudit out
}

// A signal, or here an audit, cancels the context: the step is finished, and the loop returns no error.
func ExampleBuilder_WithContext() {
	ctx, cancel := context.WithCancelCause(context.Background())
	loop := exampleLoop()
	hook, err := hooks.New(measured{}).WithContext(ctx).WithSchedule(hooks.EverySteps(3)).
		WithOnAudit(func(*audit.Records) { cancel(errors.New("the allocation ends")) }).Attach(loop)
	if err != nil {
		panic(err)
	}
	_, err = loop.RunSteps(endless(8), 100)
	_, byRule := hook.Stopped()
	fmt.Println(err, byRule, loop.Trainer.GlobalStep(), context.Cause(ctx))
	// Output: <nil> false 3 the allocation ends
}

// By default a sink that fails ends the training, and Close offers it the records again. CarryOn does so at the next audit.
func ExampleBuilder_WithFailures() {
	for _, policy := range []hooks.FailurePolicy{hooks.EndTraining, hooks.CarryOn} {
		loop := exampleLoop()
		sink := &failsOnce{}
		hook, err := hooks.New(measured{}).WithSink(sink).WithFailures(policy).WithSchedule(hooks.EverySteps(2)).Attach(loop)
		if err != nil {
			panic(err)
		}
		_, err = loop.RunSteps(endless(8), 4)
		fmt.Println("training:", err)
		fmt.Println("kept:", hook.Failures(), "closed:", hook.Close())
	}
	// Output:
	// training: Loop.RunSteps(4): failed TrainStep(LoopStep=1): train.Loop.OnStep(hook "symaudit"): hooks: the records up to step 2 are not written: disk full
	// audits written: 1
	// kept: [] closed: <nil>
	// audits written: 2
	// training: <nil>
	// kept: [hooks: the records up to step 2 are not written: disk full] closed: <nil>
}

// An audit that takes too long is given up, which is a failure.
func ExampleBuilder_WithTimeLimit() {
	loop := exampleLoop()
	hook, err := hooks.New(slow{}).WithTimeLimit(time.Millisecond).WithFailures(hooks.CarryOn).
		WithSchedule(hooks.EverySteps(5)).Attach(loop)
	if err != nil {
		panic(err)
	}
	_, err = loop.RunSteps(endless(8), 5)
	fmt.Println(err, hook.Failures())
	// Output: <nil> [hooks: audit at step 5 failed: it took longer than its limit of 1ms; raise it (WithTimeLimit), or make audits cheaper: a greater tolerance or lambda, or fewer probes]
}

// An audit is a line for people: its medians, and what it took.
func ExampleBuilder_WithLogger() {
	loop := exampleLoop()
	threshold := 0.5
	_, err := hooks.New(measured{1: 0.4, 2: 0.6}).WithLogger(exampleLogger()).WithSchedule(hooks.EverySteps(1)).WithStepsPerEpoch(4).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Threshold: &threshold}).Attach(loop)
	if err != nil {
		panic(err)
	}
	if _, err := loop.RunSteps(endless(8), 9); err != nil {
		panic(err)
	}
	// Output:
	// INF audit d4/coherence=0.4 d4/commutator_error=0.25 d4/target_error=0.5 epoch=0.25 model=model products=60 step=1
	// INF audit d4/coherence=0.6 d4/commutator_error=0.25 d4/target_error=0.5 epoch=0.5 model=model products=60 step=2
	// INF stopped the training reason="d4/coherence is 0.6 [0.58, 0.62], threshold 0.5 (maximize), at step 2, epoch 0.5" step=2
}

// What is done with records when they are safe: here, how much their solves took is added up.
func ExampleBuilder_WithOnAudit() {
	loop := exampleLoop()
	products := int64(0)
	hook, err := hooks.New(measured{}).WithSchedule(hooks.EverySteps(2)).
		WithOnAudit(func(records *audit.Records) {
			for _, solve := range records.Solves {
				products += solve.Products + solve.SetupProducts
			}
		}).Attach(loop)
	if err != nil {
		panic(err)
	}
	_, err = loop.RunSteps(endless(8), 6)
	fmt.Println(products, errors.Join(err, hook.Close()))
	// Output: 180 <nil>
}

// exampleLoop trains a small model, with dropout.
func exampleLoop() *train.Loop {
	backend, err := compute.NewWithConfig("go:ops_sequential")
	if err != nil {
		panic(err)
	}
	return train.NewLoop(newTrainer(backend))
}

// exampleLogger prints lines without what differs from run to run.
func exampleLogger() zerolog.Logger {
	return zerolog.New(zerolog.ConsoleWriter{
		Out: os.Stdout, NoColor: true, PartsExclude: []string{zerolog.TimestampFieldName},
		FieldsExclude: []string{"seconds", "loss", "share"},
	})
}

// measured stands for an *audit.Auditor: it finds the coherences of these steps, and a tenth at others, to within 0.02.
type measured map[int64]float64

func (m measured) Audit(_ context.Context, at audit.Moment) (*audit.Records, error) {
	value, ok := m[at.Step]
	if !ok {
		value = 0.1
	}
	low, high := value-0.02, value+0.02
	return &audit.Records{
		Coherence: []audit.CoherenceRow{{
			Moment: at, GroupName: "d4", Element: audit.AllElements, Median: &value, MedianLow: &low, MedianHigh: &high,
			MedianTargetError: new(0.5), MedianCommutatorError: new(0.25),
		}},
		Solves: []audit.SolveRow{{Moment: at, GroupName: "d4", Products: 40, SetupProducts: 20, Status: audit.Converged}},
	}, nil
}

// loopAt is one of a training that has made so many steps.
func loopAt(step int64) *train.Loop {
	trainer := exampleLoop().Trainer
	setStep(trainer.Store(), step)
	return train.NewLoop(trainer)
}

// setStep is what loading a checkpoint does to the step.
func setStep(store *model.Store, step int64) {
	if err := optimizer.GetGlobalStepVar(store).SetValue(tensors.FromScalar(step)); err != nil {
		panic(err)
	}
}

// preflighted is one with a preflight.
type preflighted struct {
	measured
	predicted audit.Forecast
	fault     error
}

func (c preflighted) Preflight(context.Context) (audit.Forecast, error) { return c.predicted, c.fault }

// slow is one that never ends by itself.
type slow struct{}

func (slow) Audit(ctx context.Context, _ audit.Moment) (*audit.Records, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func printAudit(records *audit.Records) { fmt.Println("audited at step", records.Coherence[0].Step) }

// printed is a sink that prints what it gets.
type printed struct{}

func (printed) Write(records *audit.Records) error {
	for _, row := range records.Training {
		fmt.Printf("%s-%d trained, step %d, epoch %.2f\n", row.Model, row.Seed, row.Step, row.Epoch)
	}
	for _, row := range records.Coherence {
		fmt.Printf("%s-%d audited, step %d, epoch %.2f: %s %.2f\n", row.Model, row.Seed, row.Step, row.Epoch, row.GroupName, *row.Median)
	}
	return nil
}

// failsOnce is a sink whose first write fails.
type failsOnce struct{ writes int }

func (f *failsOnce) Write(records *audit.Records) error {
	if f.writes++; f.writes == 1 {
		return errors.New("disk full")
	}
	if audits := len(records.Coherence); audits > 0 {
		fmt.Println("audits written:", audits)
	}
	return nil
}
