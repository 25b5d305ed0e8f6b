package audit_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/numpy"
	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
)

// Arrays, with which anybody can check what the audit says: here without a metric, where influence is the inner product of the gradients.
func ExampleAuditor_Export() {
	auditor, err := audit.New(newModel(slopes, waves(1)), slopes, nil).WithField(temperature).WithGroup(orbits.C4(), waves(1)).WithMetric(audit.MetricIdentity).Done()
	if err != nil {
		panic(err)
	}
	defer auditor.Close()
	parent, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "export")
	records, err := auditor.Export(context.Background(), audit.Moment{Model: "slopes"}, dir, audit.DefaultJacobianLimit)
	if err != nil {
		panic(err)
	}
	array, err := numpy.FromNpyFile(filepath.Join(dir, "c4", "gradients_loss.npy")) // [element, draw, sample, parameter]
	if err != nil {
		panic(err)
	}
	gradients := tensors.MustCopyFlatData[float64](array)
	for e, row := range records.Influence {
		product := floats.Dot(gradients[:2], gradients[2*e:2*e+2])
		fmt.Printf("%-2s within its bounds: %t\n", row.Element, *row.InfluenceLow <= product && product <= *row.InfluenceHigh)
	}
	// Output:
	// e  within its bounds: true
	// r  within its bounds: true
	// r2 within its bounds: true
	// r3 within its bounds: true
}
