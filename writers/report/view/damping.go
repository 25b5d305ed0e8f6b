package view

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// overDampings draws the coherence of each group against the damping, on which it depends so much that one without its lambda
// means little. Without two dampings in a last audit there is no path to draw.
func (d *data) overDampings() (Figure, bool) {
	f := Figure{Name: "damping", Title: "Coherence against damping", Legend: d.modelLegend(true), Caption: []string{d.describeDampings()}}
	var certain medianBounds
	var absolute []string
	joined := false
	for _, axis := range dampingAxes {
		paths := d.dampingPaths(axis)
		x := extent{log: true} // one for all groups: their panels are for comparing
		for _, path := range paths {
			for _, line := range path.lines {
				x.include(line.At...)
				joined = joined || len(line.At) > 1
			}
		}
		for _, path := range paths {
			f.Panels = append(f.Panels, *newCoherencePanel(path.group, axis.label, x, path.lines, &certain))
			f.Caption = append(f.Caption, strings.Join(path.seen, " "))
			if !axis.relative {
				absolute = append(absolute, path.group.name)
			}
		}
	}
	if absolute != nil {
		f.Caption = append(f.Caption, fmt.Sprintf("λ is absolute under %s, as it was not asked for as a multiple of λ_max.", strings.Join(absolute, ", ")))
	}
	f.Caption = append(f.Caption, certain.describe())
	return f, joined
}

func (d *data) describeDampings() string {
	solves := "one solve"
	if slices.ContainsFunc(d.records.Solves, func(row audit.SolveRow) bool { return row.Estimator == string(audit.CGResidual) }) {
		solves = "one solve, except that cg-residual solves for each anew"
	}
	return fmt.Sprintf("Median cosine against λ in the last audit of each model (%s), band from 25 %% to 75 %%: it tends to the plain cosine of the loss gradients as λ grows, and in a network with more parameters than outputs to 0 as λ falls; all λ of one audit come from %s.",
		d.lastAudits(), solves)
}

// dampingAxis is a way to give the damping; a row has it in one of them.
type dampingAxis struct {
	label    string
	relative bool
	of       func(audit.CoherenceRow) *float64
}

var dampingAxes = []dampingAxis{
	{"λ/λ_max", true, func(row audit.CoherenceRow) *float64 { return row.RelativeLambda }},
	{"λ", false, func(row audit.CoherenceRow) *float64 { return row.Lambda }},
}

// dampingPath is the coherence of a group against the damping in the last audits.
type dampingPath struct {
	group group
	lines []Line
	seen  []string
}

// dampingPaths are those of the groups that have rows on this axis.
func (d *data) dampingPaths(axis dampingAxis) (paths []dampingPath) {
	for _, g := range d.groups {
		p := dampingPath{group: g}
		for _, s := range d.series {
			line := s.coherence(g, d.lastDamped(s, axis), func(row coherenceRow) float64 { return *axis.of(row.CoherenceRow) })
			if len(line.Of) > 0 {
				p.lines, p.seen = append(p.lines, line), append(p.seen, describeEnds(s, g, line, axis.label+" = "))
			}
		}
		if len(p.lines) > 0 {
			paths = append(paths, p)
		}
	}
	return paths
}

// lastDamped takes the rows of the last audit, at every damping, that a logarithmic axis can show.
func (d *data) lastDamped(s *series, axis dampingAxis) (rows []coherenceRow) {
	for _, row := range d.records.Coherence {
		if at := axis.of(row); row.Step == s.step && at != nil && drawable(*at) && s.wrote(row.Moment) {
			rows = append(rows, coherenceRow{row, named(row.GroupName, row.Direction)})
		}
	}
	return rows
}

// lambdas says at which damping the last audits of a group, or of all for "", were made.
func (d *data) lambdas(groupName string) string {
	var all []string
	for _, s := range d.series {
		absolute, relative := extent{}, extent{}
		include := func(e *extent, value *float64) {
			if value != nil {
				e.include(*value)
			}
		}
		for _, row := range s.influence {
			if groupName == "" || row.group == groupName {
				absolute.include(row.Lambda)
				include(&relative, row.RelativeLambda)
			}
		}
		wanted := func(at audit.Moment, name string) bool {
			return at.Step == s.step && (groupName == "" || name == groupName) && s.wrote(at)
		}
		for _, row := range d.coherence {
			if wanted(row.Moment, row.group) {
				include(&absolute, row.Lambda)
				include(&relative, row.RelativeLambda)
			}
		}
		for _, row := range d.records.Solves {
			ratio, ok := relativeLambda(row)
			if ok && row.RelativeLambda == nil && wanted(row.Moment, named(row.GroupName, row.Direction)) && row.Lambda >= absolute.low && row.Lambda <= absolute.high {
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
			all = append(all, s.label+": "+strings.Join(said, ", "))
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
	low, high := Number(roundedTo(e.low, 2)), Number(roundedTo(e.high, 2))
	if low == high {
		return low
	}
	return low + " to " + high
}
