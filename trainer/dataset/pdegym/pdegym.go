// Package pdegym reads the compressible-Euler trajectories of PDEGym (Herde et al., Poseidon, 2024): CE-RP, CE-CRP, CE-RPUI and
// others of their form.
//
// A family comes as files data_0.nc, data_1.nc and so on. Each is NetCDF-4, which is HDF5, with one variable named data: float32
// [trajectory, time, channel, y, x], in the channels density, velocity_x, velocity_y, pressure and energy. The axes are in this order although
// the files label the last two x, y. Nothing is written.
//
//	paths, err := pdegym.Parts("CE-RP", pdegym.Numeric)
//	files, err := pdegym.Open(paths...)
//	defer files.Close()
//	states := make([]float32, files.Size())
//	for i := range files.Trajectories() {
//		_, err := files.Conserved(i, states) // [time, y, x, channel]
//		...
//	}
//
// One trajectory is in memory at a time. Every error names the file, what is wrong with it, and what to do. Of HDF5 as much is read
// as NetCDF-4, xarray and h5py write by default; a file of another kind is refused with a command that rewrites it.
package pdegym

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/symaudit/symaudit/trainer/dataset/pdegym/internal/hdf5"
)

// Variable is the name of the array in each file.
const Variable = "data"

// Channels are those of the files, in order. All are in PDEGym's units, which have none.
var Channels = []string{"density", "velocity_x", "velocity_y", "pressure", "energy"}

// Conserved variables that Files.Conserved makes of them.
const conserved = 4

// Gamma is the ratio of specific heats of the gas in the files.
const Gamma = 1.4

// Files are the files of one family, open, as one sequence of trajectories. They must not be used by two goroutines at once.
type Files struct {
	parts  []part
	shape  []int // of a trajectory
	stored []float32
}

type part struct {
	path  string
	first int // trajectory
	array *hdf5.Array
}

// Part is one of the files.
type Part struct {
	Path         string `json:"path"`
	Trajectories int    `json:"trajectories"`
}

// Open opens the files of one family: trajectories are numbered from 0 through all of them, in the order given (see Parts for that
// of a folder). Headers are read and compared with the sizes of the files, and the first trajectory of each is read, to find out
// whether two of them are the same.
//
// Open fails if a file cannot be read, is not HDF5, is cut off or damaged, or has no variable data of float32 with five channels; if
// snapshots or grid differ between files; or if a file is there twice, under whatever name.
func Open(paths ...string) (*Files, error) {
	if len(paths) == 0 {
		return nil, errors.New("pdegym: there are no files to open; name those of one family, such as data_0.nc")
	}
	f := &Files{}
	if err := f.open(paths); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Files) open(paths []string) error {
	var known []os.FileInfo
	starts := map[[sha256.Size]byte]string{}
	total := 0
	for _, path := range paths {
		array, err := hdf5.Open(path, Variable)
		if err != nil {
			return explain(path, err)
		}
		f.parts = append(f.parts, part{path: path, first: total, array: array})
		info, err := array.Stat()
		if err != nil {
			return explain(path, err)
		}
		for k, other := range known {
			if os.SameFile(other, info) {
				return fmt.Errorf("pdegym: %s and %s are the same file; name it once", f.parts[k].path, path)
			}
		}
		known = append(known, info)
		shape := array.Shape()
		switch {
		case len(shape) != 5 || shape[2] != len(Channels):
			return fmt.Errorf("pdegym: %s has %q of shape %v, and compressible-Euler data are [trajectory, time, %d channels, y, x]; use the files of CE-RP, CE-CRP or CE-RPUI",
				path, Variable, shape, len(Channels))
		case f.shape == nil:
			f.shape = shape[1:]
		case shape[1] != f.shape[0]:
			return fmt.Errorf("pdegym: %s has %d snapshots a trajectory, and %s has %d; open files of one family", path, shape[1], paths[0], f.shape[0])
		case shape[3] != f.shape[2] || shape[4] != f.shape[3]:
			return fmt.Errorf("pdegym: %s has a grid of %dx%d, and %s one of %dx%d; open files of one family", path, shape[3], shape[4], paths[0], f.shape[2], f.shape[3])
		}
		total += shape[0]
		sum, err := f.sum(f.parts[len(f.parts)-1])
		if err != nil {
			return err
		}
		if other, twice := starts[sum]; twice {
			return fmt.Errorf("pdegym: %s begins with the same trajectory as %s, so it is a copy; download the file of that name again", path, other)
		}
		starts[sum] = path
	}
	return nil
}

