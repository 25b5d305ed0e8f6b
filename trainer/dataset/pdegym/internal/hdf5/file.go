package hdf5

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
)

// file is what the parts of the format that lead to an array are read from.
type file struct {
	*os.File
	size     uint64
	metadata uint64 // bytes of metadata so far
}

// has reports whether so many bytes are there.
func (f *file) has(address, n uint64) bool { return address <= f.size && n <= f.size-address }

// read fills p.
func (f *file) read(p []byte, address uint64) error {
	if !f.has(address, uint64(len(p))) {
		return damaged("%d bytes at %d are beyond the %d of the file", len(p), address, f.size)
	}
	if _, err := f.ReadAt(p, int64(address)); err != nil {
		if errors.Is(err, io.EOF) {
			return damaged("the file has become shorter than the %d bytes it had", f.size)
		}
		return err
	}
	return nil
}

// maxMetadata bounds what is read of headers and indices, so that those which go in circles end. The index of 10,000 trajectories has 14 MB.
const maxMetadata = 64 << 20 // bytes

// meta reads a piece of metadata.
func (f *file) meta(address, n uint64) ([]byte, error) {
	if f.metadata += n; n > maxMetadata || f.metadata > maxMetadata {
		return nil, damaged("its headers have more than %d bytes", maxMetadata)
	}
	if !f.has(address, n) {
		return nil, damaged("%d bytes at %d are beyond the %d of the file", n, address, f.size)
	}
	p := make([]byte, n)
	return p, f.read(p, address)
}

// cursor takes numbers off the front of bytes. Beyond their end it gives zeros and notes it.
type cursor struct {
	left  []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if n > len(c.left) {
		c.short, c.left = true, nil
		return make([]byte, n)
	}
	taken := c.left[:n]
	c.left = c.left[n:]
	return taken
}

func (c *cursor) skip(n int) {
	if n > len(c.left) {
		c.short, c.left = true, nil
	} else if n > 0 {
		c.left = c.left[n:]
	}
}

func (c *cursor) u8() byte    { return c.take(1)[0] }
func (c *cursor) u16() uint16 { return binary.LittleEndian.Uint16(c.take(2)) }
func (c *cursor) u32() uint32 { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }

// sized is an unsigned number of 1, 2, 4 or 8 bytes, by a code of 0 to 3.
func (c *cursor) sized(code byte) uint64 {
	var wide [8]byte
	copy(wide[:], c.take(1<<(code&3)))
	return binary.LittleEndian.Uint64(wide[:])
}

const signature = "\x89HDF\r\n\x1a\n"

// userBlock is how many bytes of the user's own come before the header: 512, 1024, 2048 and so on, or 0 where there is no header.
func (f *file) userBlock() (uint64, error) {
	found := make([]byte, len(signature))
	for block := uint64(512); block+uint64(len(found)) <= f.size; block *= 2 {
		if err := f.read(found, block); err != nil {
			return 0, err
		}
		if string(found) == signature {
			return block, nil
		}
	}
	return 0, nil
}

