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

// EvaluationRow is a state of a held-out trajectory, predicted in two ways: one step ahead, from the state before it, and by a rollout, which carries the prediction on from
// the trajectory's initial state. An Auditor makes none: a training that knows its trajectories adds them. Errors are SMSE, and not finite where a rollout has
// grown beyond all bounds.
type EvaluationRow struct {
	Moment
	Split                   string  `parquet:"split"`  // "validation" or "test"
	Sample                  int32   `parquet:"sample"` // index of the trajectory among those that are evaluated
	Class                   string  `parquet:"class"`
	Trajectory              int64   `parquet:"trajectory"`
	TimeIndex               int32   `parquet:"time_index"`                 // of the state that is predicted: 1 is the first after the initial state
	OneStepError            float64 `parquet:"one_step_error"`             // of f(x_{t-1}) against x_t
	OneStepPersistenceError float64 `parquet:"one_step_persistence_error"` // of x_{t-1} against x_t
	RolloutError            float64 `parquet:"rollout_error"`              // of f applied t times to x_0, against x_t
	RolloutPersistenceError float64 `parquet:"rollout_persistence_error"`  // of x_0 against x_t
}

// RolloutRow has two pictures of one channel of a state: what is true of a held-out trajectory, and what a rollout predicts for it. There are some of up to three
// trajectories, those whose rollouts end with the smallest error, the one in the middle and the largest, at a few times. At time index 0, where a rollout
// begins, both are the same. An Auditor makes none, as of EvaluationRow.
type RolloutRow struct {
	Moment
	Split        string  `parquet:"split"`
	Sample       int32   `parquet:"sample"` // as in EvaluationRow
	Class        string  `parquet:"class"`
	Trajectory   int64   `parquet:"trajectory"`
	TimeIndex    int32   `parquet:"time_index"`
	Rank         string  `parquet:"rank"`          // "best", "median" or "worst", by the error at the last time
	RolloutError float64 `parquet:"rollout_error"` // of the whole state, as in EvaluationRow; 0 where the rollout begins
	Channel      string  `parquet:"channel"`       // of the field
	Height       int32   `parquet:"height"`
	Width        int32   `parquet:"width"`
	Truth        []byte  `parquet:"truth"`      // values as those of PictureRow
	Prediction   []byte  `parquet:"prediction"` // as Truth
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
	Leakage             *float64 `parquet:"leakage,optional"` // share of |gradient at g.x|^2 that lambda divides rather than the metric; nil where nothing is certified
	LeakageLow          *float64 `parquet:"leakage_low,optional"`
	LeakageHigh         *float64 `parquet:"leakage_high,optional"`
	Estimator           string   `parquet:"estimator"`
}

// SolveRow is one solve with chi = eta + lambda I, for the gradients of one batch of a group at one lambda.
type SolveRow struct {
	Moment
	GroupName              string        `parquet:"group_name"`
	Direction              string        `parquet:"direction,optional"` // whose gradient: "loss", "kernel", ...; null in files of before there was a choice, of the loss
	Batch                  int32         `parquet:"batch"`
	BatchSize              int32         `parquet:"batch_size"`
	Metric                 string        `parquet:"metric"`       // "ntk"
	MetricScale            string        `parquet:"metric_scale"` // "mean" or "sum"
	RelativeLambda         *float64      `parquet:"relative_lambda,optional"`
	DType                  string        `parquet:"dtype"`
	Estimator              string        `parquet:"estimator"`
	Parameters             *int64        `parquet:"parameters,optional"` // trainable ones of the model: the length of a gradient; nil in files of before it was noted
	RHS                    int32         `parquet:"rhs"`                 // right-hand sides
	Lambda                 float64       `parquet:"lambda"`
	LambdaMax              float64       `parquet:"lambda_max"` // largest eigenvalue of eta, from below
	BlockSize              int32         `parquet:"block_size"` // right-hand sides solved together
	Iterations             int32         `parquet:"iterations"`
	Products               int64         `parquet:"products"` // set-up excluded; of several lambdas the smallest has them
	SetupProducts          int64         `parquet:"setup_products"`
	MaxTrueResidual        *float64      `parquet:"max_true_residual,optional"`      // relative, recomputed after the solve; nil where it was not
	MaxHalfWidth           *float64      `parquet:"max_half_width,optional"`         // of a cosine's interval; nil where nothing is certified
	ProductError           *float64      `parquet:"product_error,optional"`          // of a vector of norm 1 that intervals allow for, relative to LambdaMax, of a factor to its root; nil where nothing can be certified
	ProductErrorMeasured   *float64      `parquet:"product_error_measured,optional"` // largest measured against float64; nil where none was
	GradientError          *float64      `parquet:"gradient_error,optional"`         // that intervals allow for, relative to the largest gradient
	EffectiveDimension     *float64      `parquet:"effective_dimension,optional"`    // trace of eta (eta + lambda)^-1, of Builder.WithSpectrum
	EffectiveDimensionLow  *float64      `parquet:"effective_dimension_low,optional"`
	EffectiveDimensionHigh *float64      `parquet:"effective_dimension_high,optional"`
	Status                 solver.Status `parquet:"status"`
	Explanation            *string       `parquet:"explanation,optional"` // what was not reached and what to do; nil if converged
	Seconds                float64       `parquet:"seconds"`
}

