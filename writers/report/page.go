package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/writers"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what page.html shows.
type page struct {
	Title     string
	Summary   string
	Warnings  []string
	Facts     []fact
	Config    string
	Resumes   []fact
	Figures   []drawing
	Time      string // that Tables count, "epoch"
	Tables    []coherenceTable
	Solves    []solveSummary
	Unsettled []string // what solves say that did not converge, or certify nothing
	Series    []series
}

type fact struct{ Name, Value string }

type drawing struct {
	Name, Title string
	Caption     []string
	SVG         template.HTML
}

func newDrawing(f figure, svg string) drawing {
	caption := slices.DeleteFunc(f.caption, func(sentence string) bool { return sentence == "" })
	return drawing{f.name, f.title, caption, template.HTML(svg)} //nolint:gosec // our own drawing; its text is escaped
}

// coherenceTable is a group's audits: rows by epoch, one cell for each series.
type coherenceTable struct {
	Group string
	Rows  []coherenceRow
}

type coherenceRow struct {
	Epoch float64
	Label string
	Cells []coherenceCell
}

type coherenceCell struct {
	Coherence, Quartiles, N, Negative string
	Target, Commutator                errorCell
	Asymmetry                         string
}

// errorCell is a median, or says why there is none.
type errorCell struct {
	Text      string
	NotFinite bool
}

func newErrorCell(median *float64, finite, n int32) errorCell {
	switch {
	case finite < n:
		return errorCell{fmt.Sprintf("– (%s not finite)", outOf(int(n-finite), int(n))), true}
	case median == nil:
		return errorCell{"–", false}
	}
	return errorCell{aligned(*median), false}
}

type solveSummary struct {
	Series      series
	Solves      int
	Unconverged int
	Uncertified int // by a method that certifies nothing
	Residual    string
	HalfWidth   string
	Products    int64
	Seconds     string
	Lambda      string
	Relative    string
	Metric      string
	DTypes      string
	Estimators  string
}

func newPage(dir string, r *run, drawn []drawing, warnings []string) page {
	p := page{Title: "Symmetry audit of " + filepath.Base(absolute(dir)), Series: r.series, Figures: drawn, Warnings: warnings,
		Facts: facts(r.Info), Config: r.Info.Config, Time: r.time, Tables: r.coherenceTables()}
	audits := map[string]bool{}
	for _, row := range r.Records.Coherence {
		audits[fmt.Sprint(row.Model, row.Seed, row.Step)] = true
	}
	var models, groups []string
	for _, s := range r.series {
		models = append(models, s.Label)
	}
	for _, g := range r.groups {
		groups = append(groups, g.label())
	}
	p.Summary = fmt.Sprintf("%s of %s", plural(len(audits), "audit"), strings.Join(models, " and "))
	if len(groups) > 0 {
		p.Summary += " under " + strings.Join(groups, ", ")
	}
	for _, info := range r.Resumes {
		p.Resumes = append(p.Resumes, fact{fmt.Sprintf("attempt %d", info.Attempt),
			fmt.Sprintf("%s, %s, %s", info.Created.Format(time.RFC3339), info.Backend, versionLine(info.Versions))})
	}
	p.Solves, p.Unsettled = r.solveSummaries()
	return p
}

func absolute(dir string) string {
	if path, err := filepath.Abs(dir); err == nil {
		return path
	}
	return dir
}

func facts(info writers.Info) []fact {
	all := []fact{
		{"run", info.RunID},
		{"begun", info.Created.Format(time.RFC3339)},
		{"command", strings.Join(info.Command, " ")},
		{"backend", info.Backend},
		{"because", info.BackendReason},
		{"seeds", strings.Trim(fmt.Sprint(info.Seeds), "[]")},
		{"versions", versionLine(info.Versions)},
		{"revision", info.Revision},
		{"probes", info.ProbeHash},
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.Value == "" })
}

func versionLine(v writers.Versions) string {
	var all []string
	for _, f := range []fact{{"symaudit", v.Symaudit}, {"", v.Go}, {"GoMLX", v.GoMLX}, {"go-xla", v.GoXLA}} {
		if f.Value != "" {
			all = append(all, strings.TrimSpace(f.Name+" "+f.Value))
		}
	}
	return strings.Join(all, ", ")
}

// percent is a share, a dash where there is none.
func percent(share *float64) string {
	if share == nil {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100**share)
}

