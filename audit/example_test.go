package audit_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"sync"

	"github.com/gomlx/compute"
	_ "github.com/gomlx/compute/gobackend"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/loss"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
)

// A model that predicts a change from the slope along x and the slope along y, each with a weight, and a wave along x. Learning
// from the wave says something about the weight of x: to the turned wave it says nothing, and to the one that runs backwards it
// says the opposite.
func Example() {
	trainer := newModel(slopes, waves(1))
	auditor, err := audit.New(trainer, slopes, audit.Loss).
		WithField(temperature).
		WithGroup(orbits.C4(), waves(1)).
		Done()
	if err != nil {
		panic(err)
	}
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), audit.Moment{Model: "slopes"})
	if err != nil {
		panic(err)
	}
	for _, row := range records.Influence {
		fmt.Printf("%-2s cosine %5.2f in [%5.2f, %5.2f]\n", row.Element, round(*row.Cosine), round(*row.CosineLow), round(*row.CosineHigh))
	}
	// Output:
	// e  cosine  1.00 in [ 1.00,  1.00]
	// r  cosine  0.00 in [ 0.00,  0.00]
	// r2 cosine -1.00 in [-1.00, -1.00]
	// r3 cosine  0.00 in [ 0.00,  0.00]
}

// In a training the source is its *train.Trainer, and the states are held-out transitions; here waves, and a model that spreads
// heat alike to all sides. Such a one learns from each state of an orbit what it learns from any other.
func ExampleNew() {
	trainer := newModel(spreads, waves(1))
	auditor, err := audit.New(trainer, spreads, audit.Loss).
		WithField(temperature).
		WithGroup(orbits.D4(), waves(2)).
		WithGroup(orbits.Translations(4), waves(2)).
		Done()
	if err != nil {
		panic(err)
	}
	defer auditor.Close()
	fmt.Println(auditor.Groups())
	records, err := auditor.Audit(context.Background(), audit.Moment{Model: "spreads"})
	if err != nil {
		panic(err)
	}
	for _, group := range auditor.Groups() {
		all := records.Summary(group)
		fmt.Printf("%-12s commutator error below 1e-9: %t, coherence %.2f\n", group, *all.MedianCommutatorError < 1e-9, *all.Median)
	}
	// Output:
	// [d4 translations]
	// d4           commutator error below 1e-9: true, coherence 1.00
	// translations commutator error below 1e-9: true, coherence 1.00
}

// What a trainer takes: the SMSE of a batch, as one number.
func ExampleLoss() {
	loss, err := graph.CallOnce(goBackend(), func(target, prediction *graph.Node) *graph.Node {
		return audit.Loss([]*graph.Node{target}, []*graph.Node{prediction})
	}, [][][][]float64{{{{2}, {-2}}}, {{{1}, {1}}}}, [][][][]float64{{{{3}, {-2}}}, {{{2}, {1}}}})
	fmt.Printf("%.4f %v\n", loss.Value(), err)
	// Output: 0.3125 <nil>
}

// One value for each sample, relative to the target's channels: being wrong by 1 weighs less where the target is 2 than where it
// is 1.
func ExampleSMSE() {
	smse, err := graph.CallOnce(goBackend(), audit.SMSE,
		[][][][]float64{{{{2}, {-2}}}, {{{1}, {1}}}}, [][][][]float64{{{{3}, {-2}}}, {{{2}, {1}}}})
	fmt.Printf("%.4f %v\n", smse.Value(), err)
	// Output: [0.1250 0.5000] <nil>
}

