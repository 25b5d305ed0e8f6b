package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/symaudit/symaudit/writers"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what page.html shows.
type page struct {
	Title     string
	Summary   string
	Facts     []fact
	Config    string
	Resumes   []fact
	Figures   []drawing
	Time      string // that Tables count, "epoch"
	Tables    []coherenceTable
	Solves    []solveSummary
	Unsettled []string // what solves say that did not converge
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

type coherenceCell struct{ Coherence, Quartiles, Negative, Target, Commutator string }

type solveSummary struct {
	Series      series
	Solves      int
	Unconverged int
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

func newPage(dir string, r *run, drawn []drawing) page {
	p := page{Title: "Symmetry audit of " + filepath.Base(absolute(dir)), Series: r.series, Figures: drawn,
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
		groups = append(groups, g.name)
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

func (r *run) coherenceTables() []coherenceTable {
	var tables []coherenceTable
	for _, g := range r.groups {
		table := coherenceTable{Group: g.name}
		for _, row := range r.Records.Coherence {
			if row.GroupName != g.name || row.Element != allElements {
				continue
			}
			at := slices.IndexFunc(table.Rows, func(known coherenceRow) bool { return known.Epoch == row.Epoch })
			if at < 0 {
				at = len(table.Rows)
				table.Rows = append(table.Rows, coherenceRow{row.Epoch, number(row.Epoch), make([]coherenceCell, len(r.series))})
			}
			cell := coherenceCell{Coherence: fixed(row.Median), Negative: "–",
				Target: aligned(row.MedianTargetError), Commutator: aligned(row.MedianCommutatorError)}
			if row.Q25 != nil && row.Q75 != nil {
				cell.Quartiles = fmt.Sprintf("%s to %s", fixed(row.Q25), fixed(row.Q75))
			}
			if row.NegativeFraction != nil {
				cell.Negative = fmt.Sprintf("%.0f %%", 100**row.NegativeFraction)
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
			residual.include(row.MaxTrueResidual)
			lambda.include(row.Lambda)
			if row.LambdaMax > 0 {
				relative.include(row.Lambda / row.LambdaMax)
			}
			if row.MaxHalfWidth != nil {
				halfWidth.include(*row.MaxHalfWidth)
			}
			metrics = appendNew(metrics, row.Metric+", "+row.MetricScale)
			dtypes = appendNew(dtypes, row.DType)
			estimators = appendNew(estimators, row.Estimator)
			if row.Status != "converged" {
				sum.Unconverged++
				unsettled = appendNew(unsettled, fmt.Sprintf("%s, %s %s, %s: %s", s.Label, r.time, number(row.Epoch), row.GroupName, row.Status))
			}
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
