package models

import (
	"math"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// varianceFloor keeps the normalisation layers finite where a group of channels is constant.
const varianceFloor = 1e-5

// groupNorm normalises x [batch, space..., channel] to mean 0 and variance 1 over the grid and each of groups equal runs of
// channels, sample by sample, then applies a learned gain and bias per channel (Wu and He 2018). GoMLX has none.
func groupNorm(scope *model.Scope, x *graph.Node, groups int) *graph.Node {
	dimensions := x.Shape().Dimensions
	return inFloat32(x, func(x *graph.Node) *graph.Node {
		split := graph.Reshape(x, dimensions[0], -1, groups, channelsOf(x)/groups)
		return gainAndBias(scope, graph.Reshape(standardize(split, 1, 3), dimensions...))
	})
}

// layerNorm normalises each token of x [batch, token, channel] over its channels (Ba et al. 2016).
func layerNorm(scope *model.Scope, x *graph.Node) *graph.Node {
	return inFloat32(x, func(x *graph.Node) *graph.Node { return gainAndBias(scope, standardize(x, -1)) })
}

func standardize(x *graph.Node, axes ...int) *graph.Node {
	centred := graph.Sub(x, graph.ReduceAndKeep(x, graph.ReduceMean, axes...))
	variance := graph.ReduceAndKeep(graph.Mul(centred, centred), graph.ReduceMean, axes...)
	return graph.Div(centred, graph.Sqrt(graph.AddScalar(variance, varianceFloor))) // GoMLX cannot differentiate Rsqrt
}

func gainAndBias(scope *model.Scope, x *graph.Node) *graph.Node {
	channels := channelsOf(x)
	gain := variable(scope, x, "gain", constant(1), channels)
	bias := variable(scope, x, "bias", constant(0), channels)
	return graph.Add(graph.Mul(x, alongChannels(gain, x)), alongChannels(bias, x))
}

// addBiases adds a learned bias to each channel, whose gradient is a sum over all cells.
func addBiases(scope *model.Scope, y *graph.Node) *graph.Node {
	return inFloat32(y, func(y *graph.Node) *graph.Node {
		return graph.Add(y, alongChannels(variable(scope, y, "biases", constant(0), channelsOf(y)), y))
	})
}

// silu is x sigmoid(x).
func silu(x *graph.Node) *graph.Node { return graph.Mul(x, graph.Sigmoid(x)) }

// gelu is x times the normal distribution function of x. GoMLX's own may become one fused node, which forward-mode
// differentiation would have to know.
func gelu(x *graph.Node) *graph.Node {
	return graph.Mul(x, graph.MulScalar(graph.AddScalar(graph.Erf(graph.MulScalar(x, math.Sqrt2/2)), 1), 0.5))
}

// softmax is taken over the last axis, from elementary operations for the reason given at gelu.
func softmax(x *graph.Node) *graph.Node {
	return inFloat32(x, func(x *graph.Node) *graph.Node {
		// The maximum only guards against overflow: the result does not depend on it, hence neither does the gradient.
		largest := graph.StopGradient(graph.ReduceAndKeep(x, graph.ReduceMax, -1))
		exponentials := graph.Exp(graph.Sub(x, largest))
		return graph.Div(exponentials, graph.ReduceAndKeep(exponentials, graph.ReduceSum, -1))
	})
}

// dense maps the last axis of x to outChannels, with a bias. Initial weights keep the variance of x, times scale^2.
func dense(scope *model.Scope, x *graph.Node, outChannels int, scale float64) *graph.Node {
	inChannels := channelsOf(x)
	weights := variable(scope, x, "weights", normal(scale/math.Sqrt(float64(inChannels))), inChannels, outChannels)
	return addBiases(scope, product(x, weights))
}

// selfAttention lets the tokens of x [batch, token, channel] attend to each other, without any notion of position
// (Vaswani et al. 2017). The channels are divided among heads.
func selfAttention(scope *model.Scope, x *graph.Node, heads int) *graph.Node {
	batch, tokens, channels := x.Shape().Dimensions[0], x.Shape().Dimensions[1], x.Shape().Dimensions[2]
	projected := dense(scope.In("query_key_value"), x, 3*channels, 1)
	projected = graph.Reshape(projected, batch, tokens, 3, heads, channels/heads)
	parts := graph.Split(graph.TransposeAllAxes(projected, 2, 0, 3, 1, 4), 0, 3)
	for i := range parts {
		parts[i] = graph.Reshape(parts[i], batch, heads, tokens, channels/heads)
	}
	query, key, value := parts[0], parts[1], parts[2]
	query = graph.MulScalar(query, 1/math.Sqrt(float64(channels/heads)))
	weights := softmax(graph.Einsum("bhqc,bhkc->bhqk", query, key))
	mixed := graph.Einsum("bhqk,bhkc->bhqc", weights, value)
	mixed = graph.Reshape(graph.TransposeAllAxes(mixed, 0, 2, 1, 3), batch, tokens, channels)
	return dense(scope.In("output"), mixed, channels, 1)
}
