package audit

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/internal/npy"
	"github.com/symaudit/symaudit/solver/network"
)

// DefaultJacobianLimit is a limit for Export that a Jacobian of a few thousand parameters keeps, in bytes.
const DefaultJacobianLimit = 1 << 30

// Export audits the model as Audit does and writes into the new folder dir what its values can be recomputed from with NumPy alone: weights, probes moved by every
// element, predictions, gradients and the Jacobian of each metric as .npy files, with the intervals that the audit found. An index.json says what each array is, a
// README.md the formulas. Gradients and Jacobians are in float64 where the model follows the precision of its input, whatever that of the audit is.
//
// A Jacobian has 8 bytes for each output of a batch and parameter, and the dense matrix that MetricGGN has instead for each pair of parameters. If one takes more
// than jacobianLimit bytes, Export returns a *SettingError before the audit; with a limit of 0 there is none, and influence cannot be recomputed. Arrays are written piece
// by piece, and the folder appears under its name when it is complete.
func (a *Auditor) Export(ctx context.Context, at Moment, dir string, jacobianLimit int64) (records *Records, err error) {
	if a.config.forward {
		return nil, errors.New("audit: Export writes what influence is computed from, and that is left out (WithForwardOnly); audit both")
	}
	if err := atomicfile.CheckFree(dir); err != nil {
		return nil, cause.In("audit", err)
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	shares := a.shares()
	if err := a.checkJacobians(shares, jacobianLimit); err != nil {
		return nil, err
	}
	progress := a.newProgress(len(a.orbits)*len(a.config.directions) + len(shares))
	if records, err = a.audit(ctx, at, progress); err != nil {
		return nil, err
	}
	work, err := atomicfile.Begin(dir)
	if err != nil {
		return nil, cause.In("audit", err)
	}
	defer os.RemoveAll(work) // of no effect once it is renamed
	x := &export{auditor: a, ctx: ctx, dir: work, records: records, jacobians: jacobianLimit > 0, progress: progress}
	err = x.write(at, shares)
	if err == nil {
		err = atomicfile.Publish(work, dir)
	}
	if err != nil {
		return nil, cause.Say(fmt.Sprintf("audit: %s is not written: %s", dir, cause.Plain(err)), err)
	}
	return records, nil
}

// checkJacobians refuses a dense metric that is larger than the limit.
func (a *Auditor) checkJacobians(shares []share, limit int64) error {
	if limit < 0 {
		return &SettingError{"jacobian_limit", fmt.Sprintf("is %d; it must be positive, or 0 to leave Jacobians out", limit)}
	}
	if limit == 0 || !a.multipliesNetwork() {
		return nil
	}
	for _, s := range shares {
		outputs, err := a.outputs(s)
		if err != nil {
			return err
		}
		d, err := a.dimensions(s, outputs)
		if err != nil {
			return err
		}
		rows, of := d.Rows, "outputs"
		if a.config.metric == MetricGGN {
			rows, of = d.Dim, "parameters"
		}
		if need := 8 * int64(rows) * int64(d.Dim); need > limit {
			return &SettingError{"jacobian_limit", fmt.Sprintf("is %s, and %d %s by %d parameters of %s take %s; raise it, use smaller batches of probes, or give 0, which leaves Jacobians out and all else in",
				inUnits(limit), rows, of, d.Dim, s.name(), inUnits(need))}
		}
	}
	return nil
}

// outputs is the number that the model has for a sample.
func (a *Auditor) outputs(s share) (outputs int, err error) {
	one, err := s[0].orbit.states(0, 0, 1)
	if err != nil {
		return 0, err
	}
	defer one.freeAfter(&err)
	prediction, err := a.network.With(one.further...).Predict(one.x)
	if err != nil {
		return 0, cause.In("audit", err)
	}
	return prediction.Size(), freeAll(prediction)
}

// inUnits are bytes in words.
func inUnits(n int64) string {
	unit, size := "bytes", float64(n)
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 {
			break
		}
		unit, size = larger, size/1024
	}
	return fmt.Sprintf("%.4g %s", size, unit)
}

// What index.json says.
type (
	exportIndex struct {
		SchemaVersion   int               `json:"schema_version"`
		Model           string            `json:"model"`
		Seed            int64             `json:"seed"`
		Step            int64             `json:"step"`
		Epoch           float64           `json:"epoch"`
		Metric          Metric            `json:"metric"`
		Estimator       Estimator         `json:"estimator"`
		AuditDType      string            `json:"audit_dtype"`  // of the audit's products and predictions
		ArraysDType     string            `json:"arrays_dtype"` // in which gradients and Jacobians were computed
		InvariantOutput bool              `json:"invariant_output"`
		Settings        map[string]string `json:"settings"` // Auditor.Settings
		Parameters      []exportParameter `json:"parameters"`
		Groups          []exportGroup     `json:"groups"`
		Metrics         []exportMetric    `json:"metrics"`
		Arrays          []exportArray     `json:"arrays"`
	}
	exportParameter struct {
		Name   string `json:"name"`
		Shape  []int  `json:"shape"`
		Offset int    `json:"offset"` // of its first value in the axis "parameter"
	}
	exportGroup struct {
		Name       string            `json:"name"`
		Folder     string            `json:"folder"`
		Elements   []string          `json:"elements"` // the identity first
		BatchSize  int               `json:"batch_size"`
		Metrics    []int             `json:"metrics"` // by batch, numbers in "metrics"
		Directions []exportDirection `json:"directions"`
		Samples    []exportSample    `json:"samples"`
	}
	exportDirection struct { // of influence
		Name string `json:"name"`
		AtX  string `json:"at_x"` // whose gradients are on either side
		AtGX string `json:"at_gx"`
	}
	exportSample struct {
		Class      string `json:"class"`
		Trajectory int64  `json:"trajectory"`
		TimeIndex  int32  `json:"time_index"`
	}
	exportMetric struct {
		Folder          string    `json:"folder"`
		Weight          float64   `json:"weight"`
		LambdaMax       float64   `json:"lambda_max"`
		Lambdas         []float64 `json:"lambdas"`
		RelativeLambdas []float64 `json:"relative_lambdas,omitempty"`
	}
	exportArray struct {
		File    string   `json:"file"`
		Shape   []int    `json:"shape"`
		DType   string   `json:"dtype"`
		Axes    []string `json:"axes"`
		Unit    string   `json:"unit"`
		Meaning string   `json:"meaning"`
	}
)

