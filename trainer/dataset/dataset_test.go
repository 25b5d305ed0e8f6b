package dataset_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/numpy"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/orbits"
	"github.com/symaudit/symaudit/trainer/dataset"
)

// small are 5 trajectories of 3 snapshots on 2x3 cells, of two families.
func small() dataset.Description {
	return dataset.Description{
		Field: orbits.EulerField(), Grid: []int{2, 3}, Snapshots: 3, Interval: 0.05,
		Families: []dataset.Family{{Name: "riemann", Label: "CE-RP"}, {Name: "curved", Label: "CE-CRP"}},
		Origin:   json.RawMessage(`{"seed": 1}`),
	}.InOrder(3, 1, 1)
}

const perSnapshot = 2 * 3 * 4

// states has numbers that tell where they belong.
func states(family, trajectory int) (values []float32) {
	for i := range 3 * perSnapshot {
		values = append(values, float32(10000*family+1000*trajectory+i))
	}
	return values
}

func fill(t *testing.T, w *dataset.Writer) {
	for _, trajectory := range []int{3, 0, 4, 2, 1} { // as workers end
		for family := range 2 {
			if slices.Contains(w.Missing(family), trajectory) {
				require.NoError(t, w.Put(family, trajectory, states(family, trajectory)))
			}
		}
	}
}

func made(t *testing.T) (dir string) {
	dir = filepath.Join(t.TempDir(), "deep", "data")
	w, err := dataset.Create(dir, small(), false)
	require.NoError(t, err)
	fill(t, w)
	set, err := w.Finish()
	require.NoError(t, err)
	require.NoError(t, set.Close())
	return dir
}

func TestSnapshotsAreThoseThatWereWritten(t *testing.T) {
	memory, err := dataset.InMemory(small())
	require.NoError(t, err)
	fill(t, memory)
	held, err := memory.Finish()
	require.NoError(t, err)
	dir := made(t)
	opened, err := dataset.Open(dir)
	require.NoError(t, err)
	defer opened.Close()
	require.Equal(t, held.Hash(), opened.Hash())
	for _, set := range []*dataset.Set{held, opened} {
		batch, err := set.Batch([]dataset.Snapshot{{Family: 1, Trajectory: 2, Time: 1}, {Family: 0, Trajectory: 4, Time: 2}})
		require.NoError(t, err)
		require.Equal(t, []int{2, 2, 3, 4}, batch.Shape().Dimensions)
		require.Equal(t, slices.Concat(states(1, 2)[perSnapshot:2*perSnapshot], states(0, 4)[2*perSnapshot:]), tensors.MustCopyFlatData[float32](batch))
		require.NoError(t, set.Verify(nil))
	}

	// Nothing but the set is left, and NumPy's files are what they say.
	entries, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Len(t, entries, 1)
	array, err := numpy.FromNpyFile(filepath.Join(dir, "curved.npy"))
	require.NoError(t, err)
	require.Equal(t, []int{5, 3, 2, 3, 4}, array.Shape().Dimensions)
	var all []float32
	for trajectory := range 5 {
		all = append(all, states(1, trajectory)...)
	}
	require.Equal(t, all, tensors.MustCopyFlatData[float32](array))
}

func TestDescriptionIsReadAsItWasWritten(t *testing.T) {
	d := small()
	d.Field = orbits.Field{
		Channels: []string{"u", "v", "w", "a", "p", "q", "r", "e", "d"}, Vectors: [][]int{{0, 1, 2}}, Pseudoscalars: []int{3}, Pseudovectors: [][]int{{4, 5, 6}},
		Conserved: &orbits.Conserved{Density: 8, Momentum: []int{0, 1, 2}, Energy: 7}, RowDown: true,
	}
	d.SchemaVersion = 2
	text, err := json.Marshal(d)
	require.NoError(t, err)
	require.Contains(t, string(text), `"momentum":["u","v","w"]`)
	var read dataset.Description
	require.NoError(t, json.Unmarshal(text, &read))
	read.Origin, d.Origin = nil, nil
	require.Equal(t, d, read)
	require.ErrorContains(t, json.Unmarshal([]byte(strings.Replace(string(text), `"density":"d"`, `"density":"rho"`, 1)), &read), `"rho"`)
	require.ErrorContains(t, json.Unmarshal([]byte(strings.Replace(string(text), `"rows":"down"`, `"rows":"left"`, 1)), &read), `"left"`)
}

