// Package dataset keeps trajectories of states in NumPy files, larger than memory if need be, and serves their snapshots one by one.
//
// A data set is a directory:
//
//	data.json                         what the data are; see Description
//	<family>.npy                      float32 [trajectory, time, y, x, channel], as numpy.load(..., mmap_mode="r") opens it
//	<family>.trajectories.jsonl       a line for each trajectory: its hash, and statistics of each channel
//
// A Writer makes one, trajectory by trajectory, and goes on where a killed one ended. A Set reads one. Nothing but the snapshots that are asked for is
// held in memory; the operating system keeps what it has room for.
package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/internal/npy"
)

// Snapshot names one state: of a family, by its index in the description, a trajectory and a time.
type Snapshot struct{ Family, Trajectory, Time int }

// Set is a data set that is complete. It is safe for concurrent use.
type Set struct {
	Description
	dir     string // "": in memory
	arrays  []array
	records [][]record // of each family, by trajectory
}

// array holds the numbers of a family, from offset on.
type array struct {
	storage
	offset int64
}

type storage interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// Open opens the data set in a directory. It makes sure that the files have the sizes and headers that the description says, and does not read the
// arrays: Verify does.
func Open(dir string) (set *Set, err error) {
	set = &Set{dir: dir}
	if set.Description, err = ReadDescription(dir); err != nil {
		return nil, err
	}
	fault := func(path string, err error) error {
		var of *fs.PathError
		if errors.As(err, &of) {
			err = fmt.Errorf("it cannot be read: %w", of.Err)
		}
		return errors.Join(fmt.Errorf("dataset: %s: %w; restore it from a copy, or make the data anew", path, err), set.Close())
	}
	for _, family := range set.Families {
		path := filepath.Join(dir, family.Name+".npy")
		file, err := os.Open(path)
		if err != nil {
			return nil, fault(path, err)
		}
		offset, err := npy.Check(file, dtypes.Float32, set.shape())
		set.arrays = append(set.arrays, array{file, offset})
		if err != nil {
			return nil, fault(path, err)
		}
		path = filepath.Join(dir, family.Name+recordsSuffix)
		records, _, err := set.readRecords(path)
		if err != nil {
			return nil, fault(path, err)
		}
		if i := slices.IndexFunc(records, func(r record) bool { return r.SHA256 == "" }); i >= 0 {
			return nil, fault(path, fmt.Errorf("it says nothing about trajectory %d", i))
		}
		set.records = append(set.records, records)
	}
	for _, split := range set.Splits {
		if split.hash(set.records) != split.SHA256 {
			return nil, fault(filepath.Join(dir, descriptionName), fmt.Errorf("the hash of its split %q is not that of the trajectories beside it", split.Name))
		}
	}
	return set, nil
}

// Close closes the files.
func (s *Set) Close() (err error) {
	for _, a := range s.arrays {
		err = errors.Join(err, a.Close())
	}
	return err
}

// Hash tells data sets apart: it is of the numbers that are trained on and held out.
func (s *Set) Hash() string {
	return Split{Count: s.Trajectories}.hash(s.records)
}

// Statistics are of the first count trajectories of a split, over the families at these indices.
func (s *Set) Statistics(families []int, split string, count int) Statistics {
	var all []record
	first := s.Split(split).First
	for _, family := range families {
		all = append(all, s.records[family][first:first+count]...)
	}
	return over(all)
}

// Batch reads snapshots: float32 [n, y, x, channel].
func (s *Set) Batch(snapshots []Snapshot) (*tensors.Tensor, error) {
	dimensions := append([]int{len(snapshots)}, s.shape()[2:]...)
	batch := tensors.FromShape(shapes.Make(dtypes.Float32, dimensions...))
	var err error
	write := tensors.MutableFlatData(batch, func(flat []float32) {
		n := s.values()
		for i, at := range snapshots {
			if err = s.Read(at, flat[i*n:(i+1)*n]); err != nil {
				return
			}
		}
	})
	if err = errors.Join(write, err); err != nil {
		return nil, errors.Join(err, batch.FinalizeAll())
	}
	return batch, nil
}

// Read reads a snapshot, [y, x, channel].
func (s *Set) Read(at Snapshot, into []float32) error {
	first := int64(at.Trajectory*s.Snapshots + at.Time)
	if err := s.arrays[at.Family].read(first*int64(s.values()), into); err != nil {
		return fmt.Errorf("dataset: snapshot %d of trajectory %d of %s cannot be read: %w", at.Time, at.Trajectory, s.file(at.Family), err)
	}
	for _, v := range into {
		if !finite(float64(v)) {
			return fmt.Errorf("dataset: %s: snapshot %d of trajectory %d holds %g; restore the file from a copy, or make the data anew", s.file(at.Family), at.Time, at.Trajectory, v)
		}
	}
	return nil
}

// file is where a family is, in words.
func (s *Set) file(family int) string {
	return filepath.Join(s.dir, s.Families[family].Name+".npy")
}

// read reads numbers from the index first on.
func (a array) read(first int64, into []float32) error {
	encoded := make([]byte, len(into)*bytesOfValue)
	if _, err := a.ReadAt(encoded, a.offset+first*bytesOfValue); err != nil {
		return err
	}
	_, err := binary.Decode(encoded, binary.LittleEndian, into)
	return err
}

// Verify reads all arrays and compares them with what was known of each trajectory when it was written: its hash, and its statistics. The error names all
// that differ, up to ten. progress, which may be nil, counts trajectories over all families.
func (s *Set) Verify(progress func(done, total int)) error {
	const most = 10
	values := make([]float32, s.Snapshots*s.values())
	var faults []error
	for family := range s.Families {
		for trajectory, known := range s.records[family] {
			if err := s.arrays[family].read(int64(trajectory)*int64(len(values)), values); err != nil {
				return errors.Join(append(faults, fmt.Errorf("dataset: trajectory %d of %s cannot be read: %w", trajectory, s.file(family), err))...)
			}
			found, err := s.measure(trajectory, values, encode(values))
			switch {
			case err != nil:
			case found.SHA256 != known.SHA256:
				err = fmt.Errorf("trajectory %d is not what was written: its hash is another", trajectory)
			case !reflect.DeepEqual(found, known):
				err = fmt.Errorf("the statistics of trajectory %d in %s%s are not those of its numbers", trajectory, s.Families[family].Name, recordsSuffix)
			}
			if err != nil {
				faults = append(faults, fmt.Errorf("dataset: %s: %w; restore the file from a copy, or make the data anew", s.file(family), err))
				if len(faults) == most {
					return errors.Join(append(faults, errors.New("dataset: and perhaps more"))...)
				}
			}
			if progress != nil {
				progress(family*s.Trajectories+trajectory+1, len(s.Families)*s.Trajectories)
			}
		}
	}
	return errors.Join(faults...)
}

func encode(values []float32) []byte {
	encoded := make([]byte, len(values)*bytesOfValue)
	_, _ = binary.Encode(encoded, binary.LittleEndian, values) // has the room
	return encoded
}
