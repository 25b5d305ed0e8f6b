package trainer

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFirstKey(t *testing.T) {
	const was = `
seeds: [0, 1]
models:
  - {name: unet, unet: {widths: [8, 16]}}
  - {name: vit}
audit: {tolerance: 0.1}
`
	for want, is := range map[string]string{
		" (models[0].unet.widths: [8 16], and now [8 24])": "{seeds: [0, 1], models: [{name: unet, unet: {widths: [8, 24]}}, {name: vit}], audit: {tolerance: 0.1}}",
		" (models[1]: [name:vit], and now left out)":       "{seeds: [0, 1], models: [{name: unet, unet: {widths: [8, 16]}}], audit: {tolerance: 0.1}}",
		" (seeds: [0 1], and now [0 1 2])":                 "{seeds: [0, 1, 2], models: [{name: unet, unet: {widths: [8, 16]}}, {name: vit}], audit: {tolerance: 0.1}}",
		" (audit.tolerance: 0.1, and now left out)":        "{seeds: [0, 1], models: [{name: unet, unet: {widths: [8, 16]}}, {name: vit}], audit: {}}",
	} {
		require.Equal(t, want, firstKey(was, is))
	}
}
