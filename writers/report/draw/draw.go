// Package draw makes SVG of a report's figures: each panel by itself, for pages that lay them out, or all of a figure in one file. Ink is the text
// colour of the surroundings, so that drawings show on light and dark pages.
package draw

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"image/color"
	"math"
	"regexp"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/symaudit/symaudit/writers/report/view"
)

// Sizes in points. A page scales panels to its own width: one column of a phone shows text a little larger than this, two of a desktop half
// as large again.
const (
	panelWidth   = 340
	panelHeight  = 215
	mapHeight    = 300
	rowHeight    = 94 // of pictures side by side, with what is above and below
	nextRow      = 46 // of further rows below
	gap          = 16 // between panels of a file
	legendHeight = 19
)

// Panels returns a figure's panels, each an SVG element.
func Panels(f view.Figure) ([]string, error) {
	var all []string
	for _, p := range f.Panels {
		drawn, height, err := newPanel(p).svg(labelWidth(f))
		if err != nil {
			return nil, fmt.Errorf("report: cannot draw figure %s: %w", f.Name, err)
		}
		all = append(all, element(drawn, panelWidth, height, f.Title+": "+p.Title))
	}
	return all, nil
}

// Figure returns a figure as a file of its own: the legend, and below it the panels in columns.
func Figure(f view.Figure) ([]byte, error) {
	columns := min(cmp.Or(f.Columns, 2), len(f.Panels))
	width := float64(columns*panelWidth + (columns-1)*gap)
	legend := legendRows(f.Legend, width)
	y := float64(len(legend)*legendHeight + 6)
	var body strings.Builder
	if len(legend) > 0 {
		canvas := vgsvg.New(vg.Points(width), vg.Points(y))
		drawLegend(draw.New(canvas), legend)
		drawn, err := content(canvas)
		if err != nil {
			return nil, fmt.Errorf("report: cannot draw figure %s: %w", f.Name, err)
		}
		body.WriteString(drawn)
	}
	tallest := 0.0
	for i, p := range f.Panels {
		drawn, height, err := newPanel(p).svg(labelWidth(f))
		if err != nil {
			return nil, fmt.Errorf("report: cannot draw figure %s: %w", f.Name, err)
		}
		column := i % columns
		if i > 0 && column == 0 {
			y += tallest + gap
			tallest = 0
		}
		tallest = max(tallest, height)
		fmt.Fprintf(&body, `<svg x="%d" y="%g" width="%d" height="%g" viewBox="0 0 %d %g">%s</svg>`, column*(panelWidth+gap), y, panelWidth, height, panelWidth, height, drawn)
	}
	file := element(body.String(), width, y+tallest, f.Title)
	file = strings.Replace(file, "<svg ", fmt.Sprintf(`<svg width="%gpt" style="color:#1b1f24;background:#ffffff" `, width), 1)
	return []byte(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + file + "\n"), nil
}

// Swatch returns the sign of a legend's entry, an SVG element.
func Swatch(e view.Entry) (string, error) {
	const width, height = 24, 12
	canvas := vgsvg.New(width, height)
	drawSign(draw.New(canvas), e, 1, height/2)
	drawn, err := content(canvas)
	if err != nil {
		return "", fmt.Errorf("report: cannot draw a legend: %w", err)
	}
	return element(drawn, width, height, e.Text), nil
}

// Color returns that of a style, as #rrggbb.
func Color(s view.Style) string {
	ink := colorOf(s)
	return fmt.Sprintf("#%02x%02x%02x", ink.R, ink.G, ink.B)
}

func element(body string, width, height float64, label string) string {
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" role="img" aria-label="%s" fill="currentColor" font-family="Liberation Sans, Arial, Helvetica, sans-serif">%s</svg>`,
		width, height, html.EscapeString(label), body)
}

var (
	svgStart = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)
	family   = regexp.MustCompile(`font-family:[^;]*;font-variant:[^;]*;`)
)

