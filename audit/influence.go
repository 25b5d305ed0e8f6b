package audit

import (
	"context"
	"fmt"
	"math"
	"time"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

// influence estimates all pairs of x with g.x in a batch, at every lambda. lambdas, if nil, are found from this batch's
// metric first.
func (a *Auditor) influence(ctx context.Context, o *orbit, batch int, lambdas []float64, at Moment) (*Records, []float64, error) {
	start := time.Now()
	batched, err := o.states(0, batch*o.batchSize, (batch+1)*o.batchSize)
	if err != nil {
		return nil, nil, err
	}
	gradients, err := a.orbitGradients(ctx, o, batch)
	if err != nil {
		return nil, nil, err
	}
	eta, err := a.eta(batched, gradients)
	if err != nil {
		return nil, nil, err
	}
	largest, setup := 0.0, int64(0)
	if lambdas == nil {
		if lambdas, largest, setup, err = a.lambdas(eta); err != nil {
			return nil, nil, err
		}
	}
	var sketch *solver.Sketch
	if o.sketches != nil {
		sketch = o.sketches[batch]
	}
	found, cost, err := a.estimate(ctx, eta, largest, sketch, lambdas, gradients, o.batchSize)
	if err != nil {
		return nil, nil, fmt.Errorf("audit: group %s, batch %d: %w", o.group.Name, batch, err)
	}
	count, _ := gradients.Dims()
	scaleName := "mean"
	if a.config.sum {
		scaleName = "sum"
	}
	records := &Records{}
	for l, lambda := range lambdas {
		records.Influence = append(records.Influence, a.pairs(o, batch, l, lambda, at, found)...)
		row := SolveRow{
			Moment: at, GroupName: o.group.Name, Batch: int32(batch), Metric: string(a.config.metric), MetricScale: scaleName,
			Lambda: lambda, LambdaMax: cost.largest, DType: a.network.DType().String(), Estimator: string(a.config.estimator),
			RHS: int32(count), BlockSize: int32(cost.block), SketchRank: int32(cost.sketch), Iterations: int32(cost.iterations),
			MaxTrueResidual: cost.residual, Status: cost.status,
		}
		if cost.halfWidths != nil {
			row.MaxHalfWidth = &cost.halfWidths[l]
		}
		if l == 0 { // the others are by-products
			row.Products, row.SetupProducts, row.Seconds = cost.products, setup+cost.setup, time.Since(start).Seconds()
		}
		records.Solves = append(records.Solves, row)
	}
	return records, lambdas, batched.free()
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
			one, err := o.states(e, sample, sample+1)
			if err != nil {
				return nil, err
			}
			row := gradients.RawRowView(e*o.batchSize + n)
			if _, err := a.network.With(one.further...).Gradient(row, one.x, one.y); err != nil {
				return nil, fmt.Errorf("audit: %w", err)
			}
			if norm := floats.Norm(row, 2); math.IsNaN(norm) || math.IsInf(norm, 0) {
				return nil, fmt.Errorf("audit: the gradient at sample %d moved by %s is not finite; has training diverged, or is the sample or its target not finite?", sample, element.Name())
			}
			if err := one.free(); err != nil {
				return nil, err
			}
		}
	}
	return gradients, nil
}

// pairs lays out one row for each element and ordered pair of samples, at one lambda.
func (a *Auditor) pairs(o *orbit, batch, l int, lambda float64, at Moment, found estimate) []InfluenceRow {
	n := o.batchSize
	pairs := make([]InfluenceRow, 0, len(o.elements)*n*n)
	for e, element := range o.elements {
		dy, dx := element.Shift()
		first, squares := len(pairs), 0.0
		for row := range n {
			for col := range n {
				form := found.Form(l, row, e*n+col)
				squares += form.Value * form.Value
				pair := InfluenceRow{
					Moment: at, Class: o.samples[batch*n+row].Class, Batch: int32(batch),
					GroupName: o.group.Name, Element: element.Name(), ShiftY: dy, ShiftX: dx,
					RowSample: int32(row), ColSample: int32(col), Lambda: lambda, Influence: form.Value,
					Estimator: string(a.config.estimator),
				}
				pair.InfluenceLow, pair.InfluenceHigh = ends(form)
				if cosine, ok := found.Cosine(l, row, e*n+col); ok {
					pair.Cosine = &cosine.Value
					pair.CosineLow, pair.CosineHigh = ends(cosine)
				}
				pairs = append(pairs, pair)
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

// ends are the bounds of an interval; nil where there are none.
func ends(i solver.Interval) (low, high *float64) {
	if !math.IsInf(i.Low, 0) {
		low = &i.Low
	}
	if !math.IsInf(i.High, 0) {
		high = &i.High
	}
	return low, high
}
