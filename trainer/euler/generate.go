package euler

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Generate returns count trajectories of a family: float32 [count, snapshots, y, x, 4], conserved variables averaged over
// blocks of Refinement x Refinement cells.
//
// Trajectory i depends on the configuration, the seed, the family and i alone, neither on count nor on how many are
// computed together. progress, unless nil, hears how many trajectories of the total are done, one call at a time.
//
// The error names the setting, or the trajectory and snapshot where density or pressure stopped being positive, and
// what to change; nothing is repaired in silence. When ctx ends, Generate stops within one snapshot and returns its error.
func Generate(ctx context.Context, b compute.Backend, c Config, family string, count int, seed int64, progress func(done, total int)) (*tensors.Tensor, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	initial, err := c.initialState(Family(family))
	if err != nil {
		return nil, err
	}
	if count < 1 {
		return nil, fmt.Errorf("euler: %d trajectories of family %s were asked for; ask for at least 1", count, family)
	}
	r := &run{
		Config: c, family: Family(family), initial: initial, seed: seed, count: count,
		together: min(c.Trajectories, count), progress: progress,
	}
	if r.dtype, err = c.dtype(); err != nil {
		return nil, err
	}
	if r.start, err = graph.NewExec(b, r.average); err != nil {
		return nil, fmt.Errorf("euler: %w", err)
	}
	defer r.start.Finalize()
	if r.advance, err = graph.NewExec(b, func(u *graph.Node) (next, average, left *graph.Node) {
		next, left, _ = c.advance(u)
		return next, r.average(next), graph.ConvertDType(left, dtypes.Float64)
	}); err != nil {
		return nil, fmt.Errorf("euler: %w", err)
	}
	defer r.advance.Finalize()

	result := tensors.FromShape(shapes.Make(dtypes.Float32, count, c.Snapshots, c.Resolution, c.Resolution, Channels))
	tensors.MustMutableFlatData(result, func(flat []float32) { err = r.all(ctx, flat) })
	if err != nil {
		return nil, errors.Join(err, result.FinalizeAll())
	}
	return result, nil
}

// run is one call of Generate.
type run struct {
	Config
	family   Family
	initial  InitialState
	seed     int64
	count    int
	together int // trajectories in a batch
	dtype    dtypes.DType
	progress func(done, total int)

	start   *graph.Exec // fine state -> stored state
	advance *graph.Exec // fine state -> fine state, stored state, time left; one interval later

	mu   sync.Mutex
	done int
}

// average returns the stored form of a fine state: block means, in float32.
func (r *run) average(u *graph.Node) *graph.Node {
	if r.Refinement > 1 {
		u = graph.Reshape(u, u.Shape().Dim(0), r.Resolution, r.Refinement, r.Resolution, r.Refinement, Channels)
		u = graph.ReduceMean(u, 2, 4)
	}
	return graph.ConvertDType(u, dtypes.Float32)
}

// all fills flat [count, snapshots, y, x, 4]. The first error stops the other workers.
func (r *run) all(parent context.Context, flat []float32) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	firsts := make(chan int, r.count)
	for first := 0; first < r.count; first += r.together {
		firsts <- first
	}
	close(firsts)
	workers := r.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var group sync.WaitGroup
	for range min(workers, len(firsts)) {
		group.Go(func() {
			for first := range firsts {
				if err := r.batch(ctx, first, flat); err != nil {
					stop(err)
					return
				}
			}
		})
	}
	group.Wait()
	switch cause := context.Cause(ctx); {
	case r.done == r.count:
		return nil
	case parent.Err() != nil:
		return fmt.Errorf("euler: stopped after %d of %d trajectories of family %s: %w", r.done, r.count, r.family, cause)
	default:
		return cause
	}
}

// batch computes the trajectories from first on. The last batch starts earlier rather than being shorter, so that one
// compiled program serves all.
func (r *run) batch(ctx context.Context, first int, flat []float32) error {
	fresh := min(r.together, r.count-first)
	from := min(first, r.count-r.together)
	snapshot := r.Resolution * r.Resolution * Channels
	store := func(index int, average *tensors.Tensor) error {
		defer average.MustFinalizeAll()
		return tensors.ConstFlatData(average, func(values []float32) {
			for i := r.together - fresh; i < r.together; i++ {
				copy(flat[((from+i)*r.Snapshots+index)*snapshot:], values[i*snapshot:(i+1)*snapshot])
			}
		})
	}

	state := r.initialStates(from)
	average, err := r.start.Call1(state)
	if err == nil {
		err = store(0, average)
	}
	if err != nil {
		return fmt.Errorf("euler: family %s, trajectory %d: %w", r.family, first, err)
	}
	for index := 1; index < r.Snapshots; index++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		outputs, err := r.advance.Call(state)
		if err != nil {
			return fmt.Errorf("euler: family %s, trajectory %d, snapshot %d: %w", r.family, first, index, err)
		}
		state.MustFinalizeAll()
		state = outputs[0]
		if err := store(index, outputs[1]); err != nil {
			return err
		}
		if err := r.check(from, index, outputs[2]); err != nil {
			return err
		}
	}
	state.MustFinalizeAll()

	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += fresh
	if r.progress != nil {
		r.progress(r.done, r.count)
	}
	return nil
}

// check reads the times left over after the interval that ends at a snapshot; see Config.advance.
func (r *run) check(from, index int, left *tensors.Tensor) error {
	defer left.MustFinalizeAll()
	for i, left := range tensors.MustCopyFlatData[float64](left) {
		where := fmt.Sprintf("euler: family %s, trajectory %d, snapshot %d (seed %d)", r.family, from+i, index, r.seed)
		switch {
		case math.IsNaN(left):
			return fmt.Errorf("%s: density or pressure stopped being positive; lower cfl (%g) or narrow the ranges of the initial state (%s)",
				where, r.CFL, settingName(r.family))
		case left > 0:
			return fmt.Errorf("%s: time %.3g of the interval %g was left after %d steps; shorten interval, raise max_substeps, or narrow the ranges of the initial state (%s)",
				where, left, r.Interval, r.MaxSubsteps, settingName(r.family))
		}
	}
	return nil
}

// initialStates draws the trajectories from, from+1, ... of a batch on the fine grid.
func (r *run) initialStates(from int) *tensors.Tensor {
	n := r.Resolution * r.Refinement
	values := make([]float64, r.together*n*n*Channels)
	for i := range r.together {
		drawn := r.initial.draw(generator(r.seed, r.family, from+i))
		drawn.fill(values[i*n*n*Channels:], n, r.Gamma)
	}
	if r.dtype == dtypes.Float64 {
		return tensors.FromFlatDataAndDimensions(values, r.together, n, n, Channels)
	}
	single := make([]float32, len(values))
	for i, value := range values {
		single[i] = float32(value)
	}
	return tensors.FromFlatDataAndDimensions(single, r.together, n, n, Channels)
}
