package forward

import (
	"github.com/gomlx/gomlx/core/graph"
)

// rule returns the tangent of a node from those of its inputs; nil is zero.
func (p *pass) rule(node *graph.Node) *graph.Node {
	if node.NumOutputs() != 1 {
		return nil // its tangents are asked for by the nodes that split it
	}
	if node.StopGradient() || !node.DType().IsFloat() && !node.DType().IsComplex() || constantAlmostEverywhere[node.Type()] {
		return nil
	}
	if node.Type() == graph.NodeTypeSplitNode {
		return p.split(node)
	}
	t, some := p.of(node)
	if !some {
		return nil
	}
	if fused[node.Type()] {
		return p.tangent(decomposition(node, node))
	}
	if count, ok := linear[node.Type()]; ok {
		return linearRule(node, t, count)
	}
	if rule := rules[node.Type()]; rule != nil {
		return rule(node, t)
	}
	if elementwise[node.Type()] {
		if node.Inputs()[0].DType().IsComplex() {
			unsupported(node, "of complex numbers")
		}
		// The Jacobian is diagonal, so its transpose applied to the tangent is what is wanted.
		return graph.VJPRegistration[node.Type()](node, t, node.Shape())[0]
	}
	unsupported(node, "")
	return nil
}

// constantAlmostEverywhere lists operations whose derivative is zero wherever it exists.
var constantAlmostEverywhere = map[graph.NodeType]bool{
	graph.NodeTypeCeil: true, graph.NodeTypeFloor: true, graph.NodeTypeRound: true, graph.NodeTypeSign: true,
	graph.NodeTypeIota: true, graph.NodeTypeConstant: true, graph.NodeTypeParameter: true,
}

// linear lists operations that are linear in their first inputs taken together, by how many these are; -1 is all. The
// inputs after them are indices or conditions.
var linear = map[graph.NodeType]int{
	graph.NodeTypeAdd: -1, graph.NodeTypeSub: -1, graph.NodeTypeNeg: -1, graph.NodeTypeIdentity: -1,
	graph.NodeTypeConvertDType: -1, graph.NodeTypeConcatenate: -1, graph.NodeTypeReshape: -1, graph.NodeTypeTranspose: -1,
	graph.NodeTypeBroadcastInDim: -1, graph.NodeTypeSlice: -1, graph.NodeTypeReverse: -1, graph.NodeTypeReduceSum: -1,
	graph.NodeTypePad: -1, graph.NodeTypeReal: -1, graph.NodeTypeImag: -1, graph.NodeTypeConj: -1,
	graph.NodeTypeComplex: -1, graph.NodeTypeFFT: -1, graph.NodeTypeDynamicReshape: 1,
	graph.NodeTypeDynamicSlice: 1, graph.NodeTypeDynamicUpdateSlice: 2, graph.NodeTypeGather: 1,
}

func linearRule(node *graph.Node, t []*graph.Node, count int) *graph.Node {
	inputs := node.Inputs()
	if count < 0 {
		count = len(inputs)
	}
	replaced := make([]*graph.Node, len(inputs))
	some := false
	for i, input := range inputs {
		switch {
		case i >= count:
			replaced[i] = input
		case t[i] == nil:
			replaced[i] = graph.ZerosLike(input)
		default:
			replaced[i], some = t[i], true
		}
	}
	if !some {
		return nil
	}
	return node.CloneWithInputs(replaced...)
}

// elementwise lists unary operations whose registered reverse-mode rule multiplies by the derivative.
var elementwise = map[graph.NodeType]bool{
	graph.NodeTypeExp: true, graph.NodeTypeLog: true, graph.NodeTypeLog1p: true, graph.NodeTypeCos: true,
	graph.NodeTypeSin: true, graph.NodeTypeTanh: true, graph.NodeTypeSqrt: true, graph.NodeTypeErf: true,
	graph.NodeTypeLogistic: true,
}

// rules are given the tangents of the inputs, at least one of which is not nil.
var rules map[graph.NodeType]func(node *graph.Node, t []*graph.Node) *graph.Node

func init() { // rules refer to functions that refer to rules
	rules = map[graph.NodeType]func(node *graph.Node, t []*graph.Node) *graph.Node{
		graph.NodeTypeMul:                   bilinear,
		graph.NodeTypeDotGeneral:            bilinear,
		graph.NodeTypeConvGeneral:           bilinear,
		graph.NodeTypeDiv:                   quotient,
		graph.NodeTypePow:                   power,
		graph.NodeTypeRem:                   remainder,
		graph.NodeTypeAtan2:                 arcTangent2,
		graph.NodeTypeMax:                   larger,
		graph.NodeTypeMin:                   larger,
		graph.NodeTypeClamp:                 clamp,
		graph.NodeTypeAbs:                   absolute,
		graph.NodeTypeExpm1:                 func(n *graph.Node, t []*graph.Node) *graph.Node { return graph.Mul(t[0], graph.Exp(n.Inputs()[0])) },
		graph.NodeTypeRsqrt:                 inverseSquareRoot,
		graph.NodeTypeWhere:                 where,
		graph.NodeTypeScatterSum:            scatterSum,
		graph.NodeTypeReduceMax:             transposedTwice,
		graph.NodeTypeReduceMin:             transposedTwice,
		graph.NodeTypeReduceWindow:          reduceWindow,
		graph.NodeTypeBatchNormForInference: batchNormForInference,
		graph.NodeTypeSchedulingBarrier:     func(_ *graph.Node, t []*graph.Node) *graph.Node { return t[0] },
		graph.NodeTypeOptimizationBarrier:   func(_ *graph.Node, t []*graph.Node) *graph.Node { return t[0] },
	}
}

