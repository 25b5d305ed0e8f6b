package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The hook is a matter of a few lines, and changes nothing about the training.
func TestTheSameProgramWithAndWithoutTheHook(t *testing.T) {
	read := func(path string) map[string]bool {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		lines := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				lines[line] = true
			}
		}
		return lines
	}
	plain, hooked := read("plain/main.go"), read("main.go")
	imports, others := 0, 0
	for line := range hooked {
		switch {
		case plain[line]:
		case strings.HasPrefix(line, `"`):
			imports++
		default:
			others++
		}
	}
	for line := range plain {
		require.True(t, hooked[line], "%s is gone", line)
	}
	require.Equal(t, 4, imports)
	require.Less(t, others, 10)

	output := func(program string) string {
		var out, errs bytes.Buffer
		command := exec.Command("go", "run", program)
		command.Stdout, command.Stderr = &out, &errs
		require.NoError(t, command.Run(), errs.String())
		return out.String()
	}
	before, after := output("./plain"), output(".")
	audits, rest := 0, ""
	for line := range strings.Lines(after) {
		switch {
		case strings.Contains(line, "d4/coherence"):
			audits++
		case !strings.Contains(line, "an audit will take"):
			rest += line
		}
	}
	require.Equal(t, 6, audits)
	require.Equal(t, before, rest, "the weights are those of a training without the hook")
}
