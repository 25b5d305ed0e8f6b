package forward_test

import (
	"errors"
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/solver/network/forward"
)

func goBackend() compute.Backend {
	b, err := gobackend.New("ops_sequential")
	if err != nil {
		panic(err)
	}
	return b
}

// The area and the perimeter of a rectangle whose width grows by 0.1 and whose height shrinks by 0.2.
func ExampleJVP() {
	exec := graph.MustNewExec(goBackend(), func(width, height, dWidth, dHeight *graph.Node) []*graph.Node {
		area := graph.Mul(width, height)
		perimeter := graph.MulScalar(graph.Add(width, height), 2)
		return forward.JVP(
			[]*graph.Node{area, perimeter},
			[]*graph.Node{width, height},
			[]*graph.Node{dWidth, dHeight})
	})
	tangents := exec.MustCall(3.0, 2.0, 0.1, -0.2)
	fmt.Printf("area %+.1f, perimeter %+.1f\n", tangents[0].Value(), tangents[1].Value())
	// Output: area -0.4, perimeter -0.2
}

// JVP panics with an error that names the operation, as graph-building functions do.
func ExampleUnsupportedError() {
	err := exceptions.TryCatch[error](func() {
		graph.MustNewExec(goBackend(), func(x *graph.Node) *graph.Node {
			return forward.JVP([]*graph.Node{graph.Sort(x, 0, true)}, []*graph.Node{x}, []*graph.Node{graph.OnesLike(x)})[0]
		}).MustCall([]float64{3, 1, 2})
	})
	var unsupported *forward.UnsupportedError
	if errors.As(err, &unsupported) {
		fmt.Println(unsupported.Op, "-", unsupported.Reason)
	}
	// Output: Sort - GoMLX has no derivative of it either; gather by the sorted indices instead
}
