package writers

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
)

type documentedColumn struct{ name, kind, unit, null string }

// documentedTables parses docs/format.md: the columns below each "### `table`" heading, led by those of every table.
func documentedTables(t *testing.T) map[string][]documentedColumn {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", "format.md"))
	require.NoError(t, err)
	documented := map[string][]documentedColumn{}
	var shared []documentedColumn
	table := ""
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "### `"); ok {
			table = strings.TrimSuffix(heading, "`")
			documented[table] = slices.Clone(shared)
			continue
		}
		if strings.HasPrefix(line, "#") {
			table = ""
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "| `") || len(cells) != 5 {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		require.NotEmpty(t, cells[4], "meaning of %s in table %s", cells[0], table)
		column := documentedColumn{strings.Trim(cells[0], "`"), cells[1], cells[2], cells[3]}
		if table == "" {
			shared = append(shared, column)
		} else {
			documented[table] = append(documented[table], column)
		}
	}
	return documented
}

func TestTheFormatPageIsTrue(t *testing.T) {
	documented := documentedTables(t)
	dir := t.TempDir()
	run := openRun(t, dir)
	require.NoError(t, run.Write(auditAt(1)))
	require.Len(t, documented, len(tables))
	for _, table := range tables {
		err := withPart(run.directory.visible(table.name(), 0), func(part *parquet.File, _ []byte) error {
			units := unitsOf(part.Schema())
			var written []documentedColumn
			for _, field := range part.Schema().Fields() {
				column := documentedColumn{name: field.Name(), unit: units[field.Name()], null: "no"}
				column.kind = strings.ToLower(field.Type().Kind().String())
				if field.Type().String() == "STRING" {
					column.kind = "string"
				}
				if field.Optional() {
					column.null = "yes"
				}
				written = append(written, column)
			}
			require.Equal(t, documented[table.name()], written, "table %s", table.name())
			value, found := part.Lookup(keyPartTables)
			require.True(t, found)
			require.Equal(t, strings.Join(tableNames(), ","), value)
			return nil
		})
		require.NoError(t, err)
	}
	page, err := os.ReadFile(filepath.Join("..", "docs", "format.md"))
	require.NoError(t, err)
	for _, key := range []string{keySchemaVersion, keyTable, keyPartTables, keyRunID, keyAttempt, keyUnits, keyTrainings} {
		require.Contains(t, string(page), "`"+key+"`")
	}
}
