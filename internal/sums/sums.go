// Package sums finds a backend that computes sums wrongly, as XLA's CPU plugin of jaxlib 0.11.2 does, the one of scripts/install-xla, unless it is told not to.
//
// That plugin has sums computed by the library YNNPACK, together with what leads to them and follows. Derivatives along a direction of 4,096
// normalisations or more over the last axis are then wrong, or infinite, whatever their length, in float32 and float64 alike. In jaxlib 0.10.2 they are right.
package sums

import (
	"fmt"
	"math"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Flag of XLA says which parts of a program are YNNPACK's, and Own, among XLA's flags in the environment FlagsEnv, that sums are not; matrix products stay so.
const (
	FlagsEnv = "XLA_FLAGS"
	Flag     = "xla_cpu_experimental_ynn_fusion_type"
	Own      = "--" + Flag + "=-reduce"
)

// Check returns an error that names the remedy if b computes derivatives of many normalisations otherwise than those of a few of them. It takes a tenth of a
// second, and registers no backend, for it is part of the preflight of a training whose program has chosen its own.
func Check(b compute.Backend) error {
	const many, few, columns = 4096, 16, 4
	exec, err := graph.NewExec(b, derivativeOfNormalisation)
	if err != nil {
		return fmt.Errorf("sums: %w", err)
	}
	defer exec.Finalize()
	of := func(rows int) ([]float64, error) {
		x, direction := make([]float64, rows*columns), make([]float64, rows*columns)
		for i := range x {
			x[i], direction[i] = math.Sin(13*float64(i)+1), math.Sin(13*float64(i)+7)
		}
		results, err := exec.Call(tensors.FromFlatDataAndDimensions(x, rows, columns), tensors.FromFlatDataAndDimensions(direction, rows, columns))
		if err != nil {
			return nil, fmt.Errorf("sums: %w", err)
		}
		defer results[0].MustFinalizeAll()
		return tensors.CopyFlatData[float64](results[0])
	}
	want, err := of(few)
	if err != nil {
		return err
	}
	found, err := of(many)
	if err != nil {
		return err
	}
	for i := range want {
		if off := math.Abs(found[i] - want[i]); !(off <= 1e-6) { // of numbers around 1; where it is wrong, it is off by as much or infinite
			return fmt.Errorf("the backend %s computes derivatives of normalisations wrongly, %.3g where %.3g is right: its XLA leaves sums to the library YNNPACK, which has a fault; set the environment variable %s to %s before the program starts, or use the Go backend",
				b, found[i], want[i], FlagsEnv, Own)
		}
	}
	return nil
}

// derivativeOfNormalisation is that of (x - mean x) / sqrt(var x + 1e-5) along a direction, means and variances being those of a row of x.
func derivativeOfNormalisation(x, direction *graph.Node) *graph.Node {
	mean := func(x *graph.Node) *graph.Node { return graph.ReduceAndKeep(x, graph.ReduceMean, -1) }
	x, direction = graph.Sub(x, mean(x)), graph.Sub(direction, mean(direction))
	variance := graph.AddScalar(mean(graph.Mul(x, x)), 1e-5)
	scale := graph.Rsqrt(variance)
	change := graph.Mul(mean(graph.Add(graph.Mul(direction, x), graph.Mul(x, direction))), graph.Div(scale, variance))
	return graph.Add(graph.Mul(direction, scale), graph.Mul(x, graph.MulScalar(change, -0.5)))
}
