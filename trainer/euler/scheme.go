package euler

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"
)

// fields are the four planes [batch, y, x] of a state, conserved (density, momentum_x, momentum_y, energy) or primitive
// (density, velocity_x, velocity_y, pressure). Separate planes keep every operation on contiguous memory.
type fields [Channels]*graph.Node

const (
	density = iota
	alongX  // momentum or velocity
	alongY
	energy
	pressure = energy
)

// Axes of a plane.
const (
	axisY = 1
	axisX = 2
)

// Advance returns the conserved state u [batch, y, x, 4], float32 or float64, one Interval later, computed at u's own
// resolution and in its own dtype. The domain is the unit square whatever the grid: cells are 1/width by 1/height.
//
// Method: MUSCL reconstruction of the primitive variables with the monotonized central limiter (van Leer, J. Comput.
// Phys. 23, 1977), HLLC fluxes (Toro, "Riemann Solvers and Numerical Methods for Fluid Dynamics", 2009, chapter 10),
// both directions in one update, and the strong-stability-preserving Runge-Kutta method of order two. The time step
// follows CFL for each sample by itself and the last one ends on the interval exactly, so no sample depends on its
// neighbours in the batch. No value is floored.
//
// The scheme commutes with circular shifts, on square grids with quarter turns and reflections, and with u -> b u for b
// a power of two: bit for bit, since every formula is its own mirror image down to the order of its sums.
//
// A graph cannot return an error: a sample whose density or pressure stops being positive, or which is not done after
// MaxSubsteps steps, comes back as NaN throughout. Advance panics, as graph building does, on a wrong shape. It has no
// reverse-mode gradient, since its steps are a loop.
func (c Config) Advance(u *graph.Node) *graph.Node {
	next, left, _ := c.advance(u)
	done := graph.Equal(left, constant(left, 0))
	done = graph.BroadcastToDims(graph.ExpandAxes(done, 1, 2, 3), u.Shape().Dimensions...)
	return graph.Where(done, next, nan(next))
}

// advance also returns the time left [batch]: 0 where all went well, NaN where positivity was lost, positive where the
// steps ran out; and the time steps taken, a scalar: as many as the sample with most of them needs.
func (c Config) advance(u *graph.Node) (next, left, steps *graph.Node) {
	if u.Rank() != 4 || u.Shape().Dim(-1) != Channels || !u.DType().IsFloat() {
		exceptions.Panicf("euler: a state is floating point [batch, y, x, %d], got %s", Channels, u.Shape())
	}
	g, dtype, dims := u.Graph(), u.DType(), u.Shape().Dimensions
	parameters := func(g *graph.Graph) (state fields, left, steps *graph.Node) {
		for i, name := range []string{"density", "momentum_x", "momentum_y", "energy"} {
			state[i] = graph.Parameter(g, name, shapes.Make(dtype, dims[:3]...))
		}
		return state, graph.Parameter(g, "left", shapes.Make(dtype, dims[0], 1, 1)), graph.Parameter(g, "steps", shapes.Make(dtypes.Int32))
	}
	unfinished := graph.NewClosure(g, func(g *graph.Graph) []*graph.Node {
		_, left, steps := parameters(g)
		zero := constant(left, 0)
		left = graph.Reshape(graph.Where(graph.GreaterThan(left, zero), left, zero), 1, dims[0])
		most := graph.Reshape(fold(left, graph.Max))
		return []*graph.Node{graph.LogicalAnd(graph.GreaterThan(most, zero), graph.LessThan(steps, constant(steps, float64(c.MaxSubsteps))))}
	})
	oneStep := graph.NewClosure(g, func(g *graph.Graph) []*graph.Node {
		state, left, steps := parameters(g)
		state, left = c.step(state, left)
		return append(state[:], left, graph.Add(steps, constant(steps, 1)))
	})
	loop := make([]*graph.Node, 0, Channels+2)
	for i := range Channels {
		loop = append(loop, graph.Squeeze(graph.SliceAxis(u, -1, graph.AxisElem(i)), -1))
	}
	loop = append(loop,
		graph.BroadcastToDims(constant(u, c.Interval), dims[0], 1, 1),
		graph.ConstAsDType(g, dtypes.Int32, 0))
	loop = graph.While(unfinished, oneStep, loop...)

	state := fields(loop[:Channels])
	left = loop[Channels]
	left = graph.Where(admissible(c.primitive(state)), left, nan(left))
	return graph.Stack(state[:], -1), graph.Reshape(left, dims[0]), loop[Channels+1]
}

