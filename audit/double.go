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
	double  bool               // in float64
	largest map[string]float64 // norm so far, by direction
	root    []float64          // of the optimizer's response, by which they are scaled; nil with another metric
}

func (a *Auditor) gradientsOf(s share, double bool) *gradients {
	return &gradients{auditor: a, share: s, double: double, largest: map[string]float64{}}
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
	for i := range g.share.atX() {
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
	m, _ := g.share.member(i)
	off = g.off(m.direction.name, dst)
	if g.root != nil {
		floats.Mul(dst, g.root)
		off *= floats.Max(g.root)
	}
	return off, nil
}

// off is how far a gradient in a direction may be off.
func (g *gradients) off(direction string, gradient []float64) float64 {
	g.largest[direction] = max(g.largest[direction], floats.Norm(gradient, 2))
	return g.error() * g.largest[direction]
}

// write writes the i-th gradient to dst.
func (g *gradients) write(ctx context.Context, dst []float64, i int) (err error) {
	m, i := g.share.member(i)
	o, d := m.orbit, m.direction
	e, k, sample := m.place(i)
	sample += m.first()
	one, err := o.states(e, sample, sample+1)
	if err != nil {
		return err
	}
	defer one.freeAfter(&err)
	of := ofLoss
	if d.name != LossName {
		of = func(dst []float64, net *network.Network, s states) error {
			u, err := o.covector(d, k, e, net, s.x)
			if err != nil {
				return err
			}
			return net.VectorJacobian(dst, s.x, u)
		}
	}
	return g.gradient(ctx, dst, one, of, fmt.Sprintf("the %s at sample %d moved by %s", d.name, sample, o.elements[e].Name()))
}

// metric writes the gradient of the loss at the i-th of the states that the metric is over to dst.
func (g *gradients) metric(ctx context.Context, dst []float64, i int) (err error) {
	one, err := g.share.state(i)
	if err != nil {
		return err
	}
	defer one.freeAfter(&err)
	return g.gradient(ctx, dst, one, ofLoss, fmt.Sprintf("the loss at state %d of the metric", i))
}

// gradientOf writes a gradient at states, of a network in their precision, to dst.
type gradientOf func(dst []float64, net *network.Network, s states) error

func ofLoss(dst []float64, net *network.Network, s states) error {
	_, err := net.Gradient(dst, s.x, s.labels...)
	return err
}

// gradient writes one at a single state to dst; what says for errors of what and where it is.
func (g *gradients) gradient(ctx context.Context, dst []float64, one states, of gradientOf, what string) (err error) {
	a := g.auditor
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if g.double {
		err = a.double.of(one, func(net *network.Network, s states) error { return of(dst, net, s) })
	} else {
		err = of(dst, a.network.With(one.further...), one)
	}
	if norm := floats.Norm(dst, 2); err != nil || !math.IsNaN(norm) && !math.IsInf(norm, 0) {
		return err
	}
	if !g.double {
		if held, err := a.doubleHolds(one, descends(of)); err != nil || held {
			return orBetter(err, what+", or its gradient, overflows in float32")
		}
	}
	return fmt.Errorf("the gradient of %s is not finite; has training diverged, or is the sample or its target not finite?", what)
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
			off := gradients.off(LossName, row)
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
