package audit

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/network"
)

// double is a network in float64 for what is done a few times in an audit that is not in it: gradients, which nothing is known of beyond
// their own rounding, and products to measure that of the others by.
type double struct {
	network *network.Network
	useless bool // the model has no float64 of its own
}

// load gives it the weights there are now. ready is false where the audit is in float64 itself, or the model does not follow the precision
// of its input, or draws random numbers, which are others in each.
func (d *double) load(a *Auditor, batch states) (ready bool, err error) {
	if a.network.DType() == dtypes.Float64 || a.config.seed != nil || d.useless {
		return false, nil
	}
	store := a.config.source.Store()
	if d.network != nil && d.network.Load(store) != nil {
		d.close() // other layers are frozen than at the audit before
	}
	if d.network != nil {
		return true, nil
	}
	if d.network, err = a.newNetwork(dtypes.Float64); err != nil {
		return false, err
	}
	if err := d.network.Load(store); err != nil {
		return false, cause.In("audit", err)
	}
	if err := d.network.With(batch.further...).CheckPrecision(batch.x); err != nil {
		a.config.log.Debug().Err(err).Msg("the model has no float64: the rounding of gradients and products is assumed, not measured")
		d.close()
		d.useless = true
	}
	return d.network != nil, nil
}

func (d *double) close() {
	if d.network != nil {
		d.network.Close()
		d.network = nil
	}
}

// of gives the network a batch in its precision, for a function.
func (d *double) of(batch states, use func(*network.Network, states) error) (err error) {
	converted, err := batch.copies(func(t *tensors.Tensor) (*tensors.Tensor, error) { return follow(t, dtypes.Float64) })
	if err != nil {
		return err
	}
	defer converted.freeAfter(&err)
	return use(d.network.With(converted.further...), converted)
}

// gradients are those of a batch's orbit: element by element, sample by sample within an element.
type gradients struct {
	auditor *Auditor
	orbit   *orbit
	batch   int
	double  bool    // in float64
	largest float64 // norm so far
}

// What gradients may be off by, relative to the largest of a batch. In float32 up to 40 roundoffs were found of networks on ordinary data,
// and hundreds where the mean of the data dwarfs its deviation; in float64 more are allowed for, at no cost.
const (
	singleGradientError = 1e3 * 0x1p-24
	doubleGradientError = 1e-12
)

// doubleProductError is what products in float64 may be off by, relative to the largest eigenvalue: as many roundoffs as were found in
// float32 of networks whose weights were multiplied by 10, 477.
const doubleProductError = 500 * 0x1p-53

// error is what a gradient may be off by, relative to the largest of its batch: where the terms of a gradient nearly cancel, what is left
// is no more accurate than they.
func (g *gradients) error() float64 {
	if g.double || g.auditor.network.DType() == dtypes.Float64 {
		return doubleGradientError
	}
	return singleGradientError
}

// measure finds the largest at x, before any error is told: one whose terms cancel may come first.
func (g *gradients) measure(ctx context.Context) error {
	for i := range g.orbit.batchSize {
		if _, _, err := g.at(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// at is the i-th gradient and how far it may be off, in the Euclidean norm.
func (g *gradients) at(ctx context.Context, i int) (row []float64, off float64, err error) {
	if row, err = g.row(ctx, i); err != nil {
		return nil, 0, err
	}
	g.largest = max(g.largest, floats.Norm(row, 2))
	return row, g.error() * g.largest, nil
}

func (g *gradients) row(ctx context.Context, i int) (row []float64, err error) {
	a, o := g.auditor, g.orbit
	if !g.double {
		return a.gradient(ctx, o, g.batch, i)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	e, sample := i/o.batchSize, g.batch*o.batchSize+i%o.batchSize
	one, err := o.states(e, sample, sample+1)
	if err != nil {
		return nil, err
	}
	defer one.freeAfter(&err)
	row = make([]float64, a.network.Dim())
	err = a.double.of(one, func(net *network.Network, s states) error {
		_, err := net.Gradient(row, s.x, s.labels...)
		return err
	})
	if norm := floats.Norm(row, 2); err == nil && (math.IsNaN(norm) || math.IsInf(norm, 0)) {
		err = fmt.Errorf("the gradient at sample %d moved by %s is not finite; has training diverged, or is the sample or its target not finite?", sample, o.elements[e].Name())
	}
	return row, err
}

// productErrors are what products with eta of vectors of norm 1 may be off by, relative to its largest eigenvalue: as the certificate is to
// take it, 0 where only their precision is known, and as measured, nil where it was not; and the products spent on that.
func (a *Auditor) productErrors(batch states, outputs int, largest float64, gradients *gradients, gradient func(i int) ([]float64, float64, error)) (allowed float64, measured *float64, products int64, err error) {
	const margin = 2 // over what is measured
	switch {
	case !(largest > 0) || !a.config.estimator.Certifies():
	case a.config.metric == MetricFisher:
		// eta is made of gradients, and off where they are.
		for i := range batch.x.Shape().Dimensions[0] {
			row, off, err := gradient(i)
			if err != nil {
				return 0, nil, 0, err
			}
			allowed += a.perSample(batch) * off * (2*floats.Norm(row, 2) + off) / largest
		}
	case a.multipliesNetwork() && a.network.DType() == dtypes.Float64:
		return doubleProductError, nil, 0, nil
	case a.multipliesNetwork() && gradients.double:
		first, _, err := gradient(0)
		if err != nil {
			return 0, nil, 0, err
		}
		found, products, err := a.measureProducts(batch, outputs, largest, first)
		if err != nil {
			return 0, nil, 0, err
		}
		return margin * found, &found, products, nil
	}
	return allowed, nil, 0, nil
}

// measureProducts returns the largest error of products with eta of vectors of norm 1 against float64, relative to the largest eigenvalue, and
// the products spent. Rounding shows most along the leading eigenvectors, of random vectors 2 to 140 times less: the vectors are a
// gradient and its image, which is nearly such a one.
func (a *Auditor) measureProducts(batch states, outputs int, largest float64, gradient []float64) (measured float64, products int64, err error) {
	eta := a.metric(a.network.With(batch.further...), batch, outputs)
	err = a.double.of(batch, func(net *network.Network, s states) error {
		exact := a.metric(net, s, outputs)
		v := slices.Clone(gradient)
		for range 2 {
			norm := floats.Norm(v, 2)
			if !(norm > 0) {
				return nil
			}
			floats.Scale(1/norm, v)
			found, want := mat.NewDense(1, len(v), nil), mat.NewDense(1, len(v), nil)
			if err := eta.Apply(found, mat.NewDense(1, len(v), v)); err != nil {
				return err
			}
			if err := exact.Apply(want, mat.NewDense(1, len(v), v)); err != nil {
				return err
			}
			products += 2
			measured = max(measured, floats.Distance(found.RawRowView(0), want.RawRowView(0), 2)/largest)
			copy(v, want.RawRowView(0))
		}
		return nil
	})
	return measured, products, err
}
