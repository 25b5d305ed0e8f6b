package trainer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/gomlx/compute/dtypes"

	"github.com/symaudit/symaudit/audit"
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
	// Symmetrize is a group, d4, c4 or reflections, over whose elements g the mean of g^-1 f(g x) is predicted in place of f(x). That is exactly equivariant
	// whatever the weights, and costs as many times as much as the group has elements; empty: f(x).
	Symmetrize string `yaml:"symmetrize,omitempty"`
}

// architecture is what all models can do.
type architecture interface {
	Validate(grid ...int) error
	Fn() models.Fn
}

// resolve returns the one architecture that is meant, with the data's normalization. A training says how it is computed; audits give none: Training{}.
func (m Model) resolve(n models.Normalization, in Training) (architecture, error) {
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
		unet.Normalization, unet.Recompute, unet.DType = n, in.Recompute, computeTypes[in.DType]
		return unet, nil
	case m.ViT != nil:
		vit := *m.ViT
		vit.Normalization, vit.Recompute, vit.DType = n, in.Recompute, computeTypes[in.DType]
		return vit, nil
	case m.FNO != nil:
		fno := *m.FNO
		fno.Normalization, fno.Recompute, fno.DType = n, in.Recompute, computeTypes[in.DType]
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
	return spelledOut.resolve(n, in)
}

func (m Model) validate(data dataset.Description) error {
	if m.Symmetrize != "" {
		group, known := wholeGroups[m.Symmetrize]
		if !known {
			return fmt.Errorf("symmetrize is %q; use one of %s, whose elements are a whole group", m.Symmetrize, strings.Join(slices.Sorted(maps.Keys(wholeGroups)), ", "))
		}
		if err := group.Check(data.Field, data.Grid...); err != nil {
			return cause.Say("symmetrize: "+cause.Plain(err), err)
		}
	}
	network, err := m.resolve(models.Normalization{}, Training{})
	if err != nil {
		return err
	}
	return network.Validate(data.Grid...)
}

// wholeGroups are those that Symmetrize can average over.
var wholeGroups = map[string]orbits.Group{orbits.D4Name: orbits.D4(), orbits.C4Name: orbits.C4(), orbits.ReflectionsName: orbits.Reflections()}

// fn is the graph function of resolve, symmetrized if asked for, for a configuration that is valid.
func (m Model) fn(data dataset.Description, n models.Normalization, in Training) models.Fn {
	network, _ := m.resolve(n, in)
	if m.Symmetrize == "" {
		return network.Fn()
	}
	elements, _ := wholeGroups[m.Symmetrize].Elements(data.Grid...)
	return models.Symmetrize(network.Fn(), data.Field, elements)
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
	DType           string  `yaml:"dtype,omitempty"`      // number type that the models compute in while they are trained: "float32", or "bfloat16", where weights and sums over many cells stay in float32; audits and table evaluation do not use it; "": float32
	Recompute       bool    `yaml:"recompute,omitempty"`  // compute each step of a prediction again in the backward pass, and each block of its model: less memory for more time
	Devices         int     `yaml:"devices,omitempty"`    // of the backend, among which each batch is dealt out evenly; 0: one
	SaveEvery       int     `yaml:"save_every,omitempty"` // steps between checkpoints besides that after each epoch; a killed run repeats what came after the latest; 0: none
	KeepCheckpoints int     `yaml:"keep_checkpoints"`     // latest to keep of each model, one an epoch; at least 1
}

// computeTypes are the values of Training.DType.
var computeTypes = map[string]dtypes.DType{"": dtypes.InvalidDType, "float32": dtypes.InvalidDType, "bfloat16": dtypes.BFloat16}

// Audit says what is audited and how precisely.
type Audit struct {
	EveryEpochs     int        `yaml:"every_epochs"`       // between audits; the last step is audited in any case
	Schedule        string     `yaml:"schedule,omitempty"` // when to audit, in words, in place of every_epochs: "every 500 steps or every 10m", "at doubling steps from 100", "20 times"
	Budget          float64    `yaml:"budget,omitempty"`   // largest share of the time that audits may take, 0.05 for 5 %: those beyond it are left out, but the last; 0: no limit
	Groups          []Group    `yaml:"groups"`
	Directions      []string   `yaml:"directions,omitempty"`   // what influence is of: "loss", "kernel", or "total_" and a channel; []: the loss
	KernelDraws     int        `yaml:"kernel_draws,omitempty"` // changes of the data that stand for the kernel, in the direction kernel; 0: the default
	Pictures        bool       `yaml:"pictures,omitempty"`     // also table pictures: states and outputs of the samples that commute best, in the middle and worst; and, where training.evaluate is true, table rollouts: the best, middle and worst rollouts beside what is true
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

// Group is a symmetry group: one that is audited, or the one of training.augment. Translations are audited at the last step of each probe trajectory that
// does not touch the end of the time domain, as in the paper, and all others, D4 for instance, at the first.
type Group struct {
	Name       string          `yaml:"name"`                 // of the group, or of several with * between them for their product
	Stride     float64         `yaml:"stride,omitempty"`     // between translations, and for these alone; a fraction is interpolated
	Velocities []orbits.Vector `yaml:"velocities,omitempty"` // of boosts alone, each {x: ..., y: ...}
	Factors    []float64       `yaml:"factors,omitempty"`    // of scalings alone
	Elements   []string        `yaml:"elements,omitempty"`   // of the group that are used, by name, such as r or t(0,4), beside the identity; []: all
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

// String is the configuration as YAML, every key written out.
func (c Config) String() string {
	text, err := yaml.Marshal(c)
	if err != nil { // a struct of plain values always can be written
		panic(err)
	}
	return string(text)
}
