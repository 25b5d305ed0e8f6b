package audit

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// stencil is a model of states of any rank: two dense layers of what each cell and its next cells hold, on a periodic grid.
func stencil(scope *model.Scope, x *graph.Node) *graph.Node {
	layer := func(name string, x *graph.Node, channels int) *graph.Node {
		seen := []*graph.Node{x}
		for axis := 1; axis < x.Rank()-1; axis++ {
			size := x.Shape().Dimensions[axis]
			for _, at := range []int{1, size - 1} {
				seen = append(seen, graph.Concatenate([]*graph.Node{
					graph.SliceAxis(x, axis, graph.AxisRange(at, size)), graph.SliceAxis(x, axis, graph.AxisRange(0, at))}, axis))
			}
		}
		return layers.Dense(scope.In("%s", name), graph.Concatenate(seen, -1), true, channels)
	}
	return graph.Add(x, layer("out", graph.Tanh(layer("in", x, 3)), x.Shape().Dim(-1)))
}

// smooth are states far from 0, so that fresh networks are far from what they do to a constant.
func smooth(seed float64, shape ...int) *tensors.Tensor {
	values := make([]float64, shapes.Make(dtypes.Float64, shape...).Size())
	for i := range values {
		values[i] = 5 * math.Sin(12.9898*float64(i*i)+seed)
	}
	return tensors.FromFlatDataAndDimensions(values, shape...)
}

// spaces are states of one, two and three axes, with the fields and groups of these.
var spaces = []struct {
	sizes  []int
	field  orbits.Field
	groups []orbits.Group
}{
	{[]int{6}, orbits.Field{Channels: []string{"density", "u"}, Vectors: [][]int{{1}}}, []orbits.Group{orbits.Reflections()}},
	{[]int{4, 4}, orbits.Field{Channels: []string{"density", "u", "v", "spin"}, Vectors: [][]int{{1, 2}}, Pseudoscalars: []int{3}, RowDown: true},
		[]orbits.Group{orbits.D4(), orbits.Reflections()}},
	{[]int{3, 3, 3}, orbits.Field{Channels: []string{"density", "u", "v", "w", "a", "b", "c"}, Vectors: [][]int{{1, 2, 3}}, Pseudovectors: [][]int{{4, 5, 6}}},
		[]orbits.Group{orbits.Octahedral(), orbits.D4()}},
}

// auditStencil audits the stencil, made symmetric by elements where there are any.
func auditStencil(t *testing.T, field orbits.Field, sizes []int, elements []orbits.Element, group orbits.Group) *Records {
	return auditInSpace(t, stencil, field, sizes, elements, group, MetricNTK)
}

// auditInSpace audits a model of states of these sizes, made symmetric by elements where there are any.
func auditInSpace(t *testing.T, fn models.Fn, field orbits.Field, sizes []int, elements []orbits.Element, group orbits.Group, metric Metric) *Records {
	if elements != nil {
		fn = models.Symmetrize(fn, field, elements)
	}
	shape := slices.Concat([]int{1}, sizes, []int{len(field.Channels)})
	source := untrained{backendtest.Go(t), model.NewStore()}
	source.store.SetParam(model.ParamInitialSeed, int64(5))
	_, err := model.MustNewExec(source.backend, source.store, fn).Call(smooth(1, shape...))
	require.NoError(t, err)
	builder := New(source, fn, Loss).WithField(field).WithDType(dtypes.Float64).WithRelativeLambda(1e-2).WithTolerance(1e-6).WithMetric(metric).
		WithDirections(LossDirection(), KernelDirection(1), TotalDirection("density")).
		WithGroup(group, Probes{Inputs: smooth(1, shape...), Targets: smooth(2, shape...)})
	if metric == MetricOptimizer {
		builder.WithOptimizer(optimizer.Adam().Done())
	}
	auditor, err := builder.Done()
	require.NoError(t, err)
	defer auditor.Close()
	_, err = auditor.Preflight(context.Background())
	require.NoError(t, err)
	records, err := auditor.Audit(context.Background(), Moment{})
	require.NoError(t, err)
	return records
}

