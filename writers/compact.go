package writers

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/symaudit/symaudit/audit"
)

// Compact copies the run in dir into a new directory in which each table is one file, with the same rows in the same order, superseded
// ones too. All else in the directory is copied as it is, so that the copy can be read, reported and resumed as the run.
//
// The run itself stays as it is, and may not be written to meanwhile. It must be whole, as Check says. The new directory appears when it
// is complete and on the disk, after its rows were read back and compared. What fails or is killed before leaves a hidden folder beside
// it, .b.inprogress for b, which the next Compact fills anew.
func Compact(dir, into string) error { return compact(dir, into, osFiles{}) }

func compact(dir, into string, disk files) (err error) {
	into = filepath.Clean(into)
	if inside(dir, into) {
		return fmt.Errorf("writers: %s lies in the run %s itself; choose a directory beside it", into, dir)
	}
	if found, err := exists(into); err != nil {
		return err
	} else if found {
		return fmt.Errorf("writers: %s exists already; choose another directory for the compact run", into)
	}
	lock, free, err := shareLock(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if !free {
		return fmt.Errorf("writers: a process is writing to %s; wait for its end", dir)
	}
	switch faults := Check(dir).Faults; len(faults) {
	case 0:
	case 1:
		return faults[0]
	default:
		return fmt.Errorf("writers: %s is not whole, by %d faults, of which the first is: %w", dir, len(faults), faults[0])
	}
	infos, err := readInfos(dir)
	if err != nil {
		return err
	}
	if infos[0].SchemaVersion < SchemaVersion {
		return fmt.Errorf("writers: %s has schema version %d, and only runs of version %d are made compact; read its parts as they are", dir, infos[0].SchemaVersion, SchemaVersion)
	}
	work := filepath.Join(filepath.Dir(into), "."+filepath.Base(into)+hiddenSuffix)
	if err := disk.MkdirAll(work); err != nil {
		return explain("make", work, err)
	}
	ours, err := takeLock(work)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Unlock()) }()
	if err := empty(work, disk); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = empty(work, disk) // as the disk may be full; the error that there is says more
		}
	}()
	c := copying{from: directory{path: dir}, to: directory{path: work, disk: disk}}
	if err := c.all(infos); err != nil {
		return err
	}
	if err := disk.Rename(work, into); err != nil {
		return explain("rename", work, err)
	}
	if err := disk.SyncDir(filepath.Dir(into)); err != nil {
		return explain("sync", filepath.Dir(into), err)
	}
	return nil
}

func inside(dir, path string) bool {
	from, err := filepath.Abs(dir)
	to, err2 := filepath.Abs(path)
	relative, err3 := filepath.Rel(from, to)
	return errors.Join(err, err2, err3) == nil && filepath.IsLocal(relative)
}

// empty removes what is in a folder, but for the lock.
func empty(folder string, disk files) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return explain("list", folder, err)
	}
	for _, entry := range entries {
		if entry.Name() == lockName {
			continue
		}
		if err := disk.RemoveAll(filepath.Join(folder, entry.Name())); err != nil {
			return explain("remove", filepath.Join(folder, entry.Name()), err)
		}
	}
	return nil
}

// copying is a Compact under way.
type copying struct{ from, to directory }

func (c copying) all(infos []Info) error {
	parts, err := c.from.wholeParts()
	if err != nil {
		return err
	}
	stamp := stamp{runID: infos[0].RunID, attempt: 1}
	for _, info := range infos {
		stamp.trainings = append(stamp.trainings, info.Trainings...)
	}
	for _, table := range tables {
		if len(parts[table.name()]) > 0 {
			stamp.tables = append(stamp.tables, table.name())
		}
	}
	if stamp.attempt, err = c.from.lastAttempt(); err != nil {
		return err
	}
	for _, table := range tables {
		if numbers := parts[table.name()]; len(numbers) > 0 {
			if err := c.table(table, numbers, stamp); err != nil {
				return err
			}
		}
	}
	return c.rest(c.from.path, c.to.path, tableNames())
}

// table writes one file and compares what is read back from it with what there was.
func (c copying) table(table table, numbers []int, stamp stamp) error {
	records, again := &audit.Records{}, &audit.Records{}
	for _, number := range numbers {
		if _, err := table.decode(c.from.visible(table.name(), number), nil, records); err != nil {
			return err
		}
	}
	if rows := table.count(records); rows > maxRows {
		return fmt.Errorf("writers: table %s of %s has %d rows, more than the %d that one file may have; read its parts as they are", table.name(), c.from.path, rows, maxRows)
	}
	content, err := table.pack(records, stamp)
	if err != nil {
		return err
	}
	path := c.to.visible(table.name(), 0)
	if err := c.to.disk.MkdirAll(filepath.Dir(path)); err != nil {
		return explain("make", filepath.Dir(path), err)
	}
	if err := c.to.disk.WriteSynced(path, content); err != nil {
		return explain("write", path, err)
	}
	if _, err := table.decode(path, nil, again); err != nil {
		return err
	}
	if !same(reflect.ValueOf(*records), reflect.ValueOf(*again)) {
		return fmt.Errorf("writers: what is read back from %s is not what was written; check the disk, and compact %s again", path, c.from.path)
	}
	return c.to.syncFolders([]string{table.name()})
}

// rest copies a folder, but for the lock and the folders that are left out.
func (c copying) rest(from, to string, leftOut []string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return explain("list", from, err)
	}
	for _, entry := range entries {
		source, target := filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())
		if slices.Contains(leftOut, entry.Name()) || entry.Name() == lockName && leftOut != nil {
			continue
		}
		status, err := os.Stat(source) // what a link leads to
		if err != nil {
			return explain("read", source, err)
		}
		switch {
		case status.IsDir():
			if err := c.to.disk.MkdirAll(target); err != nil {
				return explain("make", target, err)
			}
			err = c.rest(source, target, nil)
		case status.Mode().IsRegular():
			if err = c.to.disk.Copy(source, target); err != nil {
				err = explain("copy", source, err)
			}
		default:
			err = fmt.Errorf("writers: %s is neither a file nor a folder; move it away", source)
		}
		if err != nil {
			return err
		}
	}
	if err := c.to.disk.SyncDir(to); err != nil {
		return explain("sync", to, err)
	}
	return nil
}

// same compares values of rows, of numbers every bit.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		return a.IsNil() && b.IsNil() || !a.IsNil() && !b.IsNil() && same(a.Elem(), b.Elem())
	case reflect.Float64:
		return math.Float64bits(a.Float()) == math.Float64bits(b.Float())
	}
	return a.Equal(b)
}
