package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver"
)

// pairs are what influence finds for a batch, by damping.
type pairs struct {
	influence [][]InfluenceRow
	solves    []SolveRow
}

// influence estimates all pairs of x with g.x in each batch of a share, at every damping. outputs is the number that the model has for a
// sample.
func (a *Auditor) influence(ctx context.Context, s share, outputs int, at Moment) (found map[member]*pairs, err error) {
	start := time.Now()
	metric, err := s.states()
	if err != nil {
		return nil, err
	}
	defer metric.freeAfter(&err)
	defer func() {
		if err != nil {
			err = a.explained(err, metric)
			err = cause.Say(fmt.Sprintf("audit: %s: %s", s.name(), cause.Plain(err)), err)
		}
	}()
	if err := a.checkConvex(metric); err != nil {
		return nil, err
	}
	ready, err := a.double.load(a, metric)
	if err != nil {
		return nil, err
	}
	gradients := &gradients{auditor: a, share: s, double: ready}
	if a.config.estimator.Certifies() {
		if err := gradients.measure(ctx); err != nil {
			return nil, err
		}
	}
	dimensions, err := a.dimensions(s, outputs)
	if err != nil {
		return nil, err
	}
	eta, free, err := a.eta(metric, outputs, a.residualBytes(dimensions, s.gradients()), func(dst []float64, i int) error { return gradients.metric(ctx, dst, i) })
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, free()) }()
	largest, setup, err := a.largestEigenvalue(eta)
	if err != nil {
		return nil, err
	}
	lambdas, err := a.config.damping.lambdas(largest)
	if err != nil {
		if held, failed := a.doubleHolds(metric, multiplies); failed != nil || held {
			err = orBetter(failed, "products with the metric vanish in float32")
		}
		return nil, err
	}
	productError, measured, spent, err := a.productErrors(ctx, eta, metric, outputs, largest, gradients)
	if err != nil {
		return nil, err
	}
	setup += spent
	load := func(dst []float64, i int) (float64, error) { return gradients.at(ctx, dst, i) }
	estimated, statistics, err := a.estimate(ctx, problem{eta, largest, lambdas, s.gradients(), s.samples(), load, productError})
	if err != nil {
		return nil, err
	}
	found = map[member]*pairs{}
	for place, m := range s {
		found[m] = &pairs{}
		for l, statistics := range statistics {
			row := SolveRow{
				Moment: at, GroupName: m.orbit.group.Name, Batch: int32(m.batch), BatchSize: int32(m.samples()),
				Metric: string(a.config.metric), MetricScale: string(a.config.scale), RelativeLambda: a.config.damping.multiple(l),
				DType: a.network.DType().String(), Estimator: string(a.config.estimator), RHS: int32(s.gradients()),
			}
			row.set(statistics)
			row.LambdaMax = largest
			if a.config.estimator.Certifies() {
				gradientError := gradients.error()
				row.ProductErrorMeasured, row.GradientError = measured, &gradientError
			}
			if statistics.Status == solver.Indefinite {
				why := *statistics.Explanation + ": " + a.indefinite()
				row.Explanation = &why
			}
			switch { // what several lambdas and batches share is counted once
			case place > 0:
				row.Products, row.SetupProducts = 0, 0
			case l == 0:
				row.SetupProducts, row.Seconds = setup+statistics.SetupProducts, time.Since(start).Seconds()
			}
			found[m].solves = append(found[m].solves, row)
			form := func(i, j int) (solver.Interval, solver.Interval, bool) {
				i, j = s.side(place, i), s.side(place, j)
				cosine, ok := estimated.Cosine(l, i, j)
				return estimated.Form(l, i, j), cosine, ok
			}
			found[m].influence = append(found[m].influence, a.pairs(m, l, lambdas[l], at, form))
		}
	}
	return found, nil
}

// pairs lays out one row for each element and ordered pair of samples, at one damping.
func (a *Auditor) pairs(m member, l int, lambda float64, at Moment, of func(i, j int) (form, cosine solver.Interval, ok bool)) []InfluenceRow {
	o, batch, n := m.orbit, m.batch, m.samples()
	pairs := make([]InfluenceRow, 0, len(o.elements)*n*n)
	for e, element := range o.elements {
		dy, dx := element.Shift()
		first := len(pairs)
		forms := make([]solver.Interval, 0, n*n)
		for row := range n {
			for col := range n {
				form, cosine, ok := of(row, e*n+col)
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
				if ok {
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
