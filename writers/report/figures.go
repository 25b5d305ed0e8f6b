package report

import (
	"crypto/sha256"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"

	"github.com/symaudit/symaudit/audit"
)

// figures of the run; what was not audited has none.
func (r *run) figures() []figure {
	var all []figure
	add := func(f figure, ok bool) {
		if ok {
			all = append(all, f)
		}
	}
	add(r.overEpochs())
	add(r.overDampings())
	for _, g := range r.groups {
		if g.shifts() {
			add(r.byShift(g))
			continue
		}
		add(r.byElement(g, "errors", "Error by element of "+g.label(), targetError, commutatorError))
		add(r.byElement(g, "influence", "Influence by element of "+g.label(), scaledInfluence, cosine))
	}
	return all
}

// byElement draws quantities side by side, a box for each element and series.
func (r *run) byElement(g group, name, title string, quantities ...quantity) (figure, bool) {
	f := figure{name: name + "-" + g.file, title: title, legend: r.modelLegend(false)}
	var row []*panel
	var seen []string
	for _, q := range quantities {
		drawn, sentences := r.elementPanel(g, q)
		if drawn == nil {
			continue
		}
		row = append(row, drawn)
		seen = append(seen, sentences...)
	}
	f.panels = [][]*panel{row}
	f.caption = append(f.caption, fmt.Sprintf("%s, last audit of each model (%s). Box: middle half of the probe samples; bar: median; whiskers: 5 %% to 95 %%; dots: samples.",
		capital(g.caption()), r.lastAudits()))
	if name == "errors" {
		f.caption = append(f.caption, "Target error compares f(g.x) with g.y, commutator error with g.f(x) (SMSE; of an invariant output, the loss and the relative change); an equivariant model has the same target error everywhere and no commutator error. The identity e commutes exactly and is left out of the right panel.")
	} else {
		f.caption = append(f.caption, g.describeDirection(), r.describeLines(g), r.lambdas(g.name))
	}
	f.caption = append(f.caption, strings.Join(seen, " "))
	return f, len(row) > 0
}

// describeDirection says what influence and cosine mean.
func (g group) describeDirection() string {
	from, to, mixed := strings.Cut(g.direction, "_to_")
	switch {
	case g.direction == "":
		return "Of a sample x with its own transform g.x: positive when a training step on x also lowers the cost at g.x. Equal boxes over the elements mean that learning respects the symmetry; a cosine near 0, that a training step on x leaves the cost at g.x as it is. It is about what is left of the cost: late in a training the symmetry may be learned and the cosine low all the same; the commutator error tells."
	case g.direction == audit.KernelName:
		return "Of the network's tangent kernel between a sample x and its own transform g.x: what a step at x carries to g.x whatever is left of the cost. It is 1 where the network is built to be equivariant, and may stay low where the symmetry is learned from data."
	case mixed:
		return fmt.Sprintf("What a training step on the %s at a sample x does to %s at its own transform g.x. An equivariant model has the same cosine at every element, and not 1.", from, to)
	}
	return fmt.Sprintf("Of %s at a sample x and at its own transform g.x: positive when a step that raises it at x raises it at g.x.", g.direction)
}

const zeroCaption = "A 0 at the foot of a panel marks a median of exactly zero, which its logarithmic axis cannot show."

// describeLines explains the lines through the dots; empty where there are none.
func (r *run) describeLines(g group) string {
	var worst []string
	var open []string
	for _, q := range []quantity{scaledInfluence, cosine} {
		var c certainty
		for _, s := range r.series {
			for _, element := range g.elements {
				if samples := q.at(r, s, g, element); len(samples) <= mostDots {
					for _, one := range samples {
						c.add(one.value, one.bounds)
					}
				}
			}
		}
		if c.certified > 0 {
			worst = append(worst, fmt.Sprintf("%s %s at worst", q.short, c.within()))
			open = append(open, c.uncertified(q.short+"s"))
		}
	}
	if worst == nil {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("A thin line through a dot joins the certified bounds of that sample's value (%s). %s",
		strings.Join(worst, ", "), strings.TrimSpace(strings.Join(open, " "))))
}

