package pdegym_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/trainer/dataset/pdegym"
)

const snapshots, size = 3, 8 // of testdata

func fixture(name string) string { return filepath.Join("testdata", name) }

// value is what testdata/make.py wrote in one cell of a trajectory.
func value(trajectory, t, channel, y, x int) float32 {
	k := func(channel int) float64 {
		place := (((trajectory*snapshots+t)*5+channel)*size+y)*size + x
		return float64(uint32(place) * 2654435761 >> 10)
	}
	density := 1 + k(0)/(1<<23)
	u, v := k(1)/(1<<22)-0.5, k(2)/(1<<22)-0.5
	pressure := 0.125 + k(3)/(1<<24)
	// Conversions keep a compiler from fusing products with sums.
	energy := float64(pressure*2.5) + float64(density*(float64(u*u)+float64(v*v)))/2
	return float32([]float64{density, u, v, pressure, energy}[channel])
}

// same compares a trajectory as stored, bit for bit.
func same(states []float32, trajectory int) error {
	k := 0
	for t := range snapshots {
		for channel := range 5 {
			for y := range size {
				for x := range size {
					if want := value(trajectory, t, channel, y, x); math.Float32bits(states[k]) != math.Float32bits(want) {
						return fmt.Errorf("trajectory %d, time %d, channel %d, y %d, x %d: %g, not %g", trajectory, t, channel, y, x, states[k], want)
					}
					k++
				}
			}
		}
	}
	return nil
}

// readAll reads all trajectories of files.
func readAll(paths ...string) ([][]float32, error) {
	files, err := pdegym.Open(paths...)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	var all [][]float32
	for i := range files.Trajectories() {
		states := make([]float32, files.StoredSize())
		if err := files.Read(i, states); err != nil {
			return nil, err
		}
		all = append(all, states)
	}
	return all, nil
}

func TestReadsEveryKindOfFile(t *testing.T) {
	for _, name := range []string{
		"netcdf4.nc", "netcdf4-contiguous.nc", "netcdf4-deflate.nc", "contiguous.h5", "chunked.h5", "small-chunks.h5", "odd-chunks.h5",
		"odd-chunks-deflate.h5", "deflate.h5", "some-filters.h5", "latest-contiguous.h5", "scales.h5",
	} {
		t.Run(name, func(t *testing.T) {
			all, err := readAll(fixture(name))
			require.NoError(t, err)
			require.Len(t, all, 3)
			for i, states := range all {
				require.NoError(t, same(states, i))
			}
		})
	}
}

func TestFilesAreOneSequence(t *testing.T) {
	paths := []string{fixture("netcdf4.nc"), fixture("second.nc")}
	files, err := pdegym.Open(paths...)
	require.NoError(t, err)
	require.Equal(t, 5, files.Trajectories())
	require.Equal(t, snapshots, files.Snapshots())
	height, width := files.Grid()
	require.Equal(t, [2]int{size, size}, [2]int{height, width})
	require.Equal(t, []pdegym.Part{{Path: paths[0], Trajectories: 3}, {Path: paths[1], Trajectories: 2}}, files.Parts())
	states := make([]float32, files.StoredSize())
	for _, i := range []int{4, 0, 3, 2, 1} {
		require.NoError(t, files.Read(i, states))
		require.NoError(t, same(states, i))
	}
	require.EqualError(t, files.Read(5, states), "pdegym: there is no trajectory 5 among 5; count them from 0")
	require.ErrorContains(t, files.Read(-1, states), "there is no trajectory -1")
	require.EqualError(t, files.Read(0, states[1:]), "pdegym: a slice of 959 values cannot take a trajectory as stored; make it of 960, StoredSize")
	_, err = files.Conserved(0, states)
	require.EqualError(t, err, "pdegym: a slice of 960 values cannot take a trajectory in conserved variables; make it of 768, Size")
	require.NoError(t, files.Close())
	require.EqualError(t, files.Read(0, states), "pdegym: testdata/netcdf4.nc is closed; open it again")

	all, err := readAll(paths[1], paths[0])
	require.NoError(t, err)
	require.NoError(t, same(all[0], 3))
	require.NoError(t, same(all[2], 0))
}

// conserved.npy is what NumPy made of the trajectories.
func TestConservedIsWhatNumPyComputes(t *testing.T) {
	npy, err := os.ReadFile(fixture("conserved.npy"))
	require.NoError(t, err)
	require.Contains(t, string(npy[:128]), "'descr': '<f4', 'fortran_order': False, 'shape': (3, 3, 8, 8, 4)")
	npy = npy[128:]
	files, err := pdegym.Open(fixture("netcdf4.nc"))
	require.NoError(t, err)
	defer files.Close()
	states := make([]float32, files.Size())
	for i := range files.Trajectories() {
		differing, err := files.Conserved(i, states)
		require.NoError(t, err)
		require.Zero(t, differing)
		got, err := binary.Append(nil, binary.LittleEndian, states)
		require.NoError(t, err)
		require.True(t, bytes.Equal(npy[:len(got)], got), "trajectory %d", i)
		npy = npy[len(got):]
	}
	require.Empty(t, npy)
}

