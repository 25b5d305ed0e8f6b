// Package network has the products of a GoMLX model that influence needs.
//
// A Network is a private copy of a model's weights, in evaluation mode. It yields the gradients of single samples, the metric of a
// batch as a solver.Operator and its solver.Factor, the curvature of the loss and, for small models, the Jacobian itself. It also
// checks that the model's gradient is the adjoint of its derivative, and names the operation at fault where it is not. Parameters are
// numbered by the sorted paths of the trainable variables.
//
// What is done with the operators, in plain numbers, is in package solver.
package network

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/support/exceptions"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/solver/network/forward"
)

// Network is a private copy of a model's weights, in evaluation mode and in a precision of its own, with the products
// that influence needs. It never touches the store it copies from. Parameters are numbered by the sorted paths of the
// trainable variables, each flattened in row-major order.
//
// It is not safe for concurrent use. Close frees it.
type Network struct {
	*weights
	further []*tensors.Tensor // inputs beside x
}

// weights are what a network and those made from it by With have in common.
type weights struct {
	backend compute.Backend
	model   train.ModelFn
	loss    LossFn
	dtype   dtypes.DType
	store   *model.Store
	params  []*model.Variable
	dim     int
	loads   int // so far

	output  int             // the one of the model that is predicted and differentiated; -1: its only one
	outputs int             // of the model, known when it has been built
	inputs  int             // of the model, settled by the first call
	used    map[string]bool // paths of the parameters that the model used when it was last built
	copied  map[string]bool // paths of the variables that were loaded
	seed    *int64          // of the model's random numbers, the same in each call; nil: they follow on each other

	predict, cost, gradient, product, tangent, cotangent, hessian *model.Exec
	linearisations                                                []*linearisation
	alongInputs                                                   map[string]*model.Exec  // by key
	arguments                                                     map[int]*tensors.Tensor // by size, see argument
	resident                                                      *resident               // once a factor has it
}

