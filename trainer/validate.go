package trainer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/models"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
	"github.com/symaudit/symaudit/trainer/euler"
)

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
		if err := m.validate(data); err != nil {
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
	case !slices.Contains(slices.Collect(maps.Keys(computeTypes)), t.DType):
		return keyError("training.dtype", "is %q; use float32 or bfloat16", t.DType)
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
