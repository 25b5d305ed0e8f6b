package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/internal/sums"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// Forecast is what an audit takes at least. How many products a solve needs is known only when its intervals are narrow enough:
// small lambda and narrow tolerances take many times these.
type Forecast struct {
	Gradients   int64         // of single samples' losses
	Products    int64         // with a metric: two for each gradient, and those for lambda_max
	ProductTime time.Duration // of one, when it was tried; 0 where products do not run the network
	Bytes       int64         // of the largest solve, after eight products of each gradient: vectors, and primal values that are kept; or the limit if that is less
}

// Preflight checks, with the weights there are now, what would make audits fail or mean nothing, and says what an audit will
// cost. It takes a product and a few evaluations, and compiles what the audits need anyway. The error joins all faults found:
//
//   - an operation without a forward derivative, or a gradient that is not the adjoint of the derivative, in evaluation or in
//     training, with its layer;
//
//   - an XLA plugin that computes derivatives of normalisations wrongly, as that of jaxlib 0.11.2 does unless it is told not to;
//
//   - outputs that differ between two evaluations of the same states: randomness or state in evaluation mode;
//
//   - outputs of a sample that depend on the others of its batch;
//
//   - probes that behave as if other channels were the components of a vector, or rows grew the other way, in as far as a law
//     of the vector alone, or of scalars alone, does not leave that open;
//
//   - outputs of another shape than the targets need, or that are not finite;
//
//   - a loss that cannot be computed from one label and one output, is not finite at a moved probe, or has no gradient at any.
//
//   - with the metric ggn, a loss that is not convex in the outputs of a batch, or that has no second derivative in them.
//
// It warns, in the log, of a loss that is not the mean of its samples', for influence is that of single samples; of gradients that
// training stops; and of trainable variables that evaluation does not use.
func (a *Auditor) Preflight(ctx context.Context) (Forecast, error) {
	if err := a.load(); err != nil {
		return Forecast{}, err
	}
	if err := sums.Check(a.backend); err != nil {
		return Forecast{}, fmt.Errorf("audit: %w", err) // every other check would be of wrong numbers
	}
	var faults []error
	outputs := 0 // of a sample
	for _, o := range a.orbits {
		if err := context.Cause(ctx); err != nil {
			return Forecast{}, cause.In("audit", err)
		}
		var err error
		if outputs, err = a.checkOutputs(o); err != nil {
			faults = append(faults, err)
			break // the next group's would be the same
		}
	}
	for _, o := range a.orbits {
		if err := a.checkField(o); err != nil {
			faults = append(faults, err)
			break
		}
	}
	for _, check := range []func() error{a.checkUse, a.checkGradient, a.checkDerivative, a.checkTraining} {
		if err := check(); err != nil {
			if !slices.ContainsFunc(faults, func(known error) bool { return known.Error() == err.Error() }) {
				faults = append(faults, err)
			}
			break // the next would find the same
		}
	}
	for _, o := range a.orbits {
		if len(faults) > 0 {
			break // of a model that fails, or whose outputs are no numbers, so will the loss
		}
		if err := cmp.Or(a.checkLoss(ctx, o), a.checkFirstConvex(o)); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) == 0 {
		if _, err := a.rootOfResponse(); err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return Forecast{}, err
	}
	return a.predict(ctx, outputs)
}

// checkOutputs evaluates a group's states twice, and then each of a batch's places with the first of them. outputs is the number
// that the model has for a sample.
func (a *Auditor) checkOutputs(o *orbit) (outputs int, err error) {
	all := o.whole(0)
	n := len(o.samples)
	first, err := a.evaluate(all)
	if err != nil {
		return 0, err
	}
	if !a.config.invariant && len(first) != o.targets[0].Size() || len(first)%n != 0 {
		return 0, fmt.Errorf("audit: the model maps %s to %d values and its targets are %s; it must return these, and they be declared if they are no states like the input (WithOutputField, WithInvariantOutput)", all.x.Shape(), len(first), o.targets[0].Shape())
	}
	outputs = len(first) / n
	if slices.ContainsFunc(first, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }) {
		return 0, errors.New("audit: the model's outputs on the probes are not finite; has training diverged, or do the probes hold such values?")
	}
	second, err := a.evaluate(all)
	if err != nil {
		return 0, err
	}
	if !slices.Equal(first, second) {
		return 0, errors.New("audit: two evaluations of the same states differ: the model is random or keeps state in evaluation mode; make dropout and noise depend on GoMLX's training mode (scope.IsTraining), or hold its random numbers fixed (WithSeed)")
	}
	if n == 1 {
		return outputs, nil
	}
	return outputs, a.checkSamplesAlone(o, first)
}

