// Package monitor names what can be watched of an audit, as in "d4/coherence", and finds its values: the one rule of stop rules,
// progress bars and figures.
package monitor

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// Coherence is the quantity that has directions.
const Coherence = "coherence"

// Reading is a monitored value in one audit.
type Reading struct {
	Monitor   string
	Value     *float64 // nil where it does not exist
	Low, High *float64 // bounds on the exact value; nil where there are none
	Why       string   // there is no value, if there is none
}

// quantity is what can be monitored of a group.
type quantity struct {
	name string
	of   func(*audit.CoherenceRow) Reading
}

var quantities = []quantity{
	{Coherence, func(row *audit.CoherenceRow) Reading {
		r := Reading{Value: row.Median, Low: row.MedianLow, High: row.MedianHigh}
		if audit.Estimator(row.Estimator).Certifies() && r.Low == nil || r.Low != nil && *r.Low <= -1 && *r.High >= 1 {
			r.Value, r.Why = nil, "its interval is all of [-1, 1]: the solves' status says what limits them"
		}
		if row.N == 0 {
			r.Why = "no sample has a cosine: its gradient vanishes, or there is no influence in this audit"
		}
		return r
	}},
	{"target_error", func(row *audit.CoherenceRow) Reading {
		return ofError(row.MedianTargetError, row.NFiniteTargetErrors, row.NErrors)
	}},
	{"commutator_error", func(row *audit.CoherenceRow) Reading {
		return ofError(row.MedianCommutatorError, row.NFiniteCommutatorErrors, row.NErrors)
	}},
}

func ofError(median *float64, finite, all int32) Reading {
	if finite == all {
		return Reading{Value: median, Why: "the errors of the untransformed probes are not finite"}
	}
	return Reading{Value: median, Why: fmt.Sprintf("%d of %d values are not finite", all-finite, all)}
}

// Quantities are the names of all that can be monitored of a group.
func Quantities() (names []string) {
	for _, q := range quantities {
		names = append(names, q.name)
	}
	return names
}

// Canonical is a monitor by the name that its reading has.
func Canonical(name string) string {
	if group, ofLoss := strings.CutSuffix(name, "/"+audit.LossName+"/"+Coherence); ofLoss {
		return group + "/" + Coherence
	}
	return name
}

// Name is that of a quantity of a group, in a direction where the quantity has one.
func Name(group, direction, quantity string) string {
	if quantity == Coherence && direction != "" {
		return Canonical(group + "/" + direction + "/" + Coherence)
	}
	return group + "/" + quantity
}

// Readings lists all that can be monitored in one audit; of several dampings the smallest counts.
func Readings(records *audit.Records) []Reading {
	var all []Reading
	summaries := records.Summaries()
	for i, row := range summaries {
		again := slices.ContainsFunc(summaries[:i], func(other *audit.CoherenceRow) bool { return other.GroupName == row.GroupName })
		for _, quantity := range quantities {
			if again && quantity.name != Coherence {
				continue // errors have no direction
			}
			r := quantity.of(row)
			r.Monitor = Name(row.GroupName, row.Direction, quantity.name)
			if r.Value != nil && math.IsNaN(*r.Value) {
				r.Value = nil // of an auditor of one's own
			}
			all = append(all, r)
		}
	}
	return all
}

// Missing says why there is no value.
func (r Reading) Missing() string {
	if r.Monitor == "" {
		return "the audit did not summarise the group"
	}
	return r.Why
}

// String is the value with its interval.
func (r Reading) String() string {
	if r.Low == nil || r.High == nil {
		return fmt.Sprintf("%.6g", *r.Value)
	}
	return fmt.Sprintf("%.6g [%.6g, %.6g]", *r.Value, *r.Low, *r.High)
}
