package trainer_test

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/writers"
)

// tinySource is a run of seconds: two models, three epochs of three steps, an audit after each epoch.
const tinySource = `
seed: 5
data:
  families: [riemann, curved-riemann]
  trajectories: 2
  probes: 1
  euler: {resolution: 8, refinement: 1, snapshots: 4}
models:
  - name: unet
    unet: {widths: [2, 2], blocks: 1, groups: 1}
  - name: vit
    vit: {patch: 4, width: 4, layers: 1, heads: 2, expansion: 1}
training: {epochs: 3, batch_size: 5, learning_rate: 0.01}
audit:
  groups: [{name: d4}, {name: translations, stride: 4}]
  relative_lambdas: [0.1]
  dtype: float64
  tolerance: 0.3
  pictures: true
`

const tinyEpoch, tinyEpochs = 3, 3 // steps of an epoch: 12 transitions in batches of 5; epochs

func optionsFor(b compute.Backend, dir string) trainer.Options {
	return trainer.Options{
		Backend: b, BackendConfig: "test", BackendReason: "of a test",
		Dir: dir, Command: []string{"a", "test"},
	}
}

// trainTiny runs the configuration to its end.
func trainTiny(t *testing.T, config trainer.Config, options trainer.Options) *writers.Contents {
	t.Helper()
	_, err := trainer.Train(context.Background(), config, options)
	require.NoError(t, err)
	return read(t, options.Dir)
}

func read(t *testing.T, dir string) *writers.Contents {
	t.Helper()
	contents, err := writers.Read(dir)
	require.NoError(t, err)
	return contents
}

// requireWhole checks that the run holds every training step and every audit of both models once.
func requireWhole(t *testing.T, records audit.Records) {
	t.Helper()
	type count struct{ training, evaluation, errors, influence, solves, coherence int }
	type moment struct {
		model string
		step  int64
	}
	want, got := map[moment]count{}, map[moment]count{}
	for _, model := range []string{"unet", "vit"} {
		for step := int64(1); step <= tinyEpoch*tinyEpochs; step++ {
			c := count{training: 1}
			if step%tinyEpoch == 0 {
				// D4 has 8 elements, shifts by half the grid and the identity are 3; a batch is a sample of each family.
				c.evaluation = 2 * 1 * 3 // families, probes, steps
				c.errors, c.influence, c.solves, c.coherence = (8+3)*2, (8+3)*2*2, 2, 8+3+2
			}
			want[moment{model, step}] = c
		}
	}
	at := func(m audit.Moment, add func(*count)) {
		require.EqualValues(t, 5, m.Seed)
		require.InDelta(t, float64(m.Step)/tinyEpoch, m.Epoch, 1e-12)
		c := got[moment{m.Model, m.Step}]
		add(&c)
		got[moment{m.Model, m.Step}] = c
	}
	for _, row := range records.Training {
		at(row.Moment, func(c *count) { c.training++ })
	}
	for _, row := range records.Evaluation {
		at(row.Moment, func(c *count) { c.evaluation++ })
	}
	for _, row := range records.Errors {
		at(row.Moment, func(c *count) { c.errors++ })
	}
	for _, row := range records.Influence {
		at(row.Moment, func(c *count) { c.influence++ })
	}
	for _, row := range records.Solves {
		at(row.Moment, func(c *count) { c.solves++ })
	}
	for _, row := range records.Coherence {
		at(row.Moment, func(c *count) { c.coherence++ })
	}
	require.Equal(t, want, got)
}

