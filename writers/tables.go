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
	keyUnits         = "symaudit.units"     // a JSON object: column name to unit
	keyTrainings     = "symaudit.trainings" // a JSON array of Training, as in the run's description
	keyDigest        = "symaudit.sha256"    // of the file with zeros in the digest's place; files of early versions have none
)

// table is one of the run's tables, whatever the type of its rows.
type table interface {
	name() string
	schema() *parquet.Schema
	count(*audit.Records) int
	encode(records *audit.Records, stamp stamp) ([]byte, error)
	encodeLines(lines *bytes.Buffer, records *audit.Records, own stamp) error
	pack(records *audit.Records, stamp stamp) ([]byte, error)
	keys(*audit.Records) []rowKey
	take(from, into *audit.Records)
	decode(path string, keep keep, into *audit.Records) (version int, err error)
	keepCurrent(*audit.Records)
}

// keep chooses rows by their moment; nil keeps all.
type keep func(*audit.Moment) bool

// stamp is what a part says of itself beside its rows.
type stamp struct {
	runID     string
	attempt   int32
	tables    []string
	trainings []Training // of its attempt: the models whose rows it may have, and the settings of their audits
}

// rowKey tells a row from all others of its table.
type rowKey struct {
	model            string
	seed, step       int64
	attempt          int32
	group, direction string
	what             string // element, generator, layer
	batch            int32
	sample, other    int32
	relative, lambda float64 // the damping: the multiple that was asked for, or else lambda itself
	value            float64 // what a row without a name has in its place
}

func (k rowKey) at(m audit.Moment) rowKey {
	k.model, k.seed, k.step, k.attempt = m.Model, m.Seed, m.Step, m.Attempt
	return k
}

// damped is the key at a damping: lambda differs from batch to batch where a multiple was asked for.
func (k rowKey) damped(relative, lambda *float64) rowKey {
	switch {
	case relative != nil:
		k.relative = *relative
	case lambda != nil:
		k.lambda = *lambda
	}
	return k
}

// tables in the order in which the files of a part become visible: coherence, which every audit has, comes last.
var tables = []table{
	tableOf[audit.TrainingRow]{"training",
		func(r *audit.Records) *[]audit.TrainingRow { return &r.Training },
		func(row *audit.TrainingRow) *audit.Moment { return &row.Moment },
		func(row *audit.TrainingRow) rowKey { return rowKey{} },
		readRows[audit.TrainingRow]},
	tableOf[audit.DecisionRow]{"decisions",
		func(r *audit.Records) *[]audit.DecisionRow { return &r.Decisions },
		func(row *audit.DecisionRow) *audit.Moment { return &row.Moment },
		func(row *audit.DecisionRow) rowKey { return rowKey{} },
		readRows[audit.DecisionRow]},
	tableOf[audit.EvaluationRow]{"evaluation",
		func(r *audit.Records) *[]audit.EvaluationRow { return &r.Evaluation },
		func(row *audit.EvaluationRow) *audit.Moment { return &row.Moment },
		func(row *audit.EvaluationRow) rowKey {
			return rowKey{what: row.Split, sample: row.Sample, other: row.TimeIndex}
		},
		readRows[audit.EvaluationRow]},
	tableOf[audit.RolloutRow]{"rollouts",
		func(r *audit.Records) *[]audit.RolloutRow { return &r.Rollouts },
		func(row *audit.RolloutRow) *audit.Moment { return &row.Moment },
		func(row *audit.RolloutRow) rowKey {
			return rowKey{what: row.Split + " " + row.Channel, sample: row.Sample, other: row.TimeIndex}
		},
		readRows[audit.RolloutRow]},
	tableOf[audit.ErrorRow]{"errors",
		func(r *audit.Records) *[]audit.ErrorRow { return &r.Errors },
		func(row *audit.ErrorRow) *audit.Moment { return &row.Moment },
		func(row *audit.ErrorRow) rowKey {
			return rowKey{group: row.GroupName, what: row.Element, sample: row.Sample}
		},
		converted[errorRow1]},
	tableOf[audit.LocalErrorRow]{"local_errors",
		func(r *audit.Records) *[]audit.LocalErrorRow { return &r.LocalErrors },
		func(row *audit.LocalErrorRow) *audit.Moment { return &row.Moment },
		func(row *audit.LocalErrorRow) rowKey {
			return rowKey{group: row.GroupName, what: row.Generator, sample: row.Sample}
		},
		readRows[audit.LocalErrorRow]},
	tableOf[audit.InfluenceRow]{"influence",
		func(r *audit.Records) *[]audit.InfluenceRow { return &r.Influence },
		func(row *audit.InfluenceRow) *audit.Moment { return &row.Moment },
		func(row *audit.InfluenceRow) rowKey {
			return rowKey{group: row.GroupName, direction: row.Direction, what: row.Element, batch: row.Batch, sample: row.RowSample, other: row.ColSample}.damped(row.RelativeLambda, &row.Lambda)
		},
		converted[influenceRow1]},
	tableOf[audit.SolveRow]{"solves",
		func(r *audit.Records) *[]audit.SolveRow { return &r.Solves },
		func(row *audit.SolveRow) *audit.Moment { return &row.Moment },
		func(row *audit.SolveRow) rowKey {
			return rowKey{group: row.GroupName, direction: row.Direction, batch: row.Batch}.damped(row.RelativeLambda, &row.Lambda)
		},
		converted[solveRow1]},
	tableOf[audit.LayerRow]{"layers",
		func(r *audit.Records) *[]audit.LayerRow { return &r.Layers },
		func(row *audit.LayerRow) *audit.Moment { return &row.Moment },
		func(row *audit.LayerRow) rowKey {
			return rowKey{group: row.GroupName, direction: row.Direction, what: row.Element + " " + row.Layer, batch: row.Batch, sample: row.Sample}.damped(row.RelativeLambda, &row.Lambda)
		},
		readRows[audit.LayerRow]},
	tableOf[audit.SpectrumRow]{"spectrum",
		func(r *audit.Records) *[]audit.SpectrumRow { return &r.Spectrum },
		func(row *audit.SpectrumRow) *audit.Moment { return &row.Moment },
		func(row *audit.SpectrumRow) rowKey {
			return rowKey{group: row.GroupName, batch: row.Batch, value: row.RitzValue}
		},
		readRows[audit.SpectrumRow]},
	tableOf[audit.PictureRow]{"pictures",
		func(r *audit.Records) *[]audit.PictureRow { return &r.Pictures },
		func(row *audit.PictureRow) *audit.Moment { return &row.Moment },
		func(row *audit.PictureRow) rowKey {
			return rowKey{group: row.GroupName, what: row.Element + " " + row.Rank + " " + row.Kind + " " + row.Channel}
		},
		readRows[audit.PictureRow]},
	tableOf[audit.CoherenceRow]{"coherence",
		func(r *audit.Records) *[]audit.CoherenceRow { return &r.Coherence },
		func(row *audit.CoherenceRow) *audit.Moment { return &row.Moment },
		func(row *audit.CoherenceRow) rowKey {
			return rowKey{group: row.GroupName, direction: row.Direction, what: row.Element}.damped(row.RelativeLambda, row.Lambda)
		},
		converted[coherenceRow1]},
}