// Samples of a batch share a metric, and influence is measured among them. Without BatchSize all are one batch.
func ExampleProbes() {
	for _, size := range []int{1, 2, 4} {
		probes := waves(4)
		probes.BatchSize = size
		probes.Samples = []audit.Sample{{Class: "long"}, {Class: "long", Trajectory: 1}, {Class: "short"}, {Class: "short", Trajectory: 1}}
		records := recordsOf(audit.New(newModel(slopes, waves(1)), slopes, nil).WithField(temperature).WithGroup(orbits.C4(), probes))
		last := records.Influence[len(records.Influence)-1]
		fmt.Printf("batch size %d, solves: %d, pairs: %d, the last of class %q\n", size, len(records.Solves), len(records.Influence), last.RowClass)
	}
	// Output:
	// batch size 1, solves: 4, pairs: 16, the last of class "short"
	// batch size 2, solves: 2, pairs: 32, the last of class "short"
	// batch size 4, solves: 1, pairs: 64, the last of class "short"
}

// A model of several inputs takes the states first. The others, here how far a sample steps, are one for each probe, and no element
// changes them.
func ExampleProbes_further() {
	steps := func(scope *model.Scope, inputs []*graph.Node) *graph.Node {
		x, length := inputs[0], graph.Reshape(inputs[1], -1, 1, 1, 1)
		return graph.Add(x, graph.Mul(length, spreads(scope, x)))
	}
	for _, lengths := range [][]float32{{0.1, 0.5}, {0.1, 0.5, 1}} {
		probes := waves(2)
		probes.Further = []*tensors.Tensor{tensors.FromValue(lengths)}
		auditor, err := audit.New(newModel(spreads, waves(1)), steps, nil).WithField(temperature).WithGroup(orbits.D4(), probes).Done()
		if err != nil {
			fmt.Println(err)
			continue
		}
		defer auditor.Close()
		records, err := auditor.Audit(context.Background(), audit.Moment{})
		if err != nil {
			panic(err)
		}
		fmt.Printf("coherence %.2f\n", *records.Coherence[len(records.Coherence)-1].Median)
	}
	// Output:
	// coherence 1.00
	// audit: Probes.Further[0] is (Float32)[3]; it must be [2, ...], one for each probe
}

// A model may return several outputs, take a spec, and draw random numbers in evaluation: one output is chosen, the spec given, and
// the random numbers held fixed.
func ExampleBuilder_WithOutput() {
	withEnergy := func(scope *model.Scope, spec any, x *graph.Node) (state, energy *graph.Node) {
		noise := graph.MulScalar(scope.RandomNormal(x.Graph(), x.Shape()), spec.(float64))
		state = graph.Add(spreads(scope, x), noise)
		return state, graph.ReduceMean(graph.Square(state), 1, 2)
	}
	loss := func(labels, predictions []*graph.Node) *graph.Node { // gets all outputs
		return graph.Add(audit.Loss(labels, predictions), graph.ReduceAllMean(predictions[1]))
	}
	builder := audit.New(newModel(spreads, waves(1)), withEnergy, loss).WithField(temperature).WithGroup(orbits.D4(), waves(2))
	_, err := builder.Done()
	fmt.Println(err)
	records := recordsOf(builder.WithOutput(0).WithSpec(1e-3).WithSeed(1))
	fmt.Printf("coherence %.2f, and the noise does not turn: commutator error above 0: %t\n",
		*records.Summary("d4").Median, *records.Summary("d4").MedianCommutatorError > 0)
	// Output:
	// audit: the model has 2 outputs; choose the one that is the state, from 0 (WithOutput)
	// coherence 1.00, and the noise does not turn: commutator error above 0: true
}

// ProbeHash tells whether two audits were made on the same probes.
func ExampleAuditor_ProbeHash() {
	hash := func(probes audit.Probes) string {
		auditor, err := audit.New(newModel(slopes, waves(1)), slopes, nil).WithField(temperature).WithGroup(orbits.C4(), probes).Done()
		if err != nil {
			panic(err)
		}
		defer auditor.Close()
		return auditor.ProbeHash()
	}
	first := hash(waves(2))
	fmt.Println("hexadecimal digits:", len(first))
	fmt.Println("of the same probes:", first == hash(waves(2)), "of one more:", first == hash(waves(3)))
	// Output:
	// hexadecimal digits: 64
	// of the same probes: true of one more: false
}

