package orbits

import (
	"errors"
	"fmt"
	"slices"
)

// Field says how the channels of a state [batch, y, x, channel] transform.
type Field struct {
	Channels []string // one name per channel

	// Vectors holds the channel indices (x component, y component) of each vector; all other channels are scalars or
	// pseudoscalars. Components are those of physical space: +x to the right, +y up, whatever RowDown says.
	Vectors [][2]int

	// Pseudoscalars holds the indices of the channels that change sign in a mirror: vorticity, for instance.
	Pseudoscalars []int

	// Conserved says which channels are the conserved variables of a flow, for Boosts; nil where there are none.
	Conserved *Conserved

	// RowDown is the orientation of an image: the row index grows downwards. By default it grows with +y, upwards.
	// A quarter turn by the wrong orientation turns the other way, which no half turn and no reflection about an axis
	// can show.
	RowDown bool
}

// Conserved holds the channel indices of a flow's conserved variables, all per volume. Momentum is one of the field's
// vectors; energy is the total, kinetic energy included.
type Conserved struct {
	Density  int
	Momentum [2]int
	Energy   int
}

// EulerField is the conserved state of the compressible Euler equations in two dimensions.
func EulerField() Field {
	return Field{
		Channels:  []string{"density", "momentum_x", "momentum_y", "energy"},
		Vectors:   [][2]int{{1, 2}},
		Conserved: &Conserved{Density: 0, Momentum: [2]int{1, 2}, Energy: 3},
	}
}

// Validate returns an error unless channel names are unique, every vector has two channels of its own, pseudoscalars are other
// channels, and the conserved variables are two scalars and a vector.
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
	for _, vector := range f.Vectors {
		for _, channel := range vector {
			if err := f.exists(channel, fmt.Sprint("vector ", vector)); err != nil {
				return err
			}
			if taken[channel] {
				return fmt.Errorf("orbits: channel %d (%s) is a component twice; a channel belongs to one vector at most", channel, f.Channels[channel])
			}
			taken[channel] = true
		}
	}
	for _, channel := range f.Pseudoscalars {
		if err := f.exists(channel, "the list of pseudoscalars"); err != nil {
			return err
		}
		if taken[channel] {
			return fmt.Errorf("orbits: channel %d (%s) is a pseudoscalar and something else, or twice; a channel is one thing", channel, f.Channels[channel])
		}
		taken[channel] = true
	}
	c := f.Conserved
	if c == nil {
		return nil
	}
	if !slices.Contains(f.Vectors, c.Momentum) {
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

func (f Field) exists(channel int, where string) error {
	if channel < 0 || channel >= len(f.Channels) {
		return fmt.Errorf("orbits: %s names channel %d, but the field has channels 0 to %d", where, channel, len(f.Channels)-1)
	}
	return nil
}
