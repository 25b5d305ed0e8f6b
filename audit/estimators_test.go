package audit_test

import (
	"context"
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// audited runs one D4 audit of a small trained ViT on two probes.
func audited(t *testing.T, configure func(*audit.Builder)) *audit.Records {
	t.Helper()
	fn := smallViT.Fn()
	builder := audit.New(trained(t, backendtest.Go(t), fn), fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithRelativeLambda(1e-2)
	configure(builder)
	auditor, err := builder.Done()
	require.NoError(t, err)
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), audit.Moment{})
	require.NoError(t, err)
	return records
}

func TestSinglePrecisionIntervalsContainTheDoubleValues(t *testing.T) {
	exact := audited(t, func(b *audit.Builder) { b.WithDType(dtypes.Float64).WithTolerance(1e-7) })
	lambda := exact.Solves[0].Lambda
	single := audited(t, func(b *audit.Builder) { b.WithDType(dtypes.Float32).WithLambda(lambda).WithTolerance(1e-3) })
	require.Equal(t, "Float32", single.Solves[0].DType)
	require.Equal(t, audit.Converged, single.Solves[0].Status)
	require.Less(t, single.Solves[0].Products, exact.Solves[0].Products)
	for i, row := range single.Influence {
		want := exact.Influence[i]
		require.LessOrEqual(t, *row.InfluenceLow, want.Influence)
		require.GreaterOrEqual(t, *row.InfluenceHigh, want.Influence)
		require.LessOrEqual(t, *row.CosineLow, *want.Cosine)
		require.GreaterOrEqual(t, *row.CosineHigh, *want.Cosine)
		require.LessOrEqual(t, *row.CosineHigh-*row.CosineLow, 2e-3)
	}
	for i, row := range single.Coherence {
		require.LessOrEqual(t, *row.MedianLow, *exact.Coherence[i].Median)
		require.GreaterOrEqual(t, *row.MedianHigh, *exact.Coherence[i].Median)
	}
}

func TestDTypeFollowsLambda(t *testing.T) {
	for _, test := range []struct {
		configure func(*audit.Builder)
		want      string
	}{
		{func(b *audit.Builder) { b.WithRelativeLambda(1e-3) }, "Float32"},
		{func(b *audit.Builder) { b.WithRelativeLambda(1e-1, 1e-4) }, "Float32"},
		{func(b *audit.Builder) { b.WithRelativeLambda(1e-1, 1e-6) }, "Float64"},
		{func(b *audit.Builder) { b.WithRelativeLambda(1e-1, 1e-4).WithMetric(audit.MetricGGN) }, "Float64"},
		{func(b *audit.Builder) { b.WithLambda(10) }, "Float64"},
	} {
		require.Equal(t, test.want, audited(t, test.configure).Solves[0].DType)
	}
}

func TestSeveralLambdas(t *testing.T) {
	together := audited(t, func(b *audit.Builder) { b.WithDType(dtypes.Float64).WithRelativeLambda(1, 1e-2, 1e-1) })
	alone := audited(t, func(b *audit.Builder) { b.WithDType(dtypes.Float64).WithRelativeLambda(1e-2) })
	require.Len(t, together.Solves, 3)
	require.Len(t, together.Influence, 3*len(alone.Influence))
	require.Len(t, together.Coherence, 3*len(alone.Coherence))
	require.Equal(t, alone.Solves[0].Products, together.Solves[0].Products)
	require.EqualValues(t, 20, together.Solves[0].SetupProducts)
	for i, solve := range together.Solves {
		require.InEpsilon(t, math.Pow(10, float64(i)-2), solve.Lambda/together.Solves[0].LambdaMax, 0.05)
		require.LessOrEqual(t, *solve.MaxHalfWidth, solver.DefaultTolerance)
		if i > 0 {
			require.Zero(t, solve.Products, "by-products of the first")
		}
	}
	require.Equal(t, alone.Influence, together.Influence[:len(alone.Influence)])
	// The larger lambda, the nearer to the plain cosine of the gradients.
	plain := audited(t, func(b *audit.Builder) { b.WithDType(dtypes.Float64).WithMetric(audit.MetricIdentity) })
	n := len(alone.Influence)
	distance := func(rows []audit.InfluenceRow) (sum float64) {
		for i, row := range rows {
			sum += math.Abs(*row.Cosine - *plain.Influence[i].Cosine)
		}
		return sum
	}
	require.Less(t, distance(together.Influence[2*n:]), distance(together.Influence[n:2*n]))
	require.Less(t, distance(together.Influence[n:2*n]), distance(together.Influence[:n]))
}

