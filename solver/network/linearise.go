package network

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/solver/network/forward"
	"github.com/symaudit/symaudit/solver/network/partial"
)

// linearisation has the programs of linearised factors for batches of one shape. The first builds the model with its tangent and cotangent,
// both unknown; the two others are copied from its graph, so that they compute what the recomputing programs do.
type linearisation struct {
	network        *Network
	shapes         []shapes.Shape // of the model's inputs
	primal         *model.Exec    // of the inputs: the output and the residuals
	image, adjoint *stage         // of the inputs, the residuals and v or u

	most   int64 // bytes that the residuals may take
	bytes  int64 // that they do, when they are known
	failed error // other than that they are too large
	ready  bool  // the programs are compiled

	// On the graph of primal:
	graph     *graph.Graph
	split     *partial.Split
	inputs    []*graph.Node
	variables map[graph.NodeId]*model.Variable
}

// stage is the second stage of one of the two products.
type stage struct {
	exec      *model.Exec
	unknown   []*graph.Node // the tangents of the parameters that the model uses, or the cotangent
	outputs   []*graph.Node // the tangent of the output, or the gradients
	residuals []*graph.Node // that it reads
	places    []int         // of these among all
}

// pick lists the residuals of a stage.
func (s *stage) pick(all []*tensors.Tensor) (picked []*tensors.Tensor) {
	for _, place := range s.places {
		picked = append(picked, all[place])
	}
	return picked
}

// linearisation returns the linearisation for the shapes of a model's inputs.
func (n *Network) linearisation(inputs []*tensors.Tensor) *linearisation {
	l := &linearisation{network: n, image: &stage{}, adjoint: &stage{}}
	for _, input := range inputs {
		l.shapes = append(l.shapes, input.Shape())
	}
	for _, known := range n.linearisations {
		if slices.EqualFunc(known.shapes, l.shapes, shapes.Shape.Equal) {
			return known
		}
	}
	n.linearisations = append(n.linearisations, l)
	l.primal = program(n, l.build)
	l.image.exec = program(n, func(_ *model.Scope, args []*graph.Node) *graph.Node {
		args, v := last(args)
		return l.emit(l.image, args, n.split(v, l.graph))[0]
	})
	l.adjoint.exec = program(n, func(_ *model.Scope, args []*graph.Node) *graph.Node {
		args, u := last(args)
		u = graph.Reshape(u, l.adjoint.unknown[0].Shape().Dimensions...)
		return n.join(l.emit(l.adjoint, args, []*graph.Node{u}), l.graph)
	})
	return l
}

// prepare compiles the programs, unless they are or the residuals take more than so many bytes. It returns how many they take, 0 where that
// is not known, and why there are no programs.
func (l *linearisation) prepare(most int64) (bytes int64, failed error) {
	if most <= 0 {
		return l.bytes, errors.New("network: no residuals are allowed")
	}
	if !l.ready && l.failed == nil && l.bytes <= most {
		l.most = most
		err := l.compile()
		switch l.ready = err == nil; {
		case l.bytes > most: // they can be compiled when more is allowed
		case err != nil:
			l.failed = fmt.Errorf("network: %w", cause.Of(err))
		}
	}
	if l.bytes > most {
		return l.bytes, fmt.Errorf("network: the residuals take %d bytes, more than %d", l.bytes, most)
	}
	return l.bytes, l.failed
}

func (l *linearisation) compile() (err error) {
	panicked := exceptions.TryCatch[error](func() {
		if _, err = l.primal.Compile(l.shapes...); err != nil {
			return
		}
		rows := l.adjoint.unknown[0].Shape().Size()
		if err = l.compileStage(l.image, l.network.dim); err == nil {
			err = l.compileStage(l.adjoint, rows)
		}
	})
	if panicked != nil {
		return panicked
	}
	return err
}

func (l *linearisation) compileStage(s *stage, size int) error {
	args := slices.Clone(l.shapes)
	for _, residual := range s.residuals {
		args = append(args, residual.Shape())
	}
	_, err := s.exec.Compile(append(args, shapes.Make(l.network.dtype, size))...)
	return err
}

// build is the first stage: the output, so that it is never without a result, and the residuals.
func (l *linearisation) build(scope *model.Scope, inputs []*graph.Node) []*graph.Node {
	n := l.network
	output := n.build(scope, inputs)
	l.graph, l.inputs, l.variables = output.Graph(), inputs, map[graph.NodeId]*model.Variable{}
	atHand := slices.Clone(inputs)
	for variable := range n.store.IterVariables() {
		if !variable.InUseByGraph(l.graph) {
			continue
		}
		if node := variable.NodeValue(l.graph); node.Type() == graph.NodeTypeParameter {
			l.variables[node.Id()] = variable
			atHand = append(atHand, node)
		}
	}
	parameters := n.parametersIn(l.graph)
	if len(parameters) == 0 {
		exceptions.Panicf("the model uses no parameter")
	}

	u := graph.Zeros(l.graph, output.Shape()) // any value: the results that depend on it are not computed
	v := make([]*graph.Node, len(parameters))
	for i, p := range parameters {
		v[i] = graph.Zeros(l.graph, p.Shape())
	}
	l.image.unknown, l.image.outputs = v, forward.JVP([]*graph.Node{output}, parameters, v)
	l.adjoint.unknown, l.adjoint.outputs = []*graph.Node{u}, graph.Gradient(graph.ReduceAllSum(graph.Mul(output, u)), parameters...)
	l.split = partial.New(slices.Concat(l.image.outputs, l.adjoint.outputs), append(v, u), atHand)
	l.bytes = partial.Bytes(l.split.Residuals)
	if l.bytes > l.most {
		exceptions.Panicf("too many residuals")
	}
	for _, stage := range []*stage{l.image, l.adjoint} {
		stage.residuals, stage.places = l.split.ResidualsOf(stage.outputs), nil
		for _, residual := range stage.residuals {
			stage.places = append(stage.places, slices.Index(l.split.Residuals, residual))
		}
	}
	// Identity as in New.
	return append([]*graph.Node{graph.Identity(output)}, l.split.Residuals...)
}

// emit builds a second stage from the inputs of the model, the residuals and the values that were unknown.
func (l *linearisation) emit(s *stage, args, values []*graph.Node) []*graph.Node {
	have := map[graph.NodeId]*graph.Node{}
	for i, node := range slices.Concat(l.inputs, s.residuals) {
		have[node.Id()] = args[i]
	}
	for i, node := range s.unknown {
		have[node.Id()] = values[i]
	}
	g := values[0].Graph()
	return l.split.Emit(g, s.outputs, func(node *graph.Node) *graph.Node {
		if variable := l.variables[node.Id()]; variable != nil {
			return variable.NodeValue(g)
		}
		return have[node.Id()]
	})
}

func (l *linearisation) close() {
	for _, exec := range []*model.Exec{l.primal, l.image.exec, l.adjoint.exec} {
		exec.Finalize()
	}
}
