// Package hdf5 reads one array of float32 out of an HDF5 file, one index of its first axis at a time.
//
// It knows as much of the format as NetCDF-4 and h5py write by default: superblocks of versions 0 to 3, a root group of few or of
// old-style links, and arrays that are contiguous or in chunks under a B-tree of version 1, plain or compressed with deflate and
// shuffle. The rest it refuses by name. A file may be damaged or hostile: nothing that it claims is believed before it is compared
// with the size of the file, and no sum of it allocates more than that; where the format has checksums they are checked.
//
// Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html.
package hdf5

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"unsafe"

	"github.com/klauspost/compress/zlib"
)

// Kinds of faults, for errors.Is.
var (
	ErrFormat      = errors.New("not HDF5")         // the file is something else
	ErrClassic     = errors.New("classic NetCDF")   // NetCDF of the versions before 4, which is not HDF5
	ErrDamaged     = errors.New("damaged")          // cut off, overwritten, or never finished
	ErrMissing     = errors.New("missing")          // it has no such array
	ErrUnsupported = errors.New("stored otherwise") // sound, for all that is known, but not read here
	ErrNotWritten  = errors.New("never written")    // an index of the array that has no values
	errChecksum    = fault{ErrDamaged, "its checksum is wrong"}
)

// fault is an error of one kind in other words.
type fault struct {
	kind error
	says string
}

func (f fault) Error() string { return f.says }
func (f fault) Unwrap() error { return f.kind }

