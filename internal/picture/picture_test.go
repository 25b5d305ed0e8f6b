package picture

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of 130x65 cells blocks of 3x3 are averaged, those at the edges of what there is.
func TestFineStatesAreAveraged(t *testing.T) {
	const height, width, channels = 130, 65, 2
	state := make([]float64, height*width*channels)
	for i := range state {
		state[i] = float64(i/channels/width) + 1000*float64(i/channels%width)
		if i%channels == 0 {
			state[i] = -1
		}
	}
	rows, columns, values := Of(state, height, width, channels, 1)
	require.EqualValues(t, 44, rows)
	require.EqualValues(t, 22, columns)
	cells := Cells(rows, columns, values)
	require.Equal(t, 1+1000.0, cells[0][0])
	require.Equal(t, 4+1000.0, cells[1][0])
	require.Equal(t, 1+4000.0, cells[0][1])
	require.Equal(t, 129+1000.0, cells[43][0], "one row")
	require.Equal(t, 1+63500.0, cells[0][21], "two columns")
}

// Rows of others may say what is not so.
func TestCellsOfOtherSizes(t *testing.T) {
	require.Len(t, Cells(1, 2, make([]byte, 8)), 1)
	for _, size := range [][2]int32{{1, 1}, {2, 2}, {-1, -2}, {1 << 30, 2}, {math.MaxInt32, math.MaxInt32}} {
		require.Nil(t, Cells(size[0], size[1], make([]byte, 8)), size)
	}
}

func TestChoose(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		errors []float64
		want   []Choice
	}{
		{nil, nil},
		{[]float64{3}, []Choice{{Worst, 0}}},
		{[]float64{3, 1}, []Choice{{Best, 1}, {Worst, 0}}},
		{[]float64{3, 1, 2}, []Choice{{Best, 1}, {Median, 2}, {Worst, 0}}},
		{[]float64{4, 3, 2, 1}, []Choice{{Best, 3}, {Median, 1}, {Worst, 0}}},
		{[]float64{nan, 1, inf, 5}, []Choice{{Best, 1}, {Median, 0}, {Worst, 2}}},
		{[]float64{2, 2, 2}, []Choice{{Best, 0}, {Median, 1}, {Worst, 2}}},
	} {
		require.Equal(t, c.want, Choose(c.errors), "%v", c.errors)
	}
}
