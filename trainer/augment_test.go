package trainer

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

// Each sample is moved by an element, what is predicted of it by the same, and which one is drawn anew in each step.
func TestAugmentation(t *testing.T) {
	const n, size = 64, 4 * 4 * 4
	b, data := backendtest.Go(t), smallConfig().Data.generated(0, "")
	group := orbits.D4()
	a, err := newAugmentation(group, data, b)
	require.NoError(t, err)
	defer a.close()
	random := rand.New(rand.NewPCG(1, 2))
	state := func() (values []float32) {
		for range size {
			values = append(values, random.Float32())
		}
		return values
	}
	before, after := state(), state()
	elements, err := group.Elements(4, 4)
	require.NoError(t, err)
	var images [2][][]float32 // of both, by element
	for _, e := range elements {
		for i, values := range [][]float32{before, after} {
			moved, err := graph.CallOnce(b, func(x *graph.Node) *graph.Node { return e.Apply(data.Field, x) }, tensors.FromFlatDataAndDimensions(values, 1, 4, 4, 4))
			require.NoError(t, err)
			images[i] = append(images[i], tensors.MustCopyFlatData[float32](moved))
		}
	}
	drawn := func(seed int64, step int) (all []int) {
		batch := []*tensors.Tensor{
			tensors.FromFlatDataAndDimensions(slices.Repeat(before, n), n, 4, 4, 4), tensors.FromFlatDataAndDimensions(slices.Repeat(after, n), n, 4, 4, 4),
		}
		require.NoError(t, a.apply(batch, seed, step))
		x, y := tensors.MustCopyFlatData[float32](batch[0]), tensors.MustCopyFlatData[float32](batch[1])
		for sample := range n {
			of := func(image []float32) bool { return slices.Equal(image, x[sample*size:(sample+1)*size]) }
			at := slices.IndexFunc(images[0], of)
			require.GreaterOrEqual(t, at, 0)
			require.Equal(t, images[1][at], y[sample*size:(sample+1)*size])
			all = append(all, at)
		}
		return all
	}
	first := drawn(0, 5)
	for at := range elements {
		require.Contains(t, first, at, "of 64 draws each element has some")
	}
	require.Equal(t, first, drawn(0, 5), "a resumed training draws the same")
	require.NotEqual(t, first, drawn(0, 6))
	require.NotEqual(t, first, drawn(1, 5))
}
