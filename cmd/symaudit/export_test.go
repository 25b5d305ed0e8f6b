package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
)

func TestTheLimitOfJacobiansGoesByItsFlag(t *testing.T) {
	fault := byLimit(errors.Join(&audit.SettingError{Setting: "jacobian_limit", Fault: "is 1 GiB, and that is too little"}))
	require.EqualError(t, fault, "--jacobian-limit is 1 GiB, and that is too little")
	require.ErrorAs(t, fault, new(usageError))
	other := &audit.SettingError{Setting: "metric", Fault: "is none"}
	require.Equal(t, error(other), byLimit(other))
}

func TestByteSizes(t *testing.T) {
	for text, want := range map[string]struct {
		bytes int64
		text  string
	}{"0": {0, "0"}, "1000": {1000, "1000"}, "512MiB": {512 << 20, "512MiB"}, "1.5 GiB": {3 << 29, "1536MiB"}, "2TiB": {2 << 40, "2TiB"}} {
		var size byteSize
		require.NoError(t, size.Set(text))
		require.Equal(t, want.bytes, int64(size))
		require.Equal(t, want.text, size.String())
	}
	for _, text := range []string{"", "GiB", "-1", "NaN", "Inf", "1GB", "9e9TiB"} {
		require.Error(t, new(byteSize).Set(text), text)
	}
}
