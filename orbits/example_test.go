package orbits_test

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/symaudit/symaudit/orbits"
)

func ExampleGroup_Elements() {
	elements, err := orbits.Translations(8).Elements(16, 32)
	fmt.Println(elements, err)
	fit, err := orbits.D4().Elements(16, 32) // no quarter turns: the grid is not square
	fmt.Println(fit, err)
	// Output:
	// [e t(0,8) t(0,16) t(0,24) t(8,0)] <nil>
	// [e r2 s sr2] <nil>
}

// The elements of D4 by where they take the vectors (1, 0), to the right, and (0, 1), up.
func ExampleD4() {
	elements, err := orbits.D4().Elements(16, 16)
	if err != nil {
		panic(err)
	}
	for _, element := range elements {
		x, y, _, _ := element.Turn()
		fmt.Printf("%-3s takes right to (%2d, %2d), up to (%2d, %2d)\n", element, int(x.X), int(x.Y), int(y.X), int(y.Y))
	}
	// Output:
	// e   takes right to ( 1,  0), up to ( 0,  1)
	// r   takes right to ( 0,  1), up to (-1,  0)
	// r2  takes right to (-1,  0), up to ( 0, -1)
	// r3  takes right to ( 0, -1), up to ( 1,  0)
	// s   takes right to (-1,  0), up to ( 0,  1)
	// sr  takes right to ( 0,  1), up to ( 1,  0)
	// sr2 takes right to ( 1,  0), up to ( 0, -1)
	// sr3 takes right to ( 0, -1), up to (-1,  0)
}

// No rotation by a quarter fits a grid that is not square; NeedsSquare tells which elements those are.
func ExampleC4() {
	square, err := orbits.C4().Elements(16, 16)
	if err != nil {
		panic(err)
	}
	for _, element := range square {
		fmt.Printf("%s needs a square: %t\n", element, element.NeedsSquare())
	}
	oblong, err := orbits.C4().Elements(16, 32)
	fmt.Println(oblong, err)
	// Output:
	// e needs a square: false
	// r needs a square: true
	// r2 needs a square: false
	// r3 needs a square: true
	// [e r2] <nil>
}

// The control moves the cells of a wind and lets it blow from where it did.
func ExampleD4GridOnly() {
	wind := orbits.Field{Channels: []string{"u", "v"}, Vectors: [][]int{{0, 1}}}
	westerly := [][][][]float32{{{{5, 1}}}}
	for _, group := range []orbits.Group{orbits.D4(), orbits.D4GridOnly()} {
		elements, _ := group.Elements(1, 1)
		turned, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
			return elements[1].Apply(wind, x)
		}, westerly)
		fmt.Printf("%-12s %s: %v %v\n", group.Name, elements[1], turned.Value(), err)
	}
	// Output:
	// d4           r: [[[[-1 5]]]] <nil>
	// d4-grid-only r: [[[[5 1]]]] <nil>
}

// The 48 symmetries of a cube on a box that is twice as high: the turns about its axis and the mirrors that keep it.
func ExampleOctahedral() {
	cube, err := orbits.Octahedral().Elements(16, 16, 16)
	fmt.Println(len(cube), cube[1], cube[16], cube[47], err)
	box, err := orbits.Octahedral().Elements(32, 16, 16)
	fmt.Println(len(box), box, err)
	// Output:
	// 48 r (z,x,y) (-x,-z,-y) <nil>
	// 16 [e r r2 r3 s sr sr2 sr3 (x,y,-z) (-y,x,-z) (-x,-y,-z) (y,-x,-z) (-x,y,-z) (y,x,-z) (x,-y,-z) (-y,-x,-z)] <nil>
}

// What swims to the right along a line swims to the left in the mirror.
func ExampleReflections() {
	swimmers := orbits.Field{Channels: []string{"number", "velocity"}, Vectors: [][]int{{1}}}
	elements, err := orbits.Reflections().Elements(3)
	if err != nil {
		panic(err)
	}
	image, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
		return elements[1].Apply(swimmers, x)
	}, [][][]float32{{{1, 0.5}, {2, 0}, {3, 0}}})
	fmt.Println(elements, image.Value(), err)
	// Output: [e s] [[[3 -0] [2 -0] [1 -0.5]]] <nil>
}

