package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/gomlx/compute/dtypes"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/npy"
)

// Writer makes a data set, trajectory by trajectory, in any order. It is safe for concurrent use.
//
// Until Finish the set lies beside its place, in a folder with the name <directory>.partial. What is in it survives a kill, but for the trajectories of
// the last seconds.
type Writer struct {
	d       Description
	dir     string // "": in memory
	lock    *flock.Flock
	mu      sync.Mutex
	arrays  []array
	lines   []*os.File // about the trajectories of each family; none in memory
	records [][]record

	pending []written   // trajectories whose arrays may not be on the disk yet
	timer   *time.Timer // until these are flushed; nil where there are none
	late    error       // of a flush by the timer
}

type written struct {
	family int
	line   []byte
}

// How much may be lost to a kill. A sync of each trajectory would cost small ones more than solving them.
const mostPending = 64

var longestDelay = 5 * time.Second // tests do not wait as long

func partial(dir string) string { return filepath.Clean(dir) + ".partial" }

func isPartial(dir string) bool {
	_, err := os.Stat(filepath.Join(partial(dir), descriptionName))
	return err == nil
}

// InMemory begins a data set that is held in memory.
func InMemory(d Description) (*Writer, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	w := &Writer{d: d}
	for range d.Families {
		w.arrays = append(w.arrays, array{storage: memory(make([]byte, int64(d.Trajectories)*d.trajectoryBytes()))})
		w.records = append(w.records, make([]record, d.Trajectories))
	}
	return w, nil
}

// CompleteError says that the data that were to be gone on with are all there.
type CompleteError struct{ Dir string }

func (e *CompleteError) Error() string {
	return fmt.Sprintf("dataset: %s is complete: nothing is left to do", e.Dir)
}

// Plan returns what Create would leave to be written: the trajectories of each family, or the error that it would return. It changes nothing.
// Without a directory, "", it is all of them, and nothing is there to go on with.
func Plan(dir string, d Description, resume bool) (missing [][]int, err error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	if dir == "" {
		if resume {
			return nil, errors.New("dataset: no directory is named; name the one to go on with")
		}
		for range d.Families {
			missing = append(missing, missingOf(make([]record, d.Trajectories)))
		}
		return missing, nil
	}
	if whole, err := ReadDescription(dir); resume && err == nil {
		for i := range whole.Splits {
			whole.Splits[i].SHA256 = ""
		}
		if !bytes.Equal(whole.text(), d.text()) {
			return nil, fmt.Errorf("dataset: %s holds other data: %s; choose another directory", dir, difference(whole.text(), d.text()))
		}
		return nil, &CompleteError{dir}
	}
	if err := atomicfile.CheckFree(dir); err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	work := partial(dir)
	begun, err := parsePartial(dir)
	switch found := !errors.Is(err, fs.ErrNotExist); {
	case !found && resume:
		return nil, fmt.Errorf("dataset: there is no %s to go on with; leave --resume out", work)
	case !found:
		if err := checkSpace(filepath.Dir(filepath.Clean(dir)), d.Bytes()); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case !resume:
		return nil, fmt.Errorf("dataset: %s holds an unfinished part of %s; go on with it by --resume, or remove it", work, dir)
	case !bytes.Equal(begun.text(), d.text()):
		return nil, fmt.Errorf("dataset: %s was begun for other data: %s; go on with the settings and files that it was begun with, or remove it", work, difference(begun.text(), d.text()))
	}
	for _, family := range d.Families {
		records := make([]record, d.Trajectories)
		if resume {
			if records, _, err = d.readRecords(filepath.Join(work, family.Name+recordsSuffix)); err != nil {
				return nil, fmt.Errorf("dataset: %s: family %s: %w; remove the folder and begin again", work, family.Name, err)
			}
		}
		missing = append(missing, missingOf(records))
	}
	return missing, nil
}

