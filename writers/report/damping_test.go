package report

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/writers"
)

// dampings draws the figure from records as they come from an audit.
func dampings(t *testing.T, records *audit.Records) (drawn figure, caption string) {
	t.Helper()
	drawn, ok := newRun(&writers.Contents{Records: *records}).overDampings()
	require.True(t, ok)
	_, err := drawn.svg()
	require.NoError(t, err)
	return drawn, strings.Join(drawn.caption, " ")
}

func TestCoherenceIsDrawnAgainstDamping(t *testing.T) {
	run := bothModels
	run.epochs = 1
	page, figures := written(t, run)
	require.Subset(t, figures["damping"], []string{"λ/λ_max", "cosine of x and g.x", "unet", "vit",
		"Coherence under d4", "Coherence under translations"})
	require.Contains(t, page, "Coherence against damping")
	require.Contains(t, page, "all λ of one audit come from one solve.")
	require.Less(t, strings.Index(page, `<figure id="epochs">`), strings.Index(page, `<figure id="damping">`))
	require.Less(t, strings.Index(page, `<figure id="damping">`), strings.Index(page, `<figure id="errors-d4">`))

	run.larger = nil
	page, figures = written(t, run)
	require.NotContains(t, figures, "damping")
	require.NotContains(t, page, "Coherence against damping")
}

func TestCaptionTellsTheEndsOverDampings(t *testing.T) {
	records := bothModels.audit("unet", 1)
	later := bothModels.audit("unet", 2)
	for i := range later.Coherence {
		row := &later.Coherence[i]
		row.Median = new(float64)
		*row.Median = map[float64]float64{1e-4: 0.125, 1e-2: 0.375, 1: -0.625}[*row.RelativeLambda]
	}
	records.Coherence = append(records.Coherence, later.Coherence...)
	drawn, caption := dampings(t, records)
	require.Len(t, drawn.panels[0], 2)
	require.Contains(t, caption, "(unet: epoch 2)")
	require.Contains(t, caption, "unet under d4: 0.12 at λ/λ_max = 10⁻⁴, −0.62 at λ/λ_max = 1.")
	require.Contains(t, caption, "unet under translations: 0.12 at λ/λ_max = 10⁻⁴, −0.62 at λ/λ_max = 1.")
	require.NotContains(t, caption, "absolute")
}

// Each batch has its own lambda then, and none may be taken for that of the others.
func TestDampingIsAMultipleOfEachBatchsLargestEigenvalue(t *testing.T) {
	records := bothModels.audit("unet", 1)
	for i := range records.Influence {
		records.Influence[i].Lambda = float64(i + 1) // of one batch or another
	}
	kept := len(records.Influence) / 3
	r := newRun(&writers.Contents{Records: *records})
	require.Len(t, r.Records.Influence, kept)
	for _, row := range r.Records.Influence {
		require.Equal(t, 1e-4, *row.RelativeLambda)
	}
	drawn, ok := r.overDampings()
	require.True(t, ok)
	require.Regexp(t, `unet under d4: [^ ]+ at λ/λ_max = 10⁻⁴, [^ ]+ at λ/λ_max = 1\.`, strings.Join(drawn.caption, " "))
}

func TestAnAbsoluteDampingHasAnAxisOfItsOwn(t *testing.T) {
	other := synthetic{models: []string{"vit"}, groups: []string{"d4"}, larger: []float64{1e-2}, absolute: true}
	records := bothModels.audit("unet", 1)
	records.Coherence = append(records.Coherence, other.audit("vit", 1).Coherence...)
	drawn, caption := dampings(t, records)
	var labels []string
	for _, row := range drawn.panels {
		for _, one := range row {
			if one != nil {
				labels = append(labels, one.X.Label.Text)
			}
		}
	}
	require.Equal(t, []string{"λ/λ_max", "λ/λ_max", "λ"}, labels)
	require.Regexp(t, `unet under d4: [^ ]+ at λ/λ_max = 10⁻⁴`, caption)
	require.Regexp(t, `vit under d4: [^ ]+ at λ = 0\.0064, [^ ]+ at λ = 0\.64\.`, caption)
	require.Contains(t, caption, "λ is absolute under d4, as it was not asked for as a multiple of λ_max.")
}

func TestDampingsWithoutValues(t *testing.T) {
	records := bothModels.audit("unet", 1)
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
	require.Len(t, drawn.panels, 1)

	for i := range records.Coherence {
		records.Coherence[i].Median = nil
	}
	_, ok := newRun(&writers.Contents{Records: *records}).overDampings()
	require.False(t, ok)
}

func TestBoundsAreDrawnOverDampings(t *testing.T) {
	run := bothModels
	run.epochs, run.halfWidth, run.larger = 1, 0.5, []float64{1e-3, 1e-2}
	dir := t.TempDir()
	run.write(t, dir)
	_, _, err := Write(dir)
	require.NoError(t, err)
	const bars = 2 * 2 * 3 // series, groups, lambdas
	require.Equal(t, 3*bars, strokes(t, dir, "damping", fmt.Sprint(errorBarWidth)), "a line and two caps for each bar")
	textsOf(t, filepath.Join(dir, "figures", "damping.svg"))
}

func TestBarsAreSetAsideInTheOrderOfTheirLines(t *testing.T) {
	lines := []profile{{at: []float64{2}}, {at: []float64{1}}, {at: []float64{2}}}
	for i, want := range []int{1, 0, 2} {
		require.Equal(t, want, placeOf(i, lines))
	}
}

func TestEachSolveOfConjugateGradientsIsTold(t *testing.T) {
	records := bothModels.audit("unet", 1)
	for i := range records.Solves {
		records.Solves[i].Estimator = string(audit.CGResidual)
	}
	_, caption := dampings(t, records)
	require.Contains(t, caption, "cg-residual solves for each anew")
}
