package main

import (
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/writers"
)

// panel is a quantity under D4 over the steps.
type panel struct {
	title     string
	log       bool
	direction string // "" for any
	of        func(audit.CoherenceRow) *float64
}

var panels = []panel{
	{"commutator error", true, audit.LossName, func(row audit.CoherenceRow) *float64 { return row.MedianCommutatorError }},
	{"share of the error that is asymmetry", false, audit.LossName, func(row audit.CoherenceRow) *float64 { return row.AsymmetryShare }},
	{"coherence of the loss", false, audit.LossName, func(row audit.CoherenceRow) *float64 { return row.Median }},
	{"coherence of the kernel", false, audit.KernelName, func(row audit.CoherenceRow) *float64 { return row.Median }},
}

// colors of the trainings, those of one law alike in lightness (Okabe and Ito, "Color Universal Design", 2008).
var colors = map[string]color.Color{
	"law-plain":       color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff},
	"law-augmented":   color.RGBA{R: 0x56, G: 0xb4, B: 0xe9, A: 0xff},
	"law-memorising":  color.RGBA{R: 0x00, G: 0x9e, B: 0x73, A: 0xff},
	"law-equivariant": color.RGBA{R: 0x66, G: 0x66, B: 0x66, A: 0xff},
	"flow-plain":      color.RGBA{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff},
	"flow-augmented":  color.RGBA{R: 0xe6, G: 0x9f, B: 0x00, A: 0xff},
}

// drawFigure draws the panels of a run, two in a row, to reading.svg in its directory.
func drawFigure(dir string) (path string, err error) {
	contents, err := writers.Read(dir)
	if err != nil {
		return "", err
	}
	rows := slices.DeleteFunc(contents.Records.Coherence, func(row audit.CoherenceRow) bool {
		return row.GroupName != orbits.D4Name || row.Element != audit.AllElements || row.RelativeLambda == nil || *row.RelativeLambda == 1
	})
	const width, height = 9 * vg.Inch, 6.5 * vg.Inch
	canvas := vgsvg.New(width, height)
	var plots [][]*plot.Plot
	for i, quantity := range panels {
		drawn, err := quantity.draw(rows, i == len(panels)-1)
		if err != nil {
			return "", err
		}
		if i%2 == 0 {
			plots = append(plots, nil)
		}
		plots[len(plots)-1] = append(plots[len(plots)-1], drawn)
	}
	tiles := draw.Tiles{Rows: len(plots), Cols: 2, PadX: vg.Points(18), PadY: vg.Points(14), PadTop: vg.Points(4), PadBottom: vg.Points(4), PadLeft: vg.Points(4), PadRight: vg.Points(8)}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		for j, cell := range row {
			plots[i][j].Draw(cell)
		}
	}
	path = filepath.Join(dir, "reading.svg")
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if _, err := canvas.WriteTo(file); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return path, file.Close()
}

// draw draws a line for each training; an equivariant network, which has no commutator error, has none on a logarithmic axis.
func (q panel) draw(rows []audit.CoherenceRow, legend bool) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text = q.title, "step"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	if q.log {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	var names []string
	for _, row := range rows {
		if !slices.Contains(names, row.Model) {
			names = append(names, row.Model)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		var points plotter.XYs
		for _, row := range rows {
			if value := q.of(row); row.Model == name && row.Direction == q.direction && value != nil && !(q.log && *value < 1e-10) {
				points = append(points, plotter.XY{X: float64(row.Step), Y: *value})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = colors[name], vg.Points(1.6)
		marks.Color, marks.Radius, marks.Shape = colors[name], vg.Points(2.2), draw.CircleGlyph{}
		p.Add(line, marks)
		if legend {
			p.Legend.Add(name, line)
		}
	}
	if !q.log {
		p.Y.Min, p.Y.Max = 0, 1
	}
	p.Legend.Left, p.Legend.Top, p.Legend.YOffs, p.Legend.TextStyle.Font.Size = true, true, vg.Points(-14), vg.Points(9)
	return p, nil
}
