package audit

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
)

// checkField asks the probes whether the field is declared as they behave. Physics that has a symmetry is one law for a state
// and for the turned state: a linear map of a cell's neighbourhood to its change, fitted to the probes and their turned copies
// together, explains more where vectors are turned as the vectors they are. If another pairing of channels, or orientation of
// rows, leaves clearly less unexplained than the declared one, that is a fault. docs/design/0006 has measurements.
//
// It says nothing where the best law explains little, as for long steps, and where there are too few cells to fit one.
func (a *Auditor) checkField(o *orbit) error {
	const (
		mostChannels = 6 // pairings grow fast
		leastCells   = 10
		clearly      = 1.1  // times what the best law leaves
		atLeast      = 0.03 // of the variance more
	)
	field := a.config.field
	dimensions := o.inputs[0].Shape().Dimensions
	n, height, width, channels := dimensions[0], dimensions[1], dimensions[2], dimensions[3]
	turns, ok := turnsOf(o.elements)
	if !ok || a.config.invariant || a.config.output != nil || channels > mostChannels ||
		n*(height-2)*(width-2) < leastCells*(9*channels+1) {
		return nil
	}
	before, err := values(o.inputs[0])
	if err != nil {
		return err
	}
	after, err := values(o.targets[0])
	if err != nil {
		return err
	}
	steps := newSteps(before, after, height, width, channels)
	if still := slices.Index(steps.variances(nil), 0); still >= 0 {
		a.config.log.Warn().Str("channel", field.Channels[still]).
			Msg("whether the field is declared as the probes behave cannot be told: a channel never changes")
		return nil
	}
	declared := steps.residuals(field, turns)
	var worst error
	most := 0.0
	for _, down := range []bool{field.RowDown, !field.RowDown} { // of laws that leave the same, the one of the declared orientation
		for _, vectors := range pairings(channels) {
			other := field
			other.Vectors, other.RowDown = vectors, down
			// Both are measured by the same variances, or two scalars would look like a vector where one is easier to predict.
			scales := steps.variances(append(slices.Clone(field.Vectors), vectors...))
			left, least := share(declared, scales), share(steps.residuals(other, turns), scales)
			if gain := left - least; left > clearly*least && gain > atLeast && gain > most+1e-6 { // never where something is not finite
				most = gain
				worst = fmt.Errorf("audit: the probes do not behave as the field says: the best linear law of a step that has the symmetry %s leaves %.0f %% unexplained with %s, and %.0f %% with %s; declare the latter (WithField), or let the preflight warn if they are what you mean",
					o.group.Name, 100*left, describe(field), 100*least, describe(other))
			}
		}
	}
	return worst
}

// share is the mean over channels of residuals in proportion to variances.
func share(residuals, variances []float64) float64 {
	sum := 0.0
	for c := range residuals {
		sum += residuals[c] / variances[c]
	}
	return sum / float64(len(residuals))
}

// describe names a field's vectors and orientation.
func describe(field orbits.Field) string {
	var vectors []string
	for _, v := range field.Vectors {
		vectors = append(vectors, fmt.Sprintf("(%s, %s)", field.Channels[v[0]], field.Channels[v[1]]))
	}
	words := "no vector"
	if vectors != nil {
		words = "vectors " + strings.Join(vectors, " and ")
	}
	if field.RowDown {
		return words + ", rows downwards"
	}
	return words + ", rows upwards"
}

// values copies a tensor's.
func values(t *tensors.Tensor) ([]float64, error) {
	copied, err := solver.ConvertDType(t, dtypes.Float64)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	all, err := solver.Values(copied) // frees it
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return all, nil
}

// turnsOf are the elements, if all are rotations and reflections and one at least is not the identity.
func turnsOf(elements []orbits.Element) (turns []turn, ok bool) {
	for _, e := range elements {
		x, y, ok := e.Turn()
		if !ok {
			return nil, false
		}
		turns = append(turns, turn{e, [2]orbits.Vector{x, y}})
	}
	return turns, len(turns) > 1
}

// turn is a rotation or reflection of the plane, with the images of (1, 0) and (0, 1).
type turn struct {
	element orbits.Element
	images  [2]orbits.Vector
}

func (t turn) apply(x, y int) (int, int) {
	a, b := t.images[0], t.images[1]
	return int(a.X)*x + int(b.X)*y, int(a.Y)*x + int(b.Y)*y
}

// steps holds the second moments of what a step does, over the inner cells of transitions: those of the vectors that hold the
// 3x3 cells around one, by row, column and channel, then 1, then the change of the cell's channels.
type steps struct {
	channels int
	moments  *mat.SymDense
}

