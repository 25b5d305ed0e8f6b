package fieldcheck

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/euler"
)

// fieldCase is probes whose right field is known.
type fieldCase struct {
	name   string
	probes transitions
	field  orbits.Field
	want   string                  // of the right field: "" for right, or words of the reason why that cannot be told
	clear  bool                    // the probes are ample, and nearly all declarations must be decided
	open   func(orbits.Field) bool // what the physics leaves open: declarations that are as right
}

func declare(vectors [][]int, channels ...string) orbits.Field {
	return orbits.Field{Channels: channels, Vectors: vectors}
}

var (
	pair  = [][]int{{0, 1}} // the first two channels are a vector
	water = declare(pair, "u", "v", "height", "dye")
	sound = declare(pair, "u", "v", "pressure")
)

const (
	tooFew     = "too few"
	onlyLittle = "explains only"
	alongX     = "the data have a preferred direction, along x"
	alongY     = "the data have a preferred direction, along y"
	turning    = "the data have a handedness"
)

func fieldCases(t *testing.T) (all []fieldCase) {
	add := func(name string, p transitions, field orbits.Field, want string, open func(orbits.Field) bool) {
		all = append(all, fieldCase{name, p, field, want, want == "" && p.n >= leastProbes, open})
	}
	gas := orbits.EulerField()
	gas.Conserved = nil
	for _, family := range euler.Families() {
		add(fmt.Sprint(family, ", 4 probes of 8x8"), flows(t, family, 4, 8, 0.0125, 3), gas, "", nil)
		add(fmt.Sprint(family, ", 4 probes of 16x16"), flows(t, family, 4, 16, 0.05, 1), gas, "", nil)
		add(fmt.Sprint(family, ", 8 probes of 16x16"), flows(t, family, 8, 16, 0.05, 0), gas, "", nil)
	}
	add("riemann, 2 probes", flows(t, euler.Riemann, 2, 16, 0.05, 1), gas, onlyLittle, nil)
	add("perturbed-riemann, 2 probes", flows(t, euler.PerturbedRiemann, 2, 16, 0.05, 1), gas, onlyLittle, nil)
	add("curved-riemann, 2 probes of 32x32", flows(t, euler.CurvedRiemann, 2, 32, 0.05, 0), gas, tooFew, nil)
	add("curved-riemann, a long step", flows(t, euler.CurvedRiemann, 4, 16, 0.5, 0), gas, tooFew, nil)

	for _, n := range []int{3, 4, 8, 64} {
		add(fmt.Sprint("water, ", n, " probes of 8x8"), shallow().probes(1, n, 8), water, "", nil)
	}
	add("water, 2 probes", shallow().probes(1, 2, 8), water, "", nil)
	image := water
	image.RowDown = true
	add("water, an image", shallow().probes(1, 8, 12).upsideDown(), image, "", nil)
	noisy, long, windy := shallow(), shallow(), shallow()
	noisy.noise, long.steps, windy.mean = 0.5, 20, []float64{1, 0, 1, 0}
	add("water, noisy", noisy.probes(1, 8, 12), water, "", nil)
	add("water, 20 steps at once", long.probes(1, 8, 12), water, "", nil)
	add("water, a wind in all probes", windy.probes(1, 8, 12), water, alongX, nil)

	for _, n := range []int{2, 4, 16} {
		few := func(want string) string { // what is missed first with two probes is not the matter here
			if n == 2 {
				return "*"
			}
			return want
		}
		add(fmt.Sprint("buoyancy along y, ", n, " probes"), shallow(force{y: 3}).probes(2, n, 8), water, few(alongY), nil)
		add(fmt.Sprint("buoyancy along x, ", n, " probes"), shallow(force{x: 3}).probes(3, n, 8), water, few(alongX), nil)
		add(fmt.Sprint("buoyancy aslant, ", n, " probes"), shallow(force{x: 3, y: 3}).probes(3, n, 8), water, few("the data have a preferred direction"), nil)
		add(fmt.Sprint("a constant fall, ", n, " probes"), shallow(force{fall: 5}).probes(5, n, 8), water, few(alongY), nil)
		add(fmt.Sprint("a rotating frame, ", n, " probes"), shallow(force{turn: 3}).probes(4, n, 8), water, few(turning), nil)
	}
	add("buoyancy alone", buoyancy(1, 0.3, 0).probes(15, 8, 8), declare(pair, "u", "v", "buoyancy"), alongY, func(f orbits.Field) bool { return f.Vectors == nil })

	static := func(channels ...string) orbits.Field {
		f := water
		f.Channels = append(slices.Clone(f.Channels), channels...)
		return f
	}
	add("a mask of ones", shallow().probes(1, 8, 8).with(func(_, _ int) []float64 { return []float64{1} }), static("mask"), "", nil)
	disc := func(y, x int) []float64 {
		if (y-6)*(y-6)+(x-4)*(x-4) < 9 {
			return []float64{0}
		}
		return []float64{1}
	}
	add("a mask", shallow().probes(1, 8, 12).with(disc), static("mask"), "", nil)
	add("a mask, 2 probes", shallow().probes(1, 2, 8).with(disc), static("mask"), "*", nil)
	add("a channel of zeros", shallow().probes(1, 8, 8).with(func(_, _ int) []float64 { return []float64{0} }), static("empty"), "", nil)
	idle := func(h neighbourhood) []float64 { return append(waves(h), 0, 0) }
	add("two coefficients", physics{channels: 5, rate: idle}.probes(12, 8, 8), declare(pair, "u", "v", "pressure", "conductivity", "heat capacity"), "", anyVectorOf(3, 4))
	windAbove := declare([][]int{{0, 1}, {3, 4}}, "u", "v", "pressure", "wind_x", "wind_y")
	add("a static wind without effect", physics{channels: 5, rate: idle}.probes(12, 8, 8), windAbove, "(wind_x, wind_y) never change", anyVectorOf(3, 4))
	add("a static wind that drags", physics{channels: 5, rate: func(h neighbourhood) []float64 {
		r := idle(h)
		r[0] += h.o[3] - h.o[0]
		r[1] += h.o[4] - h.o[1]
		return r
	}}.probes(12, 8, 8), windAbove, "", nil)
	add("bathymetry", physics{channels: 4, mean: []float64{0, 0, 0, 1}, scale: []float64{0.5, 0.5, 0.5, 0.2}, rate: func(h neighbourhood) []float64 {
		flux := func(a, b []float64, c int) float64 { return (a[3]*a[c] - b[3]*b[c]) / 2 }
		return []float64{-h.dx(2), -h.dy(2), -flux(h.e, h.w, 0) - flux(h.n, h.s, 1), 0}
	}}.probes(13, 8, 8), declare(pair, "u", "v", "height", "depth"), "", nil)

	for _, n := range []int{2, 3, 8} {
		add(fmt.Sprint("sound, ", n, " probes"), physics{channels: 3, rate: waves}.probes(11, n, 8), sound, "", nil)
	}
	light := sound
	light.Channels, light.Pseudoscalars = []string{"e_x", "e_y", "b"}, []int{2}
	add("light", physics{channels: 3, rate: func(h neighbourhood) []float64 {
		return []float64{h.dy(2) + 0.1*h.laplacian(0), -h.dx(2) + 0.1*h.laplacian(1), h.dy(0) - h.dx(1) + 0.1*h.laplacian(2)}
	}}.probes(9, 8, 8), light, "", nil)
	elastic := physics{channels: 5, rate: func(h neighbourhood) []float64 {
		return []float64{h.o[2] - h.dx(4), h.o[3] - h.dy(4), h.laplacian(0) + h.dxx(0), h.laplacian(1) + h.dyy(1), h.laplacian(4) + h.dx(2) + h.dy(3)}
	}}
	solid := declare([][]int{{0, 1}, {2, 3}}, "w_x", "w_y", "v_x", "v_y", "heat")
	add("an elastic solid, 3 probes", elastic.probes(10, 3, 8), solid, "", nil)
	add("an elastic solid, 8 probes", elastic.probes(10, 8, 8), solid, "", nil)

	scalars := declare(nil, "heat", "salt", "dye")
	reacting := physics{channels: 3, rate: func(h neighbourhood) []float64 {
		return []float64{h.laplacian(0) + 0.5*h.o[1], 0.4*h.laplacian(1) + 0.4*h.o[0] + 0.3*h.o[2], 2*h.laplacian(2) - 0.3*h.o[0]}
	}}
	add("scalars", reacting.probes(6, 8, 8), scalars, "", nil)
	reacting.noise = 0.5
	add("scalars, noisy", reacting.probes(6, 16, 12), scalars, "", nil)
	reacting.noise = 30
	add("noise", reacting.probes(6, 16, 12), scalars, onlyLittle, nil)
	add("two scalars", physics{channels: 2, rate: func(h neighbourhood) []float64 { return []float64{h.laplacian(0), 0.2 * h.laplacian(1)} }}.probes(7, 8, 8), declare(nil, "heat", "salt"), "", nil)
	// A linear law of a vector alone is the same law of its components in the other order, and with rows the other way.
	anyVector := func(f orbits.Field) bool { return f.Vectors != nil }
	add("a vector alone", physics{channels: 2, rate: func(h neighbourhood) []float64 {
		return []float64{0.2*h.laplacian(0) + h.dxx(0), 0.2*h.laplacian(1) + h.dyy(1)}
	}}.probes(8, 8, 8), declare(pair, "u", "v"), "", anyVector)
	add("burgers", physics{channels: 2, scale: []float64{0.3, 0.3}, rate: func(h neighbourhood) []float64 {
		return []float64{h.carried(0) + 0.2*h.laplacian(0) + h.dxx(0), h.carried(1) + 0.2*h.laplacian(1) + h.dyy(1)}
	}}.probes(8, 8, 8), declare(pair, "u", "v"), "", anyVector)
	add("7 channels", physics{channels: 7, rate: func(h neighbourhood) []float64 {
		r := waves(h)
		for c := 3; c < 7; c++ {
			r = append(r, 0.1*float64(c)*h.laplacian(c)+0.5*h.o[3+(c-2)%4])
		}
		return r
	}}.probes(14, 8, 8), declare(pair, "u", "v", "pressure", "a", "b", "c", "d"), "", nil)
	return all
}

