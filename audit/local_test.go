package audit

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// smallElements are elements of every family of localGroup, of the parameter small.
func smallElements(t *testing.T) (of map[string]orbits.Element, small float64) {
	small = 0.01
	of = map[string]orbits.Element{}
	take := func(group orbits.Group, names ...string) {
		elements, err := group.Elements(directedSide, directedSide)
		require.NoError(t, err)
		for i, name := range names {
			of[name] = elements[1+i*(len(elements)-1)/len(names)]
		}
	}
	take(orbits.Scalings(math.Exp(small)), "scaling")
	take(orbits.Boosts(directedSide/4.0, orbits.Vector{X: small}, orbits.Vector{Y: small}), "boost_x", "boost_y")
	take(orbits.Translations(small), "translation_x", "translation_y")
	return of, small
}

// Local errors are those of finite differences of elements, on every backend, in both precisions.
func TestLocalErrorsAgainstFiniteDifferences(t *testing.T) {
	of, small := smallElements(t)
	source := made(t, twoConvolutions)
	field := orbits.EulerField()
	net, err := network.New(source.backend, twoConvolutions, Loss, dtypes.Float64)
	require.NoError(t, err)
	defer net.Close()
	require.NoError(t, net.Load(source.store))
	x, y := directedStates(1), directedStates(2)
	act := func(f func(*graph.Node) *graph.Node, x *tensors.Tensor) *tensors.Tensor {
		return graph.MustNewExec(source.backend, f).MustCall(x)[0]
	}
	units := unitsOfProbes(tensors.MustCopyFlatData[float64](y), field)
	want := map[string][]float64{}
	for name, g := range of {
		back := func(g orbits.Element) *tensors.Tensor { // g^-1.f(g.x)
			output, err := net.Predict(act(func(x *graph.Node) *graph.Node { return g.Apply(field, x) }, x))
			require.NoError(t, err)
			return act(func(y *graph.Node) *graph.Node { return g.Inverse().ApplyOutput(field, y) }, output)
		}
		output, err := net.Predict(x)
		require.NoError(t, err)
		want[name] = tensors.MustCopyFlatData[float64](graph.MustNewExec(source.backend, func(output, ahead, behind *graph.Node) *graph.Node {
			return scaledSquare(output, graph.DivScalar(graph.Sub(ahead, behind), 2*small), graph.ConstAsDType(output.Graph(), output.DType(), units))
		}).MustCall(output, back(g), back(g.Inverse()))[0])
	}
	for _, dtype := range []dtypes.DType{dtypes.Float64, dtypes.Float32} {
		for _, group := range []orbits.Group{
			orbits.Translations(1), orbits.Product(orbits.Scalings(2), orbits.Boosts(directedSide/4.0, orbits.Vector{X: 1, Y: 1})),
		} {
			_, records := directed(t, source, twoConvolutions, group, func(b *Builder) { b.WithForwardOnly().WithLocalErrors().WithDType(dtype) })
			require.Len(t, records.LocalErrors, len(group.Generators(directedSide, directedSide))*directedSamples)
			for _, row := range records.LocalErrors {
				require.InEpsilon(t, want[row.Generator][row.Sample], row.LocalError, 1e-3, "%s in %s", row.Generator, dtype)
				require.Greater(t, row.LocalError, 1e-6)
			}
		}
	}
}

