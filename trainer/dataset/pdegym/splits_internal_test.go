package pdegym

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Of the collection's 10,000 trajectories the splits are those of its authors.
func TestSplits(t *testing.T) {
	require.Equal(t, [3]int{9640, 9760, 10000}, ends(10000))
	require.Equal(t, [3]int{688, 697, 715}[2], ends(715)[2])
	require.Equal(t, [3]int{39, 39, 40}, ends(40))
	require.Equal(t, [3]int{0, 0, 1}, ends(1))
	m := &Import{counts: Counts{Train: 5000, Validation: 2, Test: 240}, ends: ends(10000)}
	for trajectory, inFiles := range map[int]int{0: 0, 4999: 4999, 5000: 9640, 5001: 9641, 5002: 9760, 5241: 9999} {
		require.Equal(t, inFiles, m.inFiles(trajectory))
	}
}
