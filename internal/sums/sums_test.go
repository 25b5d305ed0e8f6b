package sums_test

import (
	"os"
	"testing"

	"github.com/gomlx/compute"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/internal/sums"
)

func TestXLASumsItself(t *testing.T) {
	const flags = "--xla_backend_optimization_level=1"
	t.Setenv(sums.FlagsEnv, flags)
	backendtest.Each(t, func(t *testing.T, b compute.Backend) { require.NoError(t, sums.Check(b)) })
	require.Equal(t, flags, os.Getenv(sums.FlagsEnv))
}

func TestCheckFindsWrongOnes(t *testing.T) {
	backendtest.WithWrongSums(t, func(t *testing.T, b compute.Backend) {
		err := sums.Check(b)
		require.ErrorContains(t, err, "computes derivatives of normalisations wrongly")
		require.ErrorContains(t, err, "set the environment variable XLA_FLAGS to --xla_cpu_experimental_ynn_fusion_type=-reduce before the program starts")
	})
}
