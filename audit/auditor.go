// Package audit measures, at one moment of a training, whether a model respects the symmetries of its physics and
// whether learning from a state x also teaches it the transformed state g.x.
//
// For each group and each of its elements g, on held-out probe transitions (x, y), an audit records
//
//   - forward errors: the target error SMSE(f(g.x), g.y) and the commutator error SMSE(f(g.x), g.f(x)), where g may act on
//     states that come out in another way than on those that go in (orbits.Element.ApplyOutput);
//   - influence: (dC_{x_m})^T (eta + lambda I)^-1 dC_{g.x_n}, where dC is the gradient of a sample's loss with respect to
//     the parameters and eta = scale * sum of J_x^T J_x over the untransformed batch; raw, scaled by the Frobenius norm
//     of each g's matrix, and as the two-sided cosine in the metric's inner product; each with an interval that contains
//     the exact value;
//   - coherence: the distribution over samples of the cosine between x and g.x.
//
// A model that is exactly equivariant has cosine 1 and a commutator error at rounding level. The cosine depends on
// lambda: every row carries it.
//
// An audit works on a copy of the weights. It changes no variable, optimizer slot or random state of the training.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
)

// Source is what is audited: a *train.Trainer is one.
type Source interface {
	Backend() compute.Backend
	Store() *model.Store
}

// Builder configures an Auditor. Its methods return it; Done checks everything.
type Builder struct {
	source    Source
	modelFn   solver.InputsFn
	lossFn    solver.LossFn
	field     orbits.Field
	output    *orbits.Field // nil: as field
	groups    []groupProbes
	dtype     dtypes.DType
	damping   damping
	metric    Metric
	sum       bool
	solve     solver.FormOptions
	recycling bool
	forward   bool
	invariant bool

	estimator Estimator
	log       zerolog.Logger
	report    func(done, total int)
}

type groupProbes struct {
	group  orbits.Group
	probes Probes
}

// damping holds the lambdas, ascending, absolute or as multiples of the metric's largest eigenvalue.
type damping struct {
	values   []float64
	relative bool
}

// DefaultRelativeLambda is lambda / lambda_max when none is chosen.
const DefaultRelativeLambda = 1e-3

// New starts the configuration of an auditor for the model that source trains. GoMLX's trainer hides the model and loss
// functions it was made with, so they are given again; a model of several inputs takes the states first, and the others from
// Probes.Further. A nil loss is SMSE.
func New[F solver.Model](source Source, modelFn F, lossFn solver.LossFn) *Builder {
	if lossFn == nil {
		lossFn = Loss
	}
	build := solver.Inputs(modelFn)
	return &Builder{
		source: source, field: orbits.EulerField(),
		modelFn: func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
			return orError(func() *graph.Node { return build(scope, inputs) })
		},
		lossFn: func(labels, predictions []*graph.Node) *graph.Node {
			return orError(func() *graph.Node { return lossFn(labels, predictions) })
		},
		damping: damping{[]float64{DefaultRelativeLambda}, true}, metric: NTK, estimator: Block, log: zerolog.Nop(),
	}
}

// orError turns any panic of a user's graph function into one with an error. With another value it would leave GoMLX's
// compilation forever unfinished, and the next audit, or Close, would wait for its end.
func orError(build func() *graph.Node) (node *graph.Node) {
	panicked := exceptions.Try(func() { node = build() })
	if panicked == nil {
		return node
	}
	if err, ok := panicked.(error); ok {
		panic(err)
	}
	panic(fmt.Errorf("panic: %v", panicked))
}

// WithField declares how the channels transform. The default is orbits.EulerField.
func (b *Builder) WithField(field orbits.Field) *Builder { b.field = field; return b }

// WithOutputField declares how the channels of the model's output transform, where it is not a state like its input: the
// vorticity of a velocity, for instance. Outputs and targets are [n, y, x, channel] on the grid of the input. There is no
// persistence error then.
func (b *Builder) WithOutputField(field orbits.Field) *Builder { b.output = &field; return b }

// WithInvariantOutput declares that no element should change the model's output: a classifier's scores, a global quantity. Targets
// are then those of the untransformed states, of any shape and type that the loss takes, the target error is a sample's
// loss, and the commutator error is |f(g.x) - f(x)|^2 / |f(x)|^2 over a sample's outputs.
func (b *Builder) WithInvariantOutput() *Builder { b.invariant = true; return b }

