package writers_test

import (
	"errors"
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
	if err := run.Write(&audit.Records{Training: []audit.TrainingRow{{}}}); err != nil {
		panic(err)
	}
	_, err = writers.Parquet(dir).Done()
	var occupied *writers.OccupiedError
	if errors.As(err, &occupied) {
		fmt.Println(strings.ReplaceAll(occupied.Error(), dir, "runs/a"))
	}
	_, err = writers.Parquet(dir).WithResume().Done()
	fmt.Println(strings.ReplaceAll(err.Error(), dir, "runs/a"))
	// Output:
	// writers: runs/a already holds a run; resume it (WithResume), or choose another directory
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
	fmt.Println("given:", run.ID(), info.Backend, info.Seeds, "in", filepath.Base(run.Dir()), "shown as", filepath.Base(run.String()))
	fmt.Println("filled in: attempt", run.Attempt(), "of schema", info.SchemaVersion, "dated:", !info.Created.IsZero())
	// Output:
	// given: first go [0 1] in a shown as a
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

// A hook says who writes, from which step on and with which audits, when it is attached. Values of other audits would be one series
// with those before by the files.
func ExampleRun_Enter() {
	dir, remove := newFolder()
	defer remove()
	for _, lambda := range []string{"0.01", "0.01", "0.1"} {
		run, err := writers.Parquet(dir).WithResume().Done()
		if err != nil {
			panic(err)
		}
		err = run.Enter("the hook", "unet", 0, 0, map[string]string{"relative_lambda": lambda, "metric": "ntk"}) // audit.Auditor.Settings
		var other *writers.OtherSettingsError
		if errors.As(err, &other) {
			fmt.Println(strings.ReplaceAll(other.Error(), dir, "runs/a"))
			fmt.Println("differs:", other.Differences[0].String())
		} else {
			fmt.Println(err)
			must(run.Write(auditOf("unet", 0)))
		}
		run.Close()
	}
	// Output:
	// <nil>
	// <nil>
	// writers: runs/a has audits of model "unet", seed 0 with other settings: relative_lambda was 0.01 and is 0.1; use those of before, begin a new series (writers.Builder.WithNewSeries), or choose another directory
	// differs: relative_lambda was 0.01 and is 0.1
}

// Two trainings of one name would be one series by the files. When the first has left, another hook may go on with it.
func ExampleRun_Leave() {
	dir, remove := newFolder()
	defer remove()
	run, err := writers.Parquet(dir).Done()
	if err != nil {
		panic(err)
	}
	defer run.Close()
	fmt.Println(run.Enter("a hook", "unet", 0, 0, nil))
	err = run.Enter("another", "unet", 0, 0, nil)
	fmt.Println(strings.ReplaceAll(err.Error(), dir, "runs/a"))
	run.Leave("a hook", 0)
	fmt.Println(run.Enter("another", "unet", 0, 0, nil))
	// Output:
	// <nil>
	// writers: two trainings write to runs/a as model "unet", seed 0; give each a name or seed of its own (hooks.Builder.WithModel), or close the first hook if it is the same training
	// <nil>
}

// Other settings on purpose begin a new series, of which stop rules see no audit before.
func ExampleBuilder_WithNewSeries() {
	dir, remove := newFolder()
	defer remove()
	for i, metric := range []string{"ntk", "ggn"} {
		run, err := writers.Parquet(dir).WithResume().WithNewSeries().Done()
		if err != nil {
			panic(err)
		}
		if err := run.Enter("the hook", "unet", 0, int64(100*i), map[string]string{"metric": metric}); err != nil {
			panic(err)
		}
		fmt.Println("attempt", run.Attempt(), "of a series that began with attempt", run.SeriesBegan("unet", 0))
		must(run.Write(auditOf("unet", int64(100*(i+1)))))
		run.Close()
	}
	contents, err := writers.Read(dir)
	if err != nil {
		panic(err)
	}
	known := contents.Training("unet", 0)
	fmt.Println("series", known.Series, "of metric", known.Settings["metric"], "from step", known.Step)
	_, to := contents.Series(audit.Moment{Model: "unet", Attempt: 1})
	fmt.Println("the first ended before attempt", to)
	// Output:
	// attempt 1 of a series that began with attempt 1
	// attempt 2 of a series that began with attempt 2
	// series 2 of metric ggn from step 100
	// the first ended before attempt 2
}

// What would stop Done is known before the data are solved, say.
func ExampleBuilder_Check() {
	dir, remove := newFolder()
	defer remove()
	fmt.Println(writers.Parquet(dir).Check(), writers.Parquet("").Check())
	// Output: <nil> writers: the run directory has no name; give one, such as runs/first
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
// Of two audits the errors of the second are read, and the coherence of both.
func ExampleReadLatest() {
	dir, remove := newFolder()
	defer remove()
	run, err := writers.Parquet(dir).Done()
	if err != nil {
		panic(err)
	}
	defer run.Close()
	for step := range int64(2) {
		at := audit.Moment{Model: "unet", Step: step + 1}
		err := run.Write(&audit.Records{
			Errors:    []audit.ErrorRow{{Moment: at, GroupName: "d4", Element: "e", TargetError: 0.1 / float64(step+1)}},
			Coherence: []audit.CoherenceRow{{Moment: at, GroupName: "d4", Element: audit.AllElements}},
		})
		if err != nil {
			panic(err)
		}
	}
	latest, err := writers.ReadLatest(dir)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(latest.Records.Coherence), len(latest.Records.Errors), latest.Records.Errors[0].TargetError)
	// Output: 2 1 0.05
}

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
	some, err := writers.Read(dir, "coherence") // of the large tables nothing is read then
	if err != nil {
		panic(err)
	}
	fmt.Println(len(contents.Records.Training), len(some.Records.Training))
	read := contents.Records.Training[0]
	fmt.Println(read.Model, read.Step, read.Loss, read.RunID == run.ID(), contents.Info.Attempt, len(contents.Resumes))
	// Output:
	// writers: runs/a holds no run: it has no run.json; name a run's own directory, such as runs/a
	// 1 0
	// unet 1 0.25 true 1 0
}

