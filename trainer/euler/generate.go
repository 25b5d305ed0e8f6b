package euler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Generate returns the first count trajectories of a family: float32 [count, snapshots, y, x, 4]; see Stream. progress, unless nil, hears how many of the
// total are done, one call at a time.
func Generate(ctx context.Context, b compute.Backend, c Config, family string, count int, seed int64, progress func(done, total int)) (*tensors.Tensor, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if count < 1 {
		return nil, fmt.Errorf("euler: %d trajectories of family %s were asked for; ask for at least 1", count, family)
	}
	var all []int
	for i := range count {
		all = append(all, i)
	}
	result, done := tensors.FromShape(shapes.Make(dtypes.Float32, count, c.Snapshots, c.Resolution, c.Resolution, Channels)), 0
	var err error
	tensors.MustMutableFlatData(result, func(flat []float32) {
		err = Stream(ctx, b, c, Family(family), all, seed, func(trajectory int, states []float32) error {
			copy(flat[trajectory*len(states):], states)
			if done++; progress != nil {
				progress(done, count)
			}
			return nil
		})
	})
	if err != nil {
		return nil, errors.Join(err, result.FinalizeAll())
	}
	return result, nil
}

// Stream computes trajectories of a family, given by their numbers, and hands each to keep: float32 [snapshots, y, x, 4], conserved variables averaged
// over blocks of Refinement x Refinement cells. keep is called for one at a time, in any order, and must not hold on to the states. Memory is needed for
// those alone that are being computed, Trajectories for each worker.
//
// A trajectory depends on the configuration, the seed, the family and its number alone, neither on which others are asked for nor on how many are
// computed together.
//
// The error names the setting, or the trajectory and snapshot where density or pressure stopped being positive, and what to change; nothing is repaired
// in silence. An error of keep ends the work, too. When ctx ends, Stream stops within one snapshot and returns its error.
func Stream(ctx context.Context, b compute.Backend, c Config, family Family, trajectories []int, seed int64, keep func(trajectory int, states []float32) error) error {
	r, err := newRun(b, c, family, trajectories, seed)
	if err != nil || len(trajectories) == 0 {
		return err
	}
	defer r.finalize()
	r.keep = keep
	return r.all(ctx)
}

// Estimate is how long Stream would take for count trajectories of a family, judged by the first interval of as many as are computed at once.
func Estimate(b compute.Backend, c Config, family Family, count int, seed int64) (time.Duration, error) {
	batches := (count + c.Trajectories - 1) / max(1, c.Trajectories)
	var trajectories []int
	for i := range min(count, c.Trajectories) {
		trajectories = append(trajectories, i)
	}
	r, err := newRun(b, c, family, trajectories, seed)
	if err != nil || count < 1 {
		return 0, err
	}
	defer r.finalize()
	var interval time.Duration
	for range 2 { // the first time it is compiled, too
		begun := time.Now()
		failed := make([]error, min(r.workers(), batches))
		var group sync.WaitGroup
		for i := range failed {
			group.Go(func() {
				outputs, err := r.advance.Call(r.initialStates(trajectories))
				if err == nil {
					err = r.check(trajectories, 1, outputs[2])
				}
				failed[i] = err
			})
		}
		group.Wait()
		if err := errors.Join(failed...); err != nil {
			return 0, err
		}
		interval = time.Since(begun)
	}
	rounds := (batches + r.workers() - 1) / r.workers()
	return time.Duration(rounds) * time.Duration(c.Snapshots-1) * interval, nil
}

func newRun(b compute.Backend, c Config, family Family, trajectories []int, seed int64) (*run, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	initial, err := c.initialState(family)
	if err != nil {
		return nil, err
	}
	r := &run{
		Config: c, family: family, initial: initial, seed: seed, trajectories: trajectories, together: min(c.Trajectories, len(trajectories)),
	}
	if r.dtype, err = c.dtype(); err != nil {
		return nil, err
	}
	if r.start, err = graph.NewExec(b, r.average); err != nil {
		return nil, fmt.Errorf("euler: %w", err)
	}
	if r.advance, err = graph.NewExec(b, func(u *graph.Node) (next, average, left *graph.Node) {
		next, left, _ = c.advance(u)
		return next, r.average(next), graph.ConvertDType(left, dtypes.Float64)
	}); err != nil {
		r.start.Finalize()
		return nil, fmt.Errorf("euler: %w", err)
	}
	return r, nil
}

