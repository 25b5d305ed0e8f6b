package orbits

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Element is a symmetry of fields on a periodic line, rectangle or box: a rotation or reflection about its centre, then a shift, then a
// Galilean boost, then a scaling; or one of the user's own. The zero value is the identity; elements compare with ==.
//
// Elements of all groups compose freely. Shifts are kept as given and taken modulo the grid only when applied, so a shift
// by the grid's width acts as the identity without being equal to it.
type Element struct {
	grid     turn    // acts on positions
	vector   turn    // acts on vectors, pseudovectors and pseudoscalars; differs from grid only in the negative controls of GridOnly
	shift    Vector  // pixels
	velocity Vector  // of a boost
	drift    Vector  // pixels by which a boost carries the output besides
	axes     int     // of the grid that the last three are on, as names show; 0 where they are zero
	factor   float64 // of a scaling; 0 stands for 1
	custom   *custom // of the user; the others are zero then
}

// custom is what a user has defined, or a composition with that.
type custom struct {
	name          string
	input, output action
	undo          action // of output; nil where it is not known
}

type action func(f Field, x *graph.Node) *graph.Node

// NewElement returns an element of the user's own for Custom: act maps states [batch, ..., channel] of any rank to their images, of the same
// shape and dtype. The name, "offset(2)" for instance, stands in the records and is not empty or that of another element.
func NewElement(name string, act func(x *graph.Node) *graph.Node) Element {
	onStates := guarded(name, act)
	return Element{custom: &custom{name: name, input: onStates, output: onStates}}
}

// guarded turns any panic of a user's function into one with an error: with another value GoMLX's compilation would never end. It is
// nil where the function is.
func guarded(name string, act func(x *graph.Node) *graph.Node) action {
	if act == nil {
		return nil
	}
	return func(_ Field, x *graph.Node) (image *graph.Node) {
		if panicked := exceptions.Try(func() { image = act(x) }); panicked != nil {
			panic(fmt.Errorf("orbits: element %s: panic: %v", name, panicked))
		}
		return image
	}
}

// WithOutput returns an element like e that acts on a model's outputs, and on targets, by act.
func (e Element) WithOutput(act func(y *graph.Node) *graph.Node) Element {
	return Element{custom: &custom{name: e.Name(), input: e.Apply, output: guarded(e.Name(), act)}}
}

// WithInverse returns an element like e, of which it is known that undo takes a model's output at g.x back: undo(e.ApplyOutput(f, y)) is y.
// Influence on anything but the loss asks for that, audit.KernelDirection for instance; the elements of this package know it of themselves.
func (e Element) WithInverse(undo func(y *graph.Node) *graph.Node) Element {
	return Element{custom: &custom{name: e.Name(), input: e.Apply, output: e.ApplyOutput, undo: guarded(e.Name(), undo)}}
}

// Undo takes a model's output at g.x back: Undo(f, ApplyOutput(f, y)) is y. ok is false where e is of NewElement or WithOutput and it is not
// known how (WithInverse).
func (e Element) Undo() (undo func(f Field, y *graph.Node) *graph.Node, ok bool) {
	switch {
	case e.custom == nil:
		return e.Inverse().ApplyOutput, true
	case e.custom.undo == nil:
		return nil, false
	}
	return func(f Field, y *graph.Node) *graph.Node { return e.custom.apply(e.custom.undo, f, y) }, true
}

// Name is "e", "r", "r2", "r3", "s", "sr", "sr2" or "sr3" for D4 ("sr": r first, then s); of another element of Octahedral it is where the
// point (x, y, z) goes, as in "(-y,x,-z)", and the reflection of a line is "s". A translation is "t(dx)", "t(dy,dx)" or "t(dz,dy,dx)" in pixels,
// a boost "boost(vy,vx)" and so on, a scaling "scale(factor)". A composition is written as in algebra, what comes first on the right:
// "t(0,8)r" is a rotation followed by a translation. The elements of GridOnly are named as those of its group: the group's name
// tells them apart.
func (e Element) Name() string {
	if e.custom != nil {
		return e.custom.name
	}
	name := ""
	if e.factor != 0 {
		name += "scale(" + number(e.factor) + ")"
	}
	if e.velocity != (Vector{}) {
		name += "boost" + e.tuple(e.velocity)
	}
	if e.shift != (Vector{}) {
		name += "t" + e.tuple(e.shift)
	}
	if name == "" || e.grid != (turn{}) {
		name += e.grid.name()
	}
	return name
}