// add sums tangents, nil being zero.
func add(a, b *graph.Node) *graph.Node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return graph.Add(a, b)
}

// times is a tangent times a factor, nil being zero.
func times(t, factor *graph.Node) *graph.Node {
	if t == nil {
		return nil
	}
	return graph.Mul(t, factor)
}

func bilinear(node *graph.Node, t []*graph.Node) *graph.Node {
	a, b := node.Inputs()[0], node.Inputs()[1]
	var left, right *graph.Node
	if t[0] != nil {
		left = node.CloneWithInputs(t[0], b)
	}
	if t[1] != nil {
		right = node.CloneWithInputs(a, t[1])
	}
	return add(left, right)
}

// quotient is d(a/b) = (da - (a/b) db) / b.
func quotient(node *graph.Node, t []*graph.Node) *graph.Node {
	var numerator *graph.Node
	if t[1] != nil {
		numerator = graph.Neg(graph.Mul(node, t[1]))
	}
	return graph.Div(add(t[0], numerator), node.Inputs()[1])
}

// power is d(a^b) = b a^(b-1) da + a^b log(a) db.
func power(node *graph.Node, t []*graph.Node) *graph.Node {
	a, b := node.Inputs()[0], node.Inputs()[1]
	var base, exponent *graph.Node
	if t[0] != nil {
		base = graph.Mul(t[0], graph.Mul(b, graph.Pow(a, graph.AddScalar(b, -1))))
	}
	if t[1] != nil {
		exponent = graph.Mul(t[1], graph.Mul(graph.Log(a), node))
	}
	return add(base, exponent)
}

// remainder is d(a - b trunc(a/b)), the quotient being constant almost everywhere.
func remainder(node *graph.Node, t []*graph.Node) *graph.Node {
	a, b := node.Inputs()[0], node.Inputs()[1]
	quotient := graph.Round(graph.Div(graph.Sub(a, node), b))
	divisor := times(t[1], graph.Neg(quotient))
	if divisor == nil {
		return graph.Add(t[0], graph.ZerosLike(node)) // broadcast
	}
	return add(t[0], divisor)
}

// arcTangent2 is d atan2(y, x) = (x dy - y dx) / (x^2 + y^2).
func arcTangent2(node *graph.Node, t []*graph.Node) *graph.Node {
	y, x := node.Inputs()[0], node.Inputs()[1]
	return graph.Div(add(times(t[0], x), times(t[1], graph.Neg(y))), graph.Add(graph.Square(x), graph.Square(y)))
}

// larger is Max or Min of two; the first operand counts where they tie in Max, the second in Min.
func larger(node *graph.Node, t []*graph.Node) *graph.Node {
	first := graph.NonNegativeIndicator(graph.Sub(node.Inputs()[0], node.Inputs()[1]))
	second := graph.OneMinus(first)
	if node.Type() == graph.NodeTypeMin {
		first, second = second, first
	}
	return add(times(t[0], first), times(t[1], second))
}

// clamp passes the tangent of whichever of (min, x, max) is the result; x where they tie.
func clamp(node *graph.Node, t []*graph.Node) *graph.Node {
	inputs := node.Inputs()
	full := func(i int) *graph.Node {
		if t[i] == nil {
			return graph.ZerosLike(node)
		}
		return graph.Add(t[i], graph.ZerosLike(node))
	}
	return graph.Where(graph.LessThan(inputs[1], inputs[0]), full(0),
		graph.Where(graph.GreaterThan(inputs[1], inputs[2]), full(2), full(1)))
}

// absolute is the sign times the tangent; of complex numbers, Re(conj(z) dz) / |z|.
func absolute(node *graph.Node, t []*graph.Node) *graph.Node {
	x := node.Inputs()[0]
	if x.DType().IsComplex() {
		return graph.Div(graph.Real(graph.Mul(graph.Conj(x), t[0])), node)
	}
	return graph.Mul(t[0], graph.Sign(x))
}

// inverseSquareRoot is d(x^-1/2) = -1/2 x^-3/2 dx.
func inverseSquareRoot(node *graph.Node, t []*graph.Node) *graph.Node {
	return graph.MulScalar(graph.Mul(t[0], graph.Mul(node, graph.Square(node))), -0.5)
}

func where(node *graph.Node, t []*graph.Node) *graph.Node {
	inputs := node.Inputs()
	sides := []*graph.Node{t[1], t[2]}
	if t[1] == nil && t[2] == nil {
		return nil
	}
	for i := range sides {
		if sides[i] == nil {
			sides[i] = graph.ZerosLike(inputs[i+1])
		}
	}
	return node.CloneWithInputs(inputs[0], sides[0], sides[1])
}

// scatterSum is linear in the operand and the updates, the first and the last input.
func scatterSum(node *graph.Node, t []*graph.Node) *graph.Node {
	inputs := node.Inputs()
	operand, updates := t[0], t[2]
	if operand == nil {
		operand = graph.ZerosLike(inputs[0])
	}
	if updates == nil {
		updates = graph.ZerosLike(inputs[2])
	}
	return node.CloneWithInputs(operand, inputs[1], updates)
}

// transposedTwice uses that J^T w, which GoMLX's rule gives, is linear in w: its derivative along v is J v.
func transposedTwice(node *graph.Node, t []*graph.Node) *graph.Node {
	w := graph.ZerosLike(node)
	transposed := graph.VJPRegistration[node.Type()](node, []*graph.Node{w}, node.Shape())[0]
	return graph.Gradient(graph.ReduceAllSum(graph.Mul(transposed, t[0])), w)[0]
}
