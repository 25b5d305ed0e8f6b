package writers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

// soundAudit is auditAt with rows that differ from each other, as those of real audits do.
func soundAudit(step int64) *audit.Records {
	records := auditAt(step)
	records.Training, records.Decisions = records.Training[:1], records.Decisions[:1]
	return records
}

// threeAudits is a run of three parts, the last of a second attempt; an audit has 16 rows.
func threeAudits(t *testing.T) directory {
	dir := filepath.Join(t.TempDir(), "run")
	first := openRun(t, dir)
	require.NoError(t, first.Write(soundAudit(1)))
	require.NoError(t, first.Write(soundAudit(2)))
	require.NoError(t, first.Close())
	second := resumeRun(t, dir)
	require.NoError(t, second.Write(soundAudit(2)))
	require.NoError(t, second.Close())
	return directory{path: dir}
}

func TestAWholeRunIsCounted(t *testing.T) {
	require.Equal(t, Checked{Audits: 3, Rows: 66, Parts: 3}, *Check(threeAudits(t).path))
	require.Equal(t, Checked{Audits: 5, Rows: 216, Parts: 5}, *Check(version1))
}

func TestEveryFaultIsFound(t *testing.T) {
	copyFile := func(t *testing.T, from, to string) {
		content, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to, content, 0o666))
	}
	for name, fault := range map[string]struct {
		make func(t *testing.T, run directory)
		want []string // what each fault says, after the directory's name
	}{
		"a damaged part": {func(t *testing.T, run directory) { require.NoError(t, os.Truncate(run.visible("solves", 1), 500)) },
			[]string{"/solves/part-000001.parquet cannot be read: its 500 bytes do not begin and end with PAR1, as those of Parquet files do; restore it from a copy, or move all files of its number away"}},
		"two damaged parts and a lost one": {func(t *testing.T, run directory) {
			require.NoError(t, os.Truncate(run.visible("solves", 1), 0))
			require.NoError(t, os.Truncate(run.visible("errors", 1), 0))
			require.NoError(t, os.Remove(run.visible("training", 2)))
		}, []string{"/solves/part-000001.parquet cannot be read", "/errors/part-000001.parquet cannot be read", "/training/part-000002.parquet is missing; restore it from a copy, or move all files of its number away"}},
		"an audit's last file lost": {func(t *testing.T, run directory) { require.NoError(t, os.Remove(run.visible("coherence", 1))) },
			[]string{"/coherence/part-000001.parquet is missing"}},
		"left before anything was visible": {func(t *testing.T, run directory) {
			require.NoError(t, os.WriteFile(run.hidden("errors", 3), []byte("PAR1"), 0o666))
		}, []string{"/errors/.part-000003.parquet.inprogress was left by a process that ended while it wrote, and no reader sees it; remove it, or resume the run, which does"}},
		"left half visible": {func(t *testing.T, run directory) {
			require.NoError(t, os.Rename(run.visible("coherence", 2), run.hidden("coherence", 2)))
		}, []string{"/coherence/.part-000002.parquet.inprogress was left by a process that ended while it made the part visible, and Read leaves the part out; resume the run, which finishes it, or rename the file to part-000002.parquet"}},
		"left beside the tables": {func(t *testing.T, run directory) {
			require.NoError(t, os.MkdirAll(filepath.Join(run.path, "checkpoints", "unet", ".step-000000009.inprogress"), 0o777))
			require.NoError(t, os.WriteFile(filepath.Join(run.path, ".run-attempt-3.json.inprogress"), nil, 0o666))
		}, []string{"/.run-attempt-3.json.inprogress was left by a process that ended while it wrote; remove it", "/checkpoints/unet/.step-000000009.inprogress was left"}},
		"a part twice": {func(t *testing.T, run directory) {
			for _, table := range tableNames() {
				copyFile(t, run.visible(table, 0), run.visible(table, 7))
			}
		}, everyTable(7, ` has rows of model "unet", seed 7, step 1, attempt 1 that are in `)},
		"rows twice in a part": {func(t *testing.T, run directory) {
			twice := soundAudit(9)
			twice.Errors = append(twice.Errors, twice.Errors...)
			writer := resumeRun(t, run.path)
			require.NoError(t, writer.Write(twice))
			require.NoError(t, writer.Close())
		}, []string{`/errors/part-000003.parquet has rows of model "unet", seed 7, step 9, attempt 3 twice (2); restore it from a copy, or move all files of its number away`}},
		"a copy that globs read": {func(t *testing.T, run directory) {
			copyFile(t, run.visible("errors", 0), filepath.Join(run.path, "errors", "part-000000 (copy).parquet"))
		}, []string{"/errors/part-000000 (copy).parquet is not named as a part, such as part-000000.parquet, so that queries read it and reports do not; move it away"}},
		"a file of another write": {func(t *testing.T, run directory) {
			other := openRun(t, t.TempDir())
			require.NoError(t, other.Write(&audit.Records{Training: soundAudit(9).Training}))
			require.NoError(t, os.Rename(other.directory.visible("training", 0), run.visible("training", 1)))
		}, []string{"/training/part-000001.parquet is of a part with tables training, and ", "/training/part-000001.parquet is of run "}},
		"a damaged description": {func(t *testing.T, run directory) {
			require.NoError(t, os.Truncate(filepath.Join(run.path, infoName(2)), 10))
		}, []string{"/run-attempt-2.json is not the description of a run: unexpected end of JSON input; restore it from a copy"}},
		"a description without a run": {func(t *testing.T, run directory) {
			require.NoError(t, os.WriteFile(filepath.Join(run.path, infoName(1)), []byte(`{"schema_version": 2, "attempt": 1}`), 0o666))
		}, []string{"/run.json does not say of which run it is the description; restore it from a copy"}},
		"the first description lost": {func(t *testing.T, run directory) {
			require.NoError(t, os.Remove(filepath.Join(run.path, infoName(1))))
		}, []string{"/run.json is missing; restore it from a copy"}},
		"the last description lost": {func(t *testing.T, run directory) {
			require.NoError(t, os.Remove(filepath.Join(run.path, infoName(2))))
		}, []string{"/run-attempt-2.json is missing; restore it from a copy"}},
		"all descriptions lost": {func(t *testing.T, run directory) {
			require.NoError(t, os.Remove(filepath.Join(run.path, infoName(1))))
			require.NoError(t, os.Remove(filepath.Join(run.path, infoName(2))))
		}, []string{"/run.json is missing", "/run-attempt-2.json is missing"}},
		"another run's description": {func(t *testing.T, run directory) {
			other := openRun(t, t.TempDir())
			require.NoError(t, os.Rename(filepath.Join(other.Dir(), infoName(1)), filepath.Join(run.path, infoName(1))))
		}, slices.Concat([]string{"/run-attempt-2.json is the description of run "}, everyTable(0, " is of run "), everyTable(1, " is of run "), everyTable(2, " is of run "))},
		"not a run": {func(t *testing.T, run directory) { require.NoError(t, os.RemoveAll(run.path)) },
			[]string{" holds no run: it has no run.json; name a run's own directory, such as runs/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			run := threeAudits(t)
			fault.make(t, run)
			requireFaults(t, run.path, fault.want...)
		})
	}
}

