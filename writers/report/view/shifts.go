package view

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// byShift draws each quantity against the shift along each axis, a line for each series; where elements shift along two axes at once, also a map
// of them: figures 4 to 7 of the paper.
func (d *data) byShift(g group) (Figure, bool) {
	f := Figure{Name: "shifts-" + g.file, Title: "Error and influence against shifts of " + g.label(), Legend: d.modelLegend(true)}
	quantities := []quantity{targetError, commutatorError, scaledInfluence, cosine}
	if g.direction != "" { // errors have none
		f.Title, quantities = "Influence against shifts of "+g.label(), quantities[2:]
	}
	zero := false
	var certified []string
	for _, q := range quantities {
		panels, anyZero, certain := d.shiftPanels(g, q)
		f.Panels = append(f.Panels, panels...)
		f.Panels = append(f.Panels, d.shiftMaps(g, q)...)
		certified = append(certified, describeMedians(q, certain))
		zero = zero || anyZero
	}
	if len(f.Panels) == 0 {
		return f, false
	}
	f.Caption = []string{
		fmt.Sprintf("Median over the probe samples, whiskers from 25 %% to 75 %%, %s. The domain is periodic: a shift by its whole width is none.", d.lastOf(g)),
		"Shift 0 is the identity, whose commutator error is exactly 0 and not drawn. Flat lines mean that the model treats shifted states alike; dips and peaks at multiples of a stride or patch size show what its layers commute with.",
		strings.TrimSpace(strings.Join(certified, " ")), d.lambdas(g.name)}
	if zero {
		f.Caption = append(f.Caption, zeroCaption)
	}
	for _, s := range d.series {
		for _, q := range quantities {
			f.Caption = append(f.Caption, q.notFinite(s, g))
		}
	}
	return f, true
}

// directions are those of shifts, along x, y and z.
var directions = [3]string{"horizontal shift", "vertical shift", "shift along z"}

// describeMedians tells the bounds that the figure has no room for: its whiskers are quartiles.
func describeMedians(q quantity, c certainty) string {
	if c.certified == 0 {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("The medians of the %s are certified to %s at worst. %s", q.short, c.within(), c.uncertified("medians")))
}

// shiftPanels are one for each axis, of equal vertical axes.
func (d *data) shiftPanels(g group, q quantity) (panels []Panel, zero bool, medians certainty) {
	x, y, n := extent{}, extent{log: q.log}, extent{}
	var lines [3][]Line // by axis
	for axis := range directions {
		if !g.along[axis] {
			continue
		}
		for i, s := range d.series {
			line := Line{Style: s.style, Whiskers: true}
			for _, at := range shiftsAlong(s, g, axis) {
				samples := q.samples(s, g, func(_ string, by shift) bool {
					pixels, alone := by.along(axis)
					return alone && pixels == at
				})
				if of := Summarise(samples); of.N > 0 {
					medians.add(of.Median, ofMedian(samples))
					line.At, line.Of = append(line.At, at), append(line.Of, of)
					x.include(at)
					y.include(of.Q25, of.Median, of.Q75)
					n.include(float64(of.N))
					zero = zero || q.log && of.Median <= 0
				}
			}
			if len(line.At) > 0 {
				line.Place, line.Places = i, len(d.series)
				lines[axis] = append(lines[axis], line)
			}
		}
	}
	if !x.filled {
		return nil, false, medians
	}
	x.include(0)
	if !q.log {
		y.include(0)
	}
	for axis, ofAxis := range lines {
		if len(ofAxis) == 0 {
			continue
		}
		panel := Panel{Title: capital(q.short) + ", " + directions[axis] + samplesIn(n), X: x.padded().axis("shift (pixels)"), Y: y.padded().axis(q.label)}
		if !q.log {
			panel.Marks = append(panel.Marks, Level{})
		}
		for _, line := range ofAxis {
			panel.Marks = append(panel.Marks, line)
		}
		panels = append(panels, panel)
	}
	return panels, zero, medians
}

// shiftsAlong are the pixels by which elements of a group shift along an axis alone, ascending.
func shiftsAlong(s *series, g group, axis int) (all []float64) {
	note := func(by shift) {
		if pixels, alone := by.along(axis); alone && !slices.Contains(all, pixels) {
			all = append(all, pixels)
		}
	}
	for _, row := range s.errors {
		if row.GroupName == g.of {
			note(shift{row.ShiftX, row.ShiftY, row.ShiftZ})
		}
	}
	for _, row := range s.influence {
		if row.group == g.name {
			note(shift{row.ShiftX, row.ShiftY, row.ShiftZ})
		}
	}
	slices.Sort(all)
	return all
}

// shiftMaps are the medians over the plane of x and y, where elements shift along both at once. All have the same colours, which are for comparing.
func (d *data) shiftMaps(g group, q quantity) (panels []Panel) {
	values := extent{log: q.log}
	for _, s := range d.series {
		if panel := shiftMap(s, g, q, &values); panel != nil {
			panels = append(panels, *panel)
		}
	}
	if q.log {
		values = values.padded()
		for _, panel := range panels {
			cells := panel.Marks[0].(Cells)
			cells.Low, cells.High, cells.Log = values.low, values.high, true
			panel.Marks[0] = cells
		}
	}
	return panels
}

// shiftMap is that of a series, nil where no element shifts along both axes. It includes its values.
func shiftMap(s *series, g group, q quantity, values *extent) *Panel {
	var across, up []float64
	both := false
	q.all(s, g, func(_ string, by shift) bool {
		if by[2] == 0 {
			across, up = appendNew(across, by[0]), appendNew(up, by[1])
			both = both || by[0] != 0 && by[1] != 0
		}
		return false
	})
	if !both {
		return nil
	}
	slices.Sort(across)
	slices.Sort(up)
	cells := Cells{Low: -1, High: 1}
	for _, dy := range up {
		row := make([]float64, len(across))
		for i, dx := range across {
			row[i] = math.NaN()
			if found := q.samples(s, g, func(_ string, by shift) bool { return by == shift{dx, dy} }); len(found) > 0 {
				row[i] = Summarise(found).Median
				values.include(row[i])
			}
		}
		cells.Values = append(cells.Values, row)
	}
	return &Panel{Title: s.label + ": " + q.short + " by both shifts", X: names("horizontal shift (pixels)", numbersOf(across)),
		Y: names("vertical shift (pixels)", numbersOf(up)), Marks: []Mark{cells}}
}

func numbersOf(values []float64) (all []string) {
	for _, v := range values {
		all = append(all, Number(v))
	}
	return all
}
