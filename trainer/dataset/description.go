package dataset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/symaudit/symaudit/orbits"
)

// Description says what a data set holds and what its numbers mean. In a directory it is the file data.json.
type Description struct {
	SchemaVersion int             `json:"schema_version"`
	Field         orbits.Field    `json:"-"`            // names of the channels, which of them are vectors, and where the rows run
	Grid          []int           `json:"grid"`         // cells along each axis of space, that of the slowest index first: y, x
	Snapshots     int             `json:"snapshots"`    // of a trajectory, the initial state included; at least 2
	Interval      float64         `json:"interval"`     // time between snapshots, where the domain has length 1 along each axis
	Trajectories  int             `json:"trajectories"` // of each family
	Families      []Family        `json:"families"`
	Splits        []Split         `json:"splits"`           // of the trajectories of each family, without overlap
	Origin        json.RawMessage `json:"origin,omitempty"` // how the data were made; read by people alone
}

// Family is a kind of initial states.
type Family struct {
	Name  string `json:"name"`  // of its file, <name>.npy
	Label string `json:"label"` // in tables and figures, such as CE-RP
}

// Split is what trajectories are for.
type Split struct {
	Name   string `json:"name"`             // Train, Validation or Test
	First  int    `json:"first"`            // trajectory
	Count  int    `json:"count"`            // trajectories of each family
	SHA256 string `json:"sha256,omitempty"` // of the hashes of its trajectories, by family and number; a Writer computes it
}

// Names of splits.
const (
	Train      = "train"      // weights are fitted to these
	Validation = "validation" // held out, for choices that are made along the way
	Test       = "test"       // held out; audits take their probes from these
)

const (
	schemaVersion    = 2
	descriptionName  = "data.json"
	mostDescription  = 1 << 20 // bytes
	mostTrajectories = 10_000_000
	mostCells        = 1 << 32 // of a trajectory, over all snapshots and channels
	bytesOfValue     = 4       // float32
	recordsSuffix    = ".trajectories.jsonl"
)

// values is how many numbers one snapshot has.
func (d Description) values() int {
	n := len(d.Field.Channels)
	for _, cells := range d.Grid {
		n *= cells
	}
	return n
}

// Bytes is the size of all arrays.
func (d Description) Bytes() int64 {
	return int64(len(d.Families)) * int64(d.Trajectories) * d.trajectoryBytes()
}

func (d Description) trajectoryBytes() int64 {
	return int64(d.Snapshots) * int64(d.values()) * bytesOfValue
}

// shape is that of a family's array: [trajectory, time, y, x, channel].
func (d Description) shape() []int {
	return slices.Concat([]int{d.Trajectories, d.Snapshots}, d.Grid, []int{len(d.Field.Channels)})
}

// Split returns the split of a name; one that the set does not have is empty.
func (d Description) Split(name string) Split {
	for _, split := range d.Splits {
		if split.Name == name {
			return split
		}
	}
	return Split{Name: name}
}

// Family is the index of the family of a name, or -1.
func (d Description) Family(name string) int {
	return slices.IndexFunc(d.Families, func(f Family) bool { return f.Name == name })
}

// Validate reports the first thing that cannot be, with its value.
func (d Description) Validate() error {
	if err := d.Field.Validate(); err != nil {
		return err
	}
	switch {
	case len(d.Grid) == 0 || slices.Min(d.Grid) < 1:
		return fmt.Errorf("dataset: the grid is %v; it must have at least one axis, and a cell along each", d.Grid)
	case d.Snapshots < 2:
		return fmt.Errorf("dataset: there are %d snapshots of a trajectory; there must be at least 2, for models learn the steps between them", d.Snapshots)
	case !(d.Interval > 0) || math.IsInf(d.Interval, 0):
		return fmt.Errorf("dataset: the interval is %g; it must be positive and finite", d.Interval)
	case d.Trajectories < 1 || d.Trajectories > mostTrajectories:
		return fmt.Errorf("dataset: there are %d trajectories of each family; there must be between 1 and %d", d.Trajectories, mostTrajectories)
	case len(d.Families) == 0:
		return errors.New("dataset: there is no family of trajectories; there must be at least one")
	}
	size := float64(d.Snapshots) * float64(len(d.Field.Channels))
	for _, cells := range d.Grid {
		size *= float64(cells)
	}
	if size > mostCells {
		return fmt.Errorf("dataset: %d snapshots of %d channels on the grid %v are %.3g numbers a trajectory; %d is the most", d.Snapshots, len(d.Field.Channels), d.Grid, size, int64(mostCells))
	}
	for i, family := range d.Families {
		switch name := family.Name; {
		case !familyName.MatchString(name):
			return fmt.Errorf("dataset: a family is called %q, which is to name a file; use letters, digits, dashes and underscores", name)
		case family.Label == "":
			return fmt.Errorf("dataset: the family %q has no label; give it one for tables and figures", name)
		case d.Family(name) != i:
			return fmt.Errorf("dataset: two families are called %q; give each a name of its own", name)
		}
	}
	for i, split := range d.Splits {
		switch {
		case !slices.Contains([]string{Train, Validation, Test}, split.Name):
			return fmt.Errorf("dataset: a split is called %q; use %s, %s or %s", split.Name, Train, Validation, Test)
		case split.First < 0 || split.Count < 1 || split.Count > d.Trajectories-split.First:
			return fmt.Errorf("dataset: the split %q is of %d trajectories from number %d on; there are %d", split.Name, split.Count, split.First, d.Trajectories)
		}
		for _, other := range d.Splits[:i] {
			if split.Name == other.Name {
				return fmt.Errorf("dataset: two splits are called %q", split.Name)
			}
			if split.First < other.First+other.Count && other.First < split.First+split.Count {
				return fmt.Errorf("dataset: the splits %q and %q share trajectories; what is trained on must not be held out", other.Name, split.Name)
			}
		}
	}
	return nil
}

var familyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$`)

// InOrder sets the number of trajectories, and splits that follow on each other: train, then validation, then test. Those of no trajectories are left out.
func (d Description) InOrder(train, validation, test int) Description {
	d.Trajectories, d.Splits = 0, nil
	for _, split := range []Split{{Name: Train, Count: train}, {Name: Validation, Count: validation}, {Name: Test, Count: test}} {
		if split.Count > 0 {
			split.First = d.Trajectories
			d.Trajectories += split.Count
			d.Splits = append(d.Splits, split)
		}
	}
	return d
}

// ReadDescription reads the description of the data set in a directory.
func ReadDescription(dir string) (d Description, err error) {
	if whole, unfinished := strings.CutSuffix(filepath.Clean(dir), ".partial"); unfinished && isPartial(whole) {
		return d, &MissingError{Dir: whole, Partial: true}
	}
	path := filepath.Join(dir, descriptionName)
	file, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return d, &MissingError{Dir: dir, Partial: isPartial(dir)}
		}
		return d, fmt.Errorf("dataset: %s cannot be read: %w", path, err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, mostDescription+1))
	if err == nil && len(text) > mostDescription {
		err = fmt.Errorf("it has more than %d bytes", mostDescription)
	}
	if err == nil {
		d, err = parse(text)
	}
	var newer *versionError
	switch {
	case errors.As(err, &newer):
		return d, fmt.Errorf("dataset: %s %w", path, err)
	case err != nil:
		return d, fmt.Errorf("dataset: %s does not describe data: %w; restore it from a copy, or make the data anew", path, err)
	}
	return d, nil
}

// MissingError says that a directory holds no data set.
type MissingError struct {
	Dir     string
	Partial bool // an unfinished one lies beside it
}

func (e *MissingError) Error() string { return fmt.Sprintf("dataset: %s %s", e.Dir, e.Fault()) }

// Fault is what is wrong with the directory: the sentence that its name begins.
func (e *MissingError) Fault() string {
	if e.Partial {
		return fmt.Sprintf("is not finished yet: %s holds what is there; go on with the command that began it, and --resume", partial(e.Dir))
	}
	return fmt.Sprintf("holds no data: there is no %s; name a directory of `symaudit data generate` or `symaudit data import`", filepath.Join(e.Dir, descriptionName))
}

// versionError is a description that another version has written.
type versionError struct{ version int }

func (e *versionError) Error() string {
	if e.version > schemaVersion {
		return fmt.Sprintf("has schema version %d, newer than this program's %d; use a newer symaudit", e.version, schemaVersion)
	}
	return fmt.Sprintf("has schema version %d, older than this program's %d; generate the data anew: the same configuration, seed and backend give the same values", e.version, schemaVersion)
}

func parse(text []byte) (d Description, err error) {
	var version struct {
		SchemaVersion *int `json:"schema_version"`
	}
	if err := json.Unmarshal(text, &version); err != nil {
		return d, plainJSON(err)
	}
	switch {
	case version.SchemaVersion == nil || *version.SchemaVersion < 1:
		return d, errors.New("it has no schema_version")
	case *version.SchemaVersion != schemaVersion:
		return d, &versionError{*version.SchemaVersion}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, plainJSON(err)
	}
	return d, d.Validate()
}

func plainJSON(err error) error {
	var other *json.UnmarshalTypeError
	if errors.As(err, &other) {
		if other.Field == "" {
			return fmt.Errorf("it is an %s and not an object", other.Value)
		}
		return fmt.Errorf("its %s is a %s", strings.TrimPrefix(other.Field, "plain."), other.Value)
	}
	return err
}
