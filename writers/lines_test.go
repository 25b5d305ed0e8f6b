package writers

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gomlx/gomlx/ml/train"
	"github.com/parquet-go/parquet-go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// odd is an auditor of all tables, whose rows have every value that a row can have.
type odd struct{ random *rand.Rand }

func (o *odd) Audit(_ context.Context, at audit.Moment) (*audit.Records, error) {
	records := auditAt(at.Step)
	records.Training = nil
	lists := reflect.ValueOf(records).Elem()
	for i := range lists.NumField() {
		for j := range lists.Field(i).Len() {
			o.fill(lists.Field(i).Index(j))
		}
	}
	for _, moment := range records.Moments() {
		*moment = at
	}
	return records, nil
}

func (o *odd) fill(value reflect.Value) {
	switch value.Kind() {
	case reflect.Struct:
		for i := range value.NumField() {
			o.fill(value.Field(i))
		}
	case reflect.Pointer:
		value.SetZero()
		if o.random.IntN(3) > 0 {
			value.Set(reflect.New(value.Type().Elem()))
			o.fill(value.Elem())
		}
	case reflect.Float64:
		special := []float64{0, math.Copysign(0, -1), 1, -3, 1e300, 5e-324, 1e21, 123456789, math.MaxFloat64, math.NaN(), math.Inf(1), math.Inf(-1)}
		value.SetFloat(o.random.NormFloat64())
		if i := o.random.IntN(2 * len(special)); i < len(special) {
			value.SetFloat(special[i])
		}
	case reflect.Int32:
		value.SetInt(int64(int32(o.random.Uint32())))
	case reflect.Int64:
		value.SetInt([]int64{0, 7, math.MaxInt64, math.MinInt64, 1<<53 + 1}[o.random.IntN(5)])
	case reflect.Slice: // of bytes
		value.SetBytes([]byte{0, 1, byte(o.random.Uint32()), '"', 0xff})
	case reflect.String:
		value.SetString([]string{"", "e", "t(0,8)r", "a \"b\" \\ \n <é&>\u2028", "0"}[o.random.IntN(5)])
	}
}

// What one hook writes is the same in both, value by value, of all tables: columns, their order, numbers, texts and nulls.
func TestLinesHoldWhatParquetHolds(t *testing.T) {
	r := newRig(t)
	r.auditor = func(*train.Trainer) (hooks.Auditor, error) { return &odd{rand.New(rand.NewPCG(1, 2))}, nil }
	path := filepath.Join(r.dir, "rows.jsonl")
	var lines *Lines
	r.sink = func(run *Run) audit.Sink {
		var err error
		lines, err = JSONLines(path)
		require.NoError(t, err)
		r.configure = func(b *hooks.Builder) error { b.WithSink(lines, run); return nil }
		return run
	}
	how, err := r.train(hooks.EndTraining, zerolog.Nop())
	require.NoError(t, err)
	require.Equal(t, "carries on", how)
	require.NoError(t, lines.Close())

	want := map[string][]string{} // rows in words, by table
	for _, table := range tables {
		visible, _, err := directory{path: r.dir}.list(table.name())
		require.NoError(t, err)
		require.NotEmpty(t, visible)
		for _, number := range visible {
			require.NoError(t, withPart(directory{path: r.dir}.visible(table.name(), number), func(part *parquet.File, _ []byte) error {
				want[table.name()] = append(want[table.name()], parquetRows(t, part)...)
				return nil
			}))
		}
	}
	require.Equal(t, want, linesByTable(t, path))
}

// parquetRows says all values of a file, with nothing of this package.
func parquetRows(t *testing.T, file *parquet.File) (words []string) {
	t.Helper()
	columns := file.Schema().Columns()
	for _, group := range file.RowGroups() {
		rows := make([]parquet.Row, group.NumRows())
		reader := group.Rows()
		n, _ := reader.ReadRows(rows)
		require.Len(t, rows, n)
		for _, row := range rows {
			word := ""
			for i, value := range row {
				said := ""
				switch {
				case value.IsNull():
					said = "null"
				case value.Kind() == parquet.Double:
					said = fmt.Sprint(math.Float64bits(value.Double()))
					if value.Double() != value.Double() {
						said = "NaN"
					}
				case value.Kind() == parquet.ByteArray:
					said = strconv.Quote(string(value.ByteArray()))
				default:
					said = value.String()
				}
				word += columns[i][0] + "=" + said + " "
			}
			words = append(words, word)
		}
		require.NoError(t, reader.Close())
	}
	return words
}

