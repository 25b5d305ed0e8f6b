package audit_test

import (
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

func TestSMSE(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		// Two samples on 1x2 with two channels. RMS by channel: sample 0: 5/sqrt 2 (of 3, 4) and 1 (of 1, -1); sample 1: 0, floored,
		// and 2. The largest magnitudes are 4 and 2.
		target := tensors.FromValue([][][][]float64{{{{3, 1}, {4, -1}}}, {{{0, 2}, {0, 2}}}})
		prediction := tensors.FromValue([][][][]float64{{{{4, 1}, {4, 1}}}, {{{0, 2}, {1e-6, 1}}}})
		got := tensors.MustCopyFlatData[float64](graph.MustNewExec(b, audit.SMSE).MustCall(target, prediction)[0])
		square := func(x float64) float64 { return x * x }
		want := []float64{
			(square(1/(5/math.Sqrt2+4e-6)) + square(2/(1+2e-6))) / 4,
			(square(1e-6/4e-6) + square(1/(2+2e-6))) / 4,
		}
		require.InDeltaSlice(t, want, got, 1e-12)
	})
}

// The same data in other units have the same error: all together, and each channel in its own, as far as numbers reach.
func TestSMSEIsTheSameInAnyUnits(t *testing.T) {
	for name, units := range map[string][4]float64{
		"SI": {1e-8, 1e-8, 1e-8, 1e-8}, "tiny": {1e-30, 1e-30, 1e-30, 1e-30}, "huge": {1e30, 1e30, 1e30, 1e30}, "mixed": {1e-12, 1, 1, 1e9},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				scaled := func(values []float32) *tensors.Tensor {
					for i := range values {
						values[i] *= float32(units[i%4])
					}
					return batch(values)
				}
				exec := graph.MustNewExec(b, audit.SMSE)
				want := tensors.MustCopyFlatData[float32](exec.MustCall(batch(flow(1, 2)), batch(flow(2, 2)))[0])
				got := tensors.MustCopyFlatData[float32](exec.MustCall(scaled(flow(1, 2)), scaled(flow(2, 2)))[0])
				for i := range want {
					require.InEpsilon(t, want[i], got[i], 1e-5)
				}
			})
		})
	}
}

func TestSMSEOfZeroTargetsIsFinite(t *testing.T) {
	exec := graph.MustNewExec(backendtest.Go(t), audit.SMSE)
	empty := batch(make([]float32, grid*grid*4))
	require.Equal(t, []float32{0}, tensors.MustCopyFlatData[float32](exec.MustCall(empty, empty)[0]))
}

func TestSMSEIsInvariant(t *testing.T) {
	b := backendtest.Go(t)
	d4, err := orbits.D4().Elements(grid, grid)
	require.NoError(t, err)
	shifts, err := orbits.Translations(3).Elements(grid, grid)
	require.NoError(t, err)
	for _, element := range append(d4, shifts...) {
		exec := graph.MustNewExec(b, func(target, prediction *graph.Node) (*graph.Node, *graph.Node) {
			act := func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) }
			return audit.SMSE(target, prediction), audit.SMSE(act(target), act(prediction))
		})
		outputs := exec.MustCall(batch(flow(1, 2)), batch(flow(2, 2)))
		plain, moved := tensors.MustCopyFlatData[float32](outputs[0]), tensors.MustCopyFlatData[float32](outputs[1])
		for i := range plain {
			require.InEpsilon(t, plain[i], moved[i], 1e-5, element.Name())
		}
	}
}
