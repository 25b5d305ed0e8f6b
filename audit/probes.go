package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/support/exceptions"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// Sample says where a probe comes from.
type Sample struct {
	Class      string // family of initial conditions, for instance
	Trajectory int64  // within the class
	TimeIndex  int32  // of the input state
}

// Probes are held-out transitions, chosen once: the state after a step is the target of the state before it.
type Probes struct {
	// Inputs are states, float32 or float64: [n, x, channel], [n, y, x, channel] or [n, z, y, x, channel], and for groups of one's own, and scalings,
	// [n, ..., channel] of any rank.
	Inputs  *tensors.Tensor
	Targets *tensors.Tensor // the same, or channels of the output's field on the grid of the inputs; where the output is invariant, the labels as the loss takes them: [n, ...]
	// Further are the model's inputs beside the states, in order, [n, ...] of any type: a coefficient or the length of a step. Those
	// of the shape of the grid, [n, y, x] or [n, y, x, channel], are scalars that move with the states, such as a mask; no element
	// changes the others. A vector, gravity for instance, belongs into channels of the states.
	Further []*tensors.Tensor
	// Labels are what the loss takes beside the targets, labels[1] and on, [n, ...] of any type: a mask or weights. They move as
	// Further does.
	Labels  []*tensors.Tensor
	Samples []Sample // of length n; nil numbers them as trajectories of a class without a name
	// BatchSize samples, in order, share one metric eta; influence is measured between samples of a batch. It divides
	// n. Zero means one batch of all.
	BatchSize int
	// Metrics are the states that the metric of each batch is over, one entry for each or one for all, such as all transitions of the trajectories
	// that the probes are of. Batches whose metric is over the same *MetricStates, of any group, are solved together. Without, the metric of a
	// batch is over the batch itself, unmoved.
	Metrics []*MetricStates
}

func (p Probes) validate(field, output orbits.Field, invariant bool) error {
	if p.Inputs == nil || p.Targets == nil {
		return fmt.Errorf("audit: probes need inputs and targets")
	}
	for _, c := range append([]companion{{"Probes.Inputs", p.Inputs, false}, {"Probes.Targets", p.Targets, true}}, p.companions()...) {
		if c.tensor != nil && !c.tensor.Ok() {
			return fmt.Errorf("audit: %s has been freed, as a step of GoMLX's trainer frees its batch; make the tensors of the probes anew", c.name)
		}
	}
	shape, targets := p.Inputs.Shape(), p.Targets.Shape()
	switch {
	case shape.DType != dtypes.Float32 && shape.DType != dtypes.Float64:
		return fmt.Errorf("audit: probes are %s; they must be float32 or float64", shape)
	case shape.Rank() < 2 || shape.Size() == 0:
		return fmt.Errorf("audit: probes are %s; they must be [n, ..., channel], [n, y, x, channel] for instance", shape)
	case invariant && (targets.Rank() == 0 || targets.Dimensions[0] != shape.Dimensions[0]):
		return fmt.Errorf("audit: probes are %s with targets %s; there must be a target for each, [n, ...]", shape, targets)
	case !invariant && targets.DType != shape.DType && targets.Rank() == shape.Rank():
		return fmt.Errorf("audit: probes are %s with targets %s; states and targets must be of one type: convert the targets, or declare the output invariant (WithInvariantOutput) if they are labels", shape, targets)
	case !invariant && (targets.Rank() != shape.Rank() || targets.DType != shape.DType || !slices.Equal(targets.Dimensions[:targets.Rank()-1], shape.Dimensions[:shape.Rank()-1])):
		return fmt.Errorf("audit: probes are %s with targets %s; both must be the same [n, ..., channel] up to their channels, unless the output is invariant (audit.Builder.WithInvariantOutput)", shape, targets)
	}
	dimensions := shape.Dimensions
	if channels := shape.Dim(-1); channels != len(field.Channels) {
		return fmt.Errorf("audit: probes %s have %d channels, the field has %d (%v); declare the field of these states", shape, channels, len(field.Channels), field.Channels)
	}
	if channels := targets.Dim(-1); !invariant && channels != len(output.Channels) {
		return fmt.Errorf("audit: targets %s have %d channels, the output's field has %d (%v); declare the field of the output (audit.Builder.WithOutputField)", targets, channels, len(output.Channels), output.Channels)
	}
	if p.Samples != nil && len(p.Samples) != dimensions[0] {
		return fmt.Errorf("audit: Probes.Samples describes %d samples of %d; give one for each, or none", len(p.Samples), dimensions[0])
	}
	for _, c := range p.companions() {
		if c.tensor == nil || c.tensor.Rank() == 0 || c.tensor.Shape().Dimensions[0] != dimensions[0] {
			return fmt.Errorf("audit: %s is %s; it must be [%d, ...], one for each probe", c.name, shapeOf(c.tensor), dimensions[0])
		}
	}
	for i, sample := range p.Samples {
		if !utf8.ValidString(sample.Class) {
			return fmt.Errorf("audit: the class of probe %d, %q, is not UTF-8, which is all that tables can hold; convert it", i, sample.Class)
		}
	}
	for _, c := range append([]companion{{"the input", p.Inputs, false}, {"the target", p.Targets, true}}, p.companions()...) {
		if !c.tensor.DType().IsFloat() || c.tensor.Shape().Size() == 0 {
			continue // labels
		}
		all, err := values(c.tensor)
		if err != nil {
			return err
		}
		for at, v := range all {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("audit: %s of probe %d holds %g; leave out the probes that are not finite", c.name, at/(len(all)/dimensions[0]), v)
			}
		}
	}
	if p.BatchSize < 0 || p.BatchSize > dimensions[0] || p.BatchSize > 0 && dimensions[0]%p.BatchSize != 0 {
		return fmt.Errorf("audit: a batch size of %d does not divide %d probes", p.BatchSize, dimensions[0])
	}
	return p.checkMetrics(func(states Probes) error { return states.validate(field, output, invariant) })
}

