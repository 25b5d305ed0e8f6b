package orbits

import (
	"math"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// Generator is an infinitesimal symmetry: the rate d/dt g(t) at the identity, t = 0, of a family of elements g(t). Shifts have one in t pixels along
// each axis, boosts in the velocity along each axis, and scalings in the logarithm of the factor. Turns and reflections have none: on a periodic box no
// rotation by a small angle is a symmetry.
type Generator struct {
	name          string
	input, output rate
	cells         rate // of scalars on the grid that are no part of a state; nil where it is not known
}

// rate is d/dt of g(t).x at t = 0.
type rate func(f Field, x *graph.Node) *graph.Node

// Generators are those of the group's families on a grid: "translation_x", "boost_x" and so on for each of its axes, and "scaling"; of a product those of its
// factors. Boosts have them along the axes that their velocities have a component along. There are none of turns and reflections, nor of Custom, which
// WithGenerators gives some.
func (g Group) Generators(grid ...int) (all []Generator) {
	for _, factor := range g.factors {
		all = append(all, factor.Generators(grid...)...)
	}
	if g.generators != nil {
		all = append(all, g.generators(grid)...)
	}
	return all
}

// WithGenerators returns the group with generators of the user's own, for Custom: of the rotations of point clouds, for instance.
func (g Group) WithGenerators(generators ...Generator) Group {
	own, before := slices.Clone(generators), g.generators
	g.generators = func(grid []int) (all []Generator) {
		if before != nil {
			all = before(grid)
		}
		return append(all, own...)
	}
	return g
}

// NewGenerator returns a generator of the user's own: rate maps states [batch, ..., channel] to d/dt g(t).x at t = 0, of the same shape and dtype. The name
// stands in the records.
func NewGenerator(name string, rate func(x *graph.Node) *graph.Node) Generator {
	of := guarded(name, rate)
	return Generator{name: name, input: of.rate(), output: of.rate()}
}

// WithOutput returns a generator like g that acts on a model's outputs by rate.
func (g Generator) WithOutput(rate func(y *graph.Node) *graph.Node) Generator {
	g.output = guarded(g.name, rate).rate()
	return g
}

// rate is nil where the action is.
func (a action) rate() rate {
	if a == nil {
		return nil
	}
	return rate(a)
}

// Name is "translation_x", "boost_y", "scaling", or that of NewGenerator.
func (g Generator) Name() string { return g.name }

// Apply returns d/dt g(t).x for each state of x, as Element.Apply takes them.
func (g Generator) Apply(f Field, x *graph.Node) *graph.Node { return g.apply(g.input, f, x) }

// ApplyOutput returns d/dt g(t).y for each output y of a model where x is moved by Apply: boosts carry outputs along besides.
func (g Generator) ApplyOutput(f Field, y *graph.Node) *graph.Node { return g.apply(g.output, f, y) }

// Cells returns the generator of what Element.Cells does; it is not known of one of NewGenerator.
func (g Generator) Cells() (cells Generator, ok bool) {
	return Generator{name: g.name, input: g.cells, output: g.cells, cells: g.cells}, g.cells != nil
}

func (g Generator) apply(of rate, f Field, x *graph.Node) *graph.Node {
	checkState(f, x)
	if of == nil {
		exceptions.Panicf("orbits: the function of generator %s is nil; give NewGenerator, or WithOutput, one", g.name)
	}
	image := of(f, x)
	if !image.Shape().Equal(x.Shape()) {
		exceptions.Panicf("orbits: generator %s maps %s to %s; it must keep shape and dtype", g.name, x.Shape(), image.Shape())
	}
	return image
}

// axisNames are those of space.
const axisNames = "xyz"

// unit is the vector of length 1 along an axis.
func unit(axis int) Vector {
	return Vector{}.each(func(i int, _ float64) float64 {
		if i == axis {
			return 1
		}
		return 0
	})
}

func translationAlong(axis int) Generator {
	shift := shiftRate(unit(axis))
	return Generator{name: "translation_" + axisNames[axis:axis+1], input: shift, output: shift, cells: shift}
}

// boostAlong is of m + rho v t, E + m.v t + rho |v t|^2 / 2, and of a shift of the output by step v t.
func boostAlong(axis int, step float64) Generator {
	boost := func(f Field, x *graph.Node) *graph.Node {
		channels := graph.Split(x, -1, len(f.Channels))
		rates := make([]*graph.Node, len(channels))
		for c := range rates {
			rates[c] = graph.ZerosLike(channels[c])
		}
		for i, c := range f.Conserved.Momentum {
			if i == axis {
				rates[c], rates[f.Conserved.Energy] = channels[f.Conserved.Density], channels[c]
			}
		}
		return graph.Concatenate(rates, -1)
	}
	drift := shiftRate(unit(axis).times(step))
	output := func(f Field, y *graph.Node) *graph.Node { return graph.Add(boost(f, y), drift(f, y)) }
	return Generator{name: "boost_" + axisNames[axis:axis+1], input: boost, output: output, cells: nothing}
}

func nothing(_ Field, x *graph.Node) *graph.Node { return graph.ZerosLike(x) }

// scaling is of exp(t) x.
func scaling() Generator {
	same := func(_ Field, x *graph.Node) *graph.Node { return graph.Identity(x) }
	return Generator{name: "scaling", input: same, output: same, cells: nothing}
}

// shiftRate is -v.grad x, of the Fourier interpolant that shifted moves.
func shiftRate(v Vector) rate {
	return func(f Field, x *graph.Node) *graph.Node {
		sum := graph.ZerosLike(x)
		for axis, pixels := range v.components() {
			if axis == 1 && f.RowDown {
				pixels = -pixels
			}
			if pixels != 0 {
				sum = graph.Add(sum, graph.MulScalar(circulant(x, arrayAxis(x, axis), dirichletRate), pixels))
			}
		}
		return sum
	}
}

// dirichletRate is d/dt of dirichlet(distance - t, size) at t = 0 and a distance of whole pixels (Trefethen, "Spectral Methods in MATLAB", chapter 3): the
// highest mode of an even size has the rate 0, that of cos(pi t).
func dirichletRate(distance, size int) float64 {
	if distance == 0 {
		return 0
	}
	rate := -math.Pi / float64(size)
	if distance%2 != 0 {
		rate = -rate
	}
	phase := math.Pi * float64(distance) / float64(size)
	if size%2 == 0 {
		return rate / math.Tan(phase)
	}
	return rate / math.Sin(phase)
}
