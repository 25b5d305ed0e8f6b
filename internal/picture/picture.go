// Package picture makes of states the pictures that tables keep, and says of which samples there are some.
package picture

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// mostCells is the longest side of a picture: of finer states, blocks of cells are averaged.
const mostCells = 64

// Of is a channel of a state [height, width, channels], averaged over blocks of cells: float32, little-endian, [rows, columns].
func Of(state []float64, height, width, channels, c int) (rows, columns int32, values []byte) {
	block := (max(height, width) + mostCells - 1) / mostCells
	for y := 0; y < height; y += block {
		for x := 0; x < width; x += block {
			sum, cells := 0.0, 0
			for i := y; i < min(y+block, height); i++ {
				for j := x; j < min(x+block, width); j++ {
					sum += state[(i*width+j)*channels+c]
					cells++
				}
			}
			values = binary.LittleEndian.AppendUint32(values, math.Float32bits(float32(sum/float64(cells))))
		}
	}
	return int32((height + block - 1) / block), int32((width + block - 1) / block), values
}

// Cells are the values of a picture, row by row; nil where there are not as many as cells.
func Cells(rows, columns int32, values []byte) [][]float64 {
	if rows < 0 || columns < 0 || len(values) != 4*int(rows)*int(columns) {
		return nil
	}
	cells := make([][]float64, rows)
	for y := range cells {
		cells[y] = make([]float64, columns)
		for x := range cells[y] {
			cells[y][x] = float64(math.Float32frombits(binary.LittleEndian.Uint32(values[4*(y*int(columns)+x):])))
		}
	}
	return cells
}

// Ranks of the samples that are pictured.
const (
	Best   = "best"
	Median = "median"
	Worst  = "worst"
)

// Choice is a sample that is pictured.
type Choice struct {
	Rank   string
	Sample int
}

// Choose takes the samples with the smallest error, the one in the middle and the largest; of two none is in the middle, and one is the worst. NaN is larger
// than all others.
func Choose(errors []float64) (chosen []Choice) {
	order := make([]int, len(errors))
	for i := range order {
		order[i] = i
	}
	size := func(sample int) float64 {
		if math.IsNaN(errors[sample]) {
			return math.Inf(1)
		}
		return errors[sample]
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(size(i), size(j)) })
	n := len(order)
	if n > 1 {
		chosen = append(chosen, Choice{Best, order[0]})
	}
	if n > 2 {
		chosen = append(chosen, Choice{Median, order[n/2]})
	}
	if n > 0 {
		chosen = append(chosen, Choice{Worst, order[n-1]})
	}
	return chosen
}
