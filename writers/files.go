package writers

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/symaudit/symaudit/internal/atomicfile"
)

// files is every operation that changes the disk, so that tests can fail each one and stop between any two.
type files interface {
	atomicfile.Disk
	MkdirAll(path string) error
	Remove(path string) error
	// Append puts content behind the first size bytes of a file, and takes away what stood there; it makes the file where there is
	// none. The content is on the disk when it returns.
	Append(path string, size int64, content []byte) error
	RemoveAll(path string) error
	Copy(from, to string) error // of a file; the content is on the disk when it returns
}

type osFiles struct{ atomicfile.OS }

func (osFiles) MkdirAll(path string) error { return os.MkdirAll(path, 0o777) }

func (osFiles) Remove(path string) error { return os.Remove(path) }

func (osFiles) Append(path string, size int64, content []byte) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	if err = file.Truncate(size); err == nil {
		_, err = file.WriteAt(content, size)
	}
	if err == nil {
		err = file.Sync()
	}
	// Some file systems report a failed write only here.
	return errors.Join(err, file.Close())
}

func (osFiles) RemoveAll(path string) error { return os.RemoveAll(path) }

func (osFiles) Copy(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, source)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close()) // some file systems report a failed write only here
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
	case action == "make" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)):
		remedy = "; no directory can be made there, choose another"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		remedy = "; free space there, then resume: every audit written before is kept"
	case errors.Is(err, fs.ErrPermission) && slices.Contains([]string{"read", "list", "look at"}, action):
		remedy = "; make it readable"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		remedy = "; make it writable, or choose another directory"
	case errors.Is(err, fs.ErrNotExist):
		remedy = "; put the directory back if it was moved away, or choose another"
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		remedy = "; choose another directory"
	case errors.Is(err, syscall.EIO):
		remedy = "; check the disk, then resume: every audit written before is kept"
	}
	return fmt.Errorf("writers: cannot %s %s: %w%s", action, path, err, remedy)
}
