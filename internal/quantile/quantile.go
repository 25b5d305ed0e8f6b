// Package quantile is the one way in which this module summarises values, so that a table, a report and a stop rule agree.
package quantile

import (
	"math"
	"slices"
)

// Of interpolates linearly between order statistics, as NumPy's default does; values is not changed. It is NaN where there are
// no values, or one of them is NaN: such a value has no place in an order.
func Of(values []float64, level float64) float64 {
	if len(values) == 0 || slices.ContainsFunc(values, math.IsNaN) {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	position := level * float64(len(sorted)-1)
	below := int(position)
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	fraction := position - float64(below)
	if fraction == 0 {
		return sorted[below] // not infinity times 0
	}
	return sorted[below]*(1-fraction) + sorted[below+1]*fraction
}
