package writers

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/gofrs/flock"

	"github.com/symaudit/symaudit/audit"
)

const lockName = ".lock"

// Builder of a Run; see Parquet.
type Builder struct {
	dir    string
	info   Info
	resume bool
	disk   files
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

// Done opens the run. The directory is locked against other writers until Close or the end of the process, kill -9
// included.
func (b *Builder) Done() (*Run, error) {
	if err := b.checkOccupied(); err != nil {
		return nil, err
	}
	for _, folder := range tableNames() {
		if err := b.disk.MkdirAll(filepath.Join(b.dir, folder)); err != nil {
			return nil, explain("make", filepath.Join(b.dir, folder), err)
		}
	}
	lock := flock.New(filepath.Join(b.dir, lockName))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, explain("lock", lock.Path(), err)
	}
	if !locked {
		return nil, fmt.Errorf("writers: another process is writing to %s; wait for its end, or choose another directory", b.dir)
	}
	run, err := b.open(lock)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return run, nil
}

func (b *Builder) open(lock *flock.Flock) (*Run, error) {
	// Again, now that nobody else can fill it.
	if err := b.checkOccupied(); err != nil {
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
	run := &Run{directory: directory{path: b.dir, disk: b.disk}, lock: lock}
	for _, info := range earlier {
		run.probeHash = cmp.Or(run.probeHash, info.ProbeHash)
	}
	if run.next, err = run.directory.repair(); err != nil {
		return nil, err
	}
	runID, attempt := "", int32(1)
	if len(earlier) > 0 {
		runID, attempt = earlier[0].RunID, earlier[len(earlier)-1].Attempt+1
	}
	if err := run.checkProbes(b.info.ProbeHash); err != nil {
		return nil, err
	}
	run.info = b.info.complete(runID, attempt)
	if err := run.describe(); err != nil {
		return nil, err
	}
	return run, nil
}

// checkOccupied refuses a directory with files in it, unless they are a run to resume. Empty table folders and
// dot-files are what a process leaves that is killed before it has described its run.
func (b *Builder) checkOccupied() error {
	entries, err := os.ReadDir(b.dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return explain("list", b.dir, err)
	}
	for _, entry := range entries {
		if entry.Name() == firstInfoName {
			if b.resume {
				return nil
			}
			return fmt.Errorf("writers: %s already holds a run; resume it (--resume, or WithResume), or choose another directory", b.dir)
		}
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		if children, err := os.ReadDir(filepath.Join(b.dir, entry.Name())); err == nil && len(children) == 0 {
			continue
		}
		return fmt.Errorf("writers: %s is not empty (it holds %s) and has no %s; choose another directory",
			b.dir, entry.Name(), firstInfoName)
	}
	return nil
}

// Run is a run open for writing. It is an audit.Sink, safe for concurrent use.
type Run struct {
	directory directory
	lock      *flock.Flock
	probeHash string // of the attempts before this one; "" where none has said

	mu     sync.Mutex
	info   Info
	next   int      // number of the next part; never one that was tried before
	half   []string // tables of the part before it, if that could be neither written nor taken back
	closed error    // by Close
}

// Dir returns the run directory as it was given to Parquet.
func (r *Run) Dir() string { return r.directory.path }

// ID returns the run's identifier, the run_id of every row.
func (r *Run) ID() string { return r.info.RunID }

// Attempt returns 1 for the process that began the run, one more at each resume.
func (r *Run) Attempt() int32 { return r.info.Attempt }

// Info returns the description of this attempt.
func (r *Run) Info() Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// SetProbeHash adds the hash of the probes to the run's description, for a run that is opened before its probes are
// there. Like Done it refuses probes other than those of the attempts before.
func (r *Run) SetProbeHash(hash string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.checkProbes(hash); err != nil {
		return err
	}
	if hash == r.info.ProbeHash {
		return nil
	}
	r.info.ProbeHash = hash
	return r.describe()
}

func (r *Run) checkProbes(hash string) error {
	if hash != "" && r.probeHash != "" && hash != r.probeHash {
		return fmt.Errorf("writers: %s was audited on probes %s, not %s; resume it with the same probes, or choose another directory",
			r.Dir(), r.probeHash, hash)
	}
	return nil
}

// describe writes the attempt's description.
func (r *Run) describe() error {
	text, err := json.MarshalIndent(r.info, "", "  ")
	if err != nil {
		return fmt.Errorf("writers: cannot describe the run: %w", err)
	}
	return writeAtomically(r.directory.disk, filepath.Join(r.Dir(), infoName(r.info.Attempt)), append(text, '\n'))
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
		if records != nil && table.count(records) > 0 {
			order = append(order, table.name())
		}
	}
	part = map[string][]byte{}
	stamp := stamp{runID: r.info.RunID, attempt: r.info.Attempt, tables: order}
	for _, table := range tables {
		if records == nil || table.count(records) == 0 {
			continue
		}
		if part[table.name()], err = table.encode(records, stamp); err != nil {
			return nil, nil, err
		}
	}
	return part, order, nil
}

// Close lets other processes write to the directory. Everything written is already safe.
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
