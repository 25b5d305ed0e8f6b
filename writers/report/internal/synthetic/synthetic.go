// Package synthetic writes runs that look like those of small surrogates of the Euler equations, for tests.
package synthetic

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/quantile"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/writers"
)

// Run describes one.
type Run struct {
	Models      []string
	Epochs      int
	Groups      []string
	NoCosine    bool
	NoInfluence bool
	HalfWidth   float64   // of the widest certified intervals; 0: nothing is certified
	ZeroErrors  bool      // an exactly equivariant model in exact arithmetic
	Larger      []float64 // multiples of lambda_max, ascending, above the 1e-4 of every audit
	Absolute    bool      // lambda itself was given
	Evaluation  bool      // of held-out trajectories
}

// sample is a value with what is certified of it.
type sample struct {
	value  float64
	bounds *bounds
}

type bounds struct{ low, high float64 }

const lambdaMax = 64 // of every solve

type element struct {
	name       string
	dy, dx, dz float64
}

func elementsOf(groupName string) []element {
	if groupName == "translations" {
		all := []element{{name: "e"}}
		for shift := 4.0; shift < 32; shift += 4 {
			all = append(all, element{name: fmt.Sprintf("t(0,%g)", shift), dx: shift})
		}
		for shift := 4.0; shift < 32; shift += 4 {
			all = append(all, element{name: fmt.Sprintf("t(%g,0)", shift), dy: shift})
		}
		return all
	}
	switch groupName { // of a line, and of a box
	case "reflections":
		return []element{{name: "e"}, {name: "s"}}
	case "shifts-1d":
		return []element{{name: "e"}, {name: "t(4)", dx: 4}, {name: "t(8)", dx: 8}}
	case "shifts-3d":
		return []element{{name: "e"}, {name: "t(0,0,4)", dx: 4}, {name: "t(0,4,0)", dy: 4}, {name: "t(4,0,0)", dz: 4}, {name: "t(8,0,0)", dz: 8}}
	case orbits.OctahedralName, orbits.OctahedralName + "-grid-only":
		elements, err := orbits.Octahedral().Elements(4, 4, 4)
		if err != nil {
			panic(err)
		}
		var all []element
		for _, g := range elements {
			all = append(all, element{name: g.Name()})
		}
		return all
	}
	var all []element
	for _, name := range []string{"e", "r", "r2", "r3", "s", "sr", "sr2", "sr3"} {
		all = append(all, element{name: name})
		if groupName == "d4*translations" {
			all = append(all, element{name: "t(0,10.5)" + strings.TrimPrefix(name, "e"), dx: 10.5}, element{name: "t(0,21)" + strings.TrimPrefix(name, "e"), dx: 21})
		}
	}
	return all
}

// Write puts the run into a directory.
func (c Run) Write(t testing.TB, dir string) {
	t.Helper()
	run, err := writers.Parquet(dir).WithInfo(writers.Info{
		Command: []string{"symaudit", "demo"}, Config: "seed: 3\nresolution: 32\nmodels: [unet, vit]\n",
		Backend: "xla:cpu", BackendReason: "PJRT plugin found", Seeds: []int64{3}, ProbeHash: "9f2c",
	}).Done()
	require.NoError(t, err)
	defer run.Close()
	for _, model := range c.Models {
		for epoch := 1; epoch <= c.Epochs; epoch++ {
			require.NoError(t, run.Write(c.Audit(model, epoch)))
		}
	}
}

// Audit is one of a model after an epoch, with the training steps of that.
func (c Run) Audit(model string, epoch int) *audit.Records {
	random := rand.New(rand.NewPCG(uint64(epoch), uint64(len(model))))
	at := audit.Moment{Model: model, Seed: 3, Step: int64(60 * epoch), Epoch: float64(epoch)}
	progress := 1 - math.Exp(-float64(epoch)/4)
	quality := 0.05 * math.Exp(-2*progress)
	records := &audit.Records{}
	for step := range 60 {
		done := at
		done.Step = int64(60*(epoch-1) + step + 1)
		done.Epoch = float64(done.Step) / 60
		records.Training = append(records.Training, audit.TrainingRow{Moment: done, LearningRate: 1e-3, StepSeconds: 0.1,
			Loss: 0.3*math.Exp(-done.Epoch/2) + 0.01*math.Exp(0.4*random.NormFloat64())})
	}
	if c.Evaluation {
		records.Evaluation, records.Rollouts = evaluation(at, quality), rollouts(at, quality)
	}
	for _, groupName := range c.Groups {
		c.auditGroup(records, groupName, at, progress, quality, random)
	}
	c.damp(records)
	return records
}

