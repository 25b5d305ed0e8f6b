package orbits

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Names of the groups, as they appear in records and configurations.
const (
	D4Name           = "d4"
	C4Name           = "c4"
	OctahedralName   = "octahedral"
	ReflectionsName  = "reflections"
	TranslationsName = "translations"
	BoostsName       = "boosts"
	ScalingsName     = "scalings"

	// Of the negative controls; that of any group is its name and "-grid-only".
	D4GridOnlyName          = D4Name + gridOnly
	ReflectionsGridOnlyName = ReflectionsName + gridOnly
)

const gridOnly = "-grid-only"

// Group is a set of elements to audit; which ones depends on the grid.
type Group struct {
	Name     string
	elements func(grid []int) ([]Element, error)
	factors  []Group // of a product

	generators func(grid []int) []Generator // nil: none, but of the factors
}

// D4 is the symmetry group of the square: four rotations and four reflections, in the order e, r, r2, r3, s, sr, sr2, sr3. On a
// grid that is not square it is what fits: e, r2, s and sr2. On a grid of three axes it turns about z, and its mirrors contain z: the symmetry of
// a flow under gravity along z.
func D4() Group { return turns(D4Name, 2, 3, func(int) []turn { return squareTurns }) }

// C4 is the rotations of the square, on a grid of three axes those about z. On a grid that is not square it is e and r2.
func C4() Group { return turns(C4Name, 2, 3, func(int) []turn { return squareTurns[:4] }) }

// Octahedral is the symmetry group of the cube: 24 rotations and 24 reflections, the elements of D4 first. On a box that is no cube it is what
// fits.
func Octahedral() Group { return turns(OctahedralName, 3, 3, func(int) []turn { return cubeTurns() }) }

// Reflections turn axes round, each or none, on grids of one, two or three axes: e and s in 1-D, where s is x -> -x, e, s, sr2 and r2 in 2-D,
// and eight elements in 3-D. They fit any grid.
func Reflections() Group { return turns(ReflectionsName, 1, 3, axisMirrors) }

// turns is a group of those that fit a grid, of all on so many axes.
func turns(name string, least, most int, all func(axes int) []turn) Group {
	return Group{Name: name, elements: func(grid []int) (elements []Element, err error) {
		if err := onAxes(name, least, most, grid); err != nil {
			return nil, err
		}
		for _, t := range all(len(grid)) {
			if t.fits(grid) {
				elements = append(elements, Element{grid: t, vector: t})
			}
		}
		return elements, nil
	}}
}

// onAxes refuses grids that a group is not of.
func onAxes(name string, least, most int, grid []int) error {
	instead, some := "a group of your own (Custom)", fmt.Sprint(least)
	switch {
	case len(grid) >= least && len(grid) <= most:
		return nil
	case len(grid) == 1:
		instead = ReflectionsName
	case len(grid) == 2:
		instead = D4Name
	}
	if most > least {
		some = fmt.Sprintf("%d to %d", least, most)
	}
	return fmt.Errorf("orbits: group %s is of states with %s axes of space, and these have %d (grid %s); use %s", name, some, len(grid), gridName(grid), instead)
}

// gridName is "16x32" of a grid of 16 rows and 32 columns.
func gridName(grid []int) string {
	if len(grid) == 0 {
		return "of no axes"
	}
	var sizes []string
	for _, size := range grid {
		sizes = append(sizes, strconv.Itoa(size))
	}
	return strings.Join(sizes, "x")
}

// Some is the group with the identity and the elements of these names alone, for orbits that are too long to audit: D4().Some("r", "s"). It keeps its
// name. An average over the group is then one over these.
func (g Group) Some(names ...string) Group {
	all := g
	g.elements = func(grid []int) (elements []Element, err error) {
		of, err := all.Elements(grid...)
		if err != nil {
			return nil, err
		}
		var known []string
		for _, e := range of {
			known = append(known, e.Name())
			if e.IsIdentity() || slices.Contains(names, e.Name()) {
				elements = append(elements, e)
			}
		}
		for _, name := range names {
			if !slices.Contains(known, name) {
				return nil, fmt.Errorf("orbits: group %s has no element %q; it has %s", g.Name, name, strings.Join(known, ", "))
			}
		}
		return elements, nil
	}
	g.factors, g.generators = nil, func(grid []int) []Generator { return all.Generators(grid...) }
	return g
}

