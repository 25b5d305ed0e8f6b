package orbits_test

import (
	"fmt"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// applyOutput is apply for outputs.
func applyOutput(t require.TestingT, b compute.Backend, f orbits.Field, state [][][][]float64, elements ...orbits.Element) [][][][]float64 {
	out, err := graph.CallOnce(b, func(y *graph.Node) *graph.Node {
		for i := len(elements) - 1; i >= 0; i-- {
			y = elements[i].ApplyOutput(f, y)
		}
		return y
	}, state)
	require.NoError(t, err)
	return out.Value().([][][][]float64)
}

func boost(t require.TestingT, step float64, v orbits.Vector) orbits.Element {
	elements, err := orbits.Boosts(step, v).Elements(1, 1)
	require.NoError(t, err)
	return elements[1]
}

func scaling(t require.TestingT, factor float64) orbits.Element {
	elements, err := orbits.Scalings(factor).Elements(1, 1)
	require.NoError(t, err)
	return elements[1]
}

// Channels stand in an unusual order, so that any mistaken one shows.
var shuffled = orbits.Field{
	Channels:  []string{"energy", "momentum_y", "tracer", "momentum_x", "density"},
	Vectors:   [][]int{{3, 1}},
	Conserved: &orbits.Conserved{Density: 4, Momentum: []int{3, 1}, Energy: 0},
}

func TestBoostsMatchTheirFormula(t *testing.T) {
	const height, width = 5, 7
	v := orbits.Vector{X: 0.75, Y: -0.5}
	const step = 4 // shifts of 3 pixels to the right and 2 down
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, rowDown := range []bool{false, true} {
			field := shuffled
			field.RowDown = rowDown
			state := normal[float64](1, height, width, 5)
			input, output := numbered[float64](1, height, width, 5), numbered[float64](1, height, width, 5)
			for j := range height {
				for i := range width {
					u := state[0][j][i]
					energy, my, tracer, mx, density := u[0], u[1], u[2], u[3], u[4]
					image := []float64{
						energy + mx*v.X + my*v.Y + density*(v.X*v.X+v.Y*v.Y)/2, my + density*v.Y, tracer, mx + density*v.X, density,
					}
					input[0][j][i] = image
					down := height - 2 // is -2
					if rowDown {
						down = 2
					}
					output[0][(j+down)%height][(i+3)%width] = image
				}
			}
			g := boost(t, step, v)
			requireNear(t, input, apply(t, b, field, state, g), 1e-15, "input")
			requireNear(t, output, applyOutput(t, b, field, state, g), 1e-15, "output")
		}
	})
}

// A boost by v is a flow seen by an observer who moves by -v: velocities change by v and the pressure does not.
func TestBoostsKeepThePressure(t *testing.T) {
	state := [][][][]float64{{{{2, 1, -3, 9}}}}
	image := apply(t, backendtest.Go(t), orbits.EulerField(), state, boost(t, 1, orbits.Vector{X: 5, Y: 7}))[0][0][0]
	velocity := func(u []float64) [2]float64 { return [2]float64{u[1] / u[0], u[2] / u[0]} }
	internal := func(u []float64) float64 { return u[3] - (u[1]*u[1]+u[2]*u[2])/(2*u[0]) }
	require.Equal(t, 2.0, image[0])
	require.Equal(t, [2]float64{0.5 + 5, -1.5 + 7}, velocity(image))
	require.Equal(t, internal(state[0][0][0]), internal(image))
}

func TestScalingsMultiplyEveryChannel(t *testing.T) {
	state, want := normal[float64](1, 2, 3, 5), normal[float64](1, 2, 3, 5)
	each(want, func(v *float64) { *v *= 3 })
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		require.Equal(t, want, apply(t, b, shuffled, state, scaling(t, 3)))
		require.Equal(t, want, applyOutput(t, b, shuffled, state, scaling(t, 3)))
	})
}

