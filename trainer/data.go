package trainer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/numpy"

	"github.com/symaudit/symaudit/internal/checkpoint"
	"github.com/symaudit/symaudit/trainer/euler"
)

// Trajectories are solutions of one family of initial conditions.
type Trajectories struct {
	Family euler.Family
	States *tensors.Tensor // float32 [trajectory, time, y, x, channel]
}

// GenerateData solves for the training trajectories of each family, followed by its probes. progress, which may be
// nil, counts trajectories over all families.
func GenerateData(ctx context.Context, backend compute.Backend, config Config, progress func(done, total int)) ([]Trajectories, error) {
	data := config.Data
	each := data.Trajectories + data.Probes
	var all []Trajectories
	for i, family := range data.Families {
		report := func(done, _ int) {
			if progress != nil {
				progress(i*each+done, len(data.Families)*each)
			}
		}
		states, err := euler.Generate(ctx, backend, data.Euler, string(family), each, config.Seed, report)
		if err != nil {
			return nil, fmt.Errorf("trainer: %w", err)
		}
		all = append(all, Trajectories{Family: family, States: states})
	}
	return all, nil
}

// dataInfo describes a data directory; the arrays lie beside it as NumPy files.
type dataInfo struct {
	SchemaVersion int            `json:"schema_version"`
	Families      []euler.Family `json:"families"` // each in <family>.npy, float32 [trajectory, time, y, x, channel]
	Channels      []string       `json:"channels"`
	Trajectories  int            `json:"trajectories"` // of each family
	Seed          int64          `json:"seed"`
	Backend       string         `json:"backend"` // rounding differs between backends
	Euler         euler.Config   `json:"euler"`
}

const (
	dataInfoName      = "data.json"
	dataSchemaVersion = 1
)

// SaveData writes a data directory. It appears under its name only when it is complete; an existing one is refused.
func SaveData(dir string, config Config, backend string, all []Trajectories) error {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("trainer: %s exists already; choose another directory, or remove it", dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trainer: %w", err)
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	work, err := os.MkdirTemp(parent, ".data-*.inprogress")
	if err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	defer os.RemoveAll(work) // of no effect once it is renamed
	info := dataInfo{
		SchemaVersion: dataSchemaVersion, Families: config.Data.Families,
		Channels:     []string{"density", "momentum_x", "momentum_y", "energy"},
		Trajectories: config.Data.Trajectories + config.Data.Probes, Seed: config.Seed, Backend: backend, Euler: config.Data.Euler,
	}
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	if err := os.WriteFile(filepath.Join(work, dataInfoName), append(text, '\n'), 0o666); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	for _, t := range all {
		if err := numpy.ToNpyFile(t.States, filepath.Join(work, string(t.Family)+".npy")); err != nil {
			return fmt.Errorf("trainer: %w", err)
		}
	}
	if err := checkpoint.Publish(work, dir); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	return nil
}

// LoadData reads the families that a configuration names from its data directory.
func LoadData(config Config) ([]Trajectories, error) {
	dir := config.Data.Directory
	info, err := readDataInfo(config)
	if err != nil {
		return nil, err
	}
	var all []Trajectories
	for _, family := range config.Data.Families {
		if !slices.Contains(info.Families, family) {
			return nil, fmt.Errorf("trainer: %s has no family %q; it has %v", dir, family, info.Families)
		}
		path := filepath.Join(dir, string(family)+".npy")
		states, err := numpy.FromNpyFile(path)
		if err != nil {
			return nil, fmt.Errorf("trainer: %s: %w", path, err)
		}
		size := info.Euler.Resolution
		if got := states.Shape(); got.DType != dtypes.Float32 ||
			!slices.Equal(got.Dimensions, []int{info.Trajectories, info.Euler.Snapshots, size, size, euler.Channels}) {
			return nil, fmt.Errorf("trainer: %s is %s, which %s does not describe; generate the data anew", path, got, dataInfoName)
		}
		all = append(all, Trajectories{Family: family, States: states})
	}
	return all, nil
}

// readDataInfo reads the description of a configuration's data directory and checks that it suits.
func readDataInfo(config Config) (info dataInfo, err error) {
	dir := config.Data.Directory
	text, err := os.ReadFile(filepath.Join(dir, dataInfoName))
	if err != nil {
		return info, fmt.Errorf("trainer: data.directory %s holds no data: %w; make some with `symaudit data generate`", dir, err)
	}
	if err := json.Unmarshal(text, &info); err != nil {
		return info, fmt.Errorf("trainer: %s: %w", filepath.Join(dir, dataInfoName), err)
	}
	want := config.Data.Euler
	switch need := config.Data.Trajectories + config.Data.Probes; {
	case info.SchemaVersion > dataSchemaVersion:
		return info, fmt.Errorf("trainer: %s has schema version %d, newer than this program's %d; use a newer symaudit", dir, info.SchemaVersion, dataSchemaVersion)
	case info.Euler.Resolution != want.Resolution || info.Euler.Snapshots != want.Snapshots:
		return info, fmt.Errorf("trainer: the data in %s are %d snapshots at %dx%d, the configuration says %d at %dx%d; change data.euler or data.directory",
			dir, info.Euler.Snapshots, info.Euler.Resolution, info.Euler.Resolution, want.Snapshots, want.Resolution, want.Resolution)
	case info.Trajectories < need:
		return info, fmt.Errorf("trainer: %s has %d trajectories of each family, data.trajectories and data.probes ask for %d", dir, info.Trajectories, need)
	}
	return info, nil
}
