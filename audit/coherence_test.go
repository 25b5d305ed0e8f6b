package audit

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDescribeCosines(t *testing.T) {
	var row CoherenceRow
	row.describeCosines([]float64{0.5, -0.5, 1, 0})
	// numpy.quantile([-0.5, 0, 0.5, 1], [0.05, 0.25, 0.5, 0.75, 0.95]), numpy.var
	require.EqualValues(t, 4, row.N)
	require.InDelta(t, 0.25, *row.Mean, 1e-15)
	require.InDelta(t, 0.3125, *row.Variance, 1e-15)
	require.InDelta(t, -0.425, *row.Q05, 1e-15)
	require.InDelta(t, -0.125, *row.Q25, 1e-15)
	require.InDelta(t, 0.25, *row.Median, 1e-15)
	require.InDelta(t, 0.625, *row.Q75, 1e-15)
	require.InDelta(t, 0.925, *row.Q95, 1e-15)
	require.InDelta(t, 0.25, *row.NegativeFraction, 1e-15)
}

func TestQuantileOfOneValue(t *testing.T) {
	require.Equal(t, 3.0, quantile([]float64{3}, 0.95))
}
