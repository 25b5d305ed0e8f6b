package writers

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// A Parquet reader believes what a file says of itself: it allocates as many elements, bytes and rows as a header claims
// and follows the offsets. In a damaged file that ends the process, and no recover helps. So all of it is checked here
// against the bytes that are there, before the reader sees them.
//
// Files carry a digest of their own, which finds every change; those written before it was introduced do not.

// Limits that no part comes near; encode refuses a footer beyond its limit, so that what is written can be read.
const (
	maxFile     = 1 << 32
	maxFooter   = 1 << 18 // its parts take up to 600 times as much memory
	maxHeader   = 1 << 16 // of a page
	maxPage     = 1 << 24 // uncompressed; our pages have 256 KiB unless a text is longer
	maxRows     = 1 << 24
	maxInfo     = 1 << 24 // run.json
	parquetMark = "PAR1"
)

// readBounded reads a file that may not be larger than limit.
func readBounded(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, explain("read", path, err)
	}
	defer file.Close()
	status, err := file.Stat()
	if err != nil {
		return nil, explain("read", path, err)
	}
	if status.Size() > limit {
		return nil, fmt.Errorf("writers: %s has %d bytes, more than the %d that symaudit writes; restore it from a copy",
			path, status.Size(), limit)
	}
	content, err := io.ReadAll(io.LimitReader(file, limit+1)) // it may grow, or be a device without a size
	if err != nil {
		return nil, explain("read", path, err)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("writers: %s has more than the %d bytes that symaudit writes; restore it from a copy", path, limit)
	}
	return content, nil
}

// noDigest stands in a file's place for its digest while the digest is computed.
var noDigest = strings.Repeat("0", 2*sha256.Size)

// digestPlace finds the place of the file's digest, the value of the last footer key keyDigest; false if it has none.
func digestPlace(file []byte) (place []byte, found bool) {
	mark := keyDigest + "\x18\x40" // in Thrift: then follows a text of 64 bytes
	at := bytes.LastIndex(file, []byte(mark))
	if at < 0 || len(file)-at-len(mark) < len(noDigest) {
		return nil, false
	}
	return file[at+len(mark):][:len(noDigest)], true
}

// seal writes the file's digest into its place.
func seal(file []byte) error {
	place, found := digestPlace(file)
	if !found || string(place) != noDigest {
		return errors.New("its footer has no place for the digest")
	}
	sum := sha256.Sum256(file)
	hex.Encode(place, sum[:])
	return nil
}

// checkDigest reports whether the file has a digest, and an error if that is not the file's.
func checkDigest(file []byte) (found bool, err error) {
	place, found := digestPlace(file)
	if !found {
		return false, nil
	}
	claimed := string(place)
	copy(place, noDigest) // for a moment, not to copy the file
	sum := sha256.Sum256(file)
	copy(place, claimed)
	if hex.EncodeToString(sum[:]) != claimed {
		return true, fmt.Errorf("its content does not match its digest (key %s): a byte was changed or lost", keyDigest)
	}
	return true, nil
}

// footer returns what the file's footer says, after checking it against the file.
func footer(file []byte) (*format.FileMetaData, error) {
	const tail = 4 + len(parquetMark) // the footer's length and the mark
	end := len(file) - tail
	if end < len(parquetMark) || string(file[:4]) != parquetMark || string(file[end+4:]) != parquetMark {
		return nil, fmt.Errorf("its %d bytes do not begin and end with %s, as those of Parquet files do", len(file), parquetMark)
	}
	size := int64(binary.LittleEndian.Uint32(file[end:]))
	if size > int64(end-len(parquetMark)) {
		return nil, fmt.Errorf("it claims a footer of %d bytes and has %d", size, len(file))
	}
	if size > maxFooter {
		return nil, fmt.Errorf("its footer has %d bytes, more than %d", size, maxFooter)
	}
	text := file[end-int(size) : end]
	if used, err := structLength(text, 0); err != nil {
		return nil, fmt.Errorf("its footer is damaged: %w", err)
	} else if used != len(text) {
		return nil, fmt.Errorf("its footer has %d bytes too many", len(text)-used)
	}
	var meta format.FileMetaData
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), text, &meta); err != nil {
		return nil, fmt.Errorf("its footer is damaged: %w", err)
	}
	if err := checkVersion(&meta); err != nil {
		return nil, err
	}
	if err := checkFooter(&meta, int64(end)-size); err != nil {
		return nil, fmt.Errorf("its footer is damaged: %w", err)
	}
	return &meta, nil
}

