// Package orbits holds symmetry groups of the periodic square and how their elements act on fields.
//
// A state is [batch, y, x, channel] on cell centres. An element g moves the grid and, with it, turns the vectors that
// live on it: (gU)(p) = M_g U(g^-1 p). Actions are graph operations (Transpose, Reverse, Slice, Concatenate, Neg), exact
// in every float dtype and differentiable. A group says which of its elements a grid admits:
//
//	elements, err := orbits.D4().Elements(128, 128)
//	turned := elements[1].Apply(orbits.EulerField(), state) // a quarter turn, counter-clockwise
package orbits

import (
	"fmt"
	"slices"
)

// Field says how the channels of a state [batch, y, x, channel] transform.
type Field struct {
	Channels []string // one name per channel

	// Vectors holds the channel indices (x component, y component) of each vector; all other channels are scalars.
	// Components are those of physical space: +x to the right, +y up, whatever RowDown says.
	Vectors [][2]int

	// RowDown is the orientation of an image: the row index grows downwards. By default it grows with +y, upwards.
	// A quarter turn by the wrong orientation turns the other way, which no half turn and no reflection about an axis
	// can show.
	RowDown bool
}

// EulerField is the conserved state of the compressible Euler equations in two dimensions.
func EulerField() Field {
	return Field{
		Channels: []string{"density", "momentum_x", "momentum_y", "energy"},
		Vectors:  [][2]int{{1, 2}},
	}
}

// Validate returns an error unless channel names are unique and every vector has two channels of its own.
func (f Field) Validate() error {
	if len(f.Channels) == 0 {
		return fmt.Errorf("orbits: a field needs at least one channel")
	}
	for i, name := range f.Channels {
		if slices.Contains(f.Channels[:i], name) {
			return fmt.Errorf("orbits: channel name %q is used twice; give each channel its own", name)
		}
	}
	used := make([]bool, len(f.Channels))
	for _, vector := range f.Vectors {
		for _, channel := range vector {
			if channel < 0 || channel >= len(f.Channels) {
				return fmt.Errorf("orbits: vector %v names channel %d, but the field has channels 0 to %d", vector, channel, len(f.Channels)-1)
			}
			if used[channel] {
				return fmt.Errorf("orbits: channel %d (%s) is a component twice; a channel belongs to one vector at most", channel, f.Channels[channel])
			}
			used[channel] = true
		}
	}
	return nil
}
