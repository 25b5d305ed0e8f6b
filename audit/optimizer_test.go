package audit

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// The influence under the metric optimizer is by how much a real step on a little of the loss at x lowers the loss at g.x.
func TestInfluenceOfTheNextStep(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for name, made := range map[string]func() optimizer.Interface{
			"adam":    func() optimizer.Interface { return optimizer.Adam().LearningRate(3e-3).Done() },
			"rmsprop": func() optimizer.Interface { return optimizer.RMSProp().Betas(0.9, 0.95).Epsilon(1e-4).Done() },
			"adamax":  func() optimizer.Interface { return optimizer.Adam().Adamax().Done() },
			"sgd":     func() optimizer.Interface { return optimizer.StochasticGradientDescent() },
		} {
			if b.String() != "go" && name != "adam" {
				continue // compiling takes its time
			}
			t.Run(name, func(t *testing.T) {
				store := model.NewStore()
				store.SetParam(model.ParamInitialSeed, int64(5))
				trainer := train.NewTrainer(b, store, twoConvolutions, Loss, made(), nil, nil)
				for step := range 3 {
					_, err := trainer.TrainStep(train.Batch{
						Inputs: []*tensors.Tensor{directedStates(float64(10 + step))}, Labels: []*tensors.Tensor{directedStates(float64(20 + step))}})
					require.NoError(t, err)
				}
				auditor, err := New(trainer, twoConvolutions, Loss).WithField(orbits.EulerField()).WithOptimizer(made()).
					WithGroup(orbits.C4(), Probes{Inputs: directedStates(1), Targets: directedStates(2)}).Done()
				require.NoError(t, err)
				defer auditor.Close()
				_, err = auditor.Preflight(context.Background())
				require.NoError(t, err)
				records, err := auditor.Audit(context.Background(), Moment{})
				require.NoError(t, err)
				require.Equal(t, Converged, records.Solves[0].Status)

				// The weights after a step on so much of the loss at the first state.
				one := func(all *tensors.Tensor) *tensors.Tensor {
					first, err := rows(all, 0, 1)
					require.NoError(t, err)
					return first
				}
				x, y := one(directedStates(1)), one(directedStates(2))
				const much = 1e-6
				stepped := func(share float64) *network.Network {
					copied := model.NewStore()
					for variable := range store.IterVariables() {
						value, err := variable.MustValue().LocalClone()
						require.NoError(t, err)
						if strings.HasSuffix(variable.Path(), "_1st_moment") {
							value = tensors.FromShape(value.Shape()) // momentum moves the weights without a gradient, and away from where the loss is expanded
						}
						own, err := copied.CreateVariable(variable.Path(), value)
						require.NoError(t, err)
						own.Trainable = variable.Trainable
					}
					part := func(labels, predictions []*graph.Node) *graph.Node {
						return graph.MulScalar(Loss(labels, predictions), share)
					}
					other := train.NewTrainer(b, copied, twoConvolutions, part, made(), nil, nil)
					_, err := other.TrainStep(train.Batch{Inputs: []*tensors.Tensor{one(directedStates(1))}, Labels: []*tensors.Tensor{one(directedStates(2))}})
					require.NoError(t, err)
					net, err := network.New(b, twoConvolutions, Loss, dtypes.Float64)
					require.NoError(t, err)
					require.NoError(t, net.Load(copied))
					return net
				}
				more, less := stepped(much), stepped(-much)
				defer more.Close()
				defer less.Close()
				elements, err := orbits.C4().Elements(directedSide, directedSide)
				require.NoError(t, err)
				for _, row := range records.Influence {
					if row.RowSample != 0 || row.ColSample != 0 {
						continue
					}
					for _, element := range elements {
						if element.Name() != row.Element {
							continue
						}
						move := graph.MustNewExec(b, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) })
						gx, gy := move.MustCall(x)[0], move.MustCall(y)[0]
						lower, err := more.Loss(gx, gy)
						require.NoError(t, err)
						higher, err := less.Loss(gx, gy)
						require.NoError(t, err)
						require.InEpsilon(t, (higher-lower)/(2*much), row.Influence, 1e-5, row.Element)
						require.InDelta(t, row.Influence, *row.InfluenceHigh, 1e-6*math.Abs(row.Influence), row.Element)
					}
				}
			})
		}
	})
}

// clipped divides all gradients by their common norm.
type clipped struct{}

func (clipped) UpdateGraph(scope *model.Scope, g *graph.Graph, loss *graph.Node) {
	gradients := scope.BuildTrainableVariablesGradientsGraph(loss)
	norm := graph.ScalarOne(g, loss.DType())
	for _, gradient := range gradients {
		norm = graph.Add(norm, graph.ReduceAllSum(gradient))
	}
	i := 0
	for v := range scope.IterVariables() {
		if v.Trainable && v.InUseByGraph(g) {
			v.SetNodeValue(graph.Sub(v.NodeValue(g), graph.Mul(gradients[i], norm)))
			v.SetNodeValue(graph.Sub(v.NodeValue(g), graph.MulScalar(norm, 0.1)))
			i++
		}
	}
}

func (clipped) Clear(*model.Scope) error { return nil }

func TestOptimizersThatAreRefused(t *testing.T) {
	source := made(t, twoConvolutions)
	builder := func(of optimizer.Interface) *Builder {
		return New(source, twoConvolutions, Loss).WithField(orbits.EulerField()).WithOptimizer(of).
			WithGroup(orbits.C4(), Probes{Inputs: directedStates(1), Targets: directedStates(2)})
	}
	_, err := builder(nil).Done()
	require.EqualError(t, err, "audit: WithMetric is optimizer, and there is none; give that of the training (WithOptimizer)")
	for want, of := range map[string]optimizer.Interface{
		"a weight's step depends on the gradients of others, as by clipping their common norm: use ntk": clipped{},
		"whose next step moves nothing: is its learning rate 0?":                                        optimizer.Adam().LearningRate(0).Done(),
		"its step cannot be built in float64 on the training's variables":                               optimizer.Adam().DType(dtypes.Int32).Done(),
	} {
		auditor, err := builder(of).Done()
		require.NoError(t, err)
		_, err = auditor.Preflight(context.Background())
		require.ErrorContains(t, err, want)
		auditor.Close()
	}
}
