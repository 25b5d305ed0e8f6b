package trainer

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// What a library says of its options, a configuration says of its keys.
func TestErrorsSpeakOfKeys(t *testing.T) {
	s := &session{}
	for want, err := range map[string]error{
		"trainer: audits of this model would fail or mean nothing: two evaluations differ": &hooks.PreflightFault{Err: errors.New("audit: two evaluations differ")},
		"trainer: audit at step 3 failed: group d4, batch 0: audit.dtype should be float64": fmt.Errorf("hooks: audit at step 3 failed: group d4, batch 0: %w",
			&audit.SettingError{Setting: "dtype", Fault: "should be float64"}),
		"trainer: audits of this model would fail or mean nothing: audit.max_mib allows 1 MiB": &hooks.PreflightFault{
			Err: &audit.SettingError{Setting: "max_bytes", Fault: "allows 1 MiB"}},
		"audit: no": errors.New("audit: no"),
	} {
		said := s.explain(err)
		require.EqualError(t, said, want)
		require.ErrorIs(t, said, err)
	}
	require.NoError(t, s.explain(nil))
	var key *KeyError
	require.ErrorAs(t, s.explain(&audit.SettingError{Setting: "relative_lambda", Fault: "is 0"}), &key)
	require.Equal(t, KeyError{"audit.relative_lambdas", "is 0"}, *key)
}
