package trainer_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
)

// A run that is interrupted and resumed has in its lines what it has in its tables, and an event file for each process and model.
func TestSinksOfAConfiguration(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	config.Audit.Sinks = []string{"tensorboard", "jsonl"}
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	require.Error(t, trainUntil(t, config, options, func(event, model string, done int) bool {
		return event == "step" && model == "vit" && done == tinyEpoch+2 // in the middle of an epoch
	}))
	options.Resume = true
	var err error
	config, _, err = trainer.RunConfig(options.Dir)
	require.NoError(t, err)
	requireSameLines(t, options.Dir, trainTiny(t, config, options).Records)
	for model, processes := range map[string]int{"unet": 1, "vit": 2} {
		events, err := filepath.Glob(filepath.Join(options.Dir, "tensorboard", model+"-seed-5", "events.out.tfevents.*"))
		require.NoError(t, err)
		require.Len(t, events, processes)
	}

	out := filepath.Join(t.TempDir(), "audit")
	records, err := auditLatest(config, options, "vit", out)
	require.NoError(t, err)
	lines, err := writers.JSONLines(filepath.Join(out, "rows.jsonl"))
	require.NoError(t, err, "it is closed")
	require.NoError(t, lines.Close())
	require.NotEmpty(t, records.Coherence)
	requireSameLines(t, out, read(t, out).Records)
	require.DirExists(t, filepath.Join(out, "tensorboard", "vit-seed-5"))
}

// What nobody has asked for is not there.
func TestNoSinksUnlessAskedFor(t *testing.T) {
	config := parse(t, tinySource)
	config.Models, config.Training.Epochs = config.Models[1:], 1
	options := optionsFor(backendtest.Go(t), filepath.Join(t.TempDir(), "run"))
	trainTiny(t, config, options)
	require.NoFileExists(t, filepath.Join(options.Dir, "rows.jsonl"))
	require.NoDirExists(t, filepath.Join(options.Dir, "tensorboard"))
}

// requireSameLines checks that of the lines of a run, without what later attempts did over again, there are as many as rows, of each
// table, run, attempt, model and step.
func requireSameLines(t *testing.T, dir string, records audit.Records) {
	t.Helper()
	count := map[string]int{}
	key := func(table string, m audit.Moment) string {
		return fmt.Sprintf("%s %s %d %s %d %d", table, m.RunID, m.Attempt, m.Model, m.Seed, m.Step)
	}
	for table, of := range map[string]*audit.Records{
		"training": {Training: records.Training}, "decisions": {Decisions: records.Decisions}, "evaluation": {Evaluation: records.Evaluation}, "rollouts": {Rollouts: records.Rollouts}, "errors": {Errors: records.Errors},
		"influence": {Influence: records.Influence}, "solves": {Solves: records.Solves}, "pictures": {Pictures: records.Pictures}, "coherence": {Coherence: records.Coherence},
	} {
		for _, m := range of.Moments() {
			count[key(table, *m)]++
		}
	}
	content, err := os.ReadFile(filepath.Join(dir, "rows.jsonl"))
	require.NoError(t, err)
	type line struct {
		Table      string
		RunID      string `json:"run_id"`
		Attempt    int32
		Model      string
		Seed, Step int64
	}
	var lines []line
	first := map[string]map[int32]int64{} // step, by attempt, of each table and model
	for text := range strings.Lines(string(content)) {
		var l line
		require.NoError(t, json.Unmarshal([]byte(text), &l), text)
		lines = append(lines, l)
		of := l.Table + " " + l.Model
		if first[of] == nil {
			first[of] = map[int32]int64{}
		}
		if step, known := first[of][l.Attempt]; !known || l.Step < step {
			first[of][l.Attempt] = l.Step
		}
	}
	for _, l := range lines {
		superseded := false
		for attempt, step := range first[l.Table+" "+l.Model] {
			superseded = superseded || attempt > l.Attempt && step <= l.Step
		}
		if !superseded {
			count[key(l.Table, audit.Moment{RunID: l.RunID, Attempt: l.Attempt, Model: l.Model, Seed: l.Seed, Step: l.Step})]--
		}
	}
	for key, n := range count {
		require.Zero(t, n, "rows more than lines: %s", key)
	}
}
