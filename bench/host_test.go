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

// BenchmarkHost solves a diagonal problem of a million dimensions in several parts and prints the time that the solver takes
// outside of products, the memory that it counts, and by how much the process grows.
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
	eta := &timed{Operator: decaying(n)}
	idle := peakBytes(b)
	for range b.N {
		eta.spent = 0
		start := time.Now()
		forms, err := solver.BilinearForms(context.Background(), eta, rhs, solver.FormOptions{
			Lambdas: []float64{1e-2}, Rows: rows, MaxBytes: limit, LambdaMax: 1,
		})
		must(b, err)
		host := time.Since(start) - eta.spent
		growth := peakBytes(b) - idle
		fmt.Printf("%d parts of at most %d, %d products, %d steps: %s; %.2f s outside of products, %.1f ms for each and a million elements; %d MiB counted, process grew by %d MiB\n",
			forms.Parts, forms.BlockSize, forms.Products, forms.Iterations, forms.Statistics(0).Status, host.Seconds(),
			1000*host.Seconds()/float64(forms.Products), forms.Bytes>>20, growth>>20)
	}
	b.ReportMetric(0, "ns/op")
}

// decaying is a diagonal operator with entries from 1 to 1e-6.
type decaying int

func (d decaying) Dim() int { return int(d) }

func (d decaying) Apply(dst, v *mat.Dense) error {
	rows, _ := v.Dims()
	for i := range rows {
		to, factor := dst.RawRowView(i), math.Pow(10, -6/float64(d))
		entry := 1.0
		for j, value := range v.RawRowView(i) {
			to[j] = entry * value
			entry *= factor
		}
	}
	return nil
}
