package fieldcheck

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/orbits"
)

// periodic is physics in a periodic box of one to three axes: unlike those of physics, its steps are many small ones on a finer grid, of which probes
// hold means over cells, so that no law of a cell and its neighbours is exact.
type periodic struct {
	axes, channels int
	size, finer    int     // cells of the probes along an axis, and of the finer grid in each
	interval       float64 // of time, between the states of a probe: cells of the probes are 1 long
	step           float64 // of time, at most
	noise          float64 // in proportion to the change
	state          func(waves []float64) []float64
	tube           bool                             // states are halves that differ, and no waves
	rate           func(h box, w float64) []float64 // w is the width of a cell
}

// box is a cell, o, and those before and after it along each axis.
type box struct {
	o    []float64
	next [3][2][]float64
}

func (h box) d(axis, c int, w float64) float64 {
	return (h.next[axis][1][c] - h.next[axis][0][c]) / (2 * w)
}

func (h box) dd(axis, c int, w float64) float64 {
	return (h.next[axis][1][c] - 2*h.o[c] + h.next[axis][0][c]) / (w * w)
}

// laplacian is that over all axes that there are.
func (h box) laplacian(c int, w float64) (sum float64) {
	for axis, next := range h.next {
		if next[0] != nil {
			sum += h.dd(axis, c, w)
		}
	}
	return sum
}

// carried is the change of a channel that the wind of channels from first on carries along.
func (h box) carried(first, c int, w float64) (sum float64) {
	for axis, next := range h.next {
		if next[0] != nil {
			sum -= h.o[first+axis] * h.d(axis, c, w)
		}
	}
	return sum
}

// probes are n of them, of shape [n, ..., x, channels].
func (p periodic) probes(seed uint64, n int) (before, after []float64, shape []int) {
	random := rand.New(rand.NewPCG(seed, 11))
	shape = []int{n}
	for range p.axes {
		shape = append(shape, p.size)
	}
	shape = append(shape, p.channels)
	fine := p.size * p.finer
	sizes := [3]int{1, 1, 1}
	cells := 1
	for axis := range p.axes {
		sizes[axis] = fine
		cells *= fine
	}
	w := 1 / float64(p.finer)
	place := func(at int) [3]int {
		return [3]int{at % sizes[0], at / sizes[0] % sizes[1], at / sizes[0] / sizes[1]}
	}
	for range n {
		waves := make([][]float64, cells)
		for i := range waves {
			waves[i] = make([]float64, p.channels)
		}
		for c := range p.channels {
			axis, phase, left, right := random.IntN(p.axes), random.IntN(fine), random.NormFloat64(), random.NormFloat64()
			if p.tube {
				for i := range waves {
					waves[i][c] = left
					if (place(i)[axis]+phase)%fine < fine/2 {
						waves[i][c] = right
					}
				}
				continue
			}
			for range 3 * p.axes {
				var k [3]float64
				square := 0.0
				for axis := range p.axes {
					k[axis] = float64(random.IntN(5) - 2)
					square += k[axis] * k[axis]
				}
				amplitude, phase := random.NormFloat64()/math.Sqrt(float64(3*p.axes)), 2*math.Pi*random.Float64()
				for i := range waves {
					at := place(i)
					waves[i][c] += amplitude * math.Sin(2*math.Pi*(k[0]*float64(at[0])+k[1]*float64(at[1])+k[2]*float64(at[2]))/float64(fine)+phase) / (1 + square/4)
				}
			}
		}
		states := make([][]float64, cells)
		for i := range states {
			states[i] = waves[i]
			if p.state != nil {
				states[i] = p.state(waves[i])
			}
		}
		first := len(before)
		before = append(before, p.coarse(states, sizes)...)
		steps := int(math.Ceil(p.interval / p.step))
		for range steps {
			next := make([][]float64, cells)
			for i := range states {
				h := box{o: states[i]}
				stride := 1
				for axis := range p.axes {
					at := i / stride % fine
					h.next[axis][0] = states[i+((at+fine-1)%fine-at)*stride]
					h.next[axis][1] = states[i+((at+1)%fine-at)*stride]
					stride *= fine
				}
				next[i] = p.rate(h, w)
				for c := range next[i] {
					next[i][c] = states[i][c] + p.interval/float64(steps)*next[i][c]
				}
			}
			states = next
		}
		after = append(after, p.coarse(states, sizes)...)
		for c := range p.channels {
			sum, count := 0.0, 0.0
			for i := first + c; i < len(before); i += p.channels {
				sum += (after[i] - before[i]) * (after[i] - before[i])
				count++
			}
			for i := first + c; i < len(before); i += p.channels {
				after[i] += p.noise * math.Sqrt(sum/count) * random.NormFloat64()
			}
		}
	}
	return before, after, shape
}