// auditOf is the records of an audit, in short.
func auditOf(model string, step int64) *audit.Records {
	return &audit.Records{Coherence: []audit.CoherenceRow{{Moment: audit.Moment{Model: model, Step: step}, GroupName: "d4", Element: audit.AllElements}}}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// newFolder is where a run can be put, in a folder that is removed with it.
func newFolder() (dir string, remove func()) {
	parent, err := os.MkdirTemp("", "runs")
	if err != nil {
		panic(err)
	}
	return filepath.Join(parent, "a"), func() { os.RemoveAll(parent) }
}

// Beside a run, or alone, each row is a line: for jq, for a script, for tail -f.
func ExampleJSONLines() {
	dir, remove := newFolder()
	defer remove()
	path := filepath.Join(dir, "rows.jsonl")
	for _, step := range []int64{24, 48} {
		lines, err := writers.JSONLines(path) // goes on where the file ends
		if err != nil {
			panic(err)
		}
		must(lines.Write(&audit.Records{Training: []audit.TrainingRow{{
			Moment: audit.Moment{RunID: "first", Attempt: 1, Model: "unet", Step: step, Epoch: 0.5}, Loss: 1 / float64(48-step), StepSeconds: 0.25,
		}}}))
		must(lines.Close())
		fmt.Println("written to", filepath.Base(lines.String()))
	}
	content, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	fmt.Print(string(content))
	// Output:
	// written to rows.jsonl
	// written to rows.jsonl
	// {"table":"training","run_id":"first","attempt":1,"model":"unet","seed":0,"step":24,"epoch":0.5,"loss":0.041666666666666664,"learning_rate":0.0,"step_seconds":0.25}
	// {"table":"training","run_id":"first","attempt":1,"model":"unet","seed":0,"step":48,"epoch":0.5,"loss":"Infinity","learning_rate":0.0,"step_seconds":0.25}
}

// `tensorboard --logdir runs/first/tensorboard` shows a curve for each training, of the loss and of what stop rules can monitor.
func ExampleTensorBoard() {
	dir, remove := newFolder()
	defer remove()
	scalars, err := writers.TensorBoard(filepath.Join(dir, "tensorboard"))
	if err != nil {
		panic(err)
	}
	for _, model := range []string{"unet", "vit"} { // a hook does it: hooks.Builder.WithSink(run, scalars)
		for _, step := range []int64{24, 48} {
			must(scalars.Write(&audit.Records{Training: []audit.TrainingRow{{Moment: audit.Moment{Model: model, Step: step}, Loss: 0.5}}}))
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "tensorboard", "*", "events.out.tfevents.*"))
	if err != nil {
		panic(err)
	}
	fmt.Println("below", filepath.Base(scalars.String()))
	for _, file := range files {
		fmt.Println(filepath.Base(filepath.Dir(file)))
	}
	// Output:
	// below tensorboard
	// unet-seed-0
	// vit-seed-0
}

// Runs are found at any depth, whether a process writes to them or not.
func ExampleFind() {
	dir, remove := newFolder()
	defer remove()
	for _, name := range []string{"night", "day/first", "day/second"} {
		run, err := writers.Parquet(filepath.Join(dir, name)).Done()
		if err != nil {
			panic(err)
		}
		defer run.Close()
		if name == "day/first" {
			run.Close()
		}
	}
	runs, err := writers.Find(dir)
	if err != nil {
		panic(err)
	}
	for _, run := range runs {
		running, err := writers.Running(run)
		if err != nil {
			panic(err)
		}
		fmt.Println(strings.TrimPrefix(filepath.ToSlash(run), filepath.ToSlash(dir)+"/"), "running:", running)
	}
	// Output:
	// day/first running: false
	// day/second running: true
	// night running: true
}

// A check names every fault, not only the first.
func ExampleCheck() {
	dir, remove := newFolder()
	defer remove()
	writeAudits(dir, 100, 200)
	checked := writers.Check(dir)
	fmt.Println(checked.Audits, "audits,", checked.Rows, "rows,", checked.Parts, "parts, faults:", checked.Faults)

	must(os.Remove(filepath.Join(dir, "errors", "part-000000.parquet")))
	must(os.Truncate(filepath.Join(dir, "coherence", "part-000001.parquet"), 0))
	for _, fault := range writers.Check(dir).Faults {
		fmt.Println(strings.ReplaceAll(filepath.ToSlash(fault.Error()), filepath.ToSlash(dir), "runs/a"))
	}
	// Output:
	// 2 audits, 4 rows, 2 parts, faults: []
	// writers: runs/a/errors/part-000000.parquet is missing; restore it from a copy, or move all files of its number away
	// writers: runs/a/coherence/part-000001.parquet cannot be read: its 0 bytes do not begin and end with PAR1, as those of Parquet files do; restore it from a copy, or move all files of its number away
}

// A long training makes many small files. A compact copy has one for each table, and is read as the run.
func ExampleCompact() {
	dir, remove := newFolder()
	defer remove()
	writeAudits(dir, 100, 200, 300)
	into := dir + "-compact"
	must(writers.Compact(dir, into))
	for _, run := range []string{dir, into} {
		files, _ := filepath.Glob(filepath.Join(run, "*", "*.parquet"))
		contents, err := writers.Read(run)
		if err != nil {
			panic(err)
		}
		fmt.Println(len(files), "files with", len(contents.Records.Errors), "errors and", len(contents.Records.Coherence), "coherences")
	}
	// Output:
	// 6 files with 3 errors and 3 coherences
	// 2 files with 3 errors and 3 coherences
}

// writeAudits makes a run of audits in short.
func writeAudits(dir string, steps ...int64) {
	run, err := writers.Parquet(dir).Done()
	if err != nil {
		panic(err)
	}
	defer run.Close()
	for _, step := range steps {
		records := auditOf("unet", step)
		records.Errors = []audit.ErrorRow{{Moment: records.Coherence[0].Moment, GroupName: "d4", Element: "r"}}
		must(run.Write(records))
	}
}
