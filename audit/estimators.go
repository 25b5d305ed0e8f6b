package audit

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

// Estimator is a way to compute influence. Every row names its own.
type Estimator string

const (
	// Block solves the gradients of an orbit together and returns an interval with every value; solver.BilinearForms.
	Block Estimator = "block"
	// CGResidual runs conjugate gradients for each gradient to a relative residual, and certifies nothing: what the paper
	// does. For comparison.
	CGResidual Estimator = "cg-residual"
	// Subspace restricts the metric to the span of the batch's own gradients, and certifies nothing: what the newer code of
	// the paper's authors does. For comparison.
	Subspace Estimator = "subspace"
)

// Metric is what eta is.
type Metric string

const (
	// NTK is the sum of J^T J over the batch, J the Jacobian of a sample's output in the parameters: the paper's metric.
	NTK Metric = "ntk"
	// GGN is the generalised Gauss-Newton matrix: the sum of J^T H J, H the Hessian of a sample's cost in its output.
	GGN Metric = "ggn"
	// Fisher is the sum of the outer products of the samples' cost gradients, the empirical Fisher matrix.
	Fisher Metric = "fisher"
	// Identity ignores the network: eta is 0 and lambda 1, so that influence is the inner product of gradients.
	Identity Metric = "identity"
)

// estimate is what an estimator found for the gradients of a batch: forms by lambda and pair of right-hand sides.
type estimate interface {
	Form(l, i, j int) solver.Interval
	Cosine(l, i, j int) (solver.Interval, bool)
}

// largestSketch is the rank beyond which a sketch saves no more products.
const largestSketch = 400

// newSketches gives every batch of every group a sketch, if memory allows one of the rank of an orbit's gradients. The groups
// on the same probes share a metric but no gradients, and what one's have shown of it is of little use to the other's.
func (a *Auditor) newSketches() error {
	if !a.config.recycling || a.config.forward || a.config.estimator != Block || !a.multipliesNetwork() {
		return nil
	}
	count := 0
	for _, o := range a.orbits {
		count += o.batches()
	}
	const double, share = 8, 8   // bytes; an eighth of the limit
	most := int64(max(4, count)) // a solve reserves four times its own
	rank := a.config.solve.MaxBytes / share / double / int64(a.network.Dim()) / most
	for _, o := range a.orbits {
		for len(o.sketches) < o.batches() && rank >= int64(len(o.elements)*o.batchSize) {
			sketch, err := solver.NewSketch(int(min(largestSketch, rank)))
			if err != nil {
				return fmt.Errorf("audit: %w", err)
			}
			o.sketches = append(o.sketches, sketch)
		}
	}
	return nil
}

// multipliesNetwork reports whether products with the metric run the network; those of the others are cheap, in float64 on
// the host.
func (a *Auditor) multipliesNetwork() bool { return a.config.metric == NTK || a.config.metric == GGN }

// cost is how an estimate was come by.
type cost struct {
	largest    float64 // eigenvalue of eta
	residual   float64 // relative, measured
	products   int64
	setup      int64 // products
	iterations int
	block      int
	sketch     int       // rank recycled
	halfWidths []float64 // by lambda; nil where nothing is certified
	status     string
}

// estimate runs the configured estimator on the gradients of an orbit, those at x first. largest is the largest eigenvalue
// of eta where it is known, or 0; sketch, if not nil, what is recycled.
func (a *Auditor) estimate(ctx context.Context, eta solver.Operator, largest float64, sketch *solver.Sketch, lambdas []float64, gradients *mat.Dense, samples int) (estimate, cost, error) {
	switch a.config.estimator {
	case CGResidual:
		return a.conjugateGradients(ctx, eta, lambdas, gradients)
	case Subspace:
		forms, residual, ritz, err := solver.SubspaceForms(eta, lambdas, gradients, samples)
		return plainForms(forms), cost{largest: ritz, residual: residual, products: int64(samples), iterations: 1, block: samples, status: Converged}, err
	}
	options := a.config.solve
	options.Lambdas, options.Rows, options.LambdaMax, options.Sketch = lambdas, samples, largest, sketch
	if a.multipliesNetwork() {
		options.Roundoff = roundoff(a.network.DType())
	}
	forms, err := solver.BilinearForms(ctx, eta, gradients, options)
	if err != nil {
		return nil, cost{}, err
	}
	c := cost{
		largest: forms.LambdaMax, residual: forms.Residual, products: forms.Products, setup: forms.Setup, iterations: forms.Iterations,
		block: forms.BlockSize, sketch: forms.SketchRank, status: forms.Status,
	}
	for l := range lambdas {
		c.halfWidths = append(c.halfWidths, forms.HalfWidth(l))
	}
	a.config.log.Debug().Int("block", forms.BlockSize).Int("parts", forms.Parts).Int64("products", forms.Products).Int64("bytes", forms.Bytes).Int("sketch_rank", forms.SketchRank).
		Float64("half_width", forms.HalfWidth(0)).Str("status", forms.Status).Msg("solved")
	return forms, c, nil
}