// parsePartial reads the description of an unfinished set; where there is none, the error is fs.ErrNotExist.
func parsePartial(dir string) (d Description, err error) {
	path := filepath.Join(partial(dir), descriptionName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if entries, _ := os.ReadDir(partial(dir)); len(entries) > 1 { // beside the lock
			return d, fmt.Errorf("dataset: %s has no %s; remove the folder", partial(dir), descriptionName)
		}
		return d, err
	}
	if err == nil {
		d, err = parse(text)
	}
	if err != nil {
		return d, fmt.Errorf("dataset: %s: %w; remove the folder and begin again", path, err)
	}
	for i := range d.Splits {
		d.Splits[i].SHA256 = "" // of one that was killed when only its name was left to be given
	}
	return d, nil
}

func (d Description) text() []byte {
	d.SchemaVersion = schemaVersion
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil { // a struct of plain values always can be written
		panic(err)
	}
	return append(text, '\n')
}

// difference is the first line in which two descriptions differ.
func difference(was, is []byte) string {
	before, now := bytes.Split(was, []byte("\n")), bytes.Split(is, []byte("\n"))
	within := "" // the key of a list or an object
	for i := range min(len(before), len(now)) {
		if !bytes.Equal(before[i], now[i]) {
			if !bytes.Contains(before[i], []byte(`":`)) && within != "" {
				within = " in " + within
			} else {
				within = ""
			}
			return fmt.Sprintf("it says %s%s, and now it is %s", bytes.Trim(before[i], " ,"), within, bytes.Trim(now[i], " ,"))
		}
		if key, _, found := bytes.Cut(before[i], []byte(`":`)); found {
			within = string(bytes.Trim(key, ` "`))
		}
	}
	return "one says more than the other"
}

// Create begins a data set in a directory that does not exist, or with resume goes on with one that was begun with the same description; if that is complete the
// error is a *CompleteError.
func Create(dir string, d Description, resume bool) (w *Writer, err error) {
	if dir == "" {
		return nil, errors.New("dataset: no directory is named; name the one to write")
	}
	if _, err := Plan(dir, d, resume); err != nil {
		return nil, err
	}
	w = &Writer{d: d, dir: dir}
	work := partial(dir)
	if err := os.MkdirAll(work, 0o777); err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	w.lock = flock.New(filepath.Join(work, ".lock"))
	if locked, err := w.lock.TryLock(); err != nil || !locked {
		return nil, errors.Join(fmt.Errorf("dataset: another process is writing to %s; wait for its end", work), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("dataset: cannot write to %s: %w", work, err), w.Close())
		}
	}()
	for _, family := range d.Families {
		if err := w.open(filepath.Join(work, family.Name)); err != nil {
			return nil, err
		}
	}
	return w, atomicfile.Write(atomicfile.OS{}, filepath.Join(work, descriptionName), d.text()) // last: a folder that has it can be gone on with
}

// open opens the files of a family, and makes them where they are not there.
func (w *Writer) open(path string) error {
	header, err := npy.Header(dtypes.Float32, w.d.shape())
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path+".npy", os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	w.arrays = append(w.arrays, array{file, int64(len(header))})
	if err := file.Truncate(int64(len(header)) + int64(w.d.Trajectories)*w.d.trajectoryBytes()); err != nil {
		return err
	}
	if _, err := file.WriteAt(header, 0); err != nil {
		return err
	}
	lines, err := os.OpenFile(path+recordsSuffix, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	w.lines = append(w.lines, lines)
	records, end, err := w.d.readRecords(path + recordsSuffix)
	if err != nil {
		return err
	}
	w.records = append(w.records, records)
	if err := lines.Truncate(end); err != nil {
		return err
	}
	_, err = lines.Seek(0, io.SeekEnd)
	return err
}

// Missing lists the trajectories of a family that are not written yet, in order.
func (w *Writer) Missing(family int) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return missingOf(w.records[family])
}

func missingOf(records []record) (missing []int) {
	for i, r := range records {
		if r.SHA256 == "" {
			missing = append(missing, i)
		}
	}
	return missing
}

