package writers

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/gofrs/flock"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/atomicfile"
)

// Builder of a Run; see Parquet.
type Builder struct {
	dir       string
	info      Info
	resume    bool
	newSeries bool
	disk      files
}

// Parquet starts to open the run directory dir for writing. Done opens it.
func Parquet(dir string) *Builder { return &Builder{dir: dir, disk: osFiles{}} }

// WithInfo says what writes the run. Default: only what Done fills in.
func (b *Builder) WithInfo(info Info) *Builder {
	b.info = info
	return b
}

// WithResume continues the run that is in the directory, as its next attempt, or starts one where there is none, so
// that a job which may be killed and queued again can always ask for it. Default: a directory with files in it is
// refused.
func (b *Builder) WithResume() *Builder {
	b.resume = true
	return b
}

// WithNewSeries lets the audits of a resumed run have other settings than before: another lambda, metric, group or field. Their
// values are then a series of their own, which neither stop rules nor the report's lines join to the one before. Default: other
// settings are refused.
func (b *Builder) WithNewSeries() *Builder {
	b.newSeries = true
	return b
}

// Check reports why Done would not open the run, as far as can be known without making anything: to be called before what
// takes long.
func (b *Builder) Check() error {
	if b.dir == "" {
		return errors.New("writers: the run directory has no name; give one, such as runs/first")
	}
	if err := b.info.validate(); err != nil {
		return err
	}
	if err := b.checkOccupied(); err != nil {
		return err
	}
	infos, err := readInfos(b.dir)
	if err != nil || len(infos) == 0 || !b.resume {
		return err
	}
	first := infos[0]
	if first.SchemaVersion < SchemaVersion {
		return fmt.Errorf("writers: %s has schema version %d, and rows of version %d would not join its tables; end it with the symaudit that began it, or choose another directory", b.dir, first.SchemaVersion, SchemaVersion)
	}
	if was, is := first.kind(), b.info.kind(); was != "" && is != "" && was != is {
		return fmt.Errorf("writers: %s holds a run of another kind: it was made by %s, not by %s; choose another directory", b.dir, article(was), article(is))
	}
	return nil
}

func article(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// Done opens the run. The directory is locked against other writers until Close or the end of the process, kill -9
// included.
func (b *Builder) Done() (*Run, error) {
	if err := b.Check(); err != nil {
		return nil, err
	}
	for _, folder := range tableNames() {
		if err := b.disk.MkdirAll(filepath.Join(b.dir, folder)); err != nil {
			return nil, explain("make", filepath.Join(b.dir, folder), err)
		}
	}
	lock, err := takeLock(b.dir)
	if err != nil {
		return nil, err
	}
	run, err := b.open(lock)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return run, nil
}

func (b *Builder) open(lock *flock.Flock) (*Run, error) {
	// Again, now that nobody else can fill it.
	if err := b.Check(); err != nil {
		return nil, err
	}
	for _, folder := range []string{filepath.Dir(filepath.Clean(b.dir)), b.dir} {
		if err := b.disk.SyncDir(folder); err != nil {
			return nil, explain("sync", folder, err)
		}
	}
	earlier, err := readInfos(b.dir)
	if err != nil {
		return nil, err
	}
	if !b.resume {
		for _, info := range earlier { // of a process that was killed before it wrote anything
			if err := b.disk.Remove(filepath.Join(b.dir, infoName(info.Attempt))); err != nil {
				return nil, explain("remove", filepath.Join(b.dir, infoName(info.Attempt)), err)
			}
		}
		earlier = nil
	}
	run := &Run{directory: directory{path: b.dir, disk: b.disk}, lock: lock, newSeries: b.newSeries, earlier: earlier, present: map[identity]*presence{}}
	if run.next, err = run.directory.repair(); err != nil {
		return nil, err
	}
	last, err := run.directory.lastAttempt()
	if err != nil && len(earlier) > 0 {
		last = 0 // a damaged part is no reason not to go on: reading names it
	}
	if int(last) > len(earlier) {
		return nil, fmt.Errorf("writers: %s is missing: there are parts of attempt %d; restore it from a copy", filepath.Join(b.dir, infoName(last)), last)
	}
	runID, attempt := "", int32(1)
	if len(earlier) > 0 {
		runID, attempt = earlier[0].RunID, earlier[len(earlier)-1].Attempt+1
	}
	if err := run.describe(b.info.complete(runID, attempt)); err != nil {
		return nil, err
	}
	return run, nil
}

// checkOccupied refuses a directory with files in it, unless they are a run to resume. Empty table folders, dot-files and the
// description of a run without a part are what a process leaves that is killed before it has written anything.
func (b *Builder) checkOccupied() error {
	entries, err := os.ReadDir(b.dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return explain("list", b.dir, err)
	}
	isRun := slices.ContainsFunc(entries, func(entry os.DirEntry) bool { return entry.Name() == firstInfoName })
	if isRun && b.resume {
		return nil
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") || isRun && isInfoName(entry.Name()) {
			continue
		}
		if children, err := os.ReadDir(filepath.Join(b.dir, entry.Name())); err == nil && len(children) == 0 {
			continue
		}
		if isRun {
			return &OccupiedError{b.dir}
		}
		return fmt.Errorf("writers: %s is not empty (it holds %s) and has no %s; choose another directory",
			b.dir, entry.Name(), firstInfoName)
	}
	return nil
}

