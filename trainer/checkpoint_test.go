package trainer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/checkpoint"
)

func TestEndOfTraining(t *testing.T) {
	c := checkpoints{checkpoint.Folder{Dir: t.TempDir(), Keep: 1}}
	_, finished, err := c.finished(5)
	require.NoError(t, err)
	require.False(t, finished)
	for _, want := range []string{"", "a rule"} {
		require.NoError(t, c.finish(want, 5))
		reason, finished, err := c.finished(5)
		require.NoError(t, err)
		require.True(t, finished)
		require.Equal(t, want, reason)
	}
	require.NoError(t, c.finish("", 4))
	_, finished, err = c.finished(5)
	require.NoError(t, err)
	require.False(t, finished, "it is to be extended")
	require.NoError(t, os.WriteFile(filepath.Join(c.Dir, endName), nil, 0o666))
	_, finished, err = c.finished(5)
	require.NoError(t, err)
	require.True(t, finished, "of an earlier version")
	found, err := c.LoadLatest(model.NewStore(), nil)
	require.NoError(t, err)
	require.False(t, found, "it is no checkpoint")
}
