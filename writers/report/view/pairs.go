package view

import (
	"fmt"
	"math"
	"slices"
)

// againstErrors draws the cosine against the commutator error, a point for each element.
func (d *data) againstErrors(g group) (Figure, bool) {
	f := Figure{Name: "commutator-coherence-" + g.file, Title: "Coherence against commutator error under " + g.label(), Legend: d.modelLegend(true)}
	x, y := extent{log: true}, extent{}
	var marks []Mark
	for _, s := range d.series {
		for _, element := range g.elements {
			errors, cosines := commutatorError.samples(s, g, under(element)), cosine.samples(s, g, under(element))
			if len(errors) == 0 || len(cosines) == 0 || !drawable(Summarise(errors).Median) {
				continue
			}
			point := Point{X: Summarise(errors).Median, Y: Summarise(cosines).Median, Text: element, Style: s.style}
			x.include(point.X)
			y.include(point.Y)
			marks = append(marks, point)
		}
	}
	if len(marks) < 2 {
		return f, false
	}
	y.include(0, 1)
	x, y = x.padded(), y.padded()
	keepWordsApart(marks, x, y)
	f.Panels = []Panel{{Title: "Element by element", X: x.axis("commutator error"), Y: y.axis("cosine of x and g.x"), Marks: append([]Mark{Level{}}, marks...)}}
	f.Caption = []string{fmt.Sprintf("Medians over the probe samples, a point for each element, %s. Low and to the right: elements that the model neither respects nor carries its learning to. Where points lie close together, some have no name.", d.lastOf(g)), d.lambdas(g.name)}
	return f, true
}

// keepWordsApart takes the words from points whose words would stand on those of others.
func keepWordsApart(marks []Mark, x, y extent) {
	const letter, line = 0.022, 0.08 // of the panel's width and height
	type place struct{ across, up, width float64 }
	var taken []place
	for i, mark := range marks {
		point := mark.(Point)
		at := place{math.Log(point.X/x.low) / math.Log(x.high/x.low), (point.Y - y.low) / (y.high - y.low), letter * float64(len(point.Text)+1)}
		if slices.ContainsFunc(taken, func(other place) bool {
			return math.Abs(at.across-other.across) < max(at.width, other.width)+letter && math.Abs(at.up-other.up) < line
		}) {
			point.Text = ""
			marks[i] = point
			continue
		}
		taken = append(taken, at)
	}
}

// betweenSamples draws the cosine of each sample x with each other one's transform, and of the snapshots of a trajectory with each other.
func (d *data) betweenSamples(g group) (Figure, bool) {
	f := Figure{Name: "pairs-" + g.file, Title: "Cosines between samples under " + g.label()}
	for _, s := range d.series {
		if panel := samplePanel(s, g); panel != nil {
			f.Panels = append(f.Panels, *panel)
		}
	}
	if len(f.Panels) == 0 {
		return f, false
	}
	f.Caption = []string{fmt.Sprintf("Row: the sample at x, column: the one at g.x, median over the non-identity elements; of one batch each, for others are not solved together. Blue above 0, red below, the stronger the nearer to 1. On the diagonal is a sample with its own transform; as strong a colour beside it says that learning carries over to any other state as well. %s.", capital(d.lastOf(g)))}
	timed := len(f.Panels)
	for _, s := range d.series {
		if panel := timePanel(s, g); panel != nil {
			f.Panels = append(f.Panels, *panel)
		}
	}
	if len(f.Panels) > timed {
		f.Caption = append(f.Caption, "Snapshots: the same between those of one trajectory, untransformed, median over the trajectories: does learning from one time teach another?")
	}
	f.Caption = append(f.Caption, d.lambdas(g.name))
	return f, true
}

const mostCells = 24 // rows and columns that a panel has room for

// samplePanel is nil where no two samples were solved together.
func samplePanel(s *series, g group) *Panel {
	return pairPanel(s, g, "samples", "sample at g.x", "sample at x", func(row influenceRow) (m, n int32, ok bool) {
		return row.RowSample, row.ColSample, row.Element != identity
	})
}

// timePanel is nil where no two snapshots of a trajectory were solved together.
func timePanel(s *series, g group) *Panel {
	panel := pairPanel(s, g, "snapshots", "snapshot", "snapshot", func(row influenceRow) (m, n int32, ok bool) {
		return row.RowTimeIndex, row.ColTimeIndex, row.Element == identity && row.RowClass == row.ColClass && row.RowTrajectory == row.ColTrajectory
	})
	if panel != nil {
		panel.Title += ": snapshots of a trajectory"
	}
	return panel
}

// pairPanel draws median cosines by row and column; nil where these are the same in each pair. Of many, what they are called in the plural, it takes the first.
func pairPanel(s *series, g group, plural, x, y string, place func(influenceRow) (m, n int32, ok bool)) *Panel {
	found, mixed := map[[2]int32][]float64{}, false
	var order []int32
	for _, row := range s.influence {
		m, n, ok := place(row)
		if row.group != g.name || row.Cosine == nil || !ok {
			continue
		}
		found[[2]int32{m, n}] = append(found[[2]int32{m, n}], *row.Cosine)
		mixed = mixed || m != n
		order = appendNew(order, m)
	}
	if !mixed {
		return nil
	}
	slices.Sort(order)
	title := s.label
	if len(order) > mostCells {
		title = fmt.Sprintf("%s, the first %s %s", s.label, outOf(mostCells, len(order)), plural)
		order = order[:mostCells]
	}
	cells := Cells{Low: -1, High: 1}
	var axis []string
	for _, m := range order {
		axis = append(axis, fmt.Sprint(m))
		row := make([]float64, len(order))
		for j, n := range order {
			row[j] = math.NaN()
			if values := found[[2]int32{m, n}]; len(values) > 0 {
				row[j] = summarise(values).Median
			}
		}
		cells.Values = append(cells.Values, row)
	}
	return &Panel{Title: title, X: names(x, axis), Y: names(y, axis), Marks: []Mark{cells}}
}
