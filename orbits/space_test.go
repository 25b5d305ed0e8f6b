package orbits_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// side is that of a cube, odd so that fractional shifts compose.
const side = 3

// cell is a place in a cube, x, y and z.
type cell [3]int

// grid holds the channels of each cell of a cube.
type grid map[cell][]float64

func cells() (all []cell) {
	for z := range side {
		for y := range side {
			for x := range side {
				all = append(all, cell{x, y, z})
			}
		}
	}
	return all
}

func randomGrid(channels int) grid {
	random, g := rand.New(rand.NewPCG(1, 2)), grid{}
	for _, at := range cells() {
		for range channels {
			g[at] = append(g[at], random.NormFloat64())
		}
	}
	return g
}

// tensor is a state [1, z, y, x, channel].
func (g grid) tensor() *tensors.Tensor {
	var flat []float64
	for _, at := range cells() {
		flat = append(flat, g[at]...)
	}
	return tensors.FromFlatDataAndDimensions(flat, 1, side, side, side, len(g[cell{}]))
}

func gridOf(t *tensors.Tensor) grid {
	flat, g := tensors.MustCopyFlatData[float64](t), grid{}
	channels := t.Shape().Dim(-1)
	for i, at := range cells() {
		g[at] = flat[i*channels : (i+1)*channels]
	}
	return g
}

// act applies elements to one state, all in one graph.
func act(t require.TestingT, b compute.Backend, f orbits.Field, state *tensors.Tensor, elements ...orbits.Element) []*tensors.Tensor {
	exec, err := graph.NewExec(b, func(x *graph.Node) (images []*graph.Node) {
		for _, e := range elements {
			images = append(images, e.Apply(f, x))
		}
		return images
	})
	require.NoError(t, err)
	defer exec.Finalize()
	own, err := state.LocalClone() // a tensor stays with the first backend that it meets
	require.NoError(t, err)
	images, err := exec.Call(own)
	require.NoError(t, err)
	return images
}

func mustBe(t require.TestingT, group orbits.Group, sizes ...int) []orbits.Element {
	elements, err := group.Elements(sizes...)
	require.NoError(t, err)
	return elements
}

// matrix has the images of the unit vectors as its columns.
func matrix(t require.TestingT, e orbits.Element) (m [3][3]int) {
	x, y, z, ok := e.Turn()
	require.True(t, ok)
	for column, image := range []orbits.Vector{x, y, z} {
		m[0][column], m[1][column], m[2][column] = int(image.X), int(image.Y), int(image.Z)
	}
	return m
}

func determinant(m [3][3]int) int {
	return m[0][0]*(m[1][1]*m[2][2]-m[1][2]*m[2][1]) - m[0][1]*(m[1][0]*m[2][2]-m[1][2]*m[2][0]) + m[0][2]*(m[1][0]*m[2][1]-m[1][1]*m[2][0])
}

func multiplied(a, b [3][3]int) (c [3][3]int) {
	for i := range 3 {
		for j := range 3 {
			for k := range 3 {
				c[i][j] += a[i][k] * b[k][j]
			}
		}
	}
	return c
}

// The 48 matrices of the cube are all signed permutations; they multiply as the elements compose.
func TestTheOctahedralGroup(t *testing.T) {
	elements := mustBe(t, orbits.Octahedral(), side, side, side)
	require.Len(t, elements, 48)
	require.Equal(t, mustBe(t, orbits.D4(), side, side), elements[:8], "those of the square first")
	matrices, names, reflections := map[[3][3]int]bool{}, map[string]bool{}, 0
	for _, g := range elements {
		m := matrix(t, g)
		require.Equal(t, 1, determinant(m)*determinant(m), g.Name())
		if determinant(m) < 0 {
			reflections++
		}
		matrices[m], names[g.Name()] = true, true
		for _, h := range elements {
			require.Equal(t, multiplied(m, matrix(t, h)), matrix(t, g.Compose(h)), "%s after %s", g, h)
			require.Contains(t, elements, g.Compose(h))
			require.Equal(t, g, g.Compose(h).Compose(h.Inverse()))
		}
	}
	require.Equal(t, [3]int{48, 48, 24}, [3]int{len(matrices), len(names), reflections})
	for i := range elements { // associativity, of some triples that hold every element
		g, h, k := elements[i], elements[(7*i+5)%48], elements[(11*i+1)%48]
		require.Equal(t, g.Compose(h).Compose(k), g.Compose(h.Compose(k)))
	}
}

