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
	doubled := orbits.NewElement("scale(2)", func(x *graph.Node) *graph.Node { return graph.MulScalar(x, 2) })
	scaling := orbits.Custom("scaling", doubled)
	elements, err := scaling.Elements(1, 1)
	fmt.Println(elements, err)

	image, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
		return elements[1].Apply(orbits.Field{Channels: []string{"u"}}, x)
	}, [][][][]float32{{{{3}}}})
	fmt.Println(image.Value(), err)
	// Output:
	// [e scale(2)] <nil>
	// [[[[6]]]] <nil>
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

func ExampleNamed() {
	group, err := orbits.Named("d4", 0)
	fmt.Println(group.Name, err)
	// Output: d4 <nil>
}
