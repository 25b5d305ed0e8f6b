package audit

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

const (
	directedSide    = 4
	directedSamples = 2
)

func directedStates(seed float64) *tensors.Tensor {
	values := make([]float64, directedSamples*directedSide*directedSide*4)
	for i := range values {
		values[i] = 2 + math.Sin(12.9898*float64(i*i)+seed)
	}
	return tensors.FromFlatDataAndDimensions(values, directedSamples, directedSide, directedSide, 4)
}

// twoConvolutions is a model of 223 parameters.
func twoConvolutions(scope *model.Scope, x *graph.Node) *graph.Node {
	hidden := graph.Tanh(layers.Convolution(scope.In("in"), x).Channels(3).KernelSize(3).PadSame().Done())
	return graph.Add(x, layers.Convolution(scope.In("out"), hidden).Channels(4).KernelSize(3).PadSame().Done())
}

// squares is a functional that is not linear, and that turns change.
func squares(y *graph.Node) *graph.Node {
	return graph.ReduceAllSum(graph.Square(graph.SliceAxis(y, -1, graph.AxisElem(1))))
}

// made returns a model's variables.
func made(t *testing.T, fn models.Fn) untrained {
	source := untrained{backendtest.Go(t), model.NewStore()}
	source.store.SetParam(model.ParamInitialSeed, int64(5))
	_, err := model.MustNewExec(source.backend, source.store, fn).Call(directedStates(1))
	require.NoError(t, err)
	return source
}

func directed(t *testing.T, source untrained, fn models.Fn, group orbits.Group, set func(*Builder)) (*Auditor, *Records) {
	builder := New(source, fn, Loss).WithField(orbits.EulerField()).WithDType(dtypes.Float64).WithRelativeLambda(1e-2).WithTolerance(1e-8).
		WithGroup(group, Probes{Inputs: directedStates(1), Targets: directedStates(2)})
	set(builder)
	auditor, err := builder.Done()
	require.NoError(t, err)
	t.Cleanup(auditor.Close)
	records, err := auditor.Audit(context.Background(), Moment{})
	require.NoError(t, err)
	return auditor, records
}