// begin is where the values of contiguous.h5 are.
const begin = 2048

// changed is contiguous.h5 with values changed by a function of all of them.
func changed(t *testing.T, change func(values []float32)) string {
	t.Helper()
	file, err := os.ReadFile(fixture("contiguous.h5"))
	require.NoError(t, err)
	values := make([]float32, 3*snapshots*5*size*size)
	_, err = binary.Decode(file[begin:], binary.LittleEndian, values)
	require.NoError(t, err)
	require.Equal(t, value(0, 0, 0, 0, 0), values[0])
	change(values)
	_, err = binary.Encode(file[begin:], binary.LittleEndian, values)
	require.NoError(t, err)
	return write(t, "changed.h5", file)
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

func TestConservedChecksValues(t *testing.T) {
	const cells = size * size
	const second = snapshots * 5 * cells // the second trajectory's first value
	exchange := func(a, b int) func([]float32) {
		return func(values []float32) {
			for state := values; len(state) > 0; state = state[5*cells:] {
				for k := range cells {
					state[a*cells+k], state[b*cells+k] = state[b*cells+k], state[a*cells+k]
				}
			}
		}
	}
	set := func(k int, v float32) func([]float32) {
		return func(values []float32) { values[second+k] = v }
	}
	scale := func(channel int, by float32) func([]float32) {
		return func(values []float32) {
			for k := range values {
				if k/cells%5 == channel {
					values[k] *= by
				}
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func([]float32)
		says   string // empty: no error
	}{
		{"nothing", func([]float32) {}, ""},
		{"NaN", set(5*cells+2*cells+3*size+4, float32(math.NaN())), "trajectory 1 (number 1 of %s) has the value NaN in channel velocity_y at snapshot 1, y 3, x 4; download the file again"},
		{"infinity", set(4*cells, float32(math.Inf(-1))), "has the value -Inf in channel energy at snapshot 0, y 0, x 0;"},
		{"huge", set(cells, 1e30), "has the value 1e+30 in channel velocity_x"},
		{"no density", set(7, 0), "has the density 0, which should be positive, at snapshot 0, y 0, x 7;"},
		{"negative pressure", set(3*cells, -0.25), "has the pressure -0.25, which should be positive, at"},
		{"density and pressure exchanged", exchange(0, 3), "the energy is not that of pressure, density and velocity to 1 %%"},
		{"pressure and energy exchanged", exchange(3, 4), "the energy is not"},
		{"density and energy exchanged", exchange(0, 4), "the energy is not"},
		{"another gas", scale(3, 0.4/(5./3-1)), "the energy is not"},
		{"velocities exchanged", exchange(1, 2), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := changed(t, test.change)
			files, err := pdegym.Open(path)
			require.NoError(t, err)
			defer files.Close()
			_, err = files.Conserved(1, make([]float32, files.Size()))
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			if strings.Contains(test.says, "%s") {
				test.says = fmt.Sprintf(test.says, path)
			}
			require.ErrorContains(t, err, strings.ReplaceAll(test.says, "%%", "%"))
			require.ErrorContains(t, err, path)
		})
	}
	// A shock, where averages of the channels need not agree, is no wrong order; it is told.
	path := changed(t, func(values []float32) {
		for y := range size {
			values[second+4*cells+y*size] *= 1.02
			values[second+4*cells+y*size+1] *= 1.009
		}
	})
	files, err := pdegym.Open(path)
	require.NoError(t, err)
	defer files.Close()
	differing, err := files.Conserved(1, make([]float32, files.Size()))
	require.NoError(t, err)
	require.Equal(t, 1./size/snapshots, differing)
}

func TestRefusesWithARemedy(t *testing.T) {
	const again, rewrite, other = "; download it again", "python3 -c", "; use the files of CE-RP, CE-CRP or CE-RPUI"
	for name, test := range map[string]struct{ says, remedy string }{
		"latest-chunked.h5":  {"its chunks are found by an index of HDF5 1.10 or later", rewrite},
		"many-names.h5":      {"its root group has so many objects that they are in an index of their own", rewrite},
		"big-endian.h5":      {"its elements are floating-point numbers of 4 bytes in big-endian order", rewrite},
		"float64.h5":         {"its elements are floating-point numbers of 8 bytes", rewrite},
		"integers.h5":        {"its elements are integers of 4 bytes", rewrite},
		"lzf.h5":             {"its chunks are compressed with filter 32000 of HDF5; deflate (1) and shuffle (2) are read", rewrite},
		"fletcher32.h5":      {"filter 3 of HDF5", rewrite},
		"named-type.h5":      {"its type is one that is kept under a name of its own", rewrite},
		"external.h5":        {"its values are in other files", rewrite},
		"user-block.h5":      {"512 bytes of something else come before its header", rewrite},
		"netcdf3.nc":         {"it is NetCDF of the classic format", "; rewrite it as NetCDF-4: mkdir -p 'testdata/plain' && nccopy -k netCDF-4 'testdata/netcdf3.nc' 'testdata/plain/netcdf3.nc'"},
		"no-variable.h5":     {`it has no "data"`, other},
		"group.h5":           {"it is no array but a group or a type", other},
		"link.h5":            {`"data" leads to another place`, rewrite},
		"link-latest.h5":     {`"data" leads to another place or file`, rewrite},
		"no-trajectories.h5": {"one of its axes has no elements", again},
		"never-written.h5":   {"no value of it was ever written", again},
		"half-written.h5":    {"its shape has 9 chunks of 1280 bytes, more than the 9416 bytes of the file can hold", again},
		"four-axes.h5":       {"has \"data\" of shape [3 5 8 8], and compressible-Euler data are [trajectory, time, 5 channels, y, x]", other},
		"four-channels.h5":   {"of shape [1 3 4 8 8]", other},
		"nowhere.nc":         {"cannot be read: no such file or directory", "; name a file that is there"},
		"":                   {"it is no regular file", again},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pdegym.Open(fixture(name))
			require.ErrorContains(t, err, "pdegym: "+fixture(name)+" ")
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, test.remedy)
		})
	}
	_, err := pdegym.Open()
	require.EqualError(t, err, "pdegym: there are no files to open; name those of one family, such as data_0.nc")
}

