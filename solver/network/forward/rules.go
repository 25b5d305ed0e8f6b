package forward

import (
	"github.com/gomlx/gomlx/core/graph"
)

// rule returns the tangent of a node from its inputs and their tangents, of which one at least is not nil; nil is zero.
// Of an operation with several outputs, node is the one wanted and inputs are the operation's.
type rule func(node *graph.Node, inputs, tangents []*graph.Node) *graph.Node

// ruleOf returns the rule of an operation, nil for one that this package has never heard of.
func ruleOf(operation graph.NodeType) rule {
	switch operation {

	// Constant wherever they are differentiable, or not of a float type.
	case graph.NodeTypeCeil, graph.NodeTypeFloor, graph.NodeTypeRound, graph.NodeTypeSign, graph.NodeTypeIota,
		graph.NodeTypeConstant, graph.NodeTypeParameter, graph.NodeTypeRNGBitGenerator, graph.NodeTypeArgMinMax,
		graph.NodeTypeBitCount, graph.NodeTypeBitwiseAnd, graph.NodeTypeBitwiseNot, graph.NodeTypeBitwiseOr,
		graph.NodeTypeBitwiseXor, graph.NodeTypeClz, graph.NodeTypeDynamicDimensionSize, graph.NodeTypeDynamicShape,
		graph.NodeTypeEqual, graph.NodeTypeEqualTotalOrder, graph.NodeTypeNotEqual, graph.NodeTypeNotEqualTotalOrder,
		graph.NodeTypeGreaterOrEqual, graph.NodeTypeGreaterOrEqualTotalOrder, graph.NodeTypeGreaterThan,
		graph.NodeTypeGreaterThanTotalOrder, graph.NodeTypeLessOrEqual, graph.NodeTypeLessOrEqualTotalOrder,
		graph.NodeTypeLessThan, graph.NodeTypeLessThanTotalOrder, graph.NodeTypeIsFinite, graph.NodeTypeIsNaN,
		graph.NodeTypeLogicalAnd, graph.NodeTypeLogicalNot, graph.NodeTypeLogicalOr, graph.NodeTypeLogicalXor,
		graph.NodeTypeReduceBitwiseAnd, graph.NodeTypeReduceBitwiseOr, graph.NodeTypeReduceBitwiseXor,
		graph.NodeTypeReduceLogicalAnd, graph.NodeTypeReduceLogicalOr, graph.NodeTypeReduceLogicalXor,
		graph.NodeTypeShiftLeft, graph.NodeTypeShiftRightArithmetic, graph.NodeTypeShiftRightLogical:
		return zero

	case graph.NodeTypeAdd:
		return sum
	case graph.NodeTypeSub:
		return difference
	case graph.NodeTypeNeg, graph.NodeTypeConvertDType, graph.NodeTypeConcatenate, graph.NodeTypeReshape,
		graph.NodeTypeTranspose, graph.NodeTypeBroadcastInDim, graph.NodeTypeSlice, graph.NodeTypeReverse,
		graph.NodeTypeReduceSum, graph.NodeTypePad, graph.NodeTypeReal, graph.NodeTypeImag, graph.NodeTypeConj,
		graph.NodeTypeComplex, graph.NodeTypeFFT:
		return linearInAll
	case graph.NodeTypeDynamicReshape, graph.NodeTypeDynamicSlice, graph.NodeTypeGather:
		return linearInFirst
	case graph.NodeTypeDynamicUpdateSlice:
		return linearInFirstTwo
	case graph.NodeTypeScatterSum:
		return scatterSum
	case graph.NodeTypeSelectAndScatterMax, graph.NodeTypeSelectAndScatterMin:
		return selectAndScatter
	case graph.NodeTypeWhere:
		return where
	case graph.NodeTypeIdentity, graph.NodeTypeSchedulingBarrier:
		return same
	case graph.NodeTypeOptimizationBarrier:
		return sameIndex
	case graph.NodeTypeMul, graph.NodeTypeDotGeneral, graph.NodeTypeConvGeneral:
		return bilinear

	case graph.NodeTypeExp, graph.NodeTypeLog, graph.NodeTypeLog1p, graph.NodeTypeCos, graph.NodeTypeSin,
		graph.NodeTypeTanh, graph.NodeTypeSqrt, graph.NodeTypeErf, graph.NodeTypeLogistic:
		return elementwise
	case graph.NodeTypeExpm1:
		return exponentialMinusOne
	case graph.NodeTypeRsqrt:
		return inverseSquareRoot
	case graph.NodeTypeAbs:
		return absolute
	case graph.NodeTypeDiv:
		return quotient
	case graph.NodeTypePow:
		return power
	case graph.NodeTypeRem:
		return remainder
	case graph.NodeTypeAtan2:
		return arcTangent2
	case graph.NodeTypeMax, graph.NodeTypeMin:
		return extreme
	case graph.NodeTypeClamp:
		return clamp

	case graph.NodeTypeReduceMax, graph.NodeTypeReduceMin:
		return reduceExtreme
	case graph.NodeTypeReduceProduct:
		return reduceProduct
	case graph.NodeTypeReduceWindow:
		return reduceWindow
	case graph.NodeTypeScatterMax, graph.NodeTypeScatterMin:
		return scatterExtreme
	case graph.NodeTypeBatchNormForInference:
		return batchNormForInference
	case graph.NodeTypeBatchNormForTraining:
		return batchNormForTraining

	case graph.NodeTypeFusedSoftmax:
		return fusedSoftmax
	case graph.NodeTypeFusedGelu:
		return fusedGelu
	case graph.NodeTypeFusedLayerNorm:
		return fusedLayerNorm
	case graph.NodeTypeFusedDense:
		return fusedDense
	case graph.NodeTypeFusedAttentionQKVProjection:
		return fusedProjection

	case graph.NodeTypeInvalid, graph.NodeTypeSplitNode: // SplitNode is looked through
		return refuse("it is no operation")
	case graph.NodeTypeWhile, graph.NodeTypeIf, graph.NodeTypeCall:
		return refuse("control flow is not followed; unroll it")
	case graph.NodeTypeSort:
		return refuse("GoMLX has no derivative of it either; gather by the sorted indices instead")
	case graph.NodeTypeBatchNormGradient:
		return refuse("it is a gradient itself, and second derivatives of a batch norm in training are not followed")
	case graph.NodeTypeFusedScaledDotProductAttention, graph.NodeTypeFusedScaledDotProductAttentionVJP:
		return refuse(fusedAttention)
	case graph.NodeTypeFusedQuantizedDense, graph.NodeTypeQuantizedEmbeddingLookup:
		return refuse("quantised numbers are not differentiable")
	case graph.NodeTypeBitcast:
		return refuse("it reads floats as bits")
	case graph.NodeTypeAllReduce:
		return refuse("distributed graphs are not followed")
	}
	return nil
}

// fusedAttention exists in half precision on CUDA only. It hides mask and bias, so it cannot be taken apart.
const fusedAttention = "it shows neither mask nor bias; set " + graph.FusionEnv + "=0"

// refuse names the operation when it is met, not before: one that no tangent reaches does no harm.
func refuse(reason string) rule {
	return func(node *graph.Node, _, _ []*graph.Node) *graph.Node {
		op, _ := source(node)
		unsupported(op, reason)
		return nil
	}
}