// WithGroup adds a group and the probes it is audited on. At least one is needed; names must differ.
func (b *Builder) WithGroup(group orbits.Group, probes Probes) *Builder {
	b.groups = append(b.groups, groupProbes{group, probes})
	return b
}

// WithDType sets the precision of the audit's copy of the weights and of its products, whatever the model trains in.
// Float64 needs a model that follows its input's dtype, and a product costs about twice as much; Float32 cannot certify a
// lambda below about 1e-4 lambda_max. Without it the audit takes Float32 where every lambda is a multiple of at least
// 1e-3 of lambda_max, and Float64 otherwise and for outputs alone; table solves says which.
func (b *Builder) WithDType(dtype dtypes.DType) *Builder { b.dtype = dtype; return b }

// WithRelativeLambda sets lambda as a multiple of lambda_max, the largest eigenvalue of eta on the first batch of the
// first group, at each audit anew. Several share the cost of the smallest. The default is DefaultRelativeLambda.
func (b *Builder) WithRelativeLambda(multiples ...float64) *Builder {
	b.damping = damping{slices.Sorted(slices.Values(multiples)), true}
	return b
}

// WithLambda sets lambda itself, in the units of eta. Several share the cost of the smallest.
func (b *Builder) WithLambda(lambdas ...float64) *Builder {
	b.damping = damping{slices.Sorted(slices.Values(lambdas)), false}
	return b
}

// WithMetric sets what eta is. The default is NTK.
func (b *Builder) WithMetric(metric Metric) *Builder { b.metric = metric; return b }

// WithSum makes eta the plain sum over samples, the paper's equation; the default divides it by their number, and NTK also
// by the outputs of each (the cost that the others derive from is a mean over them already), so that lambda means the same
// for every batch and grid.
func (b *Builder) WithSum() *Builder { b.sum = true; return b }

// WithEstimator sets how influence is computed. The default is Block; the others certify nothing.
func (b *Builder) WithEstimator(estimator Estimator) *Builder { b.estimator = estimator; return b }

// WithTolerance sets the half-width that the interval of a cosine may have, and that of a self-influence relative to it;
// the default is 0.02. For CGResidual it is the relative residual of each solve, by default 1e-3.
func (b *Builder) WithTolerance(tolerance float64) *Builder { b.solve.Tolerance = tolerance; return b }

// WithMaxProducts limits the metric products of one solve, of the gradients of one group in one batch. Zero means as many as
// there are parameters; for CGResidual, 1000 for each gradient.
func (b *Builder) WithMaxProducts(products int64) *Builder { b.solve.MaxProducts = products; return b }

// WithMaxTime limits the wall-clock time of one solve; the intervals are then as wide as they are. Zero means no limit.
func (b *Builder) WithMaxTime(limit time.Duration) *Builder { b.solve.MaxTime = limit; return b }

// WithMaxBytes limits the memory for parameter vectors of one solve; it is then done in parts. Zero means 4 GiB.
func (b *Builder) WithMaxBytes(limit int64) *Builder { b.solve.MaxBytes = limit; return b }

// WithRecycling starts each solve of Block from what the audits before have shown of its metric. It halves the products
// or better where that has moved by a few percent, and saves nothing where it has moved by half (docs/solver.md). The values
// then depend on the audits before, within their intervals: a resumed training finds others, in the third digit. An eighth of WithMaxBytes is for it; a model too large for that is solved from scratch.
func (b *Builder) WithRecycling() *Builder { b.recycling = true; return b }

// WithForwardOnly leaves the influence out: only outputs are audited. For models without parameters, such as a solver.
func (b *Builder) WithForwardOnly() *Builder { b.forward = true; return b }

// WithLogger logs each part of an audit at debug level.
func (b *Builder) WithLogger(log zerolog.Logger) *Builder { b.log = log; return b }

// WithProgress calls report within an audit after each of its parts, of similar length.
func (b *Builder) WithProgress(report func(done, total int)) *Builder { b.report = report; return b }

