// Command reading makes the figures of docs/reading.md: what coherence of several kinds, and errors, do while networks of which the answer is known learn a law
// with the symmetries of the square, and while a UNet learns compressible flow. It takes about a quarter of an hour on two cores, and leaves a run directory with
// a report.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand"
	"os"
	"sync"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/dataset"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/euler"
	"github.com/symaudit/symaudit/writers"
	"github.com/symaudit/symaudit/writers/report"
)

func main() {
	dir := flag.String("dir", "runs/reading", "run directory to write; it must not exist")
	flag.Parse()
	experiments, err := all()
	if err == nil {
		err = run(os.Stdout, *dir, experiments)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// experiment is the training of a network.
type experiment struct {
	name      string
	network   models.Fn
	data      data
	augmented bool // by all turned and mirrored copies
	examples  int  // of the data
	first     int  // step to be audited, and then at doubling ones
	steps     int
}

// all are the experiments of docs/reading.md, the long ones first.
func all() ([]experiment, error) {
	backend, err := newBackend()
	if err != nil {
		return nil, err
	}
	defer backend.Finalize()
	flow, err := compressible(backend)
	if err != nil {
		return nil, err
	}
	normalization, err := models.FitNormalization(flow.field, flow.states)
	if err != nil {
		return nil, err
	}
	unet := models.TinyUNet()
	unet.Normalization = normalization
	equivariant, err := symmetrized()
	if err != nil {
		return nil, err
	}
	law := slowFlow()
	return []experiment{
		{"flow-plain", unet.Fn(), flow, false, flow.count(), 16, 1024},
		{"flow-augmented", unet.Fn(), flow, true, flow.count(), 16, 1024},
		{"law-plain", network, law, false, law.count(), 64, 4096},
		{"law-augmented", network, law, true, law.count(), 64, 4096},
		{"law-memorising", network, law, false, 4, 64, 4096},
		{"law-equivariant", equivariant, law, false, law.count(), 8, 512},
	}, nil
}

// symmetrized is the network of the law made equivariant.
func symmetrized() (models.Fn, error) {
	elements, err := orbits.D4().Elements(size, size)
	if err != nil {
		return nil, err
	}
	return models.Symmetrize(network, field, elements), nil
}

// run trains two at a time, and writes a run directory with a report.
func run(out io.Writer, dir string, experiments []experiment) error {
	sink, err := writers.Parquet(dir).Done()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, heading)
	var group sync.WaitGroup
	var lock sync.Mutex
	var failed []error
	two := make(chan struct{}, 2)
	for _, e := range experiments {
		two <- struct{}{} // in order
		group.Go(func() {
			defer func() { <-two }()
			err := e.run(sink, func(line string) {
				lock.Lock()
				defer lock.Unlock()
				fmt.Fprintln(out, line)
			})
			if err != nil {
				lock.Lock()
				defer lock.Unlock()
				failed = append(failed, fmt.Errorf("%s: %w", e.name, err))
			}
		})
	}
	group.Wait()
	if err := errors.Join(append(failed, sink.Close())...); err != nil {
		return err
	}
	figure, err := drawFigure(dir)
	if err != nil {
		return err
	}
	page, _, err := report.Write(dir)
	if err == nil {
		fmt.Fprintf(out, "figure: %s\nreport: %s\n", figure, page)
	}
	return err
}

func newBackend() (compute.Backend, error) {
	return compute.NewWithConfig("go:ops_sequential") // side by side, convolutions may wait for each other for ever
}

// run trains the network with an audit at doubling steps.
func (e experiment) run(sink *writers.Run, say func(line string)) error {
	backend, err := newBackend()
	if err != nil {
		return err
	}
	defer backend.Finalize()
	states, later := e.data.first(e.examples)
	if e.augmented {
		if states, later, err = e.data.orbit(backend, states, later); err != nil {
			return err
		}
	}
	training, err := dataset.InMemoryFromData(backend, e.name, []any{states}, []any{later})
	if err != nil {
		return err
	}
	training.BatchSize(min(8, e.examples), true).WithRand(rand.New(rand.NewSource(5))).RandomWithReplacement().Infinite(true)
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(3))
	trainer := train.NewTrainer(backend, store, e.network, audit.Loss, optimizer.Adam().LearningRate(3e-3).Done(), nil, nil)
	probes := audit.Probes{Inputs: e.data.probes, Targets: e.data.after}
	auditor, err := audit.New(trainer, e.network, audit.Loss).WithField(e.data.field).WithRelativeLambda(1e-2, 1).
		WithDirections(audit.LossDirection(), audit.KernelDirection(0), audit.TotalDirection(e.data.total)).
		WithGroup(orbits.D4(), probes).WithGroup(orbits.D4GridOnly(), probes).Done()
	if err != nil {
		return err
	}
	defer auditor.Close()
	loop := train.NewLoop(trainer)
	hook, err := hooks.New(auditor).WithSink(sink).WithModel(e.name, 3).
		WithSchedule(hooks.AtDoublingSteps(e.first)).
		WithOnAudit(func(records *audit.Records) { say(line(e.name, records)) }).
		Attach(loop)
	if err != nil {
		return err
	}
	_, err = loop.RunSteps(training, e.steps)
	return errors.Join(err, hook.Close())
}

