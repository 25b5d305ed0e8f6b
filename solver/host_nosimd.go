//go:build !goexperiment.simd || !amd64

package solver

func dots(t *tile, a0, a1 []float64, b *[4][]float64) { plainDots(t, a0, a1, b) }

func addScaled(first, second []float64, factors *[2][4]float64, rows *[4][]float64) {
	plainAddScaled(first, second, factors, rows)
}

func widen(dst []float64, src []float32) { plainWiden(dst, src) }

func narrow(dst []float32, src []float64) { plainNarrow(dst, src) }