// anyVectorOf says that it makes no difference whether some channels are a vector.
func anyVectorOf(channels ...int) func(orbits.Field) bool {
	return func(f orbits.Field) bool {
		rest := slices.DeleteFunc(slices.Clone(f.Vectors), func(v []int) bool {
			return slices.Contains(channels, v[0]) && slices.Contains(channels, v[1])
		})
		return !f.RowDown && samePairs(rest, pair)
	}
}

// mistakes are wrong declarations.
func mistakes(field orbits.Field) (all []orbits.Field) {
	add := func(down bool, vectors ...[]int) {
		f := orbits.Field{Channels: field.Channels, Vectors: vectors, RowDown: down}
		if !sameField(f, field) {
			all = append(all, f)
		}
	}
	down, last := field.RowDown, len(field.Channels)-1
	add(down)                 // no vector
	add(down, []int{0, 1})    // of scalars
	add(down, []int{1, 0})    // components in the other order
	add(!down, []int{0, 1})   // rows the other way
	add(down, []int{0, last}) // a wrong pair
	if last > 1 {
		add(down, []int{last, 1})
		add(!down, []int{last - 1, last})
	}
	if last > 2 {
		add(down, []int{0, 1}, []int{2, 3}) // a vector too many
		add(down, []int{0, 2}, []int{1, 3}) // vectors crossed
	}
	return all
}

