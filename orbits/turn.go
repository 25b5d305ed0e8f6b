package orbits

import (
	"slices"
	"strings"
)

// turn is a rotation or reflection of space that keeps the axes of a grid: it carries axis i of x, y and z to axis (i + step[i]) mod 3,
// and the other way along it where flip[i]. The zero value is the identity. Turns of the plane leave z as it is, and those of a line y too.
type turn struct {
	step [3]uint8
	flip [3]bool
}

var (
	quarter = turn{step: [3]uint8{1, 2, 0}, flip: [3]bool{false, true, false}} // x to y, y to -x: counter-clockwise, seen from +z
	cycle   = turn{step: [3]uint8{1, 1, 1}}                                    // x to y, y to z, z to x
	mirrorX = turn{flip: [3]bool{0: true}}
	mirrorZ = turn{flip: [3]bool{2: true}}
)

// squareTurns are s^k r^n, r^n first, in the order of squareNames: r is the quarter turn and s the reflection x -> -x.
var squareTurns = func() []turn {
	all := []turn{{}}
	for n := range 3 {
		all = append(all, quarter.compose(all[n]))
	}
	for n := range 4 {
		all = append(all, mirrorX.compose(all[n]))
	}
	return all
}()

var squareNames = []string{"e", "r", "r2", "r3", "s", "sr", "sr2", "sr3"}

// cubeTurns are those of the square, these with z turned over, and both followed by a cycle of the axes: each once, for the first sixteen are
// all that keep the line of z.
func cubeTurns() (all []turn) {
	for _, axes := range []turn{{}, cycle, cycle.inverse()} {
		for _, over := range []turn{{}, mirrorZ} {
			for _, t := range squareTurns {
				all = append(all, axes.compose(over).compose(t))
			}
		}
	}
	return all
}

// axisMirrors are all ways to reflect some of the first axes.
func axisMirrors(axes int) (all []turn) {
	for which := range 1 << axes {
		var t turn
		for i := range axes {
			t.flip[i] = which>>i&1 == 1
		}
		all = append(all, t)
	}
	return all
}

// axis is where axis i is carried, and sign is negative where it is turned round on the way.
func (t turn) axis(i int) int { return (i + int(t.step[i])) % 3 }

func (t turn) sign(i int) float64 {
	if t.flip[i] {
		return -1
	}
	return 1
}

func (t *turn) carry(i, axis int, flip bool) {
	t.step[i], t.flip[i] = uint8((axis-i+3)%3), flip
}

// compose is "h first, then t".
func (t turn) compose(h turn) (both turn) {
	for i := range 3 {
		between := h.axis(i)
		both.carry(i, t.axis(between), h.flip[i] != t.flip[between])
	}
	return both
}

func (t turn) inverse() (back turn) {
	for i := range 3 {
		back.carry(t.axis(i), i, t.flip[i])
	}
	return back
}

// apply returns the image of a point or vector.
func (t turn) apply(v Vector) Vector {
	var image [3]float64
	for i, c := range v.components() {
		image[t.axis(i)] = t.sign(i) * c
	}
	return Vector{image[0], image[1], image[2]}
}

// determinant is -1 of a reflection, in which a right hand becomes a left one.
func (t turn) determinant() float64 {
	d := t.sign(0) * t.sign(1) * t.sign(2)
	if t.step[0] != t.step[1] { // two axes are exchanged, where a cycle moves all alike
		d = -d
	}
	return d
}

// swapsAxes reports whether an axis is carried to another.
func (t turn) swapsAxes() bool { return t.step != [3]uint8{} }

// fits reports whether a grid, in the order of arrays, is carried to itself: whether the axes exchanged are there and of one size.
func (t turn) fits(grid []int) bool {
	for i := range 3 {
		if j := t.axis(i); i != j && (max(i, j) >= len(grid) || grid[len(grid)-1-i] != grid[len(grid)-1-j]) {
			return false
		}
	}
	return true
}

// reach is how many axes space needs to have for t.
func (t turn) reach() (axes int) {
	for i := range 3 {
		if t.axis(i) != i || t.flip[i] {
			axes = i + 1
		}
	}
	return axes
}

// name is one of squareNames or, of a turn that moves z, the crystallographers' triplet: where it takes the point (x, y, z), as in "(-y,x,-z)".
func (t turn) name() string {
	if n := slices.Index(squareTurns, t); n >= 0 {
		return squareNames[n]
	}
	var image [3]string
	for i, axis := range []string{"x", "y", "z"} {
		if t.flip[i] {
			axis = "-" + axis
		}
		image[t.axis(i)] = axis
	}
	return "(" + strings.Join(image[:], ",") + ")"
}
