package euler

import (
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

func TestDefaultIsValid(t *testing.T) { require.NoError(t, Default().Validate()) }

func TestValidateNamesTheSetting(t *testing.T) {
	for _, test := range []struct {
		change func(c *Config)
		want   string
	}{
		{func(c *Config) { c.Resolution = 3 }, "euler: resolution is 3; it must be between 4 and 4096"},
		{func(c *Config) { c.Refinement = 0 }, "euler: refinement is 0; it must be between 1 and 64"},
		{func(c *Config) { c.Snapshots = 1 }, "euler: snapshots is 1; it must be between 2 and 1000000"},
		{func(c *Config) { c.Interval = 0 }, "euler: interval is 0; it must be positive and finite"},
		{func(c *Config) { c.Gamma = 1 }, "euler: gamma is 1; it must be above 1 and finite"},
		{func(c *Config) { c.CFL = 0.8 }, "euler: cfl is 0.8; above 0.5 the scheme is unstable in two dimensions, use 0.4"},
		{func(c *Config) { c.DType = "half" }, `euler: dtype is "half"; use float64 or float32`},
		{func(c *Config) { c.MaxSubsteps = 0 }, "euler: max_substeps is 0; it must be at least 1"},
		{func(c *Config) { c.Trajectories = 0 }, "euler: trajectories_at_once is 0; it must be between 1 and 10000"},
		{func(c *Config) { c.Workers = -1 }, "euler: workers is -1; it must be between 0 and 10000"},
		{func(c *Config) { c.Riemann.Cells = 0 }, "euler: riemann.cells is 0; it must be between 1 and 10000"},
		{func(c *Config) { c.CurvedRiemann.Density = Range{2, 1} }, "euler: curved_riemann.density is [2, 1]; give two finite numbers, the lesser first"},
		{func(c *Config) { c.PerturbedRiemann.Pressure = Range{0, 1} }, "euler: perturbed_riemann.pressure[0] is 0; it must be positive and finite"},
		{func(c *Config) { c.PerturbedRiemann.Amplitude = -1 }, "euler: perturbed_riemann.amplitude is -1; it must be finite and not negative"},
	} {
		c := Default()
		test.change(&c)
		require.EqualError(t, c.Validate(), test.want)
	}
}

func TestConfigurationFile(t *testing.T) {
	text, err := yaml.Marshal(Default())
	require.NoError(t, err)
	var back Config
	require.NoError(t, yaml.UnmarshalWithOptions(text, &back, yaml.Strict()))
	require.Empty(t, cmp.Diff(Default(), back))

	c := Default()
	require.NoError(t, yaml.UnmarshalWithOptions([]byte("resolution: 16\nriemann: {density: [1, 2]}\n"), &c, yaml.Strict()))
	require.Equal(t, 16, c.Resolution)
	require.Equal(t, Range{1, 2}, c.Riemann.Density)
	require.Equal(t, Default().Riemann.Pressure, c.Riemann.Pressure, "what a file leaves out keeps its default")
}

func TestLabels(t *testing.T) {
	var labels []string
	for _, family := range Families() {
		labels = append(labels, family.Label())
	}
	require.Equal(t, []string{"CE-RP", "CE-CRP", "CE-RPUI"}, labels)
	require.Equal(t, "other", Family("other").Label())
}
