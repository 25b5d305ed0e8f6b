package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
)

func newAudit(s *settings) *cobra.Command {
	var shard, groups, out string
	var probes int
	var local, layers, spectrum, pictures, resume bool
	cmd := &cobra.Command{
		Use:   "audit <run directory>",
		Short: "audit checkpoints of a training after its end",
		Long: `audit loads checkpoints of a run, by default the latest of each training, audits each on the run's own probe states, and writes
a run directory of its own. Without flags the audit is the one that the training made; the flags change its groups, probes,
damping, metric, estimator and precision, what influence is of, and ask for the shares of layers and the metric's spectrum.

A training keeps as many checkpoints as training.keep_checkpoints says; --steps all audits them all. What is audited is safe: a
killed audit goes on with --resume. --shard 0/4 makes the first of four parts of the work, for as many machines; symaudit merge
puts them together.`,
		Args: oneArgument("a run directory"),
	}
	which, change := selectionFlags(cmd), auditFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if out == "" {
			return usageError{errors.New("--out is missing; name the run directory to write, such as runs/again")}
		}
		to := trainer.Target{Dir: out, Resume: resume}
		if cmd.Flags().Changed("shard") {
			var err error
			if to.Shard, err = trainer.ParseShard(shard); err != nil {
				return usageError{fmt.Errorf("--shard: %s", cause.Plain(err))}
			}
		}
		return s.auditCheckpoints(cmd, args[0], which, func(config *trainer.Config) (err error) {
			if cmd.Flags().Changed("groups") {
				if config.Audit.Groups, err = trainer.ParseGroups(groups, config.Audit.Groups); err != nil {
					return usageError{fmt.Errorf("--groups: %s", cause.Plain(err))}
				}
				config.Audit.Stop, config.Audit.RestoreBest = nil, false // rules are the training's
			}
			for flag, set := range map[string]func(){
				"probes":       func() { config.Data.Probes = probes },
				"local-errors": func() { config.Audit.LocalErrors = local },
				"layers":       func() { config.Audit.Layers = layers },
				"pictures":     func() { config.Audit.Pictures = pictures },
				"spectrum":     func() { config.Audit.Spectrum = spectrum },
			} {
				if cmd.Flags().Changed(flag) {
					set()
				}
			}
			change(config)
			return nil
		}, func(config trainer.Config, options trainer.Options, checkpoints []trainer.Checkpoint) error {
			err := trainer.AuditCheckpoints(cmd.Context(), config, options, checkpoints, to)
			var occupied *writers.OccupiedError
			switch {
			case errors.As(err, &occupied):
				return fmt.Errorf("%s already holds a run; choose another directory for --out, or go on with that by --resume", out)
			case err != nil:
				return kept(cmd, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "audit: %s\n", out)
			return nil
		})
	}
	cmd.Flags().StringVar(&out, "out", "", "run `directory` to write; it must not exist unless --resume is given")
	cmd.Flags().BoolVar(&resume, "resume", false, "go on with the audits in --out; those that are there are left alone")
	cmd.Flags().StringVar(&shard, "shard", "", "`part` of the work to do, such as 0/4, the first of four (default all)")
	cmd.Flags().StringVar(&groups, "groups", "", "`names` of groups, by comma, or a list as audit.groups has it: [{name: translations, stride: 4}] (default the run's)")
	cmd.Flags().IntVar(&probes, "probes", 0, "`number` of held-out trajectories of each family, each a batch (default the run's)")
	cmd.Flags().BoolVar(&local, "local-errors", false, "also write table local_errors: the model's Lie derivatives under translations, boosts and scalings (default the run's)")
	cmd.Flags().BoolVar(&layers, "layers", false, "also write table layers: the share of each layer in the influence, for about three times the products (default the run's)")
	cmd.Flags().BoolVar(&pictures, "pictures", false, "also write table pictures: states and outputs of the samples that commute best, in the middle and worst (default the run's)")
	cmd.Flags().BoolVar(&spectrum, "spectrum", false, "also write table spectrum, the metric's Ritz values, and the effective dimension at each lambda (default the run's)")
	return cmd
}

