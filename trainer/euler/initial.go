package euler

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
)

// patches is one draw of an InitialState: what it is at every point of the square.
type patches struct {
	cells            int
	values           [][4]float64 // density, velocity_x, velocity_y, pressure of patch (row, column), row by row
	rippleX, rippleY ripple
}

// ripple is a sum of sines; see InitialState.
type ripple []sine

type sine struct{ waveX, waveY, amplitude, phase float64 }

// generator returns the source of random numbers of one trajectory. It depends on nothing else, so that a trajectory is
// the same whatever is generated beside it.
func generator(seed int64, family Family, trajectory int) *rand.Rand {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%s/%d", seed, family, trajectory))
	return rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])))
}

func (s InitialState) draw(random *rand.Rand) patches {
	drawn := patches{cells: s.Cells, values: make([][4]float64, s.Cells*s.Cells)}
	for i := range drawn.values {
		drawn.values[i] = [4]float64{s.Density.draw(random), s.Velocity.draw(random), s.Velocity.draw(random), s.Pressure.draw(random)}
	}
	drawn.rippleX = s.drawRipple(random)
	drawn.rippleY = s.drawRipple(random)
	return drawn
}

func (s InitialState) drawRipple(random *rand.Rand) ripple {
	sines := make(ripple, 0, s.Modes*s.Modes)
	for i := range s.Modes {
		for j := range s.Modes {
			sines = append(sines, sine{
				waveX: float64(i + 1 + s.ModeOffset), waveY: float64(j + 1 + s.ModeOffset),
				amplitude: Range{-s.Amplitude, s.Amplitude}.draw(random), phase: random.Float64(),
			})
		}
	}
	return sines
}

func (r Range) draw(random *rand.Rand) float64 { return r[0] + (r[1]-r[0])*random.Float64() }

func (r ripple) at(x, y float64) (sum float64) {
	for _, s := range r {
		sum += s.amplitude * math.Sin(2*math.Pi*(s.waveX*x+s.waveY*y)+s.phase)
	}
	return sum
}

// at returns density, velocity_x, velocity_y and pressure at a point.
func (p patches) at(x, y float64) [4]float64 {
	column := p.patch(x + p.rippleX.at(x, y))
	row := p.patch(y + p.rippleY.at(x, y))
	return p.values[row*p.cells+column]
}

// patch is the index of the patch that holds a coordinate on the circle of length one.
func (p patches) patch(coordinate float64) int {
	fraction := coordinate - math.Floor(coordinate) // may round up to 1
	return min(int(fraction*float64(p.cells)), p.cells-1)
}

// fill writes the conserved state at the cell centres of an n x n grid to state [n, n, 4].
func (p patches) fill(state []float64, n int, gamma float64) {
	for j := range n {
		for i := range n {
			w := p.at((float64(i)+0.5)/float64(n), (float64(j)+0.5)/float64(n))
			kinetic := w[density] * (w[alongX]*w[alongX] + w[alongY]*w[alongY]) / 2
			copy(state[(j*n+i)*Channels:], []float64{
				w[density], w[density] * w[alongX], w[density] * w[alongY], w[pressure]/(gamma-1) + kinetic,
			})
		}
	}
}
