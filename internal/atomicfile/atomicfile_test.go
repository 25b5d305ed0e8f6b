package atomicfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/atomicfile"
)

// failing fails one step.
type failing struct {
	atomicfile.OS
	at string
}

var errNo = errors.New("no")

func (f failing) WriteSynced(path string, content []byte) error {
	if f.at == "write" {
		return errors.Join(f.OS.WriteSynced(path, content[:len(content)/2]), errNo)
	}
	return f.OS.WriteSynced(path, content)
}

func (f failing) Rename(from, to string) error {
	if f.at == "rename" {
		return errNo
	}
	return f.OS.Rename(from, to)
}

func (f failing) SyncDir(path string) error {
	if f.at == "sync" {
		return errNo
	}
	return f.OS.SyncDir(path)
}

// Whatever step fails, the file is the old one or the new one.
func TestWrite(t *testing.T) {
	for at, want := range map[string]string{"write": "the old one", "rename": "the old one", "sync": "the new one", "": "the new one"} {
		path := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(path, []byte("the old one"), 0o666))
		err := atomicfile.Write(failing{at: at}, path, []byte("the new one"))
		require.Equal(t, at != "", errors.Is(err, errNo))
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(got), at)
	}
}

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	work, final := filepath.Join(dir, ".work"), filepath.Join(dir, "final")
	require.NoError(t, os.MkdirAll(filepath.Join(work, "inner"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(work, "inner", "file"), []byte("whole"), 0o666))
	require.NoError(t, atomicfile.Publish(work, final))
	require.NoDirExists(t, work)
	require.FileExists(t, filepath.Join(final, "inner", "file"))
	require.Error(t, atomicfile.Publish(work, final), "it is not there")
}

func TestBegin(t *testing.T) {
	final := filepath.Join(t.TempDir(), "new", "final")
	work, err := atomicfile.Begin(final)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(work, "file"), []byte("whole"), 0o666))
	require.NoError(t, atomicfile.Publish(work, final))
	require.FileExists(t, filepath.Join(final, "file"))
	_, err = atomicfile.Begin(final)
	require.EqualError(t, err, final+" exists already; choose another directory, or remove it")
}
