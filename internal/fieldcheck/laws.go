package fieldcheck

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"github.com/symaudit/symaudit/orbits"
)

// steps are the second moments of what a step does, over the inner cells of transitions: of vectors that hold the cells around one, by cell and
// channel, then some products of two of these, then 1, then the change of the cell's channels. All that a least-squares fit needs is in
// them, and a turn of the states permutes their entries and changes signs.
type steps struct {
	axes     int // of space
	channels int
	probes   int
	around   [][3]int    // the places of the cells around one, itself included: along x, y and z
	products [][2]int    // the entries of a vector that are multiplied
	size     int         // of a vector
	parts    [][]float64 // by part of the cells: the mean of the vectors' squares, [size, size]
	cells    []float64   // in each part
	folds    []int       // by part: the fold of its probes, with which it is left out of a fit
	total    []float64   // the mean over all cells
}

// A law is fitted to all folds of the probes but one, and tested on that. Differences are judged by parts of the cells: halves along each axis of
// probes where there are few, but for lines, of which the halves are too much alike; several probes together where there are many.
const (
	mostFolds = 8
	mostParts = 32
	mostCells = 1 << 18 // of more, some are left out
)

// cellsAround are a cell and those around it: three on a line, 3x3 in the plane. In space they are the cell and the six that share a face with it, since
// with the others a law would have four times as many unknowns.
func cellsAround(axes int) (around [][3]int) {
	within := func(axis int) int {
		if axis < axes {
			return 1
		}
		return 0
	}
	for z := -within(2); z <= within(2); z++ {
		for y := -within(1); y <= within(1); y++ {
			for x := -within(0); x <= within(0); x++ {
				if axes < 3 || x*x+y*y+z*z <= 1 {
					around = append(around, [3]int{x, y, z})
				}
			}
		}
	}
	return around
}

// newSteps are those of transitions of shape [n, ..., y, x, channels], of at least two probes and three cells along each axis.
func newSteps(before, after []float64, shape []int) *steps {
	n, channels, sizes := shape[0], shape[len(shape)-1], sizesOf(shape)
	s := &steps{axes: len(shape) - 2, channels: channels, probes: n, around: cellsAround(len(shape) - 2)}
	if s.axes == 1 && channels <= mostChannels {
		s.products = s.withItself()
	}
	s.size = s.one() + 1 + channels
	size := s.size
	s.total = make([]float64, size*size)
	folds, groups, cut := min(n, mostFolds), min(n, mostParts), 1
	if s.axes > 1 && n<<s.axes <= mostParts && slices.Min(shape[1:len(shape)-1]) >= 4 {
		cut = 2
	}
	perProbe := 1 // parts
	inner, first := 1, [3]int{}
	var within [3]int // inner cells
	for axis := range 3 {
		within[axis] = 1
		if axis < s.axes {
			within[axis], first[axis] = sizes[axis]-2, 1
			perProbe *= cut
		}
		inner *= within[axis]
	}
	for p := range groups * perProbe {
		s.parts = append(s.parts, make([]float64, size*size))
		s.folds = append(s.folds, p/perProbe*folds/groups)
	}
	s.cells = make([]float64, len(s.parts))
	row := make([]float64, 0, size)
	every := 1 + n*inner/mostCells
	for at := 0; at < n*inner; at += every {
		sample, rest := at/inner, at%inner
		p := sample * groups / n
		var place [3]int
		for axis := range 3 {
			place[axis] = rest % within[axis]
			rest /= within[axis]
		}
		for axis := s.axes - 1; axis >= 0; axis-- {
			p = p*cut + place[axis]*cut/within[axis]
		}
		cell := func(step [3]int) int {
			index := sample
			for axis := 2; axis >= 0; axis-- {
				index = index*sizes[axis] + first[axis] + place[axis] + step[axis]
			}
			return index * channels
		}
		row = row[:0]
		for _, step := range s.around {
			i := cell(step)
			row = append(row, before[i:i+channels]...)
		}
		for _, product := range s.products {
			row = append(row, row[product[0]]*row[product[1]])
		}
		row = append(row, 1)
		middle := cell([3]int{})
		for i := middle; i < middle+channels; i++ {
			row = append(row, after[i]-before[i])
		}
		s.cells[p]++
		for i, v := range row {
			floats.AddScaled(s.parts[p][i*size:(i+1)*size], v, row)
		}
	}
	for p, part := range s.parts {
		floats.Add(s.total, part)
		floats.Scale(1/s.cells[p], part)
	}
	floats.Scale(1/floats.Sum(s.cells), s.total)
	return s
}

// sizesOf are the sizes of a grid along x, y and z: 1 along an axis that states [n, ..., y, x, channels] do not have.
func sizesOf(shape []int) (sizes [3]int) {
	for axis := range sizes {
		sizes[axis] = 1
		if at := len(shape) - 2 - axis; at > 0 {
			sizes[axis] = shape[at]
		}
	}
	return sizes
}

