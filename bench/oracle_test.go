package bench

import (
	"context"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/train"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// largestError is the claim for the influence of the tiny models against dense references, relative, for each element.
const largestError = 1e-6

// BenchmarkOracles audits the trained tiny models under D4 on 16x16 with a tight tolerance, and compares influence and
// cosine with a Cholesky factorisation of the dense metric and with the dual solve from the Jacobian, all in float64.
func BenchmarkOracles(b *testing.B) {
	const resolution = 16
	on := backends(b)["xla:cpu"]
	if on == nil {
		on = backends(b)["go"]
	}
	before, after := flow(b, on, resolution, 2)
	for name, build := range map[string]func(models.Normalization) models.Fn{
		"unet": unet(models.TinyUNet()), "vit": vit(models.TinyViT()), "fno": fno(models.TinyFNO()),
	} {
		b.Run(name, func(b *testing.B) {
			trainer, fn := trained(b, on, build, before, after, resolution, 100)
			for range b.N {
				compareWithOracles(b, on, trainer, fn, before, after, resolution)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func compareWithOracles(b *testing.B, on compute.Backend, trainer *train.Trainer, fn models.Fn, before, after []float32, resolution int) {
	// The first transition of a trajectory of each family.
	size := resolution * resolution * 4
	perFamily := len(before) / 3
	var x, y []float32
	for family := range 3 {
		x = append(x, before[family*perFamily:family*perFamily+size]...)
		y = append(y, after[family*perFamily:family*perFamily+size]...)
	}
	probes := audit.Probes{Inputs: states(x, resolution), Targets: states(y, resolution), Samples: make([]audit.Sample, 3)}
	auditor, err := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes).
		WithDType(dtypes.Float64).WithRelativeLambda(1e-3).WithTolerance(1e-7).Done()
	must(b, err)
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), audit.Moment{})
	must(b, err)
	solve := records.Solves[0]
	if solve.Status != "converged" {
		b.Fatal(solve.Status)
	}

	net, err := network.New(on, fn, audit.Loss, dtypes.Float64)
	must(b, err)
	defer net.Close()
	must(b, net.Load(trainer.Store()))
	elements, err := orbits.D4().Elements(resolution, resolution)
	must(b, err)
	gradients := mat.NewDense(8*3, net.Dim(), nil)
	for e, element := range elements {
		act := graph.MustNewExec(on, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) })
		for i := range 3 {
			move := func(values []float32) *tensors.Tensor {
				double, err := network.ConvertDType(states(values[i*size:(i+1)*size], resolution), dtypes.Float64)
				must(b, err)
				return act.MustCall(double)[0]
			}
			_, err := net.Gradient(gradients.RawRowView(e*3+i), move(x), move(y))
			must(b, err)
		}
	}
	batch, err := network.ConvertDType(probes.Inputs, dtypes.Float64)
	must(b, err)
	scale := 1 / float64(batch.Size())
	eta, _, err := oracle.Dense(net.Metric(batch, scale))
	must(b, err)
	primal, err := oracle.Cholesky(eta, solve.Lambda, gradients)
	must(b, err)
	jacobian, err := net.Jacobian(batch)
	must(b, err)
	dual, err := oracle.Woodbury(jacobian, scale, solve.Lambda, gradients)
	must(b, err)
	for oracle, solution := range map[string]*mat.Dense{"cholesky": primal, "dual": dual} {
		var want mat.Dense
		want.Mul(gradients, solution.T())
		worst, worstCosine := 0.0, 0.0
		for e, element := range elements {
			difference, norm := 0.0, 0.0
			for _, row := range records.Influence {
				if row.Element != element.Name() {
					continue
				}
				m, n := int(row.RowSample), e*3+int(row.ColSample)
				difference = math.Hypot(difference, row.Influence-want.At(m, n))
				norm = math.Hypot(norm, want.At(m, n))
				worstCosine = max(worstCosine, math.Abs(*row.Cosine-want.At(m, n)/math.Sqrt(want.At(m, m)*want.At(n, n))))
			}
			worst = max(worst, difference/norm)
		}
		// In units of 1e-15, since small metrics are printed as zero.
		b.ReportMetric(1e15*worst, "1e-15_influence_error/"+oracle)
		b.ReportMetric(1e15*worstCosine, "1e-15_cosine_error/"+oracle)
		if !(worst <= largestError && worstCosine <= largestError) {
			b.Errorf("against %s the influence is off by %.2g and the cosine by %.2g, more than %g", oracle, worst, worstCosine, largestError)
		}
	}
	b.ReportMetric(float64(net.Dim()), "parameters")
	b.ReportMetric(float64(solve.Products), "products")
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
