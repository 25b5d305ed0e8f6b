package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The last digits may differ from one processor to another; the story may not.
func TestTheBestAuditIsWhatTheCheckpointHolds(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(&out))
	t.Log(out.String())
	before, after, found := strings.Cut(out.String(), "the checkpoint:\n")
	require.True(t, found)
	type audited struct {
		epoch, step          int
		errorOf, coherenceOf float64
	}
	parse := func(line string) (a audited) {
		_, err := fmt.Sscan(line, &a.epoch, &a.step, &a.errorOf, &a.coherenceOf)
		require.NoError(t, err, line)
		return a
	}
	var audits []audited
	for _, line := range regexp.MustCompile(`(?m)^ +\d.*$`).FindAllString(before, -1) {
		audits = append(audits, parse(line))
	}
	best := 0
	for i := range audits {
		if audits[i].coherenceOf > audits[best].coherenceOf {
			best = i
		}
	}
	require.Greater(t, audits[best].coherenceOf, audits[0].coherenceOf+0.1, "coherence rises")
	require.GreaterOrEqual(t, len(audits)-1-best, 3, "the patience")
	require.Less(t, len(audits), 40)
	require.Contains(t, before, "stopped: d4/coherence is ")
	require.Equal(t, audits[best], parse(after))
}
