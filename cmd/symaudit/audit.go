package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
)

func newAudit(s *settings) *cobra.Command {
	var name, out string
	var local, layers, spectrum, pictures bool
	cmd := &cobra.Command{
		Use:   "audit <run directory>",
		Short: "audit the latest checkpoint of a model after its training",
		Long: `audit loads the latest checkpoint of one model of a run, audits it on the run's own probe states, and writes a run
directory of its own. Without flags the audit is the one that the training made; the flags change its damping, metric,
estimator and precision, what influence is of, and ask for the shares of layers and the metric's spectrum.`,
		Args: oneArgument("a run directory"),
	}
	change := auditFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.auditCheckpoint(cmd, args[0], name, out, func(config *trainer.Config) {
			change(config)
			for flag, set := range map[string]func(){
				"local-errors": func() { config.Audit.LocalErrors = local },
				"layers":       func() { config.Audit.Layers = layers },
				"pictures":     func() { config.Audit.Pictures = pictures },
				"spectrum":     func() { config.Audit.Spectrum = spectrum },
			} {
				if cmd.Flags().Changed(flag) {
					set()
				}
			}
		}, func(config trainer.Config, options trainer.Options) (*audit.Records, error) {
			records, err := trainer.AuditCheckpoint(cmd.Context(), config, options, name, out)
			var occupied *writers.OccupiedError
			if errors.As(err, &occupied) {
				return nil, fmt.Errorf("%s already holds a run; choose another directory for --out", out)
			}
			return records, err
		})
	}
	cmd.Flags().StringVar(&name, "model", "", "`name` of the model in the run's configuration")
	cmd.Flags().StringVar(&out, "out", "", "run `directory` to write; it must not exist")
	cmd.Flags().BoolVar(&local, "local-errors", false, "also write table local_errors: the model's Lie derivatives under translations, boosts and scalings (default the run's)")
	cmd.Flags().BoolVar(&layers, "layers", false, "also write table layers: the share of each layer in the influence, for about three times the products (default the run's)")
	cmd.Flags().BoolVar(&pictures, "pictures", false, "also write table pictures: states and outputs of the samples that commute best, in the middle and worst (default the run's)")
	cmd.Flags().BoolVar(&spectrum, "spectrum", false, "also write table spectrum, the metric's Ritz values, and the effective dimension at each lambda (default the run's)")
	return cmd
}

// auditFlags adds the flags that change an audit, and returns what changes a configuration by those that were given.
func auditFlags(cmd *cobra.Command) (change func(*trainer.Config)) {
	var dtype, metric, scale, over, estimator string
	var relativeLambdas []float64
	var directions []string
	var draws int
	var tolerance float64
	cmd.Flags().Float64SliceVar(&relativeLambdas, "relative-lambdas", nil, "`multiples` of lambda_max that lambda is; several, by comma, cost as much as the smallest (default the run's)")
	cmd.Flags().Lookup("relative-lambdas").DefValue = "" // pflag would print []
	cmd.Flags().StringSliceVar(&directions, "directions", nil, "`names` of what influence is of, by comma: loss, kernel, total_density, total_momentum_x, ... (default the run's)")
	cmd.Flags().IntVar(&draws, "kernel-draws", 0, fmt.Sprintf("most `changes` of the data that the direction kernel follows; 0: %d (default the run's)", audit.DefaultKernelDraws))
	cmd.Flags().Float64Var(&tolerance, "tolerance", 0, "half-width of a cosine's interval; of cg-residual, the relative residual (default the run's)")
	cmd.Flags().StringVar(&dtype, "dtype", "", "`type` of the audit's numbers: auto, float64 or float32 (default the run's)")
	cmd.Flags().StringVar(&metric, "metric", "", "`name` of the metric: ntk, ggn, fisher, identity or optimizer (default the run's)")
	cmd.Flags().StringVar(&scale, "metric-scale", "", "`scale` of the metric: mean or sum (default the run's)")
	cmd.Flags().StringVar(&over, "metric-over", "", "`what` the metric is over: probes, or trajectories, all transitions of the probes' (default the run's)")
	cmd.Flags().StringVar(&estimator, "estimator", "", "`name` of the estimator: block, or cg-residual or subspace for comparison (default the run's)")
	return func(config *trainer.Config) {
		for flag, set := range map[string]func(){
			"relative-lambdas": func() { config.Audit.RelativeLambdas = relativeLambdas },
			"tolerance":        func() { config.Audit.Tolerance = tolerance },
			"dtype":            func() { config.Audit.DType = dtype },
			"metric":           func() { config.Audit.Metric = metric },
			"metric-scale":     func() { config.Audit.MetricScale = scale },
			"metric-over":      func() { config.Audit.MetricOver = over },
			"kernel-draws":     func() { config.Audit.KernelDraws = draws },
			"directions": func() {
				config.Audit.Directions, config.Audit.Stop, config.Audit.RestoreBest = directions, nil, false // rules are the training's
				if !cmd.Flags().Changed("kernel-draws") {
					config.Audit.KernelDraws = 0
				}
			},
			"estimator": func() {
				config.Audit.Estimator = estimator
				if !cmd.Flags().Changed("tolerance") {
					config.Audit.Tolerance = 0 // it means something else to each
				}
			},
		} {
			if cmd.Flags().Changed(flag) {
				set()
			}
		}
	}
}

// auditCheckpoint audits a model of a run by a function of the trainer, with the run's configuration changed as flags say, and prints what was found.
func (s *settings) auditCheckpoint(cmd *cobra.Command, dir, name, out string, change func(*trainer.Config), by func(trainer.Config, trainer.Options) (*audit.Records, error)) error {
	if name == "" || out == "" {
		return usageError{errors.New("--model and --out are needed: the model to audit and the directory to write")}
	}
	config, err := s.openedBy(cmd, dir)
	if err != nil {
		return err
	}
	change(&config)
	if err := config.Validate(); err != nil {
		return byFlag(cmd, err)
	}
	choice, log, err := s.open(cmd)
	if err != nil {
		return err
	}
	progress := newProgress(oneAudit(config, name), cmd.OutOrStdout(), cmd.ErrOrStderr())
	records, err := by(config, trainer.Options{
		Backend: choice.Backend, BackendConfig: choice.Config, BackendReason: choice.Reason, Dir: dir, Command: os.Args, Log: log, Watcher: progress.watcher(),
	})
	progress.end()
	if err != nil {
		return byFlag(cmd, err)
	}
	progress.audited(name, records)
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", cmd.Name(), out)
	return nil
}

// byFlag names a flag where its value is what cannot work, and not the key that it replaces.
func byFlag(cmd *cobra.Command, err error) error {
	var fault *trainer.KeyError
	if !errors.As(err, &fault) {
		return err
	}
	flag := strings.ReplaceAll(strings.TrimPrefix(fault.Key, "audit."), "_", "-")
	if !cmd.Flags().Changed(flag) {
		return err
	}
	return usageError{cause.Say(strings.Replace(cause.Plain(err), fault.Key, "--"+flag, 1), err)}
}

// oneAudit is the part of a configuration that a single audit of a model gets through, for the time it will take.
func oneAudit(config trainer.Config, name string) trainer.Config {
	config.Models = []trainer.Model{{Name: name}}
	config.Training.Epochs, config.Audit.EveryEpochs = 1, 1
	return config
}
