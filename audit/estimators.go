package audit

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// Estimator is a way to compute influence. Every row names its own.
type Estimator string

// Certifies reports whether an estimator encloses its values: a value without an interval is then one of which nothing is known.
func (e Estimator) Certifies() bool { return e == Block }

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
	// MetricNTK is the sum of J^T J over the batch, J the Jacobian of a sample's output in the parameters: the paper's metric.
	MetricNTK Metric = "ntk"
	// MetricGGN is the generalised Gauss-Newton matrix: the sum of J^T H J, H the Hessian of a sample's cost in its output.
	MetricGGN Metric = "ggn"
	// MetricFisher is the sum of the outer products of the samples' cost gradients, the empirical Fisher matrix.
	MetricFisher Metric = "fisher"
	// MetricIdentity ignores the network: eta is 0 and lambda 1, so that influence is the inner product of gradients.
	MetricIdentity Metric = "identity"
	// MetricOptimizer is what the optimizer's next step makes of a small gradient (Builder.WithOptimizer): eta + lambda is diagonal, the inverse of the factors by
	// which each weight's gradient moves it, so that influence is by how much a step on x lowers the loss at g.x, to first order.
	MetricOptimizer Metric = "optimizer"
)

// MetricScale says whether eta is a mean over the samples of a batch or their sum.
type MetricScale string

const (
	// MetricMean divides by the number of samples, and for MetricNTK also by the outputs of each (the cost that the others derive from
	// is a mean over them already), so that lambda means the same for every batch and grid.
	MetricMean MetricScale = "mean"
	// MetricSum is the plain sum, the paper's equation.
	MetricSum MetricScale = "sum"
)

// estimate is what an estimator found for the gradients of a batch: forms by lambda and pair of right-hand sides.
type estimate interface {
	Form(l, i, j int) solver.Interval
	Cosine(l, i, j int) (solver.Interval, bool)
}

// multipliesNetwork reports whether products with the metric run the network; those of the others are cheap, in float64 on
// the host.
func (a *Auditor) multipliesNetwork() bool {
	return a.config.metric == MetricNTK || a.config.metric == MetricGGN
}

// Converged is the status of a solve that reached what was asked for; package solver has the others.
const Converged = solver.Converged

// problem is the forms that an estimator is to find: those of the gradients of an orbit, those at x first, in the metric eta.
type problem struct {
	eta      solver.Operator
	largest  float64 // eigenvalue of eta; 0 for a metric that is 0
	lambdas  []float64
	count    int // gradients
	samples  int // those at x
	gradient func(dst []float64, i int) (off float64, err error)
	// productError is what a product of a vector of norm 1 may be off by, relative to largest, where that is known to be more than its
	// precision says.
	productError float64
	solution     func(l, i int, x []float64, apart float64) error // solver.FormOptions.Solution
	spectrum     bool                                             // solver.FormOptions.Spectrum
}

