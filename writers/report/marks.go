package report

import (
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// onAxis returns the vertical transform; what lies outside the axis is drawn on its edge.
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

const markerRadius = 2.6 // points

// drawWhisker draws an upright line from low to high with a cap at either end.
func drawWhisker(c draw.Canvas, style draw.LineStyle, at, low, high, halfCap vg.Length) {
	c.StrokeLine2(style, at, low, at, high)
	for _, end := range []vg.Length{low, high} {
		c.StrokeLine2(style, at-halfCap, end, at+halfCap, end)
	}
}

// box shows at least one sample: box q25 to q75, bar at the median, whiskers q05 to q95, and the samples themselves where few.
type box struct {
	at, width float64 // in units of the horizontal axis
	samples   []sample
	color     color.NRGBA
}

const mostDots = 60

func (b box) Plot(c draw.Canvas, p *plot.Plot) {
	s := summarise(valuesOf(b.samples))
	x, y := onAxis(&c, p)
	left, middle, right := x(b.at-b.width/2), x(b.at), x(b.at+b.width/2)
	if _, isLog := p.Y.Scale.(plot.LogScale); isLog && s.median <= 0 {
		drawZero(c, p, middle, b.color)
		return
	}
	corners := []vg.Point{{X: left, Y: y(s.q25)}, {X: right, Y: y(s.q25)}, {X: right, Y: y(s.q75)}, {X: left, Y: y(s.q75)}}
	c.FillPolygon(faded(b.color, 0x48), corners)
	thin := draw.LineStyle{Color: b.color, Width: vg.Points(0.9)}
	c.StrokeLines(thin, append(corners, corners[0]))
	c.StrokeLine2(thin, middle, y(s.q05), middle, y(s.q25))
	c.StrokeLine2(thin, middle, y(s.q75), middle, y(s.q95))
	capWidth := (right - left) / 4
	for _, end := range []float64{s.q05, s.q95} {
		c.StrokeLine2(thin, middle-capWidth, y(end), middle+capWidth, y(end))
	}
	c.StrokeLine2(draw.LineStyle{Color: b.color, Width: vg.Points(2.2)}, left, y(s.median), right, y(s.median))
	if s.n > mostDots {
		return
	}
	dot := draw.GlyphStyle{Color: faded(b.color, 0xA0), Radius: vg.Points(1.2), Shape: draw.CircleGlyph{}}
	certified := draw.LineStyle{Color: faded(b.color, 0x90), Width: vg.Points(intervalWidth)}
	for i, s := range b.samples {
		// Spread by the golden ratio: even, and the same at each drawing.
		spread := float64(i) * 0.6180339887
		spread -= float64(int(spread))
		at := x(b.at + b.width*0.7*(spread-0.5))
		if s.bounds != nil {
			c.StrokeLine2(certified, at, y(s.bounds.low), at, y(s.bounds.high))
		}
		c.DrawGlyph(dot, vg.Point{X: at, Y: y(s.value)})
	}
}

// Widths of the lines, in points, that show bounds of single samples and of medians.
const intervalWidth, errorBarWidth = 0.45, 1.1

// profile joins the medians of samples along the horizontal axis, with whiskers q25 to q75 if wanted.
type profile struct {
	at       []float64
	of       []summary
	color    color.NRGBA
	glyph    draw.GlyphDrawer
	dashes   []vg.Length
	whiskers bool
}

func (f profile) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	_, isLog := p.Y.Scale.(plot.LogScale)
	var line, lower, upper []vg.Point
	for i, s := range f.of {
		if isLog && s.median <= 0 {
			drawZero(c, p, x(f.at[i]), f.color)
			continue
		}
		line = append(line, vg.Point{X: x(f.at[i]), Y: y(s.median)})
		lower = append(lower, vg.Point{X: x(f.at[i]), Y: y(s.q25)})
		upper = append(upper, vg.Point{X: x(f.at[i]), Y: y(s.q75)})
	}
	if len(line) == 0 {
		return
	}
	c.StrokeLines(draw.LineStyle{Color: f.color, Width: vg.Points(1.5), Dashes: f.dashes}, line)
	thin := draw.LineStyle{Color: f.color, Width: vg.Points(0.9)}
	for i, point := range line {
		if f.whiskers {
			drawWhisker(c, thin, point.X, lower[i].Y, upper[i].Y, 2.2)
		}
		c.DrawGlyph(draw.GlyphStyle{Color: f.color, Radius: vg.Points(markerRadius), Shape: f.glyph}, point)
	}
}

// band fills a profile from q25 to q75. That of a single point gets a width to be seen by.
type band profile

func (f band) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	half := vg.Length(0)
	if len(f.of) == 1 {
		half = 6
	}
	var lower, upper []vg.Point
	for i, s := range f.of {
		for _, at := range slices.Compact([]vg.Length{x(f.at[i]) - half, x(f.at[i]) + half}) {
			lower = append(lower, vg.Point{X: at, Y: y(s.q25)})
			upper = append(upper, vg.Point{X: at, Y: y(s.q75)})
		}
	}
	slices.Reverse(upper)
	c.FillPolygon(faded(f.color, 0x30), append(lower, upper...))
}

// errorBars show the bounds of a profile's medians. They lie beneath the lines and markers of all profiles, so a bar no
// longer than its marker is not drawn: its caps would only spoil the marker.
type errorBars struct {
	profile
	aside vg.Length // keeps the bars of models audited at the same time from covering each other
}

func (f errorBars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	style := draw.LineStyle{Color: f.color, Width: vg.Points(errorBarWidth)}
	for i, s := range f.of {
		if s.bounds == nil {
			continue
		}
		low, high, median := y(s.bounds.low), y(s.bounds.high), y(s.median)
		if max(high-median, median-low) > markerRadius {
			drawWhisker(c, style, x(f.at[i])+f.aside, low, high, 2.6)
		}
	}
}

// aside spreads n bars over a marker's width.
func aside(i, n int) vg.Length {
	if n < 2 {
		return 0
	}
	const most = 1.6
	return most * vg.Length(2*float64(i)/float64(n-1)-1)
}

// curve is a plain line.
type curve struct {
	at, values []float64
	color      color.NRGBA
}

func (f curve) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := onAxis(&c, p)
	var line []vg.Point
	for i, value := range f.values {
		if value > 0 {
			line = append(line, vg.Point{X: x(f.at[i]), Y: y(value)})
		}
	}
	c.StrokeLines(draw.LineStyle{Color: f.color, Width: vg.Points(1.2)}, line)
	if len(line) == 1 {
		c.DrawGlyph(draw.GlyphStyle{Color: f.color, Radius: vg.Points(markerRadius), Shape: draw.CircleGlyph{}}, line[0])
	}
}

// level is a thin neutral line across the panel.
type level float64

func (l level) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := onAxis(&c, p)
	style := draw.LineStyle{Color: color.NRGBA{0x80, 0x80, 0x80, 0xC0}, Width: vg.Points(0.9)}
	c.StrokeLine2(style, c.Min.X, y(float64(l)), c.Max.X, y(float64(l)))
}
