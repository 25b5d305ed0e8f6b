package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver"
)

// pairs are what influence finds for a batch, by damping.
type pairs struct {
	influence [][]InfluenceRow
	solves    []SolveRow
}

// influence estimates all pairs of x with g.x in a batch, at every damping. outputs is the number that the model has for a
// sample.
func (a *Auditor) influence(ctx context.Context, o *orbit, batch, outputs int, at Moment) (found pairs, err error) {
	start := time.Now()
	batched, err := o.states(0, batch*o.batchSize, (batch+1)*o.batchSize)
	if err != nil {
		return found, err
	}
	defer batched.freeAfter(&err)
	defer func() {
		if err != nil {
			err = a.explained(err, batched)
			err = cause.Say(fmt.Sprintf("audit: group %s, batch %d: %s", o.group.Name, batch, cause.Plain(err)), err)
		}
	}()
	if err := a.checkConvex(batched); err != nil {
		return found, err
	}
	ready, err := a.double.load(a, batched)
	if err != nil {
		return found, err
	}
	gradients := &gradients{auditor: a, orbit: o, batch: batch, double: ready}
	if a.config.estimator.Certifies() {
		if err := gradients.measure(ctx); err != nil {
			return found, err
		}
	}
	gradient := func(dst []float64, i int) (float64, error) { return gradients.at(ctx, dst, i) }
	eta, err := a.eta(batched, outputs, func(dst []float64, i int) error { return gradients.write(ctx, dst, i) })
	if err != nil {
		return found, err
	}
	largest, setup, err := a.largestEigenvalue(eta)
	if err != nil {
		return found, err
	}
	lambdas, err := a.config.damping.lambdas(largest)
	if err != nil {
		if held, failed := a.doubleHolds(batched, multiplies); failed != nil || held {
			err = orBetter(failed, "products with the metric vanish in float32")
		}
		return found, err
	}
	count := len(o.elements) * o.batchSize
	productError, measured, spent, err := a.productErrors(batched, outputs, largest, gradients, gradient)
	if err != nil {
		return found, err
	}
	setup += spent
	estimated, statistics, err := a.estimate(ctx, problem{eta, largest, lambdas, count, o.batchSize, gradient, productError})
	if err != nil {
		return found, err
	}
	for l, s := range statistics {
		row := SolveRow{
			Moment: at, GroupName: o.group.Name, Batch: int32(batch), BatchSize: int32(o.batchSize),
			Metric: string(a.config.metric), MetricScale: string(a.config.scale), RelativeLambda: a.config.damping.multiple(l),
			DType: a.network.DType().String(), Estimator: string(a.config.estimator), RHS: int32(count),
		}
		row.set(s)
		row.LambdaMax = largest
		if a.config.estimator.Certifies() {
			gradientError := gradients.error()
			row.ProductErrorMeasured, row.GradientError = measured, &gradientError
		}
		if s.Status == solver.Indefinite {
			why := *s.Explanation + ": " + a.indefinite()
			row.Explanation = &why
		}
		if l == 0 { // the others are by-products
			row.SetupProducts, row.Seconds = setup+s.SetupProducts, time.Since(start).Seconds()
		}
		found.solves = append(found.solves, row)
		found.influence = append(found.influence, a.pairs(o, batch, l, lambdas[l], at, estimated))
	}
	return found, nil
}

// gradient writes dC_{g.x_n}, the i-th of a batch's orbit, to dst: element by element, sample by sample within an element.
func (a *Auditor) gradient(ctx context.Context, dst []float64, o *orbit, batch, i int) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	e, sample := i/o.batchSize, batch*o.batchSize+i%o.batchSize
	one, err := o.states(e, sample, sample+1)
	if err != nil {
		return err
	}
	defer one.freeAfter(&err)
	if _, err := a.network.With(one.further...).Gradient(dst, one.x, one.labels...); err != nil {
		return err
	}
	if norm := floats.Norm(dst, 2); math.IsNaN(norm) || math.IsInf(norm, 0) {
		if held, err := a.doubleHolds(one, descends); err != nil || held {
			return orBetter(err, fmt.Sprintf("the loss at sample %d moved by %s, or its gradient, overflows in float32", sample, o.elements[e].Name()))
		}
		return fmt.Errorf("the gradient at sample %d moved by %s is not finite; has training diverged, or is the sample or its target not finite?", sample, o.elements[e].Name())
	}
	return nil
}