// A name says where the point (x, y, z) goes.
func TestNamesInThreeDimensions(t *testing.T) {
	for _, g := range mustBe(t, orbits.Octahedral(), side, side, side)[8:] {
		m, want := matrix(t, g), "("
		for row := range 3 {
			if row > 0 {
				want += ","
			}
			for column, axis := range []string{"x", "y", "z"} {
				switch m[row][column] {
				case 1:
					want += axis
				case -1:
					want += "-" + axis
				}
			}
		}
		require.Equal(t, want+")", g.Name())
	}
	shifts := mustBe(t, orbits.Translations(2), 3, 4, 6)
	require.Equal(t, "[e t(0,0,2) t(0,0,4) t(0,2,0) t(2,0,0)]", fmt.Sprint(shifts))
	require.Equal(t, orbits.Vector{Z: 2}, shifts[4].Shift())
	require.Equal(t, "[e s]", fmt.Sprint(mustBe(t, orbits.Reflections(), 8)))
	require.Equal(t, "[e t(3) t(6)]", fmt.Sprint(mustBe(t, orbits.Translations(3), 8)))
	require.Equal(t, "[e boost(-2)]", fmt.Sprint(mustBe(t, orbits.Boosts(1, orbits.Vector{X: -2}), 8)))
	require.Equal(t, "[e boost(3,0,-2)]", fmt.Sprint(mustBe(t, orbits.Boosts(1, orbits.Vector{X: -2, Z: 3}), 8, 8, 8)))
	tilted := shifts[4].Compose(mustBe(t, orbits.Octahedral(), side, side, side)[16])
	require.Equal(t, "t(2,0,0)(z,x,y)", tilted.Name())
	require.Equal(t, "t(-2)s", mustBe(t, orbits.Reflections(), 8)[1].Compose(mustBe(t, orbits.Translations(2), 8)[1]).Name())
}

var everything = orbits.Field{
	Channels:      []string{"w3", "heat", "v1", "v3", "helicity", "w1", "v2", "w2"},
	Vectors:       [][]int{{2, 6, 3}},
	Pseudovectors: [][]int{{5, 7, 0}},
	Pseudoscalars: []int{4},
}

// Each cell comes to M p about the centre of the cube, vectors to M v, pseudovectors to det(M) M w: written out with matrices.
func TestTurnsOfTheCubeMatchMatrices(t *testing.T) {
	state := randomGrid(len(everything.Channels))
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, down := range []bool{true, false} {
			for _, group := range []orbits.Group{orbits.Octahedral(), orbits.GridOnly(orbits.Octahedral())} {
				field := everything
				field.RowDown = down
				physical := func(at cell) cell { // about the centre
					p := cell{at[0] - 1, at[1] - 1, at[2] - 1}
					if down {
						p[1] = -p[1]
					}
					return p
				}
				if b.Name() != backendtest.Go(t).Name() && (!down || group.Name != orbits.OctahedralName) {
					continue // compiling takes seconds
				}
				elements := mustBe(t, group, side, side, side)
				for i, image := range act(t, b, field, state.tensor(), elements...) {
					m := matrix(t, mustBe(t, orbits.Octahedral(), side, side, side)[i])
					images := map[cell]cell{} // by physical place
					for _, at := range cells() {
						var to cell
						for row := range 3 {
							for column := range 3 {
								to[row] += m[row][column] * physical(at)[column]
							}
						}
						images[to] = at
					}
					if group.Name != orbits.OctahedralName {
						m = [3][3]int{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
					}
					want, handed := grid{}, float64(determinant(m))
					for _, at := range cells() {
						u := state[images[physical(at)]]
						v := slices.Clone(u)
						v[4] = handed * u[4]
						for row := range 3 {
							v[everything.Vectors[0][row]], v[everything.Pseudovectors[0][row]] = 0, 0
							for column := range 3 {
								v[everything.Vectors[0][row]] += float64(m[row][column]) * u[everything.Vectors[0][column]]
								v[everything.Pseudovectors[0][row]] += handed * float64(m[row][column]) * u[everything.Pseudovectors[0][column]]
							}
						}
						want[at] = v
					}
					require.Equal(t, want, gridOf(image), "%s %s, rows down: %v", group.Name, elements[i], down)
				}
			}
		}
	})
}

// near says whether grids differ by rounding at most.
func near(a, b grid) bool {
	for at := range a {
		for c, v := range a[at] {
			if math.Abs(v-b[at][c]) > 1e-12 {
				return false
			}
		}
	}
	return true
}