// A vortex that turns about z turns the other way in a mirror that contains z. The control leaves it.
func ExampleGridOnly() {
	vorticity := orbits.Field{Channels: []string{"w_x", "w_y", "w_z"}, Pseudovectors: [][]int{{0, 1, 2}}}
	for _, group := range []orbits.Group{orbits.Reflections(), orbits.GridOnly(orbits.Reflections())} {
		elements, _ := group.Elements(1, 1, 1)
		image, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
			return elements[1].Apply(vorticity, x)
		}, [][][][][]float32{{{{{1, 2, 3}}}}})
		fmt.Println(group.Name, elements[1], image.Value(), err)
	}
	// Output:
	// reflections s [[[[[1 -2 -3]]]]] <nil>
	// reflections-grid-only s [[[[[1 2 3]]]]] <nil>
}

// Shifts are along +y and +x, in pixels. By fractions of a pixel they interpolate: a wave moves on by a quarter of its length.
func ExampleTranslations() {
	elements, err := orbits.Translations(0.5).Elements(1, 2)
	fmt.Println(elements, err)
	elements, err = orbits.Translations(0.75).Elements(1, 3)
	if err != nil {
		panic(err)
	}
	shift := elements[1]
	by := shift.Shift()
	moved, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
		return shift.Apply(orbits.Field{Channels: []string{"u"}}, x)
	}, [][][][]float64{{{{1}, {-0.5}, {-0.5}}}}) // cos(2 pi column / 3)
	fmt.Printf("%s: %g up, %g to the right, %.3f %v\n", shift, by.Y, by.X, moved.Value(), err)
	// Output:
	// [e t(0,0.5) t(0,1) t(0,1.5) t(0.5,0)] <nil>
	// t(0,0.75): 0 up, 0.75 to the right, [[[[0.000] [0.866] [-0.866]]]] <nil>
}

// Gas at twice the density and pressure and with twice the momentum moves alike.
func ExampleScalings() {
	elements, err := orbits.Scalings(2, 0.5).Elements(1, 1)
	fmt.Println(elements, err)
	image, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
		return elements[1].Apply(orbits.EulerField(), x)
	}, [][][][]float32{{{{1, 0.5, 0, 2.5}}}})
	fmt.Println(image.Value(), err)
	_, err = orbits.Scalings(-1).Elements(1, 1)
	fmt.Println(err)
	// Output:
	// [e scale(2) scale(0.5)] <nil>
	// [[[[2 1 0 5]]]] <nil>
	// orbits: group scalings has the factor -1; factors must be positive, between 1e-15 and 1e+15
}

func ExampleCustom() {
	negated := orbits.NewElement("negated", graph.Neg)
	elements, err := orbits.Custom("parity", negated).Elements(1, 1)
	fmt.Println(elements, err)

	image, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
		return elements[1].Apply(orbits.Field{Channels: []string{"u"}}, x)
	}, [][][][]float32{{{{3}}}})
	fmt.Println(image.Value(), err)
	// Output:
	// [e negated] <nil>
	// [[[[-3]]]] <nil>
}

func ExampleElement_Apply() {
	elements, _ := orbits.D4().Elements(2, 2)
	wind := orbits.Field{Channels: []string{"u", "v"}, Vectors: [][]int{{0, 1}}}
	eastward := [][][][]float32{{{{1, -9}, {2, -9}}, {{3, -9}, {4, -9}}}} // row 0 is at the bottom

	turned, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
		return elements[1].Apply(wind, x)
	}, eastward)
	fmt.Println(elements[1], turned.Value(), err)
	// Output:
	// r [[[[9 3] [9 1]] [[9 4] [9 2]]]] <nil>
}

func ExampleElement_Compose() {
	elements, _ := orbits.D4().Elements(16, 16)
	r, s := elements[1], elements[4]
	fmt.Println(s.Compose(r), r.Compose(s), r.Inverse(), r.Compose(r.Inverse()).IsIdentity())
	// Output: sr sr3 r3 true
}

func ExampleProduct() {
	elements, err := orbits.Product(orbits.C4(), orbits.Translations(8)).Elements(16, 16)
	fmt.Println(elements[:6], len(elements), err)
	// Output: [e t(0,8) t(8,0) r t(8,0)r t(0,8)r] 12 <nil>
}

