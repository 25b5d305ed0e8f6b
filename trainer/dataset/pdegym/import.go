package pdegym

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
)

// Source is a family of the collection.
type Source struct {
	Label string   // its name there, such as CE-RP
	Paths []string // of its files, in their order; see Parts
}

// names are those that families have in data sets, as in generated ones.
var names = map[string]string{"CE-RP": "riemann", "CE-CRP": "curved-riemann", "CE-RPUI": "perturbed-riemann"}

// Counts say how many trajectories of each split are taken from each family. Of N trajectories in the files the last 2.4 % are for test, the 1.2 %
// before these for validation, and the others for training: of the collection's 10,000 that are 9,640, 120 and 240, as its authors split them.
// The first ones of each split are taken; a negative count takes all of it.
type Counts struct{ Train, Validation, Test int }

// All takes every trajectory.
var All = Counts{-1, -1, -1}

// Import is what is to be imported.
type Import struct {
	dataset.Description
	files  []*Files
	counts Counts
	ends   [3]int // where the splits end in the files
}

// NewImport opens the files and describes the data set that Run makes of them. interval is the time between snapshots, 0.05 in the collection. Close it.
func NewImport(sources []Source, counts Counts, order Order, interval float64) (m *Import, err error) {
	if len(sources) == 0 {
		return nil, errors.New("pdegym: there is nothing to import; name the folder of a family, such as CE-RP")
	}
	m = &Import{Description: dataset.Description{Field: orbits.EulerField(), Interval: interval}}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	type family struct {
		Label string `json:"label"`
		Parts []Part `json:"parts"`
	}
	var families []family
	for _, source := range sources {
		files, err := Open(source.Paths...)
		if err != nil {
			return m, err
		}
		m.files = append(m.files, files)
		height, width := files.Grid()
		first := m.files[0]
		if h, w := first.Grid(); h != height || w != width || files.Snapshots() != first.Snapshots() {
			return m, fmt.Errorf("pdegym: %s has %d snapshots of %dx%d, and %s %d of %dx%d; import them as data sets of their own", source.Label, files.Snapshots(), height, width, sources[0].Label, first.Snapshots(), h, w)
		}
		if n := files.Trajectories(); n != first.Trajectories() {
			return m, fmt.Errorf("pdegym: %s has %d trajectories, and %s has %d; give the same files of each family", source.Label, n, sources[0].Label, first.Trajectories())
		}
		m.Grid, m.Snapshots = []int{height, width}, files.Snapshots()
		if err := m.checkOthers(source.Label, sources); err != nil {
			return m, err
		}
		name := names[source.Label]
		if name == "" {
			name = strings.ToLower(source.Label)
		}
		m.Families = append(m.Families, dataset.Family{Name: name, Label: source.Label})
		parts := files.Parts()
		for i := range parts {
			parts[i].Path = filepath.Base(parts[i].Path) // the same wherever the files lie
		}
		families = append(families, family{source.Label, parts})
	}
	n := m.files[0].Trajectories()
	m.ends = ends(n)
	starts := [3]int{0, m.ends[0], m.ends[1]}
	taken := [3]*int{&counts.Train, &counts.Validation, &counts.Test}
	from := map[string][2]int{}
	for i, split := range []string{dataset.Train, dataset.Validation, dataset.Test} {
		there := m.ends[i] - starts[i]
		if *taken[i] < 0 {
			*taken[i] = there
		}
		if *taken[i] > there {
			return m, fmt.Errorf("pdegym: %d trajectories are to be for %s, and of the %d in the files of each family %d are; take fewer, or give more files", *taken[i], split, n, there)
		}
		if *taken[i] > 0 {
			from[split] = [2]int{starts[i], starts[i] + *taken[i] - 1}
		}
	}
	m.counts = counts
	m.Description = m.InOrder(counts.Train, counts.Validation, counts.Test)
	m.Origin, err = json.Marshal(map[string]any{
		"collection": "PDEGym", "families": families, "order_of_files": order.String(), "trajectories_in_files": from, "gamma": Gamma,
		"conserved": "momentum = density * velocity; density and energy as stored",
	})
	if err != nil {
		return m, fmt.Errorf("pdegym: %w", err)
	}
	return m, m.Validate()
}

// checkOthers refuses a family whose first trajectory is that of one before it: a folder that was named twice, or copied.
func (m *Import) checkOthers(label string, sources []Source) error {
	last := m.files[len(m.files)-1]
	sum, err := last.sum(last.parts[0])
	if err != nil {
		return err
	}
	for i, other := range m.files[:len(m.files)-1] {
		known, err := other.sum(other.parts[0])
		if err != nil {
			return err
		}
		if known == sum {
			return fmt.Errorf("pdegym: %s and %s begin with the same trajectory, so they are the same files; name each family's own", sources[i].Label, label)
		}
	}
	return nil
}

