package fieldcheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/orbits"
)

// Turn is a rotation or reflection of the plane, with the images of (1, 0) and (0, 1).
type Turn struct {
	element orbits.Element
	images  [2]orbits.Vector
}

// apply moves a cell, by columns to the right and rows in the order of field.
func (t Turn) apply(field orbits.Field, column, row int) (int, int) {
	up := 1
	if field.RowDown {
		up = -1
	}
	a, b := t.images[0], t.images[1]
	return int(a.X)*column + int(b.X)*up*row, up * (int(a.Y)*column + int(b.Y)*up*row)
}

// TurnsOf are the rotations and reflections among elements, with all their compositions.
func TurnsOf(elements ...orbits.Element) (turns []Turn) {
	add := func(e orbits.Element) {
		x, y, _, ok := e.Turn()
		if ok && !slices.ContainsFunc(turns, func(t Turn) bool { return t.element == e }) {
			turns = append(turns, Turn{e, [2]orbits.Vector{x, y}})
		}
	}
	add(orbits.Element{})
	for _, e := range elements {
		add(e)
	}
	for i := 0; i < len(turns); i++ { // turns grow
		for j := 0; j <= i; j++ {
			add(turns[i].element.Compose(turns[j].element))
			add(turns[j].element.Compose(turns[i].element))
		}
	}
	return turns
}

// action tells fields apart by what turns do to them: what each of the turns does to cells and channels, in an order of their own. Quarter turns
// without mirrors, for instance, do the same with rows upwards to (u, v) as with rows downwards to (v, u).
func action(field orbits.Field, turns []Turn) string {
	var all []string
	for _, t := range turns {
		x, y := t.apply(field, 1, 0)
		to, sign := t.element.TurnChannels(field)
		across, along := t.apply(field, 0, 1)
		all = append(all, fmt.Sprint(x, y, across, along, to, sign))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// mostChannels is up to how many channels the declared field is compared with every other, and not with its neighbours only.
const mostChannels = 6

// alternatives are the fields to compare with the declared one, by what turns do to them: the declared one first, in each class those that
// turns do not tell apart, with rows as declared first. None pairs a channel that is still with one that is not, unless that is declared.
func alternatives(declared orbits.Field, turns []Turn, still func(channel int) bool) (classes [][]orbits.Field) {
	places := make(map[string]int)
	add := func(vectors [][]int, down bool) {
		field := orbits.Field{Channels: declared.Channels, Vectors: vectors, RowDown: down}
		for _, c := range declared.Pseudoscalars {
			if !slices.ContainsFunc(vectors, func(v []int) bool { return v[0] == c || v[1] == c }) {
				field.Pseudoscalars = append(field.Pseudoscalars, c)
			}
		}
		key := action(field, turns)
		at, ok := places[key]
		if !ok {
			at = len(classes)
			places[key] = at
			classes = append(classes, nil)
		}
		if len(vectors) == 0 && len(classes[at]) > 0 {
			return // rows mean nothing without a vector
		}
		classes[at] = append(classes[at], field)
	}
	vectors := pairings
	if len(declared.Channels) > mostChannels {
		vectors = neighbours
	}
	add(declared.Vectors, declared.RowDown)
	for _, down := range []bool{declared.RowDown, !declared.RowDown} {
		for _, pairs := range vectors(declared) {
			known := down == declared.RowDown && samePairs(pairs, declared.Vectors)
			odd := slices.ContainsFunc(pairs, func(v []int) bool { return still(v[0]) != still(v[1]) && !hasVector(declared.Vectors, v) })
			if !known && !odd {
				add(pairs, down)
			}
		}
	}
	return classes
}

func samePairs(a, b [][]int) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(v []int) bool { return !hasVector(b, v) })
}

func hasVector(all [][]int, v []int) bool {
	return slices.ContainsFunc(all, func(other []int) bool { return slices.Equal(other, v) })
}

