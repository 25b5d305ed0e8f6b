package hooks

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Schedule says when to audit. Make one with EverySteps, EveryEpochs, EveryDuration, AtDoublingSteps or Times, or read one
// with ParseSchedule.
type Schedule struct {
	kind  kind
	every int
	wait  time.Duration
}

type kind int

const (
	steps kind = iota + 1
	epochs
	duration
	doubling
	times
)

// EverySteps audits after each n-th optimizer step, counted from the beginning of the training: a resumed run audits at
// the same steps as one that was never interrupted.
func EverySteps(n int) Schedule { return Schedule{kind: steps, every: n} }

// EveryEpochs audits at the end of each n-th epoch, counted from the beginning of the training. Under RunEpochs it needs
// Hook.Dataset, under RunSteps Builder.WithStepsPerEpoch.
func EveryEpochs(n int) Schedule { return Schedule{kind: epochs, every: n} }

// EveryDuration audits after the step in which this much time has passed since the audit before, or since the run began.
func EveryDuration(wait time.Duration) Schedule { return Schedule{kind: duration, wait: wait} }

// AtDoublingSteps audits after optimizer steps n, 2n, 4n, 8n and so on, counted from the beginning of the training: often
// while it learns fast, seldom later.
func AtDoublingSteps(n int) Schedule { return Schedule{kind: doubling, every: n} }

// Times audits n times, evenly spread over the steps of a run of RunSteps, the last step included.
func Times(n int) Schedule { return Schedule{kind: times, every: n} }

// scheduleForms are what String prints and ParseSchedule reads.
var scheduleForms = []struct {
	kind    kind
	pattern *regexp.Regexp
}{
	{steps, regexp.MustCompile(`^every(?: (\d+))? steps?$`)},
	{epochs, regexp.MustCompile(`^every(?: (\d+))? epochs?$`)},
	{doubling, regexp.MustCompile(`^at doubling steps from (\d+)$`)},
	{times, regexp.MustCompile(`^(\d+) times?$`)},
	{duration, regexp.MustCompile(`^every ([0-9.]+(?:ns|us|µs|ms|s|m|h)[0-9a-zµ.]*)$`)},
}

// ParseSchedule reads what String prints: "every 100 steps", "every epoch", "every 10m", "at doubling steps from 100" or
// "20 times". Several are separated by "or".
func ParseSchedule(text string) ([]Schedule, error) {
	var all []Schedule
	for _, part := range strings.Split(text, " or ") {
		part = strings.Join(strings.Fields(strings.ToLower(part)), " ")
		schedule := Schedule{}
		for _, form := range scheduleForms {
			found := form.pattern.FindStringSubmatch(part)
			if found == nil {
				continue
			}
			schedule.kind, schedule.every = form.kind, 1
			var err error
			switch {
			case form.kind == duration:
				schedule.every = 0
				schedule.wait, err = time.ParseDuration(found[1])
			case found[1] != "":
				schedule.every, err = strconv.Atoi(found[1])
			}
			if err != nil {
				return nil, fmt.Errorf("hooks: the schedule %q has a number or a time that is too large or cannot be read; use one such as 100 or 1h30m", part)
			}
			break
		}
		if schedule == (Schedule{}) {
			return nil, fmt.Errorf(`hooks: %q is no schedule; use for instance "every 100 steps", "every epoch", "every 10m", "at doubling steps from 100" or "20 times", or several separated by "or"`, part)
		}
		if err := schedule.validate(); err != nil {
			return nil, err
		}
		all = append(all, schedule)
	}
	return all, nil
}

// String is the schedule in words: "every 2 epochs".
func (s Schedule) String() string {
	counted := func(unit string) string {
		if s.every == 1 {
			return "every " + unit
		}
		return fmt.Sprintf("every %d %ss", s.every, unit)
	}
	switch s.kind {
	case steps:
		return counted("step")
	case epochs:
		return counted("epoch")
	case duration:
		words := s.wait.String() // 1h0m0s
		for _, nothing := range []string{"m0s", "h0m"} {
			if shorter, cut := strings.CutSuffix(words, nothing[1:]); cut && strings.HasSuffix(words, nothing) {
				words = shorter
			}
		}
		return "every " + words
	case doubling:
		return fmt.Sprintf("at doubling steps from %d", s.every)
	case times:
		if s.every == 1 {
			return "1 time"
		}
		return fmt.Sprintf("%d times", s.every)
	}
	return "never"
}

func (s Schedule) validate() error {
	switch {
	case s == (Schedule{}):
		return errors.New("hooks: there is an empty schedule; make one with EverySteps, EveryEpochs, EveryDuration, AtDoublingSteps, Times or ParseSchedule")
	case s.kind == duration && s.wait <= 0:
		return fmt.Errorf("hooks: the schedule is %q; its time must be positive", s)
	case s.kind != duration && s.every < 1:
		return fmt.Errorf("hooks: the schedule is %q; its number must be at least 1", s)
	}
	return nil
}

// now is where a run stands after a step.
type now struct {
	step       int64 // optimizer steps since the beginning of the training
	advanced   bool  // the step has moved on
	epochs     int   // whole ones
	epochEnded bool
	since      time.Duration // the audit before, or the beginning of the run
	done, all  int           // steps of this run; all is 0 where unknown
}

// due reports whether to audit.
func (s Schedule) due(at now) bool {
	n := int64(s.every)
	switch s.kind {
	case steps:
		return at.advanced && at.step%n == 0
	case epochs:
		return at.epochEnded && at.epochs%s.every == 0
	case duration:
		return at.since >= s.wait
	case doubling:
		ratio := at.step / n
		return at.advanced && at.step%n == 0 && ratio&(ratio-1) == 0
	case times:
		return at.all > 0 && at.done*s.every/at.all > (at.done-1)*s.every/at.all
	}
	return false
}
