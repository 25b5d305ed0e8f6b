package audit_test

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/euler"
)

// The flow itself tells which of its channels are a vector, from its first and from later steps, whether these are short or long.
func TestPreflightChecksTheFieldAgainstTheProbes(t *testing.T) {
	const n = 8
	b := backendtest.Go(t)
	still := func(_ *model.Scope, x *graph.Node) *graph.Node { return x }
	for _, family := range euler.Families() {
		for _, interval := range []float64{0.0125, 0.05} {
			config := euler.Default()
			config.Resolution, config.Refinement, config.Snapshots, config.Interval = 16, 1, 5, interval
			generated, err := euler.Generate(context.Background(), b, config, string(family), n, 0, nil)
			require.NoError(t, err)
			states, err := tensors.CopyFlatData[float32](generated)
			require.NoError(t, err)
			for _, first := range []int{0, 3} {
				const size = 16 * 16 * 4
				var before, after []float32
				for trajectory := range n {
					from := (5*trajectory + first) * size
					before, after = append(before, states[from:from+size]...), append(after, states[from+size:from+2*size]...)
				}
				p := audit.Probes{
					Inputs:  tensors.FromFlatDataAndDimensions(before, n, 16, 16, 4),
					Targets: tensors.FromFlatDataAndDimensions(after, n, 16, 16, 4),
				}
				preflight := func(change func(*orbits.Field), group orbits.Group) error {
					field := orbits.EulerField()
					field.Conserved = nil
					change(&field)
					auditor, err := audit.New(source{b, model.NewStore()}, still, nil).WithField(field).WithForwardOnly().WithGroup(group, p).Done()
					require.NoError(t, err)
					defer auditor.Close()
					_, err = auditor.Preflight(context.Background())
					return err
				}
				vectors := func(pairs ...[]int) func(*orbits.Field) {
					return func(f *orbits.Field) { f.Vectors = pairs }
				}
				const right = ". Declare vectors (momentum_x, momentum_y), rows upwards; or let the preflight warn"
				require.NoError(t, preflight(vectors([]int{1, 2}), orbits.D4()))
				require.NoError(t, preflight(vectors(), orbits.D4GridOnly()), "a control is no mistake")
				for _, wrong := range []func(*orbits.Field){
					vectors(), vectors([]int{2, 1}), vectors([]int{0, 1}),
					func(f *orbits.Field) { f.RowDown = true },
				} {
					err := preflight(wrong, orbits.D4())
					require.ErrorContains(t, err, "audit: the probes do not behave as the field says", "%s, interval %g, step %d", family, interval, first)
					require.ErrorContains(t, err, right)
				}
				if err := preflight(vectors([]int{1, 2}, []int{0, 3}), orbits.D4()); err != nil { // else a direction may be to blame
					require.ErrorContains(t, err, right)
				}
				require.ErrorContains(t, preflight(vectors([]int{2, 1}), orbits.C4()), "do not behave")
				if first > 0 || interval < 0.05 {
					continue
				}
				// Shifts make no difference to a field, in a product with turns these do, and boosts move the components apart.
				require.NoError(t, preflight(vectors([]int{2, 1}), orbits.Translations(8)))
				require.ErrorContains(t, preflight(vectors([]int{2, 1}), orbits.Product(orbits.D4(), orbits.Translations(8))), right)
				boosts := orbits.Boosts(1, orbits.Vector{X: 1})
				require.NoError(t, preflight(func(f *orbits.Field) { f.Conserved = orbits.EulerField().Conserved }, boosts))
				require.ErrorContains(t, preflight(func(f *orbits.Field) {
					f.Vectors = [][]int{{2, 1}}
					f.Conserved = &orbits.Conserved{Density: 0, Momentum: []int{2, 1}, Energy: 3}
				}, boosts), right)
				// The units of the channels make no difference.
				for _, units := range [][4]float32{{1e-12, 1e-12, 1e-12, 1e-12}, {1e-9, 1e3, 1e3, 1e12}} {
					for _, states := range []*tensors.Tensor{p.Inputs, p.Targets} {
						tensors.MustMutableFlatData(states, func(flat []float32) {
							for i := range flat {
								flat[i] *= units[i%4]
							}
						})
					}
					require.NoError(t, preflight(vectors([]int{1, 2}), orbits.D4()), units)
					require.ErrorContains(t, preflight(vectors([]int{2, 1}), orbits.D4()), "vectors (momentum_x, momentum_y), rows upwards", "%g", units)
				}
			}
		}
	}
}