// checkFooter checks a footer that begins at end: a flat schema, one row group, and in it one chunk for each column, one
// after the other from the file's beginning.
func checkFooter(meta *format.FileMetaData, end int64) error {
	if len(meta.Schema) < 2 || int(meta.Schema[0].NumChildren.V) != len(meta.Schema)-1 || meta.Schema[0].Type.Valid {
		return errors.New("its schema is not a list of columns")
	}
	columns := meta.Schema[1:]
	switch {
	case meta.EncryptionAlgorithm.Value != nil:
		return errors.New("it says that it is encrypted")
	case len(meta.RowGroups) != 1:
		return fmt.Errorf("it has %d row groups instead of one", len(meta.RowGroups))
	case meta.NumRows <= 0 || meta.NumRows > maxRows:
		return fmt.Errorf("it claims %d rows, out of 1 to %d", meta.NumRows, maxRows)
	}
	group := &meta.RowGroups[0]
	switch {
	case group.NumRows != meta.NumRows:
		return fmt.Errorf("it claims %d rows, its row group %d", meta.NumRows, group.NumRows)
	case len(group.Columns) != len(columns):
		return fmt.Errorf("it has %d columns and data of %d", len(columns), len(group.Columns))
	case group.Ordinal != 0 || len(group.SortingColumns) != 0:
		return errors.New("it claims a sorting or another row group")
	}
	offset := int64(len(parquetMark))
	for i, chunk := range group.Columns {
		column, data := columns[i], chunk.MetaData
		var err error
		switch {
		case column.NumChildren.V != 0, !column.Type.Valid, column.RepetitionType.V == format.Repeated:
			err = errors.New("is not a plain column")
		case data.Type != column.Type.V, len(data.PathInSchema) != 1 || data.PathInSchema[0] != column.Name:
			err = fmt.Errorf("has data of another: %v", data.PathInSchema)
		case data.Codec != format.Zstd:
			err = fmt.Errorf("says that it is compressed with %v instead of zstd", data.Codec)
		case chunk.FilePath != "", chunk.CryptoMetadata.Value != nil, len(chunk.EncryptedColumnMetadata) != 0:
			err = errors.New("says that it is encrypted or elsewhere")
		case data.NumValues != meta.NumRows:
			err = fmt.Errorf("claims %d values for %d rows", data.NumValues, meta.NumRows)
		case data.DictionaryPageOffset != 0, data.DataPageOffset != offset:
			err = fmt.Errorf("claims to begin at byte %d, not at %d", data.DataPageOffset, offset)
		case data.TotalCompressedSize <= 0 || data.TotalCompressedSize > end-offset:
			err = fmt.Errorf("claims %d bytes of the %d that are left", data.TotalCompressedSize, end-offset)
		case data.TotalUncompressedSize < 0:
			err = fmt.Errorf("claims %d bytes", data.TotalUncompressedSize)
		}
		if err != nil {
			return fmt.Errorf("column %q %w", column.Name, err)
		}
		offset += data.TotalCompressedSize
	}
	return nil
}

// checkPages checks every page of a file whose footer is checked.
func checkPages(file []byte, meta *format.FileMetaData) error {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPage),
		zstd.WithDecoderMaxWindow(maxPage))
	if err != nil {
		return err
	}
	defer decoder.Close()
	var content []byte
	for i, column := range meta.Schema[1:] {
		claims := meta.RowGroups[0].Columns[i].MetaData
		chunk := file[claims.DataPageOffset:][:claims.TotalCompressedSize]
		rows, size := int64(0), int64(0)
		for len(chunk) > 0 {
			page, used, err := nextPage(chunk)
			if err == nil {
				content, err = page.check(column, decoder, content[:0])
			}
			if err != nil {
				return fmt.Errorf("a page of column %q is damaged: %w", column.Name, err)
			}
			rows += int64(page.NumRows)
			size += int64(used-len(page.data)) + int64(page.uncompressed)
			chunk = chunk[used:]
		}
		if rows != claims.NumValues || size != claims.TotalUncompressedSize {
			return fmt.Errorf("the pages of column %q have %d rows in %d bytes, not %d in %d",
				column.Name, rows, size, claims.NumValues, claims.TotalUncompressedSize)
		}
	}
	return nil
}

