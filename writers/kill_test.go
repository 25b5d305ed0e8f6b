package writers

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const victimEnv = "SYMAUDIT_TEST_KILLED_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// writeUntilKilled resumes the run and writes audits for ever. It prints a step when Write has returned.
func writeUntilKilled(dir string) {
	run, err := Parquet(dir).WithResume().Done()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := int64(0); ; i++ {
		step := 1_000_000*int64(run.Attempt()) + i
		if err := run.Write(auditAt(step)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(step)
	}
}

func TestKilledWritersLoseNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	acknowledged := map[int64]bool{}
	const rounds = 8
	for range rounds {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), victimEnv+"="+dir)
		command.Stderr = os.Stderr
		output, err := command.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		lines := bufio.NewScanner(output)
		require.True(t, lines.Scan(), "the writer ended before its first audit")
		time.AfterFunc(rand.N(30*time.Millisecond), func() { _ = command.Process.Kill() })
		for more := true; more; more = lines.Scan() {
			step, err := strconv.ParseInt(lines.Text(), 10, 64)
			require.NoError(t, err)
			acknowledged[step] = true
		}
		require.ErrorContains(t, command.Wait(), "killed")

		contents, err := Read(dir)
		require.NoError(t, err)
		steps := requireWholeAudits(t, contents.Records)
		for step := range acknowledged {
			require.Contains(t, steps, step)
		}
	}
	run := resumeRun(t, dir)
	require.Equal(t, int32(rounds+1), run.Attempt())
	steps := requireWholeAudits(t, readRecords(t, dir))
	require.LessOrEqual(t, len(steps), len(acknowledged)+rounds, "at most one audit in flight a round")
}
