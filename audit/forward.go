package audit

import (
	"fmt"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"
)

// forwardErrors compares the model's outputs over an orbit with the moved targets and with its own moved outputs.
func (a *Auditor) forwardErrors(o *orbit, at Moment) ([]ErrorRow, error) {
	predictions := make([]*tensors.Tensor, len(o.elements)) // f(g.x)
	for i, input := range o.inputs {
		output, err := a.network.Predict(input)
		if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		if !output.Shape().Equal(input.Shape()) {
			return nil, fmt.Errorf("audit: the model maps %s to %s; it must return states of the shape and precision it is given", input.Shape(), output.Shape())
		}
		predictions[i] = output
	}
	moved, err := o.move(predictions[0]) // g.f(x)
	if err != nil {
		return nil, err
	}
	identity, err := a.compare(o.targets[0], predictions[0])
	if err != nil {
		return nil, err
	}
	persistence, err := a.compare(o.targets[0], o.inputs[0])
	if err != nil {
		return nil, err
	}
	rows := make([]ErrorRow, 0, len(o.elements)*len(o.samples))
	for i, element := range o.elements {
		target, err := a.compare(o.targets[i], predictions[i])
		if err != nil {
			return nil, err
		}
		commutator, err := a.compare(moved[i], predictions[i])
		if err != nil {
			return nil, err
		}
		dy, dx := element.Shift()
		for n, sample := range o.samples {
			rows = append(rows, ErrorRow{
				Moment: at, Class: sample.Class, Trajectory: sample.Trajectory, TimeIndex: sample.TimeIndex,
				GroupName: o.group.Name, Element: element.Name(), ShiftY: dy, ShiftX: dx,
				TargetError: target[n], CommutatorError: commutator[n],
				IdentityError: identity[n], PersistenceError: persistence[n],
			})
		}
	}
	for _, output := range append(predictions, moved...) {
		if err := output.FinalizeAll(); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return rows, nil
}

// compare returns the SMSE of each sample.
func (a *Auditor) compare(target, prediction *tensors.Tensor) ([]float64, error) {
	var outputs []*tensors.Tensor
	err := exceptions.TryCatch[error](func() { outputs = a.smse.MustCall(target, prediction) })
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	values := make([]float64, outputs[0].Size())
	switch outputs[0].DType() {
	case dtypes.Float32:
		err = tensors.ConstFlatData(outputs[0], func(flat []float32) {
			for i, value := range flat {
				values[i] = float64(value)
			}
		})
	default:
		err = tensors.ConstFlatData(outputs[0], func(flat []float64) { copy(values, flat) })
	}
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return values, outputs[0].FinalizeAll()
}