// page is what a page's header claims, and the bytes behind it.
type page struct {
	format.DataPageHeaderV2
	data         []byte
	uncompressed int // with the definition levels, which are not compressed
}

func nextPage(chunk []byte) (page page, used int, err error) {
	length, err := structLength(chunk[:min(len(chunk), maxHeader)], 0)
	if err != nil {
		return page, 0, err
	}
	var header format.PageHeader
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), chunk[:length], &header); err != nil {
		return page, 0, err
	}
	rest := chunk[length:]
	switch {
	case header.Type != format.DataPageV2 || !header.DataPageHeaderV2.Valid:
		return page, 0, fmt.Errorf("it is of type %v, which symaudit does not write", header.Type)
	case header.CompressedPageSize < 0 || int(header.CompressedPageSize) > len(rest):
		return page, 0, fmt.Errorf("it claims %d bytes of the %d that are left", header.CompressedPageSize, len(rest))
	case header.UncompressedPageSize < 0 || header.UncompressedPageSize > maxPage:
		return page, 0, fmt.Errorf("it claims %d bytes uncompressed", header.UncompressedPageSize)
	}
	page.DataPageHeaderV2 = header.DataPageHeaderV2.V
	page.data = rest[:header.CompressedPageSize]
	page.uncompressed = int(header.UncompressedPageSize)
	if crc32.ChecksumIEEE(page.data) != uint32(header.CRC) {
		return page, 0, errors.New("its checksum is that of other bytes")
	}
	return page, length + len(page.data), nil
}

// check compares the claims with the page's content, which it returns for its memory to be used again.
func (p page) check(column format.SchemaElement, decoder *zstd.Decoder, memory []byte) ([]byte, error) {
	optional := column.RepetitionType.V == format.Optional
	levels := int(p.DefinitionLevelsByteLength)
	switch {
	case p.NumValues <= 0 || p.NumRows != p.NumValues || p.NumNulls < 0 || p.NumNulls > p.NumValues:
		return nil, fmt.Errorf("it claims %d values, %d of them null, in %d rows", p.NumValues, p.NumNulls, p.NumRows)
	case p.RepetitionLevelsByteLength != 0, levels < 0, levels > len(p.data), levels > p.uncompressed, (levels > 0) != optional:
		return nil, fmt.Errorf("it claims %d and %d bytes of levels", p.RepetitionLevelsByteLength, levels)
	case p.IsCompressed.Valid && !p.IsCompressed.V:
		return nil, errors.New("it says that it is not compressed")
	}
	nulls := 0
	if optional {
		var err error
		if nulls, err = countNulls(p.data[:levels], int(p.NumValues)); err != nil {
			return nil, err
		}
	}
	if nulls != int(p.NumNulls) {
		return nil, fmt.Errorf("it claims %d nulls and has %d", p.NumNulls, nulls)
	}
	content, err := decoder.DecodeAll(p.data[levels:], memory)
	if err != nil {
		return nil, err
	}
	if len(content) != p.uncompressed-levels {
		return nil, fmt.Errorf("it claims %d bytes uncompressed and has %d", p.uncompressed-levels, len(content))
	}
	return content, checkValues(column.Type.V, p.Encoding, content, int(p.NumValues)-nulls)
}

// checkValues checks that the content of a page can be that of count values.
func checkValues(kind format.Type, encoding format.Encoding, content []byte, count int) error {
	width := 0
	switch {
	case kind == format.ByteArray && encoding == format.DeltaLengthByteArray:
		// The lengths come first. The reader checks them against the bytes, but allocates as many as are claimed.
		for range 2 {
			_, n := binary.Uvarint(content) // sizes of blocks
			content = content[max(n, 0):]
		}
		if claimed, n := binary.Uvarint(content); n <= 0 || claimed != uint64(count) {
			return fmt.Errorf("it claims %d texts instead of %d", claimed, count)
		}
		return nil
	case kind == format.Int32 && encoding == format.Plain:
		width = 4
	case (kind == format.Int64 || kind == format.Double) && encoding == format.Plain:
		width = 8
	default:
		return fmt.Errorf("it claims values of type %v encoded as %v, which symaudit does not write", kind, encoding)
	}
	if len(content) != count*width {
		return fmt.Errorf("its %d values of %d bytes take %d bytes", count, width, len(content))
	}
	return nil
}