// coarse are means over the cells of probes.
func (p periodic) coarse(states [][]float64, sizes [3]int) []float64 {
	cells, share := 1, 1.0
	for range p.axes {
		cells *= p.size
		share /= float64(p.finer)
	}
	means := make([]float64, cells*p.channels)
	for i, state := range states {
		to, stride, rest := 0, 1, i
		for axis := range p.axes {
			to += rest % sizes[axis] / p.finer * stride
			rest /= sizes[axis]
			stride *= p.size
		}
		for c, v := range state {
			means[to*p.channels+c] += share * v
		}
	}
	return means
}

// burgers is Burgers' equation, and dyes that the wind carries: a velocity, then scalars.
func burgers(axes, dyes int, viscosity float64) periodic {
	return periodic{axes: axes, channels: axes + dyes, size: 32, finer: 2, interval: 0.3, step: 0.02, rate: func(h box, w float64) (r []float64) {
		for c := range axes + dyes {
			r = append(r, h.carried(0, c, w)+viscosity*h.laplacian(c, w))
		}
		return r
	}}
}

// gas is a compressible one: density, momentum, energy, in the scheme of Rusanov.
func gas(axes int, wind float64) periodic {
	const gamma = 1.4
	pressure := func(u []float64) float64 {
		square := 0.0
		for axis := range axes {
			square += u[1+axis] * u[1+axis]
		}
		return (gamma - 1) * (u[axes+1] - square/u[0]/2)
	}
	flux := func(u []float64, axis int) []float64 {
		v, p := u[1+axis]/u[0], pressure(u)
		f := make([]float64, axes+2)
		for c := range f {
			f[c] = u[c] * v
		}
		f[1+axis] += p
		f[axes+1] += p * v
		return f
	}
	through := func(a, b []float64, axis int) []float64 {
		speed := 0.0
		for _, u := range [][]float64{a, b} {
			speed = max(speed, math.Abs(u[1+axis]/u[0])+math.Sqrt(gamma*max(pressure(u), 0.01)/u[0]))
		}
		f, g := flux(a, axis), flux(b, axis)
		for c := range f {
			f[c] = (f[c]+g[c])/2 - speed/2*(b[c]-a[c])
		}
		return f
	}
	return periodic{axes: axes, channels: axes + 2, size: 32, finer: 2, interval: 0.3, step: 0.05,
		state: func(waves []float64) []float64 {
			density, p := math.Exp(0.3*waves[0]), math.Exp(0.3*waves[axes+1])
			u, square := []float64{density}, 0.0
			for axis := range axes {
				v := 0.5 * waves[1+axis]
				if axis == 0 {
					v += wind
				}
				u = append(u, density*v)
				square += v * v
			}
			return append(u, p/(gamma-1)+density*square/2)
		},
		rate: func(h box, w float64) []float64 {
			r := make([]float64, axes+2)
			for axis := range axes {
				in, out := through(h.next[axis][0], h.o, axis), through(h.o, h.next[axis][1], axis)
				for c := range r {
					r[c] += (in[c] - out[c]) / w
				}
			}
			return r
		}}
}

