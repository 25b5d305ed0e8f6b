package trainer_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/checkpoint"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/trainer"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimDir); dir != "" {
		trainUntilKilled(dir)
	}
	if dir := os.Getenv(trainingDir); dir != "" {
		if err := trainAndTell(dir); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	victimDir  = "SYMAUDIT_TEST_KILLED_TRAINING"
	victimPart = "SYMAUDIT_TEST_KILLED_AT_PART"
)

// trainUntilKilled begins or resumes a tiny run and is killed within an audit, after so many parts of audits.
func trainUntilKilled(dir string) {
	die := func(err error) {
		if err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
		}
		os.Exit(1)
	}
	choice, err := backend.Open("go")
	if err != nil {
		die(err)
	}
	config, err := trainer.ParseConfig([]byte(tinySource))
	if err != nil {
		die(err)
	}
	left, err := strconv.Atoi(os.Getenv(victimPart))
	if err != nil {
		die(err)
	}
	options := optionsFor(choice.Backend, dir)
	options.Resume = true
	options.Watcher.AuditPart = func(string, int, int) {
		if left--; left > 0 {
			return
		}
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		if err != nil {
			die(err)
		}
		select {}
	}
	_, err = trainer.Train(context.Background(), config, options)
	die(err)
}

func TestKilledRunEndsAsIfItHadNotBeen(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	whole, killed := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "killed")
	want := trainTiny(t, config, optionsFor(b, whole))

	// Of 4 parts each: in the first audit of all, in the second of the ViT, in the last.
	for _, part := range []int{2, 3*4 + 4 + 3, 4 + 1} {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), victimDir+"="+killed, victimPart+"="+strconv.Itoa(part))
		output, err := command.CombinedOutput()
		require.ErrorContains(t, err, "killed", "%s", output)
		requireReadable(t, killed)
	}
	require.Equal(t, 5, audits(read(t, killed).Records), "what was finished is there")
	options := optionsFor(b, killed)
	options.Resume = true
	got := trainTiny(t, config, options)
	requireReadable(t, killed)
	requireWhole(t, got.Records)
	require.Len(t, got.Resumes, 3)
	requireSameRun(t, whole, killed, want.Records, got.Records)
}

// trainUntil runs until stop, called with each event and the model it is of, "" while data are generated, says so.
func trainUntil(t *testing.T, config trainer.Config, options trainer.Options, stop func(event, model string, done int) bool) error {
	t.Helper()
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	on := func(event string) func(string, int, int) {
		return func(model string, done, _ int) {
			if stop(event, model, done) {
				cancel(interrupted)
			}
		}
	}
	options.Watcher = trainer.Watcher{
		Generating: func(done, total int) { on("generating")("", done, total) }, Step: on("step"), AuditPart: on("audit"),
	}
	_, err := trainer.Train(ctx, config, options)
	if err != nil {
		require.ErrorIs(t, err, interrupted)
	}
	requireReadable(t, options.Dir)
	return err
}

func TestCancelledRunIsResumed(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	whole, options := filepath.Join(t.TempDir(), "whole"), optionsFor(b, filepath.Join(t.TempDir(), "cancelled"))
	want := trainTiny(t, config, optionsFor(b, whole))

	err := trainUntil(t, config, options, func(event, _ string, done int) bool { return event == "generating" && done == 4 })
	require.Error(t, err)
	options.Resume = true
	err = trainUntil(t, config, options, func(event, model string, done int) bool {
		return event == "step" && model == "vit" && done == tinyEpoch+2 // in the middle of an epoch
	})
	require.EqualError(t, err, `trainer: model "vit": stopped at step 5 of 9: interrupted`)
	err = trainUntil(t, config, options, func(event, _ string, done int) bool {
		return event == "audit" && done == 3 // of 4 parts: the epoch must not count as done
	})
	require.Error(t, err)
	require.NoError(t, trainUntil(t, config, options, func(string, string, int) bool { return false }))
	got := read(t, options.Dir)
	requireWhole(t, got.Records)
	requireSameRun(t, whole, options.Dir, want.Records, got.Records)

	err = trainUntil(t, config, options, func(event, _ string, _ int) bool {
		t.Error("nothing is left to do, and yet there was", event)
		return false
	})
	require.NoError(t, err)
	require.Equal(t, got.Records, read(t, options.Dir).Records)
}

