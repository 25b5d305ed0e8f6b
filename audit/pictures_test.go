package audit

import (
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/quantile"
	"github.com/symaudit/symaudit/orbits"
)

// The pictures are of the element with the largest median commutator error and of the samples with the smallest, the largest; those
// of x are the probes, and from those of f(g.x) and g.f(x) the commutator error follows.
func TestPicturesAreOfTheWorstElement(t *testing.T) {
	source := made(t, twoConvolutions)
	x, y := directedStates(1), directedStates(2)
	_, records := directed(t, source, twoConvolutions, orbits.D4(), func(b *Builder) { b.WithForwardOnly().WithPictures().WithDType(dtypes.Float64) })
	_, again := directed(t, source, twoConvolutions, orbits.D4(), func(b *Builder) { b.WithForwardOnly().WithDType(dtypes.Float64) })
	require.Empty(t, again.Pictures)
	require.Equal(t, again.Errors, records.Errors, "nothing of the probes is touched")

	errors := map[string][]float64{}
	for _, row := range records.Errors {
		errors[row.Element] = append(errors[row.Element], row.CommutatorError)
	}
	worst := "r"
	for element, of := range errors {
		if quantile.Of(of, 0.5) > quantile.Of(errors[worst], 0.5) {
			worst = element
		}
	}
	sorted := slices.Sorted(slices.Values(errors[worst]))
	want := map[string]float64{"best": sorted[0], "worst": sorted[len(sorted)-1]} // two samples have none in the middle
	field := orbits.EulerField()
	units := unitsOfProbes(tensors.MustCopyFlatData[float64](y), field)
	probes := tensors.MustCopyFlatData[float64](x)
	require.Equal(t, len(want)*4*len(field.Channels), len(records.Pictures))
	cells := map[[3]string][][]float64{}
	for _, row := range records.Pictures {
		require.Equal(t, worst, row.Element)
		require.Equal(t, want[row.Rank], row.CommutatorError)
		require.Equal(t, errors[worst][row.Sample], row.CommutatorError)
		cells[[3]string{row.Rank, row.Kind, row.Channel}] = row.Cells()
		if row.Kind == "x" {
			c := slices.Index(field.Channels, row.Channel)
			for i := range directedSide * directedSide {
				require.InDelta(t, probes[(int(row.Sample)*directedSide*directedSide+i)*len(field.Channels)+c], row.Cells()[i/directedSide][i%directedSide], 1e-6)
			}
		}
	}
	for rank, commutator := range want {
		sum := 0.0
		for c, channel := range field.Channels {
			output, expected := cells[[3]string{rank, "f(g.x)", channel}], cells[[3]string{rank, "g.f(x)", channel}]
			squares, norm := 0.0, 0.0
			for i := range expected {
				for j := range expected[i] {
					squares += (output[i][j] - expected[i][j]) * (output[i][j] - expected[i][j])
					norm += expected[i][j] * expected[i][j]
				}
			}
			n := float64(directedSide * directedSide)
			scale := math.Sqrt(norm/n) + 1e-6*units[c]
			sum += squares / n / (scale * scale)
		}
		require.InEpsilon(t, commutator, sum/float64(len(field.Channels)), 1e-4, rank)
	}
}
