package audit

import (
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/symaudit/symaudit/orbits"
)

// AllElements names the row of a coherence table that takes a group's non-identity elements together.
const AllElements = "*"

// summarise describes the cosines between x and g.x at a lambda, and the errors, of each element of a group and of all
// together.
func summarise(o *orbit, records *Records, lambda float64, at Moment) []CoherenceRow {
	target, commutator := map[string][]float64{}, map[string][]float64{}
	cosines, lows, highs := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
	identity := o.elements[0].Name()
	add := func(values map[string][]float64, element string, value float64) {
		values[element] = append(values[element], value)
		if element != identity {
			values[AllElements] = append(values[AllElements], value)
		}
	}
	for _, row := range records.Influence {
		if row.GroupName != o.group.Name || row.RowSample != row.ColSample || row.Lambda != lambda || row.Cosine == nil {
			continue
		}
		add(cosines, row.Element, *row.Cosine)
		if row.CosineLow != nil && row.CosineHigh != nil {
			add(lows, row.Element, *row.CosineLow)
			add(highs, row.Element, *row.CosineHigh)
		}
	}
	for _, row := range records.Errors {
		if row.GroupName == o.group.Name {
			add(target, row.Element, row.TargetError)
			add(commutator, row.Element, row.CommutatorError)
		}
	}
	describe := func(name string, dy, dx float64) CoherenceRow {
		row := CoherenceRow{
			Moment: at, GroupName: o.group.Name, Element: name, ShiftY: dy, ShiftX: dx, Lambda: lambda,
			MedianTargetError: quantile(target[name], 0.5), MedianCommutatorError: quantile(commutator[name], 0.5),
		}
		row.describeCosines(cosines[name])
		if n := len(cosines[name]); n > 0 && len(lows[name]) == n {
			low, high := quantile(lows[name], 0.5), quantile(highs[name], 0.5)
			row.MedianLow, row.MedianHigh = &low, &high
		}
		return row
	}
	rows := make([]CoherenceRow, 0, len(o.elements)+1)
	for _, element := range o.elements {
		dy, dx := element.Shift()
		rows = append(rows, describe(element.Name(), dy, dx))
	}
	if slices.ContainsFunc(o.elements, func(e orbits.Element) bool { return !e.IsIdentity() }) {
		rows = append(rows, describe(AllElements, 0, 0))
	}
	return rows
}

// describeCosines fills in the statistics; of no values there are none.
func (row *CoherenceRow) describeCosines(cosines []float64) {
	row.N = int32(len(cosines))
	if len(cosines) == 0 {
		return
	}
	mean := stat.Mean(cosines, nil)
	variance := stat.PopVariance(cosines, nil)
	negative := 0.0
	for _, cosine := range cosines {
		if cosine < 0 {
			negative++
		}
	}
	negative /= float64(len(cosines))
	row.Mean, row.Variance, row.NegativeFraction = &mean, &variance, &negative
	for _, q := range []struct {
		level float64
		dst   **float64
	}{{0.05, &row.Q05}, {0.25, &row.Q25}, {0.5, &row.Median}, {0.75, &row.Q75}, {0.95, &row.Q95}} {
		value := quantile(cosines, q.level)
		*q.dst = &value
	}
}

// quantile interpolates linearly between order statistics, as NumPy's default does; values is not changed.
func quantile(values []float64, level float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	position := level * float64(len(sorted)-1)
	below := int(position)
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	fraction := position - float64(below)
	return sorted[below]*(1-fraction) + sorted[below+1]*fraction
}