// A model that commutes has none, and a mask that moves with the states is moved with them.
func TestLocalErrorsOfModelsThatCommute(t *testing.T) {
	waves := func(seed float64) *tensors.Tensor { // that a grid of 4 resolves
		values := make([]float64, 0, 64)
		for sample := range 2 {
			for i := range 4 {
				for j := range 4 {
					for c := range 2 {
						phase := math.Pi / 2 * float64((1+sample)%2*i+j)
						values = append(values, 2+math.Sin(phase+seed)+0.5*math.Cos(math.Pi/2*float64(i)+float64(c)))
					}
				}
			}
		}
		return tensors.FromFlatDataAndDimensions(values, 2, 4, 4, 2)
	}
	scalarLoss := func(labels, predictions []*graph.Node) *graph.Node {
		return graph.ReduceAllMean(graph.Square(graph.Sub(labels[0], predictions[0])))
	}
	masked := func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
		return graph.Mul(inputs[0], graph.InsertAxes(inputs[1], -1))
	}
	pointwise := func(_ *model.Scope, x *graph.Node) *graph.Node { return graph.MulScalar(x, 3) }
	invariant := func(_ *model.Scope, x *graph.Node) *graph.Node { return graph.ReduceMean(x, 1, 2) }
	mask := graph.MustNewExec(backendtest.Go(t), func(x *graph.Node) *graph.Node {
		return graph.Squeeze(graph.SliceAxis(x, -1, graph.AxisElem(0)), -1)
	}).MustCall(waves(0.5))[0]
	local := func(b *Builder, group orbits.Group, probes Probes) []LocalErrorRow {
		auditor, err := b.WithField(orbits.Field{Channels: []string{"u", "v"}}).WithGroup(group, probes).WithDType(dtypes.Float64).WithForwardOnly().WithLocalErrors().Done()
		require.NoError(t, err)
		defer auditor.Close()
		records, err := auditor.Audit(context.Background(), Moment{})
		require.NoError(t, err)
		return records.LocalErrors
	}
	source := func(fn models.Fn) untrained {
		s := untrained{backendtest.Go(t), model.NewStore()}
		_, err := model.MustNewExec(s.backend, s.store, fn).Call(waves(0))
		require.NoError(t, err)
		return s
	}
	probes := Probes{Inputs: waves(0), Targets: waves(1)}
	convolution := func(scope *model.Scope, x *graph.Node) *graph.Node { return models.Conv(scope, x, 2, 3, 1) }
	for _, row := range local(New(source(convolution), convolution, nil), orbits.Translations(1), probes) {
		require.Less(t, row.LocalError, 1e-25)
	}
	for _, row := range local(New(source(pointwise), pointwise, nil), orbits.Product(orbits.Scalings(2), orbits.Translations(1)), probes) {
		require.Less(t, row.LocalError, 1e-25)
	}
	for _, row := range local(New(source(invariant), invariant, scalarLoss).WithInvariantOutput(), orbits.Translations(1), Probes{Inputs: waves(0), Targets: tensors.FromValue([][]float64{{1, 1}, {1, 1}})}) {
		require.Less(t, row.LocalError, 1e-25)
	}
	// A product of waves has waves that the grid does not resolve, unless one of them is constant along an axis.
	probes.Further = []*tensors.Tensor{mask}
	rows := local(New(untrained{backendtest.Go(t), model.NewStore()}, masked, nil), orbits.Translations(1), probes)
	require.Len(t, rows, 4)
	alone := local(New(source(pointwise), func(scope *model.Scope, x *graph.Node) *graph.Node {
		return graph.Mul(x, graph.InsertAxes(graph.ConstTensor(x.Graph(), mask), -1)) // which stays where it is
	}, nil), orbits.Translations(1), Probes{Inputs: waves(0), Targets: waves(1)})
	for i, row := range rows {
		require.Less(t, row.LocalError, 0.3*alone[i].LocalError)
	}
}

func TestLocalErrorsRefuse(t *testing.T) {
	fn := func(_ *model.Scope, inputs []*graph.Node) *graph.Node {
		return graph.Mul(inputs[0], graph.InsertAxes(graph.ConvertDType(inputs[1], inputs[0].DType()), -1))
	}
	mask := tensors.FromScalarAndDimensions(int32(1), directedSamples, directedSide, directedSide)
	for want, c := range map[string]struct {
		group  orbits.Group
		probes Probes
	}{
		"WithLocalErrors is asked for, and no group has elements near the identity ([d4]): add translations, boosts or scalings":  {orbits.D4(), Probes{}},
		"WithLocalErrors is asked for, and group translations moves the further input 0, which is (Int32)[2, 4, 4], by fractions": {orbits.Translations(1), Probes{}},
		"WithLocalErrors is asked for, and how the generator flow of your own moves the further input 0, scalars on the grid": {
			orbits.Translations(1).WithGenerators(orbits.NewGenerator("flow", func(x *graph.Node) *graph.Node { return x })), Probes{Further: []*tensors.Tensor{directedMask()}},
		},
	} {
		c.probes.Inputs, c.probes.Targets = directedStates(1), directedStates(2)
		if c.probes.Further == nil {
			c.probes.Further = []*tensors.Tensor{mask}
		}
		_, err := New(untrained{backendtest.Go(t), model.NewStore()}, fn, Loss).WithField(orbits.EulerField()).WithForwardOnly().WithLocalErrors().WithGroup(c.group, c.probes).Done()
		require.Error(t, err)
		require.True(t, strings.Contains(err.Error(), want), err)
	}
}

func directedMask() *tensors.Tensor {
	return tensors.FromScalarAndDimensions(float32(1), directedSamples, directedSide, directedSide)
}
