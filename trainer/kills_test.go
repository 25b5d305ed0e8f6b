package trainer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
)

const (
	trainingDir = "SYMAUDIT_TEST_TRAINING"
	killsEnv    = "SYMAUDIT_KILLS" // how many there are; `make soak` sets it
	fewKills    = 6
)

// trainAndTell begins or resumes a tiny run, prints what it does, and ends well when the run has.
func trainAndTell(dir string) error {
	choice, err := backend.Open("go")
	if err != nil {
		return err
	}
	config, err := trainer.ParseConfig([]byte(tinySource))
	if err != nil {
		return err
	}
	options := optionsFor(choice.Backend, dir)
	options.Resume = true
	options.Watcher = trainer.Watcher{
		Generating: func(int, int) { fmt.Println("generating") },
		Step:       func(string, int, int) { fmt.Println("training") },
		AuditPart:  func(string, int, int) { fmt.Println("auditing") },
		Audited: func(model string, records *audit.Records) {
			fmt.Println("audited", model, records.Coherence[0].Step)
		},
	}
	_, err = trainer.Train(context.Background(), config, options)
	return err
}

// process is a process that trains, and what it has printed.
type process struct {
	command *exec.Cmd
	printed bytes.Buffer
}

func startTraining(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{command: exec.Command(os.Args[0])}
	p.command.Env = append(os.Environ(), trainingDir+"="+dir)
	p.command.Stdout, p.command.Stderr = &p.printed, os.Stderr
	require.NoError(t, p.command.Start())
	return p
}

// wait returns the whole lines that were printed, and whether the process was killed.
func (p *process) wait(t *testing.T) (lines []string, killed bool) {
	t.Helper()
	err := p.command.Wait()
	killed = err != nil
	if killed {
		require.EqualError(t, err, "signal: killed")
	}
	lines = strings.Split(p.printed.String(), "\n")
	return lines[:len(lines)-1], killed
}

// Trainings are killed at random moments of their lives and resumed until they end. Whenever one is killed its run must be
// readable with every audit that was told to be safe, and at its end be that of a training that was not killed.
func TestTrainingsKilledAtRandomEndAsIfTheyHadNotBeen(t *testing.T) {
	kills := fewKills
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	whole, began := filepath.Join(t.TempDir(), "whole"), time.Now()
	_, killed := startTraining(t, whole).wait(t)
	require.False(t, killed)
	life := time.Since(began)
	want := read(t, whole)

	during := map[string]int{} // kills by what was told last
	runs, attempts := 0, 0
	for done := 0; done < kills; runs++ {
		dir := filepath.Join(t.TempDir(), "killed")
		safe := map[string]bool{}
		for {
			attempts++
			process := startTraining(t, dir)
			timer := time.AfterFunc(rand.N(life), func() { _ = process.command.Process.Kill() })
			if done == kills {
				timer.Stop() // let the last run end
			}
			lines, killed := process.wait(t)
			timer.Stop()
			for _, line := range lines {
				if audited, found := strings.CutPrefix(line, "audited "); found {
					safe[audited] = true
				}
			}
			if !killed {
				break
			}
			done++
			last := "starting or resuming"
			if len(lines) > 0 {
				last, _, _ = strings.Cut(lines[len(lines)-1], " ")
			}
			during[last]++
			requireSafe(t, dir, safe)
		}
		got := read(t, dir)
		requireReadable(t, dir)
		requireWhole(t, got.Records)
		requireSameRun(t, whole, dir, want.Records, got.Records)
		requireSameByHand(t, dir, got.Records)
		require.NoError(t, os.RemoveAll(dir))
	}
	t.Logf("%d processes killed of %d, in %d runs, within %v of their start: by what they had told last, %v", kills, attempts, runs, life.Round(time.Millisecond), during)
}

// requireSafe reads the run of a killed process, in which these audits, "model step", must be.
func requireSafe(t *testing.T, dir string, safe map[string]bool) {
	t.Helper()
	contents, err := writers.Read(dir)
	if _, missing := os.Lstat(filepath.Join(dir, "run.json")); errors.Is(missing, fs.ErrNotExist) {
		require.ErrorContains(t, err, "holds no run", "it was killed before there was one")
		require.Empty(t, safe)
		return
	}
	require.NoError(t, err)
	requireReadable(t, dir)
	found := map[string]bool{}
	for _, row := range contents.Records.Coherence {
		found[fmt.Sprint(row.Model, " ", row.Step)] = true
	}
	for audited := range safe {
		require.Contains(t, found, audited)
	}
}

// requireSameByHand reads the tables as docs/format.md tells those who have no writers.Read.
func requireSameByHand(t *testing.T, dir string, want audit.Records) {
	t.Helper()
	got := audit.Records{
		Training:  globbed(t, dir, "training", func(row audit.TrainingRow) audit.Moment { return row.Moment }),
		Errors:    globbed(t, dir, "errors", func(row audit.ErrorRow) audit.Moment { return row.Moment }),
		Influence: globbed(t, dir, "influence", func(row audit.InfluenceRow) audit.Moment { return row.Moment }),
		Solves:    globbed(t, dir, "solves", func(row audit.SolveRow) audit.Moment { return row.Moment }),
		Coherence: globbed(t, dir, "coherence", func(row audit.CoherenceRow) audit.Moment { return row.Moment }),
	}
	require.Empty(t, cmp.Diff(want, got, cmpopts.EquateNaNs()))
}

// globbed are the rows of a table that have the highest attempt of their run, model, seed and step.
func globbed[Row any](t *testing.T, dir, table string, moment func(Row) audit.Moment) (rows []Row) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, table, "*.parquet"))
	require.NoError(t, err)
	for _, path := range paths {
		part, err := parquet.ReadFile[Row](path)
		require.NoError(t, err, path)
		rows = append(rows, part...)
	}
	when := func(row Row) audit.Moment {
		m := moment(row)
		m.Attempt, m.Epoch = 0, 0
		return m
	}
	latest := map[audit.Moment]int32{}
	for _, row := range rows {
		latest[when(row)] = max(latest[when(row)], moment(row).Attempt)
	}
	return slices.DeleteFunc(rows, func(row Row) bool { return moment(row).Attempt < latest[when(row)] })
}
