package audit

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/internal/npy"
	"github.com/symaudit/symaudit/solver/network"
)

func (x *export) weights() error {
	store := x.auditor.config.source.Store()
	all := make([]float64, 0, x.auditor.network.Dim())
	for _, path := range x.auditor.trainable {
		variable := store.GetVariable(path)
		value, err := variable.Value()
		if err != nil {
			return err
		}
		some, err := values(value)
		if err != nil {
			return err
		}
		x.index.Parameters = append(x.index.Parameters, exportParameter{path, append([]int{}, variable.Shape().Dimensions...), len(all)})
		all = append(all, some...)
	}
	return x.floats(exportArray{File: "weights.npy", Shape: []int{len(all)}, Axes: []string{"parameter"}, Unit: "1",
		Meaning: "the model's trainable weights, flattened in row-major order and put one after the other; \"parameters\" says which is where"}, all)
}

// unfit matches what has no place in the name of a file.
var unfit = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// fileName is a name as a part of a file's, which others that are taken do not have.
func fileName(name string, taken func(string) bool) string {
	plain := unfit.ReplaceAllString(name, "-")
	unique := plain
	for i := 2; taken(unique); i++ {
		unique = fmt.Sprintf("%s-%d", plain, i)
	}
	return unique
}

func (x *export) group(o *orbit, shares []share) error {
	a := x.auditor
	group := exportGroup{Name: o.group.Name, BatchSize: o.batchSize}
	group.Folder = fileName(o.group.Name, func(name string) bool {
		return slices.ContainsFunc(x.index.Groups, func(g exportGroup) bool { return strings.EqualFold(g.Folder, name) })
	})
	for _, e := range o.elements {
		group.Elements = append(group.Elements, e.Name())
	}
	for _, s := range o.samples {
		group.Samples = append(group.Samples, exportSample(s))
	}
	for batch := range o.batches() {
		group.Metrics = append(group.Metrics, slices.IndexFunc(shares, func(s share) bool {
			return slices.ContainsFunc(s, func(m member) bool { return m.orbit == o && m.batch == batch })
		}))
	}
	for _, q := range questions(a.config.directions) {
		group.Directions = append(group.Directions, exportDirection{q.name(), q.atX.name, q.atGX.name})
	}
	file := func(name string) string { return group.Folder + "/" + name + ".npy" }
	if err := x.states(o, file); err != nil {
		return err
	}
	if err := x.errors(o, file); err != nil {
		return err
	}
	for i := range a.config.directions {
		if err := x.gradients(o, &a.config.directions[i], file); err != nil {
			return err
		}
		x.progress()
	}
	for _, q := range questions(a.config.directions) {
		if err := x.influence(o, q.name(), file); err != nil {
			return err
		}
	}
	x.index.Groups = append(x.index.Groups, group)
	return nil
}

// states writes the moved probes of a group and what the model makes of them.
func (x *export) states(o *orbit, file func(string) string) (err error) {
	const data = "of the data"
	if err := x.tensors(exportArray{File: file("inputs"), Axes: axesOf(o.inputs[0], "element", "sample"), Unit: data,
		Meaning: "g.x, the probe inputs moved by each element; the first element is the identity, so that these are the probes themselves"}, o.inputs...); err != nil {
		return err
	}
	if err := x.tensors(exportArray{File: file("targets"), Axes: axesOf(o.targets[0], "element", "sample"), Unit: data,
		Meaning: "g.y, the probe targets moved by each element"}, o.targets...); err != nil {
		return err
	}
	companions := func(name, meaning string, of [][]*tensors.Tensor) error {
		for i := range of[0] {
			all := make([]*tensors.Tensor, len(of))
			for e := range of {
				all[e] = of[e][i]
			}
			if err := x.tensors(exportArray{File: file(fmt.Sprintf("%s_%d", name, i)), Axes: axesOf(all[0], "element", "sample"), Unit: data, Meaning: meaning}, all...); err != nil {
				return err
			}
		}
		return nil
	}
	if err := companions("further", "what the model takes beside the states", o.further); err != nil {
		return err
	}
	if err := companions("labels", "what the loss takes beside the targets", o.labels); err != nil {
		return err
	}
	if !o.invariant {
		if err := x.floats(exportArray{File: file("units"), Shape: []int{len(o.scales)}, Axes: []string{"channel"}, Unit: data,
			Meaning: "the unit of each channel in SMSE: the largest magnitude that it has in the targets"}, o.scales); err != nil {
			return err
		}
	}
	predictions := make([]*tensors.Tensor, len(o.inputs))
	defer func() { err = errors.Join(err, freeAll(predictions...)) }()
	for e, input := range o.inputs {
		if predictions[e], err = x.auditor.network.With(o.further[e]...).Predict(input); err != nil {
			return err
		}
	}
	return x.tensors(exportArray{File: file("predictions"), Axes: axesOf(predictions[0], "element", "sample"), Unit: data,
		Meaning: "f(g.x), the model's outputs, in the precision of the audit"}, predictions...)
}