// content is what is drawn, without the document around it; fonts are those of the surroundings, and so is ink. vgsvg leaves a
// black fill away, as the default.
func content(canvas *vgsvg.Canvas) (string, error) {
	var drawn bytes.Buffer
	if _, err := canvas.WriteTo(&drawn); err != nil {
		return "", err
	}
	body := svgStart.ReplaceAllLiteralString(drawn.String(), "")
	body = strings.TrimSuffix(strings.TrimSpace(body), "</svg>")
	body = family.ReplaceAllLiteralString(body, "")
	body = strings.ReplaceAll(body, "<image ", `<image style="image-rendering:pixelated" `)
	body = strings.ReplaceAll(body, `xlink:href="data:image/jpg`, `href="data:image/png`) // which it is; the name space of xlink is not declared here
	return strings.ReplaceAll(body, "stroke:#000000", "stroke:currentColor"), nil
}

var legendText = text.Style{Color: color.Black, Font: sans(9.5), XAlign: draw.XLeft, YAlign: draw.YCenter, Handler: plot.DefaultTextHandler}

const legendIndent, signWidth, entryGap = 6, 28, 20

// legendRows breaks the legend into rows that fit a width.
func legendRows(legend []view.Entry, width float64) (rows [][]view.Entry) {
	room := vg.Length(0)
	for _, entry := range legend {
		needs := signWidth + legendText.Width(entry.Text) + entryGap
		if room < needs {
			rows = append(rows, nil)
			room = vg.Points(width - legendIndent)
		}
		room -= needs
		rows[len(rows)-1] = append(rows[len(rows)-1], entry)
	}
	return rows
}

func drawLegend(area draw.Canvas, rows [][]view.Entry) {
	for i, row := range rows {
		x, y := area.Min.X+legendIndent, area.Max.Y-vg.Points((float64(i)+0.5)*legendHeight)
		for _, entry := range row {
			drawSign(area, entry, x, y)
			area.FillText(legendText, vg.Point{X: x + signWidth, Y: y}, entry.Text)
			x += signWidth + legendText.Width(entry.Text) + entryGap
		}
	}
}

func drawSign(area draw.Canvas, entry view.Entry, x, y vg.Length) {
	ink := colorOf(entry.Style)
	if entry.Filled {
		corners := []vg.Point{{X: x, Y: y - 4}, {X: x + 18, Y: y - 4}, {X: x + 18, Y: y + 4}, {X: x, Y: y + 4}}
		area.FillPolygon(faded(ink, 0x48), corners)
		area.StrokeLines(draw.LineStyle{Color: ink, Width: 1}, append(corners, corners[0]))
		return
	}
	area.StrokeLine2(draw.LineStyle{Color: ink, Width: 1.5, Dashes: dashesOf(entry.Style)}, x, y, x+22, y)
	area.DrawGlyph(draw.GlyphStyle{Color: ink, Radius: markerRadius, Shape: glyphOf(entry.Style)}, vg.Point{X: x + 11, Y: y})
}

// panel is a plot with its title and the label of its vertical axis. Both are drawn here: gonum's own titles stand at uneven
// heights, and for the label of a logarithmic axis it keeps room in the wrong place.
type panel struct {
	*plot.Plot
	view   view.Panel
	height float64
}

func newPanel(p view.Panel) *panel {
	drawn := &panel{plot.New(), p, panelHeight}
	drawn.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&drawn.X, &drawn.Y} {
		axis.Label.TextStyle.Font = sans(9.5)
		axis.Label.Padding = vg.Points(3)
		axis.Tick.Label.Font = sans(9)
		axis.Tick.Length = vg.Points(4)
		axis.Padding = 0
	}
	drawn.X.Label.Text = p.X.Label
	set(&drawn.X, p.X)
	set(&drawn.Y, p.Y)
	if p.X.Names != nil {
		ticks := named(p.X.Names)
		leaveRoom(ticks, drawn.X.Tick.Label)
		drawn.X.Tick.Marker = plot.ConstantTicks(ticks)
		drawn.X.Tick.LineStyle.Width = 0
	}
	if p.Y.Names != nil {
		drawn.height = mapHeight
		if pictured(p) {
			drawn.height = rowHeight + nextRow*float64(max(0, len(p.Y.Names)-1))
			drawn.X.LineStyle.Width, drawn.Y.LineStyle.Width = 0, 0
		}
		if len(p.Y.Names) == 0 {
			drawn.HideY()
		}
		drawn.Y.Tick.Marker = plot.ConstantTicks(named(p.Y.Names))
		drawn.Y.Tick.LineStyle.Width = 0
	} else {
		drawn.Add(grid{})
	}
	for _, mark := range p.Marks {
		drawn.Add(plotter(mark))
	}
	return drawn
}

