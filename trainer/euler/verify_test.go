package euler

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/internal/backendtest"
)

// verifyEnv lists the parts of BenchmarkVerifyData to make: "123456" for all.
const verifyEnv = "SYMAUDIT_VERIFY_DATA"

// table is what BenchmarkVerifyData prints: figures, what they must be, and whether they are.
type table struct {
	t           testing.TB
	lines       []string
	checks, bad int
	leftOut     string // a clause for the last line
}

func (b *table) section(title string) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), title)
	b.lines = append(b.lines, "", title)
}

// check adds a line that passes or fails.
func (b *table) check(what, figure, bound string, pass bool) {
	b.checks++
	verdict := "pass"
	if !pass {
		verdict = "FAIL"
		b.bad++
	}
	b.line(what, figure, bound, verdict)
}

// tell adds a line that is no judgement.
func (b *table) tell(what, figure string) { b.line(what, figure, "", "") }

func (b *table) line(what, figure, bound, verdict string) {
	line := strings.TrimRight(fmt.Sprintf("  %-66s  %-30s  %-14s  %s", what, figure, bound, verdict), " ")
	fmt.Fprintln(os.Stderr, line)
	b.lines = append(b.lines, line)
}

func (b *table) print(w io.Writer) {
	fmt.Fprintf(w, "  %-66s  %-30s  %s\n%s\n\n", "what is verified", "figure", "bound", strings.Join(b.lines, "\n"))
	fmt.Fprintf(w, "%d of %d checks pass%s\n", b.checks-b.bad, b.checks, b.leftOut)
}

// BenchmarkVerifyData prints the table of docs/data.md; make verify-data runs it.
func BenchmarkVerifyData(t *testing.B) {
	parts := os.Getenv(verifyEnv)
	if parts == "" {
		t.Skipf("run make verify-data, or set %s=1234 for its quicker parts", verifyEnv)
	}
	b := &table{t: t}
	backend, name := backendtest.Go(t), "the Go backend"
	t.Run("xla", func(t *testing.B) { backend, name = backendtest.XLA(t), "XLA" })
	t.ReportMetric(0, "ns/op")
	fmt.Fprintf(os.Stderr, "verifying the generator on %s\n", name)

	for i, part := range []func(*table, compute.Backend){
		verifyRiemannProblems, verifyVortex, verifySums, verifySymmetries, verifyTrajectories, verifyAgainstPyro,
	} {
		if strings.Contains(parts, strconv.Itoa(i+1)) {
			part(b, backend)
		}
	}
	fmt.Println()
	b.print(os.Stdout)
	if b.bad > 0 {
		t.Fail()
	}
}

// solution is an advanced state and what it took.
type solution struct {
	grid
	steps   int
	seconds float64 // without compilation
}

// solve advances a state by a time in units of the unit square, in c's dtype; turns times and keeps the shortest time.
func solve(t testing.TB, b compute.Backend, c Config, state grid, interval float64, turns int) solution {
	t.Helper()
	c.Interval, c.MaxSubsteps = interval, 1_000_000
	exec := graph.MustNewExec(b, func(u *graph.Node) (next, steps *graph.Node) {
		next, left, steps := c.advance(u)
		done := graph.BroadcastToDims(graph.ExpandAxes(graph.Equal(left, constant(left, 0)), 1, 2, 3), u.Shape().Dimensions...)
		return graph.Where(done, next, nan(next)), steps
	})
	defer exec.Finalize()
	advance := func(values []float64) ([]float64, int) {
		in := tensors.FromFlatDataAndDimensions(values, 1, state.height, state.width, Channels)
		if c.DType == "float32" {
			in = tensors.FromFlatDataAndDimensions(single(values), 1, state.height, state.width, Channels)
		}
		defer in.MustFinalizeAll()
		out, err := exec.Call(in)
		require.NoError(t, err)
		defer out[0].MustFinalizeAll()
		steps := int(tensors.ToScalar[int32](out[1]))
		if c.DType == "float32" {
			wide := make([]float64, len(values))
			for i, v := range tensors.MustCopyFlatData[float32](out[0]) {
				wide[i] = float64(v)
			}
			return wide, steps
		}
		return tensors.MustCopyFlatData[float64](out[0]), steps
	}
	spoilt := make([]float64, len(state.values)) // compiles, and ends after one step
	advance(spoilt)
	s := solution{seconds: math.Inf(1)}
	for range turns {
		begin := time.Now()
		values, steps := advance(state.values)
		s.seconds = min(s.seconds, time.Since(begin).Seconds())
		s.grid, s.steps = grid{state.height, state.width, values}, steps
	}
	return s
}

