package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// byElement draws quantities side by side, a box for each element and series.
func (d *data) byElement(g group, name, title string, quantities ...quantity) (Figure, bool) {
	f := Figure{Name: name + "-" + g.file, Title: title, Legend: d.modelLegend(false)}
	f.Caption = append(f.Caption, fmt.Sprintf("%s, %s. %s", capital(g.caption()), d.lastOf(g), boxes))
	if name == "errors" {
		f.Caption = append(f.Caption, "Target error compares f(g.x) with g.y, commutator error with g.f(x) (SMSE; of an invariant output, the loss and the relative change); an equivariant model has the same target error everywhere and no commutator error. The identity e commutes exactly and is left out of the right panel.")
	} else {
		f.Caption = append(f.Caption, g.describeDirection(), d.describeLines(g), d.lambdas(g.name))
	}
	for _, q := range quantities {
		panel, sentences := d.elementPanel(g, q)
		if panel != nil {
			f.Panels, f.Caption = append(f.Panels, *panel), append(f.Caption, strings.Join(sentences, " "))
		}
	}
	return f, len(f.Panels) > 0
}

const boxes = "Box: middle half of the probe samples; bar: median; whiskers: 5 % to 95 %; dots: samples."

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

// MostDots is of how many samples at most a Box shows each.
const MostDots = 60