// withItself are the products of what a cell holds with what it and its neighbours hold. On a line a linear law is the same whether all channels
// change sign in the mirror or the others do: that a velocity carries itself along, as in Burgers' equation, tells them apart.
func (s *steps) withItself() (products [][2]int) {
	for c := range s.channels {
		for i := range len(s.around) * s.channels {
			if i/s.channels != s.middle(0)/s.channels || i >= s.middle(c) { // of two channels of the cell once
				products = append(products, [2]int{s.middle(c), i})
			}
		}
	}
	return products
}

// middle is the place of a channel of the cell itself in a vector.
func (s *steps) middle(channel int) int { return len(s.around)/2*s.channels + channel }

// one is the place of the 1 in a vector: cells and products are before it, changes after it.
func (s *steps) one() int { return len(s.around)*s.channels + len(s.products) }

// law is what the best law of a step leaves, of probes that it was not fitted to.
type law struct {
	field orbits.Field
	left  [][]float64 // by part and channel: the mean square of the change less the law's
}

// fit finds the law with the symmetry of turns, a group. A least-squares fit to the states and all their turned copies has that
// symmetry, and it has far fewer free numbers than a law without.
func (s *steps) fit(field orbits.Field, turns []Turn) law { return s.fitWithin(field, turns, nil, 0) }

// fitWithin finds a law with the symmetry of a subgroup, drawn to that of the whole group by what copies outside the subgroup count for. With
// few cells it would otherwise predict worse than a law with the whole symmetry, even where the data do not have that. For the same reason the law is
// linear, unless one with products leaves less.
func (s *steps) fitWithin(field orbits.Field, subgroup, turns []Turn, draw float64) law {
	var moves []move
	for _, t := range subgroup {
		moves = append(moves, s.move(field, t, 1))
	}
	for _, t := range turns {
		if draw > 0 && !slices.Contains(subgroup, t) {
			moves = append(moves, s.move(field, t, draw))
		}
	}
	linear := s.fitTo(field, moves, false)
	if s.products == nil {
		return linear
	}
	return s.lesserOf(linear, s.fitTo(field, moves, true))
}

// lesserOf is the law of two that leaves less.
func (s *steps) lesserOf(a, b law) law {
	if more, _ := s.compare(a, b); more > 0 {
		return b
	}
	return a
}

// fitTo fits to moved copies.
func (s *steps) fitTo(field orbits.Field, moves []move, products bool) law {
	l := law{field, make([][]float64, len(s.parts))}
	for fold := range mostFolds {
		sum := make([]float64, s.size*s.size) // over the other folds
		for p, part := range s.parts {
			if s.folds[p] != fold {
				floats.AddScaled(sum, s.cells[p], part)
			}
		}
		var w [][]float64
		for p, part := range s.parts {
			if s.folds[p] == fold {
				if w == nil {
					w = s.solve(sum, moves, products)
				}
				l.left[p] = s.residuals(part, w)
			}
		}
	}
	return l
}

// move says where a turn carries each entry of a vector, with which sign, and what a copy so moved counts for.
type move struct {
	to     []int
	sign   []float64
	weight float64
}

func (s *steps) move(field orbits.Field, t Turn, weight float64) move {
	m := move{make([]int, s.size), make([]float64, s.size), weight}
	one := s.one()
	m.to[one], m.sign[one] = one, 1
	channel, sign := t.element.TurnChannels(field)
	for i, step := range s.around {
		to := slices.Index(s.around, t.apply(field, step))
		for c := range s.channels {
			m.to[i*s.channels+c], m.sign[i*s.channels+c] = to*s.channels+channel[c], sign[c]
		}
	}
	for i, product := range s.products {
		a, b := m.to[product[0]], m.to[product[1]]
		to := slices.IndexFunc(s.products, func(p [2]int) bool { return p == [2]int{a, b} || p == [2]int{b, a} })
		from := len(s.around)*s.channels + i
		m.to[from], m.sign[from] = len(s.around)*s.channels+to, m.sign[product[0]]*m.sign[product[1]]
	}
	for c := range s.channels {
		m.to[one+1+c], m.sign[one+1+c] = one+1+channel[c], sign[c]
	}
	return m
}

