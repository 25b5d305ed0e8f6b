package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// costCase is an audit whose cost is asked for: of a batch of states under some elements of D4, by a ViT of a width on a grid.
type costCase struct{ samples, elements, width, resolution int }

// BenchmarkCost says how the time of an audit grows with samples, elements, parameters and grid, one of which is doubled, and doubled again, at a time; and where that
// time goes: into the metric's products, gradients, and the rest, of which the products and gradients are found from their numbers and the shortest time of
// one. A trained ViT with patches of 4, lambda / lambda_max = 1e-2, every cosine to within 0.05. Each audit is made three times, and the shortest counts.
func BenchmarkCost(b *testing.B) {
	on := backends(b)["xla:cpu"]
	if on == nil {
		b.Skip("needs XLA")
	}
	base := costCase{samples: 4, elements: 4, width: 32, resolution: 32}
	for _, axis := range []string{"samples", "elements", "width", "resolution"} {
		b.Run(axis, func(b *testing.B) {
			for _, factor := range []int{1, 2, 4} {
				c := base
				switch axis {
				case "samples":
					c.samples *= factor
				case "elements":
					c.elements = factor * 2 // of the eight of D4
				case "width":
					c.width *= factor
				case "resolution":
					c.resolution *= factor
				}
				fmt.Println(cost(b, on, axis, c))
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func cost(b *testing.B, on compute.Backend, axis string, c costCase) string {
	before, after := flow(b, on, c.resolution, 1+c.samples/12)
	size := c.resolution * c.resolution * 4
	build := vit(models.ViT{Patch: 4, Width: c.width, Layers: 2, Heads: 4, Expansion: 2})
	trainer, fn := trained(b, on, build, before[:4*size], after[:4*size], c.resolution, 20)
	x, y := states(before[:c.samples*size], c.resolution), states(after[:c.samples*size], c.resolution)
	group := orbits.D4().Some([]string{"r", "s", "r2", "sr", "r3", "sr2", "sr3"}[:c.elements-1]...)
	auditor, err := audit.New(trainer, fn, audit.Loss).WithField(orbits.EulerField()).WithGroup(group, audit.Probes{Inputs: x, Targets: y}).
		WithRelativeLambda(1e-2).WithTolerance(0.05).WithDType(dtypes.Float32).Done()
	must(b, err)
	defer auditor.Close()
	var whole time.Duration
	var solve *audit.SolveRow
	for i := range 4 { // the first compiles
		start := time.Now()
		records, err := auditor.Audit(context.Background(), audit.Moment{})
		must(b, err)
		if took := time.Since(start); i == 1 || i > 1 && took < whole {
			whole, solve = took, &records.Solves[0]
		}
	}

	net, err := network.New(on, fn, audit.Loss, dtypes.Float32)
	must(b, err)
	defer net.Close()
	must(b, net.Load(trainer.Store()))
	factor, err := net.Factor(x, 1, math.MaxInt64)
	must(b, err)
	defer factor.Close() //nolint:errcheck // frees memory
	v, rows, image := mat.NewDense(1, net.Dim(), nil), mat.NewDense(1, factor.Rows(), nil), mat.NewDense(1, net.Dim(), nil)
	for i := range net.Dim() {
		v.Set(0, i, float64(i%7-3))
	}
	x1, y1 := states(before[:size], c.resolution), states(after[:size], c.resolution)
	gradient := shortestOf(b, func() error { _, err := net.Gradient(image.RawRowView(0), x1, y1); return err })
	batch := shortestOf(b, func() error { _, err := net.Gradient(image.RawRowView(0), x, y); return err })
	product := shortestOf(b, func() error { return errors.Join(factor.Image(rows, v), factor.Adjoint(image, rows)) })
	products := solve.Products + solve.SetupProducts
	share := func(n int64, each time.Duration) float64 { return 100 * float64(n) * each.Seconds() / whole.Seconds() }
	gradients := int64(c.samples * c.elements)
	return fmt.Sprintf("%-10s samples %2d, elements %d, parameters %6d, grid %3d: audit %6.2f s; %4d products of %5.1f ms (%.2f gradients of the batch) %.0f %%, %3d gradients of %5.1f ms %.0f %%, the rest %.0f %%",
		axis, c.samples, c.elements, net.Dim(), c.resolution, whole.Seconds(), products, 1e3*product.Seconds(), product.Seconds()/batch.Seconds(), share(products, product),
		gradients, 1e3*gradient.Seconds(), share(gradients, gradient), 100-share(products, product)-share(gradients, gradient))
}

// BenchmarkLimit says how far a step of the solver, J v and J^T u with activations kept, is from what the machine can do: its matrix products alone, at the speed of
// one large one. Of each product of the network, A B, a step has four: dA B and A dB on the way of J v, and two more back. A gradient has three, A B itself and two back,
// so that 4/3 of one is the limit in gradients, where all else costs nothing.
func BenchmarkLimit(b *testing.B) {
	on := backends(b)["xla:cpu"]
	if on == nil {
		b.Skip("needs XLA")
	}
	const side, batch = 1024, 4
	matrix := func() *tensors.Tensor { return tensors.FromShape(shapes.Make(dtypes.Float32, side, side)) }
	left, right := matrix(), matrix()
	large := graph.MustNewExec(on, func(a, b *graph.Node) *graph.Node { return graph.ReduceAllSum(graph.Dot(a, b).Product()) })
	peak := 2 * side * side * side / shortestOf(b, func() error { large.MustCall(left, right); return nil }).Seconds()
	fmt.Printf("one product of %dx%d matrices: %.1f GFLOP/s\n", side, side, peak/1e9)
	for _, c := range []struct {
		resolution int
		vit        models.ViT
	}{
		{32, models.TinyViT()}, {64, models.ViT{Patch: 4, Width: 64, Layers: 4, Heads: 4, Expansion: 4}}, {64, models.ViT{Patch: 4, Width: 256, Layers: 2, Heads: 8, Expansion: 4}},
	} {
		before, after := flow(b, on, c.resolution, 1)
		size := batch * c.resolution * c.resolution * 4
		trainer, fn := trained(b, on, vit(c.vit), before[:size], after[:size], c.resolution, 1)
		net, err := network.New(on, fn, audit.Loss, dtypes.Float32)
		must(b, err)
		must(b, net.Load(trainer.Store()))
		factor, err := net.Factor(states(before[:size], c.resolution), 1, math.MaxInt64)
		must(b, err)
		v, rows, image := mat.NewDense(1, net.Dim(), nil), mat.NewDense(1, factor.Rows(), nil), mat.NewDense(1, net.Dim(), nil)
		for i := range net.Dim() {
			v.Set(0, i, float64(i%7-3))
		}
		took := shortestOf(b, func() error { return errors.Join(factor.Image(rows, v), factor.Adjoint(image, rows)) })
		flops := 4 * batch * vitFLOPs(c.vit, c.resolution)
		fmt.Printf("ViT of width %3d, %d layers, %7d parameters, %dx%d: a step takes %6.2f ms, %5.1f GFLOP/s in matrix products, %.0f %% of that of one large product\n",
			c.vit.Width, c.vit.Layers, net.Dim(), c.resolution, c.resolution, 1e3*took.Seconds(), flops/took.Seconds()/1e9, 100*flops/took.Seconds()/peak)
		must(b, factor.Close())
		net.Close()
	}
	b.ReportMetric(0, "ns/op")
}

// vitFLOPs are the additions and multiplications in the matrix products of one prediction.
func vitFLOPs(c models.ViT, resolution int) float64 {
	tokens, patch, d := float64(resolution/c.Patch*resolution/c.Patch), float64(c.Patch*c.Patch*4), float64(c.Width)
	layer := 4*d*d + 2*d*float64(c.Expansion)*d + 2*tokens*d // query, key, value and output; the perceptron; weights of attention and what they mix
	return 2 * tokens * (2*patch*d + float64(c.Layers)*layer)
}

// shortestOf is the shortest time of many, but for the first, which compiles.
func shortestOf(b *testing.B, work func() error) time.Duration {
	least := time.Hour
	for i := range 30 {
		start := time.Now()
		must(b, work())
		if took := time.Since(start); i > 0 && took < least {
			least = took
		}
	}
	return least
}