// ends are where the splits of n trajectories end; see Counts. There is one for test in any case.
func ends(n int) [3]int {
	test, validation := (n*240+9_999)/10_000, n*120/10_000
	return [3]int{n - validation - test, n - test, n}
}

// inFiles is the number in the files of a trajectory of the data set.
func (m *Import) inFiles(trajectory int) int {
	for _, split := range []struct{ count, first int }{{m.counts.Train, 0}, {m.counts.Validation, m.ends[0]}, {m.counts.Test, m.ends[1]}} {
		if trajectory < split.count {
			return split.first + trajectory
		}
		trajectory -= split.count
	}
	panic("pdegym: no such trajectory")
}

// Plan is how many trajectories, over all families, Run would have to import, or the error that it would begin with. Nothing is changed.
func (m *Import) Plan(dir string, resume bool) (missing int, err error) {
	all, err := dataset.Plan(dir, m.Description, resume)
	for _, of := range all {
		missing += len(of)
	}
	return missing, err
}

// Run writes the data set into a directory that must not exist, or with resume goes on where an earlier call ended. differing is the largest share of a
// trajectory's cells whose energy is not that of their pressure; see Files.Conserved. progress, which may be nil, counts trajectories over all families.
func (m *Import) Run(ctx context.Context, dir string, resume bool, progress func(done, total int)) (set *dataset.Set, differing float64, err error) {
	writer, err := dataset.Create(dir, m.Description, resume)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, writer.Close())
		}
	}()
	total := len(m.Families) * m.Trajectories
	states := make([]float32, m.files[0].Size())
	done := 0
	for f, files := range m.files {
		missing := writer.Missing(f)
		done += m.Trajectories - len(missing)
		if err := m.checkSame(writer, f, missing, states); err != nil {
			return nil, differing, err
		}
		for _, trajectory := range missing {
			if ctx.Err() != nil {
				return nil, differing, fmt.Errorf("pdegym: stopped after %d of %d trajectories: %w", done, total, context.Cause(ctx))
			}
			share, err := files.Conserved(m.inFiles(trajectory), states)
			if err != nil {
				return nil, differing, err
			}
			differing = max(differing, share)
			if err := writer.Put(f, trajectory, states); err != nil {
				return nil, differing, err
			}
			if done++; progress != nil {
				progress(done, total)
			}
		}
	}
	set, err = writer.Finish()
	return set, differing, err
}

// checkSame makes sure that an import goes on from the files that it was begun with: the first trajectory that is there, and the last, are read again.
func (m *Import) checkSame(writer *dataset.Writer, family int, missing []int, states []float32) error {
	var there []int
	for trajectory := range m.Trajectories {
		if _, found := slices.BinarySearch(missing, trajectory); !found {
			there = append(there, trajectory)
		}
	}
	if len(there) == 0 {
		return nil
	}
	for _, trajectory := range []int{there[0], there[len(there)-1]} {
		if _, err := m.files[family].Conserved(m.inFiles(trajectory), states); err != nil {
			return err
		}
		if !writer.Has(family, trajectory, states) {
			return fmt.Errorf("pdegym: trajectory %d of %s was imported from files of other contents than these; put the former ones back, or remove the unfinished data and begin again", trajectory, m.Families[family].Label)
		}
	}
	return nil
}

// Unknown are the labels of families that are none of the Euler families whose layout is known: CE-RP, CE-CRP and CE-RPUI.
func (m *Import) Unknown() (labels []string) {
	for _, family := range m.Families {
		if names[family.Label] == "" {
			labels = append(labels, family.Label)
		}
	}
	return labels
}

// Close closes the files.
func (m *Import) Close() (err error) {
	for _, files := range m.files {
		err = errors.Join(err, files.Close())
	}
	return err
}

// Sources reads what a user names: folders of families, CE-RP, or files of them, CE-RP=some/data_0.nc, of which those of one family follow on each other.
func Sources(named []string, order Order) (all []Source, err error) {
	for _, text := range named {
		label, path, given := strings.Cut(text, "=")
		if !given {
			path = text
			label = filepath.Base(filepath.Clean(text))
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, explain(path, err)
		}
		if !given && !info.IsDir() {
			return nil, fmt.Errorf("pdegym: %s is a file, which does not tell its family; name that, too, as in CE-RP=%s", path, path)
		}
		paths := []string{path}
		if info.IsDir() {
			if paths, err = Parts(path, order); err != nil {
				return nil, err
			}
		}
		if at := slices.IndexFunc(all, func(s Source) bool { return s.Label == label }); at >= 0 {
			all[at].Paths = append(all[at].Paths, paths...)
			continue
		}
		all = append(all, Source{label, paths})
	}
	return all, nil
}
