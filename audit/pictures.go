package audit

import (
	"math"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/internal/picture"
	"github.com/symaudit/symaudit/internal/quantile"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// pictures are those of the samples of an orbit that commute best, in the middle and worst with the element that the model commutes worst with, by its
// median over the samples. There are none of states on a line or in a box, and of outputs that are no states.
func (a *Auditor) pictures(o *orbit, errors []ErrorRow, predictions, moved []*tensors.Tensor) (rows []PictureRow, err error) {
	if !a.config.pictures || a.config.invariant || o.inputs[0].Rank() != 4 || len(o.elements) < 2 {
		return nil, nil
	}
	n := len(o.samples)
	of := func(e int) []float64 {
		values := make([]float64, n)
		for i, row := range errors[e*n : (e+1)*n] {
			values[i] = row.CommutatorError
			if math.IsNaN(values[i]) {
				values[i] = math.Inf(1) // nothing is worse
			}
		}
		return values
	}
	worst := 1
	for e := range o.elements {
		if e > 0 && quantile.Of(of(e), 0.5) > quantile.Of(of(worst), 0.5) {
			worst = e
		}
	}
	chosen := picture.Choose(of(worst))
	for _, kind := range []struct {
		name   string
		states *tensors.Tensor
		field  orbits.Field
	}{
		{"x", o.inputs[0], a.config.field}, {"g.x", o.inputs[worst], a.config.field},
		{"f(g.x)", predictions[worst], o.output}, {"g.f(x)", moved[worst], o.output},
	} {
		copied, err := kind.states.LocalClone()
		if err != nil {
			return nil, cause.In("audit", err)
		}
		values, err := network.Values(copied)
		if err != nil {
			return nil, cause.In("audit", err)
		}
		shape := kind.states.Shape().Dimensions
		size := shape[1] * shape[2] * shape[3]
		for _, choice := range chosen {
			sample := choice.Sample
			for c, channel := range kind.field.Channels {
				row := PictureRow{Moment: errors[0].Moment, GroupName: o.group.Name, Element: o.elements[worst].Name(), Rank: choice.Rank, Sample: int32(sample), Class: o.samples[sample].Class,
					CommutatorError: errors[worst*n+sample].CommutatorError, Kind: kind.name, Channel: channel}
				row.Height, row.Width, row.Values = picture.Of(values[sample*size:(sample+1)*size], shape[1], shape[2], shape[3], c)
				rows = append(rows, row)
			}
		}
	}
	return rows, nil
}

// Cells are the picture's values, row by row; nil where Values are not as many.
func (row *PictureRow) Cells() [][]float64 { return picture.Cells(row.Height, row.Width, row.Values) }

// Cells are the values of both pictures, row by row; nil where Truth or Prediction are not as many.
func (row *RolloutRow) Cells() (truth, prediction [][]float64) {
	return picture.Cells(row.Height, row.Width, row.Truth), picture.Cells(row.Height, row.Width, row.Prediction)
}
