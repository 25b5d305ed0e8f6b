// Package trainer trains reference surrogates of the Euler equations and audits them along the way: configuration,
// data, the training loop, checkpoints, and resuming a run that was killed.
//
// A run trains the models of a Config one after the other into one run directory:
//
//	runs/<run>/                                   what package writers keeps: run.json and the tables
//	runs/<run>/checkpoints/<model>/step-<step>/   one after each epoch, in GoMLX's format
//	runs/<run>/checkpoints/<model>/seed-<seed>/   the same of each seed, where there are several
//	runs/<run>/checkpoints/<model>/finished       when its training has ended
//	runs/<run>/rows.jsonl                         every row as a line, where audit.sinks lists jsonl
//	runs/<run>/tensorboard/                       curves, where audit.sinks lists tensorboard
//
// AuditCheckpoints writes a run directory of its own, with a file finished when all is audited; Merge makes one of several.
package trainer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/gomlx/compute"
	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/writers"
)

// Options are what a run needs besides its configuration.
type Options struct {
	Backend       compute.Backend
	BackendConfig string   // as GOMLX_BACKEND would name it, for the run's description; "": the backend's own name
	BackendReason string   // why it was chosen, for the run's description
	Dir           string   // run directory
	Command       []string // for the run's description
	Resume        bool     // continue the run in Dir; the configuration must be the run's own, see RunConfig
	Log           zerolog.Logger
	Watcher       Watcher
}

// backendName is that of the run's description.
func (o Options) backendName() string {
	if o.BackendConfig == "" {
		return o.Backend.String()
	}
	return o.BackendConfig
}

// Watcher is told how a run goes on, one call at a time. Each function may be nil.
type Watcher struct {
	Generating func(done, total int)                      // trajectories
	Step       func(model string, done, total int)        // training steps of a model, those before a resume included
	AuditPart  func(model string, done, total int)        // parts of the audit going on
	Audited    func(model string, records *audit.Records) // written and safe
	Stopped    func(model, reason string)                 // a stop rule ended the model's training
}

// Result says how a run ended.
type Result struct {
	StoppedEarly bool // a stop rule ended the training of at least one model
}

// Train runs a configuration to its end, or until ctx is cancelled: then the step or audit going on is given up, what
// is written stays, and the run can be resumed. The error is then the context's cause.
//
// A resumed run repeats the epoch that was interrupted, and is then bit for bit the run that was not.
func Train(ctx context.Context, config Config, options Options) (result Result, err error) {
	if err := config.Validate(); err != nil {
		return result, err
	}
	if n := options.Backend.NumDevices(); config.Training.Devices > n {
		return result, keyError("training.devices", "is %d, and the backend %s has %d; use as many, or another backend", config.Training.Devices, options.backendName(), n)
	}
	// Opened before anything slow: a directory that cannot be used is found out at once.
	info := options.info(config, writers.KindTraining)
	builder := writers.Parquet(options.Dir)
	if options.Resume {
		builder.WithResume()
	}
	if err := builder.WithInfo(info).Check(); err != nil {
		return result, err
	}
	var data *states
	defer func() {
		if data != nil {
			err = errors.Join(err, data.Close())
		}
	}()
	if config.Data.Directory != "" { // before a run is begun that could not be started
		if data, err = openData(ctx, config, options); err != nil {
			return result, err
		}
		info.DataHash = data.Hash()
		if began, err := writers.Read(options.Dir, "decisions"); options.Resume && err == nil { // what is wrong with the run is said where it is opened
			if err := checkSameData(config, options.Dir, began.Info.DataHash, info.DataHash); err != nil {
				return result, err
			}
		}
	}
	run, err := builder.WithInfo(info).Done()
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	sinks, closeSinks, err := config.Audit.openSinks(options.Dir)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, closeSinks()) }()
	earlier, err := writers.Read(options.Dir)
	if err != nil {
		return result, err
	}

	described, err := config.Data.describe()
	if err != nil {
		return result, err
	}
	steps := config.stepsOf(described)
	for _, seed := range config.seeds() {
		for _, m := range config.Models {
			session := &session{
				config: config, options: options, model: m, seed: seed, checkpoints: newCheckpoints(config, options.Dir, m.Name, seed), sinks: sinks,
			}
			reason, finished, err := session.checkpoints.finished(steps)
			if err != nil {
				return result, err
			}
			if !finished {
				if data == nil {
					if data, err = openData(ctx, config, options); err != nil {
						return result, err
					}
				}
				session.data = data
				if reason, err = session.train(ctx, run, &earlier.Records); err != nil {
					return result, cause.Say(fmt.Sprintf("trainer: model %q: %s", session.name(), cause.Plain(err)), err)
				}
				if err := session.checkpoints.finish(reason, steps); err != nil {
					return result, err
				}
			}
			result.StoppedEarly = result.StoppedEarly || reason != ""
		}
	}
	return result, nil
}

// checkSameData refuses to go on with a run, or to audit it, on other data than those of a directory that it was trained on. Of data that are generated the run knows
// no hash: their configuration and backend tell.
func checkSameData(config Config, run, known, hash string) error {
	if known == "" || known == hash {
		return nil
	}
	return keyError("data.directory", "is %q, whose data are not those that %s has been trained on: they were made or imported anew; put the former ones back, or begin another run", config.Data.Directory, run)
}

// RunConfig returns the configuration of the run in dir, and the backend that began it: data that are generated anew
// are the same on the same backend.
func RunConfig(dir string) (config Config, backend string, err error) {
	contents, err := writers.Read(dir)
	if err != nil {
		return Config{}, "", err
	}
	read := func(info writers.Info) (Config, error) {
		config, err := ParseConfig([]byte(info.Config))
		if err != nil {
			err = cause.Say(fmt.Sprintf("trainer: the configuration in %s: %s; restore the file from a copy", filepath.Join(dir, "run.json"), cause.Plain(err)), err)
		}
		return config, err
	}
	if contents.Info.Config == "" {
		return Config{}, "", fmt.Errorf("trainer: %s was not written by symaudit train: it has no configuration", dir)
	}
	if config, err = read(contents.Info); err != nil {
		return Config{}, "", err
	}
	for _, resumed := range contents.Resumes { // which may have extended it
		if later, err := read(resumed); err == nil {
			config.Training.Epochs = max(config.Training.Epochs, later.Training.Epochs)
		}
	}
	return config, contents.Info.Backend, nil
}

// info describes a run.
func (o Options) info(config Config, kind string) writers.Info {
	return writers.Info{
		Kind: kind, Command: o.Command, Config: config.String(), Seeds: config.seeds(),
		Backend: o.backendName(), BackendReason: o.BackendReason,
	}
}
