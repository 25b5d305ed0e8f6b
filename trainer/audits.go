package trainer

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gomlx/compute/dtypes"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
)

// What the audit section of a configuration stands for.

// Values of Audit.MetricOver.
const (
	overProbes       = "probes"
	overTrajectories = "trajectories"
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
