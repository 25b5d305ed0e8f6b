package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver"
)

// pairs are what influence finds to a question, by damping; solves only where it is of one direction.
type pairs struct {
	influence [][]InfluenceRow
	solves    []SolveRow
	layers    []LayerRow
	spectrum  []SpectrumRow // of a share's first batch
}

// influence estimates all pairs of x with g.x in each batch of a share, at every damping. root is that of the optimizer's response, nil with another
// metric; outputs is the number that the model has for a sample.
func (a *Auditor) influence(ctx context.Context, s share, root []float64, outputs int, at Moment) (found map[question]*pairs, err error) {
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
	gradients := a.gradientsOf(s, ready)
	gradients.root = root
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
	asked := problem{eta: eta, largest: largest, lambdas: lambdas, count: s.gradients(), samples: s.atX(), gradient: load, productError: productError}
	var layered *layered
	if a.config.layers {
		layered = a.newLayered(ctx, gradients, lambdas)
		asked.solution = layered.take
	}
	estimated, statistics, err := a.estimate(ctx, asked)
	if err != nil {
		return nil, err
	}
	var spectrum spectrum
	if a.config.spectrum {
		if spectrum, err = a.spectrumOf(ctx, eta.(solver.Factor), largest, lambdas, productError); err != nil {
			return nil, err
		}
		setup += spectrum.products
	}
	found = map[question]*pairs{}
	parameters := int64(a.network.Dim())
	for place, m := range s {
		var solves []SolveRow
		for l, statistics := range statistics {
			row := SolveRow{
				Moment: at, GroupName: m.orbit.group.Name, Direction: m.direction.name, Batch: int32(m.batch), BatchSize: int32(m.orbit.batchSize),
				Metric: string(a.config.metric), MetricScale: string(a.config.scale), RelativeLambda: a.config.damping.multiple(l),
				DType: a.network.DType().String(), Estimator: string(a.config.estimator), Parameters: &parameters, RHS: int32(s.gradients()),
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
			if a.config.spectrum {
				d := spectrum.dimensions[l]
				row.EffectiveDimension, row.EffectiveDimensionLow, row.EffectiveDimensionHigh = &d.Value, &d.Low, &d.High
			}
			switch { // what several lambdas and batches share is counted once
			case place > 0:
				row.Products, row.SetupProducts = 0, 0
			case l == 0:
				row.SetupProducts, row.Seconds = setup+statistics.SetupProducts, time.Since(start).Seconds()
			}
			solves = append(solves, row)
		}
		for _, q := range questions(a.config.directions) {
			if q.atGX != m.direction {
				continue
			}
			asked, answer := question{m.orbit, m.batch, q}, &pairs{}
			if q.atX == q.atGX {
				answer.solves = solves
			}
			x := slices.Index(s, member{m.orbit, m.batch, q.atX})
			for l := range lambdas {
				found := means{estimated, l, s, x, place}
				answer.influence = append(answer.influence, a.pairs(asked, l, lambdas[l], at, found))
				if a.config.layers {
					answer.layers = append(answer.layers, layered.rows(asked, found, LayerRow{
						Moment: at, GroupName: m.orbit.group.Name, Direction: q.name(), Batch: int32(m.batch), RelativeLambda: a.config.damping.multiple(l), Lambda: lambdas[l],
					})...)
				}
			}
			if place == 0 && q.atX == q.atGX {
				for _, row := range spectrum.rows {
					row.Moment, row.GroupName, row.Batch = at, m.orbit.group.Name, int32(m.batch)
					answer.spectrum = append(answer.spectrum, row)
				}
			}
			found[asked] = answer
		}
	}
	return found, nil
}

// pairs lays out one row for each element and ordered pair of samples, at one damping.
func (a *Auditor) pairs(q question, l int, lambda float64, at Moment, found means) []InfluenceRow {
	o, batch, n := q.orbit, q.batch, q.orbit.batchSize
	pairs := make([]InfluenceRow, 0, len(o.elements)*n*n)
	for e, element := range o.elements {
		shift := element.Shift()
		first := len(pairs)
		forms := make([]solver.Interval, 0, n*n)
		for row := range n {
			for col := range n {
				form, cosine, ok := found.pair(e, row, col)
				forms = append(forms, form)
				from, to := batch*n+row, batch*n+col
				x, gx := o.samples[from], o.samples[to]
				pair := InfluenceRow{
					Moment: at, Batch: int32(batch), BatchSize: int32(n), GroupName: o.group.Name, Direction: q.name(), Element: element.Name(),
					ShiftZ: shift.Z, ShiftY: shift.Y, ShiftX: shift.X,
					RowSample: int32(from), RowClass: x.Class, RowTrajectory: x.Trajectory, RowTimeIndex: x.TimeIndex,
					ColSample: int32(to), ColClass: gx.Class, ColTrajectory: gx.Trajectory, ColTimeIndex: gx.TimeIndex,
					RelativeLambda: a.config.damping.multiple(l), Lambda: lambda, Influence: form.Value, Estimator: string(a.config.estimator),
				}
				pair.InfluenceLow, pair.InfluenceHigh = ends(form)
				if ok {
					pair.Cosine = &cosine.Value
					pair.CosineLow, pair.CosineHigh = ends(cosine)
				}
				if leakage, ok := found.leakage(e, col, lambda); ok {
					pair.Leakage = &leakage.Value
					pair.LeakageLow, pair.LeakageHigh = ends(leakage)
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

// means are forms of two members of a share at one damping, over the draws of their directions: the one's gradients at x, the other's at g.x.
type means struct {
	estimate
	l     int
	share share
	x, gx int // places in the share
}

// pair is the mean form of the row sample at x and the column sample moved by element e, and their cosine: that of the sums over draws.
func (f means) pair(e, row, col int) (mean, cosine solver.Interval, ok bool) {
	var form, selfX, selfGX solver.Interval // sums
	left, right := f.share[f.x], f.share[f.gx]
	draws := left.orbit.draws(left.direction)
	same := true
	for k := range draws {
		i, j := f.share.side(f.x, left.gradient(0, k, row)), f.share.side(f.gx, right.gradient(e, k, col))
		form, selfX, selfGX = plus(form, f.Form(f.l, i, j)), plus(selfX, f.Form(f.l, i, i)), plus(selfGX, f.Form(f.l, j, j))
		cosine, ok = f.Cosine(f.l, i, j)
		same = same && i == j
	}
	if draws > 1 && !(same && selfX.Low > 0) {
		cosine = solver.Cosine(form, selfX, selfGX)
		ok = !math.IsNaN(cosine.Value)
	}
	over := 1 / float64(draws)
	return solver.Interval{Value: form.Value * over, Low: form.Low * over, High: form.High * over}, cosine, ok
}

// leakage is the share of the square of the gradient at the column sample moved by element e that lambda divides rather than the metric, lambda g^T (eta + lambda)^-1
// g / |g|^2, over the draws of its direction. It falls with lambda, to the share outside of the metric's range. ok is false where nothing is certified,
// or the gradient is zero or noise.
func (f means) leakage(e, col int, lambda float64) (leakage solver.Interval, ok bool) {
	forms, ok := f.estimate.(*solver.Forms)
	if !ok {
		return leakage, false
	}
	m := f.share[f.gx]
	var form, square solver.Interval // sums
	for k := range m.orbit.draws(m.direction) {
		j := f.share.side(f.gx, m.gradient(e, k, col))
		norm := forms.Norm(j)
		form, square = plus(form, f.Form(f.l, j, j)), plus(square, solver.Interval{Value: norm.Value * norm.Value, Low: norm.Low * norm.Low, High: norm.High * norm.High})
	}
	if !(square.Low > 0) {
		return leakage, false
	}
	clipped := func(share float64) float64 { return min(1, max(0, share)) }
	return solver.Interval{Value: clipped(lambda * form.Value / square.Value), Low: clipped(lambda * form.Low / square.High), High: clipped(lambda * form.High / square.Low)}, true
}

func plus(a, b solver.Interval) solver.Interval {
	return solver.Interval{Value: a.Value + b.Value, Low: a.Low + b.Low, High: a.High + b.High}
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