func newMerge() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "merge <shard directory>...",
		Short: "make one run of the shards of an audit",
		Long: `merge puts together what symaudit audit --shard has written on several machines: the rows that one audit would have written, in
its order. Shards that are missing, unfinished, there twice or of another audit are named, and nothing is made then.`,
		Args: someRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return usageError{errors.New("--out is missing; name the run directory to write, such as runs/audit")}
			}
			err := trainer.Merge(args, out, os.Args)
			var occupied *writers.OccupiedError
			if errors.As(err, &occupied) {
				return fmt.Errorf("%s already holds a run; choose another directory for --out", out)
			}
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "audit: %s\n", out)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "run `directory` to write; it must not exist")
	return cmd
}

// selectionFlags adds the flags that select checkpoints, and returns what they have selected.
func selectionFlags(cmd *cobra.Command) func() (trainer.Selection, error) {
	var models, seeds []string
	var steps string
	cmd.Flags().StringSliceVar(&models, "model", nil, "`names` of models in the run's configuration, by comma (default all)")
	cmd.Flags().StringSliceVar(&seeds, "seed", nil, "`seeds` of trainings, by comma (default all)")
	cmd.Flags().StringVar(&steps, "steps", "latest", "`steps` of checkpoints: latest, all, one such as 300, or a range such as 100-300")
	return func() (of trainer.Selection, err error) {
		of.Models = models
		for _, text := range seeds {
			seed, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return of, usageError{fmt.Errorf("--seed is %q; it must be whole numbers with commas between them", text)}
			}
			of.Seeds = append(of.Seeds, seed)
		}
		first, last, ranged := strings.Cut(steps, "-")
		if !ranged {
			last = first
		}
		switch steps {
		case "latest":
			return of, nil
		case "all":
			of.Steps = &[2]int64{0, math.MaxInt64}
			return of, nil
		}
		of.Steps = &[2]int64{}
		for i, text := range []string{first, last} {
			if of.Steps[i], err = strconv.ParseInt(text, 10, 64); err != nil || of.Steps[0] < 0 || i == 1 && of.Steps[1] < of.Steps[0] {
				return of, usageError{fmt.Errorf("--steps is %q; it must be latest, all, a step such as 300, or a range such as 100-300", steps)}
			}
		}
		return of, nil
	}
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
				if !cmd.Flags().Changed("kernel-draws") && !slices.Contains(directions, audit.KernelName) {
					config.Audit.KernelDraws = 0 // of a direction that is not asked for
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

// auditCheckpoints audits checkpoints of a run by a function of the trainer, with the run's configuration changed as flags say, and prints what was found.
func (s *settings) auditCheckpoints(cmd *cobra.Command, dir string, which func() (trainer.Selection, error), change func(*trainer.Config) error, by func(trainer.Config, trainer.Options, []trainer.Checkpoint) error) error {
	selection, err := which()
	if err != nil {
		return err
	}
	config, err := s.openedBy(cmd, dir)
	if err != nil {
		return err
	}
	checkpoints, err := trainer.Select(config, dir, selection)
	if err != nil {
		return err
	}
	if err := change(&config); err != nil {
		return err
	}
	if err := config.Validate(); err != nil {
		return byFlag(cmd, err)
	}
	choice, log, err := s.open(cmd)
	if err != nil {
		return err
	}
	progress := newProgress(config, cmd.OutOrStdout(), cmd.ErrOrStderr())
	progress.checkpoints = len(checkpoints)
	err = by(config, trainer.Options{
		Backend: choice.Backend, BackendConfig: choice.Config, BackendReason: choice.Reason, Dir: dir, Command: os.Args, Log: log, Watcher: progress.watcher(),
	}, checkpoints)
	progress.end()
	return byFlag(cmd, err)
}

// byFlag names a flag where its value is what cannot work, and not the key that it replaces.
func byFlag(cmd *cobra.Command, err error) error {
	var fault *trainer.KeyError
	if !errors.As(err, &fault) {
		return err
	}
	_, key, _ := strings.Cut(fault.Key, ".")
	flag := strings.ReplaceAll(key, "_", "-")
	if !cmd.Flags().Changed(flag) {
		return err
	}
	return usageError{cause.Say(strings.Replace(cause.Plain(err), fault.Key, "--"+flag, 1), err)}
}
