package orbits

import (
	"fmt"
	"strings"
)

// Names of the groups, as they appear in records and configurations.
const (
	D4Name           = "d4"
	D4GridOnlyName   = "d4-grid-only"
	TranslationsName = "translations"
)

// Group is a set of elements to audit; which ones depends on the grid.
type Group struct {
	Name   string
	Stride int // pixels between translations; zero for the other groups
}

// D4 is the symmetry group of the square: four rotations and four reflections.
func D4() Group { return Group{Name: D4Name} }

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
	known := []string{D4Name, D4GridOnlyName, TranslationsName}
	return fmt.Errorf("orbits: unknown group %q; use one of %s", name, strings.Join(known, ", "))
}

// Elements returns the group's elements on a grid of height rows and width columns, the identity first.
//
// D4 is in the order e, r, r2, r3, s, sr, sr2, sr3 and needs a square grid. Translations are e, then shifts along x by
// stride, 2 stride, ... below width, then likewise along y.
func (g Group) Elements(height, width int) ([]Element, error) {
	if height <= 0 || width <= 0 {
		return nil, fmt.Errorf("orbits: a grid needs positive sizes, got %dx%d", height, width)
	}
	switch g.Name {
	case D4Name, D4GridOnlyName:
		if height != width {
			return nil, fmt.Errorf("orbits: group %s needs a square grid, got %dx%d; use %s", g.Name, height, width, TranslationsName)
		}
		elements := make([]Element, dihedralOrder)
		for i := range elements {
			elements[i].grid = dihedral(i)
			if g.Name == D4Name {
				elements[i].vector = dihedral(i)
			}
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
