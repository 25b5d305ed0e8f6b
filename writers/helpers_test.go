package writers

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
)

// auditAt returns the records of one audit: the same step in every row, two rows in every table.
func auditAt(step int64) *audit.Records {
	moment := audit.Moment{Model: "unet", Seed: 7, Step: step, Epoch: float64(step) / 10}
	half := 0.5
	return &audit.Records{
		Training: []audit.TrainingRow{
			{Moment: moment, Loss: 0.25, LearningRate: 1e-3, StepSeconds: 0.01},
			{Moment: moment, Loss: 0.125, LearningRate: 1e-3, StepSeconds: 0.02}},
		Errors: []audit.ErrorRow{
			{Moment: moment, BatchSize: 2, Class: "riemann", GroupName: "d4", Element: "e", TargetError: 0.1},
			{Moment: moment, Class: "riemann", GroupName: "translations", Element: "t(0,4)", ShiftX: 4, TargetError: 0.2}},
		Decisions: []audit.DecisionRow{{Moment: moment, Decision: audit.Finished, KeptStep: moment.Step}, {Moment: moment, Decision: audit.Finished, KeptStep: moment.Step}},
		Evaluation: []audit.EvaluationRow{
			{Moment: moment, Split: "test", Class: "riemann", Trajectory: 4, TimeIndex: 1, OneStepError: 0.1, OneStepPersistenceError: 0.2, RolloutError: 0.1, RolloutPersistenceError: 0.2},
			{Moment: moment, Split: "test", Class: "riemann", Trajectory: 4, TimeIndex: 2, OneStepError: 0.1, OneStepPersistenceError: 0.2, RolloutError: math.Inf(1), RolloutPersistenceError: 0.3}},
		Rollouts: []audit.RolloutRow{
			{Moment: moment, Split: "test", Class: "riemann", Trajectory: 4, Rank: "worst", Channel: "density", Height: 1, Width: 1, Truth: []byte{0, 0, 128, 63}, Prediction: []byte{0, 0, 128, 63}},
			{Moment: moment, Split: "test", Class: "riemann", Trajectory: 4, TimeIndex: 2, Rank: "worst", RolloutError: math.Inf(1), Channel: "density", Height: 1, Width: 1, Truth: []byte{0, 0, 128, 63}, Prediction: []byte{0, 0, 128, 127}}},
		LocalErrors: []audit.LocalErrorRow{
			{Moment: moment, Class: "riemann", GroupName: "translations", Generator: "translation_x", LocalError: 0.01},
			{Moment: moment, Class: "riemann", GroupName: "translations", Generator: "translation_y", LocalError: 0.02}},
		Influence: []audit.InfluenceRow{
			{Moment: moment, GroupName: "d4", Element: "r", RelativeLambda: &half, Lambda: 1e-6, Influence: 2, Cosine: &half, Estimator: "cg"},
			{Moment: moment, GroupName: "d4", Element: "r", RelativeLambda: &half, Lambda: 1e-6, Influence: -2, Estimator: "cg", ColSample: 1}},
		Solves: []audit.SolveRow{
			{Moment: moment, GroupName: "d4", Metric: "ntk", Lambda: 1e-6, LambdaMax: 60, Status: solver.Converged},
			{Moment: moment, GroupName: "translations", Metric: "ntk", Lambda: 1e-6, LambdaMax: 60, Status: solver.Converged}},
		Layers: []audit.LayerRow{
			{Moment: moment, GroupName: "d4", Element: "r", Layer: "/", Kind: "scope", Parameters: 3, RelativeLambda: &half, Lambda: 1e-6, Influence: 2},
			{Moment: moment, GroupName: "d4", Element: "r", Layer: "/weights", Kind: "variable", Parameters: 3, RelativeLambda: &half, Lambda: 1e-6, Influence: 2}},
		Spectrum: []audit.SpectrumRow{
			{Moment: moment, GroupName: "d4", RitzValue: 60, Multiplicity: 1},
			{Moment: moment, GroupName: "d4", RitzValue: 1, Multiplicity: 2}},
		Pictures: []audit.PictureRow{
			{Moment: moment, GroupName: "d4", Element: "r", Rank: "worst", Kind: "x", Channel: "density", Height: 1, Width: 2, Values: []byte{0, 0, 128, 63, 0, 0, 0, 64}},
			{Moment: moment, GroupName: "d4", Element: "r", Rank: "worst", Kind: "g.x", Channel: "density", Height: 1, Width: 1, Values: []byte{0, 0, 128, 63}}},
		Coherence: []audit.CoherenceRow{
			{Moment: moment, GroupName: "d4", Element: "*", Metric: "ntk", RelativeLambda: &half, N: 3, Median: &half},
			{Moment: moment, GroupName: "translations", Element: "*"}},
	}
}

// betweenAudits is the epoch of training steps that are written without an audit.
const betweenAudits = -1

func trainingAt(step int64) *audit.Records {
	records := &audit.Records{Training: auditAt(step).Training}
	for i := range records.Training {
		records.Training[i].Epoch = betweenAudits
	}
	return records
}

// ofModel says that another model was audited.
func ofModel(name string, records *audit.Records) *audit.Records {
	for _, moment := range records.Moments() {
		moment.Model = name
	}
	return records
}

// stamped returns what Read gives back for records written by run.
func stamped(run *Run, records *audit.Records) *audit.Records {
	for _, moment := range records.Moments() {
		moment.RunID, moment.Attempt = run.ID(), run.Attempt()
	}
	return records
}

func merged(all ...*audit.Records) audit.Records {
	var sum audit.Records
	for _, records := range all {
		sum.Add(records)
	}
	return sum
}

type testingT interface {
	require.TestingT
	Helper()
}

func requireSame(t testingT, want, got audit.Records) {
	t.Helper()
	difference := cmp.Diff(want, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty())
	require.Empty(t, difference, "(-want +got)")
}

func openRun(t testing.TB, dir string) *Run {
	t.Helper()
	run, err := Parquet(dir).Done()
	require.NoError(t, err)
	t.Cleanup(func() { _ = run.Close() })
	return run
}

func resumeRun(t testing.TB, dir string) *Run {
	t.Helper()
	run, err := Parquet(dir).WithResume().Done()
	require.NoError(t, err)
	t.Cleanup(func() { _ = run.Close() })
	return run
}

func readRecords(t testing.TB, dir string) audit.Records {
	t.Helper()
	contents, err := Read(dir)
	require.NoError(t, err)
	return contents.Records
}