// The positive and the negative control: an equivariant model commutes and is coherent, and under an action that leaves vectors alone it is neither.
func TestControlsInEveryDimension(t *testing.T) {
	for _, s := range spaces {
		for _, group := range s.groups {
			requireControls(t, stencil, s.field, s.sizes, group, MetricNTK)
		}
	}
}

func requireControls(t *testing.T, fn models.Fn, field orbits.Field, sizes []int, group orbits.Group, metric Metric) {
	elements, err := group.Elements(sizes...)
	require.NoError(t, err)
	records := auditInSpace(t, fn, field, sizes, elements, group, metric)
	require.Len(t, records.Errors, len(elements))
	for _, row := range records.Errors {
		require.Less(t, row.CommutatorError, 1e-24, "%v, %s, %s", sizes, group.Name, row.Element)
		require.InDelta(t, row.IdentityError, row.TargetError, 1e-6, "SMSE is of the same value at g.x")
	}
	for _, row := range records.Coherence {
		if row.Direction != "loss_to_total_density" {
			require.InDelta(t, 1, *row.Median, 1e-6, "%v, %s, %s, %s", sizes, group.Name, row.Element, row.Direction)
		}
	}
	control := auditInSpace(t, fn, field, sizes, elements, orbits.GridOnly(group), metric)
	for _, row := range control.Summaries() {
		require.Equal(t, group.Name+"-grid-only", row.GroupName)
		if row.Direction == LossName || row.Direction == KernelName {
			require.Less(t, *row.Median, 0.9, "%v, %s, %s", sizes, group.Name, row.Direction)
		}
		require.Greater(t, *row.MedianCommutatorError, 1e-6)
	}
}

// So are the networks of package models, in every metric.
func TestNetworksAreControlsInEveryDimension(t *testing.T) {
	for name, fn := range map[string]models.Fn{
		"unet": models.UNet{Widths: []int{2}, Blocks: 1, Groups: 1, Direct: true}.Fn(),
		"vit": func(scope *model.Scope, x *graph.Node) *graph.Node {
			patch := map[int]int{3: 3, 4: 2, 5: 3}[x.Rank()]
			return models.ViT{Patch: patch, Width: 4, Layers: 1, Heads: 1, Expansion: 1, Direct: true}.Fn()(scope, x)
		},
		"fno": models.FNO{Width: 2, Modes: 2, Layers: 2, Direct: true}.Fn(),
	} {
		for _, s := range spaces {
			metrics := []Metric{MetricNTK, MetricOptimizer}
			if len(s.sizes) == 1 {
				metrics = []Metric{MetricNTK, MetricGGN, MetricFisher, MetricIdentity, MetricOptimizer}
			}
			for _, metric := range metrics {
				t.Run(fmt.Sprintf("%s/%d/%s", name, len(s.sizes), metric), func(t *testing.T) {
					requireControls(t, fn, s.field, s.sizes, orbits.Reflections(), metric)
				})
			}
		}
	}
}

// What knows no place on the grid commutes with shifts, and rows say by how many cells along which axis.
func TestShiftsInEveryDimension(t *testing.T) {
	for _, s := range spaces {
		records := auditStencil(t, s.field, s.sizes, nil, orbits.Translations(2))
		names := map[string]orbits.Vector{}
		for _, row := range records.Errors {
			require.Less(t, row.CommutatorError, 1e-24, row.Element)
			names[row.Element] = orbits.Vector{X: row.ShiftX, Y: row.ShiftY, Z: row.ShiftZ}
		}
		for _, row := range records.Coherence {
			if row.Element != AllElements {
				require.Equal(t, names[row.Element], orbits.Vector{X: row.ShiftX, Y: row.ShiftY, Z: row.ShiftZ})
			}
		}
		for _, row := range records.Influence {
			require.Equal(t, names[row.Element], orbits.Vector{X: row.ShiftX, Y: row.ShiftY, Z: row.ShiftZ})
		}
		want := map[int]map[string]orbits.Vector{
			1: {"e": {}, "t(2)": {X: 2}, "t(4)": {X: 4}}, 2: {"e": {}, "t(0,2)": {X: 2}, "t(2,0)": {Y: 2}},
			3: {"e": {}, "t(0,0,2)": {X: 2}, "t(0,2,0)": {Y: 2}, "t(2,0,0)": {Z: 2}},
		}[len(s.sizes)]
		require.Equal(t, want, names)
	}
}