// GridOnly is a negative control, named as the group and "-grid-only": the grid moves as in the group, and vectors, pseudovectors and pseudoscalars
// stay as they are. It obeys the group axioms and is a symmetry of no equation with a vector in it: even an exact solver fails an audit
// under it. The group is one with rotations or reflections, D4, C4, Octahedral, Reflections or a product with one of these.
func GridOnly(group Group) Group {
	return Group{Name: group.Name + gridOnly, elements: func(grid []int) ([]Element, error) {
		elements, err := group.Elements(grid...)
		if err != nil {
			return nil, err
		}
		changed := false
		for i := range elements {
			changed = changed || elements[i].vector != turn{}
			elements[i].vector = turn{}
		}
		if !changed {
			return nil, fmt.Errorf("orbits: group %s%s: no element of %s is known to turn vectors, so that this is no control; use one with d4, octahedral or reflections", group.Name, gridOnly, group.Name)
		}
		return elements, nil
	}}
}

// D4GridOnly is GridOnly(D4()).
func D4GridOnly() Group { return GridOnly(D4()) }

// leastStride keeps a slip of the pen from making millions of elements.
const leastStride = 0.01

// Translations are the circular shifts along one axis of a grid of one, two or three by multiples of stride pixels, less than the grid's size: e,
// those along x, those along y, those along z. They generate the group of all shifts by multiples of stride but are not closed under
// composition: no element shifts two axes. A product of them with themselves, a factor for each axis, is, where stride divides the grid.
//
// Shifts by a whole number of pixels are exact. Others are Fourier interpolation: exact for waves that the grid resolves, and
// a group action but for the highest mode of an even grid, which is multiplied by cos(pi shift), the real part of its
// phase. It rings at jumps, where it may make negative what is positive.
func Translations(stride float64) Group {
	generators := func(grid []int) (all []Generator) {
		for axis := range min(len(grid), len(axisNames)) {
			all = append(all, translationAlong(axis))
		}
		return all
	}
	return Group{Name: TranslationsName, generators: generators, elements: func(grid []int) ([]Element, error) {
		if err := onAxes(TranslationsName, 1, 3, grid); err != nil {
			return nil, err
		}
		if least := slices.Min(grid); !(stride >= leastStride && stride < float64(least)) {
			return nil, fmt.Errorf("orbits: group translations needs a stride of at least %g and less than %d pixels on a %s grid, got %g",
				leastStride, least, gridName(grid), stride)
		}
		elements := []Element{{}}
		for axis, unit := range []Vector{{X: 1}, {Y: 1}, {Z: 1}}[:len(grid)] {
			for n := 1.0; settled(n*stride) < float64(grid[len(grid)-1-axis]); n++ {
				elements = append(elements, Element{shift: unit.times(n * stride).settled(), axes: len(grid)})
			}
		}
		return elements, nil
	}}
}

