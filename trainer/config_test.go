package trainer_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/configs"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer"
	"github.com/symaudit/symaudit/trainer/dataset"
)

func TestDemoConfigIsValid(t *testing.T) {
	config, err := trainer.ParseConfig(configs.Demo)
	require.NoError(t, err)
	require.NoError(t, config.Validate())
	require.Equal(t, trainer.Default().Data.Euler.Gamma, config.Data.Euler.Gamma, "what is left out keeps its default")
}

func TestConfigSurvivesItsOwnYAML(t *testing.T) {
	for _, config := range []trainer.Config{trainer.Default(), parse(t, string(configs.Demo))} {
		require.Empty(t, cmp.Diff(config, parse(t, config.String()), cmpopts.EquateEmpty()))
	}
}

func TestEveryModelIsValid(t *testing.T) {
	config := parse(t, `
data: {euler: {resolution: 128}}
models:
  - {name: a, preset: tiny-unet}
  - {name: b, preset: tiny-vit}
  - {name: c, preset: tiny-fno}
  - {name: d, preset: paper-unet}
  - {name: e, preset: paper-vit-4}
  - {name: f, preset: paper-vit-8}
  - {name: g, preset: paper-fno}
  - {name: h, unet: {widths: [4, 4], blocks: 1, groups: 2}}
  - {name: i, vit: {patch: 4, width: 8, layers: 1, heads: 2, expansion: 2}}
  - {name: j, fno: {width: 4, modes: 64, layers: 1}}
`)
	require.NoError(t, config.Validate())
	require.Equal(t, &models.FNO{Width: 4, Modes: 64, Layers: 1}, config.Models[9].FNO)
}

func parse(t *testing.T, source string) trainer.Config {
	t.Helper()
	config, err := trainer.ParseConfig([]byte(source))
	require.NoError(t, err)
	return config
}

