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
	dir, remove := newFolder()
	defer remove()

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
	dir, remove := newFolder()
	defer remove()
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

// A run knows what wrote it. The caller says what it can, Done fills in the rest.
func ExampleBuilder_WithInfo() {
	dir, remove := newFolder()
	defer remove()
	run, err := writers.Parquet(dir).WithInfo(writers.Info{RunID: "first", Backend: "go", Seeds: []int64{0, 1}}).Done()
	if err != nil {
		panic(err)
	}
	defer run.Close()
	info := run.Info()
	fmt.Println("given:", run.ID(), info.Backend, info.Seeds, "in", filepath.Base(run.Dir()))
	fmt.Println("filled in: attempt", run.Attempt(), "of schema", info.SchemaVersion, "dated:", !info.Created.IsZero())
	// Output:
	// given: first go [0 1] in a
	// filled in: attempt 1 of schema 2 dated: true
}

// A job that may be killed and queued again always asks to resume: the first time there is nothing to, and it begins the run.
func ExampleBuilder_WithResume() {
	dir, remove := newFolder()
	defer remove()
	var ids []string
	for range 3 {
		run, err := writers.Parquet(dir).WithResume().Done()
		if err != nil {
			panic(err)
		}
		ids = append(ids, run.ID())
		fmt.Println("attempt", run.Attempt())
		run.Close() // or kill -9
	}
	fmt.Println("one run:", ids[0] == ids[1] && ids[1] == ids[2])
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
	// one run: true
}

// A run that is resumed on other probes would hold values that cannot be compared.
func ExampleRun_SetProbeHash() {
	dir, remove := newFolder()
	defer remove()
	for _, hash := range []string{"5f2c", "5f2c", "81aa"} { // audit.Auditor.ProbeHash
		run, err := writers.Parquet(dir).WithResume().Done()
		if err != nil {
			panic(err)
		}
		err = run.SetProbeHash(hash)
		fmt.Println(strings.ReplaceAll(fmt.Sprint(err), dir, "runs/a"))
		run.Close()
	}
	// Output:
	// <nil>
	// <nil>
	// writers: runs/a was audited on probes 5f2c, not 81aa; resume it with the same probes, or choose another directory
}

// Each Write makes a file in each table that has rows, and is on the disk when it returns. A run that is closed takes no more.
func ExampleRun_Write() {
	dir, remove := newFolder()
	defer remove()
	run, err := writers.Parquet(dir).Done()
	if err != nil {
		panic(err)
	}
	for step := range int64(3) {
		records := &audit.Records{Training: []audit.TrainingRow{{Moment: audit.Moment{Step: step}, Loss: 0.5}}}
		if step == 2 {
			records.Errors = []audit.ErrorRow{{Moment: audit.Moment{Step: step}, GroupName: "d4", Element: "r"}}
		}
		if err := run.Write(records); err != nil {
			panic(err)
		}
	}
	parts, _ := filepath.Glob(filepath.Join(dir, "*", "*.parquet"))
	for _, part := range parts {
		fmt.Println(strings.TrimPrefix(filepath.ToSlash(part), filepath.ToSlash(dir)+"/"))
	}
	run.Close()
	err = run.Write(&audit.Records{Training: []audit.TrainingRow{{}}})
	fmt.Println(strings.ReplaceAll(err.Error(), dir, "runs/a"))
	// Output:
	// errors/part-000002.parquet
	// training/part-000000.parquet
	// training/part-000001.parquet
	// training/part-000002.parquet
	// writers: runs/a is closed; resume it to write more
}

// A run can be read while it is written, as a figure that follows a training does.
func ExampleRead() {
	dir, remove := newFolder()
	defer remove()
	_, err := writers.Read(dir)
	fmt.Println(strings.ReplaceAll(err.Error(), dir, "runs/a"))

	run, err := writers.Parquet(dir).Done()
	if err != nil {
		panic(err)
	}
	defer run.Close()
	row := audit.TrainingRow{Moment: audit.Moment{RunID: "is the run's to give", Model: "unet", Step: 1}, Loss: 0.25}
	if err := run.Write(&audit.Records{Training: []audit.TrainingRow{row}}); err != nil {
		panic(err)
	}
	contents, err := writers.Read(dir)
	if err != nil {
		panic(err)
	}
	read := contents.Records.Training[0]
	fmt.Println(read.Model, read.Step, read.Loss, read.RunID == run.ID(), contents.Info.Attempt, len(contents.Resumes))
	// Output:
	// writers: runs/a holds no run: it has no run.json; name a run's own directory, such as runs/a
	// unet 1 0.25 true 1 0
}

// newFolder is where a run can be put, in a folder that is removed with it.
func newFolder() (dir string, remove func()) {
	parent, err := os.MkdirTemp("", "runs")
	if err != nil {
		panic(err)
	}
	return filepath.Join(parent, "a"), func() { os.RemoveAll(parent) }
}