// tuple is a vector in the order of the grid's axes.
func (e Element) tuple(v Vector) string {
	var parts []string
	for axis, c := range v.components() {
		if axis < e.axes {
			parts = append([]string{number(c)}, parts...)
		}
	}
	return "(" + strings.Join(parts, ",") + ")"
}

func number(v float64) string {
	if v == 0 {
		v = 0 // not -0
	}
	return strconv.FormatFloat(v, 'g', 9, 64)
}

// String is Name.
func (e Element) String() string { return e.Name() }

// Shift returns the translation in pixels along +x, +y and +z; zero for D4, and for a boost, which shifts the output alone.
func (e Element) Shift() Vector { return e.shift }

// Cells returns the element that moves the cells of the grid as e does and leaves the values in them: what e does to scalars that
// belong to a state and are no part of it, such as a mask. It is not known of an element of NewElement.
func (e Element) Cells() (cells Element, ok bool) {
	return Element{grid: e.grid, shift: e.shift, drift: e.drift, axes: e.axes}.tidy(), e.custom == nil
}

// tidy makes equal what acts alike: without shift and velocity an element is of any grid.
func (e Element) tidy() Element {
	if e.shift == (Vector{}) && e.velocity == (Vector{}) && e.drift == (Vector{}) {
		e.axes = 0
	}
	return e
}

// IsIdentity reports whether e is the zero value.
func (e Element) IsIdentity() bool { return e == Element{} }

// NeedsSquare reports whether e carries an axis to another, as a quarter turn does, or a reflection about a diagonal: these must be of one size.
func (e Element) NeedsSquare() bool { return e.grid.swapsAxes() }

// Permutes reports whether e moves the values of a state about and changes at most their signs, as turns, reflections and shifts by whole
// pixels do: it then keeps every distance between states.
func (e Element) Permutes() bool {
	return e.custom == nil && e.velocity == (Vector{}) && e.scale() == 1 && e.shift.whole() && e.drift.whole()
}

// Inverse returns the element that undoes e. It panics for an element of NewElement, of which that is not known.
func (e Element) Inverse() Element {
	if e.custom != nil {
		exceptions.Panicf("orbits: nothing is known of what undoes %s; define the inverse with NewElement", e.Name())
	}
	grid, vector := e.grid.inverse(), e.vector.inverse()
	return Element{
		grid: grid, vector: vector,
		shift: grid.apply(e.shift).times(-1), velocity: vector.apply(e.velocity).times(-1), drift: grid.apply(e.drift).times(-1),
		axes: e.axes, factor: asFactor(1 / e.scale()),
	}
}

// Compose returns "h first, then e": e.Apply(f, h.Apply(f, x)) equals e.Compose(h).Apply(f, x).
func (e Element) Compose(h Element) Element {
	switch {
	case e.IsIdentity():
		return h
	case h.IsIdentity():
		return e
	case e.custom != nil || h.custom != nil:
		both := &custom{
			name:   e.Name() + h.Name(),
			input:  func(f Field, x *graph.Node) *graph.Node { return e.Apply(f, h.Apply(f, x)) },
			output: func(f Field, y *graph.Node) *graph.Node { return e.ApplyOutput(f, h.ApplyOutput(f, y)) },
		}
		first, known := e.Undo()
		if second, also := h.Undo(); known && also {
			both.undo = func(f Field, y *graph.Node) *graph.Node { return second(f, first(f, y)) }
		}
		return Element{custom: both}
	}
	return Element{
		grid:     e.grid.compose(h.grid),
		vector:   e.vector.compose(h.vector),
		shift:    e.shift.plus(e.grid.apply(h.shift)).settled(),
		velocity: e.velocity.plus(e.vector.apply(h.velocity)),
		drift:    e.drift.plus(e.grid.apply(h.drift)).settled(),
		axes:     max(e.axes, h.axes),
		factor:   asFactor(e.scale() * h.scale()),
	}.tidy()
}

