package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// program starts symaudit as a process of its own: TestMain becomes it by its name.
func program(t *testing.T, dir string, args ...string) (command *exec.Cmd, stdout, stderr *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	command = exec.Command(self)
	command.Args = append([]string{"symaudit"}, args...)
	command.Dir = dir
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	errs, err := command.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill() })
	return command, bufio.NewReader(out), bufio.NewReader(errs)
}

// readUntil reads lines up to one that begins with prefix.
func readUntil(t *testing.T, from *bufio.Reader, prefix string) {
	t.Helper()
	for {
		line, err := from.ReadString('\n')
		if strings.HasPrefix(line, prefix) {
			return
		}
		require.NoError(t, err, "no line begins with %q", prefix)
	}
}

func writeConfig(t *testing.T, dir, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text), 0o666))
}

func TestInterruptedTrainingSaysHowToGoOn(t *testing.T) {
	dir := t.TempDir()
	writeConfig(t, dir, `
data: {families: [riemann], trajectories: 2, probes: 1, euler: {resolution: 8, refinement: 1, snapshots: 4}}
models: [{name: vit, vit: {patch: 4, width: 4, layers: 1, heads: 2, expansion: 1}}]
training: {epochs: 100000, batch_size: 6}
audit: {groups: [{name: d4}], relative_lambdas: [0.1], tolerance: 0.3}
`)
	command, stdout, stderr := program(t, dir, "train", "--config", "config.yaml", "--dir", "runs/a", "--backend", "go")
	readUntil(t, stdout, "vit      2.00 ")
	require.NoError(t, command.Process.Signal(os.Interrupt))
	_, err := io.Copy(io.Discard, stdout)
	require.NoError(t, err)
	said, err := io.ReadAll(stderr)
	require.NoError(t, err)
	var exit *exec.ExitError
	require.ErrorAs(t, command.Wait(), &exit)
	require.Equal(t, exitFailure, exit.ExitCode())
	require.Regexp(t, `(?m)^symaudit: interrupted, ending after the part under way; a second time ends at once$`, string(said))
	require.Regexp(t, `(?m)^symaudit: model "vit": stopped at step \d+ of 100000: interrupted; `+
		`finished epochs and audits are kept, go on with: symaudit train --resume --dir runs/a$`, string(said))

	command, stdout, _ = program(t, dir, "train", "--resume", "--dir", "runs/a")
	readUntil(t, stdout, "vit ")
	require.NoError(t, command.Process.Kill())
}

func TestSecondInterruptEndsAtOnce(t *testing.T) {
	dir := t.TempDir()
	// A single interval of many thousand time steps: minutes that no first interrupt cuts short.
	writeConfig(t, dir, `
data: {families: [riemann], trajectories: 1, probes: 1, euler: {resolution: 64, snapshots: 2, interval: 1000, max_substeps: 1000000000}}
`)
	command, stdout, stderr := program(t, dir, "train", "--config", "config.yaml", "--dir", "runs/a", "--backend", "go")
	readUntil(t, stdout, "backend: ")
	require.NoError(t, command.Process.Signal(os.Interrupt))
	readUntil(t, stderr, "symaudit: interrupted")
	require.NoError(t, command.Process.Signal(os.Interrupt))
	var exit *exec.ExitError
	require.True(t, errors.As(command.Wait(), &exit))
	require.True(t, exit.Sys().(syscall.WaitStatus).Signaled(), "killed, not ended")
}

func TestVersion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, exitOK, run([]string{"--version"}, &stdout, &stderr))
	require.Regexp(t, `^symaudit .*, go1\..*gomlx v0\.\d+\.\d+\n$`, stdout.String())
	require.Empty(t, stderr.String())
}