func sameField(a, b orbits.Field) bool {
	return samePairs(a.Vectors, b.Vectors) && (a.RowDown == b.RowDown || len(a.Vectors) == 0)
}

// fault says what is wrong with an answer about a declaration: a right one refused, a wrong one passed, or a wrong one named as right.
func (c fieldCase) fault(declared orbits.Field, v Verdict) string {
	isRight := sameField(declared, c.field) && slices.Equal(declared.Pseudoscalars, c.field.Pseudoscalars) || c.open != nil && c.open(declared)
	switch {
	case v.Answer == Right && !isRight:
		return "a wrong declaration passes"
	case v.Answer == Wrong && isRight:
		return "a right declaration is refused: " + v.Words
	case v.Answer == Wrong && !slices.ContainsFunc(v.Fields, func(f orbits.Field) bool { return sameField(f, c.field) || c.open != nil && c.open(f) }):
		return "the right field is not named: " + v.Words
	case v.Answer == Undecided && v.Words == "":
		return "no reason is given"
	}
	return ""
}

func (c fieldCase) judge(declared orbits.Field) Verdict {
	return Judge(declared, "d4", AllTurns(2), c.probes.before, c.probes.after, []int{c.probes.n, c.probes.size, c.probes.size, c.probes.channels})
}

// Of every declaration the answer is right, wrong with the right one named, or that it cannot be told and why; and with ample probes
// nearly every one is decided.
func TestFieldIsJudged(t *testing.T) {
	var clear, decided, all, told atomic.Int64
	cases := fieldCases(t)
	t.Run("cases", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				v := c.judge(c.field)
				require.Empty(t, c.fault(c.field, v))
				if c.want != "*" {
					require.Contains(t, v.Words, c.want)
					require.Equal(t, c.want == "", v.Answer == Right, v.Words)
				}
				for _, declared := range append(mistakes(c.field), c.field) {
					v := c.judge(declared)
					require.Empty(t, c.fault(declared, v), Describe(declared))
					all.Add(1)
					if v.Answer != Undecided {
						told.Add(1)
					}
					if c.clear {
						clear.Add(1)
						if v.Answer != Undecided {
							decided.Add(1)
						} else {
							t.Log(Describe(declared), v.Words)
						}
					}
				}
			})
		}
	})
	t.Logf("%d cases, %d declarations, %d decided; of %d with ample probes %d decided", len(cases), all.Load(), told.Load(), clear.Load(), decided.Load())
	require.GreaterOrEqual(t, float64(decided.Load()), 0.9*float64(clear.Load()))
}

