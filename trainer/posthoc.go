package trainer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/writers"
)

// Checkpoint names one of a run.
type Checkpoint struct {
	Model string
	Seed  int64 // of its training
	Step  int64 // of the optimizer
}

// Selection is of checkpoints of a run.
type Selection struct {
	Models []string // all, if there is none
	Seeds  []int64  // all, if there is none
	// Steps are the first and the last optimizer step; nil takes the latest checkpoint of each training.
	Steps *[2]int64
}

// Select lists the checkpoints of the run in a directory that a selection takes, by seed, model and step. The configuration is the run's. That there is none is
// an error.
func Select(config Config, dir string, of Selection) (all []Checkpoint, err error) {
	contents, err := writers.Read(dir, "decisions")
	if err != nil {
		return nil, err
	}
	if kind := contents.Info.Kind; kind == writers.KindAudit || kind == writers.KindShard {
		return nil, fmt.Errorf("trainer: %s holds the audit of a checkpoint, and no checkpoint itself; name the directory of the training", dir)
	}
	for _, name := range of.Models {
		if !slices.ContainsFunc(config.Models, func(m Model) bool { return m.Name == name }) {
			var names []string
			for _, m := range config.Models {
				names = append(names, m.Name)
			}
			return nil, fmt.Errorf("trainer: %s has no model %q; it has %s", dir, name, strings.Join(names, ", "))
		}
	}
	for _, seed := range of.Seeds {
		if !slices.Contains(config.seeds(), seed) {
			return nil, fmt.Errorf("trainer: %s has no training with seed %d; it has those of %v", dir, seed, config.seeds())
		}
	}
	var there []string // in words
	for _, seed := range config.seeds() {
		for _, m := range config.Models {
			if of.Models != nil && !slices.Contains(of.Models, m.Name) || of.Seeds != nil && !slices.Contains(of.Seeds, seed) {
				continue
			}
			steps, err := newCheckpoints(config, dir, m.Name, seed).Steps()
			switch {
			case err != nil:
				return nil, fmt.Errorf("trainer: %w", err)
			case len(steps) == 0:
				there = append(there, fmt.Sprintf("%s has no checkpoint of model %q; train it for at least one epoch", dir, config.training(m.Name, seed)))
				continue
			case of.Steps == nil:
				steps = steps[len(steps)-1:]
			}
			there = append(there, fmt.Sprintf("the checkpoints of %s are of the steps %v", config.training(m.Name, seed), steps))
			for _, step := range steps {
				if of.Steps == nil || step >= of.Steps[0] && step <= of.Steps[1] {
					all = append(all, Checkpoint{m.Name, seed, step})
				}
			}
		}
	}
	switch {
	case len(all) > 0:
		return all, nil
	case of.Steps == nil:
		return nil, fmt.Errorf("trainer: %s", there[0])
	}
	return nil, fmt.Errorf("trainer: there is no checkpoint from step %d to %d: %s", of.Steps[0], of.Steps[1], strings.Join(there, "; "))
}

// Shard is a part of an audit of checkpoints, of which several machines make one each. The zero value is all of it.
//
// The unit of work is what is solved together: a batch of probes of a group at a checkpoint (audit.Auditor.Parts). Units are numbered through, and a shard takes
// each whose number leaves Index when divided by Of.
type Shard struct{ Index, Of int }

// ParseShard reads what String prints: "0/4" is the first of four.
func ParseShard(text string) (s Shard, err error) {
	index, of, found := strings.Cut(text, "/")
	if s.Index, err = strconv.Atoi(index); err == nil && found {
		s.Of, err = strconv.Atoi(of)
	}
	if err != nil || !found || s.Of < 1 || s.Index < 0 || s.Index >= s.Of {
		return s, fmt.Errorf("trainer: %q is no shard; give its number, from 0 on, and how many there are, such as 0/4", text)
	}
	return s, nil
}

