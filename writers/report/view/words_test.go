package view

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/writers"
)

// moment is one of a training of four epochs with ten steps each.
func moment(epoch int) audit.Moment {
	return audit.Moment{RunID: "1", Attempt: 1, Model: "unet", Seed: 3, Step: int64(10 * epoch), Epoch: float64(epoch)}
}

// small is two audits of two samples under a group of two elements, at epochs 1 and 4, with values that are easy to follow.
func small() *audit.Records {
	r := &audit.Records{}
	for step := range 40 {
		at := moment(0)
		at.Step, at.Epoch = int64(step+1), float64(step+1)/10
		r.Training = append(r.Training, audit.TrainingRow{Moment: at, Loss: 1 / float64(step+1)})
	}
	for audited, epoch := range []int{1, 4} {
		at, half := moment(epoch), 0.5
		for sample := range int32(2) {
			class := []string{"smooth", "shocks"}[sample]
			for place, element := range []string{"e", "s"} {
				target := []float64{0.1, 0.3}[place] * float64(sample+1)
				r.Errors = append(r.Errors, audit.ErrorRow{Moment: at, GroupName: "mirror", Element: element, Sample: sample, Class: class, BatchSize: 2, TimeIndex: 5 + sample,
					TargetError: target, CommutatorError: 0.2 * float64(place), PersistenceError: new(0.05), SymmetrizedError: new(0.15 * float64(sample+1))})
				for other := range int32(2) {
					value := map[bool]float64{true: 0.6, false: -0.2}[other == sample]
					if element == "e" {
						value = map[bool]float64{true: 1, false: 0.3}[other == sample]
					}
					r.Influence = append(r.Influence, audit.InfluenceRow{Moment: at, GroupName: "mirror", Element: element, RowSample: sample, ColSample: other, RowClass: class, RowTimeIndex: 5 + sample, ColTimeIndex: 5 + other,
						RowTrajectory: 1, ColTrajectory: 1, ColClass: class, RelativeLambda: &half, Lambda: 1, Cosine: &value, Influence: value, FrobeniusScaled: &value, Leakage: new(0.95)})
				}
			}
		}
		median, low, high := []float64{0.2, 0.6}[audited], []float64{0.19, 0.55}[audited], []float64{0.21, 0.65}[audited]
		r.Coherence = append(r.Coherence, audit.CoherenceRow{Moment: at, GroupName: "mirror", Element: audit.AllElements, RelativeLambda: &half, N: 2, Median: &median, MedianLow: &low, MedianHigh: &high, Q25: &low, Q75: &high,
			NErrors: 2, NFiniteTargetErrors: 2, NFiniteCommutatorErrors: 2, MedianTargetError: new(0.45), MedianCommutatorError: new([]float64{0.8, 0.2}[audited]), AsymmetryShare: new(0.25)})
		r.Solves = append(r.Solves, audit.SolveRow{Moment: at, GroupName: "mirror", RelativeLambda: &half, Lambda: 1, LambdaMax: 2, Parameters: new(int64(13004)), MaxHalfWidth: new(0.05), Status: solver.Converged})
	}
	return r
}

func TestTheVerdictSaysWhatTheTablesSay(t *testing.T) {
	records := small()
	records.Decisions = []audit.DecisionRow{{Moment: moment(4), Decision: audit.Stopped, Explanation: new("mirror/target_error is 0.45"), Monitor: new("mirror/target_error"),
		BestStep: new(int64(10)), BestValue: new(0.4), KeptStep: 10}}
	verdicts := ofRecords(records).verdicts()
	require.Equal(t, []Verdict{{
		Model: "unet",
		Said: []string{
			"13,004 parameters, seed 3; trained to step 40, epoch 4; audited 2 times, at epochs 1 to 4.",
			"A stop rule ended the training: mirror/target_error is 0.45. It keeps the weights of step 10, the best audit by mirror/target_error, 0.4.",
			"Under mirror: coherence 0.60 (certified: 0.55 to 0.65), at first 0.20 (certified: 0.19 to 0.21): it rose. Target error stayed 0.45 and commutator error fell from 0.8 to 0.2. " +
				"Averaging the predictions over the group would take away 25 % of the target error. Untransformed, the median target error is 0.15; predicting no change would cost 0.05.",
		},
		Doubts: []string{
			"The probe states are few, 2 under mirror: intervals enclose the error of the solves, not what other states would show.",
			"λ rather than the metric divides 95 % of the gradients (median leakage): the cosines are nearly the plain ones. A smaller λ lets the metric decide.",
			"The model predicts worse than that nothing happens, on the states of mirror.",
		},
	}}, verdicts)
}

