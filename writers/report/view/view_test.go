package view

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/writers"
	"github.com/symaudit/symaudit/writers/report/internal/synthetic"
)

var bothModels = synthetic.Run{Models: []string{"unet", "vit"}, Epochs: 6, Groups: []string{"d4", "translations"}, HalfWidth: 0.15,
	Larger: []float64{1e-2, 1}, Evaluation: true}

// ofRecords is what a run of these rows is drawn from.
func ofRecords(records *audit.Records) *data {
	return newData([]Run{{Dir: "runs/a", Contents: &writers.Contents{Records: *records}}})
}

// dampings draws the figure from records as they come from an audit.
func dampings(t *testing.T, records *audit.Records) (drawn Figure, caption string) {
	t.Helper()
	drawn, ok := ofRecords(records).overDampings()
	require.True(t, ok)
	return drawn, strings.Join(drawn.Caption, " ")
}

func TestMediansWithoutBoundsAreCounted(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	for i := range records.Coherence {
		if row := &records.Coherence[i]; row.GroupName == "d4" {
			row.MedianLow = nil
		}
	}
	nowhere := math.Inf(-1)
	for i := range records.Influence {
		if row := &records.Influence[i]; row.Element == "r" && row.RowSample == 0 {
			row.CosineLow = &nowhere
		}
	}
	r := ofRecords(records)
	drawn, ok := r.overTime()
	require.True(t, ok)
	require.Contains(t, strings.Join(drawn.Caption, " "), "Nothing is certified for 1 of 2 medians.")
	require.Contains(t, r.describeLines(r.groups[0]), "Nothing is certified for 1 of 72 cosines.")
}

func TestBoundsStayInsideThePanel(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	low, high := -0.9, 1.0
	for i := range records.Coherence {
		records.Coherence[i].MedianLow, records.Coherence[i].MedianHigh = &low, &high
	}
	r := ofRecords(records)
	x := extent{}
	x.include(0, 1)
	drawn, _ := r.coherencePanel(r.groups[0], x, &medianBounds{})
	require.Less(t, drawn.Y.Low, low)
}

func TestRoundingKeepsABound(t *testing.T) {
	for v, want := range map[float64]float64{0: 0, 0.012: 0.012, 0.0121: 0.013, 0.0129: 0.013, 0.0991: 0.1, 1: 1, 1.501: 1.6, 3.21e-16: 3.3e-16} {
		require.Equal(t, want, roundedUp(v, 2))
		require.Equal(t, -want, roundedDown(-v, 2))
	}
	require.True(t, math.IsInf(roundedUp(math.Inf(1), 2), 1))
}

func TestOfSeveralLambdasTheSmallestIsDrawn(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	influence, coherence := len(records.Influence), len(records.Coherence)
	r := ofRecords(records)
	require.Len(t, r.series[0].influence, influence/3)
	for _, row := range r.series[0].influence {
		require.Equal(t, 1e-4, *row.RelativeLambda)
	}
	require.Len(t, r.coherence, coherence/3)
	for _, row := range r.coherence {
		require.Equal(t, 1e-4, *row.RelativeLambda)
	}
	require.Len(t, r.records.Coherence, coherence, "all are kept, for the figure against damping")
}

func TestFiguresShowTheLastAudit(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	later := bothModels.Audit("unet", 2)
	for i := range later.Errors {
		later.Errors[i].TargetError = 7
	}
	records.Errors = append(records.Errors, later.Errors...)
	r := ofRecords(records)
	samples := targetError.samples(r.series[0], r.groups[0], everything)
	require.NotEmpty(t, samples)
	for _, one := range samples {
		require.Equal(t, 7.0, one.Value)
	}
}

func TestNamesOfGroupsMakeNamesOfFiles(t *testing.T) {
	long := strings.Repeat("rotations by thirds of a turn, ", 10)
	names := []string{"d4", "D4*shifts", "d4*shifts", "d4+shifts", long + "a", long + "b", "..", "c4*translations"}
	records := &audit.Records{}
	for _, name := range names {
		run := synthetic.Run{Models: []string{"unet"}, Epochs: 1, Groups: []string{name}}
		found := run.Audit("unet", 1)
		records.Errors, records.Coherence = append(records.Errors, found.Errors...), append(records.Coherence, found.Coherence...)
	}
	files := map[string]bool{}
	for _, g := range ofRecords(records).groups {
		require.LessOrEqual(t, len(g.file), 100)
		files[strings.ToLower(g.file)] = true
	}
	require.Len(t, files, len(names))
	require.Contains(t, files, "d4")
	require.Contains(t, files, "c4-translations")
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0123456: "0.0123", 1e-5: "10⁻⁵", 1.234e-5: "1.23×10⁻⁵", -2: "−2",
		-3e-7: "−3×10⁻⁷", 12345: "1.23×10⁴", 1000: "1000", math.Inf(-1): "−∞"} {
		require.Equal(t, want, Number(v))
	}
	for v, want := range map[float64]string{0: "0", 0.024: "0.0240", 0.00999999: "0.0100", 1: "1.00", 12.34: "12.3", -0.5: "−0.500",
		1e-5: "10⁻⁵", 1000: "1000"} {
		require.Equal(t, want, aligned(v))
	}
}

func TestOtherSettingsAreASeriesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	c := synthetic.Run{Models: []string{"unet"}, Epochs: 4, Groups: []string{"d4"}}
	for attempt, metric := range []string{"ntk", "ntk", "ggn", "ggn"} {
		run, err := writers.Parquet(dir).WithResume().WithNewSeries().Done()
		require.NoError(t, err)
		require.NoError(t, run.Enter("a", "unet", 3, int64(60*attempt), map[string]string{"metric": metric}))
		require.NoError(t, run.Write(c.Audit("unet", attempt+1)))
		require.NoError(t, run.Close())
	}
	contents, err := writers.Read(dir)
	require.NoError(t, err)
	var labels []string
	var steps []int64
	for _, s := range newData([]Run{{Dir: dir, Contents: contents}}).series {
		labels, steps = append(labels, s.label), append(steps, s.step)
	}
	require.Equal(t, []string{"unet, from attempt 1", "unet, from attempt 3"}, labels)
	require.Equal(t, []int64{120, 240}, steps, "of the last audit of each")
}

func TestCaptionTellsTheEndsOverDampings(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	later := bothModels.Audit("unet", 2)
	for i := range later.Coherence {
		row := &later.Coherence[i]
		row.Median = new(float64)
		*row.Median = map[float64]float64{1e-4: 0.125, 1e-2: 0.375, 1: -0.625}[*row.RelativeLambda]
	}
	records.Coherence = append(records.Coherence, later.Coherence...)
	drawn, caption := dampings(t, records)
	require.Len(t, drawn.Panels, 2)
	require.Contains(t, caption, "(unet at epoch 2)")
	require.Contains(t, caption, "unet under d4: 0.12 at λ/λ_max = 10⁻⁴, −0.62 at λ/λ_max = 1.")
	require.Contains(t, caption, "unet under translations: 0.12 at λ/λ_max = 10⁻⁴, −0.62 at λ/λ_max = 1.")
	require.NotContains(t, caption, "absolute")
}

// Each batch has its own lambda then, and none may be taken for that of the others.
func TestDampingIsAMultipleOfEachBatchsLargestEigenvalue(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	for i := range records.Influence {
		records.Influence[i].Lambda = float64(i + 1) // of one batch or another
	}
	kept := len(records.Influence) / 3
	r := ofRecords(records)
	require.Len(t, r.series[0].influence, kept)
	for _, row := range r.series[0].influence {
		require.Equal(t, 1e-4, *row.RelativeLambda)
	}
	drawn, ok := r.overDampings()
	require.True(t, ok)
	require.Regexp(t, `unet under d4: [^ ]+ at λ/λ_max = 10⁻⁴, [^ ]+ at λ/λ_max = 1\.`, strings.Join(drawn.Caption, " "))
}

func TestAnAbsoluteDampingHasAnAxisOfItsOwn(t *testing.T) {
	other := synthetic.Run{Models: []string{"vit"}, Groups: []string{"d4"}, Larger: []float64{1e-2}, Absolute: true}
	records := bothModels.Audit("unet", 1)
	records.Coherence = append(records.Coherence, other.Audit("vit", 1).Coherence...)
	drawn, caption := dampings(t, records)
	var labels []string
	for _, panel := range drawn.Panels {
		labels = append(labels, panel.X.Label)
	}
	require.Equal(t, []string{"λ/λ_max", "λ/λ_max", "λ"}, labels)
	require.Regexp(t, `unet under d4: [^ ]+ at λ/λ_max = 10⁻⁴`, caption)
	require.Regexp(t, `vit under d4: [^ ]+ at λ = 0\.0064, [^ ]+ at λ = 0\.64\.`, caption)
	require.Contains(t, caption, "λ is absolute under d4, as it was not asked for as a multiple of λ_max.")
}

func TestDampingsWithoutValues(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	for i := range records.Coherence {
		row := &records.Coherence[i]
		if *row.RelativeLambda == 1e-2 {
			row.Median, row.Q25, row.Q75 = nil, nil, nil
		}
		if *row.RelativeLambda == 1 {
			row.MedianHigh = nil
		}
	}
	for _, lambda := range []float64{0, math.Inf(1)} { // where a logarithmic axis ends
		row := records.Coherence[len(records.Coherence)-1]
		row.RelativeLambda = &lambda
		records.Coherence = append(records.Coherence, row)
	}
	drawn, caption := dampings(t, records)
	require.Contains(t, caption, "Nothing is certified for 2 of 4 medians.")
	require.Len(t, drawn.Panels, 2)

	for i := range records.Coherence {
		records.Coherence[i].Median = nil
	}
	_, ok := ofRecords(records).overDampings()
	require.False(t, ok)
}

func TestBarsAreSetAsideInTheOrderOfTheirLines(t *testing.T) {
	lines := []Line{{At: []float64{2}}, {At: []float64{1}}, {At: []float64{2}}}
	for i, want := range []int{1, 0, 2} {
		require.Equal(t, want, placeOf(i, lines))
	}
}

func TestEachSolveOfConjugateGradientsIsTold(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	for i := range records.Solves {
		records.Solves[i].Estimator = string(audit.CGResidual)
	}
	_, caption := dampings(t, records)
	require.Contains(t, caption, "cg-residual solves for each anew")
}

// Two of 1, 2, 5, 10, ... lie within, whatever values were included.
func TestLogarithmicAxesHaveRoomForTwoLabels(t *testing.T) {
	for _, high := range []float64{1, 1.2, 3, 12, 1e3, 1e15} {
		y := extent{log: true}
		y.include(1.37e-6, 1.37e-6*high)
		y = y.padded()
		require.GreaterOrEqual(t, y.high/y.low, 5.0)
	}
}