// contains says whether all vectors of b are a's.
func contains(a, b orbits.Field) bool {
	return (a.RowDown == b.RowDown || len(b.Vectors) == 0) &&
		!slices.ContainsFunc(b.Vectors, func(v []int) bool { return !hasVector(a.Vectors, v) })
}

// pairings are all ways to pair channels to vectors.
func pairings(field orbits.Field) (all [][][]int) {
	channels := len(field.Channels)
	var extend func(vectors [][]int, from int)
	extend = func(vectors [][]int, from int) {
		all = append(all, slices.Clone(vectors))
		for x := from; x < channels; x++ {
			for y := range channels {
				if x != y && !paired(vectors, x) && !paired(vectors, y) {
					extend(append(slices.Clone(vectors), []int{x, y}), x+1)
				}
			}
		}
	}
	extend(nil, 0)
	return all
}

// neighbours are the ways to pair channels that differ from a field's by one vector: taken away, put in the place of those that share
// a channel with it, or with another's y component.
func neighbours(field orbits.Field) (all [][][]int) {
	all = append(all, field.Vectors)
	for i := range field.Vectors {
		all = append(all, slices.Delete(slices.Clone(field.Vectors), i, i+1))
		for j := range i {
			exchanged := slices.Clone(field.Vectors)
			a, b := exchanged[i], exchanged[j]
			exchanged[i], exchanged[j] = []int{a[0], b[1]}, []int{b[0], a[1]}
			all = append(all, exchanged)
		}
	}
	for x := range field.Channels {
		for y := range field.Channels {
			if x != y && !hasVector(field.Vectors, []int{x, y}) {
				rest := slices.DeleteFunc(slices.Clone(field.Vectors), func(v []int) bool {
					return paired([][]int{v}, x) || paired([][]int{v}, y)
				})
				all = append(all, append(rest, []int{x, y}))
			}
		}
	}
	return all
}

// paired says whether a channel is a component of one of the vectors.
func paired(vectors [][]int, channel int) bool {
	return slices.ContainsFunc(vectors, func(v []int) bool { return v[0] == channel || v[1] == channel })
}

// Describe names a field's vectors, of any number of components, and orientation.
func Describe(field orbits.Field) string {
	vectors := named(field, field.Vectors)
	words := "no vector"
	if vectors != nil {
		words = "vectors " + strings.Join(vectors, " and ")
	}
	if field.Pseudovectors != nil {
		words += ", pseudovectors " + strings.Join(named(field, field.Pseudovectors), " and ")
	}
	if field.RowDown {
		return words + ", rows downwards"
	}
	return words + ", rows upwards"
}

// named are vectors by the names of their channels.
func named(field orbits.Field, vectors [][]int) (all []string) {
	for _, vector := range vectors {
		var components []string
		for _, c := range vector {
			components = append(components, field.Channels[c])
		}
		all = append(all, "("+strings.Join(components, ", ")+")")
	}
	return all
}

// choice names a field among others, where rows mean nothing without a vector.
func choice(field orbits.Field) string {
	if len(field.Vectors) == 0 {
		return "no vector"
	}
	return Describe(field)
}

// AllTurns are those of the square.
func AllTurns() []Turn {
	elements, err := orbits.D4().Elements(1, 1)
	if err != nil {
		panic(err) // it has them on any grid
	}
	return TurnsOf(elements...)
}

func halfTurn() orbits.Element { return AllTurns()[2].element }

func rotations() []Turn { return slices.DeleteFunc(AllTurns(), Turn.mirror) }

func mirrors() (all []orbits.Element) {
	for _, t := range AllTurns() {
		if t.mirror() {
			all = append(all, t.element)
		}
	}
	return all
}

// mirror says whether a turn is a reflection: its determinant is negative.
func (t Turn) mirror() bool {
	x, y := t.images[0], t.images[1]
	return x.X*y.Y-x.Y*y.X < 0
}

// alongOf names the direction that a mirror keeps.
func alongOf(mirror orbits.Element) string {
	switch x, _, _, _ := mirror.Turn(); {
	case x.X > 0:
		return "along x"
	case x.X < 0:
		return "along y"
	}
	return "along a diagonal"
}
