package orbits

import "math"

// Vector is a vector of physical space: +x to the right, +y up, whatever the orientation of a field's rows.
type Vector struct {
	X float64 `yaml:"x"`
	Y float64 `yaml:"y"`
}

func (v Vector) plus(w Vector) Vector { return Vector{v.X + w.X, v.Y + w.Y} }

func (v Vector) times(factor float64) Vector { return Vector{factor * v.X, factor * v.Y} }

func (v Vector) dot(w Vector) float64 { return v.X*w.X + v.Y*w.Y }

// settled rounds pixels to multiples of 1e-9, so that shifts which differ by rounding alone are equal, and those of a whole
// number of pixels stay exact: 0.57 * 100 is 57.
func (v Vector) settled() Vector { return Vector{settled(v.X), settled(v.Y)} }

func settled(pixels float64) float64 {
	const parts = 1e9
	return math.Round(pixels*parts) / parts
}
