package exampletest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExamined(t *testing.T) {
	used, err := examined("testdata/shapes")
	require.NoError(t, err)
	require.Equal(t, map[string]bool{
		"New":          true,
		"Square.Area":  true, // within a function that is given to one of an unknown package
		"Square.Close": true, // and Circle's is another
		"Circle.Close": false,
		"NewList":      true,
		"List.Len":     true, // of its instances
		"Square.Scale": false,
		"Draw":         false, // but in no example
		"Unchecked":    false, // without an output
	}, used)
	_, err = examined("testdata")
	require.Error(t, err)
}
