package trainer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/gomlx/compute/dtypes"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
	"github.com/symaudit/symaudit/trainer/euler"
)

// Config is a whole run: data, models trained on them one after the other, and their audits. Start from Default or
// ParseConfig; Validate says what cannot work.
type Config struct {
	Seed     int64    `yaml:"seed"`            // of the data, the initial weights and the order of the samples
	Seeds    []int64  `yaml:"seeds,omitempty"` // of several trainings of each model, which differ in initial weights and order; []: one, with seed
	Data     Data     `yaml:"data"`
	Models   []Model  `yaml:"models"`
	Training Training `yaml:"training"`
	Audit    Audit    `yaml:"audit"`
}

// Data says which trajectories are trained on and which are held out, for validation and as probes.
type Data struct {
	// Directory holds data that `symaudit data generate` or `symaudit data import` has written; empty generates them anew, the same for the same
	// seed and backend.
	Directory    string       `yaml:"directory"`
	Families     []string     `yaml:"families"`             // of initial conditions; trajectories of all are trained on and audited
	Trajectories int          `yaml:"trajectories"`         // for training, of each family
	Validation   int          `yaml:"validation,omitempty"` // held out, of each family, for choices that are made along the way: what training.evaluate measures is of these; 0: none, and it is of the probes
	Probes       int          `yaml:"probes"`               // held out, of each family; as many batches are audited, one trajectory of each family in each
	Steps        int          `yaml:"steps,omitempty"`      // of each trajectory that are used, from its beginning on; 0: all
	Euler        euler.Config `yaml:"euler,omitzero"`       // how data are generated; those of a directory say themselves what they are
}

// Model is a network to train: a preset, or one architecture spelled out. Its normalization is set from the data.
type Model struct {
	Name   string       `yaml:"name"`             // in the records and figures; distinct
	Preset string       `yaml:"preset,omitempty"` // a network by name, in place of unet, vit and fno; the number of a ViT is its patch's size
	UNet   *models.UNet `yaml:"unet,omitempty"`
	ViT    *models.ViT  `yaml:"vit,omitempty"`
	FNO    *models.FNO  `yaml:"fno,omitempty"`
}

// architecture is what all models can do.
type architecture interface {
	Validate(grid ...int) error
	Fn() models.Fn
}

