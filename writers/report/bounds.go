package report

import (
	"fmt"
	"math"
)

// bounds enclose an exact value: what an estimator certifies.
type bounds struct{ low, high float64 }

// between is nil where a bound is missing: an error bar with one end says nothing.
func between(low, high *float64) *bounds {
	if low == nil || high == nil || !finite(*low) || !finite(*high) {
		return nil
	}
	return &bounds{*low, *high}
}

// ofMedian bounds the median of samples as table coherence does: by the medians of the lower and of the upper bounds.
func ofMedian(samples []sample) *bounds {
	lows, highs := make([]float64, len(samples)), make([]float64, len(samples))
	for i, s := range samples {
		if s.bounds == nil {
			return nil
		}
		lows[i], highs[i] = s.bounds.low, s.bounds.high
	}
	if len(samples) == 0 {
		return nil
	}
	return &bounds{summarise(lows).median, summarise(highs).median}
}

// certainty collects how far from the values drawn the exact ones can lie.
type certainty struct {
	certified, open int // values with and without bounds
	worst           float64
}

func (c *certainty) add(value float64, b *bounds) {
	if b == nil {
		c.open++
		return
	}
	c.certified++
	c.worst = max(c.worst, reach(value, b))
}

// reach is the farthest that the exact value can lie from the value drawn, which need not be midway.
func reach(value float64, b *bounds) float64 { return max(value-b.low, b.high-value) }

// within reads "±0.012".
func (c certainty) within() string { return "±" + number(roundedUp(c.worst, 2)) }

// uncertified says of how many values nothing is certified; empty where of none, or of all, as then no bounds are spoken of.
func (c certainty) uncertified(plural string) string {
	if c.open == 0 || c.certified == 0 {
		return ""
	}
	return fmt.Sprintf("Nothing is certified for %d of %d %s.", c.open, c.open+c.certified, plural)
}

// roundedUp keeps a rounded bound a bound.
func roundedUp(v float64, digits int) float64 {
	rounded := roundedTo(v, digits)
	if !(rounded < v) || math.IsInf(v, 0) {
		return rounded
	}
	unit := math.Pow(10, math.Floor(math.Log10(v))-float64(digits-1))
	return roundedTo(rounded+unit, digits)
}
