package orbits

import (
	"errors"
	"fmt"
	"strings"
)

// Names of the groups, as they appear in records and configurations.
const (
	D4Name           = "d4"
	C4Name           = "c4"
	D4GridOnlyName   = "d4-grid-only"
	TranslationsName = "translations"
)

// Group is a set of elements to audit; which ones depends on the grid.
type Group struct {
	Name   string
	Stride int // pixels between translations; zero for the other groups

	own *[]Element // of Custom
}

// D4 is the symmetry group of the square: four rotations and four reflections. On a grid that is not square it is what fits: e,
// r2, s and sr2.
func D4() Group { return Group{Name: D4Name} }

// C4 is the rotations of the square. On a grid that is not square it is e and r2.
func C4() Group { return Group{Name: C4Name} }

// Custom is a set of elements of the user's own, with the identity, which is added. Its name stands in the records.
func Custom(name string, elements ...Element) Group { return Group{Name: name, own: &elements} }

// D4GridOnly is a negative control: the grid moves as in D4 and the vectors stay as they are. It obeys the group axioms
// and is a symmetry of no equation with a vector in it: even an exact solver fails an audit under it.
func D4GridOnly() Group { return Group{Name: D4GridOnlyName} }

// Translations are the circular shifts along one axis by multiples of stride pixels, which must be positive and less
// than the grid's size. They generate the group of all shifts by multiples of stride but are not closed under
// composition: no element shifts both axes.
func Translations(stride int) Group { return Group{Name: TranslationsName, Stride: stride} }

// Named returns the group a configuration names. Stride counts for translations only.
func Named(name string, stride int) (Group, error) {
	switch name {
	case D4Name:
		return D4(), nil
	case C4Name:
		return C4(), nil
	case D4GridOnlyName:
		return D4GridOnly(), nil
	case TranslationsName:
		if stride <= 0 {
			return Group{}, fmt.Errorf("orbits: group translations needs a positive stride in pixels, got %d", stride)
		}
		return Translations(stride), nil
	}
	return Group{}, unknownGroup(name)
}

func unknownGroup(name string) error {
	known := []string{D4Name, C4Name, D4GridOnlyName, TranslationsName}
	return fmt.Errorf("orbits: unknown group %q; use one of %s", name, strings.Join(known, ", "))
}

// Elements returns the group's elements on a grid of height rows and width columns, the identity first.
//
// D4 is in the order e, r, r2, r3, s, sr, sr2, sr3, without quarter turns where the grid is not square. Translations
// are e, then shifts along x by stride, 2 stride, ... below width, then likewise along y.
func (g Group) Elements(height, width int) ([]Element, error) {
	if height <= 0 || width <= 0 {
		return nil, fmt.Errorf("orbits: a grid needs positive sizes, got %dx%d", height, width)
	}
	if g.own != nil {
		return g.customElements()
	}
	switch g.Name {
	case D4Name, C4Name, D4GridOnlyName:
		var elements []Element
		for d := range dihedral(dihedralOrder) {
			if height != width && d.swapsAxes() || g.Name == C4Name && d.flips() > 0 {
				continue
			}
			element := Element{grid: d, vector: d}
			if g.Name == D4GridOnlyName {
				element.vector = 0
			}
			elements = append(elements, element)
		}
		return elements, nil
	case TranslationsName:
		if g.Stride <= 0 || g.Stride >= height || g.Stride >= width {
			return nil, fmt.Errorf("orbits: group translations needs a stride between 1 and %d on a %dx%d grid, got %d",
				min(height, width)-1, height, width, g.Stride)
		}
		elements := []Element{{}}
		for dx := g.Stride; dx < width; dx += g.Stride {
			elements = append(elements, Element{dx: dx})
		}
		for dy := g.Stride; dy < height; dy += g.Stride {
			elements = append(elements, Element{dy: dy})
		}
		return elements, nil
	}
	return nil, unknownGroup(g.Name)
}

func (g Group) customElements() ([]Element, error) {
	if g.Name == "" {
		return nil, errors.New("orbits: a custom group needs a name")
	}
	elements := []Element{{}}
	for _, element := range *g.own {
		for _, other := range elements {
			if other.Name() == element.Name() {
				return nil, fmt.Errorf("orbits: group %s has two elements named %q (the identity is \"e\" and need not be given)", g.Name, other.Name())
			}
		}
		elements = append(elements, element)
	}
	return elements, nil
}
