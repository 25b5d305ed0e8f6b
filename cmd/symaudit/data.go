package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/trainer"
)

func newData(s *settings) *cobra.Command {
	data := &cobra.Command{
		Use:   "data",
		Short: "make data sets, look at them and check them",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	data.SuggestionsMinimumDistance = 2
	data.AddCommand(newDataGenerate(s))
	return data
}

func newDataGenerate(s *settings) *cobra.Command {
	var file, out string
	var resume, dry bool
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "solve the Euler equations and store the trajectories",
		Long: `generate solves for the trajectories that a configuration's data section asks for, training and probes, and stores
them as NumPy arrays, <family>.npy of float32 [trajectory, time, y, x, channel], with data.json beside them. Train on
them with data.directory. Without --config, the defaults. A trajectory depends on the seed, its family and its number
alone. What is done is written as it is done: a killed or interrupted generation goes on with --resume.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
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
			if err != nil {
				return err
			}
			need, err := plan.Estimate(choice.Backend)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d of %d trajectories to solve for, %s; %s in %s when all are there\n",
				plan.Missing, plan.Total, about(need), rounded(plan.Bytes), out)
			if dry {
				return nil
			}
			progress := newProgress(config, cmd.OutOrStdout(), cmd.ErrOrStderr())
			set, err := trainer.GenerateData(cmd.Context(), choice.Backend, choice.Config, config, out, resume, progress.generating)
			progress.end()
			if err != nil && cmd.Context().Err() != nil {
				return fmt.Errorf("%w; what is done is kept, go on with --resume", err)
			}
			if err != nil {
				return err
			}
			defer set.Close()
			for _, family := range set.Families {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d trajectories of %d snapshots in %s/%s.npy\n", family.Label, set.Trajectories, set.Snapshots, out, family.Name)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML configuration `file`, of which the data section and the seed count")
	cmd.Flags().StringVar(&out, "out", "", "`directory` to write; it must not exist")
	cmd.Flags().BoolVar(&resume, "resume", false, "go on with what an earlier call has left in <out>.partial")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say how long it would take and how large the data would be, and write nothing")
	return cmd
}

// about is a time that is judged by a part of the work.
func about(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("about %.0f s", max(1, d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("about %.0f min", d.Minutes())
	}
	return fmt.Sprintf("about %.1f h", d.Hours())
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
	return fmt.Sprintf("%.3g %s", n, unit)
}
