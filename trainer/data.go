package trainer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/gomlx/compute"

	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
	"github.com/symaudit/symaudit/trainer/euler"
)

// GenerateData solves for the trajectories that a configuration's data section asks for, those to train on, then those for validation and then the probes, and writes them as a data
// set into a directory that must not exist; with resume it goes on where an earlier call was killed or cancelled. progress, which may be nil, counts
// trajectories over all families. backend is the name of what computes, for the description.
func GenerateData(ctx context.Context, on compute.Backend, backend string, config Config, dir string, resume bool, progress func(done, total int)) (*dataset.Set, error) {
	if err := config.Data.Validate(); err != nil {
		return nil, err
	}
	writer, err := dataset.Create(dir, config.Data.generated(config.Seed, backend), resume)
	if err != nil {
		return nil, cause.In("trainer", err)
	}
	return generate(ctx, on, config, writer, progress)
}

// Plan is what GenerateData would do.
type Plan struct {
	Missing, Total int   // trajectories, over all families; fewer are missing where an earlier call was killed
	Bytes          int64 // of the arrays when all are there

	config  Config
	missing [][]int
}

// PlanData returns what GenerateData would do, or the error that it would begin with. It changes nothing.
func PlanData(backend string, config Config, dir string, resume bool) (plan Plan, err error) {
	if err := config.Data.Validate(); err != nil {
		return plan, err
	}
	description := config.Data.generated(config.Seed, backend)
	missing, err := dataset.Plan(dir, description, resume)
	if err != nil {
		return plan, cause.In("trainer", err)
	}
	plan = Plan{Total: len(missing) * description.Trajectories, Bytes: description.Bytes(), config: config, missing: missing}
	for _, of := range missing {
		plan.Missing += len(of)
	}
	return plan, nil
}

// Estimate is how long it would take, judged by a first interval of each family.
func (p Plan) Estimate(on compute.Backend) (all time.Duration, err error) {
	for f, missing := range p.missing {
		if len(missing) == 0 {
			continue
		}
		each, err := euler.Estimate(on, p.config.Data.Euler, euler.Family(p.config.Data.Families[f]), len(missing), p.config.Seed)
		if err != nil {
			return 0, cause.In("trainer", err)
		}
		all += each
	}
	return all, nil
}

// generate solves for what a data set lacks.
func generate(ctx context.Context, on compute.Backend, config Config, writer *dataset.Writer, progress func(done, total int)) (*dataset.Set, error) {
	data := config.Data
	total := len(data.Families) * (data.Trajectories + data.Validation + data.Probes)
	left := 0
	for f := range data.Families {
		left += len(writer.Missing(f))
	}
	for f, family := range data.Families {
		err := euler.Stream(ctx, on, data.Euler, euler.Family(family), writer.Missing(f), config.Seed, func(trajectory int, states []float32) error {
			if err := writer.Put(f, trajectory, states); err != nil {
				return err
			}
			if left--; progress != nil {
				progress(total-left, total)
			}
			return nil
		})
		if err != nil {
			return nil, cause.In("trainer", errors.Join(err, writer.Close()))
		}
	}
	set, err := writer.Finish()
	return set, cause.In("trainer", err)
}

// generated describes what the generator makes.
func (d Data) generated(seed int64, backend string) dataset.Description {
	of := d.Euler
	of.Trajectories, of.Workers = 1, 0 // they never change a value
	settings, err := yaml.Marshal(of)
	if err == nil {
		settings, err = yaml.YAMLToJSON(settings)
	}
	if err != nil { // a struct of plain values always can be written
		panic(err)
	}
	origin, err := json.Marshal(map[string]any{
		"generator": "symaudit", "seed": seed, "backend": backend, "euler": json.RawMessage(settings), // rounding differs between backends
	})
	if err != nil {
		panic(err)
	}
	description := dataset.Description{
		Field: orbits.EulerField(), Grid: []int{of.Resolution, of.Resolution}, Snapshots: of.Snapshots, Interval: of.Interval, Origin: origin,
	}
	for _, family := range d.Families {
		description.Families = append(description.Families, dataset.Family{Name: family, Label: euler.Family(family).Label()})
	}
	return description.InOrder(d.Trajectories, d.Validation, d.Probes)
}

