package models_test

import (
	"math"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

func TestFitNormalizationByHand(t *testing.T) {
	states := tensors.FromValue([][]float32{
		{1, 3, 0, 7},
		{5, 0, 4, 7},
	})
	n, err := models.FitNormalization(orbits.EulerField(), states)
	require.NoError(t, err)
	momentum := math.Sqrt((9 + 16) / 4.)
	require.Equal(t, models.Normalization{
		Mean:  []float64{3, 0, 0, 7},
		Scale: []float64{2, momentum, momentum, 1}, // energy does not vary
	}, n)
}

func TestFitNormalizationIsThatOfEveryOrbit(t *testing.T) {
	b, field := backendtest.Go(t), orbits.EulerField()
	elements, err := orbits.D4().Elements(4, 4)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		states := random(rapid.Uint64().Draw(t, "seed"), 3, 4, 4, 4)
		element := rapid.SampledFrom(elements).Draw(t, "element")
		n, err := models.FitNormalization(field, states)
		require.NoError(t, err)
		moved, err := models.FitNormalization(field, apply(t, b, field, element, states))
		require.NoError(t, err)
		require.InDeltaSlice(t, n.Mean, moved.Mean, 1e-12)
		require.InDeltaSlice(t, n.Scale, moved.Scale, 1e-12)
	})
}

// A model with a normalization is the bare model between normalised states.
func TestModelsNormalize(t *testing.T) {
	n := models.Normalization{Mean: []float64{3, 0, 0, -7}, Scale: []float64{2, 5, 5, 0.5}}
	b, x := backendtest.Go(t), random(1, 1, 4, 4, 4)
	normalized, back := random(1, 1, 4, 4, 4), func(i int, value float64) float64 { return value*n.Scale[i%4] + n.Mean[i%4] }
	tensors.MustMutableFlatData(normalized, func(flat []float64) {
		for i := range flat {
			flat[i] = (flat[i] - n.Mean[i%4]) / n.Scale[i%4]
		}
	})
	for _, direct := range []bool{false, true} {
		unet, vit, fno := smallUNet(), smallViT(), smallFNO()
		unet.Direct, vit.Direct, fno.Direct = direct, direct, direct
		bareUNet, bareViT, bareFNO := unet.Fn(), vit.Fn(), fno.Fn()
		unet.Normalization, vit.Normalization, fno.Normalization = n, n, n
		for _, pair := range [][2]models.Fn{{bareUNet, unet.Fn()}, {bareViT, vit.Fn()}, {bareFNO, fno.Fn()}} {
			store := seededStore(1)
			want := call(t, b, store, pair[0], normalized)
			tensors.MustMutableFlatData(want, func(flat []float64) {
				for i := range flat {
					flat[i] = back(i, flat[i])
				}
			})
			require.Less(t, maxDifference(t, want, call(t, b, store, pair[1], x)), rounding, "direct: %v", direct)
		}
	}
}

func TestNormalizationErrors(t *testing.T) {
	field := orbits.EulerField()
	for _, c := range []struct {
		n    models.Normalization
		want string // empty: valid
	}{
		{models.Normalization{}, ""},
		{models.Normalization{Mean: []float64{1, 0, 0, 2}, Scale: []float64{1, 3, 3, 2}}, ""},
		{models.Normalization{Mean: []float64{1}}, "models: normalization: 1 values of mean for 4 channels; give one per channel or none"},
		{models.Normalization{Scale: []float64{1, 1, -1, 1}}, "models: normalization: scale -1; scales must be positive and finite"},
		{models.Normalization{Mean: []float64{math.NaN(), 0, 0, 0}}, "models: normalization: mean NaN; means must be finite"},
		{models.Normalization{Mean: []float64{0, 1, 0, 0}}, "models: normalization: mean 1 of momentum_x, a component of a vector, breaks rotations; use 0"},
		{models.Normalization{Scale: []float64{1, 1, 2, 1}}, "models: normalization: scales 1 and 2 of momentum_x and momentum_y, components of one vector, break rotations; use one scale for all"},
	} {
		err := c.n.Validate(field)
		if c.want == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, c.want)
		}
	}
	_, err := models.FitNormalization(field, random(1, 2, 3))
	require.ErrorContains(t, err, "states must be [..., 4] and not empty")
	_, err = models.FitNormalization(field, tensors.FromValue([][]int32{{1, 2, 3, 4}}))
	require.ErrorContains(t, err, "states must be float32 or float64, got Int32")
}
