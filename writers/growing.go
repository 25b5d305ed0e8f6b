package writers

import (
	"fmt"
	"os"
	"path/filepath"
)

// growing is a file to which is appended, all or nothing. It is made by the first append, so that a run to which nothing was written
// has none.
type growing struct {
	path string
	disk files
	size int64 // of what is acknowledged; whatever stands behind it is taken away
}

// append makes sure that content survives a power failure. After an error nothing of it is there, unless the error says otherwise.
func (g *growing) append(content []byte) error {
	if g.size == 0 {
		if err := makeFolders(g.disk, filepath.Dir(g.path)); err != nil {
			return err
		}
	} else if status, err := os.Stat(g.path); err != nil {
		return explain("write", g.path, err)
	} else if status.Size() < g.size {
		return fmt.Errorf("writers: %s has %d bytes, and %d were written to it: another program has changed it; put it back, or write to another file", g.path, status.Size(), g.size)
	}
	err := g.disk.Append(g.path, g.size, content)
	if err == nil && g.size == 0 {
		err = g.disk.SyncDir(filepath.Dir(g.path))
	}
	if err != nil {
		err = explain("write", g.path, err)
		if undone := g.cut(g.size); undone != nil {
			return fmt.Errorf("writers: %s: the end could be neither written nor taken back; the next write tries again: %w", g.path, err)
		}
		return err
	}
	g.size += int64(len(content))
	return nil
}

// cut takes away what stands behind the first size bytes.
func (g *growing) cut(size int64) error {
	if err := g.disk.Append(g.path, size, nil); err != nil {
		return explain("write", g.path, err)
	}
	g.size = size
	return nil
}

// makeFolders makes a folder and those above it that are missing, and makes sure that they survive a power failure.
func makeFolders(disk files, path string) error {
	var above []string // whose names change
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		found, err := exists(at)
		if err != nil {
			return err
		}
		if found || at == filepath.Dir(at) {
			break
		}
		above = append(above, filepath.Dir(at))
	}
	if err := disk.MkdirAll(path); err != nil {
		return explain("make", path, err)
	}
	for _, folder := range above {
		if err := disk.SyncDir(folder); err != nil {
			return explain("sync", folder, err)
		}
	}
	return nil
}
