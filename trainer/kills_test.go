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
	stoppingEnv = "SYMAUDIT_TEST_STOPPING" // a rule stops each model and takes it back to its best
	killsEnv    = "SYMAUDIT_KILLS"         // how many there are; `make soak` sets it
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
	config.Audit.Sinks = []string{"jsonl", "tensorboard"}
	if os.Getenv(stoppingEnv) != "" {
		config.Audit.Stop = []trainer.StopRule{{Monitor: "d4/target_error", Mode: "maximize", Patience: 1}}
		config.Audit.RestoreBest = true
	}
	options := optionsFor(choice.Backend, dir)
	options.Resume = true
	options.Watcher = trainer.Watcher{
		Generating: func(int, int) { fmt.Println("generating") },
		Step: func(_ string, done, _ int) {
			if done%tinyEpoch == 0 {
				fmt.Println("checkpointing")
			} else {
				fmt.Println("training")
			}
		},
		AuditPart: func(string, int, int) { fmt.Println("auditing") },
		Audited: func(model string, records *audit.Records) {
			fmt.Println("audited", model, records.Coherence[0].Step)
		},
	}
	_, err = trainer.Train(context.Background(), config, options)
	return err
}

// process is a process that trains, and what it has printed.
type process struct {
	command  *exec.Cmd
	printed  bytes.Buffer
	lastLine int // it is killed soon after so many; 0 is never
}

func startTraining(t *testing.T, dir string, stopping bool, lastLine int) *process {
	t.Helper()
	p := &process{command: exec.Command(os.Args[0]), lastLine: lastLine}
	p.command.Env = append(os.Environ(), trainingDir+"="+dir)
	if stopping {
		p.command.Env = append(p.command.Env, stoppingEnv+"=1")
	}
	p.command.Stdout, p.command.Stderr = p, os.Stderr
	require.NoError(t, p.command.Start())
	return p
}

// Write takes what the process prints.
func (p *process) Write(text []byte) (int, error) {
	const soon = 20 * time.Millisecond // what follows a line, a part or a checkpoint written, takes less
	n, err := p.printed.Write(text)
	if p.lastLine > 0 && bytes.Count(p.printed.Bytes(), []byte("\n")) >= p.lastLine {
		p.lastLine = 0
		p.killWithin(soon)
	}
	return n, err
}

func (p *process) killWithin(limit time.Duration) {
	time.AfterFunc(rand.N(limit), func() { _ = p.command.Process.Kill() })
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

// Trainings, every other of which a rule stops and takes back, are killed at random and resumed until they end: half of them at a random moment of their lives, most of which
// are audits, and half after something random that they do. Whenever one is killed its run must be readable with every audit
// that was told to be safe, and at its end be that of a training that was not killed.
func TestTrainingsKilledAtRandomEndAsIfTheyHadNotBeen(t *testing.T) {
	kills := fewKills
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		kills, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	type unharmed struct {
		dir   string
		lines []string
		life  time.Duration
		read  *writers.Contents
	}
	var whole [2]unharmed
	for i := range whole {
		dir, began := filepath.Join(t.TempDir(), "whole"), time.Now()
		lines, killed := startTraining(t, dir, i == 1, 0).wait(t)
		require.False(t, killed)
		whole[i] = unharmed{dir, lines, time.Since(began), read(t, dir)}
	}
	require.Less(t, len(whole[1].lines), len(whole[0].lines), "the rule stops the training")

	during := map[string]int{} // kills by what was told last
	runs, attempts := 0, 0
	for done := 0; done < kills; runs++ {
		dir, whole := filepath.Join(t.TempDir(), "killed"), whole[runs%2]
		safe := map[string]bool{}
		for {
			attempts++
			lastLine, atRandom := 0, false
			if done < kills {
				if atRandom = rand.N(2) == 0; !atRandom {
					lastLine = 1 + rand.N(len(whole.lines))
				}
			}
			process := startTraining(t, dir, runs%2 == 1, lastLine)
			if atRandom {
				process.killWithin(whole.life)
			}
			told, killed := process.wait(t)
			for _, line := range told {
				if audited, found := strings.CutPrefix(line, "audited "); found {
					safe[audited] = true
				}
			}
			if !killed {
				break
			}
			done++
			last := "starting or resuming"
			if len(told) > 0 {
				last, _, _ = strings.Cut(told[len(told)-1], " ")
			}
			during[last]++
			requireSafe(t, dir, safe)
		}
		got := read(t, dir)
		requireReadable(t, dir)
		if runs%2 == 0 {
			requireWhole(t, got.Records)
		}
		requireSameRun(t, whole.dir, dir, whole.read.Records, got.Records)
		requireSameByHand(t, dir, got.Records)
		requireSameLines(t, dir, got.Records)
		require.NoError(t, os.RemoveAll(dir))
	}
	t.Logf("%d processes killed of %d, in %d runs, within %v of their start: by what they had told last, %v", kills, attempts, runs, whole[0].life.Round(time.Millisecond), during)
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
		Training:    globbed(t, dir, "training", func(row audit.TrainingRow) audit.Moment { return row.Moment }),
		Decisions:   globbed(t, dir, "decisions", func(row audit.DecisionRow) audit.Moment { return row.Moment }),
		Evaluation:  globbed(t, dir, "evaluation", func(row audit.EvaluationRow) audit.Moment { return row.Moment }),
		Rollouts:    globbed(t, dir, "rollouts", func(row audit.RolloutRow) audit.Moment { return row.Moment }),
		Errors:      globbed(t, dir, "errors", func(row audit.ErrorRow) audit.Moment { return row.Moment }),
		LocalErrors: globbed(t, dir, "local_errors", func(row audit.LocalErrorRow) audit.Moment { return row.Moment }),
		Influence:   globbed(t, dir, "influence", func(row audit.InfluenceRow) audit.Moment { return row.Moment }),
		Solves:      globbed(t, dir, "solves", func(row audit.SolveRow) audit.Moment { return row.Moment }),
		Layers:      globbed(t, dir, "layers", func(row audit.LayerRow) audit.Moment { return row.Moment }),
		Spectrum:    globbed(t, dir, "spectrum", func(row audit.SpectrumRow) audit.Moment { return row.Moment }),
		Pictures:    globbed(t, dir, "pictures", func(row audit.PictureRow) audit.Moment { return row.Moment }),
		Coherence:   globbed(t, dir, "coherence", func(row audit.CoherenceRow) audit.Moment { return row.Moment }),
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