func TestTheVerdictLeavesOpenWhatIntervalsLeaveOpen(t *testing.T) {
	for name, test := range map[string]struct {
		low, high *float64 // of the second audit, whose median is 0.1
		said      string
	}{
		"fell":              {new(0.05), new(0.15), "coherence 0.10 (certified: 0.05 to 0.15), at first 0.20 (certified: 0.19 to 0.21): it fell."},
		"open":              {new(-0.501), new(0.191), "coherence 0.10 (certified: −0.51 to 0.20), at first 0.20 (certified: 0.19 to 0.21): no change beyond the intervals."},
		"nothing certified": {nil, nil, "coherence 0.10 (nothing is certified), at first 0.20 (certified: 0.19 to 0.21)."},
	} {
		t.Run(name, func(t *testing.T) {
			records := small()
			row := &records.Coherence[1]
			row.Median, row.MedianLow, row.MedianHigh = new(0.1), test.low, test.high
			d := ofRecords(records)
			said := d.sayGroup(d.series[0], d.groups[0])
			require.Contains(t, said, "Under mirror: "+test.said)
			require.Equal(t, name == "fell", strings.Contains(said, "is no contradiction"))
		})
	}
}

func TestTheVerdictOnHowATrainingEnded(t *testing.T) {
	decided := func(decision string) audit.DecisionRow {
		return audit.DecisionRow{Moment: moment(4), Decision: decision, KeptStep: 40}
	}
	interrupted := decided(audit.Interrupted)
	interrupted.Explanation = new("terminated")
	early := decided(audit.Finished)
	early.Step = 20
	worse := decided(audit.Stopped)
	worse.Explanation, worse.Monitor, worse.BestStep, worse.BestValue = new("enough"), new("d4/coherence"), new(int64(10)), new(0.5)
	for name, test := range map[string]struct {
		rows []audit.DecisionRow
		said string
	}{
		"none":         {nil, "No end is recorded: the training goes on, was killed or failed, or was made by an earlier version."},
		"finished":     {[]audit.DecisionRow{interrupted, decided(audit.Finished)}, "The training made all its steps. It keeps the weights of step 40."},
		"interrupted":  {[]audit.DecisionRow{interrupted}, "The training was interrupted at step 40: terminated. It keeps the weights of step 40."},
		"went on":      {[]audit.DecisionRow{early}, "No end is recorded: the training goes on, was killed or failed, or was made by an earlier version."},
		"not restored": {[]audit.DecisionRow{worse}, "A stop rule ended the training: enough. It keeps the weights of step 40; the best audit by d4/coherence, 0.5, was at step 10."},
	} {
		t.Run(name, func(t *testing.T) {
			records := small()
			records.Decisions = test.rows
			require.Equal(t, test.said, ofRecords(records).verdicts()[0].Said[1])
		})
	}
}

// find is the panel of a figure with a title.
func find(t *testing.T, f Figure, title string) Panel {
	t.Helper()
	var titles []string
	for _, panel := range f.Panels {
		if panel.Title == title {
			return panel
		}
		titles = append(titles, panel.Title)
	}
	t.Fatalf("no panel %q in %q", title, titles)
	return Panel{}
}