// Before a training begins: what will an audit cost? Two samples under eight elements make 16 gradients, each of which takes two
// products with the metric or more; 20 find the metric's largest eigenvalue.
func ExampleAuditor_Preflight() {
	auditor, err := audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithGroup(orbits.D4(), waves(2)).Done()
	if err != nil {
		panic(err)
	}
	defer auditor.Close()
	cost, err := auditor.Preflight(context.Background())
	fmt.Println(cost.Gradients, "gradients,", cost.Products, "products or more; time and memory known:", cost.ProductTime > 0 && cost.Bytes > 0, err)
	// Output: 16 gradients, 52 products or more; time and memory known: true <nil>
}

// A model that compares each sample with the mean of its batch, and one with a convolution of which GoMLX v0.28 computes a wrong
// gradient.
func ExampleAuditor_Preflight_faults() {
	preflight := func(fn func(*model.Scope, *graph.Node) *graph.Node) string {
		auditor, err := audit.New(newModel(fn, waves(1)), fn, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).Done()
		if err != nil {
			panic(err)
		}
		defer auditor.Close()
		_, err = auditor.Preflight(context.Background())
		return err.Error()
	}
	fmt.Println(preflight(func(scope *model.Scope, x *graph.Node) *graph.Node {
		return graph.Sub(spreads(scope, x), graph.ReduceAndKeep(x, graph.ReduceMean, 0, 1, 2))
	}))
	wrong := preflight(func(scope *model.Scope, x *graph.Node) *graph.Node {
		x = layers.Convolution(scope.In("odd"), x).Channels(1).KernelSize(3).PadSame().Done()
		return layers.Convolution(scope.In("even"), x).Channels(1).KernelSize(2).PadSame().Done()
	})
	fmt.Println(regexp.MustCompile(` \(.*?\)|, off by [^;]*`).ReplaceAllString(wrong, "")) // without the sizes of the errors
	// Output:
	// audit: the output of sample 0 changes by 0.49 of itself with the others of its batch: the model mixes samples, by batch statistics for instance; influence is that of single samples, so make it evaluate them alone
	// audit: the model's gradient is wrong, and training and influence need a right one: ConvGeneral in layer /even/conv; GoMLX v0.28 has no right gradient for convolutions with an even kernel, nor for pooling by one: use an odd one
}

// The preflight asks the probes, here sound in a wind, which channels are a vector.
func ExampleBuilder_WithField() {
	still := func(_ *model.Scope, x *graph.Node) *graph.Node { return x }
	wrong := wind
	wrong.Vectors = [][]int{{1, 0}} // x and y exchanged
	for _, field := range []orbits.Field{wind, wrong} {
		auditor, err := audit.New(newModel(still, sound()), still, nil).WithField(field).WithForwardOnly().
			WithGroup(orbits.D4(), sound()).Done()
		if err != nil {
			panic(err)
		}
		_, err = auditor.Preflight(context.Background())
		fmt.Println(err)
		auditor.Close()
	}
	// Output:
	// <nil>
	// audit: the probes do not behave as the field says: of the change of probes that it was not fitted to, the best law of a step that has the symmetry d4 explains 0 % with vectors (v, u), rows upwards, as declared, and 100 % with vectors (u, v), rows upwards. Declare vectors (u, v), rows upwards, or vectors (v, u), rows downwards if a channel that acts on them is a pseudoscalar; or let the preflight warn, if the declared field is what you mean
}

