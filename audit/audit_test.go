package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// Small enough for dense references: a few hundred parameters on 8x8.
var (
	smallUNet = models.UNet{Widths: []int{2}, Blocks: 1, Groups: 1}
	smallViT  = models.ViT{Patch: 4, Width: 4, Layers: 1, Heads: 2, Expansion: 1}
)

const grid = 8

// flow is n random states that look like a gas: positive density and energy.
func flow(seed uint64, n int) []float32 {
	random := rand.New(rand.NewPCG(seed, 0))
	values := make([]float32, n*grid*grid*4)
	for i := range values {
		values[i] = float32(0.3 * random.NormFloat64())
		if c := i % 4; c == 0 || c == 3 {
			values[i] = 1 + values[i]/3
		}
	}
	return values
}

func batch(values []float32) *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(values, len(values)/(grid*grid*4), grid, grid, 4)
}

func probes(n, batchSize int) audit.Probes {
	p := audit.Probes{Inputs: batch(flow(1, n)), Targets: batch(flow(2, n)), BatchSize: batchSize}
	for i := range n {
		p.Samples = append(p.Samples, audit.Sample{Class: "CE-RP", Trajectory: int64(i), TimeIndex: 3})
	}
	return p
}

// trained returns a trainer after a few steps of Adam.
func trained(t testing.TB, b compute.Backend, fn models.Fn) *train.Trainer {
	t.Helper()
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(7))
	trainer := train.NewTrainer(b, store, fn, audit.Loss, optimizer.Adam().LearningRate(1e-2).Done(), nil, nil)
	for step := range 5 {
		_, err := trainer.TrainStep(train.Batch{
			Inputs: []*tensors.Tensor{batch(flow(uint64(10+step), 2))},
			Labels: []*tensors.Tensor{batch(flow(uint64(20+step), 2))},
		})
		require.NoError(t, err)
	}
	return trainer
}

func TestInfluenceAgainstDenseAndDualOracles(t *testing.T) {
	const samples, relative = 2, 1e-2
	for name, fn := range map[string]models.Fn{"unet": smallUNet.Fn(), "vit": smallViT.Fn()} {
		t.Run(name, func(t *testing.T) {
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				trainer := trained(t, b, fn)
				p := probes(samples, 0)
				auditor, err := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).
					WithDType(dtypes.Float64).WithRelativeLambda(relative).WithTolerance(1e-7).Done()
				require.NoError(t, err)
				defer auditor.Close()
				records, err := auditor.Audit(context.Background(), audit.Moment{Model: name})
				require.NoError(t, err)
				require.Len(t, records.Solves, 1)
				require.Len(t, records.Influence, 8*samples*samples)
				require.Equal(t, audit.Converged, records.Solves[0].Status)
				require.InEpsilon(t, relative, records.Solves[0].Lambda/records.Solves[0].LambdaMax, 0.05)
				compareWithOracles(t, b, trainer, fn, p, records)
			})
		})
	}
}