func (e Element) scale() float64 {
	if e.factor == 0 {
		return 1
	}
	return e.factor
}

// asFactor is the inverse of scale. 49 * (1 / 49) is 1 up to rounding.
func asFactor(scale float64) float64 {
	if math.Abs(scale-1) < 1e-12 {
		return 0
	}
	return scale
}

// Apply returns gx for each state of x, [batch, x, channel], [batch, y, x, channel] or [batch, z, y, x, channel] of any float dtype:
// (gU)(p) = M_g U(g^-1 p), positions about the centre of the periodic box. What M_g does to a channel is for f to say. A scaling, and an element
// of the user's own, take states [batch, ..., channel] of any rank.
//
// It panics, as graph building does, when x does not have the field's channels, when x or the field's vectors lack an axis that e moves, when
// e carries an axis to one of another size, and when a boost meets a field without conserved variables. Group.Check says all that before.
func (e Element) Apply(f Field, x *graph.Node) *graph.Node {
	if e.custom != nil {
		return e.custom.apply(e.custom.input, f, x)
	}
	return e.move(f, x, e.shift)
}

// ApplyOutput returns the image of a model's output y, or of a target, a state as Apply takes it, where x is moved by Apply. It is the same
// but for boosts, which carry the output a step further along than the input, and where WithOutput says otherwise.
func (e Element) ApplyOutput(f Field, y *graph.Node) *graph.Node {
	if e.custom != nil {
		return e.custom.apply(e.custom.output, f, y)
	}
	return e.move(f, y, e.shift.plus(e.drift).settled())
}

func (o *custom) apply(act action, f Field, x *graph.Node) *graph.Node {
	checkState(f, x)
	image := act(f, x)
	if !image.Shape().Equal(x.Shape()) {
		exceptions.Panicf("orbits: element %s maps %s to %s; it must keep shape and dtype", o.name, x.Shape(), image.Shape())
	}
	return image
}

func checkState(f Field, x *graph.Node) {
	if x.Rank() < 2 || x.Shape().Dim(-1) != len(f.Channels) {
		exceptions.Panicf("orbits: a state of this field is [batch, ..., %d], got %s", len(f.Channels), x.Shape())
	}
}

// fits refuses a grid on which e does not act, and a field of another.
func (e Element) fits(f Field, grid []int) error {
	moved := max(e.grid.reach(), e.vector.reach(), e.shift.reach(), e.velocity.reach(), e.drift.reach())
	switch {
	case e.custom != nil || moved == 0:
		return nil
	case moved > len(grid) || len(grid) > 3:
		return fmt.Errorf("orbits: element %s is of states with 1 to 3 axes of space, and moves them along %c; these have the grid %s", e.Name(), axisNames[moved-1], gridName(grid))
	case !e.grid.fits(grid):
		return fmt.Errorf("orbits: element %s carries an axis of the grid to another and needs them of one size, got %s", e.Name(), gridName(grid))
	}
	return f.fits(grid)
}

// move applies a built-in element with a shift that is the input's or the output's.
func (e Element) move(f Field, x *graph.Node, shift Vector) *graph.Node {
	checkState(f, x)
	if err := e.fits(f, x.Shape().Dimensions[1:x.Rank()-1]); err != nil {
		panic(err)
	}
	x = e.turnGrid(f, x)
	x = e.mixChannels(f, x)
	if f.RowDown {
		shift.Y = -shift.Y
	}
	for axis, pixels := range shift.components() {
		if pixels != 0 {
			x = shifted(x, arrayAxis(x, axis), pixels)
		}
	}
	if e.factor != 0 {
		x = graph.MulScalar(x, e.factor)
	}
	return x
}

// Turn returns the images of the unit vectors along x, y and z, if e is a rotation or a reflection and nothing else.
func (e Element) Turn() (x, y, z Vector, ok bool) {
	if e != (Element{grid: e.grid, vector: e.grid}) {
		return Vector{}, Vector{}, Vector{}, false
	}
	image := func(unit Vector) Vector {
		return e.grid.apply(unit).each(func(_ int, c float64) float64 { return c + 0 }) // no -0, which prints as such
	}
	return image(Vector{X: 1}), image(Vector{Y: 1}), image(Vector{Z: 1}), true
}
