package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/numpy"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

const (
	// jaxEnv is the Python interpreter that has the packages of bench/peers/requirements.txt.
	jaxEnv = "SYMAUDIT_JAX"

	// mostOfJAX is the claim for a step of the paper's networks, in steps of JAX.
	mostOfJAX = 1.1

	// sameLoss is by how much losses of the steps that are compared may differ, relative. Later ones differ by more: rounding grows.
	sameLoss = 1e-4

	trainingRate, trainingDecay = 5e-4, 1e-6 // the trainer's defaults
)

// peerNetwork is a network with what bench/peers/networks.py calls it.
type peerNetwork struct {
	name              string
	resolution, batch int
	build             func(models.Normalization) models.Fn
	kind              string
	settings          map[string]any
}

func peerUNet(name string, resolution, batch int, c models.UNet) peerNetwork {
	return peerNetwork{name, resolution, batch, unet(c), "unet", map[string]any{"widths": c.Widths, "groups": c.Groups, "blocks": c.Blocks, "heads": c.Heads}}
}

func peerViT(name string, resolution, batch int, c models.ViT) peerNetwork {
	return peerNetwork{name, resolution, batch, vit(c), "vit", map[string]any{"patch": c.Patch, "width": c.Width, "layers": c.Layers, "heads": c.Heads, "expansion": c.Expansion}}
}

// BenchmarkTrainingStep times a step of a training, as the trainer takes it, and the same in JAX where there is one: from the same weights, on the same
// batch, a few steps of either in turns.
func BenchmarkTrainingStep(b *testing.B) {
	on := backends(b)["xla:cpu"]
	if on == nil {
		b.Skip("needs XLA")
	}
	for n, network := range []peerNetwork{
		peerUNet("unet-tiny", 32, 16, models.TinyUNet()),
		peerViT("vit-tiny", 32, 16, models.TinyViT()),
		peerUNet("unet-medium", 64, 4, models.UNet{Widths: []int{24, 48, 96}, Blocks: 1, Groups: 8}),
		peerViT("vit-medium", 64, 4, models.ViT{Patch: 4, Width: 64, Layers: 4, Heads: 4, Expansion: 4}),
		peerUNet("unet-paper", 128, 2, models.PaperUNet()),
		peerViT("vit-paper", 128, 2, models.PaperViT(4)),
	} {
		b.Run(network.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			ours := newTraining(b, on, network)
			var jax *jaxTraining
			if python := os.Getenv(jaxEnv); python != "" {
				jax = startJAX(b, python, ours, network)
			} else {
				b.Logf("without JAX: %s names no Python with bench/peers/requirements.txt; make bench-peers-train installs it", jaxEnv)
			}
			turn := func(steps int) {
				ours.train(b, steps)
				if jax != nil {
					jax.train(b, steps)
				}
			}
			const compiling = 3 // GoMLX compiles for the first two steps
			turn(compiling)
			took := slices.Min(ours.seconds)
			steps := min(max(int(2/took), 1), 20)
			for range 7 {
				turn(steps)
			}
			b.ReportMetric(1e3*slices.Min(ours.seconds[compiling:]), "ms/step")
			b.ReportMetric(1e3*slices.Min(ours.batches[compiling:]), "ms/batch")
			if jax == nil {
				return
			}
			ratio, processors := compare(ours.seconds[compiling:], jax.Seconds[compiling:]), compare(ours.processors[compiling:], jax.Processors[compiling:])
			last, apart := compiling+3, 0.0
			for i := range last {
				apart = max(apart, math.Abs(ours.losses[i]-jax.Losses[i])/jax.Losses[i])
			}
			if n == 0 {
				fmt.Println("network      parameters batch    JAX ms   ours ms  ratio  of medians   processors: JAX ms   ours ms  ratio   loss in JAX        ours  within, so far")
			}
			fmt.Printf("%-12s %10d %5d %9.1f %9.1f  %5.2f  %10.2f  %19.1f %9.1f  %5.2f  %.7f   %.7f  %.0e\n", network.name, ours.parameters, network.batch,
				1e3*ratio.theirs, 1e3*ratio.ours, ratio.least, ratio.medians, 1e3*processors.theirs, 1e3*processors.ours, processors.least, jax.Losses[last-1], ours.losses[last-1], apart)
			b.ReportMetric(ratio.least, "steps-of-jax/step")
			b.ReportMetric(processors.least, "steps-of-jax/step-processors")
			if apart > sameLoss {
				b.Errorf("losses differ by %.1e: %v of JAX, %v of ours", apart, jax.Losses[:last], ours.losses[:last])
			}
			if ratio.least > mostOfJAX && network.resolution == 128 {
				b.Errorf("a step takes %.2f of JAX's, more than %.1f", ratio.least, mostOfJAX)
			}
		})
	}
}

// ratio is of two lists of times: the least of each, the ratio of these, and that of the medians.
type ratio struct{ ours, theirs, least, medians float64 }

