package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/writers"
)

// In little: an equivariant network is coherent in every direction, and not under the wrong action; while another learns the symmetry the loss's coherence falls, and the kernel's does
// not.
func TestReading(t *testing.T) {
	equivariant, err := symmetrized()
	require.NoError(t, err)
	law, dir := slowFlow(), filepath.Join(t.TempDir(), "run")
	var out bytes.Buffer
	require.NoError(t, run(&out, dir, []experiment{
		{"equivariant", equivariant, law, false, law.count(), 8, 8},
		{"augmented", network, law, true, law.count(), 32, 256},
	}))
	t.Log(out.String())
	contents, err := writers.Read(dir)
	require.NoError(t, err)
	coherence, errors := map[string][]float64{}, map[string][]float64{}
	for _, row := range contents.Records.Coherence {
		if row.Element == audit.AllElements && *row.RelativeLambda < 1 {
			key := strings.Join([]string{row.Model, row.GroupName, row.Direction}, " ")
			coherence[key] = append(coherence[key], *row.Median)
			errors[key] = append(errors[key], *row.MedianCommutatorError)
		}
	}
	for _, direction := range []string{audit.LossName, audit.KernelName, "total_pressure"} {
		for _, value := range coherence["equivariant "+orbits.D4Name+" "+direction] {
			require.InDelta(t, 1, value, 1e-3, direction)
		}
	}
	require.Less(t, coherence["equivariant "+orbits.D4GridOnlyName+" kernel"][0], 0.5)
	loss, kernel, learned := coherence["augmented d4 loss"], coherence["augmented d4 kernel"], errors["augmented d4 loss"]
	last := len(loss) - 1
	require.Less(t, learned[last], 0.3*learned[0])
	require.Less(t, loss[last], 0.7*loss[0])
	require.Greater(t, kernel[last], kernel[0])
}
