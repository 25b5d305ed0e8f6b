package pdegym_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/trainer/dataset/pdegym"
)

// BenchmarkBigFile reads a file in the shape of PDEGym's, and then h5py does. SYMAUDIT_PYTHON is a Python with h5py and netCDF4,
// SYMAUDIT_TRAJECTORIES how many are written (6.9 MB each; 40 by default). Peaks of memory are those of the whole process.
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
	for _, kind := range []string{"plain", "contiguous", "deflate"} {
		path := filepath.Join(b.TempDir(), "data_0.nc")
		run("write", path, trajectories, kind)
		for _, way := range []struct {
			what string
			read func(*pdegym.Files) error
		}{
			{"read", func(f *pdegym.Files) error {
				states := make([]float32, f.StoredSize())
				for i := range f.Trajectories() {
					if err := f.Read(i, states); err != nil {
						return err
					}
				}
				return nil
			}},
			{"conserved", func(f *pdegym.Files) error {
				states := make([]float32, f.Size())
				for i := range f.Trajectories() {
					if _, err := f.Conserved(i, states); err != nil {
						return err
					}
				}
				return nil
			}},
		} {
			b.Run(kind+"/"+way.what, func(b *testing.B) {
				var ours, theirs, theirPeak float64
				var bytes int
				for b.Loop() {
					began := time.Now()
					files, err := pdegym.Open(path)
					require.NoError(b, err)
					require.NoError(b, way.read(files))
					ours += time.Since(began).Seconds()
					bytes += files.Trajectories() * files.StoredSize() * 4
					require.NoError(b, files.Close())
					var seconds float64
					_, err = fmt.Sscan(run(way.what, path), &seconds, &theirPeak)
					require.NoError(b, err)
					theirs += seconds
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(bytes)/1e6/ours, "MB/s")
				b.ReportMetric(float64(bytes)/1e6/theirs, "h5py-MB/s")
				b.ReportMetric(peak(b), "peak-MB")
				b.ReportMetric(theirPeak, "h5py-peak-MB")
			})
		}
		require.NoError(b, os.Remove(path))
	}
}

// peak is the most memory that this process has had, in MB.
func peak(b *testing.B) float64 {
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(b, err)
	kib, err := strconv.ParseFloat(string(regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)[1]), 64)
	require.NoError(b, err)
	return kib * 1024 / 1e6
}
