//go:build goexperiment.simd && amd64

package solver

import (
	"simd/archsimd"
	"unsafe"
)

var simd = archsimd.X86.AVX2() && archsimd.X86.FMA()

// chunk is as much as one turn of a loop works on.
type chunk = [16]float64

// chunks are the elements of v in chunks, the odd ones at the end left out.
func chunks(v []float64) []chunk {
	return unsafe.Slice((*chunk)(unsafe.Pointer(unsafe.SliceData(v))), len(v)/len(chunk{}))
}

// four are the elements of a chunk from a constant on.
func four(c *chunk, at int) archsimd.Float64x4 {
	return archsimd.LoadFloat64x4((*[4]float64)(c[at : at+4]))
}

// dots adds the inner products of two rows with two to a tile.
func dots(t *tile, a0, a1, b0, b1 []float64) {
	if !simd {
		plainDots(t, a0, a1, b0, b1)
		return
	}
	c0 := chunks(a0)
	c1, d0, d1 := chunks(a1)[:len(c0)], chunks(b0)[:len(c0)], chunks(b1)[:len(c0)]
	s00, s01 := archsimd.LoadFloat64x4(&t[0]), archsimd.LoadFloat64x4(&t[1])
	s10, s11 := archsimd.LoadFloat64x4(&t[2]), archsimd.LoadFloat64x4(&t[3])
	for i := range c0 {
		p, q, u, v := &c0[i], &c1[i], &d0[i], &d1[i]
		w, x, y, z := four(p, 0), four(q, 0), four(u, 0), four(v, 0)
		s00, s01, s10, s11 = w.MulAdd(y, s00), w.MulAdd(z, s01), x.MulAdd(y, s10), x.MulAdd(z, s11)
		w, x, y, z = four(p, 4), four(q, 4), four(u, 4), four(v, 4)
		s00, s01, s10, s11 = w.MulAdd(y, s00), w.MulAdd(z, s01), x.MulAdd(y, s10), x.MulAdd(z, s11)
		w, x, y, z = four(p, 8), four(q, 8), four(u, 8), four(v, 8)
		s00, s01, s10, s11 = w.MulAdd(y, s00), w.MulAdd(z, s01), x.MulAdd(y, s10), x.MulAdd(z, s11)
		w, x, y, z = four(p, 12), four(q, 12), four(u, 12), four(v, 12)
		s00, s01, s10, s11 = w.MulAdd(y, s00), w.MulAdd(z, s01), x.MulAdd(y, s10), x.MulAdd(z, s11)
	}
	s00.Store(&t[0])
	s01.Store(&t[1])
	s10.Store(&t[2])
	s11.Store(&t[3])
	if done := len(c0) * len(chunk{}); done < len(a0) {
		plainDots(t, a0[done:], a1[done:], b0[done:], b1[done:])
	}
}

// addScaled adds combinations of four rows to two vectors, or to one where second is nil.
func addScaled(first, second []float64, factors *[2][4]float64, rows *[4][]float64) {
	if !simd {
		plainAddScaled(first, second, factors, rows)
		return
	}
	alone := second == nil
	if alone {
		second = first // what is stored there is overwritten at once
	}
	d0 := chunks(first)
	d1, c0, c1 := chunks(second)[:len(d0)], chunks(rows[0])[:len(d0)], chunks(rows[1])[:len(d0)]
	c2, c3 := chunks(rows[2])[:len(d0)], chunks(rows[3])[:len(d0)]
	var f, g [4]archsimd.Float64x4
	for i := range 4 {
		f[i], g[i] = archsimd.BroadcastFloat64x4(factors[0][i]), archsimd.BroadcastFloat64x4(factors[1][i])
	}
	f0, f1, f2, f3, g0, g1, g2, g3 := f[0], f[1], f[2], f[3], g[0], g[1], g[2], g[3]
	for i := range d0 {
		p, q, r0, r1, r2, r3 := &d0[i], &d1[i], &c0[i], &c1[i], &c2[i], &c3[i]
		y, z := four(p, 0), four(q, 0)
		x := four(r0, 0)
		y, z = x.MulAdd(f0, y), x.MulAdd(g0, z)
		x = four(r1, 0)
		y, z = x.MulAdd(f1, y), x.MulAdd(g1, z)
		x = four(r2, 0)
		y, z = x.MulAdd(f2, y), x.MulAdd(g2, z)
		x = four(r3, 0)
		y, z = x.MulAdd(f3, y), x.MulAdd(g3, z)
		z.Store((*[4]float64)(q[0:4]))
		y.Store((*[4]float64)(p[0:4]))

		y, z = four(p, 4), four(q, 4)
		x = four(r0, 4)
		y, z = x.MulAdd(f0, y), x.MulAdd(g0, z)
		x = four(r1, 4)
		y, z = x.MulAdd(f1, y), x.MulAdd(g1, z)
		x = four(r2, 4)
		y, z = x.MulAdd(f2, y), x.MulAdd(g2, z)
		x = four(r3, 4)
		y, z = x.MulAdd(f3, y), x.MulAdd(g3, z)
		z.Store((*[4]float64)(q[4:8]))
		y.Store((*[4]float64)(p[4:8]))

		y, z = four(p, 8), four(q, 8)
		x = four(r0, 8)
		y, z = x.MulAdd(f0, y), x.MulAdd(g0, z)
		x = four(r1, 8)
		y, z = x.MulAdd(f1, y), x.MulAdd(g1, z)
		x = four(r2, 8)
		y, z = x.MulAdd(f2, y), x.MulAdd(g2, z)
		x = four(r3, 8)
		y, z = x.MulAdd(f3, y), x.MulAdd(g3, z)
		z.Store((*[4]float64)(q[8:12]))
		y.Store((*[4]float64)(p[8:12]))

		y, z = four(p, 12), four(q, 12)
		x = four(r0, 12)
		y, z = x.MulAdd(f0, y), x.MulAdd(g0, z)
		x = four(r1, 12)
		y, z = x.MulAdd(f1, y), x.MulAdd(g1, z)
		x = four(r2, 12)
		y, z = x.MulAdd(f2, y), x.MulAdd(g2, z)
		x = four(r3, 12)
		y, z = x.MulAdd(f3, y), x.MulAdd(g3, z)
		z.Store((*[4]float64)(q[12:16]))
		y.Store((*[4]float64)(p[12:16]))
	}
	if done := len(d0) * len(chunk{}); done < len(first) {
		second = second[done:]
		if alone {
			second = nil
		}
		plainAddScaled(first[done:], second, factors, &[4][]float64{rows[0][done:], rows[1][done:], rows[2][done:], rows[3][done:]})
	}
}

// widen converts src into dst, of as many numbers.
func widen(dst []float64, src []float32) {
	done := 0
	if simd {
		for ; done+4 <= len(src); done += 4 {
			archsimd.LoadFloat32x4((*[4]float32)(src[done:])).ConvertToFloat64().Store((*[4]float64)(dst[done:]))
		}
	}
	plainWiden(dst[done:], src[done:])
}

// narrow rounds src into dst, of as many numbers.
func narrow(dst []float32, src []float64) {
	done := 0
	if simd {
		for ; done+4 <= len(src); done += 4 {
			archsimd.LoadFloat64x4((*[4]float64)(src[done:])).ConvertToFloat32().Store((*[4]float32)(dst[done:]))
		}
	}
	plainNarrow(dst[done:], src[done:])
}
