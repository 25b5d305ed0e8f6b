package orbits_test

import (
	"fmt"

	"github.com/gomlx/gomlx/core/graph"

	"github.com/symaudit/symaudit/orbits"
)

// Elements of this package know what undoes them on a model's output. Of one's own it has to be said.
func ExampleElement_WithInverse() {
	double := orbits.NewElement("double", func(x *graph.Node) *graph.Node { return graph.MulScalar(x, 2) })
	_, known := double.Undo()
	fmt.Println(double, known)
	double = double.WithInverse(func(y *graph.Node) *graph.Node { return graph.DivScalar(y, 2) })
	undo, known := double.Undo()
	fmt.Println(double, known)
	pressure := orbits.Field{Channels: []string{"pressure"}}
	exec := graph.MustNewExec(goBackend(), func(y *graph.Node) (moved, back *graph.Node) {
		moved = double.ApplyOutput(pressure, y)
		return moved, undo(pressure, moved)
	})
	outputs := exec.MustCall([][][][]float64{{{{1}, {2}}}})
	fmt.Println(outputs[0].Value(), outputs[1].Value())
	// Output:
	// double false
	// double true
	// [[[[2] [4]]]] [[[[1] [2]]]]
}
