package forward_test

import (
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/layers/attention"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/solver/forward"
)

// convolutional maps [batch, 32, 32, 4] to itself by five convolutions, two of them on half the grid.
func convolutional(scope *model.Scope, x node) node {
	layer := func(name string, x node, channels int) node {
		return layers.Convolution(scope.In("%s", name), x).Channels(channels).KernelSize(3).PadSame().Done()
	}
	x = activation.Gelu(layer("a", x, 32))
	skip := activation.Gelu(layer("b", x, 32))
	x = graph.MeanPool(skip).Window(2).Done()
	x = activation.Gelu(layer("c", x, 64))
	x = activation.Gelu(layer("d", x, 32))
	x = graph.Concatenate([]node{graph.Interpolate(x, -1, 32, 32, -1).Nearest().Done(), skip}, 3)
	return layer("e", x, 4)
}

// attentive maps [batch, 64, 32] to itself by two transformer blocks.
func attentive(scope *model.Scope, x node) node {
	x = layers.Dense(scope.In("embed"), x, true, 64)
	for i := range 2 {
		block := scope.In("block%d", i)
		x = graph.Add(x, attention.SelfAttention(block.In("attention"), norm.LayerNorm(block.In("before"), x, -1).Done(), 4, 16).Done())
		hidden := activation.Gelu(layers.Dense(block.In("wide"), norm.LayerNorm(block.In("between"), x, -1).Done(), true, 256))
		x = graph.Add(x, layers.Dense(block.In("narrow"), hidden, true, 64))
	}
	return layers.Dense(scope.In("output"), x, true, 32)
}

// BenchmarkMetricProduct measures J^T (J v) for all parameters against one gradient of a mean square: the metric
// "gradients" is what a product costs.
func BenchmarkMetricProduct(b *testing.B) {
	// With operations in parallel the Go backend of GoMLX v0.28.3 hangs when all its workers start large matrix products
	// at once, each waiting for workers to share its own with.
	sequential, err := backend.Open("go:ops_sequential")
	require.NoError(b, err)
	for _, network := range []struct {
		name       string
		build      func(scope *model.Scope, x node) node
		dimensions []int
	}{
		{"convolution", convolutional, []int{8, 32, 32, 4}},
		{"attention", attentive, []int{16, 64, 32}},
	} {
		for name, backend := range map[string]compute.Backend{"go": sequential.Backend, "xla": backendtest.XLA(b)} {
			b.Run(network.name+"/"+name, func(b *testing.B) { measureProduct(b, backend, network.build, network.dimensions) })
		}
	}
}

func measureProduct(b *testing.B, backend compute.Backend, build func(scope *model.Scope, x node) node, dimensions []int) {
	store := model.NewStore()
	defer store.Finalize()
	parameters := func(g *graph.Graph) (nodes []node) {
		for v := range store.IterVariables() {
			if v.Trainable {
				nodes = append(nodes, v.NodeValue(g))
			}
		}
		return nodes
	}
	gradient := model.MustNewExec(backend, store, func(scope *model.Scope, x node) []node {
		y := build(scope, x)
		return graph.Gradient(graph.ReduceAllMean(graph.Square(graph.Sub(y, x))), parameters(x.Graph())...)
	})
	defer gradient.Finalize()
	product := model.MustNewExec(backend, store, func(scope *model.Scope, x node) []node {
		y := build(scope, x)
		inputs := parameters(x.Graph())
		tangents := make([]node, len(inputs))
		for i, input := range inputs {
			tangents[i] = graph.Sin(graph.AddScalar(input, float64(i)))
		}
		image := graph.StopGradient(forward.JVP([]node{y}, inputs, tangents)[0])
		return graph.Gradient(graph.ReduceAllSum(graph.Mul(y, image)), inputs...)
	})
	defer product.Finalize()

	size := 1
	for _, dimension := range dimensions {
		size *= dimension
	}
	flat := make([]float32, size)
	for i := range flat {
		flat[i] = float32(i%17)/8 - 1
	}
	x := tensors.FromFlatDataAndDimensions(flat, dimensions...)
	once := func(exec *model.Exec) time.Duration {
		start := time.Now()
		for _, output := range exec.MustCall(x) {
			output.MustFinalizeAll()
		}
		return time.Since(start)
	}
	once(gradient)
	once(product)
	var ofGradient, ofProduct time.Duration
	for b.Loop() {
		ofGradient += once(gradient)
		ofProduct += once(product)
	}
	b.ReportMetric(float64(ofProduct)/float64(ofGradient), "gradients")
	b.ReportMetric(float64(ofGradient.Nanoseconds())/float64(b.N), "ns/gradient")
}
