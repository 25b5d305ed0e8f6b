package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyTheNetworkThatSeesDifferencesIsEquivariant(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(&out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 1+4)
	for _, line := range lines[1:] {
		var sees, element string
		var commutator, coherence float64
		_, err := fmt.Sscan(line, &sees, &element, &commutator, &coherence)
		require.NoError(t, err)
		if sees == "differences" {
			require.Less(t, commutator, 1e-12)
			require.Equal(t, 1.0, coherence)
		} else {
			require.Greater(t, commutator, 1e-3)
			require.Less(t, coherence, 0.95)
		}
	}
}
