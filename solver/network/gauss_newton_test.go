package network_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	lossfn "github.com/gomlx/gomlx/ml/train/loss"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// scaledSquare is the mean of ((prediction - label) / (|label| + 1))^2, one value per sample as SMSE.
func scaledSquare(labels, predictions []*graph.Node) *graph.Node {
	scale := graph.AddScalar(graph.Abs(labels[0]), 1)
	return graph.ReduceMean(graph.Square(graph.Div(graph.Sub(predictions[0], labels[0]), scale)), 1)
}

// withLoss is loaded for another loss than meanSquare.
func withLoss(t testing.TB, b compute.Backend, fn network.ModelFn, loss network.LossFn, x *tensors.Tensor) *network.Network {
	t.Helper()
	_, store := loaded(t, b, fn, x, dtypes.Float64)
	net, err := network.New(b, fn, loss, dtypes.Float64)
	require.NoError(t, err)
	t.Cleanup(net.Close)
	require.NoError(t, net.Load(store))
	return net
}

// noise is a float64 tensor of standard normal values.
func noise(seed uint64, dimensions ...int) *tensors.Tensor {
	x := tensors.FromShape(shapes.Make(dtypes.Float64, dimensions...))
	tensors.MustMutableFlatData(x, func(flat []float64) {
		random := rand.New(rand.NewPCG(seed, seed))
		for i := range flat {
			flat[i] = random.NormFloat64()
		}
	})
	return x
}

// dense forms op, which must be symmetric.
func dense(t testing.TB, op solver.Operator) *mat.SymDense {
	t.Helper()
	matrix, asymmetry, err := oracle.Dense(op)
	require.NoError(t, err)
	require.LessOrEqual(t, asymmetry, 1e-12*mat.Max(matrix))
	return matrix
}

func requireClose(t testing.TB, want, got mat.Matrix) {
	t.Helper()
	var difference mat.Dense
	difference.Sub(got, want)
	require.Positive(t, mat.Norm(want, 2))
	require.LessOrEqual(t, mat.Norm(&difference, 2)/mat.Norm(want, 2), 1e-10)
}

func TestGaussNewtonAgainstTheJacobian(t *testing.T) {
	const batch, scale = 3, 0.7
	rows, grid := []int{batch, 2}, []int{batch, 4, 4, 2}
	cases := []struct {
		name    string
		model   network.ModelFn
		loss    network.LossFn
		x, y    *tensors.Tensor
		hessian func(output, label []float64) *mat.SymDense // of all samples, flattened
	}{
		{"mean square of convolutions", strided(3), meanSquare, noise(3, grid...), noise(4, batch, 2, 2, 2),
			func(output, label []float64) *mat.SymDense {
				h := mat.NewSymDense(len(output), nil)
				for i := range output {
					h.SetSym(i, i, 2.0/8)
				}
				return h
			}},
		{"scaled square", twoLayers, scaledSquare, noise(5, rows...), noise(6, rows...),
			func(output, label []float64) *mat.SymDense {
				h := mat.NewSymDense(len(output), nil)
				for i := range output {
					h.SetSym(i, i, 2.0/2/math.Pow(math.Abs(label[i])+1, 2))
				}
				return h
			}},
		{"cross-entropy", twoLayers, lossfn.CategoricalCrossEntropyLogits, noise(7, rows...),
			tensors.FromValue([][]float64{{1, 0}, {0, 1}, {0.3, 0.7}}),
			func(output, label []float64) *mat.SymDense {
				h := mat.NewSymDense(len(output), nil)
				for i := 0; i < len(output); i += 2 {
					p := 1 / (1 + math.Exp(output[i+1]-output[i]))
					h.SetSym(i, i, p*(1-p))
					h.SetSym(i+1, i+1, p*(1-p))
					h.SetSym(i, i+1, -p*(1-p))
				}
				return h
			}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				x, err := c.x.LocalClone() // a tensor that was on one backend cannot go to another
				require.NoError(t, err)
				y, err := c.y.LocalClone()
				require.NoError(t, err)
				net := withLoss(t, b, c.model, c.loss, x)
				jacobian, err := net.Jacobian(x)
				require.NoError(t, err)
				output, err := net.Predict(x)
				require.NoError(t, err)
				hessian := c.hessian(tensors.MustCopyFlatData[float64](output), tensors.MustCopyFlatData[float64](c.y))
				var want mat.Dense
				want.Product(jacobian.T(), hessian, jacobian)
				want.Scale(scale, &want)
				for _, most := range []int64{0, math.MaxInt64} {
					metric, err := net.GaussNewton(x, scale, most, y)
					require.NoError(t, err)
					require.Equal(t, most > 0, metric.Linearised())
					requireClose(t, &want, dense(t, metric))
					require.NoError(t, metric.Close())
				}
			})
		})
	}
}

func TestGaussNewtonSumsOverSamples(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x, y := [][]float64{{0.2, -0.9}, {1.1, 0.4}}, [][]float64{{0.1, 2}, {-3, 0.5}}
		net := withLoss(t, b, twoLayers, scaledSquare, tensors.FromValue(x))
		of := func(from, to int, scale float64) *mat.SymDense {
			metric, err := net.GaussNewton(tensors.FromValue(x[from:to]), scale, 0, tensors.FromValue(y[from:to]))
			require.NoError(t, err)
			return dense(t, metric)
		}
		var sum mat.SymDense
		sum.AddSym(of(0, 1, 1), of(1, 2, 1))
		requireClose(t, &sum, of(0, 2, 1))
		sum.ScaleSym(0.25, &sum)
		requireClose(t, &sum, of(0, 2, 0.25))
	})
}

// A loss that is not convex everywhere: its curvature is 2 where a difference is small and below 0 where it is large.
func TestLossCurvatureTellsWhetherALossIsConvex(t *testing.T) {
	welsch := func(labels, predictions []*graph.Node) *graph.Node {
		square := graph.Square(graph.Sub(predictions[0], labels[0]))
		return graph.ReduceAllMean(graph.Neg(graph.Exp(graph.Neg(square))))
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		x, y := tensors.FromValue([][]float64{{0.2, -0.9}, {1.1, 0.4}}), tensors.FromValue([][]float64{{0.1, 2}, {-3, 0.5}})
		net := withLoss(t, b, twoLayers, welsch, x)
		output, err := net.Predict(x)
		require.NoError(t, err)
		predicted := tensors.MustCopyFlatData[float64](output)
		low, high := math.Inf(1), math.Inf(-1)
		for i, label := range []float64{0.1, 2, -3, 0.5} {
			d := predicted[i] - label
			curvature := (2 - 4*d*d) * math.Exp(-d*d) / 2 // a mean over two outputs
			low, high = min(low, curvature), max(high, curvature)
		}
		require.Negative(t, low)
		smallest, largest, err := net.LossCurvature(x, 20, y)
		require.NoError(t, err)
		require.InEpsilon(t, low, smallest, 1e-9)
		require.InEpsilon(t, high, largest, 1e-9)
		smallest, _, err = withLoss(t, b, twoLayers, scaledSquare, x).LossCurvature(x, 20, y)
		require.NoError(t, err)
		require.Positive(t, smallest)
	})
}
