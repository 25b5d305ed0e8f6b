package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/attempts"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
)

const (
	textWidth = 100 // columns of what show prints
	timeOfDay = "2006-01-02 15:04:05 UTC"
	columns   = "%9s %8s %9s %16s %16s %8s %9s %10s" // of an audit
)

// summarised are the tables that summaries are made from; the large ones are not among them.
var summarised = []string{"training", "decisions", "solves", "coherence"}

func newShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show <run directory>",
		Short: "print a summary of a run",
		Long: `show prints what was trained, when and on what, how it ended, and for each training and group of symmetries the
first and the last audit: the median coherence, the certified interval that encloses it, quartiles, how many cosines
it is of, and the median errors. It may be called while the run goes on.`,
		Args: oneArgument("a run directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return show(cmd.OutOrStdout(), args[0])
		},
	}
}

func show(out io.Writer, dir string) error {
	contents, err := writers.Read(dir, summarised...)
	if err != nil {
		return err
	}
	all := trainingsOf(contents)
	facts := [][2]string{{"run", contents.Info.RunID}, {"kind", strings.TrimSpace(contents.Info.Kind + " " + contents.Info.Shard)}, {"state", stateOf(dir, contents.Info, all)}, {"begun", begun(contents)},
		{"command", strings.Join(contents.Info.Command, " ")}, {"backend", contents.Info.Backend}, {"versions", versionsOf(contents.Info)},
		{"seeds", strings.Trim(fmt.Sprint(contents.Info.Seeds), "[]")}}
	for _, fact := range facts {
		if fact[1] != "" {
			wrap(out, fmt.Sprintf("%-10s", fact[0]), fact[1])
		}
	}
	for _, t := range all {
		fmt.Fprintln(out)
		t.show(out, len(contents.Resumes) > 0)
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "\nnothing has been trained or audited yet")
	}
	return nil
}

func begun(contents *writers.Contents) string {
	at := contents.Info.Created.UTC().Format(timeOfDay)
	if n := len(contents.Resumes); n > 0 {
		at += fmt.Sprintf("; attempt %d began %s", n+1, contents.Resumes[n-1].Created.UTC().Format(timeOfDay))
	}
	return at
}

func versionsOf(info writers.Info) string {
	var all []string
	for _, part := range [][2]string{{"symaudit", info.Versions.Symaudit}, {"revision", info.Revision}, {"Go", strings.TrimPrefix(info.Versions.Go, "go")},
		{"GoMLX", info.Versions.GoMLX}, {"go-xla", info.Versions.GoXLA}} {
		if part[1] != "" {
			all = append(all, part[0]+" "+part[1])
		}
	}
	return strings.Join(all, ", ")
}

// training is what a run holds of one training, of audits with the same settings.
type training struct {
	model      string
	seed       int64
	from, to   int32 // attempts [from, to)
	parameters int64 // 0 where no table says
	last       *audit.Moment
	loss       *float64 // of the last training step
	decision   *audit.DecisionRow
	solves     []*audit.SolveRow
	audits     []*audit.Records // of coherence alone, by step
}

func (t *training) label() string { return fmt.Sprintf("%s, seed %d", t.model, t.seed) }

// trainingsOf are in the order in which they first wrote.
func trainingsOf(contents *writers.Contents) (all []*training) {
	find := func(m audit.Moment) *training {
		at := slices.IndexFunc(all, func(t *training) bool {
			return t.model == m.Model && t.seed == m.Seed && t.from <= m.Attempt && m.Attempt < t.to
		})
		if at < 0 {
			at = len(all)
			from, to := contents.Series(m)
			all = append(all, &training{model: m.Model, seed: m.Seed, from: from, to: to})
		}
		return all[at]
	}
	for _, info := range append([]writers.Info{contents.Info}, contents.Resumes...) {
		for _, described := range info.Trainings {
			find(audit.Moment{Model: described.Model, Seed: described.Seed, Attempt: info.Attempt})
		}
	}
	records := &contents.Records
	for _, m := range records.Moments() {
		if t := find(*m); t.last == nil || attempts.Later(m, t.last) {
			t.last = m
		}
	}
	for i := range records.Training {
		row := &records.Training[i]
		find(row.Moment).loss = &row.Loss
	}
	for _, t := range all {
		t.decision = attempts.Ending(records, func(m *audit.Moment) bool { return find(*m) == t })
	}
	for i := range records.Solves {
		row := &records.Solves[i]
		t := find(row.Moment)
		t.solves = append(t.solves, row)
		if row.Parameters != nil {
			t.parameters = *row.Parameters
		}
	}
	for _, row := range records.Coherence {
		t := find(row.Moment)
		if n := len(t.audits); n == 0 || t.audits[n-1].Coherence[0].Moment != row.Moment {
			t.audits = append(t.audits, &audit.Records{})
		}
		at := t.audits[len(t.audits)-1]
		at.Coherence = append(at.Coherence, row)
	}
	return all
}