// Where the probes cannot tell, the log says why; where there is nothing to tell, nothing.
func TestPreflightSaysWhyTheProbesCannotTell(t *testing.T) {
	still := func(_ *model.Scope, x *graph.Node) *graph.Node { return x }
	of := func(p audit.Probes, first, n int) audit.Probes {
		part := func(t *tensors.Tensor) *tensors.Tensor {
			flat := tensors.MustCopyFlatData[float64](t)
			size := len(flat) / t.Shape().Dimensions[0]
			return tensors.FromFlatDataAndDimensions(flat[first*size:(first+n)*size], append([]int{n}, t.Shape().Dimensions[1:]...)...)
		}
		return audit.Probes{Inputs: part(p.Inputs), Targets: part(p.Targets)}
	}
	all := sound()
	for name, test := range map[string]struct {
		probes audit.Probes
		set    func(*audit.Builder)
		want   string
	}{
		"right":         {all, func(*audit.Builder) {}, ""},
		"one probe":     {of(all, 0, 1), func(*audit.Builder) {}, "cannot be told: there is 1 probe"},
		"no step":       {audit.Probes{Inputs: all.Inputs, Targets: all.Inputs}, func(*audit.Builder) {}, "cannot be told: no channel of the probes' targets differs from its input"},
		"output":        {all, func(b *audit.Builder) { b.WithOutputField(wind) }, "cannot be told: the output has a field of its own"},
		"invariant":     {all, func(b *audit.Builder) { b.WithInvariantOutput() }, "cannot be told: the output is declared invariant"},
		"one invariant": {audit.Probes{Inputs: waves(2).Inputs, Targets: waves(2).Targets}, func(b *audit.Builder) { b.WithField(temperature).WithInvariantOutput() }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			log := &bytes.Buffer{}
			builder := audit.New(newModel(still, all), still, nil).WithField(wind).WithForwardOnly().WithGroup(orbits.D4(), test.probes).WithLogger(zerolog.New(log))
			test.set(builder)
			auditor, err := builder.Done()
			require.NoError(t, err)
			defer auditor.Close()
			_, err = auditor.Preflight(context.Background())
			if err != nil {
				require.NotContains(t, err.Error(), "field says")
			}
			if test.want == "" {
				require.NotContains(t, log.String(), "cannot be told")
			} else {
				require.Contains(t, log.String(), test.want)
			}
		})
	}
}

// Scalars that spread alike, one of them noisier or on a scale of its own, are no vector; nor are two vectors one of another pair.
func TestPreflightLeavesRightFieldsAlone(t *testing.T) {
	const n, size = 3, 12
	b := backendtest.Go(t)
	still := func(_ *model.Scope, x *graph.Node) *graph.Node { return x }
	fields := map[string]orbits.Field{
		"scalars":               {Channels: []string{"temperature", "dye"}},
		"two vectors":           {Channels: []string{"u", "v", "a", "b"}, Vectors: [][]int{{0, 1}, {2, 3}}},
		"a vector and a scalar": {Channels: []string{"u", "v", "p"}, Vectors: [][]int{{0, 1}}},
	}
	for name, field := range fields {
		for _, noise := range []float64{0, 0.01, 0.1, 1} {
			for _, scale := range []float64{1, 10} {
				random := rand.New(rand.NewPCG(uint64(100*noise), uint64(scale)))
				c := len(field.Channels)
				before, after := make([]float64, n*size*size*c), make([]float64, n*size*size*c)
				at := func(sample, y, x, channel int) int {
					return ((sample*size+(y+size)%size)*size+(x+size)%size)*c + channel
				}
				for i := range before {
					before[i] = random.NormFloat64()
					if i%c >= c/2 {
						before[i] *= scale
					}
				}
				for sample := range n {
					for y := range size {
						for x := range size {
							for channel := range c {
								i := at(sample, y, x, channel)
								around := before[at(sample, y-1, x, channel)] + before[at(sample, y+1, x, channel)] +
									before[at(sample, y, x-1, channel)] + before[at(sample, y, x+1, channel)]
								after[i] = before[i] + (around-4*before[i])/8
								if channel >= c/2 {
									after[i] += scale * noise * random.NormFloat64()
								}
							}
						}
					}
				}
				p := audit.Probes{
					Inputs:  tensors.FromFlatDataAndDimensions(before, n, size, size, c),
					Targets: tensors.FromFlatDataAndDimensions(after, n, size, size, c),
				}
				auditor, err := audit.New(source{b, model.NewStore()}, still, nil).WithField(field).WithForwardOnly().WithGroup(orbits.D4(), p).Done()
				require.NoError(t, err)
				_, err = auditor.Preflight(context.Background())
				require.NoError(t, err, "%s, noise %g, scale %g", name, noise, scale)
				auditor.Close()
			}
		}
	}
}

