package audit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
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
		for _, metric := range []audit.Metric{audit.MetricIdentity, audit.MetricNTK, audit.MetricGGN} {
			auditor, err := audit.New(source{b, store}, stepped, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).WithMetric(metric).
				WithDType(dtypes.Float64).WithRelativeLambda(1).Done()
			require.NoError(t, err)
			_, err = auditor.Preflight(context.Background())
			require.NoError(t, err)
			records, err := auditor.Audit(context.Background(), audit.Moment{})
			require.NoError(t, err)
			auditor.Close()
			if metric != audit.MetricIdentity {
				continue // that it works is enough
			}
			elements, err := orbits.D4().Elements(grid, grid)
			require.NoError(t, err)
			for _, row := range records.Influence {
				if row.RowSample != row.ColSample || row.Element != "r" {
					continue
				}
				i := int(row.RowSample)
				net, err := network.New(b, func(scope *model.Scope, x *graph.Node) *graph.Node {
					length := graph.ConvertDType(graph.Const(x.Graph(), lengths[i:i+1]), x.DType())
					return stepped(scope, []*graph.Node{x, length, graph.Const(x.Graph(), laws[i:i+1])})
				}, audit.Loss, dtypes.Float64)
				require.NoError(t, err)
				require.NoError(t, net.Load(store))
				gradients := [2][]float64{make([]float64, net.Dim()), make([]float64, net.Dim())}
				for g, element := range []orbits.Element{elements[0], elements[1]} {
					act := graph.MustNewExec(b, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) })
					one := func(values []float32) *tensors.Tensor {
						const size = grid * grid * 4
						moved := act.MustCall(batch(values[i*size : (i+1)*size]))[0]
						converted, err := network.ConvertDType(moved, dtypes.Float64)
						require.NoError(t, err)
						return converted
					}
					_, err := net.Gradient(gradients[g], one(flow(1, 3)), one(flow(2, 3)))
					require.NoError(t, err)
				}
				product := 0.0
				for k := range gradients[0] {
					product += gradients[0][k] * gradients[1][k]
				}
				require.InEpsilon(t, product, row.Influence, 1e-9)
				net.Close()
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
		require.ErrorContains(t, err, "it must be [3, ...], one for each probe")
	}
}

// What the trainer takes, an audit takes: every signature of a model, spec and several outputs included, with the same result.
func TestEverySignature(t *testing.T) {
	b := backendtest.Go(t)
	two := func(scope *model.Scope, x *graph.Node) (*graph.Node, *graph.Node) {
		return layers.Dense(scope.In("dense"), x, true, 4), layers.Dense(scope.In("other"), x, true, 2)
	}
	lossOfOne := func(of int) func(labels, predictions []*graph.Node) *graph.Node {
		return func(labels, predictions []*graph.Node) *graph.Node {
			return audit.Loss(labels, predictions[of:])
		}
	}
	trainer := trained(t, b, func(scope *model.Scope, x *graph.Node) *graph.Node {
		state, other := two(scope, x)
		return graph.Add(state, graph.MulScalar(graph.Concatenate([]*graph.Node{other, other}, -1), 0.01))
	})
	records := func(builder *audit.Builder) *audit.Records {
		return auditOnce(t, builder.WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).WithRelativeLambda(0.1))
	}
	want := records(audit.New(trainer, func(scope *model.Scope, x *graph.Node) *graph.Node { state, _ := two(scope, x); return state }, nil))
	for name, builder := range map[string]*audit.Builder{
		"slice": audit.New(trainer, func(scope *model.Scope, x []*graph.Node) []*graph.Node {
			state, _ := two(scope, x[0])
			return []*graph.Node{state}
		}, nil),
		"two outputs": audit.New(trainer, two, nil).WithOutput(0),
		"the second of a slice": audit.New(trainer, func(scope *model.Scope, x *graph.Node) []*graph.Node {
			state, other := two(scope, x)
			return []*graph.Node{other, state}
		}, lossOfOne(1)).WithOutput(1),
		"GoMLX's own, with a spec": audit.New(trainer, train.ModelFn(func(scope *model.Scope, spec any, x []*graph.Node) []*graph.Node {
			require.Equal(t, "spec", spec)
			state, other := two(scope, x[0])
			return []*graph.Node{state, other}
		}), nil).WithSpec("spec").WithOutput(0),
	} {
		t.Run(name, func(t *testing.T) {
			got := records(builder)
			require.Equal(t, want.Errors, got.Errors)
			require.Equal(t, want.Influence, got.Influence)
		})
	}
}