// stateOf is how a run stands: what its trainings came to where all say so.
func stateOf(dir string, info writers.Info, all []*training) string {
	switch running, err := writers.Running(dir); {
	case err != nil: // as of a run of another user
		return "not known"
	case running:
		return "running"
	}
	if info.Checkpoints != nil { // audits of these
		if trainer.AuditsFinished(dir) {
			return "finished"
		}
		return "unfinished"
	}
	var states []string
	for _, t := range all {
		if t.decision == nil {
			return "ended"
		}
		if !slices.Contains(states, t.decision.Decision) {
			states = append(states, t.decision.Decision)
		}
	}
	if len(states) == 0 {
		return "ended"
	}
	return strings.Join(states, ", ")
}

func (t *training) show(out io.Writer, resumed bool) {
	title := t.label()
	if resumed && t.from > 1 {
		title += fmt.Sprintf(", audited with other settings from attempt %d on", t.from)
	}
	if t.parameters > 0 {
		title += fmt.Sprintf(": %s parameters", grouped(t.parameters))
	}
	fmt.Fprintln(out, clip(title, textWidth))
	if t.last == nil {
		fmt.Fprintln(out, "  no step and no audit yet")
		return
	}
	said := fmt.Sprintf("step %d", t.last.Step)
	if t.last.Epoch > 0 {
		said += ", epoch " + epochOr(t.last.Epoch)
	}
	if t.loss != nil {
		said += fmt.Sprintf(", training loss %.2e", *t.loss)
	}
	wrap(out, "  trained   ", said)
	if t.decision != nil {
		wrap(out, "  ended     ", describeDecision(t.decision))
	}
	if len(t.audits) == 0 {
		wrap(out, "  audits    ", "none")
		return
	}
	first, last := t.audits[0], t.audits[len(t.audits)-1]
	said = "1, at step " + fmt.Sprint(first.Coherence[0].Step)
	if len(t.audits) > 1 {
		said = fmt.Sprintf("%d, at steps %d to %d", len(t.audits), first.Coherence[0].Step, last.Coherence[0].Step)
	}
	wrap(out, "  audits    ", said)
	t.showSolves(out)
	var remarks []string
	fmt.Fprintf(out, "  %5s "+columns+"\n", "", "step", "epoch", "coherence", "certified", "quartiles", "n", "target", "commutator")
	for _, group := range groupsOf(t.audits) {
		var rows []*audit.CoherenceRow
		for _, records := range t.audits {
			if row := group.in(records); row != nil {
				rows = append(rows, row)
			}
		}
		fmt.Fprintf(out, "  %s\n", group.title(rows[len(rows)-1]))
		if len(rows) > 1 {
			fmt.Fprintf(out, "  %-5s %s\n", "first", coherenceLine(rows[0]))
		}
		fmt.Fprintf(out, "  %-5s %s\n", "last", coherenceLine(rows[len(rows)-1]))
		for _, row := range []*audit.CoherenceRow{rows[0], rows[len(rows)-1]} {
			remarks = append(remarks, amiss(row)...)
		}
	}
	for i, remark := range remarks {
		if !slices.Contains(remarks[:i], remark) {
			wrap(out, "  ", remark)
		}
	}
}

// describeDecision is how a training ended, and with which weights.
func describeDecision(row *audit.DecisionRow) string {
	said := row.Decision
	if row.Explanation != nil && *row.Explanation != row.Decision {
		said += ": " + *row.Explanation
	}
	if row.BestStep != nil && row.BestValue != nil && row.Monitor != nil {
		said += fmt.Sprintf("; best %s %.4g at step %d", *row.Monitor, *row.BestValue, *row.BestStep)
	}
	if row.KeptStep != row.Step {
		said += fmt.Sprintf("; left with the weights of step %d", row.KeptStep)
	}
	return said
}

