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
	leastLines  = 4    // the same where probes are lines, which are small
	notable     = 3    // percent of the change that a field must explain more of than one that it proves wrong
)

const handed = "the data have a handedness, as in a rotating frame"

// newContest fits the laws. A difference is significant by Student's t test over the parts of the probes, with Bonferroni's correction for
// the number of fields.
func newContest(s *steps, declared orbits.Field, group string, turns []Turn) contest {
	c := contest{steps: s, group: group, turns: turns, classes: alternatives(declared, s.axes, turns, s.mayBe)}
	for _, class := range c.classes {
		c.laws = append(c.laws, s.fit(class[0], turns))
	}
	t := distuv.StudentsT{Sigma: 1, Nu: float64(len(s.parts) - 1)}
	c.critical, c.hint = -t.Quantile(falseAlarms/float64(len(c.classes))), -t.Quantile(falseHints)
	return c
}

func (c contest) judge() Verdict {
	declared := c.laws[0]
	best, likely := declared, declared // of all, and of those that can be named as right
	for _, l := range c.laws {
		best = c.lesserOf(best, l)
		if c.doubtful(l.field, declared.field) == nil {
			likely = c.lesserOf(likely, l)
		}
	}
	switch {
	case math.IsNaN(c.explained(best)):
		return Unknown("the probes hold values too large or too small to fit a law; use other units")
	case c.worse(declared, best) && (!c.worse(declared, likely) || c.explained(best)-c.explained(likely) >= notable):
		return Unknown("%s explain more than %s, as declared, %.0f and %.0f %% of the change, but the mean of %s is far from zero, so that the mirror image of a probe is like none: it may be a vector and the probes have a wind, or a scalar and the physics has a preferred direction. Check by hand, or use probes without a wind",
			c.choice(best.field), c.choice(declared.field), c.explained(best), c.explained(declared), strings.Join(named(best.field, c.doubtful(best.field, declared.field)), " and "))
	case c.worse(declared, likely):
		return c.refuse(declared, likely)
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
			explained, c.choice(field))
	}
	turned := rotations(c.turns)
	for _, l := range c.laws[1:] {
		if c.axes > 1 { // A handedness that the declared field has no law for may be another's. On a line there is none.
			if turning := c.fitWithin(l.field, turned, c.turns, draw); c.exceeds(declared, turning, c.hint) {
				return Unknown("%s, or the field is declared wrongly: the best law of a step that has the symmetry %s explains %.0f %% of the change with %s, as declared, and one that has only the rotations %.0f %% with %s; check the field by hand",
					handed, c.group, explained, c.choice(field), c.explained(turning), c.choice(l.field))
			}
		}
		more, err := c.compare(declared, l)
		sameButStill := l.field.RowDown == field.RowDown && samePairs(c.moving(l.field.Vectors), c.moving(field.Vectors)) && samePairs(c.moving(l.field.Pseudovectors), c.moving(field.Pseudovectors))
		if more+c.critical*err > clearly && !sameButStill {
			return Unknown("%d probes are too few to tell %s from %s; use more", c.probes, c.choice(field), c.choice(l.field))
		}
	}
	for _, v := range allVectors(field) {
		without := field
		same := func(w []int) bool { return slices.Equal(v, w) }
		without.Vectors = slices.DeleteFunc(slices.Clone(field.Vectors), same)
		without.Pseudovectors = slices.DeleteFunc(slices.Clone(field.Pseudovectors), same)
		if c.stillVector(v) && !c.worse(c.fit(without, c.turns), declared) {
			return Unknown("%s never change, and the other channels change alike whether they are a vector or not; check them by hand. The others are declared as they behave",
				named(field, [][]int{v})[0])
		}
	}
	return Verdict{}
}