func TestStopsAndKeptWeightsAreMarked(t *testing.T) {
	records := small()
	records.Decisions = []audit.DecisionRow{{Moment: moment(4), Decision: audit.Stopped, KeptStep: 10}}
	f, ok := ofRecords(records).overTime()
	require.True(t, ok)
	for _, panel := range f.Panels {
		var rules []Rule
		for _, mark := range panel.Marks {
			if rule, is := mark.(Rule); is {
				rules = append(rules, rule)
			}
		}
		require.Equal(t, []Rule{{At: 4, Text: "stop"}, {At: 1, Text: "kept"}}, rules, panel.Title)
	}
	require.Contains(t, strings.Join(f.Caption, " "), "where a stop rule ended a training (stop), and the audit whose weights it keeps (kept).")
}

// Errors at x are 0.1 and 0.2, at the mirrored states 0.3 and 0.6: over the orbit 0.2 and 0.4.
func TestErrorsAtXAndOverTheOrbit(t *testing.T) {
	d := ofRecords(small())
	f, ok := d.byClass(d.groups[0])
	require.True(t, ok)
	panel := find(t, f, "Target error (n = 2)")
	require.Equal(t, []string{"at x", "over orbit", "averaged", "no change"}, panel.X.Names)
	for i, want := range [][2]float64{{0.1, 0.2}, {0.2, 0.4}, {0.15, 0.3}, {0.05, 0.05}} {
		require.InDeltaSlice(t, want[:], valuesOf(panel.Marks[i].(Box).Samples), 1e-15)
	}
	classes := find(t, f, "Over the orbit, by class (n = 1)")
	require.Equal(t, []string{"smooth", "shocks"}, classes.X.Names)
	require.InDelta(t, 0.4, classes.Marks[1].(Box).Samples[0].Value, 1e-15)
	require.Contains(t, f.Caption[0], "2 probe states of smooth and shocks, snapshots 5 to 6.")
}

func TestPairsOfSamplesAndSnapshots(t *testing.T) {
	d := ofRecords(small())
	f, ok := d.betweenSamples(d.groups[0])
	require.True(t, ok)
	want := Cells{Values: [][]float64{{0.6, -0.2}, {-0.2, 0.6}}, Low: -1, High: 1}
	require.Equal(t, want, find(t, f, "unet").Marks[0])
	snapshots := find(t, f, "unet: snapshots of a trajectory")
	require.Equal(t, Cells{Values: [][]float64{{1, 0.3}, {0.3, 1}}, Low: -1, High: 1}, snapshots.Marks[0], "untransformed")
	require.Equal(t, []string{"5", "6"}, snapshots.X.Names)

	alone := small()
	alone.Influence = slices.DeleteFunc(alone.Influence, func(row audit.InfluenceRow) bool { return row.RowSample != row.ColSample })
	_, ok = ofRecords(alone).betweenSamples(d.groups[0])
	require.False(t, ok, "no two samples were solved together")

	against, ok := d.againstErrors(d.groups[0])
	require.False(t, ok, "one element is no figure: %v", against)
}

func TestSharesOfLayers(t *testing.T) {
	records := small()
	half, one := 0.5, 1.0
	for sample := range int32(2) {
		for _, element := range []string{"e", "s"} {
			for layer, influence := range map[string]float64{"/": 2, "/a/": 1.5, "/a/weights": 1.5, "/b": 0.5} {
				row := audit.LayerRow{Moment: moment(4), GroupName: "mirror", Element: element, Sample: sample, Layer: layer, Kind: "scope", Parameters: 1000, RelativeLambda: &half, Influence: influence}
				if !strings.HasSuffix(layer, "/") {
					row.Kind = "variable"
				}
				if element == "e" {
					row.Influence = 77 // which no table shows
				}
				damped := row
				damped.RelativeLambda, damped.Influence = &one, 77
				records.Layers = append(records.Layers, row, damped)
			}
		}
	}
	require.Equal(t, []LayerTable{{Model: "unet", Group: "mirror", Rows: []LayerRow{
		{"/a/weights", "1,000", "75 %", "75 % to 75 %", 0.75}, {"/b", "1,000", "25 %", "25 % to 25 %", 0.25}}}}, ofRecords(records).layerTables())
}

