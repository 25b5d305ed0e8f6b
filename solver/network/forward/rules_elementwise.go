package forward

import (
	"github.com/gomlx/gomlx/core/graph"
)

// elementwise uses that the Jacobian is diagonal: GoMLX's transposed product is the product.
func elementwise(node *graph.Node, _, t []*graph.Node) *graph.Node {
	transposed := ownRule(node.Type())
	if transposed == nil {
		unsupported(node, "GoMLX no longer has a gradient of it")
	}
	return transposed(node, t, node.Shape())[0]
}

func exponentialMinusOne(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	return graph.Mul(t[0], graph.Exp(inputs[0]))
}

// inverseSquareRoot is d x^(-1/2) = -1/2 x^(-3/2) dx.
func inverseSquareRoot(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	return graph.MulScalar(graph.Mul(t[0], graph.Div(node, inputs[0])), -0.5)
}

// absolute is the sign times the tangent; of complex numbers, Re(conj(z) dz) / |z|.
func absolute(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	if inputs[0].DType().IsComplex() {
		return graph.Div(graph.Real(graph.Mul(graph.Conj(inputs[0]), t[0])), node)
	}
	return elementwise(node, inputs, t)
}

// quotient is d(a/b) = (da - (a/b) db) / b.
func quotient(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	if t[1] == nil {
		return graph.Div(t[0], inputs[1])
	}
	numerator := graph.Mul(node, t[1])
	if t[0] == nil {
		numerator = graph.Neg(numerator)
	} else {
		numerator = graph.Sub(t[0], numerator)
	}
	return graph.Div(numerator, inputs[1])
}

// power is d a^b = b a^(b-1) da + a^b log(a) db, the last term being 0 at a = 0.
func power(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	a, b := inputs[0], inputs[1]
	var base, exponent *graph.Node
	if t[0] != nil {
		base = graph.Mul(t[0], graph.Mul(b, graph.Pow(a, graph.AddScalar(b, -1))))
	}
	if t[1] != nil {
		positive := graph.Where(graph.Equal(a, graph.ScalarZero(a.Graph(), a.DType())), graph.OnesLike(a), a)
		exponent = graph.Mul(t[1], graph.Mul(graph.Log(positive), node))
	}
	return expanded(add(base, exponent), node)
}

// remainder is d(a - b trunc(a/b)), the quotient being constant wherever it is continuous.
func remainder(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	a, b := inputs[0], inputs[1]
	if t[1] == nil {
		return expanded(t[0], node)
	}
	quotient := graph.Round(graph.Div(graph.Sub(a, node), b))
	return add(t[0], graph.Neg(graph.Mul(quotient, t[1])))
}

// arcTangent2 is d atan2(y, x) = (x dy - y dx) / (x^2 + y^2).
func arcTangent2(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	y, x := inputs[0], inputs[1]
	numerator := add(times(t[0], x), times(t[1], graph.Neg(y)))
	return graph.Div(numerator, graph.Add(graph.Square(x), graph.Square(y)))
}

// extreme is Max or Min of two: the first operand's tangent where it is the larger, the second's where it is not.
func extreme(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	first, second := t[0], t[1]
	if node.Type() == graph.NodeTypeMin {
		first, second = second, first
	}
	return choose(graph.GreaterOrEqual(inputs[0], inputs[1]), first, second, node)
}

// clamp is the tangent of whichever of (min, x, max) is the result; x where they tie.
func clamp(node *graph.Node, inputs, t []*graph.Node) *graph.Node {
	low, x, high := inputs[0], inputs[1], inputs[2]
	inside := choose(graph.GreaterThan(x, high), t[2], t[1], node)
	return choose(graph.LessThan(x, low), t[0], inside, node)
}

// choose is graph.Where of tangents, nil being zero, which broadcast as the operands of node do; the condition has the
// shape of node.
func choose(condition, ifTrue, ifFalse, node *graph.Node) *graph.Node {
	if ifTrue == nil && ifFalse == nil {
		return nil
	}
	side := func(t *graph.Node) *graph.Node {
		if t == nil {
			return graph.ScalarZero(node.Graph(), node.DType())
		}
		return expanded(t, node)
	}
	return graph.Where(condition, side(ifTrue), side(ifFalse))
}
