package trainer

import (
	"math/rand/v2"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
)

// augmentation moves each sample of a batch by an element of a group, of which the identity is one, drawn anew each time.
type augmentation struct {
	moves []moves // of each element
}

// moves are what one element does to a state [1, ..., channel] that a prediction is of, and to those that it is to predict.
type moves struct{ input, output *graph.Exec }

func newAugmentation(group orbits.Group, data dataset.Description, on compute.Backend) (*augmentation, error) {
	elements, err := group.Elements(data.Grid...)
	if err != nil {
		return nil, cause.In("trainer", err)
	}
	a := &augmentation{}
	for _, e := range elements {
		input, err := graph.NewExec(on, func(x *graph.Node) *graph.Node { return e.Apply(data.Field, x) })
		if err != nil {
			return nil, cause.In("trainer", err)
		}
		output, err := graph.NewExec(on, func(y *graph.Node) *graph.Node { return e.ApplyOutput(data.Field, y) })
		if err != nil {
			return nil, cause.In("trainer", err)
		}
		a.moves = append(a.moves, moves{input, output})
	}
	return a, nil
}

// apply moves the samples of a batch in their place: of states [n, ..., channel], the inputs and then those that are to be predicted. What is drawn
// depends on the seed and the step of the training alone.
func (a *augmentation) apply(batch []*tensors.Tensor, seed int64, step int) error {
	if a == nil {
		return nil
	}
	const stream = 0x61756d656e74 // another than that of the order of the samples
	random := rand.New(rand.NewPCG(uint64(seed)^stream, uint64(step)))
	n := batch[0].Shape().Dimensions[0]
	for sample := range n {
		of := a.moves[random.IntN(len(a.moves))]
		for i, states := range batch {
			exec := of.output
			if i == 0 {
				exec = of.input
			}
			if err := moveSample(exec, states, sample); err != nil {
				return cause.In("trainer", err)
			}
		}
	}
	return nil
}

// moveSample replaces a sample of states by what a program makes of it.
func moveSample(program *graph.Exec, states *tensors.Tensor, sample int) (err error) {
	dimensions := states.Shape().Dimensions
	size := states.Size() / dimensions[0]
	replaced := tensors.MutableFlatData(states, func(flat []float32) {
		own := flat[sample*size : (sample+1)*size]
		one := tensors.FromFlatDataAndDimensions(own, append([]int{1}, dimensions[1:]...)...)
		defer one.MustFinalizeAll()
		var moved *tensors.Tensor
		if moved, err = program.Call1(one); err != nil {
			return
		}
		defer moved.MustFinalizeAll()
		err = tensors.ConstFlatData(moved, func(values []float32) { copy(own, values) })
	})
	if err == nil {
		err = replaced
	}
	return err
}

func (a *augmentation) close() {
	if a == nil {
		return
	}
	for _, m := range a.moves {
		m.input.Finalize()
		m.output.Finalize()
	}
}
