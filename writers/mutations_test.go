package writers

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

// beforeDigest is a run as it was written before files carried a digest.
const beforeDigest = "testdata/version1"

// Whatever happens to the bytes of a run, reading it costs no more memory than a whole one, about, and ends in an error
// that names the file or in the records that were written.
//
// Before each read one file is changed. Of files with a digest every change is found by that alone, so it is also tried
// without: on files of before, and with the digest, and sometimes the checksum of the page, made anew, as one would who
// meant harm. Then other records may come out, but memory must be bounded still.
func TestMutations(t *testing.T) {
	mutations := 600
	if text := os.Getenv("SYMAUDIT_MUTATIONS"); text != "" {
		var err error
		mutations, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	fresh := t.TempDir()
	run := openRun(t, fresh)
	require.NoError(t, run.Write(soundAudit(1)))
	require.NoError(t, run.Write(soundAudit(2)))
	require.NoError(t, run.Close())
	old := t.TempDir()
	require.NoError(t, os.CopyFS(old, os.DirFS(beforeDigest)))
	for _, kind := range []struct {
		name, dir string
		resealed  bool
	}{{"digest", fresh, false}, {"before digests", old, false}, {"digest made anew", fresh, true}} {
		t.Run(kind.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			files := runFiles(t, kind.dir)
			want := readRecords(t, kind.dir)
			found, most := 0, uint64(0)
			for i := range mutations / 3 {
				path := files[random.IntN(len(files))]
				whole, err := os.ReadFile(path)
				require.NoError(t, err)
				changed, what := mutate(random, whole)
				if kind.resealed {
					repairChecksums(random, changed, whole)
				}
				require.NoError(t, os.WriteFile(path, changed, 0o666))
				var contents *Contents
				bytes := allocated(func() { contents, err = Read(kind.dir) })
				most = max(most, bytes)
				require.Less(t, bytes, uint64(64<<20), "mutation %d, %s of %s", i, what, path)
				faults := fmt.Sprint(Check(kind.dir).Faults)
				switch {
				case err != nil:
					require.Contains(t, faults, path, "mutation %d, %s: Read says %v", i, what, err)
					require.ErrorContains(t, err, path, "mutation %d, %s", i, what)
					found++
				case !kind.resealed:
					require.Empty(t, cmp.Diff(want, contents.Records, cmpopts.EquateNaNs()), "mutation %d, %s of %s", i, what, path)
				}
				require.NoError(t, os.WriteFile(path, whole, 0o666))
			}
			requireSame(t, want, readRecords(t, kind.dir))
			t.Logf("%d of %d mutations are errors; a read allocates %d bytes at most", found, mutations/3, most)
		})
	}
}

// Whatever it is fed, decoding returns and its memory is in proportion to the file.
func FuzzRead(f *testing.F) {
	for i, table := range tables {
		if !slices.Contains([]string{"decisions", "evaluation", "rollouts", "local_errors", "layers", "spectrum", "pictures"}, table.name()) { // which are newer
			content, err := os.ReadFile(directory{path: beforeDigest}.visible(table.name(), 0))
			require.NoError(f, err)
			f.Add(i, content)
		}
		sealed, err := table.encode(auditAt(1), stamp{runID: "run", attempt: 1, tables: tableNames()})
		require.NoError(f, err)
		f.Add(i, sealed)
	}
	path := filepath.Join(f.TempDir(), "part.parquet")
	f.Fuzz(func(t *testing.T, number int, content []byte) {
		table := tables[uint(number)%uint(len(tables))]
		if place, found := digestPlace(content); found { // or nothing would get beyond it
			copy(place, noDigest)
			require.NoError(t, seal(content))
		}
		path := fmt.Sprintf("%s-%d", path, os.Getpid())
		require.NoError(t, os.WriteFile(path, content, 0o666))
		var records audit.Records
		var err error
		bytes := allocated(func() { _, err = table.decode(path, nil, &records) })
		require.Less(t, bytes, uint64(64<<20+1000*len(content)))
		if err != nil {
			require.ErrorContains(t, err, path)
		}
	})
}

// runFiles are the files that a reader opens.
func runFiles(t *testing.T, dir string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && (filepath.Ext(path) == partSuffix || isInfoName(entry.Name())) {
			files = append(files, path)
		}
		return err
	}))
	require.Greater(t, len(files), 2*len(tables))
	return files
}

// mutate returns a changed copy of a file, and what was done to it. Every other change is in the footer or in the
// first kilobyte, which is headers mostly.
func mutate(random *rand.Rand, whole []byte) (changed []byte, what string) {
	changed = append([]byte(nil), whole...)
	low, high := 0, len(changed)
	switch random.IntN(4) {
	case 0:
		low = max(0, high-footerSize(whole)-8)
	case 1:
		high = min(high, 1000)
	}
	place := func() int { return low + random.IntN(high-low) }
	at := place()
	length := min(1+random.IntN(32), len(changed)-at)
	what = fmt.Sprintf("at byte %d, %d bytes", at, length)
	switch random.IntN(9) {
	case 0:
		changed[at] ^= 1 << random.IntN(8)
		return changed, what + ": a bit flipped"
	case 1:
		changed[at] = byte(random.Uint32())
		return changed, what + ": one set"
	case 2, 3, 4:
		fills := []func() byte{
			func() byte { return 0 }, func() byte { return 0xff }, func() byte { return byte(random.Uint32()) }}
		fill := fills[random.IntN(len(fills))]
		for i := at; i < at+length; i++ {
			changed[i] = fill()
		}
		return changed, what + ": filled"
	case 5:
		return changed[:at], what + ": truncated"
	case 6:
		inserted := make([]byte, length)
		for i := range inserted {
			inserted[i] = byte(random.Uint32())
		}
		return append(changed[:at:at], append(inserted, whole[at:]...)...), what + ": inserted"
	case 7:
		return append(changed[:at], whole[at+length:]...), what + ": removed"
	default:
		other := place()
		length = min(length, len(changed)-other)
		copy(changed[at:], whole[other:other+length])
		copy(changed[other:], whole[at:at+length])
		return changed, what + fmt.Sprintf(": swapped with those at %d", other)
	}
}

func footerSize(file []byte) int {
	if len(file) < 8 || string(file[len(file)-4:]) != parquetMark {
		return 0
	}
	return int(binary.LittleEndian.Uint32(file[len(file)-8:]))
}

// repairChecksums makes a changed file's digest anew, and often the checksum of the page that was changed.
func repairChecksums(random *rand.Rand, changed, whole []byte) {
	meta, err := footer(whole)
	if err == nil && len(changed) == len(whole) && random.IntN(4) > 0 {
		for _, chunk := range meta.RowGroups[0].Columns {
			offset := chunk.MetaData.DataPageOffset
			page, used, err := nextPage(whole[offset:])
			if err != nil {
				continue
			}
			// The checksum is the header's fourth field, a varint of five bytes mostly: find the one of before.
			header := changed[offset : offset+int64(used-len(page.data))]
			data := changed[offset+int64(used-len(page.data)) : offset+int64(used)]
			before := binary.AppendVarint(nil, int64(int32(crc32.ChecksumIEEE(page.data))))
			after := binary.AppendVarint(nil, int64(int32(crc32.ChecksumIEEE(data))))
			for i := range len(header) - len(before) {
				if string(header[i:i+len(before)]) == string(before) && len(before) == len(after) {
					copy(header[i:], after)
					break
				}
			}
		}
	}
	if place, found := digestPlace(changed); found {
		copy(place, noDigest)
		_ = seal(changed)
	}
}

// allocated returns how many bytes f allocates in all.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
