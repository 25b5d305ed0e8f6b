package writers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/writers"
)

// A run is written by one process, resumed by another, and read back.
func Example() {
	parent, err := os.MkdirTemp("", "runs")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "a")

	measure := func(run *writers.Run, step int64, coherence float64) {
		err := run.Write(&audit.Records{Coherence: []audit.CoherenceRow{{
			Moment:    audit.Moment{Model: "unet", Step: step},
			GroupName: "d4", Element: "*", N: 12, Median: &coherence,
		}}})
		if err != nil {
			panic(err)
		}
	}
	first, err := writers.Parquet(dir).WithInfo(writers.Info{Backend: "go", Seeds: []int64{0}}).Done()
	if err != nil {
		panic(err)
	}
	measure(first, 100, 0.12)
	measure(first, 200, 0.30)
	first.Close() // or kill -9

	second, err := writers.Parquet(dir).WithResume().Done()
	if err != nil {
		panic(err)
	}
	measure(second, 200, 0.31) // again, from the checkpoint at 100
	second.Close()

	contents, err := writers.Read(dir)
	if err != nil {
		panic(err)
	}
	for _, row := range contents.Records.Coherence {
		fmt.Printf("attempt %d, step %d: %.2f\n", row.Attempt, row.Step, *row.Median)
	}
	// Output:
	// attempt 1, step 100: 0.12
	// attempt 2, step 200: 0.31
}

// A directory that holds a run already is not written to by accident.
func ExampleBuilder_Done() {
	parent, err := os.MkdirTemp("", "runs")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "a")
	run, err := writers.Parquet(dir).Done()
	if err != nil {
		panic(err)
	}
	defer run.Close()
	_, err = writers.Parquet(dir).Done()
	fmt.Println(strings.ReplaceAll(err.Error(), dir, "runs/a"))
	_, err = writers.Parquet(dir).WithResume().Done()
	fmt.Println(strings.ReplaceAll(err.Error(), dir, "runs/a"))
	// Output:
	// writers: runs/a already holds a run; resume it (--resume, or WithResume), or choose another directory
	// writers: another process is writing to runs/a; wait for its end, or choose another directory
}
