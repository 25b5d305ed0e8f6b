package audit_test

import (
	"context"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// sideBySide has more convolutions that can start at the same time than GoMLX's Go backend has workers.
func sideBySide(scope *model.Scope, x *graph.Node) *graph.Node {
	sum := x
	for i := range 24 {
		hidden := graph.Tanh(layers.Convolution(scope.In("first %d", i), x).Channels(2).KernelSize(3).PadSame().Done())
		sum = graph.Add(sum, layers.Convolution(scope.In("second %d", i), hidden).Channels(4).KernelSize(3).PadSame().Done())
	}
	return sum
}

// As users open the Go backend, its operations may wait for one another for ever. An audit must not.
func TestAuditsOnTheGoBackendAsItComes(t *testing.T) {
	trainer := trained(t, backendtest.Go(t), sideBySide)
	parallel, err := compute.NewWithConfig("go")
	require.NoError(t, err)
	auditor, err := audit.New(source{parallel, trainer.Store()}, sideBySide, audit.Loss).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).
		WithRelativeLambda(0.1).Done()
	require.NoError(t, err)
	finished := make(chan error, 1)
	go func() {
		_, err := auditor.Audit(context.Background(), audit.Moment{})
		finished <- err
	}()
	select {
	case err := <-finished:
		require.NoError(t, err)
		auditor.Close()
	case <-time.After(5 * time.Minute):
		t.Fatal("the audit hangs")
	}
}