// Three eigenvalues of about 4, and one of 1.
func TestSpectrumCountsEigenvalues(t *testing.T) {
	records := small()
	records.Spectrum = []audit.SpectrumRow{{Moment: moment(4), GroupName: "mirror", RitzValue: 1, Multiplicity: 1}, {Moment: moment(4), GroupName: "mirror", RitzValue: 4, Multiplicity: 3},
		{Moment: moment(4), GroupName: "mirror", Batch: 1, RitzValue: 9, Multiplicity: 1}, {Moment: moment(1), GroupName: "mirror", RitzValue: 9, Multiplicity: 1}}
	records.Solves[1].EffectiveDimension, records.Solves[1].EffectiveDimensionLow, records.Solves[1].EffectiveDimensionHigh = new(2.9), new(2.8123), new(3.0123)
	f, ok := ofRecords(records).spectrum()
	require.True(t, ok)
	require.Equal(t, Curve{At: []float64{3, 4}, Values: []float64{4, 1}}, f.Panels[0].Marks[0])
	require.Contains(t, f.Caption[1], "unet 2.9 (2.81 to 3.02) at λ = 1.")
}

// Where elements shift along both axes there is a map of the plane, with a hole where no element is.
func TestShiftsAlongBothAxesAreAMap(t *testing.T) {
	records := &audit.Records{}
	for i, by := range [][2]float64{{0, 0}, {0, 4}, {4, 0}, {4, 4}, {8, 4}} {
		records.Errors = append(records.Errors, audit.ErrorRow{Moment: moment(1), GroupName: "shifts", Element: fmt.Sprintf("t(%g,%g)", by[1], by[0]), ShiftX: by[0], ShiftY: by[1], TargetError: float64(i + 1)})
	}
	records.Errors[0].Element = identity
	d := ofRecords(records)
	f, ok := d.byShift(d.groups[0])
	require.True(t, ok)
	panel := find(t, f, "unet: target error by both shifts")
	cells := panel.Marks[0].(Cells)
	require.Equal(t, []string{"0", "4", "8"}, panel.X.Names)
	require.Equal(t, []string{"0", "4"}, panel.Y.Names)
	require.Equal(t, []float64{1, 3}, cells.Values[0][:2])
	require.Equal(t, []float64{2, 4, 5}, cells.Values[1])
	require.False(t, finite(cells.Values[0][2]))
	require.True(t, cells.Log)
	require.Equal(t, []float64{0, 4}, find(t, f, "Target error, horizontal shift (n = 1)").Marks[0].(Line).At, "along x alone")
	require.Equal(t, []float64{0, 4}, find(t, f, "Target error, vertical shift (n = 1)").Marks[0].(Line).At)
}

func TestRunsAreCompared(t *testing.T) {
	var runs []Run
	for i, value := range []float64{0.2, 0.6, 0.4} {
		records := small()
		id := fmt.Sprint(i)
		for _, at := range records.Moments() {
			at.RunID = id
		}
		records.Coherence[1].Median = &value
		runs = append(runs, Run{Dir: "/runs/" + []string{"a", "b", "c"}[i], Contents: &writers.Contents{Info: writers.Info{RunID: id}, Records: *records}})
	}
	v := Of(runs...)
	require.Equal(t, "Symmetry audits of 3 runs", v.Title)
	require.Equal(t, []EndTable{{Group: "mirror", Rows: []EndRow{{"unet", "3", "0.4 (0.2 to 0.6)", "0.45 (0.45 to 0.45)", "0.2 (0.2 to 0.2)"}}}}, v.Ends)
	require.Equal(t, []string{"a", "b", "c"}, []string{v.Facts[0].Name, v.Facts[1].Name, v.Facts[2].Name})
	var labels []string
	for _, entry := range v.Figures[0].Legend {
		labels = append(labels, entry.Text)
		require.Zero(t, entry.Style.Color, "one model has one colour")
	}
	require.Equal(t, []string{"a: unet", "b: unet", "c: unet"}, labels)
	require.Empty(t, v.Config)
	require.Nil(t, Of(Run{Dir: "/runs/a", Contents: &writers.Contents{}}))
}