func (r *run) elementPanel(g group, q quantity) (*panel, []string) {
	var elements []string
	y := extent{log: q.log}
	for _, element := range g.elements {
		found := false
		for _, s := range r.series {
			samples := q.at(r, s, g, element)
			found = found || len(samples) > 0
			y.include(valuesOf(samples)...)
			if len(samples) <= mostDots {
				y.enclose(boundsOf(samples)...)
			}
		}
		if found {
			elements = append(elements, element)
		}
	}
	if len(elements) == 0 {
		return nil, nil
	}
	if !q.log {
		y.include(0)
	}
	drawn := newPanel(capital(q.short), "element g", q.label, extent{low: -0.6, high: float64(len(elements)) - 0.4}, readable(y))
	if !q.log {
		drawn.Add(level(0))
	}
	ticks := make([]plot.Tick, len(elements))
	const used = 0.76 // of the room between elements
	width := used / float64(len(r.series))
	var seen []string
	zero := false
	for i, s := range r.series {
		medians, most := map[string]float64{}, 0
		for j, element := range elements {
			ticks[j] = plot.Tick{Value: float64(j), Label: element}
			samples := q.at(r, s, g, element)
			if len(samples) == 0 {
				continue
			}
			medians[element], most = summarise(valuesOf(samples)).median, max(most, len(samples))
			zero = zero || q.log && medians[element] <= 0
			drawn.Add(box{at: float64(j) + (float64(i)+0.5)*width - used/2, width: 0.86 * width, samples: samples, color: s.color()})
		}
		if len(medians) > 0 {
			seen = append(seen, describeElements(s, q, elements, medians, most))
		}
		if lost := q.notFinite(r, s, ofGroup(g)); lost != "" {
			seen = append(seen, lost)
		}
	}
	if zero {
		seen = append(seen, zeroCaption)
	}
	leaveRoom(ticks, drawn.X.Tick.Label)
	drawn.X.Tick.Marker = plot.ConstantTicks(ticks)
	drawn.X.Tick.LineStyle.Width = 0
	return drawn, seen
}

// leaveRoom takes away labels until the rest fit beside each other in half a figure: every second one, or every third.
func leaveRoom(ticks []plot.Tick, label text.Style) {
	const room = 0.4 * figureWidth
	widest := vg.Length(0)
	for _, tick := range ticks {
		widest = max(widest, label.Width(tick.Label+"  "))
	}
	every := max(1, int(math.Ceil(float64(len(ticks))*widest.Points()/room)))
	for i := range ticks {
		if i%every != 0 {
			ticks[i].Label = ""
		}
	}
}

func describeElements(s series, q quantity, elements []string, medians map[string]float64, samples int) string {
	lowest, highest := "", ""
	for _, element := range elements {
		value, ok := medians[element]
		if !ok || element == identity {
			continue
		}
		if lowest == "" || value < medians[lowest] {
			lowest = element
		}
		if highest == "" || value > medians[highest] {
			highest = element
		}
	}
	sentence := fmt.Sprintf("%s: median %s", s.Label, q.short)
	if value, ok := medians[identity]; ok {
		sentence += fmt.Sprintf(" %s at e", number(value))
		if lowest != "" {
			sentence += ","
		}
	}
	switch {
	case lowest == "":
	case medians[lowest] == medians[highest]:
		sentence += fmt.Sprintf(" %s at the others", number(medians[lowest]))
	default:
		sentence += fmt.Sprintf(" %s (%s) to %s (%s) over the others", number(medians[lowest]), lowest, number(medians[highest]), highest)
	}
	return fmt.Sprintf("%s (n = %d).", sentence, samples)
}

