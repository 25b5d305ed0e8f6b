package report

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
	"github.com/symaudit/symaudit/writers"
)

var bothModels = synthetic{models: []string{"unet", "vit"}, epochs: 6, groups: []string{"d4", "translations"}, halfWidth: 0.15,
	larger: []float64{1e-2, 1}}

// written makes a report and returns its page and the texts of its figures by name.
func written(t *testing.T, c synthetic) (page string, figures map[string][]string) {
	t.Helper()
	dir := t.TempDir()
	c.write(t, dir)
	path, warnings, err := Write(dir)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "report.html"), path)
	require.Empty(t, warnings)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	requireSelfContained(t, string(content))
	files, err := filepath.Glob(filepath.Join(dir, "figures", "*.svg"))
	require.NoError(t, err)
	figures = map[string][]string{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".svg")
		figures[name] = textsOf(t, file)
		require.Contains(t, string(content), `<figure id="`+name+`">`)
	}
	return string(content), figures
}

var resource = regexp.MustCompile(`(?i)(\bsrc=|<link|<script|@import|url\(|<image|<iframe|xlink:href)`)

func requireSelfContained(t *testing.T, page string) {
	t.Helper()
	require.Empty(t, resource.FindString(page))
	for _, address := range regexp.MustCompile(`[^\s]*https?://[^"\s<]*`).FindAllString(page, -1) {
		require.True(t, strings.HasPrefix(address, `href="https://github.com/symaudit/symaudit/`) ||
			address == `xmlns="http://www.w3.org/2000/svg`, address)
	}
}

// textsOf parses a figure as XML and returns its labels. Numbers in paths must be finite.
func textsOf(t *testing.T, file string) (texts []string) {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, regexp.MustCompile(`.{0,40}(NaN|[-+]Inf).{0,40}`).FindString(string(content)))
	decoder := xml.NewDecoder(strings.NewReader(string(content)))
	inText := false
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		require.NoError(t, err, file)
		switch token := token.(type) {
		case xml.StartElement:
			inText = token.Name.Local == "text"
		case xml.EndElement:
			inText = false
		case xml.CharData:
			if inText {
				texts = append(texts, string(token))
			}
		}
	}
}

func TestFiguresHaveAxesUnitsAndLegends(t *testing.T) {
	page, figures := written(t, bothModels)
	require.Len(t, figures, 5)
	require.Subset(t, figures["epochs"], []string{"epoch", "cosine of x and g.x", "loss", "unet", "vit",
		"Coherence under d4", "Coherence under translations", "Training loss"})
	elements := []string{"e", "r", "r2", "r3", "s", "sr", "sr2", "sr3", "element g", "unet", "vit"}
	require.Subset(t, figures["errors-d4"], append(elements, "target error", "commutator error"))
	require.Subset(t, figures["influence-d4"], append(elements, "influence (Frobenius-scaled)", "cosine of x and g.x"))
	require.Subset(t, figures["shifts-translations"], []string{"shift (pixels)", "unet, horizontal shift", "unet, vertical shift",
		"vit, horizontal shift", "vit, vertical shift", "target error", "influence (Frobenius-scaled)", "cosine of x and g.x"})
	for _, want := range []string{"xla:cpu", "seeds", "symaudit demo", "λ/λ_max = 10⁻⁴", "λ = 0.0064", "λ/λ_max", "resolution: 32",
		"prefers-color-scheme: dark", "docs/format.md", "largest true residual", "8.7×10⁻⁵"} {
		require.Contains(t, page, want)
	}
	require.Contains(t, page, "Symmetry audit of")
}

func TestRunsWithPartsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		run     synthetic
		figures []string
	}{
		"one model":             {synthetic{models: []string{"vit"}, epochs: 3, groups: []string{"d4", "translations"}}, []string{"epochs", "errors-d4", "influence-d4", "shifts-translations"}},
		"a single audit":        {synthetic{models: []string{"unet", "vit"}, epochs: 1, groups: []string{"d4"}}, []string{"epochs", "errors-d4", "influence-d4"}},
		"no cosine":             {synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"d4", "translations"}, noCosine: true}, []string{"epochs", "errors-d4", "influence-d4", "shifts-translations"}},
		"no influence":          {synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"d4"}, noInfluence: true}, []string{"epochs", "errors-d4"}},
		"translations only":     {synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"translations"}}, []string{"epochs", "shifts-translations"}},
		"product":               {synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"d4*translations"}}, []string{"epochs", "errors-d4-translations", "influence-d4-translations"}},
		"negative control":      {synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"d4", "d4-grid-only"}}, []string{"epochs", "errors-d4", "influence-d4", "errors-d4-grid-only", "influence-d4-grid-only"}},
		"nothing certified":     {synthetic{models: []string{"unet", "vit"}, epochs: 2, groups: []string{"d4", "translations"}}, []string{"epochs", "errors-d4", "influence-d4", "shifts-translations"}},
		"bounds without cosine": {synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"d4"}, noCosine: true, halfWidth: 0.1}, []string{"epochs", "errors-d4", "influence-d4"}},
		"zero errors":           {synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"d4", "translations"}, zeroErrors: true}, []string{"epochs", "errors-d4", "influence-d4", "shifts-translations"}},
		"training alone":        {synthetic{models: []string{"unet"}, epochs: 2}, []string{"epochs"}},
		"more than the palette": {synthetic{models: []string{"a", "b", "c", "d", "e", "f", "g"}, epochs: 1, groups: []string{"d4"}}, []string{"epochs", "errors-d4", "influence-d4"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, figures := written(t, c.run)
			names := []string{}
			for name := range figures {
				names = append(names, name)
			}
			require.ElementsMatch(t, c.figures, names)
		})
	}
}

// A line has one direction and a box three, each with a profile of its own, and 48 elements have room.
func TestRunsOnALineAndInABox(t *testing.T) {
	directions := []string{"unet, horizontal shift", "unet, vertical shift", "unet, shift along z"}
	_, line := written(t, synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"reflections", "shifts-1d"}})
	require.Subset(t, line["errors-reflections"], []string{"e", "s", "target error"})
	require.Contains(t, line["shifts-shifts-1d"], directions[0])
	require.NotContains(t, line["shifts-shifts-1d"], directions[1])
	page, box := written(t, synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"octahedral", "octahedral-grid-only", "shifts-3d"}})
	require.Subset(t, box["shifts-shifts-3d"], directions)
	require.NotEmpty(t, box["errors-octahedral"])
	require.Contains(t, page, "Octahedral on the grid only (negative control: vectors are left unturned, which is no symmetry)")
}

// Of 24 long names every third or fourth has room; the axis would be black otherwise.
func TestLabelsOfManyElements(t *testing.T) {
	_, figures := written(t, synthetic{models: []string{"unet"}, epochs: 1, groups: []string{"d4*translations"}})
	labelled := 0
	for _, text := range figures["errors-d4-translations"] {
		if strings.HasPrefix(text, "t(0,") {
			labelled++
		}
	}
	require.Contains(t, figures["errors-d4-translations"], "e")
	require.GreaterOrEqual(t, labelled, 2*3)
	require.Less(t, labelled, 2*8)
}

// strokes counts the lines of a width in a figure.
func strokes(t *testing.T, dir, name, width string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "figures", name+".svg"))
	require.NoError(t, err)
	return len(regexp.MustCompile(`stroke-width:`+regexp.QuoteMeta(width)+`[;"]`).FindAllString(string(content), -1))
}

func TestCertifiedBoundsAreDrawnAndTold(t *testing.T) {
	const bars, lines = 2 * 2 * 6, 2 * 2 * 9 * 8 // series, groups, epochs; quantities, series, samples, elements
	for name, c := range map[string]struct {
		halfWidth   float64
		bars, lines int
		told        []string
	}{
		"null": {0, 0, 0, nil},
		"narrow": {0.012, 0, lines, []string{"(certified to ±0.012 at worst, so all bars are hidden behind their markers)",
			"joins the certified bounds of that sample&#39;s value (influence ±0.004 at worst, cosine ±0.012 at worst)", "The medians of the influence are certified to ±0.0038 at worst. The medians of the cosine are certified to ±0.012 at worst."}},
		"wide": {0.15, bars, lines, []string{"Upright bars are certified bounds of the median: the exact value lies between them",
			"(influence ±0.05 at worst, cosine ±0.15 at worst)", "<td>0.15</td>"}},
	} {
		t.Run(name, func(t *testing.T) {
			run := bothModels
			run.halfWidth = c.halfWidth
			dir := t.TempDir()
			run.write(t, dir)
			path, _, err := Write(dir)
			require.NoError(t, err)
			page, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, 3*c.bars, strokes(t, dir, "epochs", fmt.Sprint(errorBarWidth)), "a line and two caps for each bar")
			require.Equal(t, c.lines, strokes(t, dir, "influence-d4", fmt.Sprint(intervalWidth)))
			for _, want := range c.told {
				require.Contains(t, string(page), want)
			}
			if c.told == nil {
				require.NotContains(t, string(page), "certified bounds")
				require.NotContains(t, string(page), "certified to")
			}
		})
	}
}

