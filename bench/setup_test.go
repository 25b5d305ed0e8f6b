package bench

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/euler"
)

// backends opens the Go backend and, where a plugin is found, XLA on the CPU.
func backends(b *testing.B) map[string]compute.Backend {
	b.Helper()
	open := map[string]compute.Backend{}
	for _, name := range []string{"go", "xla:cpu"} {
		choice, err := backend.Open(name)
		if err != nil {
			b.Logf("without %s: %v", name, err)
			continue
		}
		open[name] = choice.Backend
	}
	return open
}

// flow is trajectories of all three families at the given resolution, as transitions [n, y, x, channel].
func flow(b *testing.B, on compute.Backend, resolution, trajectories int) (before, after []float32) {
	b.Helper()
	config := euler.Default()
	config.Resolution, config.Snapshots = resolution, 5
	perGrid := resolution * resolution * euler.Channels
	for _, family := range euler.Families() {
		states, err := euler.Generate(context.Background(), on, config, string(family), trajectories, 0, nil)
		if err != nil {
			b.Fatal(err)
		}
		values := tensors.MustCopyFlatData[float32](states)
		for trajectory := range trajectories {
			from := trajectory * config.Snapshots * perGrid
			to := from + (config.Snapshots-1)*perGrid
			before = append(before, values[from:to]...)
			after = append(after, values[from+perGrid:to+perGrid]...)
		}
	}
	return before, after
}

func states(values []float32, resolution int) *tensors.Tensor {
	n := len(values) / (resolution * resolution * euler.Channels)
	return tensors.FromFlatDataAndDimensions(values, n, resolution, resolution, euler.Channels)
}

// trained is a model with its trainer after some epochs of all transitions as one batch.
func trained(b *testing.B, on compute.Backend, build func(models.Normalization) models.Fn, before, after []float32, resolution, epochs int) (*train.Trainer, models.Fn) {
	b.Helper()
	normalization, err := models.FitNormalization(orbits.EulerField(), states(before, resolution))
	if err != nil {
		b.Fatal(err)
	}
	fn := build(normalization)
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(1))
	trainer := train.NewTrainer(on, store, fn, audit.Loss, optimizer.Adam().LearningRate(3e-3).Done(), nil, nil)
	for range epochs {
		if _, err := trainer.TrainStep(train.Batch{
			Inputs: []*tensors.Tensor{states(before, resolution)}, Labels: []*tensors.Tensor{states(after, resolution)},
		}); err != nil {
			b.Fatal(err)
		}
	}
	return trainer, fn
}

func unet(c models.UNet) func(models.Normalization) models.Fn {
	return func(n models.Normalization) models.Fn { c.Normalization = n; return c.Fn() }
}

func vit(c models.ViT) func(models.Normalization) models.Fn {
	return func(n models.Normalization) models.Fn { c.Normalization = n; return c.Fn() }
}

func fno(c models.FNO) func(models.Normalization) models.Fn {
	return func(n models.Normalization) models.Fn { c.Normalization = n; return c.Fn() }
}

// peakBytes is the most memory the process has had, or 0 where the system does not say.
func peakBytes(b *testing.B) int64 { return memory(b, "VmHWM") }

// restartPeak gives memory that nobody holds back and lets the peak begin at what is left, which it returns.
func restartPeak(b *testing.B) int64 {
	debug.FreeOSMemory()
	const peak = "5" // of what clear_refs can clear
	if err := os.WriteFile("/proc/self/clear_refs", []byte(peak), 0); err != nil {
		b.Logf("the peak of memory goes on: %v", err)
	}
	return memory(b, "VmRSS")
}

// memory is a figure of the process that Linux keeps.
func memory(b *testing.B, figure string) (bytes int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Logf("no memory: %v", err)
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, figure+": %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	return 0
}
