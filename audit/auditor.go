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
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/network"
)

// Auditor audits one model at any number of moments. It is not safe for concurrent use. Close frees it.
type Auditor struct {
	config       Builder
	backend      compute.Backend
	free         func() // the backend
	resident     bool   // the long vectors of solves stay on the backend
	orbits       []*orbit
	network      *network.Network
	double       double
	distance     *graph.Exec // target, prediction, units where they are states -> [n]
	probeHash    string
	probeHashes  []string // by group
	metricHashes []string // by group, of the states that metrics are over; "" where these are the probes
	trainable    []string // paths of the variables that the network has programs for; nil before the first audit
	checked      bool     // the model's gradient, in the first audit
	closed       bool
}

// Groups are the names of the groups that are audited.
func (a *Auditor) Groups() []string {
	var names []string
	for _, o := range a.orbits {
		names = append(names, o.group.Name)
	}
	return names
}

// Directions are the names of the directions that rows of influence have; none where it is left out.
func (a *Auditor) Directions() []string {
	if a.config.forward {
		return nil
	}
	return DirectionNames(a.config.directions...)
}

// ProbeHash identifies all probes: SHA-256 over their values.
func (a *Auditor) ProbeHash() string { return a.probeHash }

// Audit measures the model with the weights it has now. The run's id and attempt are left for the sink to fill in.
//
// A solve that stops above its tolerance is no error: its intervals are wider, and its status says why in Solves. An error
// means that there is no audit: a cancelled context, weights that are not finite, an operation without a forward
// derivative, a gradient that is not the adjoint of the derivative (GoMLX v0.28 computes such ones for convolutions with an
// even kernel).
func (a *Auditor) Audit(ctx context.Context, at Moment) (*Records, error) {
	if err := a.load(); err != nil {
		return nil, err
	}
	return a.audit(ctx, at, a.newProgress(0), nil)
}

// Parts is how many parts an audit has that are solved by themselves: a batch of probes of a group in all directions, or where several have one metric
// (MetricStates) all of these.
func (a *Auditor) Parts() int { return len(a.shares()) }

// AuditParts is an audit of some of its parts, by their numbers from 0 on: the rows about influence that Audit would return of these. Rows about outputs come
// with the first part of each group, and rows of coherence are left out; Records.Summarise makes them when all parts are together.
func (a *Auditor) AuditParts(ctx context.Context, at Moment, parts ...int) (*Records, error) {
	if err := a.load(); err != nil {
		return nil, err
	}
	shares := a.shares()
	for _, part := range parts {
		if part < 0 || part >= len(shares) {
			return nil, fmt.Errorf("audit: there is no part %d of this audit; it has %d, from 0 on", part, len(shares))
		}
	}
	return a.audit(ctx, at, a.newProgress(0), func(o *orbit, batch int) bool {
		return slices.ContainsFunc(parts, func(part int) bool { return shares[part].has(o, batch) })
	})
}