func TestMediansWithoutBoundsAreCounted(t *testing.T) {
	records := bothModels.audit("unet", 1)
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
	r := newRun(&writers.Contents{Records: *records})
	drawn, ok := r.overEpochs()
	require.True(t, ok)
	require.Contains(t, strings.Join(drawn.caption, " "), "Nothing is certified for 1 of 2 medians.")
	require.Contains(t, r.describeLines(r.groups[0]), "Nothing is certified for 1 of 72 cosines.")
	_, err := drawn.svg()
	require.NoError(t, err)
}

func TestBoundsStayInsideThePanel(t *testing.T) {
	records := bothModels.audit("unet", 1)
	low, high := -0.9, 1.0
	for i := range records.Coherence {
		records.Coherence[i].MedianLow, records.Coherence[i].MedianHigh = &low, &high
	}
	r := newRun(&writers.Contents{Records: *records})
	x := extent{}
	x.include(0, 1)
	drawn, _ := r.coherencePanel(r.groups[0], x, &medianBounds{})
	require.Less(t, drawn.Y.Min, low)
}

func TestRoundingKeepsABound(t *testing.T) {
	for v, want := range map[float64]float64{0: 0, 0.012: 0.012, 0.0121: 0.013, 0.0129: 0.013, 0.0991: 0.1, 1: 1, 1.501: 1.6, 3.21e-16: 3.3e-16} {
		require.Equal(t, want, roundedUp(v, 2))
	}
	require.True(t, math.IsInf(roundedUp(math.Inf(1), 2), 1))
}

func TestSeedsOfAModelAreSeriesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	run, err := writers.Parquet(dir).Done()
	require.NoError(t, err)
	for seed := range int64(2) {
		records := bothModels.audit("unet", 1)
		for i := range records.Training {
			records.Training[i].Seed = seed
		}
		require.NoError(t, run.Write(&audit.Records{Training: records.Training}))
	}
	require.NoError(t, run.Close())
	path, _, err := Write(dir)
	require.NoError(t, err)
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(page), "unet, seed 0")
	require.Contains(t, string(page), "unet, seed 1")
}

func TestOfSeveralLambdasTheSmallestIsDrawn(t *testing.T) {
	records := bothModels.audit("unet", 1)
	influence, coherence := len(records.Influence), len(records.Coherence)
	r := newRun(&writers.Contents{Records: *records})
	require.Len(t, r.Records.Influence, influence/3)
	for _, row := range r.Records.Influence {
		require.Equal(t, 1e-4, *row.RelativeLambda)
	}
	require.Len(t, r.Records.Coherence, coherence/3)
	for _, row := range r.Records.Coherence {
		require.Equal(t, 1e-4, *row.RelativeLambda)
	}
	require.Len(t, r.damped, coherence)
}

func TestFiguresShowTheLastAudit(t *testing.T) {
	records := bothModels.audit("unet", 1)
	later := bothModels.audit("unet", 2)
	for i := range later.Errors {
		later.Errors[i].TargetError = 7
	}
	records.Errors = append(records.Errors, later.Errors...)
	r := newRun(&writers.Contents{Records: *records})
	values := targetError.values(r, r.series[0], func(string, string, shift) bool { return true })
	require.NotEmpty(t, values)
	for _, value := range values {
		require.Equal(t, 7.0, value)
	}
}

