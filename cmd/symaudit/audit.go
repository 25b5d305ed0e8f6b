package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/trainer"
)

func newAudit(s *settings) *cobra.Command {
	var name, out, dtype string
	var relativeLambda, tolerance float64
	cmd := &cobra.Command{
		Use:   "audit <run directory>",
		Short: "audit the latest checkpoint of a model after its training",
		Long: `audit loads the latest checkpoint of one model of a run, audits it on the run's own probe states, and writes a run
directory of its own. Without flags the audit is the one that the training made; the flags change its damping and its
precision.`,
		Args: oneArgument("a run directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" || out == "" {
				return usageError{errors.New("--model and --out are needed: the model to audit and the directory to write")}
			}
			config, err := s.openedBy(cmd, args[0])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("relative-lambda") {
				config.Audit.RelativeLambda = relativeLambda
			}
			if cmd.Flags().Changed("tolerance") {
				config.Audit.Tolerance = tolerance
			}
			if cmd.Flags().Changed("dtype") {
				config.Audit.DType = dtype
			}
			choice, log, err := s.open(cmd)
			if err != nil {
				return err
			}
			progress := newProgress(oneAudit(config, name), cmd.OutOrStdout(), cmd.ErrOrStderr())
			records, err := trainer.AuditCheckpoint(cmd.Context(), config, trainer.Options{
				Backend: choice, Dir: args[0], Command: os.Args, Log: log, Watcher: progress.watcher(),
			}, name, out)
			progress.end()
			if err != nil {
				return err
			}
			progress.audited(name, records)
			fmt.Fprintf(cmd.OutOrStdout(), "audit: %s\n", out)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "model", "", "`name` of the model in the run's configuration")
	cmd.Flags().StringVar(&out, "out", "", "run `directory` to write; it must not exist")
	cmd.Flags().Float64Var(&relativeLambda, "relative-lambda", 0, "lambda / lambda_max of the metric (default the run's)")
	cmd.Flags().Float64Var(&tolerance, "tolerance", 0, "relative residual of each solve (default the run's)")
	cmd.Flags().StringVar(&dtype, "dtype", "", "`type` of the audit's numbers, float64 or float32 (default the run's)")
	return cmd
}

// oneAudit is the part of a configuration that a single audit of a model gets through, for the time it will take.
func oneAudit(config trainer.Config, name string) trainer.Config {
	config.Models = []trainer.Model{{Name: name}}
	config.Training.Epochs, config.Audit.EveryEpochs = 1, 1
	return config
}
