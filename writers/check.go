package writers

import (
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/audit"
)

// Checked is what Check found in a run directory.
type Checked struct {
	Audits int     // by training, attempt and step
	Rows   int     // of all tables, superseded ones too
	Parts  int     // that are whole
	Faults []error // each names a file, says what is wrong and what to do about it
}

// Check reads everything that a run directory holds and finds all that is wrong with it: files that are damaged, lost, or left by a
// process that was killed, files that are none of the run's and that a glob would read, descriptions that are damaged or lost, rows that
// are there twice, and audits that lack a table. What a process is writing at the moment is no fault.
func Check(dir string) *Checked {
	running, err := Running(dir)
	c := &check{run: directory{path: dir}, named: map[string]bool{}, attempts: map[int32]bool{}, audits: map[moment]*auditParts{}, seen: map[uint64]int{}, seed: maphash.MakeSeed(), reported: map[string]bool{}}
	c.fault(err)
	c.descriptions()
	c.parts()
	c.lostDescriptions()
	c.incompleteAudits()
	left := c.leftovers()
	if len(c.paths) == 0 && c.Parts == 0 && len(c.Faults) == 0 {
		c.fault(fmt.Errorf("writers: %s holds no run: it has no %s; name a run's own directory, such as runs/a", dir, firstInfoName))
	}
	if now, err := Running(dir); !running && !now && err == nil {
		c.Faults = append(c.Faults, left...)
	}
	return &c.Checked
}

// check is a Check under way.
type check struct {
	Checked
	run      directory
	paths    []string        // of descriptions
	infos    []Info          // that can be read
	named    map[string]bool // files that are there, readable or not
	attempts map[int32]bool  // of rows
	audits   map[moment]*auditParts
	seed     maphash.Seed
	seen     map[uint64]int // hash of a row's table and key: the number of its part. Two of ten million rows share one by chance once in 400,000 runs
	reported map[string]bool
}

// moment is what tells an audit from others of its run.
type moment struct {
	model      string
	seed, step int64
	attempt    int32
}

func (m moment) String() string {
	return fmt.Sprintf("model %s, step %d, attempt %d", identity{m.model, m.seed}, m.step, m.attempt)
}

// auditParts is what there is of an audit.
type auditParts struct {
	number   int // of the part that it was first seen in
	tables   map[string]bool
	cosines  bool
	excluded bool // a fault of its part is known already
}

func (c *check) fault(err error) {
	if err != nil && !c.reported[err.Error()] {
		c.reported[err.Error()] = true
		c.Faults = append(c.Faults, err)
	}
}

func (c *check) descriptions() {
	var err error
	if c.paths, err = infoPaths(c.run.path); err != nil {
		c.fault(err)
	}
	for _, path := range c.paths {
		if found, err := exists(path); !found {
			c.fault(err) // of one that is not there lostDescriptions says so
			continue
		}
		c.named[filepath.Base(path)] = true
		info, err := readInfo(path)
		switch {
		case err != nil:
			c.fault(err)
			continue
		case filepath.Base(path) != infoName(info.Attempt):
			c.fault(fmt.Errorf("writers: %s says attempt %d; restore it from a copy", path, info.Attempt))
		case info.RunID == "":
			c.fault(fmt.Errorf("writers: %s does not say of which run it is the description; restore it from a copy", path))
			continue
		case len(c.infos) > 0 && info.RunID != c.infos[0].RunID:
			c.fault(fmt.Errorf("writers: %s is the description of run %q, and %s of run %q; restore it from a copy", path, info.RunID, filepath.Join(c.run.path, infoName(c.infos[0].Attempt)), c.infos[0].RunID))
		}
		c.infos = append(c.infos, info)
	}
}

