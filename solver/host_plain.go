package solver

import "gonum.org/v1/gonum/floats"

// Without AVX2, and for the ends of pieces.

func plainDots(t *tile, a0, a1 []float64, b *[4][]float64) {
	for j, row := range b {
		t[j][0] += floats.Dot(a0, row)
		t[4+j][0] += floats.Dot(a1, row)
	}
}

func plainAddScaled(first, second []float64, factors *[2][4]float64, rows *[4][]float64) {
	for i, row := range rows {
		floats.AddScaled(first, factors[0][i], row)
		if second != nil {
			floats.AddScaled(second, factors[1][i], row)
		}
	}
}

func plainWiden(dst []float64, src []float32) {
	for i, v := range src {
		dst[i] = float64(v)
	}
}

func plainNarrow(dst []float32, src []float64) {
	for i, v := range src {
		dst[i] = float32(v)
	}
}