func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Of) }

// takes reports whether a unit belongs to the shard.
func (s Shard) takes(unit int) bool { return s.Of == 0 || unit%s.Of == s.Index }

// Target is where the audits of checkpoints go.
type Target struct {
	Dir    string // run directory to write; it must not exist unless the audits are resumed
	Resume bool   // go on where an earlier call was killed; what it has audited is left alone
	Shard  Shard  // of the work
}

// begun reports whether there are audits to go on with; a process that was killed before its first may have left the folder alone.
func (t Target) begun() bool {
	_, err := os.Stat(filepath.Join(t.Dir, "run.json"))
	return t.Resume && err == nil
}

// AuditCheckpoints audits checkpoints of the run in options.Dir, in their order, and writes the records of each into a run directory of their own as soon as it
// is done; options.Watcher.Audited hears of it. config is the run's, but for what is to be audited otherwise.
func AuditCheckpoints(ctx context.Context, config Config, options Options, checkpoints []Checkpoint, to Target) (err error) {
	info := options.info(config, writers.KindAudit)
	info.Seeds = nil
	for _, at := range checkpoints {
		if !slices.Contains(info.Seeds, at.Seed) {
			info.Seeds = append(info.Seeds, at.Seed)
		}
	}
	if to.Shard.Of > 0 {
		info.Kind, info.Shard = writers.KindShard, to.Shard.String()
	}
	for _, at := range checkpoints {
		info.Checkpoints = append(info.Checkpoints, fmt.Sprintf("%s, seed %d, step %d", at.Model, at.Seed, at.Step))
	}
	audited, err := writers.Read(options.Dir, "decisions")
	if err != nil {
		return err
	}
	info.Audited, info.DataHash = audited.Info.RunID, audited.Info.DataHash
	builder := writers.Parquet(to.Dir).WithInfo(info)
	if to.Resume {
		builder.WithResume()
	}
	of, err := openFinished(ctx, config, options, checkpoints, func() error {
		if err := builder.Check(); err != nil {
			return err
		}
		return sameAudits(to, info)
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, of.close()) }()
	done, err := auditedIn(to)
	if err != nil {
		return err
	}
	sink := &auditSink{config: config, to: to, builder: builder, watcher: options.Watcher}
	defer func() { err = errors.Join(err, sink.close()) }()
	units := 0 // of a checkpoint; as many of each
	for i, at := range checkpoints {
		var parts []int
		for part := range units {
			if to.Shard.takes(i*units + part) {
				parts = append(parts, part)
			}
		}
		if i > 0 && (len(parts) == 0 || slices.Contains(done, at)) {
			continue
		}
		auditor, moment, err := of.open(at)
		if err != nil {
			return err
		}
		if i == 0 { // now it is known
			units = auditor.Parts()
			for part := range units {
				if to.Shard.takes(part) {
					parts = append(parts, part)
				}
			}
			if len(parts) == 0 || slices.Contains(done, at) {
				continue
			}
		}
		var records *audit.Records
		if len(parts) == units {
			records, err = auditor.Audit(ctx, moment)
		} else {
			records, err = auditor.AuditParts(ctx, moment, parts...)
		}
		if err != nil {
			return of.session.explain(err)
		}
		if err := sink.write(at, records, auditor.Settings()); err != nil {
			return err
		}
	}
	return sink.finish()
}

// sameAudits refuses to go on with audits that are of something else.
func sameAudits(to Target, now writers.Info) error {
	if !to.begun() {
		return nil
	}
	contents, err := writers.Read(to.Dir, "decisions")
	if err != nil {
		return err
	}
	began := contents.Info
	if what := another(began, now, compared{"kind", began.Kind, now.Kind}, compared{"shard", began.Shard, now.Shard}); what != "" {
		return fmt.Errorf("trainer: the audits in %s were begun for another %s; go on as they were begun, or choose another directory", to.Dir, what)
	}
	return nil
}