func TestSignaturesThatDoNotFit(t *testing.T) {
	b := backendtest.Go(t)
	one := func(_ *model.Scope, x *graph.Node) *graph.Node { return x }
	three := func(_ *model.Scope, x, _, _ *graph.Node) *graph.Node { return x }
	two := func(_ *model.Scope, x *graph.Node) (*graph.Node, *graph.Node) { return x, x }
	many := func(_ *model.Scope, x *graph.Node) []*graph.Node { return []*graph.Node{x, x} }
	with := func(further int) audit.Probes {
		p := probes(2, 0)
		for range further {
			p.Further = append(p.Further, tensors.FromValue([]float64{1, 2}))
		}
		return p
	}
	from := source{b, model.NewStore()}
	for name, test := range map[string]struct {
		builder *audit.Builder
		want    string
	}{
		"forgotten": {audit.New(from, three, nil).WithGroup(orbits.D4(), with(1)), "audit: the model takes 3 inputs and the probes of group d4 have 2: give the states in Probes.Inputs and the 2 others in Probes.Further"},
		"too many":  {audit.New(from, one, nil).WithGroup(orbits.D4(), with(1)), "audit: the model takes 1 inputs and the probes of group d4 have 2"},
		"outputs":   {audit.New(from, two, nil).WithGroup(orbits.D4(), with(0)), "audit: the model has 2 outputs; choose the one that is the state, from 0 (WithOutput)"},
		"beyond":    {audit.New(from, two, nil).WithOutput(2).WithGroup(orbits.D4(), with(0)), "audit: output 2 of the model was chosen; it has 2, and the first is 0 (WithOutput)"},
		"negative":  {audit.New(from, many, nil).WithOutput(-1).WithGroup(orbits.D4(), with(0)), "audit: output -1 of the model was chosen; the first is 0 (WithOutput)"},
		"no input":  {audit.New(from, func(*model.Scope, *graph.Graph) *graph.Node { return nil }, nil).WithGroup(orbits.D4(), with(0)), "which takes no input; it must take the states"},
		"no output": {audit.New(from, func(*model.Scope, *graph.Node) {}, nil).WithGroup(orbits.D4(), with(0)), "which returns no output; it must return its predictions"},
		"ggn":       {audit.New(from, two, nil).WithOutput(0).WithMetric(audit.MetricGGN).WithGroup(orbits.D4(), with(0)), "the metric ggn needs a model with one output, this has 2: use ntk or fisher"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.builder.WithField(orbits.EulerField()).Done()
			require.ErrorContains(t, err, test.want)
		})
	}
	auditor, err := audit.New(from, many, nil).WithField(orbits.EulerField()).WithForwardOnly().WithGroup(orbits.D4(), with(0)).Done()
	require.NoError(t, err)
	defer auditor.Close()
	_, err = auditor.Preflight(context.Background())
	require.ErrorContains(t, err, "audit: the model has 2 outputs; choose the one that is the state, from 0 (WithOutput)", "which only building it tells")
}

// What is wrong with a tensor of the probes, or missing beside them, is said of it.
func TestProbesThatAreNotWhatTheModelTakes(t *testing.T) {
	from := source{backendtest.Go(t), model.NewStore()}
	fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return layers.Dense(scope.In("dense"), x, true, 4)
	}
	freed := probes(2, 0)
	require.NoError(t, freed.Targets.FinalizeAll())
	_, err := audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), freed).Done()
	require.EqualError(t, err, "audit: Probes.Targets has been freed, as a step of GoMLX's trainer frees its batch; make the tensors of the probes anew")
	whole := probes(2, 0)
	whole.Targets = tensors.FromFlatDataAndDimensions(make([]int32, 2*grid*grid*4), 2, grid, grid, 4)
	_, err = audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), whole).Done()
	require.ErrorContains(t, err, "states and targets must be of one type: convert the targets, or declare the output invariant")

	withSpec := func(scope *model.Scope, spec any, x *graph.Node) *graph.Node {
		return graph.MulScalar(fn(scope, x), spec.(float64))
	}
	auditor, err := audit.New(trained(t, backendtest.Go(t), fn), withSpec, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).Done()
	require.NoError(t, err)
	defer auditor.Close()
	_, err = auditor.Preflight(context.Background())
	require.ErrorContains(t, err, "the model takes a spec, which is nil: give that of the training's batches (WithSpec)")

	constant := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return graph.Mul(fn(scope, x), graph.Const(x.Graph(), float32(2)))
	}
	double, err := audit.New(trained(t, backendtest.Go(t), fn), constant, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithRelativeLambda(1e-6).Done()
	require.NoError(t, err)
	defer double.Close()
	_, err = double.Preflight(context.Background())
	require.ErrorContains(t, err, "has numbers in float32 whatever the precision of its input: audit it in float32 (WithDType), or make them in that precision (x.DType())")
}

