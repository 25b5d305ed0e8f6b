package solver_test

import (
	"context"
	"fmt"

	"gonum.org/v1/gonum/mat"

	"github.com/symaudit/symaudit/solver"
)

// A metric of rank one, and two right-hand sides of which the second is along it.
func ExampleBilinearForms() {
	eta := solver.OuterProducts(mat.NewDense(1, 3, []float64{1, 2, 2}), 1)
	gradients := mat.NewDense(2, 3, []float64{
		1, 0, 0,
		1, 2, 2,
	})
	forms, err := solver.BilinearForms(context.Background(), eta, gradients, solver.FormOptions{Lambdas: []float64{1}, Tolerance: 1e-6})
	if err != nil {
		fmt.Println(err)
		return
	}
	form, self := forms.Form(0, 0, 1), forms.Form(0, 1, 1)
	fmt.Println(forms.Statistics(0).Status)
	fmt.Printf("%.3f %.3f, certified: %t\n", form.Value, self.Value, form.HalfWidth() < 1e-6)
	cosine, _ := forms.Cosine(0, 0, 1)
	fmt.Printf("cosine %.3f\n", cosine.Value)
	// Output:
	// converged
	// 0.100 0.900, certified: true
	// cosine 0.111
}
