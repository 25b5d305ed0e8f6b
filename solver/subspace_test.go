package solver_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

func TestSubspaceFormsAreTooSmallUnlessTheSpanIsInvariant(t *testing.T) {
	lambdas := []float64{1e-2, 1e-4}
	op, rhs := decaying(4)
	op.Products = 0
	forms, statistics, err := solver.SubspaceForms(op, lambdas, rhs, 3)
	require.NoError(t, err)
	require.Equal(t, 3, op.Products)
	require.Nil(t, statistics[0].MaxTrueResidual)
	require.Greater(t, *statistics[1].MaxTrueResidual, 0.1)
	require.EqualValues(t, 3, statistics[0].Products+statistics[1].Products)
	for l, lambda := range lambdas {
		require.Equal(t, solver.Uncertified, statistics[l].Status)
		require.Less(t, statistics[l].LambdaMax, 1.0)
		exact := exactForms(t, op.Of, lambda, rhs)
		for i := range 4 {
			require.Less(t, forms[l].At(i, i), exact.At(i, i)/2, "most of it is missing")
		}
	}

	// Two eigenvectors, of very different length, and a combination of them outside the first rows.
	var eigen mat.EigenSym
	require.True(t, eigen.Factorize(op.Of, true))
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	span := mat.NewDense(3, 200, nil)
	floats.AddScaled(span.RawRowView(0), 1e6, mat.Col(nil, 199, &vectors))
	floats.AddScaled(span.RawRowView(1), 1e-6, mat.Col(nil, 100, &vectors))
	floats.AddTo(span.RawRowView(2), mat.Col(nil, 199, &vectors), mat.Col(nil, 100, &vectors))
	forms, statistics, err = solver.SubspaceForms(op, lambdas, span, 2)
	require.NoError(t, err)
	require.Less(t, *statistics[1].MaxTrueResidual, 1e-10)
	require.InEpsilon(t, 1, statistics[1].LambdaMax, 1e-10)
	exact := exactForms(t, op.Of, lambdas[1], span)
	require.InEpsilon(t, exact.At(0, 2), forms[1].At(0, 2), 1e-9)
	require.InEpsilon(t, exact.At(1, 2), forms[1].At(1, 2), 1e-9)

	_, _, err = solver.SubspaceForms(op, lambdas, span, 4)
	require.ErrorContains(t, err, "a span of 4 of 3 right-hand sides")
}