// audit is Audit, of the weights that are loaded; with takes, of some batches alone.
func (a *Auditor) audit(ctx context.Context, at Moment, progress func(), takes func(o *orbit, batch int) bool) (*Records, error) {
	start := time.Now()
	if err := a.checkGradient(); err != nil {
		return nil, err
	}
	root, err := a.rootOfResponse()
	if err != nil {
		return nil, err
	}
	records := &Records{}
	solved := map[question]*pairs{}
	for _, o := range a.orbits {
		if err := context.Cause(ctx); err != nil {
			return nil, cause.In("audit", err)
		}
		if takes != nil && !o.some(takes) {
			continue
		}
		rows, pictures, outputs, err := a.forwardErrors(o, at)
		if err != nil {
			return nil, err
		}
		local, err := a.localErrors(o, at)
		if err != nil {
			return nil, err
		}
		progress()
		if takes == nil || takes(o, 0) {
			records.Errors = append(records.Errors, rows...)
			records.LocalErrors = append(records.LocalErrors, local...)
			records.Pictures = append(records.Pictures, pictures...)
		}
		if a.config.forward {
			if takes == nil {
				records.Coherence = append(records.Coherence, summarise(o.group.Name, o.summarised(), CoherenceRow{Moment: at}, rows, nil)...)
			}
			continue
		}
		for _, q := range questions(a.config.directions) {
			influence := make([][]InfluenceRow, len(a.config.damping.values))
			for batch := range o.batches() {
				if takes != nil && !takes(o, batch) {
					continue
				}
				asked := question{o, batch, q}
				if solved[asked] == nil {
					found, err := a.influence(ctx, a.shareOf(o, batch), root, outputs, at)
					if err != nil {
						return nil, err
					}
					maps.Copy(solved, found)
				}
				found := solved[asked]
				progress()
				records.Solves = append(records.Solves, found.solves...)
				records.Layers = append(records.Layers, found.layers...)
				records.Spectrum = append(records.Spectrum, found.spectrum...)
				for l, pairs := range found.influence {
					influence[l] = append(influence[l], pairs...)
					records.Influence = append(records.Influence, pairs...)
				}
			}
			for l, pairs := range influence {
				if takes != nil {
					break
				}
				base := CoherenceRow{
					Moment: at, Direction: q.name(), Metric: string(a.config.metric), Estimator: string(a.config.estimator),
					RelativeLambda: a.config.damping.multiple(l), Lambda: a.config.damping.absolute(l),
				}
				records.Coherence = append(records.Coherence, summarise(o.group.Name, o.summarised(), base, rows, pairs)...)
			}
		}
	}
	a.config.log.Debug().Int64("step", at.Step).Float64("seconds", time.Since(start).Seconds()).Msg("audited")
	return records, nil
}

// load copies the weights that there are now. Where layers have been frozen, or released, since the audit before, the
// network is made anew: its programs are of the gradients of certain variables.
func (a *Auditor) load() error {
	if a.closed {
		return errors.New("audit: the auditor is closed; close it after its last audit")
	}
	store := a.config.source.Store()
	if store.NumVariables() == 0 && !a.config.forward {
		return errors.New("audit: the model has no weights yet; GoMLX makes them in the first training step, audit after that")
	}
	trainable := []string{}
	for variable := range store.IterVariables() {
		if variable.Trainable && variable.Shape().DType.IsFloat() {
			trainable = append(trainable, variable.Path())
		}
	}
	slices.Sort(trainable)
	if a.trainable != nil && !slices.Equal(a.trainable, trainable) {
		net, err := a.newNetwork(a.config.dtype)
		if err != nil {
			return err
		}
		a.network.Close()
		a.network, a.checked = net, false
		a.config.log.Info().Int("trainable_before", len(a.trainable)).Int("trainable", len(trainable)).Msg("other variables are trainable than at the audit before")
	}
	a.trainable = trainable
	if err := a.network.Load(store); err != nil {
		return cause.In("audit", err)
	}
	if a.network.Dim() == 0 && !a.config.forward {
		return errors.New("audit: the model has no trainable parameter, so that nothing has an influence; use WithForwardOnly to audit its outputs")
	}
	return nil
}

// newProgress returns a function to call after each part of an audit, and after each of some more.
func (a *Auditor) newProgress(more int) func() {
	if a.config.report == nil {
		return func() {}
	}
	done, total := 0, len(a.orbits)+more
	if !a.config.forward {
		for _, o := range a.orbits {
			total += o.batches() * len(questions(a.config.directions))
		}
	}
	return func() {
		done++
		a.config.report(done, total)
	}
}

// Close frees the copy of the weights, the moved probes and the compiled programs.
func (a *Auditor) Close() {
	if a.closed {
		return
	}
	a.closed = true
	if a.network != nil {
		a.network.Close()
	}
	a.double.close()
	if a.distance != nil {
		a.distance.Finalize()
	}
	for _, o := range a.orbits {
		o.close()
	}
	a.free()
}