// Done checks the configuration, moves the probes by every element of their groups, and returns the auditor.
func (b *Builder) Done() (a *Auditor, err error) {
	output := b.field
	if b.output != nil {
		output = *b.output
	}
	if b.output != nil && b.invariant {
		return nil, errors.New("audit: the output is declared invariant and of a field; use one of WithInvariantOutput and WithOutputField")
	}
	if err := cmp.Or(b.field.Validate(), output.Validate()); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if len(b.groups) == 0 {
		return nil, errors.New("audit: no group to audit; add one with WithGroup")
	}
	if err := b.checkSolve(); err != nil {
		return nil, err
	}
	a = &Auditor{config: *b} // a copy: the builder may make another, whose defaults differ
	b = &a.config
	if b.solve.MaxBytes == 0 {
		b.solve.MaxBytes = solver.DefaultMaxBytes
	}
	if b.dtype == dtypes.InvalidDType {
		b.dtype = b.defaultDType()
	}
	backend, free, err := own(b.source.Backend())
	if err != nil {
		return nil, err
	}
	a.backend, a.free = backend, free
	defer func() {
		if err != nil {
			free()
		}
	}()
	seen := make(map[string]bool)
	for _, g := range b.groups {
		if seen[g.group.Name] {
			return nil, fmt.Errorf("audit: group %q was added twice", g.group.Name)
		}
		seen[g.group.Name] = true
		o, err := newOrbit(a.backend, g.group, b.field, output, g.probes, b.invariant, b.dtype, b.log)
		if err != nil {
			return nil, err
		}
		a.orbits = append(a.orbits, o)
	}
	if a.probeHash, err = hashProbes(b.groups); err != nil {
		return nil, err
	}
	if a.network, err = solver.NewNetwork(a.backend, b.modelFn, b.lossFn, b.dtype); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	distance := SMSE
	if b.invariant {
		distance = relativeChange
	}
	if a.distance, err = graph.NewExec(a.backend, distance); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return a, nil
}

func (b *Builder) checkSolve() error {
	if len(b.damping.values) == 0 {
		return errors.New("audit: no lambda is given; name at least one")
	}
	for i, lambda := range b.damping.values {
		if !(lambda > 0) || math.IsInf(lambda, 0) {
			return fmt.Errorf("audit: lambda is %g; it must be positive", lambda)
		}
		if i > 0 && lambda == b.damping.values[i-1] {
			return fmt.Errorf("audit: lambda %g is given twice", lambda)
		}
	}
	if all := []Metric{NTK, GGN, Fisher, Identity}; !slices.Contains(all, b.metric) {
		return fmt.Errorf("audit: unknown metric %q; use one of %q", b.metric, all)
	}
	if all := []Estimator{Block, CGResidual, Subspace}; !slices.Contains(all, b.estimator) {
		return fmt.Errorf("audit: unknown estimator %q; use one of %q", b.estimator, all)
	}
	if s := b.solve; !(s.Tolerance >= 0) || s.MaxProducts < 0 || s.MaxTime < 0 || s.MaxBytes < 0 {
		return fmt.Errorf("audit: tolerance %g, product limit %d, time limit %v, memory limit %d: none may be negative", s.Tolerance, s.MaxProducts, s.MaxTime, s.MaxBytes)
	}
	return nil
}

// leastSingle is the lambda / lambda_max down to which float32 is taken: rounding in its products, a few 1e-6 of lambda_max
// as the certificate counts it, then widens an interval by less than a tenth of the usual tolerance.
const leastSingle = 1e-3

