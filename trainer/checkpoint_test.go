package trainer

import (
	"testing"

	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/checkpoint"
)

func TestEndOfTraining(t *testing.T) {
	c := checkpoints{checkpoint.Folder{Dir: t.TempDir(), Keep: 1}}
	_, finished, err := c.finished()
	require.NoError(t, err)
	require.False(t, finished)
	for _, want := range []string{"", "a rule"} {
		require.NoError(t, c.finish(want))
		reason, finished, err := c.finished()
		require.NoError(t, err)
		require.True(t, finished)
		require.Equal(t, want, reason)
	}
	found, err := c.LoadLatest(model.NewStore(), nil)
	require.NoError(t, err)
	require.False(t, found, "it is no checkpoint")
}
