package draw

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTicksLieOnTheAxisAndAreReadable(t *testing.T) {
	for _, high := range []float64{1.2, 3, 12, 1e3, 1e7, 1e15} {
		labels := 0
		for _, tick := range logTicks(1e-6, 1e-6*high) {
			require.LessOrEqual(t, tick.Value, 1e-6*high*1.0001)
			if tick.Label != "" {
				labels++
			}
		}
		require.LessOrEqual(t, labels, 9, "%g", high)
	}
	for _, high := range []float64{1e-3, 0.7, 1, 28, 90, 1e5} {
		labels := len(linearTicks(-high/3, high))
		require.GreaterOrEqual(t, labels, 3)
		require.LessOrEqual(t, labels, 8)
	}
}