func TestParseConfigRefuses(t *testing.T) {
	for name, test := range map[string]struct{ source, want string }{
		"unknown key":       {"seed: 1\ntraining:\n  epoch: 3\n", `line 3: unknown key "epoch"; did you mean "epochs"?`},
		"unknown nested":    {"data:\n  euler:\n    resolutoin: 3\n", `line 3: unknown key "resolutoin"; did you mean "resolution"?`},
		"word":              {"seed: many\n", "line 1: seed is many; it must be a whole number"},
		"fraction":          {"seed: 7.5\n", "line 1: seed is 7.5; it must be a whole number"},
		"fraction nested":   {"data:\n  euler: {resolution: 16.5}\n", "line 2: data.euler.resolution is 16.5; it must be a whole number"},
		"fraction in model": {"models:\n  - name: a\n    vit: {patch: 2.5}\n", "line 3: models[0].vit.patch is 2.5; it must be a whole number"},
		"fraction in fno":   {"models:\n  - name: a\n    fno: {modes: 2.5}\n", "line 3: models[0].fno.modes is 2.5; it must be a whole number"},
		"fraction in list":  {"models:\n  - name: a\n    unet: {widths: [4, 4.5]}\n", "line 3: models[0].unet.widths[1] is 4.5; it must be a whole number"},
		"no number":         {"training: {learning_rate: fast}\n", "line 1: training.learning_rate is fast; it must be a number"},
		"truth":             {"training: {epochs: true}\n", "line 1: training.epochs is true; it must be a whole number"},
		"no value":          {"training:\n  epochs:\n", "line 2: training.epochs has no value; write one, or leave the key out"},
		"no value, section": {"seed: 1\ntraining:\n", "line 2: training has no value"},
		"elsewhere":         {"epochs: 3", `line 1: the key "epochs" does not stand here; it belongs into training`},
		"outermost":         {"models: [{seed: 1}]", `line 1: the key "seed" does not stand here; it belongs into the outermost level`},
		"unknown in a list": {"audit:\n  groups:\n    - name: boosts\n      velocity: [{x: 1}]\n", `line 4: the key "velocity" does not stand here; it belongs into data.euler.riemann or data.euler.curved_riemann or data.euler.perturbed_riemann. Or did you mean "velocities"?`},
		"not a velocity":    {"audit:\n  groups:\n    - name: boosts\n      velocities: [[1, 0]]\n", "line 4: audit.groups[0].velocities[0] is a list; it must be a group of keys, of x, y"},
		"not yaml":          {"seed: [1\n", "line 1 cannot be read as YAML: "},
		"huge":              {"training: {epochs: 99999999999999999999}\n", "line 1: training.epochs is 99999999999999999999; it must be at most 9223372036854775807"},
		"huge power":        {"seed: 1e30\n", "line 1: seed is 1e30; it must be at most 9223372036854775807"},
		"not a number":      {"seed: .nan\n", "line 1: seed is .nan; it must be a whole number"},
		"number, section":   {"training: 5\n", "line 1: training is 5; it must be a group of keys, of epochs, batch_size, unroll, learning_rate, rate, weight_decay, augment, evaluate, dtype, recompute, devices, save_every, keep_checkpoints"},
		"list, section":     {"data: [1]\n", "line 1: data is a list; it must be a group of keys, of directory, "},
		"word, list":        {"data:\n  families: riemann\n", "line 2: data.families is riemann; it must be a list, in which each is a word"},
		"keys, list":        {"audit: {stop: {monitor: d4/coherence}}\n", "line 1: audit.stop is a group of keys; it must be a list, in which each is a group of keys, of monitor, mode, "},
		"word in a list":    {"audit: {groups: [d4]}\n", "line 1: audit.groups[0] is d4; it must be a group of keys, of name, stride, velocities, factors"},
		"number, list":      {"audit: {relative_lambdas: 0.1}\n", "line 1: audit.relative_lambdas is 0.1; it must be a list, in which each is a number"},
		"no truth":          {"audit: {recycle: maybe}\n", "line 1: audit.recycle is maybe; it must be true or false"},
		"word, sinks":       {"audit: {sinks: jsonl}\n", "line 1: audit.sinks is jsonl; it must be a list, in which each is a word"},
		"list, word":        {"audit: {metric: [ntk]}\n", "line 1: audit.metric is a list; it must be a word"},
		"short range":       {"data: {euler: {riemann: {density: [1]}}}\n", "line 1: data.euler.riemann.density is a list of 1; it must be a list of 2, in which each is a number"},
		"long range":        {"data: {euler: {riemann: {density: [1, 2, 3]}}}\n", "line 1: data.euler.riemann.density is a list of 3; it must be a list of 2"},
		"a list":            {"- a\n", "line 1: the configuration is a list; it must be a group of keys, of seed, seeds, data, models, training, audit"},
		"a word":            {"hello\n", "line 1: the configuration is hello; it must be a group of keys"},
		"twice":             {"seed: 1\nseed: 2\n", `line 2: the key "seed" is in line 1 already; leave one out`},
		"two documents":     {"seed: 1\n---\nseed: 2\n", "line 3: a second document begins; a configuration is one, without ---"},
		"marked":            {"seed: !!str x\n", "line 1: seed is marked !!str; it must be a whole number"},
		"alias":             {"seed: &a x\ntraining: {epochs: *a}\n", "line 1: seed is x; it must be a whole number"},
		"alias of others":   {"training: &a {epochs: 3}\ndata: {trajectories: *a}\n", "line 1: data.trajectories is a group of keys; it must be a whole number"},
		"alias of itself":   {"training: &a {epochs: *a}\n", "line 1: training.epochs is a group of keys; it must be a whole number"},
		"alias of nothing":  {"seed: *b\n", "line 1: seed is *b, and nothing is marked &b; write the value itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := trainer.ParseConfig([]byte(test.source))
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n", "one sentence")
			require.NotRegexp(t, "Go |int64|unmarshal|interface|was used|strconv", err, "no types of Go")
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	for name, test := range map[string]struct{ source, want string }{
		"metric over":   {"audit: {metric_over: all}", `audit.metric_over is "all"; use probes or trajectories`},
		"sink":          {"audit: {sinks: [jsonl, csv]}", `audit.sinks has the unknown "csv"; use some of jsonl, tensorboard`},
		"sink twice":    {"audit: {sinks: [jsonl, jsonl]}", `audit.sinks lists "jsonl" twice; leave one out`},
		"parquet":       {"audit: {sinks: [parquet]}", `audit.sinks lists "parquet", which is always written; leave it out`},
		"recycle":       {"audit: {recycle: true}", "audit.recycle is true, and audits start from what earlier ones have shown no longer: leave the key out"},
		"family":        {"data: {families: [riemann, sod]}", `data.families has the unknown "sod"; use some of [riemann curved-riemann perturbed-riemann]`},
		"family twice":  {"data: {families: [riemann, riemann]}", `data.families lists "riemann" twice`},
		"probes":        {"data: {probes: 0}", "data.probes is 0"},
		"validation":    {"data: {validation: -1}", "data.validation is -1; it must be between 1 and 1000000, or 0 for none"},
		"euler":         {"data: {euler: {cfl: 0.9}}", "data.euler.cfl is 0.9"},
		"no model":      {"models: []", "models is empty"},
		"same name":     {"models: [{name: a, preset: tiny-vit}, {name: a, preset: tiny-unet}]", `models has two called "a"`},
		"folder":        {"models: [{name: ../a, preset: tiny-vit}]", "cannot name a folder"},
		"preset":        {"models: [{name: a, preset: huge}]", `unknown preset "huge"`},
		"two kinds":     {"models: [{name: a, preset: tiny-vit, vit: {}}]", "exactly one of preset, unet, vit and fno"},
		"two kinds 2":   {"models: [{name: a, vit: {}, fno: {}}]", "exactly one of preset, unet, vit and fno"},
		"modes":         {"models: [{name: a, fno: {width: 4, modes: 17, layers: 1}}]", `model "a" on the grid of data.euler.resolution 32: fno: modes 17 do not fit grid 32x32`},
		"symmetrize":    {"models: [{name: a, preset: tiny-vit, symmetrize: translations}]", `symmetrize is "translations"; use one of c4, d4, reflections, whose elements are a whole group`},
		"shape":         {"data: {euler: {resolution: 18}}", "18x18"},
		"epochs":        {"training: {epochs: 0}", "training.epochs is 0"},
		"learning rate": {"training: {learning_rate: 0}", "training.learning_rate is 0"},
		"rate":          {"training: {learning_rate: 1e30}", "training.learning_rate is 1e+30; it must be above 0 and at most 1"},
		"infinite rate": {"training: {learning_rate: .inf}", "training.learning_rate is +Inf; it must be above 0 and at most 1"},
		"compute type":  {"training: {dtype: half}", `training.dtype is "half"; use float32 or bfloat16`},
		"no decay":      {"training: {weight_decay: .nan}", "training.weight_decay is NaN; it must be between 0 and 1"},
		"many epochs":   {"training: {epochs: 99999999999}", "training.epochs is 99999999999; it must be between 1 and 1000000"},
		"trajectories":  {"data: {trajectories: 99999999999}", "data.trajectories is 99999999999; it must be between 1 and 1000000"},
		"memory":        {"data: {trajectories: 1000000, euler: {resolution: 256}}", "data.trajectories is 1000000; with data.validation, data.probes and data.euler that is 49805 GiB of states, and 1024 is the most"},
		"resolution":    {"data: {euler: {resolution: 100000000}}", "data.euler.resolution is 100000000; it must be between 4 and 4096"},
		"instant":       {"audit: {max_seconds: 1e-10}", "audit.max_seconds is 1e-10; it must be between 0.001 and 1e+09, or 0 for no limit"},
		"no group name": {"audit: {groups: [{name: d4*}]}", `audit.groups: the name "d4*" lacks a group; use one of d4, `},
		"idle factor":   {"audit: {groups: [{name: d4*c4}]}", `audit.groups: group d4*c4: c4 adds no element to d4; leave it out`},
		"checkpoints":   {"training: {keep_checkpoints: 0}", "training.keep_checkpoints is 0"},
		"every":         {"audit: {every_epochs: 0}", "audit.every_epochs is 0"},
		"group":         {"audit: {groups: [{name: d5}]}", `audit.groups: unknown group "d5"; use one of d4, c4, reflections, translations, boosts, scalings, d4-grid-only, reflections-grid-only, or a product of them, such as d4*translations`},
		"octahedral":    {"audit: {groups: [{name: octahedral}]}", "audit.groups: octahedral is of states with three axes of space, and these have 2; use d4"},
		"boost along z": {"audit: {groups: [{name: boosts, velocities: [{z: 1}]}]}", "audit.groups: group boosts has the velocity (x: 0, y: 0, z: 1), and the grid 32x32 has 2 axes; leave out the other components"},
		"factor group":  {"audit: {groups: [{name: d4*d5}]}", `audit.groups: unknown group "d5"; use one of`},
		"stride":        {"audit: {groups: [{name: translations, stride: 99}]}", "needs a stride of at least 0.01 and less than 32 pixels on a 32x32 grid, got 99"},
		"no stride":     {"audit: {groups: [{name: d4*translations}]}", "group translations needs a stride of at least 0.01 and less than 32 pixels on a 32x32 grid, got 0"},
		"stride of d4":  {"audit: {groups: [{name: d4, stride: 3}]}", `audit.groups: "d4" has stride, which is for translations alone; leave it out`},
		"no velocities": {"audit: {groups: [{name: boosts}]}", "group boosts has no velocities; give it at least one"},
		"no boost":      {"audit: {groups: [{name: boosts, velocities: [{x: 0}]}]}", `group boosts has two elements named "e"`},
		"axis":          {"audit: {groups: [{name: boosts, velocities: [{x: .inf}]}]}", "group boosts has the velocity (x: +Inf, y: 0, z: 0); it, and what it crosses in a step, must be finite"},
		"velocities of": {"audit: {groups: [{name: c4, velocities: [{x: 1}]}]}", `"c4" has velocities, which is for boosts alone; leave it out`},
		"no factors":    {"audit: {groups: [{name: scalings}]}", "group scalings has no factors; give it at least one"},
		"factor":        {"audit: {groups: [{name: scalings, factors: [2, 0]}]}", "group scalings has the factor 0; factors must be positive, between 1e-15 and 1e+15"},
		"factors of":    {"audit: {groups: [{name: d4, factors: [2]}]}", `"d4" has factors, which is for scalings alone; leave it out`},
		"group twice":   {"audit: {groups: [{name: d4}, {name: d4}]}", `audit.groups lists "d4" twice`},
		"metric":        {"audit: {metric: hessian}", `audit.metric is "hessian"; use ntk, ggn, fisher, identity or optimizer`},
		"scale":         {"audit: {metric_scale: max}", `audit.metric_scale is "max"; use mean or sum`},
		"estimator":     {"audit: {estimator: kfac}", `audit.estimator is "kfac"; use block, cg-residual or subspace`},
		"tolerance":     {"audit: {tolerance: -1}", "audit.tolerance is -1"},
		"seconds":       {"audit: {max_seconds: -1}", "audit.max_seconds is -1; it must be between 0.001 and 1e+09, or 0 for no limit"},
		"many seconds":  {"audit: {max_seconds: 1e10}", "audit.max_seconds is 1e+10"},
		"many bytes":    {"audit: {max_mib: 17592186044417}", "audit.max_mib is 17592186044417; it must be between 1 and 1099511627776, or 0 for 4096"},
		"products":      {"audit: {max_products: -3}", "audit.max_products is -3; it must be positive, or 0 for no limit"},
		"no lambda":     {"audit: {relative_lambdas: []}", "audit.relative_lambdas is empty"},
		"lambda":        {"audit: {relative_lambdas: [0.1, 0]}", "audit.relative_lambdas is 0; it must be positive"},
		"dtype":         {"audit: {dtype: float16}", `audit.dtype is "float16"`},
		"direction":     {"audit: {directions: [loss, total_enthalpy]}", `audit.directions has the unknown "total_enthalpy"; use some of loss, kernel, total_density, total_momentum_x`},
		"direction 2":   {"audit: {directions: [loss, loss]}", `audit.directions lists "loss" twice; leave one out`},
		"kernel draws":  {"audit: {directions: [kernel], kernel_draws: -1}", `audit.kernel_draws is -1; it must be positive, or 0 for 4`},
		"no kernel":     {"audit: {kernel_draws: 2}", `audit.kernel_draws is 2, and audit.directions does not list kernel; add it, or leave the key out`},
		"local errors":  {"audit: {local_errors: true, groups: [{name: d4}]}", `audit.local_errors is set, and no group in audit.groups has elements near the identity; add translations, boosts or scalings, or leave the key out`},
		"layers":        {"audit: {layers: true, estimator: cg-residual}", `audit.layers is asked for, and estimator cg-residual certifies no solution to take apart; use estimator block`},
		"spectrum":      {"audit: {spectrum: true, metric: fisher}", `audit.spectrum is asked for, which is of metric ntk by estimator block, and these are fisher and block; leave it out, or use those`},
		"no direction": {"audit: {directions: [loss], groups: [{name: d4}], stop: [{monitor: d4/kernel/coherence, mode: maximize, patience: 1}]}",
			`audit.stop watches "d4/kernel/coherence", and audit.directions does not list "kernel"; add it, or watch another`},
		"stop rule": {"audit: {stop: [{monitor: d4/x, mode: maximize, patience: 1}]}", `audit.stop: stop rule: the monitor is "d4/x"`},
		"stop on no group": {
			"audit: {groups: [{name: d4}], stop: [{monitor: translations/coherence, mode: maximize, patience: 1}]}",
			`audit.stop watches "translations/coherence", and audit.groups does not list "translations"; add it, or watch another`,
		},
		"nothing is best": {"audit: {restore_best: true}", "audit.restore_best is set, but no rule in audit.stop says what is best"},
		"mode of a stop":  {"audit: {stop: [{monitor: d4/coherence, mode: up}]}", `audit.stop has the mode "up" for "d4/coherence"; use maximize or minimize`},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := trainer.ParseConfig([]byte(test.source))
			require.NoError(t, err)
			require.ErrorContains(t, config.Validate(), test.want)
		})
	}
}

