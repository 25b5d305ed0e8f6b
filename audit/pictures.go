package audit

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/internal/quantile"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// mostPictureCells is the longest side of a picture: of finer states, blocks of cells are averaged.
const mostPictureCells = 64

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
	found := of(worst)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		if found[i] < found[j] {
			return -1
		}
		return 1
	})
	chosen := map[string]int{"worst": order[n-1]}
	if n > 1 {
		chosen["best"] = order[0]
	}
	if n > 2 {
		chosen["median"] = order[n/2]
	}
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
		for _, rank := range []string{"best", "median", "worst"} {
			sample, ok := chosen[rank]
			if !ok {
				continue
			}
			size := shape[1] * shape[2] * shape[3]
			for c, channel := range kind.field.Channels {
				row := PictureRow{Moment: errors[0].Moment, GroupName: o.group.Name, Element: o.elements[worst].Name(), Rank: rank, Sample: int32(sample), Class: o.samples[sample].Class,
					CommutatorError: errors[worst*n+sample].CommutatorError, Kind: kind.name, Channel: channel}
				row.draw(values[sample*size:(sample+1)*size], shape[1], shape[2], shape[3], c)
				rows = append(rows, row)
			}
		}
	}
	return rows, nil
}

// draw averages a channel of a state [height, width, channels] over blocks of cells.
func (row *PictureRow) draw(state []float64, height, width, channels, c int) {
	block := (max(height, width) + mostPictureCells - 1) / mostPictureCells
	row.Height, row.Width = int32((height+block-1)/block), int32((width+block-1)/block)
	for y := 0; y < height; y += block {
		for x := 0; x < width; x += block {
			sum, cells := 0.0, 0
			for i := y; i < min(y+block, height); i++ {
				for j := x; j < min(x+block, width); j++ {
					sum += state[(i*width+j)*channels+c]
					cells++
				}
			}
			row.Values = binary.LittleEndian.AppendUint32(row.Values, math.Float32bits(float32(sum/float64(cells))))
		}
	}
}

// Cells are the picture's values, row by row.
func (row *PictureRow) Cells() [][]float64 {
	cells := make([][]float64, row.Height)
	for y := range cells {
		cells[y] = make([]float64, row.Width)
		for x := range cells[y] {
			if at := 4 * (y*int(row.Width) + x); at+4 <= len(row.Values) {
				cells[y][x] = float64(math.Float32frombits(binary.LittleEndian.Uint32(row.Values[at:])))
			}
		}
	}
	return cells
}
