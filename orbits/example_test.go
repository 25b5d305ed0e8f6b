package orbits_test

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/symaudit/symaudit/orbits"
)

func goBackend() compute.Backend {
	b, err := gobackend.New("")
	if err != nil {
		panic(err)
	}
	return b
}

func ExampleGroup_Elements() {
	elements, err := orbits.Translations(8).Elements(16, 32)
	fmt.Println(elements, err)
	fit, err := orbits.D4().Elements(16, 32) // no quarter turns: the grid is not square
	fmt.Println(fit, err)
	// Output:
	// [e t(0,8) t(0,16) t(0,24) t(8,0)] <nil>
	// [e r2 s sr2] <nil>
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
	wind := orbits.Field{Channels: []string{"u", "v"}, Vectors: [][2]int{{0, 1}}}
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

// On a grid of 128x128 cells of the unit square and with a time step of 0.05 unit velocity crosses 6.4 pixels.
func ExampleBoosts() {
	boosts := orbits.Boosts(0.05*128, orbits.Vector{X: 0.15625}, orbits.Vector{Y: -0.5})
	elements, err := boosts.Elements(128, 128)
	fmt.Println(elements, err)
	// Output: [e boost(0,0.15625) boost(-0.5,0)] <nil>
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
