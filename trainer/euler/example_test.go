package euler_test

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/core/graph"

	"github.com/symaudit/symaudit/internal/backend"
	"github.com/symaudit/symaudit/trainer/euler"
)

func ExampleGenerate() {
	b, err := backend.Open("go")
	if err != nil {
		panic(err)
	}
	c := euler.Default()
	c.Resolution, c.Snapshots = 8, 3
	trajectories, err := euler.Generate(context.Background(), b.Backend, c, string(euler.Riemann), 2, 1, nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(trajectories.Shape())
	// Output: (Float32)[2, 3, 8, 8, 4]
}

// The solver as a model function: a gas at rest stays at rest.
func ExampleConfig_Advance() {
	b, err := backend.Open("go")
	if err != nil {
		panic(err)
	}
	next, err := graph.CallOnce(b.Backend, euler.Default().Advance, [][][][]float64{{{{1, 0, 0, 2.5}, {1, 0, 0, 2.5}}}})
	if err != nil {
		panic(err)
	}
	fmt.Println(next.Value())
	// Output: [[[[1 0 0 2.5] [1 0 0 2.5]]]]
}

func ExampleFamily_Label() {
	for _, family := range euler.Families() {
		fmt.Println(family, family.Label())
	}
	// Output:
	// riemann CE-RP
	// curved-riemann CE-CRP
	// perturbed-riemann CE-RPUI
}

func ExampleConfig_Validate() {
	c := euler.Default()
	c.CFL = 0.9
	fmt.Println(c.Validate())
	// Output: euler: cfl is 0.9; above 0.5 the scheme is unstable in two dimensions, use 0.4
}
