package view

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
)

// AuditTable has a row for each audit of a group, by time.
type AuditTable struct {
	Group   string
	Rows    []AuditRow
	LeftOut string // that not all are there; empty where they are
}

// AuditRow is an audit of a group as a whole.
type AuditRow struct {
	Time, Model                                  string
	Coherence, Certified, Quartiles, N, Negative string
	Target, Commutator                           ErrorCell
	Asymmetry                                    string
	at                                           float64
	order                                        int // of its series
}

// ErrorCell is a median, or says why there is none.
type ErrorCell struct {
	Text      string
	NotFinite bool
}

func newErrorCell(median *float64, finite, n int32) ErrorCell {
	switch {
	case finite < n:
		return ErrorCell{fmt.Sprintf("– (%s not finite)", outOf(int(n-finite), int(n))), true}
	case median == nil:
		return ErrorCell{"–", false}
	}
	return ErrorCell{aligned(*median), false}
}

// mostRows that a table of audits shows: of more, some in equal distances.
const mostRows = 60

func (d *data) auditTables() (tables []AuditTable) {
	for _, g := range d.groups {
		table := AuditTable{Group: g.name}
		for _, row := range d.coherence {
			if row.group != g.name || row.Element != audit.AllElements {
				continue
			}
			for i, s := range d.series {
				if s.wrote(row.Moment) {
					table.Rows = append(table.Rows, newAuditRow(row, s.label, d.when(row.Moment), i))
				}
			}
		}
		slices.SortStableFunc(table.Rows, func(a, b AuditRow) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order)) })
		table.thinOut()
		if len(table.Rows) > 0 {
			tables = append(tables, table)
		}
	}
	return tables
}

func newAuditRow(row coherenceRow, model string, at float64, order int) AuditRow {
	r := AuditRow{Time: Number(at), Model: model, Coherence: fixed(row.Median), Certified: "–", N: fmt.Sprint(row.N), Negative: percent(row.NegativeFraction), Asymmetry: percent(row.AsymmetryShare),
		Target:     newErrorCell(row.MedianTargetError, row.NFiniteTargetErrors, row.NErrors),
		Commutator: newErrorCell(row.MedianCommutatorError, row.NFiniteCommutatorErrors, row.NErrors), at: at, order: order}
	if row.NWithoutCosine > 0 {
		r.N = outOf(int(row.N), int(row.N+row.NWithoutCosine))
	}
	if b := between(row.MedianLow, row.MedianHigh); b != nil && row.Median != nil {
		r.Certified = "±" + Number(roundedUp(reach(*row.Median, b), 2))
	}
	if row.Q25 != nil && row.Q75 != nil {
		r.Quartiles = fmt.Sprintf("%s to %s", fixed(row.Q25), fixed(row.Q75))
	}
	return r
}

// thinOut keeps the first and the last times, and some in equal distances between them.
func (t *AuditTable) thinOut() {
	var times []float64
	for _, row := range t.Rows {
		if len(times) == 0 || times[len(times)-1] != row.at {
			times = append(times, row.at)
		}
	}
	most := max(2, mostRows*len(times)/max(1, len(t.Rows)))
	if len(t.Rows) <= mostRows || len(times) <= most {
		return
	}
	kept := map[float64]bool{}
	for i := range most {
		kept[times[i*(len(times)-1)/(most-1)]] = true
	}
	t.Rows = slices.DeleteFunc(t.Rows, func(row AuditRow) bool { return !kept[row.at] })
	t.LeftOut = fmt.Sprintf("%s times are shown; table coherence has all.", outOf(len(kept), len(times)))
}

// EndTable compares the last audits of models over several runs, or over several seeds.
type EndTable struct {
	Group string
	Rows  []EndRow
}

// EndRow is a model's medians over its runs or seeds, with their ranges.
type EndRow struct {
	Model, Runs, Coherence, Target, Commutator string
}

// seeded reports whether a model was trained with several seeds.
func (d *data) seeded() bool {
	return slices.ContainsFunc(d.series, func(s *series) bool {
		return slices.ContainsFunc(d.series, func(other *series) bool { return other.model == s.model && other.seed != s.seed })
	})
}

func (d *data) endTables() (tables []EndTable) {
	for _, g := range d.groups {
		table := EndTable{Group: g.name}
		var models []string
		for _, s := range d.series {
			models = appendNew(models, s.model)
		}
		for _, model := range models {
			var coherence, target, commutator []float64
			runs := 0
			for _, s := range d.series {
				if row := d.last(s, g); s.model == model && row != nil {
					runs++
					for _, of := range []struct {
						all   *[]float64
						value *float64
					}{{&coherence, row.Median}, {&target, row.MedianTargetError}, {&commutator, row.MedianCommutatorError}} {
						if of.value != nil {
							*of.all = append(*of.all, *of.value)
						}
					}
				}
			}
			if runs > 0 {
				table.Rows = append(table.Rows, EndRow{model, fmt.Sprint(runs), ranged(coherence), ranged(target), ranged(commutator)})
			}
		}
		if len(table.Rows) > 0 {
			tables = append(tables, table)
		}
	}
	return tables
}

// last is what a series' last audit says of a group as a whole; nil where it says nothing.
func (d *data) last(s *series, g group) *coherenceRow {
	for i := range d.coherence {
		if row := &d.coherence[i]; row.group == g.name && row.Element == audit.AllElements && row.Step == s.step && s.wrote(row.Moment) {
			return row
		}
	}
	return nil
}