// with changes a periodic.
func (p periodic) with(change func(*periodic)) periodic {
	change(&p)
	return p
}

// AllTurns are those of a line, a square or a cube.
func AllTurns(axes int) []Turn {
	elements, err := GroupOf(axes).Elements([]int{1, 1, 1}[:axes]...)
	if err != nil {
		panic(err)
	}
	return TurnsOf(elements...)
}

// line is a field of states on a line.
func line(vectors []int, channels ...string) orbits.Field {
	f := orbits.Field{Channels: channels}
	for _, c := range vectors {
		f.Vectors = append(f.Vectors, []int{c})
	}
	return f
}

// spaceCase is probes of one or three axes whose right field is known.
type spaceCase struct {
	name   string
	p      periodic
	field  orbits.Field
	refuse []orbits.Field          // must be refused if there are eight probes
	open   func(orbits.Field) bool // declarations that the physics leaves as right
	warn   string                  // of the right field, with eight probes; "" if it must be right
}

func sameKinds(a, b orbits.Field) bool {
	return sameField(a, b) && samePairs(a.Pseudovectors, b.Pseudovectors)
}

// judge returns what is wrong with the answer about a declaration, too.
func (c spaceCase) judge(declared orbits.Field, before, after []float64, shape []int) (v Verdict, fault string) {
	v = Judge(declared, GroupOf(c.p.axes).Name, AllTurns(c.p.axes), before, after, shape)
	right := func(f orbits.Field) bool { return sameKinds(f, c.field) || c.open != nil && c.open(f) }
	switch {
	case v.Answer == Wrong && right(declared):
		fault = "a right declaration is refused: " + v.Words
	case v.Answer == Right && !right(declared):
		fault = "a wrong declaration passes"
	case v.Answer == Wrong && !slices.ContainsFunc(v.Fields, right):
		fault = "the right field is not named: " + v.Words
	case v.Answer != Right && v.Words == "":
		fault = "no reason is given"
	}
	return v, fault
}

