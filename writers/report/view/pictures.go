package view

import (
	"fmt"
	"math"
	"slices"

	"github.com/symaudit/symaudit/audit"
)

// pictured shows states and outputs of the samples that commute best, in the middle and worst with the element that each model commutes worst with.
func (d *data) pictured(g group) (Figure, bool) {
	f := Figure{Name: "pictures-" + g.file, Title: "States and outputs under " + g.label()}
	channel := ""
	for _, s := range d.series {
		for _, rank := range []string{"worst", "median", "best"} {
			rows := slices.DeleteFunc(slices.Clone(s.pictures), func(row audit.PictureRow) bool { return row.GroupName != g.of || row.Rank != rank })
			if len(rows) == 0 {
				continue
			}
			channel = rows[0].Channel
			f.Panels = append(f.Panels, picturePanel(s, rows, channel))
		}
	}
	if len(f.Panels) == 0 {
		return f, false
	}
	f.Caption = []string{fmt.Sprintf("Channel %s of the samples whose commutator error is the largest, in the middle and the smallest under the element with which the model commutes worst; table pictures has the other channels. Blue above the mean of x, red below; what a model that keeps the symmetry makes of g.x, f(g.x), is g.f(x); Δ, their difference, is drawn so many times as strong as is written. %s.", channel, capital(d.lastOf(g)))}
	return f, true
}

func picturePanel(s *series, rows []audit.PictureRow, channel string) Panel {
	kinds := []string{"x", "g.x", "f(g.x)", "g.f(x)"}
	cells := make([][][]float64, len(kinds))
	mean, n := 0.0, 0
	for i, kind := range kinds {
		at := slices.IndexFunc(rows, func(row audit.PictureRow) bool { return row.Kind == kind && row.Channel == channel })
		if at < 0 {
			continue // an output of other channels
		}
		cells[i] = rows[at].Cells()
		if i == 0 {
			for _, line := range cells[i] {
				for _, v := range line {
					mean += v
					n++
				}
			}
		}
	}
	mean /= float64(max(1, n))
	shifted := func(values [][]float64, by func(y, x int) float64) (of [][]float64, reach float64) {
		for y, line := range values {
			of = append(of, make([]float64, len(line)))
			for x := range line {
				of[y][x] = line[x] - by(y, x)
				if v := math.Abs(of[y][x]); finite(v) {
					reach = max(reach, v)
				}
			}
		}
		return of, reach
	}
	panel := Panel{Title: fmt.Sprintf("%s, %s: %s, commutator error %s", s.label, rows[0].Rank, rows[0].Element, Number(rows[0].CommutatorError)), Y: Axis{Low: 0, High: 1, Names: []string{}}}
	words := slices.Clone(kinds)
	strongest := 0.0
	pictures := make([]Picture, len(kinds))
	for i := range kinds {
		of, reach := shifted(cells[i], func(int, int) float64 { return mean })
		pictures[i] = Picture{At: float64(i), Values: of}
		strongest = max(strongest, reach)
	}
	for _, picture := range pictures {
		picture.Reach = strongest
		panel.Marks = append(panel.Marks, picture)
	}
	if expected, got := cells[3], cells[2]; len(expected) > 0 && len(expected) == len(got) && len(expected[0]) == len(got[0]) {
		of, reach := shifted(got, func(y, x int) float64 { return expected[y][x] })
		panel.Marks = append(panel.Marks, Picture{At: float64(len(kinds)), Values: of, Reach: reach})
		factor := "–"
		if reach > 0 {
			factor = Number(roundedTo(strongest/reach, 2))
		}
		words = append(words, "Δ ×"+factor)
	}
	panel.X = names("", words)
	return panel
}
