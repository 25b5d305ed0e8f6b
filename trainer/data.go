package trainer

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/numpy"

	"github.com/symaudit/symaudit/internal/atomicfile"
	"github.com/symaudit/symaudit/internal/cause"
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
			return nil, cause.In("trainer", err)
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
	maxDataInfo       = 1 << 20 // bytes
)

var channels = []string{"density", "momentum_x", "momentum_y", "energy"}

// CheckDataDirectory reports whether SaveData could write the directory: that it does not exist, and that the nearest
// folder above it that does can be written to. Nothing stays changed.
func CheckDataDirectory(dir string) error {
	return cause.In("trainer", atomicfile.CheckFree(dir))
}

// SaveData writes a data directory. It appears under its name only when it is complete; an existing one is refused.
func SaveData(dir string, config Config, backend string, all []Trajectories) error {
	work, err := atomicfile.Begin(dir)
	if err != nil {
		return cause.In("trainer", err)
	}
	defer os.RemoveAll(work) // of no effect once it is renamed
	info := dataInfo{
		SchemaVersion: dataSchemaVersion, Families: config.Data.Families,
		Channels:     channels,
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
	if err := atomicfile.Publish(work, dir); err != nil {
		return fmt.Errorf("trainer: %w", err)
	}
	return nil
}

// loadData reads the families that a configuration names from its data directory.
func loadData(config Config) ([]Trajectories, error) {
	dir := config.Data.Directory
	info, err := readDataInfo(config)
	if err != nil {
		return nil, err
	}
	var all []Trajectories
	for _, family := range config.Data.Families {
		if !slices.Contains(info.Families, family) {
			return nil, keyError("data.directory", "is %q, which has no family %q; it has %v", dir, family, info.Families)
		}
		path := filepath.Join(dir, string(family)+".npy")
		size := info.Euler.Resolution
		states, err := loadStatesOf(path, []int{info.Trajectories, info.Euler.Snapshots, size, size, euler.Channels})
		if err == nil {
			err = checkFinite(states)
		}
		var of *fs.PathError
		if errors.As(err, &of) {
			err = fmt.Errorf("it cannot be read: %w", of.Err)
		}
		if err != nil {
			return nil, fmt.Errorf("trainer: %s: %w; generate the data anew", path, err)
		}
		all = append(all, Trajectories{Family: family, States: states})
	}
	return all, nil
}

// checkFinite refuses trajectories with a value that is not a finite number: normalization would spread it to all.
func checkFinite(states *tensors.Tensor) (err error) {
	dimensions := states.Shape().Dimensions
	snapshot := states.Size() / dimensions[0] / dimensions[1]
	read := tensors.ConstFlatData(states, func(values []float32) {
		for i, v := range values {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				err = fmt.Errorf("snapshot %d of trajectory %d holds %g", i/snapshot%dimensions[1], i/snapshot/dimensions[1], v)
				return
			}
		}
	})
	return cmp.Or(read, err)
}

// loadStatesOf loads an array of float32 whose dimensions are known. The file must say the same and have the bytes for it:
// the loader would allocate whatever its header claims.
func loadStatesOf(path string, dimensions []int) (*tensors.Tensor, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	status, err := file.Stat()
	if err != nil {
		return nil, err
	}
	start := make([]byte, 10) // mark, version 1.0, and the length of the header's text
	if _, err := io.ReadFull(file, start); err != nil || string(start[:8]) != "\x93NUMPY\x01\x00" {
		return nil, errors.New("it is not a NumPy file of version 1.0")
	}
	text := make([]byte, binary.LittleEndian.Uint16(start[8:]))
	if _, err := io.ReadFull(file, text); err != nil {
		return nil, errors.New("it ends within its header")
	}
	shape := strings.Trim(strings.ReplaceAll(fmt.Sprint(dimensions), " ", ", "), "[]")
	want := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", shape)
	if got := strings.TrimSpace(string(text)); got != want {
		return nil, fmt.Errorf("its header says %q, but %s beside it %q", got, dataInfoName, want)
	}
	left := status.Size() - int64(len(start)+len(text))
	values := left / 4
	for _, n := range dimensions {
		if values%int64(n) != 0 {
			values = 0
		}
		values /= int64(n)
	}
	if values != 1 || left%4 != 0 {
		return nil, fmt.Errorf("it has %d bytes of values, which is not what the shape (%s) of float32 takes", left, shape)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return numpy.FromNpyReader(file)
}

// readDataInfo reads the description of a configuration's data directory and checks that it suits.
func readDataInfo(config Config) (info dataInfo, err error) {
	dir := config.Data.Directory
	path := filepath.Join(dir, dataInfoName)
	file, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return info, keyError("data.directory", "is %q, which holds no data: there is no %s; name a directory of `symaudit data generate`", dir, path)
		}
		return info, keyError("data.directory", "is %q, which cannot be read: %v", dir, err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxDataInfo+1))
	if err == nil && len(text) > maxDataInfo {
		err = fmt.Errorf("it has more than %d bytes", maxDataInfo)
	}
	if err == nil {
		err = json.Unmarshal(text, &info)
		if _, other := err.(*json.UnmarshalTypeError); other {
			err = errors.New("it has other fields or values than `symaudit data generate` writes")
		}
	}
	if err != nil {
		return info, fmt.Errorf("trainer: %s does not describe data: %w; generate them anew", path, err)
	}
	want := config.Data.Euler
	switch need := config.Data.Trajectories + config.Data.Probes; {
	case info.SchemaVersion > dataSchemaVersion:
		return info, fmt.Errorf("trainer: %s has schema version %d, newer than this program's %d; use a newer symaudit", dir, info.SchemaVersion, dataSchemaVersion)
	case info.SchemaVersion < 1 || info.Trajectories < 1 || !slices.Equal(info.Channels, channels):
		return info, fmt.Errorf("trainer: %s says schema version %d, %d trajectories, channels %q; there must be a version, a trajectory, and %q; generate the data anew",
			path, info.SchemaVersion, info.Trajectories, info.Channels, channels)
	case info.Euler.Resolution != want.Resolution || info.Euler.Snapshots != want.Snapshots:
		return info, fmt.Errorf("trainer: the data in %s are %d snapshots at %dx%d, the configuration says %d at %dx%d; change data.euler or data.directory",
			dir, info.Euler.Snapshots, info.Euler.Resolution, info.Euler.Resolution, want.Snapshots, want.Resolution, want.Resolution)
	case info.Trajectories < need:
		return info, fmt.Errorf("trainer: %s has %d trajectories of each family, data.trajectories and data.probes ask for %d", dir, info.Trajectories, need)
	}
	return info, nil
}
