package writers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

var update = flag.Bool("update", false, "rewrite docs/faults.md")

const (
	faultsPage  = "../docs/faults.md"
	faultySteps = 8 // of a training that a fault is put into
	auditEvery  = 2 // steps
)

// fault is a row of docs/faults.md: what is done to a training, and what comes of it.
type fault struct {
	injected string
	inject   func(r *rig)
	end      outcome // with hooks.EndTraining
	carry    outcome // with hooks.CarryOn
	told     string  // the first that the user reads, under both
}

type outcome struct {
	training string
	kept     int // finished audits that can be read afterwards, of four and those of an earlier process
}

// TestFaults puts every fault of the table into a training under both policies. Training, hook and sink are the real ones;
// the sink's disk fails when it is told to, and so do the auditor and the model.
func TestFaults(t *testing.T) {
	var page strings.Builder
	page.WriteString(faultsHeader)
	for _, section := range faultSections {
		fmt.Fprintf(&page, "\n## %s\n\n%s\n\n| fault | `EndTraining` | kept | `CarryOn` | kept | what one reads first |\n|---|---|---|---|---|---|\n", section.title, section.words)
		for _, want := range section.faults {
			got := want
			for _, under := range []struct {
				name   string
				policy hooks.FailurePolicy
				want   outcome
				got    *outcome
			}{{"EndTraining", hooks.EndTraining, want.end, &got.end}, {"CarryOn", hooks.CarryOn, want.carry, &got.carry}} {
				t.Run(want.injected+"/"+under.name, func(t *testing.T) {
					*under.got, got.told = runWithFault(t, want, under.policy)
					require.Equal(t, under.want, *under.got)
					require.Equal(t, want.told, got.told)
				})
			}
			told := "nothing"
			if got.told != "" {
				told = "`" + strings.ReplaceAll(got.told, "|", `\|`) + "`"
			}
			fmt.Fprintf(&page, "| %s | %s | %d | %s | %d | %s |\n", got.injected, got.end.training, got.end.kept, got.carry.training, got.carry.kept, told)
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(faultsPage, []byte(page.String()), 0o666))
	}
	written, err := os.ReadFile(faultsPage)
	require.NoError(t, err)
	require.Equal(t, string(written), page.String(), "docs/faults.md is out of date: go test ./writers -run TestFaults -update")
}

// rig is a training that a fault can be put into, before it runs.
type rig struct {
	t         *testing.T
	dir       string
	disk      *failingFiles
	builder   *Builder // of the run in dir
	modelFn   func(scope *model.Scope, x *graph.Node) *graph.Node
	optimizer optimizer.Interface
	data      *states
	sink      func(run *Run) audit.Sink
	auditor   func(trainer *train.Trainer) (hooks.Auditor, error)
	configure func(builder *hooks.Builder) error
	attached  func(loop *train.Loop, hook *hooks.Hook)
	remedy    func()            // what the user does about it, before the run is read
	settings  map[string]string // of the auditor, if it tells any

	events []event
	step   int  // of the training, that is under way or done
	closed bool // the hook, without an error
}

// event happens after a step of the training, before the hook.
type event struct {
	step int
	act  func()
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "a"), disk: &failingFiles{}, data: &states{}, optimizer: optimizer.Adam().LearningRate(0.01).Done()}
	r.builder = &Builder{dir: r.dir, disk: r.disk}
	r.modelFn = dense
	r.auditor = func(*train.Trainer) (hooks.Auditor, error) { return &script{}, nil }
	r.sink = func(run *Run) audit.Sink { return run }
	r.configure = func(*hooks.Builder) error { return nil }
	r.attached = func(*train.Loop, *hooks.Hook) {}
	r.remedy = func() {}
	return r
}

// runWithFault trains until the fault ends it or it is done, and then does what the user would do: reads the run, and
// resumes it.
func runWithFault(t *testing.T, fault fault, policy hooks.FailurePolicy) (outcome, string) {
	r := newRig(t)
	fault.inject(r)
	var log bytes.Buffer
	training, err := r.train(policy, zerolog.New(&log))
	r.disk.fault = nil
	_, unreadable := Read(r.dir)
	r.remedy()

	told := firstTold(err, log.String())
	if told == "" && unreadable != nil {
		told = unreadable.Error()
	}
	told = strings.ReplaceAll(strings.ReplaceAll(told, r.dir, "runs/a"), filepath.Dir(r.dir), "runs")
	kept := 0
	if infos, err := readInfos(r.dir); err != nil || len(infos) > 0 {
		records := readRecords(t, r.dir)
		kept = len(wholeAudits(t, records))
		const preflight = 1 // ends the training before this step is noted
		if r.closed && r.step > preflight {
			requireSteps(t, r.step, records.Training)
		}
	}
	if kept < faultySteps/auditEvery {
		require.NotEmpty(t, told, "nothing may be lost without a word")
	}
	run, err := (&Builder{dir: r.dir, disk: osFiles{}, resume: true}).Done()
	if err == nil { // a directory that is not a run stays none
		require.NoError(t, run.Write(auditAt(1_000_000)))
		require.NoError(t, run.Close())
		require.Len(t, wholeAudits(t, readRecords(t, r.dir)), kept+1)
	}
	return outcome{training, kept}, told
}

