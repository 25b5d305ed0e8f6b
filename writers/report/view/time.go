package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/attempts"
)

// overTime draws the coherence and the errors of each group, and the training loss, with how the trainings ended.
func (d *data) overTime() (Figure, bool) {
	f := Figure{Name: "epochs", Title: fmt.Sprintf("Coherence, errors and loss over the %ss", d.time), Legend: d.modelLegend(true)}
	x := extent{}
	for _, row := range d.coherence {
		x.include(d.when(row.Moment))
	}
	for _, row := range d.records.Training {
		x.include(d.when(row.Moment))
	}
	ends, said := d.ends()
	var certain medianBounds
	var seen []string
	for _, g := range d.groups {
		if panel, sentences := d.coherencePanel(g, x, &certain); panel != nil {
			f.Panels, seen = append(f.Panels, *panel), append(seen, strings.Join(sentences, " "))
		}
	}
	if len(f.Panels) > 0 {
		f.Caption = append(f.Caption, "Coherence: median cosine between the gradients at x and at g.x, of the loss where a panel names no other direction, over the non-identity elements and the probe samples; band from 25 % to 75 %. Of the loss: at 1 a training step on a state lowers the loss at its transforms as it does at the state; at 0 it leaves that as it is; below 0 it raises it.")
		f.Caption = append(f.Caption, d.describeDirections()...)
		f.Caption = append(append(f.Caption, seen...), certain.describe(), d.lambdas(""))
	}
	audited := len(f.Panels)
	for _, g := range d.groups {
		if g.direction == "" {
			f.Panels = append(f.Panels, d.errorPanels(g, x)...)
		}
	}
	if len(f.Panels) > audited {
		f.Caption = append(f.Caption, "Errors: medians over the same elements and samples; solid lines the commutator error, which a symmetric model does not have, dashed lines the target error, dotted lines the target error of the untransformed states, which were held out from the training.")
	} else if audited == 0 {
		f.Title = fmt.Sprintf("Loss over the %ss", d.time)
	}
	if panel := d.lossPanel(x); panel != nil {
		f.Panels = append(f.Panels, *panel)
		f.Caption = append(f.Caption, "Loss: training loss of single steps, the median of neighbours where there are many.", d.lossesNotDrawn())
	}
	for i := range f.Panels {
		f.Panels[i].Marks = append(f.Panels[i].Marks, ends...)
	}
	f.Caption = append(f.Caption, said)
	return f, len(f.Panels) > 0
}

// ends marks where stop rules ended trainings, and which weights these keep, on the axis of time.
func (d *data) ends() (marks []Mark, said string) {
	for _, s := range d.series {
		end := d.decision(s)
		if end == nil || end.Decision != audit.Stopped {
			continue
		}
		marks = append(marks, Rule{d.when(end.Moment), "stop", s.style})
		said = "Upright lines: where a stop rule ended a training (stop)"
		for _, row := range d.coherence {
			if end.KeptStep != end.Step && row.Step == end.KeptStep && s.wrote(row.Moment) {
				marks = append(marks, Rule{d.when(row.Moment), "kept", s.style})
				break
			}
		}
	}
	if slices.ContainsFunc(marks, func(m Mark) bool { return m.(Rule).Text == "kept" }) {
		said += ", and the audit whose weights it keeps (kept)"
	}
	if said != "" {
		said += "."
	}
	return marks, said
}

// decision is how a series' training ended; nil where it has not, or not by itself.
func (d *data) decision(s *series) *audit.DecisionRow {
	return attempts.Ending(&d.records, func(m *audit.Moment) bool { return s.wrote(*m) })
}

// describeDirections says what the coherences mean that are not of the loss.
func (d *data) describeDirections() (all []string) {
	for _, g := range d.groups {
		if g.direction != "" {
			all = appendNew(all, capital(g.direction)+": "+g.describeDirection())
		}
	}
	return all
}

// medianBounds tells of the bounds of medians in a figure.
type medianBounds struct{ certainty }

func (m *medianBounds) add(lines []Line) {
	for _, line := range lines {
		for _, s := range line.Of {
			m.certainty.add(s.Median, s.Bounds)
		}
	}
}

func (m *medianBounds) describe() string {
	if m.certified == 0 {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("Upright bars are certified bounds of the median: the exact value lies between them (certified to %s at worst; a bar that is shorter than its marker is not drawn). %s",
		m.within(), m.uncertified("medians")))
}

func (d *data) coherencePanel(g group, x extent, certain *medianBounds) (*Panel, []string) {
	var lines []Line
	var seen []string
	for _, s := range d.series {
		line := s.coherence(g, d.coherence, func(row coherenceRow) float64 { return d.when(row.Moment) })
		if len(line.Of) > 0 {
			lines = append(lines, line)
			seen = append(seen, describeEnds(s, g, line, d.time+" "))
		}
	}
	return newCoherencePanel(g, d.time, x, lines, certain), seen
}

// coherence joins what a series' rows say of a whole group; rows without a cosine are left out.
func (s *series) coherence(g group, rows []coherenceRow, at func(coherenceRow) float64) Line {
	line := Line{Style: s.style}
	for _, row := range rows {
		if row.group != g.name || row.Element != audit.AllElements || row.Median == nil || row.Q25 == nil || row.Q75 == nil || !s.wrote(row.Moment) {
			continue
		}
		line.At = append(line.At, at(row))
		line.Of = append(line.Of, Summary{N: int(row.N), Q25: *row.Q25, Median: *row.Median, Q75: *row.Q75,
			Bounds: between(row.MedianLow, row.MedianHigh)})
	}
	return line
}