func TestLongTablesAreThinnedOut(t *testing.T) {
	records := &audit.Records{}
	for epoch := 1; epoch <= 1000; epoch++ {
		records.Coherence = append(records.Coherence, audit.CoherenceRow{Moment: moment(epoch), GroupName: "mirror", Element: audit.AllElements})
	}
	table := ofRecords(records).auditTables()[0]
	require.Len(t, table.Rows, mostRows)
	require.Equal(t, "1", table.Rows[0].Time)
	require.Equal(t, "1000", table.Rows[mostRows-1].Time)
	require.Equal(t, "60 of 1000 times are shown; table coherence has all.", table.LeftOut)
}

func TestAReaderPicksFromTheMediansOfElements(t *testing.T) {
	records := small()
	element := records.Coherence[1]
	element.Element, element.Median, element.MedianTargetError = "s", new(0.123456), nil
	damped := element
	damped.RelativeLambda, damped.Median = new(5.0), new(0.9)
	records.Coherence = append(records.Coherence, element, damped)
	e := ofRecords(records).explorer()
	require.Equal(t, []ExplorerGroup{{"mirror", []string{"e", "s", "*"}}}, e.Groups)
	require.Len(t, e.Rows, 3, "none of the larger damping")
	require.Equal(t, ExplorerRow{0, 0, 1, 4, [7]*float64{new(0.1235), new(0.55), new(0.65), new(0.55), new(0.65), nil, new(0.2)}}, e.Rows[2])

	records = &audit.Records{}
	for epoch := 1; epoch <= 3*mostExplored; epoch++ {
		records.Coherence = append(records.Coherence, audit.CoherenceRow{Moment: moment(epoch), GroupName: "mirror", Element: audit.AllElements})
	}
	rows := ofRecords(records).explorer().Rows
	require.Len(t, rows, mostExplored)
	require.Equal(t, 1.0, rows[0].Time)
	require.Equal(t, 3.0*mostExplored, rows[mostExplored-1].Time)
}

// The pictures of a sample, about the mean of x, on one scale, and how far f(g.x) is from g.f(x) on its own.
func TestPicturesShowWhereTheSymmetryBreaks(t *testing.T) {
	records := small()
	for kind, values := range map[string][]byte{ // 1 and 3; 3 and 1; 3 and 1.5; 3 and 1, as float32
		"x": {0, 0, 128, 63, 0, 0, 64, 64}, "g.x": {0, 0, 64, 64, 0, 0, 128, 63}, "f(g.x)": {0, 0, 64, 64, 0, 0, 192, 63}, "g.f(x)": {0, 0, 64, 64, 0, 0, 128, 63},
	} {
		records.Pictures = append(records.Pictures, audit.PictureRow{Moment: moment(4), GroupName: "mirror", Element: "s", Rank: "worst", CommutatorError: 0.25, Kind: kind, Channel: "density", Height: 1, Width: 2, Values: values})
	}
	d := ofRecords(records)
	f, ok := d.pictured(d.groups[0])
	require.True(t, ok)
	require.Equal(t, 1, f.Columns)
	panel := find(t, f, "unet, worst: s, commutator error 0.25")
	require.Equal(t, []string{"x", "g.x", "f(g.x)", "g.f(x)", "Δ ×2"}, panel.X.Names)
	for i, want := range []Mark{Picture{0, 0, [][]float64{{-1, 1}}, 1}, Picture{1, 0, [][]float64{{1, -1}}, 1}, Picture{2, 0, [][]float64{{1, -0.5}}, 1}, Picture{3, 0, [][]float64{{1, -1}}, 1}, Picture{4, 0, [][]float64{{0, 0.5}}, 0.5},
		Scale{5, 0, "2", 1}} {
		require.Equal(t, want, panel.Marks[i])
	}
}