// The output of this model is the vorticity of its input, which changes sign in a mirror. Declared as a scalar, it seems to
// violate the reflections.
func ExampleBuilder_WithOutputField() {
	probes := sound()
	vorticity, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node { return vortical(nil, x) }, probes.Inputs)
	if err != nil {
		panic(err)
	}
	probes.Targets = vorticity
	for _, output := range []orbits.Field{
		{Channels: []string{"vorticity"}, Pseudoscalars: []int{0}},
		{Channels: []string{"vorticity"}},
	} {
		records := recordsOf(audit.New(newModel(vortical, probes), vortical, nil).WithField(wind).WithOutputField(output).
			WithForwardOnly().WithGroup(orbits.D4(), probes))
		for _, row := range records.Coherence {
			if row.Element == "r" || row.Element == "s" {
				fmt.Printf("pseudoscalars %v, %s: commutator error %.2f\n", output.Pseudoscalars, row.Element, *row.MedianCommutatorError)
			}
		}
	}
	// Output:
	// pseudoscalars [0], r: commutator error 0.00
	// pseudoscalars [0], s: commutator error 0.00
	// pseudoscalars [], r: commutator error 0.00
	// pseudoscalars [], s: commutator error 4.00
}

// A classifier of images, whose labels are as the loss takes them. From the mean of an image it cannot tell how that is turned.
func ExampleBuilder_WithInvariantOutput() {
	means := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return layers.Dense(scope.In("scores"), graph.ReduceMean(x, 1, 2), true, 2)
	}
	pixels := func(scope *model.Scope, x *graph.Node) *graph.Node {
		return layers.Dense(scope.In("scores"), graph.Reshape(x, x.Shape().Dimensions[0], -1), true, 2)
	}
	images := waves(2)
	images.Targets = tensors.FromValue([][]int32{{0}, {1}})
	for _, fn := range []func(*model.Scope, *graph.Node) *graph.Node{means, pixels} {
		records := recordsOf(audit.New(newModel(fn, waves(1)), fn, loss.SparseCategoricalCrossEntropyLogits).WithField(temperature).
			WithInvariantOutput().WithGroup(orbits.D4(), images))
		all := records.Coherence[len(records.Coherence)-1]
		fmt.Printf("scores change: %t, coherence above 0.95: %t\n", *all.MedianCommutatorError > 1e-6, *all.MedianLow > 0.95)
	}
	// Output:
	// scores change: false, coherence above 0.95: true
	// scores change: true, coherence above 0.95: false
}

// Outputs alone, as of a solver without parameters: this one gets the momentum along x wrong by its own size. That is as wrong on
// a turned state, so the target error says nothing of the symmetry; the commutator error does.
func ExampleBuilder_WithForwardOnly() {
	doubled := func(_ *model.Scope, x *graph.Node) *graph.Node {
		factors := graph.Const(x.Graph(), []float64{1, 2, 1, 1})
		return graph.Mul(x, graph.Reshape(factors, 1, 1, 1, 4))
	}
	random := rand.New(rand.NewPCG(1, 2))
	state := make([]float64, 8*8*4)
	for i := range state {
		state[i] = random.NormFloat64()
	}
	gas := tensors.FromFlatDataAndDimensions(state, 1, 8, 8, 4)
	records := recordsOf(audit.New(newModel(doubled, audit.Probes{Inputs: gas}), doubled, nil).WithField(orbits.EulerField()).WithForwardOnly().
		WithGroup(orbits.C4(), audit.Probes{Inputs: gas, Targets: gas}))
	for _, row := range records.Errors {
		fmt.Printf("%-2s target error %.4f, commutator error %.4f\n", row.Element, row.TargetError, row.CommutatorError)
	}
	fmt.Println("influences:", len(records.Influence))
	// Output:
	// e  target error 0.2500, commutator error 0.0000
	// r  target error 0.2500, commutator error 0.3125
	// r2 target error 0.2500, commutator error 0.0000
	// r3 target error 0.2500, commutator error 0.3125
	// influences: 0
}

