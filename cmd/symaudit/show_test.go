package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/writers"
)

// stored writes records in turn, each by a process of its own, and returns the run's directory.
func stored(t *testing.T, all ...*audit.Records) string {
	dir := filepath.Join(t.TempDir(), "run")
	for _, records := range all {
		run, err := writers.Parquet(dir).WithInfo(writers.Info{Kind: "training", Command: []string{"train", strings.Repeat("--set key=value ", 20)}}).WithResume().Done()
		require.NoError(t, err)
		require.NoError(t, run.Write(records))
		require.NoError(t, run.Close())
	}
	return dir
}

// shown is what show prints, which is never wider than it may be.
func shown(t *testing.T, dir string) string {
	var out bytes.Buffer
	require.NoError(t, show(&out, dir))
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), textWidth, line)
		require.Equal(t, strings.TrimRight(line, " \n")+"\n", line, "no spaces at ends")
	}
	return out.String()
}

func at(step int64) audit.Moment {
	return audit.Moment{Model: "unet", Seed: 7, Step: step, Epoch: float64(step) / 10}
}

func of(value float64) *float64 { return &value }

// audited is the summary of group d4 at two dampings.
func audited(step int64, median float64) *audit.Records {
	row := audit.CoherenceRow{Moment: at(step), GroupName: "d4", Element: audit.AllElements, Metric: "ntk", RelativeLambda: of(0.01), N: 1200, Median: &median,
		MedianLow: of(median - 0.00123), MedianHigh: of(median + 0.00123), Q25: of(-1), Q75: of(-0.5), NErrors: 1200, NFiniteTargetErrors: 1200, NFiniteCommutatorErrors: 1200,
		MedianTargetError: of(1e-100), MedianCommutatorError: of(2e-100)}
	larger := row
	larger.RelativeLambda, larger.Median = of(1), of(0.999)
	element := row
	element.Element, element.Median = "r", of(0.888)
	return &audit.Records{Coherence: []audit.CoherenceRow{element, row, larger}}
}

func TestShowTellsTheFirstAndTheLastAuditAtTheSmallestDamping(t *testing.T) {
	text := shown(t, stored(t, audited(10, -0.25), audited(20, 0.25), audited(123456789, -0.5)))
	require.Contains(t, text, "audits    3, at steps 10 to 123456789")
	require.Regexp(t, `first +10 +1.00 +-0.250 +-0.252 to -0.248 -1.000 to -0.500 +1200 1.00e-100  2.00e-100`, text)
	require.Regexp(t, `last +123456789 1.23e\+07 +-0.500 +-0.502 to -0.498`, text)
	require.NotContains(t, text, " 0.250")
	require.NotContains(t, text, "0.999")
	require.NotContains(t, text, "0.888")
	require.Contains(t, text, "d4, damping 0.01 of lambda_max, metric ntk")
	for _, absent := range []string{"parameters", "solves", "loss", "ended  ", "seeds", "backend"} {
		require.NotContains(t, text, absent, "no table says")
	}
}

func TestCertifiedIntervalsAreRoundedOutwards(t *testing.T) {
	require.Equal(t, "0.173 to 0.175", enclosing(of(0.1739), of(0.1741)))
	require.Equal(t, "-0.175 to -0.173", enclosing(of(-0.1741), of(-0.1739)))
	require.Equal(t, "-", enclosing(nil, of(1)))
}

func TestShowTellsWhatIsAmiss(t *testing.T) {
	records := audited(10, 0.5)
	row := &records.Coherence[1]
	row.N, row.NWithoutCosine, row.NFiniteTargetErrors, row.MedianTargetError, row.MedianLow = 1100, 100, 1197, nil, nil
	long := strings.Repeat("the orthogonalised block lost a direction, ", 5)
	for i, status := range []solver.Status{solver.Converged, solver.ProductLimit, solver.ProductLimit, solver.Uncertified} {
		solve := audit.SolveRow{Moment: at(10), GroupName: "d4", Batch: int32(i), Status: status}
		if status != solver.Converged {
			solve.Explanation = &long
		}
		records.Solves = append(records.Solves, solve)
	}
	parameters := int64(1234567)
	records.Solves[0].Parameters = &parameters
	text := shown(t, stored(t, records))
	require.Contains(t, text, "unet, seed 7: 1,234,567 parameters\n")
	require.Contains(t, text, "solves    4, not converged: 2 product limit, 1 not certified\n")
	require.Contains(t, text, "            2× product limit: the orthogonalised block")
	require.Contains(t, text, "            1× not certified: the orthogonalised block")
	require.Regexp(t, `last +10 +1.00 +0.500 +- +-1.000 to -0.500 +1100 +- +2.00e-100`, text)
	require.Contains(t, text, "d4, step 10: 100 of 1200 have no cosine, as a gradient vanishes\n")
	require.Contains(t, text, "d4, step 10: 3 of 1200 target errors are not finite\n")
}

