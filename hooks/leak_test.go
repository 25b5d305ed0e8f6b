package hooks_test

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/gomlx/gomlx/ml/train"
	"github.com/gomlx/gomlx/ml/train/optimizer"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
	"github.com/symaudit/symaudit/internal/backendtest"
	"github.com/symaudit/symaudit/orbits"
)

const (
	auditsEnv = "SYMAUDIT_AUDITS" // how many there are; `make soak` sets it
	fewAudits = 100
)

// usage is what a process has taken and not given back.
type usage struct {
	goroutines int
	buffers    int64 // of XLA; those that only the garbage collector would free are among them
	heap       int64 // bytes after garbage collection
	resident   int64 // bytes, XLA's too; 0 where the system does not say
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d XLA buffers, %d KiB of heap, %d KiB resident", u.goroutines, u.buffers, u.heap>>10, u.resident>>10)
}

func measure(t *testing.T) usage {
	u := usage{goroutines: runtime.NumGoroutine(), buffers: backendtest.LiveBuffers()}
	runtime.GC() // runs finalizers, whose garbage the next one collects
	debug.FreeOSMemory()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	u.heap = int64(memory.HeapAlloc)
	if pages, err := os.ReadFile("/proc/self/statm"); err == nil {
		var all int64
		_, err = fmt.Sscan(string(pages), &all, &u.resident)
		require.NoError(t, err)
		u.resident *= int64(os.Getpagesize())
	}
	return u
}

// A long training takes no more memory than a short one. Nothing is collected in the last tenth of it, so that every
// buffer counts that an audit leaves to the collector: on an accelerator it would come too late.
func TestAuditsLeaveNothingBehind(t *testing.T) {
	audits := fewAudits
	if text := os.Getenv(auditsEnv); text != "" {
		var err error
		audits, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	const n, size, channels = 2, 8, 4
	values := make([]float32, n*size*size*channels)
	for i := range values {
		values[i] = 1 + float32(i%7)/10
	}
	states := func() *tensors.Tensor { return tensors.FromFlatDataAndDimensions(values, n, size, size, channels) }
	modelFn := func(scope *model.Scope, x *graph.Node) *graph.Node {
		x = graph.Tanh(layers.Dense(scope.In("hidden"), x, true, channels))
		return layers.Dense(scope.In("output"), x, true, channels)
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		store := model.NewStore()
		store.SetParam(model.ParamInitialSeed, int64(7))
		trainer := train.NewTrainer(b, store, modelFn, audit.Loss, optimizer.Adam().LearningRate(learningRate).Done(), nil, nil)
		auditor, err := audit.New(trainer, modelFn, nil).WithField(orbits.EulerField()).WithRelativeLambda(1e-1).
			WithGroup(orbits.C4(), audit.Probes{Inputs: states(), Targets: states()}).Done()
		require.NoError(t, err)
		defer auditor.Close()
		loop, finished := train.NewLoop(trainer), 0
		hook := attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(1)).WithOnAudit(func(*audit.Records) { finished++ }), loop)
		var early, late usage
		const last = 1000 // among the hooks of a step
		loop.OnStep("measure", last, func(*train.Loop, []*tensors.Tensor) error {
			switch finished {
			case audits / 10:
				measure(t) // collects what compiling has left
				early = measure(t)
			case audits - audits/10:
				runtime.GC()
				percent := debug.SetGCPercent(-1)
				t.Cleanup(func() { debug.SetGCPercent(percent) })
			case audits:
				late = measure(t)
			}
			return nil
		})
		batch := train.Batch{Inputs: []*tensors.Tensor{states()}, Labels: []*tensors.Tensor{states()}}
		_, err = loop.RunSteps(&repeated{batch}, audits)
		require.NoError(t, err)
		require.NoError(t, hook.Close())
		t.Logf("after %d audits: %s", audits/10, early)
		t.Logf("after %d audits: %s", audits, late)
		require.Equal(t, early.goroutines, late.goroutines)
		require.Equal(t, early.buffers, late.buffers)
		// A single tensor of states kept from each audit would be more than the first, a program compiled anew in each than
		// the second.
		require.Less(t, late.heap-early.heap, int64(64<<10))
		require.Less(t, late.resident-early.resident, int64(16<<20))
	})
}