// difference is the central difference of a channel along an axis, on the periodic cube.
func (g grid) difference(at cell, axis, channel int) float64 {
	before, after := at, at
	after[axis], before[axis] = (at[axis]+1)%side, (at[axis]+side-1)%side
	return g[after][channel] - g[before][channel]
}

// The curl of a moved velocity is the moved curl where it is declared a pseudovector. As a vector it is not, in any mirror.
func TestVorticityIsAPseudovector(t *testing.T) {
	names := []string{"a", "b", "c"}
	vector := orbits.Field{Channels: names, Vectors: [][]int{{0, 1, 2}}}
	vorticity := orbits.Field{Channels: names, Pseudovectors: [][]int{{0, 1, 2}}}
	scalar := orbits.Field{Channels: names[:1]}
	of := func(operator func(g grid, at cell) []float64) func(g grid) grid {
		return func(g grid) grid {
			image := grid{}
			for _, at := range cells() {
				image[at] = operator(g, at)
			}
			return image
		}
	}
	curl := of(func(g grid, at cell) []float64 {
		return []float64{
			g.difference(at, 1, 2) - g.difference(at, 2, 1), g.difference(at, 2, 0) - g.difference(at, 0, 2), g.difference(at, 0, 1) - g.difference(at, 1, 0),
		}
	})
	gradient := of(func(g grid, at cell) []float64 {
		return []float64{g.difference(at, 0, 0), g.difference(at, 1, 0), g.difference(at, 2, 0)}
	})
	b := backendtest.Go(t)
	elements := slices.Concat(mustBe(t, orbits.Octahedral(), side, side, side), mustBe(t, orbits.Translations(1), side, side, side))
	// commutes says, by element, whether an operator commutes with it.
	commutes := func(operator func(grid) grid, in, out orbits.Field) (all []bool) {
		state := randomGrid(len(in.Channels))
		before, after := act(t, b, in, state.tensor(), elements...), act(t, b, out, operator(state).tensor(), elements...)
		for i := range elements {
			all = append(all, near(operator(gridOf(before[i])), gridOf(after[i])))
		}
		return all
	}
	right, gradients, wrong := commutes(curl, vector, vorticity), commutes(gradient, scalar, vector), commutes(curl, vector, vector)
	for i, e := range elements {
		mirror := i < 48 && determinant(matrix(t, e)) < 0
		require.True(t, right[i], "curl, %s", e)
		require.True(t, gradients[i], "gradient, %s", e)
		require.Equal(t, !mirror, wrong[i], "curl as a vector, %s", e)
	}
}

func TestWhatFitsABox(t *testing.T) {
	for _, c := range []struct {
		group orbits.Group
		sizes []int
		want  int
	}{
		{orbits.Octahedral(), []int{4, 4, 4}, 48},
		{orbits.Octahedral(), []int{8, 4, 4}, 16}, // z is another length
		{orbits.Octahedral(), []int{4, 4, 8}, 16},
		{orbits.Octahedral(), []int{2, 3, 4}, 8},
		{orbits.Reflections(), []int{2, 3, 4}, 8},
		{orbits.Reflections(), []int{2, 3}, 4},
		{orbits.D4(), []int{8, 4, 4}, 8}, // about z
		{orbits.D4(), []int{4, 4, 8}, 4},
		{orbits.C4(), []int{8, 4, 4}, 4},
		{orbits.Translations(1), []int{2, 3, 4}, 1 + 1 + 2 + 3},
		{orbits.Scalings(2), nil, 2},
		{orbits.Scalings(2), []int{2, 3, 4, 5}, 2},
	} {
		elements := mustBe(t, c.group, c.sizes...)
		require.Len(t, elements, c.want, "%s on %v", c.group.Name, c.sizes)
		for _, e := range elements {
			images := act(t, backendtest.Go(t), single, tensors.FromFlatDataAndDimensions(make([]float64, product(c.sizes)), slices.Concat([]int{1}, c.sizes, []int{1})...), e)
			require.Len(t, images, 1)
		}
	}
}

func product(sizes []int) int {
	n := 1
	for _, size := range sizes {
		n *= size
	}
	return n
}

