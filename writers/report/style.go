package report

import (
	"fmt"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// palette is Okabe and Ito's (2008), told apart by colour-blind readers, less black and yellow, which vanish on a dark
// or a light page.
var palette = []color.NRGBA{
	{0x00, 0x72, 0xB2, 0xFF}, // blue
	{0xD5, 0x5E, 0x00, 0xFF}, // vermillion
	{0x00, 0x9E, 0x73, 0xFF}, // bluish green
	{0xCC, 0x79, 0xA7, 0xFF}, // reddish purple
	{0x56, 0xB4, 0xE9, 0xFF}, // sky blue
	{0xE6, 0x9F, 0x00, 0xFF}, // orange
}

var gridColor = color.NRGBA{0x80, 0x80, 0x80, 0x50}

func (s series) color() color.NRGBA { return palette[s.index%len(palette)] }

// glyphs differ too, for print without colour and for more series than colours.
func (s series) glyph() draw.GlyphDrawer {
	return []draw.GlyphDrawer{draw.CircleGlyph{}, draw.PyramidGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}}[s.index%4]
}

func faded(c color.NRGBA, alpha uint8) color.NRGBA {
	c.A = alpha
	return c
}

func sans(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(size)}
}

// panel is a plot with its title and the label of its vertical axis. The figure draws both: gonum's own titles stand at
// uneven heights in a row, and for the label of a logarithmic axis it keeps room in the wrong place.
type panel struct {
	*plot.Plot
	title, yLabel string
}

// newPanel returns an empty plot in the report's style with the ranges given.
func newPanel(title, xLabel, yLabel string, x, y extent) *panel {
	p := plot.New()
	p.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Label.TextStyle.Font = sans(9.5)
		axis.Label.Padding = vg.Points(3)
		axis.Tick.Label.Font = sans(9)
		axis.Tick.Length = vg.Points(4)
		axis.Padding = 0
	}
	p.X.Label.Text = xLabel
	x.set(&p.X)
	y.set(&p.Y)
	p.Add(grid{})
	return &panel{p, title, yLabel}
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

// extent of an axis.
type extent struct {
	low, high float64
	log       bool
	filled    bool // something was included
}

func (e *extent) include(values ...float64) {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) || e.log && v <= 0 {
			continue
		}
		if !e.filled {
			e.low, e.high, e.filled = v, v, true
		}
		e.low, e.high = min(e.low, v), max(e.high, v)
	}
}

func (e *extent) enclose(all ...*bounds) {
	for _, b := range all {
		if b != nil {
			e.include(b.low, b.high)
		}
	}
}

// padded widens the extent so that no mark lies on the frame and a logarithmic axis has at least two labels.
func (e extent) padded() extent {
	if !e.log {
		margin := 0.06 * (e.high - e.low)
		if margin == 0 {
			margin = max(0.5, 0.1*math.Abs(e.low))
		}
		e.low, e.high = e.low-margin, e.high+margin
		return e
	}
	factor := max(math.Pow(e.high/e.low, 0.08), math.Sqrt(5/min(5, e.high/e.low)), 1.1)
	e.low, e.high = e.low/factor, e.high*factor
	return e
}

// set gives an axis the extent, its scale and its ticks.
func (e extent) set(axis *plot.Axis) {
	axis.Min, axis.Max = e.low, e.high
	axis.Tick.Marker = plot.TickerFunc(linearTicks)
	if e.log {
		axis.Scale = plot.LogScale{}
		axis.Tick.Marker = plot.TickerFunc(logTicks)
	}
}

func linearTicks(low, high float64) []plot.Tick {
	if !(high > low) {
		return nil
	}
	step := math.Pow(10, math.Floor(math.Log10((high-low)/2)))
	for _, multiple := range []float64{1, 2, 5, 10} {
		if (high-low)/(step*multiple) <= 6 {
			step *= multiple
			break
		}
	}
	decimals := max(0, -int(math.Floor(math.Log10(step)+1e-9)))
	var ticks []plot.Tick
	for i := math.Ceil(low/step - 1e-9); i*step <= high+1e-9*step; i++ {
		value := i * step
		if value == 0 {
			value = 0 // not minus zero
		}
		ticks = append(ticks, plot.Tick{Value: value, Label: minus(strconv.FormatFloat(value, 'f', decimals, 64))})
	}
	return ticks
}

// logTicks labels decades, and 2 and 5 between them where there are few.
func logTicks(low, high float64) []plot.Tick {
	first, last := int(math.Floor(math.Log10(low))), int(math.Ceil(math.Log10(high)))
	decades := math.Log10(high / low)
	every := 1 + int(decades/7)
	var ticks []plot.Tick
	for exponent := first; exponent <= last; exponent++ {
		for digit := 1; digit <= 9; digit++ {
			tick := plot.Tick{Value: float64(digit) * math.Pow(10, float64(exponent))}
			if tick.Value < low || tick.Value > high {
				continue
			}
			switch {
			case digit == 1 && exponent%every == 0, decades < 1.7 && (digit == 2 || digit == 5):
				tick.Label = number(tick.Value)
			case digit > 1 && decades > 4:
				continue
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}

// number writes v for people, with up to three digits: 0.0123, 1.2×10⁻⁵.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return minus(strings.Replace(strconv.FormatFloat(v, 'g', -1, 64), "Inf", "∞", 1))
	case v == 0:
		return "0"
	case math.Abs(v) >= 1e-3 && math.Abs(v) < 1e4:
		return minus(strconv.FormatFloat(roundedTo(v, 3), 'f', -1, 64))
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(roundedTo(v, 3), 'e', -1, 64), "e")
	power, err := strconv.Atoi(exponent)
	if err != nil {
		return minus(mantissa)
	}
	raised := "10" + superscripts.Replace(strconv.Itoa(power))
	if mantissa == "1" {
		return raised
	}
	return minus(mantissa) + "×" + raised
}

var superscripts = strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴", "5", "⁵", "6", "⁶",
	"7", "⁷", "8", "⁸", "9", "⁹")

// aligned is number with three digits kept, so that a column of them reads well.
func aligned(v float64) string {
	if magnitude := math.Abs(v); magnitude >= 1e-3 && magnitude < 1e3 {
		v = roundedTo(v, 3)
		return minus(strconv.FormatFloat(v, 'f', 2-int(math.Floor(math.Log10(math.Abs(v)))), 64))
	}
	return number(v)
}

func roundedTo(v float64, digits int) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64)
	if err != nil {
		return v
	}
	return rounded
}

// minus writes the sign of a number as its own character, not as a hyphen.
func minus(number string) string { return strings.Replace(number, "-", "−", 1) }

// fixed writes a cosine.
func fixed(v *float64) string {
	if v == nil {
		return "–"
	}
	return minus(fmt.Sprintf("%.2f", *v))
}