func TestStatistics(t *testing.T) {
	w, err := dataset.InMemory(small())
	require.NoError(t, err)
	fill(t, w)
	set, err := w.Finish()
	require.NoError(t, err)
	got := set.Statistics([]int{1}, dataset.Train, 2)
	var sum, squares, n float64
	for trajectory := range 2 {
		for i, v := range states(1, trajectory) {
			if i%4 == 2 {
				sum, squares, n = sum+float64(v), squares+float64(v)*float64(v), n+1
			}
		}
	}
	require.Equal(t, 10002.0, got.Least[2])
	require.Equal(t, 11002.0+3*perSnapshot-4, got.Greatest[2])
	require.InEpsilon(t, sum/n, got.Mean[2], 1e-12)
	require.InEpsilon(t, math.Sqrt(squares/n-sum/n*sum/n), got.Deviation(2), 1e-9)
}

// What a killed process leaves is gone on with: trajectories that it has told of are not asked for again.
func TestWriterGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	w, err := dataset.Create(dir, small(), false)
	require.NoError(t, err)
	require.NoError(t, w.Put(0, 3, states(0, 3)))
	require.NoError(t, w.Put(1, 0, states(1, 0)))
	_, err = dataset.Create(dir, small(), true)
	require.ErrorContains(t, err, "another process is writing to "+dir+".partial")
	_, err = w.Finish()
	require.ErrorContains(t, err, "4 trajectories of riemann are missing, the first is 0")
	require.NoError(t, w.Close())

	_, err = dataset.Create(dir, small(), false)
	require.ErrorContains(t, err, "--resume")
	_, err = dataset.ReadDescription(dir)
	require.ErrorContains(t, err, dir+" is not finished yet")
	other := small()
	other.Interval = 0.1
	_, err = dataset.Create(dir, other, true)
	require.ErrorContains(t, err, `it says "interval": 0.05, and now it is "interval": 0.1`)

	// A line that was cut short counts for nothing.
	lines := filepath.Join(dir+".partial", "curved.trajectories.jsonl")
	text, err := os.ReadFile(lines)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(lines, append(text, `{"trajectory":1,"sha2`...), 0o666))
	_, err = dataset.Create("", small(), false)
	require.ErrorContains(t, err, "no directory is named")
	_, err = dataset.Plan("", small(), true)
	require.ErrorContains(t, err, "no directory is named")
	planned, err := dataset.Plan("", small(), false)
	require.NoError(t, err)
	require.Equal(t, [][]int{{0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}}, planned)
	planned, err = dataset.Plan(dir, small(), true)
	require.NoError(t, err)
	require.Equal(t, [][]int{{0, 1, 2, 4}, {1, 2, 3, 4}}, planned)
	w, err = dataset.Create(dir, small(), true)
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 4}, w.Missing(0))
	require.Equal(t, []int{1, 2, 3, 4}, w.Missing(1))
	fill(t, w)
	set, err := w.Finish()
	require.NoError(t, err)
	defer set.Close()
	require.NoError(t, set.Verify(nil))
	whole, err := dataset.Open(made(t))
	require.NoError(t, err)
	defer whole.Close()
	require.Equal(t, whole.Hash(), set.Hash())
	_, err = dataset.Create(filepath.Join(t.TempDir(), "none"), small(), true)
	require.ErrorContains(t, err, "leave --resume out")
}

