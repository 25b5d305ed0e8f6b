// Command custom-group audits two small networks under a symmetry of the user's own. A plate that conducts heat and loses it to
// its surroundings, du/dt = D (d2u/dx2 + d2u/dy2) - k u, and that is warmer by c everywhere, is warmer by c exp(-k dt) a step
// later: the symmetry acts on what the network predicts in another way than on what it is given.
//
// A network that sees differences of temperatures has that symmetry from birth; one that sees temperatures has to learn it.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math"
	"math/rand/v2"
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
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
)

const (
	samples, size = 4, 12
	diffusion     = 0.2 // D dt / dx^2
	cooling       = 0.2 // k dt
)

var kept = math.Exp(-cooling)

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
	add := func(c float64) func(*graph.Node) *graph.Node {
		return func(x *graph.Node) *graph.Node { return graph.AddScalar(x, c) }
	}
	warmer := func(c float64) orbits.Element {
		return orbits.NewElement(fmt.Sprintf("warmer(%g)", c), add(c)).WithOutput(add(c * kept))
	}
	offsets := orbits.Custom("offsets", warmer(-1), warmer(1))

	fmt.Fprintln(out, "sees          element     commutator error  coherence")
	for _, sees := range []string{"differences", "temperatures"} {
		fn := network(sees == "differences")
		before, after := transitions()
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(1))
		trainer := train.NewTrainer(backend, store, fn, loss.MeanSquaredError, optimizer.Adam().LearningRate(1e-2).Done(), nil, nil)
		for range 60 {
			if _, err := trainer.TrainStep(train.Batch{Inputs: []*tensors.Tensor{before}, Labels: []*tensors.Tensor{after}}); err != nil {
				return err
			}
		}
		auditor, err := audit.New(trainer, fn, loss.MeanSquaredError).
			WithField(orbits.Field{Channels: []string{"temperature"}}).
			WithGroup(offsets, audit.Probes{Inputs: before, Targets: after}).
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
				fmt.Fprintf(out, "%-12s  %-10s  %16.1e  %9.3f\n", sees, row.Element, *row.MedianCommutatorError, *row.Median)
			}
		}
	}
	return nil
}

// network predicts the temperatures [n, y, x, 1] after a step: what is kept of them, and two convolutions of the differences
// from the neighbours above and to the right, or of the temperatures themselves.
func network(differences bool) func(scope *model.Scope, x *graph.Node) *graph.Node {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		seen := x
		if differences {
			seen = graph.Concatenate([]*graph.Node{graph.Sub(next(x, 1), x), graph.Sub(next(x, 2), x)}, 3)
		}
		hidden := activation.Relu(layers.Convolution(scope.In("first"), seen).Channels(8).KernelSize(3).PadSame().Done())
		change := layers.Convolution(scope.In("second"), hidden).Channels(1).KernelSize(3).PadSame().Done()
		return graph.Add(graph.MulScalar(x, kept), change)
	}
}

// next is the value in the next cell along an axis, of a plate without edges.
func next(x *graph.Node, axis int) *graph.Node {
	return graph.Concatenate([]*graph.Node{graph.SliceAxis(x, axis, graph.AxisRange(1)), graph.SliceAxis(x, axis, graph.AxisRange(0, 1))}, axis)
}

// transitions are steps of some plates, [n, y, x, 1]: sums of two waves, whose parts decay as the equation says.
func transitions() (before, after *tensors.Tensor) {
	random := rand.New(rand.NewPCG(1, 0))
	x, y := make([]float32, 0, samples*size*size), make([]float32, 0, samples*size*size)
	for range samples {
		mean, phase := random.NormFloat64(), 2*math.Pi*random.Float64()
		for j := range size {
			for i := range size {
				const unit = 2 * math.Pi / size
				diagonal, across := math.Sin(unit*float64(i+j)+phase), math.Cos(2*unit*float64(i)-phase)
				x = append(x, float32(mean+diagonal+across))
				decay := func(waves float64) float64 { return math.Exp(-diffusion * unit * unit * waves) }
				y = append(y, float32(kept*(mean+decay(1+1)*diagonal+decay(4)*across)))
			}
		}
	}
	return tensors.FromFlatDataAndDimensions(x, samples, size, size, 1), tensors.FromFlatDataAndDimensions(y, samples, size, size, 1)
}
