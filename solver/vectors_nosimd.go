//go:build !goexperiment.simd || !amd64

package solver

func dots(t *tile, a0, a1, b0, b1 []float64) { plainDots(t, a0, a1, b0, b1) }

func addScaled(dst []float64, factors *[4]float64, rows *[4][]float64) {
	plainAddScaled(dst, factors, rows)
}