// describeEnds reads "unet under d4: 0.12 at epoch 1, 0.45 at epoch 6."
func describeEnds(s *series, g group, line Line, unit string) string {
	sentence := fmt.Sprintf("%s under %s: %s at %s%s", s.label, g.name, fixed(&line.Of[0].Median), unit, Number(line.At[0]))
	if last := len(line.Of) - 1; last > 0 {
		sentence += fmt.Sprintf(", %s at %s%s", fixed(&line.Of[last].Median), unit, Number(line.At[last]))
	}
	return sentence + "."
}

// newCoherencePanel is nil without lines.
func newCoherencePanel(g group, xLabel string, x extent, lines []Line, certain *medianBounds) *Panel {
	if len(lines) == 0 {
		return nil
	}
	y := extent{}
	y.include(0, 1)
	for _, line := range lines {
		for _, s := range line.Of {
			y.include(s.Q25, s.Q75)
			y.enclose(s.Bounds)
		}
	}
	certain.add(lines)
	panel := &Panel{Title: "Coherence under " + g.label() + counted(lines), X: x.padded().axis(xLabel), Y: y.padded().axis("cosine of x and g.x"), Marks: []Mark{Level{}}}
	for _, line := range lines {
		panel.Marks = append(panel.Marks, Band(line))
	}
	for i, line := range lines {
		line.Place, line.Places = placeOf(i, lines), len(lines)
		panel.Marks = append(panel.Marks, Bars(line))
	}
	for _, line := range lines {
		panel.Marks = append(panel.Marks, line)
	}
	return panel
}

// counted says of how many values each median of the lines is.
func counted(lines []Line) string {
	n := extent{}
	for _, line := range lines {
		for _, s := range line.Of {
			n.include(float64(s.N))
		}
	}
	return samplesIn(n)
}

// samplesIn reads " (n = 9)" or " (n = 8 to 9)"; it is empty where nothing was counted.
func samplesIn(n extent) string {
	switch {
	case !n.filled:
		return ""
	case n.low == n.high:
		return fmt.Sprintf(" (n = %.0f)", n.low)
	}
	return fmt.Sprintf(" (n = %.0f to %.0f)", n.low, n.high)
}

// placeOf counts the lines that begin left of line i, so that setting bars aside never moves them towards each other.
func placeOf(i int, lines []Line) int {
	place := 0
	for j, other := range lines {
		if other.At[0] < lines[i].At[0] || other.At[0] == lines[i].At[0] && j < i {
			place++
		}
	}
	return place
}

// errorPanels draws a group's medians of both errors, and of the target error at x, on one axis; none where there is no error above 0.
func (d *data) errorPanels(g group, x extent) []Panel {
	y, n := extent{log: true}, extent{}
	var marks []Mark
	for _, s := range d.series {
		for dashes, kind := range []struct {
			element string
			of      func(coherenceRow) *float64
		}{
			{audit.AllElements, func(row coherenceRow) *float64 { return row.MedianCommutatorError }},
			{audit.AllElements, func(row coherenceRow) *float64 { return row.MedianTargetError }},
			{identity, func(row coherenceRow) *float64 { return row.MedianTargetError }},
		} {
			line := Line{Style: s.style}
			line.Style.Dashes = dashes
			for _, row := range d.coherence {
				if value := kind.of(row); row.group == g.name && row.Element == kind.element && value != nil && drawable(*value) && s.wrote(row.Moment) {
					line.At, line.Of = append(line.At, d.when(row.Moment)), append(line.Of, Summary{N: int(row.NErrors), Q25: *value, Median: *value, Q75: *value})
					y.include(*value)
					n.include(float64(row.NErrors))
				}
			}
			if len(line.At) > 0 {
				marks = append(marks, line)
			}
		}
	}
	if len(marks) == 0 {
		return nil
	}
	return []Panel{{Title: "Errors under " + g.label() + samplesIn(n), X: x.padded().axis(d.time), Y: y.padded().axis("error"), Marks: marks}}
}

// lossesNotDrawn counts the losses that a logarithmic axis cannot show; it is empty where there are none.
func (d *data) lossesNotDrawn() string {
	var all []string
	for _, s := range d.series {
		steps, lost := 0, 0
		for _, row := range d.records.Training {
			if s.wrote(row.Moment) {
				steps++
				if !drawable(row.Loss) {
					lost++
				}
			}
		}
		if lost > 0 {
			all = append(all, fmt.Sprintf("%s: %s losses are not finite, or not above 0, and not drawn.", s.label, outOf(lost, steps)))
		}
	}
	return strings.Join(all, " ")
}

func (d *data) lossPanel(x extent) *Panel {
	y := extent{log: true}
	var marks []Mark
	for _, s := range d.series {
		if curve := d.losses(s, 300); len(curve.At) > 0 {
			y.include(curve.Values...)
			marks = append(marks, curve)
		}
	}
	if len(marks) == 0 {
		return nil
	}
	return &Panel{Title: "Training loss", X: x.padded().axis(d.time), Y: y.padded().axis("loss"), Marks: marks}
}

// losses are a series' training losses, the medians of neighbours where there are more than so many; those that a logarithmic axis cannot show are left out.
func (d *data) losses(s *series, mostPoints int) Curve {
	curve := Curve{Style: s.style}
	var rows []audit.TrainingRow
	for _, row := range d.records.Training {
		if s.wrote(row.Moment) && drawable(row.Loss) {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b audit.TrainingRow) int { return int(a.Step - b.Step) })
	for neighbours := range slices.Chunk(rows, 1+max(0, len(rows)-1)/mostPoints) {
		var losses []float64
		for _, row := range neighbours {
			losses = append(losses, row.Loss)
		}
		curve.At = append(curve.At, d.when(neighbours[len(neighbours)/2].Moment))
		curve.Values = append(curve.Values, summarise(losses).Median)
	}
	return curve
}
