package main

import (
	"math"
	"math/rand/v2"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/orbits"
)

// size is the number of cells in each direction.
const size = 12

// field is that of a slow flow: a velocity and a pressure.
var field = orbits.Field{Channels: []string{"velocity_x", "velocity_y", "pressure"}, Vectors: [][]int{{0, 1}}}

const channels = 3

// flows are n random smooth states and what the law makes of them. The law is an explicit step of
//
//	du/dt = -(u.grad)u - grad p + nu lap u,   dp/dt = -div u + nu lap p
//
// by central differences on a periodic grid: it commutes exactly with turns, reflections and shifts by cells.
func flows(n int, seed uint64) (states, later *tensors.Tensor) {
	const (
		dt = 0.15
		nu = 0.2
	)
	random := rand.New(rand.NewPCG(seed, 7))
	before, after := make([]float32, 0, n*size*size*channels), make([]float32, 0, n*size*size*channels)
	for range n {
		state := smooth(random)
		at := func(y, x, c int) float64 { return state[(mod(y)*size+mod(x))*channels+c] }
		for y := range size {
			for x := range size {
				dx := func(c int) float64 { return (at(y, x+1, c) - at(y, x-1, c)) / 2 }
				dy := func(c int) float64 { return (at(y+1, x, c) - at(y-1, x, c)) / 2 }
				laplacian := func(c int) float64 {
					return at(y, x+1, c) + at(y, x-1, c) + at(y+1, x, c) + at(y-1, x, c) - 4*at(y, x, c)
				}
				u, v, p := at(y, x, 0), at(y, x, 1), at(y, x, 2)
				step := [channels]float64{
					u + dt*(-u*dx(0)-v*dy(0)-dx(2)+nu*laplacian(0)),
					v + dt*(-u*dx(1)-v*dy(1)-dy(2)+nu*laplacian(1)),
					p + dt*(-dx(0)-dy(1)+nu*laplacian(2)),
				}
				for c := range channels {
					before, after = append(before, float32(at(y, x, c))), append(after, float32(step[c]))
				}
			}
		}
	}
	shape := []int{n, size, size, channels}
	return tensors.FromFlatDataAndDimensions(before, shape...), tensors.FromFlatDataAndDimensions(after, shape...)
}

func mod(i int) int { return (i%size + size) % size }

// smooth is a state of waves of up to three periods.
func smooth(random *rand.Rand) []float64 {
	const most = 3
	state := make([]float64, size*size*channels)
	for c := range channels {
		for ky := -most; ky <= most; ky++ {
			for kx := -most; kx <= most; kx++ {
				amplitude := random.NormFloat64() / (1 + float64(ky*ky+kx*kx))
				phase := 2 * math.Pi * random.Float64()
				for y := range size {
					for x := range size {
						state[(y*size+x)*channels+c] += amplitude * math.Cos(phase+2*math.Pi*float64(ky*y+kx*x)/size)
					}
				}
			}
		}
	}
	return state
}

// network predicts the change of a state [n, y, x, 3] by convolutions on the periodic grid.
func network(scope *model.Scope, x *graph.Node) *graph.Node {
	hidden := graph.Tanh(layers.Convolution(scope.In("in"), periodic(x)).Channels(16).KernelSize(3).NoPadding().Done())
	change := layers.Convolution(scope.In("out"), hidden).Channels(channels).KernelSize(1).NoPadding().Done()
	return graph.Add(x, change)
}

// periodic adds a cell at each side, taken from the other.
func periodic(x *graph.Node) *graph.Node {
	for axis := 1; axis <= 2; axis++ {
		first := graph.SliceAxis(x, axis, graph.AxisRange(0, 1))
		last := graph.SliceAxis(x, axis, graph.AxisRange(size-1, size))
		x = graph.Concatenate([]*graph.Node{last, x, first}, axis)
	}
	return x
}
