package view

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
)

// Verdict says in words what the tables say of one model, and what makes them uncertain. No sentence says more than they do.
type Verdict struct {
	Model  string
	Said   []string
	Doubts []string
}

func (d *data) verdicts() (all []Verdict) {
	for _, s := range d.series {
		v := Verdict{Model: s.label}
		v.Said = append(v.Said, d.sayTraining(s)...)
		for _, g := range d.groups {
			if said := d.sayGroup(s, g); said != "" {
				v.Said = append(v.Said, said)
			}
		}
		if said := d.sayRollout(s); said != "" {
			v.Said = append(v.Said, said)
		}
		v.Doubts = d.doubts(s)
		all = append(all, v)
	}
	return all
}

// sayTraining says what was trained and audited, and how the training ended.
func (d *data) sayTraining(s *series) (said []string) {
	first, last, steps := 0.0, 0.0, int64(0)
	audits := map[int64]bool{}
	for _, row := range d.coherence {
		if s.wrote(row.Moment) && row.Element == audit.AllElements {
			at := d.when(row.Moment)
			if len(audits) == 0 {
				first, last = at, at
			}
			audits[row.Step] = true
			first, last = min(first, at), max(last, at)
		}
	}
	until := 0.0
	for _, row := range d.records.Training {
		if s.wrote(row.Moment) {
			steps, until = max(steps, row.Step), max(until, row.Epoch)
		}
	}
	what := ""
	for _, row := range d.records.Solves {
		if row.Parameters != nil && s.wrote(row.Moment) {
			what = fmt.Sprintf("%s parameters, seed %d; ", count(*row.Parameters), s.seed)
			break
		}
	}
	switch {
	case steps > 0 && d.time == "epoch":
		what += fmt.Sprintf("trained to step %s, epoch %s; ", count(steps), Number(until))
	case steps > 0:
		what += fmt.Sprintf("trained to step %s; ", count(steps))
	}
	switch len(audits) {
	case 0:
		what += "not audited"
	case 1:
		what += fmt.Sprintf("audited once, at %s %s", d.time, Number(first))
	default:
		what += fmt.Sprintf("audited %d times, at %ss %s to %s", len(audits), d.time, Number(first), Number(last))
	}
	said = append(said, capital(what)+".")
	if steps == 0 {
		return said
	}
	return append(said, d.sayEnd(d.decision(s)))
}

func (d *data) sayEnd(row *audit.DecisionRow) string {
	if row == nil {
		return "No end is recorded: the training goes on, was killed or failed, or was made by an earlier version."
	}
	because := "."
	if row.Explanation != nil {
		because = ": " + *row.Explanation + "."
	}
	said := ""
	switch row.Decision {
	case audit.Stopped:
		said = "A stop rule ended the training" + because
	case audit.Interrupted:
		said = fmt.Sprintf("The training was interrupted at step %s%s", count(row.Step), because)
	default:
		said = "The training made all its steps."
	}
	best := ""
	if row.BestStep != nil && row.BestValue != nil && row.Monitor != nil {
		best = fmt.Sprintf("the best audit by %s, %s", *row.Monitor, Number(*row.BestValue))
	}
	switch {
	case best == "":
		return said + fmt.Sprintf(" It keeps the weights of step %s.", count(row.KeptStep))
	case *row.BestStep == row.KeptStep:
		return said + fmt.Sprintf(" It keeps the weights of step %s, %s.", count(row.KeptStep), best)
	}
	return said + fmt.Sprintf(" It keeps the weights of step %s; %s, was at step %s.", count(row.KeptStep), best, count(*row.BestStep))
}

