package writers

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// faultyFiles changes the real disk until its fault strikes, and remembers what a power failure may still undo.
type faultyFiles struct {
	osFiles
	operations int
	fault      func(operation int) error // numbered from 0; an error is what the operation returns
	unsynced   map[string][]func()       // by folder: how to undo each change of a name, in order
}

func newFaultyFiles(fault func(operation int) error) *faultyFiles {
	return &faultyFiles{fault: fault, unsynced: map[string][]func(){}}
}

func (f *faultyFiles) strike() error {
	defer func() { f.operations++ }()
	return f.fault(f.operations)
}

func (f *faultyFiles) note(path string, undo func()) {
	folder := filepath.Dir(path)
	f.unsynced[folder] = append(f.unsynced[folder], undo)
}

func (f *faultyFiles) MkdirAll(path string) error {
	if err := f.strike(); err != nil {
		return err
	}
	return f.osFiles.MkdirAll(path)
}

func (f *faultyFiles) WriteSynced(path string, content []byte) error {
	if _, err := os.Lstat(path); err != nil {
		f.note(path, func() { _ = os.Remove(path) })
	}
	if err := f.strike(); err != nil {
		_ = os.WriteFile(path, content[:len(content)/2], 0o666)
		return err
	}
	return os.WriteFile(path, content, 0o666) // nobody waits here for a real disk
}

func (f *faultyFiles) Rename(from, to string) error {
	if err := f.strike(); err != nil {
		return err
	}
	f.note(to, func() { _ = os.Rename(to, from) })
	return f.osFiles.Rename(from, to)
}

func (f *faultyFiles) Remove(path string) error {
	if err := f.strike(); err != nil {
		return err
	}
	if content, err := os.ReadFile(path); err == nil {
		f.note(path, func() { _ = os.WriteFile(path, content, 0o666) })
	}
	return f.osFiles.Remove(path)
}

func (f *faultyFiles) RemoveAll(path string) error {
	if err := f.strike(); err != nil {
		return err
	}
	return f.osFiles.RemoveAll(path)
}

func (f *faultyFiles) Copy(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return f.WriteSynced(to, content)
}

func (f *faultyFiles) SyncDir(path string) error {
	if err := f.strike(); err != nil {
		return err
	}
	delete(f.unsynced, filepath.Clean(path))
	_, err := os.Stat(path)
	return err
}

// powerFails loses in each folder the changes of names after some point, of those that were not synced.
func (f *faultyFiles) powerFails(random *rand.Rand) {
	for _, undo := range f.unsynced {
		kept := random.IntN(len(undo) + 1)
		for _, undo := range slices.Backward(undo[kept:]) {
			undo()
		}
	}
	clear(f.unsynced)
}

var errKilled = errors.New("the process is gone")

// The process stops after each operation in turn: once for good, and twice with a second stop while it is being resumed,
// when the power fails at both or at the second alone. Whatever Write acknowledged must be there, whole, once, before and
// after the run is resumed.
func TestACrashAtAnyOperationLosesNothingWritten(t *testing.T) {
	const powerFailures = 2
	for crash := 0; ; crash++ {
		struck := false
		for variant := range 1 + powerFailures {
			random := rand.New(rand.NewPCG(uint64(crash), uint64(variant)))
			dir := filepath.Join(t.TempDir(), "run")
			acknowledged := map[int64]bool{}
			disk := crashingFiles(crash)
			writeUntilCrash(t, dir, disk, 1, acknowledged)
			writeUntilCrash(t, dir, disk, 2, acknowledged)
			struck = struck || disk.operations > crash
			if variant > 0 {
				if variant == 1 {
					disk.powerFails(random)
				}
				unsynced := disk.unsynced
				disk = crashingFiles(random.IntN(30))
				disk.unsynced = unsynced
				writeUntilCrash(t, dir, disk, 3, acknowledged)
				disk.powerFails(random)
			}
			requireSurvives(t, dir, acknowledged)
		}
		if !struck {
			require.Greater(t, crash, 50, "the test must have stopped at every operation")
			return
		}
	}
}

func crashingFiles(crash int) *faultyFiles {
	return newFaultyFiles(func(operation int) error {
		if operation < crash {
			return nil
		}
		return errKilled
	})
}

// writeUntilCrash writes an audit and a training step, and adds to acknowledged what Write says it kept.
func writeUntilCrash(t *testing.T, dir string, disk files, step int64, acknowledged map[int64]bool) {
	run, err := (&Builder{dir: dir, resume: true, disk: disk}).Done()
	if err != nil {
		return
	}
	if run.Write(auditAt(2*step)) == nil {
		acknowledged[2*step] = true
	}
	if run.Write(trainingAt(2*step+1)) == nil {
		acknowledged[2*step+1] = true
	}
	require.NoError(t, run.Close()) // as the kernel does
}

