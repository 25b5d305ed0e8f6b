package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/configs"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
	"github.com/symaudit/symaudit/writers/report"
)

func newDemo(s *settings) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "train a tiny UNet, ViT and FNO on Euler flow with an audit each epoch, and draw the report",
		Long: `demo solves the compressible Euler equations for three families of initial conditions, trains a tiny UNet, a
tiny ViT and a tiny Fourier neural operator on them one after the other, audits each after every epoch under D4 and under shifts, and draws the report.
It needs nothing installed and takes a few minutes on two cores. Its configuration: configs/demo.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := trainer.ParseConfig(configs.Demo)
			if err != nil {
				return err
			}
			if dir == "" {
				dir = freeDirectory("runs/demo")
			}
			return train(cmd, s, config, dir, false, false)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "run `directory` (default runs/demo, or the first of runs/demo-2, ... that is free)")
	return cmd
}

func newTrain(s *settings) *cobra.Command {
	var file, dir string
	var resume, failOnStop, dry bool
	var epochs int
	cmd := &cobra.Command{
		Use:   "train",
		Short: "train models from a configuration, with audits, and draw the report",
		Long: `train runs a YAML configuration; without one, the defaults (configs/demo.yaml is a commented example). A killed or
interrupted run goes on with --resume, from its latest checkpoint and with the configuration it was started with. A
finished one is trained for more epochs by --resume --epochs.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" && !dry {
				return usageError{errors.New("--dir is missing; name the run directory, such as runs/first")}
			}
			var config trainer.Config
			var err error
			switch {
			case resume && file != "":
				return usageError{errors.New("--config and --resume exclude each other; a run is resumed with its own configuration")}
			case cmd.Flags().Changed("epochs") && !resume:
				return usageError{errors.New("--epochs extends a run and needs --resume; a new run has training.epochs in its configuration")}
			case resume:
				config, err = s.openedBy(cmd, dir)
				if err == nil && cmd.Flags().Changed("epochs") {
					if config, err = config.Extended(epochs); err != nil {
						err = byFlag(cmd, err)
					}
				}
			case file != "":
				config, err = readConfig(file)
			default:
				config = trainer.Default()
			}
			if err != nil {
				return err
			}
			if dry {
				return dryRun(cmd, s, config)
			}
			return train(cmd, s, config, dir, resume, failOnStop)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "try three steps and the preflight of each model, say what all would cost on this machine, and write nothing")
	cmd.Flags().StringVar(&file, "config", "", "YAML configuration `file`")
	cmd.Flags().StringVar(&dir, "dir", "", "run `directory`; it must not hold a run unless --resume is given")
	cmd.Flags().BoolVar(&resume, "resume", false, "go on with the run in --dir")
	cmd.Flags().IntVar(&epochs, "epochs", 0, "`number` of epochs in all that the run is to have, more than it was begun with; with --resume")
	cmd.Flags().BoolVar(&failOnStop, "fail-on-stop", false, "exit with code 3 when a stop rule ended the training")
	return cmd
}

// dryRun prints what a configuration will cost.
func dryRun(cmd *cobra.Command, s *settings, config trainer.Config) error {
	if err := config.Validate(); err != nil {
		return err
	}
	choice, log, err := s.open(cmd)
	if err != nil {
		return err
	}
	progress := newProgress(config, cmd.OutOrStdout(), cmd.ErrOrStderr())
	cost, err := trainer.DryRun(cmd.Context(), config, trainer.Options{Backend: choice.Backend, BackendConfig: choice.Config, Log: log, Watcher: progress.watcher()})
	progress.end()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	where := config.Data.Directory
	if where == "" {
		where = "memory, generated anew"
	}
	data := cost.Data
	fmt.Fprintf(out, "data: %s of %d trajectories of %d snapshots, %s in %s\n", count(len(data.Families), "family", "families"), data.Trajectories, data.Snapshots, rounded(data.Bytes()), where)
	seeds := len(config.Trainings()) / len(config.Models)
	var all time.Duration
	for _, m := range cost.Models {
		fmt.Fprintf(out, "%s: %d parameters\n", m.Name, m.Parameters)
		fmt.Fprintf(out, "  training: %s of %s of %s, %s\n", count(config.Training.Epochs, "epoch", "epochs"), count(m.StepsAnEpoch, "step", "steps"), seconds(m.Step), about(m.Training()))
		audits := fmt.Sprintf("audits %s", config.Audit.Schedule)
		if m.Audits >= 0 {
			audits = count(m.Audits, "audit", "audits")
		}
		fmt.Fprintf(out, "  %s: each %d gradients and at least %d products of %s, %s or more, and as many times more as small damping and narrow intervals take; %s of vectors and primal values\n",
			audits, m.Audit.Gradients, m.Audit.Products, seconds(m.Audit.ProductTime), about(m.AuditAtLeast()), rounded(m.Audit.Bytes))
		all += time.Duration(seeds) * (m.Training() + time.Duration(max(1, m.Audits))*m.AuditAtLeast())
	}
	fmt.Fprintf(out, "%s in all: %s or more on this machine\n", count(len(config.Trainings()), "training", "trainings"), about(all))
	return nil
}

// seconds is a short time.
func seconds(d time.Duration) string { return fmt.Sprintf("%.2g s", d.Seconds()) }

