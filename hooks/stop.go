package hooks

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// Mode says which way a monitored value gets better.
type Mode int

// There is no default: a coherence grows and an error shrinks.
const (
	Maximize Mode = iota + 1
	Minimize
)

// String is the mode in lower case.
func (m Mode) String() string {
	switch m {
	case Maximize:
		return "maximize"
	case Minimize:
		return "minimize"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// better reports whether a beats b by more than delta.
func (m Mode) better(a, b, delta float64) bool {
	if m == Minimize {
		return a < b-delta
	}
	return a > b+delta
}

// StopRule ends the training when a monitored value is good enough, has stopped getting better, or has become bad. At least one
// of Threshold, Patience and Divergence must be set; the first to be met counts.
type StopRule struct {
	// Monitor is "<group>/coherence", "<group>/target_error" or "<group>/commutator_error", as in "d4/coherence": the
	// median over the probes and the group's non-identity elements together. That coherence is the loss's; that in another direction is
	// "<group>/<direction>/coherence", as in "d4/kernel/coherence".
	Monitor string
	Mode    Mode
	// Threshold stops when the value is certainly at least this (Maximize) or at most this (Minimize): where there is an
	// interval that contains the exact value, when all of it is. nil never.
	Threshold *float64
	// Patience stops after this many audits in a row without an improvement; 0 never. An audit in which the value does
	// not exist, is not a number, or may be anything from -1 to 1, has not improved it. Otherwise values are compared here, not
	// intervals, for on a plateau these always overlap: a MinDelta of the audit's tolerance tells an improvement from what the
	// interval leaves open.
	Patience int
	// MinDelta is by how much more than the best value so far an improvement must be.
	MinDelta float64
	// Divergence stops when the value is certainly worse than this: below it (Maximize) or above it (Minimize), with all of its
	// interval. nil never.
	Divergence *float64
	// FirstStep is the optimizer step before which audits count for nothing.
	FirstStep int64
}

// quantity is what can be monitored of a group.
type quantity struct {
	name string
	of   func(*audit.CoherenceRow) reading
}

var quantities = []quantity{
	{"coherence", func(row *audit.CoherenceRow) reading {
		r := reading{value: row.Median, low: row.MedianLow, high: row.MedianHigh}
		if audit.Estimator(row.Estimator).Certifies() && r.low == nil || r.low != nil && *r.low <= -1 && *r.high >= 1 {
			r.value, r.why = nil, "its interval is all of [-1, 1]: the solves' status says what limits them"
		}
		if row.N == 0 {
			r.why = "no sample has a cosine: its gradient vanishes, or there is no influence in this audit"
		}
		return r
	}},
	{"target_error", func(row *audit.CoherenceRow) reading {
		return errorReading(row.MedianTargetError, row.NFiniteTargetErrors, row.NErrors)
	}},
	{"commutator_error", func(row *audit.CoherenceRow) reading {
		return errorReading(row.MedianCommutatorError, row.NFiniteCommutatorErrors, row.NErrors)
	}},
}

func errorReading(median *float64, finite, all int32) reading {
	if finite == all {
		return reading{value: median, why: "the errors of the untransformed probes are not finite"}
	}
	return reading{value: median, why: fmt.Sprintf("%d of %d values are not finite", all-finite, all)}
}

// Validate reports the first setting that cannot work. Whether the group is audited, Attach or the first audit tells.
func (r StopRule) Validate() error {
	slash := strings.LastIndex(r.Monitor, "/")
	known := slices.ContainsFunc(quantities, func(q quantity) bool { return q.name == r.Monitor[slash+1:] })
	if slash < 1 || !known {
		return fmt.Errorf("hooks: stop rule: the monitor is %q; use <group>/coherence, <group>/<direction>/coherence, <group>/target_error or <group>/commutator_error, for instance d4/coherence", r.Monitor)
	}
	fault := func(format string, args ...any) error {
		return fmt.Errorf("hooks: stop rule on %s: %s", r.Monitor, fmt.Sprintf(format, args...))
	}
	for _, limit := range []struct {
		name  string
		value *float64
	}{{"threshold", r.Threshold}, {"divergence", r.Divergence}} {
		switch {
		case limit.value == nil:
		case math.IsNaN(*limit.value):
			return fault("the %s is not a number", limit.name)
		case r.Monitor[slash+1:] == "coherence" && math.Abs(*limit.value) > 1:
			return fault("the %s is %g, and a coherence lies between -1 and 1", limit.name, *limit.value)
		case r.Monitor[slash+1:] != "coherence" && *limit.value < 0:
			return fault("the %s is %g, and an error is 0 or more", limit.name, *limit.value)
		}
	}
	switch {
	case r.Mode != Maximize && r.Mode != Minimize:
		return fault("the mode is %s; use hooks.Maximize or hooks.Minimize", r.Mode)
	case r.Threshold == nil && r.Patience == 0 && r.Divergence == nil:
		return fault("it would never stop; set a threshold, a patience or a divergence")
	case r.Threshold != nil && r.Divergence != nil && !r.Mode.better(*r.Threshold, *r.Divergence, 0):
		return fault("the threshold %g is no better than the divergence %g (%s), so that every value would stop", *r.Threshold, *r.Divergence, r.Mode)
	case r.FirstStep < 0:
		return fault("the first step is %d; it must be a step of the training, or 0 for all", r.FirstStep)
	case r.Patience < 0:
		return fault("the patience is %d audits; it must be positive, or 0 for none", r.Patience)
	case !(r.MinDelta >= 0) || math.IsInf(r.MinDelta, 0):
		return fault("the min delta is %g; it must be finite, and 0 or more", r.MinDelta)
	case r.MinDelta > 0 && r.Patience == 0:
		return fault("the min delta is %g, the improvement that patience asks for, and there is no patience; set one", r.MinDelta)
	}
	return nil
}

// directed is an auditor that knows the directions of its influence; an *audit.Auditor does.
type directed interface {
	Directions() []string
}

// grouped is an auditor that knows the groups it will audit; an *audit.Auditor does.
type grouped interface {
	Groups() []string
}

// canonical is a monitor by the name that its reading has.
func canonical(monitor string) string {
	if group, ofLoss := strings.CutSuffix(monitor, "/"+audit.LossName+"/coherence"); ofLoss {
		return group + "/coherence"
	}
	return monitor
}

// monitorOf names a quantity of a row.
func monitorOf(group, direction, quantity string) string {
	if quantity == "coherence" && direction != "" {
		return canonical(group + "/" + direction + "/coherence")
	}
	return group + "/" + quantity
}

// checkMonitor refuses a rule on what will not be audited, where the auditor can tell.
func (r StopRule) checkMonitor(auditor Auditor) error {
	known, ok := auditor.(grouped)
	if !ok {
		return nil
	}
	directions := []string{audit.LossName}
	if of, ok := auditor.(directed); ok {
		directions = of.Directions()
	}
	var monitors []string
	for _, group := range known.Groups() {
		for _, quantity := range quantities {
			if quantity.name != "coherence" {
				monitors = append(monitors, monitorOf(group, "", quantity.name))
				continue
			}
			for _, direction := range directions {
				monitors = append(monitors, monitorOf(group, direction, quantity.name))
			}
		}
	}
	if slices.Contains(monitors, r.Monitor) {
		return nil
	}
	return fmt.Errorf("hooks: stop rule: no audit has monitor %q; known monitors: %s", r.Monitor, strings.Join(monitors, ", "))
}

// reading is a monitored value in one audit; nil where it does not exist.
type reading struct {
	monitor   string
	value     *float64
	low, high *float64 // bounds on the exact value; nil where there are none
	why       string   // there is no value, if there is none
}

// missing says why there is no value.
func (r reading) missing() string {
	if r.monitor == "" {
		return "the audit did not summarise the group"
	}
	return r.why
}

// ends are the worse and the better end of the interval, the value where there is none.
func (r reading) ends(mode Mode) (worse, better *float64) {
	switch {
	case r.value == nil || r.low == nil || r.high == nil:
		return r.value, r.value
	case mode == Minimize:
		return r.high, r.low
	}
	return r.low, r.high
}

// String is the value with its interval.
func (r reading) String() string {
	if r.low == nil || r.high == nil {
		return fmt.Sprintf("%.6g", *r.value)
	}
	return fmt.Sprintf("%.6g [%.6g, %.6g]", *r.value, *r.low, *r.high)
}

// readings lists all that can be monitored in an audit; of several dampings the smallest counts.
func readings(records *audit.Records) []reading {
	var all []reading
	summaries := records.Summaries()
	for i, row := range summaries {
		again := slices.ContainsFunc(summaries[:i], func(other *audit.CoherenceRow) bool { return other.GroupName == row.GroupName })
		for _, quantity := range quantities {
			if again && quantity.name != "coherence" {
				continue // errors have no direction
			}
			r := quantity.of(row)
			r.monitor = monitorOf(row.GroupName, row.Direction, quantity.name)
			if r.value != nil && math.IsNaN(*r.value) {
				r.value = nil // of an auditor of one's own
			}
			all = append(all, r)
		}
	}
	return all
}

// progress is a stop rule with what it has seen. Audits of FirstStep and later count, each step once.
type progress struct {
	StopRule
	best     *float64 // value seen; nil before the first
	bestStep int64    // at which it was
	mark     *float64 // value that an audit has to be better than by more than MinDelta; never better than best
	stale    int      // audits in a row that were not
	seen     bool     // an audit has been observed: its monitor exists
	latest   int64    // step of the audit observed last, plus 1; 0 before the first
}

// observe takes the reading of an audit at a step. It tells whether this is the best so far, and why to stop, or "".
func (p *progress) observe(step int64, r reading) (best bool, reason string) {
	if step < p.FirstStep || step+1 == p.latest {
		return p.best != nil && p.bestStep == step, "" // of the same weights nothing new is learned: a resume with an initial audit repeats the one before
	}
	p.latest = step + 1
	if value := r.value; value != nil {
		if p.best == nil || p.Mode.better(*value, *p.best, 0) {
			seen := *value
			p.best, p.bestStep, best = &seen, step, true
		}
		p.stale++
		if p.mark == nil || p.Mode.better(*value, *p.mark, p.MinDelta) {
			mark := *value
			p.mark, p.stale = &mark, 0
		}
		worse, better := r.ends(p.Mode)
		if p.Threshold != nil && !p.Mode.better(*p.Threshold, *worse, 0) {
			return best, fmt.Sprintf("%s is %s, threshold %.6g (%s)", p.Monitor, r, *p.Threshold, p.Mode)
		}
		if p.Divergence != nil && p.Mode.better(*p.Divergence, *better, 0) {
			return best, fmt.Sprintf("%s is %s, worse than %.6g (%s)", p.Monitor, r, *p.Divergence, p.Mode)
		}
	} else {
		p.stale++
	}
	if p.Patience == 0 || p.stale < p.Patience {
		return best, ""
	}
	if p.mark == nil {
		return best, fmt.Sprintf("%s has had no value in %d audits", p.Monitor, p.stale)
	}
	now := "has no value"
	if r.value != nil {
		now = fmt.Sprintf("is %s", r)
	}
	least := ""
	if p.MinDelta > 0 {
		least = fmt.Sprintf(" by more than %g", p.MinDelta)
	}
	return best, fmt.Sprintf("%s %s and has not improved on %.6g%s (%s) in %d audits", p.Monitor, now, *p.mark, least, p.Mode, p.stale)
}
