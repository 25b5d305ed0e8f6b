package audit

import (
	"github.com/gomlx/gomlx/core/graph"
)

// smseFloor keeps a channel that is zero throughout from dividing by zero.
const smseFloor = 1e-6

// SMSE is the scaled mean squared error of each sample,
//
//	SMSE = mean over y, x, c of ((prediction - target) / RMS_c)^2,   RMS_c = sqrt(mean over y, x of target^2) + 1e-6,
//
// shaped [batch] for states [batch, y, x, channel]. It is dimensionless, and invariant when one symmetry that permutes
// grid points and channels, up to signs, acts on both states: each scale moves with its channel.
func SMSE(target, prediction *graph.Node) *graph.Node {
	rms := graph.AddScalar(graph.Sqrt(graph.ReduceAndKeep(graph.Square(target), graph.ReduceMean, 1, 2)), smseFloor)
	return graph.ReduceMean(graph.Square(graph.Div(graph.Sub(prediction, target), rms)), 1, 2, 3)
}

// relativeChange is the squared change of each sample's outputs together, relative to their own square, shaped [batch].
func relativeChange(from, to *graph.Node) *graph.Node {
	var axes []int
	for axis := 1; axis < from.Rank(); axis++ {
		axes = append(axes, axis)
	}
	sum := func(x *graph.Node) *graph.Node {
		if len(axes) == 0 {
			return graph.Square(x)
		}
		return graph.ReduceSum(graph.Square(x), axes...)
	}
	return graph.Div(sum(graph.Sub(to, from)), graph.AddScalar(sum(from), smseFloor*smseFloor))
}

// Loss is SMSE averaged over the batch, as a loss for GoMLX's trainer: one label and one prediction.
func Loss(labels, predictions []*graph.Node) *graph.Node {
	return graph.ReduceAllMean(SMSE(labels[0], predictions[0]))
}