func damaged(format string, args ...any) error {
	return fault{ErrDamaged, fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return fault{ErrUnsupported, fmt.Sprintf(format, args...)}
}

// undefined is HDF5's address of what does not exist.
const undefined = math.MaxUint64

// Array is an array of float32 in an open file. It must not be used by two goroutines at once.
type Array struct {
	file    *file
	shape   []int
	row     int // elements of one index of the first axis
	address uint64
	chunks  *chunks // nil of a contiguous array

	packed   []byte // one compressed chunk
	inflated []byte // and decompressed
	plain    []byte // a chunk without shuffling, or what one index has of it
	zlib     io.ReadCloser
}

// Open opens the array of a name in the root group. It must be of float32 in little-endian order.
func Open(path, name string) (*Array, error) {
	opened, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	array, err := open(opened, name)
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return array, nil
}

func open(opened *os.File, name string) (*Array, error) {
	status, err := opened.Stat()
	if err != nil {
		return nil, err
	}
	if !status.Mode().IsRegular() {
		return nil, fault{ErrFormat, "it is no regular file"}
	}
	f := &file{File: opened, size: uint64(status.Size())}
	root, err := f.superblock()
	if err != nil {
		return nil, err
	}
	at, err := f.link(root, name)
	if err != nil {
		return nil, err
	}
	header, err := f.header(at)
	if err != nil {
		return nil, fmt.Errorf("the header of %q: %w", name, err)
	}
	array := &Array{file: f}
	if err := array.describe(header); err != nil {
		return nil, fmt.Errorf("the array %q: %w", name, err)
	}
	return array, nil
}

// Shape is that of the array. The caller must not change it.
func (a *Array) Shape() []int { return a.shape }

// Stat describes the file.
func (a *Array) Stat() (os.FileInfo, error) { return a.file.Stat() }

// Close closes the file.
func (a *Array) Close() error { return a.file.Close() }

// describe reads an array's type, shape and where its values are.
func (a *Array) describe(header []message) error {
	var space, kind, layout, filters *message
	for i := range header {
		m := &header[i]
		switch m.kind {
		case messageDataspace:
			space = m
		case messageDatatype:
			kind = m
		case messageLayout:
			layout = m
		case messageFilters:
			filters = m
		case messageExternal:
			return unsupported("its values are in other files")
		}
	}
	switch {
	case space == nil && kind == nil:
		return fault{ErrMissing, "it is no array but a group or a type"}
	case space == nil || kind == nil || layout == nil:
		return damaged("its header does not say type, shape and place")
	case space.shared || kind.shared || layout.shared || filters != nil && filters.shared:
		return unsupported("its type is one that is kept under a name of its own")
	}
	if err := checkFloat32(kind.data); err != nil {
		return err
	}
	if err := a.parseShape(space.data); err != nil {
		return err
	}
	pipeline, err := parseFilters(filters)
	if err != nil {
		return err
	}
	return a.parseLayout(layout.data, pipeline)
}

// float32s is how the format describes IEEE's float32: class and version, bit fields, size, and where exponent and mantissa are.
var float32s = []byte{0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0}

func checkFloat32(kind []byte) error {
	if len(kind) < 8 {
		return damaged("its type is described too shortly")
	}
	found := append(slices.Clone(kind), make([]byte, len(float32s))...)[:len(float32s)]
	version, class := found[0]>>4, found[0]&15
	size := binary.LittleEndian.Uint32(found[4:])
	found[0] = float32s[0] // versions 1 to 4 say the same of a number
	switch {
	case version >= 1 && version <= 4 && bytes.Equal(found, float32s):
		return nil
	case class == 1 && found[1]&1 == 1:
		return unsupported("its elements are floating-point numbers of %d bytes in big-endian order", size)
	case class == 1:
		return unsupported("its elements are floating-point numbers of %d bytes", size)
	case class == 0:
		return unsupported("its elements are integers of %d bytes", size)
	}
	return unsupported("its elements are no numbers (class %d of HDF5)", class)
}

// maxRank is the format's own.
const maxRank = 32

// deflateAtMost is how many times longer than compressed something can be that deflate compressed.
const deflateAtMost = 1032

func (a *Array) parseShape(data []byte) error {
	c := cursor{left: data}
	version, rank := c.u8(), int(c.u8())
	c.skip(2)
	if version == 1 {
		c.skip(4)
	} else if version != 2 {
		return unsupported("its shape is described in version %d", version)
	}
	if rank < 1 || rank > maxRank {
		return unsupported("it has %d axes", rank)
	}
	elements := uint64(1)
	for range rank {
		n := c.u64()
		if c.short {
			return damaged("its shape is described too shortly")
		}
		if n == 0 {
			return fault{ErrNotWritten, "one of its axes has no elements"}
		}
		if n > a.file.size*deflateAtMost || elements > a.file.size*deflateAtMost/n {
			return damaged("its shape has more elements than the %d bytes of the file can hold", a.file.size)
		}
		elements *= n
		a.shape = append(a.shape, int(n))
	}
	a.row = int(elements / uint64(a.shape[0]))
	return nil
}

// maxRow bounds what one index of the first axis takes in memory: 256 MiB.
const maxRow = 1 << 26 // elements

const size32 = 4 // bytes of a float32

func (a *Array) parseLayout(data []byte, filters []uint16) error {
	if a.row > maxRow {
		return unsupported("one index of its first axis has %d elements, more than the %d that are read at once", a.row, maxRow)
	}
	c := cursor{left: data}
	version, class := c.u8(), c.u8()
	const compact, contiguous, chunked = 0, 1, 2
	switch {
	case version == 3 && class == chunked:
		return a.parseChunked(&c, filters)
	case (version == 3 || version == 4) && class == contiguous:
		var size uint64
		a.address, size = c.u64(), c.u64()
		want := uint64(a.shape[0]) * uint64(a.row) * size32
		switch {
		case len(filters) > 0:
			return damaged("its header says that it is compressed, which only chunks can be")
		case c.short || size != want:
			return damaged("its header says %d bytes of values, and a shape that takes %d", size, want)
		case a.address == undefined:
			return fault{ErrNotWritten, "no value of it was ever written"}
		case !a.file.has(a.address, size):
			return damaged("its values end beyond the %d bytes of the file", a.file.size)
		}
		return nil
	case version == 3 && class == compact:
		return unsupported("its values are within its header")
	case version == 4 && class == chunked:
		return unsupported("its chunks are found by an index of HDF5 1.10 or later")
	}
	return unsupported("its layout is of version %d and class %d", version, class)
}

// Read reads index i of the first axis into a slice of as many elements as it has. A contiguous array and one in plain chunks cost
// one read of the bytes that are asked for; a compressed chunk is decompressed whole, at every index of the first axis that it holds.
func (a *Array) Read(i int, into []float32) error {
	if i < 0 || i >= a.shape[0] || len(into) != a.row {
		return fmt.Errorf("hdf5: index %d into %d elements of an array of shape %v", i, len(into), a.shape)
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(into))), len(into)*size32)
	var err error
	if a.chunks == nil {
		err = a.file.read(raw, a.address+uint64(i)*uint64(len(raw)))
	} else {
		err = a.readChunks(i, raw)
	}
	if err != nil || littleEndian {
		return err
	}
	for k := range into {
		into[k] = math.Float32frombits(binary.LittleEndian.Uint32(raw[k*size32:]))
	}
	return nil
}