var unsafe = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// nameFiles gives each group a name for its files that keeps within the folder, is short enough for any file system, and
// unlike the others' even where upper and lower case are the same.
func nameFiles(groups []group) {
	const longest = 80
	plain := func(g group) string { return unsafe.ReplaceAllString(g.name, "-") }
	for i := range groups {
		g := &groups[i]
		g.file = plain(*g)
		alike := func(other group) bool { return other.name != g.name && strings.EqualFold(plain(other), g.file) }
		if len(g.file) > longest || slices.ContainsFunc(groups, alike) {
			hash := sha256.Sum256([]byte(g.name))
			g.file = fmt.Sprintf("%s-%x", g.file[:min(len(g.file), longest)], hash[:4])
		}
	}
}

func ofGroup(g group) filter {
	return func(name, _ string, _ shift) bool { return name == g.name }
}

// inPairs lays panels out two in a row, one alone in full width.
func inPairs(panels []*panel) (rows [][]*panel) {
	for pair := range slices.Chunk(panels, 2) {
		if len(pair) == 1 && len(panels) > 1 {
			pair = []*panel{pair[0], nil}
		}
		rows = append(rows, pair)
	}
	return rows
}

// readable pads an extent; an axis without a positive value still needs one.
func readable(y extent) extent {
	if !y.filled {
		y.low, y.high = 1e-16, 1
		return y
	}
	return y.padded()
}

func (r *run) modelLegend(lines bool) []legendEntry {
	var legend []legendEntry
	for _, s := range r.series {
		entry := legendEntry{text: s.Label, color: s.color()}
		if lines {
			entry.glyph = s.glyph()
		}
		legend = append(legend, entry)
	}
	return legend
}

func (r *run) lastAudits() string {
	var all []string
	for _, s := range r.series {
		all = append(all, fmt.Sprintf("%s: %s %s", s.Label, r.time, number(s.Epoch)))
	}
	return strings.Join(all, ", ")
}

// lambdas says at which damping the last audits of a group, or of all for "", were made.
func (r *run) lambdas(groupName string) string {
	var all []string
	for _, s := range r.series {
		wanted := func(at audit.Moment, name string) bool {
			return s.wrote(at) && at.Step == s.Step && (groupName == "" || name == groupName)
		}
		absolute, relative := extent{}, extent{}
		include := func(e *extent, value *float64) {
			if value != nil {
				e.include(*value)
			}
		}
		for _, row := range r.Records.Influence {
			if wanted(row.Moment, row.GroupName) {
				absolute.include(row.Lambda)
				include(&relative, row.RelativeLambda)
			}
		}
		for _, row := range r.Records.Coherence {
			if wanted(row.Moment, row.GroupName) {
				include(&absolute, row.Lambda)
				include(&relative, row.RelativeLambda)
			}
		}
		for _, row := range r.Records.Solves {
			ratio, ok := relativeLambda(row)
			if ok && row.RelativeLambda == nil && wanted(row.Moment, row.GroupName) && row.Lambda >= absolute.low && row.Lambda <= absolute.high {
				relative.include(ratio)
			}
		}
		var said []string
		if absolute.filled {
			said = append(said, "λ = "+span(absolute))
		}
		if relative.filled {
			said = append(said, "λ/λ_max = "+span(relative))
		}
		if said != nil {
			all = append(all, s.Label+": "+strings.Join(said, ", "))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "Influence and cosine depend on the damping (" + strings.Join(all, "; ") + "): compare only values at like λ/λ_max."
}

// relativeLambda is lambda over the largest eigenvalue of the metric, which says more than lambda itself.
func relativeLambda(row audit.SolveRow) (ratio float64, ok bool) {
	switch {
	case row.RelativeLambda != nil:
		return *row.RelativeLambda, true
	case row.LambdaMax > 0:
		return row.Lambda / row.LambdaMax, true
	}
	return 0, false
}

func span(e extent) string {
	low, high := number(roundedTo(e.low, 2)), number(roundedTo(e.high, 2))
	if low == high {
		return low
	}
	return low + " to " + high
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
