package orbits

import (
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Element is a symmetry of the periodic square: a rotation or reflection about its centre, then a shift. The zero value
// is the identity; elements compare with ==.
//
// Elements of D4 and Translations compose freely. Shifts are kept as given and taken modulo the grid only when
// applied, so a shift by the grid's width acts as the identity without being equal to it.
type Element struct {
	grid   dihedral // acts on positions
	vector dihedral // acts on vectors; differs from grid only in the negative control d4-grid-only
	dy, dx int      // pixels along +y and +x
	own    *own     // of the user; the others are zero then
}

// own is what a user has defined.
type own struct {
	name string
	act  func(x *graph.Node) *graph.Node
}

// NewElement returns an element of the user's own for Custom: act maps states [batch, y, x, channel] to their images, of the same
// shape and dtype. The name, "scale(2)" for instance, stands in the records and is not empty or that of another element.
func NewElement(name string, act func(x *graph.Node) *graph.Node) Element {
	return Element{own: &own{name, act}}
}

// Name is "e", "r", "r2", "r3", "s", "sr", "sr2" or "sr3" for D4 ("sr": r first, then s), "t(dy,dx)" in pixels for a
// translation and both, "t(dy,dx)r", for a rotation followed by a translation. The elements of D4GridOnly are named as
// those of D4: the group's name tells them apart.
func (e Element) Name() string {
	if e.own != nil {
		return e.own.name
	}
	if e.dy == 0 && e.dx == 0 {
		return dihedralNames[e.grid]
	}
	name := fmt.Sprintf("t(%d,%d)", e.dy, e.dx)
	if e.grid != 0 {
		name += dihedralNames[e.grid]
	}
	return name
}

// String is Name.
func (e Element) String() string { return e.Name() }

// Shift returns the translation in pixels along +y and +x; zero for D4.
func (e Element) Shift() (dy, dx float64) { return float64(e.dy), float64(e.dx) }

// IsIdentity reports whether e is the zero value.
func (e Element) IsIdentity() bool { return e == Element{} }

// Inverse returns the element that undoes e. It panics for an element of NewElement, as Compose does.
func (e Element) Inverse() Element {
	e.requireBuiltIn()
	inverse := Element{grid: e.grid.inverse(), vector: e.vector.inverse()}
	inverse.dx, inverse.dy = inverse.grid.apply(-e.dx, -e.dy)
	return inverse
}

// Compose returns "h first, then e": e.Apply(f, h.Apply(f, x)) equals e.Compose(h).Apply(f, x).
func (e Element) Compose(h Element) Element {
	e.requireBuiltIn()
	h.requireBuiltIn()
	dx, dy := e.grid.apply(h.dx, h.dy)
	return Element{
		grid:   e.grid.compose(h.grid),
		vector: e.vector.compose(h.vector),
		dy:     e.dy + dy,
		dx:     e.dx + dx,
	}
}

func (e Element) requireBuiltIn() {
	if e.own != nil {
		exceptions.Panicf("orbits: nothing is known of how %s composes; define the element that is wanted with NewElement", e.Name())
	}
}

// Apply returns gx for each state of x, [batch, y, x, channel] of any float dtype: (gU)(p) = M_g U(g^-1 p), positions
// about the centre of the periodic square.
//
// It panics, as graph building does, when x does not have the field's channels or when a quarter turn meets a grid that
// is not square.
func (e Element) Apply(f Field, x *graph.Node) *graph.Node {
	if x.Rank() != 4 || x.Shape().Dimensions[3] != len(f.Channels) {
		exceptions.Panicf("orbits: a state of this field is [batch, y, x, %d], got %s", len(f.Channels), x.Shape())
	}
	if e.own != nil {
		image := e.own.act(x)
		if !image.Shape().Equal(x.Shape()) {
			exceptions.Panicf("orbits: element %s maps %s to %s; it must keep shape and dtype", e.Name(), x.Shape(), image.Shape())
		}
		return image
	}
	x = e.turnGrid(f, x)
	x = e.turnVectors(f, x)
	dy := e.dy
	if f.RowDown {
		dy = -dy
	}
	return roll(roll(x, rowAxis, dy), columnAxis, e.dx)
}

const (
	rowAxis     = 1
	columnAxis  = 2
	channelAxis = 3
)

// turnGrid moves whole cells. Output (row, column) reads the cell at g^-1 (column, row), which on the two centred axes
// is at most a swap and a sign each: a transposition and reversals.
func (e Element) turnGrid(f Field, x *graph.Node) *graph.Node {
	back := e.grid.inverse()
	up := 1 // sign of +y in rows
	if f.RowDown {
		up = -1
	}
	var rowSign, columnSign int // negative where the source is read backwards
	if back.swapsAxes() {
		if height, width := x.Shape().Dimensions[rowAxis], x.Shape().Dimensions[columnAxis]; height != width {
			exceptions.Panicf("orbits: element %s needs a square grid, got %dx%d", e.Name(), height, width)
		}
		x = graph.Transpose(x, rowAxis, columnAxis)
		rowSign, _ = back.apply(0, up) // output rows now run over source columns
		_, columnSign = back.apply(up, 0)
	} else {
		columnSign, _ = back.apply(1, 0)
		_, rowSign = back.apply(0, 1)
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

// turnVectors replaces the components of every vector v by those of M v; M is a signed permutation.
func (e Element) turnVectors(f Field, x *graph.Node) *graph.Node {
	if e.vector == 0 || len(f.Vectors) == 0 {
		return x
	}
	channels := graph.Split(x, channelAxis, len(f.Channels))
	for _, vector := range f.Vectors {
		old := [2]*graph.Node{channels[vector[0]], channels[vector[1]]}
		for component, unit := range [2][2]int{{1, 0}, {0, 1}} {
			imageX, imageY := e.vector.apply(unit[0], unit[1])
			target, sign := vector[0], imageX
			if imageX == 0 {
				target, sign = vector[1], imageY
			}
			channels[target] = old[component]
			if sign < 0 {
				channels[target] = graph.Neg(old[component])
			}
		}
	}
	return graph.Concatenate(channels, channelAxis)
}

// roll shifts x circularly: what was at index i comes to (i + shift) modulo the size.
func roll(x *graph.Node, axis, shift int) *graph.Node {
	size := x.Shape().Dimensions[axis]
	shift = ((shift % size) + size) % size
	if shift == 0 {
		return x
	}
	head := graph.SliceAxis(x, axis, graph.AxisRange(0, size-shift))
	tail := graph.SliceAxis(x, axis, graph.AxisRange(size-shift, size))
	return graph.Concatenate([]*graph.Node{tail, head}, axis)
}