// refuse judges a field than which another is better. It is wrong, unless laws with less symmetry put that in doubt.
func (c contest) refuse(declared, best law) Verdict {
	leastProbes := leastProbes
	if c.axes == 1 {
		leastProbes = leastLines
	}
	if c.probes < leastProbes {
		return Unknown("%s explain more than %s, as declared, %.0f and %.0f %% of the change, but by %d probes that can be chance; use %d or more",
			c.choice(best.field), c.choice(declared.field), c.explained(best), c.explained(declared), c.probes, leastProbes)
	}
	if c.explained(best)-c.explained(declared) < notable {
		return Unknown("%s, as declared, and %s explain nearly the same, %.1f and %.1f %% of the change; more probes may tell",
			c.choice(declared.field), c.choice(best.field), c.explained(declared), c.explained(best))
	}
	v := Verdict{Answer: Wrong}
	var names []string
	contained := false // in the declared field, one of those that may be right
	for i, l := range c.laws {
		if c.worse(l, best) {
			continue
		}
		contained = contained || contains(declared.field, l.field)
		if c.doubtful(l.field, declared.field) == nil {
			v.Fields = append(v.Fields, c.classes[i]...)
			names = append(names, c.choice(l.field))
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
				l.says, c.contrast(declared, l), c.choice(best.field), c.explained(best), c.group)
		}
	}
	if l, ok := c.better(best); ok {
		return Unknown("%s. %s; with %s, as declared, one with it explains %.0f %%. If that is the physics, %s is no symmetry of it, and an audit makes sense with the elements alone that keep it",
			l.says, c.contrast(best, l), c.choice(declared.field), c.explained(declared), c.group)
	}
	if len(names) > mostNames {
		return Unknown("the best law of a step that has the symmetry %s explains less with %s, as declared, than with any of %d other fields, but the probes do not tell which of these is right; use more probes",
			c.group, c.choice(declared.field), len(names))
	}
	if mirrored := c.mirrored(v.Fields); mirrored != nil {
		v.Fields = append(v.Fields, mirrored...)
		names = append(names, c.choice(mirrored[0])+" if a channel that acts on them is a pseudoscalar")
	}
	v.Words = fmt.Sprintf("of the change of probes that it was not fitted to, the best law of a step that has the symmetry %s explains %.0f %% with %s, as declared, and %.0f %% with %s. Declare %s; or let the preflight warn, if the declared field is what you mean",
		c.group, c.explained(declared), c.choice(declared.field), c.explained(best), c.choice(best.field), strings.Join(names, ", or "))
	return v
}

// contrast says what laws with and without a symmetry explain.
func (c contest) contrast(with law, without lesserLaw) string {
	return fmt.Sprintf("With %s, the best law of a step that has the symmetry %s explains %.0f %% of the change, and one without it %.0f %%",
		c.choice(with.field), c.group, c.explained(with), c.explained(without.law))
}

// lesserLaw is a law with less symmetry than the group.
type lesserLaw struct {
	law
	says string // about the data, where it leaves less than a law with the whole symmetry
	axes law    // of a law that knows a direction: that which knows the axes apart but neither direction along them
}

// lesser fits laws that know a direction, as of gravity, or a handedness, as of a rotating frame: of all turns of the group they have those that leave
// the direction as it is, the sense of a rotation about it, or right hands right. That such a law of a field leaves as
// little as the best law of another, which has the whole symmetry, is a reason not to refuse the field if the other has no vector
// besides: scalars that act on one another only where they are have any symmetry. It is no reason where a law that knows only the axes
// apart leaves as little: a vector with its components in the other order, or with rows the other way, has such a law, too.
func (c contest) lesser(field orbits.Field) (all []lesserLaw) {
	known := map[string]bool{elements(c.turns): true}
	add := func(says string, axes func(Turn) bool, keeps func(Turn) bool) {
		subgroup := keeping(c.turns, keeps)
		if known[elements(subgroup)] {
			return
		}
		known[elements(subgroup)] = true
		all = append(all, lesserLaw{c.fitLesser(field, subgroup), says, c.fitLesser(field, keeping(c.turns, axes))})
	}
	directions := directions(c.axes)
	image := func(d [3]int, sense bool) func(Turn) bool { // of the direction, or the sense of a rotation about it
		return func(t Turn) bool {
			carried := t.carry(d)
			if sense && t.mirror() {
				carried = opposite(carried)
			}
			return carried == d
		}
	}
	axis := func(d [3]int) func(Turn) bool {
		return func(t Turn) bool { return t.carry(d) == d || t.carry(d) == opposite(d) }
	}
	for _, d := range directions {
		add("the data have a preferred direction, along "+along(d), axis(d), image(d, false))
	}
	add(handed+", or a channel is wrongly declared a scalar or pseudoscalar", func(Turn) bool { return true }, func(t Turn) bool { return !t.mirror() })
	for _, d := range directions {
		add("the data have a handedness, as in a frame that rotates about "+along(d), axis(d), image(d, true))
	}
	return all
}

