package forward

import (
	"math"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/core/graph"
)

// reducedAxes are those of a reduction of x; GoMLX prints none for all.
func reducedAxes(node, x *graph.Node) []int {
	axes := integers(node, "axes")
	if len(axes) == 0 {
		for axis := range x.Rank() {
			axes = append(axes, axis)
		}
	}
	return axes
}

// reduceExtreme sums the tangents of all elements that attain the maximum or minimum.
func reduceExtreme(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	x, axes := inputs[0], reducedAxes(node, inputs[0])
	kept := slices.Clone(x.Shape().Dimensions)
	for _, axis := range axes {
		kept[axis] = 1
	}
	attains := graph.Equal(x, graph.BroadcastToShape(graph.Reshape(node, kept...), x.Shape()))
	return graph.ReduceSum(choose(attains, t[0], nil, x), axes...)
}

// reduceProduct multiplies by halves, (a, da)(b, db) = (ab, da b + a db), which zeros do not disturb as a division by the
// elements would.
func reduceProduct(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	x, axes := inputs[0], reducedAxes(node, inputs[0])
	var order []int
	for axis := range x.Rank() {
		if !slices.Contains(axes, axis) {
			order = append(order, axis)
		}
	}
	length := 1
	for _, axis := range axes {
		order = append(order, axis)
		length *= x.Shape().Dimensions[axis]
	}
	flat := func(x *graph.Node) *graph.Node {
		if x.Rank() > 0 {
			x = graph.TransposeAllAxes(x, order...)
		}
		return graph.Reshape(x, node.Shape().Size(), length)
	}
	columns := func(x *graph.Node, from, to int) *graph.Node {
		return graph.Slice(x, graph.AxisRange(), graph.AxisRange(from, to))
	}
	values, tangents := flat(x), flat(t[0])
	for length > 1 {
		half := length / 2
		a, b := columns(values, 0, half), columns(values, half, 2*half)
		da, db := columns(tangents, 0, half), columns(tangents, half, 2*half)
		products, derivatives := graph.Mul(a, b), graph.Add(graph.Mul(da, b), graph.Mul(a, db))
		if length%2 == 1 {
			products = graph.Concatenate([]*graph.Node{products, columns(values, length-1, length)}, 1)
			derivatives = graph.Concatenate([]*graph.Node{derivatives, columns(tangents, length-1, length)}, 1)
		}
		values, tangents, length = products, derivatives, half+length%2
	}
	return graph.Reshape(tangents, node.Shape().Dimensions...)
}

// reduceWindow is linear where it sums. Where it takes the maximum or minimum, the tangent follows the first element of
// each window, in row-major order, that attains it.
func reduceWindow(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	x := inputs[0]
	switch strings.TrimPrefix(setting(node, "reductionType"), "ReduceOp") {
	case "Sum":
		return node.CloneWithInputs(t[0])
	case "Max", "Min":
	default:
		unsupported(node, "only sums, maxima and minima of windows have one")
	}
	window := integers(node, "windowDimensions")
	strides := integersOr(node, "strides", window)
	ones := slices.Repeat([]int{1}, x.Rank())
	windowDilations := integersOr(node, "windowDilations", ones)
	inputDilations := integersOr(node, "inputDilations", ones)
	paddings := integersOr(node, "paddings", make([]int, 2*x.Rank()))

	pad := func(x *graph.Node, fill float64) *graph.Node {
		axes := make([]graph.PadAxis, x.Rank())
		for i := range axes {
			axes[i] = graph.PadAxis{Start: paddings[2*i], End: paddings[2*i+1], Interior: inputDilations[i] - 1}
		}
		if !slices.ContainsFunc(axes, func(axis graph.PadAxis) bool { return axis != graph.PadAxis{} }) {
			return x
		}
		return graph.Pad(x, graph.Scalar(x.Graph(), x.DType(), fill), axes...)
	}
	values, tangents := pad(x, math.NaN()), pad(t[0], 0) // padding attains nothing

	// One strided slice for each place in the window, from the last to the first, which overrides those after it.
	places := 1
	for _, size := range window {
		places *= size
	}
	var total *graph.Node
	for place := places - 1; place >= 0; place-- {
		axes := make([]graph.SliceAxisSpec, len(window))
		for i, rest := len(window)-1, place; i >= 0; i-- {
			from := rest % window[i] * windowDilations[i]
			rest /= window[i]
			axes[i] = graph.AxisRange(from, from+(node.Shape().Dimensions[i]-1)*strides[i]+1).Stride(strides[i])
		}
		attains := graph.Equal(graph.Slice(values, axes...), node)
		total = choose(attains, graph.Slice(tangents, axes...), total, node)
	}
	return total
}

func integersOr(node *graph.Node, name string, otherwise []int) []int {
	if values := integers(node, name); len(values) > 0 {
		return values
	}
	return otherwise
}

// scatterExtreme passes the tangents of the operand where it is the result, and of all updates that are.
func scatterExtreme(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	operand, indices, updates := inputs[0], inputs[1], inputs[2]
	total := choose(graph.Equal(operand, node), t[0], nil, node)
	if t[2] == nil {
		return total
	}
	results := graph.Gather(node, indices)
	if !results.Shape().Equal(updates.Shape()) {
		unsupported(node, "of windows that graph.Gather does not read")
	}
	scattered := graph.ScatterSum(graph.ZerosLike(operand), indices, choose(graph.Equal(results, updates), t[2], nil, updates), false, false)
	return add(total, scattered)
}