// lines are physics on a line.
func lines() []spaceCase {
	simple := func(channels int, rate func(h box, w float64) []float64) periodic {
		return periodic{axes: 1, channels: channels, size: 32, finer: 2, interval: 0.5, step: 0.02, rate: rate}
	}
	any := func(orbits.Field) bool { return true }
	one, none := line([]int{0}, "u"), line(nil, "u")
	gasField := line([]int{1}, "density", "momentum", "energy")
	noGas := []orbits.Field{line(nil, gasField.Channels...), line([]int{0}, gasField.Channels...), line([]int{2}, gasField.Channels...)}
	return []spaceCase{
		{"burgers", burgers(1, 0, 0.3), one, []orbits.Field{none}, nil, ""},
		{"burgers, noisy", burgers(1, 0, 0.3).with(func(p *periodic) { p.noise = 0.3 }), one, []orbits.Field{none}, nil, ""},
		{"burgers, a long step", burgers(1, 0, 0.3).with(func(p *periodic) { p.interval = 1 }), one, []orbits.Field{none}, nil, ""},
		{"burgers, 16 cells", burgers(1, 0, 0.3).with(func(p *periodic) { p.size = 16 }), one, []orbits.Field{none}, nil, ""},
		// A dye is as good a scalar as it is a vector: its law is the same if all of it changes sign.
		{"burgers with a dye", burgers(1, 1, 0.3), line([]int{0}, "u", "dye"), []orbits.Field{line(nil, "u", "dye")}, func(f orbits.Field) bool { return hasVector(f.Vectors, []int{0}) }, "*"},
		{"gas", gas(1, 0), gasField, noGas, nil, "*"},
		{"gas, shock tubes", gas(1, 0).with(func(p *periodic) { p.tube = true }), gasField, noGas[:1], nil, "*"},
		{"gas, a long step", gas(1, 0).with(func(p *periodic) { p.interval = 1 }), gasField, noGas[:1], nil, "*"},
		{"gas, a wind in all probes", gas(1, 2), gasField, nil, nil, "a preferred direction"},
		{"heat", simple(1, func(h box, w float64) []float64 { return []float64{h.laplacian(0, w)} }), none, nil, any, "*"},
		{"two scalars", simple(2, func(h box, w float64) []float64 { return []float64{h.laplacian(0, w), h.laplacian(1, w)} }), line(nil, "a", "b"), nil, any, "*"},
		{"a reaction", simple(2, func(h box, w float64) []float64 {
			return []float64{h.laplacian(0, w) + h.o[1], 0.3*h.laplacian(1, w) - h.o[0] + h.o[0]*h.o[1]}
		}), line(nil, "a", "b"), nil, nil, "*"},
		{"growth", simple(1, func(h box, w float64) []float64 { return []float64{h.laplacian(0, w) + h.o[0]*(1-h.o[0])} }).with(func(p *periodic) {
			p.state = func(waves []float64) []float64 { return []float64{0.5 + 0.3*waves[0]} }
		}), none, nil, nil, ""},
		// Sound in the linear limit is the same with velocity and pressure exchanged.
		{"sound", simple(2, func(h box, w float64) []float64 {
			return []float64{-h.d(0, 1, w) + 0.1*h.laplacian(0, w), -h.d(0, 0, w) + 0.1*h.laplacian(1, w)}
		}), line([]int{0}, "u", "p"), []orbits.Field{line(nil, "u", "p")}, func(f orbits.Field) bool { return len(f.Vectors) == 1 }, "*"},
		{"carried along by a constant wind", simple(1, func(h box, w float64) []float64 { return []float64{-h.d(0, 0, w) + 0.1*h.laplacian(0, w)} }), none, nil, nil, "the data have a preferred direction, along x"},
		// It may be a velocity with a wind, or the height of a flood.
		{"one that is positive and carries itself along", simple(1, func(h box, w float64) []float64 { return []float64{h.carried(0, 0, w) + 0.6*h.laplacian(0, w)} }).with(func(p *periodic) {
			p.state = func(waves []float64) []float64 { return []float64{2 + waves[0]} }
		}), none, nil, any, "the mean of (u) is far from zero"},
		{"a velocity that drives what slows it, along x", simple(2, func(h box, w float64) []float64 {
			return []float64{h.o[1] + 0.1*h.laplacian(0, w), -h.o[0] + 0.1*h.laplacian(1, w)}
		}), line([]int{0}, "w", "b"), nil, func(f orbits.Field) bool { return len(f.Vectors) != 1 }, "the data have a preferred direction, along x"},
	}
}

// On a line no right field is refused and no wrong one passes, however few the probes; and with eight the wrong ones of gases and of what carries itself
// along are refused.
func TestFieldIsJudgedOnALine(t *testing.T) {
	for _, c := range lines() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{2, 3, 4, 8} {
				for seed := range uint64(4) {
					before, after, shape := c.p.probes(seed, n)
					for set := range 1 << c.p.channels {
						var odd []int
						for channel := range c.p.channels {
							if set>>channel&1 == 1 {
								odd = append(odd, channel)
							}
						}
						declared := line(odd, c.field.Channels...)
						v, fault := c.judge(declared, before, after, shape)
						require.Empty(t, fault, "%v, %d probes, seed %d", declared.Vectors, n, seed)
						if n < leastLines {
							require.NotEqual(t, Wrong, v.Answer)
						}
						if n < 8 {
							continue
						}
						if slices.ContainsFunc(c.refuse, func(f orbits.Field) bool { return sameKinds(f, declared) }) {
							require.Equal(t, Wrong, v.Answer, "%v, seed %d: %s", declared.Vectors, seed, v.Words)
						}
						if sameKinds(declared, c.field) && c.warn != "*" {
							require.Equal(t, c.warn == "", v.Answer == Right, v.Words)
							require.Contains(t, v.Words, c.warn)
						}
					}
				}
			}
		})
	}
}

