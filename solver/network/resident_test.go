package network

import (
	"context"
	"math"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/model/initializer"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/oracle"
	"github.com/symaudit/symaudit/solver"
)

func numbers(count int, seed float64) []float64 {
	all := make([]float64, count)
	for i := range all {
		all[i] = math.Sin(12.9898*float64(i) + seed)
	}
	return all
}

func wide(scope *model.Scope, x *graph.Node) *graph.Node {
	for i, width := range []int{30, 20, 3} {
		x = graph.Tanh(layers.Dense(scope.In("layer%d", i), x, true, width))
	}
	return x
}

// wideFactor is that of a network of 803 parameters over a batch of outputs of 12.
func wideFactor(t *testing.T, on compute.Backend, dtype dtypes.DType) *Factor {
	t.Helper()
	x := tensors.FromFlatDataAndDimensions(numbers(4*4, 1), 4, 4)
	store := model.NewStore()
	store.SetParam(model.ParamInitialSeed, int64(5))
	_, err := model.MustNewExec(on, store, wide).Exec(x)
	require.NoError(t, err)
	net, err := New(on, wide, func(labels, predictions []*graph.Node) *graph.Node { return predictions[0] }, dtype)
	require.NoError(t, err)
	t.Cleanup(net.Close)
	require.NoError(t, net.Load(store))
	batch, err := ConvertDType(x, dtype)
	require.NoError(t, err)
	factor, err := net.Factor(batch, 0.25, math.MaxInt64)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, factor.Close()) })
	return factor
}

// watched fails where a vector of parameters comes to the host, and counts those that go from it.
type watched struct {
	residentFactor
	t    *testing.T
	sent *int
}

func (w watched) Image(_, _ *mat.Dense) error {
	w.t.Error("an image of a vector on the host")
	return nil
}
func (w watched) Adjoint(_, _ *mat.Dense) error { w.t.Error("an adjoint to the host"); return nil }
func (w watched) Apply(_, _ *mat.Dense) error   { w.t.Error("a product on the host"); return nil }

func (w watched) Space() solver.Space[*vector] { return watchedSpace{w.residentFactor.Space(), w.sent} }

type watchedSpace struct {
	solver.Space[*vector]
	sent *int
}

func (w watchedSpace) Put(v *vector, numbers []float64) error {
	*w.sent++
	return w.Space.Put(v, numbers)
}

// Vectors on the backend give the intervals of those on the host, and only right-hand sides travel.
func TestResidentSolvesAreThoseOfTheHost(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, on compute.Backend) {
		for _, dtype := range []dtypes.DType{dtypes.Float64, dtypes.Float32} {
			t.Run(dtype.String(), func(t *testing.T) {
				factor := wideFactor(t, on, dtype)
				const k = 11 // more than one group of eight
				require.Greater(t, factor.Dim(), 4*factor.Rows(), "where V is not kept")
				gradients := mat.NewDense(k, factor.Dim(), nil)
				for i := range k {
					gradients.SetRow(i, numbers(factor.Dim(), float64(i)))
				}
				images, adjoints := mat.NewDense(k, factor.Rows(), nil), mat.NewDense(k, factor.Dim(), nil)
				require.NoError(t, factor.Image(images, gradients))
				require.NoError(t, factor.Adjoint(adjoints, images))
				gradients.Scale(1e-3, gradients)
				gradients.Add(gradients, adjoints) // near the range
				gradients.SetRow(4, gradients.RawRowView(3))
				eta, _, err := oracle.Dense(factor)
				require.NoError(t, err)
				var values mat.EigenSym
				require.True(t, values.Factorize(eta, false))
				largest := values.Values(nil)[factor.Dim()-1]
				options := solver.FormOptions{Lambdas: []float64{1e-4 * largest}, LambdaMax: 1.01 * largest}
				if dtype == dtypes.Float32 {
					options.Roundoff = 0x1p-24
				}
				host, err := solver.BilinearForms(context.Background(), factor, gradients, options)
				require.NoError(t, err)
				sent := 0
				_, err = factor.Resident()
				require.NoError(t, err)
				resident, err := solver.BilinearForms(context.Background(), solver.Resident(watched{residentFactor{factor}, t, &sent}), gradients, options)
				require.NoError(t, err)
				require.Equal(t, k, sent)
				require.True(t, host.Converged && resident.Converged, "%s; %s", host.Explanation(), resident.Explanation())
				require.Equal(t, host.Products, resident.Products)
				require.Equal(t, host.Bytes, resident.Bytes)
				require.Empty(t, factor.image.network.resident.lent, "all given back")

				x, err := oracle.Cholesky(eta, options.Lambdas[0], gradients)
				require.NoError(t, err)
				var exact mat.Dense
				exact.Mul(gradients, x.T())
				for i := range k {
					for j := range k {
						a, b, size := host.Form(0, i, j), resident.Form(0, i, j), math.Sqrt(exact.At(i, i)*exact.At(j, j))
						require.InDelta(t, a.Value, b.Value, 1e-3*size)
						require.InDelta(t, a.HalfWidth(), b.HalfWidth(), 1e-3*size)
						if dtype == dtypes.Float64 {
							require.LessOrEqual(t, b.Low, exact.At(i, j)+1e-12*size)
							require.GreaterOrEqual(t, b.High, exact.At(i, j)-1e-12*size)
						}
					}
				}
			})
		}
	})
}

