package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver"
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

// gradients are the right-hand sides of a share.
type gradients struct {
	auditor *Auditor
	share   share
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
	row := make([]float64, g.auditor.network.Dim())
	for i := range g.share.samples() {
		if _, err := g.at(ctx, row, i); err != nil {
			return err
		}
	}
	return nil
}

// at writes the i-th gradient to dst, and returns how far it may be off, in the Euclidean norm.
func (g *gradients) at(ctx context.Context, dst []float64, i int) (off float64, err error) {
	if err := g.write(ctx, dst, i); err != nil {
		return 0, err
	}
	g.largest = max(g.largest, floats.Norm(dst, 2))
	return g.error() * g.largest, nil
}

// write writes dC_{g.x_n}, the i-th gradient, to dst.
func (g *gradients) write(ctx context.Context, dst []float64, i int) (err error) {
	m, i := g.share.member(i)
	o := m.orbit
	e, sample := i/o.batchSize, m.first()+i%o.batchSize
	one, err := o.states(e, sample, sample+1)
	if err != nil {
		return err
	}
	defer one.freeAfter(&err)
	return g.auditor.gradient(ctx, dst, one, g.double, fmt.Sprintf("sample %d moved by %s", sample, o.elements[e].Name()))
}

// metric writes the gradient at the i-th of the states that the metric is over to dst.
func (g *gradients) metric(ctx context.Context, dst []float64, i int) (err error) {
	if !g.share.named() {
		return g.write(ctx, dst, i)
	}
	all := g.share.metric()
	one, err := all.copies(func(t *tensors.Tensor) (*tensors.Tensor, error) { return rows(t, i, i+1) })
	if err != nil {
		return err
	}
	defer one.freeAfter(&err)
	return g.auditor.gradient(ctx, dst, one, g.double, fmt.Sprintf("state %d of the metric", i))
}

// gradient writes the gradient of the loss of one state to dst, in float64 if double; at says for errors which state it is.
func (a *Auditor) gradient(ctx context.Context, dst []float64, one states, double bool, at string) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	descend := func(net *network.Network, s states) error {
		_, err := net.Gradient(dst, s.x, s.labels...)
		return err
	}
	err := error(nil)
	if double {
		err = a.double.of(one, descend)
	} else {
		err = descend(a.network.With(one.further...), one)
	}
	if norm := floats.Norm(dst, 2); err != nil || !math.IsNaN(norm) && !math.IsInf(norm, 0) {
		return err
	}
	if !double {
		if held, err := a.doubleHolds(one, descends); err != nil || held {
			return orBetter(err, fmt.Sprintf("the loss at %s, or its gradient, overflows in float32", at))
		}
	}
	return fmt.Errorf("the gradient at %s is not finite; has training diverged, or is the sample or its target not finite?", at)
}

// productErrors are what products with eta of vectors of norm 1 may be off by, relative to its largest eigenvalue: as the certificate is to
// take it, 0 where only their precision is known, and as measured, nil where it was not; and the products spent on that.
func (a *Auditor) productErrors(ctx context.Context, eta solver.Operator, batch states, outputs int, largest float64, gradients *gradients) (allowed float64, measured *float64, products int64, err error) {
	const margin = 2 // over what is measured
	switch {
	case !(largest > 0) || !a.config.estimator.Certifies():
	case a.config.metric == MetricFisher:
		// eta is made of gradients, and off where they are.
		row := make([]float64, a.network.Dim())
		for i := range batch.x.Shape().Dimensions[0] {
			if err := gradients.metric(ctx, row, i); err != nil {
				return 0, nil, 0, err
			}
			gradients.largest = max(gradients.largest, floats.Norm(row, 2))
			off := gradients.error() * gradients.largest
			allowed += a.perSample(batch) * off * (2*floats.Norm(row, 2) + off) / largest
		}
	case a.multipliesNetwork() && a.network.DType() == dtypes.Float64:
		return doubleProductError, nil, 0, nil
	case a.multipliesNetwork() && gradients.double:
		first := make([]float64, a.network.Dim())
		if err := gradients.write(ctx, first, 0); err != nil {
			return 0, nil, 0, err
		}
		found, products, err := a.measureProducts(eta, batch, outputs, largest, first)
		if err != nil {
			return 0, nil, 0, err
		}
		return margin * found, &found, products, nil
	}
	return allowed, nil, 0, nil
}

// measureProducts returns the largest error of products of vectors of norm 1 with eta against float64, relative to the largest eigenvalue, or with
// its factor and the adjoint of that relative to the root; and the products spent. Rounding shows most along the leading eigenvectors, of random
// vectors 2 to 140 times less: the vectors are a gradient and its image, which is nearly such a one, and their images.
func (a *Auditor) measureProducts(eta solver.Operator, batch states, outputs int, largest float64, gradient []float64) (measured float64, products int64, err error) {
	err = a.double.of(batch, func(net *network.Network, s states) (err error) {
		exact, err := a.metric(net, s, outputs, 0)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, exact.Close()) }()
		round := []comparison{{eta.Apply, exact.Apply, eta.Dim(), largest}}
		if factor, ok := eta.(solver.Factor); ok {
			exact, norm := exact.(solver.Factor), math.Sqrt(largest)
			round = []comparison{{factor.Image, exact.Image, factor.Rows(), norm}, {factor.Adjoint, exact.Adjoint, factor.Dim(), norm}}
		}
		v := mat.NewDense(1, len(gradient), slices.Clone(gradient))
		for range 2 {
			for _, c := range round {
				size := mat.Norm(v, 2)
				if !(size > 0) {
					return nil
				}
				v.Scale(1/size, v)
				error, image, err := c.of(v)
				if err != nil {
					return err
				}
				measured, v = max(measured, error), image
			}
			products += 2
		}
		return nil
	})
	return measured, products, err
}

// comparison is of a product with its exact one.
type comparison struct {
	found, want func(dst, v *mat.Dense) error
	columns     int     // of images
	norm        float64 // of the operator
}

// of returns the error of the product of v, relative to the operator, and its exact image.
func (c comparison) of(v *mat.Dense) (relative float64, image *mat.Dense, err error) {
	found, want := mat.NewDense(1, c.columns, nil), mat.NewDense(1, c.columns, nil)
	if err := c.found(found, v); err != nil {
		return 0, nil, err
	}
	if err := c.want(want, v); err != nil {
		return 0, nil, err
	}
	found.Sub(found, want)
	return mat.Norm(found, 2) / c.norm, want, nil
}
