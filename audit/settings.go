package audit

import (
	"fmt"
	"strings"
	"time"

	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/internal/fieldcheck"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver"
)

// SettingProbes begins the names of the settings that identify the probes of each group: SHA-256 over their values and samples.
const SettingProbes = "probes of "

// Settings are what the auditor's values depend on, by name and in words, defaults filled in. Values of audits with others are no
// part of one series: a *writers.Run notes these for each model, and refuses to go on with others.
func (a *Auditor) Settings() map[string]string {
	b := a.config
	all := map[string]string{
		"field": describeField(b.field),
		"dtype": strings.ToLower(b.dtype.String()),
	}
	switch {
	case b.invariant:
		all["output"] = "invariant"
	case b.output != nil:
		all["output"] = describeField(*b.output)
	}
	if b.pick != nil {
		all["model_output"] = fmt.Sprint(*b.pick)
	}
	if b.seed != nil {
		all["noise_seed"] = fmt.Sprint(*b.seed)
	}
	for i, o := range a.orbits {
		var elements []string
		for _, element := range o.elements {
			elements = append(elements, element.Name())
		}
		all["group "+o.group.Name] = fmt.Sprintf("%s; %d probes in batches of %d", strings.Join(elements, " "), len(o.samples), o.batchSize)
		all[SettingProbes+o.group.Name] = a.probeHashes[i]
	}
	if b.local {
		all["local_errors"] = "true"
	}
	if b.forward {
		all["influence"] = "none"
		return all
	}
	name := "lambda"
	if b.damping.relative {
		name = "relative_lambda"
	}
	var values []string
	for _, value := range b.damping.values {
		values = append(values, fmt.Sprint(value))
	}
	all[name] = strings.Join(values, ", ")
	all["metric"], all["estimator"] = string(b.metric), string(b.estimator)
	all["metric_scale"] = string(b.scale)
	if names := describeDirections(b.directions); names != LossName { // of which runs of earlier programs are, and say nothing
		all["directions"] = names
	}
	for name, asked := range map[string]bool{"layers": b.layers, "spectrum": b.spectrum} {
		if asked {
			all[name] = "true"
		}
	}
	for i, o := range a.orbits {
		if hash := a.metricHashes[i]; hash != "" {
			all["metric states of "+o.group.Name] = hash
		}
	}
	tolerance := b.solve.Tolerance
	switch {
	case b.estimator == Subspace: // has none
	case tolerance == 0 && b.estimator == Block:
		tolerance = solver.DefaultTolerance
	case tolerance == 0:
		tolerance = solver.DefaultResidual
	}
	if b.estimator != Subspace {
		all["tolerance"] = fmt.Sprint(tolerance)
	}
	if b.solve.MaxProducts > 0 {
		all["max_products"] = fmt.Sprint(b.solve.MaxProducts)
	}
	if b.solve.MaxTime > 0 {
		all["max_seconds"] = fmt.Sprint(float64(b.solve.MaxTime) / float64(time.Second))
	}
	all["max_bytes"] = fmt.Sprint(b.solve.MaxBytes)
	return all
}

func describeDirections(directions []Direction) string {
	var words []string
	for _, d := range directions {
		word := d.name
		if d.name == KernelName {
			word += fmt.Sprintf("(%d)", d.draws)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func describeField(f orbits.Field) string {
	words := strings.Join(f.Channels, " ") + "; " + fieldcheck.Describe(f)
	for _, c := range f.Pseudoscalars {
		words += fmt.Sprintf(", pseudoscalar %s", f.Channels[c])
	}
	if f.Conserved != nil {
		words += fmt.Sprintf(", conserved %+v", *f.Conserved)
	}
	return words
}

// Audits reports whether the auditor audits the model in a store: it reads that store's weights alone.
func (a *Auditor) Audits(store *model.Store) bool { return a.config.source.Store() == store }
