package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/writers"
)

func newCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check <run directory>...",
		Short: "read all of a run and name whatever is wrong with it",
		Long: `check reads every file of the tables and descriptions of runs. It names each file that is damaged, lost or left behind
by a process that was killed, rows that are there twice, and audits that lack a table, with what to do about it; the
exit code is 1 then. It changes nothing, and may be called while a run goes on.`,
		Args: someRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			faulty := 0
			for _, dir := range args {
				if checked := writers.Check(dir); len(checked.Faults) > 0 {
					faulty++
					for _, fault := range checked.Faults {
						fmt.Fprintln(cmd.OutOrStdout(), cause.Plain(fault))
					}
				} else {
					printWhole(cmd.OutOrStdout(), dir, checked)
				}
			}
			if faulty > 0 {
				return fmt.Errorf("faults in %d of %s", faulty, count(len(args), "run", "runs"))
			}
			return nil
		},
	}
}

func printWhole(out io.Writer, dir string, checked *writers.Checked) {
	fmt.Fprintf(out, "%s: whole: %s, %s, %s\n", dir, count(checked.Audits, "audit", "audits"), count(checked.Rows, "row", "rows"), count(checked.Parts, "part", "parts"))
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return grouped(n) + " " + many
}

func newCompact() *cobra.Command {
	var into string
	cmd := &cobra.Command{
		Use:   "compact <run directory>",
		Short: "copy a run into a directory with one file a table",
		Long: `compact copies a run into a new directory in which each table is one Parquet file, with the same rows in the same
order, those that a resumed run did over again too; descriptions, checkpoints and all other files are copied as they
are. The copy is read, reported and resumed as the run was. The run itself stays as it is; it must be whole (symaudit
check), and no process may write to it. The copy appears when it is complete and its rows were read back and compared.`,
		Args: oneArgument("a run directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if into == "" {
				return usageError{errors.New("--into is missing; name the directory to write, such as runs/first-compact")}
			}
			if err := writers.Compact(args[0], into); err != nil {
				return err
			}
			checked := writers.Check(into)
			if len(checked.Faults) > 0 {
				return checked.Faults[0]
			}
			printWhole(cmd.OutOrStdout(), into, checked)
			return nil
		},
	}
	cmd.Flags().StringVar(&into, "into", "", "`directory` to write; it must not exist")
	return cmd
}