// superblock reads the file's own header, and returns the address of the root group's.
func (f *file) superblock() (uint64, error) {
	start := make([]byte, min(f.size, 96))
	if err := f.read(start, 0); err != nil {
		return 0, err
	}
	switch {
	case f.size == 0:
		return 0, fault{ErrFormat, "it is empty"}
	case bytes.HasPrefix(start, []byte("CDF")) && len(start) > 3 && start[3] < ' ':
		return 0, fault{ErrClassic, "it is NetCDF of the classic format"}
	case !bytes.HasPrefix(start, []byte(signature)):
		if block, err := f.userBlock(); err != nil || block > 0 {
			return 0, cmp.Or(err, error(fault{ErrUnsupported, fmt.Sprintf("%d bytes of something else come before its header", block)}))
		}
		return 0, fault{ErrFormat, fmt.Sprintf("it is not an HDF5 file: it begins with %q", start[:min(len(start), 24)])}
	}
	c := cursor{left: start[len(signature):]}
	version := c.u8()
	var offsets, lengths byte
	switch version {
	case 0, 1:
		c.skip(4)
		offsets, lengths = c.u8(), c.u8()
		c.skip(9 + 4*int(version))
	case 2, 3:
		offsets, lengths = c.u8(), c.u8()
		c.skip(1)
	default:
		return 0, unsupported("the file's header is of version %d", version)
	}
	base, _, end, last := c.u64(), c.u64(), c.u64(), c.u64()
	if version < 2 {
		c.skip(8) // of the root group's entry, the name
		last = c.u64()
	} else if checksum := c.u32(); !c.short && checksum != lookup3(start[:44]) {
		return 0, fmt.Errorf("the file's header: %w", errChecksum)
	}
	switch {
	case c.short:
		return 0, damaged("it ends within its header, after %d bytes", f.size)
	case offsets != 8 || lengths != 8 || base != 0:
		return 0, unsupported("its addresses have %d bytes and lengths %d, from %d on; 8, 8 and 0 are read", offsets, lengths, base)
	case end > f.size:
		return 0, damaged("it has %d bytes, and its header says %d", f.size, end)
	}
	return last, nil
}

// Messages of a header that are read.
const (
	messageDataspace    = 0x01
	messageLinkInfo     = 0x02
	messageDatatype     = 0x03
	messageLink         = 0x06
	messageExternal     = 0x07
	messageLayout       = 0x08
	messageFilters      = 0x0b
	messageContinuation = 0x10
	messageSymbolTable  = 0x11
)

type message struct {
	kind   uint16
	shared bool // data say where else the message is
	data   []byte
}

// maxBlocks bounds the continuations of a header, which may lead in a circle.
const maxBlocks = 1000

// header reads the messages of an object's header with all its continuations.
func (f *file) header(address uint64) ([]message, error) {
	// The longest prefix that says how long the header is; it may be close to the end of the file.
	if !f.has(address, 16) {
		return nil, damaged("its address %d is beyond the %d bytes of the file", address, f.size)
	}
	start, err := f.meta(address, min(f.size-address, 34))
	if err != nil {
		return nil, err
	}
	c := cursor{left: start}
	type block struct{ address, size uint64 }
	var blocks []block // of messages
	checked := bytes.HasPrefix(start, []byte("OHDR\x02"))
	var flags byte
	var prefix uint64
	switch {
	case checked:
		c.skip(5)
		flags = c.u8()
		if flags&0x20 != 0 {
			c.skip(16) // times
		}
		if flags&0x10 != 0 {
			c.skip(4) // how many attributes before they are stored otherwise
		}
		n := c.sized(flags)
		prefix = uint64(len(start) - len(c.left))
		if n > f.size {
			return nil, damaged("it has %d bytes, and the file %d", n, f.size)
		}
		blocks = []block{{address, prefix + n + 4}}
	case start[0] == 1 && start[1] == 0:
		c.skip(8)
		blocks = []block{{address + 16, uint64(c.u32())}}
	default:
		return nil, damaged("there is none at %d", address)
	}
	if c.short {
		return nil, damaged("it ends beyond the %d bytes of the file", f.size)
	}
	var messages []message
	for k := 0; k < len(blocks); k++ {
		data, err := f.meta(blocks[k].address, blocks[k].size)
		if err != nil {
			return nil, err
		}
		if checked {
			if len(data) < 8 || k > 0 && string(data[:4]) != "OCHK" {
				return nil, damaged("it goes on at %d, where there is nothing of it", blocks[k].address)
			}
			body := data[:len(data)-4]
			if lookup3(body) != binary.LittleEndian.Uint32(data[len(body):]) {
				return nil, errChecksum
			}
			skip := uint64(4)
			if k == 0 {
				skip = prefix
			}
			data = body[skip:]
		}
		found, err := parseMessages(data, checked, flags)
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			if m.kind == messageContinuation {
				c := cursor{left: m.data}
				next := block{c.u64(), c.u64()}
				if next.size == 0 || c.short {
					return nil, damaged("it goes on nowhere")
				}
				if blocks = append(blocks, next); len(blocks) > maxBlocks {
					return nil, damaged("it goes on in more than %d places", maxBlocks)
				}
			}
		}
		messages = append(messages, found...)
	}
	return messages, nil
}

