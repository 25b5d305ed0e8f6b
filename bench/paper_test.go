package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
)

// BenchmarkPaper audits the paper's networks on its grid, 128x128: the D4 orbit of three states at lambda / lambda_max = 1e-2, every cosine
// within 0.02. It prints the time, in training steps of the paper's 64 transitions, and the memory, of which the preflight has told
// beforehand. One network in a process, for the peak is the process's: -bench Paper/unet.
func BenchmarkPaper(b *testing.B) {
	const (
		resolution, samples = 128, 3
		relative            = 1e-2
		most                = 12 << 30
		// The paper trains with batches of 64. A step of so many would not fit here: it is taken as many of fewer.
		batch, part = 64, 2
		transitions = 3 * 5000 * 15 // of an epoch: three families, of 5,000 trajectories of 16 states each
	)
	for _, network := range []struct {
		name  string
		build func(models.Normalization) models.Fn
	}{{"unet", unet(models.PaperUNet())}, {"vit", vit(models.PaperViT(4))}} {
		b.Run(network.name, func(b *testing.B) {
			on := backends(b)["xla:cpu"]
			if on == nil {
				b.Skip("needs XLA: on the Go backend this takes hours")
			}
			b.ReportMetric(0, "ns/op")
			before, after := flow(b, on, resolution, 1)
			size := resolution * resolution * 4
			perFamily := len(before) / samples
			pick := func(values []float32) (picked []float32) {
				for family := range samples {
					picked = append(picked, values[family*perFamily:family*perFamily+size]...)
				}
				return picked
			}
			before, after = pick(before), pick(after)
			trainer, fn := trained(b, on, network.build, before[:part*size], after[:part*size], resolution, 3)
			step := time.Hour
			for range 3 {
				start := time.Now()
				_, err := trainer.TrainStep(train.Batch{Inputs: []*tensors.Tensor{states(before[:part*size], resolution)}, Labels: []*tensors.Tensor{states(after[:part*size], resolution)}})
				must(b, err)
				step = min(step, time.Since(start)*batch/part)
			}
			auditor, err := audit.New(trainer, fn, audit.Loss).WithField(orbits.EulerField()).WithRelativeLambda(relative).
				WithGroup(orbits.D4(), audit.Probes{Inputs: states(before, resolution), Targets: states(after, resolution)}).Done()
			must(b, err)
			defer auditor.Close()
			start := time.Now()
			forecast, err := auditor.Preflight(context.Background())
			must(b, err)
			preflight := time.Since(start)
			idle := peakBytes(b)
			start = time.Now()
			records, err := auditor.Audit(context.Background(), audit.Moment{})
			must(b, err)
			took, peak := time.Since(start), peakBytes(b)
			solve := records.Solves[0]
			products := solve.Products + solve.SetupProducts
			share := took.Seconds() / (took.Seconds() + step.Seconds()*transitions/batch)
			fmt.Printf("%s, %s: %s, %d right-hand sides, blocks of %d, %d products, widest interval of a cosine ±%.2g\n", network.name, solve.DType, solve.Status, solve.RHS, solve.BlockSize, products, *solve.MaxHalfWidth)
			fmt.Printf("  preflight %v, audit %v of which the solve %v; a training step of %d %v: an audit is %.1f steps, and one after each epoch %.2f %% of the training\n",
				preflight.Round(time.Second), took.Round(time.Second), (time.Duration(solve.Seconds * 1e9)).Round(time.Second), batch, step.Round(100*time.Millisecond), took.Seconds()/step.Seconds(), 100*share)
			fmt.Printf("  memory: %d MiB before, %d MiB forecast, %d MiB at most\n", idle>>20, forecast.Bytes>>20, peak>>20)
			if solve.Status != solver.Converged || peak > most {
				b.Errorf("%s, %d MiB of %d", solve.Status, peak>>20, int64(most)>>20)
			}
			b.ReportMetric(float64(products), "products")
			b.ReportMetric(took.Seconds()/step.Seconds(), "steps/audit")
			b.ReportMetric(float64(peak>>20), "MiB")
		})
	}
}