// On a line a pseudoscalar is a vector.
func TestPseudoscalarsOfALine(t *testing.T) {
	before, after, shape := burgers(1, 0, 0.3).probes(1, 8)
	declared := orbits.Field{Channels: []string{"u"}, Pseudoscalars: []int{0}}
	require.Equal(t, Right, Judge(declared, orbits.ReflectionsName, AllTurns(1), before, after, shape).Answer)
	v := Judge(orbits.Field{Channels: []string{"u"}}, orbits.ReflectionsName, AllTurns(1), before, after, shape)
	require.Equal(t, Wrong, v.Answer)
	require.Contains(t, v.Words, "with no vector, as declared, and 100 % with vectors (u). Declare vectors (u); or")
}

// boxes are physics in space.
func boxes() []spaceCase {
	const size, step = 8, 0.06
	simple := func(channels int, rate func(h box, w float64) []float64) periodic {
		return periodic{axes: 3, channels: channels, size: size, finer: 2, interval: 0.3, step: step, rate: rate}
	}
	sound := func(gravity, turn, up float64) periodic { // up is -1 where rows grow downwards
		return simple(4, func(h box, w float64) []float64 {
			return []float64{
				-h.d(0, 3, w) + turn*h.o[1] + 0.1*h.laplacian(0, w),
				-up*h.d(1, 3, w) - turn*h.o[0] + 0.1*h.laplacian(1, w),
				-h.d(2, 3, w) + gravity*h.o[3] + 0.1*h.laplacian(2, w),
				-h.d(0, 0, w) - up*h.d(1, 1, w) - h.d(2, 2, w) + 0.1*h.laplacian(3, w),
			}
		})
	}
	light := simple(6, func(h box, w float64) (r []float64) {
		curl := func(c int) []float64 {
			return []float64{h.d(1, c+2, w) - h.d(2, c+1, w), h.d(2, c, w) - h.d(0, c+2, w), h.d(0, c+1, w) - h.d(1, c, w)}
		}
		e, b := curl(0), curl(3)
		for i := range 3 {
			r = append(r, b[i]+0.1*h.laplacian(i, w))
		}
		for i := range 3 {
			r = append(r, -e[i]+0.1*h.laplacian(3+i, w))
		}
		return r
	})
	of := func(vectors, pseudovectors [][]int, channels ...string) orbits.Field {
		return orbits.Field{Channels: channels, Vectors: vectors, Pseudovectors: pseudovectors}
	}
	wind := of([][]int{{0, 1, 2}}, nil, "u", "v", "w", "p")
	image := wind
	image.RowDown = true
	e, b := [][]int{{0, 1, 2}}, [][]int{{3, 4, 5}}
	return []spaceCase{
		{"gas", gas(3, 0).with(func(p *periodic) { p.size, p.step = size, 0.1 }), of([][]int{{1, 2, 3}}, nil, "density", "mx", "my", "mz", "energy"), nil, nil, ""},
		{"sound", sound(0, 0, 1), wind, nil, nil, ""},
		{"sound, rows downwards", sound(0, 0, -1), image, nil, nil, ""},
		{"gravity", sound(2, 0, 1), wind, nil, nil, "the data have a preferred direction, along z"},
		{"a rotating frame", sound(0, 2, 1), wind, nil, nil, "the data have a handedness, as in a frame that rotates about z"},
		// A linear law is the same if all changes sign in a mirror.
		{"light", light, of(e, b, "ex", "ey", "ez", "bx", "by", "bz"), nil, func(f orbits.Field) bool {
			return !f.RowDown && samePairs(f.Vectors, b) && samePairs(f.Pseudovectors, e)
		}, ""},
		{"scalars", simple(4, func(h box, w float64) []float64 {
			return []float64{h.laplacian(0, w) + h.o[1], 0.3*h.laplacian(1, w) - h.o[0] + h.o[2], 0.5*h.laplacian(2, w) + h.o[3], 0.2*h.laplacian(3, w) - h.o[0] - h.o[3]}
		}), of(nil, nil, "a", "b", "c", "d"), nil, nil, ""},
		{"three scalars of one law", simple(3, func(h box, w float64) []float64 {
			return []float64{h.laplacian(0, w), h.laplacian(1, w), h.laplacian(2, w)}
		}), of(nil, nil, "a", "b", "c"), nil, func(orbits.Field) bool { return true }, "*"},
	}
}

