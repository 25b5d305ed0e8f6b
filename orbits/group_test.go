package orbits_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

const gridSize = 6

// anyElement draws products of D4 elements of either kind with shifts, some of them longer than the grid.
func anyElement(t *rapid.T, label string) orbits.Element {
	element := rapid.SampledFrom(mustElements(t, orbits.D4(), gridSize)).Draw(t, label)
	element = element.Compose(rapid.SampledFrom(mustElements(t, orbits.Translations(1), gridSize)).Draw(t, label+" shift"))
	element = element.Compose(rapid.SampledFrom(mustElements(t, orbits.D4GridOnly(), gridSize)).Draw(t, label+" grid only"))
	return element.Compose(rapid.SampledFrom(mustElements(t, orbits.Translations(1), gridSize)).Draw(t, label+" shift again"))
}

func TestGroupAxioms(t *testing.T) {
	identity := orbits.Element{}
	rapid.Check(t, func(t *rapid.T) {
		g, h, k := anyElement(t, "g"), anyElement(t, "h"), anyElement(t, "k")
		require.Equal(t, g.Compose(h).Compose(k), g.Compose(h.Compose(k)), "associativity")
		require.Equal(t, g, g.Compose(identity))
		require.Equal(t, g, identity.Compose(g))
		require.True(t, g.Compose(g.Inverse()).IsIdentity())
		require.True(t, g.Inverse().Compose(g).IsIdentity())
	})
}

func TestD4IsClosedAndNotCommutative(t *testing.T) {
	for _, group := range []orbits.Group{orbits.D4(), orbits.D4GridOnly()} {
		elements := mustElements(t, group, gridSize)
		require.True(t, elements[0].IsIdentity())
		for _, g := range elements {
			var row []orbits.Element
			for _, h := range elements {
				row = append(row, g.Compose(h))
			}
			require.ElementsMatch(t, elements, row, "a row of the multiplication table of %s is a permutation", group.Name)
			require.Contains(t, elements, g.Inverse())
		}
		r, s := elements[1], elements[4]
		require.Equal(t, "sr", s.Compose(r).Name(), "r first, then s")
		require.Equal(t, "sr3", r.Compose(s).Name())
	}
}

// Products with shifts, on the backend that compiles a graph in no time; the pairs of D4 are tried on all.
func TestApplyIsAHomomorphism(t *testing.T) {
	state := numbered[float32](1, gridSize, gridSize, 4)
	b := backendtest.Go(t)
	rapid.Check(t, func(t *rapid.T) {
		field := orbits.EulerField()
		field.RowDown = rapid.Bool().Draw(t, "rows down")
		g, h := anyElement(t, "g"), anyElement(t, "h")
		require.Equal(t, apply(t, b, field, state, g.Compose(h)), apply(t, b, field, state, g, h))
		require.Equal(t, state, apply(t, b, field, state, g.Inverse(), g))
	})
}

func TestApplyIsAHomomorphismOnD4(t *testing.T) {
	elements := mustElements(t, orbits.D4(), gridSize)
	field := orbits.EulerField()
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		out, err := graph.CallOnceN(b, func(x *graph.Node) (composed, inTurn *graph.Node) {
			var left, right []*graph.Node
			for _, g := range elements {
				for _, h := range elements {
					left = append(left, g.Compose(h).Apply(field, x))
					right = append(right, g.Apply(field, h.Apply(field, x)))
				}
			}
			return graph.Stack(left, 0), graph.Stack(right, 0)
		}, numbered[float32](1, gridSize, gridSize, 4))
		require.NoError(t, err)
		require.Equal(t, out[0].Value(), out[1].Value())
	})
}

// A wrong pairing of momenta with grid is invisible on e and r2 but not on r.
func TestGridOnlyDiffersFromD4(t *testing.T) {
	state := numbered[float32](1, gridSize, gridSize, 4)
	right, wrong := mustElements(t, orbits.D4(), gridSize), mustElements(t, orbits.D4GridOnly(), gridSize)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for i := range right {
			same := cmp.Equal(apply(t, b, orbits.EulerField(), state, right[i]), apply(t, b, orbits.EulerField(), state, wrong[i]))
			require.Equal(t, i == 0, same, right[i].Name())
		}
	})
}

