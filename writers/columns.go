package writers

import "github.com/parquet-go/parquet-go"

// units of the columns that have one. Every other number is a count, an index, dimensionless, or, like influence and
// lambda, in the scale of the metric, which table solves names.
var units = map[string]string{
	"step":         "optimizer step",
	"epoch":        "epoch",
	"step_seconds": "second",
	"seconds":      "second",
	"shift_z":      "pixel",
	"shift_y":      "pixel",
	"shift_x":      "pixel",
}

func unitsOf(schema *parquet.Schema) map[string]string {
	found := map[string]string{}
	for _, path := range schema.Columns() {
		if unit, ok := units[path[0]]; ok {
			found[path[0]] = unit
		}
	}
	return found
}
