package hooks

import (
	"errors"
	"fmt"
)

// Schedule says when to audit. Make one with EverySteps or EveryEpochs.
type Schedule struct {
	every  int
	epochs bool
}

// EverySteps audits after each n-th optimizer step, counted from the beginning of the training: a resumed run audits at
// the same steps as one that was never interrupted.
func EverySteps(n int) Schedule { return Schedule{every: n} }

// EveryEpochs audits at the end of each n-th epoch, counted from the beginning of the training. Under RunEpochs it needs
// Hook.Dataset, under RunSteps Builder.WithStepsPerEpoch.
func EveryEpochs(n int) Schedule { return Schedule{every: n, epochs: true} }

// String is the schedule in words: "every 2 epochs".
func (s Schedule) String() string {
	unit := "step"
	if s.epochs {
		unit = "epoch"
	}
	if s.every == 1 {
		return "every " + unit
	}
	return fmt.Sprintf("every %d %ss", s.every, unit)
}

func (s Schedule) validate() error {
	if s == (Schedule{}) {
		return errors.New("hooks: no schedule; add one with WithSchedule(hooks.EverySteps(n)) or WithSchedule(hooks.EveryEpochs(n))")
	}
	if s.every < 1 {
		return fmt.Errorf("hooks: the schedule is %q; its number must be at least 1", s)
	}
	return nil
}