func TestElementsOfTranslations(t *testing.T) {
	elements, err := orbits.Translations(4).Elements(12, 10)
	require.NoError(t, err)
	var names []string
	for _, element := range elements {
		names = append(names, element.Name())
	}
	require.Equal(t, []string{"e", "t(0,4)", "t(0,8)", "t(4,0)", "t(8,0)"}, names)
	require.Equal(t, orbits.Vector{Y: 4}, elements[3].Shift())
	turned := elements[1].Compose(mustElements(t, orbits.D4(), 8)[1])
	require.Equal(t, "t(0,4)r", turned.Name())
}

var eastward = orbits.Vector{X: 0.5}

var mirrored = orbits.NewElement("mirrored", func(x *graph.Node) *graph.Node { return graph.Reverse(x, 2) })

func TestWhatFitsAnOblongGrid(t *testing.T) {
	for _, c := range []struct {
		group          orbits.Group
		oblong, square string
	}{
		{orbits.D4(), "[e r2 s sr2]", "[e r r2 r3 s sr sr2 sr3]"},
		{orbits.D4GridOnly(), "[e r2 s sr2]", "[e r r2 r3 s sr sr2 sr3]"},
		{orbits.C4(), "[e r2]", "[e r r2 r3]"},
		{orbits.Product(orbits.C4(), orbits.Translations(8)), "[e t(0,8) t(8,0) r2 t(0,4)r2 t(8,0)r2]",
			"[e t(0,8) t(8,0) r t(8,0)r t(0,8)r r2 t(0,8)r2 t(8,0)r2 r3 t(8,0)r3 t(0,8)r3]"},
	} {
		for width, want := range map[int]string{12: c.oblong, 16: c.square} {
			elements, err := c.group.Elements(16, width)
			require.NoError(t, err)
			require.Equal(t, want, fmt.Sprint(elements))
			for _, element := range elements {
				require.False(t, width == 12 && element.NeedsSquare(), element.Name())
			}
		}
	}
}

func TestCustomElements(t *testing.T) {
	elements, err := orbits.Custom("mirror", mirrored).Elements(2, 3)
	require.NoError(t, err)
	require.Equal(t, "[e mirrored]", fmt.Sprint(elements))
	require.True(t, elements[0].IsIdentity())
	require.False(t, elements[1].IsIdentity())
	require.Panics(t, func() { elements[1].Inverse() })
	field := orbits.Field{Channels: []string{"u"}}
	apply := func(element orbits.Element) any {
		image, err := graph.CallOnce(backendtest.Go(t), func(x *graph.Node) *graph.Node { return element.Apply(field, x) },
			[][][][]float32{{{{1}, {2}, {3}}, {{4}, {5}, {6}}}})
		if err != nil {
			panic(err)
		}
		return image.Value()
	}
	require.Equal(t, [][][][]float32{{{{3}, {2}, {1}}, {{6}, {5}, {4}}}}, apply(elements[1]))
	narrower := orbits.NewElement("narrower", func(x *graph.Node) *graph.Node { return graph.SliceAxis(x, 2, graph.AxisRange(0, 1)) })
	require.Panics(t, func() { apply(narrower) })
}

