package bench

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/gomlx/compute/dtypes"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/solver/network"
)

// mostGradients is the claim for a metric product J^T (J v) on XLA, in gradients of the same batch.
const mostGradients = 1.7

// BenchmarkProduct reports the cost, in gradients of the same batch, of a metric product and of a step of a solver on the factor, J v and
// J^T u: with residuals computed again in each, and linearised. Costs are ratios of the shortest times, all run in turns. The shortest,
// because what else the machine does only ever adds.
func BenchmarkProduct(b *testing.B) {
	const batch = 4
	architectures := []struct {
		name       string
		resolution int
		build      func(models.Normalization) models.Fn
	}{
		{"unet-tiny", 32, unet(models.TinyUNet())},
		{"vit-tiny", 32, vit(models.TinyViT())},
		{"fno-tiny", 32, fno(models.TinyFNO())},
		{"unet-medium", 64, unet(models.UNet{Widths: []int{24, 48, 96}, Blocks: 1, Groups: 8})},
		{"vit-medium", 64, vit(models.ViT{Patch: 4, Width: 64, Layers: 4, Heads: 4, Expansion: 4})},
	}
	open := backends(b)
	fastest := open["go"]
	if open["xla:cpu"] != nil {
		fastest = open["xla:cpu"]
	}
	for name, on := range open {
		for _, architecture := range architectures {
			b.Run(architecture.name+"/"+name, func(b *testing.B) {
				resolution, build := architecture.resolution, architecture.build
				before, after := flow(b, fastest, resolution, 1)
				size := resolution * resolution * 4
				trainer, fn := trained(b, on, build, before[:batch*size], after[:batch*size], resolution, 1)
				net, err := network.New(on, fn, audit.Loss, dtypes.Float32)
				if err != nil {
					b.Fatal(err)
				}
				defer net.Close()
				if err := net.Load(trainer.Store()); err != nil {
					b.Fatal(err)
				}
				x, y := states(before[:batch*size], resolution), states(after[:batch*size], resolution)
				metric := net.Metric(x, 1)
				v, image := mat.NewDense(1, net.Dim(), nil), mat.NewDense(1, net.Dim(), nil)
				for i := range net.Dim() {
					v.Set(0, i, float64(i%7-3))
				}
				factors := map[string]*network.Factor{}
				for name, most := range map[string]int64{"recomputed": 0, "linearised": math.MaxInt64} {
					if factors[name], err = net.Factor(x, 1, most); err != nil {
						b.Fatal(err)
					}
					defer factors[name].Close() //nolint:errcheck // frees memory
				}
				linearised := factors["linearised"]
				if !linearised.Linearised() {
					b.Fatal(linearised.Recomputes())
				}
				rows, single, back := make([]float64, linearised.Rows()), make([]float32, net.Dim()), make([]float32, net.Dim()) // as a solve in float32 has them
				for i := range single {
					single[i] = float32(v.At(0, i))
				}
				step := func(factor *network.Factor) func() error {
					return func() error { return errors.Join(factor.ImageOf(rows, single), factor.AdjointInto(back, rows)) }
				}
				works := map[string]func() error{
					"gradient":   func() error { _, err := net.Gradient(image.RawRowView(0), x, y); return err },
					"product":    func() error { return metric.Apply(image, v) },
					"recomputed": step(factors["recomputed"]),
					"linearised": step(linearised),
				}
				shortest := map[string]time.Duration{}
				b.ResetTimer()
				for begin, turns := time.Now(), -1; turns < 5 || turns < 40 && time.Since(begin) < 20*time.Second; turns++ {
					for name, work := range works {
						start := time.Now()
						if err := work(); err != nil {
							b.Fatal(err)
						}
						if took := time.Since(start); turns == 0 || turns > 0 && took < shortest[name] { // the turn before compiles
							shortest[name] = took
						}
					}
				}
				gradients := func(name string) float64 { return float64(shortest[name]) / float64(shortest["gradient"]) }
				ratio := gradients("product")
				b.ReportMetric(float64(shortest["gradient"])/float64(time.Millisecond), "gradient-ms")
				b.ReportMetric(ratio, "gradients/product")
				b.ReportMetric(gradients("recomputed"), "gradients/step-recomputed")
				b.ReportMetric(gradients("linearised"), "gradients/step-linearised")
				b.ReportMetric(float64(linearised.Bytes())/(1<<20), "residual-MiB")
				if gradients("linearised") > gradients("recomputed") {
					b.Errorf("a linearised step costs %.2f gradients, more than the %.2f of one recomputed", gradients("linearised"), gradients("recomputed"))
				}
				b.ReportMetric(0, "ns/op") // of no meaning on a shared machine
				if name == "xla:cpu" && ratio > mostGradients {
					b.Errorf("a product costs %.2f gradients, more than %.1f", ratio, mostGradients)
				}
			})
		}
	}
}