// countNulls reads definition levels of 0, a null, and 1: runs of one level, and groups of eight.
func countNulls(levels []byte, values int) (nulls int, err error) {
	left := values
	for len(levels) > 0 {
		header, n := binary.Uvarint(levels)
		count := header >> 1
		if n <= 0 || count > uint64(values) {
			return 0, fmt.Errorf("its levels claim a run of %d for %d values", count, values)
		}
		levels = levels[n:]
		size := 1
		if header&1 == 1 {
			size = int(count)
		}
		if size > len(levels) {
			return 0, errors.New("its levels end too early")
		}
		run := levels[:size]
		levels = levels[size:]
		if header&1 == 0 {
			if int(count) > left || run[0] > 1 {
				return 0, fmt.Errorf("its levels claim a run of %d for %d values", count, left)
			}
			if run[0] == 0 {
				nulls += int(count)
			}
			left -= int(count)
			continue
		}
		for _, group := range run { // the last group is filled up
			for bit := range min(8, left) {
				nulls += 1 - int(group>>bit&1)
			}
			left -= min(8, left)
		}
	}
	if left > 0 {
		return 0, fmt.Errorf("its levels are those of %d values less", left)
	}
	return nulls, nil
}

// structLength returns how many bytes a struct in Thrift's compact protocol takes at the beginning of text. It checks
// that every list and text in it is really there, and allocates nothing.
func structLength(text []byte, depth int) (int, error) {
	const deepest = 16
	if depth > deepest {
		return 0, errors.New("it is nested too deeply")
	}
	at := 0
	for {
		if at >= len(text) {
			return 0, io.ErrUnexpectedEOF
		}
		field := text[at]
		at++
		if field == 0 {
			return at, nil
		}
		if field>>4 == 0 { // the field's number follows, not its distance from the last
			n, err := varintLength(text[at:])
			if err != nil {
				return 0, err
			}
			at += n
		}
		kind := field & 0xf
		if kind == thriftTrue || kind == thriftFalse {
			continue // the value is in the type
		}
		n, err := valueLength(text[at:], kind, depth)
		if err != nil {
			return 0, err
		}
		at += n
	}
}

// Types of Thrift's compact protocol. Parquet has no maps or sets.
const (
	thriftTrue = 1 + iota
	thriftFalse
	thriftByte
	thriftI16
	thriftI32
	thriftI64
	thriftDouble
	thriftBinary
	thriftList
	thriftStruct = 12
)

func valueLength(text []byte, kind byte, depth int) (int, error) {
	size := 0
	switch kind {
	case thriftTrue, thriftFalse, thriftByte: // in a list a truth value takes a byte
		size = 1
	case thriftI16, thriftI32, thriftI64:
		return varintLength(text)
	case thriftDouble:
		size = 8
	case thriftBinary:
		length, n := binary.Uvarint(text)
		if n <= 0 || length > uint64(len(text)-n) {
			return 0, fmt.Errorf("it claims a text of %d bytes: %w", length, io.ErrUnexpectedEOF)
		}
		return n + int(length), nil
	case thriftList:
		return listLength(text, depth)
	case thriftStruct:
		return structLength(text, depth+1)
	default:
		return 0, fmt.Errorf("it has a value of unknown type %d", kind)
	}
	if size > len(text) {
		return 0, io.ErrUnexpectedEOF
	}
	return size, nil
}

func listLength(text []byte, depth int) (int, error) {
	if len(text) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	kind, count, at := text[0]&0xf, uint64(text[0]>>4), 1
	if count == 0xf {
		long, n := binary.Uvarint(text[1:])
		if n <= 0 {
			return 0, io.ErrUnexpectedEOF
		}
		count, at = long, 1+n
	}
	if count > uint64(len(text)-at) { // every element takes a byte at least
		return 0, fmt.Errorf("it claims a list of %d elements: %w", count, io.ErrUnexpectedEOF)
	}
	for range count {
		n, err := valueLength(text[at:], kind, depth+1)
		if err != nil {
			return 0, err
		}
		at += n
	}
	return at, nil
}

func varintLength(text []byte) (int, error) {
	if _, n := binary.Uvarint(text); n > 0 {
		return n, nil
	}
	return 0, io.ErrUnexpectedEOF
}
