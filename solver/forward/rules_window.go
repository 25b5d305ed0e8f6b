package forward

import (
	"fmt"
	"math"
	"strings"

	"github.com/gomlx/gomlx/core/graph"
)

// setting reads a setting of a node that GoMLX shows in Node.String and nowhere else, such as "strides=[1 2]".
func setting(node *graph.Node, name string) string {
	text := node.String()
	_, after, found := strings.Cut(text, name+"=")
	if !found {
		unsupported(node, fmt.Sprintf("GoMLX no longer prints its %s", name))
	}
	depth := 0
	for i, r := range after {
		switch {
		case r == '[' || r == '(' || r == '{':
			depth++
		case depth > 0 && (r == ']' || r == ')' || r == '}'):
			depth--
		case depth == 0 && (r == ',' || r == ')'):
			return after[:i]
		}
	}
	return after
}

// integers parses "[1 2]" and "[[1 2] [3 4]]", flattened; "[]" is nil.
func integers(node *graph.Node, name string) []int {
	var values []int
	for _, field := range strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(setting(node, name))) {
		var value int
		if _, err := fmt.Sscanf(field, "%d", &value); err != nil {
			unsupported(node, fmt.Sprintf("GoMLX prints its %s as %q", name, setting(node, name)))
		}
		values = append(values, value)
	}
	return values
}

// reduceWindow is linear where it sums. Where it takes the maximum or minimum, the tangent follows the first element of
// each window that attains it.
func reduceWindow(node *graph.Node, t []*graph.Node) *graph.Node {
	reduction := strings.TrimPrefix(setting(node, "reductionType"), "ReduceOp")
	switch reduction {
	case "Sum":
		return node.CloneWithInputs(t[0])
	case "Max", "Min":
	default:
		unsupported(node, "only sums, maxima and minima of windows are")
	}
	if len(integers(node, "inputDilations")) > 0 || len(integers(node, "windowDilations")) > 0 {
		unsupported(node, "with dilations; GoMLX's reverse mode refuses them too")
	}
	x := node.Inputs()[0]
	window, strides, paddings := integers(node, "windowDimensions"), integers(node, "strides"), integers(node, "paddings")
	if len(strides) == 0 {
		strides = window
	}
	worst := math.Inf(-1)
	if reduction == "Min" {
		worst = math.Inf(1)
	}
	pad := func(x *graph.Node, fill float64) *graph.Node {
		if len(paddings) == 0 {
			return x
		}
		axes := make([]graph.PadAxis, x.Rank())
		for i := range axes {
			axes[i] = graph.PadAxis{Start: paddings[2*i], End: paddings[2*i+1]}
		}
		return graph.Pad(x, graph.Scalar(x.Graph(), x.DType(), fill), axes...)
	}
	values, tangents := pad(x, worst), pad(t[0], 0)

	// One strided slice for each place in the window.
	taken := graph.ZerosLike(node) // 1 where an earlier place has attained the maximum
	total := graph.ZerosLike(node)
	for place := range product(window) {
		axes := make([]graph.SliceAxisSpec, len(window))
		for i := len(window) - 1; i >= 0; i-- {
			from := place % window[i]
			place /= window[i]
			axes[i] = graph.AxisRange(from, from+(node.Shape().Dimensions[i]-1)*strides[i]+1).Stride(strides[i])
		}
		attains := graph.ConvertDType(graph.Equal(graph.Slice(values, axes...), node), node.DType())
		chosen := graph.Mul(attains, graph.OneMinus(taken))
		total = graph.Add(total, graph.Mul(chosen, graph.Slice(tangents, axes...)))
		taken = graph.Add(taken, chosen)
	}
	return total
}

func product(sizes []int) int {
	p := 1
	for _, size := range sizes {
		p *= size
	}
	return p
}
