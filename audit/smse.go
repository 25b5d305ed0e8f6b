package audit

import (
	"github.com/gomlx/gomlx/core/graph"
)

// smseFloor keeps a channel that is zero throughout from dividing by zero; it is a share of the channel's unit.
const smseFloor = 1e-6

// SMSE is the scaled mean squared error of each sample,
//
//	SMSE = mean over the grid and c of ((prediction - target) / scale_c)^2,   scale_c = sqrt(mean over the grid of target^2) + 1e-6 unit_c,
//
// shaped [batch] for states [batch, grid..., channel]; of states without a grid, [batch, channel], scale_c is of all channels in their units.
// It is dimensionless, the same in any units of the data, and invariant when one symmetry that permutes grid points and channels, up to signs,
// acts on both states: each scale moves with its channel. unit_c is the largest magnitude of the channel in the batch, or, of a channel that
// is zero throughout, of all. An audit takes it from all the probes of a group instead, and the largest for the components of a vector.
//
// The paper adds 1e-6 itself, in the units of its data, which are of order one: for data of another order that floor
// would be most of the scale, or nothing.
func SMSE(target, prediction *graph.Node) *graph.Node {
	return smse(target, prediction, unitsOf(target))
}

// smse is SMSE with the unit of each channel, [channel].
func smse(target, prediction, units *graph.Node) *graph.Node {
	return scaledSquare(target, graph.Sub(prediction, target), units)
}

// scaledSquare is smse of a difference from a target.
func scaledSquare(target, difference, units *graph.Node) *graph.Node {
	units = graph.ExpandLeftToRank(units, target.Rank())
	all := axes(1, target.Rank())
	grid := all[:max(1, len(all)-1)]
	rms := graph.Sqrt(graph.ReduceAndKeep(graph.Square(graph.Div(target, units)), graph.ReduceMean, grid...))
	difference = graph.Div(difference, units)
	return graph.ReduceMean(graph.Square(graph.Div(difference, graph.AddScalar(rms, smseFloor))), all...)
}

// axes are those from one to before another.
func axes(from, to int) (all []int) {
	for axis := from; axis < to; axis++ {
		all = append(all, axis)
	}
	return all
}

// unitsOf are the largest magnitudes of the channels of states [batch, ..., channel], none of them zero.
func unitsOf(states *graph.Node) *graph.Node {
	each := graph.ReduceMax(graph.Abs(states), axes(0, states.Rank()-1)...)
	all := graph.ReduceAllMax(each)
	all = graph.Where(graph.IsZero(all), graph.OnesLike(all), all)
	return graph.Where(graph.IsZero(each), graph.BroadcastToShape(all, each.Shape()), each)
}

// relativeChange is the squared change of each sample's outputs together, relative to their own square, shaped [batch]. Its
// floor is 1e-6 of the largest finite output.
func relativeChange(from, to *graph.Node) *graph.Node {
	return relativeSquare(from, graph.Sub(to, from))
}

// relativeSquare is relativeChange of a change.
func relativeSquare(from, change *graph.Node) *graph.Node {
	sum := func(x *graph.Node) *graph.Node {
		if x.Rank() == 1 {
			return graph.Square(x)
		}
		return graph.ReduceSum(graph.Square(x), axes(1, x.Rank())...)
	}
	largest := graph.ReduceAllMax(graph.Where(graph.IsFinite(from), graph.Abs(from), graph.ZerosLike(from)))
	unit := graph.Where(graph.IsZero(largest), graph.OnesLike(largest), largest)
	unit = graph.BroadcastToShape(unit, from.Shape())
	return graph.Div(sum(graph.Div(change, unit)), graph.AddScalar(sum(graph.Div(from, unit)), smseFloor*smseFloor))
}

// Loss is SMSE averaged over the batch, as a loss for GoMLX's trainer: one label and one prediction.
func Loss(labels, predictions []*graph.Node) *graph.Node {
	return graph.ReduceAllMean(SMSE(labels[0], predictions[0]))
}
