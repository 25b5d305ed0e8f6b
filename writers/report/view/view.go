// Package view makes of the rows of runs what a report shows: figures as marks at numbers, tables, and sentences. It draws nothing and
// changes no row.
package view

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/writers"
)

// View is all that a report shows of one run or of several.
type View struct {
	Title     string
	Summary   string
	Verdicts  []Verdict // of each model
	Warnings  []string  // what may mislead whoever reads the tables
	Facts     []Fact    // about the run; of several, where each lies
	Config    string    // of a single run
	Figures   []Figure
	Time      string // what the tables of audits count: "epoch", or "step" where epochs are not known
	Audits    []AuditTable
	Layers    []LayerTable
	Ends      []EndTable // of several runs, or of several seeds of a run: medians and ranges over them
	Over      string     // what these are over: "runs" or "seeds"
	Solves    []SolveSummary
	Unsettled []string // what solves say that did not converge, or certify nothing
	Explorer  *Explorer
}

// Fact is a name with its value.
type Fact struct{ Name, Value string }

// Run is one that a report is of.
type Run struct {
	Dir string
	*writers.Contents
}

// Of shows one run, or several side by side. There is nothing to show, and the view is nil, where they have no rows.
func Of(runs ...Run) *View {
	d := newData(runs)
	if len(d.series) == 0 {
		return nil
	}
	v := &View{Time: d.time, Figures: d.figures(), Audits: d.auditTables(), Layers: d.layerTables(), Verdicts: d.verdicts(), Explorer: d.explorer()}
	v.Solves, v.Unsettled = d.solveSummaries()
	var models, groups []string
	for _, s := range d.series {
		models = append(models, s.label)
	}
	for _, g := range d.groups {
		groups = append(groups, g.label())
	}
	audits := map[string]bool{}
	for _, row := range d.records.Coherence {
		audits[fmt.Sprint(row.RunID, row.Model, row.Seed, row.Step)] = true
	}
	v.Summary = fmt.Sprintf("%s of %s", plural(len(audits), "audit"), listed(models))
	if len(groups) > 0 {
		v.Summary += " under " + listed(groups)
	}
	for _, run := range runs {
		v.Warnings = append(v.Warnings, partitions(absolute(run.Dir))...)
	}
	v.Warnings = append(v.Warnings, d.notFinite()...)
	if len(runs) > 1 {
		v.Title = fmt.Sprintf("Symmetry audits of %d runs", len(runs))
		v.Ends, v.Over = d.endTables(), "runs"
		for i, run := range runs {
			v.Facts = append(v.Facts, Fact{d.names[i], fmt.Sprintf("%s, begun %s, %s", run.Dir, run.Info.Created.Format(time.RFC3339), versionLine(run.Info.Versions))})
		}
		return v
	}
	v.Title = "Symmetry audit of " + filepath.Base(absolute(runs[0].Dir))
	if d.seeded() {
		v.Ends, v.Over = d.endTables(), "seeds"
	}
	v.Facts, v.Config = facts(runs[0].Info), runs[0].Info.Config
	for _, info := range runs[0].Resumes {
		v.Facts = append(v.Facts, Fact{fmt.Sprintf("attempt %d", info.Attempt),
			fmt.Sprintf("%s, %s, %s", info.Created.Format(time.RFC3339), info.Backend, versionLine(info.Versions))})
	}
	return v
}

// figures of the runs; what was not audited has none.
func (d *data) figures() []Figure {
	var all []Figure
	add := func(f Figure, ok bool) {
		if ok {
			f.Caption = slices.DeleteFunc(f.Caption, func(sentence string) bool { return sentence == "" })
			all = append(all, f)
		}
	}
	add(d.overTime())
	add(d.heldOut())
	add(d.rollouts())
	add(d.overDampings())
	for _, g := range d.groups {
		ofLoss := g.direction == "" // errors have no direction
		if ofLoss {
			add(d.byClass(g))
		}
		switch {
		case g.shifts():
			add(d.byShift(g))
		default:
			if ofLoss {
				add(d.byElement(g, "errors", "Error by element of "+g.label(), targetError, commutatorError))
			}
			add(d.byElement(g, "influence", "Influence by element of "+g.label(), scaledInfluence, cosine))
		}
		add(d.againstErrors(g))
		add(d.betweenSamples(g))
		if ofLoss {
			add(d.localErrors(g))
			add(d.pictured(g))
		}
	}
	add(d.spectrum())
	return all
}

func absolute(dir string) string {
	if path, err := filepath.Abs(dir); err == nil {
		return path
	}
	return dir
}

// partitions warns of folders that programs take for a column with one value.
func partitions(dir string) (warnings []string) {
	for _, folder := range strings.Split(filepath.ToSlash(dir), "/") {
		if name, _, found := strings.Cut(folder, "="); found {
			warnings = append(warnings, fmt.Sprintf("The run lies below a folder %q: DuckDB takes that for a column %q and adds it to every table, in the place of one of that name. Rename the folder, or read with hive_partitioning = false.",
				folder, name))
		}
	}
	return warnings
}

func facts(info writers.Info) []Fact {
	all := []Fact{
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
	return slices.DeleteFunc(all, func(f Fact) bool { return f.Value == "" })
}

func versionLine(v writers.Versions) string {
	var all []string
	for _, f := range []Fact{{"symaudit", v.Symaudit}, {"", v.Go}, {"GoMLX", v.GoMLX}, {"go-xla", v.GoXLA}} {
		if f.Value != "" {
			all = append(all, strings.TrimSpace(f.Name+" "+f.Value))
		}
	}
	return strings.Join(all, ", ")
}

// notFinite says of each series in how many audits an error has no median, as a value of it is not finite.
func (d *data) notFinite() (all []string) {
	for _, s := range d.series {
		audits, lost := map[int64]bool{}, map[int64]bool{}
		first := 0.0
		for _, row := range d.coherence {
			if !s.wrote(row.Moment) || row.Element != audit.AllElements {
				continue
			}
			audits[row.Step] = true
			if min(row.NFiniteTargetErrors, row.NFiniteCommutatorErrors) < row.NErrors {
				if len(lost) == 0 || d.when(row.Moment) < first {
					first = d.when(row.Moment)
				}
				lost[row.Step] = true
			}
		}
		if len(lost) > 0 {
			all = append(all, fmt.Sprintf("%s: errors are not finite in %s audits, first at %s %s: they have no median there, and the table says how many values are lost.",
				s.label, outOf(len(lost), len(audits)), d.time, Number(first)))
		}
	}
	return all
}
