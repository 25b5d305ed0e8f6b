package trainer

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/cause"
	"github.com/symaudit/symaudit/writers"
)

// Merge makes one run of the shards of an audit of checkpoints: the rows that the audit would have written in one piece, in the same order, but for the seconds
// that solves took. All shards must be there, finished, and of the same audit by the same version. It changes nothing in them.
func Merge(shards []string, out string, command []string) (err error) {
	var all []*writers.Contents
	where := map[string]string{} // a shard's directory
	of := 0
	for _, dir := range shards {
		contents, err := writers.Read(dir)
		if err != nil {
			return err
		}
		info := contents.Info
		shard, err := ParseShard(info.Shard)
		if err != nil || info.Kind != writers.KindShard {
			return fmt.Errorf("trainer: %s holds no shard of an audit; name directories of symaudit audit --shard", dir)
		}
		switch first := where[info.Shard]; {
		case first != "":
			return fmt.Errorf("trainer: %s and %s both hold shard %s; leave one out", first, dir, info.Shard)
		case of != 0 && shard.Of != of:
			return fmt.Errorf("trainer: %s holds shard %s, and %s shard %s; merge shards of one audit", shards[0], all[0].Info.Shard, dir, info.Shard)
		}
		where[info.Shard], of = dir, shard.Of
		if !AuditsFinished(dir) {
			return fmt.Errorf("trainer: shard %s in %s is not finished; go on with it by the command that began it, and --resume", info.Shard, dir)
		}
		all = append(all, contents)
		if err := sameAudit(all[0], contents, shards[0], dir); err != nil {
			return err
		}
	}
	var missing []string
	for i := range of {
		if shard := (Shard{i, of}).String(); where[shard] == "" {
			missing = append(missing, shard)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("trainer: of the %d shards these are missing: %s; make each by symaudit audit with --shard, and name its directory, too", of, strings.Join(missing, ", "))
	}

	first := all[0].Info
	config, err := ParseConfig([]byte(first.Config))
	if err != nil {
		return cause.Say(fmt.Sprintf("trainer: the configuration in %s: %s; restore the file from a copy", shards[0], cause.Plain(err)), err)
	}
	together := &audit.Records{}
	for _, contents := range all {
		together.Add(&contents.Records)
	}
	merged, err := byCheckpoint(config, together)
	if err != nil {
		return err
	}
	run, err := writers.Parquet(out).WithInfo(writers.Info{
		Kind: writers.KindAudit, Command: command, Config: first.Config, Audited: first.Audited, Checkpoints: first.Checkpoints, Seeds: first.Seeds, Backend: first.Backend, BackendReason: first.BackendReason, DataHash: first.DataHash,
	}).Done()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	for _, records := range merged {
		at := records.Errors[0].Moment
		if err := run.Enter(&merged, at.Model, at.Seed, at.Step, settingsOf(all, at)); err != nil {
			return err
		}
		if err := run.Write(records); err != nil {
			return err
		}
	}
	return cause.In("trainer", atomicfile.Write(atomicfile.OS{}, filepath.Join(out, endName), nil))
}

// sameAudit refuses shards that do not belong together.
func sameAudit(a, b *writers.Contents, inA, inB string) error {
	version := func(i writers.Info) string { return i.Versions.Symaudit + i.Revision + ", GoMLX " + i.Versions.GoMLX }
	if what := another(a.Info, b.Info, compared{"backend", a.Info.Backend, b.Info.Backend}, compared{"version", version(a.Info), version(b.Info)}); what != "" {
		return fmt.Errorf("trainer: the shards in %s and %s are not of one audit: each has another %s; make one of them anew", inA, inB, what)
	}
	for _, of := range a.Info.Trainings {
		other := b.Training(of.Model, of.Seed)
		if other == nil {
			continue
		}
		for setting, value := range of.Settings {
			if other.Settings[setting] != value {
				return fmt.Errorf("trainer: the shards in %s and %s are not of one audit of model %q: %s is %s and %s; make one of them anew", inA, inB, of.Model, setting, value, other.Settings[setting])
			}
		}
	}
	return nil
}

// compared is something that two parts of an audit must have alike.
type compared struct{ what, was, is string }

// another names the first thing that two parts of an audit do not have alike, with the line or the key in which it differs: what they are of, and what further ones
// say. It is empty where all is alike.
func another(was, is writers.Info, further ...compared) string {
	lines := func(checkpoints []string) string { return strings.Join(checkpoints, "\n") }
	switch {
	case was.Audited != is.Audited:
		return "training" + firstDifference(was.Audited, is.Audited)
	case was.Config != is.Config:
		return "configuration" + firstKey(was.Config, is.Config)
	}
	for _, c := range append([]compared{
		{"data set", was.DataHash, is.DataHash}, {"list of checkpoints", lines(was.Checkpoints), lines(is.Checkpoints)},
	}, further...) {
		if c.was != c.is {
			return c.what + firstDifference(c.was, c.is)
		}
	}
	return ""
}

// firstKey is the first key in which configurations differ, with those that it belongs to, in brackets.
func firstKey(was, is string) string {
	keys := func(source string) (all map[string]any) {
		_ = yaml.Unmarshal([]byte(source), &all) // of a run that was read
		return all
	}
	path := ""
	before, now := any(keys(was)), any(keys(is))
	for {
		a, b := entries(before), entries(now)
		if a == nil || b == nil {
			break
		}
		names := slices.Sorted(maps.Keys(a))
		names = append(names, slices.Sorted(maps.Keys(b))...)
		at := slices.IndexFunc(names, func(name string) bool { return !reflect.DeepEqual(a[name], b[name]) })
		if at < 0 {
			return firstDifference(was, is) // in how they are written
		}
		path, before, now = path+names[at], a[names[at]], b[names[at]]
	}
	word := func(value any) string {
		if value == nil {
			return "left out"
		}
		return strings.ReplaceAll(fmt.Sprint(value), "map[", "[")
	}
	return fmt.Sprintf(" (%s: %s, and now %s)", strings.TrimPrefix(path, "."), word(before), word(now))
}

// entries are those of a group of keys, by how they continue its path: ".tolerance", and of a list of such groups: "[1]". Of other values there are none.
func entries(value any) map[string]any {
	all := map[string]any{}
	switch value := value.(type) {
	case map[string]any:
		for key, entry := range value {
			all["."+key] = entry
		}
	case []any:
		for i, entry := range value {
			if _, ok := entry.(map[string]any); !ok {
				return nil
			}
			all[fmt.Sprintf("[%d]", i)] = entry
		}
	default:
		return nil
	}
	return all
}

// firstDifference is the first line in which texts differ, in brackets.
func firstDifference(was, is string) string {
	before, now := strings.Split(was, "\n"), strings.Split(is, "\n")
	at := func(lines []string, i int) string {
		if i < len(lines) && strings.TrimSpace(lines[i]) != "" {
			return strings.TrimSpace(lines[i])
		}
		return "nothing"
	}
	for i := range max(len(before), len(now)) {
		if at(before, i) != at(now, i) {
			return fmt.Sprintf(" (%q, and now %q)", at(before, i), at(now, i))
		}
	}
	return ""
}

func settingsOf(all []*writers.Contents, at audit.Moment) map[string]string {
	for _, contents := range all {
		if training := contents.Training(at.Model, at.Seed); training != nil && training.Settings != nil {
			return training.Settings
		}
	}
	return nil
}

// byCheckpoint takes rows of shards apart by the checkpoint that they are of, puts them in the order of one audit, and summarises them. A part that is missing
// is an error.
func byCheckpoint(config Config, together *audit.Records) (all []*audit.Records, err error) {
	var checkpoints []Checkpoint
	for _, m := range together.Moments() {
		m.RunID, m.Attempt = "", 0
		if at := (Checkpoint{m.Model, m.Seed, m.Step}); !slices.Contains(checkpoints, at) {
			checkpoints = append(checkpoints, at)
		}
	}
	slices.SortFunc(checkpoints, func(a, b Checkpoint) int {
		model := func(at Checkpoint) int {
			return slices.IndexFunc(config.Models, func(m Model) bool { return m.Name == at.Model })
		}
		return cmp.Or(
			cmp.Compare(slices.Index(config.seeds(), a.Seed), slices.Index(config.seeds(), b.Seed)), cmp.Compare(model(a), model(b)), cmp.Compare(a.Step, b.Step),
		)
	})
	for _, at := range checkpoints {
		records := together.At(at.Model, at.Seed, at.Step)
		arrange(config, records)
		if err := complete(config, at, records); err != nil {
			return nil, err
		}
		records.Summarise()
		all = append(all, records)
	}
	return all, nil
}

// place is where a row stands among those of an audit; rows of one place come from one shard, in their order.
type place struct {
	group, direction string
	batch            int32
}

// arrange puts the rows of one checkpoint in the order of an audit.
func arrange(config Config, r *audit.Records) {
	directions := config.Audit.DirectionNames()
	compare := func(a, b place) int {
		group := func(p place) int {
			return slices.IndexFunc(config.Audit.Groups, func(g Group) bool { return g.Name == p.group })
		}
		return cmp.Or(
			cmp.Compare(group(a), group(b)), cmp.Compare(slices.Index(directions, a.direction), slices.Index(directions, b.direction)), cmp.Compare(a.batch, b.batch),
		)
	}
	slices.SortStableFunc(r.Errors, func(a, b audit.ErrorRow) int { return compare(place{group: a.GroupName}, place{group: b.GroupName}) })
	slices.SortStableFunc(r.LocalErrors, func(a, b audit.LocalErrorRow) int {
		return compare(place{group: a.GroupName}, place{group: b.GroupName})
	})
	slices.SortStableFunc(r.Pictures, func(a, b audit.PictureRow) int { return compare(place{group: a.GroupName}, place{group: b.GroupName}) })
	slices.SortStableFunc(r.Influence, func(a, b audit.InfluenceRow) int {
		return compare(place{a.GroupName, a.Direction, a.Batch}, place{b.GroupName, b.Direction, b.Batch})
	})
	slices.SortStableFunc(r.Solves, func(a, b audit.SolveRow) int {
		return compare(place{a.GroupName, a.Direction, a.Batch}, place{b.GroupName, b.Direction, b.Batch})
	})
	slices.SortStableFunc(r.Layers, func(a, b audit.LayerRow) int {
		return compare(place{a.GroupName, a.Direction, a.Batch}, place{b.GroupName, b.Direction, b.Batch})
	})
	slices.SortStableFunc(r.Spectrum, func(a, b audit.SpectrumRow) int {
		return compare(place{group: a.GroupName, batch: a.Batch}, place{group: b.GroupName, batch: b.Batch})
	})
}

// complete refuses the audit of a checkpoint that lacks a part.
func complete(config Config, at Checkpoint, r *audit.Records) error {
	for _, g := range config.Audit.Groups {
		if !slices.ContainsFunc(r.Errors, func(row audit.ErrorRow) bool { return row.GroupName == g.Name }) {
			return fmt.Errorf("trainer: the shards have no errors of group %s at step %d of %s; make the shards anew", g.Name, at.Step, config.training(at.Model, at.Seed))
		}
		for _, direction := range config.Audit.DirectionNames() {
			for batch := range int32(config.Data.Probes) {
				if !slices.ContainsFunc(r.Influence, func(row audit.InfluenceRow) bool {
					return row.GroupName == g.Name && row.Direction == direction && row.Batch == batch
				}) {
					return fmt.Errorf("trainer: the shards have no influence of batch %d of group %s at step %d of %s; make the shards anew", batch, g.Name, at.Step, config.training(at.Model, at.Seed))
				}
			}
		}
	}
	return nil
}
