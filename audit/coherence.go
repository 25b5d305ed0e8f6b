package audit

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/symaudit/symaudit/internal/quantile"
	"github.com/symaudit/symaudit/orbits"
)

// AllElements names the row of a coherence table that takes a group's non-identity elements together.
const AllElements = "*"

// samples are what is summarised of an element, or of a group.
type samples struct {
	cosines, lows, highs []float64
	certified            bool // some cosine has bounds; the others are taken to be anything in [-1, 1]
	without              int  // pairs that have no cosine
	target, commutator   []float64
	broken               bool // of a group: its errors have no median, whatever these are
}

// summarised is an element of a group.
type summarised struct {
	name  string
	shift orbits.Vector
}

// summarised are the elements of an orbit, the identity first.
func (o *orbit) summarised() (all []summarised) {
	for _, e := range o.elements {
		all = append(all, summarised{e.Name(), e.Shift()})
	}
	return all
}

// Summarise replaces the rows of coherence by those that the rows of errors and influence make: of audits whose parts were made one by one
// (Auditor.AuditParts), they are those of Auditor.Audit. The rows of one moment, group, direction and lambda must all be there, in the order in which audits return
// them.
func (r *Records) Summarise() {
	type group struct {
		Moment
		name string
	}
	type series struct { // of influence
		group
		direction string
		relative  bool
		lambda    float64 // or its multiple of lambda_max
	}
	seriesOf := func(of group, direction string, relative *float64, lambda float64) series {
		if relative != nil {
			lambda = *relative
		}
		return series{of, direction, relative != nil, lambda}
	}
	var groups []group
	errors, elements := map[group][]ErrorRow{}, map[group][]summarised{}
	for _, row := range r.Errors {
		of := group{row.Moment, row.GroupName}
		if errors[of] == nil {
			groups = append(groups, of)
		}
		errors[of] = append(errors[of], row)
		element := summarised{row.Element, orbits.Vector{X: row.ShiftX, Y: row.ShiftY, Z: row.ShiftZ}}
		if !slices.Contains(elements[of], element) {
			elements[of] = append(elements[of], element)
		}
	}
	pairs, solved := map[series][]InfluenceRow{}, map[group][]series{}
	for _, row := range r.Influence {
		of := seriesOf(group{row.Moment, row.GroupName}, row.Direction, row.RelativeLambda, row.Lambda)
		if pairs[of] == nil {
			solved[of.group] = append(solved[of.group], of)
		}
		pairs[of] = append(pairs[of], row)
	}
	metrics := map[group]SolveRow{} // by which they were solved
	for _, row := range r.Solves {
		metrics[group{row.Moment, row.GroupName}] = row
	}
	r.Coherence = nil
	for _, of := range groups {
		if solved[of] == nil { // outputs alone were audited
			r.Coherence = append(r.Coherence, summarise(of.name, elements[of], CoherenceRow{Moment: of.Moment}, errors[of], nil)...)
		}
		for _, s := range solved[of] {
			base := CoherenceRow{Moment: of.Moment, Direction: s.direction, Metric: metrics[of].Metric, Estimator: metrics[of].Estimator}
			if lambda := s.lambda; s.relative {
				base.RelativeLambda = &lambda
			} else {
				base.Lambda = &lambda
			}
			r.Coherence = append(r.Coherence, summarise(of.name, elements[of], base, errors[of], pairs[s])...)
		}
	}
}

// summarise describes the cosines between x and g.x, if there are any, and the errors of a group, element by element and all
// together. pairs are those of the group at one damping, which base names.
func summarise(group string, elements []summarised, base CoherenceRow, errors []ErrorRow, pairs []InfluenceRow) []CoherenceRow {
	identity := elements[0].name
	of := map[string]*samples{AllElements: {}}
	for _, element := range elements {
		of[element.name] = &samples{}
	}
	for _, row := range pairs {
		if row.RowSample != row.ColSample {
			continue
		}
		of[row.Element].addCosine(row)
		if row.Element != identity {
			of[AllElements].addCosine(row)
		}
	}
	for _, row := range errors {
		of[row.Element].addErrors(row)
		if row.Element != identity {
			of[AllElements].addErrors(row)
		} else if !finite(row.TargetError) || !finite(row.CommutatorError) {
			of[AllElements].broken = true // the untransformed probes themselves: what holds of their copies alone would flatter
		}
	}
	describe := func(name string, shift orbits.Vector) CoherenceRow {
		row := base
		row.GroupName, row.Element = group, name
		row.ShiftZ, row.ShiftY, row.ShiftX = shift.Z, shift.Y, shift.X
		of[name].describe(&row)
		return row
	}
	rows := make([]CoherenceRow, 0, len(elements)+1)
	for _, element := range elements {
		rows = append(rows, describe(element.name, element.shift))
	}
	if len(elements) > 1 {
		all := describe(AllElements, orbits.Vector{})
		all.AsymmetryShare = asymmetryShare(errors)
		rows = append(rows, all)
	}
	return rows
}

