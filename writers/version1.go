package writers

import (
	"math"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/solver"
)

// Runs of schema version 1 are read as if this version had written them, in two steps. Each row is converted for itself. What
// version 1 did not write in a row then comes from the other rows of its part, which are those of one audit. What is nowhere
// stays unknown: docs/format.md, "From version 1", says what.

// errorRow1, and the others below, are the rows of version 1. Those of table training have not changed.
type errorRow1 struct {
	audit.Moment
	Class            string   `parquet:"class"`
	Trajectory       int64    `parquet:"trajectory"`
	TimeIndex        int32    `parquet:"time_index"`
	GroupName        string   `parquet:"group_name"`
	Element          string   `parquet:"element"`
	ShiftY           float64  `parquet:"shift_y"`
	ShiftX           float64  `parquet:"shift_x"`
	TargetError      float64  `parquet:"target_error"`
	CommutatorError  float64  `parquet:"commutator_error"`
	IdentityError    float64  `parquet:"identity_error"`
	PersistenceError *float64 `parquet:"persistence_error,optional"`
}

func (old errorRow1) convert() audit.ErrorRow {
	return audit.ErrorRow{
		Moment: old.Moment, Class: old.Class, Trajectory: old.Trajectory, TimeIndex: old.TimeIndex,
		GroupName: old.GroupName, Element: old.Element, ShiftY: old.ShiftY, ShiftX: old.ShiftX,
		TargetError: old.TargetError, CommutatorError: old.CommutatorError, IdentityError: old.IdentityError,
		PersistenceError: old.PersistenceError,
	}
}

type influenceRow1 struct {
	audit.Moment
	Class           string   `parquet:"class"`
	Batch           int32    `parquet:"batch"`
	GroupName       string   `parquet:"group_name"`
	Element         string   `parquet:"element"`
	ShiftY          float64  `parquet:"shift_y"`
	ShiftX          float64  `parquet:"shift_x"`
	RowSample       int32    `parquet:"row_sample"`
	ColSample       int32    `parquet:"col_sample"`
	Lambda          float64  `parquet:"lambda"`
	Influence       float64  `parquet:"influence"`
	InfluenceLow    *float64 `parquet:"influence_low,optional"`
	InfluenceHigh   *float64 `parquet:"influence_high,optional"`
	FrobeniusScaled *float64 `parquet:"frobenius_scaled,optional"`
	Cosine          *float64 `parquet:"cosine,optional"`
	CosineLow       *float64 `parquet:"cosine_low,optional"`
	CosineHigh      *float64 `parquet:"cosine_high,optional"`
	Estimator       string   `parquet:"estimator"`
}

// convert leaves the samples' numbers as they are in their batch.
func (old influenceRow1) convert() audit.InfluenceRow {
	row := audit.InfluenceRow{
		Moment: old.Moment, Batch: old.Batch, GroupName: old.GroupName, Element: old.Element, ShiftY: old.ShiftY, ShiftX: old.ShiftX,
		RowSample: old.RowSample, RowClass: old.Class, ColSample: old.ColSample, Lambda: old.Lambda, Influence: old.Influence,
		InfluenceLow: old.InfluenceLow, InfluenceHigh: old.InfluenceHigh, FrobeniusScaled: old.FrobeniusScaled,
		Cosine: old.Cosine, CosineLow: old.CosineLow, CosineHigh: old.CosineHigh, Estimator: old.Estimator,
	}
	if old.InfluenceLow == nil && old.InfluenceHigh == nil && saysNothing(old.CosineLow, old.CosineHigh) {
		row.CosineLow, row.CosineHigh = nil, nil
	}
	return row
}

// saysNothing is true of the bounds -1 and 1, which version 1 wrote for a cosine where nothing was certified.
func saysNothing(low, high *float64) bool {
	return low != nil && high != nil && *low == -1 && *high == 1
}

type solveRow1 struct {
	audit.Moment
	GroupName       string   `parquet:"group_name"`
	Batch           int32    `parquet:"batch"`
	Metric          string   `parquet:"metric"`
	MetricScale     string   `parquet:"metric_scale"`
	Lambda          float64  `parquet:"lambda"`
	LambdaMax       float64  `parquet:"lambda_max"`
	DType           string   `parquet:"dtype"`
	Estimator       string   `parquet:"estimator"`
	RHS             int32    `parquet:"rhs"`
	BlockSize       int32    `parquet:"block_size"`
	Iterations      int32    `parquet:"iterations"`
	Products        int64    `parquet:"products"`
	SetupProducts   int64    `parquet:"setup_products"`
	MaxTrueResidual float64  `parquet:"max_true_residual"`
	MaxHalfWidth    *float64 `parquet:"max_half_width,optional"`
	Status          string   `parquet:"status"`
	Seconds         float64  `parquet:"seconds"`
}