// The gradients are recomputed from Jacobians made by forward products, and solved with by the dense metric.
func TestDirectionsAgainstADenseOracle(t *testing.T) {
	const size = directedSide * directedSide * 4
	fn, field := twoConvolutions, orbits.EulerField()
	source := made(t, fn)
	elements, err := orbits.D4().Elements(directedSide, directedSide)
	require.NoError(t, err)
	act := func(e orbits.Element, x *tensors.Tensor) *tensors.Tensor {
		return graph.MustNewExec(source.backend, func(x *graph.Node) *graph.Node { return e.Apply(field, x) }).MustCall(x)[0]
	}
	net, err := network.New(source.backend, fn, Loss, dtypes.Float64)
	require.NoError(t, err)
	defer net.Close()
	require.NoError(t, net.Load(source.store))
	x, y := directedStates(1), directedStates(2)
	eta, _, err := oracle.Dense(net.Metric(x, 1/float64(x.Size())))
	require.NoError(t, err)

	// r at x for each direction and draw. D4 keeps distances, so that r is moved as outputs are.
	inputs, targets := tensors.MustCopyFlatData[float64](x), tensors.MustCopyFlatData[float64](y)
	var units [4]float64
	for i, v := range targets {
		units[i%4] = max(units[i%4], math.Abs(v))
	}
	units[1] = max(units[1], units[2])
	units[2] = units[1]
	rs := map[string][]func(i int, output float64) float64{
		"squares":          {func(i int, output float64) float64 { return map[bool]float64{true: 2 * output}[i%4 == 1] }},
		"total_momentum_x": {func(i int, _ float64) float64 { return map[bool]float64{true: 1}[i%4 == 1] }},
	}
	for n := range directedSamples {
		norm := 0.0
		for i := range size {
			norm = math.Hypot(norm, (targets[n*size+i]-inputs[n*size+i])/units[i%4])
		}
		rs["kernel"] = append(rs["kernel"], func(i int, _ float64) float64 {
			return (targets[n*size+i] - inputs[n*size+i]) / units[i%4] / units[i%4] / norm
		})
	}
	gradients := map[string][]*mat.Dense{} // of each draw, by element and sample
	for _, direction := range []string{"loss", "kernel", "squares", "total_momentum_x"} {
		for range max(1, len(rs[direction])) {
			gradients[direction] = append(gradients[direction], mat.NewDense(len(elements)*directedSamples, net.Dim(), nil))
		}
	}
	for e, element := range elements {
		for n := range directedSamples {
			one, err := rows(x, n, n+1)
			require.NoError(t, err)
			target, err := rows(y, n, n+1)
			require.NoError(t, err)
			moved := act(element, one)
			row := e*directedSamples + n
			_, err = net.Gradient(gradients["loss"][0].RawRowView(row), moved, act(element, target))
			require.NoError(t, err)
			output, err := net.Predict(moved)
			require.NoError(t, err)
			back := tensors.MustCopyFlatData[float64](act(element.Inverse(), output))
			jacobian, err := net.Jacobian(moved)
			require.NoError(t, err)
			for direction, draws := range rs {
				for k, r := range draws {
					values := make([]float64, size)
					for i := range values {
						values[i] = r(i, back[i])
					}
					u := tensors.MustCopyFlatData[float64](act(element, tensors.FromFlatDataAndDimensions(values, 1, directedSide, directedSide, 4)))
					mat.NewVecDense(net.Dim(), gradients[direction][k].RawRowView(row)).MulVec(jacobian.T(), mat.NewVecDense(size, u))
				}
			}
		}
	}

	for name, set := range map[string]func(*Builder){
		"float64": func(*Builder) {},
		"float32": func(b *Builder) { b.WithDType(dtypes.Float32).WithTolerance(1e-3) },
	} {
		auditor, records := directed(t, source, fn, orbits.D4(), func(b *Builder) {
			const more = directedSamples + 1 // than there are changes
			set(b.WithDirections(LossDirection(), KernelDirection(more), FunctionalDirection("squares", squares), TotalDirection("momentum_x")))
		})
		names := []string{"loss", "kernel", "squares", "total_momentum_x", "loss_to_squares", "loss_to_total_momentum_x"}
		require.Equal(t, names, auditor.Directions())
		require.Len(t, records.Influence, len(names)*len(elements)*directedSamples*directedSamples)
		for _, direction := range names {
			atX, atGX := direction, direction
			if of, isCross := strings.CutPrefix(direction, "loss_to_"); isCross {
				atX, atGX = "loss", of
			}
			form := func(left, right string) *mat.Dense {
				total := mat.NewDense(len(elements)*directedSamples, len(elements)*directedSamples, nil)
				for k := range gradients[left] {
					solution, err := oracle.Cholesky(eta, records.Solves[0].Lambda, gradients[right][k])
					require.NoError(t, err)
					var one mat.Dense
					one.Mul(gradients[left][k], solution.T())
					total.Add(total, &one)
				}
				total.Scale(1/float64(len(gradients[left])), total)
				return total
			}
			want, selfX, selfGX := form(atX, atGX), form(atX, atX), form(atGX, atGX)
			for _, row := range records.Influence {
				if row.Direction != direction {
					continue
				}
				e := slices.IndexFunc(elements, func(e orbits.Element) bool { return e.Name() == row.Element })
				i, j := int(row.RowSample), e*directedSamples+int(row.ColSample)
				influence := want.At(i, j)
				cosine := influence / math.Sqrt(selfX.At(i, i)*selfGX.At(j, j))
				where := name + ", " + direction + ", " + row.Element
				require.LessOrEqual(t, *row.InfluenceLow, influence, where)
				require.GreaterOrEqual(t, *row.InfluenceHigh, influence, where)
				require.LessOrEqual(t, *row.CosineLow, cosine+1e-15, where)
				require.GreaterOrEqual(t, *row.CosineHigh, cosine-1e-15, where)
				if name == "float64" {
					require.InDelta(t, cosine, *row.Cosine, 1e-6, where)
				}
			}
		}
	}
}

// What is asked at g.x is what was asked at x: an equivariant model answers alike in every direction and metric, and a wrong action shows.
func TestEquivariantModelsAreCoherentInEveryDirection(t *testing.T) {
	elements, err := orbits.D4().Elements(directedSide, directedSide)
	require.NoError(t, err)
	all := []Direction{LossDirection(), KernelDirection(2), FunctionalDirection("squares", squares), TotalDirection("momentum_x"), TotalDirection("energy")}
	for name, test := range map[string]struct {
		fn      models.Fn
		metrics []Metric
	}{
		"unet":             {models.UNet{Widths: []int{4, 4}, Blocks: 1, Groups: 2}.Fn(), []Metric{MetricNTK}},
		"vit":              {models.ViT{Patch: 2, Width: 4, Layers: 1, Heads: 2, Expansion: 2}.Fn(), []Metric{MetricNTK}},
		"two convolutions": {twoConvolutions, []Metric{MetricNTK, MetricGGN, MetricFisher, MetricIdentity, MetricOptimizer}},
	} {
		symmetric := models.Symmetrize(test.fn, orbits.EulerField(), elements)
		source := made(t, symmetric)
		for _, metric := range test.metrics {
			_, records := directed(t, source, symmetric, orbits.D4(), func(b *Builder) {
				b.WithDirections(all...).WithMetric(metric)
				if metric == MetricOptimizer {
					b.WithOptimizer(optimizer.Adam().Done())
				}
			})
			require.Len(t, records.Coherence, (len(all)+3)*9)
			for _, row := range records.Coherence {
				if !strings.Contains(row.Direction, "_to_") { // else it is that of two gradients
					require.InDelta(t, 1, *row.Median, 1e-7, "%s, %s, %s, %s", name, metric, row.Direction, row.Element)
				}
			}
			alike := map[string]float64{} // influence of a pair, whatever the element
			for _, row := range records.Influence {
				pair := fmt.Sprint(row.Direction, row.RowSample, row.ColSample)
				if _, known := alike[pair]; !known {
					alike[pair] = row.Influence
				}
				require.InDelta(t, alike[pair], row.Influence, 1e-6*math.Abs(*row.InfluenceHigh)+1e-9, pair)
			}
		}
		_, records := directed(t, source, symmetric, orbits.D4GridOnly(), func(b *Builder) { b.WithDirections(all...) })
		for _, row := range records.Summaries() {
			if row.Direction != "total_energy" { // a scalar, which both actions leave alone
				require.Less(t, *row.Median, 0.9, "%s, %s", name, row.Direction)
			}
		}
	}
}

