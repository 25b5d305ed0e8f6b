package audit_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/layers/activation"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// gas is random states in float64, [n, size, size, 4], with densities and energies that are positive.
func gas(seed uint64, n, size int) *tensors.Tensor {
	random := rand.New(rand.NewPCG(seed, 0))
	values := make([]float64, n*size*size*4)
	for i := range values {
		values[i] = 0.3 * random.NormFloat64()
		if c := i % 4; c == 0 || c == 3 {
			values[i] = 1 + values[i]/3
		}
	}
	return tensors.FromFlatDataAndDimensions(values, n, size, size, 4)
}

// freeFlight carries a state along with its mean velocity for a step, by Fourier interpolation along x, and blurs it. Such a motion
// looks the same to every observer who moves along x: the model commutes with boosts, on grids of odd size.
func freeFlight(step float64) models.Fn {
	return func(_ *model.Scope, x *graph.Node) *graph.Node {
		size := x.Shape().Dimensions[2]
		mean := graph.ReduceMean(x, 1, 2)
		velocity := graph.Div(graph.SliceAxis(mean, 1, graph.AxisElem(1)), graph.SliceAxis(mean, 1, graph.AxisElem(0)))
		index := graph.Iota(x.Graph(), shapes.Make(x.DType(), size), 0)
		distance := graph.Sub(graph.Reshape(index, 1, size, 1), graph.Reshape(index, 1, 1, size))
		distance = graph.Sub(distance, graph.MulScalar(graph.Reshape(velocity, -1, 1, 1), step))
		// (1 + 2 sum of cos(2 pi k distance / size)) / size is the odd Dirichlet kernel, written as a sum; the weights blur.
		kernel := graph.OnesLike(distance)
		for k := 1; k <= size/2; k++ {
			wave := graph.Cos(graph.MulScalar(distance, 2*math.Pi*float64(k)/float64(size)))
			kernel = graph.Add(kernel, graph.MulScalar(wave, 2/float64(k)))
		}
		return graph.Einsum("nix,nyxc->nyic", graph.MulScalar(kernel, 1/float64(size)), x)
	}
}

func auditOnce(t *testing.T, builder *audit.Builder) *audit.Records {
	t.Helper()
	auditor, err := builder.Done()
	require.NoError(t, err)
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), audit.Moment{})
	require.NoError(t, err)
	return records
}

// Drifts of 3 pixels and of 1.2: the output of a boosted state is the boosted output, drifted.
func TestBoostsDriftTheOutput(t *testing.T) {
	const step = 6
	velocities := []orbits.Vector{{X: 0.5}, {X: -0.2}}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		fn := freeFlight(step)
		x := gas(1, 2, 9)
		p := audit.Probes{Inputs: x, Targets: graph.MustNewExec(b, func(x *graph.Node) *graph.Node { return fn(nil, x) }).MustCall(x)[0]}
		errors := func(group orbits.Group) (largestTarget, leastCommutator, largestCommutator float64) {
			leastCommutator = math.Inf(1)
			records := auditOnce(t, audit.New(source{b, model.NewStore()}, fn, nil).WithField(orbits.EulerField()).WithForwardOnly().WithGroup(group, p))
			require.Len(t, records.Errors, 3*2)
			for _, row := range records.Errors[2:] {
				require.Zero(t, row.ShiftX)
				largestTarget = max(largestTarget, row.TargetError)
				leastCommutator = min(leastCommutator, row.CommutatorError)
				largestCommutator = max(largestCommutator, row.CommutatorError)
			}
			return largestTarget, leastCommutator, largestCommutator
		}
		target, _, commutator := errors(orbits.Boosts(step, velocities...))
		require.Less(t, target, 1e-26)
		require.Less(t, commutator, 1e-26)
		_, wrong, _ := errors(orbits.Boosts(-step, velocities...))
		require.Greater(t, wrong, 1e-3, "drifts the other way")

		// Undoing a boost of the input in the output leaves such a model as it is.
		boosts, err := orbits.Boosts(step, velocities...).Elements(9, 9)
		require.NoError(t, err)
		fn = models.Symmetrize(fn, orbits.EulerField(), boosts)
		for _, row := range auditOnce(t, audit.New(source{b, model.NewStore()}, fn, nil).WithField(orbits.EulerField()).WithForwardOnly().WithGroup(orbits.D4(), p)).Errors {
			require.Less(t, row.IdentityError, 1e-26)
		}
	})
}