// describeLines explains the lines through the dots; empty where there are none.
func (d *data) describeLines(g group) string {
	var worst []string
	var open []string
	for _, q := range []quantity{scaledInfluence, cosine} {
		var c certainty
		for _, s := range d.series {
			for _, element := range g.elements {
				if samples := q.samples(s, g, under(element)); len(samples) <= MostDots {
					for _, one := range samples {
						c.add(one.Value, one.Bounds)
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

func (d *data) elementPanel(g group, q quantity) (*Panel, []string) {
	panel, kept := d.boxPanel(capital(q.short), "element g", q.label, q.log, g.elements, func(s *series, element string) []Sample {
		return q.samples(s, g, under(element))
	})
	if panel == nil {
		return nil, nil
	}
	var seen []string
	zero := false
	for _, s := range d.series {
		medians, most := map[string]float64{}, 0
		for _, element := range kept {
			if samples := q.samples(s, g, under(element)); len(samples) > 0 {
				medians[element], most = Summarise(samples).Median, max(most, len(samples))
				zero = zero || q.log && medians[element] <= 0
			}
		}
		if len(medians) > 0 {
			seen = append(seen, describeElements(s, q, kept, medians, most))
		}
		if lost := q.notFinite(s, g); lost != "" {
			seen = append(seen, lost)
		}
	}
	if zero {
		seen = append(seen, zeroCaption)
	}
	return panel, seen
}

// boxPanel draws a box for each category and series. It keeps the categories that have samples; the panel is nil without one.
func (d *data) boxPanel(title, xLabel, yLabel string, log bool, categories []string, of func(s *series, category string) []Sample) (panel *Panel, kept []string) {
	y, n := extent{log: log}, extent{}
	for _, category := range categories {
		found := false
		for _, s := range d.series {
			samples := of(s, category)
			if len(samples) == 0 {
				continue
			}
			found = true
			n.include(float64(len(samples)))
			y.include(valuesOf(samples)...)
			if len(samples) <= MostDots {
				y.enclose(boundsOf(samples)...)
			}
		}
		if found {
			kept = append(kept, category)
		}
	}
	if len(kept) == 0 {
		return nil, nil
	}
	if !log {
		y.include(0)
	}
	panel = &Panel{Title: title + samplesIn(n), X: names(xLabel, kept), Y: y.padded().axis(yLabel)}
	if !log {
		panel.Marks = append(panel.Marks, Level{})
	}
	const used = 0.76 // of the room between categories
	width := used / float64(len(d.series))
	for i, s := range d.series {
		for j, category := range kept {
			if samples := of(s, category); len(samples) > 0 {
				panel.Marks = append(panel.Marks, Box{At: float64(j) + (float64(i)+0.5)*width - used/2, Width: 0.86 * width, Samples: samples, Style: s.style})
			}
		}
	}
	return panel, kept
}

func describeElements(s *series, q quantity, elements []string, medians map[string]float64, samples int) string {
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
	sentence := fmt.Sprintf("%s: median %s", s.label, q.short)
	if value, ok := medians[identity]; ok {
		sentence += fmt.Sprintf(" %s at e", Number(value))
		if lowest != "" {
			sentence += ","
		}
	}
	switch {
	case lowest == "":
	case medians[lowest] == medians[highest]:
		sentence += fmt.Sprintf(" %s at the others", Number(medians[lowest]))
	default:
		sentence += fmt.Sprintf(" %s (%s) to %s (%s) over the others", Number(medians[lowest]), lowest, Number(medians[highest]), highest)
	}
	return fmt.Sprintf("%s (n = %d).", sentence, samples)
}

// Names of the errors of a sample as byClass draws them.
const (
	atX         = "at x"
	overOrbit   = "over orbit"
	symmetrized = "averaged"
	noChange    = "no change"
)

// byClass draws the target error of untransformed states against that over their orbits, with what predictions averaged over the group and
// what predicting no change would cost, and both by class of states: figure 1 of the paper.
func (d *data) byClass(g group) (Figure, bool) {
	f := Figure{Name: "distribution-" + g.file, Title: "Error at x and over its orbit under " + g.label(), Legend: d.modelLegend(false)}
	panel, kept := d.boxPanel("Target error", "", "target error", true, []string{atX, overOrbit, symmetrized, noChange}, func(s *series, kind string) []Sample {
		return d.samplesOf(s, g, kind, "")
	})
	if panel == nil || !slices.Contains(kept, overOrbit) || g.others == 0 {
		return f, false
	}
	f.Panels = append(f.Panels, *panel)
	var classes []string
	for _, s := range d.series {
		for _, row := range s.errors {
			if row.GroupName == g.of && row.Class != "" {
				classes = appendNew(classes, row.Class)
			}
		}
	}
	if len(classes) > 1 {
		if panel, _ := d.boxPanel("Over the orbit, by class", "class", "target error", true, classes, func(s *series, class string) []Sample {
			return d.samplesOf(s, g, overOrbit, class)
		}); panel != nil {
			f.Panels = append(f.Panels, *panel)
		}
	}
	said := "Each sample's target error untransformed (at x), and its mean over all elements (over orbit)"
	if slices.Contains(kept, symmetrized) {
		said += "; that of its prediction averaged over the group (averaged), which is what a model made symmetric would have"
	}
	if slices.Contains(kept, noChange) {
		said += "; and what predicting that nothing happens would cost (no change)"
	}
	f.Caption = []string{fmt.Sprintf("%s. %s. %s", said, capital(d.lastOf(g)), boxes)}
	var seen []string
	for _, s := range d.series {
		plain, orbit := d.samplesOf(s, g, atX, ""), d.samplesOf(s, g, overOrbit, "")
		if len(plain) > 0 && len(orbit) > 0 {
			seen = append(seen, fmt.Sprintf("%s: median %s at x, %s over the orbit.", s.label, Number(Summarise(plain).Median), Number(Summarise(orbit).Median)))
		}
	}
	f.Caption = append(f.Caption, strings.Join(seen, " "))
	return f, true
}

// samplesOf are the errors of a kind of a class' samples, of all for "", in the last audit; those that are not finite are left out.
func (d *data) samplesOf(s *series, g group, kind, class string) (samples []Sample) {
	sums, counts := map[int32]float64{}, map[int32]int{}
	var order []int32
	add := func(sample int32, value *float64) {
		if value == nil {
			return
		}
		if counts[sample] == 0 {
			order = append(order, sample)
		}
		sums[sample] += *value
		counts[sample]++
	}
	for _, row := range s.errors {
		if row.GroupName != g.of || class != "" && row.Class != class {
			continue
		}
		switch kind {
		case overOrbit:
			add(row.Sample, &row.TargetError)
		case atX:
			if row.Element == identity {
				add(row.Sample, &row.TargetError)
			}
		case symmetrized:
			if row.Element == identity {
				add(row.Sample, row.SymmetrizedError)
			}
		case noChange:
			if row.Element == identity {
				add(row.Sample, row.PersistenceError)
			}
		}
	}
	for _, sample := range order {
		if value := sums[sample] / float64(counts[sample]); finite(value) {
			samples = append(samples, Sample{Value: value})
		}
	}
	return samples
}

// localErrors draws the model's rates of change under a group's generators.
func (d *data) localErrors(g group) (Figure, bool) {
	f := Figure{Name: "local-errors-" + g.file, Title: "Local errors of " + g.label(), Legend: d.modelLegend(false)}
	var generators []string
	for _, s := range d.series {
		for _, row := range s.local {
			if row.GroupName == g.of {
				generators = appendNew(generators, row.Generator)
			}
		}
	}
	panel, _ := d.boxPanel("Local error", "generator", "local error", true, generators, func(s *series, generator string) (samples []Sample) {
		for _, row := range s.local {
			if row.GroupName == g.of && row.Generator == generator && finite(row.LocalError) {
				samples = append(samples, Sample{Value: row.LocalError})
			}
		}
		return samples
	})
	if panel == nil {
		return f, false
	}
	f.Panels = []Panel{*panel}
	f.Caption = []string{fmt.Sprintf("The commutator error under elements next to the identity, divided by the square of what they do: by pixels of a shift, units of velocity of a boost, the logarithm of a factor. %s. %s", capital(d.lastOf(g)), boxes)}
	return f, true
}