// defaultDType takes the cheaper precision where it is enough.
func (b *Builder) defaultDType() dtypes.DType {
	if !b.forward && b.damping.relative && b.damping.values[0] >= leastSingle {
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

// Auditor audits one model at any number of moments. It is not safe for concurrent use. Close frees it.
type Auditor struct {
	config    Builder
	backend   compute.Backend
	free      func() // the backend
	orbits    []*orbit
	network   *solver.Network
	distance  *graph.Exec // target, prediction -> [n]
	outputs   int         // of a sample
	probeHash string
	trainable []string // paths of the variables that the network has programs for; nil before the first audit
	checked   bool     // the model's gradient, in the first audit
}

// Groups are the names of the groups that are audited.
func (a *Auditor) Groups() []string {
	var names []string
	for _, o := range a.orbits {
		names = append(names, o.group.Name)
	}
	return names
}

// ProbeHash identifies all probes: SHA-256 over their values.
func (a *Auditor) ProbeHash() string { return a.probeHash }

// Audit measures the model with the weights it has now. The run's id and attempt are left for the sink to fill in.
//
// A solve that stops above its tolerance is no error: its intervals are wider, and its status says why in Solves. An error means that there is no
// audit: a cancelled context, weights that are not finite, an operation without a forward derivative, a gradient that is
// not the adjoint of the derivative (GoMLX v0.28 computes such ones for convolutions with an even kernel).
func (a *Auditor) Audit(ctx context.Context, at Moment) (*Records, error) {
	start := time.Now()
	if err := a.load(); err != nil {
		return nil, err
	}
	if err := a.checkGradient(); err != nil {
		return nil, err
	}
	if err := a.newSketches(); err != nil {
		return nil, err
	}
	progress := a.newProgress()
	records := &Records{}
	for _, o := range a.orbits {
		if err := context.Cause(ctx); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		found, err := a.forwardErrors(o, at)
		if err != nil {
			return nil, err
		}
		records.Errors = append(records.Errors, found...)
		progress()
	}
	lambdas := []float64{0} // of a summary without influence
	if !a.config.forward {
		lambdas = nil
		for _, o := range a.orbits {
			for batch := range o.batches() {
				var found *Records
				var err error
				if found, lambdas, err = a.influence(ctx, o, batch, lambdas, at); err != nil {
					return nil, err
				}
				records.Influence = append(records.Influence, found.Influence...)
				records.Solves = append(records.Solves, found.Solves...)
				progress()
			}
		}
	}
	for _, o := range a.orbits {
		for _, lambda := range lambdas {
			records.Coherence = append(records.Coherence, summarise(o, records, lambda, at)...)
		}
	}
	a.config.log.Debug().Int64("step", at.Step).Dur("took", time.Since(start)).Msg("audited")
	return records, nil
}

// load copies the weights that there are now. Where layers have been frozen, or released, since the audit before, the
// network is made anew: its programs are of the gradients of certain variables.
func (a *Auditor) load() error {
	store := a.config.source.Store()
	trainable := []string{}
	for variable := range store.IterVariables() {
		if variable.Trainable && variable.Shape().DType.IsFloat() {
			trainable = append(trainable, variable.Path())
		}
	}
	slices.Sort(trainable)
	if a.trainable != nil && !slices.Equal(a.trainable, trainable) {
		network, err := solver.NewNetwork(a.backend, a.config.modelFn, a.config.lossFn, a.config.dtype)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		a.network.Close()
		a.network, a.checked = network, false
		for _, o := range a.orbits {
			o.sketches = nil // of another metric
		}
		a.config.log.Info().Int("trainable_before", len(a.trainable)).Int("trainable", len(trainable)).Msg("other variables are trainable than at the audit before")
	}
	a.trainable = trainable
	if err := a.network.Load(store); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// checkGradient refuses, in the first audit, a model whose reverse-mode gradient is not the adjoint of its derivative:
// solves with such a metric may converge, to influence that means nothing.
func (a *Auditor) checkGradient() error {
	if a.checked || a.config.forward {
		return nil
	}
	one, err := a.orbits[0].states(0, 0, 1)
	if err != nil {
		return err
	}
	report, err := a.network.With(one.further...).CheckGradient(one.x)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if math.IsNaN(report.Error) {
		return errors.New("audit: the model's derivatives at the probes are not finite; has training diverged?")
	}
	if !report.OK() {
		return fmt.Errorf("audit: the model's gradient is wrong (adjoint error %.2g, rounding explains %.0e): %s; training and influence need a right one, and GoMLX v0.28 has none for convolutions with an even kernel: use an odd one", report.Error, report.Limit, report.FaultsString())
	}
	a.checked = true
	return one.free()
}

// newProgress returns a function to call after each part.
func (a *Auditor) newProgress() func() {
	if a.config.report == nil {
		return func() {}
	}
	done, total := 0, len(a.orbits)
	if !a.config.forward {
		for _, o := range a.orbits {
			total += o.batches()
		}
	}
	return func() {
		done++
		a.config.report(done, total)
	}
}

// Close frees the copy of the weights and the compiled programs.
func (a *Auditor) Close() {
	a.network.Close()
	a.distance.Finalize()
	for _, o := range a.orbits {
		o.act.Finalize()
	}
	a.free()
}