// ranged reads "0.31 (0.28 to 0.36)", the median and the range.
func ranged(values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	e := extent{}
	e.include(values...)
	if len(values) == 1 {
		return Number(values[0])
	}
	return fmt.Sprintf("%s (%s to %s)", Number(summarise(values).Median), Number(e.low), Number(e.high))
}

// LayerTable says through which layers the influence of a model's samples on their transforms passes, in its last audit.
type LayerTable struct {
	Model, Group string
	Rows         []LayerRow
	LeftOut      string
}

// LayerRow is the share of a layer, the median over samples and elements, with quartiles.
type LayerRow struct {
	Layer, Parameters, Share, Quartiles string
	median                              float64
}

func (d *data) layerTables() (tables []LayerTable) {
	const most = 10
	for _, s := range d.series {
		for _, g := range d.groups {
			shares, parameters, layers := s.layerShares(g)
			table := LayerTable{Model: s.label, Group: g.name}
			for _, layer := range layers {
				of := summarise(shares[layer])
				table.Rows = append(table.Rows, LayerRow{layer, count(parameters[layer]), percent(&of.Median), fmt.Sprintf("%s to %s", percent(&of.Q25), percent(&of.Q75)), of.Median})
			}
			slices.SortStableFunc(table.Rows, func(a, b LayerRow) int { return -cmp.Compare(math.Abs(a.median), math.Abs(b.median)) })
			if n := len(table.Rows); n > most {
				table.Rows, table.LeftOut = table.Rows[:most], fmt.Sprintf("The %s layers with the largest shares; table layers has all.", outOf(most, n))
			}
			if len(table.Rows) > 0 {
				tables = append(tables, table)
			}
		}
	}
	return tables
}

// layerShares are the shares of variables in the influence, over samples and non-identity elements, at the smallest damping.
func (s *series) layerShares(g group) (shares map[string][]float64, parameters map[string]int64, layers []string) {
	type pair struct {
		element       string
		batch, sample int32
	}
	smallest, totals := math.Inf(1), map[pair]float64{}
	ours := func(row audit.LayerRow) bool {
		return named(row.GroupName, row.Direction) == g.name && row.Element != identity
	}
	for _, row := range s.layers {
		if ours(row) {
			smallest = min(smallest, damping(row.RelativeLambda, &row.Lambda))
		}
	}
	at := func(row audit.LayerRow) bool {
		return ours(row) && damping(row.RelativeLambda, &row.Lambda) <= smallest
	}
	for _, row := range s.layers {
		if at(row) && row.Layer == "/" {
			totals[pair{row.Element, row.Batch, row.Sample}] = row.Influence
		}
	}
	shares, parameters = map[string][]float64{}, map[string]int64{}
	for _, row := range s.layers {
		total := totals[pair{row.Element, row.Batch, row.Sample}]
		if !at(row) || row.Kind != "variable" || total == 0 {
			continue
		}
		if _, known := parameters[row.Layer]; !known {
			layers = append(layers, row.Layer)
		}
		shares[row.Layer], parameters[row.Layer] = append(shares[row.Layer], row.Influence/total), row.Parameters
	}
	return shares, parameters, layers
}

// SolveSummary is about all solves of a series.
type SolveSummary struct {
	Model       string
	Solves      int
	Unconverged int
	Uncertified int // by a method that certifies nothing
	Residual    string
	HalfWidth   string
	Products    string
	Seconds     string
	Lambda      string
	Relative    string
	Metric      string
	DTypes      string
	Estimators  string
}

func (d *data) solveSummaries() (all []SolveSummary, unsettled []string) {
	for _, s := range d.series {
		sum := SolveSummary{Model: s.label, Residual: "–", HalfWidth: "–"}
		residual, halfWidth, lambda, relative := extent{}, extent{}, extent{}, extent{}
		metrics, dtypes, estimators := []string{}, []string{}, []string{}
		seconds, products := 0.0, int64(0)
		for _, row := range d.records.Solves {
			if !s.wrote(row.Moment) {
				continue
			}
			sum.Solves++
			products += row.Products + row.SetupProducts
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
			unsettled = appendNew(unsettled, d.describeEnding(s, row))
		}
		if sum.Solves == 0 {
			continue
		}
		if residual.filled {
			sum.Residual = Number(roundedTo(residual.high, 2))
		}
		if halfWidth.filled {
			sum.HalfWidth = Number(roundedUp(halfWidth.high, 2))
		}
		sum.Lambda, sum.Relative = span(lambda), "–"
		if relative.filled {
			sum.Relative = span(relative)
		}
		sum.Products, sum.Seconds = count(products), Number(roundedTo(seconds, 3))+" s"
		sum.Metric, sum.DTypes, sum.Estimators = strings.Join(metrics, "; "), strings.Join(dtypes, ", "), strings.Join(estimators, ", ")
		all = append(all, sum)
	}
	return all, unsettled
}

// describeEnding says how a solve ended that did not converge.
func (d *data) describeEnding(s *series, row audit.SolveRow) string {
	said := fmt.Sprintf("%s, %s %s, %s, batch %d, ", s.label, d.time, Number(d.when(row.Moment)), named(row.GroupName, row.Direction), row.Batch)
	if row.RelativeLambda != nil {
		said += "λ/λ_max = " + Number(*row.RelativeLambda)
	} else {
		said += "λ = " + Number(row.Lambda)
	}
	if row.Status != "" {
		said += ": " + string(row.Status)
	}
	if row.Explanation != nil {
		said += ": " + *row.Explanation
	}
	return said
}