// linesByTable says all values of a file of lines, in the order in which they stand there.
func linesByTable(t *testing.T, path string) map[string][]string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	found := map[string][]string{}
	for line := range strings.Lines(string(content)) {
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.UseNumber()
		token := func() any {
			next, err := decoder.Token()
			require.NoError(t, err, line)
			return next
		}
		require.Equal(t, json.Delim('{'), token())
		require.Equal(t, "table", token())
		table := token().(string)
		kinds := map[string]parquet.Kind{}
		for _, known := range tables {
			if known.name() == table {
				for _, field := range known.schema().Fields() {
					kinds[field.Name()] = field.Type().Kind()
				}
			}
		}
		word := ""
		for decoder.More() {
			name, value := token().(string), token()
			said := ""
			switch value := value.(type) {
			case nil:
				said = "null"
			case json.Number:
				said = value.String()
				require.Equal(t, kinds[name] == parquet.Double, strings.ContainsAny(said, ".e"), "%s: a reader takes the type from the first values", said)
				if kinds[name] == parquet.Double {
					x, err := value.Float64()
					require.NoError(t, err)
					said = fmt.Sprint(math.Float64bits(x))
				}
			case string:
				said = strconv.Quote(value)
				if slices.Contains([]string{"values", "truth", "prediction"}, name) {
					bytes, err := base64.StdEncoding.DecodeString(value)
					require.NoError(t, err)
					said = strconv.Quote(string(bytes))
				}
				if kinds[name] == parquet.Double {
					x, err := strconv.ParseFloat(value, 64)
					require.NoError(t, err)
					said = fmt.Sprint(math.Float64bits(x))
					if x != x {
						said = "NaN"
					}
				}
			}
			word += name + "=" + said + " "
		}
		found[table] = append(found[table], word)
	}
	return found
}

func openedLines(t *testing.T, path string) *Lines {
	t.Helper()
	lines, err := JSONLines(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = lines.Close() })
	return lines
}

// steps are step and attempt of each line, and the runs that they are of.
func stepsIn(t *testing.T, path string) (steps []string, runs map[string]bool) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	runs = map[string]bool{}
	for line := range strings.Lines(string(content)) {
		var row struct {
			RunID   string `json:"run_id"`
			Attempt int
			Step    int
		}
		require.NoError(t, json.Unmarshal([]byte(line), &row), line)
		steps = append(steps, fmt.Sprintf("%d/%d", row.Step, row.Attempt))
		runs[row.RunID] = true
	}
	return steps, runs
}

func oneStep(step int64) *audit.Records {
	records := trainingAt(step)
	records.Training = records.Training[:1]
	return records
}

// Whatever a killed process leaves of the last line, its whole lines stay, and the next process goes on behind them.
func TestATornLastLineIsDropped(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "rows.jsonl")
	lines := openedLines(t, whole)
	require.NoError(t, lines.Write(oneStep(1)))
	require.NoError(t, lines.Write(oneStep(2)))
	require.NoError(t, lines.Close())
	content, err := os.ReadFile(whole)
	require.NoError(t, err)
	first := bytes.IndexByte(content, '\n') + 1
	for torn := range len(content) + 1 {
		path := filepath.Join(t.TempDir(), "rows.jsonl")
		require.NoError(t, os.WriteFile(path, content[:torn], 0o666))
		lines, err := JSONLines(path)
		require.NoError(t, err, "%d bytes", torn)
		require.NoError(t, lines.Write(oneStep(3)))
		require.NoError(t, lines.Close())
		var want []string
		switch {
		case torn == len(content):
			want = []string{"1/1", "2/1", "3/2"}
		case torn >= first:
			want = []string{"1/1", "3/2"}
		default:
			want = []string{"3/1"}
		}
		steps, runs := stepsIn(t, path)
		require.Equal(t, want, steps, "%d bytes", torn)
		require.Len(t, runs, 1)
	}
}

