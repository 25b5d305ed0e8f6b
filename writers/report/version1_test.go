package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRunsOfVersion1AreReported(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../testdata/version1")))
	path, warnings, err := Write(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"vit: errors are not finite in 1 of 2 audits, first at epoch 2: they have no median there, and the table says how many values are lost."}, warnings)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, want := range []string{
		`<td class="text" data-label="epoch">2</td><td class="text" data-label="model">unet</td><td class="strong" data-label="coherence">0.62</td><td data-label="certified">±0.13</td><td data-label="quartiles">0.62 to 0.62</td><td data-label="n">3 of 4</td><td data-label="below 0">0 %</td><td data-label="target error">0.625</td><td data-label="commutator error">0.188</td>`, // unet after it was resumed
		`<td data-label="target error" class="warn">– (1 of 4 not finite)</td>`,
		"unet under c4: 0.62 at λ = 0.5, 0.88 at λ = 4.",
		"λ is absolute under c4",
		"λ = 0.5, λ/λ_max = 0.001",
		"unet, epoch 2, c4, batch 1, λ = 0.5: product limit: the widest interval of a cosine is ±1 after 36 products",
	} {
		require.True(t, strings.Contains(string(content), want), want)
	}
	require.FileExists(t, filepath.Join(dir, "figures", "damping.svg"))
}