// newSteps are those of transitions [n, height, width, channels].
func newSteps(before, after []float64, height, width, channels int) steps {
	size := 10*channels + 1
	s := steps{channels, mat.NewSymDense(size, nil)}
	row := make([]float64, 0, size)
	cell := func(sample, y, x int) int { return ((sample*height+y)*width + x) * channels }
	for sample := range len(before) / (height * width * channels) {
		for y := 1; y < height-1; y++ {
			for x := 1; x < width-1; x++ {
				row = row[:0]
				for above := y - 1; above <= y+1; above++ {
					row = append(row, before[cell(sample, above, x-1):cell(sample, above, x+2)]...)
				}
				row = append(row, 1)
				for c := range channels {
					at := cell(sample, y, x) + c
					row = append(row, after[at]-before[at])
				}
				s.moments.SymRankOne(s.moments, 1, mat.NewVecDense(size, row))
			}
		}
	}
	return s
}

// over are the moments of the transitions moved by all the turns.
func (s steps) over(field orbits.Field, turns []turn) *mat.SymDense {
	size := s.moments.SymmetricDim()
	one := 9 * s.channels
	up := 1
	if field.RowDown {
		up = -1
	}
	total := mat.NewSymDense(size, nil)
	to, sign := make([]int, size), make([]float64, size) // where an entry goes
	for _, t := range turns {
		channel, flip := t.element.TurnChannels(field)
		for dy := -1; dy <= 1; dy++ {
			for dx := -1; dx <= 1; dx++ {
				x, y := t.apply(dx, up*dy)
				for c := range s.channels {
					from := (3*(dy+1)+dx+1)*s.channels + c
					to[from], sign[from] = (3*(up*y+1)+x+1)*s.channels+channel[c], flip[c]
				}
			}
		}
		to[one], sign[one] = one, 1
		for c := range s.channels {
			to[one+1+c], sign[one+1+c] = one+1+channel[c], flip[c]
		}
		for i := range size {
			for j := i; j < size; j++ {
				total.SetSym(to[i], to[j], total.At(to[i], to[j])+sign[i]*sign[j]*s.moments.At(i, j))
			}
		}
	}
	return total
}

// residuals are the mean squares of the change of each channel that the best linear law leaves, for transitions moved by all
// the turns.
func (s steps) residuals(field orbits.Field, turns []turn) []float64 {
	total := s.over(field, turns)
	one := 9 * s.channels
	cells := mat.NewSymDense(one+1, nil)
	change := mat.NewDense(one+1, s.channels, nil)
	for i := range one + 1 {
		for j := i; j <= one; j++ {
			cells.SetSym(i, j, total.At(i, j))
		}
		for c := range s.channels {
			change.Set(i, c, total.At(i, one+1+c))
		}
	}
	// Scaled to a diagonal of ones, so that the units of the channels make no difference; a channel of zeros takes part in no law.
	scale := make([]float64, one+1)
	for i := range scale {
		if scale[i] = math.Sqrt(cells.At(i, i)); scale[i] == 0 {
			scale[i] = 1
		}
	}
	for i := range scale {
		for j := i; j <= one; j++ {
			cells.SetSym(i, j, cells.At(i, j)/scale[i]/scale[j])
		}
		cells.SetSym(i, i, 1+1e-9) // smooth states make it singular
		for c := range s.channels {
			change.Set(i, c, change.At(i, c)/scale[i])
		}
	}
	left := make([]float64, s.channels)
	var factor mat.Cholesky
	var law mat.Dense
	solved := factor.Factorize(cells) && factor.SolveTo(&law, change) == nil
	for c := range left {
		left[c] = math.NaN()
		if solved {
			left[c] = (total.At(one+1+c, one+1+c) - mat.Dot(law.ColView(c), change.ColView(c))) / total.At(one, one)
		}
	}
	return left
}

// variances are those of the change of each channel as it is, pooled over channels that pairs connect.
func (s steps) variances(pairs [][2]int) []float64 {
	one := 9 * s.channels
	cells := s.moments.At(one, one)
	pool := make([]int, s.channels) // by channel
	for c := range pool {
		pool[c] = c
	}
	for _, pair := range pairs {
		from, to := pool[pair[0]], pool[pair[1]]
		for c := range pool {
			if pool[c] == from {
				pool[c] = to
			}
		}
	}
	sums, sizes := make([]float64, s.channels), make([]float64, s.channels)
	for c, p := range pool {
		mean := s.moments.At(one, one+1+c) / cells
		sums[p] += s.moments.At(one+1+c, one+1+c)/cells - mean*mean
		sizes[p]++
	}
	variances := make([]float64, s.channels)
	for c, p := range pool {
		variances[c] = sums[p] / sizes[p]
	}
	return variances
}

// pairings are all ways to pair channels to vectors.
func pairings(channels int) (all [][][2]int) {
	var extend func(vectors [][2]int, from int)
	extend = func(vectors [][2]int, from int) {
		all = append(all, slices.Clone(vectors))
		free := func(c int) bool {
			return !slices.ContainsFunc(vectors, func(v [2]int) bool { return v[0] == c || v[1] == c })
		}
		for x := from; x < channels; x++ {
			for y := range channels {
				if x != y && free(x) && free(y) {
					extend(append(slices.Clone(vectors), [2]int{x, y}), x+1)
				}
			}
		}
	}
	extend(nil, 0)
	return all
}
