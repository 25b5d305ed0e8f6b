package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gomlx/gomlx/ml/train"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/hooks"
)

// Whatever fails in the second of four audits, CarryOn trains to the end and keeps all the others.
func TestTrainingCarriesOn(t *testing.T) {
	for name, test := range map[string]struct {
		fail func(m *memory) error
		want string
		kept int // audits in the sink at the end
	}{
		"audit": {func(*memory) error { return errors.New("weights on fire") }, "audit at step 2 failed: weights on fire", 3},
		"panic": {func(*memory) error { panic("graph on fire") }, "graph on fire", 3},
		"sink":  {func(m *memory) error { m.fail = errors.New("disk full"); return nil }, "the records up to step 2 are not written: disk full", 4},
		"late":  {func(*memory) error { return context.DeadlineExceeded }, "audit at step 2 failed", 3},
	} {
		t.Run(name, func(t *testing.T) {
			sink, count := &memory{}, 0
			auditor := &script{coherence: []float64{0.1, 0.2, 0.3, 0.4}}
			auditor.before = func() error {
				sink.fail = nil
				if count++; count == 2 {
					return test.fail(sink)
				}
				return nil
			}
			loop := newLoop(t)
			hook := attach(t, hooks.New(auditor).WithSink(sink).WithSchedule(hooks.EverySteps(1)).WithFailures(hooks.CarryOn), loop)
			_, err := loop.RunSteps(endless(2), 4)
			require.NoError(t, err)
			require.NoError(t, hook.Close())
			require.Len(t, hook.Failures(), 1)
			require.ErrorContains(t, hook.Failures()[0], test.want)
			require.Len(t, sink.training(), 4, "every step is written once")
			steps := map[int64]bool{}
			for _, records := range sink.writes {
				for _, row := range records.Coherence {
					steps[row.Step] = true
				}
			}
			require.Len(t, steps, test.kept)
		})
	}
}

func TestCloseReportsWhatTheSinkNeverTook(t *testing.T) {
	sink := &memory{fail: errors.New("disk full")}
	loop := newLoop(t)
	hook := attach(t, hooks.New(&script{}).WithSink(sink).WithSchedule(hooks.EverySteps(1)).WithFailures(hooks.CarryOn), loop)
	_, err := loop.RunSteps(endless(2), 3)
	require.NoError(t, err)
	require.NotEmpty(t, hook.Failures())
	require.ErrorContains(t, hook.Close(), "disk full")
}

// endlessAuditor works until it is told to stop.
type endlessAuditor struct{}

func (endlessAuditor) Audit(ctx context.Context, _ audit.Moment) (*audit.Records, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestATimeLimitGivesAnAuditUp(t *testing.T) {
	loop := newLoop(t)
	attach(t, hooks.New(endlessAuditor{}).WithSchedule(hooks.EverySteps(2)).WithTimeLimit(time.Millisecond), loop)
	_, err := loop.RunSteps(endless(2), 4)
	require.ErrorContains(t, err, "audit at step 2 failed: it took longer than its limit of 1ms; raise it")
}

// intervals is an auditor whose coherence has an interval.
type intervals struct{ low, value, high []float64 }

func (s *intervals) Audit(_ context.Context, at audit.Moment) (*audit.Records, error) {
	i := at.Step - 1
	return &audit.Records{Coherence: []audit.CoherenceRow{{
		Moment: at, GroupName: "d4", Element: audit.AllElements, Median: &s.value[i], MedianLow: &s.low[i], MedianHigh: &s.high[i],
	}}}, nil
}

func TestAThresholdMustBePassedByTheWholeInterval(t *testing.T) {
	all := &intervals{low: []float64{0.80, 0.89, 0.91, 0.99}, value: []float64{0.85, 0.92, 0.93, 1}, high: []float64{0.9, 0.95, 0.95, 1}}
	for _, test := range []struct {
		mode      hooks.Mode
		threshold float64
		want      string
	}{
		{hooks.Maximize, 0.9, "d4/coherence is 0.93 [0.91, 0.95], threshold 0.9 (maximize), at step 3, epoch 0"},
		{hooks.Minimize, 0.9, "d4/coherence is 0.85 [0.8, 0.9], threshold 0.9 (minimize), at step 1, epoch 0"},
		{hooks.Minimize, 0.85, ""},
	} {
		loop := newLoop(t)
		hook := attach(t, hooks.New(all).WithSchedule(hooks.EverySteps(1)).
			WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: test.mode, Threshold: &test.threshold}), loop)
		metric := hook.Metric("d4/coherence")
		_, shown := metric()
		require.Equal(t, "not audited yet", shown)
		_, err := loop.RunSteps(endless(2), 4)
		require.NoError(t, err)
		reason, stopped := hook.Stopped()
		require.Equal(t, test.want, reason)
		require.Equal(t, test.want != "", stopped)
		name, shown := metric()
		require.Equal(t, "d4/coherence", name)
		if test.want != "" {
			require.Contains(t, test.want, "d4/coherence is "+shown)
		}
		require.Equal(t, all.value[loop.Trainer.GlobalStep()-1], loop.SharedData[hooks.SharedPrefix+"d4/coherence"])
	}
}

