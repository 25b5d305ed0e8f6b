package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"regexp"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// figure is a table of panels with a legend on top.
type figure struct {
	name    string // of its file
	title   string
	caption []string   // sentences
	panels  [][]*panel // of equal length; nil is an empty place
	legend  []legendEntry
}

type legendEntry struct {
	text   string
	color  color.NRGBA
	dashes []vg.Length
	glyph  draw.GlyphDrawer // nil: a filled box
}

const (
	figureWidth  = 700 // points; the page scales the figure to its own width
	panelHeight  = 205
	axisHeight   = 150 // of the vertical axis in it, roughly
	legendHeight = 19
)

// svg draws the figure. Ink is the page's text colour, so that it shows on light and dark pages.
func (f figure) svg() (string, error) {
	rows, columns := len(f.panels), len(f.panels[0])
	legend := f.legendRows()
	above := vg.Points(float64(len(legend)*legendHeight + 4))
	height := vg.Points(float64(rows*panelHeight)) + above
	canvas := vgsvg.New(vg.Points(figureWidth), height)
	all := draw.New(canvas)
	drawLegend(all, legend)
	body := draw.Crop(all, 0, 0, 0, -above)
	plots := make([][]*plot.Plot, rows)
	for i, row := range f.panels {
		plots[i] = make([]*plot.Plot, columns)
		for j, drawn := range row {
			if drawn != nil {
				plots[i][j] = drawn.Plot
			}
		}
	}
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: vg.Points(40), PadY: vg.Points(28),
		PadTop: vg.Points(20), PadBottom: vg.Points(2), PadRight: vg.Points(4), PadLeft: vg.Points(20)}
	title := text.Style{Color: color.Black, Font: sans(10.5), XAlign: draw.XLeft, YAlign: draw.YBottom, Handler: plot.DefaultTextHandler}
	title.Font.Weight = 3 // WeightBold of golang.org/x/image/font
	label := text.Style{Color: color.Black, Font: sans(9.5), XAlign: draw.XCenter, YAlign: draw.YBottom, Rotation: math.Pi / 2, Handler: plot.DefaultTextHandler}
	for i, row := range plot.Align(plots, tiles, body) {
		for j, area := range row {
			drawn := f.panels[i][j]
			if drawn == nil {
				continue
			}
			drawn.Draw(area)
			data := drawn.DataCanvas(area)
			all.FillText(title, vg.Point{X: data.Min.X, Y: data.Max.Y + vg.Points(7)}, drawn.title)
			all.FillText(label, vg.Point{X: area.Min.X - vg.Points(7), Y: data.Center().Y}, drawn.yLabel)
		}
	}
	var drawn bytes.Buffer
	if _, err := canvas.WriteTo(&drawn); err != nil {
		return "", fmt.Errorf("report: cannot draw figure %s: %w", f.name, err)
	}
	return f.adapt(drawn.String(), height), nil
}

var legendText = text.Style{Color: color.Black, Font: sans(9.5), XAlign: draw.XLeft, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}

const legendIndent, thumbnailWidth, entryGap = 40, 28, 20

// legendRows breaks the legend into rows that fit the figure.
func (f figure) legendRows() (rows [][]legendEntry) {
	room := vg.Length(0)
	for _, entry := range f.legend {
		width := thumbnailWidth + legendText.Width(entry.text) + entryGap
		if room < width {
			rows = append(rows, nil)
			room = vg.Points(figureWidth - legendIndent)
		}
		room -= width
		rows[len(rows)-1] = append(rows[len(rows)-1], entry)
	}
	return rows
}

func drawLegend(area draw.Canvas, rows [][]legendEntry) {
	for i, row := range rows {
		x, y := area.Min.X+legendIndent, area.Max.Y-vg.Points((float64(i)+0.5)*legendHeight)
		for _, entry := range row {
			if entry.glyph == nil {
				corners := []vg.Point{{X: x, Y: y - 4}, {X: x + 18, Y: y - 4}, {X: x + 18, Y: y + 4}, {X: x, Y: y + 4}}
				area.FillPolygon(faded(entry.color, 0x48), corners)
				area.StrokeLines(draw.LineStyle{Color: entry.color, Width: 1}, append(corners, corners[0]))
			} else {
				area.StrokeLine2(draw.LineStyle{Color: entry.color, Width: 1.5, Dashes: entry.dashes}, x, y, x+22, y)
				area.DrawGlyph(draw.GlyphStyle{Color: entry.color, Radius: markerRadius, Shape: entry.glyph}, vg.Point{X: x + 11, Y: y})
			}
			area.FillText(legendText, vg.Point{X: x + thumbnailWidth, Y: y}, entry.text)
			x += thumbnailWidth + legendText.Width(entry.text) + entryGap
		}
	}
}

var (
	svgStart = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)
	family   = regexp.MustCompile(`font-family:[^;]*;font-variant:[^;]*;`)
)

// adapt turns vgsvg's document into one that scales, names fonts that are there, and takes its ink from its surroundings.
// vgsvg leaves a black fill away, as the default.
func (f figure) adapt(drawn string, height vg.Length) string {
	start := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %g" role="img" aria-label="%s" fill="currentColor" font-family="Liberation Sans, Arial, Helvetica, sans-serif">`,
		figureWidth, height.Points(), attribute(f.title))
	drawn = svgStart.ReplaceAllLiteralString(drawn, start)
	drawn = family.ReplaceAllLiteralString(drawn, "")
	return strings.ReplaceAll(drawn, "stroke:#000000", "stroke:currentColor")
}

// standalone gives the drawing a page of its own to lie on.
func standalone(svg string) string {
	return `<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		strings.Replace(svg, "<svg ", `<svg width="`+fmt.Sprint(figureWidth)+`pt" style="color:#1b1f24;background:#ffffff" `, 1)
}

func attribute(s string) string {
	return strings.NewReplacer("&", "&amp;", `"`, "&quot;", "<", "&lt;").Replace(s)
}
