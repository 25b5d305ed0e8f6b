package npy_test

import (
	"path/filepath"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/numpy"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/npy"
)

// GoMLX's own reader finds what was written, row by row or column by column.
func TestArraysAreReadBack(t *testing.T) {
	for _, test := range []struct {
		create func(string, dtypes.DType, []int) (*npy.Array, error)
		want   []float64
	}{{npy.Create, []float64{1, 2, 3, 4, 5, 6}}, {npy.CreateByColumns, []float64{1, 3, 5, 2, 4, 6}}} {
		path := filepath.Join(t.TempDir(), "array.npy")
		array, err := test.create(path, dtypes.Float64, []int{2, 3})
		require.NoError(t, err)
		require.NoError(t, array.Floats(1, 2))
		require.NoError(t, array.Floats(3, 4, 5, 6))
		require.NoError(t, array.Close())
		read, err := numpy.FromNpyFile(path)
		require.NoError(t, err)
		require.Equal(t, []int{2, 3}, read.Shape().Dimensions)
		require.Equal(t, test.want, tensors.MustCopyFlatData[float64](read))
	}
}

func TestOtherTypesAndVectors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "array.npy")
	array, err := npy.Create(path, dtypes.Int32, []int{2})
	require.NoError(t, err)
	_, err = array.Write([]byte{1, 0, 0, 0, 0, 1, 0, 0})
	require.NoError(t, err)
	require.NoError(t, array.Close())
	read, err := numpy.FromNpyFile(path)
	require.NoError(t, err)
	require.Equal(t, []int32{1, 256}, tensors.MustCopyFlatData[int32](read))
}

func TestFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "array.npy")
	array, err := npy.Create(path, dtypes.Float64, []int{3})
	require.NoError(t, err)
	require.NoError(t, array.Floats(1, 2))
	require.ErrorContains(t, array.Close(), "array.npy has 8 bytes too few for its shape")
	_, err = npy.Create(path, dtypes.BFloat16, nil)
	require.EqualError(t, err, "npy: NumPy has no type for bfloat16")
	_, err = npy.Create(filepath.Join(path, "in a file"), dtypes.Float64, nil)
	require.Error(t, err)
}
