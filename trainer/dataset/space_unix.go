//go:build linux || darwin

package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// checkSpace refuses to begin what a disk has no room for. It asks for the nearest folder that exists.
func checkSpace(dir string, need int64) error {
	var disk unix.Statfs_t
	err := unix.Statfs(dir, &disk)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &disk)
	}
	free := float64(disk.Bavail) * float64(disk.Bsize)
	if err != nil || free >= float64(need) {
		return nil // one that does not say may have it
	}
	const gib = 1 << 30
	return fmt.Errorf("dataset: the data take %.1f GiB, and the disk of %s has %.1f GiB left; make room, choose another directory, or take fewer trajectories", float64(need)/gib, dir, free/gib)
}