func TestRefusesWhatIsNoHDF5(t *testing.T) {
	for name, test := range map[string]struct{ holds, says string }{
		"page":    {"<!DOCTYPE html><html>Sign in</html>", `it is not an HDF5 file: it begins with "<!DOCTYPE html><html>Sig"; download it again`},
		"pointer": {"version https://git-lfs.github.com/spec/v1\n", `it begins with "version https://git-lfs."; download it again`},
		"empty":   {"", "it is empty; download it again"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pdegym.Open(write(t, "data_0.nc", []byte(test.holds)))
			require.ErrorContains(t, err, test.says)
		})
	}
}

func TestRefusesPartsThatDoNotBelongTogether(t *testing.T) {
	first := fixture("netcdf4.nc")
	for name, test := range map[string]struct{ path, says string }{
		"grid":      {fixture("other-grid.h5"), "pdegym: testdata/other-grid.h5 has a grid of 4x8, and testdata/netcdf4.nc one of 8x8; open files of one family"},
		"snapshots": {fixture("other-time.h5"), "pdegym: testdata/other-time.h5 has 2 snapshots a trajectory, and testdata/netcdf4.nc has 3; open files of one family"},
		"copy":      {fixture("chunked.h5"), "pdegym: testdata/chunked.h5 begins with the same trajectory as testdata/netcdf4.nc, so it is a copy; download the file of that name again"},
		"twice":     {first, "pdegym: testdata/netcdf4.nc and testdata/netcdf4.nc are the same file; name it once"},
		"lost":      {fixture("nowhere.nc"), "pdegym: testdata/nowhere.nc cannot be read: no such file or directory; name a file that is there and that you may read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pdegym.Open(first, fixture("second.nc"), test.path)
			require.EqualError(t, err, test.says)
		})
	}
}

// A download that stopped, at every length.
func TestRefusesTruncatedFiles(t *testing.T) {
	for _, name := range []string{"netcdf4.nc", "netcdf4-deflate.nc", "contiguous.h5", "small-chunks.h5", "scales.h5", "latest-contiguous.h5"} {
		file, err := os.ReadFile(fixture(name))
		require.NoError(t, err)
		path := write(t, name, file)
		for n := len(file) - 1; n >= 0; n -= 1 + n/500 {
			require.NoError(t, os.Truncate(path, int64(n)))
			_, err := readAll(path)
			require.ErrorContains(t, err, "; download it again", "%s of %d bytes", name, n)
		}
	}
}

// One byte is missing; what is cut off is not read, so only the length that the file claims tells.
func TestRefusesOneMissingByte(t *testing.T) {
	file, err := os.ReadFile(fixture("scales.h5"))
	require.NoError(t, err)
	_, err = pdegym.Open(write(t, "data_0.nc", file[:len(file)-1]))
	require.ErrorContains(t, err, "it has 35367 bytes, and its header says 35368; download it again")
}