func TestAnEmptyConfigurationIsTheDefault(t *testing.T) {
	for _, source := range []string{"", "\n", "# nothing\n", "---\n", "null\n"} {
		require.Equal(t, trainer.Default(), parse(t, source), "%q", source)
	}
	require.Equal(t, int64(1000), parse(t, "seed: 1e3\n").Seed, "a whole number, however it is written")
	require.Empty(t, parse(t, "audit: {stop: }\n").Audit.Stop)
}

// The configurations of the paper's experiments are of the collection's data, and of the generator's.
func TestPaperConfigurations(t *testing.T) {
	read := func(name string) trainer.Config {
		source, err := os.ReadFile(filepath.Join("..", "configs", name))
		require.NoError(t, err)
		config, err := trainer.ParseConfig(source)
		require.NoError(t, err)
		return config
	}
	generated := read("paper-data.yaml")
	require.NoError(t, generated.Data.Validate())
	require.Equal(t, []int{128, 4, 21}, []int{generated.Data.Euler.Resolution, generated.Data.Euler.Refinement, generated.Data.Euler.Snapshots})

	dir := t.TempDir()
	description := dataset.Description{SchemaVersion: 2, Field: orbits.EulerField(), Grid: []int{128, 128}, Snapshots: 21, Interval: 0.05}
	for _, family := range generated.Data.Families {
		description.Families = append(description.Families, dataset.Family{Name: family, Label: family})
	}
	text, err := json.Marshal(description.InOrder(5000, 120, 240))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.json"), text, 0o666))
	for _, name := range []string{"paper-d4.yaml", "paper-translations.yaml"} {
		config := read(name)
		require.Equal(t, "data/pdegym", config.Data.Directory)
		config.Data.Directory = dir
		require.NoError(t, config.Validate(), name)
		require.Len(t, config.Trainings(), 6)
		require.Equal(t, []int{90, 64, 5000, 16, 3}, []int{config.Training.Epochs, config.Training.BatchSize, config.Data.Trajectories, config.Data.Steps, config.Data.Probes})
	}
}