// Boosts are Galilean boosts of a flow by some velocities v. In conserved variables, which the field must declare, density stays, momentum
// becomes m + rho v and energy E + m.v + rho |v|^2 / 2; the output, a time dt later, is also shifted by v dt. Velocities have as many
// components as the grid has axes, one to three. step is dt / dx, the pixels that unit velocity crosses from input to target: shifts by a
// whole number of pixels, v step, are exact, and others as in Translations.
func Boosts(step float64, velocities ...Vector) Group {
	generators := func(grid []int) (all []Generator) {
		for axis := range min(len(grid), len(axisNames)) {
			if slices.ContainsFunc(velocities, func(v Vector) bool { return v.components()[axis] != 0 }) {
				all = append(all, boostAlong(axis, step))
			}
		}
		return all
	}
	return Group{Name: BoostsName, generators: generators, elements: func(grid []int) ([]Element, error) {
		if err := onAxes(BoostsName, 1, 3, grid); err != nil {
			return nil, err
		}
		if step == 0 || !finite(step) {
			return nil, fmt.Errorf("orbits: group boosts has a step of %g; it is the pixels that unit velocity crosses from input to target, dt / dx, and neither zero nor infinite", step)
		}
		var elements []Element
		for _, v := range velocities {
			drift := v.times(step)
			if !finite(drift.dot(Vector{1, 1, 1})) {
				return nil, fmt.Errorf("orbits: group boosts has the velocity (x: %g, y: %g, z: %g); it, and what it crosses in a step, must be finite", v.X, v.Y, v.Z)
			}
			if v.reach() > len(grid) {
				return nil, fmt.Errorf("orbits: group boosts has the velocity (x: %g, y: %g, z: %g), and the grid %s has %d axes; leave out the other components", v.X, v.Y, v.Z, gridName(grid), len(grid))
			}
			elements = append(elements, Element{velocity: v, drift: drift.settled(), axes: len(grid)}.tidy())
		}
		return withIdentity(BoostsName, "velocities", elements)
	}}
}

// mostFactor leaves float32 room for the states.
const mostFactor = 1e15

// Scalings multiply all channels by some positive factors: a symmetry of equations of degree one, such as those of Euler for
// an ideal gas, and of linear ones.
func Scalings(factors ...float64) Group {
	return Group{Name: ScalingsName, generators: func([]int) []Generator { return []Generator{scaling()} }, elements: func([]int) ([]Element, error) {
		var elements []Element
		for _, factor := range factors {
			if !(factor >= 1/mostFactor && factor <= mostFactor) {
				return nil, fmt.Errorf("orbits: group scalings has the factor %g; factors must be positive, between %g and %g", factor, 1/mostFactor, mostFactor)
			}
			elements = append(elements, Element{factor: asFactor(factor)})
		}
		return withIdentity(ScalingsName, "factors", elements)
	}}
}

// Custom is a set of elements of the user's own, with the identity, which is added. Its name stands in the records.
func Custom(name string, elements ...Element) Group {
	return Group{Name: name, elements: func([]int) ([]Element, error) { return withIdentity(name, "elements", elements) }}
}

// withIdentity also refuses names that records could not tell apart.
func withIdentity(group, from string, elements []Element) ([]Element, error) {
	if len(elements) == 0 {
		return nil, fmt.Errorf("orbits: group %s has no %s; give it at least one", group, from)
	}
	elements = append([]Element{{}}, elements...)
	seen := make(map[string]bool)
	if strings.Contains(group, "/") {
		return nil, fmt.Errorf("orbits: the group's name %q has a slash, which parts it from the quantity in a monitor; use another", group)
	}
	for _, element := range elements {
		if element.Name() == "" || element.Name() == "*" {
			return nil, fmt.Errorf("orbits: group %s has an element named %q; records need a name, and the star stands for all elements", group, element.Name())
		}
		if element.custom != nil && (element.custom.input == nil || element.custom.output == nil) {
			return nil, fmt.Errorf("orbits: group %s: the function of element %s is nil; give NewElement, or WithOutput, one", group, element.Name())
		}
		if seen[element.Name()] {
			return nil, fmt.Errorf("orbits: group %s has two elements named %q (the identity is \"e\" and need not be given)", group, element.Name())
		}
		seen[element.Name()] = true
	}
	return elements, nil
}

// Product is the compositions of one element of each group, the last group's first: "d4*translations" holds every shift
// followed by every element of D4, each composition once, shifts modulo the grid, the identity first. An element is named
// as what comes to the same: a turn, then a shift, then a boost, then a scaling.
func Product(groups ...Group) Group {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.Name
	}
	name := strings.Join(names, "*")
	return Group{Name: name, factors: groups, elements: func(grid []int) ([]Element, error) {
		product := []Element{{}}
		for _, g := range groups {
			factor, err := g.Elements(grid...)
			if err != nil {
				return nil, err
			}
			if product, err = compositions(name, product, factor, grid); err != nil {
				return nil, err
			}
		}
		return product, nil
	}}
}

