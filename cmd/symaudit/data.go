package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/trainer/dataset"
	"github.com/symaudit/symaudit/trainer/dataset/pdegym"
)

func newData(s *settings) *cobra.Command {
	data := &cobra.Command{
		Use:   "data",
		Short: "make data sets, look at them and check them",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	data.SuggestionsMinimumDistance = 2
	data.AddCommand(newDataGenerate(s), newDataImport(), newDataInspect(), newDataVerify())
	return data
}

func newDataGenerate(s *settings) *cobra.Command {
	var file, out string
	var resume, dry bool
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "solve the Euler equations and store the trajectories",
		Long: `generate solves for the trajectories that a configuration's data section asks for, training, validation and probes, and stores
them as NumPy arrays, <family>.npy of float32 [trajectory, time, y, x, channel], with data.json beside them. Train on
them with data.directory. Without --config, the defaults. A trajectory depends on the seed, its family and its number
alone. What is done is written as it is done: a killed or interrupted generation goes on with --resume.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" && (resume || !dry) {
				return usageError{errors.New("--out is missing; name the directory to write, such as data/euler-32")}
			}
			config := trainer.Default()
			if file != "" {
				var err error
				if config, err = readConfig(file); err != nil {
					return err
				}
			}
			if config.Data.Directory != "" {
				return fmt.Errorf("data.directory is %q, whose data are there already; leave the key out to generate data", config.Data.Directory)
			}
			if err := config.Data.Validate(); err != nil {
				return err
			}
			if _, err := trainer.PlanData("", config, out, resume); err != nil && !resume { // before a backend is opened
				return err
			}
			choice, _, err := s.open(cmd)
			if err != nil {
				return err
			}
			plan, err := trainer.PlanData(choice.Config, config, out, resume)
			if complete(cmd, err) {
				return nil
			}
			if err != nil {
				return err
			}
			need, err := plan.Estimate(choice.Backend)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d of %d trajectories to solve for, %s; %s%s when all are there\n",
				plan.Missing, plan.Total, about(need), rounded(plan.Bytes), in(out))
			if dry {
				return nil
			}
			progress := newProgress(config, cmd.OutOrStdout(), cmd.ErrOrStderr())
			set, err := trainer.GenerateData(cmd.Context(), choice.Backend, choice.Config, config, out, resume, progress.generating)
			progress.end()
			if err != nil {
				return kept(cmd, err)
			}
			defer set.Close()
			for _, family := range set.Families {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d trajectories of %d snapshots in %s/%s.npy\n", family.Label, set.Trajectories, set.Snapshots, out, family.Name)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML configuration `file`, of which the data section and the seed count")
	cmd.Flags().StringVar(&out, "out", "", "`directory` to write; it must not exist. --dry-run does without")
	cmd.Flags().BoolVar(&resume, "resume", false, "go on with what an earlier call has left in <out>.partial")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say how long it would take and how large the data would be, and write nothing")
	return cmd
}

// in is where data are written, of a sentence that --dry-run may print without.
func in(out string) string {
	if out == "" {
		return ""
	}
	return " in " + out
}

func newDataImport() *cobra.Command {
	var out string
	var text, resume, dry bool
	var interval float64
	counts := pdegym.All
	cmd := &cobra.Command{
		Use:   "import <folder of a family>...",
		Short: "make a data set of PDEGym's files of the Euler equations",
		Long: `import reads PDEGym's files of CE-RP, CE-CRP and CE-RPUI, as they are downloaded: a folder for each family, named as it is, with
data_0.nc, data_1.nc and so on, or single files as CE-RP=some/data_0.nc. Velocities become momenta; density and energy are
taken as they are. Splits are those of the collection: of N trajectories the last 2.4 % for test, the 1.2 % before them for
validation. --train, --validation and --test take the first of each. What is imported is written as it is read: a killed or
interrupted import goes on with --resume.

    symaudit data import CE-RP CE-CRP CE-RPUI --train 5000 --out data/pdegym`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError{errors.New("there is nothing to import; name the folder of a family, such as CE-RP")}
			case out == "" && (resume || !dry):
				return usageError{errors.New("--out is missing; name the directory to write, such as data/pdegym")}
			}
			for name, value := range map[string]int{"train": counts.Train, "validation": counts.Validation, "test": counts.Test} {
				if cmd.Flags().Changed(name) && value < 0 {
					return usageError{fmt.Errorf("--%s is %d; it must be a number of trajectories, or be left out for all", name, value)}
				}
			}
			order := pdegym.Numeric
			if text {
				order = pdegym.Text
			}
			sources, err := pdegym.Sources(args, order)
			if err != nil {
				return err
			}
			m, err := pdegym.NewImport(sources, counts, order, interval)
			if err != nil {
				return err
			}
			defer m.Close()
			if unknown := m.Unknown(); len(unknown) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s: only CE-RP, CE-CRP and CE-RPUI are known to be in PDEGym's layout of the Euler equations; check channels and orientation with symaudit data verify\n", strings.Join(unknown, ", "))
			}
			missing, err := m.Plan(out, resume)
			if complete(cmd, err) {
				return nil
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d of %d trajectories to import; %s%s when all are there\n", missing, len(m.Families)*m.Trajectories, rounded(m.Bytes()), in(out))
			if dry {
				return nil
			}
			progress := newProgress(trainer.Config{}, cmd.OutOrStdout(), cmd.ErrOrStderr())
			begun, before := time.Now(), len(m.Families)*m.Trajectories-missing
			set, differing, err := m.Run(cmd.Context(), out, resume, func(done, total int) {
				left := time.Duration(float64(time.Since(begun)) / float64(done-before) * float64(total-done))
				progress.show(fmt.Sprintf("importing trajectory %d of %d", done, total), float64(done)/float64(total), left)
			})
			progress.end()
			if err != nil {
				return kept(cmd, err)
			}
			defer set.Close()
			if differing > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: in up to %.2g %% of a trajectory's cells the energy is not that of pressure, density and velocity to 1 %%; it is taken as stored\n", 100*differing)
			}
			inspect(cmd.OutOrStdout(), set)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`directory` to write; it must not exist. --dry-run does without")
	cmd.Flags().IntVar(&counts.Train, "train", -1, "`number` of trajectories of each family to train on (default all)")
	cmd.Flags().IntVar(&counts.Validation, "validation", -1, "`number` of trajectories of each family for validation (default all)")
	cmd.Flags().IntVar(&counts.Test, "test", -1, "`number` of trajectories of each family for test, from which audits take their probes (default all)")
	cmd.Flags().Float64Var(&interval, "interval", 0.05, "`time` between snapshots, in which velocity 1 crosses so much of the domain")
	cmd.Flags().BoolVar(&text, "text-order", false, "put the files of a folder in the order of their names as text, data_0, data_1, data_10, ..., as PDEGym's own program does")
	cmd.Flags().BoolVar(&resume, "resume", false, "go on with what an earlier call has left in <out>.partial")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say how much it would be, and write nothing")
	for _, name := range []string{"train", "validation", "test"} {
		cmd.Flags().Lookup(name).DefValue = "0" // which pflag does not print
	}
	return cmd
}

func newDataInspect() *cobra.Command {
	var pictures string
	var count int
	cmd := &cobra.Command{
		Use:   "inspect <data directory>",
		Short: "say what a data set holds, with statistics and pictures",
		Long: `inspect prints what the data in a directory are: field, grid, times, families, splits, and of each family and channel
the mean, standard deviation, least and greatest value over all its states. With --pictures it draws trajectories, too.`,
		Args: oneArgument("a data directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := dataset.Open(args[0])
			if err != nil {
				return err
			}
			defer set.Close()
			if count < 1 {
				return usageError{fmt.Errorf("--trajectories is %d; it must be at least 1", count)}
			}
			inspect(cmd.OutOrStdout(), set)
			if pictures == "" {
				return nil
			}
			if err := os.MkdirAll(pictures, 0o777); err != nil {
				return fmt.Errorf("--pictures is %s, where no folder can be made: %w", pictures, err)
			}
			for f, family := range set.Families {
				for trajectory := range min(count, set.Trajectories) {
					png, err := set.Picture(f, trajectory)
					if err != nil {
						return err
					}
					path := filepath.Join(pictures, fmt.Sprintf("%s-%d.png", family.Name, trajectory))
					if err := os.WriteFile(path, png, 0o666); err != nil {
						return err
					}
					fmt.Fprintf(cmd.OutOrStdout(), "picture: %s\n", path)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&pictures, "pictures", "", "`folder` for PNG pictures: of each trajectory a row for each channel and a column for each of six times")
	cmd.Flags().IntVar(&count, "trajectories", 2, "`number` of trajectories to draw, of each family, the first ones")
	return cmd
}

// inspect prints what a data set holds.
func inspect(out io.Writer, set *dataset.Set) {
	rows := "up, with +y"
	if set.Field.RowDown {
		rows = "down, as in an image"
	}
	fmt.Fprintf(out, "families   %d, %d trajectories of each; %s\n", len(set.Families), set.Trajectories, rounded(set.Bytes()))
	fmt.Fprintf(out, "snapshots  %d, every %g in time\n", set.Snapshots, set.Interval)
	fmt.Fprintf(out, "grid       %s; rows run %s\n", strings.Trim(strings.ReplaceAll(fmt.Sprint(set.Grid), " ", "x"), "[]"), rows)
	for i, split := range set.Splits {
		head := "splits"
		if i > 0 {
			head = ""
		}
		fmt.Fprintf(out, "%-10s %-10s %d trajectories of each family, from number %d on\n", head, split.Name, split.Count, split.First)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nfamily\tchannel\tmean\tdeviation\tleast\tgreatest\t")
	for f, family := range set.Families {
		statistics := set.Statistics([]int{f}, "", set.Trajectories)
		for c, channel := range set.Field.Channels {
			fmt.Fprintf(table, "%s\t%s\t%.4g\t%.4g\t%.4g\t%.4g\t\n", family.Label, channel,
				statistics.Mean[c], statistics.Deviation(c), statistics.Least[c], statistics.Greatest[c])
		}
	}
	table.Flush()
}

func newDataVerify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify <data directory>",
		Short: "compare data with the hashes of when they were written, and their field with how they behave",
		Long: `verify reads all the data in a directory. Each trajectory must have the hash that it had when it was written. Then a law is
fitted to steps of a few trajectories, which tells whether the field is declared as they behave: a wrong orientation of rows, swapped
components of a vector or channels wrongly declared as a vector are named, with what is right.`,
		Args: oneArgument("a data directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := dataset.Open(args[0])
			if err != nil {
				return err
			}
			defer set.Close()
			progress := newProgress(trainer.Config{}, cmd.OutOrStdout(), cmd.ErrOrStderr())
			err = set.Verify(func(done, total int) {
				progress.show(fmt.Sprintf("reading trajectory %d of %d", done, total), float64(done)/float64(total), 0)
			})
			progress.end()
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d trajectories are as they were written\n", len(set.Families)*set.Trajectories)
			doubt, err := set.CheckField()
			switch {
			case err != nil:
				return err
			case doubt != "":
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: whether the field is declared as the states behave cannot be told: %s\n", doubt)
			default:
				fmt.Fprintln(cmd.OutOrStdout(), "the field is declared as the states behave")
			}
			return nil
		},
	}
}

// kept adds to the error of work that was interrupted how it goes on.
func kept(cmd *cobra.Command, err error) error {
	if cmd.Context().Err() == nil {
		return err
	}
	return fmt.Errorf("%w; what is done is kept, go on with --resume", err)
}

// complete reports whether nothing is left to do, and says so: for a job that is queued again that is no failure.
func complete(cmd *cobra.Command, err error) bool {
	var done *dataset.CompleteError
	if !errors.As(err, &done) {
		return false
	}
	fmt.Fprintln(cmd.OutOrStdout(), cause.Plain(done))
	return true
}

// about is a time that is judged by a part of the work.
func about(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("about %.0f s", max(1, d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("about %.0f min", d.Minutes())
	case d < 3*24*time.Hour:
		return fmt.Sprintf("about %.1f h", d.Hours())
	}
	return fmt.Sprintf("about %.0f days", d.Hours()/24)
}

// rounded is a number of bytes in words.
func rounded(bytes int64) string {
	n, unit := float64(bytes), "bytes"
	for _, larger := range byteUnits {
		if n < 1024 {
			break
		}
		n, unit = n/1024, larger
	}
	return fmt.Sprintf("%.4g %s", n, unit)
}