// Chance, weak laws and forces of any size lead to no wrong answer.
func TestFieldIsNeverJudgedWrongly(t *testing.T) {
	var decided atomic.Int64
	const draws = 200
	t.Run("draws", func(t *testing.T) {
		for seed := range uint64(draws) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				random := rand.New(rand.NewPCG(seed, 1))
				law, field := drawnPhysics(random)
				c := fieldCase{probes: law.probes(seed, 2+random.IntN(7), 8), field: field}
				if seed%4 == 2 { // buoyancy without pressure: as right for two scalars, whatever is declared
					c.probes = buoyancy(0.2+random.Float64(), 0.1+random.Float64(), random.Float64()).probes(seed, 2+random.IntN(7), 8)
					c.field = declare(pair, "u", "v", "buoyancy")
					field = c.field
				}
				declared := field
				if all := mistakes(field); seed%2 == 1 {
					declared = all[random.IntN(len(all))]
				}
				v := c.judge(declared)
				require.Empty(t, c.fault(declared, v), Describe(declared))
				if v.Answer != Undecided {
					decided.Add(1)
				}
			})
		}
	})
	t.Logf("%d of %d draws decided", decided.Load(), draws)
	require.Greater(t, decided.Load(), int64(draws/4))
}

// buoyancy is a wave up and down of v and of what lifts: u, v, buoyancy.
func buoyancy(rate, diffusion, noise float64) physics {
	return physics{channels: 3, noise: noise, rate: func(h neighbourhood) []float64 {
		return []float64{diffusion * h.laplacian(0), diffusion*h.laplacian(1) + rate*h.o[2], diffusion*h.laplacian(2) - rate*h.o[1]}
	}}
}