// Progress through the parts of an audit: the outputs of each group, then a solve for each of its batches.
func ExampleBuilder_WithProgress() {
	probes := waves(4)
	probes.BatchSize = 2
	recordsOf(audit.New(newModel(slopes, waves(1)), slopes, nil).WithField(temperature).WithGroup(orbits.C4(), probes).
		WithProgress(func(done, total int) { fmt.Printf("%d of %d\n", done, total) }))
	// Output:
	// 1 of 3
	// 2 of 3
	// 3 of 3
}

// slopes predicts a change from the slopes along x and along y, each with a weight, of which it knows nothing yet.
func slopes(scope *model.Scope, x *graph.Node) *graph.Node {
	return weighted(scope, []float32{0, 0}, slope(x, 2), slope(x, 1))
}

// spreads passes heat on to the four neighbours alike: it commutes with D4 and with shifts.
func spreads(scope *model.Scope, x *graph.Node) *graph.Node {
	neighbours := graph.Add(graph.Add(ahead(x, 1, 1), ahead(x, 1, -1)), graph.Add(ahead(x, 2, 1), ahead(x, 2, -1)))
	return graph.Tanh(weighted(scope, []float32{0.3, 0.1}, x, neighbours))
}

// weighted is the sum of some terms, with weights that are learned, of their precision: an audit in float64 has them in float64.
func weighted(scope *model.Scope, initial []float32, terms ...*graph.Node) *graph.Node {
	weights := scope.VariableWithValue("weights", shapes.CastAsDType(initial, terms[0].DType())).NodeValue(terms[0].Graph())
	sum := graph.ZerosLike(terms[0])
	for i, term := range terms {
		sum = graph.Add(sum, graph.Mul(graph.Reshape(graph.SliceAxis(weights, 0, graph.AxisElem(i))), term))
	}
	return sum
}

// vortical is the vorticity of a wind.
func vortical(_ *model.Scope, x *graph.Node) *graph.Node {
	u, v := graph.SliceAxis(x, 3, graph.AxisElem(0)), graph.SliceAxis(x, 3, graph.AxisElem(1))
	return graph.Sub(slope(v, 2), slope(u, 1))
}

// slope is half the difference of the next and of the last value along an axis.
func slope(x *graph.Node, axis int) *graph.Node {
	return graph.MulScalar(graph.Sub(ahead(x, axis, 1), ahead(x, axis, -1)), 0.5)
}

// ahead is the value so many cells further along an axis, of a domain without edges.
func ahead(x *graph.Node, axis, cells int) *graph.Node {
	cells = (cells + x.Shape().Dimensions[axis]) % x.Shape().Dimensions[axis]
	return graph.Concatenate([]*graph.Node{graph.SliceAxis(x, axis, graph.AxisRange(cells)), graph.SliceAxis(x, axis, graph.AxisRange(0, cells))}, axis)
}

var temperature = orbits.Field{Channels: []string{"temperature"}}

// waves along x, each higher than the one before, that move a quarter of their length in a step.
func waves(n int) audit.Probes {
	const size = 8
	var before, after []float32
	for sample := range n {
		height := float64(1 + sample)
		for range size {
			for x := range size {
				phase := 2 * math.Pi * float64(x) / size
				before = append(before, float32(height*(1+math.Cos(phase))))
				after = append(after, float32(height*(1+math.Sin(phase))))
			}
		}
	}
	return audit.Probes{
		Inputs:  tensors.FromFlatDataAndDimensions(before, n, size, size, 1),
		Targets: tensors.FromFlatDataAndDimensions(after, n, size, size, 1),
	}
}

var wind = orbits.Field{Channels: []string{"u", "v", "pressure"}, Vectors: [][]int{{0, 1}}}

