package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gomlx/gomlx/ml/train"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/attempts"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/internal/monitor"
)

// SharedPrefix precedes the monitors of stop rules in the keys of Loop.SharedData under which the latest audit's values stand, as
// float64, for other hooks to read: "symaudit/d4/coherence".
const SharedPrefix = "symaudit/"

// Metric returns a function that GoMLX's commandline.AttachProgressBar takes, to show the latest value of a monitor, as in
// "d4/coherence", with its interval. It may be called at any time, from any goroutine.
func (h *Hook) Metric(watched string) func() (name, value string) {
	return func() (name, value string) {
		latest := h.newest.Load()
		switch {
		case latest == nil:
			return watched, "not audited yet"
		case *latest == nil:
			return watched, "no value" // the audit failed
		}
		for _, r := range *latest {
			switch {
			case r.Monitor != monitor.Canonical(watched):
			case r.Value == nil:
				return watched, "no value"
			default:
				return watched, r.String()
			}
		}
		return watched, "unknown; there are " + names(*latest)
	}
}

// audit runs one audit, writes it, and shows it to the stop rules and the user. One that the context interrupts leaves
// nothing and is no error.
func (h *Hook) audit(loop *train.Loop, at audit.Moment) error {
	start := h.config.now()
	defer func() {
		h.lastAudit = h.config.now()
		h.latest = h.lastAudit.Sub(start)
		h.spent += h.latest
		h.auditing += h.latest
		h.audits++
	}()

	records, err := h.measure(at)
	if h.cancelled(err) {
		h.config.log.Info().Int64("step", at.Step).Msg("audit given up: cancelled")
		return nil
	}
	h.auditedStep = at.Step // a failed one is not tried again
	if err != nil {
		h.publish(loop, nil)
		return h.settle("the audit failed", says(err, "audit at step %d failed", at.Step))
	}
	took := h.config.now().Sub(start)

	complete := *records
	complete.Training = h.pending.Training
	h.pending.Add(records)
	if err := h.settle("a sink failed", h.flush()); err != nil {
		return err
	}
	found := monitor.Readings(&complete)
	h.publish(loop, found)
	h.logAudit(at, &complete, found, took)
	if err := h.settle("a stop rule cannot be applied", h.applyRules(at, found)); err != nil {
		return err
	}
	if err := h.settle("the best weights cannot be kept", h.keepBest(loop.Trainer.Store())); err != nil {
		return err
	}
	if h.config.onAudit == nil {
		return nil
	}
	if err := guard(func() error { h.config.onAudit(&complete); return nil }); err != nil {
		return h.settle("the function given to WithOnAudit failed", says(err, "the function given to WithOnAudit failed at step %d; the audit is kept", at.Step))
	}
	return nil
}

// publish shows the values of the latest audit to other hooks and to Metric. One that has ceased to exist is taken away: the
// value of an earlier audit would be read as that of this one.
func (h *Hook) publish(loop *train.Loop, found []monitor.Reading) {
	for key := range loop.SharedData {
		if strings.HasPrefix(key, SharedPrefix) {
			delete(loop.SharedData, key)
		}
	}
	for _, r := range found {
		if r.Value != nil {
			loop.SharedData[SharedPrefix+r.Monitor] = *r.Value
		}
	}
	h.newest.Store(&found)
}

// preflight checks the auditor once, as soon as the model has weights.
func (h *Hook) preflight(loop *train.Loop) error {
	checks, ok := h.config.auditor.(preflighter)
	if h.checked || !ok || h.config.preflight == PreflightOff || !hasWeights(loop.Trainer.Store()) {
		return nil
	}
	h.checked = true
	start := h.config.now()
	defer func() {
		took := h.config.now().Sub(start)
		h.spent += took
		h.auditing += took
	}()
	var cost audit.Forecast
	err := guard(func() (err error) {
		cost, err = checks.Preflight(h.config.ctx)
		return err
	})
	switch {
	case err == nil:
		h.latest = time.Duration(cost.Products) * cost.ProductTime
		line := h.config.log.Info()
		if h.latest > longAudit {
			line = h.config.log.Warn()
		}
		line.Float64("check_seconds", short(h.config.now().Sub(start).Seconds())).Int64("gradients", cost.Gradients)
		if cost.ProductTime > 0 {
			line.Int64("products_at_least", cost.Products).Float64("product_seconds", short(cost.ProductTime.Seconds())).
				Float64("seconds_at_least", short(float64(cost.Products)*cost.ProductTime.Seconds())).Int64("mib", cost.Bytes>>20)
		}
		if share := h.config.budget; share != nil && h.latest > 0 {
			line.Float64("seconds_between_at_least", short(h.latest.Seconds() / *share))
		}
		line.Msg("an audit will take this at least")
	case h.cancelled(err):
	case h.config.preflight == PreflightWarning:
		h.config.log.Warn().Str("error", cause.Plain(err)).Msg("audits of this model will fail or mean nothing")
	default:
		return &PreflightFault{err}
	}
	return nil
}

// longAudit is the predicted time of an audit from which on it is a warning, before the time of a training is lost to audits.
const longAudit = 5 * time.Minute

// PreflightFault is what the preflight has ended a training with.
type PreflightFault struct {
	Err error // what it has found
}

func (f *PreflightFault) Error() string {
	return "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): " + cause.Plain(f.Err)
}

func (f *PreflightFault) Unwrap() error { return f.Err }

// says is an error with what it has kept from being done, in the hook's words.
func says(err error, what string, args ...any) error {
	return cause.Say("hooks: "+fmt.Sprintf(what, args...)+": "+cause.Plain(err), err)
}