// drawnPhysics is a wave of a vector and a scalar, or three scalars that act on one another, with more or less of diffusion, wind, noise, and
// forces that prefer a direction.
func drawnPhysics(random *rand.Rand) (physics, orbits.Field) {
	between := func(a, b float64) float64 { return a + (b-a)*random.Float64() }
	a, b, diffusion, wind := between(0.3, 2), between(0.3, 2), between(0, 0.5), between(0, 1)
	force, turn := 0.0, 0.0
	switch random.IntN(4) {
	case 0:
		force = between(-3, 3)
	case 1:
		turn = between(-3, 3)
	}
	p := physics{channels: 3, noise: between(0, 1), steps: 1 + random.IntN(3)}
	if random.IntN(3) > 0 {
		p.rate = func(h neighbourhood) []float64 {
			return []float64{
				wind*h.carried(0) - a*h.dx(2) + diffusion*h.laplacian(0) + turn*h.o[1],
				wind*h.carried(1) - a*h.dy(2) + diffusion*h.laplacian(1) - turn*h.o[0] + force*h.o[2],
				wind*h.carried(2) - b*(h.dx(0)+h.dy(1)) + diffusion*h.laplacian(2),
			}
		}
		return p, sound
	}
	p.rate = func(h neighbourhood) []float64 {
		return []float64{
			a*h.o[1] + diffusion*h.laplacian(0), b*h.o[2] + h.laplacian(1), a*h.o[0] - b*h.o[1] + force*h.dy(2) + 0.5*h.laplacian(2),
		}
	}
	return p, declare(nil, "heat", "salt", "dye")
}

// Scalars that follow the same law look like a vector where they act on nothing else, more so in a few probes. They are never refused.
func TestEqualScalarsAreNotAVector(t *testing.T) {
	for name, law := range map[string]physics{
		"heat and salt": {channels: 2, rate: func(h neighbourhood) []float64 { return []float64{h.laplacian(0), h.laplacian(1)} }},
		"a reaction": {channels: 2, rate: func(h neighbourhood) []float64 {
			made := 0.2 * h.o[0] * h.o[1]
			return []float64{h.laplacian(0) + made, h.laplacian(1) - made}
		}},
	} {
		for _, n := range []int{2, 3, 4} {
			for seed := range uint64(30) {
				c := fieldCase{probes: law.probes(seed, n, 16)}
				v := c.judge(declare(nil, "a", "b"))
				require.NotEqual(t, Wrong, v.Answer, "%s, %d probes, seed %d: %s", name, n, seed, v.Words)
			}
		}
	}
}

// Of states that vary along one axis the turned copies are like no state: they tell nothing, whatever is declared.
func TestProbesThatVaryAlongOneAxisDoNotTell(t *testing.T) {
	tubes := shallow().probes(1, 8, 16)
	for _, states := range [][]float64{tubes.before, tubes.after} {
		row := tubes.size * tubes.channels
		for at := range states {
			states[at] = states[at/(row*tubes.size)*row*tubes.size+at%row] // the first row, in all
		}
	}
	for _, declared := range append(mistakes(water), water) {
		v := fieldCase{probes: tubes}.judge(declared)
		require.Equal(t, Undecided, v.Answer)
		require.Contains(t, v.Words, "the probes do not change along y, from row to row")
	}
}
