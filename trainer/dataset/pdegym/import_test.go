package pdegym_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/trainer/dataset"
	"github.com/symaudit/symaudit/trainer/dataset/pdegym"
)

// requireImported compares a trajectory of a data set with one of the files, [time, y, x, channel] in conserved variables.
func requireImported(t *testing.T, set *dataset.Set, family, trajectory, inFiles int) {
	t.Helper()
	for time := range snapshots {
		state := make([]float32, size*size*4)
		require.NoError(t, set.Read(dataset.Snapshot{Family: family, Trajectory: trajectory, Time: time}, state))
		for y := range size {
			for x := range size {
				at := func(channel int) float32 { return value(inFiles, time, channel, y, x) }
				require.Equal(t, []float32{at(0), at(0) * at(1), at(0) * at(2), at(4)}, state[(y*size+x)*4:][:4], "time %d, y %d, x %d", time, y, x)
			}
		}
	}
}

func TestImport(t *testing.T) {
	// Five trajectories in two files of one family, in one sequence.
	sources, err := pdegym.Sources([]string{"CE-RP=" + fixture("chunked.h5"), "CE-RP=" + fixture("second.nc")}, pdegym.Numeric)
	require.NoError(t, err)
	require.Equal(t, []pdegym.Source{{Label: "CE-RP", Paths: []string{fixture("chunked.h5"), fixture("second.nc")}}}, sources)
	m, err := pdegym.NewImport(sources, pdegym.Counts{Train: 2, Validation: -1, Test: -1}, pdegym.Numeric, 0.05)
	require.NoError(t, err)
	defer m.Close()
	require.Equal(t, []dataset.Split{{Name: dataset.Train, First: 0, Count: 2}, {Name: dataset.Test, First: 2, Count: 1}}, m.Splits)
	require.Equal(t, "riemann", m.Families[0].Name)
	dir := filepath.Join(t.TempDir(), "data")
	ctx, cancel := context.WithCancelCause(context.Background())
	_, _, err = m.Run(ctx, dir, false, func(int, int) { cancel(errors.New("interrupted")) })
	require.EqualError(t, err, "pdegym: stopped after 1 of 3 trajectories: interrupted")
	missing, err := m.Plan(dir, true)
	require.NoError(t, err)
	require.Equal(t, 2, missing)
	var heard []int
	set, differing, err := m.Run(context.Background(), dir, true, func(done, total int) {
		require.Equal(t, 3, total)
		heard = append(heard, done)
	})
	require.NoError(t, err)
	defer set.Close()
	require.Equal(t, []int{2, 3}, heard)
	require.Zero(t, differing)
	require.NoError(t, set.Verify(nil))
	for trajectory, inFiles := range []int{0, 1, 4} {
		requireImported(t, set, 0, trajectory, inFiles)
	}
	require.JSONEq(t, `{"collection": "PDEGym", "families": [{"label": "CE-RP", "parts": [{"path": "chunked.h5", "trajectories": 3}, {"path": "second.nc", "trajectories": 2}]}],
		"order_of_files": "numeric", "trajectories_in_files": {"train": [0, 1], "test": [4, 4]}, "gamma": 1.4,
		"conserved": "momentum = density * velocity; density and energy as stored"}`, string(set.Origin))
}

func TestImportOfSeveralFamilies(t *testing.T) {
	dir := t.TempDir()
	// Two trajectories of a family of its own: the second file of the first.
	sources, err := pdegym.Sources([]string{"CE-RP=" + fixture("contiguous.h5"), "CE-XY=" + fixture("second.nc")}, pdegym.Numeric)
	require.NoError(t, err)
	_, err = pdegym.NewImport(sources, pdegym.All, pdegym.Numeric, 0.05)
	require.ErrorContains(t, err, "CE-XY has 2 trajectories, and CE-RP has 3; give the same files of each family")
	_, err = pdegym.NewImport([]pdegym.Source{sources[0], {Label: "CE-CRP", Paths: []string{fixture("chunked.h5")}}}, pdegym.All, pdegym.Numeric, 0.05)
	require.ErrorContains(t, err, "CE-RP and CE-CRP begin with the same trajectory, so they are the same files")
	m, err := pdegym.NewImport([]pdegym.Source{{Label: "CE-XY", Paths: []string{fixture("second.nc")}}}, pdegym.All, pdegym.Numeric, 0.05)
	require.NoError(t, err)
	defer m.Close()
	set, _, err := m.Run(context.Background(), filepath.Join(dir, "data"), false, nil)
	require.NoError(t, err)
	defer set.Close()
	require.Equal(t, []dataset.Family{{Name: "ce-xy", Label: "CE-XY"}}, set.Families)
	for trajectory := range 2 {
		requireImported(t, set, 0, trajectory, 3+trajectory)
	}
}