// On a line the mirror turns velocities round, a shift moves waves, and a boost carries a gas on.
func TestAlongALine(t *testing.T) {
	gas := orbits.Field{
		Channels: []string{"density", "momentum", "energy"}, Vectors: [][]int{{1}}, Conserved: &orbits.Conserved{Density: 0, Momentum: []int{1}, Energy: 2},
	}
	values := [][][]float64{{{2, 1, 5}, {3, -1, 6}, {4, 2, 7}}}
	state := tensors.FromValue(values)
	mirror := mustBe(t, orbits.Reflections(), 3)[1]
	shift := mustBe(t, orbits.Translations(1), 3)[1]
	boost := mustBe(t, orbits.Boosts(0.5, orbits.Vector{X: 2}), 3)[1]
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		images := act(t, b, gas, state, mirror, shift, boost, mustBe(t, orbits.GridOnly(orbits.Reflections()), 3)[1])
		require.Equal(t, [][][]float64{{{4, -2, 7}, {3, 1, 6}, {2, -1, 5}}}, images[0].Value())
		require.Equal(t, [][][]float64{{{4, 2, 7}, {2, 1, 5}, {3, -1, 6}}}, images[1].Value())
		require.Equal(t, [][][]float64{{{2, 5, 11}, {3, 5, 10}, {4, 10, 19}}}, images[2].Value(), "m + rho v, E + m v + rho v^2 / 2")
		require.Equal(t, [][][]float64{{{4, 2, 7}, {3, -1, 6}, {2, 1, 5}}}, images[3].Value(), "the control leaves the momentum")
		out, err := graph.CallOnce(b, func(x *graph.Node) *graph.Node { return boost.ApplyOutput(gas, x) }, values)
		require.NoError(t, err)
		require.Equal(t, [][][]float64{{{4, 10, 19}, {2, 5, 11}, {3, 5, 10}}}, out.Value(), "a cell on")
		wave := func(d float64) (all [][][]float64) {
			all = [][][]float64{nil}
			for i := range 6 {
				all[0] = append(all[0], []float64{math.Sin(2 * math.Pi * (float64(i) - d) / 6)})
			}
			return all
		}
		moved := act(t, b, single, tensors.FromValue(wave(0)), mustBe(t, orbits.Translations(0.3), 6)[1])[0].Value().([][][]float64)
		for i, v := range wave(0.3)[0] {
			require.InDelta(t, v[0], moved[0][i][0], 1e-14)
		}
	})
}

// A network of points in space knows no grid: rotations by any angle, of the user's own.
func TestPointClouds(t *testing.T) {
	points := orbits.Field{Channels: []string{"x", "y", "z"}, Vectors: [][]int{{0, 1, 2}}}
	turned := func(angle float64) func(x *graph.Node) *graph.Node {
		m := [][]float64{{math.Cos(angle), -math.Sin(angle), 0}, {math.Sin(angle), math.Cos(angle), 0}, {0, 0, 1}}
		return func(x *graph.Node) *graph.Node {
			return graph.Einsum("npa,ba->npb", x, graph.ConstAsDType(x.Graph(), x.DType(), m))
		}
	}
	rotation := orbits.NewElement("rotation(30)", turned(math.Pi/6)).WithInverse(turned(-math.Pi / 6))
	group := orbits.Custom("rotations", rotation)
	require.NoError(t, group.Check(points, 5))
	require.NoError(t, orbits.Product(group, orbits.Scalings(2)).Check(points, 5), "scalings are of any states")
	require.ErrorContains(t, orbits.Product(group, orbits.Translations(1)).Check(points, 5), "the field's vector [0 1 2] has 3 components, and states on the grid 5 have 1 axes of space")
	cloud := [][][]float64{{{1, 0, 2}, {0, 2, 0}}}
	b := backendtest.Go(t)
	image := act(t, b, points, tensors.FromValue(cloud), rotation)[0].Value().([][][]float64)
	require.InDeltaSlice(t, []float64{math.Sqrt(3) / 2, 0.5, 2}, image[0][0], 1e-15)
	undo, known := rotation.Undo()
	require.True(t, known)
	back, err := graph.CallOnce(b, func(y *graph.Node) *graph.Node { return undo(points, y) }, image)
	require.NoError(t, err)
	require.InDeltaSlice(t, cloud[0][1], back.Value().([][][]float64)[0][1], 1e-15)

	pair := orbits.NewElement("swapped", func(x *graph.Node) *graph.Node { return graph.Reverse(x, 1) }) // of states without a grid
	require.NoError(t, orbits.Custom("swap", pair).Check(orbits.Field{Channels: []string{"a", "b"}}))
	require.Equal(t, [][]float64{{2, 1}}, act(t, b, orbits.Field{Channels: []string{"a", "b"}}, tensors.FromValue([][]float64{{1, 2}}), pair)[0].Value())
}

