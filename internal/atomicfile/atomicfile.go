// Package atomicfile puts files and folders in their place whole: a reader sees what was there before or all of what is new, whenever
// the process is killed or the power fails. What is new is written beside its place, under a name that begins with a dot, and
// renamed when it is on the disk.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Disk is what takes part in that, so that tests can fail each step.
type Disk interface {
	WriteSynced(path string, content []byte) error // creates or truncates; the content is on the disk when it returns
	Rename(from, to string) error
	SyncDir(path string) error // afterwards the names in the folder survive a power failure
}

// OS is the disk of the operating system.
type OS struct{}

// WriteSynced implements Disk.
func (OS) WriteSynced(path string, content []byte) error {
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

// Rename implements Disk.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// SyncDir implements Disk.
func (OS) SyncDir(path string) error { return sync(path) }

// Write replaces the content of a file.
func Write(disk Disk, path string, content []byte) error {
	folder, name := filepath.Split(path)
	hidden := folder + "." + name + ".inprogress"
	err := disk.WriteSynced(hidden, content)
	if err == nil {
		err = disk.Rename(hidden, path)
	}
	if err == nil {
		err = disk.SyncDir(filepath.Clean(folder))
	}
	return err
}

// CheckFree reports whether Begin could make a folder that Publish puts at a path: that nothing is there, and that the nearest folder above
// that exists can be written to. Nothing stays changed.
func CheckFree(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists already; choose another directory, or remove it", path)
	}
	above := filepath.Dir(filepath.Clean(path))
	for {
		_, err := os.Lstat(above)
		if !errors.Is(err, fs.ErrNotExist) || above == filepath.Dir(above) {
			break
		}
		above = filepath.Dir(above)
	}
	probe, err := os.MkdirTemp(above, ".free-*.inprogress")
	if err == nil {
		err = os.Remove(probe)
	}
	if err != nil {
		var of *fs.PathError
		if errors.As(err, &of) {
			err = of.Err // the probe's name says nothing
		}
		return fmt.Errorf("%s cannot be made: nothing can be made in %s: %w; choose another directory", path, above, err)
	}
	return nil
}

// Begin makes an empty folder to write in what Publish puts at a path, which must be free.
func Begin(path string) (work string, err error) {
	if err := CheckFree(path); err != nil {
		return "", err
	}
	parent := filepath.Dir(filepath.Clean(path))
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return "", err
	}
	return os.MkdirTemp(parent, "."+filepath.Base(path)+"-*.inprogress")
}

// Publish renames a file or a folder into its place when all of it is on the disk. A folder's place must be free.
func Publish(work, final string) error {
	err := filepath.WalkDir(work, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return sync(path)
	})
	if err != nil {
		return err
	}
	if err := os.Rename(work, final); err != nil {
		return err
	}
	return sync(filepath.Dir(final))
}

func sync(path string) error {
	if runtime.GOOS == "windows" {
		return nil // neither folders nor files opened for reading can be synced there
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
