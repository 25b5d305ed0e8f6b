package audit

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/solver/network"
)

// lossGradients are those of the probes of directed at every element, by element and sample, with the dense metric ntk of a batch.
func lossGradients(t *testing.T, source untrained, elements []orbits.Element) (gradients *mat.Dense, eta *mat.SymDense) {
	net, err := network.New(source.backend, twoConvolutions, Loss, dtypes.Float64)
	require.NoError(t, err)
	defer net.Close()
	require.NoError(t, net.Load(source.store))
	x, y := directedStates(1), directedStates(2)
	eta, _, err = oracle.Dense(net.Metric(x, 1/float64(x.Size())))
	require.NoError(t, err)
	gradients = mat.NewDense(len(elements)*directedSamples, net.Dim(), nil)
	for e, element := range elements {
		act := func(x *tensors.Tensor, n int) *tensors.Tensor {
			one, err := rows(x, n, n+1)
			require.NoError(t, err)
			return graph.MustNewExec(source.backend, func(x *graph.Node) *graph.Node { return element.Apply(orbits.EulerField(), x) }).MustCall(one)[0]
		}
		for n := range directedSamples {
			_, err := net.Gradient(gradients.RawRowView(e*directedSamples+n), act(x, n), act(y, n))
			require.NoError(t, err)
		}
	}
	return gradients, eta
}

// Shares are those of dense solutions, in their intervals, and sum to the influence.
func TestLayersAgainstADenseOracle(t *testing.T) {
	source := made(t, twoConvolutions)
	elements, err := orbits.D4().Elements(directedSide, directedSide)
	require.NoError(t, err)
	gradients, ntk := lossGradients(t, source, elements)
	fisher := mat.NewSymDense(ntk.SymmetricDim(), nil)
	fisher.SymOuterK(1.0/directedSamples, gradients.Slice(0, directedSamples, 0, ntk.SymmetricDim()).T())
	zero := mat.NewSymDense(ntk.SymmetricDim(), nil)
	// Sorted by path: biases before weights, "in" before "out".
	places := map[string][2]int{
		"/": {0, 223}, "/in/": {0, 111}, "/in/conv/": {0, 111}, "/in/conv/biases": {0, 3}, "/in/conv/weights": {3, 111},
		"/out/": {111, 223}, "/out/conv/": {111, 223}, "/out/conv/biases": {111, 115}, "/out/conv/weights": {115, 223},
	}
	for name, c := range map[string]struct {
		eta *mat.SymDense
		set func(*Builder)
	}{
		"ntk":      {ntk, func(b *Builder) { b.WithRelativeLambda(1e-1, 1e-3) }},
		"float32":  {ntk, func(b *Builder) { b.WithDType(dtypes.Float32).WithTolerance(1e-2) }},
		"limited":  {ntk, func(b *Builder) { b.WithMaxProducts(60) }},
		"parts":    {ntk, func(b *Builder) { b.WithMaxBytes(240 << 10) }},
		"fisher":   {fisher, func(b *Builder) { b.WithMetric(MetricFisher) }},
		"identity": {zero, func(b *Builder) { b.WithMetric(MetricIdentity) }},
	} {
		t.Run(name, func(t *testing.T) {
			_, records := directed(t, source, twoConvolutions, orbits.D4(), func(b *Builder) { c.set(b.WithLayers()) })
			dampings := map[float64]*mat.Dense{} // solutions by lambda
			total := map[[2]any]float64{}
			for _, row := range records.Influence {
				if row.RowSample == row.ColSample {
					total[[2]any{row.Element, [2]float64{float64(row.ColSample), row.Lambda}}] = row.Influence
				}
				if dampings[row.Lambda] == nil {
					if dampings[row.Lambda], err = oracle.Cholesky(c.eta, row.Lambda, gradients); err != nil {
						require.NoError(t, err)
					}
				}
			}
			require.Len(t, records.Layers, len(dampings)*len(elements)*directedSamples*len(places))
			var sum float64
			for _, row := range records.Layers {
				place, known := places[row.Layer]
				require.True(t, known, row.Layer)
				require.Equal(t, int64(place[1]-place[0]), row.Parameters)
				require.Equal(t, map[bool]string{true: "variable", false: "scope"}[strings.HasSuffix(row.Layer, "s")], row.Kind)
				e := slices.IndexFunc(elements, func(e orbits.Element) bool { return e.Name() == row.Element })
				solutions := dampings[row.Lambda]
				share := func(gradient, solution int) float64 {
					product := 0.0
					for p := place[0]; p < place[1]; p++ {
						product += gradients.At(gradient, p) * solutions.At(solution, p)
					}
					return product
				}
				x, gx := int(row.Sample), e*directedSamples+int(row.Sample)
				size := math.Sqrt(mat.Dot(gradients.RowView(x), solutions.RowView(x)) * mat.Dot(gradients.RowView(gx), solutions.RowView(gx)))
				for _, c := range []struct{ want, found, low, high float64 }{
					{share(gx, x), row.Influence, row.InfluenceLow, row.InfluenceHigh},
					{share(x, x), row.InfluenceX, row.InfluenceXLow, row.InfluenceXHigh},
					{share(gx, gx), row.InfluenceGX, row.InfluenceGXLow, row.InfluenceGXHigh},
				} {
					require.LessOrEqual(t, c.low, c.want+1e-11*size, row.Layer)
					require.GreaterOrEqual(t, c.high, c.want-1e-11*size, row.Layer)
					if name != "float32" && name != "limited" {
						require.InDelta(t, c.want, c.found, 1e-6*size, row.Layer)
						require.Less(t, c.high-c.low, 1e-5*size, row.Layer)
					}
				}
				whole := total[[2]any{row.Element, [2]float64{float64(row.Sample), row.Lambda}}]
				switch {
				case row.Layer == "/":
					sum = row.Influence
					require.InDelta(t, whole, sum, row.InfluenceHigh-row.InfluenceLow+1e-12*size)
				case row.Kind == "variable":
					sum -= row.Influence
				}
				if row.Layer == "/out/conv/weights" { // the last
					require.InDelta(t, 0, sum, 1e-13*size, "variables sum to all")
				}
			}
			for _, row := range records.Solves {
				require.Equal(t, name != "limited", row.Status == Converged, row.Explanation)
				require.Equal(t, name == "parts", row.BlockSize < row.RHS)
				require.EqualValues(t, places["/"][1], *row.Parameters)
			}
		})
	}
}

