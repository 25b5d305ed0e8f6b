package dataset

import (
	"fmt"
	"strings"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/internal/fieldcheck"
)

// CheckField asks the data whether the field is declared as they behave: which channels are the components of a vector, in which order, and which way
// rows run (docs/design/0006-vector-pairing.md). It reads a step of up to 12 trajectories. The error says what is wrong and what is right; doubt, where it is not empty, why that cannot be told.
func (s *Set) CheckField() (doubt string, err error) {
	const most = 12
	var before, after []Snapshot
	each := min(s.Trajectories, max(1, most/len(s.Families)))
	for family := range s.Families {
		for i := range each {
			at := Snapshot{family, i * s.Trajectories / each, i * (s.Snapshots - 1) / each}
			before, after = append(before, at), append(after, Snapshot{family, at.Trajectory, at.Time + 1})
		}
	}
	var values [2][]float64
	var shape []int
	for i, snapshots := range [][]Snapshot{before, after} {
		batch, err := s.Batch(snapshots)
		if err != nil {
			return "", err
		}
		shape = batch.Shape().Dimensions
		for _, v := range tensors.MustCopyFlatData[float32](batch) {
			values[i] = append(values[i], float64(v))
		}
		batch.MustFinalizeAll()
	}
	group := fieldcheck.GroupOf(len(s.Grid))
	elements, err := group.Elements(s.Grid...)
	if err != nil {
		return "", fmt.Errorf("dataset: %w", err)
	}
	verdict := fieldcheck.Judge(s.Field, group.Name, fieldcheck.TurnsOf(elements...), values[0], values[1], shape)
	switch verdict.Answer {
	case fieldcheck.Wrong:
		words, _, _ := strings.Cut(verdict.Words, "; or let the preflight warn") // which is a setting of audits
		return "", fmt.Errorf("dataset: the states do not behave as their field says: %s, in the field of %s", words, descriptionName)
	case fieldcheck.Undecided:
		return verdict.Words, nil
	}
	return "", nil
}
