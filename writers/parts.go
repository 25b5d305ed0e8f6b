package writers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
)

const (
	partPrefix   = "part-"
	partSuffix   = ".parquet"
	hiddenSuffix = ".inprogress"
)

// directory is a run's directory and the way to change it.
//
// A file of a part is hidden (a dot-file, skipped by every reader's *.parquet) or visible. Invariants, for each number:
// before the first file becomes visible all are complete and on the disk; the last becomes visible when the others
// are so on the disk. Hence a part with its last file visible is whole, one with any file visible can be finished, and
// one with none visible never was.
type directory struct {
	path string
	disk files
}

func (d directory) visible(table string, number int) string {
	return filepath.Join(d.path, table, fmt.Sprintf("%s%06d%s", partPrefix, number, partSuffix))
}

func (d directory) hidden(table string, number int) string {
	return filepath.Join(d.path, table, fmt.Sprintf(".%s%06d%s%s", partPrefix, number, partSuffix, hiddenSuffix))
}

// list returns the numbers of a table's visible and hidden files, ascending. Other files are none of ours.
func (d directory) list(table string) (visible, hidden []int, err error) {
	path := filepath.Join(d.path, table)
	entries, err := os.ReadDir(path)
	if os.IsNotExist(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, explain("list", path, err)
	}
	for _, entry := range entries {
		name, isHidden := strings.CutSuffix(entry.Name(), hiddenSuffix)
		if isHidden {
			name = strings.TrimPrefix(name, ".")
		}
		digits, ok := strings.CutPrefix(strings.TrimSuffix(name, partSuffix), partPrefix)
		number, err := strconv.Atoi(digits)
		if !ok || err != nil {
			continue
		}
		switch filepath.Join(path, entry.Name()) {
		case d.visible(table, number):
			visible = append(visible, number)
		case d.hidden(table, number):
			hidden = append(hidden, number)
		}
	}
	slices.Sort(visible)
	slices.Sort(hidden)
	return visible, hidden, nil
}

// stage writes the part's files, hidden, and makes sure that they survive a power failure.
func (d directory) stage(number int, part map[string][]byte, order []string) error {
	for _, table := range order {
		if err := d.disk.WriteSynced(d.hidden(table, number), part[table]); err != nil {
			return explain("write", d.hidden(table, number), err)
		}
	}
	return d.syncFolders(order)
}

// publish makes the part's staged files visible in the given order.
func (d directory) publish(number int, order []string) error {
	last := len(order) - 1
	for i, table := range order {
		if i == last {
			if err := d.syncFolders(order[:last]); err != nil {
				return err
			}
		}
		if err := d.disk.Rename(d.hidden(table, number), d.visible(table, number)); err != nil {
			return explain("rename", d.hidden(table, number), err)
		}
	}
	return d.syncFolders(order[last:])
}

// withdraw undoes publish after it failed, the last file first. The files stay, hidden.
func (d directory) withdraw(number int, order []string) error {
	for _, table := range slices.Backward(order) {
		isVisible, err := exists(d.visible(table, number))
		if err != nil {
			return err
		}
		if !isVisible {
			continue
		}
		if err := d.disk.Rename(d.visible(table, number), d.hidden(table, number)); err != nil {
			return explain("rename", d.visible(table, number), err)
		}
	}
	return d.syncFolders(order)
}

// discard removes hidden files. It may only run when it is on the disk that no file of the part is visible.
func (d directory) discard(number int, order []string) error {
	for _, table := range order {
		if err := d.disk.Remove(d.hidden(table, number)); err != nil && !os.IsNotExist(err) {
			return explain("remove", d.hidden(table, number), err)
		}
	}
	return nil
}

func (d directory) syncFolders(tables []string) error {
	for _, table := range tables {
		folder := filepath.Join(d.path, table)
		if err := d.disk.SyncDir(folder); err != nil {
			return explain("sync", folder, err)
		}
	}
	return nil
}