// Of a direction with several draws, and of different ones at x and g.x, shares of all variables sum to the influence, too.
func TestLayersOfAllDirections(t *testing.T) {
	auditor, records := directed(t, made(t, twoConvolutions), twoConvolutions, orbits.C4(), func(b *Builder) {
		b.WithLayers().WithDirections(LossDirection(), KernelDirection(3), TotalDirection("energy"))
	})
	type pair struct {
		direction, element string
		sample             int32
	}
	want, sizes := map[pair]float64{}, map[pair]float64{}
	for _, row := range records.Influence {
		if row.RowSample == row.ColSample {
			want[pair{row.Direction, row.Element, row.RowSample}] = row.Influence
		}
	}
	found := map[pair]float64{}
	for _, row := range records.Layers {
		at := pair{row.Direction, row.Element, row.Sample}
		if row.Kind == "variable" {
			found[at] += row.Influence
		}
		if row.Layer == "/" {
			sizes[at] = math.Sqrt(row.InfluenceX * row.InfluenceGX)
		}
	}
	require.Len(t, found, len(auditor.Directions())*4*directedSamples)
	for at, total := range found {
		require.InDelta(t, want[at], total, 1e-7*sizes[at], at)
	}
}

// The share that lambda divides, and the effective dimension, are those of the dense metric.
func TestSpectrumAgainstADenseOracle(t *testing.T) {
	source := made(t, twoConvolutions)
	elements, err := orbits.D4().Elements(directedSide, directedSide)
	require.NoError(t, err)
	gradients, eta := lossGradients(t, source, elements)
	var eigen mat.EigenSym
	require.True(t, eigen.Factorize(eta, false))
	values := eigen.Values(nil)
	for name, set := range map[string]func(*Builder){
		"float64": func(*Builder) {},
		"float32": func(b *Builder) { b.WithDType(dtypes.Float32).WithTolerance(1e-2) },
		"parts":   func(b *Builder) { b.WithMaxBytes(240 << 10) },
	} {
		t.Run(name, func(t *testing.T) {
			_, records := directed(t, source, twoConvolutions, orbits.D4(), func(b *Builder) { set(b.WithSpectrum().WithRelativeLambda(1e-1, 1e-3)) })
			require.Len(t, records.Solves, 2)
			for _, row := range records.Solves {
				require.Equal(t, name == "parts", row.BlockSize < row.RHS)
				exact := 0.0
				for _, value := range values {
					exact += max(0, value) / (max(0, value) + row.Lambda)
				}
				require.Less(t, *row.EffectiveDimensionLow, exact)
				require.Greater(t, *row.EffectiveDimensionHigh, exact)
				require.InEpsilon(t, exact, *row.EffectiveDimension, 0.3)
				require.Less(t, *row.EffectiveDimensionHigh / *row.EffectiveDimensionLow, 4.0)
			}
			trace, found, rank := mat.Trace(eta), 0.0, 0.0
			for _, row := range records.Spectrum {
				require.Greater(t, row.RitzValue, 0.0)
				found += row.RitzValue * row.Multiplicity
				rank += row.Multiplicity
			}
			require.InEpsilon(t, trace, found, 0.3)
			require.InEpsilon(t, values[len(values)-1], records.Spectrum[0].RitzValue, 1e-4)
			require.InDelta(t, 128, rank, 30, "the outputs, of which the metric's rank is at most the number")
			for _, row := range records.Influence {
				e := slices.IndexFunc(elements, func(e orbits.Element) bool { return e.Name() == row.Element })
				g := gradients.Slice(e*directedSamples+int(row.ColSample), e*directedSamples+int(row.ColSample)+1, 0, len(values)).(*mat.Dense)
				x, err := oracle.Cholesky(eta, row.Lambda, g)
				require.NoError(t, err)
				exact := row.Lambda * mat.Dot(g.RowView(0), x.RowView(0)) / mat.Dot(g.RowView(0), g.RowView(0))
				require.LessOrEqual(t, *row.LeakageLow, exact+1e-12)
				require.GreaterOrEqual(t, *row.LeakageHigh, exact-1e-12)
				require.Less(t, *row.LeakageHigh-*row.LeakageLow, 0.03)
			}
		})
	}
}

