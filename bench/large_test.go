package bench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// timed counts the time within products, the rest of a solve being the host's.
type timed struct {
	solver.Operator
	spent time.Duration
}

func (t *timed) Apply(dst, v *mat.Dense) error {
	start := time.Now()
	defer func() { t.spent += time.Since(start) }()
	return t.Operator.Apply(dst, v)
}

// BenchmarkLargeModel certifies the D4 orbit of four samples on 64x64 for the paper's ViT, five million parameters, in
// float32, within 8 GiB for the whole process, and reports the memory that the solver counts, what the process took at
// most, and the share of the time that the solver spent outside of products.
func BenchmarkLargeModel(b *testing.B) {
	const (
		resolution, samples = 64, 4
		relative            = 1e-2
		limit, most         = 3 << 30, 8 << 30
	)
	on := backends(b)["xla:cpu"]
	if on == nil {
		on = backends(b)["go"]
	}
	before, after := flow(b, on, resolution, 1)
	size := resolution * resolution * 4
	trainer, fn := trained(b, on, vit(models.PaperViT(4)), before[:samples*size], after[:samples*size], resolution, 20)
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
			move := func(values []float32) *tensors.Tensor {
				return act.MustCall(states(values[i*size:(i+1)*size], resolution))[0]
			}
			_, err := net.Gradient(gradients.RawRowView(e*samples+i), move(before), move(after))
			must(b, err)
		}
	}
	x := states(before[:samples*size], resolution)
	eta := &timed{Operator: net.Metric(x, 1/float64(x.Size()))}
	largest, _, err := solver.LargestEigenvalue(eta, 10, 1)
	must(b, err)
	idle := peakBytes(b)
	for range b.N {
		eta.spent = 0
		start := time.Now()
		forms, err := solver.BilinearForms(context.Background(), eta, gradients, solver.FormOptions{
			Lambdas: []float64{relative * largest}, Rows: samples, MaxBytes: limit, Roundoff: 0x1p-24,
		})
		must(b, err)
		took := time.Since(start)
		peak := peakBytes(b)
		fmt.Printf("%d parameters, %d right-hand sides in %d blocks of at most %d: %s, %d products; vectors %d MiB (limit %d), process %d MiB before and %d at most; host's share %.0f %% of %v\n",
			net.Dim(), len(elements)*samples, forms.Parts, forms.BlockSize, forms.Statistics(0).Status, forms.Products, forms.Bytes>>20, limit>>20,
			idle>>20, peak>>20, 100*(1-eta.spent.Seconds()/took.Seconds()), took.Round(time.Second))
		if !forms.Converged || peak > most || forms.Bytes > limit {
			b.Errorf("%s; %d MiB of %d", forms.Statistics(0).Status, peak>>20, most>>20)
		}
		b.ReportMetric(float64(forms.Bytes>>20), "MiB_counted")
		b.ReportMetric(float64(peak>>20), "MiB_peak")
		b.ReportMetric(float64(forms.Products), "products")
	}
	b.ReportMetric(0, "ns/op")
}

// peakBytes is the most memory the process has had, or 0 where the system does not say.
func peakBytes(b *testing.B) (bytes int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Logf("no peak memory: %v", err)
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	return 0
}