// On a line a velocity is told from a scalar, and in a box the order of components, by what the log and the error say.
func TestPreflightChecksFieldsOfEveryDimension(t *testing.T) {
	still := func(_ *model.Scope, x *graph.Node) *graph.Node { return x }
	random := rand.New(rand.NewPCG(1, 2))
	// probes are a step of sums of waves; change is that of a cell, from it and what is before and after it along each axis.
	probes := func(n, size, axes, channels int, change func(o []float64, next [][2][]float64) []float64) audit.Probes {
		cells := 1
		shape := []int{n}
		for range axes {
			cells *= size
			shape = append(shape, size)
		}
		var before, after []float64
		for range n {
			state := make([]float64, cells*channels)
			for range 4 * axes {
				var k [3]float64
				for axis := range axes {
					k[axis] = float64(random.IntN(5) - 2)
				}
				for c := range channels {
					height, phase := random.NormFloat64()/4, 2*math.Pi*random.Float64()
					for i := range cells {
						x, y, z := float64(i%size), float64(i/size%size), float64(i/size/size)
						state[i*channels+c] += height * math.Sin(2*math.Pi*(k[0]*x+k[1]*y+k[2]*z)/float64(size)+phase)
					}
				}
			}
			before = append(before, state...)
			for i := range cells {
				at := func(cell int) []float64 { return state[cell*channels : (cell+1)*channels] }
				var next [][2][]float64
				stride := 1
				for range axes {
					x := i / stride % size
					next = append(next, [2][]float64{at(i + ((x+size-1)%size-x)*stride), at(i + ((x+1)%size-x)*stride)})
					stride *= size
				}
				for c, v := range change(at(i), next) {
					after = append(after, state[i*channels+c]+0.1*v)
				}
			}
		}
		shape = append(shape, channels)
		return audit.Probes{Inputs: tensors.FromFlatDataAndDimensions(before, shape...), Targets: tensors.FromFlatDataAndDimensions(after, shape...)}
	}
	burgers := probes(8, 32, 1, 1, func(o []float64, next [][2][]float64) []float64 {
		before, after := next[0][0][0], next[0][1][0]
		return []float64{-o[0]*(after-before)/2 + 0.3*(after-2*o[0]+before)}
	})
	sound := probes(4, 8, 3, 4, func(o []float64, next [][2][]float64) (r []float64) {
		inflow := 0.0
		for axis := range 3 {
			r = append(r, (next[axis][0][3]-next[axis][1][3])/2)
			inflow += (next[axis][0][axis] - next[axis][1][axis]) / 2
		}
		return append(r, inflow)
	})
	line := orbits.Field{Channels: []string{"u"}, Vectors: [][]int{{0}}}
	box := orbits.Field{Channels: []string{"u", "v", "w", "p"}, Vectors: [][]int{{0, 1, 2}}}
	for _, test := range []struct {
		probes audit.Probes
		group  orbits.Group
		field  orbits.Field
		wrong  [][][]int
		right  string
	}{
		{burgers, orbits.Reflections(), line, [][][]int{nil}, ". Declare vectors (u); or let the preflight warn"},
		{sound, orbits.Octahedral(), box, [][][]int{nil, {{1, 0, 2}}, {{0, 2, 1}}, {{0, 1, 3}}}, ". Declare vectors (u, v, w), rows upwards, or"},
		{sound, orbits.Reflections(), box, [][][]int{nil, {{1, 0, 2}}}, "vectors (u, v, w), rows upwards"},
		{sound, orbits.D4(), box, [][][]int{nil, {{1, 0, 2}}}, "vectors (u, v, w), rows upwards"},
	} {
		preflight := func(vectors [][]int) (log string, err error) {
			written := &bytes.Buffer{}
			field := test.field
			field.Vectors = vectors
			auditor, err := audit.New(newModel(still, test.probes), still, nil).WithField(field).WithForwardOnly().WithGroup(test.group, test.probes).WithLogger(zerolog.New(written)).Done()
			require.NoError(t, err)
			defer auditor.Close()
			_, err = auditor.Preflight(context.Background())
			return written.String(), err
		}
		log, err := preflight(test.field.Vectors)
		require.NoError(t, err, test.group.Name)
		require.NotContains(t, log, "cannot be told", test.group.Name)
		for _, wrong := range test.wrong {
			_, err := preflight(wrong)
			require.ErrorContains(t, err, "audit: the probes do not behave as the field says", "%s, %v", test.group.Name, wrong)
			require.ErrorContains(t, err, test.right, "%s, %v", test.group.Name, wrong)
		}
	}
}