// littleEndian tells that numbers have the order of bytes here that they have in the file.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// chunks are where those of an array lie, in the order of their place in it.
type chunks struct {
	dims    []int // of one chunk, in elements
	grid    []int // how many there are along each axis
	size    int   // bytes of one, uncompressed
	filters []uint16
	at      []chunk
}

type chunk struct {
	address uint64 // 0 where there is none: the superblock is there
	bytes   uint32 // as stored
	without uint32 // a bit for each filter that was not applied to it
}

// maxChunk bounds what a chunk takes in memory.
const maxChunk = 256 << 20 // bytes

func (a *Array) parseChunked(c *cursor, filters []uint16) error {
	if rank := int(c.u8()); rank != len(a.shape)+1 {
		return damaged("its chunks have %d axes, and it has %d", rank-1, len(a.shape))
	}
	a.address = c.u64()
	table := &chunks{size: size32, filters: filters}
	count := uint64(1)
	for _, n := range a.shape {
		d := c.u32()
		if d == 0 || uint64(d) > maxChunk/uint64(table.size) {
			return unsupported("its chunks have no elements, or more than %d bytes", maxChunk)
		}
		table.size *= int(d)
		along := (n + int(d) - 1) / int(d)
		table.dims = append(table.dims, int(d))
		table.grid = append(table.grid, along)
		// Each chunk has an entry of its own in the index, so there are fewer than the file has bytes.
		if count *= uint64(along); count > a.file.size {
			return damaged("its shape has more chunks than the %d bytes of the file can hold", a.file.size)
		}
	}
	if c.u32() != size32 || c.short {
		return damaged("its chunks are of elements of another size")
	}
	if a.address == undefined {
		return fault{ErrNotWritten, "no value of it was ever written"}
	}
	least := uint64(a.keySize() + 8) // bytes of the file for each: its entry in the index
	if len(filters) == 0 {
		least += uint64(table.size)
	}
	if count > a.file.size/least || uint64(table.size) > a.file.size*deflateAtMost {
		return damaged("its shape has %d chunks of %d bytes, more than the %d bytes of the file can hold", count, table.size, a.file.size)
	}
	table.at = make([]chunk, count)
	a.chunks = table
	if err := a.indexChunks(a.address, -1); err != nil {
		return err
	}
	for k, c := range table.at {
		if c.address == 0 {
			return fault{ErrNotWritten, fmt.Sprintf("it has no values from index %v on", table.corner(k))}
		}
	}
	return table.checkApart()
}

// checkApart refuses chunks that share bytes. Version 1 of the index has no checksum, and this is how most wrong addresses show.
func (t *chunks) checkApart() error {
	sorted := slices.Clone(t.at)
	slices.SortFunc(sorted, func(a, b chunk) int { return cmp.Compare(a.address, b.address) })
	for k := 1; k < len(sorted); k++ {
		if before := sorted[k-1]; before.address+uint64(before.bytes) > sorted[k].address {
			return damaged("two chunks of it overlap at byte %d of the file", sorted[k].address)
		}
	}
	return nil
}

