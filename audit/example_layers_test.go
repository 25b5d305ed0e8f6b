package audit_test

import (
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
)

// apart has the two slopes in layers of their own.
func apart(scope *model.Scope, x *graph.Node) *graph.Node {
	return graph.Add(weighted(scope.In("along_x"), []float32{0}, slope(x, 2)), weighted(scope.In("along_y"), []float32{0}, slope(x, 1)))
}

// Learning from a wave along x is in one layer, learning from the turned wave in the other: neither carries anything over.
func ExampleBuilder_WithLayers() {
	records := recordsOf(audit.New(newModel(apart, waves(1)), apart, nil).WithField(temperature).WithGroup(orbits.C4(), waves(1)).WithLayers())
	wholes := map[string]audit.LayerRow{}
	for _, row := range records.Layers {
		if row.Layer == "/" {
			wholes[row.Element] = row
		}
		if whole := wholes[row.Element]; row.Element == "r" && row.Kind == "variable" {
			fmt.Printf("%s: influence %.2f, share of that of x on itself %.2f, of g.x %.2f\n",
				row.Layer, round(row.Influence), round(row.InfluenceX/whole.InfluenceX), round(row.InfluenceGX/whole.InfluenceGX))
		}
	}
	// Output:
	// /along_x/weights: influence 0.00, share of that of x on itself 1.00, of g.x 0.00
	// /along_y/weights: influence 0.00, share of that of x on itself 0.00, of g.x 1.00
}

// A batch of waves along x ties down the slope along x alone, and nothing where lambda is far above.
func ExampleBuilder_WithSpectrum() {
	records := recordsOf(audit.New(newModel(apart, waves(1)), apart, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).
		WithRelativeLambda(1e-4, 100).WithSpectrum())
	fmt.Println("Ritz values:", len(records.Spectrum))
	for _, row := range records.Solves {
		known := *row.EffectiveDimensionLow < *row.EffectiveDimension && *row.EffectiveDimension < *row.EffectiveDimensionHigh
		fmt.Printf("at %g lambda_max: effective dimension above 1/2: %t, within its bounds: %t\n", *row.RelativeLambda, *row.EffectiveDimension > 0.5, known)
	}
	for _, row := range records.Influence {
		if row.RowSample == 0 && row.ColSample == 0 && row.Element != "r2" && row.Element != "r3" && *row.RelativeLambda < 1 {
			fmt.Printf("of the gradient at %s, lambda decides %.2f\n", row.Element, *row.Leakage)
		}
	}
	// Output:
	// Ritz values: 1
	// at 0.0001 lambda_max: effective dimension above 1/2: true, within its bounds: true
	// at 100 lambda_max: effective dimension above 1/2: false, within its bounds: true
	// of the gradient at e, lambda decides 0.00
	// of the gradient at r, lambda decides 1.00
}

// What a training takes back is dropped from the records that are not written yet.
func ExampleRecords_DropAfter() {
	var pending audit.Records
	for _, step := range []int64{100, 200, 300} {
		pending.Add(&audit.Records{Training: []audit.TrainingRow{{Moment: audit.Moment{Step: step}, Loss: 0.1}}})
	}
	pending.DropAfter(200)
	for _, moment := range pending.Moments() {
		fmt.Println(moment.Step)
	}
	// Output:
	// 100
	// 200
}

// A model that adds a constant commutes with shifts, and not with scalings.
func ExampleBuilder_WithLocalErrors() {
	offset := func(_ *model.Scope, x *graph.Node) *graph.Node { return graph.AddScalar(x, 1) }
	records := recordsOf(audit.New(newModel(offset, waves(1)), offset, nil).WithField(temperature).WithForwardOnly().WithLocalErrors().
		WithGroup(orbits.Product(orbits.Scalings(2), orbits.Translations(1)), waves(1)))
	for _, row := range records.LocalErrors {
		fmt.Printf("%s: %.2f\n", row.Generator, round(row.LocalError))
	}
	// Output:
	// scaling: 0.22
	// translation_x: 0.00
	// translation_y: 0.00
}

// A model that adds to each state how far a cell lies to the right is not symmetric: where it breaks the symmetry, the pictures of f(g.x) and g.f(x) show.
func ExampleBuilder_WithPictures() {
	rightward := func(_ *model.Scope, x *graph.Node) *graph.Node {
		return graph.Add(x, graph.Iota(x.Graph(), x.Shape(), 2))
	}
	records := recordsOf(audit.New(newModel(rightward, waves(1)), rightward, nil).WithField(temperature).WithForwardOnly().WithPictures().
		WithGroup(orbits.D4(), waves(1)))
	pictures := map[string]audit.PictureRow{}
	for _, row := range records.Pictures {
		pictures[row.Kind] = row
	}
	got, expected := pictures["f(g.x)"], pictures["g.f(x)"]
	fmt.Println(got.Rank, got.Element, got.Channel, got.Height, got.Width)
	for x, value := range got.Cells()[0] {
		fmt.Printf("%.0f ", round(value-expected.Cells()[0][x]))
	}
	// Output:
	// worst r2 temperature 8 8
	// -7 -5 -3 -1 1 3 5 7
}