// step is one Runge-Kutta step. A finished sample has the time step 0 and keeps its values. One that turned
// inadmissible has the time step NaN, which spreads to its whole state and to its time left, and so ends its part.
func (c Config) step(state fields, left *graph.Node) (next fields, stillLeft *graph.Node) {
	w := c.primitive(state)
	dt := graph.Min(c.stableStep(w), left)
	dt = graph.Where(admissible(w), dt, nan(dt))
	predicted := c.update(state, w, dt)

	w = c.primitive(predicted)
	dt = graph.Where(admissible(w), dt, nan(dt))
	corrected := c.update(predicted, w, dt)
	for i := range next {
		next[i] = times(graph.Add(state[i], corrected[i]), 0.5)
	}
	return next, graph.Sub(left, dt)
}

// update returns state - dt div F(w): one forward Euler step.
func (c Config) update(state, w fields, dt *graph.Node) fields {
	cells, perX, perY := spacing(state[density].Shape())
	rate := times(dt, cells)
	throughX, throughY := c.outflows(w)
	var next fields
	for i := range next {
		outflow := graph.Add(scaled(throughX[i], perX), scaled(throughY[i], perY))
		next[i] = graph.Sub(state[i], graph.Mul(rate, outflow))
	}
	return next
}

// stableStep is the time step [batch, 1, 1] that CFL allows each sample.
func (c Config) stableStep(w fields) *graph.Node {
	cells, perX, perY := spacing(w[density].Shape())
	sound := graph.Sqrt(graph.Div(times(w[pressure], c.Gamma), w[density]))
	speed := graph.Max(
		scaled(graph.Add(graph.Abs(w[alongX]), sound), perX),
		scaled(graph.Add(graph.Abs(w[alongY]), sound), perY))
	fastest := overCells(speed, graph.Max)
	return graph.Div(constant(fastest, c.CFL/cells), fastest)
}

// primitive turns conserved into primitive variables. The pressure ends in a difference, not in a product, since its own
// differences follow; see symmetricSum.
func (c Config) primitive(u fields) fields {
	velocityX := graph.Div(u[alongX], u[density])
	velocityY := graph.Div(u[alongY], u[density])
	twiceKinetic := symmetricSum(graph.Mul(u[alongX], velocityX), graph.Mul(u[alongY], velocityY))
	p := graph.Sub(times(u[energy], c.Gamma-1), times(twiceKinetic, (c.Gamma-1)/2))
	return fields{u[density], velocityX, velocityY, p}
}

// outflows is, in each cell and either direction, the flux through its upper face less that through its lower face.
//
// The faces of both directions go through the flux as one batch. In two pieces of a program XLA may contract a product and
// the sum it enters in one piece and not in the other, and mirror images about the diagonal would round differently: it does
// so from 128 cells in a row on.
//
// The barriers keep XLA from computing what they hold again wherever it is used, which is slow, and from contracting it with
// what it enters (see symmetricSum).
func (c Config) outflows(w fields) (throughX, throughY fields) {
	batch := w[density].Shape().Dim(0)
	leftX, rightX := faces(w, axisX)
	leftY, rightY := faces(w, axisY)
	both := func(x, y fields) (all fields) {
		y[alongX], y[alongY] = y[alongY], y[alongX]
		for i := range all {
			all[i] = graph.Concatenate([]*graph.Node{x[i], y[i]}, 0)
		}
		return all
	}
	left, right := both(leftX, leftY), both(rightX, rightY)
	all := graph.OptimizationBarriers(append(left[:], right[:]...)...)
	flux := c.flux(fields(all[:Channels]), fields(all[Channels:]), alongX, alongY)
	flux = fields(graph.OptimizationBarriers(flux[:]...))
	outflow := func(x *graph.Node, axis int) *graph.Node { return graph.Sub(x, behind(x, axis)) }
	for i := range flux {
		throughX[i] = outflow(graph.SliceAxis(flux[i], 0, graph.AxisRangeFromStart(batch)), axisX)
		throughY[i] = outflow(graph.SliceAxis(flux[i], 0, graph.AxisRangeToEnd(batch)), axisY)
	}
	throughY[alongX], throughY[alongY] = throughY[alongY], throughY[alongX]
	return throughX, throughY
}

// faces returns the states on both sides of each cell's upper face along axis.
func faces(w fields, axis int) (left, right fields) {
	for i := range w {
		step := graph.Sub(ahead(w[i], axis), w[i])
		slope := halfSlope(behind(step, axis), step)
		left[i] = graph.Add(w[i], slope)
		right[i] = ahead(graph.Sub(w[i], slope), axis)
	}
	return left, right
}