// What the backend does with vectors is what the host does.
func TestResidentSpace(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, on compute.Backend) {
		factor := wideFactor(t, on, dtypes.Float64)
		_, err := factor.Resident()
		require.NoError(t, err)
		n, space := factor.Dim(), residentFactor{factor}.Space()
		make := func(count int, seed float64) ([]*vector, *mat.Dense) {
			rows := mat.NewDense(count, n, numbers(count*n, seed))
			vectors, err := space.New(count)
			require.NoError(t, err)
			for i, v := range vectors {
				require.NoError(t, space.Put(v, rows.RawRowView(i)))
			}
			return vectors, rows
		}
		same := func(want *mat.Dense, vectors []*vector) {
			t.Helper()
			for i, v := range vectors {
				require.InDeltaSlice(t, want.RawRowView(i), tensors.MustCopyFlatData[float64](v.tensor), 1e-12)
			}
		}
		for _, shape := range [][2]int{{1, 1}, {3, 9}, {9, 3}, {17, 8}} {
			a, rows := make(shape[0], 1)
			b, others := make(shape[1], 2)
			var want mat.Dense
			want.Mul(rows, others.T())
			products, err := space.Inner(a, b)
			require.NoError(t, err)
			require.True(t, mat.EqualApprox(&want, products, 1e-11))
			want.Reset()
			want.Mul(rows, rows.T())
			products, err = space.Inner(a, a)
			require.NoError(t, err)
			require.True(t, mat.EqualApprox(&want, products, 1e-11))
			c := mat.NewDense(shape[0], shape[1], numbers(shape[0]*shape[1], 3))
			want.Reset()
			want.Mul(c, others)
			want.Add(&want, rows)
			require.NoError(t, space.Add(a, c, b))
			same(&want, a)
			triangle := mat.NewTriDense(shape[0], mat.Lower, numbers(shape[0]*shape[0], 4))
			var transformed mat.Dense
			transformed.Mul(triangle, &want)
			require.NoError(t, space.Transform(a, triangle))
			same(&transformed, a)
			space.Free(append(a, b...))
		}
		zero, err := space.New(1)
		require.NoError(t, err)
		same(mat.NewDense(1, n, nil), zero)
		space.Free(zero)
	})
}

// A graph that cannot be made, of a program that takes vectors of another network, is an error of the solve and no panic.
func TestResidentFailuresAreErrors(t *testing.T) {
	factor := wideFactor(t, backendtest.Go(t), dtypes.Float64)
	_, err := factor.Resident()
	require.NoError(t, err)
	space := residentFactor{factor}.Space()
	vectors, err := space.New(2)
	require.NoError(t, err)
	require.NoError(t, vectors[0].set(tensors.FromFlatDataAndDimensions(numbers(3, 1), 3)))
	_, err = space.Inner(vectors[:1], vectors[1:])
	require.ErrorContains(t, err, "network: vectors on the backend")
	space.Free(vectors)
	require.NoError(t, factor.Close())
	v, err := space.New(1)
	require.NoError(t, err)
	require.ErrorContains(t, residentFactor{factor}.AdjointInto(v[0], numbers(12, 1)), "the factor is closed")
}

