package audit

import (
	"slices"

	"github.com/symaudit/symaudit/solver"
)

// Moment says when and on what a row was measured. It leads every table.
type Moment struct {
	RunID   string  `parquet:"run_id"`
	Attempt int32   `parquet:"attempt"` // 1 at first, one more when the run is resumed, or a training goes back to an earlier step
	Model   string  `parquet:"model"`
	Seed    int64   `parquet:"seed"`
	Step    int64   `parquet:"step"`  // optimizer steps done
	Epoch   float64 `parquet:"epoch"` // epochs done; a fraction inside an epoch
}

// TrainingRow is a logged training step.
type TrainingRow struct {
	Moment
	Loss         float64 `parquet:"loss"` // batch mean of the training loss
	LearningRate float64 `parquet:"learning_rate"`
	StepSeconds  float64 `parquet:"step_seconds"`
}

// ErrorRow is a probe sample under a group element. Errors are dimensionless: SMSE of states; of an invariant output the loss
// and the relative change (Builder.WithInvariantOutput). They are not finite where the model's output is not.
type ErrorRow struct {
	Moment
	Sample           int32    `parquet:"sample"` // index among the group's probes
	Class            string   `parquet:"class"`
	Trajectory       int64    `parquet:"trajectory"`
	TimeIndex        int32    `parquet:"time_index"`
	Batch            int32    `parquet:"batch"`
	BatchSize        int32    `parquet:"batch_size"`
	GroupName        string   `parquet:"group_name"`
	Element          string   `parquet:"element"`
	ShiftZ           float64  `parquet:"shift_z,optional"` // pixels; null where it is zero, as in states of fewer axes
	ShiftY           float64  `parquet:"shift_y"`          // pixels
	ShiftX           float64  `parquet:"shift_x"`          // pixels
	TargetError      float64  `parquet:"target_error"`
	CommutatorError  float64  `parquet:"commutator_error"`
	IdentityError    float64  `parquet:"identity_error"`
	PersistenceError *float64 `parquet:"persistence_error,optional"` // of a model that maps states to states of the same field
	SymmetrizedError *float64 `parquet:"symmetrized_error,optional"` // of the sample's predictions averaged over the group: SMSE of the mean of g^-1.f(g.x); of groups that move values about
}

// InfluenceRow is a pair: the row sample at x, the column sample at g.x, both of one batch. Samples are numbered among the
// group's probes, as in ErrorRow.
//
// Pointers are null where a value does not exist: a sample whose gradient vanishes has no cosine, and where nothing is
// certified there is no bound.
type InfluenceRow struct {
	Moment
	Batch               int32    `parquet:"batch"`
	BatchSize           int32    `parquet:"batch_size"`
	GroupName           string   `parquet:"group_name"`
	Direction           string   `parquet:"direction,optional"` // whose gradient: "loss", "kernel", ...; null in files of before there was a choice, of the loss
	Element             string   `parquet:"element"`
	ShiftZ              float64  `parquet:"shift_z,optional"`
	ShiftY              float64  `parquet:"shift_y"`
	ShiftX              float64  `parquet:"shift_x"`
	RowSample           int32    `parquet:"row_sample"`
	RowClass            string   `parquet:"row_class"`
	RowTrajectory       int64    `parquet:"row_trajectory"`
	RowTimeIndex        int32    `parquet:"row_time_index"`
	ColSample           int32    `parquet:"col_sample"`
	ColClass            string   `parquet:"col_class"`
	ColTrajectory       int64    `parquet:"col_trajectory"`
	ColTimeIndex        int32    `parquet:"col_time_index"`
	RelativeLambda      *float64 `parquet:"relative_lambda,optional"` // the multiple of lambda_max that was asked for; nil where lambda was
	Lambda              float64  `parquet:"lambda"`
	Influence           float64  `parquet:"influence"`
	InfluenceLow        *float64 `parquet:"influence_low,optional"`
	InfluenceHigh       *float64 `parquet:"influence_high,optional"`
	FrobeniusScaled     *float64 `parquet:"frobenius_scaled,optional"`
	FrobeniusScaledLow  *float64 `parquet:"frobenius_scaled_low,optional"`
	FrobeniusScaledHigh *float64 `parquet:"frobenius_scaled_high,optional"`
	Cosine              *float64 `parquet:"cosine,optional"`
	CosineLow           *float64 `parquet:"cosine_low,optional"`
	CosineHigh          *float64 `parquet:"cosine_high,optional"`
	Estimator           string   `parquet:"estimator"`
}