// Converged is the status of a solve that reached what was asked for.
const Converged = "converged"

func (a *Auditor) conjugateGradients(ctx context.Context, eta solver.Operator, lambdas []float64, gradients *mat.Dense) (estimate, cost, error) {
	total := cost{block: 1, status: Converged}
	var forms plainForms
	for _, lambda := range lambdas {
		solution, err := solver.ConjugateGradient(ctx, eta, lambda, gradients,
			solver.Options{Tolerance: a.config.solve.Tolerance, MaxProducts: a.config.solve.MaxProducts})
		if err != nil {
			return nil, cost{}, err
		}
		var form mat.Dense
		form.Mul(solution.X, gradients.T())
		forms = append(forms, &form)
		total.largest, total.residual = max(total.largest, solution.Largest), max(total.residual, solution.MaxRelative())
		total.products += solution.Products
		total.iterations = max(total.iterations, solution.Iterations)
		if !solution.Converged {
			total.status = solution.Status
		}
	}
	return forms, total, nil
}

// plainForms are values without bounds, by lambda.
type plainForms []*mat.Dense

func (f plainForms) Form(l, i, j int) solver.Interval {
	return solver.Interval{Value: f[l].At(i, j), Low: math.Inf(-1), High: math.Inf(1)}
}

func (f plainForms) Cosine(l, i, j int) (solver.Interval, bool) {
	left, right := f[l].At(i, i), f[l].At(j, j)
	if !(left > 0) || !(right > 0) {
		return solver.Interval{}, false
	}
	value := f[l].At(i, j) / math.Sqrt(left) / math.Sqrt(right)
	return solver.Interval{Value: min(1, max(-1, value)), Low: math.Inf(-1), High: math.Inf(1)}, true
}

// eta returns the metric of a batch x with targets y; gradients are those of the orbit, the batch's own first.
func (a *Auditor) eta(b states, gradients *mat.Dense) (solver.Operator, error) {
	samples := float64(b.x.Shape().Dimensions[0])
	perSample := 1 / samples
	perOutput := perSample / float64(a.outputs)
	if a.config.sum {
		perSample, perOutput = 1, 1
	}
	switch a.config.metric {
	case NTK:
		return a.network.With(b.further...).Metric(b.x, perOutput), nil
	case GGN:
		return a.network.With(b.further...).GaussNewton(b.x, b.y, perSample), nil
	case Fisher:
		return solver.OuterProducts(gradients.Slice(0, int(samples), 0, a.network.Dim()).(*mat.Dense), perSample), nil
	case Identity:
		return solver.Zero(a.network.Dim()), nil
	}
	return nil, fmt.Errorf("audit: unknown metric %q; use %s, %s, %s or %s", a.config.metric, NTK, GGN, Fisher, Identity)
}

// lambdaSteps is the number of products spent on lambda_max when lambda is a multiple of it, and lambdaSeed fixes them.
const (
	lambdaSteps = 20
	lambdaSeed  = 1
)

// lambdas returns the dampings of this audit, ascending, with the largest eigenvalue of eta and the products spent on it, or
// 0 where it was not needed.
func (a *Auditor) lambdas(eta solver.Operator) (values []float64, largest float64, products int64, err error) {
	values = slices.Clone(a.config.damping.values)
	switch {
	case a.config.metric == Identity:
		return []float64{1}, 0, 0, nil
	case !a.config.damping.relative:
		return values, 0, 0, nil
	}
	largest, products, err = solver.LargestEigenvalue(eta, lambdaSteps, lambdaSeed)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("audit: %w", err)
	}
	if !(largest > 0) {
		return nil, 0, 0, fmt.Errorf("audit: the largest eigenvalue of the metric is %g, so lambda cannot be a multiple of it; does the output depend on trainable parameters?", largest)
	}
	floats.Scale(largest, values)
	return values, largest, products, nil
}
