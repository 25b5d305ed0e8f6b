package report

import (
	"fmt"
	"slices"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/symaudit/symaudit/audit"
)

// byShift draws each quantity (rows) against the shift for each series (columns), each direction apart.
func (r *run) byShift(g group) (figure, bool) {
	f := figure{name: "shifts-" + g.file, title: "Error and influence against shifts"}
	var columns []series
	for _, s := range r.series {
		if slices.ContainsFunc(r.Records.Errors, func(row audit.ErrorRow) bool { return s.wrote(row.Moment) && row.GroupName == g.name }) ||
			slices.ContainsFunc(r.Records.Influence, func(row audit.InfluenceRow) bool { return s.wrote(row.Moment) && row.GroupName == g.name }) {
			columns = append(columns, s)
			for axis, d := range directions {
				if g.along[axis] {
					f.legend = append(f.legend, legendEntry{text: s.Label + ", " + d.words, color: s.color(), glyph: d.glyph, dashes: d.dashes})
				}
			}
		}
	}
	zero := false
	var certified []string
	for _, q := range []quantity{targetError, commutatorError, scaledInfluence, cosine} {
		panels, anyZero, certain := r.shiftPanels(g, q, columns)
		certified = append(certified, describeMedians(q, certain))
		f.panels = append(f.panels, inPairs(panels)...)
		zero = zero || anyZero
	}
	if len(f.panels) == 0 {
		return f, false
	}
	f.caption = []string{
		fmt.Sprintf("Median over the probe samples, whiskers from 25 %% to 75 %%, last audit of each model (%s). The domain is periodic: a shift by its whole width is none.", r.lastAudits()),
		"Shift 0 is the identity: its commutator error is exactly 0 and not drawn. Flat lines mean that the model treats shifted states alike; dips and peaks at multiples of a stride or patch size show what its layers commute with.",
		strings.TrimSpace(strings.Join(certified, " ")), r.lambdas(g.name)}
	if zero {
		f.caption = append(f.caption, zeroCaption)
	}
	for _, s := range columns {
		for _, q := range []quantity{targetError, commutatorError} {
			f.caption = append(f.caption, q.notFinite(r, s, ofGroup(g)))
		}
	}
	return f, true
}

var dashed = []vg.Length{vg.Points(4), vg.Points(2.5)}

// directions are those of shifts, along x, y and z. What is drawn is moved apart, which keeps whiskers from covering each other.
var directions = [3]struct {
	words  string
	glyph  draw.GlyphDrawer
	dashes []vg.Length
	apart  float64
}{
	{"horizontal shift", draw.CircleGlyph{}, nil, -1},
	{"vertical shift", draw.SquareGlyph{}, dashed, 1},
	{"shift along z", draw.TriangleGlyph{}, []vg.Length{vg.Points(1), vg.Points(2)}, 0},
}

// describeMedians tells the bounds that the figure has no room for: its whiskers are quartiles.
func describeMedians(q quantity, c certainty) string {
	if c.certified == 0 {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("The medians of the %s are certified to %s at worst. %s", q.short, c.within(), c.uncertified("medians")))
}

func (r *run) shiftPanels(g group, q quantity, columns []series) (panels []*panel, zero bool, medians certainty) {
	type sampled struct {
		at []float64
		of []summary
	}
	profiles := make([][3]sampled, len(columns)) // by axis
	x, y := extent{}, extent{log: q.log}
	for i, s := range columns {
		for axis := range directions {
			if !g.along[axis] {
				continue
			}
			shifts := map[float64]bool{}
			q.values(r, s, func(groupName, _ string, by shift) bool {
				if pixels, alone := by.along(axis); groupName == g.name && alone {
					shifts[pixels] = true
				}
				return false
			})
			p := &profiles[i][axis]
			for _, at := range sortedKeys(shifts) {
				samples := q.samples(r, s, func(groupName, _ string, by shift) bool {
					pixels, alone := by.along(axis)
					return groupName == g.name && alone && pixels == at
				})
				if of := summarise(valuesOf(samples)); of.n > 0 {
					medians.add(of.median, ofMedian(samples))
					p.at, p.of = append(p.at, at), append(p.of, of)
					x.include(at)
					y.include(of.q25, of.median, of.q75)
					zero = zero || q.log && of.median <= 0
				}
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
	panels = make([]*panel, len(columns))
	for i, s := range columns {
		drawn := newPanel(s.Label+": "+q.short, "shift (pixels)", q.label, x.padded(), readable(y))
		if !q.log {
			drawn.Add(level(0))
		}
		for axis, p := range profiles[i] {
			d := directions[axis]
			line := profile{of: p.of, color: s.color(), glyph: d.glyph, dashes: d.dashes, whiskers: true}
			for _, at := range p.at {
				line.at = append(line.at, at+0.008*(x.high-x.low)*d.apart)
			}
			drawn.Add(line)
		}
		panels[i] = drawn
	}
	return panels, zero, medians
}

func sortedKeys(set map[float64]bool) []float64 {
	keys := make([]float64, 0, len(set))
	for key := range set {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
