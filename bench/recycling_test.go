package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// BenchmarkRecycling counts the products of audits that are eight steps of Adam apart, from scratch and recycled, while the
// learning rate falls. Where the metric hardly moves, at the last one, recycling must halve them.
func BenchmarkRecycling(b *testing.B) {
	const (
		resolution, trajectories = 16, 8
		probesOf, batchSize      = 3, 16
		audits, apart            = 4, 8
		relative                 = 1e-3
	)
	rates := []float64{3e-3, 3e-4, 3e-5}
	on := backends(b)["xla:cpu"]
	if on == nil {
		on = backends(b)["go"]
	}
	before, after := flow(b, on, resolution, trajectories)
	size := resolution * resolution * 4
	probes := audit.Probes{Inputs: states(before[:probesOf*size], resolution), Targets: states(after[:probesOf*size], resolution)}
	b.ReportMetric(0, "ns/op")
	fmt.Println("model  learning rate  products from scratch  recycled                     ratio")
	for name, build := range map[string]func(models.Normalization) models.Fn{"unet": unet(models.TinyUNet()), "vit": vit(models.TinyViT())} {
		trainer, fn := trained(b, on, build, before[probesOf*size:], after[probesOf*size:], resolution, 100)
		random := rand.New(rand.NewPCG(1, 2))
		var auditors [2]*audit.Auditor
		for i := range auditors {
			builder := audit.New(trainer, fn, audit.Loss).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes).WithRelativeLambda(relative)
			if i == 1 {
				builder.WithRecycling()
			}
			var err error
			auditors[i], err = builder.Done()
			must(b, err)
			defer auditors[i].Close()
		}
		for r, rate := range rates {
			learningRate := trainer.Store().GetVariable(model.JoinPath("/", optimizer.Scope, optimizer.ParamLearningRate))
			must(b, learningRate.SetValue(tensors.FromValue(float32(rate))))
			var products [2][]int64
			var totals [2]float64
			for a := range audits {
				for range apart {
					var x, y []float32
					for range batchSize {
						from := (probesOf + random.IntN(len(before)/size-probesOf)) * size
						x, y = append(x, before[from:from+size]...), append(y, after[from:from+size]...)
					}
					_, err := trainer.TrainStep(train.Batch{Inputs: []*tensors.Tensor{states(x, resolution)}, Labels: []*tensors.Tensor{states(y, resolution)}})
					must(b, err)
				}
				for i, auditor := range auditors {
					records, err := auditor.Audit(context.Background(), audit.Moment{})
					must(b, err)
					solve := records.Solves[0]
					if solve.Status != audit.Converged {
						b.Errorf("%s, learning rate %g, audit %d: %s", name, rate, a, solve.Status)
					}
					products[i] = append(products[i], solve.Products)
					if r > 0 || a > 0 { // there was one before
						totals[i] += float64(solve.Products)
					}
				}
			}
			ratio := totals[0] / totals[1]
			fmt.Printf("%-5s  %13.0e  %-21s  %-27s  %.2f\n", name, rate, fmt.Sprint(products[0]), fmt.Sprint(products[1]), ratio)
			if r == len(rates)-1 && ratio < 2 {
				b.Errorf("%s: recycling saves a factor of %.2f, less than 2", name, ratio)
			}
		}
	}
}
