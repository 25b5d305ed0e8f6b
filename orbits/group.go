package orbits

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Names of the groups, as they appear in records and configurations.
const (
	D4Name           = "d4"
	C4Name           = "c4"
	D4GridOnlyName   = "d4-grid-only"
	TranslationsName = "translations"
	BoostsName       = "boosts"
	ScalingsName     = "scalings"
)

// Group is a set of elements to audit; which ones depends on the grid.
type Group struct {
	Name     string
	elements func(height, width int) ([]Element, error)
	factors  []Group // of a product
}

// D4 is the symmetry group of the square: four rotations and four reflections, in the order e, r, r2, r3, s, sr, sr2, sr3. On a
// grid that is not square it is what fits: e, r2, s and sr2.
func D4() Group { return dihedralGroup(D4Name, dihedralOrder, true) }

// C4 is the rotations of the square. On a grid that is not square it is e and r2.
func C4() Group { return dihedralGroup(C4Name, dihedralOrder/2, true) }

// D4GridOnly is a negative control: the grid moves as in D4, vectors and pseudoscalars stay as they are. It obeys the group
// axioms and is a symmetry of no equation with a vector in it: even an exact solver fails an audit under it.
func D4GridOnly() Group { return dihedralGroup(D4GridOnlyName, dihedralOrder, false) }

func dihedralGroup(name string, order dihedral, turnsVectors bool) Group {
	return Group{Name: name, elements: func(height, width int) ([]Element, error) {
		var elements []Element
		for d := range order {
			if height != width && d.swapsAxes() {
				continue
			}
			element := Element{grid: d}
			if turnsVectors {
				element.vector = d
			}
			elements = append(elements, element)
		}
		return elements, nil
	}}
}

// leastStride keeps a slip of the pen from making millions of elements.
const leastStride = 0.01

// Translations are the circular shifts along one axis by multiples of stride pixels, less than the grid's size: e, those
// along x, those along y. They generate the group of all shifts by multiples of stride but are not closed under
// composition: no element shifts both axes. Product(Translations(stride), Translations(stride)) is, where stride divides
// the grid.
//
// Shifts by a whole number of pixels are exact. Others are Fourier interpolation: exact for waves that the grid resolves, and
// a group action but for the highest mode of an even grid, which is multiplied by cos(pi shift), the real part of its
// phase. It rings at jumps, where it may make negative what is positive.
func Translations(stride float64) Group {
	return Group{Name: TranslationsName, elements: func(height, width int) ([]Element, error) {
		if least := min(height, width); !(stride >= leastStride && stride < float64(least)) {
			return nil, fmt.Errorf("orbits: group translations needs a stride of at least %g and less than %d pixels on a %dx%d grid, got %g",
				leastStride, least, height, width, stride)
		}
		elements := []Element{{}}
		for _, axis := range []struct {
			unit Vector
			size int
		}{{Vector{X: 1}, width}, {Vector{Y: 1}, height}} {
			for n := 1.0; settled(n*stride) < float64(axis.size); n++ {
				elements = append(elements, Element{shift: axis.unit.times(n * stride).settled()})
			}
		}
		return elements, nil
	}}
}

// Boosts are Galilean boosts of a flow by some velocities v. In conserved variables, which the field must declare, density
// stays, momentum becomes m + rho v and energy E + m.v + rho |v|^2 / 2; the output, a time dt later, is also shifted by v dt.
// step is dt / dx, the pixels that unit velocity crosses from input to target: shifts by a whole number of pixels,
// v step, are exact, and others as in Translations.
func Boosts(step float64, velocities ...Vector) Group {
	return Group{Name: BoostsName, elements: func(_, _ int) ([]Element, error) {
		if step == 0 || !finite(step) {
			return nil, fmt.Errorf("orbits: group boosts has a step of %g; it is the pixels that unit velocity crosses from input to target, dt / dx, and neither zero nor infinite", step)
		}
		var elements []Element
		for _, v := range velocities {
			if drift := v.times(step); !finite(drift.X) || !finite(drift.Y) {
				return nil, fmt.Errorf("orbits: group boosts has the velocity (x: %g, y: %g); it, and what it crosses in a step, must be finite", v.X, v.Y)
			}
			elements = append(elements, Element{velocity: v, drift: v.times(step).settled()})
		}
		return withIdentity(BoostsName, "velocities", elements)
	}}
}

// mostFactor leaves float32 room for the states.
const mostFactor = 1e15

// Scalings multiply all channels by some positive factors: a symmetry of equations of degree one, such as those of Euler for
// an ideal gas, and of linear ones.
func Scalings(factors ...float64) Group {
	return Group{Name: ScalingsName, elements: func(_, _ int) ([]Element, error) {
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
	return Group{Name: name, elements: func(_, _ int) ([]Element, error) { return withIdentity(name, "elements", elements) }}
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
	return Group{Name: name, factors: groups, elements: func(height, width int) ([]Element, error) {
		product := []Element{{}}
		for _, g := range groups {
			factor, err := g.Elements(height, width)
			if err != nil {
				return nil, err
			}
			if product, err = compositions(name, product, factor, height, width); err != nil {
				return nil, err
			}
		}
		return product, nil
	}}
}

// Check refuses what cannot be audited on states of a field: a group without elements on their grid, boosts of a field that does
// not declare its conserved variables, and a product of which a factor adds no element to the others, as c4 to d4.
func (g Group) Check(field Field, height, width int) error {
	all, err := g.Elements(height, width)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.velocity != (Vector{}) && field.Conserved == nil {
			return fmt.Errorf("orbits: group %s: %s", g.Name, e.needsConserved())
		}
	}
	for i := 0; len(g.factors) > 1 && i < len(g.factors); i++ {
		others := Product(slices.Delete(slices.Clone(g.factors), i, i+1)...)
		if without, err := others.Elements(height, width); err != nil || len(without) == len(all) {
			return cmp.Or(err, fmt.Errorf("orbits: group %s: %s adds no element to %s; leave it out", g.Name, g.factors[i].Name, others.Name))
		}
	}
	return nil
}

func compositions(group string, left, right []Element, height, width int) ([]Element, error) {
	var all []Element
	seen := make(map[string]Element)
	for _, g := range left {
		for _, h := range right {
			element := g.Compose(h)
			element.shift = Vector{modulo(element.shift.X, width), modulo(element.shift.Y, height)}
			rounded := element // two thirds are twice a third, though each is kept to 1e-9 of a pixel
			rounded.shift = Vector{coarse(element.shift.X, width), coarse(element.shift.Y, height)}
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
	both := func(a, b Vector) bool { return alike(a.X, b.X) && alike(a.Y, b.Y) }
	return e.custom == other.custom && e.grid == other.grid && e.vector == other.vector && both(e.shift, other.shift) &&
		both(e.velocity, other.velocity) && both(e.drift, other.drift) && alike(e.scale(), other.scale())
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

// Elements returns the group's elements on a grid of height rows and width columns, the identity first.
func (g Group) Elements(height, width int) ([]Element, error) {
	if height <= 0 || width <= 0 {
		return nil, fmt.Errorf("orbits: a grid needs positive sizes, got %dx%d", height, width)
	}
	if g.elements == nil || g.Name == "" {
		return nil, errors.New("orbits: a group needs a name and elements; make one with D4, C4, D4GridOnly, Translations, Boosts, Scalings, Product or Custom")
	}
	return g.elements(height, width)
}