// Masks, as inputs and as labels, move with the states that they belong to: of a model and a loss that are symmetric with them,
// learning carries over exactly.
func TestMasksMoveWithTheirStates(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		random := rand.New(rand.NewPCG(5, 5))
		const n = 2
		mask, weights := make([]bool, n*grid*grid), make([]float32, n*grid*grid)
		for i := range mask {
			mask[i], weights[i] = random.Float64() < 0.6, random.Float32()
		}
		p := probes(n, 0)
		p.Further = []*tensors.Tensor{tensors.FromFlatDataAndDimensions(mask, n, grid, grid)}
		p.Labels = []*tensors.Tensor{tensors.FromFlatDataAndDimensions(weights, n, grid, grid, 1), tensors.FromValue([]float32{1, 3})}
		fn := func(scope *model.Scope, x, mask *graph.Node) *graph.Node { // scalars by one weight each, vectors by one for both components
			w := scope.VariableWithValue("weights", shapes.CastAsDType([]float64{0.3, 0.2, -0.4}, x.DType())).NodeValue(x)
			w = graph.Concatenate([]*graph.Node{graph.Slice(w, graph.AxisRange(0, 2)), graph.Slice(w, graph.AxisRange(1))}, 0)
			change := graph.Mul(x, graph.ExpandLeftToRank(w, 4))
			return graph.Add(x, graph.Where(graph.BroadcastToShape(graph.InsertAxes(mask, -1), x.Shape()), change, graph.ZerosLike(x)))
		}
		masked := func(labels, predictions []*graph.Node) *graph.Node {
			perSample := graph.Reshape(labels[2], -1, 1, 1, 1)
			return graph.ReduceAllMean(graph.Mul(graph.Mul(labels[1], perSample), graph.Square(graph.Sub(predictions[0], labels[0]))))
		}
		store := model.NewStore()
		model.MustNewExec(b, store, func(scope *model.Scope, x, mask *graph.Node) *graph.Node { return fn(scope, x, mask) }).MustCall(batch(flow(1, n)), p.Further[0])
		builder := func() *audit.Builder {
			return audit.New(source{b, store}, fn, masked).WithField(orbits.EulerField()).WithDType(dtypes.Float64).WithRelativeLambda(1)
		}
		auditor, err := builder().WithGroup(orbits.Product(orbits.D4(), orbits.Translations(4)), p).Done()
		require.NoError(t, err)
		defer auditor.Close()
		_, err = auditor.Preflight(context.Background())
		require.NoError(t, err)
		records, err := auditor.Audit(context.Background(), audit.Moment{})
		require.NoError(t, err)
		for _, row := range records.Errors {
			require.Less(t, row.CommutatorError, 1e-28, row.Element)
		}
		for _, row := range records.Influence {
			if row.RowSample == row.ColSample {
				require.InDelta(t, 1, *row.Cosine, 1e-9, row.Element)
			}
		}
		_, err = builder().WithGroup(orbits.Translations(0.5), p).Done()
		require.ErrorContains(t, err, "audit: Probes.Further[0] is (Bool)[2, 8, 8], and element t(0,0.5) moves it by a fraction of a cell")
		_, err = builder().WithGroup(orbits.Custom("mine", orbits.NewElement("negated", graph.Neg)), p).Done()
		require.ErrorContains(t, err, "audit: Probes.Further[0] is (Bool)[2, 8, 8], scalars on the grid, and how element negated of your own moves these is not known")
	})
}

// A model that draws its noise in evaluation is refused, and audited with the noise held fixed; the settings of the run say so.
func TestNoiseHeldFixed(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		noisy := func(scope *model.Scope, x *graph.Node) *graph.Node {
			noise := scope.RandomNormal(x.Graph(), x.Shape())
			return layers.Dense(scope.In("dense"), graph.Add(x, graph.MulScalar(noise, 0.1)), true, 4)
		}
		trainer := trained(t, b, noisy)
		builder := func() *audit.Builder {
			return audit.New(trainer, noisy, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).WithRelativeLambda(0.1)
		}
		auditor, err := builder().Done()
		require.NoError(t, err)
		_, err = auditor.Preflight(context.Background())
		require.ErrorContains(t, err, "or hold its random numbers fixed (WithSeed)")
		auditor.Close()

		var values [3]*audit.Records
		for i, seed := range []int64{7, 7, 8} {
			auditor, err := builder().WithSeed(seed).Done()
			require.NoError(t, err)
			_, err = auditor.Preflight(context.Background())
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(seed), auditor.Settings()["noise_seed"])
			values[i], err = auditor.Audit(context.Background(), audit.Moment{})
			require.NoError(t, err)
			auditor.Close()
		}
		require.Equal(t, values[0].Influence, values[1].Influence)
		require.NotEqual(t, values[0].Influence, values[2].Influence)
	})
}