func TestResumedTrainingIsBitIdentical(t *testing.T) {
	config, data := parse(t, tinySource), filepath.Join(t.TempDir(), "data")
	set, err := trainer.GenerateData(context.Background(), backendtest.Go(t), "go", config, data, false, nil)
	require.NoError(t, err)
	require.NoError(t, set.Close())
	config.Models, config.Audit.Groups, config.Data.Directory = config.Models[1:], config.Audit.Groups[:1], data
	config.Audit.EveryEpochs = tinyEpochs // XLA takes its time to compile
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		whole, options := filepath.Join(t.TempDir(), "whole"), optionsFor(b, filepath.Join(t.TempDir(), "cancelled"))
		want := trainTiny(t, config, optionsFor(b, whole))
		require.Error(t, trainUntil(t, config, options, func(_, _ string, done int) bool { return done == tinyEpoch+1 }))
		options.Resume = true
		got := trainTiny(t, config, options)
		requireSameRun(t, whole, options.Dir, want.Records, got.Records)
	})
}

func TestLastAuditIsMadeUpFor(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	config.Models, config.Training.Epochs, config.Audit.EveryEpochs = config.Models[1:], 1, 2
	ctx, cancel := context.WithCancel(context.Background())
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	options.Watcher.AuditPart = func(string, int, int) { cancel() } // of the audit at the end, which no epoch is due
	_, err := trainer.Train(ctx, config, options)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, audits(read(t, options.Dir).Records))
	options.Resume, options.Watcher.AuditPart = true, nil
	require.Equal(t, 1, audits(trainTiny(t, config, options).Records))
}

func TestResumeRefusesOtherProbes(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	ctx, cancel := context.WithCancel(context.Background())
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	options.Watcher.Step = func(string, int, int) { cancel() }
	_, err := trainer.Train(ctx, config, options)
	require.ErrorIs(t, err, context.Canceled)
	options.Resume = true
	config.Data.Euler.Interval *= 2
	_, err = trainer.Train(context.Background(), config, options)
	require.ErrorContains(t, err, `has audits of model "unet" with other settings: probes of d4 were `)
	require.ErrorContains(t, err, "they differ by rounding where they are generated on another backend (--backend; this is test)")
}

// A run whose configuration or checkpoints were exchanged must not go on from weights that are initialised anew.
func TestCheckpointsOfAnotherModelAreRefused(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	require.Error(t, trainUntil(t, config, options, func(event, model string, done int) bool {
		return event == "step" && model == "vit" && done == tinyEpoch+1
	}))
	unet, vit := filepath.Join(options.Dir, "checkpoints", "unet"), filepath.Join(options.Dir, "checkpoints", "vit")
	options.Resume = true
	requireRefused := func(config trainer.Config, want string) {
		t.Helper()
		_, err := trainer.Train(context.Background(), config, options)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, vit)
		out := filepath.Join(t.TempDir(), "audit")
		_, err = auditLatest(config, options, "vit", out)
		require.ErrorContains(t, err, want)
		require.NoDirExists(t, out)
	}
	description := filepath.Join(options.Dir, "run.json")
	whole, err := os.ReadFile(description)
	require.NoError(t, err)
	for edit, want := range map[[2]string]string{
		{" width: 4", " width: 8"}:   "instead of",
		{" layers: 1", " layers: 2"}: "it lacks /vit/",
	} {
		require.Contains(t, string(whole), edit[0])
		require.NoError(t, os.WriteFile(description, []byte(strings.Replace(string(whole), edit[0], edit[1], 1)), 0o666))
		edited, _, err := trainer.RunConfig(options.Dir)
		require.NoError(t, err)
		requireRefused(edited, want)
	}
	require.NoError(t, os.WriteFile(description, whole, 0o666))

	require.NoError(t, os.Rename(vit, vit+"-kept"))
	require.NoError(t, os.CopyFS(vit, os.DirFS(unet)))
	require.NoError(t, os.Remove(filepath.Join(vit, "finished")))
	requireRefused(config, "it lacks /vit/")
	require.NoError(t, os.RemoveAll(vit))
	require.NoError(t, os.Rename(vit+"-kept", vit))
	requireWhole(t, trainTiny(t, config, options).Records)
}

func TestStopRuleEndsOneModel(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	// A UNet commutes with shifts by whole pixels of its coarsest grid, a ViT with positions does not.
	threshold := 1e-12
	config.Audit.Stop = []trainer.StopRule{{Monitor: "translations/commutator_error", Mode: "minimize", Threshold: &threshold}}
	config.Training.Epochs = 2
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	var stopped []string
	steps := map[string]int{}
	options.Watcher = trainer.Watcher{
		Stopped: func(model, reason string) { stopped = append(stopped, model+": "+reason) },
		Step:    func(model string, done, _ int) { steps[model] = done },
	}
	train := func() {
		result, err := trainer.Train(context.Background(), config, options)
		require.NoError(t, err)
		require.True(t, result.StoppedEarly)
	}
	train()
	require.Equal(t, map[string]int{"unet": tinyEpoch, "vit": 2 * tinyEpoch}, steps)
	require.Len(t, stopped, 1)
	require.Regexp(t, `^unet: translations/commutator_error is .*, threshold 1e-12 \(minimize\), at step 3, epoch 1$`, stopped[0])

	options.Resume, stopped = true, nil
	train()
	require.Empty(t, stopped, "what is finished is left alone")

	// As if it had been killed after the checkpoint and before the end was noted.
	require.NoError(t, os.Remove(filepath.Join(options.Dir, "checkpoints", "unet", "finished")))
	steps = map[string]int{}
	train()
	require.Empty(t, steps, "the rule was met before")
	require.Len(t, stopped, 1)
	require.Equal(t, 3, audits(read(t, options.Dir).Records))
}