// An import goes on from the files that it was begun with, whatever these are called now.
func TestImportGoesOnFromTheSameFiles(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "data_0.nc")
	copyOf := func(name string) {
		text, err := os.ReadFile(fixture(name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, text, 0o666))
	}
	open := func() *pdegym.Import {
		m, err := pdegym.NewImport([]pdegym.Source{{Label: "CE-RP", Paths: []string{file}}}, pdegym.All, pdegym.Numeric, 0.05)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, m.Close()) })
		return m
	}
	copyOf("chunked.h5")
	ctx, cancel := context.WithCancelCause(context.Background())
	_, _, err := open().Run(ctx, filepath.Join(dir, "data"), false, func(int, int) { cancel(errors.New("interrupted")) })
	require.ErrorContains(t, err, "interrupted")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	first := make([]byte, 4)
	binary.LittleEndian.PutUint32(first, math.Float32bits(value(0, 0, 0, 0, 0)))
	at := bytes.Index(text, first)
	require.Positive(t, at)
	binary.LittleEndian.PutUint32(first, math.Float32bits(value(0, 0, 0, 0, 0)*1.0001))
	copy(text[at:], first)
	require.NoError(t, os.WriteFile(file, text, 0o666))
	_, _, err = open().Run(context.Background(), filepath.Join(dir, "data"), true, nil)
	require.ErrorContains(t, err, "trajectory 0 of CE-RP was imported from files of other contents than these")
	copyOf("chunked.h5")
	set, _, err := open().Run(context.Background(), filepath.Join(dir, "data"), true, nil)
	require.NoError(t, err)
	require.NoError(t, set.Close())
}

func TestImportRefuses(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "CE-RP")
	require.NoError(t, os.Mkdir(folder, 0o777))
	text, err := os.ReadFile(fixture("netcdf4.nc"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "data_0.nc"), text, 0o666))
	sources, err := pdegym.Sources([]string{folder}, pdegym.Numeric)
	require.NoError(t, err)
	require.Equal(t, "CE-RP", sources[0].Label)
	_, err = pdegym.Sources([]string{fixture("netcdf4.nc")}, pdegym.Numeric)
	require.ErrorContains(t, err, "is a file, which does not tell its family; name that, too, as in CE-RP=")
	_, err = pdegym.Sources([]string{"CE-RP=none.nc"}, pdegym.Numeric)
	require.ErrorContains(t, err, "none.nc cannot be read: no such file or directory")
	for want, of := range map[string][]pdegym.Source{
		"there is nothing to import": nil,
		"CE-CRP has 2 trajectories, and CE-RP has 3; give the same files of each family": {sources[0], {Label: "CE-CRP", Paths: []string{fixture("second.nc")}}},
		"and CE-RP 3 of 8x8; import them as data sets of their own":                      {sources[0], {Label: "CE-CRP", Paths: []string{fixture("other-grid.h5")}}},
	} {
		m, err := pdegym.NewImport(of, pdegym.All, pdegym.Numeric, 0.05)
		require.ErrorContains(t, err, want)
		_ = m
	}
	_, err = pdegym.NewImport(sources, pdegym.Counts{Train: 3, Validation: -1, Test: -1}, pdegym.Numeric, 0.05)
	require.ErrorContains(t, err, "3 trajectories are to be for train, and of the 3 in the files of each family 2 are; take fewer, or give more files")
}
