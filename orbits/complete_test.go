package orbits_test

import (
	"testing"

	"github.com/symaudit/symaudit/internal/exampletest"
)

func TestEveryExportHasAnExample(t *testing.T) {
	exampletest.Complete(t, map[string]string{"Element.String": "it is Name, and what all examples print by"})
}
