// Command existing-loop trains a classifier of small images with GoMLX and audits it each epoch: do the scores of an
// image stand when it is turned or mirrored, and does learning from an image also teach the turned one?
//
// It is the program in plain with a few lines more; diff the two.
package main

import (
	"fmt"
	"log"
	"math/rand/v2"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/dataset"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/orbits"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	backend, err := compute.NewWithConfig("go:ops_sequential")
	if err != nil {
		return err
	}
	images, labels := figures(600, 1)
	probes, answers := figures(12, 2)
	trainDS, err := dataset.InMemoryFromData(backend, "figures", []any{images}, []any{labels})
	if err != nil {
		return err
	}
	trainDS.BatchSize(20, true)

	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(1))
	trainer := train.NewTrainer(backend, store, classify, loss.SparseCategoricalCrossEntropyLogits,
		optimizer.Adam().LearningRate(1e-2).Done(), nil, nil)
	loop := train.NewLoop(trainer)
	auditor, err := audit.New(trainer, classify, loss.SparseCategoricalCrossEntropyLogits).WithField(orbits.Field{Channels: []string{"grey"}}).
		WithInvariantOutput().WithGroup(orbits.D4(), audit.Probes{Inputs: probes, Targets: answers, BatchSize: 4}).Done()
	if err != nil {
		return err
	}
	defer auditor.Close()
	if _, err = hooks.New(auditor).WithSchedule(hooks.EverySteps(30)).WithStepsPerEpoch(30).WithLogger(zerolog.New(zerolog.NewConsoleWriter()).With().Timestamp().Logger()).Attach(loop); err != nil {
		return err
	}
	if _, err = loop.RunEpochs(trainDS, 6); err != nil {
		return err
	}

	metrics, err := trainer.EvalStep(train.Batch{Inputs: []*tensors.Tensor{probes}, Labels: []*tensors.Tensor{answers}})
	if err != nil {
		return err
	}
	fmt.Printf("loss on held-out images: %.3f\n", tensors.ToScalar[float32](metrics[0]))
	return nil
}

const size, classes = 12, 3

// classify scores the classes of images [n, y, x, 1].
func classify(scope *model.Scope, x *graph.Node) *graph.Node {
	x = graph.Tanh(layers.Convolution(scope.In("first"), x).Channels(6).KernelSize(3).PadSame().Done())
	x = graph.Tanh(layers.Convolution(scope.In("second"), x).Channels(6).KernelSize(3).PadSame().Done())
	return layers.Dense(scope.In("scores"), graph.ReduceMean(x, 1, 2), true, classes)
}

// figures draws bars, corners and crosses, [n, y, x, 1], in noise. Turned or mirrored, each stays what it is; but bars are drawn
// lying in three of four images, and corners open to the right.
func figures(n int, seed uint64) (images, labels *tensors.Tensor) {
	random := rand.New(rand.NewPCG(seed, 0))
	pixels, classOf := make([]float32, n*size*size), make([]int32, n)
	for i := range n {
		image := pixels[i*size*size : (i+1)*size*size]
		for p := range image {
			image[p] = float32(0.1 * random.NormFloat64())
		}
		y, x, class := 3+random.IntN(size-6), 3+random.IntN(size-6), random.IntN(classes)
		standing := class > 0 || random.IntN(4) == 0
		lying := class > 0 || !standing
		for d := -3; d < 3; d++ {
			if standing && (class != 1 || d >= 0) {
				image[(y+d)*size+x]++
			}
			if lying && (class != 1 || d >= 0) {
				image[y*size+x+d]++
			}
		}
		classOf[i] = int32(class)
	}
	return tensors.FromFlatDataAndDimensions(pixels, n, size, size, 1), tensors.FromFlatDataAndDimensions(classOf, n, 1)
}