// anyFlowElement draws compositions of everything that is built in. Shifts of inputs are whole; those of outputs by boosts are not.
func anyFlowElement(t *rapid.T, label string) orbits.Element {
	eighths := rapid.IntRange(1, 16)
	g := anyElement(t, label)
	g = g.Compose(boost(t, 1.5, orbits.Vector{X: float64(eighths.Draw(t, label+" vx")) / 8, Y: float64(eighths.Draw(t, label+" vy")) / -8}))
	g = g.Compose(anyElement(t, label+" again"))
	return scaling(t, rapid.Float64Range(1.1, 4).Draw(t, label+" factor")).Compose(g)
}

func TestFlowElementsAct(t *testing.T) {
	const size = 5 // odd, so that fractional shifts compose
	b := backendtest.Go(t)
	rapid.Check(t, func(t *rapid.T) {
		state := normal[float64](rapid.Uint64().Draw(t, "seed"), size, size, 4)
		field := orbits.EulerField()
		field.RowDown = rapid.Bool().Draw(t, "rows down")
		g, h := anyFlowElement(t, "g"), anyFlowElement(t, "h")
		const tolerance = 1e-11 // of values up to a thousand
		requireNear(t, apply(t, b, field, state, g.Compose(h)), apply(t, b, field, state, g, h), tolerance, "input")
		requireNear(t, applyOutput(t, b, field, state, g.Compose(h)), applyOutput(t, b, field, state, g, h), tolerance, "output")
		requireNear(t, state, apply(t, b, field, state, g.Inverse(), g), tolerance, "inverse")
		requireNear(t, state, applyOutput(t, b, field, state, g.Inverse(), g), tolerance, "inverse of outputs")
		require.True(t, g.Compose(g.Inverse()).IsIdentity())
	})
}

func TestNamesOfFlowElements(t *testing.T) {
	all := translation(t, 0, 8).Compose(mustElements(t, orbits.D4(), 8)[5])
	all = scaling(t, 2).Compose(boost(t, 1, orbits.Vector{X: -0.5, Y: 3}).Compose(all))
	require.Equal(t, "scale(2)boost(3,-0.5)t(0,8)sr", all.Name())
	require.True(t, all.NeedsSquare())
	require.True(t, scaling(t, 49).Compose(scaling(t, 1.0/49)).IsIdentity())
}

func TestBoostsNeedConservedVariables(t *testing.T) {
	_, err := graph.CallOnce(backendtest.Go(t), func(x *graph.Node) *graph.Node {
		return boost(t, 1, eastward).Apply(single, x)
	}, [][][][]float64{{{{1}}}})
	require.ErrorContains(t, err, "orbits: element boost(0,0.5) adds to the momentum and the energy of a flow, and the field does not say which channels these are; declare them (Field.Conserved, as EulerField does)")
}

// Vorticity flips in a mirror, as the curl of the mirrored velocity does; a half turn leaves it.
func TestPseudoscalars(t *testing.T) {
	field := orbits.Field{Channels: []string{"pressure", "vorticity"}, Pseudoscalars: []int{1}}
	const size = 5
	state := normal[float64](1, size, size, 2)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, group := range []orbits.Group{orbits.D4(), orbits.D4GridOnly()} {
			for _, g := range mustElements(t, group, size) {
				mirrors := group.Name == orbits.D4Name && g.Name()[0] == 's'
				want := numbered[float64](1, size, size, 2)
				for j := range size {
					for i := range size {
						cell := state[0][first(rowsUp[g.Name()].source(j, i, size-1))][second(rowsUp[g.Name()].source(j, i, size-1))]
						want[0][j][i] = []float64{cell[0], cell[1]}
						if mirrors {
							want[0][j][i][1] = -cell[1]
						}
					}
				}
				require.Equal(t, want, apply(t, b, field, state, g), "%s %s", group.Name, g)
			}
		}
	})
}

func first(a, _ int) int  { return a }
func second(_, b int) int { return b }