// checkSamplesAlone compares outputs of a batch, those given, with those of each of its samples alone: influence is of single samples.
// Of a model with noise held fixed the first alone can be compared, in every place of a batch: noise goes by places.
func (a *Auditor) checkSamplesAlone(o *orbit, batch []float64) error {
	const most = 64 // samples
	all, n := o.whole(0), len(o.samples)
	size := len(batch) / n
	for i := range min(n, most) {
		alone := func() ([]float64, error) {
			one, err := o.states(0, i, i+1)
			if err != nil {
				return nil, err
			}
			defer one.freeAfter(&err)
			return a.evaluate(one)
		}
		if a.config.seed != nil {
			alone = func() ([]float64, error) {
				same, err := all.copies(func(t *tensors.Tensor) (*tensors.Tensor, error) { return repeated(t, n) })
				if err != nil {
					return nil, err
				}
				defer same.freeAfter(&err)
				outputs, err := a.evaluate(same)
				return outputs[:min(size, len(outputs))], err
			}
		}
		outputs, err := alone()
		if err != nil {
			return cause.In("audit", fmt.Errorf("the model fails on a single sample, though not on %d; audits evaluate single samples, so make it take batches of any size: %w", n, err))
		}
		if len(outputs) != size {
			return fmt.Errorf("audit: the model returns %d values for a single sample, and %d for each of %d; an output must be that of its sample", len(outputs), size, n)
		}
		within := batch[i*size : (i+1)*size]
		const rounding = 1e-4 // of float32, in another order of sums
		if apart := floats.Distance(outputs, within, 2); apart > rounding*floats.Norm(within, 2) {
			return fmt.Errorf("audit: the output of sample %d changes by %.2g of itself with the others of its batch: the model mixes samples, by batch statistics for instance; influence is that of single samples, so make it evaluate them alone", i, apart/floats.Norm(within, 2))
		}
		if a.config.seed != nil {
			break
		}
	}
	return nil
}

// repeated copies the first of n samples n times.
func repeated(batch *tensors.Tensor, n int) (*tensors.Tensor, error) {
	same, err := rows(batch, 0, n)
	if err != nil {
		return nil, err
	}
	return same, same.MutableBytes(func(all []byte) {
		for i := 1; i < n; i++ {
			copy(all[i*len(all)/n:(i+1)*len(all)/n], all[:len(all)/n])
		}
	})
}

// checkLoss computes the loss of every probe alone, moved by every element, and of a batch, as audits and trainings do. Of very many
// it computes the first.
func (a *Auditor) checkLoss(ctx context.Context, o *orbit) error {
	const most = 1000
	mean, sum := 0.0, 0.0 // of the first batch, unmoved
	for e, element := range o.elements {
		for i := range o.samples {
			if e*len(o.samples)+i >= max(most, o.batchSize) {
				break
			}
			if err := context.Cause(ctx); err != nil {
				return cause.In("audit", err)
			}
			loss, err := a.loss(o, e, i)
			if err != nil {
				if _, ofBatch := a.batchLoss(o); ofBatch == nil && o.batchSize > 1 {
					return cause.In("audit", fmt.Errorf("the loss of a single sample fails, though that of a batch does not: a loss that compares samples, as a triplet loss does, gives none of them an influence; give audit.New a loss of single samples: %w", err))
				}
				return fmt.Errorf("audit: the loss fails on the probes (%s); it gets Probes.Targets and then Probes.Labels, of one sample each, here %s, and the model's outputs", strings.TrimPrefix(cause.Plain(err), "runtime error: "), shapesOf(o.whole(e).labels))
			}
			if math.IsNaN(loss) || math.IsInf(loss, 0) {
				return fmt.Errorf("audit: the loss at probe %d moved by %s is %g; has training diverged, or does the loss take states that %s makes?", i, element.Name(), loss, o.group.Name)
			}
			if e == 0 && i < o.batchSize {
				sum += loss
			}
		}
	}
	mean = sum / float64(o.batchSize)
	batch, err := a.batchLoss(o)
	if err != nil {
		return err
	}
	const rounding = 1e-3 // of float32, and of a loss that takes a scale from its batch
	near := func(other float64) bool {
		return math.Abs(batch-other) <= rounding*max(math.Abs(batch), math.Abs(other))
	}
	if noise := a.config.seed != nil; !near(mean) && !near(sum) && !noise {
		a.config.log.Warn().Str("group", o.group.Name).Float64("batch", batch).Float64("mean_of_samples", mean).
			Msg("the loss of a batch is not that of its samples, which it compares or weighs: influence is of each sample's own loss")
	}
	if a.config.forward {
		return nil
	}
	for d := range a.config.directions {
		direction := &a.config.directions[d]
		zero, err := a.vanishes(ctx, member{o, 0, direction})
		switch {
		case err != nil:
			return err
		case !zero:
			continue
		case direction.name != LossName:
			a.config.log.Warn().Str("group", o.group.Name).Str("direction", direction.name).
				Msg("the gradient in this direction is zero at every sample of a batch: no parameter changes it, and it has no influence")
			continue
		}
		return errors.New("audit: the gradient of the loss is zero at every sample of a batch, so that there is no influence: does the loss of a single sample depend on the model's output, and this on trainable parameters? Where it compares samples, as contrastive losses do, give audit.New a loss of single samples")
	}
	return nil
}

