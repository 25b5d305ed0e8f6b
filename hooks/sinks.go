package hooks

import (
	"errors"
	"fmt"
	"slices"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/internal/cause"
)

// outlet is a sink with what it lacks of the records that the leading sink has.
type outlet struct {
	audit.Sink
	place int // in the list given to WithSink, from 1
	lacks audit.Records
}

// keeper is a sink that knows who writes to it and with what settings, as a *writers.Run does.
type keeper interface {
	Enter(writer any, model string, seed, step int64, settings map[string]string) error
	Leave(writer any, step int64)
	ID() string
	Attempt() int32
	SeriesBegan(model string, seed int64) (attempt int32)
}

// outlets are the sinks, the one that leads first.
func (b *Builder) outlets() (all []*outlet, err error) {
	if len(b.sinks) == 1 && b.sinks[0] == nil {
		return nil, nil // WithSink(nil)
	}
	for i, sink := range b.sinks {
		if isNil(sink) {
			which := "got nil"
			if len(b.sinks) > 1 {
				which = fmt.Sprintf("got nil as number %d of %d", i+1, len(b.sinks))
			}
			return nil, fmt.Errorf("hooks: there is no sink: WithSink %s; give it that of writers.Builder.Done, and look at Done's error first, or leave it out", which)
		}
		all = append(all, &outlet{Sink: sink, place: i + 1})
	}
	if i := slices.IndexFunc(all, func(o *outlet) bool { _, ok := o.Sink.(keeper); return ok }); i > 0 {
		lead := all[i]
		all = slices.Insert(slices.Delete(all, i, i+1), 0, lead)
	}
	return all, nil
}

// keeper is the sink that describes the run; nil where none does.
func (h *Hook) keeper() keeper {
	if len(h.sinks) == 0 {
		return nil
	}
	run, _ := h.sinks[0].Sink.(keeper)
	return run
}

// enter tells each sink that keeps a description that this training writes from a step on, and with what audits. A sink refuses what
// is no continuation of what it has.
func (h *Hook) enter(step int64) error {
	var settings map[string]string
	if described, ok := h.config.auditor.(interface{ Settings() map[string]string }); ok {
		settings = described.Settings()
	}
	for _, sink := range h.sinks {
		if run, ok := sink.Sink.(keeper); ok {
			if err := run.Enter(h, h.config.model, h.config.seed, step, settings); err != nil {
				return cause.In("hooks", err)
			}
		}
	}
	return nil
}

func (h *Hook) leave() {
	for _, sink := range h.sinks {
		if run, ok := sink.Sink.(keeper); ok {
			run.Leave(h, h.step)
		}
	}
}

// ofSeries reports whether an audit belongs to the series that the run goes on with.
func (h *Hook) ofSeries(at audit.Moment) bool {
	run := h.keeper()
	return run == nil || at.Attempt >= run.SeriesBegan(h.config.model, h.config.seed) && (at.RunID == "" || at.RunID == run.ID())
}

// flush writes to each sink what it does not have. The sink that leads goes first, for it says which attempt of which run the rows
// are of; what it has taken the others are owed, whatever the training takes back. After an error what is not written waits for
// the next flush, that of Close at last.
func (h *Hook) flush() error {
	if len(h.sinks) == 0 {
		h.pending, h.undated = audit.Records{}, nil
		return nil
	}
	lead, others := h.sinks[0], h.sinks[1:]
	if moments := h.pending.Moments(); len(moments) > 0 {
		records := h.pending
		if err := h.write(lead, &records); err != nil {
			return err
		}
		h.pending, h.undated = audit.Records{}, nil
		if run := h.keeper(); run != nil && len(others) > 0 {
			for _, at := range moments {
				at.RunID, at.Attempt = run.ID(), run.Attempt()
			}
		}
		for _, other := range others {
			other.lacks.Add(&records)
		}
	}
	var failed []error
	for _, other := range others {
		if len(other.lacks.Moments()) == 0 {
			continue
		}
		if err := h.write(other, &other.lacks); err != nil {
			failed = append(failed, err)
			continue
		}
		other.lacks = audit.Records{}
	}
	return errors.Join(failed...)
}

// write gives records to one sink. Its error names the sink where there are several.
func (h *Hook) write(sink *outlet, records *audit.Records) error {
	err := guard(func() error { return sink.Write(records) })
	switch {
	case err == nil:
		return nil
	case len(h.sinks) == 1:
		return says(err, "the records up to step %d are not written", h.step)
	}
	name := fmt.Sprintf("sink %d of %d (%T)", sink.place, len(h.sinks), sink.Sink)
	if named, ok := sink.Sink.(fmt.Stringer); ok {
		name = named.String()
	}
	return says(err, "the records up to step %d are not written to %s", h.step, name)
}