func readConfig(file string) (trainer.Config, error) {
	text, err := readText(file)
	if err != nil {
		var of *fs.PathError
		if errors.As(err, &of) {
			err = of.Err
		}
		return trainer.Config{}, fmt.Errorf("--config %s cannot be read: %w", file, err)
	}
	config, err := trainer.ParseConfig(text)
	if err != nil {
		return trainer.Config{}, cause.Say(file+": "+cause.Plain(err), err)
	}
	return config, nil
}

// readText reads a text of a size that somebody may have written.
func readText(file string) ([]byte, error) {
	const most = 1 << 20 // bytes
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	text, err := io.ReadAll(io.LimitReader(opened, most+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > most:
		return nil, errors.New("it has more than 1 MiB, which no configuration has")
	case !utf8.Valid(text):
		return nil, errors.New("it is not text in UTF-8")
	}
	return text, nil
}

func train(cmd *cobra.Command, s *settings, config trainer.Config, dir string, resume, failOnStop bool) error {
	if err := config.Validate(); err != nil {
		return err
	}
	choice, log, err := s.open(cmd)
	if err != nil {
		return err
	}
	progress := newProgress(config, cmd.OutOrStdout(), cmd.ErrOrStderr())
	watcher, page := progress.watcher(), following{dir: dir}
	tell := watcher.Audited
	watcher.Audited = func(model string, records *audit.Records) {
		tell(model, records)
		page.draw()
	}
	result, err := trainer.Train(cmd.Context(), config, trainer.Options{
		Backend: choice.Backend, BackendConfig: choice.Config, BackendReason: choice.Reason, Dir: dir, Command: os.Args, Resume: resume, Log: log, Watcher: watcher,
	})
	progress.end()
	if err != nil && page.drawn {
		_, _, _ = report.Write(dir) // which does not load itself again
	}
	var occupied *writers.OccupiedError
	if errors.As(err, &occupied) {
		return fmt.Errorf("%s already holds a run; go on with that by symaudit train --resume --dir %s, or choose another directory", dir, dir)
	}
	if err != nil && cmd.Context().Err() != nil {
		return fmt.Errorf("%w; finished epochs and audits are kept, go on with: symaudit train --resume --dir %s", err, dir)
	}
	if err != nil {
		return err
	}
	if err := drawReport(cmd, func() (string, []string, error) { return report.Write(dir) }); err != nil {
		return err
	}
	if result.StoppedEarly && failOnStop {
		return errStoppedEarly
	}
	return nil
}

// open opens the backend and says which it is.
func (s *settings) open(cmd *cobra.Command) (backend.Choice, zerolog.Logger, error) {
	log, err := s.logger(cmd.ErrOrStderr())
	if err != nil {
		return backend.Choice{}, log, err
	}
	choice, err := backend.Open(s.backend)
	var missing *backend.MissingError
	if errors.As(err, &missing) && s.sameBackend {
		return backend.Choice{}, log, fmt.Errorf("the run was made on the backend %q, whose PJRT plugin is not found here; set PJRT_PLUGIN_LIBRARY_PATH to the folder that it lies in: on another backend (--backend) the data of the run differ by rounding, unless it reads them from data.directory", missing.Name)
	}
	if err != nil {
		return backend.Choice{}, log, err
	}
	if s.sameBackend {
		choice.Reason = "the run's own"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "backend: %s (%s)\n", choice.Config, choice.Reason)
	return choice, log, nil
}

// openedBy reads the configuration of a run. Unless another is asked for, the backend is the run's too: on another its
// data may differ by rounding.
func (s *settings) openedBy(cmd *cobra.Command, dir string) (trainer.Config, error) {
	config, backend, err := trainer.RunConfig(dir)
	if err == nil && backend != "" && !cmd.Flags().Changed("backend") {
		s.backend, s.sameBackend = backend, true
	}
	return config, err
}

// following draws the report of a run after each audit, while that takes little of the training's time.
type following struct {
	dir   string
	next  time.Time
	drawn bool
}

func (f *following) draw() {
	const share = 20 // of the time goes to training for one of drawing
	begun := time.Now()
	if begun.Before(f.next) {
		return
	}
	_, _, err := report.Follow(f.dir)
	f.drawn = f.drawn || err == nil // the report at the end tells what is wrong
	f.next = time.Now().Add(share * time.Since(begun))
}

func newReport() *cobra.Command {
	var into string
	cmd := &cobra.Command{
		Use:   "report <run directory>...",
		Short: "draw the figures and the page of a run, or of several side by side",
		Long: `report writes figures/*.svg and report.html, a page that needs no network, into a run directory. It may be called
while the run goes on. Of several runs it draws one page that compares them, models and seeds, into --into.`,
		Args: someRuns,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && into == "":
				return drawReport(cmd, func() (string, []string, error) { return report.Write(args[0]) })
			case into == "":
				return usageError{errors.New("--into is missing; name the folder for the page that compares the runs, such as runs/comparison")}
			}
			return drawReport(cmd, func() (string, []string, error) { return report.Compare(into, args...) })
		},
	}
	cmd.Flags().StringVar(&into, "into", "", "`folder` for the figures and the page; needed for several runs")
	return cmd
}

func drawReport(cmd *cobra.Command, write func() (page string, warnings []string, err error)) error {
	page, warnings, err := write()
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", warning)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "report: %s\n", page)
	return nil
}

// freeDirectory is the first of dir, dir-2, dir-3, ... that does not exist.
func freeDirectory(dir string) string {
	free := dir
	for i := 2; ; i++ {
		if _, err := os.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			return free
		}
		free = fmt.Sprintf("%s-%d", dir, i)
	}
}