func (old solveRow1) convert() audit.SolveRow {
	row := audit.SolveRow{
		Moment: old.Moment, GroupName: old.GroupName, Batch: old.Batch, Metric: old.Metric, MetricScale: old.MetricScale,
		DType: old.DType, Estimator: old.Estimator, RHS: old.RHS, Seconds: old.Seconds,
		Lambda: old.Lambda, LambdaMax: old.LambdaMax, BlockSize: old.BlockSize, Iterations: old.Iterations,
		Products: old.Products, SetupProducts: old.SetupProducts,
		MaxTrueResidual: &old.MaxTrueResidual, MaxHalfWidth: old.MaxHalfWidth,
	}
	if row.MaxHalfWidth != nil && !finite(*row.MaxHalfWidth) {
		row.MaxHalfWidth = nil
	}
	row.Status = status(old.Status)
	switch {
	case row.Status != solver.Converged:
		row.Explanation = &old.Status
	case old.Estimator == string(audit.Subspace):
		row.Status = solver.Uncertified // which version 1 had no word for
	}
	return row
}

// status finds the word for a sentence of version 1; it is empty for sentences of other programs.
func status(sentence string) solver.Status {
	if sentence == string(solver.Converged) {
		return solver.Converged
	}
	for _, known := range []struct {
		part   string
		status solver.Status
	}{
		{"the product limit was reached", solver.ProductLimit},
		{"the time limit was reached", solver.TimeLimit},
		{"the memory limit of", solver.MemoryLimit},
		{"are not symmetric", solver.Asymmetric},
		{"rounding", solver.Rounding},
	} {
		if strings.Contains(sentence, known.part) {
			return known.status
		}
	}
	return ""
}

type coherenceRow1 struct {
	audit.Moment
	GroupName             string   `parquet:"group_name"`
	Element               string   `parquet:"element"`
	ShiftY                float64  `parquet:"shift_y"`
	ShiftX                float64  `parquet:"shift_x"`
	Lambda                float64  `parquet:"lambda"`
	N                     int32    `parquet:"n"`
	Mean                  *float64 `parquet:"mean,optional"`
	Median                *float64 `parquet:"median,optional"`
	MedianLow             *float64 `parquet:"median_low,optional"`
	MedianHigh            *float64 `parquet:"median_high,optional"`
	Q05                   *float64 `parquet:"q05,optional"`
	Q25                   *float64 `parquet:"q25,optional"`
	Q75                   *float64 `parquet:"q75,optional"`
	Q95                   *float64 `parquet:"q95,optional"`
	Variance              *float64 `parquet:"variance,optional"`
	NegativeFraction      *float64 `parquet:"negative_fraction,optional"`
	MedianTargetError     float64  `parquet:"median_target_error"`
	MedianCommutatorError float64  `parquet:"median_commutator_error"`
}

func (old coherenceRow1) convert() audit.CoherenceRow {
	row := audit.CoherenceRow{
		Moment: old.Moment, GroupName: old.GroupName, Element: old.Element, ShiftY: old.ShiftY, ShiftX: old.ShiftX,
		N: old.N, Mean: old.Mean, Median: old.Median, MedianLow: old.MedianLow, MedianHigh: old.MedianHigh,
		Q05: old.Q05, Q25: old.Q25, Q75: old.Q75, Q95: old.Q95, Variance: old.Variance, NegativeFraction: old.NegativeFraction,
		MedianTargetError: &old.MedianTargetError, MedianCommutatorError: &old.MedianCommutatorError,
	}
	if old.Lambda != 0 { // which stood for an audit of outputs alone
		row.Lambda = &old.Lambda
	}
	if saysNothing(old.MedianLow, old.MedianHigh) {
		row.MedianLow, row.MedianHigh = nil, nil
	}
	return row
}