// A run whose epochs have no known length is drawn over its steps.
func TestRunsWithoutEpochsAreDrawnOverSteps(t *testing.T) {
	dir := t.TempDir()
	run, err := writers.Parquet(dir).Done()
	require.NoError(t, err)
	for epoch := range 3 {
		records := bothModels.audit("unet", epoch+1)
		for i := range records.Training {
			records.Training[i].Epoch = 0
		}
		for i := range records.Coherence {
			records.Coherence[i].Epoch = 0
		}
		records.Errors, records.Influence, records.Solves = nil, nil, nil
		require.NoError(t, run.Write(records))
	}
	require.NoError(t, run.Close())
	_, _, err = Write(dir)
	require.NoError(t, err)
	page, err := os.ReadFile(filepath.Join(dir, "report.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "Coherence by step")
	for _, label := range []string{"<td>60</td>", "<td>120</td>", "<td>180</td>"} {
		require.Contains(t, string(page), label)
	}
	require.Contains(t, string(page), "at step 180.")
	require.NotContains(t, string(page), "epoch 0")
	require.Contains(t, textsOf(t, filepath.Join(dir, "figures", "epochs.svg")), "step")
}

func TestDivergedRunsAreDrawn(t *testing.T) {
	dir := t.TempDir()
	run, err := writers.Parquet(dir).Done()
	require.NoError(t, err)
	records := bothModels.audit("unet", 1)
	for i := range records.Errors {
		records.Errors[i].TargetError = math.NaN()
		records.Errors[i].CommutatorError = math.Inf(1)
	}
	records.Training[3].Loss = math.NaN()
	require.NoError(t, run.Write(records))
	require.NoError(t, run.Close())
	_, _, err = Write(dir)
	require.NoError(t, err)
	textsOf(t, filepath.Join(dir, "figures", "epochs.svg"))
}

func TestNamesAreEscaped(t *testing.T) {
	page, _ := written(t, synthetic{models: []string{`<b>"&`}, epochs: 1, groups: []string{`../<b>"&`}})
	require.NotContains(t, page, "<b>")
}

func TestUnconvergedSolvesAreShown(t *testing.T) {
	records := bothModels.audit("unet", 1)
	explanation, residual := "the limit of 40 products was reached", 0.25
	records.Solves[0].Status, records.Solves[0].Explanation = solver.ProductLimit, &explanation
	records.Solves[0].MaxTrueResidual = &residual
	records.Solves[1].Status, records.Solves[1].MaxHalfWidth = solver.Uncertified, nil
	page, _ := reported(t, records)
	require.Contains(t, page, "unet, epoch 1, d4, batch 0, λ/λ_max = 10⁻⁴: product limit: the limit of 40 products was reached")
	require.Contains(t, page, "unet, epoch 1, translations, batch 0, λ/λ_max = 10⁻⁴: not certified")
	require.Contains(t, page, `<td>6</td><td class="warn strong">1</td><td class="warn strong">1</td><td>0.25</td>`, "solves, not converged, not certified, residual")
}

// reported writes records as a run and returns the page of its report and the warnings.
func reported(t *testing.T, records *audit.Records) (page string, warnings []string) {
	t.Helper()
	dir := t.TempDir()
	run, err := writers.Parquet(dir).Done()
	require.NoError(t, err)
	require.NoError(t, run.Write(records))
	require.NoError(t, run.Close())
	path, warnings, err := Write(dir)
	require.NoError(t, err)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content), warnings
}

func TestErrorsThatAreNotFiniteAreTold(t *testing.T) {
	records, later := bothModels.audit("unet", 1), bothModels.audit("unet", 2)
	for i := range later.Errors {
		if row := &later.Errors[i]; row.GroupName == "d4" && row.Element == "r" && row.Sample < 3 {
			row.TargetError = math.NaN()
		}
	}
	for i := range later.Coherence {
		if row := &later.Coherence[i]; row.GroupName == "d4" && row.Element == audit.AllElements {
			row.NFiniteTargetErrors, row.MedianTargetError = 6, nil
		}
	}
	records.Training[3].Loss = math.Inf(1)
	records.Errors, records.Coherence = append(records.Errors, later.Errors...), append(records.Coherence, later.Coherence...)
	page, warnings := reported(t, records)
	require.Equal(t, []string{"unet: errors are not finite in 1 of 2 audits, first at epoch 2: they have no median there, and the table says how many values are lost."}, warnings)
	require.Contains(t, page, `<p class="warn">`+warnings[0])
	require.Contains(t, page, `<td class="warn">– (3 of 9 not finite)</td>`)
	require.Contains(t, page, "unet: 3 of 72 of its target errors are not finite and not drawn.")
	require.Contains(t, page, "unet: 1 of 60 losses are not finite, or not above 0, and not drawn.")
}

func TestNumbersOfSamplesAreShown(t *testing.T) {
	records := bothModels.audit("unet", 1)
	for i := range records.Coherence {
		if row := &records.Coherence[i]; row.GroupName == "d4" {
			row.N, row.NWithoutCosine = 60, 3
		}
	}
	page, _ := reported(t, records)
	require.Contains(t, page, "<td>60 of 63</td>")
	require.Contains(t, page, "<td>126</td>", "of the translations")
	require.Contains(t, page, "over the others (n = 9).")
}

func TestAuditsOfOutputsAloneHaveNoDamping(t *testing.T) {
	run := synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"d4"}, noInfluence: true, noCosine: true}
	records := run.audit("unet", 1)
	records.Solves = nil
	for i := range records.Coherence {
		records.Coherence[i].RelativeLambda = nil
	}
	page, warnings := reported(t, records)
	require.Empty(t, warnings)
	require.NotContains(t, page, "λ =")
	require.NotContains(t, page, "λ/λ_max =")
}

