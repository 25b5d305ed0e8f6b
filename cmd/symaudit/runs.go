package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/writers"
)

func newRuns() *cobra.Command {
	return &cobra.Command{
		Use:   "runs <directory>",
		Short: "list the runs below a directory",
		Long: `runs lists the runs below a directory, one a line: where it is, what made it, its state, its models, when it began, its
last step and epoch, and the last coherence of each group. A run is running while a process holds it open; otherwise
it has finished, or was stopped by a rule or interrupted, or has ended without a word, as one that was killed; of a
run whose lock cannot be read, as that of another user, it is not known.
A damaged run is listed with what is wrong with it, and the exit code is 1 then. Hidden folders are passed over,
and those more than eight below one another.`,
		Args: oneArgument("a directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, unread := writers.Find(args[0])
			if len(found) == 0 && unread == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "no runs below %s; name the directory that runs were written to (--dir of symaudit train)\n", args[0])
				return nil
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			if len(found) > 0 {
				fmt.Fprintln(table, "run\tkind\tstate\tmodels\tbegun, UTC\tstep\tepoch\tcoherence")
			}
			damaged := 0
			for _, dir := range found {
				line, err := lineOf(dir)
				if err != nil {
					damaged++
					line = []string{dir, "-", "damaged", cause.Plain(err)}
				}
				fmt.Fprintln(table, strings.Join(line, "\t"))
			}
			if err := table.Flush(); err != nil {
				return err
			}
			switch {
			case unread != nil:
				return unread
			case damaged > 0:
				return fmt.Errorf("damage in %d of %s; symaudit check names all that is wrong with a run", damaged, count(len(found), "run", "runs"))
			}
			return nil
		},
	}
}

func lineOf(dir string) ([]string, error) {
	contents, err := writers.Read(dir, "training", "decisions", "coherence")
	if err != nil {
		return nil, err
	}
	var models, coherences []string
	var last *audit.Moment
	all := trainingsOf(contents)
	for _, t := range all {
		if !slices.Contains(models, t.model) {
			models = append(models, t.model)
		}
		if t.last != nil && (last == nil || t.last.Step > last.Step) {
			last = t.last
		}
	}
	for _, t := range all {
		var said []string
		for _, q := range groupsOf(t.audits) {
			for _, records := range slices.Backward(t.audits) {
				if row := q.in(records); row != nil {
					said = append(said, strings.ReplaceAll(q.String(), ", ", "/")+" "+cosine(row.Median))
					break
				}
			}
		}
		if t.decision != nil && t.decision.Decision == audit.Stopped {
			said = append(said, describeDecision(t.decision))
		}
		seeded := slices.ContainsFunc(all, func(other *training) bool { return other.model == t.model && other.seed != t.seed })
		switch {
		case len(said) > 0 && seeded:
			said[0] = t.label() + ": " + said[0]
		case len(said) > 0 && len(models) > 1:
			said[0] = t.model + ": " + said[0]
		}
		coherences = append(coherences, said...)
	}
	step, epoch := "-", "-"
	if last != nil {
		step, epoch = fmt.Sprint(last.Step), epochOr(last.Epoch)
	}
	return []string{dir, orDash(contents.Info.Kind), stateOf(dir, contents.Info, all), orDash(strings.Join(models, ", ")), minutes(contents.Info.Created), step, epoch,
		orDash(strings.Join(coherences, "; "))}, nil
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
