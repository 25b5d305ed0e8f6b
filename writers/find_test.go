package writers

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFindTakesRunsAtAnyDepthAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	below := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	for _, run := range []string{below("b"), below("2026", "november", "a"), below("b-lost"), below(".hidden", "c"), below("1", "2", "3", "4", "5", "6", "7", "8"),
		below("9", "2", "3", "4", "5", "6", "7", "8", "9")} {
		require.NoError(t, openRun(t, run).Write(auditAt(1)))
	}
	require.NoError(t, os.Remove(below("b-lost", firstInfoName))) // only its parts say that it is a run
	require.NoError(t, os.MkdirAll(below("b", "checkpoints", "run.json"), 0o777))
	require.NoError(t, os.MkdirAll(below("data", "training"), 0o777))
	found, err := Find(dir)
	require.NoError(t, err)
	require.Equal(t, []string{below("1", "2", "3", "4", "5", "6", "7", "8"), below("2026", "november", "a"), below("b"), below("b-lost")}, found)

	found, err = Find(below("b"))
	require.NoError(t, err)
	require.Equal(t, []string{below("b")}, found)
	_, err = Find(below("nowhere"))
	require.ErrorContains(t, err, below("nowhere")+": no such file or directory")
}

func TestRunningIsWhatHoldsTheLock(t *testing.T) {
	dir := t.TempDir()
	is := func() bool {
		running, err := Running(dir)
		require.NoError(t, err)
		return running
	}
	require.False(t, is())
	require.NoFileExists(t, filepath.Join(dir, lockName), "to ask changes nothing")
	run := openRun(t, dir)
	require.True(t, is())
	require.NoError(t, run.Close())
	require.False(t, is())
}

// Whoever asks holds the lock for an instant; a writer that begins then is not refused.
func TestAskingWhetherARunIsRunningRefusesNoWriter(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, openRun(t, dir).Close())
	done := make(chan struct{})
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_, _ = Running(dir)
				}
			}
		})
	}
	for range 50 {
		run, err := Parquet(dir).WithResume().Done()
		require.NoError(t, err)
		require.NoError(t, run.Close())
	}
	close(done)
	asking.Wait()
}
