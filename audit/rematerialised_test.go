package audit_test

import (
	"context"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// A model that computes its layers again in the backward pass, to save memory, has the influence of one that keeps them.
func TestCheckpointedLayers(t *testing.T) {
	network := func(checkpointed bool) func(scope *model.Scope, x *graph.Node) *graph.Node {
		return func(scope *model.Scope, x *graph.Node) *graph.Node {
			for _, name := range []string{"first", "second"} {
				if checkpointed {
					x = x.Checkpoint()
				}
				x = graph.Add(x, layers.Dense(scope.In("%s", name), graph.Tanh(layers.Dense(scope.In("%s hidden", name), x, true, 6)), true, 4))
			}
			if checkpointed {
				x = x.StopCheckpoint()
			}
			return x
		}
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		trainer := trained(t, b, network(false))
		var all [2]*audit.Records
		for i := range all {
			fn := network(i == 1)
			auditor, err := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithDType(dtypes.Float64).WithRelativeLambda(1e-2).Done()
			require.NoError(t, err)
			_, err = auditor.Preflight(context.Background())
			require.NoError(t, err)
			all[i], err = auditor.Audit(context.Background(), audit.Moment{})
			require.NoError(t, err)
			auditor.Close()
		}
		for i, row := range all[0].Influence {
			require.InEpsilon(t, row.Influence, all[1].Influence[i].Influence, 1e-9)
		}
	})
}