// In space, too; and what is wrong is refused with four probes, unless the physics has less symmetry.
func TestFieldIsJudgedInSpace(t *testing.T) {
	for _, c := range boxes() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			refused, wrong := 0, 0
			for _, n := range []int{2, 4} {
				if n == 2 && c.p.channels > 4 {
					continue // for the time it takes
				}
				before, after, shape := c.p.probes(uint64(n), n)
				for _, declared := range append(spaceMistakes(c.field), c.field) {
					v, fault := c.judge(declared, before, after, shape)
					require.Empty(t, fault, "%s, %d probes", Describe(declared), n)
					switch {
					case n == 2:
						require.NotEqual(t, Wrong, v.Answer)
					case sameKinds(declared, c.field):
						if c.warn != "*" {
							require.Equal(t, c.warn == "", v.Answer == Right, v.Words)
							require.Contains(t, v.Words, c.warn)
						}
					case v.Answer == Wrong:
						refused++
						fallthrough
					default:
						wrong++
					}
				}
			}
			t.Logf("%d of %d wrong declarations refused", refused, wrong)
			if c.warn == "" && c.name != "light" {
				require.GreaterOrEqual(t, refused, wrong-1)
			}
		})
	}
}

// spaceMistakes are wrong declarations in space: no vector, components in any other order, rows the other way, the other kind, a scalar for a component.
func spaceMistakes(field orbits.Field) (all []orbits.Field) {
	add := func(vectors, pseudovectors [][]int, down bool) {
		f := orbits.Field{Channels: field.Channels, Vectors: vectors, Pseudovectors: pseudovectors, RowDown: down}
		if !sameKinds(f, field) {
			all = append(all, f)
		}
	}
	first, last := []int{0, 1, 2}, len(field.Channels)-1
	if field.Vectors != nil {
		first = field.Vectors[0]
	}
	x, y, z := first[0], first[1], first[2]
	add(nil, nil, false)
	for _, v := range [][]int{{x, y, z}, {y, x, z}, {z, y, x}, {x, z, y}, {y, z, x}, {z, x, y}} {
		add([][]int{v}, field.Pseudovectors, false)
	}
	add(nil, [][]int{first}, false)
	if field.Vectors != nil {
		add([][]int{first}, field.Pseudovectors, true)
	}
	if last > 2 && field.Pseudovectors == nil {
		add([][]int{{x, y, last}}, nil, false)
	}
	return all
}

// Of states in space that do not change along an axis, such as flows in a plane, turned copies are like no state.
func TestProbesThatDoNotVaryAlongZDoNotTell(t *testing.T) {
	p := gas(3, 0).with(func(p *periodic) { p.size, p.step = 6, 0.1 })
	before, after, shape := p.probes(1, 4)
	layer := 6 * 6 * p.channels
	for _, states := range [][]float64{before, after} {
		for at := range states {
			states[at] = states[at/(6*layer)*6*layer+at%layer]
		}
	}
	v := Judge(boxes()[0].field, orbits.OctahedralName, AllTurns(3), before, after, shape)
	require.Equal(t, Undecided, v.Answer)
	require.Contains(t, v.Words, "the probes do not change along z, so that turned copies of them are like no probe; use probes that vary along all axes")
}
