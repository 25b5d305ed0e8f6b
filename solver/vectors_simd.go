//go:build goexperiment.simd && amd64

package solver

import (
	"simd/archsimd"
	"unsafe"
)

var simd = archsimd.X86.AVX2() && archsimd.X86.FMA()

// quads are the elements of v in fours, the odd ones at the end left out.
func quads(v []float64) [][4]float64 {
	return unsafe.Slice((*[4]float64)(unsafe.Pointer(unsafe.SliceData(v))), len(v)/4)
}

// dots are a0 b0, a0 b1, a1 b0 and a1 b1.
func dots(a0, a1, b0, b1 []float64) (s [4]float64) {
	if !simd {
		return plainDots(a0, a1, b0, b1)
	}
	x0 := quads(a0)
	x1, y0, y1 := quads(a1)[:len(x0)], quads(b0)[:len(x0)], quads(b1)[:len(x0)]
	var s00, s01, s10, s11 archsimd.Float64x4
	for i := range x0 {
		v, w := archsimd.LoadFloat64x4(&y0[i]), archsimd.LoadFloat64x4(&y1[i])
		u := archsimd.LoadFloat64x4(&x0[i])
		s00, s01 = u.MulAdd(v, s00), u.MulAdd(w, s01)
		u = archsimd.LoadFloat64x4(&x1[i])
		s10, s11 = u.MulAdd(v, s10), u.MulAdd(w, s11)
	}
	done := 4 * len(x0)
	s = plainDots(a0[done:], a1[done:], b0[done:], b1[done:])
	for i, sum := range [4]archsimd.Float64x4{s00, s01, s10, s11} {
		var parts [4]float64
		sum.Store(&parts)
		s[i] += (parts[0] + parts[1]) + (parts[2] + parts[3])
	}
	return s
}

// addScaled adds the combination of four rows to dst.
func addScaled(dst []float64, factors *[4]float64, rows *[4][]float64) {
	if !simd {
		plainAddScaled(dst, factors, rows)
		return
	}
	d := quads(dst)
	y0, y1, y2, y3 := quads(rows[0])[:len(d)], quads(rows[1])[:len(d)], quads(rows[2])[:len(d)], quads(rows[3])[:len(d)]
	f0, f1 := archsimd.BroadcastFloat64x4(factors[0]), archsimd.BroadcastFloat64x4(factors[1])
	f2, f3 := archsimd.BroadcastFloat64x4(factors[2]), archsimd.BroadcastFloat64x4(factors[3])
	for i := range d {
		s := archsimd.LoadFloat64x4(&d[i])
		s = archsimd.LoadFloat64x4(&y0[i]).MulAdd(f0, s)
		s = archsimd.LoadFloat64x4(&y1[i]).MulAdd(f1, s)
		s = archsimd.LoadFloat64x4(&y2[i]).MulAdd(f2, s)
		s = archsimd.LoadFloat64x4(&y3[i]).MulAdd(f3, s)
		s.Store(&d[i])
	}
	done := 4 * len(d)
	if done < len(dst) {
		plainAddScaled(dst[done:], factors, &[4][]float64{rows[0][done:], rows[1][done:], rows[2][done:], rows[3][done:]})
	}
}
