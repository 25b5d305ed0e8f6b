package forward

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/gomlx/gomlx/core/graph"
)

// fused lists operations that stand for a composition, which GoMLX builds beside them for reverse mode.
var fused = map[graph.NodeType]bool{
	graph.NodeTypeFusedDense: true, graph.NodeTypeFusedGelu: true, graph.NodeTypeFusedLayerNorm: true,
	graph.NodeTypeFusedSoftmax: true, graph.NodeTypeFusedScaledDotProductAttention: true,
}

// decomposition finds what GoMLX computes output from in reverse mode: the composition is built just before the fused
// node, so it is the last earlier node of the same shape that depends on all the fused node's inputs.
func decomposition(output, node *graph.Node) *graph.Node {
	g := node.Graph()
	for id := node.Id() - 1; id >= 0; id-- {
		candidate := g.NodeById(id)
		if candidate.NumOutputs() == 1 && candidate.Shape().Equal(output.Shape()) && dependsOnAll(candidate, node.Inputs()) {
			return candidate
		}
	}
	unsupported(node, fmt.Sprintf("GoMLX built no decomposition beside it; set %s=0", graph.FusionEnv))
	return nil
}

func dependsOnAll(node *graph.Node, inputs []*graph.Node) bool {
	left := map[graph.NodeId]bool{}
	first := node.Id()
	for _, input := range inputs {
		left[input.Id()] = true
		first = min(first, input.Id())
	}
	visited := map[graph.NodeId]bool{}
	stack := []*graph.Node{node}
	for len(stack) > 0 && len(left) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if visited[n.Id()] || n.Id() < first {
			continue
		}
		visited[n.Id()] = true
		delete(left, n.Id())
		stack = append(stack, n.Inputs()...)
	}
	return len(left) == 0
}

// split returns the tangent of one output of an operation with several.
func (p *pass) split(node *graph.Node) *graph.Node {
	source := node.Inputs()[0]
	t, some := p.of(source)
	if !some {
		return nil
	}
	index, err := strconv.Atoi(setting(node, "index"))
	if err != nil {
		unsupported(node, "GoMLX no longer prints its index")
	}
	switch source.Type() {
	case graph.NodeTypeRNGBitGenerator:
		return nil
	case graph.NodeTypeOptimizationBarrier:
		return t[index]
	case graph.NodeTypeFusedScaledDotProductAttention:
		return p.tangent(decomposition(node, source))
	case graph.NodeTypeFusedAttentionQKVProjection:
		return projection(node, source, t, index)
	case graph.NodeTypeBatchNormForTraining:
		return batchNormForTraining(source, t, index)
	}
	unsupported(source, "")
	return nil
}

// projection is one of query, key and value = x W[:, columns] + bias of a fused attention projection.
func projection(node, source *graph.Node, t []*graph.Node, index int) *graph.Node {
	inputs := source.Inputs()
	if len(inputs) != 2 && len(inputs) != 5 {
		unsupported(source, "with some biases and not others")
	}
	x, weights := inputs[0], inputs[1]
	query, keyValue := integers(source, "queryDim")[0], integers(source, "keyValueDim")[0]
	from := []int{0, query, query + keyValue}[index]
	to := []int{query, query + keyValue, query + 2*keyValue}[index]
	columns := func(w *graph.Node) *graph.Node { return graph.Slice(w, graph.AxisRange(), graph.AxisRange(from, to)) }
	times := func(x, w *graph.Node) *graph.Node {
		return graph.Reshape(graph.DotGeneral(x, []int{x.Rank() - 1}, nil, w, []int{0}, nil), node.Shape().Dimensions...)
	}
	var total *graph.Node
	if t[0] != nil {
		total = times(t[0], columns(weights))
	}
	if t[1] != nil {
		total = add(total, times(x, columns(t[1])))
	}
	if len(inputs) == 5 && t[2+index] != nil {
		bias := graph.Add(graph.ZerosLike(node), graph.ExpandLeftToRank(t[2+index], node.Rank()))
		total = add(total, bias)
	}
	return total
}

// normalizer holds what both kinds of batch normalisation share: y = scale (x - mean) / sqrt(variance + epsilon) + offset,
// for each place of the feature axis.
type normalizer struct {
	x, scale, mean, inverse *graph.Node // the last three broadcast against x; inverse is 1 / sqrt(variance + epsilon)
	axes                    []int       // all but the feature axis
	wide                    func(vector *graph.Node) *graph.Node
}

func newNormalizer(node, mean, variance *graph.Node) normalizer {
	inputs := node.Inputs()
	x := inputs[0]
	feature := integers(node, "featureAxis")[0]
	if feature < 0 {
		feature += x.Rank()
	}
	epsilon, err := strconv.ParseFloat(setting(node, "epsilon"), 64)
	if err != nil {
		unsupported(node, "GoMLX no longer prints its epsilon")
	}
	n := normalizer{x: x}
	for axis := range x.Rank() {
		if axis != feature {
			n.axes = append(n.axes, axis)
		}
	}
	n.wide = func(vector *graph.Node) *graph.Node {
		dimensions := slices.Repeat([]int{1}, x.Rank())
		dimensions[feature] = x.Shape().Dimensions[feature]
		return graph.Reshape(vector, dimensions...)
	}
	if mean == nil {
		mean = graph.ReduceMean(x, n.axes...)
		variance = graph.ReduceMean(graph.Square(graph.Sub(x, n.wide(mean))), n.axes...)
	}
	n.scale, n.mean = n.wide(inputs[1]), n.wide(mean)
	n.inverse = n.wide(graph.Reciprocal(graph.Sqrt(graph.AddScalar(variance, epsilon))))
	return n
}

// tangent of y, given those of x, scale, offset, mean and variance; vectors are one per feature.
func (n normalizer) tangent(dx, dScale, dOffset, dMean, dVariance *graph.Node) *graph.Node {
	normal := graph.Mul(graph.Sub(n.x, n.mean), n.inverse)
	total := graph.ZerosLike(n.x)
	if dx != nil {
		total = graph.Add(total, graph.Mul(dx, graph.Mul(n.scale, n.inverse)))
	}
	if dScale != nil {
		total = graph.Add(total, graph.Mul(n.wide(dScale), normal))
	}
	if dOffset != nil {
		total = graph.Add(total, n.wide(dOffset))
	}
	if dMean != nil {
		total = graph.Sub(total, graph.Mul(n.wide(dMean), graph.Mul(n.scale, n.inverse)))
	}
	if dVariance != nil {
		slope := graph.MulScalar(graph.Mul(graph.Mul(n.scale, normal), graph.Square(n.inverse)), 0.5)
		total = graph.Sub(total, graph.Mul(n.wide(dVariance), slope))
	}
	return total
}

func batchNormForInference(node *graph.Node, t []*graph.Node) *graph.Node {
	inputs := node.Inputs()
	return newNormalizer(node, inputs[3], inputs[4]).tangent(t[0], t[1], t[2], t[3], t[4])
}

// batchNormForTraining has the outputs normalised, batch mean and batch variance.
func batchNormForTraining(node *graph.Node, t []*graph.Node, index int) *graph.Node {
	n := newNormalizer(node, nil, nil)
	var mean, variance *graph.Node
	if t[0] != nil {
		mean = graph.ReduceMean(t[0], n.axes...)
		variance = graph.MulScalar(graph.ReduceMean(graph.Mul(graph.Sub(n.x, n.mean), t[0]), n.axes...), 2)
	}
	return []*graph.Node{n.tangent(t[0], t[1], t[2], mean, variance), mean, variance}[index]
}
