// Package backendtest runs a test on each compute backend.
package backendtest

import (
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/gomlx/compute"

	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/internal/sums"
)

// RequireXLAEnv, when set, turns a missing XLA plugin from a skip into a failure: continuous integration sets it.
const RequireXLAEnv = "SYMAUDIT_REQUIRE_XLA"

var (
	openGo  = sync.OnceValues(func() (backend.Choice, error) { return backend.Open("go") })
	openXLA = sync.OnceValues(func() (backend.Choice, error) { return backend.Open("xla:cpu") })
)

// Each runs f once as subtest "go" and once as subtest "xla". The latter is skipped where no PJRT CPU plugin is found.
func Each(t *testing.T, f func(t *testing.T, b compute.Backend)) {
	t.Helper()
	t.Run("go", func(t *testing.T) { f(t, Go(t)) })
	t.Run("xla", func(t *testing.T) { f(t, XLA(t)) })
}

// Go returns the pure Go backend, shared by all tests of the process.
func Go(t testing.TB) compute.Backend {
	t.Helper()
	b, err := openGo()
	if err != nil {
		t.Fatal(err)
	}
	return b.Backend
}

// XLA returns the XLA CPU backend, or skips the test where there is none.
func XLA(t testing.TB) compute.Backend {
	t.Helper()
	b, err := openXLA()
	if err != nil {
		if os.Getenv(RequireXLAEnv) != "" {
			t.Fatalf("%s is set: %v", RequireXLAEnv, err)
		}
		t.Skipf("no XLA: %v", err)
	}
	return b.Backend
}

// WithWrongSums runs the calling test again in a process of its own, and there f, with an XLA that has the fault which sums.Check looks for: a plugin reads
// its flags once. Where f then finds no fault, the plugin is mended.
func WithWrongSums(t *testing.T, f func(t *testing.T, b compute.Backend)) {
	t.Helper()
	b := XLA(t)
	const inside = "SYMAUDIT_TEST_WRONG_SUMS"
	if os.Getenv(inside) != "" {
		f(t, b)
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := exec.Command(program, "-test.run", "^"+t.Name()+"$")
	run.Env = append(os.Environ(), inside+"=1", sums.FlagsEnv+"=--"+sums.Flag+"=reduce")
	if output, err := run.CombinedOutput(); err != nil {
		t.Fatalf("with wrong sums: %v\n%s", err, output)
	}
}
