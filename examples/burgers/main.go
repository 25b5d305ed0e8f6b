// Command burgers audits a small network on a line while it learns a step of Burgers' equation, u_t + u u_x = nu u_xx. In the mirror x -> -x a
// velocity turns round, u(x) becomes -u(-x), so u is declared a vector of one component. Shifts are the second symmetry, and Galilean boosts
// the third: who moves along sees u + c, and a step later all of it c dt further on.
//
// The network sees each cell with its neighbours on a periodic line: it has the shifts from birth, and mirror and boosts to learn.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"os"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/dataset"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/orbits"
)

const (
	size      = 32 // cells of a line of length 2 pi
	viscosity = 0.2
	step      = 2 * math.Pi / size // of time: velocity 1 crosses one cell
)

var field = orbits.Field{Channels: []string{"velocity"}, Vectors: [][]int{{0}}}

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
	before, after := transitions(128, 1)
	trainDS, err := dataset.InMemoryFromData(backend, "burgers", []any{before}, []any{after})
	if err != nil {
		return err
	}
	trainDS.BatchSize(8, true)
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(1))
	trainer := train.NewTrainer(backend, store, network, audit.Loss, optimizer.Adam().LearningRate(5e-3).Done(), nil, nil)
	loop := train.NewLoop(trainer)

	x, y := transitions(4, 2)
	probes := audit.Probes{Inputs: x, Targets: y}
	auditor, err := audit.New(trainer, network, audit.Loss).
		WithField(field).
		WithGroup(orbits.Reflections(), probes).
		WithGroup(orbits.GridOnly(orbits.Reflections()), probes). // the mistake of a field without a vector
		WithGroup(orbits.Translations(4), probes).
		WithGroup(orbits.Custom("boosts", faster(1), faster(-1)), probes).
		WithRelativeLambda(1e-2).WithDType(dtypes.Float32).
		Done()
	if err != nil {
		return err
	}
	defer auditor.Close()
	fmt.Fprintln(out, "epoch  group                  target error  commutator error  coherence")
	hook, err := hooks.New(auditor).
		WithSchedule(hooks.EveryEpochs(30)).
		WithOnAudit(func(records *audit.Records) {
			for _, row := range records.Summaries() {
				fmt.Fprintf(out, "%5.0f  %-21s  %12.1e  %16.1e  %9.3f\n", row.Epoch, row.GroupName, *row.MedianTargetError, *row.MedianCommutatorError, *row.Median)
			}
		}).
		Attach(loop)
	if err != nil {
		return err
	}
	_, err = loop.RunEpochs(hook.Dataset(trainDS), 60)
	return errors.Join(err, hook.Close())
}

// faster is a boost by c, a whole number of cells in a step. orbits.Boosts would need density and energy.
func faster(c int) orbits.Element {
	add := func(u *graph.Node) *graph.Node { return graph.AddScalar(u, float64(c)) }
	return orbits.NewElement(fmt.Sprintf("faster(%d)", c), add).
		WithOutput(func(u *graph.Node) *graph.Node { return add(rolled(u, c)) })
}

// rolled moves a periodic line, [n, x, channel], to the right by some cells.
func rolled(u *graph.Node, cells int) *graph.Node {
	cut := (size - cells) % size
	return graph.Concatenate([]*graph.Node{graph.SliceAxis(u, 1, graph.AxisRange(cut, size)), graph.SliceAxis(u, 1, graph.AxisRange(0, cut))}, 1)
}

// network predicts the velocities [n, x, 1] after a step: two convolutions over a periodic line.
func network(scope *model.Scope, u *graph.Node) *graph.Node {
	convolution := func(s *model.Scope, x *graph.Node, channels int) *graph.Node {
		around := []*graph.Node{rolled(x, -2), rolled(x, -1), x, rolled(x, 1), rolled(x, 2)}
		return layers.Dense(s, graph.Concatenate(around, 2), true, channels)
	}
	return graph.Add(u, convolution(scope.In("out"), graph.Tanh(convolution(scope.In("in"), u, 8)), 1))
}

// transitions are steps of some lines, [n, x, 1]: sums of three waves, with a mean.
func transitions(n int, seed uint64) (before, after *tensors.Tensor) {
	random := rand.New(rand.NewPCG(seed, 0))
	var x, y []float32
	for range n {
		u, mean := make([]float64, size), random.NormFloat64()/2
		for k := 1; k <= 3; k++ {
			height, phase := random.NormFloat64()/float64(k), 2*math.Pi*random.Float64()
			for i := range u {
				u[i] += mean/3 + height*math.Sin(2*math.Pi*float64(k*i)/size+phase)
			}
		}
		for i, v := range evolved(u) {
			x, y = append(x, float32(u[i])), append(y, float32(v))
		}
	}
	return tensors.FromFlatDataAndDimensions(x, n, size, 1), tensors.FromFlatDataAndDimensions(y, n, size, 1)
}

// evolved is a line after a step, exact for waves that the grid resolves, by the substitution of Cole and Hopf: where u = m - 2 nu phi_x /
// phi, with m its mean, phi spreads as heat does, carried along by m.
func evolved(u []float64) []float64 {
	mean := 0.0
	for _, v := range u {
		mean += v / size
	}
	exponent := spectral(u, func(k float64) complex128 {
		if k == 0 {
			return 0
		}
		return -1 / complex(0, 2*viscosity*k) // the integral of u - m, over -2 nu
	})
	phi := make([]float64, size)
	for i, v := range exponent {
		phi[i] = math.Exp(v)
	}
	later := func(k float64) complex128 { return cmplx.Exp(complex(-viscosity*k*k*step, -k*mean*step)) }
	spread := spectral(phi, later)
	slope := spectral(phi, func(k float64) complex128 { return complex(0, k) * later(k) })
	after := make([]float64, size)
	for i := range after {
		after[i] = mean - 2*viscosity*slope[i]/spread[i]
	}
	return after
}

// spectral multiplies each wave e^ikx of a line by a factor. The highest, which stands for both signs of k, is left out: here it holds rounding.
func spectral(u []float64, factor func(k float64) complex128) []float64 {
	out := make([]float64, size)
	for k := 1 - size/2; k < size/2; k++ {
		coefficient := complex(0, 0)
		for j, v := range u {
			coefficient += complex(v/size, 0) * cmplx.Exp(complex(0, -2*math.Pi*float64(k*j%size)/size))
		}
		coefficient *= factor(float64(k))
		for j := range out {
			out[j] += real(coefficient * cmplx.Exp(complex(0, 2*math.Pi*float64(k*j%size)/size)))
		}
	}
	return out
}