// all are the first gradients as the rows of a matrix.
func (p problem) all(count int) (*mat.Dense, error) {
	rows := mat.NewDense(count, p.eta.Dim(), nil)
	for i := range count {
		if _, err := p.gradient(rows.RawRowView(i), i); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// estimate runs the configured estimator. The statistics are by lambda.
func (a *Auditor) estimate(ctx context.Context, p problem) (estimate, []solver.Statistics, error) {
	switch a.config.estimator {
	case CGResidual:
		return a.conjugateGradients(ctx, p)
	case Subspace:
		if err := a.fits(p, 2*p.count+p.samples); err != nil {
			return nil, nil, err
		}
		gradients, err := p.all(p.count)
		if err != nil {
			return nil, nil, err
		}
		forms, statistics, err := solver.SubspaceForms(p.eta, p.lambdas, gradients, p.samples)
		return plainForms(forms), statistics, err
	}
	forms, err := a.block(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	var statistics []solver.Statistics
	for l := range p.lambdas {
		statistics = append(statistics, forms.Statistics(l))
	}
	return forms, statistics, nil
}

// block runs that estimator.
func (a *Auditor) block(ctx context.Context, p problem) (*solver.Forms, error) {
	options := a.config.solve
	options.Lambdas, options.Rows = p.lambdas, p.samples
	options.Solution, options.Spectrum = p.solution, p.spectrum
	options.LambdaMax = p.largest * solver.LargestEigenvalueExcess(p.eta.Dim(), lambdaSteps)
	if a.multipliesNetwork() {
		options.Roundoff = roundoff(a.network.DType())
	}
	options.ProductError = p.productError
	options.MaxBytes -= keptBytes(p.eta)
	eta := p.eta
	if factor, ok := eta.(*network.Factor); ok && a.resident {
		var err error
		if eta, err = factor.Resident(); err != nil {
			return nil, cause.In("audit", err)
		}
	}
	forms, err := solver.BilinearFormsOf(ctx, eta, p.count, p.gradient, options)
	if err != nil {
		return nil, err
	}
	a.config.log.Debug().Int("block", forms.BlockSize).Int("parts", forms.Parts).Int64("products", forms.Products).Float64("mib", mib(forms.Bytes)).Float64("primal_mib", mib(keptBytes(p.eta))).
		Float64("half_width", forms.HalfWidth(0)).Str("status", string(forms.Statistics(0).Status)).Msg("solved")
	return forms, nil
}

// fits refuses a solve that cannot be done in parts and holds more vectors than the memory limit has room for.
func (a *Auditor) fits(p problem, vectors int) error {
	const double = 8 // bytes
	if need := double * int64(vectors) * int64(p.eta.Dim()); need > a.config.solve.MaxBytes {
		return &SettingError{"max_bytes", fmt.Sprintf("allows %.3g MiB, and estimator %s holds %.3g MiB of vectors for %d gradients; raise it, use fewer probes, or estimator %s, which solves in parts",
			mib(a.config.solve.MaxBytes), a.config.estimator, mib(need), p.count, Block)}
	}
	return nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func (a *Auditor) conjugateGradients(ctx context.Context, p problem) (estimate, []solver.Statistics, error) {
	if err := a.fits(p, 6*p.count); err != nil { // gradients, solutions, residuals, directions, their images
		return nil, nil, err
	}
	gradients, err := p.all(p.count)
	if err != nil {
		return nil, nil, err
	}
	var forms plainForms
	var statistics []solver.Statistics
	for _, lambda := range p.lambdas {
		solution, err := solver.ConjugateGradient(ctx, p.eta, lambda, gradients,
			solver.Options{Tolerance: a.config.solve.Tolerance, MaxProducts: a.config.solve.MaxProducts, Roundoff: roundoff(a.network.DType())})
		if err != nil {
			return nil, nil, err
		}
		var form mat.Dense
		form.Mul(solution.X, gradients.T())
		forms = append(forms, &form)
		statistics = append(statistics, solution.Statistics(lambda))
	}
	return forms, statistics, nil
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

// eta returns the metric over some states, of a model with so many outputs for a sample; gradient is the one at each of them. Primal values that
// products need again and again are kept where they take at most so many bytes. free is to be called when it is no longer needed.
func (a *Auditor) eta(b states, outputs int, most int64, gradient func(dst []float64, i int) error) (eta solver.Operator, free func() error, err error) {
	if a.multipliesNetwork() {
		metric, err := a.metric(a.network.With(b.further...), b, outputs, most)
		if err != nil {
			return nil, nil, err
		}
		return metric, metric.Close, nil
	}
	free = func() error { return nil }
	if a.config.metric == MetricIdentity || a.config.metric == MetricOptimizer { // of right-hand sides that are scaled, then
		return solver.Zero(a.network.Dim()), free, nil
	}
	samples := b.x.Shape().Dimensions[0]
	gradients := mat.NewDense(samples, a.network.Dim(), nil)
	for i := range samples {
		if err := gradient(gradients.RawRowView(i), i); err != nil {
			return nil, nil, cause.In("audit", err)
		}
	}
	return solver.OuterProducts(gradients, a.perSample(b)), free, nil
}

// perSample is the weight of a sample in eta.
func (a *Auditor) perSample(b states) float64 {
	if a.config.scale == MetricSum {
		return 1
	}
	return 1 / float64(b.x.Shape().Dimensions[0])
}

// dimensions are those of the vectors of a share's solve.
func (a *Auditor) dimensions(s share, outputs int) (d solver.Dimensions, err error) {
	metric, err := s.states()
	if err != nil {
		return d, err
	}
	defer metric.freeAfter(&err)
	d.Dim = a.network.Dim()
	if a.config.metric == MetricNTK {
		d.Rows, d.Roundoff = metric.x.Shape().Dimensions[0]*outputs, roundoff(a.network.DType())
	}
	return d, nil
}

// isAccelerator reports whether a backend has memory of its own, from which long vectors are better not fetched.
func isAccelerator(backend compute.Backend) bool {
	xla, ok := backend.(interface{ PluginName() string })
	return ok && xla.PluginName() != "cpu"
}

// products are those with a metric that multiplies the network: a solver.Factor, too, where it is ntk.
type products interface {
	solver.Operator
	Linearised() bool // its primal values are kept
	Bytes() int64     // which takes so many
	Close() error
}

// metric is NTK or GGN of a batch in a network's precision.
func (a *Auditor) metric(net *network.Network, b states, outputs int, most int64) (products, error) {
	scale := a.perSample(b)
	if a.config.metric == MetricGGN {
		return net.GaussNewton(b.x, scale, most, b.labels...)
	}
	if a.config.scale == MetricMean {
		scale /= float64(outputs)
	}
	return net.Factor(b.x, scale, most)
}

// residualBytes are what the memory limit leaves for primal values that are kept, beside the vectors of a solve for k right-hand sides: half of
// it at least, for these can be dealt out to parts; nothing where an estimator cannot do that.
func (a *Auditor) residualBytes(d solver.Dimensions, k int) int64 {
	if a.config.estimator != Block {
		return 0
	}
	limit := a.config.solve.MaxBytes
	return limit - min(limit/2, d.Bytes(k, 8))
}

// keptBytes is the memory of primal values that a metric keeps.
func keptBytes(eta solver.Operator) int64 {
	if kept, ok := eta.(products); ok && kept.Linearised() {
		return kept.Bytes()
	}
	return 0
}

// checkConvex refuses the metric GGN of a loss that is not convex in the model's outputs at a batch: eta is then not positive, and
// its intervals mean nothing.
func (a *Auditor) checkConvex(b states) error {
	if a.config.metric != MetricGGN {
		return nil
	}
	const steps = 30 // of the loss alone
	smallest, largest, err := a.network.With(b.further...).LossCurvature(b.x, steps, b.labels...)
	if err != nil {
		return cause.Say("audit: the curvature of the loss in the model's outputs: "+cause.Plain(err), err)
	}
	if largest == 0 && smallest == 0 {
		return &SettingError{"metric", "is ggn, and the loss has no second derivative in the model's outputs, so that this metric is 0; use ntk or fisher"}
	}
	if rounding := 1e3 * roundoff(a.network.DType()); smallest < -rounding*math.Abs(largest) {
		return &SettingError{"metric", fmt.Sprintf("is ggn, which needs a loss that is convex in the model's outputs, and the second derivatives of this one have an eigenvalue of %.2g or below, beside %.2g; use ntk or fisher", smallest, largest)}
	}
	return nil
}

// lambdaSteps is the number of products spent on the largest eigenvalue of a metric, and lambdaSeed fixes them.
const (
	lambdaSteps = 20
	lambdaSeed  = 1
)

// largestEigenvalue is that of eta, and the products spent on it. Every solve finds its own in the same way, so that the column
// lambda_max means one thing.
func (a *Auditor) largestEigenvalue(eta solver.Operator) (largest float64, products int64, err error) {
	if a.config.metric == MetricIdentity || a.config.metric == MetricOptimizer {
		return 0, 0, nil
	}
	largest, products, err = solver.LargestEigenvalue(eta, lambdaSteps, lambdaSeed)
	if err != nil {
		return 0, 0, err
	}
	return largest, products, nil
}

// damping holds the lambdas, ascending, absolute or as multiples of the metric's largest eigenvalue.
type damping struct {
	values   []float64
	relative bool
}

// lambdas are those for a metric with this largest eigenvalue.
func (d damping) lambdas(largest float64) ([]float64, error) {
	values := slices.Clone(d.values)
	if !d.relative {
		return values, nil
	}
	if !(largest > 0) {
		return nil, fmt.Errorf("the largest eigenvalue of the metric is %g, so lambda cannot be a multiple of it; does the output depend on trainable parameters?", largest)
	}
	floats.Scale(largest, values)
	return values, nil
}

// multiple is the l-th of lambda_max; nil where lambdas are absolute.
func (d damping) multiple(l int) *float64 {
	if !d.relative {
		return nil
	}
	return &d.values[l]
}

// absolute is the l-th lambda; nil where they are multiples.
func (d damping) absolute(l int) *float64 {
	if d.relative {
		return nil
	}
	return &d.values[l]
}
