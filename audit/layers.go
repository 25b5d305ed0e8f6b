package audit

import (
	"context"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/floats"

	"github.com/symaudit/symaudit/solver"
)

// layer is a trainable variable, or all that are in a scope, whose path then ends in a slash.
type layer struct {
	path     string
	from, to int // its place in a gradient
}

func (l layer) kind() string {
	if strings.HasSuffix(l.path, "/") {
		return "scope"
	}
	return "variable"
}

// layers are the trainable variables and the scopes that they are in, in the order of their paths: first "/", which is all.
func (a *Auditor) layers() (all []layer) {
	store := a.config.source.Store()
	from := 0
	for _, path := range a.trainable {
		to := from + store.GetVariable(path).Shape().Size()
		for at, letter := range path {
			if scope := path[:at+1]; letter == '/' {
				// Paths are sorted, so that what begins alike is together.
				if open := slices.IndexFunc(all, func(l layer) bool { return l.path == scope }); open >= 0 {
					all[open].to = to
				} else {
					all = append(all, layer{scope, from, to})
				}
			}
		}
		all = append(all, layer{path, from, to})
		from = to
	}
	return all
}

// shares are by layer what the product of a gradient p with a solution x = (eta + lambda)^-1 g consists of, the sums over the layer's parameters, and at most
// that each may be off by.
type shares struct{ values, errors []float64 }

// sharesOf are those of p and x, whose distances from the exact ones are at most off in the Euclidean norm, and apart in that of the damped metric.
func sharesOf(layers []layer, p []float64, off float64, x []float64, apart, lambda float64) *shares {
	s := &shares{make([]float64, len(layers)), make([]float64, len(layers))}
	away := apart / math.Sqrt(lambda) // in the Euclidean norm
	for i, l := range layers {
		p, x := p[l.from:l.to], x[l.from:l.to]
		const rounding = 1e-15 // of the sum
		size, length := floats.Norm(p, 2), floats.Norm(x, 2)
		s.values[i] = floats.Dot(p, x)
		s.errors[i] = size*away + off*(length+away) + rounding*math.Sqrt(float64(len(p)))*size*length
	}
	return s
}

func (s shares) interval(i int) solver.Interval {
	return solver.Interval{Value: s.values[i], Low: s.values[i] - s.errors[i], High: s.values[i] + s.errors[i]}
}

// side is a right-hand side of a share at a damping.
type side struct{ l, i int }

// layered collects the shares of influence by layer as solutions come: of a sample and its moved copies, for whom the solution at x is what a step on x moves.
type layered struct {
	ctx       context.Context
	gradients *gradients
	lambdas   []float64
	layers    []layer
	gradient  []float64 // one that is read again
	self      map[side]*shares
	pairs     map[[2]side]*shares
}

func (a *Auditor) newLayered(ctx context.Context, g *gradients, lambdas []float64) *layered {
	return &layered{ctx, g, lambdas, a.layers(), make([]float64, a.network.Dim()), map[side]*shares{}, map[[2]side]*shares{}}
}

// take is solver.FormOptions.Solution.
func (y *layered) take(l, i int, x []float64, apart float64) error {
	share := func(j int) (*shares, error) {
		off, err := y.gradients.at(y.ctx, y.gradient, j)
		if err != nil {
			return nil, err
		}
		return sharesOf(y.layers, y.gradient, off, x, apart, y.lambdas[l]), nil
	}
	self, err := share(i)
	if err != nil {
		return err
	}
	y.self[side{l, i}] = self
	for _, j := range y.gradients.share.partners(y.gradients.auditor.config.directions, i) {
		if y.pairs[[2]side{{l, i}, {l, j}}], err = share(j); err != nil {
			return err
		}
	}
	return nil
}

// partners are the right-hand sides at g.x, for every g, that questions ask of the i-th, at x: of the same sample and draw; none where it is not at x.
func (s share) partners(directions []Direction, i int) (all []int) {
	if i >= s.atX() {
		return nil
	}
	m, at := s.member(i)
	_, k, sample := m.place(at)
	for _, q := range questions(directions) {
		if q.atX != m.direction {
			continue
		}
		place := slices.Index(s, member{m.orbit, m.batch, q.atGX})
		for e := range m.orbit.elements {
			all = append(all, s.side(place, s[place].gradient(e, k, sample)))
		}
	}
	return all
}

// rows are those of the pairs that found is of, at one damping; nil for a pair of which some solution is missing, because a gradient vanishes or nothing is
// certified.
func (y *layered) rows(q question, found means, row LayerRow) (rows []LayerRow) {
	left, right := found.share[found.x], found.share[found.gx]
	draws := left.orbit.draws(left.direction)
	for e, element := range q.orbit.elements {
	samples:
		for sample := range q.orbit.batchSize {
			var influence, x, gx shares
			for k := range draws {
				i, j := found.share.side(found.x, left.gradient(0, k, sample)), found.share.side(found.gx, right.gradient(e, k, sample))
				pair, selfX, selfGX := y.pairs[[2]side{{found.l, i}, {found.l, j}}], y.self[side{found.l, i}], y.self[side{found.l, j}]
				if pair == nil || selfGX == nil {
					continue samples
				}
				influence.plus(pair, draws)
				x.plus(selfX, draws)
				gx.plus(selfGX, draws)
			}
			for at, l := range y.layers {
				row := row
				row.Element, row.Sample = element.Name(), int32(q.batch*q.orbit.batchSize+sample)
				row.Layer, row.Kind, row.Parameters = l.path, l.kind(), int64(l.to-l.from)
				row.Influence, row.InfluenceLow, row.InfluenceHigh = bounded(influence.interval(at))
				row.InfluenceX, row.InfluenceXLow, row.InfluenceXHigh = bounded(x.interval(at))
				row.InfluenceGX, row.InfluenceGXLow, row.InfluenceGXHigh = bounded(gx.interval(at))
				rows = append(rows, row)
			}
		}
	}
	return rows
}

func bounded(i solver.Interval) (value, low, high float64) { return i.Value, i.Low, i.High }

// plus adds other over n.
func (s *shares) plus(other *shares, n int) {
	if s.values == nil {
		s.values, s.errors = make([]float64, len(other.values)), make([]float64, len(other.values))
	}
	floats.AddScaled(s.values, 1/float64(n), other.values)
	floats.AddScaled(s.errors, 1/float64(n), other.errors)
}
