// Package euler generates trajectories of the two-dimensional compressible Euler equations on the periodic unit square.
//
// The gas is ideal: E = p/(gamma-1) + rho |v|^2/2. A state is [batch, y, x, channel] with channels density, momentum_x,
// momentum_y and energy (conserved variables, dimensionless); rows grow with +y, columns with +x, and values are
// averages over cells whose centres lie at (i+1/2)/N.
//
// The solver is a GoMLX graph: unsplit finite volumes, second order in space and time (see Config.Advance). It is an
// ordinary model function too, so an audit can measure its symmetries as it measures a network's, where it must find
// them exact.
package euler

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gomlx/compute/dtypes"
)

// Channels is the number of conserved variables: density, momentum_x, momentum_y, energy.
const Channels = 4

// Family names a distribution of initial states. The zero value is none.
type Family string

// The families of the PDEGym collection (Herde et al., "Poseidon", 2024) that the generator knows.
const (
	Riemann          Family = "riemann"           // constant quadrants
	CurvedRiemann    Family = "curved-riemann"    // constant cells with curved borders
	PerturbedRiemann Family = "perturbed-riemann" // constant quadrants with finely rippled borders
)

// Families lists the known families in the order of their labels in papers: CE-RP, CE-CRP, CE-RPUI.
func Families() []Family { return []Family{Riemann, CurvedRiemann, PerturbedRiemann} }

// Label is the family's name in the PDEGym collection: "CE-RP", "CE-CRP", "CE-RPUI"; of an unknown family, its name.
func (f Family) Label() string {
	switch f {
	case Riemann:
		return "CE-RP"
	case CurvedRiemann:
		return "CE-CRP"
	case PerturbedRiemann:
		return "CE-RPUI"
	}
	return string(f)
}

// Range is an interval [least, greatest] from which a number is drawn uniformly. In YAML: [0.1, 1].
type Range [2]float64

// InitialState is a distribution of initial states: Cells x Cells patches of constant density, velocity and pressure.
//
// A point (x, y) lies in the patch given by the fractional parts of x + sigma_x and y + sigma_y, times Cells. Each sigma
// is a sum of a sin(2 pi ((i+ModeOffset) x + (j+ModeOffset) y) + b) over i, j = 1..Modes with a drawn from +-Amplitude
// and b from [0, 1].
type InitialState struct {
	Cells      int     `yaml:"cells"`       // patches per direction, at least 1
	Density    Range   `yaml:"density"`     // positive
	Velocity   Range   `yaml:"velocity"`    // of each component
	Pressure   Range   `yaml:"pressure"`    // positive
	Modes      int     `yaml:"modes"`       // sine modes per direction; 0: straight borders
	ModeOffset int     `yaml:"mode_offset"` // added to both wave numbers; the collection takes 2 Cells^2 for fine ripples
	Amplitude  float64 `yaml:"amplitude"`   // largest |a|, in domain lengths; 0: straight borders
}

// Config says what is generated and how.
type Config struct {
	Resolution int     `yaml:"resolution"` // stored cells per direction
	Refinement int     `yaml:"refinement"` // computed cells per stored cell and direction; 1 stores what is computed
	Snapshots  int     `yaml:"snapshots"`  // stored states per trajectory, the initial one included; at least 2
	Interval   float64 `yaml:"interval"`   // time between snapshots
	Gamma      float64 `yaml:"gamma"`      // ratio of specific heats, above 1
	CFL        float64 `yaml:"cfl"`        // time step over the shortest crossing time of a cell in either direction; at most 0.5, the limit of stability
	DType      string  `yaml:"dtype"`      // of the computation: "float64" or "float32"; what is stored is always float32

	MaxSubsteps  int `yaml:"max_substeps"`         // time steps allowed in one interval before the trajectory counts as failed
	Trajectories int `yaml:"trajectories_at_once"` // trajectories computed together by each worker: 1 suits processors, more an accelerator; never changes a value
	Workers      int `yaml:"workers"`              // batches computed at once; 0: one for each processor

	Riemann          InitialState `yaml:"riemann"`
	CurvedRiemann    InitialState `yaml:"curved_riemann"`
	PerturbedRiemann InitialState `yaml:"perturbed_riemann"`
}

// IsZero reports whether nothing is set: YAML then leaves a configuration out.
func (c Config) IsZero() bool { return c == Config{} }

