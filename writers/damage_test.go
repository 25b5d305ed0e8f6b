package writers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

func TestDamagedFilesAreNamed(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, part string){
		"truncated": func(t *testing.T, part string) { require.NoError(t, os.Truncate(part, 100)) },
		"empty":     func(t *testing.T, part string) { require.NoError(t, os.Truncate(part, 0)) },
		"not parquet": func(t *testing.T, part string) {
			require.NoError(t, os.WriteFile(part, []byte("<html>Disk quota exceeded</html>"), 0o666))
		},
		"another table's": func(t *testing.T, part string) {
			other, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(part)), "errors", filepath.Base(part)))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(part, other, 0o666))
		},
		"missing": func(t *testing.T, part string) { require.NoError(t, os.Remove(part)) },
	} {
		for _, table := range []string{"training", "influence", "coherence"} {
			t.Run(name+"/"+table, func(t *testing.T) {
				dir := t.TempDir()
				run := openRun(t, dir)
				require.NoError(t, run.Write(auditAt(1)))
				require.NoError(t, run.Write(auditAt(2)))
				part := run.directory.visible(table, 1)
				damage(t, part)
				_, err := Read(dir)
				require.ErrorContains(t, err, part)
			})
		}
	}
}

// Pages carry checksums, so a changed byte in them is an error or changes nothing. The format has none for the footer:
// there a change must not bring the reader down.
func TestNoChangedByteGoesUnnoticed(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Write(auditAt(1)))
	want := readRecords(t, dir)
	part := run.directory.visible("coherence", 0)
	whole, err := os.ReadFile(part)
	require.NoError(t, err)
	rejected := 0
	for position := 0; position < len(whole); position += 7 {
		changed := append([]byte(nil), whole...)
		changed[position] ^= 0x10
		require.NoError(t, os.WriteFile(part, changed, 0o666))
		contents, err := Read(dir)
		switch {
		case err != nil:
			require.ErrorContains(t, err, part)
			rejected++
		case position < len(whole)/4:
			require.Empty(t, cmp.Diff(want, contents.Records), "changed byte %d of %d", position, len(whole))
		}
	}
	require.Greater(t, rejected, len(whole)/7/4)
}

func TestReadNamesWhatIsNotARun(t *testing.T) {
	dir := t.TempDir()
	_, err := Read(dir)
	require.ErrorContains(t, err, dir+" holds no run")
	require.NoError(t, os.WriteFile(filepath.Join(dir, firstInfoName), []byte("{"), 0o666))
	_, err = Read(dir)
	require.ErrorContains(t, err, filepath.Join(dir, firstInfoName)+" is not the description of a run")
}

// requireWholeAudits fails unless every step is there with two rows in each table, or, as trainingAt makes it, in
// training alone. It returns the steps.
func requireWholeAudits(t testingT, records audit.Records) map[int64]bool {
	t.Helper()
	counts := map[int64]map[string]int{}
	count := func(table string, moment audit.Moment) {
		if counts[moment.Step] == nil {
			counts[moment.Step] = map[string]int{}
		}
		counts[moment.Step][table]++
	}
	alone := map[int64]bool{}
	for _, row := range records.Training {
		count("training", row.Moment)
		alone[row.Step] = row.Epoch == betweenAudits
	}
	for _, row := range records.Errors {
		count("errors", row.Moment)
	}
	for _, row := range records.Influence {
		count("influence", row.Moment)
	}
	for _, row := range records.Solves {
		count("solves", row.Moment)
	}
	for _, row := range records.Coherence {
		count("coherence", row.Moment)
	}
	steps := map[int64]bool{}
	for step, got := range counts {
		want := map[string]int{"training": 2, "errors": 2, "influence": 2, "solves": 2, "coherence": 2}
		if alone[step] {
			want = map[string]int{"training": 2}
		}
		require.Equal(t, want, got, "rows of step %d", step)
		steps[step] = true
	}
	return steps
}
