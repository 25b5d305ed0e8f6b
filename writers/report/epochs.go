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
	f := figure{name: "epochs", title: "Coherence and loss over the epochs", legend: r.modelLegend(true)}
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
		f.title = "Loss over the epochs"
	} else {
		lead := "Coherence: median cosine between the loss gradients at x and at g.x, over the non-identity elements and the probe samples; band from 25 % to 75 %. At 1 learning from a state teaches its transforms as much; at 0, nothing; below 0 it harms them."
		f.caption = append([]string{lead}, f.caption...)
		f.caption = append(f.caption, certain.describe(), r.lambdas(""))
	}
	if drawn := r.lossPanel(x); drawn != nil {
		panels = append(panels, drawn)
		f.caption = append(f.caption, "Loss: training loss of single steps, the median of neighbours where there are many.")
	}
	f.panels = inPairs(panels)
	return f, len(panels) > 0
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
	y := extent{}
	y.include(0, 1)
	lines := make([]profile, 0, len(r.series))
	var seen []string
	for _, s := range r.series {
		line := profile{color: s.color(), glyph: s.glyph()}
		for _, row := range r.Records.Coherence {
			if !s.wrote(row.Moment) || row.GroupName != g.name || row.Element != allElements ||
				row.Median == nil || row.Q25 == nil || row.Q75 == nil {
				continue
			}
			line.at = append(line.at, row.Epoch)
			s := summary{n: int(row.N), q25: *row.Q25, median: *row.Median, q75: *row.Q75, bounds: between(row.MedianLow, row.MedianHigh)}
			line.of = append(line.of, s)
			y.include(s.q25, s.q75)
			y.enclose(s.bounds)
		}
		if last := len(line.of) - 1; last >= 0 {
			lines = append(lines, line)
			sentence := fmt.Sprintf("%s under %s: %s at epoch %s", s.Label, g.name, fixed(&line.of[0].median), number(line.at[0]))
			if last > 0 {
				sentence += fmt.Sprintf(", %s at epoch %s", fixed(&line.of[last].median), number(line.at[last]))
			}
			seen = append(seen, sentence+".")
		}
	}
	if len(lines) == 0 {
		return nil, nil
	}
	certain.add(lines, y.padded())
	drawn := newPanel("Coherence under "+g.name, "epoch", "cosine of x and g.x", x.padded(), y.padded())
	drawn.Add(level(0))
	for _, line := range lines {
		drawn.Add(band(line))
	}
	for i, line := range lines {
		drawn.Add(errorBars{line, aside(i, len(lines))})
	}
	for _, line := range lines {
		drawn.Add(line)
	}
	return drawn, seen
}

func (r *run) lossPanel(x extent) *panel {
	const mostPoints = 300
	y := extent{log: true}
	var lines []curve
	for _, s := range r.series {
		var rows []audit.TrainingRow
		for _, row := range r.Records.Training {
			if s.wrote(row.Moment) && row.Loss > 0 && !math.IsInf(row.Loss, 0) {
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
	drawn := newPanel("Training loss", "epoch", "loss", x.padded(), y.padded())
	for _, line := range lines {
		drawn.Add(line)
	}
	return drawn
}