func TestMetricsAgainstDenseOracles(t *testing.T) {
	fn := smallViT.Fn()
	b := backendtest.Go(t)
	trainer := trained(t, b, fn)
	p := probes(2, 0)
	net, err := network.New(b, fn, audit.Loss, dtypes.Float64)
	require.NoError(t, err)
	defer net.Close()
	require.NoError(t, net.Load(trainer.Store()))
	x, err := network.ConvertDType(p.Inputs, dtypes.Float64)
	require.NoError(t, err)
	y, err := network.ConvertDType(p.Targets, dtypes.Float64)
	require.NoError(t, err)
	// The gradients at x, the first two of every orbit.
	gradients := mat.NewDense(2, net.Dim(), nil)
	for i := range 2 {
		size := grid * grid * 4
		one := func(seed uint64) (values []float32) { return flow(seed, 2)[i*size : (i+1)*size] }
		double := func(values []float32) *tensors.Tensor {
			converted, err := network.ConvertDType(batch(values), dtypes.Float64)
			require.NoError(t, err)
			return converted
		}
		_, err := net.Gradient(gradients.RawRowView(i), double(one(1)), double(one(2)))
		require.NoError(t, err)
	}
	jacobian, err := net.Jacobian(x)
	require.NoError(t, err)
	curvature, err := net.GaussNewton(x, 0.5, 0, y)
	require.NoError(t, err)
	gaussNewton, _, err := oracle.Dense(curvature)
	require.NoError(t, err)
	fisher := mat.NewSymDense(net.Dim(), nil)
	fisher.SymOuterK(0.5, gradients.T())
	ntk := mat.NewSymDense(net.Dim(), nil)
	ntk.SymOuterK(1, jacobian.T())
	for _, test := range []struct {
		metric    audit.Metric
		sum       bool
		eta       *mat.SymDense
		configure func(*audit.Builder)
	}{
		{audit.MetricGGN, false, gaussNewton, func(*audit.Builder) {}},
		{audit.MetricFisher, false, fisher, func(*audit.Builder) {}},
		{audit.MetricNTK, true, ntk, func(b *audit.Builder) { b.WithMetricScale(audit.MetricSum) }},
	} {
		t.Run(string(test.metric), func(t *testing.T) {
			auditor, err := func() (*audit.Auditor, error) {
				builder := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).WithDType(dtypes.Float64).
					WithRelativeLambda(1e-2).WithMetric(test.metric).WithTolerance(1e-8)
				test.configure(builder)
				return builder.Done()
			}()
			require.NoError(t, err)
			defer auditor.Close()
			records, err := auditor.Audit(context.Background(), audit.Moment{})
			require.NoError(t, err)
			solution, err := oracle.Cholesky(test.eta, records.Solves[0].Lambda, gradients)
			require.NoError(t, err)
			var want mat.Dense
			want.Mul(gradients, solution.T())
			for _, row := range records.Influence {
				if row.Element == "e" {
					exact := want.At(int(row.RowSample), int(row.ColSample))
					require.InEpsilon(t, exact, row.Influence, 1e-6)
					require.LessOrEqual(t, *row.InfluenceLow, exact+1e-12*math.Abs(exact))
					require.GreaterOrEqual(t, *row.InfluenceHigh, exact-1e-12*math.Abs(exact))
				}
			}
			require.Equal(t, string(test.metric), records.Solves[0].Metric)
			require.Equal(t, map[bool]string{false: "mean", true: "sum"}[test.sum], records.Solves[0].MetricScale)
		})
	}
}

func TestEstimatorsForComparisonCertifyNothing(t *testing.T) {
	exact := audited(t, func(b *audit.Builder) { b.WithDType(dtypes.Float64).WithTolerance(1e-7) })
	lambda := exact.Solves[0].Lambda
	worst := func(records *audit.Records) (largest float64) {
		for i, row := range records.Influence {
			require.Nil(t, row.InfluenceLow)
			require.Nil(t, row.CosineHigh)
			largest = max(largest, math.Abs(*row.Cosine-*exact.Influence[i].Cosine))
		}
		require.Nil(t, records.Solves[0].MaxHalfWidth)
		require.Nil(t, records.Coherence[0].MedianLow)
		return largest
	}
	cg := audited(t, func(b *audit.Builder) {
		b.WithDType(dtypes.Float64).WithLambda(lambda).WithEstimator(audit.CGResidual).WithTolerance(1e-8)
	})
	require.Less(t, worst(cg), 1e-6)
	require.Equal(t, "cg-residual", cg.Influence[0].Estimator)
	subspace := audited(t, func(b *audit.Builder) {
		b.WithDType(dtypes.Float64).WithLambda(lambda).WithEstimator(audit.Subspace)
	})
	require.Greater(t, worst(subspace), 0.05)
	require.EqualValues(t, 2, subspace.Solves[0].Products)
	require.Greater(t, *subspace.Solves[0].MaxTrueResidual, 0.1)
}

func TestBuilderRefusesSolves(t *testing.T) {
	fn := models.Fn(smallViT.Fn())
	from := source{backend: backendtest.Go(t)}
	for want, configure := range map[string]func(*audit.Builder){
		`audit: WithMetric is "hessian"; use ntk, ggn, fisher, identity or optimizer`: func(b *audit.Builder) { b.WithMetric("hessian") },
		`audit: WithEstimator is "kfac"; use block, cg-residual or subspace`:          func(b *audit.Builder) { b.WithEstimator("kfac") },
		"audit: WithLambda is empty; name at least one":                               func(b *audit.Builder) { b.WithLambda() },
		"audit: WithLambda has 1 twice":                                               func(b *audit.Builder) { b.WithLambda(1, 2, 1) },
		"audit: WithMaxBytes is -1; it must be positive, or 0 for 4 GiB":              func(b *audit.Builder) { b.WithMaxBytes(-1) },
	} {
		builder := audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0))
		configure(builder)
		_, err := builder.Done()
		require.ErrorContains(t, err, want)
	}
}
