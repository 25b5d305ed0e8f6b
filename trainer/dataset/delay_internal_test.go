package dataset

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/orbits"
)

// A trajectory is safe soon after it was written, also where the next takes long.
func TestATrajectoryIsSafeWithoutTheNext(t *testing.T) {
	defer func(before time.Duration) { longestDelay = before }(longestDelay)
	longestDelay = 10 * time.Millisecond
	d := Description{
		Field: orbits.EulerField(), Grid: []int{2, 2}, Snapshots: 2, Interval: 1, Families: []Family{{Name: "a", Label: "A"}},
	}.InOrder(2, 0, 0)
	dir := filepath.Join(t.TempDir(), "data")
	w, err := Create(dir, d, false)
	require.NoError(t, err)
	require.NoError(t, w.Put(0, 1, make([]float32, 2*d.values())))
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(filepath.Join(partial(dir), "a"+recordsSuffix))
		return err == nil && len(text) > 0
	}, 5*time.Second, 5*time.Millisecond)
	require.NoError(t, w.Close())
	missing, err := Plan(dir, d, true)
	require.NoError(t, err)
	require.Equal(t, [][]int{{0}}, missing)
}
