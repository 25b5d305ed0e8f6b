package writers

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

const faultsHeader = `# What goes wrong, and what happens then

Each row is a test: it puts the fault into a training of eight steps with an audit every two, runs it under both policies of
WithFailures, reads the run directory, and resumes it. ` + "`go test ./writers -run TestFaults -update`" + ` writes this page, and
without the flag the test fails where the page is no longer true.

*Kept* are the finished audits that can be read afterwards: of four, and of two more where an earlier process began the run.
An audit that is not kept was not finished, or the disk would not take it before the process ended; the error said so.
`

type faultSection struct {
	title, words string
	faults       []fault
}

var faultSections = []faultSection{
	{"The disk", "The steps of a write are in format.md. What a sink did not take is offered to it again with the next audit, and by `Close`.", []fault{
		{"the disk is full when a part is written, and stays so", failing("write", syscall.ENOSPC, 4, forever),
			outcome{"ends at step 4", 1}, outcome{"carries on", 1}, "hooks: the records up to step 4 are not written: cannot write runs/a/training/.part-000001.parquet.inprogress: no space left on device; free space there, then resume: every audit written before is kept"},
		{"the disk is full when a part is renamed", failing("rename", syscall.ENOSPC, 4, forever),
			outcome{"ends at step 4", 1}, outcome{"carries on", 1}, "hooks: the records up to step 4 are not written: cannot rename runs/a/training/.part-000001.parquet.inprogress: no space left on device; free space there, then resume: every audit written before is kept"},
		{"the disk reports an error when a part is synced", failing("fsync", syscall.EIO, 4, forever),
			outcome{"ends at step 4", 1}, outcome{"carries on", 1}, "hooks: the records up to step 4 are not written: cannot write runs/a/training/.part-000001.parquet.inprogress: input/output error; check the disk, then resume: every audit written before is kept"},
		{"the disk reports an error when a folder is synced", failing("syncdir", syscall.EIO, 4, forever),
			outcome{"ends at step 4", 1}, outcome{"carries on", 1}, "hooks: the records up to step 4 are not written: cannot sync runs/a/training: input/output error; check the disk, then resume: every audit written before is kept"},
		{"the disk is full for a while, then free again", failing("write", syscall.ENOSPC, 4, 5),
			outcome{"ends at step 4", 1}, outcome{"carries on", 4}, "hooks: the records up to step 4 are not written: cannot write runs/a/training/.part-000001.parquet.inprogress: no space left on device; free space there, then resume: every audit written before is kept"},
		{"the disk fails halfway through making a part visible and will not take it back, then recovers", halfVisible,
			outcome{"ends at step 4", 2}, outcome{"carries on", 4}, "hooks: the records up to step 4 are not written: part 1 could be neither written nor taken back; the next write tries again, and resuming the run settles it: cannot rename runs/a/training/part-000001.parquet: input/output error; check the disk, then resume: every audit written before is kept"},
		{"the disk becomes read-only", failing("write", syscall.EROFS, 4, forever),
			outcome{"ends at step 4", 1}, outcome{"carries on", 1}, "hooks: the records up to step 4 are not written: cannot write runs/a/training/.part-000001.parquet.inprogress: read-only file system; make it writable, or choose another directory"},
		{"the disk is full when the run is begun", failing("mkdir", syscall.ENOSPC, 0, forever),
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "writers: cannot make runs/a/training: no space left on device; free space there, then resume: every audit written before is kept"},
		{"the disk is full when the run is described", failing("write", syscall.ENOSPC, 0, forever),
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "writers: cannot write runs/a/run.json: no space left on device; free space there, then resume: every audit written before is kept"},
		{"the directory may not be written to", failing("mkdir", syscall.EACCES, 0, forever),
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "writers: cannot make runs/a/training: permission denied; make it writable, or choose another directory"},
	}},
	{"Several sinks", "JSON lines beside the run, `WithSink(run, lines)`, in another place. *Kept* is what the run has; the lines have it too, once, if the training carries on.", []fault{
		{"the disk of the lines is full for a while", beside(failing("append", syscall.ENOSPC, 4, 5)),
			outcome{"ends at step 4", 2}, outcome{"carries on", 4}, "hooks: the records up to step 4 are not written to runs/rows.jsonl: cannot write runs/rows.jsonl: no space left on device; free space there, then resume: every audit written before is kept"},
		{"the disk of the run is full for a while: the lines wait for it", beside(failing("write", syscall.ENOSPC, 4, 5)),
			outcome{"ends at step 4", 1}, outcome{"carries on", 4}, "hooks: the records up to step 4 are not written to runs/a: cannot write runs/a/training/.part-000001.parquet.inprogress: no space left on device; free space there, then resume: every audit written before is kept"},
		{"the file of the lines is removed", beside(func(r *rig) {
			r.at(3, func() { require.NoError(r.t, os.Remove(filepath.Join(filepath.Dir(r.dir), "rows.jsonl"))) })
			r.remedy = nil
		}),
			outcome{"ends at step 4", 2}, outcome{"carries on", 4}, "hooks: the records up to step 4 are not written to runs/rows.jsonl: cannot write runs/rows.jsonl: no such file or directory; put the directory back if it was moved away, or choose another"},
	}},
	{"The run's directory", "`runs/a` stands for it.", []fault{
		{"another process writes to it", func(r *rig) {
			r.earlier(100, 200)
			other := resumeRun(r.t, r.dir)
			r.remedy = func() { require.NoError(r.t, other.Close()) }
		},
			outcome{"does not begin", 2}, outcome{"does not begin", 2}, "writers: another process is writing to runs/a; wait for its end, or choose another directory"},
		{"it holds a run already, and is not resumed", func(r *rig) {
			r.earlier(100, 200)
			r.builder.resume = false
		},
			outcome{"does not begin", 2}, outcome{"does not begin", 2}, "writers: runs/a already holds a run; resume it (WithResume), or choose another directory"},
		{"it holds other files", func(r *rig) {
			require.NoError(r.t, os.MkdirAll(r.dir, 0o777))
			require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, "thesis.tex"), nil, 0o666))
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "writers: runs/a is not empty (it holds thesis.tex) and has no run.json; choose another directory"},
		{"its run was audited on other probes, or in another way", func(r *rig) {
			r.earlier(100, 200)
			run := resumeRun(r.t, r.dir)
			require.NoError(r.t, run.Enter(r, "unet", 7, 0, map[string]string{"probes": "0123", "metric": "ntk"}))
			require.NoError(r.t, run.Write(trainingAt(0)))
			require.NoError(r.t, run.Close())
			r.settings = map[string]string{"probes": "4567", "metric": "ntk"}
		},
			outcome{"does not begin", 2}, outcome{"does not begin", 2}, `hooks: runs/a has audits of model "unet", seed 7 with other settings: probes was 0123 and is 4567; use those of before, begin a new series (writers.Builder.WithNewSeries), or choose another directory`},
		{"another training has written to it under the same name", func(r *rig) {
			r.sink = func(run *Run) audit.Sink {
				require.NoError(r.t, run.Enter("another", "unet", 7, 0, nil))
				return run
			}
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, `hooks: two trainings write to runs/a as model "unet", seed 7; give each a name or seed of its own (hooks.Builder.WithModel), or close the first hook if it is the same training`},
		{"it holds the audit of a checkpoint, and a training is to go on there", func(r *rig) {
			r.builder.info.Kind = KindAudit
			r.earlier(100, 200)
			r.builder.info.Kind = KindTraining
		},
			outcome{"does not begin", 2}, outcome{"does not begin", 2}, "writers: runs/a holds a run of another kind: it was made by an audit, not by a training; choose another directory"},
		{"the process before was killed before it wrote anything, and the run is begun anew", func(r *rig) {
			run, err := (&Builder{dir: r.dir, disk: osFiles{}}).Done()
			require.NoError(r.t, err)
			require.NoError(r.t, run.Close())
		},
			outcome{"carries on", 4}, outcome{"carries on", 4}, ""},
		{"it has no name", func(r *rig) { r.builder.dir = "" },
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "writers: the run directory has no name; give one, such as runs/first"},
		{"its run.json is damaged when it is resumed", func(r *rig) {
			r.earlier(100, 200)
			path := filepath.Join(r.dir, firstInfoName)
			whole, err := os.ReadFile(path)
			require.NoError(r.t, err)
			require.NoError(r.t, os.Truncate(path, 10))
			r.remedy = func() { require.NoError(r.t, os.WriteFile(path, whole, 0o666)) }
		},
			outcome{"does not begin", 2}, outcome{"does not begin", 2}, "writers: runs/a/run.json is not the description of a run: unexpected end of JSON input; restore it from a copy"},
		{"a part is empty when it is resumed", func(r *rig) {
			r.earlier(100, 200)
			require.NoError(r.t, os.Truncate(r.part("influence", 1), 0))
			r.remedy = func() { r.moveAway(1) }
		},
			outcome{"carries on", 5}, outcome{"carries on", 5}, `writers: runs/a/influence/part-000001.parquet cannot be read: its 0 bytes do not begin and end with PAR1, as those of Parquet files do; restore it from a copy, or move all files of its number away`},
		{"a part was torn by a crash before any of it was visible", func(r *rig) {
			r.earlier(100, 200)
			hidden := directory{path: r.dir}.hidden("influence", 2)
			require.NoError(r.t, os.WriteFile(hidden, []byte("PAR1"), 0o666))
		},
			outcome{"carries on", 6}, outcome{"carries on", 6}, ""},
		{"a part was left half visible by a crash", func(r *rig) {
			r.earlier(100, 200)
			require.NoError(r.t, os.Rename(r.part("coherence", 1), directory{path: r.dir}.hidden("coherence", 1)))
		},
			outcome{"carries on", 6}, outcome{"carries on", 6}, ""},
		{"it is removed", func(r *rig) {
			r.at(3, func() { require.NoError(r.t, os.RemoveAll(r.dir)) })
		},
			outcome{"ends at step 4", 0}, outcome{"carries on", 0}, "hooks: the records up to step 4 are not written: cannot write runs/a/training/.part-000001.parquet.inprogress: no such file or directory; put the directory back if it was moved away, or choose another"},
		{"it is moved away, and back later", func(r *rig) {
			away := r.dir + " elsewhere"
			r.at(3, func() { require.NoError(r.t, os.Rename(r.dir, away)) })
			r.at(5, func() { require.NoError(r.t, os.Rename(away, r.dir)) })
			r.remedy = func() { _ = os.Rename(away, r.dir) }
		},
			outcome{"ends at step 4", 1}, outcome{"carries on", 4}, "hooks: the records up to step 4 are not written: cannot write runs/a/training/.part-000001.parquet.inprogress: no such file or directory; put the directory back if it was moved away, or choose another"},
		{"another program's file has the name of a part", func(r *rig) {
			r.at(3, func() { require.NoError(r.t, os.WriteFile(r.part("solves", 1), []byte("mine"), 0o666)) })
			r.remedy = func() { require.NoError(r.t, os.Remove(r.part("solves", 1))) }
		},
			outcome{"ends at step 4", 2}, outcome{"carries on", 4}, "hooks: the records up to step 4 are not written: runs/a/solves/part-000001.parquet was put there by another program; move it away"},
		{"a sink of one's own panics once", func(r *rig) {
			r.sink = func(run *Run) audit.Sink { return &panicking{run: run, at: 2} }
		},
			outcome{"ends at step 4", 2}, outcome{"carries on", 4}, "hooks: the records up to step 4 are not written: panic: nil pointer"},
		{"a sink of one's own blocks for a while: the training waits for it", func(r *rig) {
			r.sink = func(run *Run) audit.Sink { return blocking{run} }
		},
			outcome{"carries on", 4}, outcome{"carries on", 4}, ""},
	}},
	{"Audits", "An audit that failed is not tried again at its step.", []fault{
		{"the auditor returns an error", auditing(func(context.Context) error { return errors.New("no such luck") }),
			outcome{"ends at step 4", 1}, outcome{"carries on", 3}, "hooks: audit at step 4 failed: no such luck"},
		{"the auditor panics", auditing(func(context.Context) error { panic("index out of range") }),
			outcome{"ends at step 4", 1}, outcome{"carries on", 3}, "hooks: audit at step 4 failed: panic: index out of range"},
		{"the auditor returns nothing", func(r *rig) {
			r.auditor = func(*train.Trainer) (hooks.Auditor, error) { return nothing{}, nil }
		},
			outcome{"ends at step 2", 0}, outcome{"carries on", 0}, "hooks: audit at step 2 failed: the auditor returned no records"},
		{"an audit takes longer than its limit", func(r *rig) {
			auditing(func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })(r)
			r.configure = func(b *hooks.Builder) error { b.WithTimeLimit(time.Millisecond); return nil }
		},
			outcome{"ends at step 4", 1}, outcome{"carries on", 3}, "hooks: audit at step 4 failed: it took longer than its limit of 1ms; raise it (WithTimeLimit), or make audits cheaper: a greater tolerance or lambda, or fewer probes"},
		{"the function of WithOnAudit panics", func(r *rig) {
			audits := 0
			r.configure = func(b *hooks.Builder) error {
				b.WithOnAudit(func(*audit.Records) {
					if audits++; audits == 2 {
						panic("nil map")
					}
				})
				return nil
			}
		},
			outcome{"ends at step 4", 2}, outcome{"carries on", 4}, "hooks: the function given to WithOnAudit failed at step 4; the audit is kept: panic: nil map"},
		{"trainable variables are frozen between two audits", func(r *rig) {
			r.realAuditor(probes())
			r.attached = func(loop *train.Loop, _ *hooks.Hook) {
				r.at(3, func() { r.variable(loop, "/dense/dense/biases").Trainable = false })
			}
		},
			outcome{"carries on", 4}, outcome{"carries on", 4}, ""},
		{"the weights become NaN between a step and its audit", func(r *rig) {
			r.realAuditor(probes())
			r.attached = func(loop *train.Loop, _ *hooks.Hook) {
				r.at(4, func() {
					shape := r.variable(loop, "/dense/dense/weights").Shape()
					x := tensors.FromShape(shape)
					setFirst(x, math.NaN())
					require.NoError(r.t, r.variable(loop, "/dense/dense/weights").SetValue(x))
				})
			}
		},
			outcome{"ends at step 4", 1}, outcome{"ends at step 5", 1}, "hooks: audit at step 4 failed: group c4, batch 0: the gradient of the loss at sample 0 moved by e is not finite; has training diverged, or is the sample or its target not finite?"},
	}},
	{"Interruptions", "A cancelled context ends the training cleanly: no error, and the last step is whole.", []fault{
		{"the context is cancelled between two steps, as by ctrl-C or SIGTERM", func(r *rig) {
			cancel := r.context()
			r.at(5, cancel)
		},
			outcome{"stops cleanly after step 5", 2}, outcome{"stops cleanly after step 5", 2}, "stopped the training: interrupted"},
		{"the context is cancelled within an audit", func(r *rig) {
			cancel := r.context()
			auditing(func(ctx context.Context) error { cancel(); return context.Cause(ctx) })(r)
		},
			outcome{"stops cleanly after step 4", 1}, outcome{"stops cleanly after step 4", 1}, "stopped the training: interrupted"},
		{"the context is cancelled before the run", func(r *rig) { r.context()() },
			outcome{"stops cleanly after step 1", 0}, outcome{"stops cleanly after step 1", 0}, "stopped the training: interrupted"},
		{"a step hook of one's own fails after an audit", func(r *rig) {
			r.attached = func(loop *train.Loop, _ *hooks.Hook) {
				loop.OnStep("checkpoint", 100, func(*train.Loop, []*tensors.Tensor) error {
					if r.step == 4 {
						return errors.New("no space for checkpoints")
					}
					return nil
				})
			}
		},
			outcome{"ends at step 4", 2}, outcome{"ends at step 4", 2}, `Loop.RunSteps(8): failed TrainStep(LoopStep=3): train.Loop.OnStep(hook "checkpoint"): no space for checkpoints`},
	}},
	{"The training", "What ends the training itself ends it under either policy. The steps until then are in the table `training` when the hook is closed.", []fault{
		{"the dataset fails in the middle of an epoch", func(r *rig) { r.data.fail = 6 },
			outcome{"ends at step 5", 2}, outcome{"ends at step 5", 2}, "Loop.RunSteps(8): failed reading from Dataset: unexpected EOF"},
		{"an input holds an infinity", func(r *rig) { r.data.spoil, r.data.value = 5, math.Inf(1) },
			outcome{"ends at step 5", 2}, outcome{"ends at step 5", 2}, "Loop.RunSteps(8): failed TrainStep(LoopStep=4): batch loss is infinity (+Inf), training interrupted"},
		{"the loss is NaN", func(r *rig) { r.data.spoil, r.data.value = 5, math.NaN() },
			outcome{"ends at step 5", 2}, outcome{"ends at step 5", 2}, "Loop.RunSteps(8): failed TrainStep(LoopStep=4): batch loss is NaN, training interrupted"},
		{"the optimizer has no learning rate", func(r *rig) { r.optimizer = still{} },
			outcome{"carries on", 4}, outcome{"carries on", 4}, `the optimizer has no variable /optimizers/learning_rate and the store no float64 parameter "learning_rate": learning_rate is recorded as 0; set the parameter to have it recorded`},
	}},
	{"The model", "The preflight finds these after the first step, before the time of a training is lost, and ends it under either policy.", []fault{
		{"a convolution has an even kernel", auditingModel(evenKernel),
			outcome{"ends at step 1", 0}, outcome{"ends at step 1", 0}, "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): the model's gradient is wrong (adjoint error 0.0066, rounding explains 1e-09), and training and influence need a right one: ConvGeneral in layer /even/conv; GoMLX v0.28 has no right gradient for convolutions with an even kernel, nor for pooling by one: use an odd one"},
		{"the same, and WithPreflight(hooks.PreflightWarning)", func(r *rig) {
			auditingModel(evenKernel)(r)
			r.configure = func(b *hooks.Builder) error { b.WithPreflight(hooks.PreflightWarning); return nil }
		},
			outcome{"ends at step 2", 0}, outcome{"carries on", 0}, "the model's gradient is wrong (adjoint error 0.0066, rounding explains 1e-09), and training and influence need a right one: ConvGeneral in layer /even/conv; GoMLX v0.28 has no right gradient for convolutions with an even kernel, nor for pooling by one: use an odd one"},
		{"it is random in evaluation mode", auditingModel(func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.Add(dense(scope, x), scope.RandomUniform(x.Graph(), shapes.Make(x.DType(), x.Shape().Dimensions...)))
		}),
			outcome{"ends at step 1", 0}, outcome{"ends at step 1", 0}, "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): two evaluations of the same states differ: the model is random or keeps state in evaluation mode; make dropout and noise depend on GoMLX's training mode (scope.IsTraining), or hold its random numbers fixed (WithSeed)"},
		{"it mixes samples", auditingModel(func(scope *model.Scope, x *graph.Node) *graph.Node {
			return graph.Add(dense(scope, x), graph.Reverse(x, 0))
		}),
			outcome{"ends at step 1", 0}, outcome{"ends at step 1", 0}, "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): the output of sample 0 changes by 0.083 of itself with the others of its batch: the model mixes samples, by batch statistics for instance; influence is that of single samples, so make it evaluate them alone"},
		{"its loss takes two labels, and the probes have one", func(r *rig) {
			r.auditor = func(trainer *train.Trainer) (hooks.Auditor, error) {
				masked := func(labels, predictions []*graph.Node) *graph.Node { return graph.Mul(labels[1], predictions[0]) }
				auditor, err := audit.New(trainer, r.modelFn, masked).WithField(orbits.EulerField()).WithRelativeLambda(0.1).WithGroup(orbits.C4(), probes()).Done()
				if err == nil {
					r.t.Cleanup(auditor.Close)
				}
				return auditor, err
			}
		},
			outcome{"ends at step 1", 0}, outcome{"ends at step 1", 0}, "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): the loss fails on the probes (index out of range [1] with length 1); it gets Probes.Targets and then Probes.Labels, of one sample each, here (Float32)[2, 4, 4, 4], and the model's outputs"},
		{"it has an operation without a forward derivative", auditingModel(evaluating(func(x *graph.Node) *graph.Node { return graph.Sort(x, -1, true) })),
			outcome{"ends at step 1", 0}, outcome{"ends at step 1", 0}, "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): operation Sort has no forward derivative, at Node #12 Sort -> [(Float32)[2, 4, 4, 4]] - mem: [512 B]: GoMLX has no derivative of it either; gather by the sorted indices instead"},
		{"its graph panics in evaluation mode", auditingModel(evaluating(func(*graph.Node) *graph.Node { panic("not written yet") })),
			outcome{"ends at step 1", 0}, outcome{"ends at step 1", 0}, "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): panic: not written yet"},
		{"the same, and WithPreflight(hooks.PreflightOff)", func(r *rig) {
			auditingModel(evaluating(func(*graph.Node) *graph.Node { panic("not written yet") }))(r)
			r.configure = func(b *hooks.Builder) error { b.WithPreflight(hooks.PreflightOff); return nil }
		},
			outcome{"ends at step 2", 0}, outcome{"carries on", 0}, "hooks: audit at step 2 failed: panic: not written yet"},
	}},
	{"The probes", "The auditor is made before the training begins.", []fault{
		{"a probe holds a NaN", func(r *rig) {
			p := probes()
			setFirst(p.Inputs, math.NaN())
			r.realAuditor(p)
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "audit: the input of probe 0 holds NaN; leave out the probes that are not finite"},
		{"a target holds a NaN", func(r *rig) {
			p := probes()
			setFirst(p.Targets, math.NaN())
			r.realAuditor(p)
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "audit: the target of probe 0 holds NaN; leave out the probes that are not finite"},
		{"their classes are not in UTF-8", func(r *rig) {
			p := probes()
			p.Samples = []audit.Sample{{Class: "turbulent"}, {Class: "geschwungen\xfc"}}
			r.realAuditor(p)
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, `audit: the class of probe 1, "geschwungen\xfc", is not UTF-8, which is all that tables can hold; convert it`},
		{"they are not images", func(r *rig) {
			r.realAuditor(audit.Probes{Inputs: flow(grid*grid, 4), Targets: flow(grid*grid, 4)})
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "audit: group c4 is of states with 2 to 3 axes of space, and these have 1 (grid 16); use reflections"},
		{"inputs and targets differ in shape", func(r *rig) {
			r.realAuditor(audit.Probes{Inputs: flow(grid, grid, 4), Targets: flow(grid, grid, 1)})
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "audit: targets (Float32)[2, 4, 4, 1] have 1 channels, the output's field has 4 ([density momentum_x momentum_y energy]); declare the field of the output (audit.Builder.WithOutputField)"},
		{"the components of their momentum are in the other order", func(r *rig) {
			r.realAuditor(sound())
		},
			outcome{"ends at step 1", 0}, outcome{"ends at step 1", 0}, "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): the probes do not behave as the field says: the divergence of the momentum explains 98 % of the change of the density's longest waves with momentum_x along y, momentum_y along x, rows upwards, and 0 % with momentum_x along x, momentum_y along y, rows upwards, as declared: mass is conserved. Declare vectors (momentum_y, momentum_x), rows upwards; or let the preflight warn, if the declared field is what you mean"},
		{"they have other channels than the field", func(r *rig) {
			r.realAuditor(audit.Probes{Inputs: flow(grid, grid, 3), Targets: flow(grid, grid, 3)})
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "audit: probes (Float32)[2, 4, 4, 3] have 3 channels, the field has 4 ([density momentum_x momentum_y energy]); declare the field of these states"},
	}},
	{"The configuration", "Where a setting can be checked before the training begins it does not begin, under either policy.", []fault{
		{"the initial audit of a model without weights", func(r *rig) {
			r.configure = func(b *hooks.Builder) error { b.WithInitialAudit(); return nil }
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "hooks: there are no weights to audit before the first step, GoMLX makes those of a new model in it; load or initialise the model first, or leave WithInitialAudit out"},
		{"the auditor is of another trainer than the loop's", func(r *rig) {
			r.auditor = func(*train.Trainer) (hooks.Auditor, error) {
				other := train.NewTrainer(backendtest.Go(r.t), model.NewStore(), r.modelFn, audit.Loss, optimizer.Adam().Done(), nil, nil)
				auditor, err := audit.New(other, r.modelFn, nil).WithField(orbits.EulerField()).WithGroup(orbits.C4(), probes()).Done()
				require.NoError(r.t, err)
				r.t.Cleanup(auditor.Close)
				return auditor, nil
			}
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "hooks: the auditor was made with another trainer than the loop's, so that its audits would be of another model; give audit.New the trainer of this loop"},
		{"the model's name is not in UTF-8", func(r *rig) {
			r.configure = func(b *hooks.Builder) error { b.WithModel("Stra\xdfe", 0); return nil }
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, `hooks: the model is called "Stra\xdfe"; its name must be text in UTF-8 without control characters, for it stands in every row (WithModel)`},
		{"a stop rule's group is not audited", func(r *rig) {
			r.configure = func(b *hooks.Builder) error {
				b.WithStopRules(hooks.StopRule{Monitor: "d5/coherence", Mode: hooks.Maximize, Patience: 1})
				return nil
			}
		},
			outcome{"ends at step 2", 1}, outcome{"carries on", 4}, `hooks: stop rule: no audit has monitor "d5/coherence"; known monitors: d4/coherence, d4/target_error, d4/commutator_error, translations/coherence, translations/target_error, translations/commutator_error`},
		{"a schedule that cannot be read", func(r *rig) {
			r.configure = func(b *hooks.Builder) error {
				schedules, err := hooks.ParseSchedule("every 2 parsecs")
				b.WithSchedule(schedules...)
				return err
			}
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, `hooks: "every 2 parsecs" is no schedule; use for instance "every 100 steps", "every epoch", "every 10m", "at doubling steps from 100" or "20 times", or several separated by "or"`},
		{"an audit every epoch of unknown length", func(r *rig) {
			r.configure = func(b *hooks.Builder) error { b.WithSchedule(hooks.EveryEpochs(1)); return nil }
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "hooks: an audit every epoch needs to know how many steps an epoch has, and RunSteps does not; use WithStepsPerEpoch(n), or RunEpochs(hook.Dataset(ds), epochs)"},
		{"the hook is closed before the run", func(r *rig) {
			r.attached = func(_ *train.Loop, hook *hooks.Hook) { require.NoError(r.t, hook.Close()) }
		},
			outcome{"does not begin", 0}, outcome{"does not begin", 0}, "hooks: the hook is closed; close it after the last run of its loop"},
	}},
}

const forever = faultySteps + 1

// failing makes an operation of the disk fail from one step of the training to another.
func failing(operation string, err error, from, to int) func(r *rig) {
	return func(r *rig) {
		r.disk.fault = func(is, path string) error {
			if is == operation && r.step >= from && r.step <= to {
				return &os.PathError{Op: operation, Path: path, Err: err}
			}
			return nil
		}
	}
}

// beside puts a file of lines beside the run, and what inject does. In the end the lines have no audit twice and none that the run
// lacks, and all that it has where the hook could be closed; unless inject takes the remedy away.
func beside(inject func(r *rig)) func(r *rig) {
	return func(r *rig) {
		path := filepath.Join(filepath.Dir(r.dir), "rows.jsonl")
		r.remedy = func() {
			found := map[int64]int{}
			for _, row := range linesByTable(r.t, path)["coherence"] {
				_, step, _ := strings.Cut(row, "step=")
				number, err := strconv.ParseInt(strings.Fields(step)[0], 10, 64)
				require.NoError(r.t, err)
				found[number]++
			}
			kept := wholeAudits(r.t, readRecords(r.t, r.dir))
			for step, rows := range found {
				require.Contains(r.t, kept, step)
				require.Equal(r.t, len(auditAt(step).Coherence), rows)
			}
			if r.closed {
				require.Len(r.t, found, len(kept))
			}
		}
		inject(r)
		if r.remedy == nil {
			r.remedy = func() {}
		}
		r.sink = func(run *Run) audit.Sink {
			lines, err := openLines(path, r.disk)
			require.NoError(r.t, err)
			r.t.Cleanup(func() { require.NoError(r.t, lines.Close()) })
			r.configure = func(b *hooks.Builder) error { b.WithSink(run, lines); return nil }
			return run
		}
	}
}

// halfVisible renames one file of the part at step 4, and then nothing for a while.
func halfVisible(r *rig) {
	renamed := 0
	r.disk.fault = func(is, path string) error {
		if is != "rename" || r.step < 4 || r.step > 5 {
			return nil
		}
		if renamed++; renamed == 1 {
			return nil
		}
		return &os.PathError{Op: is, Path: path, Err: syscall.EIO}
	}
	r.remedy = func() {
		if run, err := Parquet(r.dir).WithResume().Done(); err == nil {
			require.NoError(r.t, run.Close())
		}
	}
}

// auditing does something in the audit at step 4.
func auditing(act func(ctx context.Context) error) func(r *rig) {
	return func(r *rig) {
		r.auditor = func(*train.Trainer) (hooks.Auditor, error) {
			return &script{before: func(ctx context.Context, step int64) error {
				if step == 4 {
					return act(ctx)
				}
				return nil
			}}, nil
		}
	}
}

func auditingModel(fn func(scope *model.Scope, x *graph.Node) *graph.Node) func(r *rig) {
	return func(r *rig) {
		r.modelFn = fn
		r.realAuditor(probes())
	}
}

func evenKernel(scope *model.Scope, x *graph.Node) *graph.Node {
	return layers.Convolution(scope.In("even"), dense(scope, x)).Channels(4).KernelSize(2).PadSame().Done()
}

// evaluating is a model that does something more in evaluation mode, where only audits see it.
func evaluating(more func(x *graph.Node) *graph.Node) func(scope *model.Scope, x *graph.Node) *graph.Node {
	return func(scope *model.Scope, x *graph.Node) *graph.Node {
		y := dense(scope, x)
		if !scope.IsTraining(x.Graph()) {
			y = more(y)
		}
		return y
	}
}

func probes() audit.Probes {
	return audit.Probes{Inputs: flow(grid, grid, 4), Targets: flow(grid, grid, 4)}
}

// earlier writes a run with these audits of another model into the rig's directory, which is then resumed.
func (r *rig) earlier(steps ...int64) {
	run, err := (&Builder{dir: r.dir, info: r.builder.info, disk: osFiles{}}).Done()
	require.NoError(r.t, err)
	for _, step := range steps {
		records := ofModel("earlier", auditAt(step))
		records.Training = records.Training[:1]
		require.NoError(r.t, run.Write(records))
	}
	require.NoError(r.t, run.Close())
	r.builder.resume = true
}

func (r *rig) part(table string, number int) string {
	return directory{path: r.dir}.visible(table, number)
}

// moveAway does what the error about a damaged part says.
func (r *rig) moveAway(number int) {
	for _, table := range tableNames() {
		require.NoError(r.t, os.Rename(r.part(table, number), filepath.Join(r.t.TempDir(), table)))
	}
}

// at does something after a step of the training, before the hook.
func (r *rig) at(step int, act func()) { r.events = append(r.events, event{step, act}) }

func (r *rig) variable(loop *train.Loop, path string) *model.Variable {
	v := loop.Trainer.Store().GetVariable(path)
	require.NotNil(r.t, v)
	return v
}

// context gives the hook one.
func (r *rig) context() (cancel func()) {
	ctx, interrupt := context.WithCancelCause(context.Background())
	r.configure = func(b *hooks.Builder) error { b.WithContext(ctx); return nil }
	return func() { interrupt(errors.New("interrupted")) }
}

// panicking is a sink that panics in place of one write.
type panicking struct {
	run       *Run
	at, count int
}

func (p *panicking) Write(records *audit.Records) error {
	if p.count++; p.count == p.at {
		panic("nil pointer")
	}
	return p.run.Write(records)
}

// blocking is a sink that waits for others before it writes.
type blocking struct{ run *Run }

func (b blocking) Write(records *audit.Records) error {
	free := make(chan struct{})
	time.AfterFunc(time.Millisecond, func() { close(free) })
	<-free
	return b.run.Write(records)
}

// nothing is an auditor that finds nothing.
type nothing struct{}

func (nothing) Audit(context.Context, audit.Moment) (*audit.Records, error) { return nil, nil }

// still is an optimizer that only counts steps, without a learning rate.
type still struct{ optimizer.Interface }

func (still) UpdateGraph(_ *model.Scope, g *graph.Graph, _ *graph.Node) {
	optimizer.IncrementGlobalStep(g, dtypes.Int64)
}
