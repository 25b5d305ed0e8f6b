package report_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/writers"
	"github.com/symaudit/symaudit/writers/report"
)

func ExampleWrite() {
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	run, err := writers.Parquet(dir).Done()
	if err != nil {
		panic(err)
	}
	defer run.Close()
	err = run.Write(&audit.Records{Training: []audit.TrainingRow{
		{Moment: audit.Moment{Model: "unet", Step: 1, Epoch: 0.5}, Loss: 0.3},
		{Moment: audit.Moment{Model: "unet", Step: 2, Epoch: 1}, Loss: 0.2},
	}})
	if err != nil {
		panic(err)
	}
	path, warnings, err := report.Write(dir) // at any time, while the run goes on too
	if err != nil {
		panic(err)
	}
	fmt.Println(filepath.Base(path), warnings)
	// Output: report.html []
}