// repair finishes the parts that a crash left half visible, removes those of which nothing was visible, and returns
// the next free number.
func (d directory) repair() (next int, err error) {
	staged := map[int][]string{} // hidden files of a part: its tables in order
	anyVisible := map[int]bool{}
	for _, table := range tables {
		visible, hidden, err := d.list(table.name())
		if err != nil {
			return 0, err
		}
		for _, number := range visible {
			anyVisible[number] = true
			next = max(next, number+1)
		}
		for _, number := range hidden {
			staged[number] = append(staged[number], table.name())
		}
	}
	for number, order := range staged {
		if !anyVisible[number] {
			if err := d.discard(number, order); err != nil {
				return 0, err
			}
			continue
		}
		// The renames of the crashed process may not be on the disk yet; the last file's must not precede them.
		if err := d.syncFolders(tableNames()); err != nil {
			return 0, err
		}
		if err := d.publish(number, order); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// lastAttempt is the highest attempt of a visible part: parts are numbered in the order of their attempts.
func (d directory) lastAttempt() (last int32, err error) {
	for _, table := range tables {
		visible, _, err := d.list(table.name())
		if err != nil {
			return 0, err
		}
		if len(visible) == 0 {
			continue
		}
		err = withPart(d.visible(table.name(), visible[len(visible)-1]), func(part *parquet.File, _ []byte) error {
			text, _ := part.Lookup(keyAttempt)
			attempt, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				return fmt.Errorf("its footer key %s is %q, not a number", keyAttempt, text)
			}
			last = max(last, int32(attempt))
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return last, nil
}

// wholeParts returns, for each table, the numbers of its visible files that belong to whole parts.
func (d directory) wholeParts() (map[string][]int, error) {
	visible := map[string][]int{}
	numbers := map[int]string{} // a part and one of its tables
	// Against the order of publishing: when a part's last file is there, a later look finds the others too.
	for _, table := range slices.Backward(tables) {
		found, _, err := d.list(table.name())
		if err != nil {
			return nil, err
		}
		visible[table.name()] = found
		for _, number := range found {
			if _, known := numbers[number]; !known {
				numbers[number] = table.name()
			}
		}
	}
	unfinished := map[int]bool{}
	for number, table := range numbers {
		order, err := d.tablesOf(table, number)
		if err != nil {
			return nil, err
		}
		for _, needed := range slices.Backward(order) {
			if _, found := slices.BinarySearch(visible[needed], number); found {
				continue
			}
			if err := d.requireStaged(needed, number); err != nil {
				return nil, err
			}
			unfinished[number] = true
			break
		}
	}
	for table, numbers := range visible {
		visible[table] = slices.DeleteFunc(numbers, func(number int) bool { return unfinished[number] })
	}
	return visible, nil
}

// tablesOf reads from one file of a part which tables the part has.
func (d directory) tablesOf(table string, number int) (order []string, err error) {
	err = withPart(d.visible(table, number), func(part *parquet.File, _ []byte) error {
		text, _ := part.Lookup(keyPartTables)
		order = strings.Split(text, ",")
		unknown := func(name string) bool { return !slices.Contains(tableNames(), name) }
		if !slices.Contains(order, table) || slices.ContainsFunc(order, unknown) {
			return fmt.Errorf("its footer key %s is %q, which is no list of tables with %q among them", keyPartTables, text, table)
		}
		return nil
	})
	return order, err
}

// requireStaged tells a part still being published, or left so by a crash, from one of which a file was lost.
func (d directory) requireStaged(table string, number int) error {
	// Renaming is atomic: looked at in this order, one of the names is found unless the file is gone.
	for _, path := range []string{d.hidden(table, number), d.visible(table, number)} {
		if found, err := exists(path); err != nil || found {
			return err
		}
	}
	return fmt.Errorf("writers: %s is missing; restore it from a copy, or move all files of its number away",
		d.visible(table, number))
}

func tableNames() []string {
	var names []string
	for _, table := range tables {
		names = append(names, table.name())
	}
	return names
}
