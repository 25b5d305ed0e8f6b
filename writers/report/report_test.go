package report

import (
	"encoding/xml"
	"errors"
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
	"github.com/symaudit/symaudit/writers/report/internal/synthetic"
)

var bothModels = synthetic.Run{Models: []string{"unet", "vit"}, Epochs: 6, Groups: []string{"d4", "translations"}, HalfWidth: 0.15,
	Larger: []float64{1e-2, 1}, Evaluation: true}

// written makes a report and returns its page and the texts of its figures by name.
func written(t *testing.T, c synthetic.Run) (page string, figures map[string][]string) {
	t.Helper()
	dir := t.TempDir()
	c.Write(t, dir)
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

var resource = regexp.MustCompile(`(?i)(\bsrc=|<link|<script[^>]*src|@import|url\(|<image|<iframe|xlink:href)`)

// requireSelfContained looks at what is ours; the libraries that the page carries name addresses, of name spaces and of their own.
func requireSelfContained(t *testing.T, page string) {
	t.Helper()
	for _, library := range []string{d3, plot} {
		require.LessOrEqual(t, strings.Count(page, library), 1)
		page = strings.Replace(page, library, "", 1)
	}
	page = regexp.MustCompile(`<image[^>]* href="data:image/png;base64,[^"]*"`).ReplaceAllString(page, "")
	require.Empty(t, regexp.MustCompile(`(?i)fetch\(|XMLHttpRequest|import\(`).FindString(page))
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
	require.Len(t, figures, 14)
	require.Subset(t, figures["epochs"], []string{"epoch", "cosine of x and g.x", "loss", "unet", "vit",
		"Coherence under d4 (n = 63)", "Coherence under translations (n = 126)", "Errors under d4 (n = 9)", "Training loss"})
	require.Subset(t, figures["held-out"], []string{"epoch", "steps since the initial state", "error", "unet", "vit", "One-step error (n = 32)", "Rollout error (n = 4)"})
	require.Subset(t, figures["rollouts"], []string{"unet, worst: riemann 2, rollout error 0.744", "steps since the initial state", "0", "8", "truth", "prediction", "+1", "−1"})
	elements := []string{"e", "r", "r2", "r3", "s", "sr", "sr2", "sr3", "element g", "unet", "vit"}
	require.Subset(t, figures["errors-d4"], append(elements, "target error", "commutator error"))
	require.Subset(t, figures["influence-d4"], append(elements, "influence (Frobenius-scaled)", "cosine of x and g.x"))
	require.Subset(t, figures["shifts-translations"], []string{"shift (pixels)", "unet", "vit", "Target error, horizontal shift (n = 9)", "Target error, vertical shift (n = 9)",
		"Cosine, vertical shift (n = 9)", "target error", "influence (Frobenius-scaled)", "cosine of x and g.x"})
	for _, want := range []string{"xla:cpu", "seeds", "symaudit demo", "λ/λ_max = 10⁻⁴", "λ = 0.0064", "λ/λ_max", "resolution: 32",
		"prefers-color-scheme: dark", "docs/format.md", "largest true residual", "8.7×10⁻⁵"} {
		require.Contains(t, page, want)
	}
	require.Contains(t, page, "Symmetry audit of")
}

func TestRunsWithPartsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		run     synthetic.Run
		figures []string
	}{
		"one model":             {synthetic.Run{Models: []string{"vit"}, Epochs: 3, Groups: []string{"d4", "translations"}}, []string{"epochs", "errors-d4", "influence-d4", "shifts-translations", "distribution-d4", "pairs-d4", "commutator-coherence-d4", "distribution-translations", "pairs-translations", "commutator-coherence-translations", "pictures-d4"}},
		"a single audit":        {synthetic.Run{Models: []string{"unet", "vit"}, Epochs: 1, Groups: []string{"d4"}}, []string{"epochs", "errors-d4", "influence-d4", "distribution-d4", "pairs-d4", "commutator-coherence-d4", "pictures-d4"}},
		"no cosine":             {synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"d4", "translations"}, NoCosine: true}, []string{"epochs", "errors-d4", "influence-d4", "shifts-translations", "distribution-d4", "distribution-translations", "pictures-d4"}},
		"no influence":          {synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"d4"}, NoInfluence: true}, []string{"epochs", "errors-d4", "distribution-d4", "pictures-d4"}},
		"translations only":     {synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"translations"}}, []string{"epochs", "shifts-translations", "distribution-translations", "pairs-translations", "commutator-coherence-translations"}},
		"product":               {synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"d4*translations"}}, []string{"epochs", "errors-d4-translations", "influence-d4-translations", "distribution-d4-translations", "pairs-d4-translations", "commutator-coherence-d4-translations"}},
		"negative control":      {synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"d4", "d4-grid-only"}}, []string{"epochs", "errors-d4", "influence-d4", "errors-d4-grid-only", "influence-d4-grid-only", "distribution-d4", "pairs-d4", "commutator-coherence-d4", "distribution-d4-grid-only", "pairs-d4-grid-only", "commutator-coherence-d4-grid-only", "pictures-d4"}},
		"nothing certified":     {synthetic.Run{Models: []string{"unet", "vit"}, Epochs: 2, Groups: []string{"d4", "translations"}}, []string{"epochs", "errors-d4", "influence-d4", "shifts-translations", "distribution-d4", "pairs-d4", "commutator-coherence-d4", "distribution-translations", "pairs-translations", "commutator-coherence-translations", "pictures-d4"}},
		"bounds without cosine": {synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"d4"}, NoCosine: true, HalfWidth: 0.1}, []string{"epochs", "errors-d4", "influence-d4", "distribution-d4", "pictures-d4"}},
		"zero errors":           {synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"d4", "translations"}, ZeroErrors: true}, []string{"epochs", "errors-d4", "influence-d4", "shifts-translations", "distribution-d4", "pairs-d4", "distribution-translations", "pairs-translations", "pictures-d4"}},
		"training alone":        {synthetic.Run{Models: []string{"unet"}, Epochs: 2}, []string{"epochs"}},
		"more than the palette": {synthetic.Run{Models: []string{"a", "b", "c", "d", "e", "f", "g"}, Epochs: 1, Groups: []string{"d4"}}, []string{"epochs", "errors-d4", "influence-d4", "distribution-d4", "pairs-d4", "commutator-coherence-d4", "pictures-d4"}},
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
	directions := []string{"Target error, horizontal shift (n = 9)", "Target error, vertical shift (n = 9)", "Target error, shift along z (n = 9)"}
	_, line := written(t, synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"reflections", "shifts-1d"}})
	require.Subset(t, line["errors-reflections"], []string{"e", "s", "target error"})
	require.Contains(t, line["shifts-shifts-1d"], directions[0])
	require.NotContains(t, line["shifts-shifts-1d"], directions[1])
	page, box := written(t, synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"octahedral", "octahedral-grid-only", "shifts-3d"}})
	require.Subset(t, box["shifts-shifts-3d"], directions)
	require.NotEmpty(t, box["errors-octahedral"])
	require.Contains(t, page, "Octahedral on the grid only (negative control: vectors are left unturned, which is no symmetry)")
}

