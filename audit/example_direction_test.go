package audit_test

import (
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/train/optimizer"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
)

// A model that predicts a change from the slope along x and the slope along y, each with a weight. Learning from a wave along x carries nothing to the turned
// one, whatever is learned. To the mean slopes add nothing: no parameter changes it.
func ExampleBuilder_WithDirections() {
	mean := audit.FunctionalDirection("mean", func(y *graph.Node) *graph.Node { return graph.ReduceAllMean(y) })
	records := recordsOf(audit.New(newModel(slopes, waves(1)), slopes, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).
		WithDirections(audit.LossDirection(), audit.KernelDirection(0), mean))
	for _, row := range records.Summaries() {
		if row.Median == nil {
			fmt.Printf("%-12s no gradient\n", row.Direction)
			continue
		}
		fmt.Printf("%-12s coherence %.2f\n", row.Direction, round(*row.Median))
	}
	// Output:
	// loss         coherence 0.00
	// kernel       coherence 0.00
	// mean         no gradient
	// loss_to_mean no gradient
}

// Of a model that spreads heat alike to all sides the kernel is the same at a state and the turned one.
func ExampleKernelDirection() {
	records := recordsOf(audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).
		WithDirections(audit.KernelDirection(2)))
	all := records.Summary("c4")
	fmt.Printf("%s: coherence %.2f, %d right-hand sides\n", all.Direction, *all.Median, records.Solves[0].RHS)
	// Output:
	// kernel: coherence 1.00, 16 right-hand sides
}

// The total of a channel is that of what it is the density of: of mass, or of energy.
func ExampleTotalDirection() {
	directions := []audit.Direction{audit.LossDirection(), audit.TotalDirection("temperature")}
	fmt.Println(directions[1].Name())
	fmt.Println(audit.DirectionNames(directions...))
	records := recordsOf(audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).WithDirections(directions...))
	fmt.Println(len(records.Summaries()), "summaries")
	// Output:
	// total_temperature
	// [loss total_temperature loss_to_total_temperature]
	// 3 summaries
}

// The loss is the direction where none is chosen.
func ExampleLossDirection() {
	fmt.Println(audit.LossDirection().Name() == audit.LossName)
	auditor, err := audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).Done()
	if err != nil {
		panic(err)
	}
	defer auditor.Close()
	fmt.Println(auditor.Directions())
	// Output:
	// true
	// [loss]
}

// A scalar of the output, here the highest temperature. Its name stands in the names of monitors.
func ExampleFunctionalDirection() {
	peak := audit.FunctionalDirection("peak", func(y *graph.Node) *graph.Node { return graph.ReduceAllMax(y) })
	for _, of := range []audit.Direction{peak, audit.FunctionalDirection("d4/peak", nil)} {
		_, err := audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).WithDirections(of).Done()
		fmt.Println(of.Name(), err)
	}
	// Output:
	// peak <nil>
	// d4/peak audit: a direction is called "d4/peak"; its name stands in monitors, as in d4/<direction>/coherence: use letters, digits and underscores
}

// The influence of the step that the optimizer takes next: by how much it lowers the loss at g.x, to first order. Plain gradient descent moves each weight by the
// learning rate times its gradient; Adam moves those further whose gradients were small.
func ExampleBuilder_WithOptimizer() {
	auditor := audit.New(newModel(slopes, waves(1)), slopes, nil).WithField(temperature).WithGroup(orbits.C4(), waves(1))
	_, err := auditor.WithMetric(audit.MetricOptimizer).Done()
	fmt.Println(err)
	for _, row := range recordsOf(auditor.WithOptimizer(optimizer.Adam().LearningRate(1e-2).Done())).Influence {
		fmt.Printf("%-2s lowers it: %t, cosine %.2f\n", row.Element, row.Influence > 0, round(*row.Cosine))
	}
	// Output:
	// audit: WithMetric is optimizer, and there is none; give that of the training (WithOptimizer)
	// e  lowers it: true, cosine 1.00
	// r  lowers it: false, cosine 0.00
	// r2 lowers it: false, cosine -1.00
	// r3 lowers it: false, cosine 0.00
}
