package orbits_test

import (
	"math"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// Every generator is what elements of a small parameter differ by from their inverse, over twice the parameter.
func TestGeneratorsAreDifferencesOfSmallElements(t *testing.T) {
	on := backendtest.Go(t)
	flow := func(axes int, rowDown bool) orbits.Field {
		names, momentum := []string{"density", "energy", "m_x", "m_y", "m_z"}[:2+axes], []int{2, 3, 4}[:axes]
		return orbits.Field{Channels: names, Vectors: [][]int{momentum}, Conserved: &orbits.Conserved{Density: 0, Energy: 1, Momentum: momentum}, RowDown: rowDown}
	}
	const small = 0.01 // of shifts the smallest there is
	for name, c := range map[string]struct {
		grid    []int
		rowDown bool
	}{"line": {grid: []int{7}}, "plane": {grid: []int{6, 5}}, "image": {grid: []int{5, 6}, rowDown: true}, "space": {grid: []int{3, 4, 5}}} {
		t.Run(name, func(t *testing.T) {
			field, axes := flow(len(c.grid), c.rowDown), len(c.grid)
			velocities := []orbits.Vector{{X: small}, {Y: small}, {Z: small}}[:axes]
			group := orbits.Product(orbits.Scalings(math.Exp(small)), orbits.Boosts(1.5, velocities...), orbits.Translations(1))
			families := map[string]orbits.Element{}
			scalings, err := orbits.Scalings(math.Exp(small)).Elements(c.grid...)
			require.NoError(t, err)
			boosts, err := orbits.Boosts(1.5, velocities...).Elements(c.grid...)
			require.NoError(t, err)
			shifts, err := orbits.Translations(small).Elements(c.grid...)
			require.NoError(t, err)
			families["scaling"] = scalings[1]
			for axis := range axes {
				families["boost_"+"xyz"[axis:axis+1]] = boosts[1+axis]
				for _, shift := range shifts {
					if shift.Shift() == (orbits.Vector{X: velocities[axis].X, Y: velocities[axis].Y, Z: velocities[axis].Z}) {
						families["translation_"+"xyz"[axis:axis+1]] = shift
					}
				}
			}
			generators := group.Generators(c.grid...)
			require.Len(t, generators, len(families))
			size := len(field.Channels)
			for _, n := range c.grid {
				size *= n
			}
			values := make([]float64, 2*size)
			for i := range values {
				values[i] = math.Sin(float64(3*i*i + 1))
			}
			x := tensors.FromFlatDataAndDimensions(values, append(append([]int{2}, c.grid...), len(field.Channels))...)
			for _, generator := range generators {
				element, known := families[generator.Name()]
				require.True(t, known, generator.Name())
				outputs := graph.MustNewExec(on, func(x *graph.Node) (all []*graph.Node) {
					for _, act := range []func(orbits.Element) *graph.Node{
						func(e orbits.Element) *graph.Node { return e.Apply(field, x) },
						func(e orbits.Element) *graph.Node { return e.ApplyOutput(field, x) },
					} {
						all = append(all, graph.DivScalar(graph.Sub(act(element), act(element.Inverse())), 2*small))
					}
					return append(all, generator.Apply(field, x), generator.ApplyOutput(field, x))
				}).MustCall(x)
				for i := range 2 {
					want, found := tensors.MustCopyFlatData[float64](outputs[i]), tensors.MustCopyFlatData[float64](outputs[2+i])
					require.InDeltaSlice(t, want, found, 0.02, "%s, %d", generator.Name(), i)
					difference, size := 0.0, 0.0
					for k := range want {
						difference, size = math.Hypot(difference, want[k]-found[k]), math.Hypot(size, want[k])
					}
					require.Less(t, difference, 1e-3*size, "%s, %d", generator.Name(), i)
				}
			}
		})
	}
	require.Empty(t, orbits.D4().Generators(4, 4))
	require.Empty(t, orbits.Product(orbits.D4(), orbits.GridOnly(orbits.D4())).Generators(4, 4))
	require.Len(t, orbits.Boosts(1, orbits.Vector{Y: 2}).Generators(4, 4), 1)
	require.Equal(t, "boost_y", orbits.Boosts(1, orbits.Vector{Y: 2}).Generators(4, 4)[0].Name())
}