// The shifts of a scalar field are none of its turns, and C4 is part of D4.
func ExampleGroup_Some() {
	fmt.Println(orbits.D4().Some("r", "s").Elements(16, 16))
	_, err := orbits.C4().Some("s").Elements(16, 16)
	fmt.Println(err)
	// Output:
	// [e r s] <nil>
	// orbits: group c4 has no element "s"; it has e, r, r2, r3
}

func ExampleGroup_Check() {
	heat := orbits.Field{Channels: []string{"temperature"}}
	fmt.Println(orbits.Product(orbits.D4(), orbits.Translations(8)).Check(heat, 16, 16))
	fmt.Println(orbits.Product(orbits.D4(), orbits.C4()).Check(heat, 16, 16))
	// Output:
	// <nil>
	// orbits: group d4*c4: c4 adds no element to d4; leave it out
}

// On a grid of 128x128 cells of the unit square and with a time step of 0.05 unit velocity crosses 6.4 pixels.
func ExampleBoosts() {
	boosts := orbits.Boosts(0.05*128, orbits.Vector{X: 0.15625}, orbits.Vector{Y: -0.5})
	elements, err := boosts.Elements(128, 128)
	fmt.Println(elements, err)
	// Output: [e boost(0,0.15625) boost(-0.5,0)] <nil>
}

// Channels may come in any order, when Conserved says which is which: a gas at rest of density 1 and energy 2.5 per volume, seen
// by an observer who moves at velocity -2 along x, has the momentum 2 and a kinetic energy of 2 more.
func ExampleConserved() {
	field := orbits.Field{
		Channels:  []string{"energy", "mx", "my", "rho"},
		Vectors:   [][]int{{1, 2}},
		Conserved: &orbits.Conserved{Density: 3, Momentum: []int{1, 2}, Energy: 0},
	}
	boosts, err := orbits.Boosts(1, orbits.Vector{X: 2}).Elements(1, 4)
	if err != nil {
		panic(err)
	}
	image, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
		return boosts[1].Apply(field, x)
	}, [][][][]float32{{{{2.5, 0, 0, 1}}}})
	fmt.Println(boosts[1], image.Value(), err)
	// Output: boost(0,2) [[[[4.5 2 0 1]]]] <nil>
}

// What cools by a quarter in a time step forgets a quarter of what it was warmer by.
func ExampleElement_WithOutput() {
	add := func(degrees float64) func(*graph.Node) *graph.Node {
		return func(x *graph.Node) *graph.Node { return graph.AddScalar(x, degrees) }
	}
	warmer := orbits.NewElement("warmer(4)", add(4)).WithOutput(add(3))
	temperature := orbits.Field{Channels: []string{"temperature"}}
	images, err := graph.CallOnceN(goBackend(), func(x *graph.Node) (input, output *graph.Node) {
		return warmer.Apply(temperature, x), warmer.ApplyOutput(temperature, graph.MulScalar(x, 0.75))
	}, [][][][]float32{{{{20}}}})
	fmt.Println(images[0].Value(), images[1].Value(), err)
	// Output: [[[[24]]]] [[[[18]]]] <nil>
}

// Names are written as in algebra, what comes first on the right, and shifts with the rows first. All kinds of elements compose.
func ExampleElement_Name() {
	first := func(group orbits.Group) orbits.Element {
		elements, err := group.Elements(16, 16)
		if err != nil {
			panic(err)
		}
		return elements[1]
	}
	turn, shift := first(orbits.C4()), first(orbits.Translations(4))
	boost, scale := first(orbits.Boosts(8, orbits.Vector{X: 0.25})), first(orbits.Scalings(2))
	fmt.Println(shift.Compose(turn).Name(), "is not", turn.Compose(shift).Name())
	fmt.Println(scale.Compose(boost).Compose(shift).Compose(turn).Name())
	// Output:
	// t(0,4)r is not t(4,0)r
	// scale(2)boost(0,0.25)t(0,4)r
}

// Boosts needs conserved variables; of a velocity alone they are defined like this. Each element needs a name of its own.
func ExampleNewElement() {
	faster := func(by float64) orbits.Element {
		return orbits.NewElement(fmt.Sprintf("faster(%g)", by), func(x *graph.Node) *graph.Node {
			return graph.AddScalar(x, by)
		})
	}
	elements, err := orbits.Custom("faster", faster(1), faster(-1)).Elements(4, 4)
	fmt.Println(elements, err)
	_, err = orbits.Custom("faster", faster(1), faster(1)).Elements(4, 4)
	fmt.Println(err)
	// Output:
	// [e faster(1) faster(-1)] <nil>
	// orbits: group faster has two elements named "faster(1)" (the identity is "e" and need not be given)
}