// sound is a step of a random wind and pressure: the wind is driven by the slope of the pressure, and that falls where the wind
// diverges.
func sound() audit.Probes {
	const n, size = 4, 16
	random := rand.New(rand.NewPCG(1, 2))
	state := make([]float64, n*size*size*3)
	for i := range state {
		state[i] = random.NormFloat64()
	}
	before := tensors.FromFlatDataAndDimensions(state, n, size, size, 3)
	after, err := graph.CallOnce(goBackend(), func(x *graph.Node) *graph.Node {
		channels := graph.Split(x, 3, 3)
		u, v, pressure := channels[0], channels[1], channels[2]
		return graph.Concatenate([]*graph.Node{
			graph.Sub(u, slope(pressure, 2)),
			graph.Sub(v, slope(pressure, 1)),
			graph.Sub(pressure, graph.Add(slope(u, 2), slope(v, 1))),
		}, 3)
	}, before)
	if err != nil {
		panic(err)
	}
	return audit.Probes{Inputs: before, Targets: after}
}

// newModel has the weights that a model starts with, made for inputs like the probes'.
func newModel(fn func(*model.Scope, *graph.Node) *graph.Node, probes audit.Probes) *train.Trainer {
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(1))
	trainer := train.NewTrainer(goBackend(), store, fn, audit.Loss, optimizer.Adam().Done(), nil, nil)
	if _, err := model.CallOnce(goBackend(), store, fn, probes.Inputs); err != nil {
		panic(err)
	}
	return trainer
}

// recordsOf is what one audit finds.
func recordsOf(builder *audit.Builder) *audit.Records {
	auditor, err := builder.Done()
	if err != nil {
		panic(err)
	}
	defer auditor.Close()
	records, err := auditor.Audit(context.Background(), audit.Moment{})
	if err != nil {
		panic(err)
	}
	return records
}

// goBackend is the pure Go backend, with which GoMLX executes an operation at a time.
var goBackend = sync.OnceValue(func() compute.Backend {
	backend, err := compute.NewWithConfig("go:ops_sequential")
	if err != nil {
		panic(err)
	}
	return backend
})

// round is a value to two digits, without a sign where it is zero.
func round(value float64) float64 { return math.Round(100*value)/100 + 0 }

// What an audit's values depend on, as a run notes it.
func ExampleAuditor_Settings() {
	auditor, err := audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).
		WithRelativeLambda(0.1, 0.01).Done()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer auditor.Close()
	settings := auditor.Settings()
	for _, name := range []string{"dtype", "estimator", "field", "group c4", "metric", "relative_lambda", "tolerance"} {
		fmt.Printf("%s: %s\n", name, settings[name])
	}
	// Output:
	// dtype: float32
	// estimator: block
	// field: temperature; no vector, rows upwards
	// group c4: e r r2 r3; 2 probes in batches of 2
	// metric: ntk
	// relative_lambda: 0.01, 0.1
	// tolerance: 0.02
}

// The headline of each group. Of an estimator that does not certify its values nothing encloses them.
func ExampleRecords_Summaries() {
	for _, estimator := range []audit.Estimator{audit.Block, audit.Subspace} {
		records := recordsOf(audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithEstimator(estimator).
			WithGroup(orbits.C4(), waves(2)).WithGroup(orbits.Translations(4), waves(2)))
		for _, row := range records.Summaries() {
			fmt.Printf("%s by %s: certified %t, enclosed %t\n", row.GroupName, row.Estimator, estimator.Certifies(), row.MedianLow != nil)
		}
	}
	// Output:
	// c4 by block: certified true, enclosed true
	// translations by block: certified true, enclosed true
	// c4 by subspace: certified false, enclosed false
	// translations by subspace: certified false, enclosed false
}

// An auditor reads the weights of one store, and belongs to no other training.
func ExampleAuditor_Audits() {
	trainer, other := newModel(spreads, waves(1)), newModel(spreads, waves(1))
	auditor, err := audit.New(trainer, spreads, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).Done()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer auditor.Close()
	fmt.Println(auditor.Audits(trainer.Store()), auditor.Audits(other.Store()))
	// Output: true false
}
