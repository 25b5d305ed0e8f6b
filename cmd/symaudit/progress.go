package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/trainer"
)

// progress prints a line for each audit to out and, where standard error is a terminal, a bar with the time left.
type progress struct {
	out    io.Writer
	bar    *progressbar.ProgressBar // nil without a terminal
	config trainer.Config
	header bool

	start, last  time.Time
	steps, parts work // training steps and parts of audits
	epochSteps   int  // training steps of an epoch
	modelSteps   int  // done of the model going on
	checkpoints  int  // to audit after a training; 0 in one
	audits       int  // of checkpoints that are done
}

// work is one of the kinds of work a run is made of; its time per unit says how long the rest will take.
type work struct {
	done, total int // over all models
	seen        int // units this process has timed
	spent       time.Duration
}

func (w work) left() time.Duration {
	if w.seen == 0 {
		return 0
	}
	return time.Duration(float64(w.spent) / float64(w.seen) * float64(w.total-w.done))
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

func newProgress(config trainer.Config, stdout, stderr io.Writer) *progress {
	now := time.Now()
	p := &progress{out: stdout, config: config, start: now, last: now}
	if isTerminal(stderr) {
		p.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(stderr), progressbar.OptionSetWidth(30),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
			progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

func (p *progress) watcher() trainer.Watcher {
	return trainer.Watcher{
		Generating: p.generating, Step: p.step, AuditPart: p.auditPart, Audited: p.audited,
		Stopped: func(model, reason string) {
			p.clear()
			fmt.Fprintf(p.out, "%s stopped early: %s\n", model, reason)
		},
	}
}

func (p *progress) generating(done, total int) {
	p.last = time.Now()
	p.show(fmt.Sprintf("solving Euler's equations, trajectory %d of %d", done, total), float64(done)/float64(total), 0)
}

func (p *progress) step(model string, done, total int) {
	p.modelSteps, p.epochSteps = done, total/p.config.Training.Epochs
	p.steps.done, p.steps.total = p.index(model)*total+done, len(p.config.Trainings())*total
	p.timed(&p.steps)
	p.showRun(fmt.Sprintf("%s, step %d of %d", model, done, total))
}

func (p *progress) auditPart(model string, done, total int) {
	every, epochs := p.config.Audit.EveryEpochs, p.config.Training.Epochs
	audits := (epochs + every - 1) / every
	finished := 0 // of this model; the step that an audit follows is reported after it
	if p.epochSteps > 0 {
		finished = p.modelSteps / p.epochSteps / every
	}
	before, all := p.index(model)*audits+finished, len(p.config.Trainings())*audits
	switch {
	case p.checkpoints > 0:
		before, all = p.audits, p.checkpoints
	case p.config.Audit.Schedule != "": // nobody knows how many there will be
		before, all = 0, 1
	}
	p.parts.done, p.parts.total = before*total+done, all*total
	p.timed(&p.parts)
	p.showRun(fmt.Sprintf("%s, audit: part %d of %d", model, done, total))
}

func (p *progress) index(model string) int {
	return slices.Index(p.config.Trainings(), model)
}

// timed charges the time since the event before to this kind of work.
func (p *progress) timed(w *work) {
	now := time.Now()
	w.spent += now.Sub(p.last)
	w.seen++
	p.last = now
}

func (p *progress) showRun(what string) {
	left := p.steps.left() + p.parts.left()
	elapsed := time.Since(p.start)
	if p.parts.seen == 0 {
		left = 0 // audits take most of the time and none is timed yet
	}
	fraction := 0.0
	if left > 0 {
		fraction = float64(elapsed) / float64(elapsed+left)
	}
	p.show(what, fraction, left)
}

func (p *progress) show(what string, fraction float64, left time.Duration) {
	if p.bar == nil {
		return
	}
	if left > 0 {
		what += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	p.bar.Describe(what)
	_ = p.bar.Set(min(999, int(1000*fraction))) // a bar that cannot be drawn is no reason to stop
}

func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear() // as above
	}
}

func (p *progress) end() { p.clear() }

// audited prints one line: per group the median cosine with its certified bounds, or after a ~ where nothing is certified, and the
// errors, of its non-identity elements, and how long the solves took. Lines below it say what is amiss.
func (p *progress) audited(model string, records *audit.Records) {
	p.clear()
	p.audits++
	if len(records.Coherence) == 0 { // a part of an audit
		fmt.Fprintf(p.out, "%-*s step %d: %d solves\n", p.nameWidth(), model, records.Solves[0].Step, len(records.Solves))
		return
	}
	if !p.header {
		p.header = true
		fmt.Fprintln(p.out, p.heading())
	}
	fmt.Fprintln(p.out, p.line(model, records))
}

const (
	groupWidth     = 32 // of the three columns of a group
	directionWidth = 12 // of that of a direction but the first
)

// short is a direction's name within its column.
func short(direction string) string { return direction[:min(len(direction), directionWidth)] }

// nameWidth is that of the column of models.
func (p *progress) nameWidth() int {
	widest := len("model ")
	for _, name := range p.config.Trainings() {
		widest = max(widest, len(name))
	}
	return widest
}

func (p *progress) heading() string {
	var top, bottom strings.Builder
	fmt.Fprintf(&top, "%-*s %6s %8s", p.nameWidth(), "", "", "training")
	fmt.Fprintf(&bottom, "%-*s %6s %8s", p.nameWidth(), "model", "epoch", "loss")
	directions := p.config.Audit.DirectionNames()
	for _, g := range p.config.Audit.Groups {
		name := g.Name
		if directions[0] != audit.LossName {
			name += ", " + directions[0]
		}
		fmt.Fprintf(&top, "   %-*s", groupWidth, name)
		fmt.Fprintf(&bottom, "   %12s %8s %10s", "coherence", "target", "commutator")
		for _, direction := range directions[1:] {
			fmt.Fprintf(&top, " %*s", directionWidth, short(direction))
			fmt.Fprintf(&bottom, " %*s", directionWidth, "coherence")
		}
	}
	fmt.Fprintf(&bottom, "  %7s", "seconds")
	return strings.TrimRight(top.String(), " ") + "\n" + bottom.String()
}

func (p *progress) line(model string, records *audit.Records) string {
	var b strings.Builder
	epoch, loss := 0.0, "-"
	if n := len(records.Training); n > 0 {
		loss = fmt.Sprintf("%.2e", records.Training[n-1].Loss)
	}
	var groups strings.Builder
	var remarks []string
	group := ""
	for _, row := range records.Summaries() {
		epoch = row.Epoch
		coherence := "-"
		switch {
		case row.Median == nil:
		case row.MedianLow != nil:
			coherence = fmt.Sprintf("%.3f±%.3f", *row.Median, max(*row.MedianHigh-*row.Median, *row.Median-*row.MedianLow))
		default:
			coherence = fmt.Sprintf("~%.3f", *row.Median) // nothing encloses it; the solves' explanations follow
		}
		if row.GroupName == group { // in another direction
			fmt.Fprintf(&groups, " %*s", directionWidth, coherence)
			continue
		}
		group = row.GroupName
		fmt.Fprintf(&groups, "   %12s %8s %10s", coherence, errorOr(row.MedianTargetError), errorOr(row.MedianCommutatorError))
		for what, finite := range map[string]int32{"target": row.NFiniteTargetErrors, "commutator": row.NFiniteCommutatorErrors} {
			if finite < row.NErrors {
				remarks = append(remarks, fmt.Sprintf("%s: %d of %d %s errors are not finite", row.GroupName, row.NErrors-finite, row.NErrors, what))
			}
		}
	}
	slices.Sort(remarks)
	seconds := 0.0
	for _, solve := range records.Solves {
		seconds += solve.Seconds
		if solve.Status != audit.Converged && solve.Explanation != nil {
			remarks = append(remarks, fmt.Sprintf("%s, batch %d: %s: %s", solve.GroupName, solve.Batch, solve.Status, *solve.Explanation))
		}
	}
	fmt.Fprintf(&b, "%-*s %6.2f %8s%s  %7.1f", p.nameWidth(), model, epoch, loss, groups.String(), seconds)
	for _, remark := range slices.Compact(remarks) { // of several lambdas one may say the same
		fmt.Fprintf(&b, "\n       %s", remark)
	}
	return b.String()
}

// errorOr is a median error, or a dash where it has none.
func errorOr(median *float64) string {
	if median == nil {
		return "-"
	}
	return fmt.Sprintf("%.2e", *median)
}