// LayerRow is what the parameters of one layer contribute to the influence of a sample x on its moved copy g.x: the sum over these parameters of gradient at g.x times what a
// step on x moves, (eta + lambda)^-1 of the gradient at x. The shares of all variables sum to that of the layer "/", which is the influence; so
// do those within a scope. The share of a layer may be negative.
type LayerRow struct {
	Moment
	GroupName       string   `parquet:"group_name"`
	Direction       string   `parquet:"direction"`
	Element         string   `parquet:"element"`
	Batch           int32    `parquet:"batch"`
	Sample          int32    `parquet:"sample"`
	Layer           string   `parquet:"layer"`      // path of a variable, "/unet/input/weights", or of a scope, which ends in a slash
	Kind            string   `parquet:"kind"`       // "variable", or "scope", which takes all variables below it together
	Parameters      int64    `parquet:"parameters"` // trainable ones in it
	RelativeLambda  *float64 `parquet:"relative_lambda,optional"`
	Lambda          float64  `parquet:"lambda"`
	Influence       float64  `parquet:"influence"`
	InfluenceLow    float64  `parquet:"influence_low"`
	InfluenceHigh   float64  `parquet:"influence_high"`
	InfluenceX      float64  `parquet:"influence_x"` // the same of x on itself
	InfluenceXLow   float64  `parquet:"influence_x_low"`
	InfluenceXHigh  float64  `parquet:"influence_x_high"`
	InfluenceGX     float64  `parquet:"influence_gx"` // the same of g.x on itself
	InfluenceGXLow  float64  `parquet:"influence_gx_low"`
	InfluenceGXHigh float64  `parquet:"influence_gx_high"`
}

// SpectrumRow is a Ritz value of the metric of a batch, with the number of eigenvalues that it stands for: an estimate from random vectors, by which the sum of
// multiplicity times f(ritz_value) is that of f over the metric's eigenvalues for smooth f. Values at the level of rounding are left out. Where
// several batches share a metric, they are with the first.
type SpectrumRow struct {
	Moment
	GroupName    string  `parquet:"group_name"`
	Batch        int32   `parquet:"batch"`
	RitzValue    float64 `parquet:"ritz_value"`
	Multiplicity float64 `parquet:"multiplicity"`
}

// LocalErrorRow is a probe sample under an infinitesimal symmetry of a group: the commutator error under the element g(t) over t^2, as t goes to 0. It is in the unit of the
// commutator error per squared unit of t: pixels of a translation, velocity of a boost, the logarithm of a factor.
type LocalErrorRow struct {
	Moment
	Sample     int32   `parquet:"sample"`
	Class      string  `parquet:"class"`
	Trajectory int64   `parquet:"trajectory"`
	TimeIndex  int32   `parquet:"time_index"`
	GroupName  string  `parquet:"group_name"`
	Generator  string  `parquet:"generator"` // "translation_x", "boost_y", "scaling"
	LocalError float64 `parquet:"local_error"`
}