// requireSurvives reads a crashed run as it lies, resumes it and reads it again.
func requireSurvives(t *testing.T, dir string, acknowledged map[int64]bool) {
	t.Helper()
	left := directory{path: dir}
	finished, _, err := left.list("coherence")
	require.NoError(t, err)
	for _, table := range tableNames() {
		visible, _, err := left.list(table)
		require.NoError(t, err)
		require.Subset(t, visible, finished, "a part with coherence must be whole in %s", table)
	}
	crashed := map[int64]bool{}
	if infos, err := readInfos(dir); err == nil && len(infos) > 0 {
		crashed = requireWholeAudits(t, readRecords(t, dir))
	}
	for step := range acknowledged {
		require.Contains(t, crashed, step, "acknowledged")
	}
	require.LessOrEqual(t, len(crashed), len(acknowledged)+2, "at most the audits in flight may be there too")

	run, err := (&Builder{dir: dir, resume: true, disk: newFaultyFiles(func(int) error { return nil })}).Done()
	require.NoError(t, err)
	defer run.Close()
	for _, table := range tableNames() {
		_, hidden, err := run.directory.list(table)
		require.NoError(t, err)
		require.Empty(t, hidden, "resuming must leave nothing unfinished")
	}
	require.NoError(t, run.Write(auditAt(1000)))
	resumed := requireWholeAudits(t, readRecords(t, dir))
	for step := range crashed {
		require.Contains(t, resumed, step)
	}
	require.Contains(t, resumed, int64(1000))
	require.LessOrEqual(t, len(resumed), len(acknowledged)+3)
}

// One operation fails, or several in a row, and the process lives on, as after a full disk or a lost mount.
func TestAfterAFailedWriteNothingOfItIsVisible(t *testing.T) {
	for length := 1; length <= 3; length++ {
		for first := 0; ; first++ {
			dir := t.TempDir()
			armed, struck := false, 0
			disk := newFaultyFiles(nil)
			start := 0
			disk.fault = func(operation int) error {
				if armed && operation >= start+first && operation < start+first+length {
					struck++
					return syscall.ENOSPC
				}
				return nil
			}
			run, err := (&Builder{dir: dir, disk: disk}).Done()
			require.NoError(t, err)
			require.NoError(t, run.Write(auditAt(1)))
			armed, start = true, disk.operations
			failure := run.Write(auditAt(2))
			armed = false
			if struck == 0 {
				require.NoError(t, failure)
				require.NoError(t, run.Close())
				break
			}
			if failure == nil {
				t.Fatalf("operation %d failed and Write did not say so", first)
			}
			require.ErrorContains(t, failure, dir)
			require.ErrorContains(t, failure, "free space there, then resume: every audit written before is kept")
			left := requireWholeAudits(t, readRecords(t, dir))
			require.Equal(t, run.half != nil, strings.Contains(failure.Error(), "could be neither written nor taken back"))
			if run.half == nil {
				require.Equal(t, map[int64]bool{1: true}, left)
			}

			require.NoError(t, run.Write(auditAt(3)), "the disk is well again")
			for _, table := range tableNames() {
				visible, _, err := run.directory.list(table)
				require.NoError(t, err)
				require.Equal(t, []int{0, 2}, visible, "table %s after operation %d failed", table, first)
			}
			require.NoError(t, run.Close())
			run = resumeRun(t, dir)
			require.NoError(t, run.Write(auditAt(4)))
			require.NoError(t, run.Close())
			require.Equal(t, map[int64]bool{1: true, 3: true, 4: true}, requireWholeAudits(t, readRecords(t, dir)), "a part that failed must not come back")
		}
	}
}

func TestErrorsOfTheSystemNameTheRemedy(t *testing.T) {
	for _, c := range []struct {
		err    error
		remedy string
	}{
		{syscall.ENOSPC, "; free space there, then resume: every audit written before is kept"},
		{syscall.EDQUOT, "; free space there, then resume: every audit written before is kept"},
		{syscall.EROFS, "; make it writable, or choose another directory"},
		{syscall.EACCES, "; make it writable, or choose another directory"},
	} {
		disk := newFaultyFiles(func(int) error { return &os.PathError{Op: "mkdir", Path: "x", Err: c.err} })
		dir := filepath.Join(t.TempDir(), "run")
		_, err := (&Builder{dir: dir, disk: disk}).Done()
		require.ErrorContains(t, err, "writers: cannot make "+dir)
		require.ErrorContains(t, err, c.remedy)
		require.ErrorIs(t, err, c.err)
	}
}