// A cloud of points has no grid. A model of the distances moves its points along them, and commutes with rotations by any angle; one that takes
// coordinates for what they are does not.
func TestPointCloudsUnderRotations(t *testing.T) {
	points := orbits.Field{Channels: []string{"x", "y", "z"}, Vectors: [][]int{{0, 1, 2}}}
	turn := func(angle float64) func(x *graph.Node) *graph.Node {
		m := [][]float64{{1, 0, 0}, {0, math.Cos(angle), -math.Sin(angle)}, {0, math.Sin(angle), math.Cos(angle)}}
		return func(x *graph.Node) *graph.Node {
			return graph.Einsum("npa,ba->npb", x, graph.ConstAsDType(x.Graph(), x.DType(), m))
		}
	}
	group := orbits.Custom("rotations", orbits.NewElement("rotation(40)", turn(0.7)).WithInverse(turn(-0.7)))
	squares := func(labels, predictions []*graph.Node) *graph.Node { // SMSE has a scale for each coordinate, which a rotation does not keep
		return graph.ReduceAllMean(graph.Square(graph.Sub(labels[0], predictions[0])))
	}
	distances := func(scope *model.Scope, x *graph.Node) *graph.Node {
		between := graph.Sub(graph.InsertAxes(x, 2), graph.InsertAxes(x, 1)) // [n, p, q, 3]
		apart := graph.ReduceAndKeep(graph.Square(between), graph.ReduceSum, -1)
		weight := layers.Dense(scope.In("out"), graph.Tanh(layers.Dense(scope.In("in"), apart, true, 5)), true, 1)
		return graph.Add(x, graph.ReduceMean(graph.Mul(weight, between), 2))
	}
	coordinates := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return graph.Add(x, layers.Dense(scope.In("out"), graph.Tanh(layers.Dense(scope.In("in"), x, true, 5)), true, 3))
	}
	height := func(y *graph.Node) *graph.Node {
		return graph.ReduceAllSum(graph.Square(graph.SliceAxis(y, -1, graph.AxisElem(2))))
	}
	x, y := smooth(1, 3, 4, 3), smooth(2, 3, 4, 3)
	for name, fn := range map[string]models.Fn{"distances": distances, "coordinates": coordinates} {
		source := untrained{backendtest.Go(t), model.NewStore()}
		source.store.SetParam(model.ParamInitialSeed, int64(5))
		_, err := model.MustNewExec(source.backend, source.store, fn).Call(x)
		require.NoError(t, err)
		auditor, err := New(source, fn, squares).WithField(points).WithDType(dtypes.Float64).WithRelativeLambda(1e-2).WithTolerance(1e-6).
			WithDirections(LossDirection(), KernelDirection(2), FunctionalDirection("height", height)).
			WithGroup(group, Probes{Inputs: x, Targets: y}).Done()
		require.NoError(t, err)
		_, err = auditor.Preflight(context.Background())
		require.NoError(t, err)
		records, err := auditor.Audit(context.Background(), Moment{})
		require.NoError(t, err)
		auditor.Close()
		for _, row := range records.Summaries() {
			if name == "coordinates" {
				require.Greater(t, *row.MedianCommutatorError, 1e-6)
				require.Less(t, *row.Median, 0.99, row.Direction)
			} else if row.Direction != "loss_to_height" {
				require.Less(t, *row.MedianCommutatorError, 1e-24)
				require.InDelta(t, 1, *row.Median, 1e-6, row.Direction)
			}
		}
	}
}