// parseMessages splits a block of a header in messages. Headers with checksums have shorter ones.
func parseMessages(data []byte, short bool, flags byte) ([]message, error) {
	var found []message
	prefix := 8
	if short {
		prefix = 4
		if flags&0x04 != 0 {
			prefix = 6
		}
	}
	c := cursor{left: data}
	for len(c.left) >= prefix { // what is left may be a gap
		var m message
		if short {
			m.kind = uint16(c.u8())
		} else {
			m.kind = c.u16()
		}
		n := int(c.u16())
		m.shared = c.u8()&0x02 != 0
		if short {
			c.skip(prefix - 4)
		} else {
			c.skip(3)
		}
		if n > len(c.left) {
			return nil, damaged("a message of it has %d bytes where %d are left", n, len(c.left))
		}
		m.data = c.take(n)
		found = append(found, m)
	}
	return found, nil
}

// link finds an object of a name in a group, and returns its header's address.
func (f *file) link(group uint64, name string) (uint64, error) {
	header, err := f.header(group)
	if err != nil {
		return 0, fmt.Errorf("the root group's header: %w", err)
	}
	missing := error(fault{ErrMissing, fmt.Sprintf("it has no %q", name)})
	for _, m := range header {
		c := cursor{left: m.data}
		switch m.kind {
		case messageLink:
			address, found, err := parseLink(&c, name)
			if found || err != nil {
				return address, err
			}
		case messageLinkInfo:
			_, flags := c.u8(), c.u8()
			if flags&1 != 0 {
				c.skip(8)
			}
			if heap := c.u64(); heap != undefined || c.short {
				missing = unsupported("its root group has so many objects that they are in an index of their own")
			}
		case messageSymbolTable:
			tree, heap := c.u64(), c.u64()
			if c.short {
				return 0, damaged("the root group does not say where its names are")
			}
			found, err := f.symbol(tree, heap, name)
			if err != nil {
				return 0, fmt.Errorf("the root group's names: %w", err)
			}
			if found != undefined {
				return found, nil
			}
		}
	}
	return 0, missing
}

// parseLink compares a link's name, and returns what it leads to.
func parseLink(c *cursor, name string) (address uint64, found bool, err error) {
	version, flags := c.u8(), c.u8()
	kind := byte(0)
	if flags&0x08 != 0 {
		kind = c.u8()
	}
	if flags&0x04 != 0 {
		c.skip(8) // order of creation
	}
	if flags&0x10 != 0 {
		c.skip(1) // character set
	}
	n := c.sized(flags)
	if version != 1 || n > uint64(len(c.left)) {
		return 0, false, damaged("a name in the root group cannot be read")
	}
	if string(c.take(int(n))) != name {
		return 0, false, nil
	}
	if kind != 0 {
		return 0, true, unsupported("%q leads to another place or file", name)
	}
	if address = c.u64(); c.short {
		return 0, true, damaged("%q leads nowhere", name)
	}
	return address, true, nil
}

// symbol finds a name in a group of old style: a B-tree over nodes of entries, whose names are in a heap. It is undefined if there is none.
func (f *file) symbol(tree, heap uint64, name string) (uint64, error) {
	head, err := f.meta(heap, 32)
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(head, []byte("HEAP\x00")) {
		return 0, damaged("there are none at %d", heap)
	}
	names := binary.LittleEndian.Uint64(head[24:])
	return f.symbolBelow(tree, -1, names, name)
}

