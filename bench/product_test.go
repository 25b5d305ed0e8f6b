package bench

import (
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

// BenchmarkProduct reports the cost of a metric product in gradients: the ratio of the shortest times of the two, run in
// turns. The shortest, because what else the machine does only ever adds.
func BenchmarkProduct(b *testing.B) {
	const batch = 4
	architectures := []struct {
		name       string
		resolution int
		build      func(models.Normalization) models.Fn
	}{
		{"unet-tiny", 32, unet(models.TinyUNet())},
		{"vit-tiny", 32, vit(models.TinyViT())},
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
				gradient := func() time.Duration {
					start := time.Now()
					if _, err := net.Gradient(image.RawRowView(0), x, y); err != nil {
						b.Fatal(err)
					}
					return time.Since(start)
				}
				product := func() time.Duration {
					start := time.Now()
					if err := metric.Apply(image, v); err != nil {
						b.Fatal(err)
					}
					return time.Since(start)
				}
				gradient() // compiled and warm
				product()
				oneGradient, oneProduct := time.Hour, time.Hour
				b.ResetTimer()
				for start, turns := time.Now(), 0; turns < 5 || turns < 40 && time.Since(start) < 20*time.Second; turns++ {
					oneGradient = min(oneGradient, gradient())
					oneProduct = min(oneProduct, product())
				}
				ratio := float64(oneProduct) / float64(oneGradient)
				b.ReportMetric(ratio, "gradients/product")
				b.ReportMetric(0, "ns/op") // of no meaning on a shared machine
				if name == "xla:cpu" && ratio > mostGradients {
					b.Errorf("a product costs %.2f gradients, more than %.1f", ratio, mostGradients)
				}
			})
		}
	}
}