func TestTrain(t *testing.T) {
	config, dir, b := parse(t, tinySource), filepath.Join(t.TempDir(), "run"), backendtest.Go(t)
	options := optionsFor(b, dir)
	steps, parts, generated := map[string]int{}, 0, 0
	var audited []string
	options.Watcher = trainer.Watcher{
		Generating: func(done, total int) {
			require.Equal(t, 6, total)
			require.Equal(t, generated+1, done)
			generated = done
		},
		Step: func(model string, done, total int) {
			require.Equal(t, tinyEpoch*tinyEpochs, total)
			require.Equal(t, steps[model]+1, done)
			steps[model] = done
		},
		AuditPart: func(_ string, done, total int) {
			require.Equal(t, 4, total, "the errors and a solve of each group")
			require.Equal(t, parts%4+1, done)
			parts++
		},
		Audited: func(model string, records *audit.Records) {
			require.Len(t, records.Training, tinyEpoch)
			audited = append(audited, model)
		},
		Stopped: func(string, string) { t.Error("there is no rule") },
	}
	contents := trainTiny(t, config, options)
	requireWhole(t, contents.Records)
	require.Equal(t, 6, generated)
	require.Equal(t, map[string]int{"unet": 9, "vit": 9}, steps)
	require.Equal(t, 6*4, parts)
	require.Equal(t, "unet unet unet vit vit vit", strings.Join(audited, " "))

	require.Empty(t, contents.Resumes)
	info := contents.Info
	require.Equal(t, config.String(), info.Config)
	require.Equal(t, []string{"a", "test"}, info.Command)
	require.Equal(t, "test", info.Backend)
	require.Equal(t, "of a test", info.BackendReason)
	require.Equal(t, []int64{5}, info.Seeds)
	require.Equal(t, writers.KindTraining, info.Kind)
	require.Len(t, info.Trainings, 2)
	require.Len(t, contents.Training("vit", 5).Settings[audit.SettingProbes+"d4"], 64, "SHA-256")
	again, backend, err := trainer.RunConfig(dir)
	require.NoError(t, err)
	require.Equal(t, config.String(), again.String())
	require.Equal(t, "test", backend)

	// The latest checkpoint, audited once more, shows what the last audit showed.
	options.Watcher = trainer.Watcher{}
	records, err := auditLatest(config, options, "vit", filepath.Join(t.TempDir(), "again"))
	require.NoError(t, err)
	last := func(rows []audit.CoherenceRow) audit.CoherenceRow {
		row := rows[len(rows)-1]
		row.RunID, row.Attempt = "", 0
		return row
	}
	require.Equal(t, last(contents.Records.Coherence), last(records.Coherence))
}

func TestTrainRefuses(t *testing.T) {
	b, config := backendtest.Go(t), parse(t, tinySource)
	for name, test := range map[string]struct {
		edit func(*trainer.Config)
		want string
	}{
		"invalid": {func(c *trainer.Config) { c.Training.Epochs = 0 }, "training.epochs is 0"},
		"no data": {func(c *trainer.Config) { c.Data.Directory = "none" }, `data.directory is "none", which holds no data: there is no none/data.json`},
		"rate":    {func(c *trainer.Config) { c.Training.LearningRate = 1e30 }, "training.learning_rate is 1e+30"},
	} {
		t.Run(name, func(t *testing.T) {
			edited, dir := config, filepath.Join(t.TempDir(), "run")
			test.edit(&edited)
			_, err := trainer.Train(context.Background(), edited, optionsFor(b, dir))
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n", "one sentence")
			require.NotContains(t, err.Error(), "reading from Dataset")
		})
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o666))
	_, err := trainer.Train(context.Background(), config, optionsFor(b, dir))
	require.ErrorContains(t, err, "choose another directory")
}

func TestABatchLargerThanTheDataHoldsAllOfThem(t *testing.T) {
	config := parse(t, tinySource)
	config.Models, config.Training.Epochs, config.Training.BatchSize = config.Models[1:], 2, math.MaxInt
	var log bytes.Buffer
	options := optionsFor(backendtest.Go(t), t.TempDir())
	options.Log = zerolog.New(&log)
	contents := trainTiny(t, config, options)
	require.Len(t, contents.Records.Training, 2, "one step an epoch")
	require.Contains(t, log.String(), `"transitions":12,"message":"training.batch_size is larger than the training data`)
}