// measure runs the auditor within the time limit.
func (h *Hook) measure(at audit.Moment) (records *audit.Records, err error) {
	ctx := h.config.ctx
	if limit := h.config.timeLimit; limit > 0 {
		late := fmt.Errorf("it took longer than its limit of %v; raise it (WithTimeLimit), or make audits cheaper: a greater tolerance or lambda, or fewer probes", limit)
		var release context.CancelFunc
		ctx, release = context.WithTimeoutCause(ctx, limit, late)
		defer release()
	}
	err = guard(func() (err error) {
		records, err = h.config.auditor.Audit(ctx, at)
		return err
	})
	if err == nil && records == nil {
		err = errors.New("the auditor returned no records")
	}
	return records, err
}

// settle deals with an error as the user wants: it returns it, or notes it and trains on.
func (h *Hook) settle(what string, err error) error {
	if err == nil || h.config.failures == EndTraining {
		return err
	}
	h.note(what, err)
	return nil
}

func (h *Hook) note(what string, err error) {
	h.failures = append(h.failures, err)
	h.config.log.Error().Err(err).Int64("step", h.step).Msg(what + "; the training goes on")
}

// cancelled reports whether err comes from the end of the hook's context.
func (h *Hook) cancelled(err error) bool {
	ctx := h.config.ctx
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}

func (h *Hook) applyRules(at audit.Moment, found []monitor.Reading) error {
	var unknown []error
	for number, rule := range h.rules {
		i := slices.IndexFunc(found, func(r monitor.Reading) bool { return r.Monitor == rule.Monitor })
		var r monitor.Reading
		switch {
		case i >= 0:
			r = found[i]
		case !rule.seen:
			unknown = append(unknown, fmt.Errorf("hooks: stop rule: no audit has monitor %q; known monitors: %s", rule.Monitor, names(found)))
			continue
		}
		rule.seen = true
		if r.Value == nil {
			h.config.log.Warn().Str("monitor", rule.Monitor).Int64("step", at.Step).Str("because", r.Missing()).Msg("a stop rule's monitor has no value in this audit")
		}
		best, reason := rule.observe(at.Step, r)
		if number == 0 {
			h.atBest = best
		}
		if reason != "" && h.reason == "" {
			h.reason = fmt.Sprintf("%s, at step %d, epoch %.6g", reason, at.Step, at.Epoch)
		}
	}
	return errors.Join(unknown...)
}

// replay shows the rules the audits of this training that the history has up to a step, without those that were superseded.
func (h *Hook) replay(step int64) error {
	h.replayed, h.reason = step, ""
	for i, rule := range h.rules {
		h.rules[i] = &progress{StopRule: rule.StopRule}
	}
	history := slices.DeleteFunc(slices.Clone(h.config.history), func(row audit.CoherenceRow) bool {
		return row.Model != h.config.model || row.Seed != h.config.seed || !h.ofSeries(row.Moment)
	})
	history = attempts.Current(history, func(row *audit.CoherenceRow) *audit.Moment { return &row.Moment })
	history = slices.DeleteFunc(history, func(row audit.CoherenceRow) bool { return row.Step > step })
	slices.SortStableFunc(history, func(a, b audit.CoherenceRow) int { return cmp.Compare(a.Step, b.Step) })
	for len(history) > 0 {
		n := 1
		for n < len(history) && history[n].Step == history[0].Step {
			n++
		}
		at := history[0].Moment
		h.concluded = audit.Moment{Model: at.Model, Seed: at.Seed, Step: at.Step, Epoch: at.Epoch}
		if err := h.applyRules(at, monitor.Readings(&audit.Records{Coherence: history[:n]})); err != nil {
			return err
		}
		history = history[n:]
	}
	best, _, found := h.Best()
	h.atBest = found && best == step
	return nil
}

func names(found []monitor.Reading) string {
	var all []string
	for _, r := range found {
		all = append(all, r.Monitor)
	}
	if len(all) == 0 {
		return "none (the audit summarised no group)"
	}
	return strings.Join(all, ", ")
}

// logAudit writes the line that a person reads: the medians of each group, and what they cost.
func (h *Hook) logAudit(at audit.Moment, records *audit.Records, found []monitor.Reading, took time.Duration) {
	status, unconverged := "", 0
	for _, solve := range records.Solves {
		if solve.Status != audit.Converged {
			status = string(solve.Status)
			if solve.Explanation != nil {
				status = *solve.Explanation
			}
			unconverged++
		}
	}
	line := h.config.log.Info()
	if unconverged > 0 {
		line = h.config.log.Warn().Int("unconverged_solves", unconverged).Str("status", status)
	}
	line.Str("model", at.Model).Int64("step", at.Step).Float64("epoch", short(at.Epoch))
	if n := len(records.Training); n > 0 {
		line.Float64("loss", short(records.Training[n-1].Loss))
	}
	for _, r := range found {
		if r.Value != nil {
			line.Float64(r.Monitor, short(*r.Value))
		}
	}
	products, widest := int64(0), 0.0
	for _, solve := range records.Solves {
		if solve.MaxHalfWidth != nil {
			widest = max(widest, *solve.MaxHalfWidth)
		}
		products += solve.Products + solve.SetupProducts
	}
	line.Int64("products", products)
	if widest > 0 {
		line.Float64("half_width", short(widest))
	}
	line.Float64("seconds", short(took.Seconds())).Msg("audit")
}

// short is a value to four digits, for people.
func short(value float64) float64 {
	text := strconv.FormatFloat(value, 'g', 4, 64)
	rounded, _ := strconv.ParseFloat(text, 64)
	return rounded
}
