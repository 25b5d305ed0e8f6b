package draw

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/symaudit/symaudit/writers/report/view"
)

// plotter draws a mark.
func plotter(mark view.Mark) plot.Plotter {
	switch m := mark.(type) {
	case view.Box:
		return box(m)
	case view.Line:
		return line(m)
	case view.Band:
		return band(m)
	case view.Bars:
		return bars(m)
	case view.Curve:
		return curve(m)
	case view.Level:
		return level(m)
	case view.Rule:
		return rule(m)
	case view.Point:
		return point(m)
	case view.Cells:
		return cells(m)
	case view.Picture:
		return picture(m)
	case view.Scale:
		return scale(m)
	}
	panic(fmt.Sprintf("report: no drawing of %T", mark)) // view has no other
}

// onAxis returns the transforms; what lies outside the vertical axis is drawn on its edge.
func onAxis(c *draw.Canvas, p *plot.Plot) (x, y func(float64) vg.Length) {
	x, inside := p.Transforms(c)
	return x, func(v float64) vg.Length { return inside(min(max(v, p.Y.Min), p.Y.Max)) }
}

// drawZero marks a median of exactly zero, which a logarithmic axis cannot show, at its lower edge.
func drawZero(c draw.Canvas, p *plot.Plot, at vg.Length, ink color.Color) {
	style := p.X.Tick.Label
	style.Color = ink
	style.XAlign, style.YAlign = draw.XCenter, draw.YBottom
	c.FillText(style, vg.Point{X: at, Y: c.Min.Y + vg.Points(2)}, "0")
}

func isLog(p *plot.Plot) bool {
	_, is := p.Y.Scale.(plot.LogScale)
	return is
}

const markerRadius = 2.6 // points

// drawWhisker draws an upright line from low to high with a cap at either end.
func drawWhisker(c draw.Canvas, style draw.LineStyle, at, low, high, halfCap vg.Length) {
	c.StrokeLine2(style, at, low, at, high)
	for _, end := range []vg.Length{low, high} {
		c.StrokeLine2(style, at-halfCap, end, at+halfCap, end)
	}
}

type box view.Box

func (b box) Plot(c draw.Canvas, p *plot.Plot) {
	s, ink := view.Summarise(b.Samples), colorOf(b.Style)
	x, y := onAxis(&c, p)
	left, middle, right := x(b.At-b.Width/2), x(b.At), x(b.At+b.Width/2)
	if isLog(p) && s.Median <= 0 {
		drawZero(c, p, middle, ink)
		return
	}
	corners := []vg.Point{{X: left, Y: y(s.Q25)}, {X: right, Y: y(s.Q25)}, {X: right, Y: y(s.Q75)}, {X: left, Y: y(s.Q75)}}
	c.FillPolygon(faded(ink, 0x48), corners)
	thin := draw.LineStyle{Color: ink, Width: vg.Points(0.9)}
	c.StrokeLines(thin, append(corners, corners[0]))
	c.StrokeLine2(thin, middle, y(s.Q05), middle, y(s.Q25))
	c.StrokeLine2(thin, middle, y(s.Q75), middle, y(s.Q95))
	capWidth := (right - left) / 4
	for _, end := range []float64{s.Q05, s.Q95} {
		c.StrokeLine2(thin, middle-capWidth, y(end), middle+capWidth, y(end))
	}
	c.StrokeLine2(draw.LineStyle{Color: ink, Width: vg.Points(2.2)}, left, y(s.Median), right, y(s.Median))
	if s.N > view.MostDots {
		return
	}
	dot := draw.GlyphStyle{Color: faded(ink, 0xA0), Radius: vg.Points(1.2), Shape: draw.CircleGlyph{}}
	certified := draw.LineStyle{Color: faded(ink, 0x90), Width: vg.Points(intervalWidth)}
	for i, s := range b.Samples {
		// Spread by the golden ratio: even, and the same at each drawing.
		spread := float64(i) * 0.6180339887
		spread -= float64(int(spread))
		at := x(b.At + b.Width*0.7*(spread-0.5))
		if s.Bounds != nil {
			c.StrokeLine2(certified, at, y(s.Bounds.Low), at, y(s.Bounds.High))
		}
		c.DrawGlyph(dot, vg.Point{X: at, Y: y(s.Value)})
	}
}

// Widths of the lines, in points, that show bounds of single samples and of medians.
const intervalWidth, barWidth = 0.45, 1.1

// mostGlyphs of a line: more would hide it.
const mostGlyphs = 60

type line view.Line

