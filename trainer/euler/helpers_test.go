package euler

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"
)

// grid is a host-side state [height, width, 4], conserved.
type grid struct {
	height, width int
	values        []float64
}

// newGrid samples primitive variables (density, velocity_x, velocity_y, pressure) at cell centres, gamma 1.4.
func newGrid(height, width int, primitive func(x, y float64) [4]float64) grid {
	g := grid{height, width, make([]float64, height*width*Channels)}
	for j := range height {
		for i := range width {
			w := primitive((float64(i)+0.5)/float64(width), (float64(j)+0.5)/float64(height))
			copy(g.at(j, i), []float64{w[0], w[0] * w[1], w[0] * w[2], w[3]/0.4 + w[0]*(w[1]*w[1]+w[2]*w[2])/2})
		}
	}
	return g
}

func (g grid) at(j, i int) []float64 {
	o := (j*g.width + i) * Channels
	return g.values[o : o+Channels : o+Channels]
}

// mapped returns the grid whose cell (j, i) is what source gives for it.
func (g grid) mapped(height, width int, source func(j, i int) []float64) grid {
	out := grid{height, width, make([]float64, len(g.values))}
	for j := range height {
		for i := range width {
			copy(out.at(j, i), source(j, i))
		}
	}
	return out
}

// solvers holds the compiled solvers of this test process: compiling is what the tests on XLA spend their time on.
var solvers = map[string]*graph.Exec{}

// advance runs Config.Advance on each state by itself, in float64.
func advance(t testing.TB, b compute.Backend, c Config, states ...grid) []grid {
	t.Helper()
	advanced := make([]grid, len(states))
	for i, state := range states {
		advanced[i] = advanceTogether(t, b, c, state)[0]
	}
	return advanced
}

// advanceTogether runs Config.Advance on a batch of equally shaped states, in float64.
func advanceTogether(t testing.TB, b compute.Backend, c Config, states ...grid) []grid {
	t.Helper()
	key := fmt.Sprintf("%s %+v", b.Name(), c)
	if solvers[key] == nil {
		solvers[key] = graph.MustNewExec(b, c.Advance)
	}
	var values []float64
	for _, s := range states {
		values = append(values, s.values...)
	}
	height, width := states[0].height, states[0].width
	out, err := solvers[key].Call1(tensors.FromFlatDataAndDimensions(values, len(states), height, width, Channels))
	require.NoError(t, err)
	flat, size := tensors.MustCopyFlatData[float64](out), height*width*Channels
	advanced := make([]grid, len(states))
	for i := range advanced {
		advanced[i] = grid{height, width, flat[i*size : (i+1)*size]}
	}
	return advanced
}

// drawn is trajectory 0 of a family's default on an n x n grid.
func drawn(t testing.TB, family Family, n int) grid {
	t.Helper()
	c := Default()
	s, err := c.initialState(family)
	require.NoError(t, err)
	g := grid{n, n, make([]float64, n*n*Channels)}
	s.draw(generator(1, family, 0)).fill(g.values, n, c.Gamma)
	return g
}

func requireFinite(t require.TestingT, g grid) {
	for i, v := range g.values {
		require.False(t, math.IsNaN(v) || math.IsInf(v, 0), "value %d is %g", i, v)
	}
}