// requireFaults asks for each of the faults that are wanted, by how they begin, and for no others.
func requireFaults(t *testing.T, dir string, want ...string) {
	t.Helper()
	faults := Check(dir).Faults
	found := map[int]bool{}
	for _, text := range want {
		matched := false
		for i, fault := range faults {
			if strings.HasPrefix(fault.Error(), "writers: "+filepath.ToSlash(dir)+text) {
				matched, found[i] = true, true
			}
		}
		require.True(t, matched, "no fault %q in %v", text, faults)
	}
	for i, fault := range faults {
		require.True(t, found[i], "not wanted: %v", fault)
	}
}

// everyTable is a file of each, with what is said of it.
func everyTable(number int, said string) (all []string) {
	for _, table := range tableNames() {
		all = append(all, directory{}.visible("/"+table, number)+said)
	}
	return all
}

func TestAuditsThatLackATableAreFound(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	lacking := soundAudit(1)
	lacking.Errors, lacking.Solves = nil, nil
	outputs := soundAudit(2) // of outputs alone: no cosine, so no solve
	outputs.Influence, outputs.Solves, outputs.Layers, outputs.Coherence = nil, nil, nil, []audit.CoherenceRow{{Moment: outputs.Coherence[0].Moment, GroupName: "d4", Element: "*"}}
	require.NoError(t, run.Write(lacking))
	require.NoError(t, run.Write(outputs))
	requireFaults(t, dir, `/coherence/part-000000.parquet is of an audit that has no rows in errors, solves: model "unet", seed 7, step 1, attempt 1; restore them from a copy, or leave the audit out where you need them`)
}

// What a process is writing at the moment is no fault: a run can be checked beside its training.
func TestWhatIsBeingWrittenIsNoFault(t *testing.T) {
	run := threeAudits(t)
	writer := resumeRun(t, run.path)
	require.NoError(t, os.WriteFile(run.hidden("errors", 3), []byte("PAR1"), 0o666))
	require.NoError(t, os.Rename(run.visible("coherence", 2), run.hidden("coherence", 2)))
	require.Equal(t, Checked{Audits: 2, Rows: 44, Parts: 2}, *Check(run.path))
	require.NoError(t, writer.Close())
	require.Len(t, Check(run.path).Faults, 2)
}

func TestALockThatCannotBeReadIsAFault(t *testing.T) {
	run := threeAudits(t)
	lock := filepath.Join(run.path, lockName)
	require.NoError(t, os.Remove(lock))
	require.NoError(t, os.Symlink(lockName, lock)) // a loop
	faults := Check(run.path).Faults
	require.Len(t, faults, 1)
	require.ErrorContains(t, faults[0], "cannot read "+lock)
	require.ErrorContains(t, Compact(run.path, run.path+"-compact"), "cannot read "+lock)
}
