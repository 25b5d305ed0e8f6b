package solver

// Status is how a solve ended at one lambda, for programs to compare; Statistics.Explanation has the numbers and what to do.
type Status string

const (
	Converged    Status = "converged"             // everything asked for is within the tolerance
	ProductLimit Status = "product limit"         // the limit on products was reached first
	TimeLimit    Status = "time limit"            // the limit on time
	MemoryLimit  Status = "memory limit"          // the limit on memory
	Rounding     Status = "rounding"              // rounding of the products allows no better
	Asymmetric   Status = "asymmetric products"   // the operator is not symmetric: nothing is certified
	Indefinite   Status = "negative curvature"    // the operator is not positive semidefinite: nothing is certified
	Inconsistent Status = "inconsistent products" // products contradict each other by more than rounding
	Uncertified  Status = "not certified"         // the method has no measure of its own error, as SubspaceForms
)

// Statistics are what a solve took and how it ended, at one of its lambdas.
//
// Several lambdas share the products of one solve: the smallest of them has these, the others have 0.
type Statistics struct {
	Lambda          float64
	LambdaMax       float64 // largest eigenvalue of the operator, from below
	BlockSize       int32   // right-hand sides solved together
	Iterations      int32
	Products        int64 // set-up excluded
	SetupProducts   int64
	MaxTrueResidual *float64 // relative, recomputed after the solve; nil where it was not
	MaxHalfWidth    *float64 // of a cosine's interval; nil where nothing is certified
	ProductError    *float64 // of a vector of norm 1 that intervals allow for, relative to the largest eigenvalue; nil of a method that certifies nothing
	Status          Status
	Explanation     *string // what was not reached and what to do; nil if Converged
}

// ending is a status with its explanation, empty if Converged.
type ending struct {
	status      Status
	explanation string
}

func (e ending) writeTo(s *Statistics) {
	s.Status = e.status
	if e.explanation != "" {
		s.Explanation = &e.explanation
	}
}
