package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// overDampings draws the coherence of each group against the damping, on which it depends so much that one without its lambda
// means little. Without two dampings in a last audit there is no path to draw.
func (r *run) overDampings() (figure, bool) {
	f := figure{name: "damping", title: "Coherence against damping", legend: r.modelLegend(true)}
	f.caption = []string{r.describeDampings()}
	var panels []*panel
	var certain medianBounds
	var absolute []string
	joined := false
	for _, axis := range dampingAxes {
		paths := r.dampingPaths(axis)
		x := extent{log: true} // one for all groups: their panels are for comparing
		for _, path := range paths {
			for _, line := range path.lines {
				x.include(line.at...)
				joined = joined || len(line.at) > 1
			}
		}
		for _, path := range paths {
			panels = append(panels, newCoherencePanel(path.group, axis.label, x, path.lines, &certain))
			f.caption = append(f.caption, strings.Join(path.seen, " "))
			if !axis.relative {
				absolute = append(absolute, path.group.name)
			}
		}
	}
	if absolute != nil {
		f.caption = append(f.caption, fmt.Sprintf("λ is absolute under %s, as it was not asked for as a multiple of λ_max.", strings.Join(absolute, ", ")))
	}
	f.caption = append(f.caption, certain.describe())
	f.panels = inPairs(panels)
	return f, joined
}

func (r *run) describeDampings() string {
	solves := "one solve"
	if slices.ContainsFunc(r.Records.Solves, func(row audit.SolveRow) bool { return row.Estimator == string(audit.CGResidual) }) {
		solves = "one solve, except that cg-residual solves for each anew"
	}
	return fmt.Sprintf("Median cosine against λ in the last audit of each model (%s), band from 25 %% to 75 %%: it tends to the plain cosine of the loss gradients as λ grows, and in a network with more parameters than outputs to 0 as λ falls; all λ of one audit come from %s.",
		r.lastAudits(), solves)
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
	lines []profile
	seen  []string
}

// dampingPaths are those of the groups that have rows on this axis.
func (r *run) dampingPaths(axis dampingAxis) (paths []dampingPath) {
	for _, g := range r.groups {
		p := dampingPath{group: g}
		for _, s := range r.series {
			line := s.coherence(g, r.lastDamped(s, axis), func(row audit.CoherenceRow) float64 { return *axis.of(row) })
			if len(line.of) > 0 {
				p.lines, p.seen = append(p.lines, line), append(p.seen, describeEnds(s, g, line, axis.label+" = "))
			}
		}
		if len(p.lines) > 0 {
			paths = append(paths, p)
		}
	}
	return paths
}

// lastDamped takes the rows of the last audit that a logarithmic axis can show.
func (r *run) lastDamped(s series, axis dampingAxis) (rows []audit.CoherenceRow) {
	for _, row := range r.damped {
		if at := axis.of(row); s.wrote(row.Moment) && row.Step == s.Step && at != nil && drawable(*at) {
			rows = append(rows, row)
		}
	}
	return rows
}
