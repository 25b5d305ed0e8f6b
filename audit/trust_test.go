package audit_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
)

// Numbers that must not flatter: what is not finite, other units, other batches, other keys.

// A model whose output is NaN at some samples must not look better than one whose output is wrong there.
func TestAModelThatIsNotFiniteAtSomeProbesHasNoHeadline(t *testing.T) {
	const n = 7
	for _, broken := range []int{0, 1, 3, n} {
		fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
			v := scope.VariableWithValue("shift", float32(0.1)).NodeValue(x)
			y := graph.Add(x, graph.ConvertDType(v, x.DType()))
			first := graph.Iota(x.Graph(), x.Shape(), 0)
			isBroken := graph.LessThan(first, graph.Scalar(x.Graph(), x.DType(), float64(broken)))
			return graph.Where(isBroken, graph.Div(graph.ZerosLike(x), graph.ZerosLike(x)), y)
		}
		records := auditOnce(t, audit.New(trained(t, backendtest.Go(t), smallUNet.Fn()), fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(n, 0)).WithForwardOnly())
		for _, row := range records.Coherence {
			of := int32(n)
			if row.Element == audit.AllElements {
				of = 7 * n
			}
			require.Equal(t, of, row.NErrors)
			require.Equal(t, of-of/n*int32(broken), row.NFiniteTargetErrors)
			require.Equal(t, of-of/n*int32(broken), row.NFiniteCommutatorErrors, "the others' errors are their own")
			require.Equal(t, broken == 0, row.MedianTargetError != nil)
			require.Equal(t, broken == 0, row.MedianCommutatorError != nil)
		}
		require.Nil(t, records.Coherence[0].Lambda)
		require.Nil(t, records.Coherence[0].RelativeLambda)
	}
}

// A model that is finite on transformed copies alone has no headline either.
func TestAModelThatIsNotFiniteOnTheProbesThemselvesHasNoHeadline(t *testing.T) {
	p := probes(3, 0)
	first := tensors.MustCopyFlatData[float32](p.Inputs)[0]
	fn := func(_ *model.Scope, x *graph.Node) *graph.Node { // NaN where the first cell is that of the first probe
		corner := graph.Slice(x, graph.AxisRange(), graph.AxisRange(0, 1), graph.AxisRange(0, 1), graph.AxisRange(0, 1))
		own := graph.LessThan(graph.Abs(graph.AddScalar(corner, -float64(first))), graph.Scalar(x.Graph(), x.DType(), 1e-6))
		return graph.Where(graph.BroadcastToShape(own, x.Shape()), graph.Div(graph.ZerosLike(x), graph.ZerosLike(x)), x)
	}
	records := auditOnce(t, audit.New(source{backendtest.Go(t), model.NewStore()}, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), p).WithForwardOnly())
	for _, row := range records.Coherence {
		switch row.Element {
		case "e":
			require.EqualValues(t, 2, row.NFiniteTargetErrors)
		case audit.AllElements:
			require.Equal(t, row.NErrors, row.NFiniteTargetErrors)
			require.Nil(t, row.MedianTargetError)
		}
	}
}

// The same data in other units: scaled errors are the same to rounding, so that a threshold means the same.
func TestErrorsAreTheSameInAnyUnits(t *testing.T) {
	for _, unit := range [][4]float64{{1e-8, 1e-8, 1e-8, 1e-8}, {1e-9, 1e3, 1e3, 1e12}} {
		backendtest.Each(t, func(t *testing.T, b compute.Backend) {
			scaled := func(p audit.Probes) audit.Probes {
				for _, states := range []*tensors.Tensor{p.Inputs, p.Targets} {
					tensors.MustMutableFlatData(states, func(flat []float32) {
						for i := range flat {
							flat[i] *= float32(unit[i%4])
						}
					})
				}
				return p
			}
			// Linear, and not equivariant: half a shift by one row.
			fn := func(_ *model.Scope, x *graph.Node) *graph.Node {
				rolled := graph.Concatenate([]*graph.Node{
					graph.Slice(x, graph.AxisRange(), graph.AxisRange(1)), graph.Slice(x, graph.AxisRange(), graph.AxisRange(0, 1))}, 1)
				return graph.MulScalar(graph.Add(x, rolled), 0.5)
			}
			of := func(p audit.Probes) *audit.Records {
				return auditOnce(t, audit.New(source{b, model.NewStore()}, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).WithForwardOnly())
			}
			want, got := of(probes(3, 0)), of(scaled(probes(3, 0)))
			for i, row := range want.Errors {
				for _, pair := range [][2]float64{{row.TargetError, got.Errors[i].TargetError}, {row.CommutatorError, got.Errors[i].CommutatorError},
					{*row.PersistenceError, *got.Errors[i].PersistenceError}} {
					require.InDelta(t, pair[0], pair[1], 1e-5*pair[0])
				}
			}
			require.Greater(t, *want.Summary("d4").MedianCommutatorError, 1e-2)
		})
	}
}

