package audit_test

import (
	"context"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
)

// stepped is a model whose second input is the length of its step, and its third a choice of law.
func stepped(scope *model.Scope, inputs []*graph.Node) *graph.Node {
	x, length, law := inputs[0], inputs[1], graph.ConvertDType(inputs[2], inputs[0].DType())
	change := graph.Tanh(layers.Dense(scope.In("dense"), x, true, 4))
	other := graph.Sin(layers.Dense(scope.In("other"), x, true, 4))
	perSample := func(v *graph.Node) *graph.Node { return graph.Reshape(v, -1, 1, 1, 1) }
	change = graph.Add(change, graph.Mul(perSample(law), graph.Sub(other, change)))
	return graph.Add(x, graph.Mul(perSample(length), change))
}

// One sample's further inputs must not reach another's gradient, nor stay behind when the sample is moved.
func TestFurtherInputs(t *testing.T) {
	lengths, laws := []float32{0.5, 2, 1}, []int32{0, 1, 0}
	p := probes(3, 0)
	p.Further = []*tensors.Tensor{tensors.FromValue(lengths), tensors.FromValue(laws)}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(7))
		model.MustNewExec(b, store, stepped).MustCall(batch(flow(1, 3)), lengths, laws)
		for _, metric := range []audit.Metric{audit.Identity, audit.NTK, audit.GGN} {
			auditor, err := audit.New(source{b, store}, stepped, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).WithMetric(metric).
				WithDType(dtypes.Float64).WithRelativeLambda(1).Done()
			require.NoError(t, err)
			_, err = auditor.Preflight(context.Background())
			require.NoError(t, err)
			records, err := auditor.Audit(context.Background(), audit.Moment{})
			require.NoError(t, err)
			auditor.Close()
			if metric != audit.Identity {
				continue // that it works is enough
			}
			elements, err := orbits.D4().Elements(grid, grid)
			require.NoError(t, err)
			for _, row := range records.Influence {
				if row.RowSample != row.ColSample || row.Element != "r" {
					continue
				}
				i := int(row.RowSample)
				network, err := solver.NewNetwork(b, func(scope *model.Scope, x *graph.Node) *graph.Node {
					length := graph.ConvertDType(graph.Const(x.Graph(), lengths[i:i+1]), x.DType())
					return stepped(scope, []*graph.Node{x, length, graph.Const(x.Graph(), laws[i:i+1])})
				}, audit.Loss, dtypes.Float64)
				require.NoError(t, err)
				require.NoError(t, network.Load(store))
				gradients := [2][]float64{make([]float64, network.Dim()), make([]float64, network.Dim())}
				for g, element := range []orbits.Element{elements[0], elements[1]} {
					act := graph.MustNewExec(b, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) })
					one := func(values []float32) *tensors.Tensor {
						const size = grid * grid * 4
						moved := act.MustCall(batch(values[i*size : (i+1)*size]))[0]
						converted, err := solver.ConvertDType(moved, dtypes.Float64)
						require.NoError(t, err)
						return converted
					}
					_, err := network.Gradient(gradients[g], one(flow(1, 3)), one(flow(2, 3)))
					require.NoError(t, err)
				}
				product := 0.0
				for k := range gradients[0] {
					product += gradients[0][k] * gradients[1][k]
				}
				require.InEpsilon(t, product, row.Influence, 1e-9)
				network.Close()
			}
		}
	})
}

func TestFurtherInputsAreOneForEachProbe(t *testing.T) {
	for _, further := range []*tensors.Tensor{nil, tensors.FromScalar(1.0), tensors.FromValue([]float64{1, 2})} {
		p := probes(3, 0)
		p.Further = []*tensors.Tensor{further}
		_, err := audit.New(source{backendtest.Go(t), model.NewStore()}, stepped, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).Done()
		require.ErrorContains(t, err, "audit: Probes.Further[0] is ")
		require.ErrorContains(t, err, "each further input must be [3, ...], one for each probe")
	}
}

func TestAModelThatTakesAnotherNumberOfInputs(t *testing.T) {
	fn := smallUNet.Fn()
	p := probes(2, 0)
	p.Further = []*tensors.Tensor{tensors.FromValue([]float64{1, 2})}
	from := source{backendtest.Go(t), model.NewStore()}
	_, err := audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).Done()
	require.EqualError(t, err, "audit: the number of inputs that the model takes is 1, and that of the probes of group d4 is 2, the states and 1 in Probes.Further; give there all that the model takes beside the states, in order")
	two := func(_ *model.Scope, x, length *graph.Node) *graph.Node { return graph.Mul(x, length) }
	_, err = audit.New(from, two, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).Done()
	require.ErrorContains(t, err, "takes is 2, and that of the probes of group d4 is 1, the states and 0 in Probes.Further")
}
