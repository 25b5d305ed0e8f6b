package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// heldOut draws how well held-out trajectories are predicted: one step ahead over the epochs, and rolled out from their initial states in the last audits.
func (d *data) heldOut() (Figure, bool) {
	f := Figure{Name: "held-out", Title: "Held-out errors", Legend: d.modelLegend(true)}
	for _, panel := range []*Panel{d.oneStepPanel(), d.rolloutPanel()} {
		if panel != nil {
			f.Panels = append(f.Panels, *panel)
		}
	}
	if len(f.Panels) == 0 {
		return f, false
	}
	f.Caption = []string{
		fmt.Sprintf("One step: error of each state of %s, predicted from the state before it. Rollout: the same states predicted from the initial states alone, in the last audit of each model (%s).", d.heldOutStates(), d.lastAudits()),
		"Lines are medians, bands reach from 25 % to 75 %. Dashed: the training loss, the median of neighbouring steps where there are many. Dotted: what predicting no change would cost, since the state before and since the initial state.",
	}
	for _, s := range d.series {
		f.Caption = append(f.Caption, d.describeEvaluation(s))
	}
	return f, true
}

// heldOutStates reads "6 held-out trajectories of CE-RP and CE-CRP (split test)".
func (d *data) heldOutStates() string {
	var splits, classes []string
	n := extent{}
	for _, s := range d.series {
		for _, row := range s.evaluated {
			splits, classes = appendNew(splits, row.Split), appendNew(classes, row.Class)
		}
		if len(s.evaluated) > 0 {
			n.include(float64(s.rolledOut()))
		}
	}
	return fmt.Sprintf("%s held-out trajectories of %s (split %s)", span(n), listed(classes), listed(splits))
}

// rolledOut counts the trajectories of a series' last audit.
func (s *series) rolledOut() int {
	seen := map[int32]bool{}
	for _, row := range s.evaluated {
		seen[row.Sample] = true
	}
	return len(seen)
}

// Columns of table evaluation.
func oneStepError(row audit.EvaluationRow) float64       { return row.OneStepError }
func oneStepPersistence(row audit.EvaluationRow) float64 { return row.OneStepPersistenceError }
func rolloutError(row audit.EvaluationRow) float64       { return row.RolloutError }
func rolloutPersistence(row audit.EvaluationRow) float64 { return row.RolloutPersistenceError }

// column is one of table evaluation.
type column func(audit.EvaluationRow) float64

// evaluationLine joins the medians of a column over the rows that are at the same place. Where a value is not finite there is no median.
func evaluationLine(rows []audit.EvaluationRow, of, at column) (line Line) {
	values := map[float64][]float64{}
	for _, row := range rows {
		values[at(row)] = append(values[at(row)], of(row))
	}
	for _, place := range slices.Sorted(maps.Keys(values)) {
		if summary := summarise(values[place]); allFinite(values[place]) && drawable(summary.Median) {
			line.At, line.Of = append(line.At, place), append(line.Of, summary)
		}
	}
	return line
}

func allFinite(values []float64) bool {
	return !slices.ContainsFunc(values, func(v float64) bool { return !finite(v) })
}

// lead is how many steps a rollout has been carried on for.
func lead(row audit.EvaluationRow) float64 { return float64(row.TimeIndex) }

// evaluations are a series' rows of all audits.
func (d *data) evaluations(s *series) []audit.EvaluationRow {
	return rowsOf(d.records.Evaluation, func(row audit.EvaluationRow) bool { return s.wrote(row.Moment) })
}

func (d *data) oneStepPanel() *Panel {
	p := newEvaluationPanel()
	for _, s := range d.series {
		p.add(s, d.evaluations(s), oneStepError, oneStepPersistence, func(row audit.EvaluationRow) float64 { return d.when(row.Moment) })
	}
	if len(p.lines) == 0 {
		return nil
	}
	var losses []Mark
	for _, s := range d.series {
		if curve := d.losses(s, 30); len(curve.At) > 0 && len(s.evaluated) > 0 {
			curve.Style.Dashes = 1
			p.x.include(curve.At...)
			p.y.include(curve.Values...)
			losses = append(losses, curve)
		}
	}
	return p.panel("One-step error", d.time, losses...)
}

func (d *data) rolloutPanel() *Panel {
	p := newEvaluationPanel()
	for _, s := range d.series {
		p.add(s, s.evaluated, rolloutError, rolloutPersistence, lead)
	}
	if len(p.lines) == 0 {
		return nil
	}
	return p.panel("Rollout error", "steps since the initial state")
}

