package audit_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// A model is fine and float32 is not: what to change is the precision, and no weight is at fault.
func TestNumbersThatFloat32CannotHold(t *testing.T) {
	for _, unit := range []float64{1e20, 1e-22, 1e-23} {
		fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.MulScalar(smallUNet.Fn()(scope, x), unit)
		}
		b := audit.New(trained(t, backendtest.Go(t), smallUNet.Fn()), fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).WithRelativeLambda(0.1)
		err := auditError(t, b)
		require.Regexp(t, "WithDType should be float64: .* float32, and float64 holds them; or scale the units of the data$", err.Error())
		var setting *audit.SettingError
		require.True(t, errors.As(err, &setting))
		require.Equal(t, "dtype", setting.Setting)
		require.NotContains(t, err.Error(), "diverged")
		auditor, err := b.WithDType(dtypes.Float64).Done()
		require.NoError(t, err)
		_, err = auditor.Audit(context.Background(), audit.Moment{})
		auditor.Close()
		require.NoError(t, err)
	}
}

// auditError is that of an audit which fails.
func auditError(t *testing.T, b *audit.Builder) error {
	t.Helper()
	auditor, err := b.Done()
	require.NoError(t, err)
	defer auditor.Close()
	_, err = auditor.Audit(context.Background(), audit.Moment{})
	require.Error(t, err)
	require.Equal(t, 1, strings.Count(err.Error(), "audit: ")+strings.Count(err.Error(), "solver: ")+strings.Count(err.Error(), "network: "), "one package speaks: %v", err)
	return err
}

// Weights that are not finite are no matter of precision.
func TestWeightsThatAreNotFinite(t *testing.T) {
	fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return graph.MulScalar(smallUNet.Fn()(scope, x), math.NaN())
	}
	err := auditError(t, audit.New(trained(t, backendtest.Go(t), smallUNet.Fn()), fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).WithRelativeLambda(0.1))
	require.ErrorContains(t, err, "diverged")
	require.NotContains(t, err.Error(), "float32")
}

func TestTheCostOfManyElementsIsSaidFirst(t *testing.T) {
	said := func(group orbits.Group) string {
		var log strings.Builder
		auditor, err := audit.New(source{backendtest.Go(t), model.NewStore()}, models.Fn(smallViT.Fn()), nil).WithField(orbits.EulerField()).
			WithGroup(orbits.D4(), probes(2, 0)).WithGroup(group, probes(2, 0)).WithLogger(zerolog.New(&log).Level(zerolog.WarnLevel)).Done()
		require.NoError(t, err)
		auditor.Close()
		return log.String()
	}
	require.Empty(t, said(orbits.Translations(1)))
	require.Contains(t, said(orbits.Translations(0.01)), `"gradients":3214,"products_at_least":6428,"group":"translations","elements":1599,"probes":2,"message":"each audit will take very many gradients and products`)
}