// One that was killed when only its name was left to be given is finished by going on.
func TestFinishedButNotNamed(t *testing.T) {
	dir := made(t)
	require.NoError(t, os.Rename(dir, dir+".partial"))
	w, err := dataset.Create(dir, small(), true)
	require.NoError(t, err)
	require.Empty(t, w.Missing(0))
	set, err := w.Finish()
	require.NoError(t, err)
	require.NoError(t, set.Close())
}

func TestNumbersThatAreNotFiniteAreRefused(t *testing.T) {
	w, err := dataset.InMemory(small())
	require.NoError(t, err)
	for _, value := range []float64{math.NaN(), math.Inf(-1)} {
		bad := states(1, 2)
		bad[perSnapshot+2] = float32(value)
		require.ErrorContains(t, w.Put(1, 2, bad), "family curved: snapshot 1 of trajectory 2 holds")
	}
	require.Len(t, w.Missing(1), 5)
	require.ErrorContains(t, w.Put(0, 0, make([]float32, 5)), "has 5 numbers; it must have 72")
}

func TestDescriptionsThatCannotBe(t *testing.T) {
	for want, change := range map[string]func(*dataset.Description){
		"the grid is [0 3]":                   func(d *dataset.Description) { d.Grid = []int{0, 3} },
		"there are 1 snapshots":               func(d *dataset.Description) { d.Snapshots = 1 },
		"the interval is NaN":                 func(d *dataset.Description) { d.Interval = math.NaN() },
		"there is no family":                  func(d *dataset.Description) { d.Families = nil },
		`called "../x"`:                       func(d *dataset.Description) { d.Families[0].Name = "../x" },
		`two families are called "riemann"`:   func(d *dataset.Description) { d.Families[1].Name = "riemann" },
		"has no label":                        func(d *dataset.Description) { d.Families[1].Label = "" },
		`"train" and "test" share`:            func(d *dataset.Description) { d.Splits[2].First = 2 },
		`the split "test" is of 9`:            func(d *dataset.Description) { d.Splits[2].Count = 9 },
		`a split is called "held"`:            func(d *dataset.Description) { d.Splits[2].Name = "held" },
		"numbers a trajectory":                func(d *dataset.Description) { d.Grid = []int{1 << 40, 1 << 40} },
		"channel name \"density\" is used tw": func(d *dataset.Description) { d.Field.Channels = []string{"density", "density", "a", "b"} },
		"and the disk of": func(d *dataset.Description) {
			d.Grid, d.Snapshots = []int{8192, 8192}, 16
			*d = d.InOrder(100000, 0, 0)
		},
	} {
		d := small()
		d.Splits = slices.Clone(d.Splits)
		change(&d)
		dir := filepath.Join(t.TempDir(), "data")
		_, err := dataset.Create(dir, d, false)
		require.ErrorContains(t, err, want)
		entries, err := os.ReadDir(filepath.Dir(dir))
		require.NoError(t, err)
		require.Empty(t, entries, "nothing is made")
	}
}

