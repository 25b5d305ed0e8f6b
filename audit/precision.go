package audit

import (
	"errors"
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network"
)

// explained adds to an error of a solver in a batch what it comes from.
func (a *Auditor) explained(err error, batch states) error {
	switch {
	case errors.Is(err, solver.ErrNotFinite):
		if held, err := a.doubleHolds(batch, multiplies); err != nil || held {
			return orBetter(err, "products with the metric overflow or vanish in float32")
		}
		return fmt.Errorf("%w: has training diverged?", err)
	case errors.Is(err, solver.ErrIndefinite):
		return fmt.Errorf("%w; %s", err, a.indefinite())
	}
	return err
}

// indefinite says where a negative curvature comes from, and what helps.
func (a *Auditor) indefinite() string {
	switch {
	case a.config.metric == MetricGGN:
		return "the loss is not convex in the model's outputs: use metric ntk or fisher"
	case a.network.DType() == dtypes.Float32:
		return "rounding in float32, or a derivative of the model that contradicts itself or changes from one evaluation to the next: float64 shows which"
	}
	return "a derivative of the model contradicts itself, or changes from one evaluation to the next: is there a gradient of your own, or randomness, in it?"
}

// orBetter is err, or that the audit needs float64.
func orBetter(err error, what string) error {
	if err != nil {
		return err
	}
	return &SettingError{"dtype", "should be float64: " + what + ", and float64 holds them; or scale the units of the data"}
}

// doubleHolds reports whether float32, in which the audit is, is to blame: what fails in it succeeds in float64. Of a model that does
// not follow the dtype of its input that cannot be found out.
func (a *Auditor) doubleHolds(batch states, succeeds func(*network.Network, states) bool) (held bool, err error) {
	if a.network.DType() != dtypes.Float32 {
		return false, nil
	}
	err = a.alone(dtypes.Float64, batch, func(net *network.Network, double states) error {
		held = succeeds(net, double)
		return nil
	})
	return held, err
}

// alone makes a network for a check, which may change its copy of the weights, and gives it the batch in its precision. In double
// precision a fault shows in a path that contributes little, as those before a last layer that began at zero, which in single
// precision is less than what rounding explains; and numbers near the limits of single precision do not look like a fault.
func (a *Auditor) alone(dtype dtypes.DType, batch states, check func(*network.Network, states) error) (err error) {
	net, err := a.newNetwork(dtype)
	if err != nil {
		return err
	}
	defer net.Close()
	if err := net.Load(a.config.source.Store()); err != nil {
		return cause.In("audit", err)
	}
	converted, err := batch.copies(func(t *tensors.Tensor) (*tensors.Tensor, error) { return follow(t, dtype) })
	if err != nil {
		return err
	}
	defer converted.freeAfter(&err)
	return check(net.With(converted.further...), converted)
}

// multiplies reports whether the metric of a batch is finite and not zero.
func multiplies(net *network.Network, s states) bool {
	largest, _, err := solver.LargestEigenvalue(net.Metric(s.x, 1), 1, lambdaSeed)
	return err == nil && largest > 0
}

// descends reports whether a gradient is finite and not zero.
func descends(of gradientOf) func(*network.Network, states) bool {
	return func(net *network.Network, s states) bool {
		gradient := make([]float64, net.Dim())
		err := of(gradient, net, s)
		norm := floats.Norm(gradient, 2)
		return err == nil && norm > 0 && !math.IsInf(norm, 0)
	}
}