// sayGroup says how the coherence and the errors of a group moved, between its first audit and its last; empty where it was not audited.
func (d *data) sayGroup(s *series, g group) string {
	var rows []coherenceRow
	for _, row := range d.coherence {
		if row.group == g.name && row.Element == audit.AllElements && s.wrote(row.Moment) {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return ""
	}
	slices.SortStableFunc(rows, func(a, b coherenceRow) int { return int(a.Step - b.Step) })
	first, last := rows[0], rows[len(rows)-1]
	coherence, fell := sayCoherence(first, last)
	said := []string{coherence}
	if g.direction == "" {
		errors := slices.DeleteFunc([]string{sayError("target error", first.MedianTargetError, last.MedianTargetError),
			sayError("commutator error", first.MedianCommutatorError, last.MedianCommutatorError)}, func(text string) bool { return text == "" })
		if len(errors) > 0 {
			said = append(said, capital(listed(errors))+".")
		}
		if fell && first.MedianCommutatorError != nil && last.MedianCommutatorError != nil && *last.MedianCommutatorError < *first.MedianCommutatorError {
			said = append(said, "That less carries over while the symmetry is kept better is no contradiction: the loss's coherence is about what is left of the loss.")
		}
		if last.AsymmetryShare != nil {
			said = append(said, fmt.Sprintf("Averaging the predictions over the group would take away %s of the target error.", percent(last.AsymmetryShare)))
		}
		plain, still := d.samplesOf(s, g, atX, ""), d.samplesOf(s, g, noChange, "")
		if len(plain) > 0 && len(still) > 0 {
			said = append(said, fmt.Sprintf("Untransformed, the median target error is %s; predicting no change would cost %s.", Number(Summarise(plain).Median), Number(Summarise(still).Median)))
		}
	}
	return "Under " + g.label() + ": " + strings.Join(said, " ")
}

// sayCoherence says how a coherence moved, and whether it certainly fell.
func sayCoherence(first, last coherenceRow) (said string, fell bool) {
	if last.Median == nil {
		return "no coherence in the last audit, for no sample has a cosine.", false
	}
	now := between(last.MedianLow, last.MedianHigh)
	said = "coherence " + fixed(last.Median) + certified(now)
	if first.Step == last.Step || first.Median == nil {
		return said + ".", false
	}
	before := between(first.MedianLow, first.MedianHigh)
	said += ", at first " + fixed(first.Median) + certified(before)
	switch {
	case before == nil || now == nil:
		return said + ".", false
	case now.Low > before.High:
		return said + ": it rose.", false
	case now.High < before.Low:
		return said + ": it fell.", true
	}
	return said + ": no change beyond the intervals.", false
}

func certified(b *Bounds) string {
	if b == nil {
		return " (nothing is certified)"
	}
	low, high := math.Floor(100*b.Low)/100, math.Ceil(100*b.High)/100
	return fmt.Sprintf(" (certified: %s to %s)", Minus(fmt.Sprintf("%.2f", low)), Minus(fmt.Sprintf("%.2f", high)))
}

func sayError(name string, first, last *float64) string {
	const rounding = 1e-10 // of SMSE: an error of 1e-5, where float32 leaves 1e-7
	switch {
	case last == nil:
		return ""
	case *last < rounding && (first == nil || *first < rounding):
		return fmt.Sprintf("%s %s, which is rounding", name, Number(*last))
	case first == nil || first == last:
		return fmt.Sprintf("%s %s", name, Number(*last))
	case *last < *first:
		return fmt.Sprintf("%s fell from %s to %s", name, Number(*first), Number(*last))
	case *last > *first:
		return fmt.Sprintf("%s rose from %s to %s", name, Number(*first), Number(*last))
	}
	return fmt.Sprintf("%s stayed %s", name, Number(*last))
}

// doubts are what whoever reads a series' numbers should not overlook.
func (d *data) doubts(s *series) (all []string) {
	const few = 10 // probe states, of which quartiles say little
	fewest := map[string]int{}
	for _, row := range s.errors {
		fewest[row.GroupName] = max(fewest[row.GroupName], int(row.Sample)+1)
	}
	var groups, states []string
	for _, g := range d.groups {
		if n := fewest[g.of]; g.direction == "" && n > 0 {
			if n < few {
				groups = append(groups, fmt.Sprintf("%d under %s", n, g.label()))
			}
			states = appendNew(states, d.states(g))
		}
	}
	if groups != nil {
		all = append(all, "The probe states are few, "+listed(groups)+": intervals enclose the error of the solves, not what other states would show.")
	}
	if len(states) > 1 {
		all = append(all, "The groups are audited on different states, so that their errors at x differ.")
	}
	solves, open, uncertified, widest := 0, 0, 0, 0.0
	for _, row := range d.records.Solves {
		if !s.wrote(row.Moment) {
			continue
		}
		solves++
		switch row.Status {
		case solver.Converged:
		case solver.Uncertified:
			uncertified++
		default:
			open++
		}
		if row.MaxHalfWidth != nil && row.Step == s.step {
			widest = max(widest, *row.MaxHalfWidth)
		}
	}
	if open > 0 {
		all = append(all, fmt.Sprintf("%s solves did not converge: their intervals are wider than the tolerance; the section on the solver says why.", outOf(open, solves)))
	}
	if uncertified > 0 {
		all = append(all, fmt.Sprintf("%s solves are by a method that certifies nothing.", outOf(uncertified, solves)))
	}
	const wide = 0.1
	if widest > wide {
		all = append(all, fmt.Sprintf("Cosines of the last audit are certified to ±%s only.", Number(roundedUp(widest, 2))))
	}
	var leakage []float64
	for _, row := range s.influence {
		if row.Leakage != nil && row.Element != identity {
			leakage = append(leakage, *row.Leakage)
		}
	}
	const most = 0.9
	if of := summarise(leakage); of.N > 0 && of.Median > most {
		all = append(all, fmt.Sprintf("λ rather than the metric divides %s of the gradients (median leakage): the cosines are nearly the plain ones. A smaller λ lets the metric decide.", percent(&of.Median)))
	}
	if still := d.worseThanNoChange(s); still != "" {
		all = append(all, still)
	}
	return all
}

// worseThanNoChange says for which groups the model predicts worse than that nothing happens; empty for none.
func (d *data) worseThanNoChange(s *series) string {
	var worse []string
	for _, g := range d.groups {
		plain, still := d.samplesOf(s, g, atX, ""), d.samplesOf(s, g, noChange, "")
		if g.direction == "" && len(plain) > 0 && len(still) > 0 && Summarise(plain).Median > Summarise(still).Median {
			worse = append(worse, g.label())
		}
	}
	if worse == nil {
		return ""
	}
	return fmt.Sprintf("The model predicts worse than that nothing happens, on the states of %s.", listed(worse))
}