// OccupiedError says that a directory holds a run, which was not to be resumed.
type OccupiedError struct{ Dir string }

func (e *OccupiedError) Error() string {
	return "writers: " + e.Dir + " already holds a run; resume it (WithResume), or choose another directory"
}

// Run is a run open for writing. It is an audit.Sink, safe for concurrent use.
type Run struct {
	directory directory
	lock      *flock.Flock
	newSeries bool // audits may have other settings than before

	mu      sync.Mutex
	earlier []Info // attempts before this one, oldest first
	info    Info   // this attempt, as it is on the disk
	present map[identity]*presence
	next    int      // number of the next part; never one that was tried before
	half    []string // tables of the part before it, if that could be neither written nor taken back
	closed  error    // by Close
}

// Dir returns the run directory as it was given to Parquet.
func (r *Run) Dir() string { return r.directory.path }

// String is the run directory, for messages.
func (r *Run) String() string { return r.Dir() }

// ID returns the run's identifier, the run_id of every row.
func (r *Run) ID() string { return r.Info().RunID }

// Attempt returns 1 at first, one more when the run is resumed, or when a training goes back to an earlier step.
func (r *Run) Attempt() int32 { return r.Info().Attempt }

// Info returns the description of this attempt.
func (r *Run) Info() Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// describe writes an attempt's description, which is then this run's.
func (r *Run) describe(info Info) error {
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("writers: cannot describe the run: %w", err)
	}
	path := filepath.Join(r.Dir(), infoName(info.Attempt))
	if err := atomicfile.Write(r.directory.disk, path, append(text, '\n')); err != nil {
		return explain("write", path, err)
	}
	r.info = info
	return nil
}

// Write appends records as one part; nothing is written where there are none. After it has returned nil they survive a
// power failure. After an error nothing of them is visible and the run can be written to again, unless the error says
// that they could not be taken back: then the disk refused that, too. Read returns such a part whole or not at all. The
// next Write takes it back before it writes, and resuming the run instead finishes or removes it.
//
// RunID and Attempt of the rows are written as this run's, whatever they are.
func (r *Run) Write(records *audit.Records) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed != nil {
		return r.closed
	}
	if records == nil {
		return nil
	}
	if err := r.admit(records); err != nil {
		return err
	}
	part, order, err := r.encode(records)
	if err != nil || len(order) == 0 {
		return err
	}
	if err := r.takeBack(); err != nil {
		return err
	}
	// A failed part may leave hidden files behind, and another program a file: the next part must not be mixed with them.
	number := r.next
	r.next++
	for _, table := range order {
		path := r.directory.visible(table, number)
		if found, err := exists(path); err != nil {
			return err
		} else if found {
			return fmt.Errorf("writers: %s was put there by another program; move it away", path)
		}
	}
	if err := r.directory.stage(number, part, order); err != nil {
		_ = r.directory.discard(number, order) // the next resume removes what is left
		return err
	}
	if err := r.directory.publish(number, order); err != nil {
		r.half = order
		if undone := r.takeBack(); undone != nil {
			return undone
		}
		return err
	}
	r.wrote(records)
	return nil
}

// takeBack removes what there is of a part that was not published.
func (r *Run) takeBack() error {
	if r.half == nil {
		return nil
	}
	number := r.next - 1
	if err := r.directory.withdraw(number, r.half); err != nil {
		return fmt.Errorf("writers: part %d could be neither written nor taken back; the next write tries again, and resuming the run settles it: %w", number, err)
	}
	_ = r.directory.discard(number, r.half) // the next resume removes what is left
	r.half = nil
	return nil
}

// encode returns the files of a part by table and the tables in the order of publishing.
func (r *Run) encode(records *audit.Records) (part map[string][]byte, order []string, err error) {
	for _, table := range tables {
		if table.count(records) > 0 {
			order = append(order, table.name())
		}
	}
	part = map[string][]byte{}
	stamp := stamp{runID: r.info.RunID, attempt: r.info.Attempt, tables: order, trainings: r.info.Trainings}
	for _, table := range tables {
		if table.count(records) == 0 {
			continue
		}
		if part[table.name()], err = table.encode(records, stamp); err != nil {
			return nil, nil, err
		}
	}
	return part, order, nil
}

// Close lets other processes write to the directory. Everything written is already safe. A run to which nothing was written can
// be begun anew in its place.
func (r *Run) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed == nil {
		r.closed = fmt.Errorf("writers: %s is closed; resume it to write more", r.Dir())
	}
	if err := r.lock.Unlock(); err != nil {
		return explain("unlock", r.lock.Path(), err)
	}
	return nil
}
