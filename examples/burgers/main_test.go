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

func TestShiftsAreThereFromBirthAndTheMirrorIsLearned(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(&out))
	t.Log(out.String())
	commutator := map[string][]float64{} // by group, audit after audit
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n")[1:] {
		var epoch int
		var group string
		var target, commutes, coherence float64
		_, err := fmt.Sscan(line, &epoch, &group, &target, &commutes, &coherence)
		require.NoError(t, err, line)
		commutator[group] = append(commutator[group], commutes)
	}
	require.Len(t, commutator, 4)
	for group, errors := range commutator {
		require.Len(t, errors, 3, group)
	}
	require.Less(t, commutator["translations"][2], 1e-10)
	require.Less(t, commutator["reflections"][2], 0.7*commutator["reflections"][0])
	require.Greater(t, commutator["reflections-grid-only"][2], 10*commutator["reflections"][2], "as a scalar the velocity has no mirror")
}
