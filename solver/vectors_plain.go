package solver

import "gonum.org/v1/gonum/floats"

// Without AVX2, and for the ends of pieces.

func plainDots(a0, a1, b0, b1 []float64) [4]float64 {
	return [4]float64{floats.Dot(a0, b0), floats.Dot(a0, b1), floats.Dot(a1, b0), floats.Dot(a1, b1)}
}

func plainAddScaled(dst []float64, factors *[4]float64, rows *[4][]float64) {
	for i, row := range rows {
		floats.AddScaled(dst, factors[i], row)
	}
}