// Each batch has a metric of its own, and its lambda is the asked-for multiple of that.
func TestEachSolveHasTheRelativeLambdaThatWasAskedFor(t *testing.T) {
	b := backendtest.Go(t)
	records := auditOnce(t, audit.New(trained(t, b, smallUNet.Fn()), smallUNet.Fn(), nil).WithField(orbits.EulerField()).
		WithGroup(orbits.D4(), probes(4, 2)).WithGroup(orbits.Translations(4), probes(3, 1)).WithRelativeLambda(1e-2, 1e-1))
	require.Len(t, records.Solves, 2*(2+3))
	lambdas := map[float64]bool{}
	for _, solve := range records.Solves {
		require.InEpsilon(t, *solve.RelativeLambda, solve.Lambda/solve.LambdaMax, 1e-12)
		lambdas[solve.Lambda] = true
		require.Equal(t, *solve.RelativeLambda == 1e-2, solve.MaxTrueResidual != nil, "measured at the smallest lambda alone")
	}
	require.Greater(t, len(lambdas), 4, "batches have metrics of their own")
	for _, row := range records.Influence {
		require.Contains(t, []float64{1e-2, 1e-1}, *row.RelativeLambda)
	}
	for _, row := range records.Coherence {
		require.Nil(t, row.Lambda)
		require.Contains(t, []float64{1e-2, 1e-1}, *row.RelativeLambda)
		require.Equal(t, []string{"ntk", "block"}, []string{row.Metric, row.Estimator})
	}
	require.Equal(t, 1e-2, *records.Summary("translations").RelativeLambda)
	require.EqualValues(t, 7*4, records.Summary("d4").N, "over all batches")
}

// lambda_max is the metric's, whatever the estimator.
func TestLambdaMaxMeansOneThing(t *testing.T) {
	b := backendtest.Go(t)
	trainer := trained(t, b, smallUNet.Fn())
	var largest []float64
	for _, estimator := range []audit.Estimator{audit.Block, audit.CGResidual, audit.Subspace} {
		for _, relative := range []bool{true, false} {
			builder := audit.New(trainer, smallUNet.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).WithEstimator(estimator).WithDType(dtypes.Float64)
			if relative {
				builder.WithRelativeLambda(1e-2)
			} else {
				builder.WithLambda(1)
			}
			largest = append(largest, auditOnce(t, builder).Solves[0].LambdaMax)
		}
	}
	for _, value := range largest[1:] {
		require.Equal(t, largest[0], value)
	}
}

// errors and influence join by sample.
func TestRowsCarryTheirKeys(t *testing.T) {
	p := probes(4, 2)
	p.Samples = []audit.Sample{{"CE-RP", 7, 0}, {"CE-CRP", 8, 1}, {"CE-RP", 9, 2}, {"CE-CRP", 10, 3}}
	records := auditOnce(t, audit.New(trained(t, backendtest.Go(t), smallUNet.Fn()), smallUNet.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), p).WithRelativeLambda(0.1))
	key := func(class string, trajectory int64, time int32) audit.Sample {
		return audit.Sample{Class: class, Trajectory: trajectory, TimeIndex: time}
	}
	for i, row := range records.Errors {
		require.EqualValues(t, i%4, row.Sample)
		require.Equal(t, p.Samples[row.Sample], key(row.Class, row.Trajectory, row.TimeIndex))
		require.Equal(t, row.Sample/2, row.Batch)
		require.EqualValues(t, 2, row.BatchSize)
	}
	pairs := map[[2]int32]int{}
	for _, row := range records.Influence {
		require.Equal(t, p.Samples[row.RowSample], key(row.RowClass, row.RowTrajectory, row.RowTimeIndex))
		require.Equal(t, p.Samples[row.ColSample], key(row.ColClass, row.ColTrajectory, row.ColTimeIndex))
		require.Equal(t, row.Batch, row.RowSample/2)
		require.Equal(t, row.Batch, row.ColSample/2)
		require.EqualValues(t, 2, row.BatchSize)
		pairs[[2]int32{row.RowSample, row.ColSample}]++
	}
	require.Len(t, pairs, 8)
}

