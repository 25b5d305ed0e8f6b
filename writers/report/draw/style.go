package draw

import (
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/symaudit/symaudit/writers/report/view"
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

func colorOf(s view.Style) color.NRGBA { return palette[s.Color%len(palette)] }

// glyphOf differs too, for print without colour and for more series than colours.
func glyphOf(s view.Style) draw.GlyphDrawer {
	all := []draw.GlyphDrawer{draw.CircleGlyph{}, draw.PyramidGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}}
	return all[s.Glyph%len(all)]
}

func dashesOf(s view.Style) []vg.Length {
	all := [][]vg.Length{nil, {vg.Points(4), vg.Points(2.5)}, {vg.Points(1), vg.Points(2)}}
	return all[s.Dashes%len(all)]
}

func faded(c color.NRGBA, alpha uint8) color.NRGBA {
	c.A = alpha
	return c
}

func sans(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(size)}
}

// set gives an axis its extent, its scale and its ticks.
func set(axis *plot.Axis, of view.Axis) {
	axis.Min, axis.Max = of.Low, of.High
	axis.Tick.Marker = plot.TickerFunc(linearTicks)
	if of.Log {
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
		ticks = append(ticks, plot.Tick{Value: value, Label: view.Minus(strconv.FormatFloat(value, 'f', decimals, 64))})
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
				tick.Label = view.Number(tick.Value)
			case digit > 1 && decades > 4:
				continue
			}
			ticks = append(ticks, tick)
		}
	}
	return ticks
}
