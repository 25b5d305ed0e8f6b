package view

import (
	"slices"
	"strconv"

	"github.com/symaudit/symaudit/audit"
)

// Explorer is what a reader of a page can pick from: the medians of each element in each audit, at its smallest damping.
type Explorer struct {
	Time   string // what the times of the rows count
	Series []ExplorerSeries
	Groups []ExplorerGroup
	Rows   []ExplorerRow
}

// ExplorerSeries is a model. Color is for the page to fill in.
type ExplorerSeries struct {
	Label, Color string
	Style        Style `json:"-"`
}

// ExplorerGroup is a group with its elements; "*" are all but the identity together.
type ExplorerGroup struct {
	Name     string
	Elements []string
}

// ExplorerRow is an element in an audit; series, group and element are places in the lists.
type ExplorerRow struct {
	Series, Group, Element int
	Time                   float64
	Values                 [7]*float64 // cosine: median, first and third quartile, certified bounds of the median; medians of target and commutator error
}

// mostExplored is how many rows a page carries at most: some 100 bytes each.
const mostExplored = 8000

// explorer is nil where nothing was audited.
func (d *data) explorer() *Explorer {
	e := &Explorer{Time: d.time}
	for _, s := range d.series {
		e.Series = append(e.Series, ExplorerSeries{Label: s.label, Style: s.style})
	}
	for _, g := range d.groups {
		e.Groups = append(e.Groups, ExplorerGroup{Name: g.name, Elements: append(slices.Clone(g.elements), audit.AllElements)})
	}
	kept := d.explored()
	for _, row := range d.coherence {
		if !kept[d.when(row.Moment)] {
			continue
		}
		of := slices.IndexFunc(d.series, func(s *series) bool { return s.wrote(row.Moment) })
		group := slices.IndexFunc(e.Groups, func(g ExplorerGroup) bool { return g.Name == row.group })
		element := slices.Index(e.Groups[group].Elements, row.Element)
		if of < 0 || element < 0 {
			continue
		}
		e.Rows = append(e.Rows, ExplorerRow{of, group, element, d.when(row.Moment), [7]*float64{short(row.Median), short(row.Q25), short(row.Q75), short(row.MedianLow), short(row.MedianHigh),
			short(row.MedianTargetError), short(row.MedianCommutatorError)}})
	}
	if len(e.Rows) == 0 {
		return nil
	}
	return e
}

// explored are the times whose audits a page has room for: the first and the last, and some in equal distances between them.
func (d *data) explored() map[float64]bool {
	var times []float64
	for _, row := range d.coherence {
		times = append(times, d.when(row.Moment))
	}
	slices.Sort(times)
	times = slices.Compact(times)
	most := max(2, mostExplored*len(times)/max(1, len(d.coherence)))
	kept := map[float64]bool{}
	for i := range min(most, len(times)) {
		if len(times) > most {
			i = i * (len(times) - 1) / (most - 1)
		}
		kept[times[i]] = true
	}
	return kept
}

// short is a value to four digits, in which a page is not told apart from the table; nil where it is not finite.
func short(v *float64) *float64 {
	if v == nil || !finite(*v) {
		return nil
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(*v, 'g', 4, 64), 64)
	if err != nil {
		return nil
	}
	return &rounded
}
