package writers

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/symaudit/symaudit/audit"
)

// Lines is a file of JSON lines open for writing; see JSONLines. It is an audit.Sink, safe for concurrent use.
type Lines struct {
	lock *flock.Flock

	mu     sync.Mutex
	file   growing
	own    stamp              // of rows that say no run
	steps  map[identity]int64 // highest that was written with it, by training
	closed error              // by Close
}

// JSONLines opens a file to which each row is appended as a line, an object in JSON: its table, and the columns of that table by
// the names, in the order and with the values that they have in Parquet (docs/format.md). What is null there is null here; NaN and
// infinities, for which JSON has no numbers, are the texts "NaN", "Infinity" and "-Infinity", and bytes are base64.
//
// A file that is there is continued. A last line that a killed process has left unfinished is dropped; a file of another content is
// refused. Folders that are missing are made, and the file itself by the first Write. It is locked against other writers until Close
// or the end of the process.
//
// Beside a Run in hooks.Builder.WithSink, rows carry the run_id and attempt that they have there. Rows without a run_id get that of the
// file's last line, or a new one, and an attempt: 1 at first, one more when the file is continued or a training goes back to an earlier
// step.
func JSONLines(path string) (*Lines, error) { return openLines(path, osFiles{}) }

func openLines(path string, disk files) (*Lines, error) {
	if path == "" {
		return nil, errors.New("writers: the file of JSON lines has no name; give one, such as runs/first.jsonl")
	}
	folder, name := filepath.Split(path)
	if err := makeFolders(disk, filepath.Clean(folder)); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(folder, "."+name+lockName))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, explain("lock", lock.Path(), err)
	}
	if !locked {
		return nil, fmt.Errorf("writers: another process is writing to %s; wait for its end, or choose another file", path)
	}
	l := &Lines{lock: lock, file: growing{path: path, disk: disk}, own: stamp{attempt: 1}, steps: map[identity]int64{}}
	if err := l.resume(); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return l, nil
}

// lineStart is what every line begins with.
const lineStart = `{"table":"`

// resume goes on where the file ends, without a last line that is not whole.
func (l *Lines) resume() error {
	path := l.file.path
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("read", path, err)
	}
	defer file.Close()
	status, err := file.Stat()
	if err != nil {
		return explain("read", path, err)
	}
	if !status.Mode().IsRegular() {
		return fmt.Errorf("writers: %s is no file that lines can be appended to; choose another", path)
	}
	whole, err := lastBreak(file, status.Size())
	if err != nil {
		return explain("read", path, err)
	}
	before, err := lastBreak(file, whole-1)
	if err != nil {
		return explain("read", path, err)
	}
	foreign := fmt.Errorf("writers: %s is not a file of rows of symaudit; choose another file", path)
	for _, line := range [][2]int64{{0, status.Size()}, {before, whole}, {whole, status.Size()}} {
		start := make([]byte, min(int64(len(lineStart)), line[1]-line[0]))
		if _, err := file.ReadAt(start, line[0]); err != nil && !errors.Is(err, io.EOF) {
			return explain("read", path, err)
		}
		if !strings.HasPrefix(lineStart, string(start)) {
			return foreign
		}
	}
	if whole > 0 {
		last := make([]byte, whole-before)
		if _, err := file.ReadAt(last, before); err != nil {
			return explain("read", path, err)
		}
		var row struct {
			RunID   string `json:"run_id"`
			Attempt int32  `json:"attempt"`
		}
		if json.Unmarshal(last, &row) != nil {
			return foreign
		}
		l.own = stamp{runID: row.RunID, attempt: row.Attempt + 1}
	}
	if whole == status.Size() {
		l.file.size = whole
		return nil
	}
	return l.file.cut(whole)
}

// lastBreak is the place behind the last line feed before end, 0 where there is none.
func lastBreak(file io.ReaderAt, end int64) (int64, error) {
	const block = 1 << 16
	for end > 0 {
		begin := max(0, end-block)
		content := make([]byte, end-begin)
		if _, err := file.ReadAt(content, begin); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if at := bytes.LastIndexByte(content, '\n'); at >= 0 {
			return begin + int64(at) + 1, nil
		}
		end = begin
	}
	return 0, nil
}

// String is the file's path as it was given to JSONLines, for messages.
func (l *Lines) String() string { return l.file.path }

