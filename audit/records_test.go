package audit_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

// Each method of Records knows every table.
func TestRecordsOfEveryTable(t *testing.T) {
	all, tables := &audit.Records{}, 0
	for _, step := range []int64{1, 2} {
		one := &audit.Records{}
		rows := reflect.ValueOf(one).Elem()
		tables = rows.NumField()
		for i := range tables {
			rows.Field(i).Set(reflect.MakeSlice(rows.Field(i).Type(), 1, 1))
		}
		require.Len(t, one.Moments(), tables)
		for _, at := range one.Moments() {
			*at = audit.Moment{Model: "unet", Seed: 3, Step: step}
		}
		all.Add(one)
	}
	require.Len(t, all.Moments(), 2*tables)
	require.Len(t, all.At("unet", 3, 1).Moments(), tables)
	require.Empty(t, all.At("vit", 3, 1).Moments())
	all.DropAfter(1)
	require.Len(t, all.Moments(), tables)
	for _, at := range all.Moments() {
		require.EqualValues(t, 1, at.Step)
	}
}