// Whatever a directory says of itself, opening it is an error that names the file, or gives data of the shape that its description has.
func TestDamagedDataAreRefused(t *testing.T) {
	dir := made(t)
	array, description, lines := filepath.Join(dir, "curved.npy"), filepath.Join(dir, "data.json"), filepath.Join(dir, "riemann.trajectories.jsonl")
	for name, damage := range map[string]struct{ file, old, new, want string }{
		"more trajectories":  {array, "(5, 3,", "(9, 3,", "'shape': (9, 3, 2, 3, 4)"},
		"enormous":           {array, "2, 3, 4), }", "2,3,4444),}", "its header says"},
		"another type":       {array, "<f4", "<f8", "'descr': '<f8'"},
		"column by column":   {array, "False", "True ", "'fortran_order': True"},
		"not NumPy":          {array, "NUMPY", "NUMPI", "not a NumPy file"},
		"cut":                {description, "\n}", "", "does not describe data"},
		"no trajectories":    {description, `"trajectories": 5`, `"trajectories": -5`, "-5 trajectories"},
		"other trajectories": {description, `"trajectories": 5`, `"trajectories": 6`, "its header says"},
		"other channels":     {description, `"momentum_y"`, `"momentum_z"`, "momentum_y"},
		"newer":              {description, `"schema_version": 2`, `"schema_version": 3`, "use a newer symaudit"},
		"older":              {description, `"schema_version": 2`, `"schema_version": 1`, "generate the data anew"},
		"other hash":         {description, `"sha256": "`, `"sha256": "0`, `the hash of its split "train"`},
		"a word":             {description, `"snapshots": 3`, `"snapshots": "3"`, "its snapshots is a string"},
		"a line lost":        {lines, `{"trajectory":3`, `{"trajectory":2`, "says nothing about trajectory 3"},
		"a line damaged":     {lines, `{"trajectory":3`, `{"trajectory":`, "is not about a trajectory"},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := os.ReadFile(damage.file)
			require.NoError(t, err)
			require.Contains(t, string(before), damage.old)
			require.NoError(t, os.WriteFile(damage.file, []byte(strings.Replace(string(before), damage.old, damage.new, 1)), 0o666))
			defer func() { require.NoError(t, os.WriteFile(damage.file, before, 0o666)) }()
			_, err = dataset.Open(dir)
			require.ErrorContains(t, err, damage.want)
			require.ErrorContains(t, err, dir)
		})
	}
	t.Run("at random", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 1000 {
			path := []string{array, description, lines}[i%3]
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			changed := slices.Clone(before)
			for range 1 + random.IntN(4) {
				changed[random.IntN(min(512, len(changed)))] = byte(random.Uint32())
			}
			if i%8 > 5 {
				changed = changed[:random.IntN(len(changed))]
			}
			require.NoError(t, os.WriteFile(path, changed, 0o666))
			var memory [2]runtime.MemStats
			runtime.ReadMemStats(&memory[0])
			set, err := dataset.Open(dir)
			if err == nil {
				err = set.Verify(nil)
				require.NoError(t, set.Close())
			}
			runtime.ReadMemStats(&memory[1])
			require.Less(t, memory[1].TotalAlloc-memory[0].TotalAlloc, uint64(16<<20))
			if err != nil {
				require.ErrorContains(t, err, dir)
			}
			require.NoError(t, os.WriteFile(path, before, 0o666))
		}
	})
	t.Run("statistics", func(t *testing.T) {
		before, err := os.ReadFile(lines)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(lines, []byte(strings.Replace(string(before), `"greatest":[`, `"greatest":[1`, 1)), 0o666))
		defer func() { require.NoError(t, os.WriteFile(lines, before, 0o666)) }()
		set, err := dataset.Open(dir)
		require.NoError(t, err)
		defer set.Close()
		require.ErrorContains(t, set.Verify(nil), "the statistics of trajectory 3 in riemann.trajectories.jsonl are not those of its numbers")
	})
	t.Run("values", func(t *testing.T) {
		file, err := os.OpenFile(array, os.O_RDWR, 0)
		require.NoError(t, err)
		defer file.Close()
		_, err = file.WriteAt([]byte{0x11}, 128+2*3*perSnapshot*4)
		require.NoError(t, err)
		set, err := dataset.Open(dir)
		require.NoError(t, err)
		defer set.Close()
		require.ErrorContains(t, set.Verify(nil), array+": trajectory 2 is not what was written")
		require.NoError(t, file.Truncate(1000))
		_, err = set.Batch([]dataset.Snapshot{{Family: 1, Trajectory: 4}})
		require.ErrorContains(t, err, "snapshot 0 of trajectory 4 of "+array+" cannot be read", "a file that shrinks is an error, and no crash")
	})
	t.Run("description without end", func(t *testing.T) {
		require.NoError(t, os.Truncate(description, 1<<40)) // sparse
		_, err := dataset.Open(dir)
		require.ErrorContains(t, err, "has more than 1048576 bytes")
	})
}