// compareWithOracles recomputes the influence of one batch from the dense metric and from the Jacobian.
func compareWithOracles(t *testing.T, b compute.Backend, trainer *train.Trainer, fn models.Fn, p audit.Probes, records *audit.Records) {
	net, err := network.New(b, fn, audit.Loss, dtypes.Float64)
	require.NoError(t, err)
	defer net.Close()
	require.NoError(t, net.Load(trainer.Store()))
	elements, err := orbits.D4().Elements(grid, grid)
	require.NoError(t, err)
	samples := len(p.Samples)
	double := func(states *tensors.Tensor) *tensors.Tensor {
		converted, err := network.ConvertDType(states, dtypes.Float64)
		require.NoError(t, err)
		return converted
	}
	gradients := mat.NewDense(len(elements)*samples, net.Dim(), nil)
	for e, element := range elements {
		act := graph.MustNewExec(b, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) })
		for i := range samples {
			one := func(states *tensors.Tensor) *tensors.Tensor {
				size := grid * grid * 4
				return act.MustCall(double(batch(tensors.MustCopyFlatData[float32](states)[i*size : (i+1)*size])))[0]
			}
			_, err := net.Gradient(gradients.RawRowView(e*samples+i), one(p.Inputs), one(p.Targets))
			require.NoError(t, err)
		}
	}
	x := double(p.Inputs)
	scale := 1 / float64(x.Size())
	lambda := records.Solves[0].Lambda
	eta, asymmetry, err := oracle.Dense(net.Metric(x, scale))
	require.NoError(t, err)
	require.Less(t, asymmetry, 1e-12*mat.Norm(eta, 2))
	primal, err := oracle.Cholesky(eta, lambda, gradients)
	require.NoError(t, err)
	jacobian, err := net.Jacobian(x)
	require.NoError(t, err)
	dual, err := oracle.Woodbury(jacobian, scale, lambda, gradients)
	require.NoError(t, err)

	for oracle, solution := range map[string]*mat.Dense{"dense Cholesky": primal, "dual": dual} {
		var want mat.Dense
		want.Mul(gradients, solution.T())
		difference, norm := make(map[string]float64), make(map[string]float64)
		for _, row := range records.Influence {
			e := 0
			for elements[e].Name() != row.Element {
				e++
			}
			m, n := int(row.RowSample), e*samples+int(row.ColSample)
			require.LessOrEqual(t, *row.InfluenceLow, want.At(m, n))
			require.GreaterOrEqual(t, *row.InfluenceHigh, want.At(m, n))
			difference[row.Element] = math.Hypot(difference[row.Element], row.Influence-want.At(m, n))
			norm[row.Element] = math.Hypot(norm[row.Element], want.At(m, n))
			require.InDelta(t, want.At(m, n)/math.Sqrt(want.At(m, m)*want.At(n, n)), *row.Cosine, 1e-6, "%s, cosine of %s", oracle, row.Element)
		}
		require.Len(t, norm, 8)
		for element := range norm {
			require.LessOrEqual(t, difference[element]/norm[element], 1e-6, "%s, influence under %s", oracle, element)
			require.InDelta(t, norm[element], frobenius(records, element), 1e-6*norm[element])
		}
	}
}

// frobenius recovers the norm by which the influence of an element was scaled.
func frobenius(records *audit.Records, element string) float64 {
	for _, row := range records.Influence {
		if row.Element == element {
			return row.Influence / *row.FrobeniusScaled
		}
	}
	return math.NaN()
}

func TestBatchesAreIndependent(t *testing.T) {
	b := backendtest.Go(t)
	fn := smallViT.Fn()
	trainer := trained(t, b, fn)
	influence := func(p audit.Probes) map[int32][]float64 {
		auditor, err := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.Translations(4), p).WithLambda(0.1).WithTolerance(1e-9).Done()
		require.NoError(t, err)
		defer auditor.Close()
		records, err := auditor.Audit(context.Background(), audit.Moment{})
		require.NoError(t, err)
		values := map[int32][]float64{}
		for _, row := range records.Influence {
			values[row.Batch] = append(values[row.Batch], row.Influence)
		}
		return values
	}
	both := influence(probes(4, 2))
	half := probes(4, 2)
	size := 2 * grid * grid * 4
	half.Inputs, half.Targets = batch(flow(1, 4)[size:]), batch(flow(2, 4)[size:])
	half.Samples = half.Samples[2:]
	require.Len(t, both, 2)
	require.InDeltaSlice(t, influence(half)[0], both[1], 1e-9)
}

func TestALooseSolveFailsTheComparison(t *testing.T) {
	b := backendtest.Go(t)
	fn := smallUNet.Fn()
	trainer := trained(t, b, fn)
	influence := func(tolerance float64) []float64 {
		auditor, err := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 2)).
			WithEstimator(audit.CGResidual).WithRelativeLambda(1e-3).WithTolerance(tolerance).Done()
		require.NoError(t, err)
		defer auditor.Close()
		records, err := auditor.Audit(context.Background(), audit.Moment{})
		require.NoError(t, err)
		var values []float64
		for _, row := range records.Influence {
			values = append(values, row.Influence)
		}
		return values
	}
	tight, loose := influence(1e-5), influence(0.5)
	require.Greater(t, floats.Distance(tight, loose, 2)/floats.Norm(tight, 2), 1e-3)
}

