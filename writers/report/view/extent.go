package view

import "math"

// extent of an axis.
type extent struct {
	low, high float64
	log       bool
	filled    bool // something was included
}

func (e *extent) include(values ...float64) {
	for _, v := range values {
		if !finite(v) || e.log && v <= 0 {
			continue
		}
		if !e.filled {
			e.low, e.high, e.filled = v, v, true
		}
		e.low, e.high = min(e.low, v), max(e.high, v)
	}
}

func (e *extent) enclose(all ...*Bounds) {
	for _, b := range all {
		if b != nil {
			e.include(b.Low, b.High)
		}
	}
}

// padded widens the extent so that no mark lies on the frame and a logarithmic axis has at least two labels. An axis
// without a value still needs a length.
func (e extent) padded() extent {
	switch {
	case !e.filled:
		e.low, e.high = 1e-16, 1
	case !e.log:
		margin := 0.06 * (e.high - e.low)
		if margin == 0 {
			margin = max(0.5, 0.1*math.Abs(e.low))
		}
		e.low, e.high = e.low-margin, e.high+margin
	default:
		factor := max(math.Pow(e.high/e.low, 0.08), math.Sqrt(5/min(5, e.high/e.low)), 1.1)
		e.low, e.high = e.low/factor, e.high*factor
	}
	return e
}

// axis gives the extent a label.
func (e extent) axis(label string) Axis {
	return Axis{Label: label, Low: e.low, High: e.high, Log: e.log}
}

// names makes an axis of words.
func names(label string, all []string) Axis {
	return Axis{Label: label, Low: -0.6, High: float64(len(all)) - 0.4, Names: all}
}