// PictureRow is a channel of a probe state or of an output: of the samples that commute best, in the middle and worst with the element that the model commutes worst
// with.
type PictureRow struct {
	Moment
	GroupName       string  `parquet:"group_name"`
	Element         string  `parquet:"element"`
	Rank            string  `parquet:"rank"` // "best", "median" or "worst", by the commutator error
	Sample          int32   `parquet:"sample"`
	Class           string  `parquet:"class"`
	CommutatorError float64 `parquet:"commutator_error"`
	Kind            string  `parquet:"kind"`    // "x", "g.x", "f(g.x)" or "g.f(x)"
	Channel         string  `parquet:"channel"` // of the field
	Height          int32   `parquet:"height"`
	Width           int32   `parquet:"width"`
	Values          []byte  `parquet:"values"` // float32, little-endian, [height, width]: means over blocks of cells where the state has more than 64 along an axis
}

// set fills in what the solver found.
func (row *SolveRow) set(s solver.Statistics) {
	row.Lambda, row.LambdaMax, row.BlockSize, row.Iterations = s.Lambda, s.LambdaMax, s.BlockSize, s.Iterations
	row.Products, row.SetupProducts = s.Products, s.SetupProducts
	row.MaxTrueResidual, row.MaxHalfWidth, row.Status, row.Explanation = s.MaxTrueResidual, s.MaxHalfWidth, s.Status, s.Explanation
	row.ProductError = s.ProductError
}

// Decisions about a run of the training loop, as DecisionRow names them.
const (
	Finished    = "finished"    // it made all its steps
	Stopped     = "stopped"     // a stop rule was met
	Interrupted = "interrupted" // its context was done
)

// DecisionRow is how a run of the training loop ended, at its last step. A loop may run several times; one that was killed, or ended with an error, has none.
type DecisionRow struct {
	Moment
	Decision    string   `parquet:"decision"`             // Finished, Stopped or Interrupted
	Explanation *string  `parquet:"explanation,optional"` // which rule was met, with its value, threshold, step and epoch, or what interrupted; nil where the run finished
	Monitor     *string  `parquet:"monitor,optional"`     // of the first stop rule; nil without rules
	BestStep    *int64   `parquet:"best_step,optional"`   // of the audit that is best by that rule; nil before there is one
	BestValue   *float64 `parquet:"best_value,optional"`  // its value
	KeptStep    int64    `parquet:"kept_step"`            // of the weights that the model was left with: the best audit's where these were restored
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
	Training    []TrainingRow
	Decisions   []DecisionRow
	Evaluation  []EvaluationRow
	Rollouts    []RolloutRow
	Errors      []ErrorRow
	LocalErrors []LocalErrorRow
	Influence   []InfluenceRow
	Solves      []SolveRow
	Layers      []LayerRow
	Spectrum    []SpectrumRow
	Pictures    []PictureRow
	Coherence   []CoherenceRow
}