func TestSymmetrizedModelIsTheUpperEnd(t *testing.T) {
	elements, err := orbits.D4().Elements(grid, grid)
	require.NoError(t, err)
	for name, fn := range map[string]models.Fn{"unet": smallUNet.Fn(), "vit": smallViT.Fn()} {
		t.Run(name, func(t *testing.T) {
			symmetric := models.Symmetrize(fn, orbits.EulerField(), elements)
			b := backendtest.Go(t)
			auditor, err := audit.New(trained(t, b, symmetric), symmetric, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 2)).
				WithDType(dtypes.Float64).WithTolerance(1e-8).Done()
			require.NoError(t, err)
			defer auditor.Close()
			records, err := auditor.Audit(context.Background(), audit.Moment{})
			require.NoError(t, err)
			for _, row := range records.Errors {
				require.Less(t, row.CommutatorError, 1e-25, row.Element)
				require.InEpsilon(t, row.IdentityError, row.TargetError, 1e-10, row.Element)
			}
			for _, row := range records.Influence {
				if row.RowSample == row.ColSample {
					require.InDelta(t, 1, *row.Cosine, 1e-9, row.Element)
				}
			}
			for _, row := range records.Coherence {
				require.InDelta(t, 1, *row.Median, 1e-9)
				require.Zero(t, *row.NegativeFraction)
			}
		})
	}
}

func TestForwardErrorsByHand(t *testing.T) {
	// The model doubles the first momentum: it commutes with reflections of the axes, not with quarter turns.
	fn := func(_ *model.Scope, x *graph.Node) *graph.Node {
		return graph.Mul(x, graph.Reshape(graph.Const(x.Graph(), []float64{1, 2, 1, 1}), 1, 1, 1, 4))
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		p := probes(3, 0)
		p.Targets = p.Inputs
		auditor, err := audit.New(source{b, model.NewStore()}, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), p).WithForwardOnly().Done()
		require.NoError(t, err)
		defer auditor.Close()
		at := audit.Moment{Model: "doubler", Step: 12, Epoch: 1.5}
		records, err := auditor.Audit(context.Background(), at)
		require.NoError(t, err)
		require.Empty(t, records.Influence)
		require.Len(t, records.Errors, 8*3)
		for _, row := range records.Errors {
			require.Equal(t, at, row.Moment)
			// Only channel 1 is wrong, by its own size: (m/RMS)^2 averages to 1, over four channels 1/4.
			require.InDelta(t, 0.25, row.TargetError, 1e-4)
			require.InDelta(t, 0.25, row.IdentityError, 1e-4)
			require.Zero(t, *row.PersistenceError)
			switch row.Element {
			case "e", "r2", "s", "sr2":
				require.Zero(t, row.CommutatorError, row.Element)
			default:
				// f(g.x) has doubled one component and g.f(x) the other: errors of (1/2)^2 of the doubled and 1^2 of the other.
				require.InDelta(t, (0.25+1)/4, row.CommutatorError, 1e-4, row.Element)
			}
		}
		require.Len(t, records.Coherence, 9)
		require.Nil(t, records.Coherence[8].Median, "no influence, no cosine")
	})
}

type source struct {
	backend compute.Backend
	store   *model.Store
}

func (s source) Backend() compute.Backend { return s.backend }
func (s source) Store() *model.Store      { return s.store }

func TestWrongGradientIsRefused(t *testing.T) {
	fn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		y := layers.Convolution(scope.In("stem"), x).Channels(2).KernelSize(3).PadSame().Done()
		return layers.Convolution(scope.In("even"), graph.Tanh(y)).Channels(4).KernelSize(2).PadSame().Done()
	}
	auditor, err := audit.New(trained(t, backendtest.Go(t), fn), fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).Done()
	require.NoError(t, err)
	defer auditor.Close()
	_, err = auditor.Audit(context.Background(), audit.Moment{})
	require.ErrorContains(t, err, "the model's gradient is wrong")
	require.ErrorContains(t, err, "ConvGeneral in layer /even")
}

