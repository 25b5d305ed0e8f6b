package quantile_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/quantile"
)

// Values from NumPy 2.0: numpy.quantile([3, 1, 4, 1, 5], level).
func TestOf(t *testing.T) {
	values := []float64{3, 1, 4, 1, 5}
	for level, want := range map[float64]float64{0: 1, 0.05: 1, 0.3: 1.4, 0.5: 3, 0.75: 4, 0.95: 4.8, 1: 5} {
		require.InDelta(t, want, quantile.Of(values, level), 1e-12, level)
	}
	require.Equal(t, []float64{3, 1, 4, 1, 5}, values)
	require.Equal(t, 7.0, quantile.Of([]float64{7}, 0.3))
	require.Equal(t, 2.0, quantile.Of([]float64{2, 1, math.Inf(1)}, 0.5))
	require.True(t, math.IsNaN(quantile.Of(nil, 0.5)))
	require.True(t, math.IsNaN(quantile.Of([]float64{1, math.NaN(), 2}, 0.5)), "a NaN is not the smallest value")
}