// States without any grid, [n, channel], take groups of one's own, and SMSE with one scale for a state.
func TestStatesWithoutAGrid(t *testing.T) {
	pair := orbits.Field{Channels: []string{"a", "b"}}
	swap := func(x *graph.Node) *graph.Node { return graph.Reverse(x, 1) }
	fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		own := layers.Dense(scope.In("out"), graph.Tanh(layers.Dense(scope.In("in"), graph.InsertAxes(x, -1), true, 4)), true, 1)
		return graph.Reshape(own, x.Shape().Dimensions...) // of each alone
	}
	source := untrained{backendtest.Go(t), model.NewStore()}
	x, y := smooth(1, 3, 2), smooth(2, 3, 2)
	_, err := model.MustNewExec(source.backend, source.store, fn).Call(x)
	require.NoError(t, err)
	auditor, err := New(source, fn, nil).WithField(pair).WithDType(dtypes.Float64).WithRelativeLambda(1e-2).
		WithGroup(orbits.Custom("swap", orbits.NewElement("swapped", swap)), Probes{
			Inputs: x, Targets: y,
		}).Done()
	require.NoError(t, err)
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), Moment{})
	require.NoError(t, err)
	for _, row := range records.Errors {
		require.Less(t, row.CommutatorError, 1e-24)
	}
	require.InDelta(t, 1, *records.Summary("swap").Median, 1e-9)
	from, to := tensors.MustCopyFlatData[float64](x), tensors.MustCopyFlatData[float64](y)
	persistence := func(n int) float64 { // by hand, but for the floor
		square := (to[2*n]*to[2*n] + to[2*n+1]*to[2*n+1]) / 2
		a, b := from[2*n]-to[2*n], from[2*n+1]-to[2*n+1]
		return (a*a + b*b) / 2 / square
	}
	units := []float64{max(to[0], to[2], to[4]), max(to[1], to[3], to[5])}
	for i := range to {
		from[i], to[i] = from[i]/units[i%2], to[i]/units[i%2]
	}
	for n, row := range records.Errors[:3] {
		require.InEpsilon(t, persistence(n), *row.PersistenceError, 1e-5)
	}
}

func TestProbesOfAnyRankRefuse(t *testing.T) {
	source := untrained{backendtest.Go(t), model.NewStore()}
	_, err := model.MustNewExec(source.backend, source.store, models.Fn(stencil)).Call(smooth(1, 2, 6, 2))
	require.NoError(t, err)
	for want, test := range map[string]struct {
		field  orbits.Field
		group  orbits.Group
		shape  []int
		target []int
	}{
		"probes are (Float64)[6]; they must be [n, ..., channel], [n, y, x, channel] for instance":                                                       {spaces[0].field, orbits.Reflections(), []int{6}, []int{6}},
		"group d4 is of states with 2 to 3 axes of space, and these have 1 (grid 6); use reflections":                                                    {spaces[0].field, orbits.D4(), []int{2, 6, 2}, nil},
		"group octahedral is of states with 3 axes of space, and these have 2 (grid 6x6); use d4":                                                        {spaces[1].field, orbits.Octahedral(), []int{2, 6, 6, 4}, nil},
		"the field's vector [1 2] has 2 components, and states on the grid 3x3x3 have 3 axes of space; name a channel for each axis, or declare scalars": {spaces[1].field, orbits.D4(), []int{2, 3, 3, 3, 4}, nil},
		"both must be the same [n, ..., channel] up to their channels":                                                                                   {spaces[0].field, orbits.Reflections(), []int{2, 6, 2}, []int{2, 5, 2}},
		"the output's field: the field's vector [1] has 1 components, and states on the grid 4x4 have 2 axes of space; name a channel for each axis, or": {spaces[0].field, orbits.Reflections(), []int{2, 4, 4, 2}, nil},
	} {
		if test.target == nil {
			test.target = test.shape
		}
		builder := New(source, models.Fn(stencil), Loss).WithField(test.field)
		if len(want) > 18 && want[:18] == "the output's field" {
			builder.WithField(orbits.Field{Channels: []string{"a", "b"}}).WithOutputField(test.field)
		}
		_, err := builder.WithGroup(test.group, Probes{Inputs: smooth(1, test.shape...), Targets: smooth(2, test.target...)}).Done()
		require.ErrorContains(t, err, want)
	}
}

