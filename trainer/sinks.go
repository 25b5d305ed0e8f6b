package trainer

import (
	"path/filepath"
	"slices"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/writers"
)

// Values of Audit.Sinks.
const (
	sinkJSONL       = "jsonl"
	sinkTensorBoard = "tensorboard"
)

func (a Audit) validateSinks() error {
	for i, name := range a.Sinks {
		switch {
		case name == "parquet":
			return keyError("audit.sinks", "lists %q, which is always written; leave it out", name)
		case name != sinkJSONL && name != sinkTensorBoard:
			return keyError("audit.sinks", "has the unknown %q; use some of %s, %s", name, sinkJSONL, sinkTensorBoard)
		case slices.Contains(a.Sinks[:i], name):
			return keyError("audit.sinks", "lists %q twice; leave one out", name)
		}
	}
	return nil
}

// openSinks opens what is written beside the tables of the run in dir, of a configuration that is valid.
func (a Audit) openSinks(dir string) (sinks []audit.Sink, closeAll func() error, err error) {
	closeAll = func() error { return nil }
	if slices.Contains(a.Sinks, sinkJSONL) {
		lines, err := writers.JSONLines(filepath.Join(dir, "rows.jsonl"))
		if err != nil {
			return nil, nil, err
		}
		sinks, closeAll = append(sinks, lines), lines.Close
	}
	if slices.Contains(a.Sinks, sinkTensorBoard) {
		scalars, err := writers.TensorBoard(filepath.Join(dir, "tensorboard"))
		if err != nil {
			_ = closeAll()
			return nil, nil, err
		}
		sinks = append(sinks, scalars)
	}
	return sinks, closeAll, nil
}
