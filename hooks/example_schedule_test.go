package hooks_test

import (
	"fmt"
	"time"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// A schedule in words, as from a configuration. It prints as what it was read from.
func ExampleParseSchedule() {
	schedules, err := hooks.ParseSchedule("every 500 steps or every 10m")
	if err != nil {
		panic(err)
	}
	for _, schedule := range schedules {
		fmt.Println(schedule)
	}
	_, err = hooks.ParseSchedule("now and then")
	fmt.Println(err)
	// Output:
	// every 500 steps
	// every 10m
	// hooks: "now and then" is no schedule; use for instance "every 100 steps", "every epoch", "every 10m", "at doubling steps from 100" or "20 times", or several separated by "or"
}

// Every schedule in words, with the steps after which it audits a run of 20, four of them an epoch. The last step is always audited.
func ExampleSchedule() {
	for _, schedule := range []hooks.Schedule{
		hooks.EverySteps(8), hooks.EveryEpochs(2), hooks.AtDoublingSteps(2), hooks.Times(3), hooks.EveryDuration(time.Hour),
	} {
		fmt.Printf("%-26s %v\n", schedule.String()+":", audited(20, schedule))
	}
	// Output:
	// every 8 steps:             [8 16 20]
	// every 2 epochs:            [8 16 20]
	// at doubling steps from 2:  [2 4 8 16 20]
	// 3 times:                   [7 14 20]
	// every 1h:                  [20]
}

// Of several schedules any one will do: often while the model learns fast, and each fourth step from then on.
func ExampleBuilder_WithSchedule() {
	loop := exampleLoop()
	var steps []int64
	_, err := hooks.New(measured{}).
		WithSchedule(hooks.AtDoublingSteps(1), hooks.EverySteps(4)).
		WithOnAudit(func(records *audit.Records) { steps = append(steps, records.Coherence[0].Step) }).
		Attach(loop)
	if err != nil {
		panic(err)
	}
	if _, err := loop.RunSteps(endless(8), 12); err != nil {
		panic(err)
	}
	fmt.Println(steps)
	// Output: [1 2 4 8 12]
}

// Steps count from the beginning of the training: a second run, or a resumed one, goes on where the first was. Both audit their
// last step.
func ExampleEverySteps() {
	loop := exampleLoop()
	_, err := hooks.New(measured{}).WithSchedule(hooks.EverySteps(5)).WithOnAudit(printAudit).Attach(loop)
	if err != nil {
		panic(err)
	}
	for range 2 {
		if _, err := loop.RunSteps(endless(8), 7); err != nil {
			panic(err)
		}
	}
	// Output:
	// audited at step 5
	// audited at step 7
	// audited at step 10
	// audited at step 14
}

// RunSteps knows no epochs. It is told how many steps make one.
func ExampleBuilder_WithStepsPerEpoch() {
	for _, builder := range []*hooks.Builder{
		hooks.New(measured{}).WithSchedule(hooks.EveryEpochs(1)),
		hooks.New(measured{}).WithSchedule(hooks.EveryEpochs(1)).WithStepsPerEpoch(3),
	} {
		loop := exampleLoop()
		if _, err := builder.WithOnAudit(printAudit).Attach(loop); err != nil {
			panic(err)
		}
		_, err := loop.RunSteps(endless(8), 7)
		fmt.Println(err)
	}
	// Output:
	// OnStart(hook "symaudit"): hooks: an audit every epoch needs to know how many steps an epoch has, and RunSteps does not; use WithStepsPerEpoch(n), or RunEpochs(hook.Dataset(ds), epochs)
	// audited at step 3
	// audited at step 6
	// audited at step 7
	// <nil>
}

// audited are the steps after which a run is audited.
func audited(steps int, schedule hooks.Schedule) (after []int64) {
	loop := exampleLoop()
	_, err := hooks.New(measured{}).WithSchedule(schedule).WithStepsPerEpoch(4).
		WithOnAudit(func(records *audit.Records) { after = append(after, records.Coherence[0].Step) }).Attach(loop)
	if err != nil {
		panic(err)
	}
	if _, err := loop.RunSteps(endless(8), steps); err != nil {
		panic(err)
	}
	return after
}
