package writers

import (
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

// contentsOf are all files of a folder, by path.
func contentsOf(t testing.TB, dir string) map[string]string {
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		relative, _ := filepath.Rel(dir, path)
		files[filepath.ToSlash(relative)] = string(content)
		return err
	}))
	return files
}

// readAll returns every row of a run, superseded ones too.
func readAll(t testing.TB, dir string) audit.Records {
	run := directory{path: dir}
	parts, err := run.wholeParts()
	require.NoError(t, err)
	var all audit.Records
	for _, number := range numbersOf(parts) {
		for _, table := range tables {
			if found, _ := exists(run.visible(table.name(), number)); found {
				_, err := table.decode(run.visible(table.name(), number), nil, &all)
				require.NoError(t, err)
			}
		}
	}
	return all
}

// withCheckpoints is threeAudits with what else a run's directory holds.
func withCheckpoints(t *testing.T) string {
	dir := threeAudits(t).path
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "checkpoints", "unet", "step-000000009"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "checkpoints", "unet", "step-000000009", "weights.bin"), []byte{1, 2, 3}, 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "report.html"), []byte("<html>"), 0o666))
	return dir
}

func TestACompactRunHasTheSameRowsInOneFileATable(t *testing.T) {
	dir := withCheckpoints(t)
	before := contentsOf(t, dir)
	into := filepath.Join(filepath.Dir(dir), "compact")
	left := filepath.Join(filepath.Dir(dir), ".compact.inprogress", "errors", "part-000005.parquet") // by one that was killed
	require.NoError(t, os.MkdirAll(filepath.Dir(left), 0o777))
	require.NoError(t, os.WriteFile(left, []byte("PAR1"), 0o666))
	require.NoError(t, Compact(dir, into))
	require.Equal(t, before, contentsOf(t, dir), "the run itself stays as it is")

	want, err := Read(dir)
	require.NoError(t, err)
	got, err := Read(into)
	require.NoError(t, err)
	require.Equal(t, want, got)
	requireSame(t, readAll(t, dir), readAll(t, into))
	require.Len(t, readAll(t, into).Training, 3)
	require.Len(t, got.Records.Training, 2, "one is superseded")
	require.Equal(t, Checked{Audits: 3, Rows: 66, Parts: 1}, *Check(into))

	files := contentsOf(t, into)
	for _, table := range tableNames() {
		require.Contains(t, files, table+"/part-000000.parquet")
		delete(files, table+"/part-000000.parquet")
	}
	rest := map[string]string{}
	for _, name := range []string{"run.json", "run-attempt-2.json", "report.html", ".lock", "checkpoints/unet/step-000000009/weights.bin"} {
		rest[name] = before[name]
	}
	require.Equal(t, rest, files)
	require.NoDirExists(t, filepath.Join(filepath.Dir(dir), ".compact.inprogress"))
	last, err := directory{path: into}.lastAttempt()
	require.NoError(t, err)
	require.Equal(t, int32(2), last)

	resumed := resumeRun(t, into)
	require.Equal(t, int32(3), resumed.Attempt())
	require.NoError(t, resumed.Write(soundAudit(3)))
	require.Equal(t, Checked{Audits: 4, Rows: 88, Parts: 2}, *Check(into))
}

func TestACompactRunCanBeCompactedAgainAfterItWasResumed(t *testing.T) {
	dir := withCheckpoints(t)
	base := filepath.Dir(dir)
	require.NoError(t, Compact(dir, filepath.Join(base, "b")))
	resumed := resumeRun(t, filepath.Join(base, "b"))
	require.NoError(t, resumed.Write(soundAudit(3)))
	require.ErrorContains(t, Compact(filepath.Join(base, "b"), filepath.Join(base, "c")), "a process is writing to "+filepath.Join(base, "b")+"; wait for its end")
	require.NoError(t, resumed.Close())
	require.NoError(t, Compact(filepath.Join(base, "b"), filepath.Join(base, "c")))
	requireSame(t, readAll(t, filepath.Join(base, "b")), readAll(t, filepath.Join(base, "c")))
	require.Equal(t, int32(4), resumeRun(t, filepath.Join(base, "c")).Attempt())
}

func TestWhatIsNotMadeCompact(t *testing.T) {
	dir := withCheckpoints(t)
	base := filepath.Dir(dir)
	into := filepath.Join(base, "compact")
	require.EqualError(t, Compact(dir, base), "writers: "+base+" exists already; choose another directory for the compact run")
	require.EqualError(t, Compact(dir, filepath.Join(dir, "compact")), "writers: "+filepath.Join(dir, "compact")+" lies in the run "+dir+" itself; choose a directory beside it")
	require.ErrorContains(t, Compact(filepath.Join(base, "nowhere"), into), filepath.Join(base, "nowhere")+" holds no run")
	require.ErrorContains(t, Compact(version1, into), "has schema version 1, and only runs of version 2 are made compact")
	require.NoError(t, os.Remove(directory{path: dir}.visible("errors", 0)))
	require.NoError(t, os.Remove(directory{path: dir}.visible("solves", 1)))
	require.EqualError(t, Compact(dir, into), "writers: "+dir+" is not whole, by 2 faults, of which the first is: writers: "+directory{path: dir}.visible("errors", 0)+" is missing; restore it from a copy, or move all files of its number away")
	require.NoDirExists(t, into)
}

