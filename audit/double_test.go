package audit_test

import (
	"fmt"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// scaled multiplies all weights, which saturates what there is to saturate.
func scaled(t *testing.T, store *model.Store, by float32) {
	t.Helper()
	for variable := range store.IterVariables() {
		if variable.Trainable {
			tensors.MustMutableFlatData(variable.MustValue(), func(flat []float32) {
				for i := range flat {
					flat[i] *= by
				}
			})
		}
	}
}

// far is data whose mean dwarfs its deviation.
func far(p audit.Probes) audit.Probes {
	for _, states := range []*tensors.Tensor{p.Inputs, p.Targets} {
		tensors.MustMutableFlatData(states, func(flat []float32) {
			for i := range flat {
				flat[i] = 1e3 + 0.1*flat[i]
			}
		})
	}
	return p
}

// What an audit in float32 certifies holds for gradients and metric of these weights in exact arithmetic, of ordinary networks and of such
// that round hundreds of times more.
func TestSinglePrecisionIntervalsHoldForNetworksThatRoundMore(t *testing.T) {
	b := backendtest.Go(t)
	missed, entries, converged, solves := 0, 0, 0, 0
	for name, fn := range map[string]models.Fn{"unet": smallUNet.Fn(), "vit": smallViT.Fn()} {
		for _, times := range []float32{1, 3, 10} {
			for _, shifted := range []bool{false, true} {
				for _, metric := range []audit.Metric{audit.MetricNTK, audit.MetricGGN, audit.MetricFisher, audit.MetricIdentity} {
					trainer := trained(t, b, fn)
					scaled(t, trainer.Store(), times)
					of := func(dtype dtypes.DType, tolerance float64, lambdas ...float64) *audit.Records {
						p := probes(2, 0)
						if shifted {
							p = far(p)
						}
						builder := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), p).WithMetric(metric).WithDType(dtype).WithTolerance(tolerance)
						switch {
						case metric == audit.MetricIdentity:
						case lambdas == nil:
							builder.WithRelativeLambda(1e-3, 1e-1)
						default:
							builder.WithLambda(lambdas...)
						}
						return auditOnce(t, builder)
					}
					exact := of(dtypes.Float64, 1e-6)
					var lambdas []float64
					for _, solve := range exact.Solves {
						lambdas = append(lambdas, solve.Lambda)
						require.Nil(t, solve.ProductErrorMeasured)
						require.LessOrEqual(t, *solve.GradientError, 1e-12)
					}
					for _, tolerance := range []float64{0.02, 1e-3} {
						single := of(dtypes.Float32, tolerance, lambdas...)
						solve := single.Solves[0]
						require.LessOrEqual(t, *solve.GradientError, 1e-12, "gradients are taken in float64")
						require.Equal(t, metric == audit.MetricNTK || metric == audit.MetricGGN, solve.ProductErrorMeasured != nil)
						if metric == audit.MetricFisher || metric == audit.MetricIdentity {
							require.EqualValues(t, 1, solve.Iterations, "the gradients span all there is")
						}
						if solve.ProductErrorMeasured != nil {
							require.GreaterOrEqual(t, *solve.ProductError, 2**solve.ProductErrorMeasured)
							require.Positive(t, *solve.ProductErrorMeasured)
						}
						miss, known := 0, 0
						for i, row := range single.Influence {
							want := exact.Influence[i]
							see := func(low, high, wantLow, wantHigh *float64) {
								if low == nil || wantLow == nil {
									return
								}
								known++
								if *low > *wantHigh || *high < *wantLow {
									miss++
								}
							}
							see(row.InfluenceLow, row.InfluenceHigh, want.InfluenceLow, want.InfluenceHigh)
							see(row.CosineLow, row.CosineHigh, want.CosineLow, want.CosineHigh)
						}
						for _, s := range single.Solves {
							solves++
							if s.Status == audit.Converged {
								converged++
							}
						}
						missed, entries = missed+miss, entries+known
						units := -1.0
						if solve.ProductErrorMeasured != nil {
							units = *solve.ProductErrorMeasured / 0x1p-24
						}
						t.Logf("%s times %g, far %v, %s, tolerance %g: %d of %d intervals miss, %s, products off by %.1f roundoffs", name, times, shifted, metric, tolerance, miss, known, solve.Status, units)
					}
				}
			}
		}
	}
	require.Zero(t, missed, "of %d", entries)
	require.GreaterOrEqual(t, converged, solves/2, fmt.Sprint(solves))
}

// A model that computes in float32 whatever its input has no float64 to compare with, and the certificate takes its gradients for no better.
func TestAModelWithoutDoublePrecision(t *testing.T) {
	b := backendtest.Go(t)
	for name, fn := range map[string]func(scope *model.Scope, x *graph.Node) *graph.Node{
		"variables": func(scope *model.Scope, x *graph.Node) *graph.Node {
			w := scope.In("layer").VariableWithShape("weights", shapes.Make(dtypes.Float32, 4, 4)).NodeValue(x)
			return graph.Tanh(graph.Einsum("nyxc,cd->nyxd", x, w))
		},
		"inside": func(scope *model.Scope, x *graph.Node) *graph.Node {
			w := scope.In("layer").VariableWithShape("weights", shapes.Make(x.DType(), 4, 4)).NodeValue(x)
			single := func(n *graph.Node) *graph.Node { return graph.ConvertDType(n, dtypes.Float32) }
			return graph.ConvertDType(graph.Tanh(graph.Einsum("nyxc,cd->nyxd", single(x), single(w))), x.DType())
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := model.NewStore()
			store.SetParam(model.ParamInitialSeed, int64(7))
			model.MustNewExec(b, store, fn).MustCall(batch(flow(1, 2)))
			records := auditOnce(t, audit.New(source{b, store}, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).WithDType(dtypes.Float32))
			solve := records.Solves[0]
			require.Equal(t, audit.Converged, solve.Status)
			require.Nil(t, solve.ProductErrorMeasured)
			require.InEpsilon(t, 8*0x1p-24, *solve.ProductError, 1e-9)
			require.InEpsilon(t, 1e3*0x1p-24, *solve.GradientError, 1e-9)
		})
	}
}

// A sample that the model has right leaves a gradient that is rounding: it has no cosine, and the others have theirs.
func TestAGradientAtRoundingLevelHasNoCosine(t *testing.T) {
	b := backendtest.Go(t)
	fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		w := scope.In("layer").VariableWithShape("weights", shapes.Make(dtypes.Float32, 4, 4)).NodeValue(x)
		return graph.Tanh(graph.Einsum("nyxc,cd->nyxd", x, w))
	}
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(7))
	p := probes(3, 0)
	output := model.MustNewExec(b, store, fn).MustCall(p.Inputs)[0]
	size := grid * grid * 4
	right := tensors.MustCopyFlatData[float32](output)[:size] // of the first sample
	tensors.MustMutableFlatData(p.Targets, func(flat []float32) {
		for i, v := range right {
			flat[i] = v * (1 + 1e-7*float32(i%3-1))
		}
	})
	records := auditOnce(t, audit.New(source{b, store}, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), p).WithDType(dtypes.Float32))
	for _, row := range records.Influence {
		if row.RowSample == 0 {
			require.Nil(t, row.Cosine, "element %s, sample %d", row.Element, row.ColSample)
		}
		if row.RowSample > 0 && row.ColSample > 0 {
			require.NotNil(t, row.CosineLow, "element %s, samples %d and %d", row.Element, row.RowSample, row.ColSample)
		}
	}
}
