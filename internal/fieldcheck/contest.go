package fieldcheck

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/symaudit/symaudit/orbits"
)

// contest compares the declared field with others. Physics that has a symmetry is one law for a state and for the turned state, so that
// the best law that has the symmetry explains more where vectors are turned as the vectors they are. Each law is fitted to some
// probes and tested on others. docs/design/0006 has measurements.
type contest struct {
	*steps
	group    string
	turns    []Turn
	classes  [][]orbits.Field // those that the turns do not tell apart together; the declared one is the first of the first
	laws     []law            // of each class
	critical float64          // standard errors that a difference between fields must exceed
	hint     float64          // the same between symmetries
}

const (
	falseAlarms = 0.01 // probability that by chance alone any field looks better than the right one
	falseHints  = 0.05 // the same of a law with less symmetry: a hint too many costs a warning, one too few a wrong answer
	clearly     = 0.05 // a difference over a sum: one law leaves 1.1 times what the other does
	little      = 50   // percent: what a law that explains no more leaves out may be what would tell fields apart
	mostNames   = 4    // of fields of which one is right
	draw        = 0.02 // of laws with less symmetry to those with all
	leastProbes = 3    // that prove a field wrong: parts of one are not independent
	notable     = 3    // percent of the change that a field must explain more of than one that it proves wrong
)

const handed = "the data have a handedness, as in a rotating frame"

// newContest fits the laws. A difference is significant by Student's t test over the parts of the probes, with Bonferroni's correction for
// the number of fields.
func newContest(s *steps, declared orbits.Field, group string, turns []Turn) contest {
	c := contest{steps: s, group: group, turns: turns, classes: alternatives(declared, turns, s.still)}
	for _, class := range c.classes {
		c.laws = append(c.laws, s.fit(class[0], turns))
	}
	t := distuv.StudentsT{Sigma: 1, Nu: float64(len(s.parts) - 1)}
	c.critical, c.hint = -t.Quantile(falseAlarms/float64(len(c.classes))), -t.Quantile(falseHints)
	return c
}

func (c contest) judge() Verdict {
	declared, best := c.laws[0], c.laws[0]
	for _, l := range c.laws {
		if more, _ := c.compare(best, l); more > 0 {
			best = l
		}
	}
	switch {
	case math.IsNaN(c.explained(best)):
		return Unknown("the probes hold values too large or too small to fit a law; use other units")
	case c.worse(declared, best):
		return c.refuse(declared, best)
	}
	return c.confirm(declared)
}

// worse says whether a leaves more than b: clearly, and by more than chance explains.
func (c contest) worse(a, b law) bool { return c.exceeds(a, b, c.critical) }

func (c contest) exceeds(a, b law, critical float64) bool {
	more, err := c.compare(a, b)
	return more > clearly && more > critical*err
}

// confirm judges a field than which no other is better. It is right if the data have the symmetry, the law explains most of the
// change, and no other field may leave clearly less.
func (c contest) confirm(declared law) Verdict {
	field, explained := declared.field, c.explained(declared)
	if l, ok := c.better(declared); ok {
		return Unknown("%s. %s. If that is the physics, %s is no symmetry of it, and an audit makes sense with the elements alone that keep it",
			l.says, c.contrast(declared, l), c.group)
	}
	if explained <= little {
		return Unknown("the best law of a step explains only %.0f %% of the change with %s, as declared, and what it leaves out may be what tells fields apart; shorter steps or more probes may tell",
			explained, choice(field))
	}
	for _, l := range c.laws[1:] {
		// A handedness that the declared field has no law for may be another's.
		if turning := c.fitWithin(l.field, rotations(), c.turns, draw); c.exceeds(declared, turning, c.hint) {
			return Unknown("%s, or the field is declared wrongly: the best law of a step that has the symmetry %s explains %.0f %% of the change with %s, as declared, and one that has only the rotations %.0f %% with %s; check the field by hand",
				handed, c.group, explained, choice(field), c.explained(turning), choice(l.field))
		}
		more, err := c.compare(declared, l)
		sameButStill := l.field.RowDown == field.RowDown && samePairs(c.moving(l.field), c.moving(field))
		if more+c.critical*err > clearly && !sameButStill {
			return Unknown("%d probes are too few to tell %s from %s; use more", c.probes, choice(field), choice(l.field))
		}
	}
	for i, v := range field.Vectors {
		without := field
		without.Vectors = slices.Delete(slices.Clone(field.Vectors), i, i+1)
		if c.still(v[0]) && c.still(v[1]) && !c.worse(c.fit(without, c.turns), declared) {
			return Unknown("(%s, %s) never change, and the other channels change alike whether they are a vector or not; check them by hand. The others are declared as they behave",
				field.Channels[v[0]], field.Channels[v[1]])
		}
	}
	return Verdict{}
}

