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

// singleChunks are those of float32.
func singleChunks(v []float32) [][16]float32 {
	return unsafe.Slice((*[16]float32)(unsafe.Pointer(unsafe.SliceData(v))), len(v)/len(chunk{}))
}

// four are the elements of a chunk from a constant on.
func four(c *chunk, at int) archsimd.Float64x4 {
	return archsimd.LoadFloat64x4((*[4]float64)(c[at : at+4]))
}

// dots adds the inner products of two rows with four to a tile.
func dots(t *tile, a0, a1 []float64, b *[4][]float64) {
	if !simd {
		plainDots(t, a0, a1, b)
		return
	}
	c0 := chunks(a0)
	c1, d0, d1 := chunks(a1)[:len(c0)], chunks(b[0])[:len(c0)], chunks(b[1])[:len(c0)]
	d2, d3 := chunks(b[2])[:len(c0)], chunks(b[3])[:len(c0)]
	s00, s01 := archsimd.LoadFloat64x4(&t[0]), archsimd.LoadFloat64x4(&t[1])
	s02, s03 := archsimd.LoadFloat64x4(&t[2]), archsimd.LoadFloat64x4(&t[3])
	s10, s11 := archsimd.LoadFloat64x4(&t[4]), archsimd.LoadFloat64x4(&t[5])
	s12, s13 := archsimd.LoadFloat64x4(&t[6]), archsimd.LoadFloat64x4(&t[7])
	for i := range c0 {
		p, q, r, u, v, w := &c0[i], &c1[i], &d0[i], &d1[i], &d2[i], &d3[i]
		x, y, z := four(p, 0), four(q, 0), four(r, 0)
		s00, s10 = x.MulAdd(z, s00), y.MulAdd(z, s10)
		z = four(u, 0)
		s01, s11 = x.MulAdd(z, s01), y.MulAdd(z, s11)
		z = four(v, 0)
		s02, s12 = x.MulAdd(z, s02), y.MulAdd(z, s12)
		z = four(w, 0)
		s03, s13 = x.MulAdd(z, s03), y.MulAdd(z, s13)
		x, y, z = four(p, 4), four(q, 4), four(r, 4)
		s00, s10 = x.MulAdd(z, s00), y.MulAdd(z, s10)
		z = four(u, 4)
		s01, s11 = x.MulAdd(z, s01), y.MulAdd(z, s11)
		z = four(v, 4)
		s02, s12 = x.MulAdd(z, s02), y.MulAdd(z, s12)
		z = four(w, 4)
		s03, s13 = x.MulAdd(z, s03), y.MulAdd(z, s13)
		x, y, z = four(p, 8), four(q, 8), four(r, 8)
		s00, s10 = x.MulAdd(z, s00), y.MulAdd(z, s10)
		z = four(u, 8)
		s01, s11 = x.MulAdd(z, s01), y.MulAdd(z, s11)
		z = four(v, 8)
		s02, s12 = x.MulAdd(z, s02), y.MulAdd(z, s12)
		z = four(w, 8)
		s03, s13 = x.MulAdd(z, s03), y.MulAdd(z, s13)
		x, y, z = four(p, 12), four(q, 12), four(r, 12)
		s00, s10 = x.MulAdd(z, s00), y.MulAdd(z, s10)
		z = four(u, 12)
		s01, s11 = x.MulAdd(z, s01), y.MulAdd(z, s11)
		z = four(v, 12)
		s02, s12 = x.MulAdd(z, s02), y.MulAdd(z, s12)
		z = four(w, 12)
		s03, s13 = x.MulAdd(z, s03), y.MulAdd(z, s13)
	}
	s00.Store(&t[0])
	s01.Store(&t[1])
	s02.Store(&t[2])
	s03.Store(&t[3])
	s10.Store(&t[4])
	s11.Store(&t[5])
	s12.Store(&t[6])
	s13.Store(&t[7])
	if done := len(c0) * len(chunk{}); done < len(a0) {
		plainDots(t, a0[done:], a1[done:], &[4][]float64{b[0][done:], b[1][done:], b[2][done:], b[3][done:]})
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
		from := singleChunks(src)
		to := chunks(dst)[:len(from)]
		for i := range from {
			for at := 0; at < len(chunk{}); at += 4 {
				archsimd.LoadFloat32x4((*[4]float32)(from[i][at : at+4])).ConvertToFloat64().Store((*[4]float64)(to[i][at : at+4]))
			}
		}
		done = len(from) * len(chunk{})
	}
	plainWiden(dst[done:], src[done:])
}

// narrow rounds src into dst, of as many numbers.
func narrow(dst []float32, src []float64) {
	done := 0
	if simd {
		to := singleChunks(dst)
		from := chunks(src)[:len(to)]
		for i := range from {
			for at := 0; at < len(chunk{}); at += 4 {
				archsimd.LoadFloat64x4((*[4]float64)(from[i][at : at+4])).ConvertToFloat32().Store((*[4]float32)(to[i][at : at+4]))
			}
		}
		done = len(to) * len(chunk{})
	}
	plainNarrow(dst[done:], src[done:])
}
