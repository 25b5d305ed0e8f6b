package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

// BenchmarkHost solves a diagonal problem of a million dimensions, as a metric in several parts and as a factor in one, and prints the time that
// the solver takes outside of products, the memory that it counts, and by how much the process grows.
func BenchmarkHost(b *testing.B) {
	const (
		n, k, rows = 1 << 20, 20, 4
		limit      = 700 << 20
	)
	random := rand.New(rand.NewPCG(1, 2))
	rhs := mat.NewDense(k, n, nil)
	for i := range k {
		row := rhs.RawRowView(i)
		for j := range row {
			row[j] = random.NormFloat64()
		}
	}
	for _, c := range []struct {
		name     string
		factor   bool
		roundoff float64
	}{{"metric, float64", false, 0}, {"factor, float64", true, 0}, {"factor, float32", true, 0x1p-24}} {
		spent := time.Duration(0)
		var eta solver.Operator = &decaying{n, n, &spent}
		if c.factor {
			eta = &decayingFactor{decaying{n, n / 8, &spent}}
		}
		idle := restartPeak(b)
		start := time.Now()
		forms, err := solver.BilinearForms(context.Background(), eta, rhs, solver.FormOptions{
			Lambdas: []float64{1e-2}, Rows: rows, MaxBytes: limit, LambdaMax: 1, Roundoff: c.roundoff,
		})
		must(b, err)
		host := time.Since(start) - spent
		fmt.Printf("%s: %d parts of at most %d, %d products, %d steps: %s; %.2f s outside of products, %.1f ms for each and a million elements; %d MiB counted, process grew by %d MiB\n",
			c.name, forms.Parts, forms.BlockSize, forms.Products, forms.Iterations, forms.Statistics(0).Status, host.Seconds(),
			1000*host.Seconds()/float64(forms.Products), forms.Bytes>>20, (peakBytes(b)-idle)>>20)
	}
	b.ReportMetric(0, "ns/op")
}

// decaying is a diagonal operator with entries from 1 to 1e-6, the first of every so many, which counts the time within products.
type decaying struct {
	n, rows int
	spent   *time.Duration
}

func (d *decaying) Dim() int { return d.n }

// scaled writes every stride-th of v times its entry to every stride-th of dst, each with a stride of its own.
func (d *decaying) scaled(dst, v *mat.Dense, to, from int) error {
	start := time.Now()
	defer func() { *d.spent += time.Since(start) }()
	k, _ := v.Dims()
	factor := math.Pow(10, -6/float64(d.rows))
	for i := range k {
		images, values, entry := dst.RawRowView(i), v.RawRowView(i), 1.0
		clear(images)
		for j := 0; j*to < len(images) && j*from < len(values); j++ {
			images[j*to] = entry * values[j*from]
			entry *= factor
		}
	}
	return nil
}

func (d *decaying) Apply(dst, v *mat.Dense) error { return d.scaled(dst, v, 1, 1) }

// decayingFactor has fewer rows than dimensions, so that V is not kept.
type decayingFactor struct{ decaying }

func (d *decayingFactor) Rows() int                       { return d.rows }
func (d *decayingFactor) Image(dst, v *mat.Dense) error   { return d.scaled(dst, v, 1, d.n/d.rows) }
func (d *decayingFactor) Adjoint(dst, u *mat.Dense) error { return d.scaled(dst, u, d.n/d.rows, 1) }