// Write appends records, table by table. After it has returned nil they survive a power failure. After an error nothing of them is in
// the file and it can be written to again, unless the error says that they could not be taken back: then the disk refused that, too,
// and the next Write does it. records stay as they are.
func (l *Lines) Write(records *audit.Records) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return l.closed
	}
	if records == nil {
		return nil
	}
	own, steps := l.own, map[identity]int64{}
	if own.runID == "" {
		own.runID = newRunID(time.Now().UTC())
	}
	for _, at := range records.Moments() {
		id := identity{at.Model, at.Seed}
		if last, known := l.steps[id]; at.RunID == "" && known && at.Step < last && own.attempt == l.own.attempt {
			own.attempt++
		}
		steps[id] = max(steps[id], at.Step)
	}
	var lines bytes.Buffer
	for _, table := range tables {
		if err := table.encodeLines(&lines, records, own); err != nil {
			return err
		}
	}
	if lines.Len() == 0 {
		return nil
	}
	if err := l.file.append(lines.Bytes()); err != nil {
		return err
	}
	if own.attempt != l.own.attempt {
		clear(l.steps)
	}
	l.own = own
	for id, step := range steps {
		l.steps[id] = max(l.steps[id], step)
	}
	return nil
}

// Close lets other processes write to the file. Everything written is already safe.
func (l *Lines) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed == nil {
		l.closed = fmt.Errorf("writers: %s is closed; open it again to write more", l.file.path)
	}
	if err := l.lock.Unlock(); err != nil {
		return explain("unlock", l.lock.Path(), err)
	}
	return nil
}

// encodeLines appends a line for each row, which says what own does where the row names no run.
func (t tableOf[Row]) encodeLines(lines *bytes.Buffer, records *audit.Records, own stamp) error {
	columns := columnsOf(reflect.TypeFor[Row]())
	for _, row := range *t.rows(records) { // a copy
		if at := t.moment(&row); at.RunID == "" {
			at.RunID, at.Attempt = own.runID, own.attempt
		}
		value := reflect.ValueOf(row)
		if err := validStrings(value); err != nil {
			return fmt.Errorf("writers: table %s: %w", t.tableName, err)
		}
		lines.WriteString(lineStart + t.tableName + `"`)
		for _, column := range columns {
			lines.WriteString(`,"` + column.name + `":`)
			writeValue(lines, value.FieldByIndex(column.index), column.optional)
		}
		lines.WriteString("}\n")
	}
	return nil
}

// column is one of a table, by the tags that make it a column in Parquet.
type column struct {
	name     string
	optional bool
	index    []int // of its field
}

func columnsOf(row reflect.Type) (all []column) {
	for _, field := range reflect.VisibleFields(row) {
		if tag, isColumn := field.Tag.Lookup("parquet"); isColumn {
			name, options, _ := strings.Cut(tag, ",")
			all = append(all, column{name, options == "optional", field.Index})
		}
	}
	return all
}

// writeValue writes a value in JSON; a zero that Parquet takes for null as null.
func writeValue(to *bytes.Buffer, value reflect.Value, optional bool) {
	negative := value.Kind() == reflect.Float64 && math.Signbit(value.Float()) // zero, which reflect takes for zero and Parquet does not
	if optional && value.IsZero() && !negative {
		to.WriteString("null")
		return
	}
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	switch value.Kind() {
	case reflect.Float64:
		to.WriteString(number(value.Float()))
	case reflect.Int32, reflect.Int64:
		to.WriteString(strconv.FormatInt(value.Int(), 10))
	case reflect.Slice: // of bytes
		to.WriteString(`"` + base64.StdEncoding.EncodeToString(value.Bytes()) + `"`)
	default:
		text := json.NewEncoder(to)
		text.SetEscapeHTML(false)
		_ = text.Encode(value.String()) // into memory, of text that is UTF-8
		to.Truncate(to.Len() - 1)       // of its line feed
	}
}

// number is a float64 by its shortest digits that are read back as the same, and never as an integer: readers take a column's type
// from its first values.
func number(x float64) string {
	switch {
	case math.IsNaN(x):
		return `"NaN"`
	case math.IsInf(x, 1):
		return `"Infinity"`
	case math.IsInf(x, -1):
		return `"-Infinity"`
	}
	text := strconv.FormatFloat(x, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
}
