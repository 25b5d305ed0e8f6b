package oracle_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/internal/oracle"
)

func TestWoodburyAgainstCholesky(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	jacobian := oracle.Gaussian(random, 7, 12)
	eta := mat.NewSymDense(12, nil)
	eta.SymOuterK(0.3, jacobian.T())
	rhs := oracle.Gaussian(random, 3, 12)
	primal, err := oracle.Cholesky(eta, 1e-3, rhs)
	require.NoError(t, err)
	dual, err := oracle.Woodbury(jacobian, 0.3, 1e-3, rhs)
	require.NoError(t, err)
	require.True(t, mat.EqualApprox(primal, dual, 1e-8*mat.Norm(primal, 2)))
	matrix, asymmetry, err := oracle.Dense(&oracle.Matrix{Of: eta})
	require.NoError(t, err)
	require.Zero(t, asymmetry)
	require.True(t, mat.Equal(eta, matrix))
}