// showSolves counts them by how they ended, and says why some did not converge.
func (t *training) showSolves(out io.Writer) {
	if len(t.solves) == 0 {
		return
	}
	const most = 3 // reasons
	counts, causes := map[string]int{}, map[string]int{}
	var statuses, reasons []string
	for _, row := range t.solves {
		if row.Status == audit.Converged {
			continue
		}
		status := string(row.Status)
		if counts[status]++; counts[status] == 1 {
			statuses = append(statuses, status)
		}
		if row.Explanation == nil {
			continue
		}
		reason := status + ": " + *row.Explanation
		if causes[reason]++; causes[reason] == 1 {
			reasons = append(reasons, reason)
		}
	}
	said := fmt.Sprintf("%d, all converged", len(t.solves))
	if len(statuses) > 0 {
		var all []string
		for _, status := range statuses {
			all = append(all, fmt.Sprintf("%d %s", counts[status], status))
		}
		said = fmt.Sprintf("%d, not converged: %s", len(t.solves), strings.Join(all, ", "))
	}
	wrap(out, "  solves    ", said)
	for _, reason := range reasons[:min(most, len(reasons))] {
		wrap(out, "            ", fmt.Sprintf("%d× %s", causes[reason], reason))
	}
	if more := len(reasons) - most; more > 0 {
		wrap(out, "            ", fmt.Sprintf("and for %d more reasons: column explanation of table solves", more))
	}
}

// question is a group in a direction.
type question struct{ group, direction string }

// groupsOf are in the order of the audits.
func groupsOf(audits []*audit.Records) (all []question) {
	for _, records := range audits {
		for _, row := range records.Summaries() {
			if q := (question{row.GroupName, row.Direction}); !slices.Contains(all, q) {
				all = append(all, q)
			}
		}
	}
	return all
}

func (q question) String() string {
	if q.direction == "" || q.direction == audit.LossName {
		return q.group
	}
	return q.group + ", " + q.direction
}

// in is the summary of one audit, at its smallest damping.
func (q question) in(records *audit.Records) *audit.CoherenceRow {
	for _, row := range records.Summaries() {
		if q == (question{row.GroupName, row.Direction}) {
			return row
		}
	}
	return nil
}

func (q question) title(row *audit.CoherenceRow) string {
	said := q.String()
	switch {
	case row.RelativeLambda != nil:
		said += fmt.Sprintf(", damping %g of lambda_max", *row.RelativeLambda)
	case row.Lambda != nil:
		said += fmt.Sprintf(", damping %g", *row.Lambda)
	}
	if row.Metric != "" {
		said += ", metric " + row.Metric
	}
	return clip(said, textWidth-2)
}

func coherenceLine(row *audit.CoherenceRow) string {
	return fmt.Sprintf(columns, fmt.Sprint(row.Step), epochOr(row.Epoch), cosine(row.Median), enclosing(row.MedianLow, row.MedianHigh),
		interval(row.Q25, row.Q75), fmt.Sprint(row.N), errorOr(row.MedianTargetError), errorOr(row.MedianCommutatorError))
}

// epochOr is how many epochs there were, or a dash where their length was not known.
func epochOr(epoch float64) string {
	switch {
	case epoch <= 0:
		return "-"
	case epoch < 10000:
		return fmt.Sprintf("%.2f", epoch)
	}
	return fmt.Sprintf("%.3g", epoch)
}

func cosine(value *float64) string {
	if value == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f", *value)
}

func interval(low, high *float64) string {
	if low == nil || high == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f to %.3f", *low, *high)
}

// enclosing is an interval whose ends are rounded outwards, so that what is certified of it stays true.
func enclosing(low, high *float64) string {
	if low == nil || high == nil {
		return "-"
	}
	down, up := math.Floor(*low*1000)/1000, math.Ceil(*high*1000)/1000
	return interval(&down, &up)
}

// amiss says what an audit has no value of.
func amiss(row *audit.CoherenceRow) (all []string) {
	at := fmt.Sprintf("%s, step %d", clip(row.GroupName, textWidth/2), row.Step)
	if row.NWithoutCosine > 0 {
		all = append(all, fmt.Sprintf("%s: %d of %d have no cosine, as a gradient vanishes", at, row.NWithoutCosine, row.N+row.NWithoutCosine))
	}
	for _, errors := range []struct {
		name   string
		finite int32
	}{{"target", row.NFiniteTargetErrors}, {"commutator", row.NFiniteCommutatorErrors}} {
		if errors.finite < row.NErrors {
			all = append(all, fmt.Sprintf("%s: %d of %d %s errors are not finite", at, row.NErrors-errors.finite, row.NErrors, errors.name))
		}
	}
	return all
}

// wrap prints text after a heading, on as many lines as it takes, indented below one another.
func wrap(out io.Writer, heading, text string) {
	column := len(heading)
	line := heading
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && len([]rune(line))+1+len([]rune(word)) > textWidth {
			fmt.Fprintln(out, line)
			line, empty = strings.Repeat(" ", column), true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	fmt.Fprintln(out, strings.TrimRight(line, " "))
}

func clip(text string, most int) string {
	if letters := []rune(text); len(letters) > most {
		return string(letters[:most-1]) + "…"
	}
	return text
}

// grouped is a count with a comma at each thousand.
func grouped[N int | int64](n N) string {
	digits := fmt.Sprint(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// minutes is a time in a table.
func minutes(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }
