//go:build unix

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
	"strings"
	"sync"
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
	"github.com/symaudit/symaudit/internal/backend"
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
// batch, a few steps of each in turns. JAX has an XLA of its own, older or newer than that of GoMLX's plugin: it is timed with either.
func BenchmarkTrainingStep(b *testing.B) {
	on := backends(b)["xla:cpu"]
	if on == nil {
		b.Skip("needs XLA")
	}
	var header sync.Once
	for _, network := range []peerNetwork{
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
			var peers []*jaxTraining // with JAX's own XLA, and with that of the plugin
			if python := os.Getenv(jaxEnv); python != "" {
				plugin := backend.Plugins()["cpu"]
				peers = append(peers, startJAX(b, python, ours, network), startJAX(b, python, ours, network, "JAX_PLATFORMS=plugin", "PJRT_NAMES_AND_LIBRARY_PATHS=plugin:"+plugin, "XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=-reduce"))
			} else {
				b.Logf("without JAX: %s names no Python with bench/peers/requirements.txt; make bench-peers-train installs it", jaxEnv)
			}
			turn := func(steps int) {
				ours.train(b, steps)
				for _, peer := range peers {
					peer.train(b, steps)
				}
			}
			const compiling, compared = 3, 6 // GoMLX compiles for the first two steps
			turn(compiling)
			steps := min(max(int(2/slices.Min(ours.Seconds)), 1), 20)
			for range 7 {
				turn(steps)
			}
			took := slices.Min(ours.Seconds[compiling:])
			b.ReportMetric(1e3*took, "ms/step")
			b.ReportMetric(1e3*slices.Min(ours.batches[compiling:]), "ms/batch")
			if len(peers) == 0 {
				return
			}
			apart := 0.0
			for _, peer := range peers {
				for i, loss := range peer.Losses[:compared] {
					apart = max(apart, math.Abs(ours.Losses[i]-loss)/loss)
				}
			}
			header.Do(func() {
				fmt.Println("                                      by the clock, ms                         by the processors, ms             by medians    losses")
				fmt.Println("network      parameters batch     ours      JAX ratio same XLA ratio       ours      JAX ratio same XLA ratio                 apart")
			})
			clock, clockMedians := compareSteps(compiling, func(s *trainingSteps) []float64 { return s.Seconds }, ours, peers)
			work, _ := compareSteps(compiling, func(s *trainingSteps) []float64 { return s.Processors }, ours, peers)
			fmt.Printf("%-12s %10d %5d %s  %s    %s    %.0e\n", network.name, ours.parameters, network.batch, clock, work, clockMedians, apart)
			ratio := took / slices.Min(peers[0].Seconds[compiling:])
			b.ReportMetric(ratio, "steps-of-jax/step")
			if apart > sameLoss {
				b.Errorf("losses differ by %.1e: %v of ours, %v and %v of JAX", apart, ours.Losses[:compared], peers[0].Losses[:compared], peers[1].Losses[:compared])
			}
			if ratio > mostOfJAX && network.resolution == 128 {
				b.Errorf("a step takes %.2f of JAX's, more than %.1f", ratio, mostOfJAX)
			}
		})
	}
}

// compareSteps is the least time of a step after the first ones, in milliseconds, for each peer its own and the ratio of both; and the ratios of medians.
func compareSteps(first int, of func(*trainingSteps) []float64, ours *training, peers []*jaxTraining) (least, medians string) {
	a := of(&ours.trainingSteps)[first:]
	least = fmt.Sprintf("%8.1f", 1e3*slices.Min(a))
	for _, peer := range peers {
		p := of(&peer.trainingSteps)[first:]
		least += fmt.Sprintf(" %8.1f %5.2f", 1e3*slices.Min(p), slices.Min(a)/slices.Min(p))
		medians += fmt.Sprintf(" %.2f", median(a)/median(p))
	}
	return least, medians
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
	trainingSteps
	batches []float64 // seconds of each step that the batch's tensors took to make and hand over
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
	b.Cleanup(func() {
		t.trainer.ResetComputationGraphs()
		t.store.Finalize()
	})
	return t
}

func (t *training) train(b *testing.B, steps int) {
	for range steps {
		start, startProcessors := time.Now(), processors(b)
		batch := train.Batch{Inputs: []*tensors.Tensor{states(t.before, t.resolution)}, Labels: []*tensors.Tensor{states(t.after, t.resolution)}}
		for _, each := range append(batch.Inputs, batch.Labels...) {
			must(b, each.MaterializeOnDevice(t.trainer.Backend(), false, 0)) // as the trainer would
		}
		t.batches = append(t.batches, time.Since(start).Seconds())
		metrics, err := t.trainer.TrainStep(batch)
		must(b, err)
		t.Losses = append(t.Losses, float64(tensors.MustCopyFlatData[float32](metrics[0])[0]))
		t.Seconds, t.Processors = append(t.Seconds, time.Since(start).Seconds()), append(t.Processors, processors(b)-startProcessors)
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

// trainingSteps are steps of a training, as bench/peers/train.py prints them: what each took in seconds, by the clock and by the processors, and its loss.
type trainingSteps struct{ Seconds, Processors, Losses []float64 }

// jaxTraining is bench/peers/train.py at work.
type jaxTraining struct {
	ask     *json.Encoder
	answers *bufio.Scanner
	process *exec.Cmd
	said    *strings.Builder // on its standard error
	trainingSteps
}

// startJAX begins the training that ours begins with, in a process of its own that ends with the benchmark.
func startJAX(b *testing.B, python string, ours *training, network peerNetwork, environment ...string) *jaxTraining {
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
	process.Env = append(os.Environ(), environment...)
	var said strings.Builder
	process.Stderr = &said
	in, err := process.StdinPipe()
	must(b, err)
	out, err := process.StdoutPipe()
	must(b, err)
	must(b, process.Start())
	b.Cleanup(func() {
		_ = in.Close()
		_ = process.Wait()
	})
	j := &jaxTraining{ask: json.NewEncoder(in), answers: bufio.NewScanner(out), process: process, said: &said}
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
		_ = j.process.Wait()
		b.Fatal("JAX has ended: ", j.said)
	}
	must(b, json.Unmarshal(j.answers.Bytes(), to))
}

func (j *jaxTraining) train(b *testing.B, steps int) {
	must(b, j.ask.Encode(steps))
	var more trainingSteps
	j.answer(b, &more)
	j.Seconds, j.Processors, j.Losses = append(j.Seconds, more.Seconds...), append(j.Processors, more.Processors...), append(j.Losses, more.Losses...)
}