func (c *check) lostDescriptions() {
	for i := range c.paths {
		c.attempts[int32(i+1)] = true
	}
	for _, attempt := range slices.Sorted(maps.Keys(c.attempts)) {
		if !c.named[infoName(attempt)] {
			c.fault(fmt.Errorf("writers: %s is missing; restore it from a copy", filepath.Join(c.run.path, infoName(attempt))))
		}
	}
}

// parts reads every visible file.
func (c *check) parts() {
	visible := map[string][]int{}
	for _, table := range slices.Backward(tables) { // as wholeParts
		found, _, err := c.run.list(table.name())
		c.fault(err)
		visible[table.name()] = found
		c.strangers(table.name(), found)
	}
	for _, number := range numbersOf(visible) {
		c.part(number, func(table string) bool { _, found := slices.BinarySearch(visible[table], number); return found })
	}
}

// strangers are files that a glob over a table reads and Read does not.
func (c *check) strangers(table string, visible []int) {
	folder := filepath.Join(c.run.path, table)
	entries, _ := os.ReadDir(folder) // list has said what is wrong
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") || filepath.Ext(path) != partSuffix {
			continue
		}
		if !slices.ContainsFunc(visible, func(number int) bool { return c.run.visible(table, number) == path }) {
			c.fault(fmt.Errorf("writers: %s is not named as a part, such as %s000000%s, so that queries read it and reports do not; move it away", path, partPrefix, partSuffix))
		}
	}
}

func (c *check) part(number int, visible func(table string) bool) {
	faults := len(c.Faults)
	part, version, unfinished := &audit.Records{}, SchemaVersion, false
	var order []string // its tables
	orderOf := ""      // the file that says so
	for _, table := range slices.Backward(tables) {
		if !visible(table.name()) {
			continue
		}
		path := c.run.visible(table.name(), number)
		says, err := c.run.tablesOf(table.name(), number)
		if err == nil {
			var ofTable int
			ofTable, err = table.decode(path, nil, part)
			version = min(version, ofTable)
		}
		switch {
		case err != nil:
			c.fault(err)
			continue
		case order == nil:
			order, orderOf = says, path
		case !slices.Equal(order, says):
			c.fault(fmt.Errorf("writers: %s is of a part with tables %s, and %s of one with %s, so they are not of the same write; restore them from a copy, or move all files of their number away",
				path, strings.Join(says, ","), orderOf, strings.Join(order, ",")))
		}
	}
	for _, needed := range order {
		if !visible(needed) {
			err := c.run.requireStaged(needed, number)
			c.fault(err)
			unfinished = unfinished || err == nil
		}
	}
	if unfinished { // leftovers says so
		return
	}
	if version == 1 {
		completeVersion1(part)
	}
	moments := part.Moments()
	for _, table := range tables {
		c.rows(table, number, part)
	}
	if len(c.Faults) == faults {
		c.Parts++
		return
	}
	for _, m := range moments {
		c.audit(*m, number).excluded = true
	}
}

func (c *check) audit(m audit.Moment, number int) *auditParts {
	key := moment{m.Model, m.Seed, m.Step, m.Attempt}
	if c.audits[key] == nil {
		c.audits[key] = &auditParts{number: number, tables: map[string]bool{}}
	}
	return c.audits[key]
}