func TestGroupErrors(t *testing.T) {
	for _, c := range []struct {
		group         orbits.Group
		height, width int
		want          string
	}{
		{orbits.Custom("", mirrored), 16, 16, "orbits: a group needs a name and elements; make one with D4, C4, Octahedral, Reflections, GridOnly, Translations, Boosts, Scalings, Product or Custom"},
		{orbits.Custom("twice", mirrored, mirrored), 16, 16, `orbits: group twice has two elements named "mirrored" (the identity is "e" and need not be given)`},
		{orbits.D4(), 0, 0, "orbits: a grid needs positive sizes, got 0x0"},
		{orbits.Custom("nothing"), 16, 16, "orbits: group nothing has no elements; give it at least one"},
		{orbits.Translations(0), 16, 16, "orbits: group translations needs a stride of at least 0.01 and less than 16 pixels on a 16x16 grid, got 0"},
		{orbits.Translations(8), 8, 16, "orbits: group translations needs a stride of at least 0.01 and less than 8 pixels on a 8x16 grid, got 8"},
		{orbits.Translations(math.NaN()), 16, 16, "orbits: group translations needs a stride of at least 0.01 and less than 16 pixels on a 16x16 grid, got NaN"},
		{orbits.Boosts(0, eastward), 16, 16, "orbits: group boosts has a step of 0; it is the pixels that unit velocity crosses from input to target, dt / dx, and neither zero nor infinite"},
		{orbits.Boosts(math.Inf(1), eastward), 16, 16, "orbits: group boosts has a step of +Inf; it is the pixels that unit velocity crosses from input to target, dt / dx, and neither zero nor infinite"},
		{orbits.Boosts(1, orbits.Vector{Y: math.NaN()}), 16, 16, "orbits: group boosts has the velocity (x: 0, y: NaN, z: 0); it, and what it crosses in a step, must be finite"},
		{orbits.Boosts(1, orbits.Vector{}), 16, 16, `orbits: group boosts has two elements named "e" (the identity is "e" and need not be given)`},
		{orbits.Boosts(1, eastward, eastward), 16, 16, `orbits: group boosts has two elements named "boost(0,0.5)" (the identity is "e" and need not be given)`},
		{orbits.Boosts(1), 16, 16, "orbits: group boosts has no velocities; give it at least one"},
		{orbits.Scalings(2, -1), 16, 16, "orbits: group scalings has the factor -1; factors must be positive, between 1e-15 and 1e+15"},
		{orbits.Scalings(), 16, 16, "orbits: group scalings has no factors; give it at least one"},
		{orbits.Scalings(1), 16, 16, `orbits: group scalings has two elements named "e" (the identity is "e" and need not be given)`},
		{orbits.Product(orbits.D4(), orbits.Translations(16)), 16, 16, "orbits: group translations needs a stride of at least 0.01 and less than 16 pixels on a 16x16 grid, got 16"},
		{orbits.Product(orbits.D4(), orbits.D4GridOnly()), 16, 16, `orbits: group d4*d4-grid-only has two different elements named "r"; audit its factors apart`},
		{orbits.Group{}, 16, 16, "orbits: a group needs a name and elements; make one with D4, C4, Octahedral, Reflections, GridOnly, Translations, Boosts, Scalings, Product or Custom"},
		{orbits.Product(), 16, 16, "orbits: a group needs a name and elements; make one with D4, C4, Octahedral, Reflections, GridOnly, Translations, Boosts, Scalings, Product or Custom"},
	} {
		_, err := c.group.Elements(c.height, c.width)
		require.EqualError(t, err, c.want)
	}
}

func TestFieldValidate(t *testing.T) {
	require.NoError(t, orbits.EulerField().Validate())
	three := slices.Clone(orbits.EulerField().Channels[:3])
	for _, c := range []struct {
		field orbits.Field
		want  string
	}{
		{orbits.Field{}, "orbits: a field needs at least one channel"},
		{orbits.Field{Channels: []string{"u", "u"}}, `orbits: channel name "u" is used twice; give each channel its own`},
		{orbits.Field{Channels: three, Vectors: [][]int{{1, 3}}}, "orbits: vector [1 3] names channel 3, but the field has channels 0 to 2"},
		{orbits.Field{Channels: three, Pseudoscalars: []int{-1}}, "orbits: the list of pseudoscalars names channel -1, but the field has channels 0 to 2"},
		{orbits.Field{Channels: three, Pseudoscalars: []int{2}, Vectors: [][]int{{1, 2}}}, "orbits: channel 2 (momentum_y) is in the list of pseudoscalars and in something else, or twice; a channel is one thing"},
		{orbits.Field{Channels: three, Pseudoscalars: []int{0, 0}}, "orbits: channel 0 (density) is in the list of pseudoscalars and in something else, or twice; a channel is one thing"},
		{conserved(0, []int{2, 1}, 3), "orbits: the momentum [2 1] is none of the field's vectors [[1 2]]; add it to them"},
		{conserved(4, []int{1, 2}, 3), "orbits: Conserved names channel 4, but the field has channels 0 to 3"},
		{conserved(3, []int{1, 2}, 3), "orbits: channel 3 (energy) cannot be density or energy: these are two scalars of their own"},
		{conserved(0, []int{1, 2}, 1), "orbits: channel 1 (momentum_x) cannot be density or energy: these are two scalars of their own"},
		{orbits.Field{Channels: three, Vectors: [][]int{{1, 1}}}, "orbits: channel 1 (momentum_x) is in vector [1 1] and in something else, or twice; a channel is one thing"},
	} {
		require.EqualError(t, c.field.Validate(), c.want)
	}
}