const heading = "model             step  target error  commutator  of asymmetry    loss  kernel   total  loss, wrong  kernel, wrong"

// line is an audit in one, at the smallest lambda: errors and coherence under D4, and coherence under the action that leaves vectors unturned.
func line(name string, records *audit.Records) string {
	coherence := map[string]float64{}
	for _, row := range records.Summaries() {
		if row.Median != nil {
			coherence[row.GroupName+" "+row.Direction] = *row.Median
		}
		if total := "total_"; len(row.Direction) > len(total) && row.Direction[:len(total)] == total {
			coherence[row.GroupName+" total"] = *row.Median
		}
	}
	d4 := records.Summary(orbits.D4Name)
	return fmt.Sprintf("%-16s %5d  %12.2g  %10.2g  %11.0f %%  %6.3f  %6.3f  %6.3f  %11.3f  %13.3f", name, d4.Step,
		*d4.MedianTargetError, *d4.MedianCommutatorError, 100**d4.AsymmetryShare, coherence["d4 loss"], coherence["d4 kernel"], coherence["d4 total"],
		coherence["d4-grid-only loss"], coherence["d4-grid-only kernel"])
}

// data are transitions of a law, some of them held out as probes.
type data struct {
	field         orbits.Field
	total         string // the channel whose total is looked at
	states, later *tensors.Tensor
	probes, after *tensors.Tensor
}

func (d data) count() int { return d.states.Shape().Dimensions[0] }

// first copies the first n training examples.
func (d data) first(n int) (states, later *tensors.Tensor) {
	take := func(all *tensors.Tensor) *tensors.Tensor {
		shape := append([]int{n}, all.Shape().Dimensions[1:]...)
		return tensors.FromFlatDataAndDimensions(tensors.MustCopyFlatData[float32](all)[:n*all.Size()/d.count()], shape...)
	}
	return take(d.states), take(d.later)
}

// orbit is all examples moved by all elements of D4.
func (d data) orbit(backend compute.Backend, states, later *tensors.Tensor) (allStates, allLater *tensors.Tensor, err error) {
	side := states.Shape().Dimensions[1]
	elements, err := orbits.D4().Elements(side, side)
	if err != nil {
		return nil, nil, err
	}
	move, err := graph.NewExec(backend, func(x *graph.Node) *graph.Node {
		var images []*graph.Node
		for _, element := range elements {
			images = append(images, element.Apply(d.field, x))
		}
		return graph.Concatenate(images, 0)
	})
	if err != nil {
		return nil, nil, err
	}
	defer move.Finalize()
	all := make([]*tensors.Tensor, 2)
	for i, x := range []*tensors.Tensor{states, later} {
		moved, err := move.Call(x)
		if err != nil {
			return nil, nil, err
		}
		if all[i], err = moved[0].LocalClone(); err != nil {
			return nil, nil, err
		}
	}
	return all[0], all[1], nil
}

// slowFlow are transitions of the law of law.go.
func slowFlow() data {
	d := data{field: field, total: "pressure"}
	d.states, d.later = flows(64, 1)
	d.probes, d.after = flows(4, 2)
	return d
}

// compressible are transitions of the Euler equations on 16x16 cells.
func compressible(backend compute.Backend) (d data, err error) {
	config := euler.Default()
	config.Resolution, config.Refinement, config.Snapshots, config.Interval = 16, 2, 9, 0.05
	d = data{field: orbits.EulerField(), total: "density"}
	transitions := func(count int, seed int64, stride int) (before, after *tensors.Tensor, err error) {
		var x, y []float32
		n := 0
		for i, family := range euler.Families() {
			all, err := euler.Generate(context.Background(), backend, config, string(family), count, seed+int64(i), nil)
			if err != nil {
				return nil, nil, err
			}
			values := tensors.MustCopyFlatData[float32](all)
			size := len(values) / count / config.Snapshots
			for trajectory := range count {
				for time := 0; time+1 < config.Snapshots; time += stride {
					at := (trajectory*config.Snapshots + time) * size
					x, y, n = append(x, values[at:at+size]...), append(y, values[at+size:at+2*size]...), n+1
				}
			}
		}
		shape := []int{n, config.Resolution, config.Resolution, euler.Channels}
		return tensors.FromFlatDataAndDimensions(x, shape...), tensors.FromFlatDataAndDimensions(y, shape...), nil
	}
	if d.states, d.later, err = transitions(16, 100, 1); err != nil {
		return d, err
	}
	d.probes, d.after, err = transitions(1, 200, config.Snapshots)
	return d, err
}