// The rows of an image grow downwards, those of a simulation mostly upwards: a quarter turn to the left moves the same numbers in
// another way.
func ExampleField() {
	quarter, err := orbits.C4().Elements(2, 2)
	if err != nil {
		panic(err)
	}
	for _, down := range []bool{true, false} {
		grey := orbits.Field{Channels: []string{"grey"}, RowDown: down}
		turned, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
			return quarter[1].Apply(grey, x)
		}, [][][][]float32{{{{1}, {2}}, {{3}, {4}}}})
		fmt.Println(turned.Value(), err)
	}
	// Output:
	// [[[[2] [4]] [[1] [3]]]] <nil>
	// [[[[3] [1]] [[4] [2]]]] <nil>
}

// A mirror turns the vorticity round; it leaves the speed, a scalar, as it is.
func ExampleField_pseudoscalars() {
	field := orbits.Field{Channels: []string{"vorticity", "speed"}, Pseudoscalars: []int{0}}
	elements, err := orbits.D4().Elements(1, 1)
	if err != nil {
		panic(err)
	}
	for _, element := range elements[3:5] {
		image, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
			return element.Apply(field, x)
		}, [][][][]float32{{{{3, 7}}}})
		fmt.Println(element, image.Value(), err)
	}
	// Output:
	// r3 [[[[3 7]]]] <nil>
	// s [[[[-3 7]]]] <nil>
}

func ExampleField_Validate() {
	field := orbits.EulerField()
	fmt.Println(field.Channels, field.Vectors, field.Validate())
	field.Vectors = nil
	fmt.Println(field.Validate())
	field = orbits.Field{Channels: []string{"u", "v", "p"}, Vectors: [][]int{{1, 3}}}
	fmt.Println(field.Validate())
	// Output:
	// [density momentum_x momentum_y energy] [[1 2]] <nil>
	// orbits: the momentum [1 2] is none of the field's vectors []; add it to them
	// orbits: vector [1 3] names channel 3, but the field has channels 0 to 2
}

func goBackend() compute.Backend {
	b, err := gobackend.New("ops_sequential")
	if err != nil {
		panic(err)
	}
	return b
}

// A quarter turn makes of the momentum along x that along y, and of that along y the one against x.
func ExampleElement_TurnChannels() {
	elements, err := orbits.D4().Elements(16, 16)
	if err != nil {
		panic(err)
	}
	field := orbits.EulerField()
	to, sign := elements[1].TurnChannels(field)
	for c, name := range field.Channels {
		fmt.Printf("%-10s becomes %+.0f %s\n", name, sign[c], field.Channels[to[c]])
	}
	// Output:
	// density    becomes +1 density
	// momentum_x becomes +1 momentum_y
	// momentum_y becomes -1 momentum_x
	// energy     becomes +1 energy
}

// A mask turns and shifts with its state, and a scaling of the state leaves it as it is.
func ExampleElement_Cells() {
	scalings, err := orbits.Product(orbits.C4(), orbits.Scalings(2)).Elements(16, 16)
	if err != nil {
		panic(err)
	}
	last := scalings[len(scalings)-1]
	cells, known := last.Cells()
	fmt.Println(last, "moves a mask by", cells, known)
	_, known = orbits.NewElement("offset(2)", func(x *graph.Node) *graph.Node { return graph.AddScalar(x, 2) }).Cells()
	fmt.Println(known)
	// Output:
	// scale(2)r3 moves a mask by r3 true
	// false
}

// Shifts by whole pixels move values about; others make new ones between them.
func ExampleElement_Permutes() {
	for _, group := range []orbits.Group{orbits.D4(), orbits.Translations(0.5), orbits.Scalings(2)} {
		elements, err := group.Elements(2, 2)
		if err != nil {
			panic(err)
		}
		fmt.Println(elements[1], elements[1].Permutes())
	}
	// Output:
	// r true
	// t(0,0.5) false
	// scale(2) false
}
