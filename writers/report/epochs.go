package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// overEpochs draws the coherence of each group and the training loss.
func (r *run) overEpochs() (figure, bool) {
	f := figure{name: "epochs", title: fmt.Sprintf("Coherence and loss over the %ss", r.time), legend: r.modelLegend(true)}
	x := extent{}
	for _, row := range r.Records.Coherence {
		x.include(row.Epoch)
	}
	for _, row := range r.Records.Training {
		x.include(row.Epoch)
	}
	var panels []*panel
	var certain medianBounds
	for _, g := range r.groups {
		if drawn, seen := r.coherencePanel(g, x, &certain); drawn != nil {
			panels = append(panels, drawn)
			f.caption = append(f.caption, strings.Join(seen, " "))
		}
	}
	if len(panels) == 0 {
		f.title = fmt.Sprintf("Loss over the %ss", r.time)
	} else {
		lead := "Coherence: median cosine between the gradients at x and at g.x, of the loss where a panel names no other direction, over the non-identity elements and the probe samples; band from 25 % to 75 %. Of the loss: at 1 a training step on a state lowers the loss at its transforms as it does at the state; at 0 it leaves that as it is; below 0 it raises it."
		f.caption = append(append([]string{lead}, r.describeDirections()...), f.caption...)
		f.caption = append(f.caption, certain.describe(), r.lambdas(""))
	}
	if drawn := r.lossPanel(x); drawn != nil {
		panels = append(panels, drawn)
		f.caption = append(f.caption, "Loss: training loss of single steps, the median of neighbours where there are many.")
	}
	f.caption = append(f.caption, r.lossesNotDrawn())
	f.panels = inPairs(panels)
	return f, len(panels) > 0
}

// describeDirections says what the coherences mean that are not of the loss.
func (r *run) describeDirections() (all []string) {
	for _, g := range r.groups {
		if g.direction != "" {
			all = appendNew(all, capital(g.direction)+": "+g.describeDirection())
		}
	}
	return all
}

// medianBounds tells of the error bars in a figure.
type medianBounds struct {
	certainty
	shown, hidden int // hidden behind their markers
}

func (m *medianBounds) add(lines []profile, y extent) {
	for _, line := range lines {
		for _, s := range line.of {
			m.certainty.add(s.median, s.bounds)
			switch {
			case s.bounds == nil:
			case reach(s.median, s.bounds)/(y.high-y.low)*axisHeight > markerRadius:
				m.shown++
			default:
				m.hidden++
			}
		}
	}
}

func (m *medianBounds) describe() string {
	if m.certified == 0 {
		return ""
	}
	hidden := ""
	switch {
	case m.shown == 0:
		hidden = ", so all bars are hidden behind their markers"
	case m.hidden > 0:
		hidden = "; shorter bars are hidden behind their markers"
	}
	return strings.TrimSpace(fmt.Sprintf("Upright bars are certified bounds of the median: the exact value lies between them (certified to %s at worst%s). %s",
		m.within(), hidden, m.uncertified("medians")))
}

func (r *run) coherencePanel(g group, x extent, certain *medianBounds) (*panel, []string) {
	var lines []profile
	var seen []string
	for _, s := range r.series {
		line := s.coherence(g, r.Records.Coherence, func(row audit.CoherenceRow) float64 { return row.Epoch })
		if len(line.of) > 0 {
			lines = append(lines, line)
			seen = append(seen, describeEnds(s, g, line, r.time+" "))
		}
	}
	return newCoherencePanel(g, r.time, x, lines, certain), seen
}

// coherence joins what a series' rows say of a whole group; rows without a cosine are left out.
func (s series) coherence(g group, rows []audit.CoherenceRow, at func(audit.CoherenceRow) float64) profile {
	line := profile{color: s.color(), glyph: s.glyph()}
	for _, row := range rows {
		if !s.wrote(row.Moment) || row.GroupName != g.name || row.Element != audit.AllElements ||
			row.Median == nil || row.Q25 == nil || row.Q75 == nil {
			continue
		}
		line.at = append(line.at, at(row))
		line.of = append(line.of, summary{n: int(row.N), q25: *row.Q25, median: *row.Median, q75: *row.Q75,
			bounds: between(row.MedianLow, row.MedianHigh)})
	}
	return line
}

