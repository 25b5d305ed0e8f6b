package models

import (
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/orbits"
)

// Normalization gives a network inputs of order one: (u - mean) / scale, channel by channel. Outputs are scaled back.
// The zero value leaves states as they are.
//
// It must not break a symmetry that the model is audited for: the components of a vector need a zero mean and one
// common scale. FitNormalization makes such a one; Validate checks it.
type Normalization struct {
	Mean  []float64 // one per channel, in the state's units; empty: zeros
	Scale []float64 // one per channel, in the state's units, positive; empty: ones
}

// Validate returns an error unless n suits the field: one mean and one positive scale per channel, and for each vector
// zero means and a common scale.
func (n Normalization) Validate(field orbits.Field) error {
	if err := n.validateValues(); err != nil {
		return err
	}
	for name, values := range map[string][]float64{"mean": n.Mean, "scale": n.Scale} {
		if len(values) != 0 && len(values) != len(field.Channels) {
			return fmt.Errorf("models: normalization: %d values of %s for %d channels; give one per channel or none", len(values), name, len(field.Channels))
		}
	}
	for _, vector := range field.Vectors {
		first := vector[0]
		for _, c := range vector {
			if len(n.Mean) > 0 && n.Mean[c] != 0 {
				return fmt.Errorf("models: normalization: mean %v of %s, a component of a vector, breaks rotations; use 0", n.Mean[c], field.Channels[c])
			}
			if len(n.Scale) > 0 && n.Scale[c] != n.Scale[first] {
				return fmt.Errorf("models: normalization: scales %v and %v of %s and %s, components of one vector, break rotations; use one scale for all",
					n.Scale[first], n.Scale[c], field.Channels[first], field.Channels[c])
			}
		}
	}
	return nil
}

// validateValues checks what needs no field.
func (n Normalization) validateValues() error {
	for _, mean := range n.Mean {
		if math.IsNaN(mean) || math.IsInf(mean, 0) {
			return fmt.Errorf("models: normalization: mean %v; means must be finite", mean)
		}
	}
	for _, scale := range n.Scale {
		if !(scale > 0) || math.IsInf(scale, 0) {
			return fmt.Errorf("models: normalization: scale %v; scales must be positive and finite", scale)
		}
	}
	return nil
}

// FitNormalization measures a normalization on states [..., channel] of float32 or float64: mean and standard deviation
// of each scalar; for each vector, zero and the root mean square over all components. A channel without any variation
// gets scale 1.
func FitNormalization(field orbits.Field, states *tensors.Tensor) (Normalization, error) {
	shape, channels := states.Shape(), len(field.Channels)
	if shape.Rank() == 0 || shape.Dimensions[shape.Rank()-1] != channels || shape.Size() == 0 {
		return Normalization{}, fmt.Errorf("models: normalization: states must be [..., %d] and not empty, got %s", channels, shape)
	}
	sum, sumOfSquares := make([]float64, channels), make([]float64, channels)
	count := float64(shape.Size() / channels)
	var unknown any
	err := states.ConstFlatData(func(flat any) {
		switch values := flat.(type) {
		case []float32:
			accumulate(values, sum, sumOfSquares)
		case []float64:
			accumulate(values, sum, sumOfSquares)
		default:
			unknown = flat
		}
	})
	if err != nil {
		return Normalization{}, fmt.Errorf("models: normalization: cannot read the states: %w", err)
	}
	if unknown != nil {
		return Normalization{}, fmt.Errorf("models: normalization: states must be float32 or float64, got %s", shape.DType)
	}

	n := Normalization{Mean: make([]float64, channels), Scale: make([]float64, channels)}
	for c := range channels {
		n.Mean[c] = sum[c] / count
		n.Scale[c] = deviation(sumOfSquares[c]/count - n.Mean[c]*n.Mean[c])
	}
	for _, vector := range field.Vectors {
		square := 0.0
		for _, c := range vector {
			square += sumOfSquares[c] / float64(len(vector))
		}
		for _, c := range vector {
			n.Mean[c], n.Scale[c] = 0, deviation(square/count)
		}
	}
	return n, n.Validate(field)
}

func accumulate[T float32 | float64](values []T, sum, sumOfSquares []float64) {
	for i, value := range values {
		c := i % len(sum)
		sum[c] += float64(value)
		sumOfSquares[c] += float64(value) * float64(value)
	}
}

// deviation is the square root of a variance, or 1 for one that is zero or, by rounding, less.
func deviation(variance float64) float64 {
	if variance <= 0 {
		return 1
	}
	return math.Sqrt(variance)
}

func (n Normalization) apply(x *graph.Node) *graph.Node {
	if len(n.Mean) > 0 {
		x = graph.Sub(x, perChannel(x, n.Mean))
	}
	if len(n.Scale) > 0 {
		x = graph.Div(x, perChannel(x, n.Scale))
	}
	return x
}

// rescale gives a difference of normalised states the units of a state.
func (n Normalization) rescale(x *graph.Node) *graph.Node {
	if len(n.Scale) > 0 {
		x = graph.Mul(x, perChannel(x, n.Scale))
	}
	return x
}

func (n Normalization) undo(x *graph.Node) *graph.Node {
	x = n.rescale(x)
	if len(n.Mean) > 0 {
		x = graph.Add(x, perChannel(x, n.Mean))
	}
	return x
}

// perChannel returns values as a constant that broadcasts over x [..., channel].
func perChannel(x *graph.Node, values []float64) *graph.Node {
	if channels := channelsOf(x); channels != len(values) {
		exceptions.Panicf("models: normalization: %d values for the %d channels of %s", len(values), channels, x.Shape())
	}
	return alongChannels(graph.ConstAs(x, values), x)
}
