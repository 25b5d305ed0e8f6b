package hooks_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

func TestSchedulesAreReadAsTheyArePrinted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1000).Draw(t, "n")
		all := []hooks.Schedule{
			hooks.EverySteps(n), hooks.EveryEpochs(n), hooks.AtDoublingSteps(n), hooks.Times(n),
			hooks.EveryDuration(time.Duration(rapid.Int64Range(1, 1e15).Draw(t, "wait"))),
		}
		want := all[rapid.IntRange(0, len(all)-1).Draw(t, "from"):]
		var words []string
		for _, schedule := range want {
			words = append(words, schedule.String())
		}
		got, err := hooks.ParseSchedule(strings.Join(words, " or "))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
	for text, want := range map[string]string{
		"":              `"" is no schedule; use for instance "every 100 steps"`,
		"every 2 weeks": `"every 2 weeks" is no schedule`,
		"every step or": `"every step or" is no schedule`,
		"every 0 steps": `the schedule is "every 0 steps"; its number must be at least 1`,
		"every 0s":      `the schedule is "every 0s"; its time must be positive`,
		"every 99999999999999 steps or every 99999999999999999999 steps": "has a number or a time that is too large or cannot be read",
	} {
		_, err := hooks.ParseSchedule(text)
		require.ErrorContains(t, err, want)
	}
}

func TestSchedules(t *testing.T) {
	for text, want := range map[string][]int64{
		"every 5 steps":                   {5, 10, 15, 20, 23},
		"at doubling steps from 3":        {3, 6, 12, 23},
		"4 times":                         {6, 12, 18, 23},
		"23 times":                        {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23},
		"every 9 steps or every 12 steps": {9, 12, 18, 23},
		"every 1000h or every 2 epochs":   {14, 23},
		"every 1ns or every 20 steps":     {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23},
	} {
		t.Run(text, func(t *testing.T) {
			schedules, err := hooks.ParseSchedule(text)
			require.NoError(t, err)
			loop, auditor := newLoop(t), &script{}
			attach(t, hooks.New(auditor).WithSchedule(schedules...).WithStepsPerEpoch(7), loop)
			_, err = loop.RunSteps(endless(2), 23)
			require.NoError(t, err)
			require.Equal(t, want, auditor.steps())
		})
	}
}

func TestTimesNeedARunOfKnownLength(t *testing.T) {
	loop := newLoop(t)
	hook := attach(t, hooks.New(&script{}).WithSchedule(hooks.Times(3)), loop)
	_, err := loop.RunEpochs(hook.Dataset(newSamples(2, 2)), 2)
	require.ErrorContains(t, err, "audits 3 times need to know how many steps the run has")
}

// costly is an auditor whose preflight predicts what its audits take.
type costly struct {
	script
	predicted time.Duration
}

func (c *costly) Preflight(context.Context) (audit.Forecast, error) {
	return audit.Forecast{Products: 10, ProductTime: c.predicted / 10}, nil
}

func TestWithoutAScheduleAuditsTakeTheDefaultBudget(t *testing.T) {
	for predicted, want := range map[time.Duration][]int64{0: {1, 9}, time.Hour: {9}} {
		clock := newClock()
		auditor := &costly{script{before: clock.takes(time.Second)}, predicted}
		loop, log := newLoop(t), &bytes.Buffer{}
		loop.OnStep("first", 0, func(*train.Loop, []*tensors.Tensor) error { return clock.takes(100 * time.Millisecond)() })
		attach(t, hooks.New(auditor).WithLogger(zerolog.New(log)).WithClock(clock.now), loop)
		_, err := loop.RunSteps(endless(2), 9)
		require.NoError(t, err)
		require.Equal(t, want, auditor.steps(), "predicted %v", predicted)
		require.Contains(t, log.String(), `"budget":0.05`)
	}
}

func TestABudgetSpacesAudits(t *testing.T) {
	const slow = 20 * time.Millisecond
	audits := map[float64]int{}
	for _, share := range []float64{0.01, 1} {
		clock := newClock()
		loop, auditor := newLoop(t), &script{before: clock.takes(slow)}
		loop.OnStep("first", 0, func(*train.Loop, []*tensors.Tensor) error { return clock.takes(time.Millisecond)() })
		attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithBudget(share).WithClock(clock.now), loop)
		_, err := loop.RunSteps(endless(2), 10)
		require.NoError(t, err)
		audits[share] = len(auditor.moments)
		require.EqualValues(t, 1, auditor.steps()[0])
		require.EqualValues(t, 10, auditor.steps()[len(auditor.moments)-1], "the last step")
	}
	require.Equal(t, 2, audits[0.01], "ten steps take less than the 2 s that the second audit needs")
	require.Equal(t, 10, audits[1])
	_, err := hooks.New(&script{}).WithSchedule(hooks.EverySteps(1)).WithBudget(1.5).Attach(newLoop(t))
	require.ErrorContains(t, err, "the budget of audits is 1.5 of the time")
}
