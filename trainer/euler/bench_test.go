package euler

import (
	"fmt"
	"testing"

	"github.com/gomlx/compute"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// BenchmarkGenerate measures trajectories of 9 snapshots at 16x16, eight of each family, compilation included.
func BenchmarkGenerate(b *testing.B) {
	for _, on := range []struct {
		name string
		open func(testing.TB) compute.Backend
	}{{"go", backendtest.Go}, {"xla", backendtest.XLA}} {
		for _, refinement := range []int{2, 4} {
			for _, dtype := range []string{"float64", "float32"} {
				for _, together := range []int{1, 4} {
					b.Run(fmt.Sprintf("%s/refinement=%d/%s/together=%d", on.name, refinement, dtype, together), func(b *testing.B) {
						backend, c := on.open(b), Default()
						c.Resolution, c.Refinement, c.Snapshots, c.DType, c.Trajectories = 16, refinement, 9, dtype, together
						for b.Loop() {
							for _, family := range Families() {
								_, err := Generate(b.Context(), backend, c, string(family), 8, 1, nil)
								require.NoError(b, err)
							}
						}
						b.ReportMetric(b.Elapsed().Seconds()/float64(24*b.N), "s/trajectory")
					})
				}
			}
		}
	}
}
