// Package audit measures, at one moment of a training, whether a model respects the symmetries of its physics and
// whether learning from a state x also teaches it the transformed state g.x.
//
// For each group and each of its elements g, on held-out probe transitions (x, y), an audit records
//
//   - forward errors: the target error SMSE(f(g.x), g.y) and the commutator error SMSE(f(g.x), g.f(x));
//   - influence: (dC_{x_m})^T (eta + lambda I)^-1 dC_{g.x_n}, where dC is the gradient of a sample's loss with respect to
//     the parameters and eta = scale * sum of J_x^T J_x over the untransformed batch; raw, scaled by the Frobenius norm
//     of each g's matrix, and as the two-sided cosine in the metric's inner product;
//   - coherence: the distribution over samples of the cosine between x and g.x.
//
// A model that is exactly equivariant has cosine 1 and a commutator error at rounding level. The cosine depends on
// lambda: every row carries it.
//
// An audit works on a copy of the weights. It changes no variable, optimizer slot or random state of the training.
package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
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
	source  Source
	modelFn solver.ModelFn
	lossFn  solver.LossFn
	field   orbits.Field
	groups  []groupProbes
	dtype   dtypes.DType
	damping damping
	sum     bool
	solve   solver.Options
	forward bool
	log     zerolog.Logger
	report  func(done, total int)
}

type groupProbes struct {
	group  orbits.Group
	probes Probes
}

// damping is lambda, absolute or as a multiple of the metric's largest eigenvalue.
type damping struct {
	value    float64
	relative bool
}

// DefaultRelativeLambda is lambda / lambda_max when none is chosen.
const DefaultRelativeLambda = 1e-3

// New starts the configuration of an auditor for the model that source trains. GoMLX's trainer hides the model and loss
// functions it was made with, so they are given again. A nil loss is SMSE.
func New(source Source, modelFn solver.ModelFn, lossFn solver.LossFn) *Builder {
	if lossFn == nil {
		lossFn = Loss
	}
	return &Builder{
		source: source, modelFn: modelFn, lossFn: lossFn, field: orbits.EulerField(),
		dtype: dtypes.Float64, damping: damping{DefaultRelativeLambda, true}, log: zerolog.Nop(),
	}
}

// WithField declares how the channels transform. The default is orbits.EulerField.
func (b *Builder) WithField(field orbits.Field) *Builder { b.field = field; return b }

// WithGroup adds a group and the probes it is audited on. At least one is needed; names must differ.
func (b *Builder) WithGroup(group orbits.Group, probes Probes) *Builder {
	b.groups = append(b.groups, groupProbes{group, probes})
	return b
}

// WithDType sets the precision of the audit's copy of the weights and of its products, whatever the model trains in.
// The default is Float64, which the model must follow from its input's dtype; Float32 is faster, and blind to a lambda
// below about 1e-7 lambda_max.
func (b *Builder) WithDType(dtype dtypes.DType) *Builder { b.dtype = dtype; return b }

// WithRelativeLambda sets lambda as a multiple of lambda_max, the largest eigenvalue of eta on the first batch of the
// first group, at each audit anew. The default is DefaultRelativeLambda.
func (b *Builder) WithRelativeLambda(multiple float64) *Builder {
	b.damping = damping{multiple, true}
	return b
}

// WithLambda sets lambda itself, in the units of eta.
func (b *Builder) WithLambda(lambda float64) *Builder { b.damping = damping{lambda, false}; return b }

// WithSum makes eta the plain sum over samples and outputs, the paper's equation; the default divides it by their
// number, so that lambda means the same for every batch and grid.
func (b *Builder) WithSum() *Builder { b.sum = true; return b }

// WithTolerance sets the relative residual each solve must reach. The default is 1e-3. The influence is then corrected
// by the residuals of both sides and its error is of second order in them.
func (b *Builder) WithTolerance(tolerance float64) *Builder { b.solve.Tolerance = tolerance; return b }

// WithMaxProducts limits the metric products of one solve. The default is 1000 for each right-hand side.
func (b *Builder) WithMaxProducts(products int64) *Builder { b.solve.MaxProducts = products; return b }

