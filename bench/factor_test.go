package bench

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// BenchmarkSolverFactor compares products, time and memory to certified cosines, to ±0.02, of block Lanczos on the metric in float64 with block
// Golub-Kahan on its factor in float64 and float32, for a trained UNet and ViT on 16x16: three states, D4, 24 right-hand sides in float64. A
// product of the factor is J v and J^T u, together what a product of the metric is. Every interval is compared with a Cholesky factorisation in
// float64.
func BenchmarkSolverFactor(b *testing.B) {
	const resolution, probesOf = 16, 3
	on := backends(b)["xla:cpu"]
	if on == nil {
		on = backends(b)["go"]
	}
	before, after := flow(b, on, resolution, 2)
	size := resolution * resolution * 4
	b.ReportMetric(0, "ns/op")
	fmt.Println("model  lambda/lambda_max  products, half-width, seconds and MiB: metric in float64       factor in float64            factor in float32")
	for name, build := range map[string]func(models.Normalization) models.Fn{"unet": unet(models.TinyUNet()), "vit": vit(models.TinyViT())} {
		trainer, fn := trained(b, on, build, before, after, resolution, 100)
		elements, err := orbits.D4().Elements(resolution, resolution)
		must(b, err)
		perFamily := len(before) / probesOf
		pick := func(values []float32) (picked []float32) {
			for family := range probesOf {
				picked = append(picked, values[family*perFamily:family*perFamily+size]...)
			}
			return picked
		}
		x, y := pick(before), pick(after)
		networks := map[dtypes.DType]*network.Network{}
		for _, dtype := range []dtypes.DType{dtypes.Float64, dtypes.Float32} {
			networks[dtype], err = network.New(on, fn, audit.Loss, dtype)
			must(b, err)
			defer networks[dtype].Close()
			must(b, networks[dtype].Load(trainer.Store()))
		}
		net := networks[dtypes.Float64]
		gradients := mat.NewDense(len(elements)*probesOf, net.Dim(), nil)
		for e, element := range elements {
			act := graph.MustNewExec(on, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) })
			for i := range probesOf {
				move := func(values []float32) *tensors.Tensor {
					double, err := network.ConvertDType(states(values[i*size:(i+1)*size], resolution), dtypes.Float64)
					must(b, err)
					return act.MustCall(double)[0]
				}
				_, err := net.Gradient(gradients.RawRowView(e*probesOf+i), move(x), move(y))
				must(b, err)
			}
		}
		batchOf := func(dtype dtypes.DType) *tensors.Tensor {
			batch, err := network.ConvertDType(states(x, resolution), dtype)
			must(b, err)
			return batch
		}
		scale := 1 / float64(len(x))
		double, err := networks[dtypes.Float64].Factor(batchOf(dtypes.Float64), scale, math.MaxInt64)
		must(b, err)
		defer func() { must(b, double.Close()) }()
		single, err := networks[dtypes.Float32].Factor(batchOf(dtypes.Float32), scale, math.MaxInt64)
		must(b, err)
		defer func() { must(b, single.Close()) }()
		eta, _, err := oracle.Dense(double)
		must(b, err)
		largest, _, err := solver.LargestEigenvalue(double, 60, 1)
		must(b, err)
		metric := net.Metric(batchOf(dtypes.Float64), scale)
		for exponent := -2; exponent >= -8; exponent-- {
			lambda := largest * math.Pow(10, float64(exponent))
			solution, err := oracle.Cholesky(eta, lambda, gradients)
			must(b, err)
			var exact mat.Dense
			exact.Mul(gradients, solution.T())
			fmt.Printf("%-5s  %17.0e", name, lambda/largest)
			var old float64
			for i, op := range []solver.Operator{metric, double, single} {
				options := solver.FormOptions{Lambdas: []float64{lambda}, Rows: probesOf, LambdaMax: largest * 1.01}
				if i == 2 {
					options.Roundoff = 0x1p-24
				}
				start := time.Now()
				forms, err := solver.BilinearForms(context.Background(), op, gradients, options)
				must(b, err)
				took := time.Since(start).Seconds()
				if i == 0 {
					old = took
				}
				fmt.Printf("  %5d  ±%-8.2g %6.1f (%.2f) %4d", forms.Products, forms.HalfWidth(0), took, took/old, forms.Bytes>>20)
				for i := range probesOf {
					for j := range len(elements) * probesOf {
						form := forms.Form(0, i, j)
						if want := exact.At(i, j); want < form.Low || want > form.High {
							b.Errorf("%s, %.0e: form %d, %d is %g and not within %v", name, lambda/largest, i, j, want, form)
						}
					}
				}
			}
			fmt.Println()
		}
	}
}
