package audit

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"
	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/network"
)

// response is the diagonal of the optimizer's next step, which moves weight j by -response_j g_j for a gradient g that is small beside those it has seen: minus the
// derivative of each weight after the step in its own gradient, at no gradient. Weights are numbered as those of the network.
//
// The step is built by the optimizer itself, on a copy of the store in float64, for the loss sum of g_j theta_j, whose gradient is g: nothing has to be known
// of its rule, but that a weight's step depends on that weight's gradient alone, which is tested.
func (a *Auditor) response() (response []float64, err error) {
	store := model.NewStore()
	defer store.Finalize()
	source := a.config.source.Store()
	for path, value := range source.IterParams() {
		store.SetParam(path, value)
	}
	for variable := range source.IterVariables() {
		value, err := variable.Value()
		if err != nil {
			return nil, cause.In("audit", err)
		}
		copied, err := follow(value, dtypes.Float64)
		if err != nil {
			return nil, cause.In("audit", err)
		}
		own, err := store.CreateVariable(variable.Path(), copied)
		if err != nil {
			return nil, cause.In("audit", err)
		}
		own.Trainable = variable.Trainable
	}
	store.SetLoader(lateLoader{source})
	// Where Adam has seen no gradient its step is that of a square root at 0. This is small beside any it has seen, and its square is none.
	const small = 1e-30
	dim := a.network.Dim()
	gradient, weights := make([]float64, dim), make([]float64, dim)
	random := rand.New(rand.NewPCG(1, 2))
	for j := range gradient {
		gradient[j], weights[j] = small, random.Float64()
	}
	var outputs []*tensors.Tensor
	panicked := exceptions.TryCatch[error](func() {
		step := model.MustNewExec(a.backend, store, func(scope *model.Scope, g, weights *graph.Node) (plain, weighted *graph.Node) {
			loss := a.dot(store, g)
			a.config.optimizer.UpdateGraph(scope, g.Graph(), loss)
			return graph.Gradient(a.dot(store, graph.OnesLike(g)), g)[0], graph.Gradient(a.dot(store, weights), g)[0]
		})
		defer step.Finalize()
		outputs, err = step.Call(tensors.FromValue(gradient), tensors.FromValue(weights))
	})
	if panicked != nil {
		err = panicked
	}
	if err = cause.Of(err); err != nil {
		return nil, &SettingError{"metric", "is optimizer, and its step cannot be built in float64 on the training's variables (" + cause.Plain(err) + "); is it the optimizer of the training, without a precision of its own?"}
	}
	response, err = network.Values(outputs[0])
	if err != nil {
		return nil, cause.In("audit", err)
	}
	weighted, err := network.Values(outputs[1])
	if err != nil {
		return nil, cause.In("audit", err)
	}
	floats.Scale(-1, response)
	for j, r := range response {
		switch {
		case math.IsNaN(r) || math.IsInf(r, 0) || r < 0:
			return nil, &SettingError{"metric", fmt.Sprintf("is optimizer, whose next step moves a weight by %g times its gradient, which is no descent; use ntk", -r)}
		case math.Abs(weighted[j]+weights[j]*r) > 1e-9*r:
			return nil, &SettingError{"metric", "is optimizer, and a weight's step depends on the gradients of others, as by clipping their common norm: use ntk"}
		}
	}
	if floats.Max(response) == 0 {
		return nil, &SettingError{"metric", "is optimizer, whose next step moves nothing: is its learning rate 0?"}
	}
	return response, nil
}

// rootOfResponse is the root of each, by which gradients are scaled; nil where the metric is another.
func (a *Auditor) rootOfResponse() ([]float64, error) {
	if a.config.forward || a.config.metric != MetricOptimizer {
		return nil, nil
	}
	root, err := a.response()
	for j, r := range root {
		root[j] = math.Sqrt(r)
	}
	return root, err
}

// lateLoader gives a copy of a store the variables that are in the store's checkpoint only, until they are asked for: the moments of an optimizer that has taken
// no step since.
type lateLoader struct{ source *model.Store }

// LoadVariable returns the value of a variable in float64, if it is a float.
func (l lateLoader) LoadVariable(_ *model.Store, path string) (*tensors.Tensor, bool) {
	variable := l.source.GetVariable(path)
	if variable == nil {
		return nil, false
	}
	variable.SetTrainable(false) // what a model trains has been asked for
	value, err := variable.Value()
	if err == nil {
		value, err = follow(value, dtypes.Float64)
	}
	if err != nil {
		panic(err)
	}
	return value, true
}

// DeleteVariable does nothing: the store's checkpoint keeps what it has.
func (lateLoader) DeleteVariable(*model.Store, string) error { return nil }

// dot is the inner product of the trainable variables of a store, as they are in a graph now, with a flat vector.
func (a *Auditor) dot(store *model.Store, v *graph.Node) *graph.Node {
	g, sum, offset := v.Graph(), graph.ScalarZero(v.Graph(), v.DType()), 0
	for _, path := range a.trainable {
		theta := store.GetVariable(path).NodeValue(g)
		size := theta.Shape().Size()
		part := graph.Reshape(graph.Slice(v, graph.AxisRange(offset, offset+size)), theta.Shape().Dimensions...)
		sum = graph.Add(sum, graph.ReduceAllSum(graph.Mul(theta, part)))
		offset += size
	}
	return sum
}