func (f *file) symbolBelow(node uint64, level int, names uint64, name string) (uint64, error) {
	level, entries, err := f.tree(node, 0, level, 8)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		found := uint64(undefined)
		var err error
		if level > 0 {
			found, err = f.symbolBelow(e.child, level-1, names, name)
		} else {
			found, err = f.symbolIn(e.child, names, name)
		}
		if err != nil || found != undefined {
			return found, err
		}
	}
	return undefined, nil
}

// symbolIn finds a name in a node of entries.
func (f *file) symbolIn(node, names uint64, name string) (uint64, error) {
	head, err := f.meta(node, 8)
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(head, []byte("SNOD\x01")) {
		return 0, damaged("there is no node of them at %d", node)
	}
	count := uint64(binary.LittleEndian.Uint16(head[6:]))
	data, err := f.meta(node+8, count*40)
	if err != nil {
		return 0, err
	}
	c := cursor{left: data}
	for range count {
		offset, address, cached := c.u64(), c.u64(), c.u32()
		c.skip(20)
		if offset > f.size || !f.has(names+offset, uint64(len(name))+1) {
			continue // a shorter name at the end of the file
		}
		found, err := f.meta(names+offset, uint64(len(name))+1)
		if err != nil {
			return 0, err
		}
		if string(found) != name+"\x00" {
			continue
		}
		const link = 2
		if cached == link {
			return 0, unsupported("%q leads to another place", name)
		}
		return address, nil
	}
	return undefined, nil
}

// entry is one of a node of a B-tree: what is below it, and the key before that.
type entry struct {
	key   []byte
	child uint64
}

// tree reads a node of a B-tree of version 1, of a kind (0: names, 1: chunks) and a level, which is any for -1.
func (f *file) tree(node uint64, kind byte, level int, keySize int) (int, []entry, error) {
	head, err := f.meta(node, 24)
	if err != nil {
		return 0, nil, err
	}
	if !bytes.HasPrefix(head, []byte("TREE")) || head[4] != kind {
		return 0, nil, damaged("there is no node of it at %d", node)
	}
	if level >= 0 && int(head[5]) != level {
		return 0, nil, damaged("its node at %d is of level %d, and should be of %d", node, head[5], level)
	}
	count := int(binary.LittleEndian.Uint16(head[6:]))
	data, err := f.meta(node+24, uint64(count*(keySize+8)))
	if err != nil {
		return 0, nil, err
	}
	c := cursor{left: data}
	entries := make([]entry, count)
	for k := range entries {
		entries[k] = entry{key: c.take(keySize), child: c.u64()}
	}
	return int(head[5]), entries, nil
}

// lookup3 is Jenkins's hash of that name, the format's checksum.
func lookup3(data []byte) uint32 {
	a := 0xdeadbeef + uint32(len(data))
	b, c := a, a
	for len(data) > 12 {
		a += binary.LittleEndian.Uint32(data)
		b += binary.LittleEndian.Uint32(data[4:])
		c += binary.LittleEndian.Uint32(data[8:])
		a = (a - c) ^ bits.RotateLeft32(c, 4)
		c += b
		b = (b - a) ^ bits.RotateLeft32(a, 6)
		a += c
		c = (c - b) ^ bits.RotateLeft32(b, 8)
		b += a
		a = (a - c) ^ bits.RotateLeft32(c, 16)
		c += b
		b = (b - a) ^ bits.RotateLeft32(a, 19)
		a += c
		c = (c - b) ^ bits.RotateLeft32(b, 4)
		b += a
		data = data[12:]
	}
	if len(data) == 0 {
		return c
	}
	var last [12]byte
	copy(last[:], data)
	a += binary.LittleEndian.Uint32(last[:])
	b += binary.LittleEndian.Uint32(last[4:])
	c += binary.LittleEndian.Uint32(last[8:])
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	return (c ^ b) - bits.RotateLeft32(b, 24)
}