func TestShowTellsHowATrainingEnded(t *testing.T) {
	why, monitor := "d4/coherence is 0.95, threshold 0.9 (maximize), at step 10, epoch 1", "d4/coherence"
	stopped := audited(10, 0.95)
	stopped.Training = []audit.TrainingRow{{Moment: at(10), Loss: 0.25}}
	stopped.Decisions = []audit.DecisionRow{{Moment: at(10), Decision: audit.Stopped, Explanation: &why, Monitor: &monitor, BestStep: new(int64), BestValue: of(0.96), KeptStep: 0}}
	text := shown(t, stored(t, stopped))
	require.Contains(t, text, "state     stopped\n")
	require.Contains(t, text, "trained   step 10, epoch 1.00, training loss 2.50e-01\n")
	require.Contains(t, strings.Join(strings.Fields(text), " "), "ended stopped: "+why+"; best d4/coherence 0.96 at step 0; left with the weights of step 0 audits")

	word := "interrupted"
	interrupted := audited(10, 0.95)
	interrupted.Decisions = []audit.DecisionRow{{Moment: at(10), Decision: audit.Interrupted, Explanation: &word, KeptStep: 10}}
	text = shown(t, stored(t, interrupted))
	require.Contains(t, text, "state     interrupted\n")
	require.Contains(t, text, "ended     interrupted\n")
	text = shown(t, stored(t, interrupted, audited(8, 0.9))) // it went on from an earlier step and was killed
	require.Contains(t, text, "state     ended\n")
	require.NotContains(t, text, "interrupted")
}

func TestShowOfNothingAndOfOutputsAlone(t *testing.T) {
	text := shown(t, stored(t, nil))
	require.Contains(t, text, "nothing has been trained or audited yet")
	outputs := &audit.Records{Coherence: []audit.CoherenceRow{{Moment: audit.Moment{Model: strings.Repeat("ü", 300), Step: 3}, GroupName: strings.Repeat("g", 300), Element: audit.AllElements,
		NErrors: 2, NFiniteTargetErrors: 2, NFiniteCommutatorErrors: 2, MedianTargetError: of(0.1), MedianCommutatorError: of(0.2)}}}
	text = shown(t, stored(t, outputs))
	require.Regexp(t, `last +3 +- +- +- +- +0 +1.00e-01 +2.00e-01`, text)
	require.NotContains(t, text, "damping")
}

func TestShowKeepsAuditsWithOtherSettingsApart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	for i, lambda := range []string{"0.1", "0.01"} {
		run, err := writers.Parquet(dir).WithResume().WithNewSeries().Done()
		require.NoError(t, err)
		step := int64(10 * (i + 1))
		require.NoError(t, run.Enter("hook", "unet", 7, step-1, map[string]string{"relative_lambda": lambda}))
		require.NoError(t, run.Write(audited(step, 0.5)))
		require.NoError(t, run.Close())
	}
	text := shown(t, dir)
	require.Contains(t, text, "\nunet, seed 7\n")
	require.Contains(t, text, "\nunet, seed 7, audited with other settings from attempt 2 on\n")
	require.NotContains(t, text, "first")
}

func TestARunThatIsHeldIsRunning(t *testing.T) {
	dir := stored(t, audited(10, 0.5))
	run, err := writers.Parquet(dir).WithResume().Done()
	require.NoError(t, err)
	defer run.Close()
	require.Contains(t, shown(t, dir), "state     running\n")
	line, err := lineOf(dir)
	require.NoError(t, err)
	require.Equal(t, "running", line[2])
}

func TestTheStateOfARunWhoseLockCannotBeReadIsNotKnown(t *testing.T) {
	dir := stored(t, audited(10, 0.5))
	lock := filepath.Join(dir, ".lock")
	require.NoError(t, os.Remove(lock))
	require.NoError(t, os.Symlink(".lock", lock)) // a loop
	require.Contains(t, shown(t, dir), "state     not known\n")
}

func TestRunsOfSeveralModelsSayWhichIsWhich(t *testing.T) {
	vit := audited(30, 0.125)
	vit.Coherence[1].Model, vit.Coherence[2].Direction = "vit", "kernel"
	vit.Coherence[2].Model = "vit"
	vit.Coherence = vit.Coherence[1:]
	line, err := lineOf(stored(t, audited(10, 0.5), audited(20, 0.25), vit))
	require.NoError(t, err)
	require.Equal(t, "unet, vit", line[3])
	require.Equal(t, []string{"30", "3.00", "unet: d4 0.250; vit: d4 0.125; d4/kernel 0.999"}, line[5:])
}
