package audit

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDescribeCosines(t *testing.T) {
	var row CoherenceRow
	(&samples{cosines: []float64{0.5, -0.5, 1, 0}}).describe(&row)
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
	require.Nil(t, row.MedianLow)
	require.Nil(t, row.MedianTargetError)
}

// The median of the exact cosines is enclosed, whatever those without bounds are.
func TestMedianOfCosinesThatAreCertifiedInPart(t *testing.T) {
	value := func(v float64) *float64 { return &v }
	var s samples
	s.addCosine(InfluenceRow{Cosine: value(0.1), CosineLow: value(0), CosineHigh: value(0.2)})
	s.addCosine(InfluenceRow{Cosine: value(0.5), CosineLow: value(0.4), CosineHigh: value(0.6)})
	s.addCosine(InfluenceRow{Cosine: value(0.9)})
	s.addCosine(InfluenceRow{})
	var row CoherenceRow
	s.describe(&row)
	require.EqualValues(t, 3, row.N)
	require.EqualValues(t, 1, row.NWithoutCosine)
	require.Equal(t, []float64{0.5, 0, 0.6}, []float64{*row.Median, *row.MedianLow, *row.MedianHigh})
}

// Fewer values must never look better.
func TestErrorsThatAreNotFiniteHaveNoMedian(t *testing.T) {
	for _, fault := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		var s samples
		for _, v := range []float64{3, 2, fault, 1} {
			s.addErrors(ErrorRow{TargetError: v, CommutatorError: 0.5})
		}
		var row CoherenceRow
		s.describe(&row)
		require.EqualValues(t, 4, row.NErrors)
		require.EqualValues(t, 3, row.NFiniteTargetErrors)
		require.Nil(t, row.MedianTargetError)
		require.EqualValues(t, 4, row.NFiniteCommutatorErrors)
		require.Equal(t, 0.5, *row.MedianCommutatorError)
	}
}
