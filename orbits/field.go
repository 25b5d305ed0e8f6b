package orbits

import (
	"errors"
	"fmt"
	"slices"
)

// Field says how the channels of a state [batch, x, channel], [batch, y, x, channel] or [batch, z, y, x, channel] transform.
type Field struct {
	Channels []string // one name per channel

	// Vectors holds the channel indices of the components of each vector, x, y and z, as many as the states have axes: [][]int{{1, 2}} in 2-D, and
	// in 1-D [][]int{{0}} for what changes its sign in a mirror as a velocity does. All channels that are in none of the lists are
	// scalars. Components are those of physical space: +x to the right, +y up, whatever RowDown says.
	Vectors [][]int

	// Pseudoscalars holds the indices of the channels that change sign in a mirror: the vorticity of a flow in 2-D, or a helicity.
	Pseudoscalars []int

	// Pseudovectors holds the components of vectors whose sense is that of a rotation, in 3-D: a vorticity or a magnetic field. A mirror leaves the
	// component across it and turns those along it over, where it does the opposite to a vector. In 2-D they have one component, a pseudoscalar.
	Pseudovectors [][]int

	// Conserved says which channels are the conserved variables of a flow, for Boosts; nil where there are none.
	Conserved *Conserved

	// RowDown is the orientation of an image: the row index, that of y, grows downwards. By default it grows with +y, upwards, as the others do with
	// +x and +z; states of one axis have no rows. A quarter turn by the wrong orientation turns the other way, which no half turn and no reflection
	// about an axis can show.
	RowDown bool
}

// Conserved holds the channel indices of a flow's conserved variables, all per volume. Momentum is one of the field's
// vectors; energy is the total, kinetic energy included.
type Conserved struct {
	Density  int
	Momentum []int
	Energy   int
}

// EulerField is the conserved state of the compressible Euler equations in two dimensions.
func EulerField() Field {
	return Field{
		Channels:  []string{"density", "momentum_x", "momentum_y", "energy"},
		Vectors:   [][]int{{1, 2}},
		Conserved: &Conserved{Density: 0, Momentum: []int{1, 2}, Energy: 3},
	}
}

// Validate returns an error unless channel names are unique, every vector and pseudovector has channels of its own, pseudoscalars are other
// channels, and the conserved variables are two scalars and a vector. Whether vectors have as many components as states have axes is for
// Group.Check to say, which knows both.
func (f Field) Validate() error {
	if len(f.Channels) == 0 {
		return errors.New("orbits: a field needs at least one channel")
	}
	for i, name := range f.Channels {
		if slices.Contains(f.Channels[:i], name) {
			return fmt.Errorf("orbits: channel name %q is used twice; give each channel its own", name)
		}
	}
	taken := make([]bool, len(f.Channels)) // by what is no scalar
	take := func(channel int, where string) error {
		if err := f.exists(channel, where); err != nil {
			return err
		}
		if taken[channel] {
			return fmt.Errorf("orbits: channel %d (%s) is in %s and in something else, or twice; a channel is one thing", channel, f.Channels[channel], where)
		}
		taken[channel] = true
		return nil
	}
	for i, vector := range f.allVectors() {
		if len(vector) == 0 {
			return fmt.Errorf("orbits: a %s has no components; name the channel of each, or leave it out", f.kind(i))
		}
		for _, channel := range vector {
			if err := take(channel, fmt.Sprint(f.kind(i), " ", vector)); err != nil {
				return err
			}
		}
	}
	for _, channel := range f.Pseudoscalars {
		if err := take(channel, "the list of pseudoscalars"); err != nil {
			return err
		}
	}
	c := f.Conserved
	if c == nil {
		return nil
	}
	if !slices.ContainsFunc(f.Vectors, func(v []int) bool { return slices.Equal(v, c.Momentum) }) {
		return fmt.Errorf("orbits: the momentum %v is none of the field's vectors %v; add it to them", c.Momentum, f.Vectors)
	}
	for _, channel := range []int{c.Density, c.Energy} {
		if err := f.exists(channel, "Conserved"); err != nil {
			return err
		}
		if taken[channel] || c.Density == c.Energy {
			return fmt.Errorf("orbits: channel %d (%s) cannot be density or energy: these are two scalars of their own", channel, f.Channels[channel])
		}
	}
	return nil
}

// allVectors are those of both kinds.
func (f Field) allVectors() [][]int { return slices.Concat(f.Vectors, f.Pseudovectors) }

// kind is that of one of allVectors.
func (f Field) kind(i int) string {
	if i >= len(f.Vectors) {
		return "pseudovector"
	}
	return "vector"
}

// fits refuses states of other axes than those of the field's vectors.
func (f Field) fits(grid []int) error {
	for i, vector := range f.allVectors() {
		if len(vector) != len(grid) {
			return fmt.Errorf("orbits: the field's %s %v has %d components, and states on the grid %s have %d axes of space; name a channel for each axis, or declare scalars",
				f.kind(i), vector, len(vector), gridName(grid), len(grid))
		}
	}
	if len(grid) < 3 && len(f.Pseudovectors) > 0 {
		return fmt.Errorf("orbits: the field has the pseudovector %v, which states of fewer than three axes do not have (grid %s); declare a pseudoscalar", f.Pseudovectors[0], gridName(grid))
	}
	if f.RowDown && len(grid) < 2 {
		return fmt.Errorf("orbits: the field's rows grow downwards (RowDown), and states of the grid %s have no rows; leave it out", gridName(grid))
	}
	return nil
}

func (f Field) exists(channel int, where string) error {
	if channel < 0 || channel >= len(f.Channels) {
		return fmt.Errorf("orbits: %s names channel %d, but the field has channels 0 to %d", where, channel, len(f.Channels)-1)
	}
	return nil
}