// The process stops at each operation in turn, the power fails or not: the run stays as it is, and the compact one is not there or is
// all there. Then it is made.
func TestACrashLeavesNoCompactRunOrAWholeOne(t *testing.T) {
	dir := withCheckpoints(t)
	before, want := contentsOf(t, dir), readRecords(t, dir)
	into := filepath.Join(filepath.Dir(dir), "compact")
	made := 0
	for crash := 0; ; crash++ {
		struck := false
		for _, powerFails := range []bool{false, true} {
			disk := crashingFiles(crash)
			err := compact(dir, into, disk)
			if struck = err != nil; struck {
				require.ErrorIs(t, err, errKilled)
			}
			if powerFails {
				disk.powerFails(rand.New(rand.NewPCG(uint64(crash), 1)))
			}
			require.Equal(t, before, contentsOf(t, dir))
			if found, _ := exists(into); found {
				made++
				require.Empty(t, cmp.Diff(want, readRecords(t, into), cmpopts.EquateNaNs()))
				require.Empty(t, Check(into).Faults)
			} else {
				require.True(t, struck, "what Compact has acknowledged is there")
				require.NoError(t, Compact(dir, into))
				require.Empty(t, Check(into).Faults)
			}
			require.NoError(t, os.RemoveAll(into))
		}
		if !struck {
			require.Greater(t, crash, 40, "the test must have stopped at every operation")
			require.Greater(t, made, 2, "it must have stopped after the renaming too")
			return
		}
	}
}

// What fails leaves nothing that takes space.
func TestAFullDiskLeavesAnEmptyFolder(t *testing.T) {
	dir := withCheckpoints(t)
	into := filepath.Join(filepath.Dir(dir), "compact")
	disk := newFaultyFiles(func(operation int) error {
		if operation == 20 {
			return syscall.ENOSPC
		}
		return nil
	})
	require.ErrorContains(t, compact(dir, into, disk), "no space left on device")
	require.Equal(t, map[string]string{".lock": ""}, contentsOf(t, filepath.Join(filepath.Dir(dir), ".compact.inprogress")))
	require.NoDirExists(t, into)
}

// A disk that loses a byte, or gives back another row, is found out before anything is called done.
func TestWhatIsNotReadBackIsNotDone(t *testing.T) {
	dir := withCheckpoints(t)
	into := filepath.Join(filepath.Dir(dir), "compact")
	for name, change := range map[string]func([]byte) []byte{
		"a byte changed": func(content []byte) []byte { content[100] ^= 1; return content },
		"another table of as many rows": func(content []byte) []byte {
			other := soundAudit(3)
			for range 2 {
				other.Add(soundAudit(3))
			}
			for _, table := range tables {
				if meta, err := footer(content); err == nil && meta.NumRows == int64(table.count(other)) && table.name() == "errors" {
					packed, err := table.pack(other, stamp{tables: []string{"errors"}})
					require.NoError(t, err)
					return packed
				}
			}
			return content
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := compact(dir, into, lyingFiles{change: change})
			require.Error(t, err)
			require.NoDirExists(t, into)
		})
	}
}

// lyingFiles writes something else into table errors.
type lyingFiles struct {
	osFiles
	change func([]byte) []byte
}

func (l lyingFiles) WriteSynced(path string, content []byte) error {
	if filepath.Base(filepath.Dir(path)) == "errors" {
		content = l.change(content)
	}
	return l.osFiles.WriteSynced(path, content)
}

func TestSameComparesEveryFieldOfARow(t *testing.T) {
	one, other := 0.5, 0.5
	row := audit.CoherenceRow{GroupName: "d4", Median: &one, Mean: nil}
	differs := func(change func(*audit.CoherenceRow)) bool {
		changed := row
		changed.Median = &other
		change(&changed)
		return !same(reflect.ValueOf([]audit.CoherenceRow{row}), reflect.ValueOf([]audit.CoherenceRow{changed}))
	}
	require.False(t, differs(func(*audit.CoherenceRow) {}))
	require.True(t, differs(func(r *audit.CoherenceRow) { r.Step++ }))
	require.True(t, differs(func(r *audit.CoherenceRow) { r.GroupName = "c4" }))
	require.True(t, differs(func(r *audit.CoherenceRow) { r.Median = nil }))
	require.True(t, differs(func(r *audit.CoherenceRow) { r.Mean = &other }))
	require.True(t, differs(func(r *audit.CoherenceRow) { third := 0.25; r.Median = &third }))
	require.True(t, differs(func(r *audit.CoherenceRow) { r.ShiftX = math.Copysign(0, -1) }))
	nan := math.NaN()
	row.Median, other = &nan, nan
	require.False(t, differs(func(*audit.CoherenceRow) {}), "a value that is not finite is the same as itself")
}
