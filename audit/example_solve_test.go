package audit_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/layers"
	"github.com/gomlx/gomlx/ml/model"
	"github.com/rs/zerolog"

	"github.com/symaudit/symaudit/audit"
	"github.com/symaudit/symaudit/orbits"
)

// Lambda as multiples of the metric's largest eigenvalue. The products that the smallest takes are enough for the others. Below 1e-3
// an audit takes float64, unless WithDType says otherwise.
func ExampleBuilder_WithRelativeLambda() {
	for _, multiples := range [][]float64{{1e-1, 1e-2}, {1e-6}} {
		records := recordsOf(audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).
			WithGroup(orbits.C4(), waves(2)).WithRelativeLambda(multiples...))
		for _, solve := range records.Solves {
			fmt.Printf("%s: lambda is %.0e of the largest eigenvalue, products: %t, %s\n",
				solve.DType, solve.Lambda/solve.LambdaMax, solve.Products > 0, solve.Status)
		}
	}
	// Output:
	// Float32: lambda is 1e-02 of the largest eigenvalue, products: true, converged
	// Float32: lambda is 1e-01 of the largest eigenvalue, products: false, converged
	// Float64: lambda is 1e-06 of the largest eigenvalue, products: true, converged
}

// Float32 cannot certify so small a lambda. That is no failure: the solve's status says so, and the intervals are as wide as they are.
func ExampleBuilder_WithDType() {
	for _, dtype := range []dtypes.DType{dtypes.Float32, dtypes.Float64} {
		records := recordsOf(audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).
			WithDType(dtype).WithRelativeLambda(1e-8))
		fmt.Println(records.Solves[0].DType, records.Solves[0].Status) // Explanation has the numbers, and what to do
	}
	// Output:
	// Float32 rounding
	// Float64 converged
}

// Cosines depend on lambda. A large one leaves the plain cosine of the gradients. A small one makes little of the directions in
// which the outputs move most, and here these are all that a wave along x shares with one along y.
func ExampleBuilder_WithLambda() {
	records := recordsOf(audit.New(newModel(overlaps, waves(1)), overlaps, nil).WithField(temperature).
		WithGroup(orbits.C4(), waves(1)).WithLambda(1e-4, 1e-2, 1, 100))
	for _, row := range records.Coherence {
		if row.Element == "r" {
			fmt.Printf("lambda %-6g cosine %.2f, by hand %.2f\n", *row.Lambda, *row.Median, math.Sqrt(2**row.Lambda/(1+4**row.Lambda)))
		}
	}
	// Output:
	// lambda 0.0001 cosine 0.01, by hand 0.01
	// lambda 0.01   cosine 0.14, by hand 0.14
	// lambda 1      cosine 0.63, by hand 0.63
	// lambda 100    cosine 0.71, by hand 0.71
}

// With one sample in the batch NTK, GGN and Fisher see the same direction, in units of their own. Identity sees none: it gives the
// plain cosine of the gradients.
func ExampleMetric() {
	for _, metric := range []audit.Metric{audit.MetricNTK, audit.MetricGGN, audit.MetricFisher, audit.MetricIdentity} {
		records := recordsOf(audit.New(newModel(overlaps, waves(1)), overlaps, nil).WithField(temperature).
			WithGroup(orbits.C4(), waves(1)).WithMetric(metric).WithRelativeLambda(0.1))
		solve := records.Solves[0]
		for _, row := range records.Coherence {
			if row.Element == "r" {
				fmt.Printf("%-8s lambda %.3f, cosine %.2f\n", solve.Metric, solve.Lambda, *row.Median)
			}
		}
	}
	// Output:
	// ntk      lambda 0.050, cosine 0.29
	// ggn      lambda 0.067, cosine 0.29
	// fisher   lambda 0.044, cosine 0.29
	// identity lambda 1.000, cosine 0.71
}

// The sum over two samples of 64 outputs each is 128 times the mean that is the default.
func ExampleBuilder_WithMetricScale() {
	builder := func() *audit.Builder {
		return audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2))
	}
	mean, sum := recordsOf(builder()).Solves[0], recordsOf(builder().WithMetricScale(audit.MetricSum)).Solves[0]
	fmt.Printf("largest eigenvalue, %s over %s: %.0f\n", sum.MetricScale, mean.MetricScale, sum.LambdaMax/mean.LambdaMax)
	// Output: largest eigenvalue, sum over mean: 128
}