// Check refuses what cannot be audited on states of a field: a group without elements on their grid, boosts of a field that does not declare
// its conserved variables, vectors that have not as many components as the grid has axes, and a product of which a factor adds no element to
// the others, as c4 to d4.
func (g Group) Check(field Field, grid ...int) error {
	all, err := g.Elements(grid...)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.velocity != (Vector{}) && field.Conserved == nil {
			return fmt.Errorf("orbits: group %s: %s", g.Name, e.needsConserved())
		}
		if err := e.fits(field, grid); err != nil {
			return err
		}
	}
	for i := 0; len(g.factors) > 1 && i < len(g.factors); i++ {
		others := Product(slices.Delete(slices.Clone(g.factors), i, i+1)...)
		if without, err := others.Elements(grid...); err != nil || len(without) == len(all) {
			return cmp.Or(err, fmt.Errorf("orbits: group %s: %s adds no element to %s; leave it out", g.Name, g.factors[i].Name, others.Name))
		}
	}
	return nil
}

func compositions(group string, left, right []Element, grid []int) ([]Element, error) {
	var all []Element
	seen := make(map[string]Element)
	for _, g := range left {
		for _, h := range right {
			element := g.Compose(h)
			element.shift = within(grid, element.shift, modulo)
			element = element.tidy()
			rounded := element // two thirds are twice a third, though each is kept to 1e-9 of a pixel
			rounded.shift = within(grid, element.shift, coarse)
			name := rounded.Name()
			if known, ok := seen[name]; !ok {
				all = append(all, element)
				seen[name] = element
			} else if !known.near(element) {
				return nil, fmt.Errorf("orbits: group %s has two different elements named %q; audit its factors apart", group, name)
			}
		}
	}
	return all, nil
}

// near reports whether two elements differ by rounding at most: 0.1 + 0.2 is not 0.3.
func (e Element) near(other Element) bool {
	alike := func(a, b float64) bool { return math.Abs(a-b) <= 1e-8*max(1, math.Abs(a), math.Abs(b)) }
	both := func(a, b Vector) bool { return alike(a.X, b.X) && alike(a.Y, b.Y) && alike(a.Z, b.Z) }
	return e.custom == other.custom && e.grid == other.grid && e.vector == other.vector && both(e.shift, other.shift) &&
		both(e.velocity, other.velocity) && both(e.drift, other.drift) && alike(e.scale(), other.scale())
}

// within reduces each component of a shift by the size of its axis.
func within(grid []int, shift Vector, reduced func(pixels float64, size int) float64) Vector {
	return shift.each(func(axis int, pixels float64) float64 {
		if axis >= len(grid) {
			return pixels
		}
		return reduced(pixels, grid[len(grid)-1-axis])
	})
}

// coarse is a shift modulo size to 1e-7 of a pixel.
func coarse(pixels float64, size int) float64 {
	const parts = 1e7
	return math.Mod(math.Round(pixels*parts)/parts, float64(size))
}

// modulo is the remainder from 0 to below size.
func modulo(pixels float64, size int) float64 {
	pixels = math.Mod(settled(pixels), float64(size))
	if pixels < 0 {
		pixels += float64(size)
	}
	return settled(pixels)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// Elements returns the group's elements on a grid, the identity first. The sizes are in the order of arrays: Elements(height, width) for states
// [batch, y, x, channel], Elements(width) for [batch, x, channel], Elements(depth, height, width) for [batch, z, y, x, channel]. A group that
// does not exist on a grid of so many axes is an error; those of Scalings and Custom are of any, of none too.
func (g Group) Elements(grid ...int) ([]Element, error) {
	if slices.ContainsFunc(grid, func(size int) bool { return size <= 0 }) {
		return nil, fmt.Errorf("orbits: a grid needs positive sizes, got %s", gridName(grid))
	}
	if g.elements == nil || g.Name == "" {
		return nil, errors.New("orbits: a group needs a name and elements; make one with D4, C4, Octahedral, Reflections, GridOnly, Translations, Boosts, Scalings, Product or Custom")
	}
	return g.elements(grid)
}