// describe says what the data are that a configuration names, which may be those of a directory.
func (d Data) describe() (dataset.Description, error) {
	if d.Directory == "" {
		if err := d.Validate(); err != nil {
			return dataset.Description{}, err
		}
		return d.generated(0, ""), nil
	}
	if err := d.validateCounts(); err != nil {
		return dataset.Description{}, err
	}
	description, err := dataset.ReadDescription(d.Directory)
	var missing *dataset.MissingError
	if errors.As(err, &missing) {
		err = keyError("data.directory", "is %q, which %s", d.Directory, missing.Fault())
	}
	if err != nil {
		return description, cause.In("trainer", err)
	}
	return description, d.selects(description)
}

// selects refuses a selection that a data set does not have.
func (d Data) selects(from dataset.Description) error {
	for i, family := range d.Families {
		if from.Family(family) < 0 {
			var names []string
			for _, known := range from.Families {
				names = append(names, known.Name)
			}
			return keyError("data.families", "has %q, and the data in %s have no such family; use some of %q", family, d.Directory, names)
		}
		if slices.Contains(d.Families[:i], family) {
			return keyError("data.families", "lists %q twice; leave one out", family)
		}
	}
	for _, want := range []struct {
		key, split string
		count      int
	}{{"data.trajectories", dataset.Train, d.Trajectories}, {"data.validation", dataset.Validation, d.Validation}, {"data.probes", dataset.Test, d.Probes}} {
		if split := from.Split(want.split); split.Count < want.count {
			return keyError(want.key, "is %d, and the data in %s have %d trajectories of each family in their split %q; use as many, or other data", want.count, d.Directory, split.Count, want.split)
		}
	}
	for _, said := range []struct {
		key        string
		value, has float64
	}{
		{"resolution", float64(d.Euler.Resolution), float64(from.Grid[len(from.Grid)-1])}, {"snapshots", float64(d.Euler.Snapshots), float64(from.Snapshots)},
		{"interval", d.Euler.Interval, from.Interval},
	} {
		if said.value != 0 && said.value != said.has {
			return keyError("data.euler."+said.key, "is %g, and that of the data in %s is %g; leave data.euler out, or name other data", said.value, d.Directory, said.has)
		}
	}
	if d.Steps >= from.Snapshots {
		return keyError("data.steps", "is %d, and the trajectories have %d; use fewer, or 0 for all", d.Steps, from.Snapshots-1)
	}
	return nil
}

// openDirectory opens data that are as they were written and behave as their field says.
func openDirectory(dir string, options Options) (*dataset.Set, error) {
	set, err := dataset.Open(dir)
	if err != nil {
		return nil, err
	}
	if set.Bytes() <= verified {
		err = set.Verify(nil)
	}
	doubt := ""
	if err == nil {
		doubt, err = set.CheckField()
	}
	if err != nil {
		return nil, errors.Join(err, set.Close())
	}
	if doubt != "" {
		options.Log.Warn().Str("directory", dir).Msg("whether the field is declared as the states behave cannot be told: " + doubt)
	}
	return set, nil
}

// verified is the size of data that take seconds to read: whether they are as they were written is found out before each training. Of larger ones
// `symaudit data verify` tells, and each snapshot when it is read.
const verified = 1 << 30 // bytes

// openData opens the data of a configuration that is valid, or generates them.
func openData(ctx context.Context, config Config, options Options) (*states, error) {
	var set *dataset.Set
	var err error
	if dir := config.Data.Directory; dir != "" {
		set, err = openDirectory(dir, options)
	} else {
		var writer *dataset.Writer
		if writer, err = dataset.InMemory(config.Data.generated(config.Seed, options.backendName())); err == nil {
			set, err = generate(ctx, options.Backend, config, writer, options.Watcher.Generating)
		}
	}
	if err != nil {
		return nil, cause.In("trainer", err)
	}
	return newStates(config, set), nil
}

// steps is how many steps of each trajectory are used.
func (d Data) steps(of dataset.Description) int { return cmp.Or(d.Steps, of.Snapshots-1) }
