package orbits_test

import (
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// apply runs elements one after the other on a state, the last of them first, as composition is written.
func apply[T float32 | float64](t require.TestingT, b compute.Backend, f orbits.Field, state [][][][]T, elements ...orbits.Element) [][][][]T {
	exec, err := graph.NewExec(b, func(x *graph.Node) *graph.Node {
		for i := len(elements) - 1; i >= 0; i-- {
			x = elements[i].Apply(f, x)
		}
		return x
	})
	require.NoError(t, err)
	defer exec.Finalize()
	out, err := exec.Call(any(state))
	require.NoError(t, err)
	return out[0].Value().([][][][]T)
}

// numbered is a state of distinct values, so that any misplaced cell shows.
func numbered[T float32 | float64](batch, height, width, channels int) [][][][]T {
	value := T(1)
	state := make([][][][]T, batch)
	for n := range state {
		state[n] = make([][][]T, height)
		for j := range state[n] {
			state[n][j] = make([][]T, width)
			for i := range state[n][j] {
				state[n][j][i] = make([]T, channels)
				for c := range state[n][j][i] {
					state[n][j][i][c] = value
					value++
				}
			}
		}
	}
	return state
}

// action is a row of the table of group actions: the new momentum and, for the output cell (j, i), the cell it reads.
// last is N-1.
type action struct {
	momentum func(x, y float64) (float64, float64)
	source   func(j, i, last int) (int, int)
}

// rowsUp is written out independently of the implementation, for rows growing with +y.
var rowsUp = map[string]action{
	"e":   {func(x, y float64) (float64, float64) { return x, y }, func(j, i, last int) (int, int) { return j, i }},
	"r":   {func(x, y float64) (float64, float64) { return -y, x }, func(j, i, last int) (int, int) { return last - i, j }},
	"r2":  {func(x, y float64) (float64, float64) { return -x, -y }, func(j, i, last int) (int, int) { return last - j, last - i }},
	"r3":  {func(x, y float64) (float64, float64) { return y, -x }, func(j, i, last int) (int, int) { return i, last - j }},
	"s":   {func(x, y float64) (float64, float64) { return -x, y }, func(j, i, last int) (int, int) { return j, last - i }},
	"sr":  {func(x, y float64) (float64, float64) { return y, x }, func(j, i, last int) (int, int) { return i, j }},
	"sr2": {func(x, y float64) (float64, float64) { return x, -y }, func(j, i, last int) (int, int) { return last - j, i }},
	"sr3": {func(x, y float64) (float64, float64) { return -y, -x }, func(j, i, last int) (int, int) { return last - i, last - j }},
}

// With rows growing downwards a physical quarter turn moves the cells as the other quarter turn did.
var rowsDownSource = map[string]string{"e": "e", "r": "r3", "r2": "r2", "r3": "r", "s": "s", "sr": "sr3", "sr2": "sr2", "sr3": "sr"}

func TestD4MatchesTheTable(t *testing.T) {
	const n = 4
	state := numbered[float64](2, n, n, 4)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, rowDown := range []bool{false, true} {
			for _, group := range []orbits.Group{orbits.D4(), orbits.D4GridOnly()} {
				elements, err := group.Elements(n, n)
				require.NoError(t, err)
				require.Len(t, elements, len(rowsUp))
				for _, element := range elements {
					row := rowsUp[element.Name()]
					source := row.source
					if rowDown {
						source = rowsUp[rowsDownSource[element.Name()]].source
					}
					want := numbered[float64](2, n, n, 4)
					for k := range want {
						for j := range n {
							for i := range n {
								sourceJ, sourceI := source(j, i, n-1)
								cell := state[k][sourceJ][sourceI]
								momentumX, momentumY := cell[1], cell[2]
								if group.Name == orbits.D4Name {
									momentumX, momentumY = row.momentum(momentumX, momentumY)
								}
								want[k][j][i] = []float64{cell[0], momentumX, momentumY, cell[3]}
							}
						}
					}
					field := orbits.EulerField()
					field.RowDown = rowDown
					require.Equal(t, want, apply(t, b, field, state, element), "%s %s, rows down: %v", group.Name, element, rowDown)
				}
			}
		}
	})
}

// A jet to the right at the bottom of the square becomes, a quarter turn on, a jet upwards at its right side.
func TestQuarterTurnByHand(t *testing.T) {
	const n = 3
	state := make([][][][]float32, 1)
	for j := range n {
		state[0] = append(state[0], make([][]float32, n))
		for i := range n {
			state[0][j][i] = []float32{1, 0, 0, 1}
		}
	}
	state[0][0][1] = []float32{2, 5, 0, 3} // row 0 is at the bottom
	elements, err := orbits.D4().Elements(n, n)
	require.NoError(t, err)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		turned := apply(t, b, orbits.EulerField(), state, elements[1])
		require.Equal(t, []float32{2, 0, 5, 3}, turned[0][1][2])
		require.Equal(t, []float32{1, 0, 0, 1}, turned[0][0][1])
	})
}

func TestTranslationsMatchLoops(t *testing.T) {
	const height, width = 4, 6
	state := numbered[float32](1, height, width, 4)
	elements, err := orbits.Translations(2).Elements(height, width)
	require.NoError(t, err)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, rowDown := range []bool{false, true} {
			for _, element := range elements {
				shift := element.Shift()
				dy, dx := shift.Y, shift.X
				if rowDown {
					dy = -dy
				}
				want := numbered[float32](1, height, width, 4)
				for j := range height {
					for i := range width {
						want[0][(j+int(dy)+height)%height][(i+int(dx))%width] = state[0][j][i]
					}
				}
				field := orbits.EulerField()
				field.RowDown = rowDown
				require.Equal(t, want, apply(t, b, field, state, element), "%s, rows down: %v", element, rowDown)
			}
		}
	})
}

func TestApplyRefuses(t *testing.T) {
	turn := mustElements(t, orbits.D4(), 4)[1]
	b := backendtest.Go(t)
	build := func(state [][][][]float32) error {
		_, err := graph.CallOnce(b, func(x *graph.Node) *graph.Node { return turn.Apply(orbits.EulerField(), x) }, state)
		return err
	}
	require.ErrorContains(t, build(numbered[float32](1, 4, 6, 4)), "orbits: element r carries an axis of the grid to another and needs them of one size, got 4x6")
	require.ErrorContains(t, build(numbered[float32](1, 4, 4, 3)), "orbits: a state of this field is [batch, ..., 4]")
}

func mustElements(t require.TestingT, group orbits.Group, size int) []orbits.Element {
	elements, err := group.Elements(size, size)
	require.NoError(t, err)
	return elements
}
