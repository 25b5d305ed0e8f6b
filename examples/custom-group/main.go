// Command custom-group audits two small networks under a symmetry of the user's own: the compressible Euler equations of an
// ideal gas are of degree one, so that a solution whose density, momentum and energy are all doubled is a solution, too.
//
// A network of convolutions without biases and with rectifiers has that symmetry from birth; biases take it away.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/euler"
)

func main() {
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(out io.Writer) error {
	backend, err := compute.NewWithConfig("go:ops_sequential")
	if err != nil {
		return err
	}
	before, after, err := transitions(backend)
	if err != nil {
		return err
	}
	scaled := func(factor float64) orbits.Element {
		return orbits.NewElement(fmt.Sprintf("scale(%g)", factor), func(x *graph.Node) *graph.Node { return graph.MulScalar(x, factor) })
	}
	scaling := orbits.Custom("scaling", scaled(0.5), scaled(2))

	fmt.Fprintln(out, "biases  element     commutator error  coherence")
	for _, biases := range []bool{false, true} {
		fn := network(biases)
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(1))
		trainer := train.NewTrainer(backend, store, fn, audit.Loss, optimizer.Adam().LearningRate(1e-2).Done(), nil, nil)
		for range 60 {
			if _, err := trainer.TrainStep(train.Batch{Inputs: []*tensors.Tensor{before}, Labels: []*tensors.Tensor{after}}); err != nil {
				return err
			}
		}
		auditor, err := audit.New(trainer, fn, audit.Loss).
			WithGroup(scaling, audit.Probes{Inputs: before, Targets: after}).
			WithRelativeLambda(1e-2).WithDType(dtypes.Float32).
			Done()
		if err != nil {
			return err
		}
		records, err := auditor.Audit(context.Background(), audit.Moment{})
		auditor.Close()
		if err != nil {
			return err
		}
		for _, row := range records.Coherence {
			if row.Element != "e" && row.Element != audit.AllElements {
				fmt.Fprintf(out, "%-6t  %-10s  %16.1e  %9.3f\n", biases, row.Element, row.MedianCommutatorError, *row.Median)
			}
		}
	}
	return nil
}

// network predicts the change of a state [n, y, x, channel] by two convolutions.
func network(biases bool) func(scope *model.Scope, x *graph.Node) *graph.Node {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		hidden := activation.Relu(layers.Convolution(scope.In("first"), x).Channels(8).KernelSize(3).PadSame().UseBias(biases).Done())
		return graph.Add(x, layers.Convolution(scope.In("second"), hidden).Channels(4).KernelSize(3).PadSame().UseBias(biases).Done())
	}
}

// transitions are first steps of three flows, [n, y, x, channel].
func transitions(backend compute.Backend) (before, after *tensors.Tensor, err error) {
	config := euler.Default()
	config.Resolution, config.Snapshots = 16, 2
	states, err := euler.Generate(context.Background(), backend, config, string(euler.Families()[0]), 3, 0, nil)
	if err != nil {
		return nil, nil, err
	}
	values, err := tensors.CopyFlatData[float32](states)
	if err != nil {
		return nil, nil, err
	}
	size := config.Resolution * config.Resolution * euler.Channels
	var x, y []float32
	for trajectory := range 3 {
		from := 2 * trajectory * size
		x, y = append(x, values[from:from+size]...), append(y, values[from+size:from+2*size]...)
	}
	shape := []int{3, config.Resolution, config.Resolution, euler.Channels}
	return tensors.FromFlatDataAndDimensions(x, shape...), tensors.FromFlatDataAndDimensions(y, shape...), nil
}