// The curl of a moved velocity is the moved curl, by central differences on the periodic grid.
func TestVorticityIsAPseudoscalar(t *testing.T) {
	const size = 6
	velocity := orbits.Field{Channels: []string{"u", "v"}, Vectors: [][]int{{0, 1}}}
	vorticity := orbits.Field{Channels: []string{"vorticity"}, Pseudoscalars: []int{0}}
	curl := func(state [][][][]float64) [][][][]float64 {
		out := numbered[float64](1, size, size, 1)
		for j := range size {
			for i := range size {
				at := func(dj, di, c int) float64 { return state[0][(j+dj+size)%size][(i+di+size)%size][c] }
				out[0][j][i][0] = at(0, 1, 1) - at(0, -1, 1) - at(1, 0, 0) + at(-1, 0, 0)
			}
		}
		return out
	}
	state := normal[float64](3, size, size, 2)
	b := backendtest.Go(t)
	for _, g := range mustElements(t, orbits.Product(orbits.D4(), orbits.Translations(2)), size) {
		requireNear(t, apply(t, b, vorticity, curl(state), g), curl(apply(t, b, velocity, state, g)), 1e-14, g.Name())
	}
}

func TestProducts(t *testing.T) {
	const size = 8
	// All shifts by 4 pixels with all of D4: a group, closed under composition.
	whole := orbits.Product(orbits.D4(), orbits.Translations(4), orbits.Translations(4))
	require.Equal(t, "d4*translations*translations", whole.Name)
	elements := mustElements(t, whole, size)
	require.Len(t, elements, 8*4)
	require.True(t, elements[0].IsIdentity())
	require.ElementsMatch(t, elements, mustElements(t, orbits.Product(whole, whole), size))
	require.Equal(t, mustElements(t, orbits.D4(), size), mustElements(t, orbits.Product(orbits.D4(), orbits.C4()), size))
	require.Equal(t, mustElements(t, orbits.D4(), size), mustElements(t, orbits.Product(orbits.D4()), size))

	// Every element is one of the first group after one of the second, and acts so.
	b := backendtest.Go(t)
	state := numbered[float64](1, size, size, 4)
	product := mustElements(t, orbits.Product(orbits.C4(), orbits.Translations(3)), size)
	for i, g := range mustElements(t, orbits.C4(), size) {
		for j, h := range mustElements(t, orbits.Translations(3), size) {
			require.Equal(t, apply(t, b, orbits.EulerField(), state, g, h), apply(t, b, orbits.EulerField(), state, product[5*i+j]))
		}
	}
	require.Len(t, product, 4*5)
}

func TestProductsWithCustomGroups(t *testing.T) {
	product := orbits.Product(orbits.Custom("mirror", mirrored), orbits.Translations(1))
	elements, err := product.Elements(2, 3)
	require.NoError(t, err)
	require.Equal(t, "[e t(0,1) t(0,2) t(1,0) mirrored mirroredt(0,1) mirroredt(0,2) mirroredt(1,0)]", fmt.Sprint(elements))
	image := apply(t, backendtest.Go(t), single, [][][][]float64{{{{1}, {2}, {3}}, {{4}, {5}, {6}}}}, elements[5])
	require.Equal(t, [][][][]float64{{{{2}, {1}, {3}}, {{5}, {4}, {6}}}}, image, "shifted, then mirrored")
}

func TestWithOutput(t *testing.T) {
	double := func(y *graph.Node) *graph.Node { return graph.MulScalar(y, 2) }
	negated := orbits.NewElement("negated", graph.Neg)
	b := backendtest.Go(t)
	state := [][][][]float64{{{{1}, {2}}}}
	require.Equal(t, [][][][]float64{{{{-1}, {-2}}}}, applyOutput(t, b, single, state, negated), "as the input")
	other := negated.WithOutput(double)
	require.Equal(t, "negated", other.Name())
	require.Equal(t, [][][][]float64{{{{-1}, {-2}}}}, apply(t, b, single, state, other))
	require.Equal(t, [][][][]float64{{{{2}, {4}}}}, applyOutput(t, b, single, state, other))
	shift := translation(t, 0, 1)
	require.Equal(t, [][][][]float64{{{{4}, {2}}}}, applyOutput(t, b, single, state, shift.Compose(other)))
	require.Equal(t, [][][][]float64{{{{-2}, {-1}}}}, apply(t, b, single, state, shift.Compose(other)))
	require.Equal(t, [][][][]float64{{{{2}, {1}}}}, apply(t, b, single, state, shift.WithOutput(double)))
}