// Alone, without a run that says so, the file tells the attempts of a training apart.
func TestLinesCountTheirAttempts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "rows.jsonl")
	lines := openedLines(t, path)
	require.NoFileExists(t, path, "nothing is written yet")
	for _, step := range []int64{1, 2, 3, 3, 2, 3} {
		require.NoError(t, lines.Write(oneStep(step)))
	}
	require.NoError(t, lines.Write(ofModel("vit", oneStep(1))))
	require.NoError(t, lines.Close())
	require.NoError(t, openedLines(t, path).Write(oneStep(3)))
	steps, runs := stepsIn(t, path)
	require.Equal(t, []string{"1/1", "2/1", "3/1", "3/1", "2/2", "3/2", "1/2", "3/3"}, steps)
	require.Len(t, runs, 1)
	require.NotContains(t, runs, "")
}

func TestLinesRefuse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rows.jsonl")
	refused := func(path, want string) {
		t.Helper()
		_, err := JSONLines(path)
		require.ErrorContains(t, err, want)
	}
	refused("", "writers: the file of JSON lines has no name; give one")
	refused(dir, "is no file that lines can be appended to; choose another")
	for _, content := range []string{"thesis", "\\begin{document}\nLorem", "{\"table\":\"training\"}\nnotes", "{\"table\":\"training\n", "{}\n"} {
		other := filepath.Join(t.TempDir(), "thesis.tex")
		require.NoError(t, os.WriteFile(other, []byte(content), 0o666))
		refused(other, "thesis.tex is not a file of rows of symaudit; choose another file")
		left, err := os.ReadFile(other)
		require.NoError(t, err)
		require.Equal(t, content, string(left), "it is somebody's")
	}
	lines := openedLines(t, path)
	refused(path, "writers: another process is writing to "+path)
	bad := oneStep(1)
	bad.Training[0].Model = "Stra\xdfe"
	require.ErrorContains(t, lines.Write(bad), "not UTF-8")
	require.NoError(t, lines.Write(oneStep(1)))
	require.NoError(t, lines.Write(nil))
	require.NoError(t, lines.Write(&audit.Records{}))
	require.NoError(t, os.Truncate(path, 5))
	require.ErrorContains(t, lines.Write(oneStep(2)), "has 5 bytes, and ")
	require.NoError(t, lines.Close())
	require.ErrorContains(t, lines.Write(oneStep(2)), path+" is closed; open it again to write more")
}

// Append fails as a full disk does, with half of the content there. Taking an end away is another operation.
func (f *failingFiles) Append(path string, size int64, content []byte) error {
	operation := "append"
	if content == nil {
		operation = "truncate"
	}
	if err := f.strike(operation, path); err != nil {
		if content != nil {
			_ = f.osFiles.Append(path, size, content[:len(content)/2])
		}
		return err
	}
	return f.osFiles.Append(path, size, content)
}

// After a failed write nothing of it is there; where the disk will not even take it back, the next write does.
func TestAFailedWriteOfLinesLeavesNothing(t *testing.T) {
	for failures := range 3 {
		path := filepath.Join(t.TempDir(), "rows.jsonl")
		disk := &failingFiles{}
		lines, err := openLines(path, disk)
		require.NoError(t, err)
		require.NoError(t, lines.Write(oneStep(1)))
		left := failures
		disk.fault = func(operation, _ string) error {
			if left--; left >= 0 && (operation == "append" || operation == "truncate") {
				return syscall.ENOSPC
			}
			return nil
		}
		failure := lines.Write(auditAt(2))
		switch failures {
		case 0:
			require.NoError(t, failure)
			continue
		case 1:
			require.ErrorContains(t, failure, "writers: cannot write "+path+": no space left on device; free space there")
			steps, _ := stepsIn(t, path)
			require.Equal(t, []string{"1/1"}, steps)
		case 2:
			require.ErrorContains(t, failure, "could be neither written nor taken back; the next write tries again")
		}
		require.NoError(t, lines.Write(oneStep(3)))
		steps, _ := stepsIn(t, path)
		require.Equal(t, []string{"1/1", "3/1"}, steps)
		require.NoError(t, lines.Close())
	}
}
