package trainer_test

import (
	"context"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/euler"
)

// bare is a model without variables.
type bare struct {
	backend compute.Backend
	store   *model.Store
}

func (s bare) Backend() compute.Backend { return s.backend }
func (s bare) Store() *model.Store      { return s.store }

// TestTheSolverItselfPassesTheAudit takes the equations' own solver for a model. Whatever the audit finds there beyond
// rounding is the audit's fault: but for the control, which leaves vectors unrotated.
func TestTheSolverItselfPassesTheAudit(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		config := euler.Default()
		config.Resolution, config.Refinement, config.Snapshots = 16, 1, 3
		const count = 2
		states, err := euler.Generate(context.Background(), b, config, string(euler.CurvedRiemann), count, 1, nil)
		require.NoError(t, err)
		probes := audit.Probes{Samples: []audit.Sample{{Trajectory: 0}, {Trajectory: 1}}}
		values := tensors.MustCopyFlatData[float32](states)
		size := len(values) / count / config.Snapshots
		at := func(time int) *tensors.Tensor {
			var all []float32
			for trajectory := range count {
				from := (trajectory*config.Snapshots + time) * size
				all = append(all, values[from:from+size]...)
			}
			return tensors.FromFlatDataAndDimensions(all, count, config.Resolution, config.Resolution, euler.Channels)
		}
		probes.Inputs, probes.Targets = at(1), at(2)
		auditor, err := audit.New(bare{b, model.NewStore()}, func(_ *model.Scope, x *graph.Node) *graph.Node {
			return config.Advance(x)
		}, nil).
			WithDType(dtypes.Float64).
			WithForwardOnly().
			WithGroup(orbits.D4(), probes).
			WithGroup(orbits.Translations(3), probes).
			WithGroup(orbits.D4GridOnly(), probes).
			Done()
		require.NoError(t, err)
		defer auditor.Close()
		records, err := auditor.Audit(context.Background(), audit.Moment{Model: "solver"})
		require.NoError(t, err)
		require.Empty(t, records.Influence)
		require.Empty(t, records.Solves)
		require.Len(t, records.Errors, (8+11+8)*count)
		for _, row := range records.Errors {
			// The stored states are rounded to float32, the target's too.
			if row.GroupName != orbits.D4GridOnlyName || row.Element == "e" {
				require.Less(t, row.CommutatorError, 1e-24, "%s %s", row.GroupName, row.Element)
				require.Less(t, row.TargetError, 1e-10, "%s %s", row.GroupName, row.Element)
				continue
			}
			require.Greater(t, row.CommutatorError, 1e-3, row.Element)
			require.Greater(t, row.TargetError, 1e-3, row.Element)
		}
		for _, row := range records.Errors {
			require.Greater(t, *row.PersistenceError, 1e-3, "the probes must move")
		}
	})
}
