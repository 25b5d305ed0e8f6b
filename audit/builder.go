package audit

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// Source is what is audited: a *train.Trainer is one.
type Source interface {
	Backend() compute.Backend
	Store() *model.Store
}

// Builder configures an Auditor. Its methods return it; Done checks everything.
type Builder struct {
	source     Source
	modelFn    train.ModelFn
	signature  network.Signature
	unusable   error // what is wrong with the model function
	spec       any
	pick       *int
	seed       *int64
	lossFn     network.LossFn
	smse       bool // the loss is the default
	field      orbits.Field
	output     *orbits.Field // nil: as field
	groups     []groupProbes
	directions []Direction
	dtype      dtypes.DType
	damping    damping
	metric     Metric
	optimizer  optimizer.Interface // nil where the metric is another
	scale      MetricScale
	solve      solver.FormOptions
	local      bool
	pictures   bool
	layers     bool
	spectrum   bool
	forward    bool
	invariant  bool

	estimator Estimator
	log       zerolog.Logger
	report    func(done, total int)
}

type groupProbes struct {
	group  orbits.Group
	probes Probes
}

// DefaultRelativeLambda is lambda / lambda_max when none is chosen.
const DefaultRelativeLambda = 1e-3

// New starts the configuration of an auditor for the model that source trains. GoMLX's trainer hides the model and loss
// functions it was made with, so they are given again, in any signature that it takes. A model of several inputs takes the states
// first, and the others from Probes.Further; of several outputs WithOutput chooses one. A nil loss is SMSE.
//
// Influence is of the loss that lossFn returns: terms that a model or a regulariser adds by itself (train.AddLoss) are no part of it.
func New[F train.ModelFnCompatible](source Source, modelFn F, lossFn network.LossFn) *Builder {
	smse := lossFn == nil
	if smse {
		lossFn = Loss
	}
	builder := &Builder{
		source: source, smse: smse,
		lossFn: func(labels, predictions []*graph.Node) *graph.Node {
			return orError(func() *graph.Node { return lossFn(labels, predictions) })
		},
		damping: damping{[]float64{DefaultRelativeLambda}, true}, metric: MetricNTK, scale: MetricMean, estimator: Block, directions: []Direction{LossDirection()}, log: zerolog.Nop(),
	}
	if !isNil(modelFn) {
		builder.modelFn, builder.signature, builder.unusable = network.Canonical(modelFn)
	}
	return builder
}

// build is the model as a network takes it.
func (b *Builder) build(scope *model.Scope, inputs []*graph.Node) (predictions []*graph.Node) {
	failed := exceptions.TryCatch[error](func() {
		predictions = orError(func() []*graph.Node { return b.modelFn(scope, b.spec, inputs) })
	})
	if failed != nil && b.signature.Spec && b.spec == nil {
		failed = fmt.Errorf("%w; the model takes a spec, which is nil: give that of the training's batches (WithSpec)", failed)
	}
	if failed != nil {
		panic(failed)
	}
	return predictions
}

// newNetwork makes a network in a precision.
func (a *Auditor) newNetwork(dtype dtypes.DType) (*network.Network, error) {
	b := &a.config
	net, err := network.New(a.backend, b.build, b.lossFn, dtype)
	if err != nil {
		return nil, cause.In("audit", err)
	}
	if b.pick != nil {
		net.WithOutput(*b.pick)
	}
	if b.seed != nil {
		net.WithSeed(*b.seed)
	}
	return net, nil
}