func opposite(d [3]int) [3]int { return [3]int{-d[0], -d[1], -d[2]} }

func keeping(turns []Turn, keeps func(Turn) bool) []Turn {
	return slices.DeleteFunc(slices.Clone(turns), func(t Turn) bool { return !keeps(t) })
}

// elements names turns.
func elements(turns []Turn) string {
	var names []string
	for _, t := range turns {
		names = append(names, t.element.Name())
	}
	return strings.Join(names, " ")
}

// fitLesser finds the law with the symmetry of a subgroup, alone or drawn to that of the whole group, whichever leaves less.
func (c contest) fitLesser(field orbits.Field, subgroup []Turn) law {
	alone, drawn := c.fitWithin(field, subgroup, nil, 0), c.fitWithin(field, subgroup, c.turns, draw)
	return c.lesserOf(alone, drawn)
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

// mayBe says whether channels can be compared as a vector that is not declared: some that change together with some that do not cannot, nor on a
// line, where any channel could, one that does not.
func (c *steps) mayBe(vector []int) bool {
	return c.stillVector(vector) && c.axes > 1 || !slices.ContainsFunc(vector, c.still)
}

// doubtful are the vectors for which a field cannot be named as right. On a line, where any channel can be a vector, these are those whose mean is far
// from zero, unless they are declared: their image in the mirror would be like no probe.
func (c contest) doubtful(field, declared orbits.Field) (all [][]int) {
	for _, v := range field.Vectors {
		if c.axes == 1 && !c.centred(v[0]) && !hasVector(declared.Vectors, v) {
			all = append(all, v)
		}
	}
	return all
}

// stillVector says whether no component changes.
func (c *steps) stillVector(vector []int) bool {
	return !slices.ContainsFunc(vector, func(component int) bool { return !c.still(component) })
}

// moving are the vectors but for those that never change.
func (c contest) moving(vectors [][]int) [][]int {
	return slices.DeleteFunc(slices.Clone(vectors), c.stillVector)
}

// mirrored are fields that a linear law does not tell from the given ones, those of states that also change sign in a mirror: scalars
// become pseudoscalars, and vectors are turned by a quarter in the plane and become pseudovectors in space. An electric field in the plane and the
// magnetic field across it are so to a wind in the plane and its pressure. Where all scalars have a mean far from zero there are none; nor on a line,
// where each channel was tried with either sign.
func (c contest) mirrored(fields []orbits.Field) (all []orbits.Field) {
	if c.axes == 1 || !slices.ContainsFunc(c.turns, Turn.mirror) {
		return nil
	}
	for _, f := range fields {
		other := orbits.Field{Channels: f.Channels, Vectors: f.Pseudovectors, Pseudovectors: f.Vectors, RowDown: f.RowDown}
		if c.axes == 2 {
			other.RowDown, other.Pseudovectors = !f.RowDown, nil
			for _, v := range f.Vectors {
				other.Vectors = append(other.Vectors, []int{v[1], v[0]})
			}
		}
		centred := false
		for channel := range f.Channels {
			if !paired(allVectors(f), channel) && !c.still(channel) && c.centred(channel) {
				centred = true
				if !slices.Contains(f.Pseudoscalars, channel) {
					other.Pseudoscalars = append(other.Pseudoscalars, channel)
				}
			}
		}
		if centred && len(allVectors(f)) > 0 {
			all = append(all, other)
		}
	}
	return all
}

// choice names a field among others, where rows mean nothing without a vector.
func (c contest) choice(field orbits.Field) string {
	switch {
	case len(allVectors(field)) == 0:
		return "no vector"
	case c.axes == 1: // nor on a line
		return "vectors " + strings.Join(named(field, field.Vectors), " and ")
	case len(field.Vectors) == 0:
		return strings.TrimPrefix(Describe(field), "no vector, ")
	}
	return Describe(field)
}