// evaluationPanel collects lines of a panel.
type evaluationPanel struct {
	x, y, n      extent
	bands, lines []Mark
}

func newEvaluationPanel() *evaluationPanel { return &evaluationPanel{y: extent{log: true}} }

// add takes a series' errors, and those of no change unless another series has the same.
func (p *evaluationPanel) add(s *series, rows []audit.EvaluationRow, of, still, at column) {
	line, dotted := evaluationLine(rows, of, at), evaluationLine(rows, still, at)
	line.Style, dotted.Style = s.style, s.style
	dotted.Style.Dashes = 2
	for _, summary := range line.Of {
		p.y.include(summary.Q25, summary.Q75)
		p.n.include(float64(summary.N))
	}
	for _, summary := range dotted.Of {
		p.y.include(summary.Median)
	}
	p.x.include(line.At...)
	p.x.include(dotted.At...)
	if len(line.At) > 0 {
		p.bands, p.lines = append(p.bands, Band(line)), append(p.lines, line)
	}
	known := slices.ContainsFunc(p.lines, func(m Mark) bool {
		other := m.(Line)
		return other.Style.Dashes == dotted.Style.Dashes && slices.Equal(other.At, dotted.At) && slices.Equal(other.Of, dotted.Of)
	})
	if len(dotted.At) > 0 && !known {
		p.lines = append(p.lines, dotted)
	}
}

func (p *evaluationPanel) panel(title, xLabel string, below ...Mark) *Panel {
	return &Panel{Title: title + samplesIn(p.n), X: p.x.padded().axis(xLabel), Y: p.y.padded().axis("error"), Marks: slices.Concat(p.bands, below, p.lines)}
}

// describeEvaluation reads "unet: one step 0.31 at epoch 1, 0.12 at epoch 5; rollout 0.12 after 1 step, 0.6 after 8 (no change: 0.9).", and says where values are not finite.
func (d *data) describeEvaluation(s *series) string {
	var said []string
	all := d.evaluations(s)
	ends := func(line Line, label func(float64) string) (words []string) {
		for i, at := range line.At {
			if i == 0 || i == len(line.At)-1 {
				words = append(words, Number(line.Of[i].Median)+" "+label(at))
			}
		}
		return words
	}
	if words := ends(evaluationLine(all, oneStepError, func(row audit.EvaluationRow) float64 { return d.when(row.Moment) }), func(at float64) string { return "at " + d.time + " " + Number(at) }); words != nil {
		said = append(said, "one step "+strings.Join(words, ", "))
	}
	if words := ends(evaluationLine(s.evaluated, rolloutError, lead), func(at float64) string { return "after " + plural(int(at), "step") }); words != nil {
		said = append(said, "rollout "+strings.Join(words, ", "))
	}
	lost := 0
	for _, row := range all {
		if !finite(row.OneStepError) || !finite(row.RolloutError) {
			lost++
		}
	}
	if lost > 0 {
		said = append(said, fmt.Sprintf("%s states have an error that is not finite, and there is no median where one is", outOf(lost, len(all))))
	}
	if said == nil {
		return ""
	}
	return s.label + ": " + strings.Join(said, "; ") + "."
}

// sayRollout says after how many steps predicting no change would be better than a rollout; empty where there is none.
func (d *data) sayRollout(s *series) string {
	if len(s.evaluated) == 0 {
		return ""
	}
	rolled, still := map[int32][]float64{}, map[int32][]float64{}
	for _, row := range s.evaluated {
		rolled[row.TimeIndex] = append(rolled[row.TimeIndex], row.RolloutError)
		still[row.TimeIndex] = append(still[row.TimeIndex], row.RolloutPersistenceError)
	}
	of := fmt.Sprintf("Rolled out from %s of held-out trajectories (split %s)", plural(s.rolledOut(), "initial state"), s.evaluated[0].Split)
	errors, last := "", int32(0)
	for _, steps := range slices.Sorted(maps.Keys(rolled)) {
		model, none := summarise(rolled[steps]).Median, summarise(still[steps]).Median
		errors, last = fmt.Sprintf("%s against %s", Number(model), Number(none)), steps
		switch {
		case !allFinite(rolled[steps]):
			return fmt.Sprintf("%s, the errors are finite for %s and not beyond.", of, plural(int(steps-1), "step"))
		case model > none:
			return fmt.Sprintf("%s, the median error first exceeds that of predicting no change after %s (%s).", of, plural(int(steps), "step"), errors)
		}
	}
	return fmt.Sprintf("%s, the median error never exceeds that of predicting no change (after %s, %s).", of, plural(int(last), "step"), errors)
}