func TestVanishingGradientHasNoCosine(t *testing.T) {
	fn := smallUNet.Fn()
	b := backendtest.Go(t)
	noLoss := func(labels, predictions []*graph.Node) *graph.Node {
		return graph.MulScalar(audit.Loss(labels, predictions), 0)
	}
	auditor, err := audit.New(trained(t, b, fn), fn, noLoss).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 2)).Done()
	require.NoError(t, err)
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), audit.Moment{})
	require.NoError(t, err)
	for _, row := range records.Influence {
		require.Zero(t, row.Influence)
		require.Nil(t, row.Cosine)
		require.Nil(t, row.FrobeniusScaled)
	}
	for _, row := range records.Coherence {
		require.Zero(t, row.N)
		require.Nil(t, row.Mean)
	}
}

func TestAuditLeavesTheStoreAlone(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		fn := smallUNet.Fn()
		trainer := trained(t, b, fn)
		snapshot := func() map[string]string {
			values := map[string]string{}
			for v := range trainer.Store().IterVariables() {
				require.NoError(t, v.MustValue().ConstBytes(func(data []byte) { values[v.Path()] = string(data) }))
			}
			return values
		}
		before := snapshot()
		auditor, err := audit.New(trainer, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 2)).WithTolerance(0.1).Done()
		require.NoError(t, err)
		defer auditor.Close()
		_, err = auditor.Audit(context.Background(), audit.Moment{})
		require.NoError(t, err)
		require.Equal(t, before, snapshot())
	})
}

// A training may freeze layers: an auditor that has seen them trained then finds what one does that has not.
func TestAuditsFollowWhatIsTrainable(t *testing.T) {
	trainer := trained(t, backendtest.Go(t), smallUNet.Fn())
	newAuditor := func() *audit.Auditor {
		auditor, err := audit.New(trainer, smallUNet.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes(2, 0)).WithRelativeLambda(1e-1).Done()
		require.NoError(t, err)
		t.Cleanup(auditor.Close)
		return auditor
	}
	old := newAuditor()
	before, err := old.Audit(context.Background(), audit.Moment{})
	require.NoError(t, err)
	frozen := 0
	for variable := range trainer.Store().IterVariables() {
		if variable.Trainable && frozen < 3 {
			variable.Trainable = false
			frozen++
		}
	}
	got, err := old.Audit(context.Background(), audit.Moment{})
	require.NoError(t, err)
	want, err := newAuditor().Audit(context.Background(), audit.Moment{})
	require.NoError(t, err)
	require.Equal(t, want.Influence, got.Influence)
	require.NotEqual(t, before.Influence, got.Influence)
}

func TestAuditIsCancelled(t *testing.T) {
	fn := smallUNet.Fn()
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := fmt.Errorf("enough")
	auditor, err := audit.New(trained(t, backendtest.Go(t), fn), fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 2)).
		WithProgress(func(_, _ int) { cancel(stop) }).Done()
	require.NoError(t, err)
	defer auditor.Close()
	_, err = auditor.Audit(ctx, audit.Moment{})
	require.ErrorIs(t, err, stop)
}