// conserved is the Euler field with other channels for its conserved variables.
func conserved(density int, momentum []int, energy int) orbits.Field {
	field := orbits.EulerField()
	field.Conserved = &orbits.Conserved{Density: density, Momentum: momentum, Energy: energy}
	return field
}

// Sums of decimal fractions differ in their last digits.
func TestProductsOfFractions(t *testing.T) {
	for _, stride := range []float64{0.1, 1. / 3, 2. / 3} {
		elements, err := orbits.Product(orbits.Translations(stride), orbits.Translations(stride)).Elements(4, 4)
		require.NoError(t, err)
		steps := int(math.Round(4 / stride))
		require.Len(t, elements, steps*steps, "all shifts along both axes")
	}
	elements, err := orbits.Product(orbits.Boosts(1, orbits.Vector{X: 0.1}, orbits.Vector{X: 0.2}), orbits.Boosts(1, orbits.Vector{X: 0.2}, orbits.Vector{X: 0.1})).Elements(4, 4)
	require.NoError(t, err)
	require.Len(t, elements, 5, "0, 0.1, 0.2, 0.3 and 0.4")
}

func TestNamesThatRecordsCannotHold(t *testing.T) {
	same := func(x *graph.Node) *graph.Node { return x }
	for _, name := range []string{"", "*"} {
		_, err := orbits.Custom("mine", orbits.NewElement(name, same)).Elements(4, 4)
		require.ErrorContains(t, err, "orbits: group mine has an element named")
	}
	_, err := orbits.Custom("a/b", orbits.NewElement("g", same)).Elements(4, 4)
	require.ErrorContains(t, err, `"a/b" has a slash`)
	_, err = orbits.Boosts(1e300, orbits.Vector{X: 1e300}).Elements(4, 4)
	require.ErrorContains(t, err, "must be finite")
}

func TestCheckRefusesWhatCannotBeAudited(t *testing.T) {
	scalar, boost := orbits.Field{Channels: []string{"T"}}, orbits.Boosts(1, orbits.Vector{X: 1})
	require.NoError(t, boost.Check(orbits.EulerField(), 4, 4))
	for want, group := range map[string]orbits.Group{
		"group boosts: element boost(0,1) adds to the momentum and the energy of a flow, and the field does not say which channels these are": boost,
		"group d4*boosts: element boost(0,1) adds":                                      orbits.Product(orbits.D4(), boost),
		"group d4*d4: d4 adds no element to d4":                                         orbits.Product(orbits.D4(), orbits.D4()),
		"group c4*translations*d4: c4 adds no element to translations*d4; leave it out": orbits.Product(orbits.C4(), orbits.Translations(2), orbits.D4()),
		"a group needs a name and elements":                                             {},
	} {
		require.ErrorContains(t, group.Check(scalar, 4, 4), want)
	}
	require.NoError(t, orbits.Product(orbits.Translations(2), orbits.Translations(2)).Check(scalar, 4, 4), "together they are all shifts")
}

// With a panic of another value than an error GoMLX would never end its compilation.
func TestElementsOfOnesOwnFailWithAnError(t *testing.T) {
	_, err := orbits.Custom("own", orbits.NewElement("x", nil)).Elements(4, 4)
	require.EqualError(t, err, "orbits: group own: the function of element x is nil; give NewElement, or WithOutput, one")
	_, err = orbits.Custom("own", orbits.Element{}.WithOutput(nil)).Elements(4, 4)
	require.ErrorContains(t, err, "the function of element e is nil")
	panics := orbits.NewElement("x", func(*graph.Node) *graph.Node { panic("no such luck") })
	_, err = graph.CallOnce(backendtest.Go(t), func(x *graph.Node) *graph.Node {
		return panics.Apply(orbits.Field{Channels: []string{"a"}}, x)
	}, [][][][]float64{{{{1}}}})
	require.ErrorContains(t, err, "orbits: element x: panic: no such luck")
}