// solve is the law that leaves least of the vectors whose squares are summed in sum, and of their images: for each channel what its change
// takes of the cells and of 1. Where there is none it is not a number.
func (s *steps) solve(sum []float64, moves []move, products bool) [][]float64 {
	const ridge = 1e-4 // of each channel's variance: smooth states leave a law open, and what they leave open should be small
	n := s.one() + 1
	base := make([]float64, s.size*s.size)
	copy(base, sum)
	cells := sum[(n-1)*s.size+n-1]
	for i := range n - 1 {
		at, middle := i*(s.size+1), i // a product is measured by itself, a cell by the middle one
		if i < len(s.around)*s.channels {
			middle = s.middle(i % s.channels)
		}
		mean := s.total[middle*s.size+n-1]
		square := s.total[middle*(s.size+1)]
		base[at] += ridge * cells * max(square-mean*mean, 1e-6*square)
		left := !products && i >= len(s.around)*s.channels
		if left {
			for j := range s.size {
				base[i*s.size+j], base[j*s.size+i] = 0, 0
			}
		}
		if left || square == 0 {
			base[at]++ // takes part in no law
		}
	}
	total := make([]float64, s.size*s.size)
	for _, m := range moves {
		for i := range n {
			to, sign := m.to[i]*s.size, m.weight*m.sign[i]
			for j, v := range base[i*s.size : (i+1)*s.size] {
				total[to+m.to[j]] += sign * m.sign[j] * v
			}
		}
	}
	// Scaled to a diagonal of ones, so that the units of the channels make no difference.
	scale := make([]float64, n)
	for i := range scale {
		scale[i] = math.Sqrt(total[i*(s.size+1)])
	}
	squares, change := mat.NewSymDense(n, nil), mat.NewDense(n, s.channels, nil)
	for i := range n {
		for j := i; j < n; j++ {
			squares.SetSym(i, j, total[i*s.size+j]/scale[i]/scale[j])
		}
		for c := range s.channels {
			change.Set(i, c, total[i*s.size+n+c]/scale[i])
		}
	}
	var factor mat.Cholesky
	var w mat.Dense
	solved := factor.Factorize(squares) && factor.SolveTo(&w, change) == nil
	columns := make([][]float64, s.channels)
	for c := range columns {
		columns[c] = make([]float64, n)
		for i := range n {
			columns[c][i] = math.NaN()
			if solved {
				columns[c][i] = w.At(i, c) / scale[i]
			}
		}
	}
	return columns
}

// residuals are the mean squares that a law leaves of the vectors whose mean squares these are, by channel.
func (s *steps) residuals(squares []float64, w [][]float64) []float64 {
	left := make([]float64, s.channels)
	n := s.one() + 1
	for c, column := range w {
		change := n + c
		left[c] = squares[change*(s.size+1)]
		for i, v := range column {
			row := squares[i*s.size : (i+1)*s.size]
			left[c] += v * (floats.Dot(row[:n], column) - 2*row[change])
		}
		left[c] = max(left[c], 0) // but for rounding
	}
	return left
}

// changes is the variance of the change of a channel; zero for one that never changes, but for rounding.
func (s *steps) changes(channel int) float64 {
	const rounding = 1e-12 // of float32, squared
	one, middle, change := s.one(), s.middle(channel), s.one()+1+channel
	mean := s.total[one*s.size+change]
	variance := s.total[change*(s.size+1)] - mean*mean
	if variance <= rounding*s.total[middle*(s.size+1)] {
		return 0
	}
	return variance
}

func (s *steps) still(channel int) bool { return s.changes(channel) == 0 }

// centred says whether a channel's mean is less than its deviation.
func (s *steps) centred(channel int) bool {
	middle := s.middle(channel)
	mean := s.total[middle*s.size+s.one()]
	return 2*mean*mean < s.total[middle*(s.size+1)]
}

// variances are those of the change of each channel, pooled over the channels that vectors of the fields connect: measured each by its
// own, two scalars of which one is easier to predict would look like a vector.
func (s *steps) variances(fields ...orbits.Field) []float64 {
	pool := make([]int, s.channels) // by channel
	for c := range pool {
		pool[c] = c
	}
	for _, f := range fields {
		for _, vector := range allVectors(f) {
			for _, component := range vector[1:] {
				from, to := pool[vector[0]], pool[component]
				for c := range pool {
					if pool[c] == from {
						pool[c] = to
					}
				}
			}
		}
	}
	sums, sizes := make([]float64, s.channels), make([]float64, s.channels)
	for c, p := range pool {
		sums[p] += s.changes(c)
		sizes[p]++
	}
	variances := make([]float64, s.channels)
	for c, p := range pool {
		variances[c] = sums[p] / sizes[p]
	}
	return variances
}

// shares are what a law leaves of the variances, by part: the mean over the channels that change.
func (l law) shares(variances []float64) []float64 {
	shares := make([]float64, len(l.left))
	for p, left := range l.left {
		changing := 0.0
		for c, v := range variances {
			if v > 0 {
				shares[p] += left[c] / v
				changing++
			}
		}
		shares[p] /= changing
	}
	return shares
}

// explained is how much of the change a law explains, in percent.
func (s *steps) explained(l law) float64 {
	return 100 * max(0, 1-stat.Mean(l.shares(s.variances(l.field)), nil))
}

// compare says by how much more a law leaves than another: the mean over parts of (a - b) / (a + b), and its standard error. Other than the
// mean of a - b it is not ruled by the few parts where a law fails altogether.
func (s *steps) compare(a, b law) (more, err float64) {
	const nothing = 0.01 // of the variance: a law that leaves less is as good as any
	variances := s.variances(a.field, b.field)
	differences := a.shares(variances)
	for p, v := range b.shares(variances) {
		differences[p] = (differences[p] - v) / (differences[p] + v + nothing)
	}
	mean, deviation := stat.MeanStdDev(differences, nil)
	return mean, stat.StdErr(deviation, float64(len(differences)))
}
