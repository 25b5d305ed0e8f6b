package orbits

import (
	"math"

	"github.com/gomlx/gomlx/core/graph"
)

// shifted moves a periodic axis by some pixels: exactly by a whole number of them, otherwise by Fourier interpolation.
func shifted(x *graph.Node, axis int, pixels float64) *graph.Node {
	size := x.Shape().Dimensions[axis]
	pixels = math.Mod(pixels, float64(size))
	if pixels == math.Trunc(pixels) {
		return roll(x, axis, int(pixels))
	}
	return circulant(x, axis, func(distance, size int) float64 { return dirichlet(float64(distance)-pixels, size) })
}

// circulant sums along an axis with a weight for each distance of an image from its source.
func circulant(x *graph.Node, axis int, weight func(distance, size int) float64) *graph.Node {
	size := x.Shape().Dimensions[axis]
	matrix := make([][]float64, size)
	for i := range matrix {
		matrix[i] = make([]float64, size)
		for j := range size {
			matrix[i][j] = weight(i-j, size)
		}
	}
	interpolate := graph.ConstAsDType(x.Graph(), x.DType(), matrix)
	of := "nabcdefghijk"[:x.Rank()] // a letter for each axis, that of the image m
	return graph.Einsum("m"+of[axis:axis+1]+","+of+"->"+of[:axis]+"m"+of[axis+1:], interpolate, x)
}

// dirichlet is the trigonometric interpolant of a unit at 0 among size equidistant points, at a distance from it that is no
// whole number: sin(pi x) / (size sin(pi x / size)), with tan for sin below where the size is even (Trefethen, "Spectral
// Methods in MATLAB", 2000, chapter 3). A shift by d multiplies mode k by exp(-2 pi i k d / size), and the highest mode of
// an even size, which alternates from point to point and of which no other phase is known, by the real part, cos(pi d).
func dirichlet(distance float64, size int) float64 {
	n := float64(size)
	numerator, phase := math.Sin(math.Pi*distance), math.Pi*distance/n
	if size%2 == 0 {
		return numerator / (n * math.Tan(phase))
	}
	return numerator / (n * math.Sin(phase))
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