func TestNamesOfGroupsMakeNamesOfFiles(t *testing.T) {
	long := strings.Repeat("rotations by thirds of a turn, ", 10)
	names := []string{"d4", "D4*shifts", "d4*shifts", "d4+shifts", long + "a", long + "b", "..", "c4*translations"}
	records := &audit.Records{}
	for _, name := range names {
		run := synthetic{models: []string{"unet"}, epochs: 1, groups: []string{name}}
		found := run.audit("unet", 1)
		records.Errors, records.Coherence = append(records.Errors, found.Errors...), append(records.Coherence, found.Coherence...)
	}
	page, _ := reported(t, records)
	files := map[string]bool{}
	for _, g := range newRun(&writers.Contents{Records: *records}).groups {
		require.LessOrEqual(t, len(g.file), 100)
		files[strings.ToLower(g.file)] = true
		require.Contains(t, page, `<figure id="errors-`+g.file+`">`)
	}
	require.Len(t, files, len(names))
	require.Contains(t, files, "d4")
	require.Contains(t, files, "c4-translations")
}

func TestFoldersThatLookLikeColumnsAreWarnedOf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "step=7", "run")
	bothModels.write(t, dir)
	path, warnings, err := Write(dir)
	require.NoError(t, err)
	require.Equal(t, []string{`The run lies below a folder "step=7": DuckDB takes that for a column "step" and adds it to every table, in the place of one of that name. Rename the folder, or read with hive_partitioning = false.`}, warnings)
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(page), "DuckDB takes that for a column")
}

func TestWhatCannotBeReported(t *testing.T) {
	dir := t.TempDir()
	_, _, err := Write(dir)
	require.ErrorContains(t, err, "holds no run")
	run, err := writers.Parquet(dir).Done()
	require.NoError(t, err)
	require.NoError(t, run.Close())
	_, _, err = Write(dir)
	require.ErrorContains(t, err, dir+" holds no rows yet")
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0123456: "0.0123", 1e-5: "10⁻⁵", 1.234e-5: "1.23×10⁻⁵", -2: "−2",
		-3e-7: "−3×10⁻⁷", 12345: "1.23×10⁴", 1000: "1000", math.Inf(-1): "−∞"} {
		require.Equal(t, want, number(v))
	}
	for v, want := range map[float64]string{0: "0", 0.024: "0.0240", 0.00999999: "0.0100", 1: "1.00", 12.34: "12.3", -0.5: "−0.500",
		1e-5: "10⁻⁵", 1000: "1000"} {
		require.Equal(t, want, aligned(v))
	}
}

