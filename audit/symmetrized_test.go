package audit

import (
	"context"
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// The mean error over an orbit is the error of the averaged prediction and the spread of predictions around that.
func TestSymmetrizedErrors(t *testing.T) {
	const samples, side, channels = 3, 4, 4
	on := backendtest.Go(t)
	wavy := func(seed float64) *tensors.Tensor {
		values := make([]float64, samples*side*side*channels)
		for i := range values {
			values[i] = 2 + math.Sin(12.9898*float64(i)+seed)
		}
		return tensors.FromFlatDataAndDimensions(values, samples, side, side, channels)
	}
	x, y := wavy(1), wavy(2)
	plain := func(scope *model.Scope, x *graph.Node) *graph.Node {
		shape := x.Shape().Dimensions
		return graph.Reshape(layers.Dense(scope.In("dense"), graph.Reshape(x, shape[0], -1), true, side*side*channels), shape...)
	}
	audited := func(fn models.Fn, group orbits.Group) *Records {
		source := untrained{on, model.NewStore()}
		source.store.SetParam(model.ParamInitialSeed, int64(5))
		_, err := model.MustNewExec(on, source.store, fn).Exec(x)
		require.NoError(t, err)
		auditor, err := New(source, fn, Loss).WithField(orbits.EulerField()).WithDType(dtypes.Float64).WithForwardOnly().
			WithGroup(group, Probes{Inputs: x, Targets: y}).Done()
		require.NoError(t, err)
		defer auditor.Close()
		records, err := auditor.Audit(context.Background(), Moment{})
		require.NoError(t, err)
		if group.Name != orbits.D4Name {
			return records
		}

		// p_g = g^-1.f(g.x), by itself.
		elements, err := group.Elements(side, side)
		require.NoError(t, err)
		var predictions [][]float64
		for _, g := range elements {
			back := model.MustNewExec(on, source.store, func(scope *model.Scope, x *graph.Node) *graph.Node {
				return g.Inverse().Apply(orbits.EulerField(), fn(scope, g.Apply(orbits.EulerField(), x)))
			})
			outputs, err := back.Exec(x)
			require.NoError(t, err)
			predictions = append(predictions, tensors.MustCopyFlatData[float64](outputs[0]))
		}
		target := tensors.MustCopyFlatData[float64](y)
		const size = side * side * channels
		for n := range samples {
			squares := make([]float64, channels)
			for i := range size {
				squares[i%channels] += target[n*size+i] * target[n*size+i] / (side * side)
			}
			averaged, spread, orbit := 0.0, 0.0, 0.0
			for i := range size {
				mean := 0.0
				for _, p := range predictions {
					mean += p[n*size+i] / float64(len(predictions))
				}
				weight := 1 / squares[i%channels] / size
				averaged += weight * (mean - target[n*size+i]) * (mean - target[n*size+i])
				for _, p := range predictions {
					spread += weight * (p[n*size+i] - mean) * (p[n*size+i] - mean) / float64(len(predictions))
				}
			}
			for _, row := range records.Errors {
				if int(row.Sample) == n {
					orbit += row.TargetError / float64(len(elements))
					require.InEpsilon(t, averaged, *row.SymmetrizedError, 1e-5, "but for the floor of SMSE")
				}
			}
			require.InEpsilon(t, orbit, averaged+spread, 1e-5)
		}
		return records
	}
	share := func(records *Records) *float64 {
		for _, row := range records.Coherence {
			if row.Element == AllElements {
				return row.AsymmetryShare
			}
			require.Nil(t, row.AsymmetryShare)
		}
		return nil
	}
	require.Greater(t, *share(audited(plain, orbits.D4())), 0.1)
	d4, err := orbits.D4().Elements(side, side)
	require.NoError(t, err)
	require.InDelta(t, 0, *share(audited(models.Symmetrize(plain, orbits.EulerField(), d4), orbits.D4())), 1e-12)
	require.Greater(t, *share(audited(plain, orbits.Translations(1))), 0.1)
	require.Nil(t, share(audited(plain, orbits.Translations(0.5))), "interpolation keeps no distances")
	require.Nil(t, share(audited(plain, orbits.Scalings(2))))
}
