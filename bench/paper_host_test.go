package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// timed is a factor that counts the time within products.
type timed struct {
	factor *network.Factor
	spent  time.Duration
}

func (t *timed) Dim() int  { return t.factor.Dim() }
func (t *timed) Rows() int { return t.factor.Rows() }

func (t *timed) Apply(dst, v *mat.Dense) error   { return t.during(t.factor.Apply, dst, v) }
func (t *timed) Image(dst, v *mat.Dense) error   { return t.during(t.factor.Image, dst, v) }
func (t *timed) Adjoint(dst, u *mat.Dense) error { return t.during(t.factor.Adjoint, dst, u) }

func (t *timed) during(product func(dst, v *mat.Dense) error, dst, v *mat.Dense) error {
	start := time.Now()
	err := product(dst, v)
	t.spent += time.Since(start)
	return err
}

// BenchmarkPaperHost solves the D4 orbit of three states for the paper's networks as BenchmarkPaper does, and prints the share of the solve outside of products: the
// host's work on vectors. -bench PaperHost/unet for one of them.
func BenchmarkPaperHost(b *testing.B) {
	const resolution, samples = 128, 3
	for name, build := range map[string]func(models.Normalization) models.Fn{"unet": unet(models.PaperUNet()), "vit": vit(models.PaperViT(8))} {
		b.Run(name, func(b *testing.B) {
			on := backends(b)["xla:cpu"]
			if on == nil {
				b.Skip("needs XLA")
			}
			b.ReportMetric(0, "ns/op")
			before, after := flow(b, on, resolution, 1)
			size := resolution * resolution * 4
			x, y := firstOfEach(before, samples, size), firstOfEach(after, samples, size)
			trainer, fn := trained(b, on, build, x, y, resolution, 0)
			first := states(x[:size], resolution)
			_, err := trainer.TrainStep(train.Batch{Inputs: []*tensors.Tensor{first}, Labels: []*tensors.Tensor{states(y[:size], resolution)}}) // makes the weights
			must(b, err)
			net, err := network.New(on, fn, audit.Loss, dtypes.Float32)
			must(b, err)
			defer net.Close()
			must(b, net.Load(trainer.Store()))
			elements, err := orbits.D4().Elements(resolution, resolution)
			must(b, err)
			gradients := mat.NewDense(len(elements)*samples, net.Dim(), nil)
			for e, element := range elements {
				act := graph.MustNewExec(on, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) })
				for i := range samples {
					at := i * size
					_, err := net.Gradient(gradients.RawRowView(e*samples+i), act.MustCall(states(x[at:at+size], resolution))[0], act.MustCall(states(y[at:at+size], resolution))[0])
					must(b, err)
				}
			}
			factor, err := net.Factor(states(x, resolution), 1/float64(len(x)), solver.DefaultMaxBytes/2)
			must(b, err)
			defer func() { must(b, factor.Close()) }()
			eta := &timed{factor: factor}
			largest, _, err := solver.LargestEigenvalue(eta, 20, 1)
			must(b, err)
			eta.spent = 0
			start := time.Now()
			forms, err := solver.BilinearForms(context.Background(), eta, gradients, solver.FormOptions{
				Lambdas: []float64{1e-2 * largest}, Rows: samples, LambdaMax: largest * 1.3, Roundoff: 0x1p-24, MaxBytes: solver.DefaultMaxBytes - factor.Bytes(),
			})
			must(b, err)
			took := time.Since(start)
			fmt.Printf("%s: %d products in blocks of %d, %s, %.0f s, of which %.1f outside of products: %.1f %%\n", name, forms.Products, forms.BlockSize,
				forms.Statistics(0).Status, took.Seconds(), (took - eta.spent).Seconds(), 100*(took-eta.spent).Seconds()/took.Seconds())
			b.ReportMetric(100*(took-eta.spent).Seconds()/took.Seconds(), "%host")
		})
	}
}