// refuse judges a field than which another is better. It is wrong, unless laws with less symmetry put that in doubt.
func (c contest) refuse(declared, best law) Verdict {
	if c.probes < leastProbes {
		return Unknown("%s explain more than %s, as declared, %.0f and %.0f %% of the change, but by %d probes that can be chance; use %d or more",
			choice(best.field), choice(declared.field), c.explained(best), c.explained(declared), c.probes, leastProbes)
	}
	if c.explained(best)-c.explained(declared) < notable {
		return Unknown("%s, as declared, and %s explain nearly the same, %.1f and %.1f %% of the change; more probes may tell",
			choice(declared.field), choice(best.field), c.explained(declared), c.explained(best))
	}
	v := Verdict{Answer: Wrong}
	var names []string
	contained := false // in the declared field, one of those that may be right
	for i, l := range c.laws {
		if more, err := c.compare(l, best); more <= c.critical*err {
			v.Fields = append(v.Fields, c.classes[i]...)
			names = append(names, choice(l.field))
			contained = contained || contains(declared.field, l.field)
		}
	}
	gain, _ := c.compare(declared, best)
	half := func(l law, doubt float64) bool { // does it gain half as much?
		more, err := c.compare(declared, l)
		return more+doubt*err >= gain/2
	}
	for _, l := range c.lesser(declared.field) {
		directed := l.axes.left == nil || !half(l.axes, -c.hint)
		if directed && (c.worse(best, l.law) || contained && half(l.law, c.hint)) {
			return Unknown("%s, or the field is declared wrongly. %s; with %s, one with it explains %.0f %%. If the field is as declared, %s is no symmetry of the physics, and an audit makes sense with the elements alone that keep it",
				l.says, c.contrast(declared, l), choice(best.field), c.explained(best), c.group)
		}
	}
	if l, ok := c.better(best); ok {
		return Unknown("%s. %s; with %s, as declared, one with it explains %.0f %%. If that is the physics, %s is no symmetry of it, and an audit makes sense with the elements alone that keep it",
			l.says, c.contrast(best, l), choice(declared.field), c.explained(declared), c.group)
	}
	if len(names) > mostNames {
		return Unknown("the best law of a step that has the symmetry %s explains less with %s, as declared, than with any of %d other fields, but the probes do not tell which of these is right; use more probes",
			c.group, choice(declared.field), len(names))
	}
	if mirrored := c.mirrored(v.Fields); mirrored != nil {
		v.Fields = append(v.Fields, mirrored...)
		names = append(names, choice(mirrored[0])+" if a channel that acts on them is a pseudoscalar")
	}
	v.Words = fmt.Sprintf("of the change of probes that it was not fitted to, the best law of a step that has the symmetry %s explains %.0f %% with %s, as declared, and %.0f %% with %s. Declare %s; or let the preflight warn, if the declared field is what you mean",
		c.group, c.explained(declared), choice(declared.field), c.explained(best), choice(best.field), strings.Join(names, ", or "))
	return v
}

// contrast says what laws with and without a symmetry explain.
func (c contest) contrast(with law, without lesserLaw) string {
	return fmt.Sprintf("With %s, the best law of a step that has the symmetry %s explains %.0f %% of the change, and one without it %.0f %%",
		choice(with.field), c.group, c.explained(with), c.explained(without.law))
}

// lesserLaw is a law with less symmetry than the group.
type lesserLaw struct {
	law
	says string // about the data, where it leaves less than a law with the whole symmetry
	axes law    // of a law that knows a direction: that which knows the axes apart but neither direction along them
}

// lesser fits laws that know a direction, as of gravity, or a handedness, as of a rotating frame. That such a law of a field leaves as
// little as the best law of another, which has the whole symmetry, is a reason not to refuse the field if the other has no vector
// besides: scalars that act on one another only where they are have any symmetry. It is no reason where a law that knows only the axes
// apart leaves as little: a vector with its components in the other order, or with rows the other way, has such a law, too.
func (c contest) lesser(field orbits.Field) (all []lesserLaw) {
	fit := func(subgroup []Turn) law { return c.fitLesser(field, subgroup) }
	for _, m := range mirrors() {
		all = append(all, lesserLaw{fit(TurnsOf(m)), "the data have a preferred direction, " + alongOf(m), fit(TurnsOf(m, halfTurn()))})
	}
	return append(all, lesserLaw{law: fit(rotations()), says: handed + ", or a channel is wrongly declared a scalar or pseudoscalar"})
}

// fitLesser finds the law with the symmetry of a subgroup, alone or drawn to that of the whole group, whichever leaves less.
func (c contest) fitLesser(field orbits.Field, subgroup []Turn) law {
	alone, drawn := c.fitWithin(field, subgroup, nil, 0), c.fitWithin(field, subgroup, c.turns, draw)
	if more, _ := c.compare(alone, drawn); more > 0 {
		return drawn
	}
	return alone
}

// better is the law with less symmetry that leaves least, if that is clearly less than l leaves.
func (c contest) better(l law) (least lesserLaw, found bool) {
	none := lesserLaw{law: c.fitLesser(l.field, TurnsOf()), says: "the data have a preferred direction"}
	for _, other := range append(c.lesser(l.field), none) {
		if c.exceeds(l, other.law, c.hint) && (!found || c.worse(least.law, other.law)) {
			least, found = other, true
		}
	}
	return least, found
}

// moving are the vectors of a field but for those that never change.
func (c contest) moving(field orbits.Field) [][]int {
	return slices.DeleteFunc(slices.Clone(field.Vectors), func(v []int) bool { return c.still(v[0]) && c.still(v[1]) })
}

// mirrored are fields that a linear law does not tell from the given ones, those of states that also change sign in a mirror: scalars
// become pseudoscalars, and vectors are turned by a quarter. An electric field in the plane and the magnetic field across it are so
// to a wind in the plane and its pressure. Where all scalars have a mean far from zero there are none.
func (c contest) mirrored(fields []orbits.Field) (all []orbits.Field) {
	for _, f := range fields {
		other := orbits.Field{Channels: f.Channels, RowDown: !f.RowDown}
		for _, v := range f.Vectors {
			other.Vectors = append(other.Vectors, []int{v[1], v[0]})
		}
		centred := false
		for channel := range f.Channels {
			if !paired(f.Vectors, channel) && !c.still(channel) && c.centred(channel) {
				centred = true
				if !slices.Contains(f.Pseudoscalars, channel) {
					other.Pseudoscalars = append(other.Pseudoscalars, channel)
				}
			}
		}
		if centred && len(f.Vectors) > 0 && slices.ContainsFunc(c.turns, Turn.mirror) {
			all = append(all, other)
		}
	}
	return all
}
