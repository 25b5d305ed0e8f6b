package view

import (
	"cmp"
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
		before := len(f.Panels)
		for _, rank := range []string{"worst", "median", "best"} {
			rows := slices.DeleteFunc(slices.Clone(s.pictures), func(row audit.PictureRow) bool { return row.GroupName != g.of || row.Rank != rank })
			if len(rows) == 0 {
				continue
			}
			channel = rows[0].Channel
			f.Panels = append(f.Panels, picturePanel(s, rows, channel))
		}
		f.Columns = max(f.Columns, len(f.Panels)-before) // a row for each model
	}
	if len(f.Panels) == 0 {
		return f, false
	}
	f.Caption = []string{fmt.Sprintf("Channel %s of the samples whose commutator error is the largest, in the middle and the smallest under the element with which the model commutes worst; table pictures has the other channels. Blue above the mean of x, red below; beside the colours stand the mean and how far from it the strongest are. What a model that keeps the symmetry makes of g.x, f(g.x), is g.f(x); Δ, their difference, is drawn so many times as strong as is written. %s.", channel, capital(d.lastOf(g)))}
	return f, true
}

func picturePanel(s *series, rows []audit.PictureRow, channel string) Panel {
	kinds := []string{"x", "g.x", "f(g.x)", "g.f(x)"}
	cells := make([][][]float64, len(kinds))
	for i, kind := range kinds {
		at := slices.IndexFunc(rows, func(row audit.PictureRow) bool { return row.Kind == kind && row.Channel == channel })
		if at >= 0 { // or else it is an output of other channels
			cells[i] = rows[at].Cells()
		}
	}
	mean, strongest := mean(cells[0]), 0.0
	pictures := make([]Picture, len(kinds))
	for i := range kinds {
		pictures[i] = Picture{X: float64(i), Values: less(cells[i], func(int, int) float64 { return mean })}
		strongest = max(strongest, magnitude(pictures[i].Values))
	}
	panel := Panel{Title: fmt.Sprintf("%s, %s: %s, commutator error %s", s.label, rows[0].Rank, rows[0].Element, Number(rows[0].CommutatorError)), Y: Axis{Low: -0.5, High: 0.5, Names: []string{}}}
	words := slices.Clone(kinds)
	for _, picture := range pictures {
		picture.Reach = strongest
		panel.Marks = append(panel.Marks, picture)
	}
	if difference := differences(cells[3], cells[2]); difference != nil {
		reach := magnitude(difference)
		panel.Marks = append(panel.Marks, Picture{X: float64(len(kinds)), Values: difference, Reach: reach})
		words = append(words, enlarged(strongest, reach))
	}
	panel.X = names("", words)
	panel.addScale(Scale{X: float64(len(words)), Middle: Number(mean), Reach: strongest})
	return panel
}

// rollouts shows held-out rollouts beside what is true: of each model those that end with the largest error, the one in the middle and the smallest.
func (d *data) rollouts() (Figure, bool) {
	f := Figure{Name: "rollouts", Title: "Held-out rollouts"}
	channel, lost := "", false
	for _, s := range d.series {
		before := len(f.Panels)
		for _, rank := range []string{"worst", "median", "best"} {
			var rows []audit.RolloutRow // by time
			for _, row := range s.rollouts {
				if row.Rank == rank && row.Channel == s.rollouts[0].Channel {
					rows, lost = append(rows, row), lost || !finite(row.RolloutError)
				}
			}
			if len(rows) > 0 {
				slices.SortStableFunc(rows, func(a, b audit.RolloutRow) int { return cmp.Compare(a.TimeIndex, b.TimeIndex) })
				channel = rows[0].Channel
				f.Panels = append(f.Panels, rolloutPictures(s, rows))
			}
		}
		f.Columns = max(f.Columns, len(f.Panels)-before)
	}
	if len(f.Panels) == 0 {
		return f, false
	}
	f.Caption = []string{
		fmt.Sprintf("Channel %s of the rollouts with the largest, the middle and the smallest error after the last step, of %s. Each has its family, its number in the data and that error above it; table rollouts has the other channels. Last audit of each model (%s).", channel, d.heldOutStates(), d.lastAudits()),
		"Blue above the mean of the initial state, red below; beside the colours stand the mean and how far from it the strongest are, which is the furthest that the truth goes at these times. A prediction may go further. Δ, prediction less truth, is drawn so many times as strong as is written.",
	}
	if lost {
		f.Caption = append(f.Caption, "Where a prediction is NaN, nothing is drawn.")
	}
	return f, true
}