// Only Block returns intervals. The others are for comparison with what has been published.
func ExampleEstimator() {
	for _, estimator := range []audit.Estimator{audit.Block, audit.CGResidual, audit.Subspace} {
		records := recordsOf(audit.New(newModel(slopes, waves(1)), slopes, nil).WithField(temperature).WithGroup(orbits.C4(), waves(1)).
			WithEstimator(estimator))
		row := records.Influence[2]
		fmt.Printf("%-11s %s: %.2f, with an interval: %t\n", row.Estimator, row.Element, *row.Cosine, row.CosineLow != nil)
	}
	// Output:
	// block       r2: -1.00, with an interval: true
	// cg-residual r2: -1.00, with an interval: false
	// subspace    r2: -1.00, with an interval: false
}

// A narrower interval takes more products.
func ExampleBuilder_WithTolerance() {
	products := int64(0)
	for _, tolerance := range []float64{0.5, 0.02, 1e-4} {
		records := recordsOf(audit.New(newModel(convolves, waves(1)), convolves, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).
			WithTolerance(tolerance).WithDType(dtypes.Float64))
		solve := records.Solves[0]
		fmt.Printf("to within %g: %t, more products: %t\n", tolerance, *solve.MaxHalfWidth <= tolerance, solve.Products > products)
		products = solve.Products
	}
	// Output:
	// to within 0.5: true, more products: true
	// to within 0.02: true, more products: true
	// to within 0.0001: true, more products: true
}

// A solve that a limit ends is no failure. Its intervals are wider and still contain the exact values; its status says what to do.
func ExampleBuilder_WithMaxProducts() {
	builder := func() *audit.Builder {
		return audit.New(newModel(convolves, waves(1)), convolves, nil).WithField(temperature).WithGroup(orbits.C4(), waves(2)).
			WithDType(dtypes.Float64)
	}
	exact := recordsOf(builder().WithTolerance(1e-6))
	limited := recordsOf(builder().WithMaxProducts(16).WithMaxTime(time.Minute).WithMaxBytes(1 << 30))
	contained := 0
	for i, row := range limited.Influence {
		cosine := *exact.Influence[i].Cosine
		if row.CosineLow == nil || *row.CosineLow-1e-6 <= cosine && cosine <= *row.CosineHigh+1e-6 {
			contained++ // without bounds nothing is claimed
		}
	}
	solve := limited.Solves[0]
	fmt.Printf("narrow enough: %t, contain the exact cosine: %d of %d\n", *solve.MaxHalfWidth <= 0.02, contained, len(limited.Influence))
	explanation := *solve.Explanation
	fmt.Printf("%s: %s\n", solve.Status, explanation[strings.LastIndex(explanation, "; ")+2:])
	// Output:
	// narrow enough: false, contain the exact cosine: 16 of 16
	// product limit: the product limit was reached: raise it, lambda or the tolerance
}

// At debug level the log tells how each solve went. Here without what differs from machine to machine.
func ExampleBuilder_WithLogger() {
	log := zerolog.New(zerolog.ConsoleWriter{
		Out: os.Stdout, NoColor: true, PartsExclude: []string{zerolog.TimestampFieldName}, FieldsExclude: []string{"seconds", "half_width", "mib", "primal_mib"},
	})
	recordsOf(audit.New(newModel(slopes, waves(1)), slopes, nil).WithField(temperature).WithGroup(orbits.C4(), waves(1)).WithLogger(log))
	// Output:
	// DBG solved block=4 parts=1 products=3 status=converged
	// DBG audited step=0
}

// overlaps has a weight for the slope along x, and one for the slopes along x and y together.
func overlaps(scope *model.Scope, x *graph.Node) *graph.Node {
	return weighted(scope, []float32{0, 0}, slope(x, 2), graph.Add(slope(x, 2), slope(x, 1)))
}

// convolves has some more weights.
func convolves(scope *model.Scope, x *graph.Node) *graph.Node {
	y := graph.Tanh(layers.Convolution(scope.In("in"), x).Channels(6).KernelSize(3).PadSame().Done())
	return layers.Convolution(scope.In("out"), y).Channels(1).KernelSize(3).PadSame().Done()
}

// Settings can be checked without a model, and the error names what a configuration calls them.
func ExampleBuilder_Check() {
	builder := audit.New(newModel(spreads, waves(1)), spreads, nil).WithField(orbits.EulerField()).WithRelativeLambda(0.01, -1)
	var fault *audit.SettingError
	if errors.As(builder.Check(), &fault) {
		fmt.Println(fault.Setting)
		fmt.Println(fault.Error())
	}
	fmt.Println(builder.WithRelativeLambda(0.01).Check())
	// Output:
	// relative_lambda
	// audit: WithRelativeLambda is -1; it must be positive and finite
	// <nil>
}