// pictured reports whether a panel is of pictures.
func pictured(p view.Panel) bool {
	return slices.ContainsFunc(p.Marks, func(mark view.Mark) bool {
		_, is := mark.(view.Picture)
		return is
	})
}

// labelWidth is that of the widest number or name beside a vertical axis of a figure, whose panels then begin at the same place.
func labelWidth(f view.Figure) (widest vg.Length) {
	for _, p := range f.Panels {
		widest = max(widest, newPanel(p).labelWidth())
	}
	return widest
}

func (p *panel) labelWidth() (widest vg.Length) {
	for _, tick := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		widest = max(widest, p.Y.Tick.Label.Width(tick.Label))
	}
	return widest
}

// svg draws the panel, with room for labels of a width beside its vertical axis.
func (p *panel) svg(labels vg.Length) (drawn string, height float64, err error) {
	canvas := vgsvg.New(panelWidth, vg.Points(p.height))
	all := draw.New(canvas)
	body := draw.Crop(all, vg.Points(18)+labels-p.labelWidth(), -vg.Points(6), vg.Points(2), -vg.Points(20))
	p.Draw(body)
	data := p.DataCanvas(body)
	title := text.Style{Color: color.Black, Font: sans(10.5), XAlign: draw.XLeft, YAlign: draw.YBottom, Handler: plot.DefaultTextHandler}
	title.Font.Weight = 3 // WeightBold of golang.org/x/image/font
	const margin = 8      // as browsers set text a little wider
	said := fitting(&title, p.view.Title, panelWidth-2*margin)
	all.FillText(title, vg.Point{X: max(margin, min(data.Min.X, panelWidth-margin-title.Width(said))), Y: data.Max.Y + vg.Points(7)}, said)
	label := text.Style{Color: color.Black, Font: sans(9.5), XAlign: draw.XCenter, YAlign: draw.YTop, Rotation: math.Pi / 2, Handler: plot.DefaultTextHandler}
	all.FillText(label, vg.Point{X: 1, Y: data.Center().Y}, p.view.Y.Label)
	drawn, err = content(canvas)
	return drawn, p.height, err
}

// fitting cuts text that is too long.
func fitting(style *text.Style, said string, width vg.Length) string {
	if style.Width(said) <= width {
		return said
	}
	letters := []rune(said)
	for len(letters) > 1 && style.Width(string(letters)+"…") > width {
		letters = letters[:len(letters)-1]
	}
	return string(letters) + "…"
}

func named(names []string) []plot.Tick {
	ticks := make([]plot.Tick, len(names))
	for i, name := range names {
		ticks[i] = plot.Tick{Value: float64(i), Label: name}
	}
	return ticks
}

// leaveRoom takes away labels until the rest fit beside each other: every second one, or every third.
func leaveRoom(ticks []plot.Tick, label text.Style) {
	const room = 0.85 * panelWidth
	widest := vg.Length(0)
	for _, tick := range ticks {
		widest = max(widest, label.Width(tick.Label+"  "))
	}
	every := max(1, int(math.Ceil(float64(len(ticks))*widest.Points()/room)))
	for i := range ticks {
		if i%every != 0 {
			ticks[i].Label = ""
		}
	}
}

// grid draws a line at each labelled tick of the vertical axis.
type grid struct{}

func (grid) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	style := draw.LineStyle{Color: gridColor, Width: vg.Points(0.5)}
	for _, tick := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if !tick.IsMinor() && tick.Value >= p.Y.Min && tick.Value <= p.Y.Max {
			c.StrokeLine2(style, c.Min.X, y(tick.Value), c.Max.X, y(tick.Value))
		}
	}
}