// halfSlope is half of the monotonized central slope: the mean of the two differences over two, and no more than either.
//
// A face value therefore lies between the values of the two cells at that face: density and pressure stay positive
// there without any further limit.
func halfSlope(below, above *graph.Node) *graph.Node {
	zero := constant(below, 0)
	mean := times(graph.Add(below, above), 0.25)
	least := graph.Min(graph.Max(below, above), zero)
	greatest := graph.Max(graph.Min(below, above), zero)
	return graph.Min(graph.Max(mean, least), greatest)
}

// spacing returns the cells per unit length in the finer direction, and those of each direction in proportion to it.
func spacing(plane shapes.Shape) (cells, perX, perY float64) {
	height, width := float64(plane.Dim(axisY)), float64(plane.Dim(axisX))
	cells = max(height, width)
	return cells, width / cells, height / cells
}

// scaled spares the multiplication by one, so that nothing separates the two directions of a square grid.
func scaled(x *graph.Node, factor float64) *graph.Node {
	if factor == 1 {
		return x
	}
	return times(x, factor)
}

// symmetricSum is a + b to the last bit symmetric in a and b, and odd in both.
//
// XLA contracts a product and the sum it enters into one rounding, where it computes them together. A sum of two
// products, a b + c d, then rounds only one of them, and its mirror image perhaps the other. The greater and the lesser
// of the two are no products.
func symmetricSum(a, b *graph.Node) *graph.Node {
	return graph.Add(graph.Max(a, b), graph.Min(a, b))
}

// admissible tells for each sample, [batch, 1, 1], whether density and pressure are positive and everything finite.
//
// It counts on no maximum or minimum of NaN, which XLA's CPU backend may take for the other operand.
func admissible(w fields) *graph.Node {
	positive := graph.GreaterThan(graph.Min(w[density], w[pressure]), constant(w[density], 0))
	finite := graph.IsFinite(graph.Add(graph.Add(w[density], w[pressure]), graph.Add(w[alongX], w[alongY])))
	good := graph.Where(graph.LogicalAnd(positive, finite), constant(w[density], 1), constant(w[density], 0))
	all := overCells(good, graph.Min)
	return graph.GreaterThan(all, constant(all, 0))
}

// overCells combines the values [batch, y, x] of all cells of each sample: [batch, 1, 1].
func overCells(x *graph.Node, combine func(a, b *graph.Node) *graph.Node) *graph.Node {
	batch := x.Shape().Dim(0)
	return graph.Reshape(fold(graph.Reshape(x, batch, -1), combine), batch, 1, 1)
}

// fold combines x [rows, n] over its columns by halves: [rows, 1]. GoMLX's reductions are of no use here, because its XLA
// backend allows each kind of them in only one function of a program and the bodies of loops are functions.
func fold(x *graph.Node, combine func(a, b *graph.Node) *graph.Node) *graph.Node {
	for n := x.Shape().Dim(1); n > 1; n = (n + 1) / 2 {
		// The halves share a column where n is odd, which changes neither a maximum nor a minimum.
		x = combine(graph.SliceAxis(x, 1, graph.AxisRange(0, (n+1)/2)), graph.SliceAxis(x, 1, graph.AxisRange(n/2, n)))
	}
	return x
}

// constant is a scalar of x's dtype. GoMLX's own scalars are shared within a graph and so cannot be used in the body of
// a loop: another body, or the graph around it, would get a node that is not its own.
func constant(x *graph.Node, value float64) *graph.Node {
	return graph.ConstAsDType(x.Graph(), x.DType(), value)
}

// nan is NaN in x's dtype.
func nan(x *graph.Node) *graph.Node { return constant(x, math.NaN()) }

func times(x *graph.Node, factor float64) *graph.Node { return graph.Mul(x, constant(x, factor)) }

// ahead moves every value one cell down the axis: a cell then holds what the next one held. The axis is a circle.
func ahead(x *graph.Node, axis int) *graph.Node {
	if x.Shape().Dim(axis) == 1 {
		return x
	}
	return graph.Concatenate([]*graph.Node{
		graph.SliceAxis(x, axis, graph.AxisRangeToEnd(1)),
		graph.SliceAxis(x, axis, graph.AxisRangeFromStart(1)),
	}, axis)
}

// behind is the inverse of ahead.
func behind(x *graph.Node, axis int) *graph.Node {
	if x.Shape().Dim(axis) == 1 {
		return x
	}
	return graph.Concatenate([]*graph.Node{
		graph.SliceAxis(x, axis, graph.AxisRangeToEnd(-1)),
		graph.SliceAxis(x, axis, graph.AxisRangeFromStart(-1)),
	}, axis)
}
