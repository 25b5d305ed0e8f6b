package backend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"
)

// With GoMLX's default for "go" this never ends.
func TestGoBackendEndsManyProductsAtOnce(t *testing.T) {
	choice, err := Open("go")
	require.NoError(t, err)
	done := make(chan []*tensors.Tensor)
	go func() {
		exec := graph.MustNewExec(choice.Backend, func(x *graph.Node) *graph.Node {
			factors := make([]*graph.Node, 16)
			for i := range factors {
				factors[i] = graph.AddScalar(x, float64(i))
			}
			var total *graph.Node
			for i, factor := range factors {
				if product := graph.MatMul(factor, factor); i == 0 {
					total = product
				} else {
					total = graph.Add(total, product)
				}
			}
			return total
		})
		x := tensors.FromShape(shapes.Make(dtypes.Float32, 256, 256))
		for range 20 {
			done <- exec.MustCall(x)
		}
	}()
	for range 20 {
		select {
		case product := <-done:
			want := 0.0
			for i := range 16 {
				want += float64(256 * i * i)
			}
			require.InEpsilon(t, want, tensors.MustCopyFlatData[float32](product[0])[0], 1e-4)
		case <-time.After(time.Minute):
			t.Fatal("the Go backend hangs")
		}
	}
}

func TestOpen(t *testing.T) {
	for name, want := range map[string]string{
		"tpu":       `unknown backend "tpu"; use auto, go, xla, xla:cpu or xla:cuda`,
		"golang":    `unknown backend "golang"`,
		"xla:metal": `backend "xla:metal": `,
	} {
		_, err := Open(name)
		require.ErrorContains(t, err, want)
	}
	choice, err := Open("go")
	require.NoError(t, err)
	require.Equal(t, "go:ops_sequential", choice.Config)
	require.Equal(t, "asked for", choice.Reason)
	require.NotContains(t, choice.Config, "xla")
	again, err := Open(choice.Config) // as a resumed run does
	require.NoError(t, err)
	require.Equal(t, choice.Config, again.Config)
	auto, err := Open("")
	require.NoError(t, err)
	require.Equal(t, len(Plugins()) > 0, strings.HasPrefix(auto.Config, "xla"))
}

func TestContains(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plugin")
	for _, before := range []int{0, 1<<20 - 3, 1 << 20, 3<<20 + 7} { // 1 MiB is read at once
		require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x", before)+"a flag"), 0o600))
		for word, want := range map[string]bool{"a flag": true, "a flags": false} {
			found, err := contains(path, word)
			require.NoError(t, err)
			require.Equal(t, want, found, before)
		}
	}
	_, err := contains(path+"?", "a flag")
	require.Error(t, err)
}
