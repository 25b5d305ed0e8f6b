package audit

import (
	"errors"
	"fmt"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/network"
)

// forwardErrors compares the model's outputs over an orbit with the moved targets and with its own moved outputs, and pictures some where that is asked for.
// outputs is the number that the model has for a sample.
func (a *Auditor) forwardErrors(o *orbit, at Moment) (rows []ErrorRow, pictures []PictureRow, outputs int, err error) {
	var predictions, moved []*tensors.Tensor // f(g.x), g.f(x)
	defer func() { err = errors.Join(err, freeAll(predictions...), freeAll(moved...)) }()
	for i, input := range o.inputs {
		output, err := a.network.With(o.further[i]...).Predict(input)
		if err != nil {
			return nil, nil, 0, cause.In("audit", err)
		}
		predictions = append(predictions, output)
		switch shape := output.Shape(); {
		case !a.config.invariant && !shape.Equal(o.targets[i].Shape()):
			return nil, nil, 0, fmt.Errorf("audit: the model maps %s to %s and its targets are %s; both must be the same, and declared if they are no states like the input (WithOutputField, WithInvariantOutput)", input.Shape(), shape, o.targets[i].Shape())
		case shape.Rank() == 0 || shape.Dimensions[0] != len(o.samples) || shape.DType != input.DType():
			return nil, nil, 0, fmt.Errorf("audit: the model maps %s to %s; it must return an output for each sample, [n, ...], in the precision of its input", input.Shape(), shape)
		}
	}
	if !a.config.invariant {
		if moved, err = o.move(o.act, predictions[0]); err != nil {
			return nil, nil, 0, err
		}
	}
	identity, err := a.targetErrors(o, 0, predictions[0])
	if err != nil {
		return nil, nil, 0, err
	}
	var persistence []float64
	if !a.config.invariant && a.config.output == nil {
		if persistence, err = a.compare(o, o.targets[0], o.inputs[0]); err != nil {
			return nil, nil, 0, err
		}
	}
	symmetrized, err := a.symmetrizedErrors(o, predictions)
	if err != nil {
		return nil, nil, 0, err
	}
	rows = make([]ErrorRow, 0, len(o.elements)*len(o.samples))
	for i, element := range o.elements {
		target, err := a.targetErrors(o, i, predictions[i])
		if err != nil {
			return nil, nil, 0, err
		}
		from := predictions[0] // what no element changes
		if !a.config.invariant {
			from = moved[i]
		}
		commutator, err := a.compare(o, from, predictions[i])
		if err != nil {
			return nil, nil, 0, err
		}
		shift := element.Shift()
		for n, sample := range o.samples {
			row := ErrorRow{
				Moment: at, Sample: int32(n), Class: sample.Class, Trajectory: sample.Trajectory, TimeIndex: sample.TimeIndex,
				Batch: int32(n / o.batchSize), BatchSize: int32(o.batchSize),
				GroupName: o.group.Name, Element: element.Name(), ShiftZ: shift.Z, ShiftY: shift.Y, ShiftX: shift.X,
				TargetError: target[n], CommutatorError: commutator[n],
				IdentityError: identity[n],
			}
			if persistence != nil {
				row.PersistenceError = &persistence[n]
			}
			if symmetrized != nil {
				row.SymmetrizedError = &symmetrized[n]
			}
			rows = append(rows, row)
		}
	}
	pictures, err = a.pictures(o, rows, predictions, moved)
	return rows, pictures, predictions[0].Size() / len(o.samples), err
}

// symmetrizedErrors are those of the mean of g^-1.f(g.x) over a group, nil where its elements change more than the places of values: otherwise
//
//	mean over g of SMSE(f(g.x), g.y) = SMSE(mean over g of g^-1.f(g.x), y) + spread of g^-1.f(g.x) around its mean,
//
// for SMSE is a weighted square whose weights move with the channels.
func (a *Auditor) symmetrizedErrors(o *orbit, predictions []*tensors.Tensor) (errors []float64, err error) {
	if o.mean == nil {
		return nil, nil
	}
	args := make([]any, len(predictions))
	for i, prediction := range predictions {
		args[i] = prediction
	}
	outputs, err := o.mean.Call(args...)
	if err != nil {
		return nil, cause.In("audit", err)
	}
	if errors, err = a.compare(o, o.targets[0], outputs[0]); err != nil {
		return nil, err
	}
	return errors, freeAll(outputs...)
}

// targetErrors are those of the model's outputs at the samples moved by element e: SMSE, or the loss where the output is invariant.
func (a *Auditor) targetErrors(o *orbit, e int, prediction *tensors.Tensor) ([]float64, error) {
	if !a.config.invariant {
		return a.compare(o, o.targets[e], prediction)
	}
	values := make([]float64, len(o.samples))
	for i := range values {
		var err error
		if values[i], err = a.loss(o, e, i); err != nil {
			return nil, cause.In("audit", err)
		}
	}
	return values, nil
}

// loss is that of one sample moved by element e.
func (a *Auditor) loss(o *orbit, e, sample int) (loss float64, err error) {
	one, err := o.states(e, sample, sample+1)
	if err != nil {
		return 0, err
	}
	defer one.freeAfter(&err)
	return a.network.With(one.further...).Loss(one.x, one.labels...)
}

// compare returns the distance of each sample's states or outputs.
func (a *Auditor) compare(o *orbit, target, prediction *tensors.Tensor) ([]float64, error) {
	args := []any{target, prediction}
	if !a.config.invariant {
		args = append(args, o.units)
	}
	var outputs []*tensors.Tensor
	err := exceptions.TryCatch[error](func() { outputs = a.distance.MustCall(args...) })
	if err != nil {
		return nil, cause.In("audit", err)
	}
	values, err := network.Values(outputs[0])
	if err != nil {
		return nil, cause.In("audit", err)
	}
	return values, nil
}

// freeAll frees tensors, of which some may be nil.
func freeAll(all ...*tensors.Tensor) error {
	var err error
	for _, t := range all {
		if t != nil {
			err = errors.Join(err, t.FinalizeAll())
		}
	}
	if err != nil {
		return cause.In("audit", err)
	}
	return nil
}
