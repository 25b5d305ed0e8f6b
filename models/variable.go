package models

import (
	"hash/fnv"
	"math/rand/v2"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
)

// distribution draws one element of a new variable.
type distribution func(source *rand.Rand) float64

func constant(value float64) distribution {
	return func(*rand.Rand) float64 { return value }
}

func normal(deviation float64) distribution {
	return func(source *rand.Rand) float64 { return deviation * source.NormFloat64() }
}

// variable returns the value of a trainable variable in x's dtype, creating it when scope has none of this name. It is of that dtype itself, and of float32
// for an x of bfloat16: in bfloat16 a weight would not change by less than its 256th part.
//
// New values are drawn on the host, from the store's model.ParamInitialSeed and the variable's path. Unlike GoMLX's
// initializers they are then the same on every backend, up to rounding the same in float32 and float64, and independent
// of the order of creation; and XLA need not compile a random number generator per variable, which takes it seconds.
func variable(scope *model.Scope, x *graph.Node, name string, initial distribution, dimensions ...int) *graph.Node {
	dtype := x.DType()
	if dtype == dtypes.BFloat16 {
		dtype = dtypes.Float32
	}
	shape := shapes.Make(dtype, dimensions...)
	draw := func() *tensors.Tensor { return drawTensor(scope, name, initial, shape) }
	if scope.GetVariable(name) == nil {
		scope.VariableWithValue(name, draw())
	}
	// The initializer serves Variable.Reset.
	scope = scope.WithInitializer(func(g *graph.Graph, _ shapes.Shape) *graph.Node { return graph.ConstTensor(g, draw()) })
	return graph.ConvertDType(scope.VariableWithShape(name, shape).NodeValue(x), x.DType())
}

func drawTensor(scope *model.Scope, name string, initial distribution, shape shapes.Shape) *tensors.Tensor {
	seed := uint64(model.GetParamOr(scope, model.ParamInitialSeed, int64(0)))
	if seed == 0 { // GoMLX's value for "not reproducible"
		seed = rand.Uint64()
	}
	path := fnv.New64a()
	path.Write([]byte(model.JoinPath(scope.Scope(), name)))
	source := rand.New(rand.NewPCG(seed, path.Sum64()))
	if shape.DType == dtypes.Float64 {
		return tensors.FromFlatDataAndDimensions(drawValues[float64](source, initial, shape.Size()), shape.Dimensions...)
	}
	return tensors.FromFlatDataAndDimensions(drawValues[float32](source, initial, shape.Size()), shape.Dimensions...)
}

func drawValues[T float32 | float64](source *rand.Rand, initial distribution, size int) []T {
	values := make([]T, size)
	for i := range values {
		values[i] = T(initial(source))
	}
	return values
}