// Evaluating the model, with pictures, changes nothing of its training and of its audits, bit for bit.
func TestEvaluationLeavesTheTrainingAsItIs(t *testing.T) {
	config, data := parse(t, tinySource), filepath.Join(t.TempDir(), "data")
	set, err := trainer.GenerateData(context.Background(), backendtest.Go(t), "go", config, data, false, nil)
	require.NoError(t, err)
	require.NoError(t, set.Close())
	config.Models, config.Audit.Groups, config.Data.Directory, config.Training.Epochs = config.Models[1:], config.Audit.Groups[:1], data, 2
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		dir := t.TempDir()
		evaluated := trainTiny(t, config, optionsFor(b, filepath.Join(dir, "with"))).Records
		without := config
		without.Training.Evaluate = false
		plain := trainTiny(t, without, optionsFor(b, filepath.Join(dir, "without"))).Records
		require.Len(t, evaluated.Evaluation, 2*6, "two audits of six states")
		require.Len(t, evaluated.Rollouts, 2*2*4*4, "two audits of two trajectories at four times, four channels")
		require.NotEqual(t, evaluated.Rollouts[len(evaluated.Rollouts)/2-1].Prediction, evaluated.Rollouts[len(evaluated.Rollouts)-1].Prediction, "the weights are others")
		require.Empty(t, plain.Evaluation)
		require.Empty(t, plain.Rollouts)
		evaluated.Evaluation, evaluated.Rollouts = nil, nil
		requireSameRun(t, filepath.Join(dir, "without"), filepath.Join(dir, "with"), plain, evaluated)
	})
}

// The moments of the optimizer are in the checkpoint: its next step has the influence in an audit afterwards that it had in the training.
// Tables that a training was not asked for are made of its checkpoint.
func TestLayersAndSpectrumAfterwards(t *testing.T) {
	config := parse(t, tinySource)
	config.Models, config.Training.Epochs = config.Models[1:], 1
	dir := t.TempDir()
	options := optionsFor(backendtest.Go(t), filepath.Join(dir, "run"))
	require.Empty(t, trainTiny(t, config, options).Records.Layers)
	config.Audit.Layers, config.Audit.Spectrum = true, true
	_, err := auditLatest(config, options, config.Models[0].Name, filepath.Join(dir, "again"))
	require.NoError(t, err)
	again, err := writers.Read(filepath.Join(dir, "again"))
	require.NoError(t, err)
	require.NotEmpty(t, again.Records.Layers)
	require.NotEmpty(t, again.Records.Spectrum)
	for _, row := range again.Records.Solves {
		require.Less(t, *row.EffectiveDimensionLow, *row.EffectiveDimensionHigh)
	}
	require.Equal(t, "true", again.Info.Trainings[0].Settings["layers"])
}

func TestTheOptimizersMetricAfterwards(t *testing.T) {
	config := parse(t, tinySource)
	config.Models, config.Training.Epochs = config.Models[1:], 2
	config.Audit.Metric, config.Audit.Directions = string(audit.MetricOptimizer), []string{audit.LossName, audit.KernelName}
	dir := t.TempDir()
	options := optionsFor(backendtest.Go(t), filepath.Join(dir, "run"))
	contents := trainTiny(t, config, options)
	records, err := auditLatest(config, options, config.Models[0].Name, filepath.Join(dir, "again"))
	require.NoError(t, err)
	values := func(rows []audit.InfluenceRow) (all []float64) {
		for _, row := range rows {
			if row.Step == records.Coherence[0].Step {
				all = append(all, row.Influence)
			}
		}
		return all
	}
	before, after := values(contents.Records.Influence), values(records.Influence)
	require.NotEmpty(t, after)
	require.Len(t, before, len(after))
	for i := range after {
		require.InEpsilon(t, before[i], after[i], 1e-7, "the learning rate, which is in float32 in a training")
	}
	config.Audit.Metric = string(audit.MetricIdentity)
	plain, err := auditLatest(config, options, config.Models[0].Name, filepath.Join(dir, "plain"))
	require.NoError(t, err)
	require.NotEqual(t, *records.Coherence[8].Median, *plain.Coherence[8].Median)
}

// auditLatest audits the latest checkpoint of a model into a new directory.
func auditLatest(config trainer.Config, options trainer.Options, model, out string) (found *audit.Records, err error) {
	checkpoints, err := trainer.Select(config, options.Dir, trainer.Selection{Models: []string{model}})
	if err != nil {
		return nil, err
	}
	options.Watcher.Audited = func(_ string, records *audit.Records) { found = records }
	err = trainer.AuditCheckpoints(context.Background(), config, options, checkpoints, trainer.Target{Dir: out})
	return found, err
}
