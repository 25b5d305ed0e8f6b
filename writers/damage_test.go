package writers

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
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

func TestNoChangedByteGoesUnnoticed(t *testing.T) {
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Write(auditAt(1)))
	part := run.directory.visible("coherence", 0)
	whole, err := os.ReadFile(part)
	require.NoError(t, err)
	records := readRecords(t, dir)
	for position := 0; position < len(whole); position += 5 {
		changed := append([]byte(nil), whole...)
		changed[position] ^= 0x10
		require.NoError(t, os.WriteFile(part, changed, 0o666))
		contents, err := Read(dir)
		// One in the digest's key leaves a file that seems to have none, and is otherwise whole.
		if mark := bytes.LastIndex(whole, []byte(keyDigest)); position >= mark && position < mark+len(keyDigest) && err == nil {
			requireSame(t, records, contents.Records)
			continue
		}
		require.ErrorContains(t, err, part, "byte %d of %d", position, len(whole))
	}
}

// A footer that is consistent, but claims what is not there.
func TestClaimsAreChecked(t *testing.T) {
	for name, change := range map[string]struct {
		edit func(*format.FileMetaData)
		want string
	}{
		"codec":         {func(m *format.FileMetaData) { m.RowGroups[0].Columns[3].MetaData.Codec = format.Lz4Raw }, "compressed with LZ4_RAW instead of zstd"},
		"rows":          {func(m *format.FileMetaData) { m.NumRows = 1 << 40 }, "claims 1099511627776 rows"},
		"rows of group": {func(m *format.FileMetaData) { m.NumRows = 3 }, "claims 3 rows, its row group 2"},
		"values":        {func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.NumValues = 3 }, "claims 3 values for 2 rows"},
		"offset":        {func(m *format.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.DataPageOffset = 4 }, "claims to begin at byte 4"},
		"size":          {func(m *format.FileMetaData) { m.RowGroups[0].Columns[1].MetaData.TotalCompressedSize = 1 << 50 }, "of the"},
		"children":      {func(m *format.FileMetaData) { m.Schema[0].NumChildren.V = 1 << 30 }, "not a list of columns"},
		"uncompressed":  {func(m *format.FileMetaData) { m.RowGroups[0].Columns[2].MetaData.TotalUncompressedSize++ }, "the pages of column"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			run := openRun(t, dir)
			require.NoError(t, run.Write(auditAt(1)))
			part := run.directory.visible("influence", 0)
			whole, err := os.ReadFile(part)
			require.NoError(t, err)
			meta, err := footer(whole)
			require.NoError(t, err)
			change.edit(meta)
			text, err := thrift.Marshal(new(thrift.CompactProtocol), meta)
			require.NoError(t, err)
			changed := append(whole[:len(whole)-8-footerSize(whole)], text...)
			changed = append(binary.LittleEndian.AppendUint32(changed, uint32(len(text))), parquetMark...)
			place, found := digestPlace(changed)
			require.True(t, found)
			copy(place, noDigest)
			require.NoError(t, seal(changed))
			require.NoError(t, os.WriteFile(part, changed, 0o666))
			_, err = Read(dir)
			require.ErrorContains(t, err, part)
			require.ErrorContains(t, err, change.want)
		})
	}
}

func TestReadIsBounded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, firstInfoName)
	require.NoError(t, os.WriteFile(path, nil, 0o666))
	require.NoError(t, os.Truncate(path, 1<<40)) // sparse
	_, err := Read(dir)
	require.ErrorContains(t, err, path+" has 1099511627776 bytes, more than")
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
	for _, row := range records.Decisions {
		count("decisions", row.Moment)
	}
	for _, row := range records.Evaluation {
		count("evaluation", row.Moment)
	}
	for _, row := range records.Rollouts {
		count("rollouts", row.Moment)
	}
	for _, row := range records.Pictures {
		count("pictures", row.Moment)
	}
	for _, row := range records.LocalErrors {
		count("local_errors", row.Moment)
	}
	for _, row := range records.Influence {
		count("influence", row.Moment)
	}
	for _, row := range records.Solves {
		count("solves", row.Moment)
	}
	for _, row := range records.Layers {
		count("layers", row.Moment)
	}
	for _, row := range records.Spectrum {
		count("spectrum", row.Moment)
	}
	for _, row := range records.Coherence {
		count("coherence", row.Moment)
	}
	steps := map[int64]bool{}
	for step, got := range counts {
		want := map[string]int{"training": 2, "decisions": 2, "evaluation": 2, "rollouts": 2, "errors": 2, "local_errors": 2, "influence": 2, "solves": 2, "layers": 2, "spectrum": 2, "pictures": 2, "coherence": 2}
		if alone[step] {
			want = map[string]int{"training": 2}
		}
		require.Equal(t, want, got, "rows of step %d", step)
		steps[step] = true
	}
	return steps
}
