// Package npy writes NumPy arrays piece by piece, so that one may be longer than memory.
package npy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/gomlx/compute/dtypes"
)

// types are NumPy's names of element types.
var types = map[dtypes.DType]string{
	dtypes.Bool: "|b1", dtypes.Float16: "<f2", dtypes.Float32: "<f4", dtypes.Float64: "<f8",
	dtypes.Int8: "|i1", dtypes.Int16: "<i2", dtypes.Int32: "<i4", dtypes.Int64: "<i8",
	dtypes.Uint8: "|u1", dtypes.Uint16: "<u2", dtypes.Uint32: "<u4", dtypes.Uint64: "<u8",
}

// Array is a file that is being written. Elements follow on each other as the last index runs, or with ByColumns the first.
type Array struct {
	file   *os.File
	buffer *bufio.Writer
	left   int64 // bytes
	small  []byte
}

// Create begins a new file in NumPy's format 1.0, of elements of a type that NumPy has.
func Create(path string, dtype dtypes.DType, shape []int) (*Array, error) {
	return create(path, dtype, shape, "False")
}

// CreateByColumns is Create, for elements that come column by column: in Fortran's order.
func CreateByColumns(path string, dtype dtypes.DType, shape []int) (*Array, error) {
	return create(path, dtype, shape, "True")
}

func create(path string, dtype dtypes.DType, shape []int, fortran string) (*Array, error) {
	kind, known := types[dtype]
	if !known {
		return nil, fmt.Errorf("npy: NumPy has no type for %s", strings.ToLower(dtype.String()))
	}
	a := &Array{left: int64(dtype.Size())}
	var dimensions strings.Builder
	for _, n := range shape {
		a.left *= int64(n)
		fmt.Fprintf(&dimensions, "%d, ", n)
	}
	// A tuple of one has a comma after it, and one of several may.
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }", kind, fortran, strings.TrimSuffix(dimensions.String(), " "))
	const before, alignment = 10, 64
	padding := alignment - (before+len(header)+1)%alignment
	header += strings.Repeat(" ", padding) + "\n"
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("npy: %w", err)
	}
	a.file, a.buffer = file, bufio.NewWriterSize(file, 1<<20)
	start := binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(header)))
	if _, err := a.buffer.Write(append(start, header...)); err != nil {
		return nil, errors.Join(fmt.Errorf("npy: %w", err), file.Close())
	}
	return a, nil
}

// Write adds elements as bytes in little-endian order.
func (a *Array) Write(elements []byte) (int, error) {
	a.left -= int64(len(elements))
	return a.buffer.Write(elements)
}

// Floats adds elements of an array of float64.
func (a *Array) Floats(elements ...float64) error {
	a.small = a.small[:0]
	for _, v := range elements {
		a.small = binary.LittleEndian.AppendUint64(a.small, math.Float64bits(v))
	}
	_, err := a.Write(a.small)
	return err
}

// Close ends the file. It is an error if there are fewer elements than the shape has, or more.
func (a *Array) Close() error {
	err := errors.Join(a.buffer.Flush(), a.file.Close())
	if err == nil && a.left != 0 {
		err = fmt.Errorf("npy: %s has %d bytes too few for its shape", a.file.Name(), a.left)
	}
	return err
}
