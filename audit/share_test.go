package audit_test

import (
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// Metrics over states of their own: influence is that of the dense metric of these, and batches and groups that have the same are solved once.
func TestMetricsOverFurtherStates(t *testing.T) {
	b, fn := backendtest.Go(t), smallViT.Fn()
	trainer := trained(t, b, fn)
	states := func() *audit.MetricStates {
		return &audit.MetricStates{Inputs: batch(flow(31, 3)), Targets: batch(flow(32, 3))}
	}
	over := func(m ...*audit.MetricStates) audit.Probes {
		p := probes(2, 1)
		p.Metrics = m
		return p
	}
	net, err := network.New(b, fn, audit.Loss, dtypes.Float64)
	require.NoError(t, err)
	defer net.Close()
	require.NoError(t, net.Load(trainer.Store()))
	double := func(x *tensors.Tensor) *tensors.Tensor {
		converted, err := network.ConvertDType(x, dtypes.Float64)
		require.NoError(t, err)
		return converted
	}
	of := states()
	x, y := double(of.Inputs), double(of.Targets)
	gradient := func(x, y *tensors.Tensor) []float64 {
		row := make([]float64, net.Dim())
		_, err := net.Gradient(row, x, y)
		require.NoError(t, err)
		return row
	}
	one := func(of *tensors.Tensor, i int) *tensors.Tensor {
		size := grid * grid * 4
		return double(batch(tensors.MustCopyFlatData[float32](of)[i*size : (i+1)*size]))
	}
	gradients, fisher := mat.NewDense(2, net.Dim(), nil), mat.NewSymDense(net.Dim(), nil)
	p := over()
	for i := range 2 {
		gradients.SetRow(i, gradient(one(p.Inputs, i), one(p.Targets, i)))
	}
	for i := range 3 {
		fisher.SymRankOne(fisher, 1./3, mat.NewVecDense(net.Dim(), gradient(one(of.Inputs, i), one(of.Targets, i))))
	}
	ntk, _, err := oracle.Dense(net.Metric(x, 1/float64(x.Size())))
	require.NoError(t, err)
	curvature, err := net.GaussNewton(x, 1./3, 0, y)
	require.NoError(t, err)
	ggn, _, err := oracle.Dense(curvature)
	require.NoError(t, err)
	for metric, eta := range map[audit.Metric]*mat.SymDense{audit.MetricNTK: ntk, audit.MetricGGN: ggn, audit.MetricFisher: fisher} {
		t.Run(string(metric), func(t *testing.T) {
			builder := func() *audit.Builder {
				return audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithDType(dtypes.Float64).WithRelativeLambda(1e-2).WithMetric(metric).WithTolerance(1e-8)
			}
			m := states()
			together := auditOnce(t, builder().WithGroup(orbits.D4(), over(m)).WithGroup(orbits.Translations(4), over(m, m)))
			apart := auditOnce(t, builder().WithGroup(orbits.D4(), over(states(), states())).WithGroup(orbits.Translations(4), over(states(), states())))
			require.Len(t, together.Solves, 4, "two batches of each group")
			settings := func(p audit.Probes) map[string]string {
				auditor, err := builder().WithGroup(orbits.D4(), p).Done()
				require.NoError(t, err)
				defer auditor.Close()
				return auditor.Settings()
			}
			plain, named, other := settings(over()), settings(over(m)), settings(over(&audit.MetricStates{Inputs: m.Targets, Targets: m.Inputs}))
			require.Equal(t, plain[audit.SettingProbes+"d4"], named[audit.SettingProbes+"d4"], "the probes are the same")
			require.Empty(t, plain["metric states of d4"])
			require.Len(t, named["metric states of d4"], 64)
			require.NotEqual(t, named["metric states of d4"], other["metric states of d4"])
			for i, solve := range together.Solves {
				require.Equal(t, audit.Converged, solve.Status)
				require.Equal(t, i == 0, solve.Products > 0, "counted once")
				require.EqualValues(t, len(together.Influence), solve.RHS)
				require.Positive(t, apart.Solves[i].Products)
			}
			solution, err := oracle.Cholesky(eta, together.Solves[0].Lambda, gradients)
			require.NoError(t, err)
			var want mat.Dense
			want.Mul(gradients, solution.T())
			require.Equal(t, len(apart.Influence), len(together.Influence))
			seen := 0
			for i, row := range together.Influence {
				other := apart.Influence[i]
				require.Equal(t, []any{other.GroupName, other.Element, other.RowSample, other.ColSample}, []any{row.GroupName, row.Element, row.RowSample, row.ColSample})
				require.InDelta(t, *other.Cosine, *row.Cosine, 1e-7)
				require.InEpsilon(t, other.Influence, row.Influence, 1e-6)
				if row.Element == "e" {
					seen++
					require.InEpsilon(t, want.At(int(row.RowSample), int(row.ColSample)), row.Influence, 1e-6)
				}
			}
			require.Positive(t, seen)
			require.False(t, math.Signbit(together.Influence[0].Influence))
		})
	}
}

func TestMetricStatesMustSuitTheProbes(t *testing.T) {
	b := backendtest.Go(t)
	trainer := trained(t, b, smallUNet.Fn())
	for want, metrics := range map[string][]*audit.MetricStates{
		"audit: Probes.Metrics has 3 entries and there are 2 batches; give one for each batch, or one for all": make([]*audit.MetricStates, 3),
		"audit: Probes.Metrics[0] is nil; give states, or leave Probes.Metrics out":                            {nil},
		"audit: Probes.Metrics[0]: probes need inputs and targets":                                             {{}},
		"they must agree in all but their number":                                                              {{Inputs: batch(flow(1, 1)), Targets: batch(flow(1, 1)), Labels: []*tensors.Tensor{batch(flow(1, 1))}}},
	} {
		p := probes(2, 1)
		p.Metrics = metrics
		_, err := audit.New(trainer, smallUNet.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).Done()
		require.ErrorContains(t, err, want)
	}
}