// isNil reports whether an interface holds nothing, or a pointer or function that is nil.
func isNil(x any) bool {
	v := reflect.ValueOf(x)
	return !v.IsValid() || (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil()
}

// orError turns any panic of a user's graph function into one with an error. With another value it would leave GoMLX's
// compilation forever unfinished, and the next audit, or Close, would wait for its end.
func orError[Built any](build func() Built) (built Built) {
	panicked := exceptions.Try(func() { built = build() })
	if panicked == nil {
		return built
	}
	if err, ok := panicked.(error); ok {
		panic(err)
	}
	panic(fmt.Errorf("panic: %v", panicked))
}

// WithField declares how the channels of the states transform: which are scalars, which are components of vectors, and which way rows grow.
// It is needed, for a wrong field makes every number wrong without a failure.
func (b *Builder) WithField(field orbits.Field) *Builder { b.field = field; return b }

// WithOutputField declares how the channels of the model's output transform, where it is not a state like its input: the
// vorticity of a velocity, for instance. Outputs and targets are [n, ..., channel] on the grid of the input. There is no
// persistence error then. The default is WithField's.
func (b *Builder) WithOutputField(field orbits.Field) *Builder { b.output = &field; return b }

// WithInvariantOutput declares that no element should change the model's output: a classifier's scores, a global quantity. Targets
// are then those of the untransformed states, of any shape and type that the loss takes, the target error is a sample's
// loss, and the commutator error is |f(g.x) - f(x)|^2 / |f(x)|^2 over a sample's outputs. By default the output is a state.
func (b *Builder) WithInvariantOutput() *Builder { b.invariant = true; return b }

// WithOutput chooses the output, from 0, of a model that returns several: the one that is a state, with errors and a metric of its
// own. The loss gets all. The default is the only output; a model of several has none.
func (b *Builder) WithOutput(i int) *Builder { b.pick = &i; return b }

// WithSpec sets what GoMLX's datasets hand to a model as its spec (train.Batch.Spec). The default is nil.
func (b *Builder) WithSpec(spec any) *Builder { b.spec = spec; return b }

// WithSeed begins each evaluation with the same random state, so that a model that draws random numbers in evaluation, such as a
// diffusion model, is audited as a function of its inputs, its noise held fixed. What a sample draws depends on its place in the
// batch, and no element moves it: the commutator error then contains the noise. By default the preflight refuses such a model.
func (b *Builder) WithSeed(seed int64) *Builder { b.seed = &seed; return b }

// WithGroup adds a group and the probes it is audited on. At least one is needed; names must differ.
func (b *Builder) WithGroup(group orbits.Group, probes Probes) *Builder {
	b.groups = append(b.groups, groupProbes{group, probes})
	return b
}

// WithDirections sets what influence is of; several share each solve's products. The default is LossDirection alone.
func (b *Builder) WithDirections(directions ...Direction) *Builder {
	b.directions = slices.Clone(directions)
	return b
}

// WithDType sets the precision of the audit's copy of the weights and of its products, whatever the model trains in.
// Float64 needs a model that follows its input's dtype, and a product costs about twice as much; Float32 certifies little below
// 1e-6 lambda_max. Without it the audit takes Float32 where every lambda is a multiple of at least
// 1e-5 of lambda_max, of MetricGGN 1e-3, and Float64 otherwise and for outputs alone; table solves says which.
func (b *Builder) WithDType(dtype dtypes.DType) *Builder { b.dtype = dtype; return b }

// WithRelativeLambda sets lambda as a multiple of lambda_max, the largest eigenvalue of eta: of each batch's own, at each audit
// anew. Several share the cost of the smallest. The default is DefaultRelativeLambda.
func (b *Builder) WithRelativeLambda(multiples ...float64) *Builder {
	b.damping = damping{slices.Sorted(slices.Values(multiples)), true}
	return b
}

// WithLambda sets lambda itself, in the units of eta. Several share the cost of the smallest. The default is WithRelativeLambda's.
func (b *Builder) WithLambda(lambdas ...float64) *Builder {
	b.damping = damping{slices.Sorted(slices.Values(lambdas)), false}
	return b
}

// WithMetric sets what eta is. The default is MetricNTK.
func (b *Builder) WithMetric(metric Metric) *Builder { b.metric = metric; return b }

// WithOptimizer makes the metric that of the optimizer's next step, MetricOptimizer, with the moments that it has at the time of an audit: the influence of the step that
// will be taken, learning rate included, without a solve. It takes any optimizer whose step for a weight depends on that weight's gradient alone, as those of
// package optimizer do; GoMLX's trainer hides the one that it was made with, so it is given again.
func (b *Builder) WithOptimizer(of optimizer.Interface) *Builder {
	b.metric, b.optimizer = MetricOptimizer, of
	return b
}

// WithMetricScale sets whether eta is a mean over samples or their plain sum. The default is MetricMean.
func (b *Builder) WithMetricScale(scale MetricScale) *Builder { b.scale = scale; return b }

// WithEstimator sets how influence is computed. The default is Block; the others certify nothing.
func (b *Builder) WithEstimator(estimator Estimator) *Builder { b.estimator = estimator; return b }

// WithTolerance sets the half-width that the interval of a cosine may have, and that of a self-influence relative to it;
// the default is 0.02. For CGResidual it is the relative residual of each solve, by default 1e-3.
func (b *Builder) WithTolerance(tolerance float64) *Builder { b.solve.Tolerance = tolerance; return b }

// WithMaxProducts limits the metric products of one solve, of the gradients of one group in one batch, beside the twenty for
// lambda_max. Zero means as many as there are parameters; for CGResidual, 1000 for each gradient.
func (b *Builder) WithMaxProducts(products int64) *Builder { b.solve.MaxProducts = products; return b }

// WithMaxTime limits the wall-clock time of one solve; the intervals are then as wide as they are. Zero means no limit.
func (b *Builder) WithMaxTime(limit time.Duration) *Builder { b.solve.MaxTime = limit; return b }

// WithMaxBytes limits the memory of one solve for vectors, which is then done in parts, and for primal values that its products need again and
// again, which are then computed each time. Zero means 4 GiB.
func (b *Builder) WithMaxBytes(limit int64) *Builder { b.solve.MaxBytes = limit; return b }

// WithLocalErrors adds table local_errors: how far the model is from commuting with the infinitesimal elements of the groups that have such, translations, boosts and
// scalings, or orbits.Group.WithGenerators. It takes a forward product of the model in its input for each. By default there is no such table.
func (b *Builder) WithLocalErrors() *Builder { b.local = true; return b }

// WithLayers adds table layers: the share of each variable and scope in the influence of every sample on its moved copies, with its interval. Solves then go on until
// the solutions themselves are within the tolerance, which takes about twice the products, and each solution takes another. It
// needs the estimator Block. By default there is no such table.
func (b *Builder) WithLayers() *Builder { b.layers = true; return b }

// WithSpectrum adds table spectrum, the Ritz values of each metric with their multiplicities, and the effective dimension at each lambda, the trace of
// eta (eta + lambda)^-1, to table solves, by a solve for 16 random vectors. It needs MetricNTK and the estimator Block. By default there is none.
func (b *Builder) WithSpectrum() *Builder { b.spectrum = true; return b }

// WithPictures adds table pictures: states and outputs of three samples of each group, those that commute best, in the middle and worst with the element that the model
// commutes worst with. They take some 50 kB a channel and group in each audit at 64x64 cells, to which finer states are averaged. States on a plane have them, other states
// have none. By default there is no such table.
func (b *Builder) WithPictures() *Builder { b.pictures = true; return b }

// WithForwardOnly leaves the influence out: only outputs are audited. For models without parameters, such as a solver. By default
// both are.
func (b *Builder) WithForwardOnly() *Builder { b.forward = true; return b }

// WithLogger logs warnings of the preflight and of the probes, and each part of an audit at debug level. By default nothing is logged.
func (b *Builder) WithLogger(log zerolog.Logger) *Builder { b.log = log; return b }

// WithProgress calls report within an audit after each of its parts, of similar length. By default nobody is told.
func (b *Builder) WithProgress(report func(done, total int)) *Builder { b.report = report; return b }

// Done checks the configuration, moves the probes by every element of their groups, and returns the auditor.
func (b *Builder) Done() (made *Auditor, err error) {
	if isNil(b.source) {
		return nil, errors.New("audit: there is no trainer: audit.New got nil; give it the *train.Trainer of the model")
	}
	if b.modelFn == nil {
		if b.unusable != nil {
			return nil, cause.In("audit", b.unusable)
		}
		return nil, errors.New("audit: there is no model: audit.New got nil; give it the function that the trainer was made with")
	}
	if err := b.checkSignature(); err != nil {
		return nil, err
	}
	if len(b.field.Channels) == 0 {
		return nil, errors.New(`audit: it is not declared how the channels of the states transform; add .WithField(orbits.Field{Channels: []string{"u", "v", "p"}, Vectors: [][]int{{0, 1}}}) with your own names and the components of vectors, as many as there are axes, or .WithField(orbits.EulerField()) for density, momentum_x, momentum_y, energy`)
	}
	output := b.field
	if b.output != nil {
		output = *b.output
	}
	if b.output != nil && b.invariant {
		return nil, errors.New("audit: the output is declared invariant and of a field; use one of WithInvariantOutput and WithOutputField")
	}
	if err := cmp.Or(b.field.Validate(), output.Validate()); err != nil {
		return nil, cause.In("audit", err)
	}
	if len(b.groups) == 0 {
		return nil, errors.New("audit: no group to audit; add one with WithGroup")
	}
	if err := b.Check(); err != nil {
		return nil, err
	}
	a := &Auditor{config: *b} // a copy: the builder may make another, whose defaults differ
	b = &a.config
	if b.directions, err = b.resolved(output); err != nil {
		return nil, err
	}
	if b.metric == MetricIdentity || b.metric == MetricOptimizer {
		b.damping = damping{values: []float64{1}}
	}
	if b.solve.MaxBytes == 0 {
		b.solve.MaxBytes = solver.DefaultMaxBytes
	}
	if b.dtype == dtypes.InvalidDType {
		b.dtype = b.defaultDType()
	}
	for i, g := range b.groups {
		if slices.ContainsFunc(b.groups[:i], func(other groupProbes) bool { return other.group.Name == g.group.Name }) {
			return nil, fmt.Errorf("audit: group %q was added twice; give all its probes to one WithGroup", g.group.Name)
		}
		if g.group.Name == "" {
			return nil, errors.New("audit: a group has no name and no elements; make groups by the functions of package orbits, or by orbits.Custom")
		}
		if !utf8.ValidString(g.group.Name) {
			return nil, fmt.Errorf("audit: a group is called %q; its name must be text in UTF-8, for it stands in every row", g.group.Name)
		}
		if err := g.probes.validate(b.field, output, b.invariant); err != nil {
			return nil, err
		}
		if targets := g.probes.Targets.Shape(); b.smse && (targets.Rank() != g.probes.Inputs.Rank() || !targets.DType.IsFloat()) {
			return nil, fmt.Errorf("audit: the targets of group %s are %s, and the loss that is taken where none is given, SMSE, is of states [n, ..., channel]; give audit.New the loss of the training", g.group.Name, targets)
		}
		grid := gridOf(g.probes.Inputs)
		if err := g.group.Check(b.field, grid...); err != nil {
			return nil, cause.In("audit", err)
		}
		if b.invariant {
			continue
		}
		if err := g.group.Check(output, grid...); err != nil {
			return nil, cause.Say("audit: the output's field: "+cause.Plain(err), err)
		}
	}
	backend, free, err := backendFor(b.source.Backend())
	if err != nil {
		return nil, err
	}
	a.backend, a.free, a.resident = backend, free, isAccelerator(backend)
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	for _, g := range b.groups {
		o, err := newOrbit(a.backend, b, output, g)
		if err != nil {
			return nil, err
		}
		a.orbits = append(a.orbits, o)
		if err := cmp.Or(b.checkProducts(o), b.checkUndo(o)); err != nil {
			return nil, err
		}
	}
	if err := a.checkGenerators(); err != nil {
		return nil, err
	}
	a.warnOfCost()
	if a.probeHash, err = hashProbes(b.groups); err != nil {
		return nil, err
	}
	for _, g := range b.groups {
		hash, err := g.hash()
		if err != nil {
			return nil, err
		}
		metric, err := g.metricHash()
		if err != nil {
			return nil, err
		}
		a.probeHashes, a.metricHashes = append(a.probeHashes, hash), append(a.metricHashes, metric)
	}
	if a.network, err = a.newNetwork(b.dtype); err != nil {
		return nil, err
	}
	if b.invariant {
		a.distance, err = graph.NewExec(a.backend, relativeChange)
	} else {
		a.distance, err = graph.NewExec(a.backend, smse)
	}
	if err != nil {
		return nil, cause.In("audit", err)
	}
	return a, nil
}

// checkSignature refuses, as far as the model's signature tells, inputs that it does not take and outputs that it does not have.
func (b *Builder) checkSignature() error {
	inputs, outputs := b.signature.Inputs, b.signature.Outputs
	for _, g := range b.groups {
		if given := 1 + len(g.probes.Further); inputs >= 0 && given != inputs {
			return fmt.Errorf("audit: the model takes %d inputs and the probes of group %s have %d: give the states in Probes.Inputs and the %d others in Probes.Further", inputs, g.group.Name, given, inputs-1)
		}
	}
	switch {
	case b.pick != nil && *b.pick < 0:
		return fmt.Errorf("audit: output %d of the model was chosen; the first is 0 (WithOutput)", *b.pick)
	case outputs < 0:
		return nil // only building it tells
	case b.pick != nil && *b.pick >= outputs:
		return fmt.Errorf("audit: output %d of the model was chosen; it has %d, and the first is 0 (WithOutput)", *b.pick, outputs)
	case b.pick == nil && outputs > 1:
		return fmt.Errorf("audit: the model has %d outputs; choose the one that is the state, from 0 (WithOutput)", outputs)
	case outputs > 1 && b.metric == MetricGGN:
		return fmt.Errorf("audit: the metric ggn needs a model with one output, this has %d: use ntk or fisher", outputs)
	}
	return nil
}

// SettingError names a setting that cannot work, by the name that it has in Settings, in configurations and in the tables.
type SettingError struct {
	Setting string
	Fault   string // what is wrong with it and what would be right: "is 0; it must be positive"
}

func (e *SettingError) Error() string { return "audit: " + methods[e.Setting] + " " + e.Fault }

// methods of a Builder that set what a SettingError names.
var methods = map[string]string{
	"dtype": "WithDType", "estimator": "WithEstimator", "lambda": "WithLambda", "relative_lambda": "WithRelativeLambda", "metric": "WithMetric", "metric_scale": "WithMetricScale",
	"tolerance": "WithTolerance", "max_products": "WithMaxProducts", "max_seconds": "WithMaxTime", "max_bytes": "WithMaxBytes",
	"local_errors": "WithLocalErrors", "layers": "WithLayers", "spectrum": "WithSpectrum",
	"jacobian_limit": "Export's jacobianLimit",
}

// Check reports the first setting of the solves that cannot work, as a *SettingError. Done does so too, and checks the rest.
func (b *Builder) Check() error {
	fault := func(setting, format string, args ...any) error {
		return &SettingError{setting, fmt.Sprintf(format, args...)}
	}
	name := "lambda"
	if b.damping.relative {
		name = "relative_lambda"
	}
	if len(b.damping.values) == 0 {
		return fault(name, "is empty; name at least one")
	}
	for i, lambda := range b.damping.values {
		if !(lambda > 0) || math.IsInf(lambda, 0) {
			return fault(name, "is %g; it must be positive and finite", lambda)
		}
		if b.damping.relative && !(lambda >= leastRelative && lambda <= mostRelative) {
			return fault(name, "is %g; it must be between %.2g, the rounding of float64, and %g", lambda, leastRelative, mostRelative)
		}
		if i > 0 && lambda == b.damping.values[i-1] {
			return fault(name, "has %g twice", lambda)
		}
	}
	s := b.solve
	metrics, estimators := []Metric{MetricNTK, MetricGGN, MetricFisher, MetricIdentity, MetricOptimizer}, []Estimator{Block, CGResidual, Subspace}
	switch {
	case b.dtype != dtypes.InvalidDType && b.dtype != dtypes.Float32 && b.dtype != dtypes.Float64:
		return fault("dtype", "is %s; use float32 or float64", strings.ToLower(b.dtype.String()))
	case !slices.Contains(metrics, b.metric):
		return fault("metric", "is %q; use ntk, ggn, fisher, identity or optimizer", b.metric)
	case b.metric == MetricOptimizer && isNil(b.optimizer) && !isNil(b.source): // without a trainer there is none yet
		return fault("metric", "is optimizer, and there is none; give that of the training (WithOptimizer)")
	case b.scale != MetricMean && b.scale != MetricSum:
		return fault("metric_scale", "is %q; use mean or sum", b.scale)
	case !slices.Contains(estimators, b.estimator):
		return fault("estimator", "is %q; use block, cg-residual or subspace", b.estimator)
	case b.forward && (b.layers || b.spectrum):
		return fault(map[bool]string{true: "layers", false: "spectrum"}[b.layers], "is asked for, which is part of influence, and that is left out (WithForwardOnly); use one of them")
	case b.layers && b.estimator != Block:
		return fault("layers", "is asked for, and estimator %s certifies no solution to take apart; use estimator block", b.estimator)
	case b.spectrum && (b.estimator != Block || b.metric != MetricNTK):
		return fault("spectrum", "is asked for, which is of metric ntk by estimator block, and these are %s and %s; leave it out, or use those", b.metric, b.estimator)
	case b.estimator == Block && s.Tolerance >= 1:
		return fault("tolerance", "is %g, the half-width of a cosine's interval, and a cosine lies between -1 and 1; use 0.02, for instance", s.Tolerance)
	case b.estimator == Subspace && s.Tolerance != 0:
		return fault("tolerance", "is %g, and estimator subspace has none, for nothing measures its error; leave it out", s.Tolerance)
	case !(s.Tolerance >= 0) || math.IsInf(s.Tolerance, 0):
		return fault("tolerance", "is %g; it must be positive, or 0 for the estimator's default", s.Tolerance)
	case s.MaxProducts < 0:
		return fault("max_products", "is %d; it must be positive, or 0 for no limit", s.MaxProducts)
	case s.MaxTime < 0:
		return fault("max_seconds", "is %g seconds; it must be positive, or 0 for no limit", s.MaxTime.Seconds())
	case s.MaxBytes < 0:
		return fault("max_bytes", "is %d; it must be positive, or 0 for 4 GiB", s.MaxBytes)
	}
	return nil
}

// checkProducts refuses a limit of products that one product of every gradient of a batch breaks.
func (b *Builder) checkProducts(o *orbit) error {
	if b.forward || b.estimator != Block || b.solve.MaxProducts == 0 {
		return nil
	}
	gradients := 0
	for d := range b.directions {
		gradients += member{o, 0, &b.directions[d]}.gradients()
	}
	least, what := gradients+1, "one for each gradient and one to check"
	if b.layers {
		least, what = gradients*(1+len(b.damping.values))+1, "one for each gradient, one for its solution at each lambda, and one to check"
	}
	if b.spectrum && least <= spectrumDraws {
		least, what = spectrumDraws+1, "one for each of the random vectors of its spectrum and one to check"
	}
	if b.solve.MaxProducts < int64(least) {
		return &SettingError{"max_products", fmt.Sprintf("is %d; a batch of group %s needs %d at least, %s", b.solve.MaxProducts, o.group.Name, least, what)}
	}
	return nil
}

// leastRelative is the smallest lambda / lambda_max that float64 can tell from none.
const leastRelative = 0x1p-53

// mostRelative is far above where lambda drowns the metric, and cosines are those of the gradients.
const mostRelative = 1e9

// leastSingle is the lambda / lambda_max down to which float32 is taken: rounding in its products of a vector, 5e-7 of an ordinary network, then
// changes a form by 3e-4 of itself, and by less than the usual tolerance of networks that round thirty times as much.
const leastSingle = 1e-5

// leastSingleMetric is that of ggn, whose products are with the metric itself: 5e-7 of lambda_max then change a form by 5e-4 of itself.
const leastSingleMetric = 1e-3

// defaultDType takes the cheaper precision where it is enough.
func (b *Builder) defaultDType() dtypes.DType {
	least := leastSingle
	if b.metric == MetricGGN {
		least = leastSingleMetric
	}
	if !b.forward && b.damping.relative && b.damping.values[0] >= least {
		return dtypes.Float32
	}
	return dtypes.Float64
}

// roundoff is the unit roundoff of a float type.
func roundoff(dtype dtypes.DType) float64 {
	if dtype == dtypes.Float32 {
		return 0x1p-24
	}
	return 0x1p-53
}
