package audit

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers/norm"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/network"
)

// checkGradient refuses, in the first audit, a model whose reverse-mode gradient is not the adjoint of its derivative:
// solves with such a metric may converge, to influence that means nothing.
func (a *Auditor) checkGradient() (err error) {
	if a.checked || a.config.forward {
		return nil
	}
	batch, err := a.gradientBatch()
	if err != nil {
		return err
	}
	defer batch.freeAfter(&err)
	inDouble := network.GradientReport{Error: math.NaN()} // as long as nothing is known
	if a.config.dtype == dtypes.Float32 {
		if err := a.alone(dtypes.Float64, batch, func(double *network.Network, s states) error {
			if report, err := double.CheckGradient(s.x, false); err == nil { // else it does not follow the dtype
				inDouble = report
			}
			return nil
		}); err != nil {
			return err
		}
	}
	report := inDouble
	if inDouble.OK() || math.IsNaN(inDouble.Error) {
		if report, err = a.network.With(batch.further...).CheckGradient(batch.x, false); err != nil {
			return cause.In("audit", err)
		}
		if !report.OK() && inDouble.OK() {
			return orBetter(nil, fmt.Sprintf("the model's derivatives are lost in rounding in float32 (adjoint error %.2g)", report.Error))
		}
	}
	if math.IsNaN(report.Error) {
		return errors.New("audit: the model's derivatives at the probes are not finite; has training diverged?")
	}
	if !report.OK() {
		return fmt.Errorf("audit: the model's gradient is wrong (adjoint error %.2g, rounding explains %.0e), and training and influence need a right one: %s", report.Error, report.Limit, where(report.Fault))
	}
	a.checked = true
	return nil
}

func where(fault *network.GradientFault) string {
	if fault == nil {
		return "no single operation is at fault"
	}
	return fault.String()
}

// gradientBatch is one as audits use it, of the last element: a gradient may be right for one sample and wrong for two.
func (a *Auditor) gradientBatch() (states, error) {
	o := a.orbits[0]
	return o.states(len(o.elements)-1, 0, o.batchSize)
}

// checkTraining looks at the gradient in training mode, which is another than that of audits where the model has parts that differ:
// batch statistics, dropout. What cannot be checked there, an operation without a forward derivative for instance, is no fault.
func (a *Auditor) checkTraining() (err error) {
	if a.config.forward {
		return nil
	}
	batch, err := a.gradientBatch()
	if err != nil {
		return err
	}
	defer batch.freeAfter(&err)
	for _, dtype := range []dtypes.DType{dtypes.Float64, dtypes.Float32} {
		looked := false
		err := a.alone(dtype, batch, func(net *network.Network, s states) error {
			var report network.GradientReport
			same, err := net.TrainsAsItEvaluates(s.x)
			if err == nil && !same {
				report, err = net.CheckGradient(s.x, true)
			}
			if looked = err == nil && !math.IsNaN(report.Error); !looked {
				a.config.log.Debug().Err(err).Str("dtype", dtype.String()).Msg("the gradient in training mode cannot be checked")
				return nil
			}
			if !report.OK() && report.Fault != nil && report.Fault.Deliberate {
				a.config.log.Warn().Str("at", report.Fault.Layer).Float64("adjoint_error", report.Error).
					Msg("training uses a custom gradient, which differs from the derivative: that is right only where it is meant")
				return nil
			}
			if !report.OK() {
				return fmt.Errorf("audit: the model's gradient in training mode is wrong (adjoint error %.2g, rounding explains %.0e): %s", report.Error, report.Limit, where(report.Fault))
			}
			return a.checkStops(net, s.x)
		})
		if err != nil || looked {
			return err
		}
	}
	return nil
}

// checkStops refuses a norm that GoMLX trains wrongly, and warns of other places where training stops gradients.
func (a *Auditor) checkStops(net *network.Network, x *tensors.Tensor) error {
	const rounding = 1e-4 // of float32
	share, stops, err := net.StoppedGradients(x)
	if err != nil || !(share > rounding) {
		return nil //nolint:nilerr // an operation behind a stop, which never mattered, may have no forward derivative
	}
	var places []string
	// norm.BatchNorm leaves a word in the store.
	hasBatchNorm := model.GetParamOr(a.config.source.Store().RootScope(), norm.AveragesUpdatesTriggerParam, false)
	for _, stop := range stops {
		if stop.BatchStatistic && hasBatchNorm {
			return fmt.Errorf("audit: training stops gradients at the mean and variance of a batch, %s, so that its gradient is off by %.2g: norm.BatchNorm does so with UseBackendInference(false) by mistake; leave that out and train on XLA, or use a norm without batch statistics (norm.LayerNorm)", stop.Place, share)
		}
		places = append(places, stop.Place)
	}
	a.config.log.Warn().Strs("places", places).Float64("share", share).
		Msg("training stops gradients (StopGradient), so that they differ from the model's derivative: that is right only where it is meant")
	return nil
}

// checkDerivative compares the model's derivative with finite differences where its operations may compute something else than they
// stand for: on GoMLX's Go backend, which fuses some. What does not follow the dtype of its input cannot be compared so.
func (a *Auditor) checkDerivative() (err error) {
	if a.config.forward || a.backend.String() != "go" {
		return nil
	}
	batch, err := a.gradientBatch()
	if err != nil {
		return err
	}
	defer batch.freeAfter(&err)
	return a.alone(dtypes.Float64, batch, func(net *network.Network, s states) error {
		const clearly = 0.01 // kinks within a step are less
		apart, err := net.CheckDerivative(s.x)
		if err != nil || !(apart > clearly) {
			return nil //nolint:nilerr // other checks say what fails
		}
		remedy := "is there a discontinuity, or randomness, in it?"
		if fused, err := net.HasFusedNorm(s.x); err == nil && fused {
			remedy = "a layer norm without a gain takes its offset for one there; give it a gain (LearnedGain(true)), or set GOMLX_FUSION=0"
		}
		return fmt.Errorf("audit: on GoMLX's Go backend the model computes something else than its derivative is of (by finite differences they are %.2g apart): %s", apart, remedy)
	})
}

// checkUse warns of trainable variables that the model, which has been built, does not use in evaluation: learning through them has
// no influence. It refuses a model that uses none, and one that is not the trainer's.
func (a *Auditor) checkUse() error {
	if a.config.forward || !a.network.Built() {
		return nil
	}
	var unused []string
	for _, path := range a.trainable {
		if !a.network.Uses(path) {
			unused = append(unused, path)
		}
	}
	made := a.network.Made()
	switch {
	case len(made) > 0:
		return fmt.Errorf("audit: the model has variables that are not in the trainer's store (%s): give audit.New the function that the trainer was made with", strings.Join(made, ", "))
	case len(unused) == len(a.trainable):
		return fmt.Errorf("audit: in evaluation the model uses none of its trainable variables (%s), so that nothing has an influence; does it evaluate on moving averages of them? audit a function that uses the variables themselves", strings.Join(unused, ", "))
	case len(unused) > 0:
		a.config.log.Warn().Strs("variables", unused).Msg("the model does not use these trainable variables in evaluation: what is learned by them has no influence")
	}
	return nil
}
