package cause_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/cause"
)

func TestOnePackageSpeaks(t *testing.T) {
	for text, want := range map[string]string{
		"no":                                     "no",
		"audit: solver: forward: operation Sort": "operation Sort",
		`trainer: model "unet": models: unet: 3`: `model "unet": unet: 3`,
		"hooks: audit at step 2 failed: audit: group d4: network: no": "audit at step 2 failed: group d4: no",
		"audit: one\naudit: two": "one\ntwo",
		"the audit: it failed":   "the audit: it failed",
	} {
		require.Equal(t, want, cause.Plain(errors.New(text)))
	}
	err := cause.In("hooks", fmt.Errorf("audit: solver: %w", io.EOF))
	require.EqualError(t, err, "hooks: EOF")
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, cause.In("hooks", nil))
}