// converted reads the rows of a version 1 file.
func converted[Old interface{ convert() Row }, Row any](file *parquet.File) ([]Row, error) {
	old, err := readRows[Old](file)
	rows := make([]Row, len(old))
	for i := range old {
		rows[i] = old[i].convert()
	}
	return rows, err
}

// audited names what one audit found of a group.
type audited struct {
	moment audit.Moment
	group  string
}

// completeVersion1 fills in what the rows of a part of version 1 do not say of themselves.
func completeVersion1(part *audit.Records) {
	batchSizes := map[audited]int32{}
	for _, row := range part.Influence {
		key := audited{row.Moment, row.GroupName}
		batchSizes[key] = max(batchSizes[key], row.RowSample+1)
	}
	numberErrors(part.Errors, batchSizes)
	numberPairs(part.Influence, part.Errors, batchSizes)
	describedBy := map[audited]audit.SolveRow{}
	for i := range part.Solves {
		row := &part.Solves[i]
		key := audited{row.Moment, row.GroupName}
		row.BatchSize = batchSizes[key]
		first, known := describedBy[key]
		if !known {
			first = *row
			describedBy[key] = first
		}
		if row.Lambda > first.Lambda {
			row.MaxTrueResidual = nil // it repeats that of the smallest lambda, the first
		}
	}
	for i := range part.Coherence {
		row := &part.Coherence[i]
		solve := describedBy[audited{row.Moment, row.GroupName}]
		row.Metric, row.Estimator = solve.Metric, solve.Estimator
		countSamples(row, part)
	}
}

// numberErrors counts the samples of each element: they are in order.
func numberErrors(rows []audit.ErrorRow, batchSizes map[audited]int32) {
	type element struct {
		audited
		name string
	}
	next := map[element]int32{}
	for i := range rows {
		row := &rows[i]
		key := element{audited{row.Moment, row.GroupName}, row.Element}
		row.Sample, row.BatchSize = next[key], batchSizes[key.audited]
		next[key]++
		if row.BatchSize > 0 {
			row.Batch = row.Sample / row.BatchSize
		}
	}
}

// numberPairs counts samples over all batches and says which they are.
func numberPairs(pairs []audit.InfluenceRow, errors []audit.ErrorRow, batchSizes map[audited]int32) {
	type sample struct {
		audited
		index int32
	}
	known := map[sample]*audit.ErrorRow{}
	for i := range errors {
		row := &errors[i]
		known[sample{audited{row.Moment, row.GroupName}, row.Sample}] = row
	}
	for i := range pairs {
		row := &pairs[i]
		key := audited{row.Moment, row.GroupName}
		row.BatchSize = batchSizes[key]
		row.RowSample += row.Batch * row.BatchSize
		row.ColSample += row.Batch * row.BatchSize
		if x := known[sample{key, row.RowSample}]; x != nil {
			row.RowTrajectory, row.RowTimeIndex = x.Trajectory, x.TimeIndex
		}
		if gx := known[sample{key, row.ColSample}]; gx != nil {
			row.ColClass, row.ColTrajectory, row.ColTimeIndex = gx.Class, gx.Trajectory, gx.TimeIndex
		}
	}
}

// countSamples fills in how many values there are behind a summary; an error that is not finite leaves no median.
func countSamples(row *audit.CoherenceRow, part *audit.Records) {
	const identity = "e"
	covers := func(at audit.Moment, group, element string) bool {
		return at == row.Moment && group == row.GroupName &&
			(element == row.Element || row.Element == audit.AllElements && element != identity)
	}
	for _, pair := range part.Influence {
		if pair.Cosine == nil && pair.RowSample == pair.ColSample && row.Lambda != nil && pair.Lambda == *row.Lambda &&
			covers(pair.Moment, pair.GroupName, pair.Element) {
			row.NWithoutCosine++
		}
	}
	for _, one := range part.Errors {
		if !covers(one.Moment, one.GroupName, one.Element) {
			continue
		}
		row.NErrors++
		if finite(one.TargetError) {
			row.NFiniteTargetErrors++
		}
		if finite(one.CommutatorError) {
			row.NFiniteCommutatorErrors++
		}
	}
	if row.NFiniteTargetErrors < row.NErrors || !finite(*row.MedianTargetError) {
		row.MedianTargetError = nil
	}
	if row.NFiniteCommutatorErrors < row.NErrors || !finite(*row.MedianCommutatorError) {
		row.MedianCommutatorError = nil
	}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