// vanishes reports whether all gradients of a member at x are zero.
func (a *Auditor) vanishes(ctx context.Context, m member) (bool, error) {
	first, gradient := a.gradientsOf(share{m}, false), make([]float64, a.network.Dim())
	for i := range m.atX() {
		if err := first.write(ctx, gradient, i); err != nil {
			return false, cause.In("audit", err)
		}
		if floats.Norm(gradient, 2) > 0 {
			return false, nil
		}
	}
	return true, nil
}

// checkFirstConvex is checkConvex of a group's first batch.
func (a *Auditor) checkFirstConvex(o *orbit) (err error) {
	if a.config.forward {
		return nil
	}
	batch, err := share{member{orbit: o}}.states()
	if err != nil {
		return err
	}
	defer batch.freeAfter(&err)
	return a.checkConvex(batch)
}

func shapesOf(all []*tensors.Tensor) string {
	var words []string
	for _, t := range all {
		words = append(words, t.Shape().String())
	}
	return strings.Join(words, ", ")
}

// batchLoss is that of the first batch, unmoved.
func (a *Auditor) batchLoss(o *orbit) (loss float64, err error) {
	batch, err := o.states(0, 0, o.batchSize)
	if err != nil {
		return 0, err
	}
	defer batch.freeAfter(&err)
	if loss, err = a.network.With(batch.further...).Loss(batch.x, batch.labels...); err != nil {
		return 0, cause.In("audit", fmt.Errorf("the loss of a batch fails: %w", err))
	}
	return loss, nil
}

// evaluate returns the model's outputs.
func (a *Auditor) evaluate(all states) ([]float64, error) {
	output, err := a.network.With(all.further...).Predict(all.x)
	if err != nil {
		return nil, cause.In("audit", err)
	}
	values, err := network.Values(output)
	if err != nil {
		return nil, cause.In("audit", err)
	}
	return values, nil
}

// predict times a product and counts the rest.
func (a *Auditor) predict(ctx context.Context, outputs int) (c Forecast, err error) {
	if a.config.forward {
		return c, nil
	}
	shares := a.shares()
	sizes := make([]solver.Dimensions, len(shares))
	for i, s := range shares {
		c.Gradients += int64(s.gradients())
		if a.config.metric != MetricIdentity && a.config.metric != MetricOptimizer {
			c.Products += lambdaSteps
		}
		if sizes[i], err = a.dimensions(s, outputs); err != nil {
			return c, err
		}
		if need := sizes[i].LeastBytes(s.gradients(), s.atX()); a.config.estimator == Block && need > a.config.solve.MaxBytes {
			return c, &SettingError{"max_bytes", fmt.Sprintf("is %d, and one product of the smallest part of %s takes %d bytes of vectors; raise it, or use smaller batches", a.config.solve.MaxBytes, s.name(), need)}
		}
	}
	c.Products += 2 * c.Gradients
	kept := int64(0)
	if a.multipliesNetwork() {
		if c.ProductTime, kept, err = a.tryProducts(ctx, shares[0], sizes[0], outputs); err != nil {
			return c, err
		}
	}
	for i, s := range shares {
		c.Bytes = max(c.Bytes, kept+min(a.config.solve.MaxBytes-kept, sizes[i].Bytes(s.gradients(), 8)))
	}
	return c, nil
}

// tryProducts makes the products of a share's solve, which compiles them, and those in float64 that they are compared with, and times one. kept is
// the memory of the primal values that they keep.
func (a *Auditor) tryProducts(ctx context.Context, s share, sizes solver.Dimensions, outputs int) (took time.Duration, kept int64, err error) {
	metric, err := s.states()
	if err != nil {
		return 0, 0, err
	}
	defer metric.freeAfter(&err)
	ready, err := a.double.load(a, metric)
	if err != nil {
		return 0, 0, err
	}
	first := a.gradientsOf(s, ready)
	eta, free, err := a.eta(metric, outputs, a.residualBytes(sizes, s.gradients()), func(dst []float64, i int) error { return first.metric(ctx, dst, i) })
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, free()) }()
	if _, _, _, err := a.productErrors(ctx, eta, metric, outputs, 1, first); err != nil {
		return 0, 0, cause.In("audit", err)
	}
	v, image := mat.NewDense(1, a.network.Dim(), nil), mat.NewDense(1, a.network.Dim(), nil)
	v.Set(0, 0, 1)
	for range 2 { // compiling is not counted
		start := time.Now()
		if err := eta.Apply(image, v); err != nil {
			return 0, 0, cause.In("audit", err)
		}
		took = time.Since(start)
	}
	return took, keptBytes(eta), nil
}