func (x *export) errors(o *orbit, file func(string) string) error {
	var target, commutator []float64 // rows are by element, then by sample
	for _, row := range x.records.Errors {
		if row.GroupName == o.group.Name {
			target, commutator = append(target, row.TargetError), append(commutator, row.CommutatorError)
		}
	}
	array := exportArray{Shape: []int{len(o.elements), len(o.samples)}, Axes: []string{"element", "sample"}, Unit: "1"}
	array.File, array.Meaning = file("target_errors"), "the audit's SMSE(f(g.x), g.y)"
	if o.invariant {
		array.Unit, array.Meaning = "of the loss", "the audit's loss of f(g.x)"
	}
	if err := x.floats(array, target); err != nil {
		return err
	}
	array.File, array.Unit, array.Meaning = file("commutator_errors"), "1", "the audit's SMSE(f(g.x), g.f(x)); of an invariant output its relative change"
	return x.floats(array, commutator)
}

func (x *export) gradients(o *orbit, d *Direction, file func(string) string) error {
	a := x.auditor
	dim, draws := a.network.Dim(), o.draws(d)
	meaning := "the gradient of the loss at each sample, moved by each element"
	if d.name != LossName {
		meaning = "the gradient of " + d.name + " at each sample, moved by each element, in each draw"
	}
	return x.array(exportArray{File: file("gradients_" + unfit.ReplaceAllString(d.name, "-")), Shape: []int{len(o.elements), draws, len(o.samples), dim},
		Axes: []string{"element", "draw", "sample", "parameter"}, Unit: "of the " + d.name, Meaning: meaning}, dtypes.Float64, func(file *npy.Array) error {
		return x.withPrecision(share{{o, 0, d}}, func(double bool, _ states) error {
			gradient := make([]float64, dim)
			for e := range o.elements {
				for k := range draws {
					for sample := range o.samples {
						m := member{o, sample / o.batchSize, d}
						if err := a.gradientsOf(share{m}, double).write(x.ctx, gradient, m.gradient(e, k, sample%o.batchSize)); err != nil {
							return err
						}
						if err := file.Floats(gradient...); err != nil {
							return err
						}
					}
				}
			}
			return nil
		})
	})
}

// withPrecision calls a function with the states of a share's metric, when it is settled whether gradients are computed in double beside the network.
func (x *export) withPrecision(s share, use func(double bool, metric states) error) (err error) {
	metric, err := s.states()
	if err != nil {
		return err
	}
	defer metric.freeAfter(&err)
	double, err := x.auditor.double.load(x.auditor, metric)
	if err != nil {
		return err
	}
	x.index.ArraysDType = x.index.AuditDType
	if double {
		x.index.ArraysDType = "float64"
	}
	return use(double, metric)
}

// influence writes what the audit says of it, in the order of its rows: by batch, damping, element, row and column.
func (x *export) influence(o *orbit, direction string, file func(string) string) error {
	var influence, cosine, coherence []float64
	for _, row := range x.records.Influence {
		if row.GroupName == o.group.Name && row.Direction == direction {
			influence = append(influence, withBounds(&row.Influence, row.InfluenceLow, row.InfluenceHigh)...)
			cosine = append(cosine, withBounds(row.Cosine, row.CosineLow, row.CosineHigh)...)
		}
	}
	rows := 0
	for _, row := range x.records.Coherence {
		if row.GroupName == o.group.Name && row.Direction == direction {
			coherence = append(coherence, withBounds(row.Median, row.MedianLow, row.MedianHigh)...)
			rows++
		}
	}
	const bounds = "; value, lower bound, upper bound; NaN where there is none, infinite bounds where nothing is certified"
	name, lambdas := unfit.ReplaceAllString(direction, "-"), len(x.auditor.config.damping.values)
	array := exportArray{Shape: []int{o.batches(), lambdas, len(o.elements), o.batchSize, o.batchSize, 3}, Axes: []string{"batch", "lambda", "element", "row", "column", "bound"}}
	array.File, array.Unit = file("influence_"+name), "of the gradients' product, over that of the metric"
	array.Meaning = "the audit's influence of the row sample at x on the column sample at g.x" + bounds
	if err := x.floats(array, influence); err != nil {
		return err
	}
	array.File, array.Unit = file("cosine_"+name), "1"
	array.Meaning = "the audit's cosine, influence over the norms of both gradients in the metric" + bounds
	if err := x.floats(array, cosine); err != nil {
		return err
	}
	return x.floats(exportArray{File: file("coherence_" + name), Shape: []int{lambdas, rows / lambdas, 3}, Axes: []string{"lambda", "element", "bound"}, Unit: "1",
		Meaning: "the audit's coherence, the median over samples of the cosine of each with itself moved; the last row is of all elements but the identity, where there are such" + bounds}, coherence)
}

