package forward

import (
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
)

// analytic lists the operations whose derivative of complex numbers is a complex factor, or two. GoMLX multiplies a cotangent by it,
// where its conjugate belongs.
var analytic = []graph.NodeType{
	graph.NodeTypeMul, graph.NodeTypeDiv, graph.NodeTypePow, graph.NodeTypeDotGeneral, graph.NodeTypeConvGeneral,
	graph.NodeTypeExp, graph.NodeTypeLog, graph.NodeTypeLog1p, graph.NodeTypeSqrt,
}

// ownRules are GoMLX's rules of the operations that are corrected.
var ownRules = map[graph.NodeType]graph.VJP{}

// CorrectComplexGradients makes GoMLX's gradients of complex numbers right in the whole process, for models with an FFT and weights for
// its modes: those of products (Mul, DotGeneral, Einsum, convolutions), quotients, powers and analytic functions, of an FFT over several
// axes at once, and of Complex with one part a scalar. GoMLX v0.28 has the first two wrong, without an error, and fails at the last. All
// gradients of real numbers stay what they are, bit for bit.
//
// Call it once, before a model is built. It changes graph.VJPRegistration, which GoMLX has no lock for; further calls change nothing.
//
// GoMLX's cotangent of z is dL/d(Re z) + i dL/d(Im z), the direction of steepest ascent, as what it does for Real, Imag, Abs and Complex
// says. So that of x is conj(f'(x)) times that of y = f(x), and of a linear map the conjugate transpose.
func CorrectComplexGradients() {
	for _, operation := range analytic {
		correct(operation, conjugated)
	}
	correct(graph.NodeTypeFFT, fftGradient)
	correct(graph.NodeTypeComplex, complexGradient)
}

// correct replaces GoMLX's rule of an operation by one that is made of it.
func correct(operation graph.NodeType, corrected func(own graph.VJP) graph.VJP) {
	own := ownRules[operation]
	if own == nil {
		own = graph.VJPRegistration[operation]
		ownRules[operation] = own
	}
	graph.VJPRegistration[operation] = corrected(own)
}

// ownRule is GoMLX's rule of an operation, corrected or not.
func ownRule(operation graph.NodeType) graph.VJP {
	if own := ownRules[operation]; own != nil {
		return own
	}
	return graph.VJPRegistration[operation]
}

// conjugated uses that conj(f') v = conj(f' conj(v)).
func conjugated(own graph.VJP) graph.VJP {
	return func(node *graph.Node, v []*graph.Node, shape shapes.Shape) []*graph.Node {
		if !node.DType().IsComplex() {
			return own(node, v, shape)
		}
		cotangents := own(node, []*graph.Node{graph.Conj(v[0])}, shape)
		for i, cotangent := range cotangents {
			cotangents[i] = graph.Conj(cotangent)
		}
		return cotangents
	}
}

// fftGradient is the conjugate transpose of a transform over several axes, where GoMLX transforms back along the last alone.
func fftGradient(own graph.VJP) graph.VJP {
	return func(node *graph.Node, v []*graph.Node, shape shapes.Shape) []*graph.Node {
		lengths := integers(node, "fftLength")
		if len(lengths) == 1 {
			return own(node, v, shape)
		}
		cells := 1
		for _, length := range lengths {
			cells *= length
		}
		last := lengths[len(lengths)-1]
		switch kind := setting(node, "fftType"); kind {
		case "Forward":
			return []*graph.Node{graph.MulScalar(graph.InverseFFT(v[0], lengths...), float64(cells))}
		case "Inverse":
			return []*graph.Node{graph.DivScalar(graph.FFT(v[0], lengths...), float64(cells))}
		case "ForwardReal": // of a transform whose other half is dropped
			dimensions := v[0].Shape().Clone().Dimensions
			dimensions[len(dimensions)-1] = last - dimensions[len(dimensions)-1]
			dropped := graph.Zeros(v[0].Graph(), shapes.Make(v[0].DType(), dimensions...))
			whole := graph.InverseFFT(graph.Concatenate([]*graph.Node{v[0], dropped}, -1), lengths...)
			return []*graph.Node{graph.MulScalar(graph.Real(whole), float64(cells))}
		case "InverseReal": // which adds the other half, the conjugates of what has any
			half := graph.RealFFT(v[0], lengths...)
			count := make([]float64, last/2+1)
			for k := range count {
				count[k] = 2 / float64(cells)
				if k == 0 || 2*k == last {
					count[k] = 1 / float64(cells)
				}
			}
			return []*graph.Node{graph.Mul(half, graph.ExpandLeftToRank(graph.ConstAs(half, count), half.Rank()))}
		default:
			unsupported(node, "GoMLX prints its kind as "+kind)
			return nil
		}
	}
}

// complexGradient sums over what a scalar part is the part of.
func complexGradient(own graph.VJP) graph.VJP {
	return func(node *graph.Node, v []*graph.Node, shape shapes.Shape) []*graph.Node {
		parts := own(node, v, shape)
		for i, input := range node.Inputs() {
			if input.IsScalar() {
				parts[i] = graph.ReduceAllSum(parts[i])
			}
		}
		return parts
	}
}
