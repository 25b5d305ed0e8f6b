package euler

import "github.com/gomlx/gomlx/core/graph"

// flux is the HLLC flux of mass, momentum and energy across faces with the primitive states left and right.
//
// It is written with the impedance m = rho (u - S) of each outer wave, the mass that crosses it per time, in place of
// the speed S (for the left wave; m = rho (S - u) for the right one). Both sides then have the same formulas, and a
// mirrored problem gives the mirrored flux to the last bit. With Toro (2009), chapter 10:
//
//	p_est = (pL+pR)/2 - (uR-uL)/2 sqrt(gamma (rhoL+rhoR)/2 (pL+pR)/2)         an acoustic estimate of the middle pressure
//	m     = sqrt(rho (gamma p + (gamma+1)/2 max(p_est - p, 0)))               (10.59): a sound wave or a shock
//	S*    = ((pL + mL uL) - (pR - mR uR)) / (mL + mR)                         (10.37)
//	p*    = mean of pL - mL (S*-uL) and pR + mR (S*-uR)                       (10.36), equal but for rounding
//	rho*  = m / (m/rho + S* - u),   e* = e - (p* S* - p u)/m                  (10.39), for the left; for the right with -m
//
// where e is energy per mass. The side is the one the contact wave S* moves away from; its own state is taken instead
// of the star state where its outer wave moves the same way.
func (c Config) flux(left, right fields, normal, tangent int) fields {
	impedance := c.impedances(left, right, normal)
	jump := graph.Sub(
		graph.Add(left[pressure], graph.Mul(impedance[0], left[normal])),
		graph.Sub(right[pressure], graph.Mul(impedance[1], right[normal])))
	contact := graph.Div(jump, graph.Add(impedance[0], impedance[1]))
	relative := [2]*graph.Node{graph.Sub(contact, left[normal]), graph.Sub(contact, right[normal])}
	middlePressure := times(graph.Add(
		graph.Sub(left[pressure], graph.Mul(impedance[0], relative[0])),
		graph.Add(right[pressure], graph.Mul(impedance[1], relative[1]))), 0.5)

	fromLeft := graph.GreaterThan(contact, constant(contact, 0))
	pick := func(l, r *graph.Node) *graph.Node { return graph.Where(fromLeft, l, r) }
	var side fields
	for i := range side {
		side[i] = pick(left[i], right[i])
	}
	signed := pick(impedance[0], graph.Neg(impedance[1]))
	// The contact's speed past the outer wave, contact - S; rho* is the impedance over it.
	lead := graph.Add(graph.Div(signed, side[density]), pick(relative[0], relative[1]))
	outside := graph.GreaterOrEqual(graph.Abs(contact), graph.Abs(lead))

	rho := graph.Where(outside, side[density], graph.Div(signed, lead))
	u := graph.Where(outside, side[normal], contact)
	p := graph.Where(outside, side[pressure], middlePressure)
	work := graph.Mul(p, u)
	gained := graph.Div(graph.Sub(graph.Mul(side[pressure], side[normal]), work), signed)
	kinetic := times(graph.Add(graph.Square(side[normal]), graph.Square(side[tangent])), 0.5)
	internal := times(graph.Div(side[pressure], side[density]), 1/(c.Gamma-1))
	perMass := graph.Add(graph.Add(internal, kinetic), gained)

	mass := graph.Mul(rho, u)
	var flux fields
	flux[density] = mass
	flux[normal] = graph.Add(graph.Mul(mass, u), p)
	flux[tangent] = graph.Mul(mass, side[tangent])
	flux[energy] = graph.Add(graph.Mul(mass, perMass), work)
	return flux
}

// impedances returns the mass per time that crosses the left and the right outer wave; see flux.
func (c Config) impedances(left, right fields, normal int) [2]*graph.Node {
	pressures := graph.Add(left[pressure], right[pressure])
	densities := graph.Add(left[density], right[density])
	acoustic := graph.Sqrt(times(graph.Mul(densities, pressures), c.Gamma/4))
	closing := graph.Sub(left[normal], right[normal])
	estimate := times(graph.Add(pressures, graph.Mul(closing, acoustic)), 0.5)
	var impedance [2]*graph.Node
	for i, side := range []fields{left, right} {
		rise := graph.Max(graph.Sub(estimate, side[pressure]), constant(estimate, 0))
		stiffness := graph.Add(times(side[pressure], c.Gamma), times(rise, (c.Gamma+1)/2))
		impedance[i] = graph.Sqrt(graph.Mul(side[density], stiffness))
	}
	return impedance
}
