package audit

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/cause"
)

// DefaultJacobianLimit is a limit for Export that a Jacobian of a few thousand parameters keeps, in bytes.
const DefaultJacobianLimit = 1 << 30

// Export audits the model as Audit does and writes into the new folder dir what its values can be recomputed from with NumPy alone: weights, probes moved by every
// element, predictions, gradients and the Jacobian of each metric as .npy files, with the intervals that the audit found. An index.json says what each array is, a
// README.md the formulas. Gradients and Jacobians are in float64 where the model follows the precision of its input, whatever that of the audit is.
//
// A Jacobian has 8 bytes for each output of a batch and parameter, and the dense matrix that MetricGGN has instead for each pair of parameters. If one takes more
// than jacobianLimit bytes, Export returns a *SettingError before the audit; with a limit of 0 there is none, and influence cannot be recomputed. Arrays are written piece
// by piece, and the folder appears under its name when it is complete.
func (a *Auditor) Export(ctx context.Context, at Moment, dir string, jacobianLimit int64) (records *Records, err error) {
	if a.config.forward {
		return nil, errors.New("audit: Export writes what influence is computed from, and that is left out (WithForwardOnly); audit both")
	}
	if err := atomicfile.CheckFree(dir); err != nil {
		return nil, cause.In("audit", err)
	}
	if err := a.load(); err != nil {
		return nil, err
	}
	shares := a.shares()
	if err := a.checkJacobians(shares, jacobianLimit); err != nil {
		return nil, err
	}
	progress := a.newProgress(len(a.orbits)*len(a.config.directions) + len(shares))
	if records, err = a.audit(ctx, at, progress, nil); err != nil {
		return nil, err
	}
	work, err := atomicfile.Begin(dir)
	if err != nil {
		return nil, cause.In("audit", err)
	}
	defer os.RemoveAll(work) // of no effect once it is renamed
	x := &export{auditor: a, ctx: ctx, dir: work, records: records, jacobians: jacobianLimit > 0, progress: progress}
	err = x.write(at, shares)
	if err == nil {
		err = atomicfile.Publish(work, dir)
	}
	if err != nil {
		return nil, cause.Say(fmt.Sprintf("audit: %s is not written: %s", dir, cause.Plain(err)), err)
	}
	return records, nil
}

// checkJacobians refuses a dense metric that is larger than the limit.
func (a *Auditor) checkJacobians(shares []share, limit int64) error {
	if limit < 0 {
		return &SettingError{"jacobian_limit", fmt.Sprintf("is %d; it must be positive, or 0 to leave Jacobians out", limit)}
	}
	if limit == 0 || !a.multipliesNetwork() {
		return nil
	}
	for _, s := range shares {
		outputs, err := a.outputs(s)
		if err != nil {
			return err
		}
		d, err := a.dimensions(s, outputs)
		if err != nil {
			return err
		}
		rows, of := d.Rows, "outputs"
		if a.config.metric == MetricGGN {
			rows, of = d.Dim, "parameters"
		}
		if need := 8 * int64(rows) * int64(d.Dim); need > limit {
			return &SettingError{"jacobian_limit", fmt.Sprintf("is %s, and %d %s by %d parameters of %s take %s; raise it, use smaller batches of probes, or give 0, which leaves Jacobians out and all else in",
				inUnits(limit), rows, of, d.Dim, s.name(), inUnits(need))}
		}
	}
	return nil
}

// outputs is the number that the model has for a sample.
func (a *Auditor) outputs(s share) (outputs int, err error) {
	one, err := s[0].orbit.states(0, 0, 1)
	if err != nil {
		return 0, err
	}
	defer one.freeAfter(&err)
	prediction, err := a.network.With(one.further...).Predict(one.x)
	if err != nil {
		return 0, cause.In("audit", err)
	}
	return prediction.Size(), freeAll(prediction)
}

// inUnits are bytes in words.
func inUnits(n int64) string {
	unit, size := "bytes", float64(n)
	for _, larger := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 {
			break
		}
		unit, size = larger, size/1024
	}
	return fmt.Sprintf("%.4g %s", size, unit)
}

// export is one that is being written.
type export struct {
	auditor   *Auditor
	ctx       context.Context
	dir       string
	records   *Records
	jacobians bool
	progress  func()
	index     exportIndex
}

//go:embed export_readme.md
var exportReadme []byte

func (x *export) write(at Moment, shares []share) error {
	a := x.auditor
	x.index = exportIndex{
		SchemaVersion: exportSchemaVersion, Model: at.Model, Seed: at.Seed, Step: at.Step, Epoch: at.Epoch, Metric: a.config.metric, Estimator: a.config.estimator,
		AuditDType: strings.ToLower(a.network.DType().String()), InvariantOutput: a.config.invariant, Settings: a.Settings(),
	}
	if err := x.weights(); err != nil {
		return err
	}
	for _, o := range a.orbits {
		if err := x.group(o, shares); err != nil {
			return err
		}
	}
	for i, s := range shares {
		if err := x.metric(i, s); err != nil {
			return err
		}
		x.progress()
	}
	text, err := json.MarshalIndent(x.index, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(x.dir, "index.json"), append(shortened(text), '\n'), 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(x.dir, "README.md"), exportReadme, 0o666)
}
