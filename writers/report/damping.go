package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// overDampings draws the coherence of each group against lambda, on which it depends so much that one without its lambda
// means little. Without two lambdas in a last audit there is no path to draw.
func (r *run) overDampings() (figure, bool) {
	f := figure{name: "damping", title: "Coherence against damping", legend: r.modelLegend(true)}
	f.caption = []string{r.describeDampings()}
	var paths []dampingPath
	extents := map[string]extent{} // by unit: panels of one unit are for comparing
	joined := false
	for _, g := range r.groups {
		path := r.dampingPath(g)
		if len(path.lines) == 0 {
			continue
		}
		paths = append(paths, path)
		x := extents[path.unit]
		x.log = true
		for _, line := range path.lines {
			x.include(line.at...)
			joined = joined || len(line.at) > 1
		}
		extents[path.unit] = x
	}
	var panels []*panel
	var certain medianBounds
	for _, path := range paths {
		panels = append(panels, newCoherencePanel(path.group, path.unit, extents[path.unit], path.lines, &certain))
		f.caption = append(f.caption, strings.Join(path.seen, " "))
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

// dampingPath is the coherence of a group against lambda in the last audits.
type dampingPath struct {
	group group
	unit  string // of lambda
	lines []profile
	seen  []string
}

// dampingPath takes one unit of lambda for all series, as they share an axis: lambda itself where one has no largest
// eigenvalue.
func (r *run) dampingPath(g group) dampingPath {
	p := dampingPath{group: g, unit: "λ/λ_max"}
	var drawn []series
	var largest []float64
	var without []string
	for _, s := range r.series {
		line := s.coherence(g, r.lastDamped(s), func(row audit.CoherenceRow) float64 { return row.Lambda })
		if len(line.of) == 0 {
			continue
		}
		drawn, p.lines, largest = append(drawn, s), append(p.lines, line), append(largest, r.largestEigenvalue(s, g))
		if largest[len(largest)-1] == 0 {
			without = append(without, s.Label)
		}
	}
	if without != nil {
		p.unit = "λ"
	}
	for i, line := range p.lines {
		if without == nil {
			for j := range line.at {
				line.at[j] /= largest[i]
			}
		}
		p.seen = append(p.seen, describeEnds(drawn[i], g, line, p.unit+" = "))
	}
	if without != nil {
		p.seen = append(p.seen, fmt.Sprintf("λ is absolute here, as no λ_max is recorded for %s.", strings.Join(without, ", ")))
	}
	return p
}

// lastDamped takes the rows of the last audit that a logarithmic axis of lambda can show.
func (r *run) lastDamped(s series) (rows []audit.CoherenceRow) {
	for _, row := range r.damped {
		if s.wrote(row.Moment) && row.Step == s.Step && row.Lambda > 0 && finite(row.Lambda) {
			rows = append(rows, row)
		}
	}
	return rows
}

// largestEigenvalue is the median over the batches of the last audit; 0 where none is known.
func (r *run) largestEigenvalue(s series, g group) float64 {
	var known []float64
	for _, row := range r.Records.Solves {
		if s.wrote(row.Moment) && row.Step == s.Step && row.GroupName == g.name && row.LambdaMax > 0 && finite(row.LambdaMax) {
			known = append(known, row.LambdaMax)
		}
	}
	return summarise(known).median
}