// keySize is the bytes of a key in the index of chunks: how many bytes it has, what was not applied, and its first element.
func (a *Array) keySize() int { return 8 + 8*(len(a.shape)+1) }

// corner is the first element of a chunk.
func (t *chunks) corner(k int) []int {
	corner := make([]int, len(t.grid))
	for axis := len(corner) - 1; axis >= 0; axis-- {
		corner[axis] = k % t.grid[axis] * t.dims[axis]
		k /= t.grid[axis]
	}
	return corner
}

// indexChunks enters all chunks below a node of the index. level is the node's, -1 for the root, whose level is its own affair.
func (a *Array) indexChunks(node uint64, level int) error {
	level, entries, err := a.file.tree(node, 1, level, a.keySize())
	if err != nil {
		return fmt.Errorf("the index of its chunks: %w", err)
	}
	for _, e := range entries {
		if level > 0 {
			if err := a.indexChunks(e.child, level-1); err != nil {
				return err
			}
			continue
		}
		c := cursor{left: e.key}
		found := chunk{bytes: c.u32(), without: c.u32(), address: e.child}
		place := 0
		for axis, d := range a.chunks.dims {
			first := c.u64()
			if first%uint64(d) != 0 || first/uint64(d) >= uint64(a.chunks.grid[axis]) {
				return damaged("the index of its chunks has one that begins at %d of axis %d", first, axis)
			}
			place = place*a.chunks.grid[axis] + int(first)/d
		}
		switch {
		case c.u64() != 0:
			return damaged("the index of its chunks has one that begins within an element")
		case !a.file.has(found.address, uint64(found.bytes)) || found.address == 0:
			return damaged("a chunk of it ends beyond the %d bytes of the file", a.file.size)
		case a.chunks.at[place].address != 0:
			return damaged("the index of its chunks has one twice")
		case !a.chunks.plain(found) && uint64(found.bytes) > 2*uint64(a.chunks.size)+1024:
			// Deflate lengthens what it cannot shorten by less than a thousandth.
			return damaged("a chunk of it has %d bytes compressed, and %d otherwise", found.bytes, a.chunks.size)
		case a.chunks.plain(found) && int(found.bytes) != a.chunks.size:
			return damaged("a chunk of it has %d bytes, and should have %d", found.bytes, a.chunks.size)
		}
		a.chunks.at[place] = found
	}
	return nil
}

// plain reports whether no filter was applied to a chunk.
func (t *chunks) plain(c chunk) bool {
	for k := range t.filters {
		if c.without>>k&1 == 0 {
			return false
		}
	}
	return true
}

// readChunks gathers index i of the first axis in raw, as stored.
func (a *Array) readChunks(i int, raw []byte) error {
	t := a.chunks
	slab := t.size / t.dims[0] // bytes that a chunk has of one index
	each := len(t.at) / t.grid[0]
	first := i / t.dims[0] * each
	for k, c := range t.at[first : first+each] {
		corner := t.corner(first + k)
		var values []byte
		var err error
		if t.plain(c) {
			a.plain = slices.Grow(a.plain[:0], slab)[:slab]
			values, err = a.plain, a.file.read(a.plain, c.address+uint64(i%t.dims[0]*slab))
		} else if values, err = a.unpack(c); err == nil {
			values = values[i%t.dims[0]*slab:][:slab]
		}
		if err != nil {
			return fmt.Errorf("its chunk from index %v on: %w", corner, err)
		}
		place(raw, values, a.shape[1:], t.dims[1:], corner[1:])
	}
	return nil
}

// place copies a block of elements to its place in an array of a shape; what it has beyond the array's ends is padding.
func place(array, block []byte, shape, dims, corner []int) {
	if len(shape) == 0 {
		copy(array, block)
		return
	}
	whole, part := size32, size32 // bytes of one index of the first axis
	for k := 1; k < len(shape); k++ {
		whole *= shape[k]
		part *= dims[k]
	}
	n := min(dims[0], shape[0]-corner[0])
	if whole == part { // so that the block has the other axes in full
		copy(array[corner[0]*whole:][:n*whole], block)
		return
	}
	for j := range n {
		place(array[(corner[0]+j)*whole:][:whole], block[j*part:][:part], shape[1:], dims[1:], corner[1:])
	}
}