// Boosts and scalings do not keep distances: r is moved by the inverse transpose of the action. The model is linear, each of its parameters
// multiplies the state shifted by some cells, so that it commutes with whatever mixes the channels of a cell, and boosts drift by the grid's width.
func TestDirectionsUnderBoostsAndScalings(t *testing.T) {
	shifts, err := orbits.Translations(1).Elements(directedSide, directedSide)
	require.NoError(t, err)
	fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		weights := scope.VariableWithShape("weights", shapes.Make(x.DType(), 4)).NodeValue(x.Graph())
		y := x
		for k := range 4 {
			weight := graph.Reshape(graph.SliceAxis(weights, 0, graph.AxisElem(k)), 1, 1, 1, 1)
			y = graph.Add(y, graph.Mul(weight, shifts[k].Apply(orbits.EulerField(), x)))
		}
		return y
	}
	source := made(t, fn)
	for _, group := range []orbits.Group{
		orbits.Boosts(directedSide, orbits.Vector{X: 1}, orbits.Vector{X: -2, Y: 1}),
		orbits.Scalings(0.25, 8),
	} {
		_, records := directed(t, source, fn, group, func(b *Builder) {
			b.WithDirections(KernelDirection(2), FunctionalDirection("squares", squares), TotalDirection("energy"))
		})
		for _, row := range records.Errors {
			require.Less(t, row.CommutatorError, 1e-25)
		}
		for _, row := range records.Coherence {
			require.InDelta(t, 1, *row.Median, 1e-7, "%s, %s", row.Direction, row.Element)
		}
	}
}

// An output that is no state of the inputs' field changes by nothing that the data say: r is white noise.
func TestKernelOfOtherOutputs(t *testing.T) {
	speed := func(y *graph.Node) *graph.Node {
		squared := graph.Add(graph.Square(graph.SliceAxis(y, -1, graph.AxisElem(1))), graph.Square(graph.SliceAxis(y, -1, graph.AxisElem(2))))
		return graph.Sqrt(graph.AddScalar(squared, 1))
	}
	elements, err := orbits.D4().Elements(directedSide, directedSide)
	require.NoError(t, err)
	symmetric := models.Symmetrize(twoConvolutions, orbits.EulerField(), elements)
	for name, test := range map[string]struct {
		fn      models.Fn
		targets *tensors.Tensor
		declare func(*Builder)
	}{
		"field of its own": {
			func(scope *model.Scope, x *graph.Node) *graph.Node { return speed(symmetric(scope, x)) },
			tensors.FromFlatDataAndDimensions(make([]float64, directedSamples*directedSide*directedSide), directedSamples, directedSide, directedSide, 1),
			func(b *Builder) { b.WithOutputField(orbits.Field{Channels: []string{"speed"}}) },
		},
		"invariant": {
			func(scope *model.Scope, x *graph.Node) *graph.Node {
				y := speed(symmetric(scope, x))
				return graph.Stack([]*graph.Node{graph.ReduceMean(y, 1, 2, 3), graph.ReduceMax(y, 1, 2, 3)}, -1)
			},
			tensors.FromFlatDataAndDimensions(make([]float64, directedSamples*2), directedSamples, 2),
			func(b *Builder) { b.WithInvariantOutput() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			source := made(t, test.fn)
			loss := func(labels, predictions []*graph.Node) *graph.Node {
				return graph.ReduceAllMean(graph.Square(graph.Sub(labels[0], predictions[0])))
			}
			builder := New(source, test.fn, loss).WithField(orbits.EulerField()).WithDType(dtypes.Float64).WithRelativeLambda(1e-2).WithTolerance(1e-6).
				WithDirections(KernelDirection(3), FunctionalDirection("mean", func(y *graph.Node) *graph.Node { return graph.ReduceAllMean(y) })).
				WithGroup(orbits.D4(), Probes{Inputs: directedStates(1), Targets: test.targets})
			test.declare(builder)
			auditor, err := builder.Done()
			require.NoError(t, err)
			defer auditor.Close()
			_, err = auditor.Preflight(context.Background())
			require.NoError(t, err)
			records, err := auditor.Audit(context.Background(), Moment{})
			require.NoError(t, err)
			require.EqualValues(t, 8*directedSamples*(3+1), records.Solves[0].RHS)
			for _, row := range records.Coherence {
				require.InDelta(t, 1, *row.Median, 1e-6, "%s, %s", row.Direction, row.Element)
			}
		})
	}
}

