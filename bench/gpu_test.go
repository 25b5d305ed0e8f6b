package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/configs"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer"
)

// gpuResult is what BenchmarkGPU writes.
type gpuResult struct {
	Backend     string        `json:"backend"`
	Device      string        `json:"device"`
	Processors  int           `json:"processors"`
	Identical   bool          `json:"training_bit_identical"` // with the hook as without
	Repeatable  bool          `json:"training_repeatable"`    // without it: where that is false, the above means nothing
	Intervals   int           `json:"intervals"`
	Missed      int           `json:"intervals_missed"` // of float32, apart from those of float64
	DemoSeconds float64       `json:"demo_seconds"`
	Paper       []paperResult `json:"paper"`
}

// BenchmarkGPU runs on the backend named by SYMAUDIT_BENCH_BACKEND, xla:cuda for instance, and writes what it finds to the file
// SYMAUDIT_BENCH_JSON: whether training is bit-identical with the hook, whether intervals in float32 meet those in float64, the demo, and
// audits of the paper's networks. scripts/gpu-check runs it.
func BenchmarkGPU(b *testing.B) {
	name := os.Getenv("SYMAUDIT_BENCH_BACKEND")
	if name == "" {
		b.Skip("SYMAUDIT_BENCH_BACKEND is not set")
	}
	choice, err := backend.Open(name)
	must(b, err)
	b.ReportMetric(0, "ns/op")
	found := gpuResult{Backend: choice.Config, Device: choice.Backend.Description(), Processors: runtime.GOMAXPROCS(0)}
	write := func() {
		text, err := json.MarshalIndent(found, "", "  ")
		must(b, err)
		if path := os.Getenv("SYMAUDIT_BENCH_JSON"); path != "" {
			must(b, os.WriteFile(path, append(text, '\n'), 0o666))
		}
	}
	on := choice.Backend
	plain := weightsAfter(b, on, false)
	found.Repeatable, found.Identical = same(plain, weightsAfter(b, on, false)), same(plain, weightsAfter(b, on, true))
	fmt.Printf("training: repeatable %v, with the hook bit-identical %v\n", found.Repeatable, found.Identical)
	if found.Repeatable && !found.Identical {
		b.Errorf("training with the hook is another")
	}
	write()
	found.Intervals, found.Missed = precisions(b, on)
	fmt.Printf("intervals of float32: %d, apart from those of float64 %d\n", found.Intervals, found.Missed)
	if found.Missed > 0 {
		b.Errorf("%d intervals miss", found.Missed)
	}
	write()
	config, err := trainer.ParseConfig(configs.Demo)
	must(b, err)
	start := time.Now()
	_, err = trainer.Train(context.Background(), config, trainer.Options{Backend: on, BackendConfig: choice.Config, Dir: filepath.Join(b.TempDir(), "demo")})
	must(b, err)
	found.DemoSeconds = time.Since(start).Seconds()
	fmt.Printf("demo: %.1f s\n", found.DemoSeconds)
	write()
	for _, name := range []string{"vit", "unet"} {
		found.Paper = append(found.Paper, paperAudit(b, on, name, gpuBatch()))
		fmt.Println(found.Paper[len(found.Paper)-1])
		write()
	}
}

// gpuBatch is how many transitions a training step takes at a time: SYMAUDIT_BENCH_BATCH, 16 where that is not set.
func gpuBatch() int {
	if batch, err := strconv.Atoi(os.Getenv("SYMAUDIT_BENCH_BATCH")); err == nil && batch > 0 {
		return batch
	}
	return 16
}

// weightsAfter are those of a small UNet after twenty training steps, with an audit every five of them or without.
func weightsAfter(b *testing.B, on compute.Backend, audited bool) (weights []float32) {
	const resolution, steps, batch = 16, 20, 8
	before, after := flow(b, on, resolution, 2)
	size := resolution * resolution * 4
	normalization, err := models.FitNormalization(orbits.EulerField(), states(before, resolution))
	must(b, err)
	fn := unet(models.TinyUNet())(normalization)
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(1))
	t := train.NewTrainer(on, store, fn, audit.Loss, optimizer.Adam().LearningRate(3e-3).Done(), nil, nil)
	loop := train.NewLoop(t)
	if audited {
		auditor, err := audit.New(t, fn, audit.Loss).WithField(orbits.EulerField()).WithRelativeLambda(1e-2).
			WithGroup(orbits.D4(), audit.Probes{Inputs: states(before[:2*size], resolution), Targets: states(after[:2*size], resolution)}).Done()
		must(b, err)
		defer auditor.Close()
		_, err = hooks.New(auditor).WithSchedule(hooks.EverySteps(5)).Attach(loop)
		must(b, err)
	}
	_, err = loop.RunSteps(&batches{before: before, after: after, size: size, resolution: resolution, n: batch}, steps)
	must(b, err)
	for variable := range store.IterVariables() {
		if variable.Trainable {
			value, err := variable.Value()
			must(b, err)
			weights = append(weights, tensors.MustCopyFlatData[float32](value)...)
		}
	}
	return weights
}

func same(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

// precisions compares audits in float32 with such in float64 of the same weights, of a UNet and a ViT, for all metrics.
func precisions(b *testing.B, on compute.Backend) (intervals, missed int) {
	const resolution = 16
	before, after := flow(b, on, resolution, 2)
	size := resolution * resolution * 4
	for _, build := range []func(models.Normalization) models.Fn{unet(models.TinyUNet()), vit(models.TinyViT())} {
		t, fn := trained(b, on, build, before, after, resolution, 20)
		for _, metric := range []audit.Metric{audit.MetricNTK, audit.MetricGGN, audit.MetricFisher, audit.MetricIdentity} {
			var records [2]*audit.Records
			for i, dtype := range []dtypes.DType{dtypes.Float32, dtypes.Float64} {
				auditor, err := audit.New(t, fn, audit.Loss).WithField(orbits.EulerField()).WithRelativeLambda(1e-2).WithMetric(metric).WithDType(dtype).
					WithGroup(orbits.D4(), audit.Probes{Inputs: states(before[:3*size], resolution), Targets: states(after[:3*size], resolution)}).Done()
				must(b, err)
				records[i], err = auditor.Audit(context.Background(), audit.Moment{})
				must(b, err)
				auditor.Close()
			}
			for i, row := range records[0].Influence {
				exact := records[1].Influence[i]
				for _, pair := range [][4]*float64{
					{row.InfluenceLow, row.InfluenceHigh, exact.InfluenceLow, exact.InfluenceHigh}, {row.CosineLow, row.CosineHigh, exact.CosineLow, exact.CosineHigh},
				} {
					if pair[0] == nil || pair[1] == nil || pair[2] == nil || pair[3] == nil {
						continue
					}
					intervals++
					if *pair[0] > *pair[3] || *pair[1] < *pair[2] {
						missed++
					}
				}
			}
		}
	}
	return intervals, missed
}