// rolloutPictures are truth, prediction and difference, one below the other, at each time. The scale is the truth's, as a prediction may grow beyond all bounds.
func rolloutPictures(s *series, rows []audit.RolloutRow) Panel {
	const difference, prediction, truth = 0, 1, 2 // from below
	last := rows[len(rows)-1]
	initial, _ := rows[0].Cells()
	mean, strongest, furthest := mean(initial), 0.0, 0.0
	panel := Panel{Title: fmt.Sprintf("%s, %s: %s %d, rollout error %s", s.label, last.Rank, last.Class, last.Trajectory, Number(last.RolloutError))}
	var times []string
	var shown [][3][][]float64
	for _, row := range rows {
		state, predicted := row.Cells()
		ofMean := func(int, int) float64 { return mean }
		of := [3][][]float64{difference: differences(state, predicted), prediction: less(predicted, ofMean), truth: less(state, ofMean)}
		strongest, furthest = max(strongest, magnitude(of[truth])), max(furthest, magnitude(of[difference]))
		times, shown = append(times, fmt.Sprint(row.TimeIndex)), append(shown, of)
	}
	furthest = min(furthest, strongest)
	for i, of := range shown {
		for y, values := range of {
			scale := strongest
			if y == difference {
				scale = furthest
			}
			panel.Marks = append(panel.Marks, Picture{X: float64(i), Y: float64(y), Values: values, Reach: scale})
		}
	}
	panel.X = names("steps since the initial state", times)
	panel.Y = Axis{Low: -0.5, High: 2.5, Names: []string{enlarged(strongest, furthest), "prediction", "truth"}}
	panel.addScale(Scale{X: float64(len(times)), Y: (prediction + truth) / 2.0, Middle: Number(mean), Reach: strongest})
	panel.addScale(Scale{X: float64(len(times)), Y: difference, Middle: "0", Reach: furthest})
	return panel
}

// addScale makes room for a scale behind the pictures.
func (p *Panel) addScale(s Scale) {
	p.Marks = append(p.Marks, s)
	p.X.High = s.X + 0.4
}

// mean of a picture.
func mean(cells [][]float64) float64 {
	sum, n := 0.0, 0
	for _, line := range cells {
		for _, v := range line {
			sum += v
			n++
		}
	}
	return sum / float64(max(1, n))
}

// less takes something away from each cell.
func less(cells [][]float64, by func(y, x int) float64) (of [][]float64) {
	for y, line := range cells {
		of = append(of, make([]float64, len(line)))
		for x := range line {
			of[y][x] = line[x] - by(y, x)
		}
	}
	return of
}

// differences are how far a picture is from the one that is expected; nil where they are not of one size.
func differences(expected, got [][]float64) [][]float64 {
	if len(expected) == 0 || len(expected) != len(got) || len(expected[0]) != len(got[0]) {
		return nil
	}
	return less(got, func(y, x int) float64 { return expected[y][x] })
}

// magnitude is the largest finite one.
func magnitude(cells [][]float64) (largest float64) {
	for _, line := range cells {
		for _, v := range line {
			if v := math.Abs(v); finite(v) {
				largest = max(largest, v)
			}
		}
	}
	return largest
}

// enlarged says how many times as strong as the states a difference is drawn.
func enlarged(strongest, reach float64) string {
	if reach > 0 {
		return "Δ ×" + Number(roundedTo(strongest/reach, 2))
	}
	return "Δ ×–"
}
