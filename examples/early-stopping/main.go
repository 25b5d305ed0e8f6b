// Command early-stopping trains a small network on a task that has the symmetries of the square, the spreading of heat, and
// stops when the network has stopped becoming more coherent under them. The checkpoint at the end is that of the best audit.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/dataset"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

func main() {
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func run(out io.Writer) error {
	backend, err := compute.NewWithConfig("go:ops_sequential") // side by side, convolutions may wait for each other for ever
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "early-stopping")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	states, later := heat(64, 1)
	trainDS, err := dataset.InMemoryFromData(backend, "heat", []any{states}, []any{later})
	if err != nil {
		return err
	}
	trainDS.BatchSize(8, true)
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(3))
	trainer := newTrainer(backend, store)
	loop := train.NewLoop(trainer)

	auditor, err := newAuditor(trainer)
	if err != nil {
		return err
	}
	defer auditor.Close()
	hook, err := hooks.New(auditor).
		WithSchedule(hooks.EveryEpochs(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Patience: 3}).
		WithBestCheckpoint(filepath.Join(dir, "best")).
		WithOnAudit(func(records *audit.Records) { fmt.Fprintln(out, line(records)) }).
		Attach(loop)
	if err != nil {
		return err
	}
	checkpoints, err := checkpoint.Build(store).Dir(filepath.Join(dir, "model")).Done()
	if err != nil {
		return err
	}
	loop.OnEnd("checkpoint", 100, checkpoints.SaveOnStepFn)

	fmt.Fprintln(out, "epoch  step  target error  coherence")
	if _, err = loop.RunEpochs(hook.Dataset(trainDS), 40); err != nil {
		return err
	}
	reason, stopped := hook.Stopped()
	if !stopped {
		reason = "no rule was met in 40 epochs"
	}
	fmt.Fprintln(out, "stopped:", reason)
	if err := hook.Close(); err != nil {
		return err
	}

	// What another program finds in the checkpoint.
	loaded := model.NewStore()
	if _, err := checkpoint.Load(loaded).Dir(filepath.Join(dir, "model")).Done(); err != nil {
		return err
	}
	trainer = newTrainer(backend, loaded)
	states, later = heat(1, 3)
	if _, err := trainer.EvalStep(train.Batch{Inputs: []*tensors.Tensor{states}, Labels: []*tensors.Tensor{later}}); err != nil { // reads the weights
		return err
	}
	if auditor, err = newAuditor(trainer); err != nil {
		return err
	}
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), audit.Moment{Step: trainer.GlobalStep(), Epoch: float64(trainer.GlobalStep()) / 8})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the checkpoint:\n%s\n", line(records))
	return nil
}

const size = 12

var field = orbits.Field{Channels: []string{"temperature"}}

func newTrainer(backend compute.Backend, store *model.Store) *train.Trainer {
	return train.NewTrainer(backend, store, network, audit.Loss, optimizer.Adam().LearningRate(5e-3).Done(), nil, nil)
}

func newAuditor(trainer *train.Trainer) (*audit.Auditor, error) {
	probes, after := heat(4, 2)
	return audit.New(trainer, network, audit.Loss).
		WithField(field).
		WithGroup(orbits.D4(), audit.Probes{Inputs: probes, Targets: after}).
		Done()
}

// line is an audit in a few words.
func line(records *audit.Records) string {
	d4 := records.Summary(orbits.D4Name)
	return fmt.Sprintf("%5.0f  %4d  %12.4f  %9.3f", d4.Epoch, d4.Step, *d4.MedianTargetError, *d4.Median)
}

// network predicts the change of a state [n, y, x, 1]. It may choose how symmetric to be: a gate, nearly closed at first, blends
// its prediction with the mean of those for the turned and mirrored states, turned back.
func network(scope *model.Scope, x *graph.Node) *graph.Node {
	alone := convolutions(scope.In("convolutions"), x)
	elements, err := orbits.D4().Elements(size, size)
	if err != nil {
		panic(err)
	}
	averaged := models.Symmetrize(convolutions, field, elements)(scope.Shared("convolutions"), x)
	weight := scope.In("gate").VariableWithValue("weight", float32(-0.08)).NodeValue(x)
	gate := graph.ConvertDType(graph.Sigmoid(graph.MulScalar(weight, 40)), x.DType())
	return graph.Add(x, graph.Add(alone, graph.Mul(gate, graph.Sub(averaged, alone))))
}

func convolutions(scope *model.Scope, x *graph.Node) *graph.Node {
	hidden := graph.Tanh(layers.Convolution(scope.In("first"), x).Channels(6).KernelSize(3).PadSame().Done())
	return layers.Convolution(scope.In("second"), hidden).Channels(1).KernelSize(3).PadSame().Done()
}

// heat draws temperatures, [n, y, x, 1], and what becomes of them in a while between insulating walls.
func heat(n int, seed uint64) (before, after *tensors.Tensor) {
	random := rand.New(rand.NewPCG(seed, 0))
	states, later := make([]float32, n*size*size), make([]float32, n*size*size)
	for i := range states {
		states[i] = float32(random.NormFloat64())
	}
	for i := range n {
		state, next := states[i*size*size:(i+1)*size*size], later[i*size*size:(i+1)*size*size]
		spread(state, state)
		spread(next, state)
	}
	return tensors.FromFlatDataAndDimensions(states, n, size, size, 1), tensors.FromFlatDataAndDimensions(later, n, size, size, 1)
}

// spread lets every cell give an eighth of its excess to each neighbour.
func spread(next, state []float32) {
	flow := make([]float32, len(state))
	for y := range size {
		for x := range size {
			for _, d := range [][]int{{0, 1}, {1, 0}} {
				if y+d[0] == size || x+d[1] == size {
					continue
				}
				here, there := y*size+x, (y+d[0])*size+x+d[1]
				f := (state[here] - state[there]) / 8
				flow[here] -= f
				flow[there] += f
			}
		}
	}
	for i := range next {
		next[i] = state[i] + flow[i]
	}
}
