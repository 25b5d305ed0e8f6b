package orbits

// dihedral is an element of the symmetry group of the square: s^flips r^turns (r^turns first), where r is the
// counter-clockwise quarter turn and s the reflection x -> -x. It is stored as 4*flips + turns, so that 0 is the
// identity.
type dihedral uint8

const dihedralOrder = 8

var dihedralNames = [dihedralOrder]string{"e", "r", "r2", "r3", "s", "sr", "sr2", "sr3"}

func (d dihedral) turns() int { return int(d % 4) }
func (d dihedral) flips() int { return int(d / 4) }

// compose is "h first, then d". Because r s = s r^-1, moving h's reflection to the front inverts d's turns.
func (d dihedral) compose(h dihedral) dihedral {
	turns := d.turns()
	if h.flips() == 1 {
		turns = -turns
	}
	return dihedral(4*((d.flips()+h.flips())%2) + (turns+h.turns()+4)%4)
}

func (d dihedral) inverse() dihedral {
	if d.flips() == 1 {
		return d // a reflection
	}
	return dihedral((4 - d.turns()) % 4)
}

// apply returns the image of a point or vector.
func (d dihedral) apply(v Vector) Vector {
	for range d.turns() {
		v = Vector{-v.Y, v.X}
	}
	if d.flips() == 1 {
		v.X = -v.X
	}
	return v
}

// swapsAxes reports whether the x axis is carried to the y axis.
func (d dihedral) swapsAxes() bool { return d.turns()%2 == 1 }