// resolve returns the one architecture that is meant, with the data's normalization; recompute is of its gradient.
func (m Model) resolve(n models.Normalization, recompute bool) (architecture, error) {
	given := 0
	for _, set := range []bool{m.Preset != "", m.UNet != nil, m.ViT != nil, m.FNO != nil} {
		if set {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("set exactly one of preset, unet, vit and fno")
	}
	switch {
	case m.UNet != nil:
		unet := *m.UNet
		unet.Normalization, unet.Recompute = n, recompute
		return unet, nil
	case m.ViT != nil:
		vit := *m.ViT
		vit.Normalization, vit.Recompute = n, recompute
		return vit, nil
	case m.FNO != nil:
		fno := *m.FNO
		fno.Normalization, fno.Recompute = n, recompute
		return fno, nil
	}
	var spelledOut Model
	switch m.Preset {
	case "tiny-unet":
		spelledOut.UNet = new(models.TinyUNet())
	case "paper-unet":
		spelledOut.UNet = new(models.PaperUNet())
	case "tiny-vit":
		spelledOut.ViT = new(models.TinyViT())
	case "paper-vit-4":
		spelledOut.ViT = new(models.PaperViT(4))
	case "paper-vit-8":
		spelledOut.ViT = new(models.PaperViT(8))
	case "tiny-fno":
		spelledOut.FNO = new(models.TinyFNO())
	case "paper-fno":
		spelledOut.FNO = new(models.PaperFNO())
	default:
		return nil, fmt.Errorf("unknown preset %q; use tiny-unet, tiny-vit, tiny-fno, paper-unet, paper-vit-4, paper-vit-8 or paper-fno", m.Preset)
	}
	return spelledOut.resolve(n, recompute)
}

func (m Model) validate(grid []int) error {
	network, err := m.resolve(models.Normalization{}, false)
	if err != nil {
		return err
	}
	return network.Validate(grid...)
}

// fn is the model's graph function with the data's normalization, for a configuration that is valid.
func (m Model) fn(n models.Normalization, recompute bool) models.Fn {
	network, _ := m.resolve(n, recompute)
	return network.Fn()
}

// Training is the prediction of the next states by Adam on SMSE.
type Training struct {
	Epochs          int     `yaml:"epochs"`               // passes over the training data; a finished run is extended by more, see `symaudit train --epochs`
	BatchSize       int     `yaml:"batch_size"`           // of a step; a smaller last batch is trained on too
	Unroll          int     `yaml:"unroll,omitempty"`     // steps that a prediction is carried on for, and compared with the data after each; 0: one
	LearningRate    float64 `yaml:"learning_rate"`        // of Adam
	Rate            string  `yaml:"rate,omitempty"`       // how the learning rate goes on: "constant", or "cosine", to zero at the last step along half a cosine; "": constant
	WeightDecay     float64 `yaml:"weight_decay"`         // of Adam
	Augment         *Group  `yaml:"augment,omitempty"`    // the group of which an element, drawn anew each time, moves each sample; left out: none
	Evaluate        bool    `yaml:"evaluate"`             // also table evaluation: with each audit, errors of the held-out trajectories one step ahead and rolled out; two predictions of each of their states
	Recompute       bool    `yaml:"recompute,omitempty"`  // compute each step of a prediction again in the backward pass, and each block of its model: less memory for more time
	Devices         int     `yaml:"devices,omitempty"`    // of the backend, among which each batch is dealt out evenly; 0: one
	SaveEvery       int     `yaml:"save_every,omitempty"` // steps between checkpoints besides that after each epoch; a killed run repeats what came after the latest; 0: none
	KeepCheckpoints int     `yaml:"keep_checkpoints"`     // latest to keep of each model, one an epoch; at least 1
}

// Audit says what is audited and how precisely.
type Audit struct {
	EveryEpochs     int        `yaml:"every_epochs"`       // between audits; the last step is audited in any case
	Schedule        string     `yaml:"schedule,omitempty"` // when to audit, in words, in place of every_epochs: "every 500 steps or every 10m", "at doubling steps from 100", "20 times"
	Budget          float64    `yaml:"budget,omitempty"`   // largest share of the time that audits may take, 0.05 for 5 %: those beyond it are left out, but the last; 0: no limit
	Groups          []Group    `yaml:"groups"`
	Directions      []string   `yaml:"directions,omitempty"`   // what influence is of: "loss", "kernel", or "total_" and a channel; []: the loss
	KernelDraws     int        `yaml:"kernel_draws,omitempty"` // changes of the data that stand for the kernel, in the direction kernel; 0: the default
	Pictures        bool       `yaml:"pictures,omitempty"`     // also table pictures: states and outputs of the samples that commute best, in the middle and worst
	LocalErrors     bool       `yaml:"local_errors,omitempty"` // also table local_errors: the model's Lie derivatives under translations, boosts and scalings
	Layers          bool       `yaml:"layers,omitempty"`       // also table layers: the share of each layer in the influence; takes about three times the products
	Spectrum        bool       `yaml:"spectrum,omitempty"`     // also table spectrum, and the effective dimension at each lambda
	RelativeLambdas []float64  `yaml:"relative_lambdas"`       // lambda / lambda_max of the metric; several cost as much as the smallest
	Metric          string     `yaml:"metric"`                 // by which influence weighs directions of the weights: of the outputs (ntk), of the loss (ggn, fisher), none (identity), or the optimizer's next step (optimizer)
	MetricScale     string     `yaml:"metric_scale"`           // whether the metric is the mean or the sum over its samples
	MetricOver      string     `yaml:"metric_over,omitempty"`  // what the metric is over: "probes", those of a batch, or "trajectories", all their transitions, as in the paper; "": probes
	Estimator       string     `yaml:"estimator"`              // how influence is solved for: block certifies intervals; cg-residual and subspace are there for comparison
	Tolerance       float64    `yaml:"tolerance"`              // half-width of a cosine's interval; of cg-residual the relative residual; 0: the estimator's default
	MaxProducts     int64      `yaml:"max_products"`           // metric products of one solve; 0: no limit
	MaxSeconds      float64    `yaml:"max_seconds"`            // of one solve; 0: no limit
	MaxMiB          int64      `yaml:"max_mib"`                // memory of one solve for parameter vectors; 0: 4096
	DType           string     `yaml:"dtype"`                  // of the audit's copy of the model; auto: float32 where lambda allows it
	Recycle         bool       `yaml:"recycle,omitempty"`      // of earlier versions, whose runs say "recycle: false"; nothing is recycled any more
	Sinks           []string   `yaml:"sinks,omitempty"`        // what is written beside the Parquet tables: "jsonl", every row as a line of rows.jsonl, and "tensorboard", curves in tensorboard/
	Stop            []StopRule `yaml:"stop"`                   // rules that end a model's training early; the first that is met counts
	RestoreBest     bool       `yaml:"restore_best"`           // a model that a rule stops is taken back to the audit that is best by the first rule
}

// Group is a symmetry group to audit. Translations are audited at the last step of each probe trajectory that does not touch the
// end of the time domain, as the paper does, and all others, D4 for instance, at the first.
type Group struct {
	Name       string          `yaml:"name"`                 // of the group, or of several with * between them for their product
	Stride     float64         `yaml:"stride,omitempty"`     // between translations, and for these alone; a fraction is interpolated
	Velocities []orbits.Vector `yaml:"velocities,omitempty"` // of boosts alone, each {x: ..., y: ...}
	Factors    []float64       `yaml:"factors,omitempty"`    // of scalings alone
	Elements   []string        `yaml:"elements,omitempty"`   // of the group that are audited, by name, such as r or t(0,4), beside the identity; []: all
}

// StopRule ends a model's training when a monitored value is good enough, has stopped getting better, or has become bad. At least one of
// Threshold, Patience and Divergence must be set.
type StopRule struct {
	Monitor    string   `yaml:"monitor"`    // what is watched: the median over probes and elements of a group
	Mode       string   `yaml:"mode"`       // which way it gets better
	Threshold  *float64 `yaml:"threshold"`  // good enough: all of the value's interval is at least (maximize) or at most (minimize) this; left out: never
	Patience   int      `yaml:"patience"`   // in a row without an improvement; 0: for ever
	MinDelta   float64  `yaml:"min_delta"`  // by how much more than the best so far an improvement must be
	Divergence *float64 `yaml:"divergence"` // bad: all of the interval is worse than this; left out: never
	FirstStep  int64    `yaml:"first_step"` // before which audits count for nothing
}

// Default is a run at 32x32 with both tiny models. The demo's configuration is smaller.
func Default() Config {
	data := euler.Default()
	data.Resolution, data.Snapshots = 32, 17
	return Config{
		Data:     Data{Families: familyNames(), Trajectories: 32, Probes: 3, Euler: data},
		Models:   []Model{{Name: "unet", Preset: "tiny-unet"}, {Name: "vit", Preset: "tiny-vit"}, {Name: "fno", Preset: "tiny-fno"}},
		Training: Training{Epochs: 10, BatchSize: 16, LearningRate: 5e-4, WeightDecay: 1e-6, KeepCheckpoints: 2, Evaluate: true},
		Audit: Audit{
			EveryEpochs: 1, Groups: []Group{{Name: orbits.D4Name}, {Name: orbits.TranslationsName, Stride: 8}},
			RelativeLambdas: []float64{audit.DefaultRelativeLambda}, Metric: string(audit.MetricNTK), MetricScale: string(audit.MetricMean),
			Estimator: string(audit.Block), DType: "auto",
		},
	}
}

// seeds are those of the trainings of each model.
func (c Config) seeds() []int64 {
	if len(c.Seeds) == 0 {
		return []int64{c.Seed}
	}
	return c.Seeds
}

// Trainings names the trainings of a run in the order in which they are made, as a Watcher hears of them: by the model, and where there are several seeds
// with the seed, "unet, seed 1".
func (c Config) Trainings() (names []string) {
	for _, seed := range c.seeds() {
		for _, m := range c.Models {
			names = append(names, c.training(m.Name, seed))
		}
	}
	return names
}

// Extended is the configuration of a run that is trained for more epochs than it was begun with.
func (c Config) Extended(epochs int) (Config, error) {
	switch t := c.Training; {
	case epochs < t.Epochs:
		return c, keyError("training.epochs", "is %d, and the run was begun for %d; it can be given more, not fewer", epochs, t.Epochs)
	case epochs > t.Epochs && t.Rate == cosineRate:
		return c, keyError("training.epochs", "is %d, and the learning rate of the run has been going to zero at epoch %d (training.rate: %s); begin a run of as many epochs", epochs, t.Epochs, cosineRate)
	}
	c.Training.Epochs = epochs
	return c, nil
}

func (c Config) training(model string, seed int64) string {
	if len(c.Seeds) == 0 {
		return model
	}
	return fmt.Sprintf("%s, seed %d", model, seed)
}

// KeyError names a key of a configuration that cannot work.
type KeyError struct {
	Key   string // with those that it belongs to: "training.epochs"
	Fault string // what is wrong with it and what would be right: "is 0; it must be at least 1"
}

func (e *KeyError) Error() string { return "trainer: " + e.Key + " " + e.Fault }

func keyError(key, fault string, args ...any) error {
	return &KeyError{key, fmt.Sprintf(fault, args...)}
}

// Validate reports the first setting that cannot work, with its value and the remedy.
func (c Config) Validate() error {
	data, err := c.Data.describe()
	if err != nil {
		return err
	}
	if len(c.Models) == 0 {
		return keyError("models", "is empty; name at least one")
	}
	seen := make(map[string]bool)
	for _, m := range c.Models {
		if m.Name == "" || len(m.Name) > longestName || strings.ContainsAny(m.Name, "/\\ ") || strings.HasPrefix(m.Name, ".") || !utf8.ValidString(m.Name) || strings.ContainsFunc(m.Name, unicode.IsControl) {
			return keyError("models", "has one called %q, which cannot name a folder; use letters, digits and dashes, %d at most", m.Name, longestName)
		}
		if seen[m.Name] {
			return keyError("models", "has two called %q; give each a name of its own", m.Name)
		}
		seen[m.Name] = true
		if err := m.validate(data.Grid); err != nil {
			return cause.Say(fmt.Sprintf("trainer: model %q on the grid %s: %s", m.Name, c.Data.grid(data), cause.Plain(err)), err)
		}
	}
	for i, seed := range c.Seeds {
		if slices.Contains(c.Seeds[:i], seed) {
			return keyError("seeds", "lists %d twice; leave one out", seed)
		}
	}
	if err := c.validateDevices(data); err != nil {
		return err
	}
	if err := c.Training.validate(data, c.Data.steps(data)); err != nil {
		return err
	}
	return c.Audit.validate(data)
}

// Validate reports the first setting that cannot work, where data are generated. That needs no other part of a configuration.
func (d Data) Validate() error {
	if err := d.validateCounts(); err != nil {
		return err
	}
	for i, family := range d.Families {
		if !slices.Contains(familyNames(), family) {
			return keyError("data.families", "has the unknown %q; use some of %v", family, familyNames())
		}
		if slices.Contains(d.Families[:i], family) {
			return keyError("data.families", "lists %q twice; leave one out", family)
		}
	}
	if err := d.Euler.Validate(); err != nil {
		return cause.Say("trainer: data.euler."+cause.Plain(err), err)
	}
	if need := d.gib(); need > mostGiB {
		return keyError("data.trajectories", "is %d; with data.validation, data.probes and data.euler that is %.0f GiB of states, and %d is the most; use fewer trajectories or snapshots, or a lower resolution",
			d.Trajectories, need, mostGiB)
	}
	if d.Steps >= d.Euler.Snapshots {
		return keyError("data.steps", "is %d, and the trajectories of data.euler.snapshots have %d; use fewer, or 0 for all", d.Steps, d.Euler.Snapshots-1)
	}
	return nil
}

func (d Data) validateCounts() error {
	if len(d.Families) == 0 {
		return keyError("data.families", "is empty; name at least one")
	}
	for _, count := range []struct {
		key   string
		value int
	}{{"data.trajectories", d.Trajectories}, {"data.probes", d.Probes}} {
		if count.value < 1 || count.value > mostTrajectories {
			return keyError(count.key, "is %d; it must be between 1 and %d", count.value, mostTrajectories)
		}
	}
	if d.Validation < 0 || d.Validation > mostTrajectories {
		return keyError("data.validation", "is %d; it must be between 1 and %d, or 0 for none", d.Validation, mostTrajectories)
	}
	if d.Steps < 0 {
		return keyError("data.steps", "is %d; it must be positive, or 0 for all", d.Steps)
	}
	return nil
}

// familyNames are those that the generator knows.
func familyNames() (names []string) {
	for _, family := range euler.Families() {
		names = append(names, string(family))
	}
	return names
}

// grid names that of the data, and where it comes from.
func (d Data) grid(of dataset.Description) string {
	if d.Directory == "" {
		return fmt.Sprintf("of data.euler.resolution %d", d.Euler.Resolution)
	}
	return fmt.Sprintf("%d of the data in %s", of.Grid, d.Directory)
}

const (
	mostTrajectories = 1_000_000 // of a family
	mostGiB          = 1024      // of all states, which are held in memory or written to a disk
	mostEpochs       = 1_000_000
)

// gib is the memory of all states.
func (d Data) gib() float64 {
	const single = 4 // bytes
	state := float64(d.Euler.Resolution) * float64(d.Euler.Resolution) * euler.Channels * single
	return float64(len(d.Families)) * float64(d.Trajectories+d.Validation+d.Probes) * float64(d.Euler.Snapshots) * state / (1 << 30)
}

func (t Training) validate(data dataset.Description, steps int) error {
	switch {
	case t.Epochs < 1 || t.Epochs > mostEpochs:
		return keyError("training.epochs", "is %d; it must be between 1 and %d", t.Epochs, mostEpochs)
	case t.BatchSize < 1:
		return keyError("training.batch_size", "is %d; it must be at least 1", t.BatchSize)
	case t.Unroll < 0 || t.Unroll > steps:
		return keyError("training.unroll", "is %d; it must be between 1 and the %d steps of a trajectory, or 0 for 1", t.Unroll, steps)
	case !(t.LearningRate > 0 && t.LearningRate <= 1):
		return keyError("training.learning_rate", "is %g; it must be above 0 and at most 1, for a step of Adam moves each weight by about as much", t.LearningRate)
	case t.Rate != "" && t.Rate != constantRate && t.Rate != cosineRate:
		return keyError("training.rate", "is %q; use %s or %s", t.Rate, constantRate, cosineRate)
	case !(t.WeightDecay >= 0 && t.WeightDecay <= 1):
		return keyError("training.weight_decay", "is %g; it must be between 0 and 1", t.WeightDecay)
	case t.Devices < 0 || t.Devices > t.BatchSize:
		return keyError("training.devices", "is %d; it must be between 1 and training.batch_size, %d, or 0 for 1", t.Devices, t.BatchSize)
	case t.SaveEvery < 0:
		return keyError("training.save_every", "is %d; it must be positive, or 0 for no checkpoint within an epoch", t.SaveEvery)
	case t.KeepCheckpoints < 1:
		return keyError("training.keep_checkpoints", "is %d; it must be at least 1, for a killed run resumes from the latest", t.KeepCheckpoints)
	case t.Augment == nil:
		return nil
	}
	group, err := t.Augment.group(data)
	if err == nil {
		err = group.Check(data.Field, data.Grid...)
	}
	switch {
	case err != nil:
		return cause.Say("trainer: training.augment: "+cause.Plain(err), err)
	case t.Unroll > 1 && strings.Contains(t.Augment.Name, orbits.BoostsName):
		return keyError("training.augment", "is %q, and training.unroll %d: a boost carries each further state further along, which it is not told; use another group, or leave one of them out", t.Augment.Name, t.Unroll)
	}
	return nil
}

// validateDevices refuses batches that cannot be dealt out evenly.
func (c Config) validateDevices(data dataset.Description) error {
	devices := c.Training.Devices
	if devices < 2 || c.Training.BatchSize < 1 || c.Training.Unroll < 0 {
		return nil
	}
	transitions := c.transitions(data)
	batch := min(c.Training.BatchSize, transitions)
	if last := transitions % batch; batch%devices != 0 || last%devices != 0 {
		if last == 0 {
			last = batch
		}
		return keyError("training.devices", "is %d, and among these the %d transitions of a batch, and the %d of the last of an epoch, cannot be dealt out evenly; choose another training.batch_size or data.trajectories", devices, batch, last)
	}
	return nil
}

// Values of Training.Rate.
const (
	constantRate = "constant"
	cosineRate   = "cosine"
)

// longestName leaves room for what is put before and after a name in a file system that takes 255 bytes.
const longestName = 100

// Beyond these, limits are no longer what is written: nanoseconds round to none, and they and bytes overflow.
const (
	leastSeconds = 1e-3
	mostSeconds  = 1e9
	mostMiB      = 1 << 40
)

// configure sets what an auditor's solves depend on, of settings that validate has let through.
func (a Audit) configure(b *audit.Builder, channels []string) *audit.Builder {
	dtype, _ := a.dtype()
	directions, _ := a.directions(channels)
	b.WithDType(dtype).
		WithDirections(directions...).
		WithRelativeLambda(a.RelativeLambdas...).
		WithMetric(audit.Metric(a.Metric)).
		WithEstimator(audit.Estimator(a.Estimator)).
		WithTolerance(a.Tolerance).
		WithMaxProducts(a.MaxProducts).
		WithMaxTime(time.Duration(a.MaxSeconds * float64(time.Second))).
		WithMaxBytes(a.MaxMiB << 20)
	if a.Pictures {
		b.WithPictures()
	}
	if a.LocalErrors {
		b.WithLocalErrors()
	}
	if a.Layers {
		b.WithLayers()
	}
	if a.Spectrum {
		b.WithSpectrum()
	}
	return b.WithMetricScale(audit.MetricScale(a.MetricScale))
}

// Values of Audit.MetricOver.
const (
	overProbes       = "probes"
	overTrajectories = "trajectories"
)

// byKey says what an audit says of its settings of the keys that they have here.
func byKey(err error) error {
	var fault *audit.SettingError
	if !errors.As(err, &fault) {
		return err
	}
	key := map[string]string{"relative_lambda": "relative_lambdas", "max_bytes": "max_mib"}[fault.Setting]
	known := &KeyError{"audit." + cmp.Or(key, fault.Setting), fault.Fault}
	return cause.Say("trainer: "+strings.Replace(cause.Plain(err), cause.Plain(fault), cause.Plain(known), 1), errors.Join(known, err))
}

func (a Audit) validate(data dataset.Description) error {
	switch {
	case a.Recycle:
		return keyError("audit.recycle", "is true, and audits start from what earlier ones have shown no longer: leave the key out (docs/design/0004-recycling.md says why)")
	case a.EveryEpochs < 1:
		return keyError("audit.every_epochs", "is %d; it must be at least 1", a.EveryEpochs)
	case a.Schedule != "" && a.EveryEpochs != 1:
		return keyError("audit.schedule", "is %q, and audit.every_epochs is %d: both say when to audit; leave one out", a.Schedule, a.EveryEpochs)
	case !(a.Budget >= 0 && a.Budget <= 1):
		return keyError("audit.budget", "is %g; it must be a share of the time, such as 0.05, or 0 for no limit", a.Budget)
	case len(a.Groups) == 0:
		return keyError("audit.groups", "is empty; name at least one")
	case a.MaxSeconds != 0 && !(a.MaxSeconds >= leastSeconds && a.MaxSeconds <= mostSeconds):
		return keyError("audit.max_seconds", "is %g; it must be between %g and %g, or 0 for no limit", a.MaxSeconds, leastSeconds, mostSeconds)
	case a.MaxMiB < 0 || a.MaxMiB > mostMiB:
		return keyError("audit.max_mib", "is %d; it must be between 1 and %d, or 0 for 4096", a.MaxMiB, int64(mostMiB))
	}
	if err := a.configure(audit.New[models.Fn](nil, nil, nil), data.Field.Channels).Check(); err != nil {
		return byKey(err)
	}
	if _, err := a.dtype(); err != nil {
		return err
	}
	if _, err := a.directions(data.Field.Channels); err != nil {
		return err
	}
	if over := a.MetricOver; over != "" && over != overProbes && over != overTrajectories {
		return keyError("audit.metric_over", "is %q; use %s or %s", over, overProbes, overTrajectories)
	}
	var generators []orbits.Generator
	for i, g := range a.Groups {
		if slices.ContainsFunc(a.Groups[:i], func(other Group) bool { return other.Name == g.Name }) {
			return keyError("audit.groups", "lists %q twice; leave one out", g.Name)
		}
		group, err := g.group(data)
		if err == nil {
			err = group.Check(data.Field, data.Grid...)
		}
		if err != nil {
			return cause.Say("trainer: audit.groups: "+cause.Plain(err), err)
		}
		generators = append(generators, group.Generators(data.Grid...)...)
	}
	if a.LocalErrors && len(generators) == 0 {
		return keyError("audit.local_errors", "is set, and no group in audit.groups has elements near the identity; add %s, %s or %s, or leave the key out", orbits.TranslationsName, orbits.BoostsName, orbits.ScalingsName)
	}
	if _, err := a.schedules(); err != nil {
		return err
	}
	if err := a.validateSinks(); err != nil {
		return err
	}
	if a.RestoreBest && len(a.Stop) == 0 {
		return keyError("audit.restore_best", "is set, but no rule in audit.stop says what is best; add one")
	}
	_, err := a.stopRules()
	return err
}

var groupNames = []string{
	orbits.D4Name, orbits.C4Name, orbits.ReflectionsName, orbits.TranslationsName, orbits.BoostsName, orbits.ScalingsName,
	orbits.D4GridOnlyName, orbits.ReflectionsGridOnlyName,
}

// group is what is meant, for data that are so described.
func (g Group) group(data dataset.Description) (orbits.Group, error) {
	names := strings.Split(g.Name, "*")
	factors := make([]orbits.Group, len(names))
	for i, name := range names {
		switch name {
		case orbits.D4Name:
			factors[i] = orbits.D4()
		case orbits.C4Name:
			factors[i] = orbits.C4()
		case orbits.ReflectionsName:
			factors[i] = orbits.Reflections()
		case orbits.D4GridOnlyName:
			factors[i] = orbits.D4GridOnly()
		case orbits.ReflectionsGridOnlyName:
			factors[i] = orbits.GridOnly(orbits.Reflections())
		case orbits.TranslationsName:
			factors[i] = orbits.Translations(g.Stride)
		case orbits.BoostsName:
			factors[i] = orbits.Boosts(data.Interval*float64(data.Grid[len(data.Grid)-1]), g.Velocities...)
		case orbits.ScalingsName:
			factors[i] = orbits.Scalings(g.Factors...)
		case orbits.OctahedralName:
			return orbits.Group{}, fmt.Errorf("%s is of states with three axes of space, and these have %d; use %s", name, len(data.Grid), orbits.D4Name)
		case "":
			return orbits.Group{}, fmt.Errorf("the name %q lacks a group; use one of %s, or a product of them, such as d4*translations", g.Name, strings.Join(groupNames, ", "))
		default:
			return orbits.Group{}, fmt.Errorf("unknown group %q; use one of %s, or a product of them, such as d4*translations", name, strings.Join(groupNames, ", "))
		}
	}
	for _, setting := range []struct {
		key, of string
		given   bool
	}{
		{"stride", orbits.TranslationsName, g.Stride != 0},
		{"velocities", orbits.BoostsName, g.Velocities != nil},
		{"factors", orbits.ScalingsName, g.Factors != nil},
	} {
		if setting.given && !slices.Contains(names, setting.of) {
			return orbits.Group{}, fmt.Errorf("%q has %s, which is for %s alone; leave it out", g.Name, setting.key, setting.of)
		}
	}
	group := orbits.Product(factors...)
	if len(g.Elements) > 0 {
		group = group.Some(g.Elements...)
	}
	return group, nil
}

func (a Audit) dtype() (dtypes.DType, error) {
	switch a.DType {
	case "auto":
		return dtypes.InvalidDType, nil
	case "float64":
		return dtypes.Float64, nil
	case "float32":
		return dtypes.Float32, nil
	}
	return dtypes.InvalidDType, keyError("audit.dtype", "is %q; use auto, float64 or float32", a.DType)
}

// directions are those of an auditor of states with some channels.
func (a Audit) directions(channels []string) (all []audit.Direction, err error) {
	for i, name := range a.Directions {
		channel, total := strings.CutPrefix(name, "total_")
		switch {
		case slices.Contains(a.Directions[:i], name):
			return nil, keyError("audit.directions", "lists %q twice; leave one out", name)
		case name == audit.LossName:
			all = append(all, audit.LossDirection())
		case name == audit.KernelName:
			all = append(all, audit.KernelDirection(a.KernelDraws))
		case total && slices.Contains(channels, channel):
			all = append(all, audit.TotalDirection(channel))
		default:
			return nil, keyError("audit.directions", "has the unknown %q; use some of %s, %s, total_%s", name, audit.LossName, audit.KernelName, strings.Join(channels, ", total_"))
		}
	}
	switch {
	case a.KernelDraws < 0:
		return nil, keyError("audit.kernel_draws", "is %d; it must be positive, or 0 for %d", a.KernelDraws, audit.DefaultKernelDraws)
	case a.KernelDraws > 0 && !slices.Contains(a.Directions, audit.KernelName):
		return nil, keyError("audit.kernel_draws", "is %d, and audit.directions does not list %s; add it, or leave the key out", a.KernelDraws, audit.KernelName)
	case len(all) == 0:
		all = append(all, audit.LossDirection())
	}
	return all, nil
}

// DirectionNames are the names of the directions in the tables, of a configuration that is valid.
func (a Audit) DirectionNames() []string {
	var totals []string
	for _, name := range a.Directions {
		totals = append(totals, strings.TrimPrefix(name, "total_"))
	}
	directions, _ := a.directions(totals)
	return audit.DirectionNames(directions...)
}

// monitored are the names that monitors begin with: of each group, and of each direction in it.
func (a Audit) monitored() (names []string) {
	for _, g := range a.Groups {
		names = append(names, g.Name)
		for _, direction := range a.DirectionNames() {
			names = append(names, g.Name+"/"+direction)
		}
	}
	return names
}

// schedules say when to audit.
func (a Audit) schedules() ([]hooks.Schedule, error) {
	if a.Schedule == "" {
		return []hooks.Schedule{hooks.EveryEpochs(a.EveryEpochs)}, nil
	}
	all, err := hooks.ParseSchedule(a.Schedule)
	if err != nil {
		return nil, cause.Say("trainer: audit.schedule: "+cause.Plain(err), err)
	}
	return all, nil
}

func (a Audit) stopRules() ([]hooks.StopRule, error) {
	var rules []hooks.StopRule
	for _, r := range a.Stop {
		rule := hooks.StopRule{Monitor: r.Monitor, Threshold: r.Threshold, Patience: r.Patience, MinDelta: r.MinDelta, Divergence: r.Divergence, FirstStep: r.FirstStep}
		switch r.Mode {
		case "maximize":
			rule.Mode = hooks.Maximize
		case "minimize":
			rule.Mode = hooks.Minimize
		default:
			return nil, keyError("audit.stop", "has the mode %q for %q; use maximize or minimize", r.Mode, r.Monitor)
		}
		if err := rule.Validate(); err != nil {
			return nil, cause.Say("trainer: audit.stop: "+cause.Plain(err), err)
		}
		if of := r.Monitor[:strings.LastIndex(r.Monitor, "/")]; !slices.Contains(a.monitored(), of) {
			group, direction, directed := strings.Cut(of, "/")
			if known := slices.ContainsFunc(a.Groups, func(g Group) bool { return g.Name == group }); known && directed {
				return nil, keyError("audit.stop", "watches %q, and audit.directions does not list %q; add it, or watch another", r.Monitor, direction)
			}
			return nil, keyError("audit.stop", "watches %q, and audit.groups does not list %q; add it, or watch another", r.Monitor, group)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// String is the configuration as YAML, every key written out.
func (c Config) String() string {
	text, err := yaml.Marshal(c)
	if err != nil { // a struct of plain values always can be written
		panic(err)
	}
	return string(text)
}