// withBounds are a value and its bounds, of which some may not be known.
func withBounds(value, low, high *float64) []float64 {
	found := []float64{math.NaN(), math.NaN(), math.NaN()}
	if value != nil {
		found = []float64{*value, math.Inf(-1), math.Inf(1)}
	}
	if low != nil && high != nil {
		found[1], found[2] = *low, *high
	}
	return found
}

// metric writes that of a share.
func (x *export) metric(i int, s share) error {
	a := x.auditor
	metric := exportMetric{Folder: fmt.Sprintf("metric_%d", i), Weight: 1}
	for _, row := range x.records.Solves {
		if m := s[0]; row.GroupName == m.orbit.group.Name && row.Direction == m.direction.name && int(row.Batch) == m.batch {
			metric.LambdaMax, metric.Lambdas = row.LambdaMax, append(metric.Lambdas, row.Lambda)
			if row.RelativeLambda != nil {
				metric.RelativeLambdas = append(metric.RelativeLambdas, *row.RelativeLambda)
			}
		}
	}
	err := x.withPrecision(s, func(double bool, batch states) error {
		file := func(name string) string { return metric.Folder + "/" + name + ".npy" }
		if s.named() {
			if err := x.tensors(exportArray{File: file("inputs"), Axes: axesOf(batch.x, "state"), Unit: "of the data", Meaning: "the states that the metric is over"}, batch.x); err != nil {
				return err
			}
		}
		outputs, err := a.outputs(s)
		if err != nil {
			return err
		}
		dense := func(write func(*network.Network, states) error) error {
			switch {
			case !x.jacobians:
				return nil
			case double:
				return a.double.of(batch, write)
			}
			return write(a.network.With(batch.further...), batch)
		}
		dim := a.network.Dim()
		switch a.config.metric {
		case MetricNTK:
			metric.Weight = a.perSample(batch)
			if a.config.scale == MetricMean {
				metric.Weight /= float64(outputs)
			}
			return dense(func(net *network.Network, b states) (err error) {
				factor, err := net.Factor(b.x, 1, a.config.solve.MaxBytes)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, factor.Close()) }()
				return x.columns(exportArray{File: file("jacobian"), Shape: []int{factor.Rows(), dim}, Axes: []string{"output", "parameter"}, Unit: "of the data",
					Meaning: "J, the derivative of all outputs of the batch, flattened in row-major order, in the weights; eta = weight J^T J"}, factor.Image)
			})
		case MetricGGN:
			return dense(func(net *network.Network, b states) (err error) {
				eta, err := a.metric(net, b, outputs, a.config.solve.MaxBytes)
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, eta.Close()) }()
				return x.columns(exportArray{File: file("matrix"), Shape: []int{dim, dim}, Axes: []string{"parameter", "parameter"}, Unit: "of the loss", Meaning: "eta itself"}, eta.Apply)
			})
		case MetricFisher:
			metric.Weight = a.perSample(batch)
			g := a.gradientsOf(s, double)
			states := batch.x.Shape().Dimensions[0]
			return x.array(exportArray{File: file("gradients"), Shape: []int{states, dim}, Axes: []string{"state", "parameter"}, Unit: "of the loss",
				Meaning: "G, the gradients of the loss at the states that the metric is over; eta = weight G^T G"}, dtypes.Float64, func(file *npy.Array) error {
				row := make([]float64, dim)
				for i := range states {
					if err := g.metric(x.ctx, row, i); err != nil {
						return err
					}
					if err := file.Floats(row...); err != nil {
						return err
					}
				}
				return nil
			})
		case MetricOptimizer:
			root, err := a.rootOfResponse()
			if err != nil {
				return err
			}
			floats.Mul(root, root)
			return x.floats(exportArray{File: file("response"), Shape: []int{dim}, Axes: []string{"parameter"}, Unit: "1",
				Meaning: "chi, which is diagonal: by how much the optimizer's next step moves each weight for a unit of its gradient"}, root)
		}
		return nil // identity: eta is 0
	})
	x.index.Metrics = append(x.index.Metrics, metric)
	return err
}
