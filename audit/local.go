package audit

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/graph"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// localErrors are those of the samples of an orbit under each generator of its group: with J the Jacobian of the model f in its input, the square of
//
//	d/dt g(-t).f(g(t).x) = J xi x - xi f(x)   at t = 0,   xi x = d/dt g(t).x,
//
// in the units of the commutator error, which for a small t is t^2 times as much: the Lie derivative of the model (Gruver, Finzi, Goldblum and Wilson, The Lie
// Derivative for Measuring Learned Equivariance, 2022), by one product of forward mode.
func (a *Auditor) localErrors(o *orbit, at Moment) (rows []LocalErrorRow, err error) {
	for _, generator := range o.generators {
		for batch := range o.batches() {
			found, err := a.localErrorsOf(o, generator, batch)
			if err != nil {
				return nil, fmt.Errorf("audit: group %s, %s: %w", o.group.Name, generator.Name(), cause.Of(err))
			}
			for n, value := range found {
				sample := o.samples[batch*o.batchSize+n]
				rows = append(rows, LocalErrorRow{
					Moment: at, Sample: int32(batch*o.batchSize + n), Class: sample.Class, Trajectory: sample.Trajectory, TimeIndex: sample.TimeIndex,
					GroupName: o.group.Name, Generator: generator.Name(), LocalError: value,
				})
			}
		}
	}
	return rows, nil
}

func (a *Auditor) localErrorsOf(o *orbit, generator orbits.Generator, batch int) (found []float64, err error) {
	s, err := o.states(0, batch*o.batchSize, (batch+1)*o.batchSize)
	if err != nil {
		return nil, err
	}
	defer s.freeAfter(&err)
	rates := func(inputs []*graph.Node) []*graph.Node {
		all := []*graph.Node{generator.Apply(a.config.field, inputs[0])}
		for i, input := range inputs[1:] {
			rate := (*graph.Node)(nil)
			if o.moves[i] {
				rate = onCells(a.config.field, input, inputs[0].Rank(), func(of orbits.Field, whole *graph.Node) *graph.Node {
					cells, _ := generator.Cells()
					return cells.Apply(of, whole)
				})
			}
			all = append(all, rate)
		}
		return all
	}
	square := func(output, rate *graph.Node) *graph.Node {
		if a.config.invariant {
			return relativeSquare(output, rate)
		}
		rate = graph.Sub(rate, generator.ApplyOutput(o.output, output))
		return scaledSquare(output, rate, graph.ConstAsDType(output.Graph(), output.DType(), o.scales))
	}
	errors, err := a.network.With(s.further...).AlongInputs(o.group.Name+"/"+generator.Name(), s.x, rates, square)
	if err != nil {
		return nil, err
	}
	return network.Values(errors)
}

// onCells applies what moves scalars on the grid to an input beside states of so many axes, with or without channels of its own.
func onCells(field orbits.Field, x *graph.Node, rank int, apply func(of orbits.Field, x *graph.Node) *graph.Node) *graph.Node {
	whole := x
	if x.Rank() < rank {
		whole = graph.InsertAxes(x, -1)
	}
	of := orbits.Field{Channels: make([]string, whole.Shape().Dim(-1)), RowDown: field.RowDown}
	return graph.Reshape(apply(of, whole), x.Shape().Dimensions...)
}

// checkGenerators refuses local errors of groups that have no generators, and of inputs that cannot change at a rate.
func (a *Auditor) checkGenerators() error {
	if !a.config.local {
		return nil
	}
	if !slices.ContainsFunc(a.orbits, func(o *orbit) bool { return len(o.generators) > 0 }) {
		var names []string
		for _, o := range a.orbits {
			names = append(names, o.group.Name)
		}
		return &SettingError{"local_errors", fmt.Sprintf("is asked for, and no group has elements near the identity (%v): add translations, boosts or scalings, or leave it out", names)}
	}
	for _, o := range a.orbits {
		for i, moves := range o.moves {
			if !moves || len(o.generators) == 0 {
				continue
			}
			if further := o.further[0][i]; !further.DType().IsFloat() {
				return &SettingError{"local_errors", fmt.Sprintf("is asked for, and group %s moves the further input %d, which is %s, by fractions of a cell: give it as float32", o.group.Name, i, further.Shape())}
			}
			for _, generator := range o.generators {
				if _, ok := generator.Cells(); !ok {
					return &SettingError{"local_errors", fmt.Sprintf("is asked for, and how the generator %s of your own moves the further input %d, scalars on the grid, is not known: make it channels of the states", generator.Name(), i)}
				}
			}
		}
	}
	return nil
}
