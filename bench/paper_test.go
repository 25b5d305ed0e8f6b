package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
)

// BenchmarkPaper audits the paper's networks on its grid, 128x128: the D4 orbit of three states at lambda / lambda_max = 1e-2, every cosine
// within 0.02. It prints the time, in training steps of the paper's 64 transitions, and the memory, of which the preflight has told
// beforehand. One network in a process, for the peak is the process's: -bench ^BenchmarkPaper$/unet.
func BenchmarkPaper(b *testing.B) {
	const most = 12 << 30
	for _, name := range []string{"unet", "vit"} {
		b.Run(name, func(b *testing.B) {
			on := backends(b)["xla:cpu"]
			if on == nil {
				b.Skip("needs XLA: on the Go backend this takes hours")
			}
			b.ReportMetric(0, "ns/op")
			found := paperAudit(b, on, name, 2)
			fmt.Println(found)
			if found.Status != solver.Converged || found.PeakMiB<<20 > most {
				b.Errorf("%s, %d MiB of %d", found.Status, found.PeakMiB, most>>20)
			}
			b.ReportMetric(float64(found.Products), "products")
			b.ReportMetric(found.AuditSeconds/found.StepSeconds, "steps/audit")
			b.ReportMetric(float64(found.PeakMiB), "MiB")
		})
	}
}

// paperResult is what an audit of one of the paper's networks takes.
type paperResult struct {
	Network          string        `json:"network"`
	Parameters       int           `json:"parameters"`
	DType            string        `json:"dtype"`
	Status           solver.Status `json:"status"`
	RightHandSides   int32         `json:"right_hand_sides"`
	Block            int32         `json:"block"`
	Products         int64         `json:"products"`
	HalfWidth        float64       `json:"half_width"`
	PreflightSeconds float64       `json:"preflight_seconds"`
	AuditSeconds     float64       `json:"audit_seconds"`
	SolveSeconds     float64       `json:"solve_seconds"`
	StepSeconds      float64       `json:"training_step_seconds"` // of 64 transitions
	Share            float64       `json:"share_of_training"`     // of an audit after each epoch
	PreflightMiB     int64         `json:"mib_preflight"`         // most of the process until then
	ForecastMiB      int64         `json:"mib_forecast"`          // of vectors and primal values
	GrowthMiB        int64         `json:"mib_growth"`            // most of the process in the audit, beyond what it had before
	PeakMiB          int64         `json:"mib_peak"`
}

func (r paperResult) String() string {
	return fmt.Sprintf(`%s, %d parameters, %s: %s, %d right-hand sides in blocks of %d, %d products, widest interval of a cosine ±%.2g
  preflight %.0f s, audit %.0f s, of which the solve %.0f; a training step of %d %.1f s: an audit is %.1f steps, and one after each epoch %.2f %% of the training
  memory: %d MiB at most until the audit, which takes %d more, %d forecast; %d at most`,
		r.Network, r.Parameters, r.DType, r.Status, r.RightHandSides, r.Block, r.Products, r.HalfWidth,
		r.PreflightSeconds, r.AuditSeconds, r.SolveSeconds, paperBatch, r.StepSeconds, r.AuditSeconds/r.StepSeconds, 100*r.Share,
		r.PreflightMiB, r.GrowthMiB, r.ForecastMiB, r.PeakMiB)
}

// The paper trains in batches of 64, on three families of 5,000 trajectories of 16 states each.
const (
	paperBatch       = 64
	paperTransitions = 3 * 5000 * 15 // of an epoch
)

// firstOfEach picks the first state, of this size, of each of so many families.
func firstOfEach(values []float32, families, size int) (picked []float32) {
	for family := range families {
		at := family * len(values) / families
		picked = append(picked, values[at:at+size]...)
	}
	return picked
}

// paperAudit trains one of the paper's networks for three steps and audits it. A step of a batch of 64 is taken as many of fewer transitions,
// at most, where so many do not fit.
func paperAudit(b *testing.B, on compute.Backend, name string, at int) (r paperResult) {
	const resolution, samples, relative = 128, 3, 1e-2
	build := map[string]func(models.Normalization) models.Fn{"unet": unet(models.PaperUNet()), "vit": vit(models.PaperViT(8))}[name]
	before, after := flow(b, on, resolution, 1)
	size := resolution * resolution * 4
	before, after = firstOfEach(before, samples, size), firstOfEach(after, samples, size)
	batch := func(values []float32) *tensors.Tensor {
		var all []float32
		for i := range at {
			from := i % samples * size
			all = append(all, values[from:from+size]...)
		}
		return states(all, resolution)
	}
	trainer, fn := trained(b, on, build, before, after, resolution, 0)
	step := time.Hour
	for range 4 {
		start := time.Now()
		_, err := trainer.TrainStep(train.Batch{Inputs: []*tensors.Tensor{batch(before)}, Labels: []*tensors.Tensor{batch(after)}})
		must(b, err)
		step = min(step, time.Since(start)*paperBatch/time.Duration(at))
	}
	fmt.Printf("%s: a training step of %d takes %v\n", name, paperBatch, step.Round(100*time.Millisecond))
	auditor, err := audit.New(trainer, fn, audit.Loss).WithField(orbits.EulerField()).WithRelativeLambda(relative).
		WithGroup(orbits.D4(), audit.Probes{Inputs: states(before, resolution), Targets: states(after, resolution)}).Done()
	must(b, err)
	defer auditor.Close()
	start := time.Now()
	forecast, err := auditor.Preflight(context.Background())
	must(b, err)
	r = paperResult{Network: name, PreflightSeconds: time.Since(start).Seconds(), StepSeconds: step.Seconds(), PreflightMiB: peakBytes(b) >> 20, ForecastMiB: forecast.Bytes >> 20}
	for variable := range trainer.Store().IterVariables() {
		if variable.Trainable {
			r.Parameters += variable.Shape().Size()
		}
	}
	fmt.Printf("%s: the preflight took %.0f s, and the process %d MiB at most; %d MiB of vectors and primal values forecast\n", name, r.PreflightSeconds, r.PreflightMiB, r.ForecastMiB)
	idle := restartPeak(b)
	start = time.Now()
	records, err := auditor.Audit(context.Background(), audit.Moment{})
	must(b, err)
	r.AuditSeconds = time.Since(start).Seconds()
	r.GrowthMiB, r.PeakMiB = (peakBytes(b)-idle)>>20, max(r.PreflightMiB, peakBytes(b)>>20)
	s := records.Solves[0]
	r.DType, r.Status, r.RightHandSides, r.Block, r.Products, r.SolveSeconds = s.DType, s.Status, s.RHS, s.BlockSize, s.Products+s.SetupProducts, s.Seconds
	if r.HalfWidth = 1; s.MaxHalfWidth != nil {
		r.HalfWidth = *s.MaxHalfWidth
	}
	training := r.StepSeconds * paperTransitions / paperBatch
	r.Share = r.AuditSeconds / (r.AuditSeconds + training)
	return r
}
