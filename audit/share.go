package audit

import (
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/symaudit/symaudit/internal/cause"
)

// member is a batch of an orbit in a direction. Its gradients are ordered by element, then by draw of the direction, then by sample.
type member struct {
	orbit     *orbit
	batch     int
	direction *Direction
}

// atX is the number of gradients at x: a sample has one for each draw.
func (m member) atX() int       { return m.orbit.draws(m.direction) * m.orbit.batchSize }
func (m member) gradients() int { return len(m.orbit.elements) * m.atX() }

// gradient is the number of the one at a sample of the batch moved by element e, in the k-th draw.
func (m member) gradient(e, k, sample int) int { return e*m.atX() + k*m.orbit.batchSize + sample }

// place is the inverse of gradient.
func (m member) place(i int) (e, k, sample int) {
	return i / m.atX(), i % m.atX() / m.orbit.batchSize, i % m.orbit.batchSize
}

// first is the number of the first sample among those of the orbit.
func (m member) first() int { return m.batch * m.orbit.batchSize }

// share are the batches whose metric is over the same states, of any group, in every direction: they are solved together, in one space. Right-hand sides are the
// gradients at x of all its members, and then the others, element by element, sample by sample within an element.
type share []member

// shares are the solves of an audit: a batch of each whose metric is its own, and one for all whose metric is over the same further states.
func (a *Auditor) shares() (all []share) {
	for _, o := range a.orbits {
		for batch := range o.batches() {
			own := o.metricOf(batch)
			at := slices.IndexFunc(all, func(s share) bool { return own != nil && s[0].orbit.metricOf(s[0].batch) == own })
			if at < 0 {
				at = len(all)
				all = append(all, nil)
			}
			for d := range a.config.directions {
				all[at] = append(all[at], member{o, batch, &a.config.directions[d]})
			}
		}
	}
	return all
}

// shareOf is that of a batch.
func (a *Auditor) shareOf(o *orbit, batch int) share {
	all := a.shares()
	return all[slices.IndexFunc(all, func(s share) bool { return s.has(o, batch) })]
}

func (s share) has(o *orbit, batch int) bool {
	return slices.ContainsFunc(s, func(m member) bool { return m.orbit == o && m.batch == batch })
}

// atX is the number of gradients at x, and gradients that of all.
func (s share) atX() (n int) {
	for _, m := range s {
		n += m.atX()
	}
	return n
}

func (s share) gradients() (n int) {
	for _, m := range s {
		n += m.gradients()
	}
	return n
}

// side is the number among the right-hand sides of the i-th gradient of the member at, itself element by element.
func (s share) side(at, i int) int {
	others := s.atX()
	for _, m := range s[:at] {
		others += m.gradients() - m.atX()
	}
	if n := s[at].atX(); i >= n {
		return others + i - n
	}
	return s[:at].atX() + i
}

// member finds the right-hand side of a number: the member, and which of its gradients it is.
func (s share) member(side int) (m member, i int) {
	if side < s.atX() {
		for _, m := range s {
			if side < m.atX() {
				return m, side
			}
			side -= m.atX()
		}
	}
	side -= s.atX()
	for _, m := range s {
		if rest := m.gradients() - m.atX(); side >= rest {
			side -= rest
			continue
		}
		return m, m.atX() + side
	}
	panic("audit: no such right-hand side")
}

// states are those that the metric is over: further ones, or those of the only member, unmoved. The caller frees them.
func (s share) states() (states, error) {
	o := s[0].orbit
	if s.named() {
		return s.metric().copies((*tensors.Tensor).LocalClone)
	}
	return o.states(0, s[0].first(), s[0].first()+o.batchSize)
}

// state copies the i-th of them.
func (s share) state(i int) (states, error) {
	if s.named() {
		return s.metric().copies(func(t *tensors.Tensor) (*tensors.Tensor, error) { return rows(t, i, i+1) })
	}
	i += s[0].first()
	return s[0].orbit.states(0, i, i+1)
}

// named reports whether the metric is over further states, and metric are these; they belong to the orbit.
func (s share) named() bool { return s[0].orbit.metricOf(s[0].batch) != nil }

func (s share) metric() states { return s[0].orbit.metrics[s[0].orbit.metricOf(s[0].batch)] }

// name says for errors which batches a share is of.
func (s share) name() string {
	name := fmt.Sprintf("group %s, batch %d", s[0].orbit.group.Name, s[0].batch)
	others := 0
	for i, m := range s {
		if i > 0 && (m.orbit != s[i-1].orbit || m.batch != s[i-1].batch) {
			others++
		}
	}
	if others > 0 {
		name += fmt.Sprintf(" and %d others with the same metric", others)
	}
	return name
}

// MetricStates are a batch that a metric is over, in the form of Probes: unmoved, and as many of each as there are inputs. Of the metric ntk the
// targets are not used, but for their shape.
type MetricStates struct {
	Inputs, Targets *tensors.Tensor
	Further, Labels []*tensors.Tensor
}

// probes are the states as probes, which they are checked as.
func (m *MetricStates) probes() Probes {
	return Probes{Inputs: m.Inputs, Targets: m.Targets, Further: m.Further, Labels: m.Labels}
}

// metricOf are the further states of a batch's metric; nil where it is over the batch itself.
func (o *orbit) metricOf(batch int) *MetricStates {
	switch len(o.named) {
	case 0:
		return nil
	case 1:
		return o.named[0]
	}
	return o.named[batch]
}

// checkMetrics refuses metric states that do not suit the probes.
func (p Probes) checkMetrics(validate func(Probes) error) error {
	if len(p.Metrics) == 0 {
		return nil
	}
	batches := 1
	if p.BatchSize > 0 {
		batches = p.Inputs.Shape().Dimensions[0] / p.BatchSize
	}
	if len(p.Metrics) != 1 && len(p.Metrics) != batches {
		return fmt.Errorf("audit: Probes.Metrics has %d entries and there are %d batches; give one for each batch, or one for all", len(p.Metrics), batches)
	}
	for i, m := range p.Metrics {
		if m == nil {
			return fmt.Errorf("audit: Probes.Metrics[%d] is nil; give states, or leave Probes.Metrics out", i)
		}
		if err := validate(m.probes()); err != nil {
			return cause.Say(fmt.Sprintf("audit: Probes.Metrics[%d]: %s", i, cause.Plain(err)), err)
		}
		want, got := p.Inputs.Shape().Dimensions, m.Inputs.Shape().Dimensions
		if !slices.Equal(want[1:], got[1:]) || m.Inputs.DType() != p.Inputs.DType() || len(m.Further) != len(p.Further) || len(m.Labels) != len(p.Labels) {
			return fmt.Errorf("audit: Probes.Metrics[%d] are %s with %d further inputs and %d labels, and the probes %s with %d and %d; they must agree in all but their number",
				i, m.Inputs.Shape(), len(m.Further), len(m.Labels), p.Inputs.Shape(), len(p.Further), len(p.Labels))
		}
	}
	return nil
}

// convertMetrics copies the metric states into the precision of the audit.
func (o *orbit) convertMetrics(named []*MetricStates, convert func(*tensors.Tensor) (*tensors.Tensor, error)) error {
	o.named, o.metrics = named, map[*MetricStates]states{}
	for _, m := range named {
		if _, known := o.metrics[m]; known {
			continue
		}
		converted, err := states{m.Inputs, m.Further, append([]*tensors.Tensor{m.Targets}, m.Labels...)}.copies(convert)
		if err != nil {
			return err
		}
		o.metrics[m] = converted
	}
	return nil
}
