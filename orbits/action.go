package orbits

import (
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
	turns := e.vector != 0 && len(f.Vectors) > 0
	mirrors := e.vector.flips() == 1 && len(f.Pseudoscalars) > 0
	boosts := e.velocity != Vector{}
	if !turns && !mirrors && !boosts {
		return x
	}
	channels := graph.Split(x, channelAxis, len(f.Channels))
	if turns {
		e.turnVectors(f, channels)
	}
	if mirrors {
		for _, c := range f.Pseudoscalars {
			channels[c] = graph.Neg(channels[c])
		}
	}
	if boosts {
		e.boost(f, channels)
	}
	return graph.Concatenate(channels, channelAxis)
}

// turnVectors replaces the components of every vector v by those of M v; M is a signed permutation.
func (e Element) turnVectors(f Field, channels []*graph.Node) {
	for _, vector := range f.Vectors {
		old := [2]*graph.Node{channels[vector[0]], channels[vector[1]]}
		for component, unit := range [2]Vector{{X: 1}, {Y: 1}} {
			image := e.vector.apply(unit)
			target, sign := vector[0], image.X
			if image.X == 0 {
				target, sign = vector[1], image.Y
			}
			channels[target] = old[component]
			if sign < 0 {
				channels[target] = graph.Neg(old[component])
			}
		}
	}
}

// boost adds the velocity v to that of the flow: m + rho v and E + m.v + rho |v|^2 / 2, which is what E = p / (gamma - 1) +
// |m|^2 / (2 rho) becomes at the same pressure.
func (e Element) boost(f Field, channels []*graph.Node) {
	if f.Conserved == nil {
		exceptions.Panicf("orbits: element %s needs a field that declares its conserved variables (Field.Conserved, as EulerField does); "+
			"for other fields, define the boost with NewElement", e.Name())
	}
	c, v := f.Conserved, e.velocity
	density, mx, my := channels[c.Density], channels[c.Momentum[0]], channels[c.Momentum[1]]
	work := graph.Add(graph.MulScalar(mx, v.X), graph.MulScalar(my, v.Y))
	channels[c.Energy] = graph.Add(channels[c.Energy], graph.Add(work, graph.MulScalar(density, v.dot(v)/2)))
	channels[c.Momentum[0]] = graph.Add(mx, graph.MulScalar(density, v.X))
	channels[c.Momentum[1]] = graph.Add(my, graph.MulScalar(density, v.Y))
}