const exportSchemaVersion = 1

// export is one that is being written.
type export struct {
	auditor   *Auditor
	ctx       context.Context
	dir       string
	records   *Records
	jacobians bool
	progress  func()
	index     exportIndex
}

//go:embed export_readme.md
var exportReadme []byte

func (x *export) write(at Moment, shares []share) error {
	a := x.auditor
	x.index = exportIndex{
		SchemaVersion: exportSchemaVersion, Model: at.Model, Seed: at.Seed, Step: at.Step, Epoch: at.Epoch, Metric: a.config.metric, Estimator: a.config.estimator,
		AuditDType: strings.ToLower(a.network.DType().String()), InvariantOutput: a.config.invariant, Settings: a.Settings(),
	}
	if err := x.weights(); err != nil {
		return err
	}
	for _, o := range a.orbits {
		if err := x.group(o, shares); err != nil {
			return err
		}
	}
	for i, s := range shares {
		if err := x.metric(i, s); err != nil {
			return err
		}
		x.progress()
	}
	text, err := json.MarshalIndent(x.index, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(x.dir, "index.json"), append(shortened(text), '\n'), 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(x.dir, "README.md"), exportReadme, 0o666)
}

// shortened puts the lists of numbers and of names in a JSON text on a line each.
func shortened(text []byte) []byte {
	return innerList.ReplaceAllFunc(text, func(list []byte) []byte {
		words := strings.Split(lineBreak.ReplaceAllString(string(list), "\n"), "\n") // [ 1, 2, ... ], for no string has a break in JSON
		return []byte(words[0] + strings.Join(words[1:len(words)-1], " ") + words[len(words)-1])
	})
}

var (
	innerList = regexp.MustCompile(`\[\n[^\[\]{}]*\n\s*\]`)
	lineBreak = regexp.MustCompile(`\n\s*`)
)

// array writes one of the index by a function that adds all of its elements.
func (x *export) array(of exportArray, dtype dtypes.DType, add func(*npy.Array) error) error {
	return x.arrayBy(npy.Create, of, dtype, add)
}

func (x *export) arrayBy(create func(string, dtypes.DType, []int) (*npy.Array, error), of exportArray, dtype dtypes.DType, add func(*npy.Array) error) error {
	of.DType = strings.ToLower(dtype.String())
	path := filepath.Join(x.dir, filepath.FromSlash(of.File))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	file, err := create(path, dtype, of.Shape)
	if err != nil {
		return err
	}
	x.index.Arrays = append(x.index.Arrays, of)
	return errors.Join(add(file), file.Close())
}

// floats writes an array of float64 that is at hand.
func (x *export) floats(of exportArray, elements []float64) error {
	return x.array(of, dtypes.Float64, func(file *npy.Array) error { return file.Floats(elements...) })
}

// tensors writes tensors of one shape as one array with an axis before theirs, or a single one as it is.
func (x *export) tensors(of exportArray, all ...*tensors.Tensor) error {
	shape := all[0].Shape()
	of.Shape = slices.Clone(shape.Dimensions)
	if len(of.Axes) > len(of.Shape) {
		of.Shape = append([]int{len(all)}, of.Shape...)
	}
	return x.array(of, shape.DType, func(file *npy.Array) (err error) {
		for _, t := range all {
			failed := t.ConstBytes(func(elements []byte) { _, err = file.Write(elements) })
			if err = errors.Join(failed, err); err != nil {
				return err
			}
		}
		return nil
	})
}

// axesOf names the axes of samples [n, ...]: of states on a grid those of space.
func axesOf(t *tensors.Tensor, first ...string) []string {
	after := t.Rank() - 1
	if space := []string{"z", "y", "x"}; after > 1 && after-1 <= len(space) {
		return append(append(first, space[len(space)-after+1:]...), "channel")
	}
	for i := range after {
		first = append(first, fmt.Sprintf("axis_%d", i))
	}
	return first
}

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

// columns writes a matrix that is known by its products with vectors, a few columns at a time.
func (x *export) columns(of exportArray, image func(dst, v *mat.Dense) error) error {
	return x.arrayBy(npy.CreateByColumns, of, dtypes.Float64, func(file *npy.Array) error {
		const together = 16
		rows, dim := of.Shape[0], of.Shape[1]
		for from := 0; from < dim; from += together {
			if err := context.Cause(x.ctx); err != nil {
				return err
			}
			k := min(together, dim-from)
			basis, columns := mat.NewDense(k, dim, nil), mat.NewDense(k, rows, nil)
			for i := range k {
				basis.Set(i, from+i, 1)
			}
			if err := image(columns, basis); err != nil {
				return err
			}
			if err := file.Floats(columns.RawMatrix().Data...); err != nil {
				return err
			}
		}
		return nil
	})
}