// auditedIn lists the checkpoints that a run of audits which is gone on with has.
func auditedIn(to Target) (done []Checkpoint, err error) {
	if !to.begun() {
		return nil, nil
	}
	earlier, err := writers.Read(to.Dir, "solves", "errors")
	if err != nil {
		return nil, err
	}
	for _, m := range earlier.Records.Moments() {
		done = append(done, Checkpoint{m.Model, m.Seed, m.Step})
	}
	return done, nil
}

// auditSink makes its run when there are records to write: an audit that fails leaves nothing behind.
type auditSink struct {
	config  Config
	watcher Watcher
	to      Target
	builder *writers.Builder
	run     *writers.Run
	sinks   []audit.Sink
	closing func() error
}

func (s *auditSink) open() (err error) {
	if s.run, err = s.builder.Done(); err != nil {
		return err
	}
	s.sinks, s.closing, err = s.config.Audit.openSinks(s.to.Dir)
	return err
}

func (s *auditSink) write(at Checkpoint, records *audit.Records, settings map[string]string) error {
	if s.run == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	if err := s.run.Enter(s, at.Model, at.Seed, at.Step, settings); err != nil {
		return err
	}
	if err := s.run.Write(records); err != nil {
		return err
	}
	for _, moment := range records.Moments() {
		moment.RunID, moment.Attempt = s.run.ID(), s.run.Attempt()
	}
	for _, sink := range s.sinks {
		if err := sink.Write(records); err != nil {
			return err
		}
	}
	if report := s.watcher.Audited; report != nil {
		report(s.config.training(at.Model, at.Seed), records)
	}
	return nil
}

// finish marks the audits as complete. A shard that had nothing to do has a run, too: it is not missing.
func (s *auditSink) finish() error {
	end := filepath.Join(s.to.Dir, endName)
	if s.run == nil {
		if _, err := os.Stat(end); err == nil {
			return nil // nothing was left to do
		}
		if err := s.open(); err != nil {
			return err
		}
	}
	return cause.In("trainer", atomicfile.Write(atomicfile.OS{}, end, nil))
}

// AuditsFinished reports whether the audits of checkpoints in a run directory are all made.
func AuditsFinished(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, endName))
	return err == nil
}

func (s *auditSink) close() (err error) {
	if s.closing != nil {
		err = s.closing()
	}
	if s.run != nil {
		err = errors.Join(err, s.run.Close())
	}
	return err
}

// ExportCheckpoint audits a checkpoint, and writes what influence was computed from into the new folder out: audit.Auditor.Export, with its limit of a
// Jacobian's bytes.
func ExportCheckpoint(ctx context.Context, config Config, options Options, at Checkpoint, out string, jacobianLimit int64) (err error) {
	of, err := openFinished(ctx, config, options, []Checkpoint{at}, func() error { return cause.In("trainer", atomicfile.CheckFree(out)) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, of.close()) }()
	auditor, moment, err := of.open(at)
	if err != nil {
		return err
	}
	records, err := auditor.Export(ctx, moment, out, jacobianLimit)
	if err != nil {
		return of.session.explain(err)
	}
	if report := options.Watcher.Audited; report != nil {
		report(config.training(at.Model, at.Seed), records)
	}
	return nil
}

// finished is a run whose checkpoints are audited.
type finished struct {
	config   Config
	options  Options
	contents *writers.Contents
	data     *states
	same     bool // data and probes are to be those of the training

	session *session // of the checkpoint that was opened last
	auditor *audit.Auditor
}

