package view

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

// evaluatedAt is an audit of three trajectories over three steps. Rollouts have the errors steps * (1, 2, 3) * unit; no change costs 2 more at each step.
func evaluatedAt(epoch int, unit float64) (rows []audit.EvaluationRow) {
	for sample := range int32(3) {
		for steps := int32(1); steps <= 3; steps++ {
			rows = append(rows, audit.EvaluationRow{Moment: moment(epoch), Split: "validation", Sample: sample, Class: []string{"smooth", "shocks", "shocks"}[sample], Trajectory: 7, TimeIndex: steps,
				OneStepError: unit * float64(sample+1), OneStepPersistenceError: 2, RolloutError: unit * float64(steps*(sample+1)), RolloutPersistenceError: 2 * float64(steps)})
		}
	}
	return rows
}

func TestHeldOutErrorsAreMedians(t *testing.T) {
	records := small()
	records.Evaluation = append(evaluatedAt(1, 1), evaluatedAt(4, 0.1)...)
	f, ok := ofRecords(records).heldOut()
	require.True(t, ok)
	lines := func(panel Panel) (all []Line) {
		for _, mark := range panel.Marks {
			if line, is := mark.(Line); is {
				all = append(all, line)
			}
		}
		return all
	}
	oneStep := lines(find(t, f, "One-step error (n = 9)"))
	require.Len(t, oneStep, 2)
	require.Equal(t, []float64{1, 4}, oneStep[0].At)
	for i, want := range []Summary{{N: 9, Q25: 1, Median: 2, Q75: 3}, {N: 9, Q25: 0.1, Median: 0.2, Q75: 0.3}} {
		got := oneStep[0].Of[i]
		require.Equal(t, want.N, got.N)
		require.InDeltaSlice(t, []float64{want.Q25, want.Median, want.Q75}, []float64{got.Q25, got.Median, got.Q75}, 1e-15)
	}
	require.Equal(t, Style{Dashes: 2}, oneStep[1].Style, "no change")
	require.Equal(t, 2.0, oneStep[1].Of[1].Median)
	rollout := lines(find(t, f, "Rollout error (n = 3)"))
	require.Equal(t, []float64{1, 2, 3}, rollout[0].At)
	for i, want := range []float64{0.2, 0.4, 0.6} {
		require.InDelta(t, want, rollout[0].Of[i].Median, 1e-15, "of the last audit")
		require.InDelta(t, 2*float64(i+1), rollout[1].Of[i].Median, 1e-15)
	}
	caption := strings.Join(f.Caption, " ")
	require.Contains(t, caption, "3 held-out trajectories of smooth and shocks (split validation)")
	require.Contains(t, caption, "unet: one step 2 at epoch 1, 0.2 at epoch 4; rollout 0.2 after 1 step, 0.6 after 3 steps.")
}

// Another model on the same states has the same errors of no change, which are drawn once.
func TestNoChangeIsDrawnOnce(t *testing.T) {
	records := small()
	other := small()
	for _, at := range other.Moments() {
		at.Model = "vit"
	}
	records.Add(other)
	records.Evaluation = append(evaluatedAt(4, 1), evaluatedAt(4, 0.1)...)
	for i := range records.Evaluation[9:] {
		records.Evaluation[9+i].Model = "vit"
	}
	f, ok := ofRecords(records).heldOut()
	require.True(t, ok)
	for _, panel := range f.Panels {
		dotted := 0
		for _, mark := range panel.Marks {
			if line, is := mark.(Line); is && line.Style.Dashes == 2 {
				dotted++
			}
		}
		require.Equal(t, 1, dotted, panel.Title)
	}
}

func TestTheVerdictOnRollouts(t *testing.T) {
	const of = "Rolled out from 3 initial states of held-out trajectories (split validation), "
	for name, test := range map[string]struct {
		edit func([]audit.EvaluationRow)
		said string
	}{
		"never":      {func([]audit.EvaluationRow) {}, "the median error never exceeds that of predicting no change (after 3 steps, 0.6 against 6)."},
		"the same":   {func(rows []audit.EvaluationRow) { rows[4].RolloutError, rows[7].RolloutError = 4, 4 }, "the median error never exceeds that of predicting no change (after 3 steps, 0.6 against 6)."},
		"second":     {func(rows []audit.EvaluationRow) { rows[4].RolloutError, rows[7].RolloutError = 4.1, 4.1 }, "the median error first exceeds that of predicting no change after 2 steps (4.1 against 4)."},
		"first":      {func(rows []audit.EvaluationRow) { rows[3].RolloutError, rows[6].RolloutError = 9, 9 }, "the median error first exceeds that of predicting no change after 1 step (9 against 2)."},
		"overflow":   {func(rows []audit.EvaluationRow) { rows[8].RolloutError = math.Inf(1) }, "the errors are finite for 2 steps and not beyond."},
		"NaN":        {func(rows []audit.EvaluationRow) { rows[1].RolloutError = math.NaN() }, "the errors are finite for 1 step and not beyond."},
		"not at all": {func(rows []audit.EvaluationRow) { rows[0].RolloutError = math.NaN() }, "the errors are finite for 0 steps and not beyond."},
	} {
		t.Run(name, func(t *testing.T) {
			records := small()
			records.Evaluation = evaluatedAt(4, 0.1)
			test.edit(records.Evaluation)
			d := ofRecords(records)
			require.Equal(t, of+test.said, d.sayRollout(d.series[0]))
			require.Contains(t, d.verdicts()[0].Said, of+test.said)
		})
	}
	d := ofRecords(small())
	require.Empty(t, d.sayRollout(d.series[0]), "nothing was evaluated")
	_, ok := d.heldOut()
	require.False(t, ok)
}

// Where a value is not finite the others would flatter the model: there is no median, and the caption counts what is lost.
func TestRolloutsThatAreNotFinite(t *testing.T) {
	records := small()
	records.Evaluation = evaluatedAt(4, 0.1)
	records.Evaluation[7].RolloutError, records.Evaluation[8].RolloutError = math.NaN(), math.Inf(1)
	f, ok := ofRecords(records).heldOut()
	require.True(t, ok)
	for _, mark := range find(t, f, "Rollout error (n = 3)").Marks {
		if line, is := mark.(Line); is && line.Style.Dashes == 0 {
			require.Equal(t, []float64{1}, line.At)
		}
	}
	require.Contains(t, strings.Join(f.Caption, " "), "2 of 9 states have an error that is not finite, and there is no median where one is.")
}
