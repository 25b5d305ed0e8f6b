package dataset_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
	"github.com/symaudit/symaudit/trainer/euler"
)

// flows are two trajectories of each family, moved by arrange from state to state.
func flows(t *testing.T, size int, field orbits.Field, arrange func(state []float32, size int) []float32) *dataset.Set {
	config := euler.Default()
	config.Resolution, config.Refinement, config.Snapshots, config.DType = size, 1, 5, "float32"
	d := dataset.Description{Field: field, Grid: []int{size, size}, Snapshots: config.Snapshots, Interval: config.Interval}
	for _, family := range euler.Families() {
		d.Families = append(d.Families, dataset.Family{Name: string(family), Label: family.Label()})
	}
	w, err := dataset.InMemory(d.InOrder(2, 0, 0))
	require.NoError(t, err)
	for f, family := range euler.Families() {
		require.NoError(t, euler.Stream(context.Background(), backendtest.Go(t), config, family, []int{0, 1}, 1, func(trajectory int, states []float32) error {
			var all []float32
			for n := size * size * euler.Channels; len(states) > 0; states = states[n:] {
				all = append(all, arrange(states[:n], size)...)
			}
			return w.Put(f, trajectory, all)
		}))
	}
	set, err := w.Finish()
	require.NoError(t, err)
	return set
}

// moved takes each cell from another, and its momentum through turn.
func moved(from func(j, i, n int) (int, int), turn func(x, y float32) (float32, float32)) func([]float32, int) []float32 {
	return func(state []float32, n int) (all []float32) {
		for j := range n {
			for i := range n {
				fromJ, fromI := from(j, i, n)
				cell := state[(fromJ*n+fromI)*euler.Channels:]
				x, y := turn(cell[1], cell[2])
				all = append(all, cell[0], x, y, cell[3])
			}
		}
		return all
	}
}

func TestFieldIsHeldAgainstConservationOfMass(t *testing.T) {
	stay := func(j, i, _ int) (int, int) { return j, i }
	upsideDown := func(j, i, n int) (int, int) { return n - 1 - j, i }
	transposed := func(j, i, _ int) (int, int) { return i, j }
	keep := func(x, y float32) (float32, float32) { return x, y }
	down := orbits.EulerField()
	down.RowDown = true
	for name, c := range map[string]struct {
		field orbits.Field
		from  func(j, i, n int) (int, int)
		turn  func(x, y float32) (float32, float32)
		want  string
	}{
		"as declared":      {orbits.EulerField(), stay, keep, ""},
		"an image":         {down, upsideDown, keep, ""},
		"upside down":      {orbits.EulerField(), upsideDown, keep, "Declare vectors (momentum_x, momentum_y), rows downwards"},
		"declared down":    {down, stay, keep, "Declare vectors (momentum_x, momentum_y), rows upwards"},
		"transposed":       {orbits.EulerField(), transposed, keep, "Declare vectors (momentum_y, momentum_x), rows upwards"},
		"components":       {orbits.EulerField(), stay, func(x, y float32) (float32, float32) { return y, x }, "Declare vectors (momentum_y, momentum_x), rows upwards"},
		"sign":             {orbits.EulerField(), stay, func(x, y float32) (float32, float32) { return -x, y }, "with momentum_x along x against the way its index grows, momentum_y along y, rows upwards"},
		"a quarter turn":   {orbits.EulerField(), func(j, i, n int) (int, int) { return n - 1 - i, j }, keep, "momentum_x along y"},
		"grid alone moved": {orbits.EulerField(), func(j, i, n int) (int, int) { return j, n - 1 - i }, keep, "Turn the arrays round along x, or the sign of that component"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{16, 32} {
				doubt, err := flows(t, size, c.field, moved(c.from, c.turn)).CheckField()
				require.Empty(t, doubt)
				if c.want == "" {
					require.NoError(t, err)
					continue
				}
				require.ErrorContains(t, err, c.want)
			}
		})
	}
	t.Run("no momentum", func(t *testing.T) {
		doubt, err := flows(t, 16, orbits.EulerField(), moved(stay, func(x, y float32) (float32, float32) { return 1, 2 })).CheckField()
		require.NoError(t, err)
		require.NotEmpty(t, doubt)
	})
	t.Run("nothing changes", func(t *testing.T) {
		doubt, err := flows(t, 16, orbits.EulerField(), func(state []float32, n int) []float32 { return make([]float32, len(state)) }).CheckField()
		require.NoError(t, err)
		require.Contains(t, doubt, "no channel of the probes' targets differs from its input")
	})
}