// The scaled influence has bounds that hold where a limit stopped the solve, which leaves values that are off by their own size.
func TestFrobeniusScaledIsEnclosed(t *testing.T) {
	b := backendtest.Go(t)
	trainer := trained(t, b, smallViT.Fn())
	builder := func() *audit.Builder {
		return audit.New(trainer, smallViT.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(3, 0)).WithDType(dtypes.Float64).WithRelativeLambda(1e-5)
	}
	exact := auditOnce(t, builder().WithTolerance(1e-7))
	widest := 0.0
	for _, products := range []int64{49, 73, 121} {
		limited := auditOnce(t, builder().WithMaxProducts(products))
		for i, row := range limited.Influence {
			want := *exact.Influence[i].FrobeniusScaled
			require.LessOrEqual(t, *row.FrobeniusScaledLow, want+1e-6)
			require.GreaterOrEqual(t, *row.FrobeniusScaledHigh, want-1e-6)
			require.LessOrEqual(t, *row.FrobeniusScaledLow, *row.FrobeniusScaled)
			require.GreaterOrEqual(t, *row.FrobeniusScaledHigh, *row.FrobeniusScaled)
			widest = max(widest, *row.FrobeniusScaledHigh-*row.FrobeniusScaledLow)
		}
	}
	require.Greater(t, widest, 0.5, "the limits were felt")
	tight := 0.0
	for _, row := range exact.Influence {
		tight = max(tight, *row.FrobeniusScaledHigh-*row.FrobeniusScaledLow)
	}
	require.Less(t, tight, 1e-4)
}

// The memory limit holds the gradients too: they are made part by part, and the values are the same.
func TestGradientsCountTowardsTheMemoryLimit(t *testing.T) {
	b := backendtest.Go(t)
	trainer := trained(t, b, smallUNet.Fn())
	const samples, elements, bytes = 2, 8, 8
	builder := func() *audit.Builder {
		return audit.New(trainer, smallUNet.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(samples, 0)).WithDType(dtypes.Float64).WithRelativeLambda(1e-1).WithTolerance(1e-6)
	}
	whole := auditOnce(t, builder())
	dim := 0
	for v := range trainer.Store().IterVariables() {
		if v.Trainable {
			dim += v.Shape().Size()
		}
	}
	limited := auditOnce(t, builder().WithMaxBytes(int64(bytes*dim*(10*6+2)))) // room for eight products of six gradients
	require.Less(t, limited.Solves[0].BlockSize, int32(samples*elements))
	for i, row := range whole.Influence {
		require.InDelta(t, *row.Cosine, *limited.Influence[i].Cosine, 1e-5)
	}
	_, err := func() (*audit.Records, error) {
		auditor, err := builder().WithEstimator(audit.CGResidual).WithMaxBytes(int64(bytes * dim * 50)).Done()
		require.NoError(t, err)
		defer auditor.Close()
		return auditor.Audit(context.Background(), audit.Moment{})
	}()
	require.ErrorContains(t, err, "estimator cg-residual holds")
	require.ErrorContains(t, err, "audit: group d4, batch 0: WithMaxBytes allows 0.")
}