type tableOf[Row any] struct {
	tableName string
	rows      func(*audit.Records) *[]Row
	moment    func(*Row) *audit.Moment
	key       func(*Row) rowKey                  // within its moment
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
	}
	return t.file(rows, stamp)
}

// pack is encode of rows that say themselves which run and attempt they are of.
func (t tableOf[Row]) pack(records *audit.Records, stamp stamp) ([]byte, error) {
	return t.file(*t.rows(records), stamp)
}

func (t tableOf[Row]) file(rows []Row, stamp stamp) ([]byte, error) {
	for i := range rows {
		if err := validStrings(reflect.ValueOf(rows[i])); err != nil {
			return nil, fmt.Errorf("writers: table %s: %w", t.tableName, err)
		}
	}
	units, err := json.Marshal(unitsOf(t.schema()))
	if err != nil {
		return nil, fmt.Errorf("writers: units of table %s: %w", t.tableName, err)
	}
	trainings, err := json.Marshal(append([]Training{}, stamp.trainings...)) // never null
	if err != nil {
		return nil, fmt.Errorf("writers: trainings of table %s: %w", t.tableName, err)
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
		parquet.KeyValueMetadata(keyTrainings, string(trainings)),
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

// decode appends the rows of a part that are to be kept to records. A file that is not a whole part of this table is an error naming it.
func (t tableOf[Row]) decode(path string, keep keep, into *audit.Records) (version int, err error) {
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
		all := t.rows(into)
		if version == 1 {
			rows, err := t.version1(file)
			*all = append(*all, rows...)
			return err
		}
		return readEach(file, func(row *Row) {
			if keep == nil || keep(t.moment(row)) {
				*all = append(*all, *row)
			}
		})
	})
	return version, err
}

// readRows reads a file whose columns are those of Row, but for optional ones that earlier programs did not write: these are null.
func readRows[Row any](file *parquet.File) (rows []Row, err error) {
	err = readEach(file, func(row *Row) { rows = append(rows, *row) })
	return rows, err
}

// readEach hands out the rows one by one.
func readEach[Row any](file *parquet.File, take func(*Row)) error {
	if !columnsFit(file.Schema(), parquet.SchemaOf(new(Row))) {
		table, _ := file.Lookup(keyTable)
		return fmt.Errorf("its columns are not those of table %s: %s", table, file.Schema())
	}
	const most = 4096 // in memory at once
	rows := make([]Row, min(most, file.NumRows()))
	reader := parquet.NewGenericReader[Row](file)
	for read := int64(0); read < file.NumRows(); {
		clear(rows) // what is null stays as it was otherwise, and texts and pointers would be shared
		n, err := reader.Read(rows[:min(int64(len(rows)), file.NumRows()-read)])
		if n == 0 {
			return fmt.Errorf("only %d of its %d rows can be read: %w", read, file.NumRows(), err)
		}
		for i := range rows[:n] {
			take(&rows[i])
		}
		read += int64(n)
	}
	return reader.Close()
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

func (t tableOf[Row]) keys(records *audit.Records) []rowKey {
	rows := *t.rows(records)
	keys := make([]rowKey, len(rows))
	for i := range rows {
		keys[i] = t.key(&rows[i]).at(*t.moment(&rows[i]))
	}
	return keys
}

// take moves the table's rows.
func (t tableOf[Row]) take(from, into *audit.Records) {
	*t.rows(into), *t.rows(from) = *t.rows(from), nil
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
