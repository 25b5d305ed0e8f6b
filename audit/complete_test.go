package audit_test

import (
	"testing"

	"github.com/symaudit/symaudit/internal/exampletest"
)

func TestEveryExportHasAnExample(t *testing.T) { exampletest.Complete(t, nil) }
