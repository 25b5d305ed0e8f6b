package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/trainer"
)

func newData(s *settings) *cobra.Command {
	data := &cobra.Command{
		Use:   "data",
		Short: "make data sets",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	data.SuggestionsMinimumDistance = 2
	data.AddCommand(newDataGenerate(s))
	return data
}

func newDataGenerate(s *settings) *cobra.Command {
	var file, out string
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "solve the Euler equations and store the trajectories",
		Long: `generate solves for the trajectories that a configuration's data section asks for, training and probes, and stores
them as NumPy arrays, <family>.npy of float32 [trajectory, time, y, x, channel], with data.json beside them. Train on
them with data.directory. Without --config, the defaults.`,
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
			if err := config.Data.Validate(); err != nil {
				return err
			}
			if err := trainer.CheckDataDirectory(out); err != nil { // before the minutes that solving takes
				return err
			}
			choice, _, err := s.open(cmd)
			if err != nil {
				return err
			}
			progress := newProgress(config, cmd.OutOrStdout(), cmd.ErrOrStderr())
			all, err := trainer.GenerateData(cmd.Context(), choice.Backend, config, progress.generating)
			progress.end()
			if err != nil {
				return err
			}
			if err := trainer.SaveData(out, config, choice.Config, all); err != nil {
				return err
			}
			for _, t := range all {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s in %s/%s.npy\n", t.Family.Label(), t.States.Shape(), out, t.Family)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML configuration `file`, of which the data section and the seed count")
	cmd.Flags().StringVar(&out, "out", "", "`directory` to write; it must not exist")
	return cmd
}
