package dataset

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"math"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// Sizes of a picture.
const (
	tile       = vg.Length(128)
	gap        = vg.Length(6)
	headline   = vg.Length(40)
	captions   = vg.Length(110) // left of the tiles
	mostTimes  = 6
	pixelsInch = 72 // one of a picture's lengths is a pixel
)

// Picture draws a trajectory on two axes of space as a PNG: a row for each channel, with a scale of its own from its least value (dark) to its greatest
// (bright), and a column for each of up to six times from the first to the last. Up is +y, right is +x.
func (s *Set) Picture(family, trajectory int) ([]byte, error) {
	if len(s.Grid) != 2 {
		return nil, fmt.Errorf("dataset: the states have %d axes of space; only those of two can be drawn", len(s.Grid))
	}
	times := min(mostTimes, s.Snapshots)
	channels := s.Field.Channels
	states := make([][]float32, times)
	at := make([]int, times)
	for i := range times {
		at[i] = i * (s.Snapshots - 1) / (times - 1)
		states[i] = make([]float32, s.values())
		if err := s.Read(Snapshot{family, trajectory, at[i]}, states[i]); err != nil {
			return nil, err
		}
	}
	width := captions + vg.Length(times)*(tile+gap)
	height := headline + vg.Length(len(channels))*(tile+gap)
	canvas := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(pixelsInch), vgimg.UseBackgroundColor(color.White))
	area := draw.New(canvas)
	write := func(size, x, y vg.Length, said string) {
		style := text.Style{Color: color.Black, Font: font.From(font.Font{Typeface: "Liberation", Variant: "Sans"}, size), Handler: text.Plain{Fonts: font.DefaultCache}}
		area.FillText(style, vg.Point{X: x, Y: y}, said)
	}
	write(13, gap, height-16, fmt.Sprintf("%s, trajectory %d", s.Families[family].Label, trajectory))
	for i, time := range at {
		write(11, captions+vg.Length(i)*(tile+gap), height-34, fmt.Sprintf("t = %.4g", float64(time)*s.Interval))
	}
	for c, name := range channels {
		least, greatest := math.Inf(1), math.Inf(-1)
		for _, state := range states {
			for i := c; i < len(state); i += len(channels) {
				least, greatest = min(least, float64(state[i])), max(greatest, float64(state[i]))
			}
		}
		bottom := height - headline - vg.Length(c)*(tile+gap) - tile
		write(11, gap, bottom+tile-14, name)
		write(10, gap, bottom+tile-28, fmt.Sprintf("%.4g to %.4g", least, greatest))
		for i, state := range states {
			left := captions + vg.Length(i)*(tile+gap)
			canvas.DrawImage(vg.Rectangle{Min: vg.Point{X: left, Y: bottom}, Max: vg.Point{X: left + tile, Y: bottom + tile}}, s.image(state, c, least, greatest))
		}
	}
	var png bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(&png); err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	return png.Bytes(), nil
}

// image has the pixels of a tile, each of the cell that it lies in: with its first row on top.
func (s *Set) image(state []float32, channel int, least, greatest float64) image.Image {
	colors := moreland.ExtendedBlackBody()
	colors.SetMin(0)
	colors.SetMax(1)
	rows, columns, side := s.Grid[0], s.Grid[1], int(tile)
	drawn := image.NewNRGBA(image.Rect(0, 0, side, side))
	for y := range side {
		row := (side - 1 - y) * rows / side
		if s.Field.RowDown {
			row = y * rows / side
		}
		for x := range side {
			value := float64(state[(row*columns+x*columns/side)*len(s.Field.Channels)+channel])
			share := 0.5 // of a channel that is the same everywhere
			if greatest > least {
				share = (value - least) / (greatest - least)
			}
			ink, err := colors.At(share)
			if err != nil { // it lies between 0 and 1
				panic(err)
			}
			drawn.Set(x, y, ink)
		}
	}
	return drawn
}
