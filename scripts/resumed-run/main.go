// Command resumed-run writes a small run with everything that a reader of tables must cope with: two models, several groups and
// dampings, every sink, and an audit that was made twice, as the process was killed after it and the run was resumed.
//
//	go run ./scripts/resumed-run runs/resumed
//
// scripts/check-queries, scripts/check-readers, scripts/check-tensorboard and, on its exports, scripts/check-export are tried on it in continuous
// integration.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/trainer"
)

const config = `
data:
  families: [riemann, curved-riemann]
  trajectories: 2
  probes: 2
  euler: {resolution: 8, refinement: 1, snapshots: 4}
models:
  - name: unet
    unet: {widths: [2, 2], blocks: 1, groups: 1}
  - name: vit
    vit: {patch: 4, width: 4, layers: 1, heads: 2, expansion: 1}
training: {epochs: 3, batch_size: 5, learning_rate: 0.01}
audit:
  groups: [{name: d4}, {name: translations, stride: 4}]
  directions: [loss, kernel]
  local_errors: true
  layers: true
  spectrum: true
  pictures: true
  relative_lambdas: [0.1, 1, 10]
  tolerance: 0.3
  sinks: [jsonl, tensorboard]
`

const victim = "SYMAUDIT_RESUMED_RUN_VICTIM" // set in the process that is killed

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "resumed-run: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: resumed-run <run directory>")
	}
	dir := os.Args[1]
	if os.Getenv(victim) != "" {
		return train(dir)
	}
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("%s is there already; choose another directory", dir)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	first := exec.Command(self, dir)
	first.Env = append(os.Environ(), victim+"=1")
	first.Stderr = os.Stderr
	if err := first.Run(); first.ProcessState == nil || first.ProcessState.Success() || first.ProcessState.Exited() {
		return fmt.Errorf("the first process was to be killed and was not: %w", err)
	}
	return train(dir)
}

// train begins the run or goes on with it.
func train(dir string) error {
	parsed, err := trainer.ParseConfig([]byte(config))
	if err != nil {
		return err
	}
	choice, err := backend.Open("go")
	if err != nil {
		return err
	}
	audits := 0
	_, err = trainer.Train(context.Background(), parsed, trainer.Options{
		Backend: choice.Backend, BackendConfig: choice.Config, BackendReason: choice.Reason, Dir: dir, Command: os.Args, Resume: true, Log: zerolog.Nop(),
		Watcher: trainer.Watcher{Audited: func(string, *audit.Records) {
			// Written, but its checkpoint is not: the resumed process makes it again.
			if audits++; audits == 2 && os.Getenv(victim) != "" {
				kill()
			}
		}},
	})
	return err
}

// kill ends this process at once, as kill -9 does.
func kill() {
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill()
	}
	select {}
}