// Default is 64x64 from 128x128, 17 snapshots 0.05 apart, in float64.
//
// Ranges of the first two families follow the statistics of the released PDEGym data; those of the third are not known
// and are set as the second's.
func Default() Config {
	wide := InitialState{Density: Range{0.1, 1}, Velocity: Range{-0.5, 0.5}, Pressure: Range{0.1, 1}}
	curved, perturbed := wide, wide
	curved.Cells, curved.Modes, curved.Amplitude = 4, 4, 0.1
	perturbed.Cells, perturbed.Modes, perturbed.ModeOffset, perturbed.Amplitude = 2, 2, 8, 0.01
	return Config{
		Resolution: 64, Refinement: 2,
		Snapshots: 17, Interval: 0.05,
		Gamma: 1.4, CFL: 0.4, DType: "float64",
		MaxSubsteps: 10_000, Trajectories: 1,
		Riemann:          InitialState{Cells: 2, Density: Range{1, 1.5}, Velocity: Range{-0.5, 0.5}, Pressure: Range{0.1, 0.3}},
		CurvedRiemann:    curved,
		PerturbedRiemann: perturbed,
	}
}

// Validate reports the first setting that cannot work, with its value and its permitted range.
func (c Config) Validate() error {
	if err := cmp.Or(
		between("resolution", c.Resolution, 4, 4096),
		between("refinement", c.Refinement, 1, 64),
		between("snapshots", c.Snapshots, 2, 1_000_000),
		atLeast("max_substeps", c.MaxSubsteps, 1),
		between("trajectories_at_once", c.Trajectories, 1, 10_000),
		between("workers", c.Workers, 0, 10_000),
		positive("interval", c.Interval),
		positive("cfl", c.CFL),
	); err != nil {
		return err
	}
	if !(c.Gamma > 1) || math.IsInf(c.Gamma, 0) {
		return fmt.Errorf("euler: gamma is %g; it must be above 1 and finite", c.Gamma)
	}
	if c.CFL > 0.5 {
		return fmt.Errorf("euler: cfl is %g; above 0.5 the scheme is unstable in two dimensions, use 0.4", c.CFL)
	}
	if _, err := c.dtype(); err != nil {
		return err
	}
	for _, family := range Families() {
		initial, err := c.initialState(family)
		if err == nil {
			err = initial.validate(settingName(family))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s InitialState) validate(name string) error {
	if !(s.Amplitude >= 0) || math.IsInf(s.Amplitude, 0) {
		return fmt.Errorf("euler: %s.amplitude is %g; it must be finite and not negative", name, s.Amplitude)
	}
	return cmp.Or(
		between(name+".cells", s.Cells, 1, 10_000),
		between(name+".modes", s.Modes, 0, 10_000),
		s.Density.validate(name+".density"),
		s.Velocity.validate(name+".velocity"),
		s.Pressure.validate(name+".pressure"),
		positive(name+".density[0]", s.Density[0]),
		positive(name+".pressure[0]", s.Pressure[0]),
	)
}

func (r Range) validate(name string) error {
	if math.IsInf(r[0], 0) || math.IsInf(r[1], 0) || !(r[0] <= r[1]) {
		return fmt.Errorf("euler: %s is [%g, %g]; give two finite numbers, the lesser first", name, r[0], r[1])
	}
	return nil
}

// between keeps what is computed finite, and its size within an int.
func between(name string, value, least, most int) error {
	if value < least || value > most {
		return fmt.Errorf("euler: %s is %d; it must be between %d and %d", name, value, least, most)
	}
	return nil
}

func atLeast(name string, value, least int) error {
	if value < least {
		return fmt.Errorf("euler: %s is %d; it must be at least %d", name, value, least)
	}
	return nil
}

func positive(name string, value float64) error {
	if !(value > 0) || math.IsInf(value, 0) {
		return fmt.Errorf("euler: %s is %g; it must be positive and finite", name, value)
	}
	return nil
}

func (c Config) dtype() (dtypes.DType, error) {
	switch c.DType {
	case "float64":
		return dtypes.Float64, nil
	case "float32":
		return dtypes.Float32, nil
	}
	return dtypes.InvalidDType, fmt.Errorf("euler: dtype is %q; use float64 or float32", c.DType)
}

// settingName is the key under which a configuration file holds a family.
func settingName(family Family) string { return strings.ReplaceAll(string(family), "-", "_") }

func (c Config) initialState(family Family) (InitialState, error) {
	switch family {
	case Riemann:
		return c.Riemann, nil
	case CurvedRiemann:
		return c.CurvedRiemann, nil
	case PerturbedRiemann:
		return c.PerturbedRiemann, nil
	}
	names := make([]string, 0, len(Families()))
	for _, known := range Families() {
		names = append(names, string(known))
	}
	slices.Sort(names)
	return InitialState{}, fmt.Errorf("euler: unknown family %q; use %s", family, strings.Join(names, ", "))
}
