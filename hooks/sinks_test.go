package hooks_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// run is a sink that describes a run, as a *writers.Run does: it fills in run and attempt of what it keeps.
type run struct {
	memory
	entered int
}

func (r *run) Enter(any, string, int64, int64, map[string]string) error { r.entered++; return nil }
func (r *run) Leave(any, int64)                                         { r.entered = 0 }
func (r *run) ID() string                                               { return "first" }
func (r *run) Attempt() int32                                           { return 3 }
func (r *run) SeriesBegan(string, int64) int32                          { return 1 }

// all is what a sink has, in the order of its writes.
func (m *memory) all() (sum audit.Records) {
	for _, records := range m.writes {
		sum.Add(&records)
	}
	return sum
}

// stamped says of all rows which attempt of which run they are of.
func stamped(records audit.Records) audit.Records {
	for _, at := range records.Moments() {
		at.RunID, at.Attempt = "first", 3
	}
	return records
}

func TestEverySinkGetsWhatTheRunHas(t *testing.T) {
	before, kept, after := &memory{}, &run{}, &memory{}
	loop := newLoop(t)
	hook := attach(t, hooks.New(&script{coherence: []float64{0.1, 0.2}}).WithSink(before, kept, after).WithSchedule(hooks.EverySteps(2)), loop)
	require.Positive(t, kept.entered, "it knows who writes")
	_, err := loop.RunSteps(endless(2), 4)
	require.NoError(t, err)
	require.NoError(t, hook.Close())
	require.Zero(t, kept.entered)
	for _, sink := range []*memory{before, after} {
		require.Empty(t, cmp.Diff(stamped(kept.all()), sink.all()))
		require.Len(t, sink.training(), 4)
		require.Equal(t, "first", sink.writes[0].Training[0].RunID)
		require.Equal(t, int32(3), sink.writes[0].Training[0].Attempt)
	}
}

// Whichever sinks fail, whenever: when they take something again, each has every row, once and in order.
func TestASinkThatFailsLosesNothingAndHasNothingTwice(t *testing.T) {
	const audits, sinks = 8, 3
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 0))
		kept := &run{}
		all := []*memory{{}, {}, &kept.memory}
		auditor := &script{coherence: []float64{0.1, 0.2, 0.3}}
		auditor.before = func() error {
			for i, sink := range all {
				if sink.fail = nil; random.IntN(2) == 0 {
					sink.fail = fmt.Errorf("disk %d full", i)
				}
			}
			return nil
		}
		loop := newLoop(t)
		hook := attach(t, hooks.New(auditor).WithSink(all[0], kept, all[1]).WithSchedule(hooks.EverySteps(1)).WithFailures(hooks.CarryOn), loop)
		_, err := loop.RunSteps(endless(2), audits)
		require.NoError(t, err)
		require.NotEmpty(t, hook.Failures())
		for _, sink := range all {
			sink.fail = nil
		}
		require.NoError(t, hook.Close())
		want := kept.all()
		require.Len(t, want.Training, audits)
		require.Len(t, want.Decisions, 1)
		for i, row := range want.Training {
			require.Equal(t, int64(i+1), row.Step)
		}
		for _, sink := range all[:sinks-1] {
			require.Empty(t, cmp.Diff(stamped(want), sink.all()), "seed %d", seed)
		}
	}
}

// What the run has and has superseded, another sink is owed as well; what no sink has is taken back with the steps.
func TestASinkIsOwedWhatTheTrainingHasTakenBack(t *testing.T) {
	kept, other := &run{}, &memory{}
	loop := newLoop(t)
	hook := attach(t, hooks.New(&script{}).WithSink(kept, other).WithSchedule(hooks.EverySteps(2)).WithFailures(hooks.CarryOn), loop)
	other.fail = errors.New("disk full")
	_, err := loop.RunSteps(endless(2), 2)
	require.NoError(t, err)
	kept.fail = other.fail
	_, err = loop.RunSteps(endless(2), 2)
	require.NoError(t, err)
	require.Empty(t, other.writes)
	setStep(loop.Trainer.Store(), 1) // as restoring a checkpoint does
	kept.fail, other.fail = nil, nil
	_, err = loop.RunSteps(endless(2), 1)
	require.NoError(t, err)
	require.NoError(t, hook.Close())
	var steps []int64
	for _, row := range other.training() {
		steps = append(steps, row.Step)
	}
	require.Equal(t, []int64{1, 2, 2}, steps)
	require.Empty(t, cmp.Diff(stamped(kept.all()), other.all()))
}

func TestAnErrorNamesTheSink(t *testing.T) {
	kept, other := &run{}, &memory{fail: errors.New("disk full")}
	loop := newLoop(t)
	hook := attach(t, hooks.New(&script{}).WithSink(other, kept).WithSchedule(hooks.EverySteps(2)), loop)
	_, err := loop.RunSteps(endless(2), 4)
	require.ErrorContains(t, err, "hooks: the records up to step 2 are not written to sink 1 of 2 (*hooks_test.memory): disk full")
	require.Len(t, kept.writes, 1, "the run has its own")
	other.fail = nil
	require.NoError(t, hook.Close())
	require.Empty(t, cmp.Diff(stamped(kept.all()), other.all()))
	require.Len(t, kept.writes, 1)
}

func TestEverySinkMustBeThere(t *testing.T) {
	for name, c := range map[string]struct {
		sinks []audit.Sink
		want  string
	}{
		"one":     {[]audit.Sink{(*memory)(nil)}, "hooks: there is no sink: WithSink got nil; give it"},
		"pointer": {[]audit.Sink{&memory{}, (*memory)(nil)}, "hooks: there is no sink: WithSink got nil as number 2 of 2; give it"},
		"nothing": {[]audit.Sink{nil, &memory{}}, "hooks: there is no sink: WithSink got nil as number 1 of 2; give it"},
	} {
		_, err := hooks.New(&script{}).WithSink(c.sinks...).Attach(newLoop(t))
		require.ErrorContains(t, err, c.want, name)
	}
	for _, sinks := range [][]audit.Sink{nil, {nil}} {
		_, err := hooks.New(&script{}).WithSink(sinks...).Attach(newLoop(t))
		require.NoError(t, err, "without a sink")
	}
}