// pairs lays out one row for each element and ordered pair of samples, at one damping.
func (a *Auditor) pairs(o *orbit, batch, l int, lambda float64, at Moment, found estimate) []InfluenceRow {
	n := o.batchSize
	pairs := make([]InfluenceRow, 0, len(o.elements)*n*n)
	for e, element := range o.elements {
		dy, dx := element.Shift()
		first := len(pairs)
		forms := make([]solver.Interval, 0, n*n)
		for row := range n {
			for col := range n {
				form := found.Form(l, row, e*n+col)
				forms = append(forms, form)
				from, to := batch*n+row, batch*n+col
				x, gx := o.samples[from], o.samples[to]
				pair := InfluenceRow{
					Moment: at, Batch: int32(batch), BatchSize: int32(n), GroupName: o.group.Name, Element: element.Name(), ShiftY: dy, ShiftX: dx,
					RowSample: int32(from), RowClass: x.Class, RowTrajectory: x.Trajectory, RowTimeIndex: x.TimeIndex,
					ColSample: int32(to), ColClass: gx.Class, ColTrajectory: gx.Trajectory, ColTimeIndex: gx.TimeIndex,
					RelativeLambda: a.config.damping.multiple(l), Lambda: lambda, Influence: form.Value, Estimator: string(a.config.estimator),
				}
				pair.InfluenceLow, pair.InfluenceHigh = ends(form)
				if cosine, ok := found.Cosine(l, row, e*n+col); ok {
					pair.Cosine = &cosine.Value
					pair.CosineLow, pair.CosineHigh = ends(cosine)
				}
				pairs = append(pairs, pair)
			}
		}
		for i, scaled := range frobeniusScaled(forms) {
			pair := &pairs[first+i]
			pair.FrobeniusScaled = &scaled.Value
			pair.FrobeniusScaledLow, pair.FrobeniusScaledHigh = ends(scaled)
		}
	}
	return pairs
}

// frobeniusScaled divides the forms of a matrix by its Frobenius norm; it is empty where that is 0. f / sqrt(f^2 + rest), with
// rest the squares of the other entries, grows with f, and comes nearer to 0 as rest grows: hence the bounds.
func frobeniusScaled(forms []solver.Interval) []solver.Interval {
	total := solver.Interval{}
	squares := make([]solver.Interval, len(forms))
	for i, f := range forms {
		least := 0.0
		if f.Low > 0 || f.High < 0 {
			least = min(math.Abs(f.Low), math.Abs(f.High))
		}
		most := max(math.Abs(f.Low), math.Abs(f.High))
		squares[i] = solver.Interval{Value: f.Value * f.Value, Low: least * least, High: most * most}
		total.Value, total.Low, total.High = total.Value+squares[i].Value, total.Low+squares[i].Low, total.High+squares[i].High
	}
	norm := math.Sqrt(total.Value)
	if !(norm > 0) {
		return nil
	}
	// The squares before and after each entry: a difference of sums would cancel.
	before := make([]solver.Interval, len(forms)+1)
	after := make([]solver.Interval, len(forms)+1)
	for i, j := 0, len(forms)-1; j >= 0; i, j = i+1, j-1 {
		before[i+1].Low, before[i+1].High = before[i].Low+squares[i].Low, before[i].High+squares[i].High
		after[j].Low, after[j].High = after[j+1].Low+squares[j].Low, after[j+1].High+squares[j].High
	}
	share := func(f, positive, negative float64) float64 {
		switch {
		case f > 0:
			return f / math.Sqrt(f*f+positive)
		case f < 0:
			return f / math.Sqrt(f*f+negative)
		}
		return 0
	}
	scaled := make([]solver.Interval, len(forms))
	for i, f := range forms {
		scaled[i] = solver.Interval{Value: f.Value / norm, Low: math.Inf(-1), High: math.Inf(1)}
		if math.IsInf(total.High, 0) {
			continue
		}
		least, most := before[i].Low+after[i+1].Low, before[i].High+after[i+1].High
		const rounding = 1e-13 // of the sums
		scaled[i].Low = max(-1, min(share(f.Low, most, least), scaled[i].Value)-rounding)
		scaled[i].High = min(1, max(share(f.High, least, most), scaled[i].Value)+rounding)
	}
	return scaled
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

// freeAfter frees the states when the function that took them ends, and adds to its error.
func (s states) freeAfter(err *error) { *err = errors.Join(*err, s.free()) }
