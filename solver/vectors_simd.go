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

// addScaled adds the combination of four rows to dst.
func addScaled(dst []float64, factors *[4]float64, rows *[4][]float64) {
	if !simd {
		plainAddScaled(dst, factors, rows)
		return
	}
	d := chunks(dst)
	c0, c1, c2, c3 := chunks(rows[0])[:len(d)], chunks(rows[1])[:len(d)], chunks(rows[2])[:len(d)], chunks(rows[3])[:len(d)]
	f0, f1 := archsimd.BroadcastFloat64x4(factors[0]), archsimd.BroadcastFloat64x4(factors[1])
	f2, f3 := archsimd.BroadcastFloat64x4(factors[2]), archsimd.BroadcastFloat64x4(factors[3])
	for i := range d {
		to, p, q, u, v := &d[i], &c0[i], &c1[i], &c2[i], &c3[i]
		w, x, y, z := four(to, 0), four(to, 4), four(to, 8), four(to, 12)
		w, x, y, z = four(p, 0).MulAdd(f0, w), four(p, 4).MulAdd(f0, x), four(p, 8).MulAdd(f0, y), four(p, 12).MulAdd(f0, z)
		w, x, y, z = four(q, 0).MulAdd(f1, w), four(q, 4).MulAdd(f1, x), four(q, 8).MulAdd(f1, y), four(q, 12).MulAdd(f1, z)
		w, x, y, z = four(u, 0).MulAdd(f2, w), four(u, 4).MulAdd(f2, x), four(u, 8).MulAdd(f2, y), four(u, 12).MulAdd(f2, z)
		w, x, y, z = four(v, 0).MulAdd(f3, w), four(v, 4).MulAdd(f3, x), four(v, 8).MulAdd(f3, y), four(v, 12).MulAdd(f3, z)
		w.Store((*[4]float64)(to[0:4]))
		x.Store((*[4]float64)(to[4:8]))
		y.Store((*[4]float64)(to[8:12]))
		z.Store((*[4]float64)(to[12:16]))
	}
	if done := len(d) * len(chunk{}); done < len(dst) {
		plainAddScaled(dst[done:], factors, &[4][]float64{rows[0][done:], rows[1][done:], rows[2][done:], rows[3][done:]})
	}
}
