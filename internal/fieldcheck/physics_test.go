package fieldcheck

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/trainer/euler"
)

// transitions are probes as judgeSteps takes them, of shape [n, size, size, channels].
type transitions struct {
	before, after     []float64
	n, size, channels int
}

// flows are steps of the compressible Euler equations.
func flows(t testing.TB, family euler.Family, n, size int, interval float64, first int) transitions {
	config := euler.Default()
	config.Resolution, config.Refinement, config.Snapshots, config.Interval = size, 1, first+2, interval
	generated, err := euler.Generate(context.Background(), backendtest.Go(t), config, string(family), n, 0, nil)
	require.NoError(t, err)
	states, err := tensors.CopyFlatData[float32](generated)
	require.NoError(t, err)
	p := transitions{n: n, size: size, channels: euler.Channels}
	length := size * size * p.channels
	for trajectory := range n {
		from := ((first+2)*trajectory + first) * length
		for i := range length {
			p.before = append(p.before, float64(states[from+i]))
			p.after = append(p.after, float64(states[from+length+i]))
		}
	}
	return p
}

// physics is a law of a step, and the states that it starts from.
type physics struct {
	channels int
	rate     func(n neighbourhood) []float64
	steps    int // in a transition; 0 means 1
	mean     []float64
	scale    []float64 // of the channels; nil means 1
	noise    float64   // in proportion to the change
}

// neighbourhood is a cell with those to the right of it, left, up and down: their channels.
type neighbourhood struct{ o, e, w, n, s []float64 }

func (h neighbourhood) dx(c int) float64 { return (h.e[c] - h.w[c]) / 2 }
func (h neighbourhood) dy(c int) float64 { return (h.n[c] - h.s[c]) / 2 }
func (h neighbourhood) laplacian(c int) float64 {
	return h.e[c] + h.w[c] + h.n[c] + h.s[c] - 4*h.o[c]
}
func (h neighbourhood) dxx(c int) float64 { return h.e[c] + h.w[c] - 2*h.o[c] }
func (h neighbourhood) dyy(c int) float64 { return h.n[c] + h.s[c] - 2*h.o[c] }

// carried is the change of a channel that the wind (u, v) of the first two channels carries along.
func (h neighbourhood) carried(c int) float64 { return -h.o[0]*h.dx(c) - h.o[1]*h.dy(c) }

// probes steps n random smooth states.
func (p physics) probes(seed uint64, n, size int) transitions {
	all := transitions{n: n, size: size, channels: p.channels}
	random := rand.New(rand.NewPCG(seed, 7))
	for range n {
		state := make([]float64, size*size*p.channels)
		for c := range p.channels {
			scale, mean := 0.5, 0.0
			if p.scale != nil {
				scale = p.scale[c]
			}
			if p.mean != nil {
				mean = p.mean[c]
			}
			const modes = 2
			for kx := -modes; kx <= modes; kx++ {
				for ky := -modes; ky <= modes; ky++ {
					amplitude, phase := 0.28*scale*random.NormFloat64(), 2*math.Pi*random.Float64()
					for y := range size {
						for x := range size {
							state[(y*size+x)*p.channels+c] += amplitude * math.Sin(2*math.Pi*float64(kx*x+ky*y)/float64(size)+phase)
						}
					}
				}
			}
			for i := c; i < len(state); i += p.channels {
				state[i] += mean
			}
		}
		next := slices.Clone(state)
		for range max(1, p.steps) {
			old := slices.Clone(next)
			cell := func(y, x int) []float64 {
				at := ((y+size)%size*size + (x+size)%size) * p.channels
				return old[at : at+p.channels]
			}
			for y := range size {
				for x := range size {
					h := neighbourhood{cell(y, x), cell(y, x+1), cell(y, x-1), cell(y+1, x), cell(y-1, x)}
					for c, rate := range p.rate(h) {
						next[(y*size+x)*p.channels+c] += 0.1 * rate
					}
				}
			}
		}
		for c := range p.channels {
			sum := 0.0
			for i := c; i < len(state); i += p.channels {
				sum += (next[i] - state[i]) * (next[i] - state[i])
			}
			for i := c; i < len(state); i += p.channels {
				next[i] += p.noise * math.Sqrt(sum) / float64(size) * random.NormFloat64()
			}
		}
		all.before, all.after = append(all.before, state...), append(all.after, next...)
	}
	return all
}

// upsideDown has rows that grow downwards: the same physics, stored as an image.
func (p transitions) upsideDown() transitions {
	flip := func(all []float64) []float64 {
		row := p.size * p.channels
		var flipped []float64
		for sample := range p.n {
			for y := range p.size {
				from := (sample*p.size + p.size - 1 - y) * row
				flipped = append(flipped, all[from:from+row]...)
			}
		}
		return flipped
	}
	p.before, p.after = flip(p.before), flip(p.after)
	return p
}

// with adds channels that never change.
func (p transitions) with(static func(y, x int) []float64) transitions {
	add := func(all []float64) (more []float64) {
		for i := 0; i < len(all); i += p.channels {
			cell := i / p.channels
			more = append(append(more, all[i:i+p.channels]...), static(cell/p.size%p.size, cell%p.size)...)
		}
		return more
	}
	p.before, p.after = add(p.before), add(p.after)
	p.channels += len(static(0, 0))
	return p
}

// force is what prefers a direction, or turns the frame.
type force struct{ x, y, turn, fall float64 }

// shallow is water of shallow depth that carries a dye: u, v, height, dye. The forces along x and y act on the dye as on heat.
func shallow(forces ...force) physics {
	var f force
	for _, f = range forces {
	}
	return physics{channels: 4, mean: []float64{0, 0, 1, 0}, scale: []float64{0.2, 0.2, 0.2, 0.5}, rate: func(h neighbourhood) []float64 {
		return []float64{
			h.carried(0) - h.dx(2) + 0.1*h.laplacian(0) + f.turn*h.o[1] + f.x*h.o[3],
			h.carried(1) - h.dy(2) + 0.1*h.laplacian(1) - f.turn*h.o[0] + f.y*h.o[3] - f.fall,
			h.carried(2) - h.o[2]*(h.dx(0)+h.dy(1)) + 0.05*h.laplacian(2),
			h.carried(3) + 0.1*h.laplacian(3),
		}
	}}
}

// waves are sound: u, v, pressure.
func waves(h neighbourhood) []float64 {
	return []float64{-h.dx(2), -h.dy(2), -h.dx(0) - h.dy(1)}
}