// sum is a hash of a part's first trajectory.
func (f *Files) sum(p part) (sum [sha256.Size]byte, err error) {
	states := f.buffer()
	if err := p.array.Read(0, states); err != nil {
		return sum, explain(p.path, err)
	}
	hash, bytes := sha256.New(), make([]byte, 0, 1<<16)
	for k, v := range states {
		bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(v))
		if len(bytes) == cap(bytes) || k == len(states)-1 {
			hash.Write(bytes)
			bytes = bytes[:0]
		}
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// Trajectories is how many there are in all files.
func (f *Files) Trajectories() int {
	last := f.parts[len(f.parts)-1]
	return last.first + last.array.Shape()[0]
}

// Snapshots is how many states each trajectory has. PDEGym's have 21, 0.05 apart.
func (f *Files) Snapshots() int { return f.shape[0] }

// Grid is the number of cells of a state in y and in x.
func (f *Files) Grid() (height, width int) { return f.shape[2], f.shape[3] }

// StoredSize is the number of values of a trajectory as stored, [time, 5, y, x].
func (f *Files) StoredSize() int { return f.shape[0] * f.shape[1] * f.shape[2] * f.shape[3] }

// Size is the number of values of a trajectory in conserved variables, [time, y, x, 4].
func (f *Files) Size() int { return f.StoredSize() / len(Channels) * conserved }

// Parts are the files in their order.
func (f *Files) Parts() []Part {
	parts := make([]Part, len(f.parts))
	for k, p := range f.parts {
		parts[k] = Part{Path: p.path, Trajectories: p.array.Shape()[0]}
	}
	return parts
}

// buffer is for one trajectory as stored.
func (f *Files) buffer() []float32 {
	if f.stored == nil {
		f.stored = make([]float32, f.StoredSize())
	}
	return f.stored
}

// Read reads trajectory i as it is stored, [time, channel, y, x], into a slice of StoredSize values. Values are not looked at.
func (f *Files) Read(i int, into []float32) error {
	_, err := f.read(i, into)
	return err
}

// read also returns the trajectory's name for errors.
func (f *Files) read(i int, into []float32) (name string, err error) {
	switch {
	case i < 0 || i >= f.Trajectories():
		return "", fmt.Errorf("pdegym: there is no trajectory %d among %d; count them from 0", i, f.Trajectories())
	case len(into) != f.StoredSize():
		return "", fmt.Errorf("pdegym: a slice of %d values cannot take a trajectory as stored; make it of %d, StoredSize", len(into), f.StoredSize())
	}
	p := f.parts[sort.Search(len(f.parts), func(k int) bool { return f.parts[k].first > i })-1]
	name = fmt.Sprintf("trajectory %d (number %d of %s)", i, i-p.first, p.path)
	if err := p.array.Read(i-p.first, into); err != nil {
		return "", explain(p.path, fmt.Errorf("trajectory %d: %w", i-p.first, err))
	}
	return name, nil
}

// How far a cell's energy may be from that of its pressure, density and velocity, and in what share of cells it may be farther. With a
// wrong order of channels nearly every cell is.
const (
	energyTolerance = 0.01 // of the energy
	mayDiffer       = 0.5
)

// Conserved reads trajectory i in conserved variables: density, momentum_x, momentum_y, energy, as [time, y, x, channel], into a slice
// of Size values.
//
// A momentum is density times velocity, the exact product rounded once to float32: what NumPy computes as
// data[:, 0] * data[:, 1] and data[:, 0] * data[:, 2], bit for bit. Density and energy are as stored; energy is not computed
// from pressure.
//
// The trajectory is checked. It is an error if a value is not finite, if a density or pressure is not positive, or if in more than
// half of the cells the stored energy is farther than 1 % from pressure / (Gamma - 1) + density |velocity|² / 2: then the channels
// are in another order, or the gas is another. differing is the share of such cells, for a record of the data: it is 0 where all
// channels agree. An exchange of the two velocities leaves no trace in it.
func (f *Files) Conserved(i int, into []float32) (differing float64, err error) {
	if len(into) != f.Size() {
		return 0, fmt.Errorf("pdegym: a slice of %d values cannot take a trajectory in conserved variables; make it of %d, Size", len(into), f.Size())
	}
	stored := f.buffer()
	name, err := f.read(i, stored)
	if err != nil {
		return 0, err
	}
	height, width := f.Grid()
	cells, off := height*width, 0
	for t := range f.Snapshots() {
		state := stored[t*len(Channels)*cells:][:len(Channels)*cells]
		all := func(channel int) []float32 { return state[channel*cells:][:cells] }
		densities, us, vs, pressures, energies, outs := all(0), all(1), all(2), all(3), all(4), into[t*cells*conserved:][:cells*conserved]
		for cell := range cells {
			density, u, v, pressure, energy := densities[cell], us[cell], vs[cell], pressures[cell], energies[cell]
			r, x, y, p, e := float64(density), float64(u), float64(v), float64(pressure), float64(energy)
			if !(r > 0 && r <= largest && math.Abs(x) <= largest && math.Abs(y) <= largest && p > 0 && p <= largest && math.Abs(e) <= largest) {
				return 0, fmt.Errorf("pdegym: %s has %s at snapshot %d, y %d, x %d; download the file again",
					name, unphysical(density, u, v, pressure, energy), t, cell/width, cell%width)
			}
			want := p/(Gamma-1) + r*(x*x+y*y)/2
			if !(math.Abs(e-want) <= energyTolerance*want) {
				off++
			}
			out := outs[cell*conserved:][:conserved]
			out[0], out[1], out[2], out[3] = density, density*u, density*v, energy
		}
	}
	differing = float64(off) / float64(f.Snapshots()*cells)
	if differing > mayDiffer {
		return differing, fmt.Errorf("pdegym: in %.0f %% of the cells of %s the energy is not that of pressure, density and velocity to 1 %%, so its channels are not %v of a gas with gamma %g; use the files of CE-RP, CE-CRP or CE-RPUI",
			100*differing, name, Channels, Gamma)
	}
	return differing, nil
}

// largest value in any channel: so that no product overflows. PDEGym's are below 10.
const largest = 1e15

// unphysical says what is wrong with a cell's values.
func unphysical(values ...float32) string {
	for k, v := range values {
		switch {
		case !(math.Abs(float64(v)) <= largest):
			return fmt.Sprintf("the value %g in channel %s", v, Channels[k])
		case (k == 0 || k == 3) && v <= 0:
			return fmt.Sprintf("the %s %g, which should be positive,", Channels[k], v)
		}
	}
	return ""
}

// Close closes all files.
func (f *Files) Close() error {
	var all []error
	for _, p := range f.parts {
		if err := p.array.Close(); err != nil {
			all = append(all, fmt.Errorf("pdegym: %w", err))
		}
	}
	return errors.Join(all...)
}

// explain adds to an error of a file what to do about it.
func explain(path string, err error) error {
	var of *fs.PathError
	switch {
	case errors.Is(err, fs.ErrClosed):
		return fmt.Errorf("pdegym: %s is closed; open it again", path)
	case errors.As(err, &of):
		return fmt.Errorf("pdegym: %s cannot be read: %w; name a file that is there and that you may read", path, of.Err)
	case errors.Is(err, hdf5.ErrClassic):
		into := filepath.Join(filepath.Dir(path), "plain", filepath.Base(path))
		return fmt.Errorf("pdegym: %s is not read here: %w; rewrite it as NetCDF-4: mkdir -p %s && nccopy -k netCDF-4 %s %s", path, err, quote(filepath.Dir(into)), quote(path), quote(into))
	case errors.Is(err, hdf5.ErrFormat):
		return fmt.Errorf("pdegym: %s is not a file of PDEGym: %w; download it again", path, err)
	case errors.Is(err, hdf5.ErrDamaged):
		return fmt.Errorf("pdegym: %s is damaged or incomplete: %w; download it again", path, err)
	case errors.Is(err, hdf5.ErrNotWritten):
		return fmt.Errorf("pdegym: %s is incomplete: %w; download it again", path, err)
	case errors.Is(err, hdf5.ErrMissing):
		return fmt.Errorf("pdegym: %s is not a file of PDEGym's Euler data: %w; use the files of CE-RP, CE-CRP or CE-RPUI", path, err)
	case errors.Is(err, hdf5.ErrUnsupported):
		into := filepath.Join(filepath.Dir(path), "plain", filepath.Base(path))
		return fmt.Errorf("pdegym: %s is HDF5 of a kind that is not read here: %w; rewrite it as %s: %s", path, err, into, rewrite(path, into))
	}
	return fmt.Errorf("pdegym: %s cannot be read: %w; copy it to another disk, or download it again", path, err)
}

// rewrite is a command that writes a file's values in a form that is read here: contiguous, float32, in the oldest format.
func rewrite(path, into string) string {
	const program = "import h5py, os, sys; os.makedirs(os.path.dirname(sys.argv[2]) or '.', exist_ok=True); " +
		"a = h5py.File(sys.argv[1])['" + Variable + "']; " +
		"b = h5py.File(sys.argv[2], 'w', libver='earliest').create_dataset('" + Variable + "', a.shape, '<f4'); " +
		"[b.__setitem__(i, a[i]) for i in range(len(a))]"
	return fmt.Sprintf("pip install h5py && python3 -c \"%s\" %s %s", program, quote(path), quote(into))
}

// quote is a word of a shell's command.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