func (f line) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	ink := colorOf(f.Style)
	aside := aside(view.Line(f), 3)
	var path, lower, upper []vg.Point
	for i, s := range f.Of {
		at := x(f.At[i]) + aside
		if isLog(p) && s.Median <= 0 {
			drawZero(c, p, at, ink)
			continue
		}
		path = append(path, vg.Point{X: at, Y: y(s.Median)})
		lower = append(lower, vg.Point{X: at, Y: y(s.Q25)})
		upper = append(upper, vg.Point{X: at, Y: y(s.Q75)})
	}
	if len(path) == 0 {
		return
	}
	c.StrokeLines(draw.LineStyle{Color: ink, Width: vg.Points(1.5), Dashes: dashesOf(f.Style)}, path)
	if len(path) > mostGlyphs {
		return
	}
	thin := draw.LineStyle{Color: ink, Width: vg.Points(0.9)}
	for i, point := range path {
		if f.Whiskers {
			drawWhisker(c, thin, point.X, lower[i].Y, upper[i].Y, 2.2)
		}
		c.DrawGlyph(draw.GlyphStyle{Color: ink, Radius: vg.Points(markerRadius), Shape: glyphOf(f.Style)}, point)
	}
}

// band of a single point gets a width to be seen by.
type band view.Band

func (f band) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	half := vg.Length(0)
	if len(f.Of) == 1 {
		half = 6
	}
	var lower, upper []vg.Point
	for i, s := range f.Of {
		for _, at := range slices.Compact([]vg.Length{x(f.At[i]) - half, x(f.At[i]) + half}) {
			lower = append(lower, vg.Point{X: at, Y: y(s.Q25)})
			upper = append(upper, vg.Point{X: at, Y: y(s.Q75)})
		}
	}
	slices.Reverse(upper)
	c.FillPolygon(faded(colorOf(f.Style), 0x30), append(lower, upper...))
}

// bars lie beneath the lines and markers of a panel, so one no longer than its marker is not drawn: its caps would only
// spoil the marker.
type bars view.Bars

func (f bars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	style := draw.LineStyle{Color: colorOf(f.Style), Width: vg.Points(barWidth)}
	aside := aside(view.Line(f), 1.6)
	for i, s := range f.Of {
		if s.Bounds == nil {
			continue
		}
		low, high, median := y(s.Bounds.Low), y(s.Bounds.High), y(s.Median)
		if max(high-median, median-low) > markerRadius {
			drawWhisker(c, style, x(f.At[i])+aside, low, high, 2.6)
		}
	}
}

// aside spreads the upright lines of a panel's lines over twice a width.
func aside(f view.Line, width float64) vg.Length {
	if f.Places < 2 {
		return 0
	}
	return vg.Points(width * (2*float64(f.Place)/float64(f.Places-1) - 1))
}

type curve view.Curve

func (f curve) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	var path []vg.Point
	for i, value := range f.Values {
		if value > 0 || !isLog(p) {
			path = append(path, vg.Point{X: x(f.At[i]), Y: y(value)})
		}
	}
	c.StrokeLines(draw.LineStyle{Color: colorOf(f.Style), Width: vg.Points(1.2), Dashes: dashesOf(f.Style)}, path)
	if len(path) == 1 {
		c.DrawGlyph(draw.GlyphStyle{Color: colorOf(f.Style), Radius: vg.Points(markerRadius), Shape: draw.CircleGlyph{}}, path[0])
	}
}

type level view.Level

func (l level) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := onAxis(&c, p)
	style := draw.LineStyle{Color: color.NRGBA{0x80, 0x80, 0x80, 0xC0}, Width: vg.Points(0.9)}
	c.StrokeLine2(style, c.Min.X, y(l.Value), c.Max.X, y(l.Value))
}

type rule view.Rule

func (r rule) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	at, ink := x(r.At), colorOf(r.Style)
	c.StrokeLine2(draw.LineStyle{Color: ink, Width: vg.Points(0.8), Dashes: []vg.Length{vg.Points(2), vg.Points(2)}}, at, c.Min.Y, at, c.Max.Y)
	style := p.X.Tick.Label
	style.Color = ink
	style.XAlign, style.YAlign = draw.XRight, draw.YTop
	c.FillText(style, vg.Point{X: at - vg.Points(2), Y: c.Max.Y - vg.Points(1)}, r.Text)
}

type point view.Point

func (f point) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	ink, at := colorOf(f.Style), vg.Point{X: x(f.X), Y: y(f.Y)}
	c.DrawGlyph(draw.GlyphStyle{Color: ink, Radius: vg.Points(markerRadius), Shape: glyphOf(f.Style)}, at)
	if f.Text != "" {
		style := p.X.Tick.Label
		style.Color = ink
		style.XAlign, style.YAlign = draw.XLeft, draw.YBottom
		aside := vg.Points(3)
		if at.X+aside+style.Width(f.Text) > c.Max.X {
			style.XAlign, aside = draw.XRight, -aside
		}
		c.FillText(style, vg.Point{X: at.X + aside, Y: at.Y + vg.Points(1)}, f.Text)
	}
}

