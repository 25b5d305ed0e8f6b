package writers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const lockName = ".lock"

// takeLock keeps other writers out of a run, until it is unlocked or the process ends.
func takeLock(dir string) (*flock.Flock, error) {
	// Running holds the lock for an instant: one try is not enough.
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	lock := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o666)) // others may ask whether the run is running
	locked, err := lock.TryLockContext(ctx, 10*time.Millisecond)
	switch {
	case locked:
		return lock, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("writers: another process is writing to %s; wait for its end, or choose another directory", dir)
	}
	return nil, explain("lock", lock.Path(), err)
}

// shareLock keeps writers out, but no readers, and changes nothing in the directory: a run without the file has no writer. It is free
// unless a process writes.
func shareLock(dir string) (lock *flock.Flock, free bool, err error) {
	lock = flock.New(filepath.Join(dir, lockName), flock.SetFlag(os.O_RDONLY))
	if found, err := exists(lock.Path()); err != nil || !found {
		return lock, err == nil, err
	}
	if free, err = lock.TryRLock(); err != nil {
		return lock, false, explain("read", lock.Path(), err)
	}
	return lock, free, nil
}

// Running reports whether a process has the run in dir open for writing. Afterwards it may be otherwise.
func Running(dir string) (bool, error) {
	lock, free, err := shareLock(dir)
	return !free && err == nil, errors.Join(err, lock.Unlock())
}
