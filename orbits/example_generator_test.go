package orbits_test

import (
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/orbits"
)

// A wave that moves to the right falls where it has risen behind its crest.
func ExampleGroup_Generators() {
	field := orbits.Field{Channels: []string{"height"}}
	wave := tensors.FromValue([][][]float64{{{0}, {1}, {0}, {-1}}})
	for _, generator := range orbits.Translations(1).Generators(4) {
		rate := graph.MustNewExec(goBackend(), func(x *graph.Node) *graph.Node { return generator.Apply(field, x) }).MustCall(wave)[0]
		fmt.Println(generator.Name(), hundredths(rate))
	}
	fmt.Println(len(orbits.D4().Generators(4, 4)), "generators of turns")
	// Output:
	// translation_x [-1.57 0 1.57 0]
	// 0 generators of turns
}

// The rotations of points in the plane, whose rate is the point turned by a quarter.
func ExampleGroup_WithGenerators() {
	turned := func(x *graph.Node) *graph.Node {
		parts := graph.Split(x, -1, 2)
		return graph.Concatenate([]*graph.Node{graph.Neg(parts[1]), parts[0]}, -1)
	}
	rotation := orbits.NewGenerator("rotation", turned)
	group := orbits.Custom("half turns", orbits.NewElement("half", graph.Neg)).WithGenerators(rotation)
	points := orbits.Field{Channels: []string{"x", "y"}}
	rate := graph.MustNewExec(goBackend(), func(x *graph.Node) *graph.Node {
		return group.Generators(3)[0].Apply(points, x)
	}).MustCall(tensors.FromValue([][][]float64{{{1, 0}, {0, 2}, {3, 3}}}))[0]
	fmt.Println(rotation.Name(), hundredths(rate))
	_, known := rotation.Cells()
	fmt.Println("moves scalars on the grid in a known way:", known)
	// Output:
	// rotation [0 1 -2 0 -3 3]
	// moves scalars on the grid in a known way: false
}

// A model of the distance from the origin has an output that no rotation changes.
func ExampleGenerator_WithOutput() {
	field := orbits.Field{Channels: []string{"x"}}
	generator := orbits.NewGenerator("flip", graph.Neg).WithOutput(graph.ZerosLike)
	rates := graph.MustNewExec(goBackend(), func(x *graph.Node) (input, output *graph.Node) {
		return generator.Apply(field, x), generator.ApplyOutput(field, x)
	}).MustCall(tensors.FromValue([][]float64{{2}}))
	fmt.Println(hundredths(rates[0]), hundredths(rates[1]))
	// Output:
	// [-2] [0]
}

// hundredths rounds values for printing, and leaves no -0.
func hundredths(x *tensors.Tensor) []float64 {
	values := tensors.MustCopyFlatData[float64](x)
	for i, v := range values {
		values[i] = math.Round(100*v)/100 + 0
	}
	return values
}