// A product on the backend keeps its values when the next vector is written over its argument, even where the program passes the argument on.
func TestProductsOutlastTheirArguments(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, on compute.Backend) {
		shifted := func(scope *model.Scope, x *graph.Node) *graph.Node {
			shift := scope.WithInitializer(initializer.Zero).VariableWithShape("shift", x.Shape()).NodeValue(x.Graph())
			return graph.Add(x, shift) // J is the identity
		}
		x := tensors.FromFlatDataAndDimensions(numbers(12, 1), 4, 3)
		store := model.NewStore()
		_, err := model.MustNewExec(on, store, shifted).Exec(x)
		require.NoError(t, err)
		net, err := New(on, shifted, func(labels, predictions []*graph.Node) *graph.Node { return predictions[0] }, dtypes.Float64)
		require.NoError(t, err)
		t.Cleanup(net.Close)
		require.NoError(t, net.Load(store))
		for _, most := range []int64{0, math.MaxInt64} {
			factor, err := net.Factor(x, 1, most)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, factor.Close()) })
			_, err = factor.Resident()
			require.NoError(t, err)
			space := residentFactor{factor}.Space()
			vectors, err := space.New(2)
			require.NoError(t, err)
			for i, v := range vectors {
				require.NoError(t, residentFactor{factor}.AdjointInto(v, numbers(12, float64(i))))
			}
			for i, v := range vectors {
				got := make([]float64, 12)
				require.NoError(t, space.Get(got, v))
				require.Equal(t, numbers(12, float64(i)), got)
			}
			space.Free(vectors)
		}
	})
}

// Products of vectors in float32 are those of the same numbers in float64, rounded at the end.
func TestProductsOfVectorsInSingle(t *testing.T) {
	for _, dtype := range []dtypes.DType{dtypes.Float64, dtypes.Float32} {
		factor := wideFactor(t, backendtest.Go(t), dtype)
		v, u := numbers(factor.Dim(), 1), numbers(factor.Rows(), 2)
		single := make([]float32, len(v))
		scaleInto(single, v, 1)
		scaleInto(v, single, 1)
		image, want := make([]float64, len(u)), mat.NewDense(1, len(u), nil)
		require.NoError(t, factor.ImageOf(image, single))
		require.NoError(t, factor.Image(want, mat.NewDense(1, len(v), v)))
		require.Equal(t, want.RawRowView(0), image)

		adjoint := mat.NewDense(1, len(v), nil)
		require.NoError(t, factor.AdjointInto(single, u))
		require.NoError(t, factor.Adjoint(adjoint, mat.NewDense(1, len(u), u)))
		rounded := make([]float32, len(v))
		scaleInto(rounded, adjoint.RawRowView(0), 1)
		require.Equal(t, rounded, single)

		require.NoError(t, factor.Close())
		require.ErrorContains(t, factor.ImageOf(image, single), "closed")
		require.ErrorContains(t, factor.AdjointInto(single, u), "closed")
	}
}

// unconverted fails where vectors are converted to float64 for a product.
type unconverted struct {
	*Factor
	t *testing.T
}

func (u unconverted) Image(_, _ *mat.Dense) error {
	u.t.Error("an image of a converted vector")
	return nil
}
func (u unconverted) Adjoint(_, _ *mat.Dense) error { u.t.Error("a converted adjoint"); return nil }

func TestSolvesInSingleConvertNoVectors(t *testing.T) {
	factor := wideFactor(t, backendtest.Go(t), dtypes.Float32)
	gradients := mat.NewDense(1, factor.Dim(), numbers(factor.Dim(), 1))
	options := solver.FormOptions{Lambdas: []float64{1}, LambdaMax: 10, Roundoff: 0x1p-24}
	forms, err := solver.BilinearForms(context.Background(), unconverted{factor, t}, gradients, options)
	require.NoError(t, err)
	require.True(t, forms.Converged, forms.Explanation())
}
