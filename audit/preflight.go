package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

// Forecast is what an audit takes at least. How many products a solve needs is known only when its intervals are narrow enough:
// small lambda and narrow tolerances take many times these.
type Forecast struct {
	Gradients   int64         // of single samples' losses
	Products    int64         // with a metric: two for each gradient, and those for lambda_max
	ProductTime time.Duration // of one, when it was tried; 0 where products do not run the network
	Bytes       int64         // of vectors in the largest solve, gradients included, after eight products of each; or the limit if that is less
}

// Preflight checks, with the weights there are now, what would make audits fail or mean nothing, and says what an audit will
// cost. It takes a product and a few evaluations, and compiles what the audits need anyway. The error joins all faults found:
//
//   - an operation without a forward derivative, or a gradient that is not the adjoint of the derivative, with its layer;
//   - outputs that differ between two evaluations of the same states: randomness or state in evaluation mode;
//   - outputs of a sample that depend on the others of its batch;
//   - probes that behave as if other channels were the components of a vector, or rows grew the other way, in as far as a law
//     of the vector alone, or of scalars alone, does not leave that open;
//   - outputs of another shape than the targets need, or that are not finite;
//   - a loss that cannot be computed from one label and one output, is not finite at a moved probe, or has no gradient at any.
//
// It warns, in the log, of a loss that is not the mean of its samples': influence is that of single samples.
func (a *Auditor) Preflight(ctx context.Context) (Forecast, error) {
	if err := a.load(); err != nil {
		return Forecast{}, err
	}
	var faults []error
	outputs := 0 // of a sample
	for _, o := range a.orbits {
		if err := context.Cause(ctx); err != nil {
			return Forecast{}, fmt.Errorf("audit: %w", err)
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
	if err := a.checkGradient(); err != nil && !slices.ContainsFunc(faults, func(known error) bool { return known.Error() == err.Error() }) {
		faults = append(faults, err)
	}
	for _, o := range a.orbits {
		if len(faults) > 0 {
			break // of a model that fails, or whose outputs are no numbers, so will the loss
		}
		if err := a.checkLoss(ctx, o); err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return Forecast{}, err
	}
	return a.predict(ctx, outputs)
}

// checkGradient refuses, in the first audit, a model whose reverse-mode gradient is not the adjoint of its derivative:
// solves with such a metric may converge, to influence that means nothing.
func (a *Auditor) checkGradient() (err error) {
	if a.checked || a.config.forward {
		return nil
	}
	// A batch as audits use it, of the last element: a gradient may be right for one sample and wrong for two.
	o := a.orbits[0]
	one, err := o.states(len(o.elements)-1, 0, o.batchSize)
	if err != nil {
		return err
	}
	defer one.freeAfter(&err)
	report, err := a.network.With(one.further...).CheckGradient(one.x)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if a.config.dtype == dtypes.Float32 {
		single := report
		if report, err = a.checkInDouble(one, single); err != nil {
			return err
		}
		if !single.OK() && report.OK() {
			return fmt.Errorf("audit: the model's derivatives are lost in rounding in float32 (adjoint error %.2g), and right in float64: audit in that (WithDType), or use other units", single.Error)
		}
	}
	if math.IsNaN(report.Error) {
		return errors.New("audit: the model's derivatives at the probes are not finite; has training diverged?")
	}
	if !report.OK() {
		return fmt.Errorf("audit: the model's gradient is wrong (adjoint error %.2g, rounding explains %.0e), and training and influence need a right one: %s", report.Error, report.Limit, report.FaultsString())
	}
	a.checked = true
	return nil
}

// checkInDouble repeats a check in double precision: a fault in a path that contributes little, as those before a last layer that began
// at zero, is less than what rounding explains in single precision, and numbers near its limits look like a fault. Of a model that does not follow
// the dtype of its input nothing more can be said than was found.
func (a *Auditor) checkInDouble(one states, single solver.GradientReport) (solver.GradientReport, error) {
	double, err := solver.NewNetwork(a.backend, a.config.modelFn, a.config.lossFn, dtypes.Float64)
	if err != nil {
		return single, fmt.Errorf("audit: %w", err)
	}
	defer double.Close()
	if err := double.Load(a.config.source.Store()); err != nil {
		return single, fmt.Errorf("audit: %w", err)
	}
	var further []*tensors.Tensor
	defer func() { _ = freeAll(further...) }() // nothing can be done about it
	for _, t := range one.further {
		if t, err = follow(t, dtypes.Float64); err != nil {
			return single, fmt.Errorf("audit: %w", err)
		}
		further = append(further, t)
	}
	report, err := double.With(further...).CheckGradient(one.x)
	if err != nil {
		return single, nil //nolint:nilerr // it does not follow the dtype
	}
	return report, nil
}

// checkOutputs evaluates a group's states twice, and then each of a batch's places with the first of them. outputs is the number
// that the model has for a sample.
func (a *Auditor) checkOutputs(o *orbit) (outputs int, err error) {
	x := o.inputs[0]
	n := x.Shape().Dimensions[0]
	first, err := a.evaluate(x, o.further)
	if err != nil {
		return 0, err
	}
	if !a.config.invariant && len(first) != o.targets[0].Size() || len(first)%n != 0 {
		return 0, fmt.Errorf("audit: the model maps %s to %d values and its targets are %s; it must return these, and they be declared if they are no states like the input (WithOutputField, WithInvariantOutput)", x.Shape(), len(first), o.targets[0].Shape())
	}
	outputs = len(first) / n
	if slices.ContainsFunc(first, func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }) {
		return 0, errors.New("audit: the model's outputs on the probes are not finite; has training diverged, or do the probes hold such values?")
	}
	second, err := a.evaluate(x, o.further)
	if err != nil {
		return 0, err
	}
	if !slices.Equal(first, second) {
		return 0, errors.New("audit: two evaluations of the same states differ: the model is random or keeps state in evaluation mode; make dropout and noise depend on GoMLX's training mode, or audit a function without them")
	}
	if n == 1 {
		return outputs, nil
	}
	repeated := func(t *tensors.Tensor) (*tensors.Tensor, error) {
		same, err := rows(t, 0, n)
		if err == nil {
			err = same.MutableBytes(func(all []byte) {
				for i := 1; i < n; i++ {
					copy(all[i*len(all)/n:(i+1)*len(all)/n], all[:len(all)/n])
				}
			})
		}
		if err != nil {
			err = fmt.Errorf("audit: %w", err)
		}
		return same, err
	}
	var same states
	defer func() { err = errors.Join(err, same.free()) }()
	if same.x, err = repeated(x); err != nil {
		return 0, err
	}
	for _, t := range o.further {
		if t, err = repeated(t); err != nil {
			return 0, err
		}
		same.further = append(same.further, t)
	}
	alone, err := a.evaluate(same.x, same.further)
	if err != nil {
		return 0, err
	}
	size := outputs
	difference, norm := 0.0, 0.0
	for i := range size {
		difference, norm = math.Hypot(difference, first[i]-alone[i]), math.Hypot(norm, first[i])
	}
	const rounding = 1e-4 // of float32, in another order of sums
	if difference > rounding*norm {
		return 0, fmt.Errorf("audit: a sample's output changes by %.2g of itself with the others of its batch: the model mixes samples, by batch statistics for instance; influence is that of single samples, so make it evaluate them alone", difference/norm)
	}
	return outputs, nil
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
				return fmt.Errorf("audit: %w", err)
			}
			loss, err := a.loss(o, e, i)
			if err != nil {
				return fmt.Errorf("audit: the loss fails on the probes; it gets one label, the probe's target %s, and one output: %w", o.targets[e].Shape(), err)
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
	if !near(mean) && !near(sum) {
		a.config.log.Warn().Str("group", o.group.Name).Float64("batch", batch).Float64("mean_of_samples", mean).
			Msg("the loss of a batch is not that of its samples, which it compares or weighs: influence is of each sample's own loss")
	}
	if a.config.forward {
		return nil
	}
	for i := range o.batchSize {
		gradient, err := a.gradient(ctx, o, 0, i)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		if floats.Norm(gradient, 2) > 0 {
			return nil
		}
	}
	return errors.New("audit: the gradient of the loss is zero at every sample of a batch, so that there is no influence: does the loss of a single sample depend on the model's output, and this on trainable parameters?")
}

// batchLoss is that of the first batch, unmoved.
func (a *Auditor) batchLoss(o *orbit) (loss float64, err error) {
	batch, err := o.states(0, 0, o.batchSize)
	if err != nil {
		return 0, err
	}
	defer batch.freeAfter(&err)
	if loss, err = a.network.With(batch.further...).Loss(batch.x, batch.y); err != nil {
		return 0, fmt.Errorf("audit: the loss of a batch fails: %w", err)
	}
	return loss, nil
}

// evaluate returns the model's outputs.
func (a *Auditor) evaluate(x *tensors.Tensor, further []*tensors.Tensor) ([]float64, error) {
	output, err := a.network.With(further...).Predict(x)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	values, err := solver.Values(output)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return values, nil
}

// predict times a product and counts the rest.
func (a *Auditor) predict(ctx context.Context, outputs int) (c Forecast, err error) {
	if a.config.forward {
		return c, nil
	}
	for _, o := range a.orbits {
		block := len(o.elements) * o.batchSize
		c.Gradients += int64(block * o.batches())
		if a.config.metric != Identity {
			c.Products += int64(lambdaSteps * o.batches())
		}
		c.Bytes = max(c.Bytes, min(a.config.solve.MaxBytes, solver.BlockBytes(block, a.network.Dim(), 8)))
	}
	c.Products += 2 * c.Gradients
	if !a.multipliesNetwork() {
		return c, nil
	}
	o := a.orbits[0]
	batched, err := o.states(0, 0, o.batchSize)
	if err != nil {
		return c, err
	}
	defer batched.freeAfter(&err)
	v, image := mat.NewDense(1, a.network.Dim(), nil), mat.NewDense(1, a.network.Dim(), nil)
	v.Set(0, 0, 1)
	eta, err := a.eta(batched, outputs, func(i int) ([]float64, error) { return a.gradient(ctx, o, 0, i) })
	if err != nil {
		return c, err
	}
	var took time.Duration
	for range 2 { // compiling is not counted
		start := time.Now()
		if err := eta.Apply(image, v); err != nil {
			return c, fmt.Errorf("audit: %w", err)
		}
		took = time.Since(start)
	}
	c.ProductTime = took
	return c, nil
}