// describeEnds reads "unet under d4: 0.12 at epoch 1, 0.45 at epoch 6."
func describeEnds(s series, g group, line profile, unit string) string {
	sentence := fmt.Sprintf("%s under %s: %s at %s%s", s.Label, g.name, fixed(&line.of[0].median), unit, number(line.at[0]))
	if last := len(line.of) - 1; last > 0 {
		sentence += fmt.Sprintf(", %s at %s%s", fixed(&line.of[last].median), unit, number(line.at[last]))
	}
	return sentence + "."
}

// newCoherencePanel is nil without lines.
func newCoherencePanel(g group, xLabel string, x extent, lines []profile, certain *medianBounds) *panel {
	if len(lines) == 0 {
		return nil
	}
	y := extent{}
	y.include(0, 1)
	for _, line := range lines {
		for _, s := range line.of {
			y.include(s.q25, s.q75)
			y.enclose(s.bounds)
		}
	}
	certain.add(lines, y.padded())
	drawn := newPanel("Coherence under "+g.label(), xLabel, "cosine of x and g.x", x.padded(), y.padded())
	drawn.Add(level(0))
	for _, line := range lines {
		drawn.Add(band(line))
	}
	for i, line := range lines {
		drawn.Add(errorBars{line, aside(placeOf(i, lines), len(lines))})
	}
	for _, line := range lines {
		drawn.Add(line)
	}
	return drawn
}

// placeOf counts the lines that begin left of line i, so that setting bars aside never moves them towards each other.
func placeOf(i int, lines []profile) int {
	place := 0
	for j, other := range lines {
		if other.at[0] < lines[i].at[0] || other.at[0] == lines[i].at[0] && j < i {
			place++
		}
	}
	return place
}

// lossesNotDrawn counts the losses that a logarithmic axis cannot show; it is empty where there are none.
func (r *run) lossesNotDrawn() string {
	var all []string
	for _, s := range r.series {
		steps, lost := 0, 0
		for _, row := range r.Records.Training {
			if s.wrote(row.Moment) {
				steps++
				if !drawable(row.Loss) {
					lost++
				}
			}
		}
		if lost > 0 {
			all = append(all, fmt.Sprintf("%s: %s losses are not finite, or not above 0, and not drawn.", s.Label, outOf(lost, steps)))
		}
	}
	return strings.Join(all, " ")
}

// drawable values have a place on a logarithmic axis.
func drawable(v float64) bool { return v > 0 && !math.IsInf(v, 0) }

func (r *run) lossPanel(x extent) *panel {
	const mostPoints = 300
	y := extent{log: true}
	var lines []curve
	for _, s := range r.series {
		var rows []audit.TrainingRow
		for _, row := range r.Records.Training {
			if s.wrote(row.Moment) && drawable(row.Loss) {
				rows = append(rows, row)
			}
		}
		if len(rows) == 0 {
			continue
		}
		slices.SortStableFunc(rows, func(a, b audit.TrainingRow) int { return int(a.Step - b.Step) })
		line := curve{color: s.color()}
		for neighbours := range slices.Chunk(rows, 1+(len(rows)-1)/mostPoints) {
			var losses []float64
			for _, row := range neighbours {
				losses = append(losses, row.Loss)
			}
			line.at = append(line.at, neighbours[len(neighbours)/2].Epoch)
			line.values = append(line.values, summarise(losses).median)
		}
		y.include(line.values...)
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return nil
	}
	drawn := newPanel("Training loss", r.time, "loss", x.padded(), y.padded())
	for _, line := range lines {
		drawn.Add(line)
	}
	return drawn
}