var (
	velocityField  = orbits.Field{Channels: []string{"u", "v"}, Vectors: [][]int{{0, 1}}}
	vorticityField = orbits.Field{Channels: []string{"vorticity"}, Pseudoscalars: []int{0}}
)

// curl is the vorticity of a velocity by differences over one and over two cells, weighted by two parameters.
func curl(scope *model.Scope, x *graph.Node) *graph.Node {
	weights := scope.VariableWithValue("weights", []float64{0.4, 0.2}).NodeValue(x.Graph())
	u, v := graph.SliceAxis(x, 3, graph.AxisElem(0)), graph.SliceAxis(x, 3, graph.AxisElem(1))
	ahead := func(x *graph.Node, axis, cells int) *graph.Node {
		return graph.Concatenate([]*graph.Node{graph.SliceAxis(x, axis, graph.AxisRange(cells)), graph.SliceAxis(x, axis, graph.AxisRange(0, cells))}, axis)
	}
	var sum *graph.Node
	for i := range 2 {
		far := i + 1
		weight := graph.Reshape(graph.ConvertDType(graph.SliceAxis(weights, 0, graph.AxisElem(i)), x.DType()))
		term := graph.Mul(weight, graph.Sub(
			graph.Sub(ahead(v, 2, far), ahead(v, 2, 8-far)),
			graph.Sub(ahead(u, 1, far), ahead(u, 1, 8-far))))
		if sum == nil {
			sum = term
		} else {
			sum = graph.Add(sum, term)
		}
	}
	return sum
}

func TestOutputOfAnotherField(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		channels := func(from *tensors.Tensor, n int) *tensors.Tensor {
			return graph.MustNewExec(b, func(x *graph.Node) *graph.Node { return graph.SliceAxis(x, 3, graph.AxisRange(1, 1+n)) }).MustCall(from)[0]
		}
		store := model.NewStore()
		p := audit.Probes{Inputs: channels(gas(1, 2, 8), 2), Targets: channels(gas(2, 2, 8), 1)}
		model.MustNewExec(b, store, curl).MustCall(p.Inputs)
		builder := func(output orbits.Field) *audit.Builder {
			return audit.New(source{b, store}, curl, nil).WithField(velocityField).WithOutputField(output).
				WithGroup(orbits.Product(orbits.D4(), orbits.Translations(4)), p).WithDType(dtypes.Float64).WithRelativeLambda(1)
		}
		records := auditOnce(t, builder(vorticityField))
		require.Len(t, records.Errors, 8*3*2)
		for _, row := range records.Errors {
			require.Less(t, row.CommutatorError, 1e-28, row.Element)
			require.InEpsilon(t, row.IdentityError, row.TargetError, 1e-12, row.Element)
			require.Nil(t, row.PersistenceError)
		}
		for _, row := range records.Influence {
			if row.RowSample == row.ColSample {
				require.InDelta(t, 1, *row.Cosine, 1e-9, row.Element)
			}
		}
		scalar := vorticityField
		scalar.Pseudoscalars = nil
		for _, row := range auditOnce(t, builder(scalar).WithForwardOnly()).Errors {
			if mirrors := row.Element[len(row.Element)-1] == 's'; mirrors {
				require.InDelta(t, 4, row.CommutatorError, 1e-4, "vorticity has the other sign in a mirror")
			}
		}
	})
}