// New builds the products for a model. dtype, Float32 or Float64, is the precision of weights and products. A sample's
// output must not depend on the other samples, and it must follow the dtype of its first input where the network's precision is
// not the model's own. A spec that the model takes is nil; give a function that binds another.
func New[F train.ModelFnCompatible](backend compute.Backend, modelFn F, lossFn LossFn, dtype dtypes.DType) (*Network, error) {
	if dtype != dtypes.Float32 && dtype != dtypes.Float64 {
		return nil, fmt.Errorf("network: a network in %s is not supported; use float32 or float64", dtype)
	}
	canonical, _, err := Canonical(modelFn)
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	n := &Network{weights: &weights{backend: backend, model: canonical, loss: lossFn, dtype: dtype, store: model.NewStore(), output: -1}}
	err = exceptions.TryCatch[error](func() {
		n.predict = program(n, func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
			// Identity because the Go backend of compute v0.1.4 cannot run a graph that ends before its last parameter, such as that of
			// another output.
			return graph.Identity(n.build(scope, inputs))
		})
		n.cost = program(n, n.lossOf)
		n.gradient = program(n, func(scope *model.Scope, args []*graph.Node) (*graph.Node, *graph.Node) {
			loss := n.lossOf(scope, args)
			return loss, n.flatGradient(loss)
		})
		n.product = program(n, func(scope *model.Scope, args []*graph.Node) *graph.Node {
			inputs, v := last(args)
			output := n.build(scope, inputs)
			// The tangent is a constant to the reverse pass, which then shares the primal graph with the forward one.
			tangent := graph.StopGradient(n.jacobianVector(output, v))
			return n.flatGradient(graph.ReduceAllSum(graph.Mul(output, tangent)))
		})
		n.tangent = program(n, func(scope *model.Scope, args []*graph.Node) *graph.Node {
			inputs, v := last(args)
			return n.jacobianVector(n.build(scope, inputs), v)
		})
		n.cotangent = program(n, func(scope *model.Scope, args []*graph.Node) *graph.Node {
			inputs, u := last(args)
			output := n.build(scope, inputs)
			return n.flatGradient(graph.ReduceAllSum(graph.Mul(output, graph.Reshape(u, output.Shape().Dimensions...))))
		})
		n.hessian = program(n, func(_ *model.Scope, args []*graph.Node) *graph.Node {
			labels, v := last(args[1:])
			return graph.Reshape(n.hessianVector(args[0], labels, graph.Reshape(v, args[0].Shape().Dimensions...)), -1)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return n, nil
}

// program makes a program on the network's weights. Nodes that the model sets to be logged are not: it would be at every product.
func program[F model.ExecGraphFn](n *Network, build F) *model.Exec {
	exec := model.MustNewExec(n.backend, n.store, build)
	exec.SetNodeLogger(func(*graph.Graph, []string, []*tensors.Tensor, []graph.NodeId) {})
	return exec
}

// WithOutput chooses the output, from 0, of a model with several that is predicted, and whose Jacobian and metric are taken; the
// loss gets all. It is for a network that has not been used, and returns it.
func (n *Network) WithOutput(i int) *Network { n.output = i; return n }

// WithSeed makes each call of the model begin with the same random state, so that a model that draws random numbers in evaluation
// is a function of its inputs. A sample's numbers depend on its place in the batch. It returns the network.
func (n *Network) WithSeed(seed int64) *Network { n.seed = &seed; return n }

// Built reports whether the model has been built.
func (n *Network) Built() bool { return n.used != nil }

// Uses reports whether the model, as it was last built, uses the trainable variable at a path.
func (n *Network) Uses(path string) bool { return n.used[path] }

// Made lists the variables that the model made when it was built, for those loaded lack them: it is not the one that they belong to.
func (n *Network) Made() (paths []string) {
	for variable := range n.store.IterVariables() {
		if path := variable.Path(); !n.copied[path] && path != randomState {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// build builds the model and returns the chosen output.
func (n *Network) build(scope *model.Scope, inputs []*graph.Node) *graph.Node {
	output, _ := n.buildAll(scope, inputs)
	return output
}

func (n *Network) buildAll(scope *model.Scope, inputs []*graph.Node) (output *graph.Node, all []*graph.Node) {
	all = n.model(scope, nil, inputs)
	n.outputs = len(all)
	n.used = map[string]bool{}
	reached := map[graph.NodeId]bool{}
	for _, node := range ancestors(all...) {
		reached[node.Id()] = true
	}
	for _, p := range n.params {
		n.used[p.Path()] = p.InUseByGraph(inputs[0].Graph()) && reached[p.NodeValue(inputs[0].Graph()).Id()]
	}
	switch at := n.output; {
	case at < 0 && len(all) != 1:
		exceptions.Panicf("the model has %d outputs; choose the one that is the state, from 0 (WithOutput)", len(all))
	case at >= len(all):
		exceptions.Panicf("output %d was chosen of a model with %d; the first is 0 (WithOutput)", at, len(all))
	}
	output = all[max(0, n.output)]
	if !output.DType().IsFloat() {
		exceptions.Panicf("the model's output is %s; only floats are audited", output.Shape())
	}
	return output, all
}

// lossOf is the loss of a batch, whose labels follow the model's inputs.
func (n *Network) lossOf(scope *model.Scope, args []*graph.Node) *graph.Node {
	_, all := n.buildAll(scope, args[:n.inputs])
	return n.scalarLoss(args[n.inputs:], all)
}

func (n *Network) scalarLoss(labels, predictions []*graph.Node) *graph.Node {
	loss := n.loss(labels, predictions)
	if !loss.IsScalar() {
		loss = graph.ReduceAllMean(loss)
	}
	return loss
}

// last splits the last argument of a program, a direction, from the others.
func last(args []*graph.Node) (others []*graph.Node, direction *graph.Node) {
	end := len(args) - 1
	return args[:end], args[end]
}

// With returns the network with further inputs of its model, beside the x of each call and with as many samples. It shares
// weights and programs with n, and holds the inputs, which must stay alive.
func (n *Network) With(further ...*tensors.Tensor) *Network {
	return &Network{n.weights, further}
}

// Load copies the variables and hyperparameters of a store, converting trainable ones to the network's precision. It
// is cheap after the first time. The trainable variables must stay the same from one call to the next.
func (n *Network) Load(from *model.Store) error {
	for path, value := range from.IterParams() {
		n.store.SetParam(path, value)
	}
	var params []*model.Variable
	n.copied = map[string]bool{}
	for variable := range from.IterVariables() {
		n.copied[variable.Path()] = true
		value, err := variable.Value()
		if err != nil {
			return fmt.Errorf("network: variable %s has no value yet; audit after the first training step: %w", variable.Path(), err)
		}
		trainable := variable.Trainable && value.DType().IsFloat()
		dtype := value.DType()
		if dtype.IsFloat() {
			dtype = n.dtype
		}
		copied, err := ConvertDType(value, dtype)
		if err != nil {
			return fmt.Errorf("network: variable %s: %w", variable.Path(), err)
		}
		own := n.store.GetVariable(variable.Path())
		if own == nil {
			own, err = n.store.CreateVariable(variable.Path(), copied)
		} else {
			err = own.SetValue(copied)
		}
		if err != nil {
			return fmt.Errorf("network: variable %s: %w", variable.Path(), err)
		}
		own.Trainable = trainable
		if trainable {
			params = append(params, own)
		}
	}
	slices.SortFunc(params, func(a, b *model.Variable) int { return strings.Compare(a.Path(), b.Path()) })
	if n.loads > 0 && !slices.Equal(n.params, params) {
		return fmt.Errorf("network: the model had %d trainable variables and now has %d or others; make a new network when parameters are frozen or added", len(n.params), len(params))
	}
	n.params, n.dim, n.loads = params, 0, n.loads+1
	for _, p := range params {
		n.dim += p.Shape().Size()
	}
	return nil
}

// Dim is the number of trainable parameters loaded.
func (n *Network) Dim() int { return n.dim }

// DType is the precision of weights and products.
func (n *Network) DType() dtypes.DType { return n.dtype }

// Predict returns the model's output on a batch, in the network's precision.
func (n *Network) Predict(x *tensors.Tensor) (*tensors.Tensor, error) {
	outputs, err := n.run(n.predict, x)
	if err != nil {
		return nil, err
	}
	return outputs[0], nil
}

// Loss returns the loss of a batch with its labels.
func (n *Network) Loss(x *tensors.Tensor, labels ...*tensors.Tensor) (loss float64, err error) {
	outputs, err := n.run(n.cost, x, labels...)
	if err != nil {
		return 0, err
	}
	var scalar [1]float64
	err = drain(scalar[:], outputs[0])
	return scalar[0], err
}

// Gradient returns the loss of a batch with its labels, and writes its gradient with respect to the parameters to dst, of length Dim.
func (n *Network) Gradient(dst []float64, x *tensors.Tensor, labels ...*tensors.Tensor) (loss float64, err error) {
	outputs, err := n.run(n.gradient, x, labels...)
	if err != nil {
		return 0, err
	}
	var scalar [1]float64
	if err := drain(scalar[:], outputs[0]); err != nil {
		return 0, err
	}
	return scalar[0], drain(dst, outputs[1])
}

// VectorJacobian writes J^T u to dst, of length Dim, for the Jacobian J of the output of the batch x in the parameters; u is as long as that output,
// flattened.
func (n *Network) VectorJacobian(dst []float64, x *tensors.Tensor, u []float64) error {
	image, err := n.along(n.cotangent, u, x)
	if err != nil {
		return err
	}
	return drain(dst, image)
}

// AlongInputs returns what a function makes of the output on a batch x and of its rate of change where the inputs of the model, x first, change at the rates that another
// function gives of them; nil is none. The program is made once for each key.
func (n *Network) AlongInputs(key string, x *tensors.Tensor, rates func(inputs []*graph.Node) []*graph.Node, of func(output, rate *graph.Node) *graph.Node) (*tensors.Tensor, error) {
	if n.alongInputs == nil {
		n.alongInputs = map[string]*model.Exec{}
	}
	if n.alongInputs[key] == nil {
		n.alongInputs[key] = program(n, func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
			output := n.build(scope, inputs)
			var changing, tangents []*graph.Node
			for i, rate := range rates(inputs) {
				if rate != nil {
					changing, tangents = append(changing, inputs[i]), append(tangents, rate)
				}
			}
			return of(output, forward.JVP([]*graph.Node{output}, changing, tangents)[0])
		})
	}
	outputs, err := n.run(n.alongInputs[key], x)
	if err != nil {
		return nil, err
	}
	return outputs[0], nil
}

// Metric returns eta = scale * J^T J over the batch x as an operator, for the weights loaded at the time of each
// product. It holds x, which must stay alive.
func (n *Network) Metric(x *tensors.Tensor, scale float64) solver.Operator {
	return &metric{network: n, exec: n.product, x: x, argument: 1, result: scale}
}

// Jacobian returns the Jacobian of the flattened output of the batch x, [outputs, Dim], by Dim forward products and no
// reverse one. For small models: it takes 8 * outputs * Dim bytes.
func (n *Network) Jacobian(x *tensors.Tensor) (*mat.Dense, error) {
	var columns *mat.Dense
	basis := make([]float64, n.dim)
	for i := range n.dim {
		basis[i] = 1
		column, err := n.along(n.tangent, basis, x)
		basis[i] = 0
		if err != nil {
			return nil, err
		}
		if columns == nil {
			columns = mat.NewDense(n.dim, column.Size(), nil)
		}
		if err := drain(columns.RawRowView(i), column); err != nil {
			return nil, err
		}
	}
	if columns == nil {
		return nil, fmt.Errorf("network: the model has no trainable parameter")
	}
	return mat.DenseCopyOf(columns.T()), nil
}

// Close frees the weights and the compiled programs.
func (n *Network) Close() {
	for _, exec := range []*model.Exec{n.predict, n.cost, n.gradient, n.product, n.tangent, n.cotangent, n.hessian} {
		exec.Finalize()
	}
	for _, exec := range n.alongInputs {
		exec.Finalize()
	}
	for _, l := range n.linearisations {
		l.close()
	}
	for _, own := range n.arguments {
		own.MustFinalizeAll()
	}
	if n.resident != nil {
		n.resident.close()
	}
	n.store.Finalize()
}

// jacobianVector is J v for the output's Jacobian with respect to the parameters and a flat vector v.
func (n *Network) jacobianVector(output, v *graph.Node) *graph.Node {
	return n.directional(forward.JVP, output, v)
}

// directional is jacobianVector by a forward derivative of choice.
func (n *Network) directional(jvp func(outputs, inputs, tangents []*graph.Node) []*graph.Node, output, v *graph.Node) *graph.Node {
	g := output.Graph()
	nodes := n.parametersIn(g)
	if len(nodes) == 0 {
		return graph.ZerosLike(output)
	}
	return jvp([]*graph.Node{output}, nodes, n.split(v, g))[0]
}

// split is a flat vector as tangents of the parameters that a graph uses, which may be another than that of v.
func (n *Network) split(v *graph.Node, uses *graph.Graph) (tangents []*graph.Node) {
	offset := 0
	for _, p := range n.params {
		size := p.Shape().Size()
		if p.InUseByGraph(uses) {
			slice := graph.Slice(v, graph.AxisRange(offset, offset+size))
			tangents = append(tangents, graph.Reshape(slice, p.Shape().Dimensions...))
		}
		offset += size
	}
	return tangents
}

// flatGradient is the gradient of a scalar with respect to all parameters, zero where the model does not use one.
func (n *Network) flatGradient(scalar *graph.Node) *graph.Node {
	g := scalar.Graph()
	nodes := n.parametersIn(g)
	if len(nodes) == 0 {
		return graph.Zeros(g, shapes.Make(n.dtype, n.dim))
	}
	return n.join(graph.Gradient(scalar, nodes...), g)
}

// join is one flat vector of the gradients of the parameters that a graph uses, which may be another than theirs, zero for the others.
func (n *Network) join(gradients []*graph.Node, uses *graph.Graph) *graph.Node {
	g := gradients[0].Graph()
	flat := make([]*graph.Node, 0, len(n.params))
	for _, p := range n.params {
		size := p.Shape().Size()
		if p.InUseByGraph(uses) {
			flat = append(flat, graph.Reshape(gradients[0], size))
			gradients = gradients[1:]
		} else {
			flat = append(flat, graph.Zeros(g, shapes.Make(n.dtype, size)))
		}
	}
	return graph.Concatenate(flat, 0)
}

// run executes a program of the model's inputs and other arguments.
func (n *Network) run(exec *model.Exec, x *tensors.Tensor, others ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	inputs, err := n.batch(x)
	if err != nil {
		return nil, err
	}
	return n.call(exec, slices.Concat(inputs, others)...)
}

// batch lists the inputs of the model.
func (n *Network) batch(x *tensors.Tensor) ([]*tensors.Tensor, error) {
	inputs := slices.Concat([]*tensors.Tensor{x}, n.further)
	if n.inputs == 0 {
		n.inputs = len(inputs)
	}
	if n.inputs != len(inputs) {
		return nil, fmt.Errorf("network: the model was given %d inputs before and now %d", n.inputs, len(inputs))
	}
	return inputs, nil
}

// call executes a program, whose graph may be built now and panic for it.
func (n *Network) call(exec *model.Exec, tensors ...*tensors.Tensor) (outputs []*tensors.Tensor, err error) {
	if err := n.begin(); err != nil {
		return nil, err
	}
	args := make([]any, len(tensors))
	for i, t := range tensors {
		args[i] = t
	}
	panicked := exceptions.TryCatch[error](func() { outputs, err = exec.Exec(args...) })
	if panicked != nil {
		err = panicked
	}
	err = cause.Of(err)
	if made := remade.FindStringSubmatch(fmt.Sprint(err)); made != nil {
		err = cause.Say(n.ofAnotherPrecision(made[1]), err)
	}
	if err != nil {
		return nil, fmt.Errorf("network: %w", n.mixed(err))
	}
	return outputs, nil
}

// begin readies the store for a program to be built or run.
func (n *Network) begin() error {
	if n.loads == 0 {
		return fmt.Errorf("network: no weights are loaded; call Load first")
	}
	if err := n.resetRandomState(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return nil
}

// mixed adds what to do to an error that comes of numbers in the other precision, constants for instance.
func (n *Network) mixed(err error) error {
	other := dtypes.Float32
	if n.dtype == dtypes.Float32 {
		other = dtypes.Float64
	}
	own := n.dtype.String()
	if text := err.Error(); !strings.Contains(text, "must match") || !strings.Contains(text, own) || !strings.Contains(text, other.String()) {
		return err
	}
	name := strings.ToLower(other.String())
	return fmt.Errorf("%w; the model, or the loss, has numbers in %s whatever the precision of its input: audit it in %s (WithDType), or make them in that precision (x.DType())", err, name, name)
}

// remade matches what GoMLX says of a variable that the model wants in another precision than that of the network's copy.
var remade = regexp.MustCompile(`requested to reuse variable .* requested shape=\((\w+)\)`)

// ofAnotherPrecision says what to do with a model whose variables do not follow the precision of its input.
func (n *Network) ofAnotherPrecision(wants string) string {
	words := fmt.Sprintf("the model makes variables in %s whatever the precision of its input, and the audit is in %s: ", strings.ToLower(wants), strings.ToLower(n.dtype.String()))
	if wants == dtypes.Float32.String() || wants == dtypes.Float64.String() {
		return words + fmt.Sprintf("audit it in %s (WithDType)", strings.ToLower(wants))
	}
	return words + "let it make them in the precision of its input, of which audits are float32 or float64"
}

// resetRandomState sets the random state to that of the seed, if there is one.
func (n *Network) resetRandomState() error {
	if n.seed == nil {
		return nil
	}
	state, err := graph.RNGStateFromSeed(*n.seed)
	if err != nil {
		return err
	}
	if variable := n.store.GetVariable(randomState); variable != nil {
		return variable.SetValue(state)
	}
	_, err = n.store.CreateVariable(randomState, state)
	return err
}

// randomState is the path of the variable that random numbers come from.
const randomState = model.ScopeSeparator + model.RNGStateVariableName