const filterDeflate, filterShuffle = 1, 2

// parseFilters reads which filters chunks go through as they are written, in order.
func parseFilters(m *message) ([]uint16, error) {
	if m == nil {
		return nil, nil
	}
	c := cursor{left: m.data}
	version, count := c.u8(), int(c.u8())
	if version == 1 {
		c.skip(6)
	} else if version != 2 {
		return nil, unsupported("its filters are described in version %d", version)
	}
	var filters []uint16
	for range count {
		id, name := c.u16(), 0
		if version == 1 || id >= 256 {
			name = int(c.u16())
		}
		c.skip(2)
		parameters := int(c.u16())
		if version == 1 {
			name = (name + 7) / 8 * 8
			parameters += parameters % 2
		}
		c.skip(name)
		var size uint32
		if parameters > 0 {
			size = c.u32()
			c.skip(4 * (parameters - 1))
		}
		switch {
		case c.short:
			return nil, damaged("its filters are described too shortly")
		case id == filterShuffle && size != size32:
			return nil, damaged("its bytes are shuffled as of elements of %d bytes", size)
		case id != filterDeflate && id != filterShuffle:
			return nil, unsupported("its chunks are compressed with filter %d of HDF5; deflate (1) and shuffle (2) are read", id)
		case slices.Contains(filters, id):
			return nil, damaged("it has filter %d twice", id)
		}
		filters = append(filters, id)
	}
	return filters, nil
}

// unpack reads a chunk and undoes the filters that it went through, last first.
func (a *Array) unpack(c chunk) ([]byte, error) {
	t := a.chunks
	a.packed = slices.Grow(a.packed[:0], int(c.bytes))[:c.bytes]
	if err := a.file.read(a.packed, c.address); err != nil {
		return nil, err
	}
	values := a.packed
	for k, filter := range slices.Backward(t.filters) {
		if c.without>>k&1 == 1 {
			continue
		}
		switch filter {
		case filterDeflate:
			a.inflated = slices.Grow(a.inflated[:0], t.size)[:t.size]
			if err := a.inflate(a.inflated, values); err != nil {
				return nil, err
			}
			values = a.inflated
		case filterShuffle:
			if len(values) != t.size {
				return nil, damaged("it has %d bytes, and should have %d", len(values), t.size)
			}
			a.plain = slices.Grow(a.plain[:0], t.size)[:t.size]
			n := t.size / size32
			b0, b1, b2, b3 := values[:n], values[n:2*n], values[2*n:3*n], values[3*n:4*n] // first bytes of all elements, second bytes and so on
			for e := range n {
				binary.LittleEndian.PutUint32(a.plain[e*size32:], uint32(b0[e])|uint32(b1[e])<<8|uint32(b2[e])<<16|uint32(b3[e])<<24)
			}
			values = a.plain
		}
	}
	if len(values) != t.size {
		return nil, damaged("it has %d bytes, and should have %d", len(values), t.size)
	}
	return values, nil
}

// inflate decompresses what must fill values.
func (a *Array) inflate(values, packed []byte) error {
	var err error
	if a.zlib == nil {
		a.zlib, err = zlib.NewReader(bytes.NewReader(packed))
	} else {
		err = a.zlib.(zlib.Resetter).Reset(bytes.NewReader(packed), nil)
	}
	if err != nil {
		return damaged("it cannot be decompressed: %v", err)
	}
	if _, err := io.ReadFull(a.zlib, values); err != nil {
		return damaged("it cannot be decompressed: %v", err)
	}
	// The checksum is compared at the end of the stream.
	if n, err := a.zlib.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return damaged("it cannot be decompressed to %d bytes", len(values))
	}
	return nil
}