// checked is an auditor with a preflight.
type checked struct {
	script
	err   error
	calls []int64 // optimizer steps at each
	loop  *train.Loop
}

func (c *checked) Preflight(context.Context) (audit.Forecast, error) {
	c.calls = append(c.calls, c.loop.Trainer.GlobalStep())
	return audit.Forecast{Gradients: 32, Products: 84, ProductTime: time.Second, Bytes: 3 << 20}, c.err
}

func TestPreflightLevels(t *testing.T) {
	fault := errors.New("the kernel of /even is even")
	for name, test := range map[string]struct {
		level hooks.PreflightLevel
		err   error
		calls []int64
		want  string // of the error
		log   string
	}{
		"sound":   {hooks.PreflightError, nil, []int64{1}, "", `"gradients":32,"products_at_least":84,"product_seconds":1,"seconds_at_least":84,"mib":3,"message":"an audit will take this at least"`},
		"error":   {hooks.PreflightError, fault, []int64{1}, "hooks: audits of this model would fail or mean nothing (WithPreflight can let the training go on): the kernel of /even is even", ""},
		"warning": {hooks.PreflightWarning, fault, []int64{1}, "", `"error":"the kernel of /even is even"`},
		"off":     {hooks.PreflightOff, fault, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			loop, out := newLoop(t), &bytes.Buffer{}
			auditor := &checked{err: test.err, loop: loop}
			attach(t, hooks.New(auditor).WithSchedule(hooks.EverySteps(2)).WithPreflight(test.level).WithLogger(zerolog.New(out)), loop)
			_, err := loop.RunSteps(endless(2), 4)
			if test.want == "" {
				require.NoError(t, err)
				require.Equal(t, []int64{2, 4}, auditor.steps())
				_, err = loop.RunSteps(endless(2), 2) // not again
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.want)
				require.Empty(t, auditor.steps())
			}
			require.Equal(t, test.calls, auditor.calls, "after the first step made the weights")
			require.Contains(t, out.String(), test.log)
		})
	}
}

func TestADivergenceMustBePassedByTheWholeInterval(t *testing.T) {
	all := &intervals{low: []float64{0.80, 0.70}, value: []float64{0.85, 0.75}, high: []float64{0.95, 0.85}}
	divergence := 0.9
	loop := newLoop(t)
	hook := attach(t, hooks.New(all).WithSchedule(hooks.EverySteps(1)).
		WithStopRules(hooks.StopRule{Monitor: "d4/coherence", Mode: hooks.Maximize, Divergence: &divergence}), loop)
	_, err := loop.RunSteps(endless(2), 9)
	require.NoError(t, err)
	reason, _ := hook.Stopped()
	require.Equal(t, "d4/coherence is 0.75 [0.7, 0.85], worse than 0.9 (maximize), at step 2, epoch 0", reason)
}