// train says how the training ended, with all its errors in the order in which the user gets them.
func (r *rig) train(policy hooks.FailurePolicy, log zerolog.Logger) (how string, err error) {
	const none = "does not begin"
	run, err := r.builder.Done()
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(7))
	trainer := train.NewTrainer(backendtest.Go(r.t), store, r.modelFn, audit.Loss, r.optimizer, nil, nil)
	auditor, err := r.auditor(trainer)
	if err != nil {
		return none, err
	}
	if r.settings != nil {
		auditor = described{auditor, r.settings}
	}
	loop := train.NewLoop(trainer)
	const first, last = -1000, 1000
	done := 0
	loop.OnStep("first", first, func(*train.Loop, []*tensors.Tensor) error {
		r.step++
		for _, event := range r.events {
			if event.step == r.step {
				event.act()
			}
		}
		return nil
	})
	loop.OnStep("last", last, func(*train.Loop, []*tensors.Tensor) error { done++; return nil })
	builder := hooks.New(auditor).WithSink(r.sink(run)).WithSchedule(hooks.EverySteps(auditEvery)).WithFailures(policy).WithModel("unet", 7).WithLogger(log)
	if err := r.configure(builder); err != nil {
		return none, err
	}
	hook, err := builder.Attach(loop)
	if err != nil {
		return none, err
	}
	r.attached(loop, hook)
	_, err = loop.RunSteps(r.data, faultySteps)
	switch {
	case err == nil && done == faultySteps:
		how = "carries on"
	case err == nil:
		how = fmt.Sprintf("stops cleanly after step %d", done)
	case r.step == 0:
		how = none
	default:
		how = fmt.Sprintf("ends at step %d", r.step)
	}
	unwritten := hook.Close()
	r.closed = unwritten == nil
	return how, errors.Join(err, unwritten)
}

// requireSteps checks that the training's steps are all in the table, once, whatever has happened.
func requireSteps(t *testing.T, last int, rows []audit.TrainingRow) {
	t.Helper()
	var steps []int
	for _, row := range rows {
		if row.Step <= faultySteps { // not of the earlier process
			steps = append(steps, int(row.Step))
		}
	}
	slices.Sort(steps)
	require.Len(t, steps, last)
	for i, step := range steps {
		require.Equal(t, i+1, step)
	}
}

// firstTold is what the user reads first: the first warning or error in the log, the reason of a clean stop, or the error
// in which the training ended, without what GoMLX puts before the hook's.
func firstTold(err error, log string) string {
	told := ""
	for line := range strings.Lines(log) {
		var entry struct{ Level, Message, Error, Reason string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch {
		case entry.Level == "warn" || entry.Level == "error":
			told = entry.Error
			if told == "" {
				told = entry.Message
			}
		case entry.Reason != "":
			told = entry.Message + ": " + entry.Reason
		default:
			continue
		}
		break
	}
	if told == "" && err != nil {
		told = err.Error()
	}
	told, _, _ = strings.Cut(told, "\n")
	if i := strings.Index(told, "hooks: "); i >= 0 {
		told = told[i:]
	}
	return told
}

// wholeAudits are the steps of the audits that are there with all their tables.
func wholeAudits(t *testing.T, records audit.Records) map[int64]bool {
	t.Helper()
	tables := [4]map[int64]bool{{}, {}, {}, {}}
	for _, row := range records.Coherence {
		tables[0][row.Step] = true
	}
	for _, row := range records.Errors {
		tables[1][row.Step] = true
	}
	for _, row := range records.Influence {
		tables[2][row.Step] = true
	}
	for _, row := range records.Solves {
		tables[3][row.Step] = true
	}
	for _, table := range tables[1:] {
		require.Equal(t, tables[0], table)
	}
	return tables[0]
}

// failingFiles is the real disk, but for what a fault makes of it. No power fails here, so nothing waits for the disk.
type failingFiles struct {
	osFiles
	fault func(operation, path string) error // an error is what the operation returns; nil never
}

func (f *failingFiles) strike(operation, path string) error {
	if f.fault == nil {
		return nil
	}
	return f.fault(operation, path)
}

func (f *failingFiles) MkdirAll(path string) error {
	return errors.Join(f.strike("mkdir", path), f.osFiles.MkdirAll(path))
}

func (f *failingFiles) WriteSynced(path string, content []byte) error {
	if err := f.strike("write", path); err != nil {
		_ = os.WriteFile(path, content[:len(content)/2], 0o666)
		return err
	}
	if err := os.WriteFile(path, content, 0o666); err != nil {
		return err
	}
	return f.strike("fsync", path)
}

func (f *failingFiles) Rename(from, to string) error {
	if err := f.strike("rename", to); err != nil {
		return err
	}
	return f.osFiles.Rename(from, to)
}

func (f *failingFiles) Remove(path string) error {
	if err := f.strike("remove", path); err != nil {
		return err
	}
	return f.osFiles.Remove(path)
}

func (f *failingFiles) SyncDir(path string) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	return f.strike("syncdir", path)
}