// Has reports whether a trajectory was written with these states.
func (w *Writer) Has(family, trajectory int, states []float32) bool {
	hash := sha256.Sum256(encode(states))
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records[family][trajectory].SHA256 == hex.EncodeToString(hash[:])
}

// Put writes a trajectory, [time, y, x, channel]. A number that is not finite is an error, and then nothing is written.
func (w *Writer) Put(family, trajectory int, states []float32) error {
	if want := w.d.Snapshots * w.d.values(); len(states) != want {
		return fmt.Errorf("dataset: trajectory %d of %s has %d numbers; it must have %d", trajectory, w.d.Families[family].Name, len(states), want)
	}
	encoded := encode(states)
	found, err := w.d.measure(trajectory, states, encoded)
	if err != nil {
		return fmt.Errorf("dataset: family %s: %w; make the trajectory anew", w.d.Families[family].Name, err)
	}
	if _, err := w.arrays[family].WriteAt(encoded, w.arrays[family].offset+int64(trajectory)*w.d.trajectoryBytes()); err != nil {
		return w.full(err)
	}
	line, err := json.Marshal(found)
	if err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records[family][trajectory] = found
	w.pending = append(w.pending, written{family, append(line, '\n')})
	if len(w.pending) == mostPending {
		return errors.Join(w.late, w.flush())
	}
	if w.timer == nil && w.dir != "" {
		w.timer = time.AfterFunc(longestDelay, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.timer != nil { // else something else has flushed them
				w.late = errors.Join(w.late, w.flush())
			}
		})
	}
	return w.late
}

// flush says of the pending trajectories that they are there, once they are.
func (w *Writer) flush() error {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if w.dir == "" {
		w.pending = nil
		return nil
	}
	for _, a := range w.arrays {
		if err := a.storage.(*os.File).Sync(); err != nil {
			return w.full(err)
		}
	}
	for _, p := range w.pending {
		if _, err := w.lines[p.family].Write(p.line); err != nil {
			return w.full(err)
		}
	}
	w.pending = nil
	return nil
}

func (w *Writer) full(err error) error {
	return fmt.Errorf("dataset: cannot write to %s: %w; what is written stays: mend the cause, and go on with --resume", partial(w.dir), err)
}

// Finish puts the set into its place and opens it. All trajectories must be there. The writer is closed then.
func (w *Writer) Finish() (*Set, error) {
	for family := range w.d.Families {
		if missing := w.Missing(family); len(missing) > 0 {
			return nil, fmt.Errorf("dataset: %d trajectories of %s are missing, the first is %d", len(missing), w.d.Families[family].Name, missing[0])
		}
	}
	for i := range w.d.Splits {
		w.d.Splits[i].SHA256 = w.d.Splits[i].hash(w.records)
	}
	if w.dir == "" {
		return &Set{Description: w.d, arrays: w.arrays, records: w.records}, nil
	}
	work := partial(w.dir)
	w.mu.Lock()
	err := errors.Join(w.late, w.flush())
	w.mu.Unlock()
	if err == nil {
		err = atomicfile.Write(atomicfile.OS{}, filepath.Join(work, descriptionName), w.d.text())
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(w.lock.Path()), atomicfile.Publish(work, w.dir)); err != nil {
		return nil, fmt.Errorf("dataset: %w", err)
	}
	return Open(w.dir)
}

// Close ends the writing for now; Create goes on with what is there.
func (w *Writer) Close() error {
	if w.dir == "" {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	if len(w.pending) > 0 {
		err = w.flush()
	}
	for _, a := range w.arrays {
		err = errors.Join(err, a.Close())
	}
	for _, lines := range w.lines {
		err = errors.Join(err, lines.Close())
	}
	w.arrays, w.lines = nil, nil
	return errors.Join(err, w.lock.Unlock())
}

// memory is storage of a fixed size.
type memory []byte

func (m memory) ReadAt(into []byte, at int64) (int, error)  { return copy(into, m[at:]), nil }
func (m memory) WriteAt(from []byte, at int64) (int, error) { return copy(m[at:], from), nil }
func (m memory) Close() error                               { return nil }