// openFinished opens the data of a run and makes sure that its checkpoints can be loaded; whatever fails does so before anything is made. checkOut says, before
// anything slow, whether the output can be made.
func openFinished(ctx context.Context, config Config, options Options, checkpoints []Checkpoint, checkOut func() error) (of *finished, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	of = &finished{config: config, options: options}
	if of.contents, err = writers.Read(options.Dir, "decisions"); err != nil {
		return nil, err
	}
	if err := checkOut(); err != nil {
		return nil, err
	}
	for _, at := range checkpoints {
		if err := newCheckpoints(config, options.Dir, at.Model, at.Seed).Load(at.Step, model.NewStore(), nil); err != nil {
			return nil, fmt.Errorf("trainer: %w", err)
		}
		if of.contents.Training(at.Model, at.Seed) == nil && of.contents.Info.SchemaVersion > 1 {
			return nil, fmt.Errorf("trainer: %s has not trained model %q with seed %d, as its configuration says: has run.json been changed? Put it back", options.Dir, at.Model, at.Seed)
		}
	}
	own, _, err := RunConfig(options.Dir)
	if err != nil {
		return nil, err
	}
	of.same = reflect.DeepEqual(own.Data, config.Data) && reflect.DeepEqual(own.Audit.Groups, config.Audit.Groups)
	if of.data, err = openData(ctx, config, options); err != nil {
		return nil, err
	}
	if err := checkSameData(config, options.Dir, of.contents.Info.DataHash, of.data.Hash()); err != nil {
		return nil, errors.Join(err, of.data.Close())
	}
	return of, nil
}

// open loads a checkpoint and returns the auditor of its model, which stays for the next checkpoint of the same training: its programs need not be compiled
// again.
func (f *finished) open(at Checkpoint) (auditor *audit.Auditor, moment audit.Moment, err error) {
	perEpoch := f.data.batches(f.config, at.Seed, 0).stepsPerEpoch()
	moment = audit.Moment{Model: at.Model, Seed: at.Seed, Step: at.Step, Epoch: float64(at.Step) / float64(perEpoch)}
	// The optimizer's own variables are read in another way by the first audit of a session, which shows in the last bits of its metric: there each checkpoint has
	// a session, so that a row does not depend on what was audited before.
	if s := f.session; s != nil && s.model.Name == at.Model && s.seed == at.Seed && f.config.Audit.Metric != string(audit.MetricOptimizer) {
		return f.auditor, moment, s.load(at.Step)
	}
	f.release()
	index := slices.IndexFunc(f.config.Models, func(m Model) bool { return m.Name == at.Model })
	s := &session{
		config: f.config, options: f.options, data: f.data, model: f.config.Models[index], seed: at.Seed,
		checkpoints: newCheckpoints(f.config, f.options.Dir, at.Model, at.Seed),
	}
	if _, err := s.open(&at.Step); err != nil {
		return nil, moment, err
	}
	f.session = s
	if f.auditor, err = s.newAuditor(); err != nil {
		return nil, moment, s.explain(err)
	}
	if f.same && !f.sameProbes(at, f.auditor) {
		return nil, moment, fmt.Errorf("trainer: the probes are not those that %s was audited on: has its configuration or data been changed, or are the data generated on another backend (--backend; this is %s)? Put them back", f.options.Dir, f.options.backendName())
	}
	return f.auditor, moment, nil
}

func (f *finished) release() {
	if f.auditor != nil {
		f.auditor.Close()
	}
	if f.session != nil {
		f.session.store.Finalize()
	}
	f.auditor, f.session = nil, nil
}

func (f *finished) close() error {
	f.release()
	return f.data.Close()
}

// sameProbes reports whether an auditor's probes are those that the training was audited on.
func (f *finished) sameProbes(at Checkpoint, auditor *audit.Auditor) bool {
	known := f.contents.Training(at.Model, at.Seed)
	if known == nil { // of version 1
		return f.contents.Info.ProbeHash == "" || f.contents.Info.ProbeHash == auditor.ProbeHash()
	}
	now := auditor.Settings()
	for setting, hash := range known.Settings {
		if strings.HasPrefix(setting, audit.SettingProbes) && now[setting] != hash {
			return false
		}
	}
	return true
}