// asymmetryShare is the median over samples of 1 - symmetrized error / mean target error over the orbit; nil where one is not finite.
func asymmetryShare(errors []ErrorRow) *float64 {
	target, symmetrized, elements := map[int32]float64{}, map[int32]float64{}, map[int32]float64{}
	for _, row := range errors {
		if row.SymmetrizedError == nil {
			return nil
		}
		symmetrized[row.Sample] = *row.SymmetrizedError
		target[row.Sample] += row.TargetError
		elements[row.Sample]++
	}
	var shares []float64
	for sample, sum := range target {
		share := 0.0 // of no error
		if sum != 0 {
			share = max(0, 1-symmetrized[sample]*elements[sample]/sum) // but for rounding
		}
		shares = append(shares, share)
	}
	_, median := finiteMedian(shares)
	return median
}

func (s *samples) addCosine(row InfluenceRow) {
	if row.Cosine == nil {
		s.without++
		return
	}
	low, high := -1.0, 1.0
	if row.CosineLow != nil && row.CosineHigh != nil {
		low, high, s.certified = *row.CosineLow, *row.CosineHigh, true
	}
	s.cosines, s.lows, s.highs = append(s.cosines, *row.Cosine), append(s.lows, low), append(s.highs, high)
}

func (s *samples) addErrors(row ErrorRow) {
	s.target = append(s.target, row.TargetError)
	s.commutator = append(s.commutator, row.CommutatorError)
}

// describe fills in the statistics; of no values there are none.
func (s *samples) describe(row *CoherenceRow) {
	row.NErrors = int32(len(s.target))
	row.NFiniteTargetErrors, row.MedianTargetError = finiteMedian(s.target)
	row.NFiniteCommutatorErrors, row.MedianCommutatorError = finiteMedian(s.commutator)
	if s.broken {
		row.MedianTargetError, row.MedianCommutatorError = nil, nil
	}
	row.N, row.NWithoutCosine = int32(len(s.cosines)), int32(s.without)
	if len(s.cosines) == 0 {
		return
	}
	mean := stat.Mean(s.cosines, nil)
	variance := stat.PopVariance(s.cosines, nil)
	negative := 0.0
	for _, cosine := range s.cosines {
		if cosine < 0 {
			negative++
		}
	}
	negative /= float64(len(s.cosines))
	row.Mean, row.Variance, row.NegativeFraction = &mean, &variance, &negative
	at := func(values []float64, level float64) *float64 {
		value := quantile.Of(values, level)
		return &value
	}
	row.Q05, row.Q25, row.Median = at(s.cosines, 0.05), at(s.cosines, 0.25), at(s.cosines, 0.5)
	row.Q75, row.Q95 = at(s.cosines, 0.75), at(s.cosines, 0.95)
	if s.certified {
		row.MedianLow, row.MedianHigh = at(s.lows, 0.5), at(s.highs, 0.5)
	}
	if s.certified && *row.MedianLow == -1 && *row.MedianHigh == 1 {
		row.MedianLow, row.MedianHigh = nil, nil
	}
}

func finite(value float64) bool { return !math.IsNaN(value) && !math.IsInf(value, 0) }

// finiteMedian counts the finite values, and returns the median if all are.
func finiteMedian(values []float64) (count int32, median *float64) {
	for _, value := range values {
		if finite(value) {
			count++
		}
	}
	if len(values) == 0 || int(count) < len(values) {
		return count, nil
	}
	middle := quantile.Of(values, 0.5)
	return count, &middle
}
