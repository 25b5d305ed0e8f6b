package trainer_test

import (
	"context"
	"math"
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
		}, nil).WithField(orbits.EulerField()).
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

// smooth is two states of a gas that any grid resolves, [2, size, size, 4], as averages over cells up to second order.
func smooth(size int) *tensors.Tensor {
	var values []float64
	for sample := range 2 {
		for j := range size {
			for i := range size {
				x, y := 2*math.Pi*(float64(i)+0.5)/float64(size), 2*math.Pi*(float64(j)+0.5)/float64(size)
				density, pressure := 1+0.2*math.Sin(x-y+float64(sample)), 0.5+0.1*math.Cos(x+2*y)
				u, v := 0.3*math.Sin(y+float64(sample)), 0.2*math.Cos(x)
				values = append(values, density, density*u, density*v, pressure/0.4+density*(u*u+v*v)/2)
			}
		}
	}
	return tensors.FromFlatDataAndDimensions(values, 2, size, size, euler.Channels)
}

// worstCommutator audits the solver on smooth states under a group.
func worstCommutator(t *testing.T, b compute.Backend, size int, group orbits.Group) float64 {
	config := euler.Default()
	probes := audit.Probes{Inputs: smooth(size), Targets: smooth(size)}
	auditor, err := audit.New(bare{b, model.NewStore()}, func(_ *model.Scope, x *graph.Node) *graph.Node { return config.Advance(x) }, nil).WithField(orbits.EulerField()).
		WithForwardOnly().WithGroup(group, probes).Done()
	require.NoError(t, err)
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), audit.Moment{})
	require.NoError(t, err)
	worst := 0.0
	for _, row := range records.Errors {
		worst = max(worst, row.CommutatorError)
	}
	return worst
}

func TestTheSolverIsOfDegreeOne(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		require.Less(t, worstCommutator(t, b, 16, orbits.Scalings(0.25, 3)), 1e-26)
	})
}

// A boost moves the flow through the grid, and the scheme's errors with it: they commute only in the limit of fine grids, at second order,
// which is a factor of 16 in a squared error for each halving of the cells.
func TestTheSolverCommutesWithBoostsInTheLimit(t *testing.T) {
	b, dt := backendtest.Go(t), euler.Default().Interval
	for name, v := range map[string]orbits.Vector{"whole pixels": {X: 1.25, Y: -1.25}, "fractions of pixels": {X: 0.625, Y: 0.5}} {
		t.Run(name, func(t *testing.T) {
			coarser := math.Inf(1)
			for _, size := range []int{16, 32, 64} {
				right := worstCommutator(t, b, size, orbits.Boosts(dt*float64(size), v))
				wrong := worstCommutator(t, b, size, orbits.Boosts(-dt*float64(size), v))
				t.Logf("%d cells: SMSE %.1e, with the other sign of v dt %.1e", size, right, wrong)
				require.Less(t, right, coarser/8)
				require.Greater(t, wrong, 200*right)
				coarser = right
			}
			require.Less(t, coarser, 5e-7)
		})
	}
}
