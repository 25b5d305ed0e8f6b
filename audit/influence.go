package audit

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

// estimator names how an influence value was computed: conjugate gradients for each right-hand side, corrected by the
// residuals of both sides.
const estimator = "cg"

// lambdaSteps is the number of products spent on lambda_max when lambda is a multiple of it, and lambdaSeed fixes them.
const (
	lambdaSteps = 20
	lambdaSeed  = 1
)

// lambda returns the damping of this audit.
func (a *Auditor) lambda() (float64, error) {
	if !a.config.damping.relative {
		return a.config.damping.value, nil
	}
	eta, _, err := a.metric(a.orbits[0], 0)
	if err != nil {
		return 0, err
	}
	largest, err := solver.LargestEigenvalue(eta, lambdaSteps, lambdaSeed)
	if err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	if !(largest > 0) {
		return 0, fmt.Errorf("audit: the largest eigenvalue of the metric is %g, so lambda cannot be a multiple of it; does the output depend on trainable parameters?", largest)
	}
	return largest * a.config.damping.value, nil
}

// metric returns eta of a batch, with the batch.
func (a *Auditor) metric(o *orbit, batch int) (solver.Operator, *tensors.Tensor, error) {
	x, err := rows(o.inputs[0], batch*o.batchSize, (batch+1)*o.batchSize)
	if err != nil {
		return nil, nil, fmt.Errorf("audit: %w", err)
	}
	scale := 1.0
	if !a.config.sum {
		scale = 1 / float64(x.Size()) // outputs have the shape of inputs
	}
	return a.network.Metric(x, scale), x, nil
}

// influence solves for all gradients of a batch's orbit and pairs x with g.x.
func (a *Auditor) influence(ctx context.Context, o *orbit, batch int, lambda float64, at Moment) ([]InfluenceRow, SolveRow, error) {
	start := time.Now()
	eta, x, err := a.metric(o, batch)
	if err != nil {
		return nil, SolveRow{}, err
	}
	defer x.FinalizeAll() //nolint:errcheck // freeing host memory; a failure changes no result
	gradients, err := a.orbitGradients(ctx, o, batch)
	if err != nil {
		return nil, SolveRow{}, err
	}
	solution, err := solver.ConjugateGradient(ctx, eta, lambda, gradients, a.config.solve)
	if err != nil {
		return nil, SolveRow{}, fmt.Errorf("audit: group %s, batch %d: %w", o.group.Name, batch, err)
	}
	pairs := a.pairs(o, batch, lambda, at, newInnerProducts(gradients, solution))
	count, _ := gradients.Dims()
	scaleName := "mean"
	if a.config.sum {
		scaleName = "sum"
	}
	return pairs, SolveRow{
		Moment: at, GroupName: o.group.Name, Batch: int32(batch), Metric: "ntk", MetricScale: scaleName,
		Lambda: lambda, LambdaMax: solution.Largest, DType: a.network.DType().String(), Estimator: estimator,
		RHS: int32(count), BlockSize: 1, Iterations: int32(solution.Iterations), Products: solution.Products,
		MaxTrueResidual: solution.MaxRelative(), Status: solution.Status, Seconds: time.Since(start).Seconds(),
	}, nil
}

// orbitGradients returns dC_{g.x_n} as rows, element by element, sample by sample within an element.
func (a *Auditor) orbitGradients(ctx context.Context, o *orbit, batch int) (*mat.Dense, error) {
	gradients := mat.NewDense(len(o.elements)*o.batchSize, a.network.Dim(), nil)
	for e, element := range o.elements {
		for n := range o.batchSize {
			if err := context.Cause(ctx); err != nil {
				return nil, fmt.Errorf("audit: %w", err)
			}
			sample := batch*o.batchSize + n
			x, err := rows(o.inputs[e], sample, sample+1)
			if err != nil {
				return nil, fmt.Errorf("audit: %w", err)
			}
			y, err := rows(o.targets[e], sample, sample+1)
			if err != nil {
				return nil, fmt.Errorf("audit: %w", err)
			}
			row := gradients.RawRowView(e*o.batchSize + n)
			if _, err := a.network.Gradient(row, x, y); err != nil {
				return nil, fmt.Errorf("audit: %w", err)
			}
			if norm := floats.Norm(row, 2); math.IsNaN(norm) || math.IsInf(norm, 0) {
				return nil, fmt.Errorf("audit: the gradient at sample %d moved by %s is not finite; has training diverged?", sample, element.Name())
			}
			if err := x.FinalizeAll(); err != nil {
				return nil, fmt.Errorf("audit: %w", err)
			}
			if err := y.FinalizeAll(); err != nil {
				return nil, fmt.Errorf("audit: %w", err)
			}
		}
	}
	return gradients, nil
}

// innerProducts evaluates g_i^T A^-1 g_j from solutions X and residuals R of A X = G - R. With both sides solved,
//
//	g_i^T A^-1 g_j = x_i^T g_j + r_i^T x_j + r_i^T A^-1 r_j,
//
// and dropping the last term leaves an error of second order in the residuals.
type innerProducts struct {
	gradients *mat.Dense
	solution  *solver.Solution
	self      []float64 // g_i^T A^-1 g_i
}

func newInnerProducts(gradients *mat.Dense, solution *solver.Solution) *innerProducts {
	p := &innerProducts{gradients: gradients, solution: solution}
	count, _ := gradients.Dims()
	for i := range count {
		p.self = append(p.self, p.between(i, i))
	}
	return p
}

func (p *innerProducts) between(i, j int) float64 {
	return floats.Dot(p.solution.X.RawRowView(i), p.gradients.RawRowView(j)) +
		floats.Dot(p.solution.Residual.RawRowView(i), p.solution.X.RawRowView(j))
}

// cosine is nil where a gradient vanishes. Rounding beyond [-1, 1], where the exact value lies, is cut off.
func (p *innerProducts) cosine(i, j int, between float64) *float64 {
	if !(p.self[i] > 0) || !(p.self[j] > 0) {
		return nil
	}
	cosine := min(1, max(-1, between/math.Sqrt(p.self[i])/math.Sqrt(p.self[j])))
	return &cosine
}

// pairs lays out one row for each element and ordered pair of samples.
func (a *Auditor) pairs(o *orbit, batch int, lambda float64, at Moment, products *innerProducts) []InfluenceRow {
	n := o.batchSize
	pairs := make([]InfluenceRow, 0, len(o.elements)*n*n)
	for e, element := range o.elements {
		dy, dx := element.Shift()
		first, squares := len(pairs), 0.0
		for row := range n {
			for col := range n {
				value := products.between(row, e*n+col)
				squares += value * value
				pairs = append(pairs, InfluenceRow{
					Moment: at, Class: o.samples[batch*n+row].Class, Batch: int32(batch),
					GroupName: o.group.Name, Element: element.Name(), ShiftY: dy, ShiftX: dx,
					RowSample: int32(row), ColSample: int32(col), Lambda: lambda, Influence: value,
					Cosine: products.cosine(row, e*n+col, value), Estimator: estimator,
				})
			}
		}
		if norm := math.Sqrt(squares); norm > 0 {
			for i := first; i < len(pairs); i++ {
				scaled := pairs[i].Influence / norm
				pairs[i].FrobeniusScaled = &scaled
			}
		}
	}
	return pairs
}