// A mask on a line or in a box moves with its states.
func TestMasksInEveryDimension(t *testing.T) {
	for _, s := range spaces {
		masked := func(scope *model.Scope, x, mask *graph.Node) *graph.Node {
			return graph.Mul(stencil(scope, x), graph.InsertAxes(mask, -1))
		}
		elements, err := s.groups[0].Elements(s.sizes...)
		require.NoError(t, err)
		shape := slices.Concat([]int{2}, s.sizes, []int{len(s.field.Channels)})
		source := untrained{backendtest.Go(t), model.NewStore()}
		x, mask := smooth(1, shape...), smooth(3, shape[:len(shape)-1]...)
		_, err = model.MustNewExec(source.backend, source.store, masked).Call(x, mask)
		require.NoError(t, err)
		auditor, err := New(source, masked, Loss).WithField(s.field).WithForwardOnly().
			WithGroup(orbits.Translations(1), Probes{Inputs: x, Targets: x, Further: []*tensors.Tensor{mask}}).Done()
		require.NoError(t, err)
		records, err := auditor.Audit(context.Background(), Moment{})
		require.NoError(t, err)
		auditor.Close()
		for _, row := range records.Errors {
			require.Less(t, row.CommutatorError, 1e-24, "%v, %s", s.sizes, row.Element)
		}
		require.NotEmpty(t, elements)
	}
}

// Fields are judged in every dimension, for groups with turns; boosts tell components apart as turns do.
func TestFieldsOfEveryDimensionAreJudged(t *testing.T) {
	for _, s := range append(spaces[:len(spaces):len(spaces)], struct {
		sizes  []int
		field  orbits.Field
		groups []orbits.Group
	}{[]int{6}, orbits.Field{Channels: []string{"u"}, Vectors: [][]int{{0}}}, nil}) { // one channel, that of Burgers' equation, is a question too
		for _, group := range []orbits.Group{orbits.Reflections(), orbits.Translations(1), orbits.Boosts(1, orbits.Vector{X: 1})} {
			shape := slices.Concat([]int{1}, s.sizes, []int{len(s.field.Channels)})
			a := &Auditor{config: Builder{field: s.field, log: zerolog.Nop()}}
			elements, err := group.Elements(s.sizes...)
			require.NoError(t, err)
			o := &orbit{group: group, elements: elements, inputs: []*tensors.Tensor{smooth(1, shape...)}, targets: []*tensors.Tensor{smooth(2, shape...)}}
			v, err := a.judgeField(o)
			require.NoError(t, err)
			if group.Name == orbits.TranslationsName {
				require.Empty(t, v.Words)
			} else {
				require.Contains(t, v.Words, "there is 1 probe, and a law that is fitted to one must be tested on others", "%v, %s", s.sizes, group.Name)
			}
		}
	}
}

// Components share a unit, of both kinds of vectors and however many there are.
func TestUnitsOfVectors(t *testing.T) {
	field := orbits.Field{Channels: []string{"p", "a", "b", "c", "u", "v", "w"}, Vectors: [][]int{{4, 5, 6}}, Pseudovectors: [][]int{{1, 2, 3}}}
	require.Equal(t, []float64{9, 5, 5, 5, 7, 7, 7}, unitsOfProbes([]float64{9, 1, -5, 3, 2, 0, -7}, field))
}