// SolveRow is one solve with chi = eta + lambda I, for the gradients of one batch of a group at one lambda.
type SolveRow struct {
	Moment
	GroupName            string        `parquet:"group_name"`
	Direction            string        `parquet:"direction,optional"` // whose gradient: "loss", "kernel", ...; null in files of before there was a choice, of the loss
	Batch                int32         `parquet:"batch"`
	BatchSize            int32         `parquet:"batch_size"`
	Metric               string        `parquet:"metric"`       // "ntk"
	MetricScale          string        `parquet:"metric_scale"` // "mean" or "sum"
	RelativeLambda       *float64      `parquet:"relative_lambda,optional"`
	DType                string        `parquet:"dtype"`
	Estimator            string        `parquet:"estimator"`
	RHS                  int32         `parquet:"rhs"` // right-hand sides
	Lambda               float64       `parquet:"lambda"`
	LambdaMax            float64       `parquet:"lambda_max"` // largest eigenvalue of eta, from below
	BlockSize            int32         `parquet:"block_size"` // right-hand sides solved together
	Iterations           int32         `parquet:"iterations"`
	Products             int64         `parquet:"products"` // set-up excluded; of several lambdas the smallest has them
	SetupProducts        int64         `parquet:"setup_products"`
	MaxTrueResidual      *float64      `parquet:"max_true_residual,optional"`      // relative, recomputed after the solve; nil where it was not
	MaxHalfWidth         *float64      `parquet:"max_half_width,optional"`         // of a cosine's interval; nil where nothing is certified
	ProductError         *float64      `parquet:"product_error,optional"`          // of a vector of norm 1 that intervals allow for, relative to LambdaMax, of a factor to its root; nil where nothing can be certified
	ProductErrorMeasured *float64      `parquet:"product_error_measured,optional"` // largest measured against float64; nil where none was
	GradientError        *float64      `parquet:"gradient_error,optional"`         // that intervals allow for, relative to the largest gradient
	Status               solver.Status `parquet:"status"`
	Explanation          *string       `parquet:"explanation,optional"` // what was not reached and what to do; nil if converged
	Seconds              float64       `parquet:"seconds"`
}

// set fills in what the solver found.
func (row *SolveRow) set(s solver.Statistics) {
	row.Lambda, row.LambdaMax, row.BlockSize, row.Iterations = s.Lambda, s.LambdaMax, s.BlockSize, s.Iterations
	row.Products, row.SetupProducts = s.Products, s.SetupProducts
	row.MaxTrueResidual, row.MaxHalfWidth, row.Status, row.Explanation = s.MaxTrueResidual, s.MaxHalfWidth, s.Status, s.Explanation
	row.ProductError = s.ProductError
}

// CoherenceRow summarises one element in one audit at one damping; element "*" is the group's non-identity elements together.
//
// The statistics are of the two-sided cosine between x and g.x over samples; null when no sample has a cosine. MedianLow
// and MedianHigh enclose the median of the exact cosines: they are the medians of the lower and of the upper bounds. An error
// has no median where one of its values is not finite: what could be said of the others would flatter the model.
//
// The damping is RelativeLambda, of whose multiples of lambda_max each batch has its own, or Lambda, the same for all; the other
// is nil, and both are in an audit of outputs alone.
type CoherenceRow struct {
	Moment
	GroupName               string   `parquet:"group_name"`
	Direction               string   `parquet:"direction,optional"` // whose gradient: "loss", "kernel", ...; null in files of before there was a choice, of the loss
	Element                 string   `parquet:"element"`
	ShiftZ                  float64  `parquet:"shift_z,optional"`
	ShiftY                  float64  `parquet:"shift_y"`
	ShiftX                  float64  `parquet:"shift_x"`
	Metric                  string   `parquet:"metric,optional"`
	Estimator               string   `parquet:"estimator,optional"`
	RelativeLambda          *float64 `parquet:"relative_lambda,optional"`
	Lambda                  *float64 `parquet:"lambda,optional"`
	N                       int32    `parquet:"n"`                // cosines
	NWithoutCosine          int32    `parquet:"n_without_cosine"` // pairs of x and g.x that have none
	Mean                    *float64 `parquet:"mean,optional"`
	Median                  *float64 `parquet:"median,optional"`
	MedianLow               *float64 `parquet:"median_low,optional"`
	MedianHigh              *float64 `parquet:"median_high,optional"`
	Q05                     *float64 `parquet:"q05,optional"`
	Q25                     *float64 `parquet:"q25,optional"`
	Q75                     *float64 `parquet:"q75,optional"`
	Q95                     *float64 `parquet:"q95,optional"`
	Variance                *float64 `parquet:"variance,optional"`
	NegativeFraction        *float64 `parquet:"negative_fraction,optional"`
	NErrors                 int32    `parquet:"n_errors"` // values of each error
	NFiniteTargetErrors     int32    `parquet:"n_finite_target_errors"`
	NFiniteCommutatorErrors int32    `parquet:"n_finite_commutator_errors"`
	MedianTargetError       *float64 `parquet:"median_target_error,optional"`
	MedianCommutatorError   *float64 `parquet:"median_commutator_error,optional"`
	AsymmetryShare          *float64 `parquet:"asymmetry_share,optional"` // of element "*": median share of a sample's mean target error over the orbit that averaging its predictions takes away
}

// Records is all that one audit found, with the training steps logged since the audit before it.
type Records struct {
	Training  []TrainingRow
	Errors    []ErrorRow
	Influence []InfluenceRow
	Solves    []SolveRow
	Coherence []CoherenceRow
}

// Summaries are the coherence of each group as a whole, in each direction, at its smallest damping: what monitors and headlines show.
func (r *Records) Summaries() []*CoherenceRow {
	var all []*CoherenceRow
	for i := range r.Coherence {
		row := &r.Coherence[i]
		known := func(other *CoherenceRow) bool {
			return other.GroupName == row.GroupName && other.Direction == row.Direction
		}
		if row.Element == AllElements && !slices.ContainsFunc(all, known) {
			all = append(all, row) // dampings ascend
		}
	}
	return all
}

// Summary is that of one group, in the first direction of its audit, which is the loss where none was chosen; nil if it was not audited.
func (r *Records) Summary(group string) *CoherenceRow {
	for _, row := range r.Summaries() {
		if row.GroupName == group {
			return row
		}
	}
	return nil
}

// Sink keeps records. After Write has returned nil they survive the end of the process; after an error nothing of
// them is visible to a reader. RunID and Attempt of every row are the sink's to fill in.
type Sink interface {
	Write(records *Records) error
}
