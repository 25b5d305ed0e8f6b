package backend

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenHasXLASumItself(t *testing.T) {
	goBackend, err := Open("go")
	require.NoError(t, err)
	require.NoError(t, CheckSums(goBackend.Backend))
	if Plugins()["cpu"] == "" {
		t.Skip("no XLA")
	}
	t.Setenv(flagsEnv, "--xla_backend_optimization_level=1")
	xla, err := Open("xla:cpu")
	require.NoError(t, err)
	require.NoError(t, CheckSums(xla.Backend))
	require.Equal(t, "--xla_backend_optimization_level=1", os.Getenv(flagsEnv))
}

// A plugin reads its flags once, so that another process shows what they do. Where this fails, the plugin is mended: drop the flag.
func TestCheckSumsFindsWrongOnes(t *testing.T) {
	const child = "SYMAUDIT_TEST_WRONG_SUMS"
	if os.Getenv(child) != "" {
		xla, err := Open("xla:cpu")
		require.NoError(t, err)
		require.NoError(t, CheckSums(xla.Backend))
		return
	}
	if Plugins()["cpu"] == "" {
		t.Skip("no XLA")
	}
	program, err := os.Executable()
	require.NoError(t, err)
	run := exec.Command(program, "-test.run", "^"+t.Name()+"$")
	run.Env = append(os.Environ(), child+"=1", flagsEnv+"=--"+fusionFlag+"=reduce")
	output, err := run.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "computes derivatives of normalisations wrongly")
	require.Contains(t, string(output), "set the environment variable XLA_FLAGS to --xla_cpu_experimental_ynn_fusion_type=-reduce")
}

func TestContains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin")
	for _, before := range []int{0, 1<<20 - 3, 1 << 20, 3<<20 + 7} { // 1 MiB is read at once
		require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x", before)+"a flag"), 0o600))
		for word, want := range map[string]bool{"a flag": true, "a flags": false} {
			found, err := contains(path, word)
			require.NoError(t, err)
			require.Equal(t, want, found, before)
		}
	}
	_, err := contains(path+"?", "a flag")
	require.Error(t, err)
}