func single(values []float64) []float32 {
	narrow := make([]float32, len(values))
	for i, v := range values {
		narrow[i] = float32(v)
	}
	return narrow
}

// sum adds up a channel without loss by rounding (Neumaier).
func (g grid) sum(channel int, of func(float64) float64) float64 {
	var sum, lost float64
	for i := channel; i < len(g.values); i += Channels {
		v := of(g.values[i])
		next := sum + v
		if math.Abs(sum) >= math.Abs(v) {
			lost += (sum - next) + v
		} else {
			lost += (v - next) + sum
		}
		sum = next
	}
	return sum + lost
}

// drift is the change of a channel's sum from before to after, in roundings 2^-53 of the sum of its absolute values.
func drift(before, after grid, channel int) float64 {
	same := func(v float64) float64 { return v }
	size := max(before.sum(channel, math.Abs), after.sum(channel, math.Abs))
	if size == 0 {
		return 0
	}
	return math.Abs(after.sum(channel, same)-before.sum(channel, same)) / (size * 0x1p-53)
}

// positive tells whether density and pressure are, in every cell, and everything is finite.
func (g grid) positive() bool {
	for i := 0; i < len(g.values); i += Channels {
		u := g.values[i : i+Channels]
		p := (gamma - 1) * (u[energy] - (u[alongX]*u[alongX]+u[alongY]*u[alongY])/(2*u[density]))
		if !(u[density] > 0 && p > 0) || math.IsInf(u[density]+u[energy], 0) {
			return false
		}
	}
	return true
}

func verifyRiemannProblems(b *table, backend compute.Backend) {
	b.section("1. Exact Riemann problems, gamma 1.4")
	for _, tube := range slices.Concat(shockTubes, strongTubes) {
		p, u := star(tube.left, tube.right)
		off := max(math.Abs(p-tube.pressure)/tube.pressure, math.Abs(u-tube.velocity)/max(1, math.Abs(tube.velocity)))
		b.check(tube.name+": p*, u* of the exact solver against the published ones", fmt.Sprintf("%.1e relative", off), "<= 2e-5", off <= 2e-5)

		var errors [3]float64
		upright, worst := true, 0.0
		for i, cells := range []int{400, 800, 1600} {
			start := tubeStart(tube.left, tube.right, cells, false)
			end := solve(b.t, backend, Default(), start, tube.time, 1).grid
			errors[i] = tubeDistance(end, tube.left, tube.right, tube.time, tube.window)
			other := solve(b.t, backend, Default(), tubeStart(tube.left, tube.right, cells, true), tube.time, 1).grid
			for k := range cells {
				x, y := end.at(0, k), other.at(k, 0)
				upright = upright && x[density] == y[density] && x[alongX] == y[alongY] && x[alongY] == y[alongX] && x[energy] == y[energy]
			}
			worst = max(worst, drift(start, end, density), drift(start, end, energy))
		}
		if math.IsNaN(errors[0] + errors[1] + errors[2]) {
			b.check(tube.name+": computed", "positivity lost, NaN throughout", "finite", false)
			continue
		}
		b.check(tube.name+": relative L1 error of density at 400, 800, 1600 cells",
			fmt.Sprintf("%.4f %.4f %.4f", errors[0], errors[1], errors[2]), "last <= 0.03", errors[2] <= 0.03)
		order := math.Log2(errors[0]/errors[2]) / 2
		b.check(tube.name+": its order of convergence", fmt.Sprintf("%.2f", order), ">= 0.6", order >= 0.6)
		b.check(tube.name+": along y as along x", map[bool]string{true: "bit for bit", false: "different"}[upright], "bit for bit", upright)
		b.check(tube.name+": sums of density and energy, nothing floored", fmt.Sprintf("%.1f roundings", worst), "<= 10", worst <= 10)
	}
}