// WithForwardOnly leaves the influence out: only outputs are audited. For models without parameters, such as a solver.
func (b *Builder) WithForwardOnly() *Builder { b.forward = true; return b }

// WithLogger logs each part of an audit at debug level.
func (b *Builder) WithLogger(log zerolog.Logger) *Builder { b.log = log; return b }

// WithProgress calls report within an audit after each of its parts, of similar length.
func (b *Builder) WithProgress(report func(done, total int)) *Builder { b.report = report; return b }

// Done checks the configuration, moves the probes by every element of their groups, and returns the auditor.
func (b *Builder) Done() (*Auditor, error) {
	if err := b.field.Validate(); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if len(b.groups) == 0 {
		return nil, errors.New("audit: no group to audit; add one with WithGroup")
	}
	if !(b.damping.value > 0) {
		return nil, fmt.Errorf("audit: lambda is %g; it must be positive", b.damping.value)
	}
	a := &Auditor{config: *b}
	seen := make(map[string]bool)
	for _, g := range b.groups {
		if seen[g.group.Name] {
			return nil, fmt.Errorf("audit: group %q was added twice", g.group.Name)
		}
		seen[g.group.Name] = true
		o, err := newOrbit(b.source.Backend(), g.group, b.field, g.probes, b.dtype)
		if err != nil {
			return nil, err
		}
		a.orbits = append(a.orbits, o)
	}
	var err error
	if a.probeHash, err = hashProbes(b.groups); err != nil {
		return nil, err
	}
	if a.network, err = solver.NewNetwork(b.source.Backend(), b.modelFn, b.lossFn, b.dtype); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	a.smse, err = graph.NewExec(b.source.Backend(), SMSE)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return a, nil
}

// Auditor audits one model at any number of moments. It is not safe for concurrent use. Close frees it.
type Auditor struct {
	config    Builder
	orbits    []*orbit
	network   *solver.Network
	smse      *graph.Exec // target, prediction -> [n]
	probeHash string
	checked   bool // the model's gradient, in the first audit
}

// ProbeHash identifies all probes: SHA-256 over their values.
func (a *Auditor) ProbeHash() string { return a.probeHash }

// Audit measures the model with the weights it has now. The run's id and attempt are left for the sink to fill in.
//
// A solve that stops above its tolerance is no error: its status says so in Solves. An error means that there is no
// audit: a cancelled context, weights that are not finite, an operation without a forward derivative, a gradient that is
// not the adjoint of the derivative (GoMLX v0.28 computes such ones for convolutions with an even kernel).
func (a *Auditor) Audit(ctx context.Context, at Moment) (*Records, error) {
	start := time.Now()
	if err := a.network.Load(a.config.source.Store()); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if err := a.checkGradient(); err != nil {
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
	lambda := 0.0
	if !a.config.forward {
		var err error
		if lambda, err = a.lambda(); err != nil {
			return nil, err
		}
		for _, o := range a.orbits {
			for batch := range o.batches() {
				pairs, solve, err := a.influence(ctx, o, batch, lambda, at)
				if err != nil {
					return nil, err
				}
				records.Influence = append(records.Influence, pairs...)
				records.Solves = append(records.Solves, solve)
				progress()
			}
		}
	}
	for _, o := range a.orbits {
		records.Coherence = append(records.Coherence, summarise(o, records, lambda, at)...)
	}
	a.config.log.Debug().Int64("step", at.Step).Dur("took", time.Since(start)).Msg("audited")
	return records, nil
}

// checkGradient refuses, in the first audit, a model whose reverse-mode gradient is not the adjoint of its derivative:
// solves with such a metric may converge, to influence that means nothing.
func (a *Auditor) checkGradient() error {
	if a.checked || a.config.forward {
		return nil
	}
	sample, err := rows(a.orbits[0].inputs[0], 0, 1)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	report, err := a.network.CheckGradient(sample)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if !report.OK() {
		return fmt.Errorf("audit: the model's gradient is wrong (adjoint error %.2g, rounding explains %.0e): %s; training and influence need a right one, see solver.Network.CheckGradient", report.Error, report.Limit, report.FaultsString())
	}
	a.checked = true
	return sample.FinalizeAll()
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
	a.smse.Finalize()
	for _, o := range a.orbits {
		o.act.Finalize()
	}
}