func (r *run) finalize() {
	r.start.Finalize()
	r.advance.Finalize()
}

// workers is how many batches are computed at once.
func (r *run) workers() int { return cmp.Or(r.Workers, runtime.GOMAXPROCS(0)) }

// run is one call of Stream.
type run struct {
	Config
	family       Family
	initial      InitialState
	seed         int64
	trajectories []int
	together     int // trajectories in a batch
	dtype        dtypes.DType
	keep         func(trajectory int, states []float32) error

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

// all computes the trajectories, batch by batch. The first error stops the other workers.
//
// The last batch goes back to earlier trajectories rather than being shorter, so that one compiled program serves all; these are not kept again.
func (r *run) all(parent context.Context) error {
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	count := len(r.trajectories)
	firsts := make(chan int, count)
	for first := 0; first < count; first += r.together {
		firsts <- first
	}
	close(firsts)
	var group sync.WaitGroup
	for range min(r.workers(), len(firsts)) {
		group.Go(func() {
			for first := range firsts {
				from := min(first, count-r.together)
				if err := r.batch(ctx, r.trajectories[from:from+r.together], first-from); err != nil {
					stop(err)
					return
				}
			}
		})
	}
	group.Wait()
	switch cause := context.Cause(ctx); {
	case r.done == count:
		return nil
	case parent.Err() != nil:
		return fmt.Errorf("euler: stopped after %d of %d trajectories of family %s: %w", r.done, count, r.family, cause)
	default:
		return cause
	}
}

// batch computes some trajectories together and keeps all but the first few.
func (r *run) batch(ctx context.Context, trajectories []int, few int) error {
	snapshot := r.Resolution * r.Resolution * Channels
	each := r.Snapshots * snapshot
	all := make([]float32, len(trajectories)*each)
	store := func(index int, average *tensors.Tensor) error {
		defer average.MustFinalizeAll()
		return tensors.ConstFlatData(average, func(values []float32) {
			for i := range trajectories {
				copy(all[i*each+index*snapshot:], values[i*snapshot:(i+1)*snapshot])
			}
		})
	}

	state := r.initialStates(trajectories)
	average, err := r.start.Call1(state)
	if err == nil {
		err = store(0, average)
	}
	if err != nil {
		return fmt.Errorf("euler: family %s, trajectory %d: %w", r.family, trajectories[few], err)
	}
	for index := 1; index < r.Snapshots; index++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		outputs, err := r.advance.Call(state)
		if err != nil {
			return fmt.Errorf("euler: family %s, trajectory %d, snapshot %d: %w", r.family, trajectories[few], index, err)
		}
		state.MustFinalizeAll()
		state = outputs[0]
		if err := store(index, outputs[1]); err != nil {
			return err
		}
		if err := r.check(trajectories, index, outputs[2]); err != nil {
			return err
		}
	}
	state.MustFinalizeAll()

	r.mu.Lock()
	defer r.mu.Unlock()
	for i := few; i < len(trajectories); i++ {
		if err := r.keep(trajectories[i], all[i*each:(i+1)*each]); err != nil {
			return err
		}
		r.done++
	}
	return nil
}

// check reads the times left over after the interval that ends at a snapshot; see Config.advance.
func (r *run) check(trajectories []int, index int, left *tensors.Tensor) error {
	defer left.MustFinalizeAll()
	for i, left := range tensors.MustCopyFlatData[float64](left) {
		where := fmt.Sprintf("euler: family %s, trajectory %d, snapshot %d (seed %d)", r.family, trajectories[i], index, r.seed)
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

// initialStates draws trajectories on the fine grid.
func (r *run) initialStates(trajectories []int) *tensors.Tensor {
	n := r.Resolution * r.Refinement
	values := make([]float64, r.together*n*n*Channels)
	for i, trajectory := range trajectories {
		drawn := r.initial.draw(generator(r.seed, r.family, trajectory))
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
