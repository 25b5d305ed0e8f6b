package audit

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/solver"
)

// forwardErrors compares the model's outputs over an orbit with the moved targets and with its own moved outputs.
func (a *Auditor) forwardErrors(o *orbit, at Moment) ([]ErrorRow, error) {
	predictions := make([]*tensors.Tensor, len(o.elements)) // f(g.x)
	for i, input := range o.inputs {
		output, err := a.network.With(o.further...).Predict(input)
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		switch shape := output.Shape(); {
		case !a.config.invariant && !shape.Equal(o.targets[i].Shape()):
			return nil, fmt.Errorf("audit: the model maps %s to %s and its targets are %s; both must be the same, and declared if they are no states like the input (WithOutputField, WithInvariantOutput)", input.Shape(), shape, o.targets[i].Shape())
		case shape.Rank() == 0 || shape.Dimensions[0] != len(o.samples) || shape.DType != input.DType():
			return nil, fmt.Errorf("audit: the model maps %s to %s; it must return an output for each sample, [n, ...], in the precision of its input", input.Shape(), shape)
		}
		predictions[i] = output
	}
	a.outputs = predictions[0].Size() / len(o.samples)
	moved := slices.Repeat(predictions[:1], len(o.elements)) // g.f(x)
	if !a.config.invariant {
		var err error
		if moved, err = o.move(o.act, predictions[0]); err != nil {
			return nil, err
		}
	}
	identity, err := a.targetErrors(o, 0, predictions[0])
	if err != nil {
		return nil, err
	}
	var persistence []float64
	if !a.config.invariant && a.config.output == nil {
		if persistence, err = a.compare(o.targets[0], o.inputs[0]); err != nil {
			return nil, err
		}
	}
	rows := make([]ErrorRow, 0, len(o.elements)*len(o.samples))
	for i, element := range o.elements {
		target, err := a.targetErrors(o, i, predictions[i])
		if err != nil {
			return nil, err
		}
		commutator, err := a.compare(moved[i], predictions[i])
		if err != nil {
			return nil, err
		}
		dy, dx := element.Shift()
		for n, sample := range o.samples {
			row := ErrorRow{
				Moment: at, Class: sample.Class, Trajectory: sample.Trajectory, TimeIndex: sample.TimeIndex,
				GroupName: o.group.Name, Element: element.Name(), ShiftY: dy, ShiftX: dx,
				TargetError: target[n], CommutatorError: commutator[n],
				IdentityError: identity[n],
			}
			if persistence != nil {
				row.PersistenceError = &persistence[n]
			}
			rows = append(rows, row)
		}
	}
	if a.config.invariant {
		moved = nil // they are predictions
	}
	for _, output := range append(predictions, moved...) {
		if err := output.FinalizeAll(); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return rows, nil
}

// targetErrors are those of the model's outputs at the samples moved by element e: SMSE, or the loss where the output is invariant.
func (a *Auditor) targetErrors(o *orbit, e int, prediction *tensors.Tensor) ([]float64, error) {
	if !a.config.invariant {
		return a.compare(o.targets[e], prediction)
	}
	errors := make([]float64, len(o.samples))
	for i := range errors {
		one, err := o.states(e, i, i+1)
		if err != nil {
			return nil, err
		}
		if errors[i], err = a.network.With(one.further...).Loss(one.x, one.y); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		if err := one.free(); err != nil {
			return nil, err
		}
	}
	return errors, nil
}

// compare returns the distance of each sample's states or outputs.
func (a *Auditor) compare(target, prediction *tensors.Tensor) ([]float64, error) {
	var outputs []*tensors.Tensor
	err := exceptions.TryCatch[error](func() { outputs = a.distance.MustCall(target, prediction) })
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	values, err := solver.Values(outputs[0])
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return values, nil
}