// Of an element of the user's own it has to be said what takes outputs back.
func TestDirectionsUnderAnElementOfOnesOwn(t *testing.T) {
	double := orbits.NewElement("double", func(x *graph.Node) *graph.Node { return graph.MulScalar(x, 2) })
	linear := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return layers.Convolution(scope.In("out"), x).Channels(4).KernelSize(3).PadSame().UseBias(false).Done()
	}
	source := made(t, linear)
	builder := func(e orbits.Element, directions ...Direction) *Builder {
		return New(source, linear, Loss).WithField(orbits.EulerField()).WithDirections(directions...).
			WithGroup(orbits.Custom("doubling", e), Probes{Inputs: directedStates(1), Targets: directedStates(2)})
	}
	_, err := builder(double, LossDirection(), KernelDirection(0)).Done()
	require.EqualError(t, err, "audit: direction kernel asks for the output at g.x taken back, and how is not known of element double of your own: give it its inverse on outputs (orbits.Element.WithInverse), or leave the direction out")
	known := double.WithInverse(func(y *graph.Node) *graph.Node { return graph.DivScalar(y, 2) })
	auditor, err := builder(known, KernelDirection(0), FunctionalDirection("squares", squares)).Done()
	require.NoError(t, err)
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), Moment{})
	require.NoError(t, err)
	for _, row := range records.Coherence {
		require.InDelta(t, 1, *row.Median, 1e-4, row.Direction)
	}
}

func TestDirectionsAreRefused(t *testing.T) {
	source := made(t, twoConvolutions)
	mean := func(y *graph.Node) *graph.Node { return graph.ReduceAllMean(y) }
	for want, directions := range map[string][]Direction{
		"WithDirections is empty; name at least one":                                           {},
		"direction kernel was given twice":                                                     {KernelDirection(0), KernelDirection(1)},
		"direction kernel has -1 draws; it must be positive, or 0 for 4":                       {KernelDirection(-1)},
		`a direction is called ""`:                                                             {FunctionalDirection("", mean)},
		`a direction is called "a/b"; its name stands in monitors`:                             {FunctionalDirection("a/b", mean)},
		"a functional is called loss, which is the name of another direction":                  {FunctionalDirection("loss", mean)},
		"direction drag has no function of the output":                                         {FunctionalDirection("drag", nil)},
		"a functional is called loss_to_mean, which is what rows from the loss to another are": {LossDirection(), FunctionalDirection("mean", mean), FunctionalDirection("loss_to_mean", mean)},
		`direction total_enthalpy is of the channel "enthalpy", and those of the output`:       {TotalDirection("enthalpy")},
	} {
		_, err := New(source, twoConvolutions, Loss).WithField(orbits.EulerField()).WithDirections(directions...).
			WithGroup(orbits.D4(), Probes{Inputs: directedStates(1), Targets: directedStates(2)}).Done()
		require.ErrorContains(t, err, "audit: "+want)
	}
	for want, of := range map[string]func(y *graph.Node) *graph.Node{
		"direction drag: it returns (Float32)[1, 4, 4, 4] for an output (Float32)[1, 4, 4, 4]; it must return one number": func(y *graph.Node) *graph.Node { return y },
		"direction drag: panic: no": func(*graph.Node) *graph.Node { panic("no") },
	} {
		auditor, err := New(source, twoConvolutions, Loss).WithField(orbits.EulerField()).WithDType(dtypes.Float32).WithDirections(FunctionalDirection("drag", of)).
			WithGroup(orbits.D4(), Probes{Inputs: directedStates(1), Targets: directedStates(2)}).Done()
		require.NoError(t, err)
		_, err = auditor.Preflight(context.Background())
		require.ErrorContains(t, err, want)
		auditor.Close()
	}
}