// damp repeats at the larger lambdas what depends on lambda: cosines come nearer to 1, intervals shrink.
func (c Run) damp(records *audit.Records) {
	smallest := *records
	for i, lambda := range c.Larger {
		nearer := func(v *float64) *float64 {
			if v == nil {
				return nil
			}
			near := 1 - (1-*v)*math.Pow(0.8, float64(i+1))
			return &near
		}
		relative := c.relative(lambda)
		for _, row := range smallest.Influence {
			row.RelativeLambda, row.Lambda = relative, lambda*lambdaMax
			row.Cosine, row.CosineLow, row.CosineHigh = nearer(row.Cosine), nearer(row.CosineLow), nearer(row.CosineHigh)
			records.Influence = append(records.Influence, row)
		}
		for _, row := range smallest.Solves {
			row.RelativeLambda, row.Lambda, row.Products, row.Seconds, row.MaxTrueResidual = relative, lambda*lambdaMax, 0, 0, nil
			records.Solves = append(records.Solves, row)
		}
		for _, row := range smallest.Coherence {
			row.RelativeLambda, row.Lambda = relative, c.lambda(lambda)
			for _, v := range []**float64{&row.Q05, &row.Q25, &row.Median, &row.Q75, &row.Q95, &row.MedianLow, &row.MedianHigh} {
				*v = nearer(*v)
			}
			records.Coherence = append(records.Coherence, row)
		}
	}
}

// relative and lambda are the two ways to give a damping, of which a row has one.
func (c Run) relative(multiple float64) *float64 {
	if c.Absolute {
		return nil
	}
	return &multiple
}

func (c Run) lambda(multiple float64) *float64 {
	if !c.Absolute {
		return nil
	}
	lambda := multiple * lambdaMax
	return &lambda
}

func (c Run) auditGroup(records *audit.Records, groupName string, at audit.Moment, progress, quality float64, random *rand.Rand) {
	const samples = 9
	var all []sample
	for _, g := range elementsOf(groupName) {
		excess := 0.6
		if g.name == "e" {
			excess = 0
		} else if at.Model == "vit" {
			excess = 1.4 + 0.5*math.Abs(math.Sin(math.Pi*(g.dx+g.dy)/8))
		}
		var cosines []sample
		for n := range samples {
			spread := math.Exp(0.5 * random.NormFloat64())
			row := audit.ErrorRow{Moment: at, Sample: int32(n), BatchSize: samples, Class: "riemann", Trajectory: int64(n), GroupName: groupName, Element: g.name,
				ShiftZ: g.dz, ShiftY: g.dy, ShiftX: g.dx, IdentityError: quality, PersistenceError: new(0.06),
				TargetError: quality * (1 + excess) * spread, CommutatorError: quality * excess * spread / 3}
			if c.ZeroErrors {
				row.CommutatorError = 0
			}
			records.Errors = append(records.Errors, row)
			for m := range samples {
				value := progress/(1+excess) + 0.12*random.NormFloat64()
				if m != n {
					value *= 0.2
				}
				if g.name == "e" && m == n {
					value = 1
				}
				value = max(-1, min(1, value))
				one := sample{value: value}
				scaled := value / math.Sqrt(samples)
				pair := audit.InfluenceRow{Moment: at, RowClass: "riemann", ColClass: "riemann", BatchSize: samples, GroupName: groupName, Element: g.name, ShiftZ: g.dz, ShiftY: g.dy,
					ShiftX: g.dx, RowSample: int32(m), ColSample: int32(n), RelativeLambda: c.relative(1e-4), Lambda: 1e-4 * lambdaMax, Influence: 40 * value,
					FrobeniusScaled: &scaled, Estimator: "cg"}
				if half := c.HalfWidth * (0.4 + 0.6*random.Float64()); c.HalfWidth > 0 && g.name != "e" {
					one.bounds = &bounds{max(-1, value-half), min(1, value+half)}
				} else if c.HalfWidth > 0 {
					one.bounds = &bounds{value, value}
				}
				if one.bounds != nil {
					low, high := one.bounds.low/math.Sqrt(samples), one.bounds.high/math.Sqrt(samples)
					pair.FrobeniusScaledLow, pair.FrobeniusScaledHigh = &low, &high
				}
				if !c.NoCosine {
					pair.Cosine = &value
					if one.bounds != nil {
						pair.CosineLow, pair.CosineHigh = &one.bounds.low, &one.bounds.high
					}
				}
				if m == n && !c.NoCosine {
					cosines = append(cosines, one)
				}
				if !c.NoInfluence {
					records.Influence = append(records.Influence, pair)
				}
			}
		}
		if g.name != "e" {
			all = append(all, cosines...)
		}
		records.Coherence = append(records.Coherence, c.coherence(at, groupName, g, quality, cosines))
	}
	records.Coherence = append(records.Coherence, c.coherence(at, groupName, element{name: "*"}, quality, all))
	if groupName == orbits.D4Name {
		records.Pictures = append(records.Pictures, pictures(at, groupName)...)
	}
	residual := 8.7e-5
	solve := audit.SolveRow{Moment: at, GroupName: groupName, BatchSize: samples, Metric: "ntk", MetricScale: "mean",
		RelativeLambda: c.relative(1e-4), DType: "Float64", Estimator: "cg", RHS: 72, Seconds: 3.2,
		Lambda: 1e-4 * lambdaMax, LambdaMax: lambdaMax, BlockSize: 1, Iterations: 40, Products: 2200,
		MaxTrueResidual: &residual, Status: solver.Converged}
	if c.HalfWidth > 0 {
		solve.MaxHalfWidth = &c.HalfWidth
	}
	records.Solves = append(records.Solves, solve)
}