func (r *run) coherenceTables() []coherenceTable {
	var tables []coherenceTable
	for _, g := range r.groups {
		table := coherenceTable{Group: g.name}
		for _, row := range r.Records.Coherence {
			if row.GroupName != g.name || row.Element != audit.AllElements {
				continue
			}
			at := slices.IndexFunc(table.Rows, func(known coherenceRow) bool { return known.Epoch == row.Epoch })
			if at < 0 {
				at = len(table.Rows)
				table.Rows = append(table.Rows, coherenceRow{row.Epoch, number(row.Epoch), make([]coherenceCell, len(r.series))})
			}
			cell := coherenceCell{Coherence: fixed(row.Median), N: fmt.Sprint(row.N), Negative: percent(row.NegativeFraction), Asymmetry: percent(row.AsymmetryShare),
				Target:     newErrorCell(row.MedianTargetError, row.NFiniteTargetErrors, row.NErrors),
				Commutator: newErrorCell(row.MedianCommutatorError, row.NFiniteCommutatorErrors, row.NErrors)}
			if row.NWithoutCosine > 0 {
				cell.N = outOf(int(row.N), int(row.N+row.NWithoutCosine))
			}
			if row.Q25 != nil && row.Q75 != nil {
				cell.Quartiles = fmt.Sprintf("%s to %s", fixed(row.Q25), fixed(row.Q75))
			}
			for i, s := range r.series {
				if s.wrote(row.Moment) {
					table.Rows[at].Cells[i] = cell
				}
			}
		}
		slices.SortFunc(table.Rows, func(a, b coherenceRow) int {
			if a.Epoch < b.Epoch {
				return -1
			}
			return 1
		})
		if len(table.Rows) > 0 {
			tables = append(tables, table)
		}
	}
	return tables
}

// notFinite says of each series in how many audits an error has no median, as a value of it is not finite.
func (r *run) notFinite() (all []string) {
	for _, s := range r.series {
		audits, lost := map[int64]bool{}, map[int64]bool{}
		first := math.Inf(1)
		for _, row := range r.Records.Coherence {
			if !s.wrote(row.Moment) || row.Element != audit.AllElements {
				continue
			}
			audits[row.Step] = true
			if min(row.NFiniteTargetErrors, row.NFiniteCommutatorErrors) < row.NErrors {
				lost[row.Step] = true
				first = min(first, row.Epoch)
			}
		}
		if len(lost) > 0 {
			all = append(all, fmt.Sprintf("%s: errors are not finite in %s audits, first at %s %s: they have no median there, and the table says how many values are lost.",
				s.Label, outOf(len(lost), len(audits)), r.time, number(first)))
		}
	}
	return all
}

func (r *run) solveSummaries() (all []solveSummary, unsettled []string) {
	for _, s := range r.series {
		sum := solveSummary{Series: s, Residual: "–", HalfWidth: "–"}
		residual, halfWidth, lambda, relative := extent{}, extent{}, extent{}, extent{}
		metrics, dtypes, estimators := []string{}, []string{}, []string{}
		seconds := 0.0
		for _, row := range r.Records.Solves {
			if !s.wrote(row.Moment) {
				continue
			}
			sum.Solves++
			sum.Products += row.Products + row.SetupProducts
			seconds += row.Seconds
			lambda.include(row.Lambda)
			if ratio, ok := relativeLambda(row); ok {
				relative.include(ratio)
			}
			if row.MaxTrueResidual != nil {
				residual.include(*row.MaxTrueResidual)
			}
			if row.MaxHalfWidth != nil {
				halfWidth.include(*row.MaxHalfWidth)
			}
			metrics = appendNew(metrics, row.Metric+", "+row.MetricScale)
			dtypes = appendNew(dtypes, row.DType)
			estimators = appendNew(estimators, row.Estimator)
			switch row.Status {
			case solver.Converged:
				continue
			case solver.Uncertified:
				sum.Uncertified++
			default:
				sum.Unconverged++
			}
			unsettled = appendNew(unsettled, r.describeEnding(s, row))
		}
		if sum.Solves == 0 {
			continue
		}
		if residual.filled {
			sum.Residual = number(roundedTo(residual.high, 2))
		}
		if halfWidth.filled {
			sum.HalfWidth = number(roundedUp(halfWidth.high, 2))
		}
		sum.Lambda, sum.Relative = span(lambda), "–"
		if relative.filled {
			sum.Relative = span(relative)
		}
		sum.Seconds = number(roundedTo(seconds, 3)) + " s"
		sum.Metric, sum.DTypes, sum.Estimators = strings.Join(metrics, "; "), strings.Join(dtypes, ", "), strings.Join(estimators, ", ")
		all = append(all, sum)
	}
	return all, unsettled
}

// describeEnding says how a solve ended that did not converge.
func (r *run) describeEnding(s series, row audit.SolveRow) string {
	said := fmt.Sprintf("%s, %s %s, %s, batch %d, ", s.Label, r.time, number(row.Epoch), row.GroupName, row.Batch)
	if row.RelativeLambda != nil {
		said += "λ/λ_max = " + number(*row.RelativeLambda)
	} else {
		said += "λ = " + number(row.Lambda)
	}
	if row.Status != "" {
		said += ": " + string(row.Status)
	}
	if row.Explanation != nil {
		said += ": " + *row.Explanation
	}
	return said
}

func appendNew(known []string, s string) []string {
	if slices.Contains(known, s) {
		return known
	}
	return append(known, s)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