// cells are blue above 0 and vermillion below, the more opaque the stronger, so that they show on any page. Where they are few, each has its number.
type cells view.Cells

func (f cells) Plot(c draw.Canvas, p *plot.Plot) {
	const mostNumbers = 64
	x, y := p.Transforms(&c)
	style := p.X.Tick.Label
	style.XAlign, style.YAlign = draw.XCenter, draw.YCenter
	for i, row := range f.Values {
		for j, value := range row {
			if math.IsNaN(value) {
				continue
			}
			left, right, low, high := x(float64(j)-0.5), x(float64(j)+0.5), y(float64(i)-0.5), y(float64(i)+0.5)
			c.FillPolygon(f.color(value), []vg.Point{{X: left, Y: low}, {X: right, Y: low}, {X: right, Y: high}, {X: left, Y: high}})
			if len(f.Values)*len(row) <= mostNumbers {
				text := view.Minus(fmt.Sprintf("%.2f", value))
				if f.Log {
					text = view.Number(value)
				}
				if style.Width(text) < right-left {
					c.FillText(style, vg.Point{X: (left + right) / 2, Y: (low + high) / 2}, text)
				}
			}
		}
	}
}

// strongest colour of cells, which leaves a number legible.
const strongest = 0xB0

func (f cells) color(value float64) color.NRGBA {
	ink, strength := palette[0], value/f.High
	switch {
	case f.Log:
		strength = math.Log(value/f.Low) / math.Log(f.High/f.Low)
	case value < 0:
		ink, strength = palette[1], value/f.Low
	}
	if !(strength > 0) {
		strength = 0
	}
	return faded(ink, uint8(strongest*min(strength, 1)))
}

// picture has one pixel a cell, in the colours of cells.
type picture view.Picture

func (f picture) Plot(c draw.Canvas, p *plot.Plot) {
	if len(f.Values) == 0 || len(f.Values[0]) == 0 {
		return
	}
	height, width := vg.Length(len(f.Values)), vg.Length(len(f.Values[0]))
	at := room(c, p, f.X, f.Y)
	cell := min((at.Max.X-at.Min.X)/width, (at.Max.Y-at.Min.Y)/height)
	at.Min.X += ((at.Max.X - at.Min.X) - cell*width) / 2
	at.Min.Y += ((at.Max.Y - at.Min.Y) - cell*height) / 2
	at.Max = vg.Point{X: at.Min.X + cell*width, Y: at.Min.Y + cell*height}
	c.DrawImage(at, colored(f.Values, f.Reach))
}

// room is that of a picture at a place, with a little between it and the next.
func room(c draw.Canvas, p *plot.Plot, x, y float64) vg.Rectangle {
	const half = 0.47
	across, up := p.Transforms(&c)
	return vg.Rectangle{Min: vg.Point{X: across(x - half), Y: up(y - half)}, Max: vg.Point{X: across(x + half), Y: up(y + half)}}
}

// colored is an image of values, the first row lowest.
func colored(values [][]float64, reach float64) image.Image {
	height, width := len(values), len(values[0])
	drawn := image.NewNRGBA(image.Rect(0, 0, width, height))
	colors := cells{Low: -reach, High: reach}
	for y, row := range values {
		for x, value := range row {
			ink := colors.color(value)
			ink.A = uint8(min(255, int(ink.A)*255/strongest))
			drawn.SetNRGBA(x, height-1-y, ink)
		}
	}
	return drawn
}

// scale is as high as a picture, and its numbers are how far the strongest colours are from the middle.
type scale view.Scale

func (f scale) Plot(c draw.Canvas, p *plot.Plot) {
	const steps, across = 33, 4 // pixels, which are squares
	at := room(c, p, f.X, f.Y)
	at.Max.X = at.Min.X + (at.Max.Y-at.Min.Y)*across/steps
	values := make([][]float64, steps)
	for i := range values {
		values[i] = slices.Repeat([]float64{f.Reach * (2*float64(i)/(steps-1) - 1)}, across)
	}
	c.DrawImage(at, colored(values, f.Reach))
	style := p.X.Tick.Label
	style.XAlign = draw.XLeft
	reach := view.Number(f.Reach)
	for _, label := range []struct {
		text  string
		at    vg.Length
		align text.YAlignment
	}{{"+" + reach, at.Max.Y, draw.YTop}, {f.Middle, (at.Min.Y + at.Max.Y) / 2, draw.YCenter}, {"−" + reach, at.Min.Y, draw.YBottom}} {
		style.YAlign = label.align
		c.FillText(style, vg.Point{X: at.Max.X + vg.Points(2), Y: label.at}, label.text)
	}
}