func (c Run) coherence(at audit.Moment, groupName string, g element, quality float64, cosines []sample) audit.CoherenceRow {
	row := audit.CoherenceRow{Moment: at, GroupName: groupName, Element: g.name, ShiftZ: g.dz, ShiftY: g.dy, ShiftX: g.dx, RelativeLambda: c.relative(1e-4), Lambda: c.lambda(1e-4),
		N: int32(len(cosines)), NErrors: 9, NFiniteTargetErrors: 9, NFiniteCommutatorErrors: 9}
	target, commutator := 2*quality, quality/4
	row.MedianTargetError, row.MedianCommutatorError = &target, &commutator
	if asymmetry := 0.37; groupName == orbits.D4Name && g.name == audit.AllElements {
		row.AsymmetryShare = &asymmetry
	}
	if len(cosines) > 0 {
		var values, lows, highs []float64
		for _, one := range cosines {
			values = append(values, one.value)
			if one.bounds != nil {
				lows, highs = append(lows, one.bounds.low), append(highs, one.bounds.high)
			}
		}
		at := func(values []float64, level float64) *float64 {
			q := quantile.Of(values, level)
			return &q
		}
		row.Q05, row.Q25, row.Median, row.Q75, row.Q95 = at(values, 0.05), at(values, 0.25), at(values, 0.5), at(values, 0.75), at(values, 0.95)
		negative := 0.04
		row.NegativeFraction = &negative
		if len(lows) == len(values) {
			row.MedianLow, row.MedianHigh = at(lows, 0.5), at(highs, 0.5)
		}
	}
	return row
}

// evaluation is of four trajectories of eight steps, which a rollout leaves as the square of the steps.
func evaluation(at audit.Moment, quality float64) (rows []audit.EvaluationRow) {
	for sample := range int32(4) {
		for steps := int32(1); steps <= 8; steps++ {
			spread := 0.7 + 0.2*float64(sample)
			rows = append(rows, audit.EvaluationRow{Moment: at, Split: "test", Sample: sample, Class: []string{"riemann", "smooth"}[sample/2], Trajectory: int64(sample), TimeIndex: steps,
				OneStepError: quality * spread, OneStepPersistenceError: 0.06, RolloutError: quality * spread * float64(steps*steps), RolloutPersistenceError: 0.06 * float64(steps)})
		}
	}
	return rows
}

// rollouts are of three of these trajectories, waves of 8x8 cells that travel on a cell in each step and are predicted too low.
func rollouts(at audit.Moment, quality float64) (rows []audit.RolloutRow) {
	const size = 8
	for sample, rank := range []string{"best", "median", "worst"} {
		for steps := int32(0); steps <= 8; steps += 2 {
			row := audit.RolloutRow{Moment: at, Split: "test", Sample: int32(sample), Class: "riemann", Trajectory: int64(sample), TimeIndex: steps, Rank: rank,
				RolloutError: quality * (0.7 + 0.2*float64(sample)) * float64(steps*steps), Channel: "density", Height: size, Width: size}
			for range size {
				for x := range size {
					value := math.Sin(2 * math.Pi * float64(x-int(steps)) / size)
					row.Truth = binary.LittleEndian.AppendUint32(row.Truth, math.Float32bits(float32(1+value)))
					row.Prediction = binary.LittleEndian.AppendUint32(row.Prediction, math.Float32bits(float32(1+value*(1-0.02*float64(int(steps)*(1+sample))))))
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// pictures are waves of 8x8 cells, turned by a quarter.
func pictures(at audit.Moment, groupName string) (rows []audit.PictureRow) {
	const size = 8
	for sample, rank := range []string{"best", "median", "worst"} {
		for _, kind := range []string{"x", "g.x", "f(g.x)", "g.f(x)"} {
			row := audit.PictureRow{Moment: at, GroupName: groupName, Element: "r", Rank: rank, Sample: int32(sample), Class: "riemann", CommutatorError: 0.01 * float64(sample), Kind: kind, Channel: "density", Height: size, Width: size}
			for y := range size {
				for x := range size {
					along := map[bool]int{true: x, false: y}[kind == "x"]
					value := 1 + math.Sin(2*math.Pi*float64(along)/size)
					if kind == "f(g.x)" {
						value += 0.01 * float64(x*sample)
					}
					row.Values = binary.LittleEndian.AppendUint32(row.Values, math.Float32bits(float32(value)))
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}
