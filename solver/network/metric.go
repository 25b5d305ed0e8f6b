package network

import (
	"slices"

	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"gonum.org/v1/gonum/mat"
)

// metric multiplies vectors by a program: the metric, or one half of a Factor.
type metric struct {
	network *Network
	exec    *model.Exec // of the batch, the others and a direction
	x       *tensors.Tensor
	others  []*tensors.Tensor // that the program takes, labels for instance

	argument, result float64 // what a vector and its image are multiplied by
}

func (m *metric) Dim() int { return m.network.dim }

func (m *metric) Apply(dst, v *mat.Dense) error {
	rows, _ := v.Dims()
	for i := range rows {
		if err := multiply(m, dst.RawRowView(i), v.RawRowView(i)); err != nil {
			return err
		}
	}
	return nil
}

// multiply writes the image of one vector to dst.
func multiply[To, From float32 | float64](m *metric, dst []To, v []From) error {
	direction, err := argument(m.network, v, m.argument)
	if err != nil {
		return err
	}
	image, err := m.along(direction)
	if err != nil {
		return err
	}
	return drainScaled(dst, image, m.result)
}

// along executes the program along a direction that is in a tensor.
func (m *metric) along(direction *tensors.Tensor) (*tensors.Tensor, error) {
	outputs, err := m.network.run(m.exec, m.x, append(slices.Clone(m.others), direction)...)
	if err != nil {
		return nil, err
	}
	return outputs[0], nil
}

// along executes a program of a batch and a direction.
func (n *Network) along(exec *model.Exec, direction []float64, x *tensors.Tensor) (*tensors.Tensor, error) {
	v, err := argument(n, direction, 1)
	if err != nil {
		return nil, err
	}
	outputs, err := n.run(exec, x, v)
	if err != nil {
		return nil, err
	}
	return outputs[0], nil
}

// argument is a multiple of a vector as a program takes it, in the network's precision. It lasts until the next of its size, which is written over
// it; on CPUs that is where the program reads it. A tensor of its own for each vector takes a twentieth of the time of a product.
func argument[From float32 | float64](n *Network, values []From, scale float64) (*tensors.Tensor, error) {
	own := n.arguments[len(values)]
	if own == nil {
		var err error
		if own, err = tensors.FromShapeForBackend(n.backend, 0, shapes.Make(n.dtype, len(values))); err != nil {
			return nil, err
		}
		if n.arguments == nil {
			n.arguments = map[int]*tensors.Tensor{}
		}
		n.arguments[len(values)] = own
	}
	return own, fill(own, values, scale)
}
