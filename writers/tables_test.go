package writers

import (
	"bytes"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

// Files of earlier programs lack optional columns, which are null then, and have retired ones; nothing else may be missing, added or changed.
func TestFilesOfEarlierProgramsAreRead(t *testing.T) {
	type row struct {
		audit.Moment
		Group string   `parquet:"group_name"`
		Value *float64 `parquet:"value,optional"`
		Error *float64 `parquet:"error,optional"`
		Count int32    `parquet:"count"`
	}
	type before struct {
		audit.Moment
		Group string   `parquet:"group_name"`
		Value *float64 `parquet:"value,optional"`
		Rank  int32    `parquet:"sketch_rank"`
		Count int32    `parquet:"count"`
	}
	value := 0.5
	file := fileOf(t, []before{{audit.Moment{Step: 3}, "d4", &value, 5, 7}, {audit.Moment{Step: 4}, "c4", nil, 6, 8}})
	rows, err := readRows[row](file)
	require.NoError(t, err)
	require.Equal(t, []row{{audit.Moment{Step: 3}, "d4", &value, nil, 7}, {audit.Moment{Step: 4}, "c4", nil, nil, 8}}, rows)

	type other struct {
		audit.Moment
		Group string   `parquet:"group_name"`
		Value *float64 `parquet:"value,optional"`
	}
	_, err = readRows[row](fileOf(t, []other{{Group: "d4"}}))
	require.ErrorContains(t, err, "its columns are not those of table", "count is missing, and not optional")
	_, err = readRows[other](file)
	require.ErrorContains(t, err, "its columns are not those of table", "count is one too many")
}

func fileOf[Row any](t *testing.T, rows []Row) *parquet.File {
	t.Helper()
	content := &bytes.Buffer{}
	writer := parquet.NewGenericWriter[Row](content)
	_, err := writer.Write(rows)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	file, err := parquet.OpenFile(bytes.NewReader(content.Bytes()), int64(content.Len()))
	require.NoError(t, err)
	return file
}