func TestLayersAndSpectrumRefuse(t *testing.T) {
	for want, set := range map[string]func(*Builder){
		"audit: WithLayers is asked for, and estimator cg-residual certifies no solution to take apart; use estimator block": func(b *Builder) { b.WithLayers().WithEstimator(CGResidual) },
		"audit: WithSpectrum is asked for, which is of metric ntk by estimator block, and these are ggn and block; leave it out, or use those": func(b *Builder) {
			b.WithSpectrum().WithMetric(MetricGGN)
		},
		"audit: WithLayers is asked for, which is part of influence, and that is left out (WithForwardOnly); use one of them":   func(b *Builder) { b.WithForwardOnly().WithLayers() },
		"audit: WithSpectrum is asked for, which is part of influence, and that is left out (WithForwardOnly); use one of them": func(b *Builder) { b.WithForwardOnly().WithSpectrum() },
		"audit: WithMaxProducts is 24; a batch of group c4 needs 25 at least, one for each gradient, one for its solution at each lambda, and one to check": func(b *Builder) {
			b.WithLayers().WithMaxProducts(24)
		},
		"audit: WithMaxProducts is 16; a batch of group c4 needs 17 at least, one for each of the random vectors of its spectrum and one to check": func(b *Builder) {
			b.WithSpectrum().WithMaxProducts(16)
		},
	} {
		builder := New(made(t, twoConvolutions), twoConvolutions, Loss).WithRelativeLambda(0.1, 1).WithField(orbits.EulerField()).WithGroup(orbits.C4(), Probes{Inputs: directedStates(1), Targets: directedStates(2)})
		set(builder)
		_, err := builder.Done()
		require.EqualError(t, err, want)
	}

}