func TestOutputFieldRefuses(t *testing.T) {
	from := source{backendtest.Go(t), model.NewStore()}
	vorticity := tensors.FromFlatDataAndDimensions(make([]float64, 2*8*8), 2, 8, 8, 1)
	coarse := tensors.FromFlatDataAndDimensions(make([]float64, 2*4*4), 2, 4, 4, 1)
	x := gas(1, 2, 8)
	builder := func(targets *tensors.Tensor) *audit.Builder {
		return audit.New(from, curl, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), audit.Probes{Inputs: x, Targets: targets})
	}
	for name, test := range map[string]struct {
		builder *audit.Builder
		want    string
	}{
		"undeclared": {builder(vorticity), "have 1 channels, the output's field has 4 ([density momentum_x momentum_y energy]); declare the field of the output (audit.Builder.WithOutputField)"},
		"channels":   {builder(x).WithOutputField(vorticityField), "have 4 channels, the output's field has 1 ([vorticity])"},
		"grid":       {builder(coarse).WithOutputField(vorticityField), "both must be the same [n, ..., channel] up to their channels"},
		"field":      {builder(vorticity).WithOutputField(orbits.Field{}), "a field needs at least one channel"},
		"invariant":  {builder(vorticity).WithOutputField(vorticityField).WithInvariantOutput(), "the output is declared invariant and of a field; use one of"},
		"boost": {builder(vorticity).WithOutputField(vorticityField).WithGroup(orbits.Boosts(1, orbits.Vector{X: 1}), audit.Probes{Inputs: x, Targets: vorticity}),
			"audit: the output's field: group boosts: element boost(0,1) adds to the momentum and the energy of a flow"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.builder.Done()
			require.ErrorContains(t, err, test.want)
		})
	}
}

// A model made symmetric under a whole group learns alike from every state of an orbit: under shifts by half a pixel along x of
// an odd grid, whose gradients are those of interpolation, and under all of D4 with all shifts by half the grid.
func TestSymmetrizedUnderNewGroups(t *testing.T) {
	mixing := func(scope *model.Scope, x *graph.Node) *graph.Node {
		y := graph.Tanh(layers.Convolution(scope.In("in"), x).Channels(3).KernelSize(3).PadSame().Done())
		return layers.Convolution(scope.In("out"), y).Channels(4).KernelSize(3).PadSame().Done()
	}
	learnsAlike := func(t *testing.T, b compute.Backend, group orbits.Group, size int) {
		elements, err := group.Elements(size, size)
		require.NoError(t, err)
		fn := models.Symmetrize(mixing, orbits.EulerField(), elements)
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(3))
		p := audit.Probes{Inputs: gas(1, 2, size), Targets: gas(2, 2, size)}
		model.MustNewExec(b, store, fn).MustCall(p.Inputs)
		records := auditOnce(t, audit.New(source{b, store}, fn, nil).WithField(orbits.EulerField()).WithGroup(group, p).WithDType(dtypes.Float64).WithRelativeLambda(1e-2))
		for _, row := range records.Errors {
			require.Less(t, row.CommutatorError, 1e-25, row.Element)
		}
		for _, row := range records.Influence {
			if row.RowSample == row.ColSample {
				require.InDelta(t, 1, *row.Cosine, 1e-9, row.Element)
			}
		}
	}
	t.Run("half pixels", func(t *testing.T) {
		halves, err := orbits.Translations(0.5).Elements(5, 5)
		require.NoError(t, err)
		alongX := orbits.Custom("halves", halves[1:10]...)
		backendtest.Each(t, func(t *testing.T, b compute.Backend) { learnsAlike(t, b, alongX, 5) })
	})
	t.Run("D4 and shifts", func(t *testing.T) {
		shifts := orbits.Translations(2)
		learnsAlike(t, backendtest.Go(t), orbits.Product(orbits.D4(), shifts, shifts), 4)
	})
}

// A network without biases and with rectifiers is of degree one.
func TestScalingsOfANetworkOfDegreeOne(t *testing.T) {
	for name, biases := range map[string]bool{"degree one": false, "biases": true} {
		t.Run(name, func(t *testing.T) {
			fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
				y := activation.Relu(layers.Convolution(scope.In("in"), x).Channels(3).KernelSize(3).PadSame().UseBias(biases).Done())
				return layers.Convolution(scope.In("out"), y).Channels(4).KernelSize(3).PadSame().UseBias(biases).Done()
			}
			records := auditOnce(t, audit.New(trained(t, backendtest.Go(t), fn), fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.Scalings(0.5, 3), probes(2, 2)).WithDType(dtypes.Float64))
			for _, row := range records.Coherence {
				if row.Element == "e" {
					continue
				}
				if biases {
					require.Greater(t, *row.MedianCommutatorError, 1e-6)
					require.Less(t, *row.Median, 0.999)
				} else {
					require.Less(t, *row.MedianCommutatorError, 1e-28)
					require.InDelta(t, 1, *row.Median, 1e-5, "but for the floor of the RMS")
				}
			}
		})
	}
}
