package writers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/attempts"
)

// Keys of a part's footer; their values are text.
const (
	keySchemaVersion = "symaudit.schema_version"
	keyTable         = "symaudit.table"
	keyPartTables    = "symaudit.part_tables" // the part's tables in the order in which they become visible, by comma
	keyRunID         = "symaudit.run_id"
	keyAttempt       = "symaudit.attempt"
	keyUnits         = "symaudit.units"  // a JSON object: column name to unit
	keyDigest        = "symaudit.sha256" // of the file with zeros in the digest's place; files of early versions have none
)

// table is one of the run's tables, whatever the type of its rows.
type table interface {
	name() string
	schema() *parquet.Schema
	count(*audit.Records) int
	encode(records *audit.Records, stamp stamp) ([]byte, error)
	encodeLines(lines *bytes.Buffer, records *audit.Records, own stamp) error
	decode(path string, into *audit.Records) (version int, err error)
	keepCurrent(*audit.Records)
}

// stamp is what a part says of itself beside its rows.
type stamp struct {
	runID   string
	attempt int32
	tables  []string
}

// tables in the order in which the files of a part become visible: coherence, which every audit has, comes last.
var tables = []table{
	tableOf[audit.TrainingRow]{"training",
		func(r *audit.Records) *[]audit.TrainingRow { return &r.Training },
		func(row *audit.TrainingRow) *audit.Moment { return &row.Moment },
		readRows[audit.TrainingRow]},
	tableOf[audit.DecisionRow]{"decisions",
		func(r *audit.Records) *[]audit.DecisionRow { return &r.Decisions },
		func(row *audit.DecisionRow) *audit.Moment { return &row.Moment },
		readRows[audit.DecisionRow]},
	tableOf[audit.ErrorRow]{"errors",
		func(r *audit.Records) *[]audit.ErrorRow { return &r.Errors },
		func(row *audit.ErrorRow) *audit.Moment { return &row.Moment },
		converted[errorRow1]},
	tableOf[audit.LocalErrorRow]{"local_errors",
		func(r *audit.Records) *[]audit.LocalErrorRow { return &r.LocalErrors },
		func(row *audit.LocalErrorRow) *audit.Moment { return &row.Moment },
		readRows[audit.LocalErrorRow]},
	tableOf[audit.InfluenceRow]{"influence",
		func(r *audit.Records) *[]audit.InfluenceRow { return &r.Influence },
		func(row *audit.InfluenceRow) *audit.Moment { return &row.Moment },
		converted[influenceRow1]},
	tableOf[audit.SolveRow]{"solves",
		func(r *audit.Records) *[]audit.SolveRow { return &r.Solves },
		func(row *audit.SolveRow) *audit.Moment { return &row.Moment },
		converted[solveRow1]},
	tableOf[audit.LayerRow]{"layers",
		func(r *audit.Records) *[]audit.LayerRow { return &r.Layers },
		func(row *audit.LayerRow) *audit.Moment { return &row.Moment },
		readRows[audit.LayerRow]},
	tableOf[audit.SpectrumRow]{"spectrum",
		func(r *audit.Records) *[]audit.SpectrumRow { return &r.Spectrum },
		func(row *audit.SpectrumRow) *audit.Moment { return &row.Moment },
		readRows[audit.SpectrumRow]},
	tableOf[audit.CoherenceRow]{"coherence",
		func(r *audit.Records) *[]audit.CoherenceRow { return &r.Coherence },
		func(row *audit.CoherenceRow) *audit.Moment { return &row.Moment },
		converted[coherenceRow1]},
}

type tableOf[Row any] struct {
	tableName string
	rows      func(*audit.Records) *[]Row
	moment    func(*Row) *audit.Moment
	version1  func(*parquet.File) ([]Row, error) // reads a file of that version
}

func (t tableOf[Row]) name() string                     { return t.tableName }
func (t tableOf[Row]) schema() *parquet.Schema          { return parquet.SchemaOf(new(Row)) }
func (t tableOf[Row]) count(records *audit.Records) int { return len(*t.rows(records)) }

// encode returns the rows, stamped, as a Parquet file. The caller's rows stay as they are.
func (t tableOf[Row]) encode(records *audit.Records, stamp stamp) ([]byte, error) {
	rows := slices.Clone(*t.rows(records))
	for i := range rows {
		moment := t.moment(&rows[i])
		moment.RunID, moment.Attempt = stamp.runID, stamp.attempt
		if err := validStrings(reflect.ValueOf(rows[i])); err != nil {
			return nil, fmt.Errorf("writers: table %s: %w", t.tableName, err)
		}
	}
	units, err := json.Marshal(unitsOf(t.schema()))
	if err != nil {
		return nil, fmt.Errorf("writers: units of table %s: %w", t.tableName, err)
	}
	config, err := parquet.NewWriterConfig(
		parquet.Compression(&parquet.Zstd),
		parquet.CreatedBy("symaudit", strconv.Itoa(SchemaVersion), ""),
		parquet.KeyValueMetadata(keySchemaVersion, strconv.Itoa(SchemaVersion)),
		parquet.KeyValueMetadata(keyTable, t.tableName),
		parquet.KeyValueMetadata(keyPartTables, strings.Join(stamp.tables, ",")),
		parquet.KeyValueMetadata(keyRunID, stamp.runID),
		parquet.KeyValueMetadata(keyAttempt, strconv.Itoa(int(stamp.attempt))),
		parquet.KeyValueMetadata(keyUnits, string(units)),
		parquet.KeyValueMetadata(keyDigest, noDigest),
	)
	if err != nil {
		return nil, fmt.Errorf("writers: table %s: %w", t.tableName, err)
	}
	var file bytes.Buffer
	writer := parquet.NewGenericWriter[Row](&file, config)
	if _, err := writer.Write(rows); err != nil {
		return nil, fmt.Errorf("writers: cannot encode table %s: %w", t.tableName, err)
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("writers: cannot encode table %s: %w", t.tableName, err)
	}
	content := file.Bytes()
	err = seal(content)
	if err == nil {
		_, err = footer(content) // what cannot be read again must not be written
	}
	if err != nil {
		return nil, fmt.Errorf("writers: cannot encode table %s: %w", t.tableName, err)
	}
	return content, nil
}

