package orbits

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// arrayAxis is where an axis of space is in states [batch, z, y, x, channel], [batch, y, x, channel] or [batch, x, channel].
func arrayAxis(x *graph.Node, axis int) int { return x.Rank() - 2 - axis }

// turnGrid moves whole cells: about the centre of the grid, a turn is a transposition and reversals.
func (e Element) turnGrid(f Field, x *graph.Node) *graph.Node {
	if e.grid == (turn{}) {
		return x
	}
	from := make([]int, x.Rank()) // by axis of the image
	for i := range from {
		from[i] = i
	}
	var reversed []int
	for i := range x.Rank() - 2 {
		to := e.grid.axis(i)
		from[arrayAxis(x, to)] = arrayAxis(x, i)
		backwards := e.grid.flip[i]
		if f.RowDown && (i == 1) != (to == 1) {
			backwards = !backwards
		}
		if backwards {
			reversed = append(reversed, arrayAxis(x, to))
		}
	}
	if e.NeedsSquare() {
		x = graph.TransposeAllAxes(x, from...)
	}
	if len(reversed) > 0 {
		x = graph.Reverse(x, reversed...)
	}
	return x
}

// mixChannels is what happens to the values within each cell.
func (e Element) mixChannels(f Field, x *graph.Node) *graph.Node {
	turns := e.vector != turn{} && len(f.Vectors)+len(f.Pseudovectors)+len(f.Pseudoscalars) > 0
	boosts := e.velocity != Vector{}
	if !turns && !boosts {
		return x
	}
	channels := graph.Split(x, -1, len(f.Channels))
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
	return graph.Concatenate(channels, -1)
}

// TurnChannels says to which channel, and with which sign, the rotation or reflection M in e carries each channel of a field: the components
// of a vector v become those of M v, a signed permutation, those of a pseudovector w become det(M) M w, and a pseudoscalar is multiplied by
// det(M). It panics where M moves a component that a vector of the field does not have, which Group.Check reports as an error.
func (e Element) TurnChannels(f Field) (to []int, sign []float64) {
	for c := range f.Channels {
		to, sign = append(to, c), append(sign, 1)
	}
	handed := e.vector.determinant()
	for _, c := range f.Pseudoscalars {
		sign[c] = handed
	}
	for _, vector := range f.Vectors {
		for i, c := range vector {
			to[c], sign[c] = vector[e.vector.axis(i)], e.vector.sign(i)
		}
	}
	for _, vector := range f.Pseudovectors {
		for i, c := range vector {
			to[c], sign[c] = vector[e.vector.axis(i)], handed*e.vector.sign(i)
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
	density, v := channels[f.Conserved.Density], e.velocity.components()
	work := graph.MulScalar(density, e.velocity.dot(e.velocity)/2)
	for i, c := range f.Conserved.Momentum {
		work = graph.Add(work, graph.MulScalar(channels[c], v[i]))
		channels[c] = graph.Add(channels[c], graph.MulScalar(density, v[i]))
	}
	channels[f.Conserved.Energy] = graph.Add(channels[f.Conserved.Energy], work)
}

func (e Element) needsConserved() string {
	return fmt.Sprintf("element %s adds to the momentum and the energy of a flow, and the field does not say which channels these are; declare them (Field.Conserved, as EulerField does), or define the boost with NewElement", e.Name())
}