// rows checks those of a table in one part.
func (c *check) rows(table table, number int, part *audit.Records) {
	path := c.run.visible(table.name(), number)
	alone := &audit.Records{}
	table.take(part, alone)
	for _, m := range alone.Moments() {
		c.attempts[m.Attempt] = true
		if len(c.infos) > 0 && m.RunID != c.infos[0].RunID {
			c.fault(fmt.Errorf("writers: %s is of run %q, and %s of run %q; move all files of its number away, or restore the description from a copy", path, m.RunID, filepath.Join(c.run.path, infoName(c.infos[0].Attempt)), c.infos[0].RunID))
		}
		if name := table.name(); name != "training" && name != "decisions" {
			c.audit(*m, number).tables[table.name()] = true
		}
	}
	for _, row := range alone.Coherence {
		if row.N > 0 {
			c.audit(row.Moment, number).cosines = true
		}
	}
	c.Rows += table.count(alone)
	type place struct {
		number int
		moment moment
	}
	again := map[place]int{}
	var places []place
	for _, key := range table.keys(alone) {
		hash := maphash.Comparable(c.seed, struct {
			table string
			key   rowKey
		}{table.name(), key})
		first, known := c.seen[hash]
		if !known {
			c.seen[hash] = number
			continue
		}
		at := place{first, moment{key.model, key.seed, key.step, key.attempt}}
		if again[at] == 0 {
			places = append(places, at)
		}
		again[at]++
	}
	for _, at := range places {
		if at.number == number {
			c.fault(fmt.Errorf("writers: %s has rows of %s twice (%d); restore it from a copy, or move all files of its number away", path, at.moment, again[at]))
			continue
		}
		c.fault(fmt.Errorf("writers: %s has rows of %s that are in %s already (%d); move all files of one of the two numbers away", path, at.moment, c.run.visible(table.name(), at.number), again[at]))
	}
}

// incompleteAudits finds those that lack a table. Errors and coherence come with every audit; influence and solves with every one that has a cosine. Of a shard all
// audits are parts, and what is missing there is for those who merge it to find.
func (c *check) incompleteAudits() {
	var moments []moment
	for at, found := range c.audits {
		if len(found.tables) > 0 {
			c.Audits++
		}
		if len(found.tables) > 0 && !found.excluded {
			moments = append(moments, at)
		}
	}
	slices.SortFunc(moments, func(a, b moment) int { return c.audits[a].number - c.audits[b].number })
	for _, at := range moments {
		found := c.audits[at]
		needed := []string{"errors", "coherence"}
		if found.cosines {
			needed = []string{"errors", "influence", "solves", "coherence"}
		}
		if len(c.infos) > 0 && c.infos[0].Kind == KindShard {
			needed = nil
		}
		needed = slices.DeleteFunc(needed, func(table string) bool { return found.tables[table] })
		if len(needed) > 0 {
			c.fault(fmt.Errorf("writers: %s is of an audit that has no rows in %s: %s; restore them from a copy, or leave the audit out where you need them",
				c.run.visible(slices.Sorted(maps.Keys(found.tables))[0], found.number), strings.Join(needed, ", "), at))
		}
	}
}

// leftovers are files that a process was writing when it ended.
func (c *check) leftovers() (faults []error) {
	for _, table := range tables {
		_, hidden, err := c.run.list(table.name())
		if err != nil {
			continue // parts has said it
		}
		for _, number := range hidden {
			path := c.run.hidden(table.name(), number)
			if !c.anyVisible(number) {
				faults = append(faults, fmt.Errorf("writers: %s was left by a process that ended while it wrote, and no reader sees it; remove it, or resume the run, which does", path))
				continue
			}
			faults = append(faults, fmt.Errorf("writers: %s was left by a process that ended while it made the part visible, and Read leaves the part out; resume the run, which finishes it, or rename the file to %s",
				path, filepath.Base(c.run.visible(table.name(), number))))
		}
	}
	_ = filepath.WalkDir(c.run.path, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // what cannot be read of the run is known, and the rest is not asked for
		}
		name := entry.Name()
		ofTable := slices.Contains(tableNames(), filepath.Base(filepath.Dir(path)))
		if strings.HasPrefix(name, ".") && strings.HasSuffix(name, hiddenSuffix) && !ofTable && path != c.run.path {
			faults = append(faults, fmt.Errorf("writers: %s was left by a process that ended while it wrote; remove it", path))
			if entry.IsDir() {
				return fs.SkipDir
			}
		}
		return nil
	})
	return faults
}

func (c *check) anyVisible(number int) bool {
	return slices.ContainsFunc(tables, func(table table) bool {
		found, err := exists(c.run.visible(table.name(), number))
		return found && err == nil
	})
}
