package orbits

import (
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
)

// GoMLX v0.28 has no gradient for Reverse, so no model that reflects its states could be trained. A reversal is its own
// transpose. A later GoMLX's own rule is left alone.
func init() {
	if graph.VJPRegistration[graph.NodeTypeReverse] == nil {
		graph.VJPRegistration[graph.NodeTypeReverse] = func(node *graph.Node, v []*graph.Node, _ shapes.Shape) []*graph.Node {
			return []*graph.Node{node.CloneWithInputs(v[0])}
		}
	}
}