func TestTicksLieOnTheAxisAndAreReadable(t *testing.T) {
	for _, high := range []float64{1.2, 3, 12, 1e3, 1e7, 1e15} {
		labels := 0
		for _, tick := range logTicks(1e-6, 1e-6*high) {
			require.LessOrEqual(t, tick.Value, 1e-6*high*1.0001)
			if tick.Label != "" {
				labels++
			}
		}
		require.LessOrEqual(t, labels, 9, "%g", high)
		y := extent{log: true}
		y.include(1e-6*1.37, 1e-6*1.37*high)
		y = y.padded()
		labels = 0
		for _, tick := range logTicks(y.low, y.high) {
			if tick.Label != "" {
				labels++
			}
		}
		require.GreaterOrEqual(t, labels, 2, "%g", high)
	}
	for _, high := range []float64{1e-3, 0.7, 1, 28, 90, 1e5} {
		labels := len(linearTicks(-high/3, high))
		require.GreaterOrEqual(t, labels, 3)
		require.LessOrEqual(t, labels, 8)
	}
}

// Audits with other settings are another series: no line joins them to those before.
func TestOtherSettingsAreASeriesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	c := synthetic{models: []string{"unet"}, epochs: 4, groups: []string{"d4"}}
	for attempt, metric := range []string{"ntk", "ntk", "ggn", "ggn"} {
		run, err := writers.Parquet(dir).WithResume().WithNewSeries().Done()
		require.NoError(t, err)
		require.NoError(t, run.Enter("a", "unet", 3, int64(60*attempt), map[string]string{"metric": metric}))
		require.NoError(t, run.Write(c.audit("unet", attempt+1)))
		require.NoError(t, run.Close())
	}
	contents, err := writers.Read(dir)
	require.NoError(t, err)
	var labels []string
	var steps []int64
	for _, s := range newRun(contents).series {
		labels, steps = append(labels, s.Label), append(steps, s.Step)
	}
	require.Equal(t, []string{"unet, from attempt 1", "unet, from attempt 3"}, labels)
	require.Equal(t, []int64{120, 240}, steps, "of the last audit of each")
	_, _, err = Write(dir)
	require.NoError(t, err)
}

// The cost of asymmetry is in the table of a group that has it, and a dash in that of another.
func TestCostOfAsymmetry(t *testing.T) {
	page, _ := written(t, synthetic{models: []string{"unet"}, epochs: 2, groups: []string{"d4", "translations"}})
	require.Equal(t, 2, strings.Count(page, "<td>37 %</td>"), "at both epochs, of d4")
	require.Equal(t, 2, strings.Count(page, `<th scope="col">of asymmetry</th>`))
	require.Contains(t, page, "would vanish if")
}

// What is found in another direction is drawn and told as a group of its own, the loss being audited or not.
func TestDirectionsAreTold(t *testing.T) {
	dir := t.TempDir()
	run, err := writers.Parquet(dir).Done()
	require.NoError(t, err)
	median, relative := 0.5, 0.1
	records := &audit.Records{}
	for _, direction := range []string{audit.KernelName, audit.LossName, "total_energy", "loss_to_total_energy"} {
		at := audit.Moment{Model: "unet", Step: 4, Epoch: 1}
		for _, element := range []string{"e", "r", audit.AllElements} {
			records.Coherence = append(records.Coherence, audit.CoherenceRow{Moment: at, GroupName: "d4", Direction: direction, Element: element, Metric: "ntk", Estimator: "block",
				RelativeLambda: &relative, N: 2, Mean: &median, Median: &median, Q25: &median, Q75: &median})
			if element != audit.AllElements {
				records.Influence = append(records.Influence, audit.InfluenceRow{Moment: at, GroupName: "d4", Direction: direction, Element: element, RelativeLambda: &relative, Lambda: 1,
					Influence: 1, FrobeniusScaled: &median, Cosine: &median})
			}
		}
	}
	require.NoError(t, run.Write(records))
	require.NoError(t, run.Close())
	path, _, err := Write(dir)
	require.NoError(t, err)
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, said := range []string{"d4, kernel", "d4, total_energy", "what a step at x carries to g.x whatever is left of the cost",
		"positive when a step that raises it at x raises it at g.x", "What a training step on the loss at a sample x does to total_energy"} {
		require.Contains(t, string(page), said)
	}
	for _, name := range []string{"influence-d4.svg", "influence-d4-kernel.svg", "influence-d4-total_energy.svg", "influence-d4-loss_to_total_energy.svg"} {
		require.FileExists(t, filepath.Join(dir, "figures", name))
	}
}
