package hooks_test

import (
	"testing"

	"github.com/symaudit/symaudit/internal/exampletest"
)

func TestEveryExportHasAnExample(t *testing.T) {
	exampletest.Complete(t, map[string]string{
		"Mode.String":           "it is what fmt prints",
		"PreflightFault.Error":  "it is what fmt prints",
		"PreflightFault.Unwrap": "errors.Is calls it",
	})
}
