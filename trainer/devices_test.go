package trainer_test

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/trainer"
)

// Weights of a training on several devices are those of one device, up to rounding, after 20 steps; audits, checkpoints and a resume are as ever.
func TestTrainingOnSeveralDevices(t *testing.T) {
	b := backendtest.XLA(t)
	require.GreaterOrEqual(t, b.NumDevices(), 2)
	config := tinyVit(t, func(c *trainer.Config) {
		c.Training.BatchSize, c.Training.Epochs, c.Audit.EveryEpochs = 6, 10, 10 // 12 transitions
		c.Training.Augment = &trainer.Group{Name: "d4"}
	})
	one := optionsFor(b, filepath.Join(t.TempDir(), "one"))
	want := trainTiny(t, config, one)
	require.Len(t, want.Records.Training, 20)
	config.Training.Devices = 2
	two := optionsFor(b, filepath.Join(t.TempDir(), "two"))
	require.Error(t, trainUntil(t, config, two, func(event, _ string, done int) bool { return event == "step" && done == 13 }))
	two.Resume = true
	got := trainTiny(t, config, two)
	require.InEpsilonSlice(t, losses(want.Records), losses(got.Records), 1e-4)
	before, after := finalVariables(t, one.Dir, "vit"), finalVariables(t, two.Dir, "vit")
	require.NotEmpty(t, before)
	for name, bytes := range before {
		require.Len(t, after[name], len(bytes), name)
		for i := 0; i+4 <= len(bytes); i += 4 {
			at := func(b string) float64 {
				return float64(math.Float32frombits(binary.LittleEndian.Uint32([]byte(b[i:]))))
			}
			if v := at(bytes); !math.IsNaN(v) && math.Abs(v) < 100 && math.Abs(v) > 1e-20 { // counters and keys are no floats
				require.InDelta(t, v, at(after[name]), 1e-4+1e-3*math.Abs(v), name)
			}
		}
	}
	require.NotEmpty(t, got.Records.Influence)

	config.Training.Devices = 3
	require.NoError(t, config.Validate())
	config.Training.Devices = 4
	require.ErrorContains(t, config.Validate(), "training.devices is 4, and among these the 6 transitions of a batch, and the 6 of the last of an epoch, cannot be dealt out evenly")
	config.Training.Devices = 9
	require.ErrorContains(t, config.Validate(), "training.devices is 9")
	one.Dir, one.Backend = filepath.Join(t.TempDir(), "go"), backendtest.Go(t)
	config.Training.Devices = 2
	_, err := trainer.Train(t.Context(), config, one)
	require.ErrorContains(t, err, "training.devices is 2, and the backend test has 1; use as many, or another backend")
}