// validStrings refuses a row with text that is not UTF-8: readers would refuse the whole file.
func validStrings(row reflect.Value) error {
	for i := range row.NumField() {
		field := row.Field(i)
		if field.Kind() == reflect.Pointer && !field.IsNil() {
			field = field.Elem()
		}
		switch field.Kind() {
		case reflect.Struct:
			if err := validStrings(field); err != nil {
				return err
			}
		case reflect.String:
			if !utf8.ValidString(field.String()) {
				return fmt.Errorf("%s is %q, which is not UTF-8, all that tables can hold; convert it", row.Type().Field(i).Name, field.String())
			}
		}
	}
	return nil
}

// decode appends the rows of a part to records. A file that is not a whole part of this table is an error naming it.
func (t tableOf[Row]) decode(path string, into *audit.Records) (version int, err error) {
	err = withPart(path, func(file *parquet.File, content []byte) error {
		if got, _ := file.Lookup(keyTable); got != t.tableName {
			return fmt.Errorf("it is a part of table %q, not of %q", got, t.tableName)
		}
		if version, err = versionOf(file.Metadata()); err != nil {
			return err
		}
		if err := checkPages(content, file.Metadata()); err != nil {
			return err
		}
		read := readRows[Row]
		if version == 1 {
			read = t.version1
		}
		rows, err := read(file)
		if err != nil {
			return err
		}
		all := t.rows(into)
		*all = append(*all, rows...)
		return nil
	})
	return version, err
}

// readRows reads a file whose columns are those of Row, but for optional ones that earlier programs did not write: these are null.
func readRows[Row any](file *parquet.File) ([]Row, error) {
	if !columnsFit(file.Schema(), parquet.SchemaOf(new(Row))) {
		table, _ := file.Lookup(keyTable)
		return nil, fmt.Errorf("its columns are not those of table %s: %s", table, file.Schema())
	}
	rows := make([]Row, file.NumRows())
	reader := parquet.NewGenericReader[Row](file)
	for read := 0; read < len(rows); {
		n, err := reader.Read(rows[read:])
		read += n
		if n == 0 {
			return nil, fmt.Errorf("only %d of its %d rows can be read: %w", read, len(rows), err)
		}
	}
	return rows, reader.Close()
}

// retired are columns that earlier programs wrote, which are not read.
var retired = []string{"sketch_rank"}

// columnsFit reports whether a file has the columns that are wanted, in order, and lacks at most optional ones.
func columnsFit(file, wanted *parquet.Schema) bool {
	rest := slices.DeleteFunc(slices.Clone(file.Fields()), func(column parquet.Field) bool { return slices.Contains(retired, column.Name()) })
	for _, column := range wanted.Fields() {
		switch {
		case len(rest) > 0 && rest[0].Name() == column.Name() && parquet.EqualNodes(rest[0], column):
			rest = rest[1:]
		case !column.Optional():
			return false
		}
	}
	return len(rest) == 0
}

// keepCurrent leaves out superseded rows.
func (t tableOf[Row]) keepCurrent(records *audit.Records) {
	rows := t.rows(records)
	*rows = attempts.Current(*rows, t.moment)
}

// withPart opens a part for use. Whatever goes wrong in it, panics of the decoder too, becomes an error naming the file.
// The footer is checked, the pages are not.
func withPart(path string, use func(part *parquet.File, content []byte) error) (err error) {
	content, err := readBounded(path, maxFile)
	if err != nil {
		return err
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%v", cause)
		}
		if err != nil {
			err = fmt.Errorf("writers: %s cannot be read: %w; restore it from a copy, or move all files of its number away",
				path, err)
		}
	}()
	sealed, err := checkDigest(content)
	if err != nil {
		return err
	}
	if _, err := footer(content); err != nil {
		return err
	}
	// Indexes and filters are not needed, and further claims.
	part, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	if _, found := part.Lookup(keyDigest); found != sealed {
		return fmt.Errorf("its footer key %s is damaged", keyDigest)
	}
	return use(part, content)
}

// checkVersion comes before every check of what this version writes.
func checkVersion(meta *format.FileMetaData) error {
	version, err := versionOf(meta)
	if err == nil && version > SchemaVersion {
		err = fmt.Errorf("it has schema version %d, newer than this program's %d", version, SchemaVersion)
	}
	return err
}

func versionOf(meta *format.FileMetaData) (int, error) {
	for _, entry := range meta.KeyValueMetadata {
		if entry.Key != keySchemaVersion {
			continue
		}
		version, err := strconv.Atoi(entry.Value)
		if err != nil {
			return 0, fmt.Errorf("its footer key %s is %q, not a number", entry.Key, entry.Value)
		}
		return version, nil
	}
	return 0, fmt.Errorf("its footer has no key %s, so symaudit did not write it", keySchemaVersion)
}