// A model that gets better, by a rule that wants it worse, is stopped by its second audit and taken back to its first.
func TestTheLatestCheckpointOfAStoppedModelIsItsBest(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	config.Models = config.Models[:1]
	config.Audit.Stop = []trainer.StopRule{{Monitor: "d4/target_error", Mode: "maximize", Patience: 1}}
	config.Audit.RestoreBest = true
	options := optionsFor(b, filepath.Join(t.TempDir(), "run"))
	train := func() {
		t.Helper()
		result, err := trainer.Train(context.Background(), config, options)
		require.NoError(t, err)
		require.True(t, result.StoppedEarly)
		errors := map[int64]float64{}
		for _, row := range read(t, options.Dir).Records.Coherence {
			if row.GroupName == "d4" && row.Element == audit.AllElements {
				errors[row.Step] = *row.MedianTargetError
			}
		}
		require.Len(t, errors, 2)
		require.Less(t, errors[6], errors[3])
		out := filepath.Join(t.TempDir(), "audit")
		records, err := auditLatest(config, options, "unet", out)
		require.NoError(t, err)
		require.EqualValues(t, 3, records.Coherence[0].Step)
		for _, row := range records.Coherence {
			if row.GroupName == "d4" && row.Element == audit.AllElements {
				require.Equal(t, errors[3], *row.MedianTargetError)
			}
		}
	}
	train()
	// As if it had been killed before the end was noted, before and after the best was made the latest.
	options.Resume = true
	for _, remove := range []string{"finished", "step-000000003"} {
		require.NoError(t, os.Remove(filepath.Join(options.Dir, "checkpoints", "unet", "finished")))
		require.NoError(t, os.RemoveAll(filepath.Join(options.Dir, "checkpoints", "unet", remove)))
		train()
	}
}

func audits(records audit.Records) int {
	n := 0
	for _, row := range records.Coherence {
		if row.GroupName == "d4" && row.Element == audit.AllElements {
			n++
		}
	}
	return n
}

// requireReadable opens every Parquet file there is.
func requireReadable(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".parquet" {
			return err
		}
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		file, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
		require.NoError(t, err, path)
		require.Positive(t, file.NumRows(), path)
		return nil
	})
	require.NoError(t, err)
}

// requireSameRun compares all rows, the wall clock's and what tells of interruptions apart, and all variables of the final checkpoints, bit for bit. Only
// GoMLX's own metrics, which nothing here reads, begin anew with each process.
func requireSameRun(t *testing.T, wantDir, gotDir string, want, got audit.Records) {
	t.Helper()
	got.Decisions = slices.DeleteFunc(slices.Clone(got.Decisions), func(row audit.DecisionRow) bool { return row.Decision == audit.Interrupted })
	require.Empty(t, cmp.Diff(want, got, cmpopts.EquateNaNs(),
		cmpopts.IgnoreFields(audit.Moment{}, "RunID", "Attempt"),
		cmpopts.IgnoreFields(audit.TrainingRow{}, "StepSeconds"),
		cmpopts.IgnoreFields(audit.SolveRow{}, "Seconds")))
	folders, err := filepath.Glob(filepath.Join(wantDir, "checkpoints", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	for _, folder := range folders {
		model := filepath.Base(folder)
		want, got := finalVariables(t, wantDir, model), finalVariables(t, gotDir, model)
		require.Greater(t, len(want), 20, "weights, two moments of each, and more")
		require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
		for name := range want {
			require.Equal(t, []byte(want[name]), []byte(got[name]), "%s of %s", name, model)
		}
	}
}

// finalVariables are the bytes of every variable in the latest checkpoint.
func finalVariables(t *testing.T, dir, name string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "checkpoints", name, "step-*"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	path := paths[len(paths)-1]
	handler, err := checkpoint.Load(model.NewStore()).Dir(path).Done()
	require.NoError(t, err)
	values := map[string]string{}
	for key, value := range handler.LoadedVariables() {
		if strings.Contains(key, "/metrics/") {
			continue
		}
		require.NoError(t, value.ConstBytes(func(data []byte) { values[key] = string(data) }))
	}
	return values
}
