package writers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// files is every operation that changes the disk, so that tests can fail each one and stop between any two.
type files interface {
	MkdirAll(path string) error
	WriteSynced(path string, content []byte) error // creates or truncates; the content is on the disk when it returns
	Rename(from, to string) error
	Remove(path string) error
	SyncDir(path string) error // afterwards the names in the folder survive a power failure
}

type osFiles struct{}

func (osFiles) MkdirAll(path string) error { return os.MkdirAll(path, 0o777) }

func (osFiles) WriteSynced(path string, content []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	// Some file systems report a failed write only here.
	return errors.Join(err, file.Close())
}

func (osFiles) Rename(from, to string) error { return os.Rename(from, to) }

func (osFiles) Remove(path string) error { return os.Remove(path) }

func (osFiles) SyncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil // folders cannot be opened for syncing there
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// writeAtomically replaces path so that a reader sees the old content or the new, never a part of either.
func writeAtomically(disk files, path string, content []byte) error {
	folder, name := filepath.Split(path)
	hidden := folder + "." + name + ".inprogress"
	if err := disk.WriteSynced(hidden, content); err != nil {
		return explain("write", path, err)
	}
	if err := disk.Rename(hidden, path); err != nil {
		return explain("rename", hidden, err)
	}
	if err := disk.SyncDir(filepath.Clean(folder)); err != nil {
		return explain("sync", folder, err)
	}
	return nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, explain("look at", path, err)
	}
	return true, nil
}

// explain adds the path, once, and what to do to an error of the operating system.
func explain(action, path string, err error) error {
	var ofPath *fs.PathError
	var ofLink *os.LinkError
	switch {
	case errors.As(err, &ofPath):
		err = ofPath.Err
	case errors.As(err, &ofLink):
		err = ofLink.Err
	}
	remedy := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		remedy = "; free space there, then resume: every audit written before is kept"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		remedy = "; make it writable, or choose another directory"
	case errors.Is(err, fs.ErrNotExist):
		remedy = "; put the directory back if it was moved away, or choose another"
	case errors.Is(err, syscall.EIO):
		remedy = "; check the disk, then resume: every audit written before is kept"
	}
	return fmt.Errorf("writers: cannot %s %s: %w%s", action, path, err, remedy)
}
