package euler

import (
	"math"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// fluxBetween is the flux across one face with normal x, and the impedances of the two outer waves.
func fluxBetween(t *testing.T, left, right [4]float64) (flux [4]float64, impedance [2]float64) {
	t.Helper()
	outputs, err := graph.CallOnceN(backendtest.Go(t), func(states *graph.Node) []*graph.Node {
		var sides [2]fields
		for s := range sides {
			for i := range Channels {
				sides[s][i] = graph.Slice(states, graph.AxisElem(s), graph.AxisElem(i))
			}
		}
		f := Default().flux(sides[0], sides[1], alongX, alongY)
		m := Default().impedances(sides[0], sides[1], alongX)
		return append(f[:], m[:]...)
	}, [][]float64{left[:], right[:]})
	require.NoError(t, err)
	for i := range flux {
		flux[i] = outputs[i].Value().([][]float64)[0][0]
	}
	for i := range impedance {
		impedance[i] = outputs[Channels+i].Value().([][]float64)[0][0]
	}
	return flux, impedance
}

// physicalFlux is the flux of one state across a face with normal x.
func physicalFlux(w [4]float64) [4]float64 {
	total := w[3]/(gamma-1) + w[0]*(w[1]*w[1]+w[2]*w[2])/2
	return [4]float64{w[0] * w[1], w[0]*w[1]*w[1] + w[3], w[0] * w[1] * w[2], w[1] * (total + w[3])}
}

func TestFluxIsConsistentAndUpwind(t *testing.T) {
	for name, test := range map[string]struct{ left, right, of [4]float64 }{
		"equal states":            {[4]float64{1, 0.3, -0.2, 0.5}, [4]float64{1, 0.3, -0.2, 0.5}, [4]float64{1, 0.3, -0.2, 0.5}},
		"faster than sound":       {[4]float64{1, 3, 1, 1}, [4]float64{0.5, 3.2, -1, 0.8}, [4]float64{1, 3, 1, 1}},
		"faster than sound, back": {[4]float64{1, -3, 1, 1}, [4]float64{0.5, -3.2, -1, 0.8}, [4]float64{0.5, -3.2, -1, 0.8}},
		"contact":                 {[4]float64{1, 0.3, 1, 0.5}, [4]float64{0.1, 0.3, -1, 0.5}, [4]float64{1, 0.3, 1, 0.5}},
		"contact, back":           {[4]float64{1, -0.3, 1, 0.5}, [4]float64{0.1, -0.3, -1, 0.5}, [4]float64{0.1, -0.3, -1, 0.5}},
		"contact at rest":         {[4]float64{1, 0, 1, 0.5}, [4]float64{0.1, 0, -1, 0.5}, [4]float64{1, 0, 1, 0.5}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := fluxBetween(t, test.left, test.right)
			want := physicalFlux(test.of)
			require.InDeltaSlice(t, want[:], got[:], 1e-14)
		})
	}
}

// The jump conditions across the outer wave next to the face, in integral form: F* = F + S (U* - U) with the star state
// of Toro (2009), (10.39), computed here in conserved variables.
func TestFluxMatchesTheTextbook(t *testing.T) {
	left, right := [4]float64{1, 0.75, 0.4, 1}, [4]float64{0.125, 0, -0.3, 0.1}
	got, m := fluxBetween(t, left, right)
	slow, fast := left[1]-m[0]/left[0], right[1]+m[1]/right[0]
	contact := (right[3] - left[3] + left[0]*left[1]*(slow-left[1]) - right[0]*right[1]*(fast-right[1])) /
		(left[0]*(slow-left[1]) - right[0]*(fast-right[1]))
	require.Positive(t, contact)
	require.Negative(t, slow)
	total := left[3]/(gamma-1) + left[0]*(left[1]*left[1]+left[2]*left[2])/2
	factor := left[0] * (slow - left[1]) / (slow - contact)
	starred := [4]float64{
		factor, factor * contact, factor * left[2],
		factor * (total/left[0] + (contact-left[1])*(contact+left[3]/(left[0]*(slow-left[1])))),
	}
	u := [4]float64{left[0], left[0] * left[1], left[0] * left[2], total}
	for i, f := range physicalFlux(left) {
		require.InDelta(t, f+slow*(starred[i]-u[i]), got[i], 1e-13, "component %d", i)
	}
}

func TestImpedancesOfSoundAndShock(t *testing.T) {
	rest := [4]float64{1.3, 0, 0, 0.7}
	_, m := fluxBetween(t, rest, rest)
	sound := rest[0] * math.Sqrt(gamma*rest[3]/rest[0])
	require.InDeltaSlice(t, []float64{sound, sound}, m[:], 1e-14)

	_, m = fluxBetween(t, [4]float64{1, 2, 0, 1}, [4]float64{1, -2, 0, 1})
	estimate := 1 + 2*math.Sqrt(gamma)
	shock := math.Sqrt(gamma) * math.Sqrt(1+(gamma+1)/(2*gamma)*(estimate-1)) // Toro (2009), (10.59)
	require.InDeltaSlice(t, []float64{shock, shock}, m[:], 1e-14)
}