// companion is a tensor beside inputs and targets, by its name in Probes.
type companion struct {
	name    string
	tensor  *tensors.Tensor
	isLabel bool
}

func (p Probes) companions() (all []companion) {
	for i, t := range p.Further {
		all = append(all, companion{fmt.Sprintf("Probes.Further[%d]", i), t, false})
	}
	for i, t := range p.Labels {
		all = append(all, companion{fmt.Sprintf("Probes.Labels[%d]", i), t, true})
	}
	return all
}

// gridOf is the grid of states [n, grid..., channel].
func gridOf(states *tensors.Tensor) []int {
	dimensions := states.Shape().Dimensions
	return dimensions[1 : len(dimensions)-1]
}

// movesWith reports whether a companion has the shape of the grid of states, with or without channels, so that it moves with them.
func (c companion) movesWith(states *tensors.Tensor) bool {
	shape, grid := c.tensor.Shape().Dimensions, gridOf(states)
	after := len(shape) - 1 - len(grid)
	return len(grid) > 0 && (after == 0 || after == 1) && slices.Equal(shape[1:1+len(grid)], grid)
}

func shapeOf(t *tensors.Tensor) string {
	if t == nil {
		return "nil"
	}
	return t.Shape().String()
}

// hash identifies the values of the probes of a group and where they come from.
func (g groupProbes) hash() (string, error) {
	digest := sha256.New()
	if err := g.hashValues(digest); err != nil {
		return "", err
	}
	for _, sample := range g.probes.Samples {
		fmt.Fprintf(digest, "%q %d %d\n", sample.Class, sample.Trajectory, sample.TimeIndex)
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

func (g groupProbes) hashValues(digest io.Writer) error {
	return hashTensors(digest, g.group.Name, slices.Concat([]*tensors.Tensor{g.probes.Inputs, g.probes.Targets}, g.probes.Further, g.probes.Labels))
}

// metricHash identifies the states that a group's metrics are over; "" where these are the probes.
func (g groupProbes) metricHash() (string, error) {
	digest := sha256.New()
	for _, m := range g.probes.Metrics {
		if err := hashTensors(digest, "", slices.Concat([]*tensors.Tensor{m.Inputs, m.Targets}, m.Further, m.Labels)); err != nil {
			return "", err
		}
	}
	if len(g.probes.Metrics) == 0 {
		return "", nil
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

func hashTensors(digest io.Writer, name string, all []*tensors.Tensor) error {
	for _, t := range all {
		fmt.Fprintln(digest, name, t.Shape())
		if err := t.ConstBytes(func(data []byte) { _, _ = digest.Write(data) }); err != nil {
			return cause.In("audit", fmt.Errorf("reading the probes: %w", err))
		}
	}
	return nil
}

// hashProbes identifies the values of all probes.
func hashProbes(groups []groupProbes) (string, error) {
	digest := sha256.New()
	for _, g := range groups {
		if err := g.hashValues(digest); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}

// orbit is a group with its probes, moved by each of its elements.
type orbit struct {
	group     orbits.Group
	elements  []orbits.Element // identity first
	samples   []Sample
	batchSize int
	named     []*MetricStates          // those that metrics are over, by batch or one for all; none where these are the batches themselves
	metrics   map[*MetricStates]states // in the auditor's dtype

	inputs, targets []*tensors.Tensor   // by element, in the auditor's dtype
	invariant       bool                // the targets are all the same one
	generators      []orbits.Generator  // where local errors are asked for
	moves           []bool              // by further input: it moves with the states
	further, labels [][]*tensors.Tensor // beside inputs and targets, by element, floats in the auditor's dtype
	output          orbits.Field        // of outputs and targets
	changes         bool                // targets are states of the inputs' field
	scales          []float64           // the units of each channel of the targets; nil where they are invariant
	units           *tensors.Tensor     // the same, [channel]
	backend         compute.Backend
	covectors       map[covectorKey]*graph.Exec // output, r -> covector
	act             *graph.Exec                 // a batch of outputs or targets -> their images under each element
	mean            *graph.Exec                 // outputs at the moved samples -> the mean of what takes them back; nil of groups that change values
}

// newOrbit moves the probes of a group, which are valid, by every element of it. output is the field of outputs and targets.
func newOrbit(backend compute.Backend, b *Builder, output orbits.Field, g groupProbes) (o *orbit, err error) {
	group, probes, field, invariant, dtype, log := g.group, g.probes, b.field, b.invariant, b.dtype, b.log
	grid := gridOf(probes.Inputs)
	elements, err := group.Elements(grid...)
	if err != nil {
		return nil, cause.In("audit", err)
	}
	for _, element := range elements {
		if !utf8.ValidString(element.Name()) {
			return nil, fmt.Errorf("audit: group %s: the element %q is not named in UTF-8; convert the name", group.Name, element.Name())
		}
	}
	if len(grid) > 1 && slices.Min(grid) < slices.Max(grid) {
		cube, err := group.Elements(slices.Repeat(grid[:1], len(grid))...)
		if err == nil && slices.ContainsFunc(cube, func(e orbits.Element) bool { return e.NeedsSquare() && !slices.Contains(elements, e) }) {
			log.Warn().Str("group", group.Name).Ints("grid", grid).Str("elements", fmt.Sprint(elements)).
				Msg("the axes of the grid differ in length: elements that carry one to another, such as quarter turns, are left out")
		}
	}
	o = &orbit{group: group, elements: elements, samples: probes.Samples, batchSize: probes.BatchSize, invariant: invariant,
		output: output, changes: !b.invariant && b.output == nil, backend: backend, covectors: map[covectorKey]*graph.Exec{}}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if b.local {
		o.generators = group.Generators(grid...)
	}
	if o.samples == nil {
		o.samples = make([]Sample, probes.Inputs.Shape().Dim(0))
		for i := range o.samples {
			o.samples[i].Trajectory = int64(i)
		}
	}
	if o.batchSize == 0 {
		o.batchSize = len(o.samples)
	}
	images := func(apply func(orbits.Element, orbits.Field, *graph.Node) *graph.Node, of orbits.Field) (*graph.Exec, error) {
		return graph.NewExec(backend, func(x *graph.Node) []*graph.Node {
			moved := make([]*graph.Node, len(elements))
			for i, element := range elements {
				moved[i] = apply(element, of, x)
			}
			return moved
		})
	}
	actOnInputs, err := images(orbits.Element.Apply, field)
	if err != nil {
		return o, cause.In("audit", err)
	}
	defer actOnInputs.Finalize()
	if o.act, err = images(orbits.Element.ApplyOutput, output); err != nil {
		return o, cause.In("audit", err)
	}
	inputs, err := network.ConvertDType(probes.Inputs, dtype)
	if err != nil {
		return o, cause.In("audit", fmt.Errorf("probes: %w", err))
	}
	defer func() { err = errors.Join(err, freeAll(inputs)) }()
	if o.inputs, err = o.move(actOnInputs, inputs); err != nil {
		return o, err
	}
	targets, err := follow(probes.Targets, dtype)
	if err != nil {
		return o, cause.In("audit", fmt.Errorf("targets: %w", err))
	}
	if err := o.convertMetrics(probes.Metrics, func(t *tensors.Tensor) (*tensors.Tensor, error) { return follow(t, dtype) }); err != nil {
		return o, err
	}
	o.further, o.labels = make([][]*tensors.Tensor, len(elements)), make([][]*tensors.Tensor, len(elements))
	for _, c := range probes.companions() {
		moved, err := o.accompany(backend, c, probes.Inputs, field, dtype)
		if err != nil {
			return o, err
		}
		if !c.isLabel {
			o.moves = append(o.moves, c.movesWith(probes.Inputs))
		}
		for e, t := range moved {
			if c.isLabel {
				o.labels[e] = append(o.labels[e], t)
			} else {
				o.further[e] = append(o.further[e], t)
			}
		}
	}
	if invariant {
		o.targets = slices.Repeat([]*tensors.Tensor{targets}, len(elements))
		return o, o.warn(log)
	}
	defer func() { err = errors.Join(err, freeAll(targets)) }()
	permute := !slices.ContainsFunc(elements, func(e orbits.Element) bool { return !e.Permutes() })
	if !invariant && permute && len(elements) > 1 {
		if o.mean, err = graph.NewExec(backend, func(outputs []*graph.Node) *graph.Node {
			sum := outputs[0] // of the identity
			for i, element := range elements[1:] {
				sum = graph.Add(sum, element.Inverse().ApplyOutput(output, outputs[1+i]))
			}
			return graph.DivScalar(sum, len(elements))
		}); err != nil {
			return o, cause.In("audit", err)
		}
	}
	if o.targets, err = o.move(o.act, targets); err != nil {
		return o, err
	}
	all, err := values(probes.Targets)
	if err != nil {
		return o, err
	}
	o.scales = unitsOfProbes(all, output)
	o.warnOfZeros(all, o.scales, output, log)
	if o.units, err = network.ConvertDType(tensors.FromFlatDataAndDimensions(o.scales, len(o.scales)), dtype); err != nil {
		return o, cause.In("audit", err)
	}
	return o, o.warn(log)
}

// unitsOfProbes are the largest magnitudes of the channels of all the targets of a group, none of them zero; the components of a
// vector share theirs. SMSE says what for.
func unitsOfProbes(targets []float64, field orbits.Field) []float64 {
	units := make([]float64, len(field.Channels))
	for at, v := range targets {
		c := at % len(units)
		units[c] = max(units[c], math.Abs(v))
	}
	for _, vector := range slices.Concat(field.Vectors, field.Pseudovectors) {
		shared := 0.0
		for _, c := range vector {
			shared = max(shared, units[c])
		}
		for _, c := range vector {
			units[c] = shared
		}
	}
	all := slices.Max(units)
	for c := range units {
		switch {
		case all == 0:
			units[c] = 1
		case units[c] == 0:
			units[c] = all
		}
	}
	return units
}

// follow copies a tensor, converted if it is of floats.
func follow(t *tensors.Tensor, dtype dtypes.DType) (*tensors.Tensor, error) {
	if !t.DType().IsFloat() {
		return t.LocalClone()
	}
	return network.ConvertDType(t, dtype)
}

// move returns the images under each element.
func (o *orbit) move(act *graph.Exec, states *tensors.Tensor) (moved []*tensors.Tensor, err error) {
	if panicked := exceptions.TryCatch[error](func() { moved, err = act.Call(states) }); panicked != nil {
		err = panicked
	}
	if err != nil {
		return nil, cause.In("audit", fmt.Errorf("group %s: %w", o.group.Name, cause.Of(err)))
	}
	return moved, nil
}

// accompany returns the images of a companion under each element: of scalars on the grid those, in their cells, of anything else
// itself.
func (o *orbit) accompany(backend compute.Backend, c companion, states *tensors.Tensor, field orbits.Field, dtype dtypes.DType) (moved []*tensors.Tensor, err error) {
	values, err := follow(c.tensor, dtype)
	if err != nil {
		return nil, cause.In("audit", fmt.Errorf("%s: %w", c.name, err))
	}
	if !c.movesWith(states) {
		return slices.Repeat([]*tensors.Tensor{values}, len(o.elements)), nil
	}
	defer func() { err = errors.Join(err, freeAll(values)) }()
	cells := make([]orbits.Element, len(o.elements))
	for i, e := range o.elements {
		known := false
		if cells[i], known = e.Cells(); !known {
			return nil, fmt.Errorf("audit: %s is %s, scalars on the grid, and how element %s of your own moves these is not known: make it channels of the states, or use a group of package orbits", c.name, c.tensor.Shape(), e.Name())
		}
		if s := e.Shift(); !values.DType().IsFloat() && s != (orbits.Vector{X: math.Trunc(s.X), Y: math.Trunc(s.Y), Z: math.Trunc(s.Z)}) {
			return nil, fmt.Errorf("audit: %s is %s, and element %s moves it by a fraction of a cell, which takes interpolation: give it as float32, or shift by whole cells", c.name, c.tensor.Shape(), e.Name())
		}
	}
	act, err := graph.NewExec(backend, func(x *graph.Node) (images []*graph.Node) {
		for _, e := range cells {
			apply := e.Apply
			if c.isLabel {
				apply = e.ApplyOutput
			}
			images = append(images, onCells(field, x, states.Rank(), apply))
		}
		return images
	})
	if err != nil {
		return nil, cause.In("audit", err)
	}
	defer act.Finalize()
	return o.move(act, values)
}

// close frees what the orbit holds.
func (o *orbit) close() {
	targets := o.targets
	if o.invariant {
		targets = targets[:min(1, len(targets))] // they are all the same
	}
	_ = freeAll(slices.Concat(o.inputs, targets, []*tensors.Tensor{o.units})...) // nothing can be done about it
	for e := range o.further {
		_ = freeAll(slices.Concat(o.further[e], o.labels[e])...) // of what no element changes, again
	}
	for _, metric := range o.metrics {
		_ = metric.free()
	}
	for _, covector := range o.covectors {
		covector.Finalize()
	}
	if o.mean != nil {
		o.mean.Finalize()
	}
	if o.act != nil {
		o.act.Finalize()
	}
}

func (o *orbit) batches() int { return len(o.samples) / o.batchSize }

// some reports whether any batch is taken.
func (o *orbit) some(takes func(o *orbit, batch int) bool) bool {
	for batch := range o.batches() {
		if takes(o, batch) {
			return true
		}
	}
	return false
}

// states are samples of an orbit as the model and the loss take them.
type states struct {
	x       *tensors.Tensor
	further []*tensors.Tensor // inputs of the model beside x
	labels  []*tensors.Tensor // the first is the target
}

func (s states) all() []*tensors.Tensor {
	return slices.Concat([]*tensors.Tensor{s.x}, s.further, s.labels)
}

func (s states) free() error { return freeAll(s.all()...) }

// whole are all samples moved by element e; they belong to the orbit.
func (o *orbit) whole(e int) states {
	return states{o.inputs[e], o.further[e], append([]*tensors.Tensor{o.targets[e]}, o.labels[e]...)}
}

// states copies the samples [from, to) moved by element e.
func (o *orbit) states(e, from, to int) (states, error) {
	return o.whole(e).copies(func(t *tensors.Tensor) (*tensors.Tensor, error) { return rows(t, from, to) })
}

// copies are states of copies of each tensor.
func (s states) copies(of func(*tensors.Tensor) (*tensors.Tensor, error)) (states, error) {
	var copied []*tensors.Tensor
	for _, t := range s.all() {
		c, err := of(t)
		if err != nil {
			return states{}, errors.Join(cause.In("audit", err), freeAll(copied...))
		}
		copied = append(copied, c)
	}
	further := 1 + len(s.further)
	return states{copied[0], copied[1:further], copied[further:]}, nil
}

// rows copies the samples [from, to) of a batch.
func rows(batch *tensors.Tensor, from, to int) (part *tensors.Tensor, err error) {
	n := batch.Shape().Dimensions[0]
	part = tensors.FromShape(shapes.Make(batch.DType(), append([]int{to - from}, batch.Shape().Dimensions[1:]...)...))
	if failed := batch.ConstBytes(func(all []byte) {
		size := len(all) / n
		err = part.MutableBytes(func(some []byte) { copy(some, all[from*size:to*size]) })
	}); failed != nil {
		err = failed
	}
	return part, err
}
