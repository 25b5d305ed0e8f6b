package orbits

import "math"

// Vector is a vector of physical space: +x to the right, +y up whatever the orientation of a field's rows, +z towards the viewer. Along
// axes that a grid does not have it is zero.
type Vector struct {
	X float64 `yaml:"x"`           // to the right
	Y float64 `yaml:"y"`           // up
	Z float64 `yaml:"z,omitempty"` // towards the viewer
}

func (v Vector) components() [3]float64 { return [3]float64{v.X, v.Y, v.Z} }

// each is a vector of a function of each component and the number of its axis.
func (v Vector) each(of func(axis int, c float64) float64) Vector {
	return Vector{of(0, v.X), of(1, v.Y), of(2, v.Z)}
}

func (v Vector) plus(w Vector) Vector { return Vector{v.X + w.X, v.Y + w.Y, v.Z + w.Z} }

func (v Vector) times(factor float64) Vector { return Vector{factor * v.X, factor * v.Y, factor * v.Z} }

func (v Vector) dot(w Vector) float64 { return v.X*w.X + v.Y*w.Y + v.Z*w.Z }

// reach is how many axes space needs to have for v.
func (v Vector) reach() (axes int) {
	for i, c := range v.components() {
		if c != 0 {
			axes = i + 1
		}
	}
	return axes
}

// settled rounds pixels to multiples of 1e-9, so that shifts which differ by rounding alone are equal, and those of a whole
// number of pixels stay exact: 0.57 * 100 is 57.
func (v Vector) settled() Vector {
	return v.each(func(_ int, c float64) float64 { return settled(c) })
}

func settled(pixels float64) float64 {
	const parts = 1e9
	return math.Round(pixels*parts) / parts
}

// whole reports whether no component has a fraction.
func (v Vector) whole() bool {
	return v == v.each(func(_ int, c float64) float64 { return math.Trunc(c) })
}