// A failing audit frees what it took, wherever it fails, and so does a closed auditor.
func TestFailingAuditsLeaveNothingBehind(t *testing.T) {
	b := backendtest.XLA(t)
	dense := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return layers.Dense(scope.In("dense"), x, true, 4)
	}
	trainer := trained(t, b, dense)
	for name, test := range map[string]struct {
		fn   models.Fn
		loss func(labels, predictions []*graph.Node) *graph.Node
		stop int // parts after which the audit is cancelled; 0: never
	}{
		"the model": {fn: func(*model.Scope, *graph.Node) *graph.Node { panic(errors.New("no")) }},
		"a shape": {fn: func(_ *model.Scope, x *graph.Node) *graph.Node {
			return graph.Slice(x, graph.AxisRange(), graph.AxisRange(0, 1))
		}},
		"the loss": {fn: dense, loss: func(labels, predictions []*graph.Node) *graph.Node { return labels[1] }},
		"the gradient": {fn: dense, loss: func(labels, predictions []*graph.Node) *graph.Node {
			return graph.DivScalar(graph.ReduceAllMean(graph.Sqrt(graph.Neg(graph.Square(predictions[0])))), 1)
		}},
		"interrupted": {fn: dense, stop: 1},
	} {
		t.Run(name, func(t *testing.T) {
			// The weights that the auditor copies stay until it is closed: the first audit makes them.
			runtime.GC()
			before := backendtest.LiveBuffers()
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			builder := audit.New(trainer, test.fn, test.loss).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 1)).WithRelativeLambda(0.1)
			if test.stop > 0 {
				parts := 0
				builder.WithProgress(func(int, int) {
					if parts++; parts == test.stop {
						cancel(fmt.Errorf("enough"))
					}
				})
			}
			auditor, err := builder.Done()
			require.NoError(t, err)
			var counts []int64
			for range 4 {
				_, err := auditor.Audit(ctx, audit.Moment{})
				require.Error(t, err)
				counts = append(counts, backendtest.LiveBuffers())
			}
			require.Equal(t, counts[1], counts[2])
			require.Equal(t, counts[1], counts[3])
			auditor.Close()
			require.LessOrEqual(t, backendtest.LiveBuffers(), before, "after Close")
		})
	}
}

func TestProbesThatCannotBeWrittenOrAveragedAreRefused(t *testing.T) {
	latin := probes(2, 0)
	latin.Samples[1].Class = "Stra\xdfe"
	infinite := probes(3, 0)
	tensors.MustMutableFlatData(infinite.Targets, func(flat []float32) { flat[len(flat)-1] = float32(math.Inf(1)) })
	for want, builder := range map[string]func(b *audit.Builder){
		`the class of probe 1, "Stra\xdfe", is not UTF-8`: func(b *audit.Builder) { b.WithGroup(orbits.D4(), latin) },
		"the target of probe 2 holds +Inf":                func(b *audit.Builder) { b.WithGroup(orbits.D4(), infinite) },
		`a group is called "b\xfcckling"`: func(b *audit.Builder) {
			group := orbits.D4()
			group.Name = "b\xfcckling"
			b.WithGroup(group, probes(2, 0))
		},
	} {
		b := audit.New(source{backendtest.Go(t), model.NewStore()}, smallUNet.Fn(), nil).WithField(orbits.EulerField())
		builder(b)
		_, err := b.Done()
		require.ErrorContains(t, err, want)
	}
}

// Of a loss that is not convex the metric GGN is none: it would certify intervals that miss.
func TestGGNOfALossThatIsNotConvexIsRefused(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		welsch := func(labels, predictions []*graph.Node) *graph.Node {
			square := graph.Square(graph.MulScalar(graph.Sub(predictions[0], labels[0]), 3))
			return graph.ReduceAllMean(graph.Neg(graph.Exp(graph.Neg(square))))
		}
		trainer := trained(t, b, smallUNet.Fn())
		for _, metric := range []audit.Metric{audit.MetricGGN, audit.MetricNTK} {
			auditor, err := audit.New(trainer, smallUNet.Fn(), welsch).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).
				WithMetric(metric).WithRelativeLambda(0.1).Done()
			require.NoError(t, err)
			_, err = auditor.Audit(context.Background(), audit.Moment{})
			auditor.Close()
			if metric == audit.MetricNTK {
				require.NoError(t, err)
				continue
			}
			require.ErrorContains(t, err, "WithMetric is ggn, which needs a loss that is convex in the model's outputs, and the second derivatives of this one have an eigenvalue of -")
			require.ErrorContains(t, err, "use ntk or fisher")
		}
	})
}
