package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyTheNetworkWithoutBiasesIsOfDegreeOne(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(&out))
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 1+4)
	for _, line := range lines[1:] {
		var biases bool
		var element string
		var commutator, coherence float64
		_, err := fmt.Sscan(line, &biases, &element, &commutator, &coherence)
		require.NoError(t, err)
		if biases {
			require.Greater(t, commutator, 1e-6)
			require.Less(t, coherence, 0.95)
		} else {
			require.Less(t, commutator, 1e-12)
			require.Equal(t, 1.0, coherence)
		}
	}
}