func compare(ours, theirs []float64) ratio {
	a, b := slices.Min(ours), slices.Min(theirs)
	return ratio{a, b, a / b, median(ours) / median(theirs)}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// training is one in GoMLX, set up as package trainer does it.
type training struct {
	normalization models.Normalization
	before, after []float32
	resolution    int
	store         *model.Store
	trainer       *train.Trainer
	parameters    int
	// Of each step: the seconds it took, those of them that the batch's tensors took to make, those of the processors, and its loss.
	seconds, batches, processors, losses []float64
}

func newTraining(b *testing.B, on compute.Backend, network peerNetwork) *training {
	const families = 3
	size := network.resolution * network.resolution * 4
	before, after := flow(b, on, network.resolution, (network.batch+11)/12)
	t := &training{resolution: network.resolution, store: model.NewStore()}
	for i := range network.batch { // of all families alike
		at := (i%families*(len(before)/size/families) + i/families) * size
		t.before, t.after = append(t.before, before[at:at+size]...), append(t.after, after[at:at+size]...)
	}
	var err error
	t.normalization, err = models.FitNormalization(orbits.EulerField(), states(t.before, network.resolution))
	must(b, err)
	fn := network.build(t.normalization)
	t.store.SetParam(model.ParamInitialSeed, int64(1))
	g := graph.NewGraph(on, "variables")
	model.SetStore(g, t.store)
	fn(t.store.RootScope(), graph.Parameter(g, "x", shapes.Make(dtypes.Float32, 1, network.resolution, network.resolution, 4)))
	g.Finalize()
	for variable := range t.store.IterVariables() {
		t.parameters += variable.Shape().Size()
	}
	t.trainer = train.NewTrainer(on, t.store, fn, audit.Loss, optimizer.Adam().LearningRate(trainingRate).WeightDecay(trainingDecay).Done(), nil, nil)
	return t
}

func (t *training) train(b *testing.B, steps int) {
	for range steps {
		start, startProcessors := time.Now(), processors(b)
		batch := train.Batch{Inputs: []*tensors.Tensor{states(t.before, t.resolution)}, Labels: []*tensors.Tensor{states(t.after, t.resolution)}}
		t.batches = append(t.batches, time.Since(start).Seconds())
		metrics, err := t.trainer.TrainStep(batch)
		must(b, err)
		t.losses = append(t.losses, float64(tensors.MustCopyFlatData[float32](metrics[0])[0]))
		t.seconds, t.processors = append(t.seconds, time.Since(start).Seconds()), append(t.processors, processors(b)-startProcessors)
		for _, metric := range metrics {
			must(b, metric.FinalizeAll())
		}
	}
}

// processors are the seconds that they have worked for the process.
func processors(b *testing.B) float64 {
	var used syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// jaxSteps is what bench/peers/train.py prints.
type jaxSteps struct{ Seconds, Processors, Losses []float64 }

// jaxTraining is bench/peers/train.py at work.
type jaxTraining struct {
	ask     *json.Encoder
	answers *bufio.Scanner
	jaxSteps
}

// startJAX begins the training that ours begins with, in a process of its own that ends with the benchmark.
func startJAX(b *testing.B, python string, ours *training, network peerNetwork) *jaxTraining {
	folder := b.TempDir()
	arrays := map[string]*tensors.Tensor{"before": states(ours.before, ours.resolution), "after": states(ours.after, ours.resolution)}
	for variable := range ours.store.IterVariables() {
		arrays[variable.Path()] = variable.MustValue()
	}
	must(b, numpy.ToNpzFile(arrays, filepath.Join(folder, "arrays.npz")))
	setup, err := json.Marshal(map[string]any{
		"network": network.kind, "settings": network.settings, "mean": ours.normalization.Mean, "scale": ours.normalization.Scale,
		"rate": trainingRate, "decay": trainingDecay,
	})
	must(b, err)
	must(b, os.WriteFile(filepath.Join(folder, "setup.json"), setup, 0o600))

	process := exec.Command(python, filepath.Join("peers", "train.py"), folder)
	process.Stderr = os.Stderr
	in, err := process.StdinPipe()
	must(b, err)
	out, err := process.StdoutPipe()
	must(b, err)
	must(b, process.Start())
	b.Cleanup(func() {
		_ = in.Close()
		_ = process.Wait()
	})
	j := &jaxTraining{ask: json.NewEncoder(in), answers: bufio.NewScanner(out)}
	var ready struct {
		JAX        string
		Parameters int
	}
	j.answer(b, &ready)
	if ready.Parameters != ours.parameters {
		b.Fatalf("%d parameters in JAX, %d in the Go model", ready.Parameters, ours.parameters)
	}
	return j
}

func (j *jaxTraining) answer(b *testing.B, to any) {
	b.Helper()
	if !j.answers.Scan() {
		b.Fatal("JAX has ended: ", j.answers.Err())
	}
	must(b, json.Unmarshal(j.answers.Bytes(), to))
}

func (j *jaxTraining) train(b *testing.B, steps int) {
	must(b, j.ask.Encode(steps))
	var more jaxSteps
	j.answer(b, &more)
	j.Seconds, j.Processors, j.Losses = append(j.Seconds, more.Seconds...), append(j.Processors, more.Processors...), append(j.Losses, more.Losses...)
}