// states is a dataset of one batch of flow states, for ever.
type states struct {
	fail  int     // an error takes the place of this batch, counted from 1
	spoil int     // value is put into this batch
	value float64 // not finite
}

func (s *states) Name() string { return "states" }

func (s *states) Iter() iter.Seq2[train.Batch, error] {
	return func(yield func(train.Batch, error) bool) {
		for i := 1; ; i++ {
			if i == s.fail {
				yield(train.Batch{}, io.ErrUnexpectedEOF)
				return
			}
			x := flow(grid, grid, 4)
			if i == s.spoil {
				setFirst(x, s.value)
			}
			if !yield(train.Batch{Inputs: []*tensors.Tensor{x}, Labels: []*tensors.Tensor{flow(grid, grid, 4)}}, nil) {
				return
			}
		}
	}
}

const grid = 4

// flow is two states of so many rows, columns and channels.
func flow(dimensions ...int) *tensors.Tensor {
	dimensions = append([]int{2}, dimensions...)
	size := 1
	for _, n := range dimensions {
		size *= n
	}
	values := make([]float32, size)
	for i := range values {
		values[i] = 1 + float32(i%7)/10
	}
	return tensors.FromFlatDataAndDimensions(values, dimensions...)
}

// sound is noise and what a step of acoustics makes of it, with channels density, momentum along y, along x, and energy.
func sound() audit.Probes {
	const n, size = 4, 16
	random := rand.New(rand.NewPCG(1, 2))
	before := make([]float32, n*size*size*4)
	for i := range before {
		before[i] = float32(random.NormFloat64())
	}
	after := slices.Clone(before)
	at := func(sample, y, x, c int) int { return ((sample*size+(y+size)%size)*size+(x+size)%size)*4 + c }
	for sample := range n {
		for y := range size {
			for x := range size {
				slope := func(dy, dx, c int) float32 {
					return (before[at(sample, y+dy, x+dx, c)] - before[at(sample, y-dy, x-dx, c)]) / 8
				}
				divergence := slope(1, 0, 1) + slope(0, 1, 2)
				after[at(sample, y, x, 0)] -= divergence
				after[at(sample, y, x, 1)] -= slope(1, 0, 0)
				after[at(sample, y, x, 2)] -= slope(0, 1, 0)
				after[at(sample, y, x, 3)] -= divergence
			}
		}
	}
	return audit.Probes{
		Inputs: tensors.FromFlatDataAndDimensions(before, n, size, size, 4), Targets: tensors.FromFlatDataAndDimensions(after, n, size, size, 4),
	}
}

func setFirst(x *tensors.Tensor, value float64) {
	tensors.MustMutableFlatData(x, func(flat []float32) { flat[0] = float32(value) })
}

// dense is a model: a linear map of the channels.
func dense(scope *model.Scope, x *graph.Node) *graph.Node {
	return layers.Dense(scope.In("dense"), x, true, 4)
}

// realAuditor audits modelFn with few products.
func (r *rig) realAuditor(probes audit.Probes) {
	r.auditor = func(trainer *train.Trainer) (hooks.Auditor, error) {
		auditor, err := audit.New(trainer, r.modelFn, nil).WithField(orbits.EulerField()).WithDType(dtypes.Float32).WithRelativeLambda(0.1).WithGroup(orbits.C4(), probes).Done()
		if err != nil {
			return nil, err
		}
		r.t.Cleanup(auditor.Close)
		return auditor, nil
	}
}

// script is an auditor without a model. before, which may be nil, runs within each audit.
type script struct {
	before func(ctx context.Context, step int64) error
}

func (s *script) Audit(ctx context.Context, at audit.Moment) (*audit.Records, error) {
	if s.before != nil {
		if err := s.before(ctx, at.Step); err != nil {
			return nil, err
		}
	}
	records := auditAt(at.Step)
	records.Training = nil
	return records, nil
}

// described is an auditor that tells its settings.
type described struct {
	hooks.Auditor
	settings map[string]string
}

func (d described) Settings() map[string]string { return d.settings }
