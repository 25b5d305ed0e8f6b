package bench

import (
	"context"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"testing"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/configs"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
)

// BenchmarkSubspaceGap trains the demo's models twice, bit for bit alike, audited once by the certified block estimator and
// once by projection on the span of the batch's gradients, and prints what each says of every epoch. With
// SYMAUDIT_BENCH_DIR set it draws subspace.svg there.
func BenchmarkSubspaceGap(b *testing.B) {
	choice, err := backend.Open("")
	must(b, err)
	found := map[audit.Estimator]*audit.Records{}
	for _, estimator := range []audit.Estimator{audit.Block, audit.Subspace} {
		config, err := trainer.ParseConfig(configs.Demo)
		must(b, err)
		config.Audit.Estimator, config.Audit.DType = string(estimator), "float64"
		dir := filepath.Join(b.TempDir(), string(estimator))
		_, err = trainer.Train(context.Background(), config, trainer.Options{Backend: choice.Backend, BackendConfig: choice.Config, BackendReason: choice.Reason, Dir: dir})
		must(b, err)
		contents, err := writers.Read(dir)
		must(b, err)
		found[estimator] = &contents.Records
	}
	block, subspace := found[audit.Block], found[audit.Subspace]
	if len(block.Influence) != len(subspace.Influence) {
		b.Fatalf("%d rows against %d", len(block.Influence), len(subspace.Influence))
	}
	worst := 0.0
	lines := map[string]plotter.XYs{}
	fmt.Println("model  epoch  lambda/lambda_max  group          block (bounds)          subspace  influence error  worst cosine error  outside the interval")
	for i, row := range block.Coherence {
		if row.Element != audit.AllElements {
			continue
		}
		relative := *row.RelativeLambda
		difference, norm, cosine, outside, all := 0.0, 0.0, 0.0, 0, 0
		for j, exact := range block.Influence {
			if exact.Model != row.Model || exact.Step != row.Step || exact.GroupName != row.GroupName || *exact.RelativeLambda != relative {
				continue
			}
			other := subspace.Influence[j]
			difference, norm = math.Hypot(difference, other.Influence-exact.Influence), math.Hypot(norm, exact.Influence)
			cosine = max(cosine, math.Abs(*other.Cosine-*exact.Cosine))
			all++
			if exact.CosineLow != nil && (*other.Cosine < *exact.CosineLow || *other.Cosine > *exact.CosineHigh) {
				outside++
			}
		}
		worst = max(worst, difference/norm)
		other := subspace.Coherence[i]
		fmt.Printf("%-5s  %5.0f  %17.0e  %-13s  %.3f [%.3f, %.3f]    %6.3f  %14.0f%%  %18.2f  %19.0f%%\n", row.Model, row.Epoch, relative, row.GroupName,
			*row.Median, *row.MedianLow, *row.MedianHigh, *other.Median, 100*difference/norm, cosine, 100*float64(outside)/float64(all))
		if row.GroupName == "d4" && relative == 1e-2 {
			lines[row.Model] = append(lines[row.Model], plotter.XY{X: row.Epoch, Y: *row.Median})
			lines[row.Model+", subspace"] = append(lines[row.Model+", subspace"], plotter.XY{X: row.Epoch, Y: *other.Median})
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(100*worst, "%_worst_influence_error")
	if worst < 0.05 {
		b.Errorf("the projection is within %.2g of the certified influence: the claim that it is not exact does not hold here", worst)
	}
	if dir := os.Getenv("SYMAUDIT_BENCH_DIR"); dir != "" {
		drawGap(b, lines, filepath.Join(dir, "subspace.svg"))
	}
}

// drawGap draws the coherence of each model by both estimators over the epochs.
func drawGap(b *testing.B, lines map[string]plotter.XYs, path string) {
	p := plot.New()
	p.X.Label.Text, p.Y.Label.Text = "epoch", "coherence under D4"
	blue, orange, dashes := color.RGBA{0x1f, 0x77, 0xb4, 0xff}, color.RGBA{0xd6, 0x60, 0x0b, 0xff}, []vg.Length{4, 3}
	for _, style := range []struct {
		name   string
		color  color.Color
		dashes []vg.Length
	}{{"unet", blue, nil}, {"unet, subspace", blue, dashes}, {"vit", orange, nil}, {"vit, subspace", orange, dashes}} {
		line, err := plotter.NewLine(lines[style.name])
		must(b, err)
		line.Color, line.Dashes, line.Width = style.color, style.dashes, vg.Points(1.5)
		p.Add(line)
		p.Legend.Add(style.name, line)
	}
	p.Legend.Top, p.Legend.YOffs = true, -vg.Points(75) // between the truth and the others
	p.Y.Min, p.Y.Max = 0, 1
	must(b, p.Save(16*vg.Centimeter, 9*vg.Centimeter, path))
}
