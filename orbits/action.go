package orbits

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

const (
	rowAxis     = 1
	columnAxis  = 2
	channelAxis = 3
)

// turnGrid moves whole cells. Output (row, column) reads the cell at g^-1 (column, row), which on the two centred axes
// is at most a swap and a sign each: a transposition and reversals.
func (e Element) turnGrid(f Field, x *graph.Node) *graph.Node {
	back := e.grid.inverse()
	up := 1.0 // sign of +y in rows
	if f.RowDown {
		up = -1
	}
	var rowSign, columnSign float64 // negative where the source is read backwards
	if back.swapsAxes() {
		if height, width := x.Shape().Dimensions[rowAxis], x.Shape().Dimensions[columnAxis]; height != width {
			exceptions.Panicf("orbits: element %s needs a square grid, got %dx%d", e.Name(), height, width)
		}
		x = graph.Transpose(x, rowAxis, columnAxis)
		rowSign = back.apply(Vector{Y: up}).X // output rows now run over source columns
		columnSign = back.apply(Vector{X: up}).Y
	} else {
		columnSign = back.apply(Vector{X: 1}).X
		rowSign = back.apply(Vector{Y: 1}).Y
	}
	var reversed []int
	if rowSign < 0 {
		reversed = append(reversed, rowAxis)
	}
	if columnSign < 0 {
		reversed = append(reversed, columnAxis)
	}
	if len(reversed) > 0 {
		x = graph.Reverse(x, reversed...)
	}
	return x
}

// mixChannels is what happens to the values within each cell.
func (e Element) mixChannels(f Field, x *graph.Node) *graph.Node {
	turns := e.vector != 0 && len(f.Vectors)+len(f.Pseudoscalars) > 0
	boosts := e.velocity != Vector{}
	if !turns && !boosts {
		return x
	}
	channels := graph.Split(x, channelAxis, len(f.Channels))
	if turns {
		old := slices.Clone(channels)
		to, sign := e.TurnChannels(f)
		for c, target := range to {
			channels[target] = old[c]
			if sign[c] < 0 {
				channels[target] = graph.Neg(old[c])
			}
		}
	}
	if boosts {
		e.boost(f, channels)
	}
	return graph.Concatenate(channels, channelAxis)
}

// TurnChannels says to which channel, and with which sign, the rotation or reflection in e carries each channel of a field: the
// components of a vector v become those of M v, M a signed permutation, and pseudoscalars change sign in a mirror.
func (e Element) TurnChannels(f Field) (to []int, sign []float64) {
	for c := range f.Channels {
		to, sign = append(to, c), append(sign, 1)
	}
	if e.vector.flips() == 1 {
		for _, c := range f.Pseudoscalars {
			sign[c] = -1
		}
	}
	for _, vector := range f.Vectors {
		for component, unit := range [2]Vector{{X: 1}, {Y: 1}} {
			c, image, target := vector[component], e.vector.apply(unit), vector[0]
			if image.X == 0 {
				target = vector[1]
			}
			to[c], sign[c] = target, image.X+image.Y
		}
	}
	return to, sign
}

// boost adds the velocity v to that of the flow: m + rho v and E + m.v + rho |v|^2 / 2, which is what E = p / (gamma - 1) +
// |m|^2 / (2 rho) becomes at the same pressure.
func (e Element) boost(f Field, channels []*graph.Node) {
	if f.Conserved == nil {
		exceptions.Panicf("orbits: %s", e.needsConserved())
	}
	c, v := f.Conserved, e.velocity
	density, mx, my := channels[c.Density], channels[c.Momentum[0]], channels[c.Momentum[1]]
	work := graph.Add(graph.MulScalar(mx, v.X), graph.MulScalar(my, v.Y))
	channels[c.Energy] = graph.Add(channels[c.Energy], graph.Add(work, graph.MulScalar(density, v.dot(v)/2)))
	channels[c.Momentum[0]] = graph.Add(mx, graph.MulScalar(density, v.X))
	channels[c.Momentum[1]] = graph.Add(my, graph.MulScalar(density, v.Y))
}

func (e Element) needsConserved() string {
	return fmt.Sprintf("element %s adds to the momentum and the energy of a flow, and the field does not say which channels these are; declare them (Field.Conserved, as EulerField does), or define the boost with NewElement", e.Name())
}
