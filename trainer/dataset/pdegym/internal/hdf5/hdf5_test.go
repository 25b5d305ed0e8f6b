package hdf5

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Values are those that the author of the hash publishes (lookup3.c, driver5).
func TestLookup3(t *testing.T) {
	require.Equal(t, uint32(0xdeadbeef), lookup3(nil))
	require.Equal(t, uint32(0x17770551), lookup3([]byte("Four score and seven years ago")))
}

func opened(t *testing.T, data []byte) *file {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.h5")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return &file{File: f, size: uint64(len(data))}
}

// What leads in a circle ends.
func TestCircles(t *testing.T) {
	header := make([]byte, 64)
	header[0] = 1
	binary.LittleEndian.PutUint32(header[8:], 24)
	binary.LittleEndian.PutUint16(header[16:], messageContinuation)
	binary.LittleEndian.PutUint16(header[18:], 16)
	binary.LittleEndian.PutUint64(header[24:], 16) // the same block
	binary.LittleEndian.PutUint64(header[32:], 24)
	_, err := opened(t, header).header(0)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "it goes on in more than 1000 places")

	fixture, err := os.ReadFile("../../testdata/small-chunks.h5")
	require.NoError(t, err)
	root := bytes.Index(fixture, []byte("TREE\x01\x01"))
	require.Positive(t, root)
	binary.LittleEndian.PutUint64(fixture[root+24+8+6*8:], uint64(root)) // its first child
	_, err = open(opened(t, fixture).File, "data")
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "of level 1, and should be of 0")
}

// Sizes that a header claims are compared with the file's before anything is allocated.
func TestClaims(t *testing.T) {
	for name, test := range map[string]struct {
		from, to []byte
		says     string
	}{
		"shape":            {dims64(3, 3, 5, 8, 8), dims64(3, 1<<40, 5, 8, 8), "its shape has more elements than the 33800 bytes of the file can hold"},
		"trajectories":     {dims64(3, 3, 5, 8, 8), dims64(1<<20, 3, 5, 8, 8), "its shape has more elements than"},
		"more of them":     {dims64(3, 3, 5, 8, 8), dims64(30, 3, 5, 8, 8), "its shape has 1800 chunks of 64 bytes, more than the 33800 bytes of the file can hold"},
		"fewer of them":    {dims64(3, 3, 5, 8, 8), dims64(2, 3, 5, 8, 8), "the index of its chunks has one that begins at 2 of axis 0"},
		"one more":         {dims64(3, 3, 5, 8, 8), dims64(4, 3, 5, 8, 8), "it has no values from index [3 0 0 0 0] on"},
		"chunks":           {dims32(1, 1, 1, 4, 4, 4), dims32(1<<20, 1<<20, 1, 4, 4, 4), "its chunks have no elements, or more than 268435456 bytes"},
		"chunks of nought": {dims32(1, 1, 1, 4, 4, 4), dims32(0, 1, 1, 4, 4, 4), "its chunks have no elements, or more than"},
		"big chunks":       {dims32(1, 1, 1, 4, 4, 4), dims32(1<<20, 1, 1, 4, 4, 4), "its shape has 60 chunks of 67108864 bytes, more than"},
		"elements":         {dims32(1, 1, 1, 4, 4, 4), dims32(1, 1, 1, 4, 4, 8), "its chunks are of elements of another size"},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile("../../testdata/small-chunks.h5")
			require.NoError(t, err)
			require.True(t, bytes.Contains(data, test.from))
			_, err = open(opened(t, bytes.ReplaceAll(data, test.from, test.to)).File, "data")
			require.ErrorContains(t, err, test.says)
		})
	}
}

func dims64(dims ...uint64) (p []byte) {
	for _, d := range dims {
		p = binary.LittleEndian.AppendUint64(p, d)
	}
	return p
}

func dims32(dims ...uint32) (p []byte) {
	for _, d := range dims {
		p = binary.LittleEndian.AppendUint32(p, d)
	}
	return p
}

// Blocks of every rank go to their place, and what they have beyond the ends goes nowhere.
func TestPlace(t *testing.T) {
	block := make([]byte, 6*size32)
	for k := range block {
		block[k] = byte(k / size32)
	}
	elements := func(array []byte) (e []byte) {
		for k := 0; k < len(array); k += size32 {
			e = append(e, array[k])
		}
		return e
	}
	array := make([]byte, size32)
	place(array, block[5*size32:], nil, nil, nil)
	require.Equal(t, []byte{5}, elements(array))
	array = make([]byte, 8*size32)
	place(array, block, []int{8}, []int{6}, []int{6})
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 1}, elements(array))
	array = make([]byte, 8*size32)
	place(array, block, []int{2, 4}, []int{2, 3}, []int{0, 3})
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 3}, elements(array))
	array = make([]byte, 8*size32)
	place(array, block, []int{2, 4}, []int{2, 3}, []int{1, 0})
	require.Equal(t, []byte{0, 0, 0, 0, 0, 1, 2, 0}, elements(array))
	array = make([]byte, 12*size32)
	place(array, block, []int{2, 3, 2}, []int{1, 3, 2}, []int{1, 0, 0})
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5}, elements(array))
}