// What is true and what is predicted are drawn about the mean of the initial state on the scale of the truth, and the difference on its own, which is no weaker.
func TestRolloutsAreDrawnBesideWhatIsTrue(t *testing.T) {
	row := func(rank, channel string, time int32, rolloutError float64, truth, prediction [2]float32) audit.RolloutRow {
		bytes := func(values [2]float32) (all []byte) {
			for _, value := range values {
				all = binary.LittleEndian.AppendUint32(all, math.Float32bits(value))
			}
			return all
		}
		return audit.RolloutRow{Moment: moment(4), Class: "shocks", Trajectory: 7, TimeIndex: time, Rank: rank, RolloutError: rolloutError, Channel: channel, Height: 1, Width: 2, Truth: bytes(truth), Prediction: bytes(prediction)}
	}
	nan := float32(math.NaN())
	records := small()
	before := row("worst", "density", 0, 0, [2]float32{9, 9}, [2]float32{9, 9}) // of an earlier audit
	before.Moment = moment(1)
	records.Rollouts = []audit.RolloutRow{
		before,
		row("best", "density", 0, 0, [2]float32{1, 3}, [2]float32{1, 3}), row("worst", "density", 0, 0, [2]float32{1, 3}, [2]float32{1, 3}), row("worst", "pressure", 0, 0, [2]float32{8, 8}, [2]float32{8, 8}),
		row("best", "density", 2, 0.5, [2]float32{4, 2}, [2]float32{4, 1.5}), row("worst", "density", 2, math.NaN(), [2]float32{4, 2}, [2]float32{20, nan}),
	}
	f, ok := ofRecords(records).rollouts()
	require.True(t, ok)
	require.Len(t, f.Panels, 2)
	require.Equal(t, 2, f.Columns, "a row for each model, which has no middle of two rollouts")
	best := find(t, f, "unet, best: shocks 7, rollout error 0.5")
	require.Equal(t, []string{"0", "2"}, best.X.Names)
	require.Equal(t, []string{"Δ ×4", "prediction", "truth"}, best.Y.Names)
	require.Equal(t, []Mark{
		Picture{0, 0, [][]float64{{0, 0}}, 0.5}, Picture{0, 1, [][]float64{{-1, 1}}, 2}, Picture{0, 2, [][]float64{{-1, 1}}, 2},
		Picture{1, 0, [][]float64{{0, -0.5}}, 0.5}, Picture{1, 1, [][]float64{{2, -0.5}}, 2}, Picture{1, 2, [][]float64{{2, 0}}, 2},
		Scale{2, 1.5, "2", 2}, Scale{2, 0, "0", 0.5},
	}, best.Marks)
	worst := find(t, f, "unet, worst: shocks 7, rollout error NaN")
	require.Equal(t, "Δ ×1", worst.Y.Names[0])
	require.Contains(t, worst.Marks, Scale{2, 0, "0", 2}, "no weaker than the states")
	require.Equal(t, 16.0, worst.Marks[3].(Picture).Values[0][0])
	require.True(t, math.IsNaN(worst.Marks[4].(Picture).Values[0][1]))
	require.Contains(t, f.Caption, "Where a prediction is NaN, nothing is drawn.")

	records.Rollouts = records.Rollouts[:1]
	_, ok = ofRecords(records).rollouts()
	require.False(t, ok, "the last audit has none")
}

// Seeds of one run are summed up as several runs are.
func TestSeedsAreSummedUp(t *testing.T) {
	records := small()
	other := small()
	for _, m := range other.Moments() {
		m.Seed = 4
	}
	for i := range other.Coherence {
		other.Coherence[i].Median = new(0.2)
	}
	require.Empty(t, Of(Run{Dir: "run", Contents: &writers.Contents{Info: writers.Info{RunID: "1"}, Records: *records}}).Ends)
	records.Add(other)
	v := Of(Run{Dir: "run", Contents: &writers.Contents{Info: writers.Info{RunID: "1"}, Records: *records}})
	require.Equal(t, "seeds", v.Over)
	require.Equal(t, []EndTable{{Group: "mirror", Rows: []EndRow{{"unet", "2", "0.4 (0.2 to 0.6)", "0.45 (0.45 to 0.45)", "0.2 (0.2 to 0.2)"}}}}, v.Ends)
	require.Equal(t, []string{"unet, seed 3", "unet, seed 4"}, []string{v.Verdicts[0].Model, v.Verdicts[1].Model})
	colors := map[int]bool{}
	for _, entry := range v.Figures[0].Legend {
		colors[entry.Style.Color] = true
	}
	require.Len(t, colors, 1, "a model keeps its colour")
}
