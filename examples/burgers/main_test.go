package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The step itself has all three symmetries to rounding, and agrees with small explicit steps.
func TestTheStepIsBurgersAndHasItsSymmetries(t *testing.T) {
	u := make([]float64, size)
	for i := range u {
		x := 2 * math.Pi * float64(i) / size
		u[i] = 0.3 + 0.8*math.Sin(x+0.5) + 0.2*math.Cos(2*x)
	}
	of := func(value func(i int) float64) []float64 {
		all := make([]float64, size)
		for i := range all {
			all[i] = value(i)
		}
		return all
	}
	at := func(u []float64, i int) float64 { return u[(i%size+size)%size] }
	after := evolved(u)
	for name, images := range map[string][2][]float64{
		"mirror": {of(func(i int) float64 { return -at(u, -1-i) }), of(func(i int) float64 { return -at(after, -1-i) })},
		"shift":  {of(func(i int) float64 { return at(u, i-5) }), of(func(i int) float64 { return at(after, i-5) })},
		"boost":  {of(func(i int) float64 { return u[i] + 2 }), of(func(i int) float64 { return at(after, i-2) + 2 })},
	} {
		require.InDeltaSlice(t, images[1], evolved(images[0]), 1e-9, name)
	}
	require.Greater(t, math.Abs(evolved(of(func(i int) float64 { return at(u, -1-i) }))[0]-at(after, -1)), 1e-3, "a velocity that is no vector")

	slow := append([]float64(nil), u...) // explicit steps with spectral derivatives
	const steps = 2000
	for range steps {
		first := spectral(slow, func(k float64) complex128 { return complex(0, k) })
		second := spectral(slow, func(k float64) complex128 { return complex(-k*k, 0) })
		for i := range slow {
			slow[i] += step / steps * (viscosity*second[i] - slow[i]*first[i])
		}
	}
	require.InDeltaSlice(t, slow, after, 2e-4)
}

// The digits may differ from one processor to another; the story may not.
func TestTheMirrorIsThatOfAVector(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(&out))
	t.Log(out.String())
	type audited struct{ target, commutator, coherence float64 }
	last := map[string]audited{} // by group
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 1+2*4, "two audits of four groups")
	for _, line := range lines[1:] {
		var epoch int
		var group string
		var a audited
		_, err := fmt.Sscan(line, &epoch, &group, &a.target, &a.commutator, &a.coherence)
		require.NoError(t, err, line)
		last[group] = a
	}
	mirror, control := last["reflections"], last["reflections-grid-only"]
	require.Greater(t, control.target, 10*mirror.target, "as a scalar the velocity has no mirror")
	require.Greater(t, control.commutator, 5*mirror.commutator)
	require.Greater(t, mirror.coherence, control.coherence+0.2)
	require.Less(t, last["translations"].commutator, 1e-10, "from birth")
	require.Less(t, last["boosts"].commutator, 1e-2)
}
