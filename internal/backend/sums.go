package backend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// XLA's CPU plugin has sums computed by the library YNNPACK, together with what leads to them and follows. In jaxlib 0.11.2, the plugin of
// scripts/install-xla, derivatives along a direction of 4,096 normalisations or more over the last axis are then wrong, or infinite, whatever
// their length, in float32 and float64 alike; in jaxlib 0.10.2 they are right.
const (
	flagsEnv   = "XLA_FLAGS"
	fusionFlag = "xla_cpu_experimental_ynn_fusion_type"
	ownSums    = "--" + fusionFlag + "=-reduce" // matrix products stay YNNPACK's
)

// withOwnSums is open with XLA's flags set, for as long as it takes, so that the plugin at path computes sums itself, unless they say already
// who shall or are in a file. A process's plugin reads its flags once. One that does not know the flag would end the process.
func withOwnSums(path string, open func() (compute.Backend, error)) func() (compute.Backend, error) {
	return func() (compute.Backend, error) {
		flags, were := os.LookupEnv(flagsEnv)
		inFile := flags != "" && !strings.HasPrefix(strings.TrimSpace(flags), "-")
		known, err := contains(path, fusionFlag)
		if err != nil || !known || inFile || strings.Contains(flags, fusionFlag) {
			return open()
		}
		if err := os.Setenv(flagsEnv, strings.TrimSpace(flags+" "+ownSums)); err != nil {
			return nil, err
		}
		opened, err := open()
		if were {
			return opened, errors.Join(err, os.Setenv(flagsEnv, flags))
		}
		return opened, errors.Join(err, os.Unsetenv(flagsEnv))
	}
}

// contains says whether a file has a word in it.
func contains(path, word string) (found bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buffer, kept := make([]byte, 1<<20), 0
	for {
		n, err := file.Read(buffer[kept:])
		if bytes.Contains(buffer[:kept+n], []byte(word)) {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		last := max(0, kept+n-len(word)) // the word may go on in the next piece
		kept = copy(buffer, buffer[last:kept+n])
	}
}

// CheckSums returns an error that names the remedy if b computes the derivative along a direction of normalisations wrongly, which it compares
// with that of the Go backend. It takes a tenth of a second.
func CheckSums(b compute.Backend) error {
	exact, err := compute.NewWithConfig(sequential)
	if err != nil {
		return fmt.Errorf("backend: cannot open %q: %w", sequential, err)
	}
	defer exact.Finalize()
	want, err := derivativeOfNormalisation(exact)
	if err != nil {
		return err
	}
	found, err := derivativeOfNormalisation(b)
	if err != nil {
		return err
	}
	const most = 1e-9 // of numbers around 1, in float64
	for i := range want {
		if off := math.Abs(found[i] - want[i]); !(off <= most) {
			return fmt.Errorf("the backend %s computes derivatives of normalisations wrongly, %.3g where %.3g is right: its XLA leaves sums to the library YNNPACK, which has a fault; set the environment variable %s to %s before the program starts, or use the Go backend",
				b, found[i], want[i], flagsEnv, ownSums)
		}
	}
	return nil
}

// derivativeOfNormalisation is that of (x - mean x) / sqrt(var x + 1e-5), means and variances being those of a row, along a direction: the
// smallest program that was found to have the fault.
func derivativeOfNormalisation(b compute.Backend) ([]float64, error) {
	const rows, columns = 4096, 4
	exec, err := graph.NewExec(b, func(g *graph.Graph) *graph.Node {
		mean := func(x *graph.Node) *graph.Node { return graph.ReduceAndKeep(x, graph.ReduceMean, -1) }
		centred := func(phase float64) *graph.Node {
			x := graph.IotaFull(g, shapes.Make(dtypes.Float64, rows, columns))
			x = graph.Sin(graph.AddScalar(graph.MulScalar(x, 12.9898), phase))
			return graph.Sub(x, mean(x))
		}
		x, direction := centred(1), centred(7.1)
		variance := graph.AddScalar(mean(graph.Mul(x, x)), 1e-5)
		scale := graph.Rsqrt(variance)
		change := graph.Mul(mean(graph.Add(graph.Mul(direction, x), graph.Mul(x, direction))), graph.Div(scale, variance))
		return graph.Add(graph.Mul(direction, scale), graph.Mul(x, graph.MulScalar(change, -0.5)))
	})
	if err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	defer exec.Finalize()
	results, err := exec.Call()
	if err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	values, err := tensors.CopyFlatData[float64](results[0])
	if err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	return values, results[0].FinalizeAll()
}