// tubeDistance is the L1 distance of the density of a shock tube from the exact one in a window, relative to the latter.
func tubeDistance(end grid, left, right gas, time float64, window [2]float64) float64 {
	cells := len(end.values) / Channels
	var sum, size float64
	for i := range cells {
		x := (float64(i) + 0.5) / float64(cells)
		if x < window[0] || x > window[1] {
			continue
		}
		exact := riemann(left, right, (x-0.25)/time)
		sum += math.Abs(end.values[i*Channels] - exact.density)
		size += exact.density
	}
	return sum / size
}

func verifyVortex(b *table, backend compute.Backend) {
	b.section("2. Isentropic vortex on [0, 20]^2, density against the exact one after it moved by 2.0 and 1.0")
	var mean, most []float64
	sizes := []int{64, 128, 256, 512}
	for _, n := range sizes {
		end, exact := solve(b.t, backend, Default(), vortexOn(20, n, 0), 0.1, 1).grid, vortexOn(20, n, 0.1)
		sum, largest := 0.0, 0.0
		for i := density; i < len(end.values); i += Channels {
			d := math.Abs(end.values[i] - exact.values[i])
			sum, largest = sum+d/float64(n*n), max(largest, d)
		}
		mean, most = append(mean, sum), append(most, largest)
	}
	for _, norm := range []struct {
		name   string
		errors []float64
		least  float64
	}{{"L1", mean, 1.8}, {"L-infinity", most, 1.5}} {
		e := norm.errors
		b.tell(fmt.Sprintf("%s error at 64^2, 128^2, 256^2, 512^2", norm.name), fmt.Sprintf("%.1e %.1e %.1e %.1e", e[0], e[1], e[2], e[3]))
		orders := []float64{math.Log2(e[0] / e[1]), math.Log2(e[1] / e[2]), math.Log2(e[2] / e[3])}
		b.check("  its order of convergence", fmt.Sprintf("%.2f %.2f %.2f", orders[0], orders[1], orders[2]),
			fmt.Sprintf("last >= %.1f", norm.least), orders[2] >= norm.least)
	}
}

func verifySums(b *table, backend compute.Backend) {
	b.section("3. Random draws of each family at their default ranges, 20 intervals of 0.05, float64")
	for _, run := range []struct{ n, batches, together int }{{32, 16, 16}, {128, 4, 4}} {
		c := Default()
		for _, family := range Families() {
			initial, err := c.initialState(family)
			require.NoError(b.t, err)
			failed, worst := 0, [Channels]float64{}
			for batch := range run.batches {
				var states []grid
				for i := range run.together {
					g := grid{run.n, run.n, make([]float64, run.n*run.n*Channels)}
					initial.draw(generator(1, family, batch*run.together+i)).fill(g.values, run.n, c.Gamma)
					states = append(states, g)
				}
				lost := make([]bool, len(states))
				for range 20 {
					next := advanceTogether(b.t, backend, c, states...)
					for i := range next {
						lost[i] = lost[i] || !next[i].positive()
						for channel := range Channels {
							if !lost[i] {
								worst[channel] = max(worst[channel], drift(states[i], next[i], channel))
							}
						}
					}
					states = next
				}
				for _, l := range lost {
					if l {
						failed++
					}
				}
			}
			count := run.batches * run.together
			what := fmt.Sprintf("%s, %d draws at %d^2: ", family.Label(), count, run.n)
			b.check(what+"trajectories not positive", fmt.Sprint(failed), "0", failed == 0)
			b.check(what+"drift of density, momenta, energy", fmt.Sprintf("%.1f %.1f %.1f %.1f roundings", worst[0], worst[1], worst[2], worst[3]),
				"<= 10", max(worst[0], worst[1], worst[2], worst[3]) <= 10)
		}
	}
}