func TestBuilderRefuses(t *testing.T) {
	b := backendtest.Go(t)
	fn := smallUNet.Fn()
	from := source{b, model.NewStore()}
	oblong := probes(2, 0)
	oblong.Inputs = tensors.FromFlatDataAndDimensions(flow(1, 2), 2, grid/2, 2*grid, 4)
	oblong.Targets = oblong.Inputs
	scalar := orbits.Field{Channels: []string{"a", "b", "c", "d"}}
	shapes := probes(2, 0)
	shapes.Targets = batch(flow(1, 3))
	for name, test := range map[string]struct {
		builder *audit.Builder
		want    string
	}{
		"no field":      {audit.New(from, fn, nil).WithGroup(orbits.D4(), probes(2, 0)), "it is not declared how the channels of the states transform; add .WithField(orbits.Field{Channels"},
		"no trainer":    {audit.New[models.Fn](nil, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)), "there is no trainer: audit.New got nil"},
		"a nil trainer": {audit.New((*train.Trainer)(nil), fn, nil), "there is no trainer: audit.New got nil"},
		"no model":      {audit.New(from, models.Fn(nil), nil), "there is no model: audit.New got nil"},
		"no group":      {audit.New(from, fn, nil).WithField(orbits.EulerField()), "no group to audit"},
		"oblong":        {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.Translations(4), oblong), "needs a stride of at least 0.01 and less than 4 pixels on a 4x16 grid, got 4"},
		"shapes":        {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), shapes), "both must be the same"},
		"channels":      {audit.New(from, fn, nil).WithField(orbits.Field{Channels: []string{"u"}}).WithGroup(orbits.D4(), probes(2, 0)), "have 4 channels, the field has 1"},
		"tolerance":     {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithTolerance(2), "audit: WithTolerance is 2, the half-width of a cosine's interval, and a cosine lies between -1 and 1"},
		"batch size":    {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(4, 3)), "a batch size of 3 does not divide 4 probes"},
		"twice":         {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithGroup(orbits.D4(), probes(2, 0)), `group "d4" was added twice`},
		"lambda":        {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithLambda(0), "audit: WithLambda is 0; it must be positive and finite"},
		"no tolerance":  {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithTolerance(math.NaN()), "audit: WithTolerance is NaN; it must be positive, or 0 for the estimator's default"},
		"boosts":        {audit.New(from, fn, nil).WithField(scalar).WithGroup(orbits.Boosts(1, orbits.Vector{X: 1}), probes(2, 0)), "audit: group boosts: element boost(0,1) adds to the momentum and the energy of a flow, and the field does not say which channels these are; declare them (Field.Conserved"},
		"idle factor":   {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.Product(orbits.D4(), orbits.C4()), probes(2, 0)), "audit: group d4*c4: c4 adds no element to d4; leave it out"},
		"dtype":         {audit.New(from, fn, nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithDType(dtypes.Int32), "audit: WithDType is int32; use float32 or float64"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.builder.Done()
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestProbesThatSayLittleAreNamed(t *testing.T) {
	log := &bytes.Buffer{}
	still, empty := probes(2, 0), probes(2, 0)
	values := make([]float32, 2*grid*grid*4)
	for i := range values {
		if i%4 == 0 || i%4 == 3 {
			values[i] = 1 // at rest, the same everywhere
		}
	}
	still.Inputs = batch(values)
	tensors.MustMutableFlatData(empty.Targets, func(flat []float32) {
		for i := range flat[:len(flat)/2] {
			if i%4 == 2 {
				flat[i] = 0
			}
		}
	})
	trainer := trained(t, backendtest.Go(t), smallUNet.Fn())
	for p, want := range map[*audit.Probes][]string{
		&still: {`"probes":2,"of":2,"message":"no element changes these probes`},
		&empty: {`"channel":"momentum_y","probes":1,"of":2,"message":"a channel of these probes' targets is zero`},
	} {
		log.Reset()
		auditor, err := audit.New(trainer, smallUNet.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), *p).WithLogger(zerolog.New(log)).Done()
		require.NoError(t, err)
		auditor.Close()
		require.Equal(t, len(want), strings.Count(log.String(), "\n"), log)
		require.Contains(t, log.String(), want[0])
	}
	log.Reset()
	auditor, err := audit.New(trainer, smallUNet.Fn(), nil).WithField(orbits.EulerField()).WithGroup(orbits.D4(), probes(2, 0)).WithLogger(zerolog.New(log)).Done()
	require.NoError(t, err)
	auditor.Close()
	require.Empty(t, log.String())
}
