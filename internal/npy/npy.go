// Package npy writes and reads NumPy arrays piece by piece, so that one may be longer than memory.
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
	start, err := header(dtype, shape, fortran)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("npy: %w", err)
	}
	a := &Array{file: file, buffer: bufio.NewWriterSize(file, 1<<20), left: size(dtype, shape)}
	if _, err := a.buffer.Write(start); err != nil {
		return nil, errors.Join(fmt.Errorf("npy: %w", err), file.Close())
	}
	return a, nil
}

// Header is what stands before the elements of an array that are stored as its last index runs, of a type that NumPy has.
func Header(dtype dtypes.DType, shape []int) ([]byte, error) { return header(dtype, shape, "False") }

func header(dtype dtypes.DType, shape []int, fortran string) ([]byte, error) {
	kind, known := types[dtype]
	if !known {
		return nil, fmt.Errorf("npy: NumPy has no type for %s", strings.ToLower(dtype.String()))
	}
	const alignment = 64
	text := describe(kind, shape, fortran)
	text += strings.Repeat(" ", alignment-(len(mark)+2+len(text)+1)%alignment) + "\n"
	return append(binary.LittleEndian.AppendUint16([]byte(mark), uint16(len(text))), text...), nil
}

const mark = "\x93NUMPY\x01\x00" // and version 1.0; the length of the text follows, as two bytes

func describe(kind string, shape []int, fortran string) string {
	var dimensions strings.Builder
	for _, n := range shape {
		fmt.Fprintf(&dimensions, "%d, ", n)
	}
	of := strings.TrimSuffix(dimensions.String(), " ")
	if len(shape) > 1 {
		of = strings.TrimSuffix(of, ",") // as NumPy writes it: a tuple of one alone has a comma after it
	}
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }", kind, fortran, of)
}

func size(dtype dtypes.DType, shape []int) int64 {
	bytes := int64(dtype.Size())
	for _, n := range shape {
		bytes *= int64(n)
	}
	return bytes
}

// Check makes sure that a file holds an array of this type and shape, stored as its last index runs, and returns where its elements begin. The
// error is the rest of a sentence about the file.
func Check(file *os.File, dtype dtypes.DType, shape []int) (offset int64, err error) {
	status, err := file.Stat()
	if err != nil {
		return 0, err
	}
	start := make([]byte, len(mark)+2)
	if _, err := file.ReadAt(start, 0); err != nil || string(start[:len(mark)]) != mark {
		return 0, errors.New("it is not a NumPy file of version 1.0")
	}
	text := make([]byte, binary.LittleEndian.Uint16(start[len(mark):]))
	if _, err := file.ReadAt(text, int64(len(start))); err != nil {
		return 0, errors.New("it ends within its header")
	}
	want := describe(types[dtype], shape, "False")
	if got := strings.TrimSpace(string(text)); got != want {
		return 0, fmt.Errorf("its header says %q, and it must say %q", got, want)
	}
	offset = int64(len(start) + len(text))
	if left := status.Size() - offset; left != size(dtype, shape) {
		return 0, fmt.Errorf("it has %d bytes of values, and its shape takes %d", left, size(dtype, shape))
	}
	return offset, nil
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