func verifySymmetries(b *table, backend compute.Backend) {
	b.section("4. Symmetries at 128^2, over one interval of 0.05")
	sameBits := func(want, got grid) bool {
		for i, v := range want.values {
			if v != got.values[i] {
				return false
			}
		}
		return true
	}
	const n = 128 // of the default
	shifts := [][2]int{{1, 0}, {0, 1}, {7, 12}, {40, 33}}
	factors := []float64{8, 0.25, 0x1p-20}
	for _, family := range Families() {
		start := drawn(b.t, family, n)
		end := advance(b.t, backend, Default(), start)[0]
		good := 0
		for s := range squareSymmetries {
			if sameBits(end.transformed(s, true), advance(b.t, backend, Default(), start.transformed(s, true))[0]) {
				good++
			}
		}
		b.check(family.Label()+": rotations and reflections of the square", fmt.Sprintf("%d of 8 bit for bit", good), "8", good == 8)
		good = 0
		for _, s := range shifts {
			if sameBits(end.rolled(s[0], s[1]), advance(b.t, backend, Default(), start.rolled(s[0], s[1]))[0]) {
				good++
			}
		}
		b.check(family.Label()+": circular shifts", fmt.Sprintf("%d of %d bit for bit", good, len(shifts)), fmt.Sprint(len(shifts)), good == len(shifts))
		good = 0
		for _, factor := range factors {
			scale := func(g grid) grid {
				out := g.mapped(g.height, g.width, g.at)
				for i := range out.values {
					out.values[i] *= factor
				}
				return out
			}
			if sameBits(scale(end), advance(b.t, backend, Default(), scale(start))[0]) {
				good++
			}
		}
		b.check(family.Label()+": multiples 8, 1/4, 2^-20 of a state", fmt.Sprintf("%d of 3 bit for bit", good), "3", good == 3)
	}
	start := drawn(b.t, Riemann, 512)
	same := sameBits(advance(b.t, backend, Default(), start)[0].transformed(5, true), advance(b.t, backend, Default(), start.transformed(5, true))[0])
	b.check("CE-RP at 512^2: swap of x and y", map[bool]string{true: "bit for bit", false: "different"}[same], "bit for bit", same)
	// A boost by (1, 1/2) for a time of 1/4 moves a flow by whole cells.
	wave := func(n int, v float64) grid {
		return newGrid(n, n, func(x, y float64) [4]float64 {
			return [4]float64{
				1 + 0.2*math.Sin(2*math.Pi*x), v + 0.2*math.Sin(2*math.Pi*(x+y)), v/2 + 0.2*math.Cos(2*math.Pi*x), 1 + 0.1*math.Cos(2*math.Pi*y),
			}
		})
	}
	var errors []float64
	for _, n := range []int{32, 64, 128, 256} {
		c := Default()
		c.Interval = 0.25
		rest, moving := advance(b.t, backend, c, wave(n, 0))[0].rolled(n/8, n/4), advance(b.t, backend, c, wave(n, 1))[0]
		sum := 0.0
		for i := density; i < len(rest.values); i += Channels {
			sum += math.Abs(rest.values[i]-moving.values[i]) / float64(n*n)
		}
		errors = append(errors, sum)
	}
	b.tell("boost of a smooth flow: L1 difference of density at 32^2 ... 256^2", fmt.Sprintf("%.1e %.1e %.1e %.1e", errors[0], errors[1], errors[2], errors[3]))
	order := math.Log2(errors[2] / errors[3])
	b.check("  its order of convergence", fmt.Sprintf("%.2f %.2f %.2f", math.Log2(errors[0]/errors[1]), math.Log2(errors[1]/errors[2]), order), "last >= 1.8", order >= 1.8)
}

// verifyTrajectories generates at the standard of the PDEGym collection and tells what it takes.
func verifyTrajectories(b *table, backend compute.Backend) {
	b.section("5. One trajectory of each family at 512^2 averaged to 128^2, 21 snapshots, float64")
	for _, family := range Families() {
		c := Default()
		c.Resolution, c.Refinement, c.Snapshots = 128, 4, 21
		begin := time.Now()
		flat, err := Generate(b.t.Context(), backend, c, string(family), 1, 1, nil)
		seconds := time.Since(begin).Seconds()
		what := fmt.Sprintf("%s: ", family.Label())
		if err != nil {
			b.check(what+"generated", err.Error(), "", false)
			continue
		}
		values := tensors.MustCopyFlatData[float32](flat)
		all := grid{21 * 128, 128, make([]float64, len(values))}
		for i, v := range values {
			all.values[i] = float64(v)
		}
		b.check(what+"density and pressure positive in all snapshots", fmt.Sprint(all.positive()), "true", all.positive())
		first, last := grid{128, 128, all.values[:128*128*Channels]}, grid{128, 128, all.values[20*128*128*Channels:]}
		worst := max(drift(first, last, density), drift(first, last, energy)) * 0x1p-29
		b.check(what+"drift of density and energy over all, stored in float32", fmt.Sprintf("%.2f roundings 2^-24", worst), "<= 1", worst <= 1)
		b.tell(what+"time, compilation included", fmt.Sprintf("%.0f s", seconds))
	}
}
