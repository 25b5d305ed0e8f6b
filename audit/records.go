package audit

// Moment says when and on what a row was measured. It leads every table.
type Moment struct {
	RunID   string  `parquet:"run_id"`
	Attempt int32   `parquet:"attempt"` // 1 for the first process that wrote to the run, one more at each resume
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

// ErrorRow is a probe sample under a group element. Errors are SMSE: dimensionless, a mean over grid and channels.
type ErrorRow struct {
	Moment
	Class            string   `parquet:"class"`
	Trajectory       int64    `parquet:"trajectory"`
	TimeIndex        int32    `parquet:"time_index"`
	GroupName        string   `parquet:"group_name"`
	Element          string   `parquet:"element"`
	ShiftY           float64  `parquet:"shift_y"` // pixels
	ShiftX           float64  `parquet:"shift_x"` // pixels
	TargetError      float64  `parquet:"target_error"`
	CommutatorError  float64  `parquet:"commutator_error"`
	IdentityError    float64  `parquet:"identity_error"`
	PersistenceError *float64 `parquet:"persistence_error,optional"` // of a model that maps states to states of the same field
}

// InfluenceRow is a pair: the row sample at x, the column sample at g.x, both of one batch.
//
// Pointers are null where a value does not exist: a sample whose gradient vanishes has no cosine, and an estimator that
// certifies nothing has no interval.
type InfluenceRow struct {
	Moment
	Class           string   `parquet:"class"` // of the row sample
	Batch           int32    `parquet:"batch"`
	GroupName       string   `parquet:"group_name"`
	Element         string   `parquet:"element"`
	ShiftY          float64  `parquet:"shift_y"`
	ShiftX          float64  `parquet:"shift_x"`
	RowSample       int32    `parquet:"row_sample"` // index in the batch
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

// SolveRow is one solve with chi = eta + lambda I.
type SolveRow struct {
	Moment
	GroupName       string   `parquet:"group_name"`
	Batch           int32    `parquet:"batch"`
	Metric          string   `parquet:"metric"`       // "ntk"
	MetricScale     string   `parquet:"metric_scale"` // "mean" or "sum"
	Lambda          float64  `parquet:"lambda"`
	LambdaMax       float64  `parquet:"lambda_max"` // largest eigenvalue of eta, estimated
	DType           string   `parquet:"dtype"`
	Estimator       string   `parquet:"estimator"`
	RHS             int32    `parquet:"rhs"` // right-hand sides
	BlockSize       int32    `parquet:"block_size"`
	Iterations      int32    `parquet:"iterations"`
	Products        int64    `parquet:"products"`
	SetupProducts   int64    `parquet:"setup_products"`
	SketchRank      int32    `parquet:"sketch_rank"`       // of what was recycled; 0 from scratch
	MaxTrueResidual float64  `parquet:"max_true_residual"` // relative, recomputed after the solve
	MaxHalfWidth    *float64 `parquet:"max_half_width,optional"`
	Status          string   `parquet:"status"`
	Seconds         float64  `parquet:"seconds"`
}

// CoherenceRow summarises one element in one audit; element "*" is the group's non-identity elements together.
//
// The statistics are of the two-sided cosine between x and g.x over samples; null when no sample has a cosine. MedianLow
// and MedianHigh enclose the median of the exact cosines: they are the medians of the lower and of the upper bounds.
type CoherenceRow struct {
	Moment
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

// Records is all that one audit found, with the training steps logged since the audit before it.
type Records struct {
	Training  []TrainingRow
	Errors    []ErrorRow
	Influence []InfluenceRow
	Solves    []SolveRow
	Coherence []CoherenceRow
}

// Summary is the coherence of a whole group at the smallest lambda, nil if the group was not audited.
func (r *Records) Summary(group string) *CoherenceRow {
	for i := range r.Coherence {
		if row := &r.Coherence[i]; row.GroupName == group && row.Element == AllElements {
			return row // lambdas ascend
		}
	}
	return nil
}

// Sink keeps records. After Write has returned nil they survive the end of the process; after an error nothing of
// them is visible to a reader. RunID and Attempt of every row are the sink's to fill in.
type Sink interface {
	Write(records *Records) error
}
