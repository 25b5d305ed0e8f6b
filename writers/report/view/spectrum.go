package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// spectrum draws the metric's eigenvalues, the largest first, as the last audits estimate them.
func (d *data) spectrum() (Figure, bool) {
	f := Figure{Name: "spectrum", Title: "Eigenvalues of the metric", Legend: d.modelLegend(true)}
	x, y := extent{log: true}, extent{log: true}
	var marks []Mark
	for _, s := range d.series {
		if len(s.spectrum) == 0 {
			continue
		}
		first := s.spectrum[0]
		rows := slices.DeleteFunc(slices.Clone(s.spectrum), func(row audit.SpectrumRow) bool {
			return row.GroupName != first.GroupName || row.Batch != first.Batch
		})
		slices.SortFunc(rows, func(a, b audit.SpectrumRow) int { return -cmp.Compare(a.RitzValue, b.RitzValue) })
		curve := Curve{Style: s.style}
		number := 0.0
		for _, row := range rows {
			number += row.Multiplicity
			curve.At, curve.Values = append(curve.At, number), append(curve.Values, row.RitzValue)
		}
		x.include(curve.At...)
		y.include(curve.Values...)
		marks = append(marks, curve)
	}
	if len(marks) == 0 {
		return f, false
	}
	f.Panels = []Panel{{Title: "Eigenvalues, the largest first", X: x.padded().axis("number of eigenvalues at least as large"), Y: y.padded().axis("eigenvalue"), Marks: marks}}
	f.Caption = []string{fmt.Sprintf("Ritz values of the first batch with the number of eigenvalues that they stand for, an estimate from random vectors, in the last audit of each model (%s). λ divides those above it, which decide the influence, from those below.", d.lastAudits()), d.effectiveDimensions()}
	return f, true
}

// effectiveDimensions says how many directions each model's last audit ties down more firmly than lambda.
func (d *data) effectiveDimensions() string {
	var all []string
	for _, s := range d.series {
		for _, row := range d.records.Solves {
			if row.EffectiveDimension != nil && row.EffectiveDimensionLow != nil && row.EffectiveDimensionHigh != nil && row.Step == s.step && s.wrote(row.Moment) {
				all = append(all, fmt.Sprintf("%s %s (%s to %s) at λ = %s", s.label, Number(*row.EffectiveDimension), Number(roundedDown(*row.EffectiveDimensionLow, 3)), Number(roundedUp(*row.EffectiveDimensionHigh, 3)), Number(row.Lambda)))
				break
			}
		}
	}
	if all == nil {
		return ""
	}
	return "Effective dimension, trace of η(η + λ)⁻¹, with bounds: " + strings.Join(all, "; ") + "."
}