// What newer files say of themselves has checksums, so that no byte of it can change unnoticed.
func TestChecksums(t *testing.T) {
	file, err := os.ReadFile(fixture("latest-contiguous.h5"))
	require.NoError(t, err)
	const superblock = 48
	var checked []int
	for at := range superblock {
		checked = append(checked, at)
	}
	for at := range len(file) - 64 {
		if string(file[at:at+4]) == "OHDR" {
			for k := range 64 {
				checked = append(checked, at+k)
			}
		}
	}
	require.Len(t, checked, superblock+2*64)
	path := write(t, "data_0.nc", file)
	for _, at := range checked {
		for _, bit := range []byte{1, 0x80} {
			damaged := bytes.Clone(file)
			damaged[at] ^= bit
			require.NoError(t, os.WriteFile(path, damaged, 0o600))
			_, err := pdegym.Open(path)
			require.Error(t, err, at)
		}
	}
}

// A file that is cut off while it is open.
func TestRefusesWhatBecameShorter(t *testing.T) {
	file, err := os.ReadFile(fixture("contiguous.h5"))
	require.NoError(t, err)
	path := write(t, "data_0.nc", file)
	files, err := pdegym.Open(path)
	require.NoError(t, err)
	defer files.Close()
	require.NoError(t, os.Truncate(path, begin+4000))
	states := make([]float32, files.StoredSize())
	require.NoError(t, files.Read(0, states))
	require.ErrorContains(t, files.Read(2, states), "is damaged or incomplete: trajectory 2: the file has become shorter than the 13568 bytes it had; download it again")
}

// Bytes of headers and indices are overwritten at random. No such file may cost time or memory beyond its size, or have other
// values than were written where the format has checksums. In what has none, some bytes say where values are.
// SYMAUDIT_MUTATIONS is how many trials each file gets.
func TestDamagedFiles(t *testing.T) {
	trials := 100
	if text := os.Getenv("SYMAUDIT_MUTATIONS"); text != "" {
		var err error
		trials, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	for _, test := range []struct {
		name    string
		checked bool // all that leads to the values has checksums
	}{
		{"netcdf4-contiguous.nc", true}, {"latest-contiguous.h5", true},
		{"netcdf4.nc", false}, {"netcdf4-deflate.nc", false}, {"contiguous.h5", false}, {"small-chunks.h5", false}, {"scales.h5", false},
		{"odd-chunks-deflate.h5", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			file, err := os.ReadFile(fixture(test.name))
			require.NoError(t, err)
			isValue := valueBytes(file)
			path := write(t, test.name, file)
			random := rand.New(rand.NewPCG(1, uint64(len(file))))
			refused, wrong := 0, 0
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			for range trials {
				damaged := bytes.Clone(file)
				for range 1 + random.IntN(3) {
					at := random.IntN(len(file))
					for isValue[at] {
						at = random.IntN(len(file))
					}
					damaged[at] = byte(random.Uint32())
				}
				require.NoError(t, os.WriteFile(path, damaged, 0o600))
				all, err := readAll(path)
				if err != nil {
					require.ErrorContains(t, err, "pdegym: "+path)
					refused++
					continue
				}
				if len(all) != 3 {
					wrong++
					continue
				}
				for i, states := range all {
					if len(states) != snapshots*5*size*size || same(states, i) != nil {
						wrong++
						break
					}
				}
			}
			runtime.ReadMemStats(&after)
			each := (after.TotalAlloc - before.TotalAlloc) / uint64(trials)
			t.Logf("%d of %d refused, %d of other values; %d KiB and %v each", refused, trials, wrong, each>>10, time.Since(began)/time.Duration(trials))
			require.Less(t, each, uint64(2<<20))
			if test.checked {
				require.Zero(t, wrong)
			}
			require.Less(t, wrong, 1+trials/100)
			require.NotZero(t, refused)
		})
	}
}

// valueBytes marks where the values of all trajectories are, of files that are not compressed.
func valueBytes(file []byte) []bool {
	marked := make([]bool, len(file))
	written := map[[8]byte]bool{} // any two neighbours in x
	for i := range 3 {
		for t := range snapshots {
			for channel := range 5 {
				for y := range size {
					for x := range size - 1 {
						var two [8]byte
						binary.LittleEndian.PutUint32(two[:], math.Float32bits(value(i, t, channel, y, x)))
						binary.LittleEndian.PutUint32(two[4:], math.Float32bits(value(i, t, channel, y, x+1)))
						written[two] = true
					}
				}
			}
		}
	}
	for at := range len(file) - 7 {
		if written[[8]byte(file[at:])] {
			for k := range 8 {
				marked[at+k] = true
			}
		}
	}
	return marked
}