// Of 24 long names every third or fourth has room; the axis would be black otherwise.
func TestLabelsOfManyElements(t *testing.T) {
	_, figures := written(t, synthetic.Run{Models: []string{"unet"}, Epochs: 1, Groups: []string{"d4*translations"}})
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
		"narrow": {0.012, 0, lines, []string{"(certified to ±0.012 at worst; a bar that is shorter than its marker is not drawn)",
			"joins the certified bounds of that sample&#39;s value (influence ±0.004 at worst, cosine ±0.012 at worst)", "The medians of the influence are certified to ±0.0038 at worst. The medians of the cosine are certified to ±0.012 at worst."}},
		"wide": {0.15, bars, lines, []string{"Upright bars are certified bounds of the median: the exact value lies between them",
			"(influence ±0.05 at worst, cosine ±0.15 at worst)", `data-label="widest certified half-width">0.15</td>`}},
	} {
		t.Run(name, func(t *testing.T) {
			run := bothModels
			run.HalfWidth = c.halfWidth
			dir := t.TempDir()
			run.Write(t, dir)
			path, _, err := Write(dir)
			require.NoError(t, err)
			page, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, 3*c.bars, strokes(t, dir, "epochs", "1.1"), "a line and two caps for each bar")
			require.Equal(t, c.lines, strokes(t, dir, "influence-d4", "0.45"))
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

func TestSeedsOfAModelAreSeriesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	run, err := writers.Parquet(dir).Done()
	require.NoError(t, err)
	for seed := range int64(2) {
		records := bothModels.Audit("unet", 1)
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

// A run whose epochs have no known length is drawn over its steps.
func TestRunsWithoutEpochsAreDrawnOverSteps(t *testing.T) {
	dir := t.TempDir()
	run, err := writers.Parquet(dir).Done()
	require.NoError(t, err)
	for epoch := range 3 {
		records := bothModels.Audit("unet", epoch+1)
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
	require.Contains(t, string(page), "Audits by step")
	for _, label := range []string{`data-label="step">60</td>`, `data-label="step">120</td>`, `data-label="step">180</td>`} {
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
	records := bothModels.Audit("unet", 1)
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
	page, _ := written(t, synthetic.Run{Models: []string{`<b>"&`}, Epochs: 1, Groups: []string{`../<b>"&`}})
	require.NotContains(t, page, "<b>")
}

func TestUnconvergedSolvesAreShown(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	explanation, residual := "the limit of 40 products was reached", 0.25
	records.Solves[0].Status, records.Solves[0].Explanation = solver.ProductLimit, &explanation
	records.Solves[0].MaxTrueResidual = &residual
	records.Solves[1].Status, records.Solves[1].MaxHalfWidth = solver.Uncertified, nil
	page, _ := reported(t, records)
	require.Contains(t, page, "unet, epoch 1, d4, batch 0, λ/λ_max = 10⁻⁴: product limit: the limit of 40 products was reached")
	require.Contains(t, page, "unet, epoch 1, translations, batch 0, λ/λ_max = 10⁻⁴: not certified")
	require.Contains(t, page, `data-label="solves">6</td><td data-label="not converged" class="warn strong">1</td><td data-label="not certified" class="warn strong">1</td><td data-label="largest true residual">0.25</td>`, "solves, not converged, not certified, residual")
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
	records, later := bothModels.Audit("unet", 1), bothModels.Audit("unet", 2)
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
	require.Contains(t, page, `<td data-label="target error" class="warn">– (3 of 9 not finite)</td>`)
	require.Contains(t, page, "unet: 3 of 72 of its target errors are not finite and not drawn.")
	require.Contains(t, page, "unet: 1 of 60 losses are not finite, or not above 0, and not drawn.")
}

func TestNumbersOfSamplesAreShown(t *testing.T) {
	records := bothModels.Audit("unet", 1)
	for i := range records.Coherence {
		if row := &records.Coherence[i]; row.GroupName == "d4" {
			row.N, row.NWithoutCosine = 60, 3
		}
	}
	page, _ := reported(t, records)
	require.Contains(t, page, `data-label="n">60 of 63</td>`)
	require.Contains(t, page, `data-label="n">126</td>`, "of the translations")
	require.Contains(t, page, "over the others (n = 9).")
}

func TestAuditsOfOutputsAloneHaveNoDamping(t *testing.T) {
	run := synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"d4"}, NoInfluence: true, NoCosine: true}
	records := run.Audit("unet", 1)
	records.Solves = nil
	for i := range records.Coherence {
		records.Coherence[i].RelativeLambda = nil
	}
	page, warnings := reported(t, records)
	require.Empty(t, warnings)
	require.NotContains(t, page, "λ =")
	require.NotContains(t, page, "λ/λ_max =")
}

func TestFoldersThatLookLikeColumnsAreWarnedOf(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "step=7", "run")
	bothModels.Write(t, dir)
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

// Audits with other settings are another series: no line joins them to those before.
// The cost of asymmetry is in the table of a group that has it, and a dash in that of another.
func TestCostOfAsymmetry(t *testing.T) {
	page, _ := written(t, synthetic.Run{Models: []string{"unet"}, Epochs: 2, Groups: []string{"d4", "translations"}})
	require.Equal(t, 2, strings.Count(page, `data-label="of asymmetry">37 %</td>`), "at both epochs, of d4")
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

func TestCoherenceIsDrawnAgainstDamping(t *testing.T) {
	run := bothModels
	run.Epochs = 1
	page, figures := written(t, run)
	require.Subset(t, figures["damping"], []string{"λ/λ_max", "cosine of x and g.x", "unet", "vit",
		"Coherence under d4 (n = 63)", "Coherence under translations (n = 126)"})
	require.Contains(t, page, "Coherence against damping")
	require.Contains(t, page, "all λ of one audit come from one solve.")
	require.Less(t, strings.Index(page, `<figure id="epochs">`), strings.Index(page, `<figure id="damping">`))
	require.Less(t, strings.Index(page, `<figure id="damping">`), strings.Index(page, `<figure id="errors-d4">`))

	run.Larger = nil
	page, figures = written(t, run)
	require.NotContains(t, figures, "damping")
	require.NotContains(t, page, "Coherence against damping")
}

func TestBoundsAreDrawnOverDampings(t *testing.T) {
	run := bothModels
	run.Epochs, run.HalfWidth, run.Larger = 1, 0.5, []float64{1e-3, 1e-2}
	dir := t.TempDir()
	run.Write(t, dir)
	_, _, err := Write(dir)
	require.NoError(t, err)
	const bars = 2 * 2 * 3 // series, groups, lambdas
	require.Equal(t, 3*bars, strokes(t, dir, "damping", "1.1"), "a line and two caps for each bar")
	textsOf(t, filepath.Join(dir, "figures", "damping.svg"))
}

// The page of a run that goes on loads itself again, the one at its end does not.
func TestAPageThatFollowsLoadsItselfAgain(t *testing.T) {
	dir := t.TempDir()
	bothModels.Write(t, dir)
	for again, write := range map[bool]func(string) (string, []string, error){true: Follow, false: Write} {
		path, _, err := write(dir)
		require.NoError(t, err)
		page, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, again, strings.Contains(string(page), `http-equiv="refresh"`))
		require.Equal(t, again, strings.Contains(string(page), "The training goes on"))
	}
}