func TestGroupsOnTheWrongGrid(t *testing.T) {
	for _, c := range []struct {
		group orbits.Group
		sizes []int
		want  string
	}{
		{orbits.D4(), []int{16}, "orbits: group d4 is of states with 2 to 3 axes of space, and these have 1 (grid 16); use reflections"},
		{orbits.C4(), []int{16}, "orbits: group c4 is of states with 2 to 3 axes of space, and these have 1 (grid 16); use reflections"},
		{orbits.D4GridOnly(), []int{16}, "orbits: group d4 is of states with 2 to 3 axes of space, and these have 1 (grid 16); use reflections"},
		{orbits.Octahedral(), []int{16}, "orbits: group octahedral is of states with 3 axes of space, and these have 1 (grid 16); use reflections"},
		{orbits.Octahedral(), []int{16, 8}, "orbits: group octahedral is of states with 3 axes of space, and these have 2 (grid 16x8); use d4"},
		{orbits.Reflections(), nil, "orbits: group reflections is of states with 1 to 3 axes of space, and these have 0 (grid of no axes); use a group of your own (Custom)"},
		{orbits.Translations(1), []int{2, 2, 2, 2}, "orbits: group translations is of states with 1 to 3 axes of space, and these have 4 (grid 2x2x2x2); use a group of your own (Custom)"},
		{orbits.Boosts(1, eastward), nil, "orbits: group boosts is of states with 1 to 3 axes of space, and these have 0 (grid of no axes); use a group of your own (Custom)"},
		{orbits.Boosts(1, orbits.Vector{Y: 1}), []int{4}, "orbits: group boosts has the velocity (x: 0, y: 1, z: 0), and the grid 4 has 1 axes; leave out the other components"},
		{orbits.GridOnly(orbits.Translations(1)), []int{4, 4}, "orbits: group translations-grid-only: no element of translations is known to turn vectors, so that this is no control; use one with d4, octahedral or reflections"},
		{orbits.D4(), []int{4, 0, 4}, "orbits: a grid needs positive sizes, got 4x0x4"},
	} {
		_, err := c.group.Elements(c.sizes...)
		require.EqualError(t, err, c.want)
	}
	wind := orbits.Field{Channels: []string{"u", "v"}, Vectors: [][]int{{0, 1}}}
	spin := orbits.Field{Channels: []string{"a", "b", "c"}, Pseudovectors: [][]int{{0, 1, 2}}}
	for _, c := range []struct {
		field orbits.Field
		sizes []int
		want  string
	}{
		{wind, []int{4, 4, 4}, "orbits: the field's vector [0 1] has 2 components, and states on the grid 4x4x4 have 3 axes of space; name a channel for each axis, or declare scalars"},
		{wind, []int{4}, "orbits: the field's vector [0 1] has 2 components, and states on the grid 4 have 1 axes of space; name a channel for each axis, or declare scalars"},
		{spin, []int{4, 4}, "orbits: the field's pseudovector [0 1 2] has 3 components, and states on the grid 4x4 have 2 axes of space; name a channel for each axis, or declare scalars"},
		{orbits.Field{Channels: wind.Channels, Pseudovectors: [][]int{{0, 1}}}, []int{4, 4}, "orbits: the field has the pseudovector [0 1], which states of fewer than three axes do not have (grid 4x4); declare a pseudoscalar"},
		{orbits.Field{Channels: wind.Channels, RowDown: true}, []int{4}, "orbits: the field's rows grow downwards (RowDown), and states of the grid 4 have no rows; leave it out"},
	} {
		for _, group := range []orbits.Group{orbits.Reflections(), orbits.Translations(1), orbits.GridOnly(orbits.Reflections())} {
			require.EqualError(t, group.Check(c.field, c.sizes...), c.want)
		}
		require.NoError(t, orbits.Scalings(2).Check(c.field, c.sizes...))
	}
	require.EqualError(t, orbits.Field{Channels: []string{"u"}, Vectors: [][]int{{}}}.Validate(), "orbits: a vector has no components; name the channel of each, or leave it out")
	require.ErrorContains(t, orbits.Field{Channels: []string{"a", "b", "c"}, Vectors: [][]int{{0, 1, 2}}, Pseudovectors: [][]int{{2, 1, 0}}}.Validate(),
		"orbits: channel 2 (c) is in pseudovector [2 1 0] and in something else, or twice")
	_, err := graph.CallOnce(backendtest.Go(t), func(x *graph.Node) *graph.Node {
		return mustBe(t, orbits.D4(), 4, 4)[1].Apply(single, x)
	}, [][][]float64{{{1}, {2}}})
	require.ErrorContains(t, err, "orbits: element r is of states with 1 to 3 axes of space, and moves them along y; these have the grid 2")
}