// Moments are those of all rows, to be read or changed.
func (r *Records) Moments() (all []*Moment) {
	all = momentsOf(all, r.Training, func(row *TrainingRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Decisions, func(row *DecisionRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Evaluation, func(row *EvaluationRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Rollouts, func(row *RolloutRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Errors, func(row *ErrorRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.LocalErrors, func(row *LocalErrorRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Influence, func(row *InfluenceRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Solves, func(row *SolveRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Layers, func(row *LayerRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Spectrum, func(row *SpectrumRow) *Moment { return &row.Moment })
	all = momentsOf(all, r.Pictures, func(row *PictureRow) *Moment { return &row.Moment })
	return momentsOf(all, r.Coherence, func(row *CoherenceRow) *Moment { return &row.Moment })
}

func momentsOf[Row any](all []*Moment, rows []Row, moment func(*Row) *Moment) []*Moment {
	for i := range rows {
		all = append(all, moment(&rows[i]))
	}
	return all
}

// Add appends the rows of other.
func (r *Records) Add(other *Records) {
	r.Training = append(r.Training, other.Training...)
	r.Decisions = append(r.Decisions, other.Decisions...)
	r.Evaluation = append(r.Evaluation, other.Evaluation...)
	r.Rollouts = append(r.Rollouts, other.Rollouts...)
	r.Errors = append(r.Errors, other.Errors...)
	r.LocalErrors = append(r.LocalErrors, other.LocalErrors...)
	r.Influence = append(r.Influence, other.Influence...)
	r.Solves = append(r.Solves, other.Solves...)
	r.Layers = append(r.Layers, other.Layers...)
	r.Spectrum = append(r.Spectrum, other.Spectrum...)
	r.Pictures = append(r.Pictures, other.Pictures...)
	r.Coherence = append(r.Coherence, other.Coherence...)
}

// At returns the rows of one model, seed and step.
func (r *Records) At(model string, seed, step int64) *Records {
	at := &Records{}
	is := func(m Moment) bool { return m.Model == model && m.Seed == seed && m.Step == step }
	at.Training = rowsWhere(r.Training, func(row TrainingRow) bool { return is(row.Moment) })
	at.Decisions = rowsWhere(r.Decisions, func(row DecisionRow) bool { return is(row.Moment) })
	at.Evaluation = rowsWhere(r.Evaluation, func(row EvaluationRow) bool { return is(row.Moment) })
	at.Rollouts = rowsWhere(r.Rollouts, func(row RolloutRow) bool { return is(row.Moment) })
	at.Errors = rowsWhere(r.Errors, func(row ErrorRow) bool { return is(row.Moment) })
	at.LocalErrors = rowsWhere(r.LocalErrors, func(row LocalErrorRow) bool { return is(row.Moment) })
	at.Influence = rowsWhere(r.Influence, func(row InfluenceRow) bool { return is(row.Moment) })
	at.Solves = rowsWhere(r.Solves, func(row SolveRow) bool { return is(row.Moment) })
	at.Layers = rowsWhere(r.Layers, func(row LayerRow) bool { return is(row.Moment) })
	at.Spectrum = rowsWhere(r.Spectrum, func(row SpectrumRow) bool { return is(row.Moment) })
	at.Pictures = rowsWhere(r.Pictures, func(row PictureRow) bool { return is(row.Moment) })
	at.Coherence = rowsWhere(r.Coherence, func(row CoherenceRow) bool { return is(row.Moment) })
	return at
}

func rowsWhere[Row any](rows []Row, is func(Row) bool) (all []Row) {
	for _, row := range rows {
		if is(row) {
			all = append(all, row)
		}
	}
	return all
}

// DropAfter deletes the rows of later steps, which a training has taken back.
func (r *Records) DropAfter(step int64) {
	r.Training = slices.DeleteFunc(r.Training, func(row TrainingRow) bool { return row.Step > step })
	r.Decisions = slices.DeleteFunc(r.Decisions, func(row DecisionRow) bool { return row.Step > step })
	r.Evaluation = slices.DeleteFunc(r.Evaluation, func(row EvaluationRow) bool { return row.Step > step })
	r.Rollouts = slices.DeleteFunc(r.Rollouts, func(row RolloutRow) bool { return row.Step > step })
	r.Errors = slices.DeleteFunc(r.Errors, func(row ErrorRow) bool { return row.Step > step })
	r.LocalErrors = slices.DeleteFunc(r.LocalErrors, func(row LocalErrorRow) bool { return row.Step > step })
	r.Influence = slices.DeleteFunc(r.Influence, func(row InfluenceRow) bool { return row.Step > step })
	r.Solves = slices.DeleteFunc(r.Solves, func(row SolveRow) bool { return row.Step > step })
	r.Layers = slices.DeleteFunc(r.Layers, func(row LayerRow) bool { return row.Step > step })
	r.Spectrum = slices.DeleteFunc(r.Spectrum, func(row SpectrumRow) bool { return row.Step > step })
	r.Pictures = slices.DeleteFunc(r.Pictures, func(row PictureRow) bool { return row.Step > step })
	r.Coherence = slices.DeleteFunc(r.Coherence, func(row CoherenceRow) bool { return row.Step > step })
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
// them is visible to a reader. RunID and Attempt of every row are the sink's to fill in; those of
// a sink beside a run (hooks.Builder.WithSink) are filled in by then.
type Sink interface {
	Write(records *Records) error
}
