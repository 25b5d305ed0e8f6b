package hooks

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/monitor"
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

// worst is what every finite value beats.
func (m Mode) worst() float64 {
	if m == Minimize {
		return math.Inf(1)
	}
	return math.Inf(-1)
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
	// not exist, is not a number, is the worst infinity, or may be anything from -1 to 1, has not improved it. Otherwise values are compared here, not
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

// Validate reports the first setting that cannot work. Whether the group is audited, Attach or the first audit tells.
func (r StopRule) Validate() error {
	slash := strings.LastIndex(r.Monitor, "/")
	known := slices.Contains(monitor.Quantities(), r.Monitor[slash+1:])
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
		case r.Monitor[slash+1:] == monitor.Coherence && math.Abs(*limit.value) > 1:
			return fault("the %s is %g, and a coherence lies between -1 and 1", limit.name, *limit.value)
		case r.Monitor[slash+1:] != monitor.Coherence && *limit.value < 0:
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
		for _, quantity := range monitor.Quantities() {
			if quantity != monitor.Coherence {
				monitors = append(monitors, monitor.Name(group, "", quantity))
				continue
			}
			for _, direction := range directions {
				monitors = append(monitors, monitor.Name(group, direction, quantity))
			}
		}
	}
	if slices.Contains(monitors, r.Monitor) {
		return nil
	}
	return fmt.Errorf("hooks: stop rule: no audit has monitor %q; known monitors: %s", r.Monitor, strings.Join(monitors, ", "))
}

// ends are the worse and the better end of a reading's interval, the value where there is none.
func ends(r monitor.Reading, mode Mode) (worse, better *float64) {
	switch {
	case r.Value == nil || r.Low == nil || r.High == nil:
		return r.Value, r.Value
	case mode == Minimize:
		return r.High, r.Low
	}
	return r.Low, r.High
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
func (p *progress) observe(step int64, r monitor.Reading) (best bool, reason string) {
	if step < p.FirstStep || step+1 == p.latest {
		return p.best != nil && p.bestStep == step, "" // of the same weights nothing new is learned: a resume with an initial audit repeats the one before
	}
	p.latest = step + 1
	worst := p.Mode.worst()
	if value := r.Value; value != nil {
		if p.Mode.better(*value, *cmp.Or(p.best, &worst), 0) {
			seen := *value
			p.best, p.bestStep, best = &seen, step, true
		}
		p.stale++
		if p.Mode.better(*value, *cmp.Or(p.mark, &worst), p.MinDelta) {
			mark := *value
			p.mark, p.stale = &mark, 0
		}
		worse, better := ends(r, p.Mode)
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
		return best, fmt.Sprintf("%s has had no finite value in %d audits", p.Monitor, p.stale)
	}
	now := "has no value"
	if r.Value != nil {
		now = fmt.Sprintf("is %s", r)
	}
	least := ""
	if p.MinDelta > 0 {
		least = fmt.Sprintf(" by more than %g", p.MinDelta)
	}
	return best, fmt.Sprintf("%s %s and has not improved on %.6g%s (%s) in %d audits", p.Monitor, now, *p.mark, least, p.Mode, p.stale)
}
