package pdegym_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/trainer/dataset/pdegym"
)

// BenchmarkBigFile reads files in the shape of PDEGym's in turns with h5py, and compares the bits of all values. SYMAUDIT_PYTHON is a Python with h5py and netCDF4,
// SYMAUDIT_TRAJECTORIES how many are written (6.9 MB each; 40 by default). Times are the shortest of seven, of files that the page cache has, without what a process
// takes to start. Peaks of memory are those of whole processes, Python with its packages and the test with all that it has read until then.
func BenchmarkBigFile(b *testing.B) {
	python := os.Getenv("SYMAUDIT_PYTHON")
	if python == "" {
		b.Skip("SYMAUDIT_PYTHON names no Python with h5py and netCDF4")
	}
	trajectories := "40"
	if text := os.Getenv("SYMAUDIT_TRAJECTORIES"); text != "" {
		trajectories = text
	}
	run := func(args ...string) string {
		out, err := exec.Command(python, append([]string{fixture("big.py")}, args...)...).CombinedOutput()
		require.NoError(b, err, string(out))
		return string(out)
	}
	var lines []string
	for _, kind := range []string{"contiguous", "plain", "deflate"} {
		path := filepath.Join(b.TempDir(), "data_0.nc")
		run("write", path, trajectories, kind)
		sums := strings.Fields(run("sums", path))
		for k, way := range []string{"read", "conserved"} {
			b.Run(kind+"/"+way, func(b *testing.B) {
				b.ReportMetric(0, "ns/op")
				hash, bytes := sha256.New(), make([]byte, 0, 1<<16)
				size := readBig(b, path, way, func(values []float32) {
					for values := range slices.Chunk(values, cap(bytes)/4) {
						bytes = bytes[:0]
						for _, v := range values {
							bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(v))
						}
						hash.Write(bytes)
					}
				})
				require.Equal(b, sums[k], hex.EncodeToString(hash.Sum(nil)), "values are not those of h5py, bit for bit")
				ours, theirs, theirPeak := math.Inf(1), math.Inf(1), 0.0
				for range 7 {
					began := time.Now()
					readBig(b, path, way, func([]float32) {})
					ours = min(ours, time.Since(began).Seconds())
					var seconds float64
					_, err := fmt.Sscan(run(way, path), &seconds, &theirPeak)
					require.NoError(b, err)
					theirs = min(theirs, seconds)
				}
				b.ReportMetric(size/1e6/ours, "MB/s")
				b.ReportMetric(size/1e6/theirs, "h5py-MB/s")
				b.ReportMetric(peak(b), "peak-MB")
				b.ReportMetric(theirPeak, "h5py-peak-MB")
				lines = append(lines, fmt.Sprintf("%-12s %-10s %8.0f %8.0f %6.2f %8.0f %8.0f   the same", kind, way, size/1e6/ours, size/1e6/theirs, ours/theirs, peak(b), theirPeak))
				require.Less(b, peak(b), theirPeak, "memory at its peak")
			})
		}
		require.NoError(b, os.Remove(path))
	}
	fmt.Println("Reading files of PDEGym's form      MB/s            time      peak, MB")
	fmt.Println("                             ours     h5py  ratio     ours     h5py   bits of all values")
	fmt.Println(strings.Join(lines, "\n"))
	if !b.Failed() {
		fmt.Println("verdict: all values are those of h5py bit for bit, with less memory; a ratio above 1 is h5py's lead")
	}
}

// readBig reads a file as stored, or in conserved variables, one trajectory after the other, and returns how many bytes of values are stored.
func readBig(b *testing.B, path, way string, each func([]float32)) float64 {
	files, err := pdegym.Open(path)
	require.NoError(b, err)
	states := make([]float32, map[string]int{"read": files.StoredSize(), "conserved": files.Size()}[way])
	for i := range files.Trajectories() {
		if way == "read" {
			err = files.Read(i, states)
		} else {
			_, err = files.Conserved(i, states)
		}
		require.NoError(b, err)
		each(states)
	}
	require.NoError(b, files.Close())
	return float64(4 * files.Trajectories() * files.StoredSize())
}

// peak is the most memory that this process has had, in MB.
func peak(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(b, err)
	kib, err := strconv.ParseFloat(string(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)[1]), 64)
	require.NoError(b, err)
	return kib * 1024 / 1e6
}
