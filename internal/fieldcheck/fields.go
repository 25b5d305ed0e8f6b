package fieldcheck

import (
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/orbits"
)

// Turn is a rotation or reflection of space, with the images of the unit vectors along x, y and z.
type Turn struct {
	element orbits.Element
	images  [3]orbits.Vector
}

// carry is the image of a vector.
func (t Turn) carry(v [3]int) (image [3]int) {
	for i, unit := range t.images {
		for j, c := range []float64{unit.X, unit.Y, unit.Z} {
			image[j] += int(c) * v[i]
		}
	}
	return image
}

// apply moves a cell, by columns to the right, rows in the order of field, and layers along z.
func (t Turn) apply(field orbits.Field, cell [3]int) [3]int {
	if !field.RowDown {
		return t.carry(cell)
	}
	cell[1] = -cell[1]
	cell = t.carry(cell)
	cell[1] = -cell[1]
	return cell
}

// TurnsOf are the rotations and reflections among elements, with all their compositions.
func TurnsOf(elements ...orbits.Element) (turns []Turn) {
	add := func(e orbits.Element) {
		x, y, z, ok := e.Turn()
		if ok && !slices.ContainsFunc(turns, func(t Turn) bool { return t.element == e }) {
			turns = append(turns, Turn{e, [3]orbits.Vector{x, y, z}})
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
		to, sign := t.element.TurnChannels(field)
		x, y, z := t.apply(field, [3]int{1, 0, 0}), t.apply(field, [3]int{0, 1, 0}), t.apply(field, [3]int{0, 0, 1})
		all = append(all, fmt.Sprint(x, y, z, to, sign))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// mostChannels is up to how many channels the declared field is compared with every other, and not with its neighbours only: of vectors of three
// components there are more.
const (
	mostChannels        = 6
	mostChannelsInSpace = 5
)

// alternatives are the fields to compare with the declared one, by what turns do to them: the declared one first, in each class those that
// turns do not tell apart, with rows as declared first. Which vectors there may be beside the declared ones, may says.
func alternatives(declared orbits.Field, axes int, turns []Turn, may func(vector []int) bool) (classes [][]orbits.Field) {
	places := make(map[string]int)
	add := func(vectors, pseudovectors [][]int, down bool) {
		field := orbits.Field{Channels: declared.Channels, Vectors: vectors, Pseudovectors: pseudovectors, RowDown: down}
		all := allVectors(field)
		for _, c := range declared.Pseudoscalars {
			if !paired(all, c) {
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
		if len(all) == 0 && len(classes[at]) > 0 {
			return // rows mean nothing without a vector
		}
		classes[at] = append(classes[at], field)
	}
	vectors := pairings
	if len(declared.Channels) > mostChannels || axes == 3 && len(declared.Channels) > mostChannelsInSpace {
		vectors = neighbours
	}
	add(declared.Vectors, declared.Pseudovectors, declared.RowDown)
	rows := []bool{declared.RowDown, !declared.RowDown}
	if axes == 1 {
		rows = rows[:1]
	}
	for _, down := range rows {
		for _, all := range vectors(declared, axes) {
			if slices.ContainsFunc(all, func(v []int) bool { return !may(v) && !hasVector(allVectors(declared), v) }) {
				continue
			}
			for kinds := range 1 << len(all) {
				var polar, axial [][]int
				for i, v := range all {
					if kinds>>i&1 == 0 {
						polar = append(polar, v)
					} else {
						axial = append(axial, v)
					}
				}
				if axial != nil && axes < 3 {
					break
				}
				known := down == declared.RowDown && samePairs(polar, declared.Vectors) && samePairs(axial, declared.Pseudovectors)
				if !known {
					add(polar, axial, down)
				}
			}
		}
	}
	return classes
}

// allVectors are those of both kinds.
func allVectors(field orbits.Field) [][]int {
	return slices.Concat(field.Vectors, field.Pseudovectors)
}

func samePairs(a, b [][]int) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(v []int) bool { return !hasVector(b, v) })
}

func hasVector(all [][]int, v []int) bool {
	return slices.ContainsFunc(all, func(other []int) bool { return slices.Equal(other, v) })
}

// contains says whether all vectors of b are a's.
func contains(a, b orbits.Field) bool {
	return (a.RowDown == b.RowDown || len(allVectors(b)) == 0) &&
		!slices.ContainsFunc(b.Vectors, func(v []int) bool { return !hasVector(a.Vectors, v) }) &&
		!slices.ContainsFunc(b.Pseudovectors, func(v []int) bool { return !hasVector(a.Pseudovectors, v) })
}

// tuples are all vectors of so many of the channels.
func tuples(channels, components int) (all [][]int) {
	var extend func(vector []int)
	extend = func(vector []int) {
		if len(vector) == components {
			all = append(all, slices.Clone(vector))
			return
		}
		for c := range channels {
			if !slices.Contains(vector, c) {
				extend(append(vector, c))
			}
		}
	}
	extend(nil)
	return all
}

// pairings are all ways to join channels to vectors, of as many components as there are axes.
func pairings(field orbits.Field, axes int) (all [][][]int) {
	candidates := tuples(len(field.Channels), axes)
	var extend func(vectors [][]int, from int)
	extend = func(vectors [][]int, from int) {
		all = append(all, slices.Clone(vectors))
		for _, v := range candidates {
			if v[0] >= from && !overlap(vectors, v) {
				extend(append(slices.Clone(vectors), v), v[0]+1)
			}
		}
	}
	extend(nil, 0)
	return all
}

// neighbours are the ways to join channels that differ from a field's by one vector: taken away, put in the place of those that share
// a channel with it, or with another's component along y or z.
func neighbours(field orbits.Field, axes int) (all [][][]int) {
	vectors := allVectors(field)
	all = append(all, vectors)
	for i := range vectors {
		all = append(all, slices.Delete(slices.Clone(vectors), i, i+1))
		for j := range i {
			for component := 1; component < axes; component++ {
				exchanged := slices.Clone(vectors)
				exchanged[i], exchanged[j] = slices.Clone(vectors[i]), slices.Clone(vectors[j])
				exchanged[i][component], exchanged[j][component] = vectors[j][component], vectors[i][component]
				all = append(all, exchanged)
			}
		}
	}
	for _, v := range tuples(len(field.Channels), axes) {
		if !hasVector(vectors, v) {
			rest := slices.DeleteFunc(slices.Clone(vectors), func(other []int) bool { return overlap([][]int{v}, other) })
			all = append(all, append(rest, v))
		}
	}
	return all
}

// paired says whether a channel is a component of one of the vectors.
func paired(vectors [][]int, channel int) bool {
	return slices.ContainsFunc(vectors, func(v []int) bool { return slices.Contains(v, channel) })
}

// overlap says whether a vector shares a channel with one of the vectors.
func overlap(vectors [][]int, v []int) bool {
	return slices.ContainsFunc(v, func(c int) bool { return paired(vectors, c) })
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

// GroupOf is the group of all turns of states of one to three axes.
func GroupOf(axes int) orbits.Group {
	return []orbits.Group{orbits.Reflections(), orbits.D4(), orbits.Octahedral()}[axes-1]
}

// rotations are those among turns.
func rotations(turns []Turn) []Turn {
	return slices.DeleteFunc(slices.Clone(turns), Turn.mirror)
}

// mirror says whether a turn is a reflection, or one followed by a rotation: its determinant is negative.
func (t Turn) mirror() bool {
	x, y, z := t.images[0], t.images[1], t.images[2]
	return x.X*(y.Y*z.Z-y.Z*z.Y)-x.Y*(y.X*z.Z-y.Z*z.X)+x.Z*(y.X*z.Y-y.Y*z.X) < 0
}

// directions are those along the axes, then along diagonals, without their opposites.
func directions(axes int) (all [][3]int) {
	for parts := 1; parts <= axes; parts++ {
		for i := range 27 {
			d, count, leading := [3]int{i/9 - 1, i/3%3 - 1, i%3 - 1}, 0, 0
			for axis, c := range d {
				if c != 0 && axis >= axes {
					count = 4 // no such axis
				}
				count += c * c
				if leading == 0 {
					leading = c
				}
			}
			if count == parts && leading > 0 {
				all = append(all, d)
			}
		}
	}
	return all
}

// along names a direction.
func along(d [3]int) string {
	switch d {
	case [3]int{1, 0, 0}:
		return "x"
	case [3]int{0, 1, 0}:
		return "y"
	case [3]int{0, 0, 1}:
		return "z"
	}
	return "a diagonal"
}
