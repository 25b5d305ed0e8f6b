package audit

import (
	"context"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// untrained is a source of a model with the weights that it begins with.
type untrained struct {
	backend compute.Backend
	store   *model.Store
}

func (u untrained) Backend() compute.Backend { return u.backend }
func (u untrained) Store() *model.Store      { return u.store }

// An accelerator is not at hand in tests: the long vectors of a solve are put on other backends as they would be on one.
func TestVectorsOnTheBackendGiveTheSameIntervals(t *testing.T) {
	const samples, side = 2, 4
	fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		shape := x.Shape().Dimensions
		x = graph.Reshape(x, shape[0], -1)
		x = graph.Tanh(layers.Dense(scope.In("first"), x, true, 40))
		return graph.Reshape(layers.Dense(scope.In("second"), x, true, side*side), shape...)
	}
	states := func(seed float64) *tensors.Tensor {
		values := make([]float32, samples*side*side)
		for i := range values {
			values[i] = float32(math.Sin(12.9898*float64(i) + seed))
		}
		return tensors.FromFlatDataAndDimensions(values, samples, side, side, 1)
	}
	backendtest.Each(t, func(t *testing.T, on compute.Backend) {
		require.False(t, isAccelerator(on))
		for _, dtype := range []dtypes.DType{dtypes.Float64, dtypes.Float32} {
			source := untrained{on, model.NewStore()}
			source.store.SetParam(model.ParamInitialSeed, int64(5))
			_, err := model.MustNewExec(on, source.store, fn).Exec(states(1))
			require.NoError(t, err)
			rows := map[bool][]InfluenceRow{}
			for _, resident := range []bool{false, true} {
				auditor, err := New(source, fn, Loss).WithField(orbits.Field{Channels: []string{"p"}}).WithDType(dtype).
					WithGroup(orbits.D4(), Probes{Inputs: states(1), Targets: states(2)}).Done()
				require.NoError(t, err)
				defer auditor.Close()
				auditor.resident = resident
				records, err := auditor.Audit(context.Background(), Moment{})
				require.NoError(t, err)
				rows[resident] = records.Influence
			}
			require.NotEmpty(t, rows[false])
			require.NotEqual(t, rows[false], rows[true], "sums of another order differ in the last digits")
			for i, host := range rows[false] {
				backend := rows[true][i]
				require.InDelta(t, *host.Cosine, *backend.Cosine, 1e-4)
				require.InDelta(t, *host.CosineLow, *backend.CosineLow, 1e-4)
				require.InDelta(t, *host.CosineHigh, *backend.CosineHigh, 1e-4)
			}
		}
	})
}
